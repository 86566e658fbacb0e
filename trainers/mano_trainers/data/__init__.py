"""Data sets: rendering the embedded one, reading, caching, splitting."""
