"""A trial in a process of its own: what starts it, what runs in it, and what they say to each other."""
