"""`session=` with a broker that is no database: tasks wait beside the caller's data.

`writing` puts them there, in the caller's transaction; `relay` carries them to
the broker, one relay at a time (`turns`), and finds the one that the broker
refuses (`handover`), which is set `aside`.
"""
