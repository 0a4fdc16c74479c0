"""`taskq demo`: a real job on real workers, whose answer can be checked.

It takes a folder of Python files, sends one task for each, starts workers,
and puts their answers together. A plain loop over the same files must come to
the same totals, also if a worker is killed half way.

::

    command ──▶ Fleet: worker processes ──▶ tasks.analyse ──▶ analysis
       │                                                        ▲
       ├──▶ Collector: results, as they come                    │
       └──▶ report ◀──────── --check: the same, one by one ─────┘
"""
