"""The variants of a finished forensic study, and what they differ by."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from scipy import stats

from mano_trainers.arrays import Array
from mano_trainers.config import FaultName
from sweeper.errors import UserError

FAULTS: tuple[str, ...] = get_args(FaultName)
LETTERS = dict(zip(FAULTS, "ABCDEFGH", strict=True))
BALANCE = ("param", "joint", "angular", "pca")
CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class Variant:
    """The results of one variant of the study, a value per seed; PA-MPJPE in mm at the end of training.

    Attributes:
        name: of the variant.
        faults: that were switched on.
        balance: weights of the terms in BALANCE.
        reported_mm: what the pipeline said of itself.
        constant_mm: what it said of one pose for all pictures: a faulty one of the mean of its labels, a sound one of
            the best pose there is.
        best_constant_mm: what it said of the best pose that the right alignment finds.
        honest_mm: what a sound pipeline says of the same models.
        honest_constant_mm: and of the best constant pose.
    """

    name: str
    faults: tuple[str, ...]
    balance: tuple[float, ...]
    reported_mm: Array
    constant_mm: Array
    best_constant_mm: Array
    honest_mm: Array
    honest_constant_mm: Array

    @property
    def letters(self) -> str:
        """The faults by their letters, A to H."""
        return "".join(LETTERS[fault] for fault in FAULTS if fault in self.faults)


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences and the half width of its 95 % interval (Student's t), in mm."""

    mean_mm: float
    half_width_mm: float


def paired_difference(values: Array, baseline: Array) -> Difference:
    """Of two variants that were trained with the same seeds; NaN without a width for a single seed."""
    difference = values - baseline
    count = len(difference)
    if count < 2:
        return Difference(float(difference.mean()), float("nan"))
    width = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * difference.std(ddof=1) / np.sqrt(count)
    return Difference(float(difference.mean()), float(width))


def require_same_training(study: str, config: Mapping[str, Any], first: Mapping[str, Any]) -> None:
    """Studies on one page differ in faults and loss weights alone: nothing else may explain a difference.

    Args:
        study: name of another study.
        config: of any of its variants, dotted path -> value.
        first: the same of the first study.

    Raises:
        UserError: something else differs.
    """
    keys = [key for key in dict.fromkeys((*first, *config)) if not key.startswith(("faults", "loss.lambda_", "seed"))]
    if different := [key for key in keys if config.get(key) != first.get(key)]:
        raise UserError(f"the study `{study}` was trained otherwise than the first: {', '.join(different)}")


def read_variants(study: Mapping[str, Any], configs: Mapping[str, Mapping[str, Any]]) -> list[Variant]:
    """The variants of a study, in the order of its trials.

    Args:
        study: as `sweeper.views.show_study` returns it.
        configs: variant -> dotted path of the trainer's config -> value.

    Raises:
        UserError: a trial has not ended, or variants have different seeds.
    """
    metrics: dict[str, dict[int, Mapping[str, float]]] = {}
    for trial in study["trials"]:
        if trial["state"] != "COMPLETE":
            raise UserError(f"{trial['id']} is {trial['state']}", help="finish the study with `sweeper run` first")
        metrics.setdefault(trial["params"]["variant"], {})[trial["params"]["seed"]] = trial["metrics"]
    seeds = sorted(next(iter(metrics.values()), {}))
    variants = []
    for name, of_seeds in metrics.items():
        if sorted(of_seeds) != seeds:
            raise UserError(f"variant {name} has the seeds {sorted(of_seeds)}, others {seeds}")
        config = configs[name]
        rows = [_scores(of_seeds[seed]) for seed in seeds]
        faults = tuple(fault for fault in FAULTS if fault in config["faults"])
        balance = tuple(config[f"loss.lambda_{term}"] for term in BALANCE)
        variants.append(Variant(name, faults, balance, *np.array(rows, dtype=np.float64).T))
    return variants


def _scores(metrics: Mapping[str, float]) -> tuple[float, ...]:
    """The errors of `Variant`, in its order. The skill is 1 - error / error of the best constant pose."""
    reported_mm, best_mm = _errors(metrics, "val")
    constant_mm = metrics.get("val/mean_pose_pa_mpjpe_mm", best_mm)
    return reported_mm, constant_mm, best_mm, *_errors(metrics, "honest" if "honest/skill" in metrics else "val")


def _errors(metrics: Mapping[str, float], kind: str) -> tuple[float, float]:
    pa_mm = metrics[f"{kind}/pa_mpjpe_mm"]
    return pa_mm, pa_mm / (1 - metrics[f"{kind}/skill"])
