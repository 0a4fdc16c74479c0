"""taskq over plain files: several processes of one machine, a folder, and nothing else."""

__version__ = "0.1.0"
