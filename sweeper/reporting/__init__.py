"""What a training script says to the sweep that runs it. Imports nothing outside the standard library."""
