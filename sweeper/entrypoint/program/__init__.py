"""Trainers that are programs: their command line, and where their reports come from."""
