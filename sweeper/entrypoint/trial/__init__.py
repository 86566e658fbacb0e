"""A trial in its own process: what starts it, what runs in it, and their messages."""
