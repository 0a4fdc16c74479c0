"""The conformance kit: the laws of the contract, put to the test on any backend.

`taskq.testing.conformance` has the classes to subclass and says how. Needs the
extra ``testing``.
"""
