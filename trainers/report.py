"""What a trainer yields: the whole interface between a training run and whoever watches it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class EpochReport:
    """One evaluation of a training run.

    Attributes:
        step: index of the evaluation, from 1; the x axis of every curve.
        epoch: epochs of training done so far; fractional when evaluated inside an epoch.
        metrics: name -> value, named as in the README's table (``val/pa_mpjpe_mm``, ``train/loss``).
        checkpoint: folder written at this evaluation, from which training continues bit for bit.
        total_epochs: length of a full run, where the trainer knows it: only rungs below it rank a trial.
    """

    step: int
    epoch: float
    metrics: Mapping[str, float]
    checkpoint: Path | None = None
    total_epochs: float | None = None
