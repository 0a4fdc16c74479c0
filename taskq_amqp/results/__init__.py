"""Results in streams."""
