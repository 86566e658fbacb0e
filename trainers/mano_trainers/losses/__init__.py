"""Loss terms and how they are weighted."""
