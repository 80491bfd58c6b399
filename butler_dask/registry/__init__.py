"""The database of what exists: the only package that speaks SQL."""
