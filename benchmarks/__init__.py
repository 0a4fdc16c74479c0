"""CPU and latency per task, next to a bare client and a peer, in one run.

``python -m benchmarks`` prints the table. Quote ratios, not microseconds: the
machine's speed drifts, the ratios of one run do not. Nothing here is a test.
"""
