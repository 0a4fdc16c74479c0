"""The in-memory backend: a real broker for one process, its tests and its user's tests.

It passes the same conformance suite as the servers, and is the shortest text
that does, so read it to learn what a backend has to do. The rooms are those
of every plugin: `plugin`, `broker`, `results`, `target`; the part that other
plugins leave to a server is `server`.
"""
