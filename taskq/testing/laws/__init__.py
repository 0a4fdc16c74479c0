"""The named examples of each law, by theme.

Each is a method that takes a `Case`: a fresh namespace with its clock. They
need no pytest; `taskq.testing.conformance` makes a pytest class of them.
"""
