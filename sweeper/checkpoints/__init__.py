"""Where checkpoints are, and whether they are complete."""
