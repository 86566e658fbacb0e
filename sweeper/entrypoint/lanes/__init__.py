"""Several trials in one process, for a trainer that offers it."""
