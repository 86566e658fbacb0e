"""The process and its GPU."""
