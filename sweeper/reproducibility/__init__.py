"""Where a result came from, and the same trial once more."""
