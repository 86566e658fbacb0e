"""What runs of a study would reach on average over seeds, and which configuration is best: pure functions."""
