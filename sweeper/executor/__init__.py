"""Trials on machines, by Ray: the only package that imports it."""
