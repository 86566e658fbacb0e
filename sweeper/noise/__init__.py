"""What runs of a study would come to on average over seeds, and which configuration is best: pure functions."""
