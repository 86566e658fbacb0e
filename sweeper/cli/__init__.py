"""One file for each section of `sweeper --help`."""
