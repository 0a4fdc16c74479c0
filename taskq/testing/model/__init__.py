"""The relation that backends are compared with: values and bookkeeping, no I/O, no hypothesis."""
