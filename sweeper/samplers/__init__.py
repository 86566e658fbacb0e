"""Proposals, by Optuna."""
