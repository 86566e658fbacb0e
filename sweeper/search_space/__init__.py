"""Dimensions, conditions and constraints."""
