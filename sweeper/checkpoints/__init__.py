"""Where checkpoints lie, and whether they are whole."""
