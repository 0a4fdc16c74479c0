"""The schema's history: one module for each change, never edited once released."""
