"""taskq over Redis."""

__version__ = "0.1.0"
