"""Metrics of a validation set, by FreiHAND's protocol."""
