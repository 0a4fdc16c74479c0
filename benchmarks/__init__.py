"""CPU per no-op task, next to a bare client and to peers, in one run.

``python -m benchmarks`` prints the tables, ``--json FILE`` keeps every single
measurement, and ``--help`` says how to measure less. Quote ratios, not
microseconds: the machine's speed drifts, the ratios of one run do not. Nothing
here is a test.

What is measured is CPU time as the operating system accounts for it: of the
process that sends or works, and of the server with all its processes. The
servers are thrown away afterwards; each step finds an empty database. Starting
Python, importing and making tables happen before the clock runs.
"""
