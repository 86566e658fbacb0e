"""W&B sweep configurations, read as sweep files."""
