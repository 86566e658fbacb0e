"""Published data sets, read into one sample type."""
