"""What a trainer yields: the whole interface between a training run and whoever watches it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final


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


@dataclass(frozen=True, eq=False)
class Lane:
    """A training beside others of its kind in one process, for a trainer that declares `LANES`; told apart by identity.

    Attributes:
        config: as the training function takes it.
        workdir: the trial's own folder.
        resume: the checkpoint to resume from.
    """

    config: Any
    workdir: Path
    resume: Path | None = None


class CheckStatus(StrEnum):
    """How a check of a pipeline ended. WARN: training may continue, but a person should look."""

    PASS = "PASS"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True)
class CheckResult:
    """One line of a preflight.

    Attributes:
        name: `group.what`, always the same for the same check (``labels.kinematics``).
        status: how it ended.
        measured: what was found, with its number and unit.
        expected: what a sound pipeline has, in the same unit.
        help: how to fix it; empty for PASS.
        seconds: what the check took.
    """

    name: str
    status: CheckStatus
    measured: str
    expected: str
    help: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class TrainerOffers:
    """What a trainer reports beside its objective, by the names of its metrics: the constant `OFFERS` beside it.

    Attributes:
        variance_ratio: variance of the predictions over that of the labels; near 0 where all predictions are the same.
        explained: R^2 of the predictions; near 0 where they do not depend on the input.
        skill: 1 - error / error of the best constant prediction.
        skill_p: p-value that `skill` is above 0.
        gradient_share: prefix of each loss term's share of the gradient.
    """

    variance_ratio: str
    explained: str
    skill: str
    skill_p: str
    gradient_share: str


@dataclass(frozen=True)
class GpuRate:
    """About how fast one kind of GPU trains.

    Attributes:
        gpu: what people call it, such as ``A100``.
        images_per_s: images trained on in a second.
        within: the true rate is expected within this factor, either way.
        source: who measured it, or what it was derived from.
    """

    gpu: str
    images_per_s: float
    within: float
    source: str


@dataclass(frozen=True)
class EpochWork:
    """What an epoch is, whoever trains it: what the function `epoch_work(config)` beside a trainer returns.

    Attributes:
        images: trained on in an epoch; those that are only evaluated count as the part that they cost.
        source: where their number comes from.
        rates: of the GPUs about which something is known.
    """

    images: float
    source: str
    rates: tuple[GpuRate, ...]


OFFERS: Final = TrainerOffers(
    variance_ratio="val/theta_var_ratio",
    explained="val/theta_r2",
    skill="val/skill",
    skill_p="val/skill_p",
    gradient_share="train/grad_share_",
)
"""Of `mano_trainers.loop:train`."""
