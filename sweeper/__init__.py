"""Ablation and sweep orchestration for training image -> MANO hand-pose models."""

__version__ = "0.1.0"
