"""A study while it runs."""
