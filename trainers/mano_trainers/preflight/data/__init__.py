"""Checks of images, labels, and what belongs to which part of a data set."""
