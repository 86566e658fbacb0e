"""The checks before a study may start."""
