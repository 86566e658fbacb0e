"""Where a result came from, and how to run the same trial again."""
