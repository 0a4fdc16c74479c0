"""The changes, named by their numbers."""
