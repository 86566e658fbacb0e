"""Compares a rerun with the record: every metric of every step, and the tensors of a checkpoint."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

RELATIVE_TOLERANCE: Final = 1e-3
ABSOLUTE_TOLERANCE: Final = 1e-6
TIMINGS: Final = ("train/seconds", "train/images_per_s", "gpu/", "sys/", "system/")
"""Metrics (or prefixes ending in ``/``) that measure the machine and not the training."""
TIMING_ENDINGS: Final = ("_runtime", "_per_second")
"""Ends of such names in Hugging Face's reports."""

Steps = Mapping[int, Mapping[str, float]]


@dataclass(frozen=True)
class Deviation:
    """One value that is not bit for bit the recorded one; None means a missing value."""

    step: int
    metric: str
    recorded: float | None
    rerun: float | None

    @property
    def relative(self) -> float:
        """|a - b| / max(|a|, |b|); infinite if one of them is missing or not finite."""
        if self.recorded is None or self.rerun is None:
            return math.inf
        difference = abs(self.recorded - self.rerun)
        return difference / max(abs(self.recorded), abs(self.rerun)) if math.isfinite(difference) else math.inf

    @property
    def is_tolerable(self) -> bool:
        """Whether other hardware or another number of threads may explain it."""
        if self.recorded is None or self.rerun is None:
            return False
        largest = max(abs(self.recorded), abs(self.rerun))
        return abs(self.recorded - self.rerun) <= ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * largest


def deviations(recorded: Steps, rerun: Steps) -> list[Deviation]:
    """Every recorded value, timings apart, that the rerun did not reproduce exactly; by step, then by metric.

    NaN equals NaN. Metrics that only the rerun has do not count as deviations.
    """
    found = []
    for step in sorted(recorded):
        for metric in sorted(recorded[step]):
            if is_timing(metric):
                continue
            then, now = recorded[step][metric], rerun.get(step, {}).get(metric)
            both_nan = now is not None and math.isnan(then) and math.isnan(now)
            if then != now and not both_nan:
                found.append(Deviation(step, metric, then, now))
    return found


def is_timing(metric: str) -> bool:
    """Whether the metric measures the machine, so that no rerun can reproduce it."""
    return metric.endswith(TIMING_ENDINGS) or any(
        metric.startswith(name) if name.endswith("/") else metric == name for name in TIMINGS
    )


def tensor_deviation(recorded: Path, rerun: Path) -> tuple[str, float, float]:
    """The tensor of two safetensors files that differs most.

    Returns:
        Its name, its largest absolute difference, and that as a share of the largest recorded value of the tensor; a
        tensor that one file lacks, or with another shape or NaN, differs by infinity.

    Raises:
        ValueError: a file is not a safetensors file, or holds a type that numpy does not know.
    """
    try:
        before, after = load_file(recorded), load_file(rerun)
    except (SafetensorError, KeyError, TypeError, OSError) as error:
        raise ValueError(f"the weights cannot be compared: {error}") from error
    worst = ("", 0.0, 0.0)
    for name in sorted({*before, *after}):
        absolute = relative = math.inf
        if name in before and name in after and before[name].shape == after[name].shape:
            then, now = before[name].astype(np.float64), after[name].astype(np.float64)
            difference = float(np.max(np.abs(then - now), initial=0.0))
            if math.isfinite(difference):
                largest = float(np.max(np.abs(then), initial=0.0))
                absolute, relative = difference, difference / largest if largest > 0 else difference
        if relative > worst[2] or not worst[0]:
            worst = (name, absolute, relative)
    return worst


def deviation_table(found: Sequence[Deviation], most: int = 5) -> str:
    """The metrics with the largest relative deviation, one row each, as text."""
    worst: dict[str, Deviation] = {}
    for deviation in sorted(found, key=lambda deviation: deviation.relative):
        worst[deviation.metric] = deviation
    rows = sorted(worst.values(), key=lambda deviation: -deviation.relative)[:most]
    width = max((len(row.metric) for row in rows), default=0)
    header = f"  {'largest deviations':<{width}}  {'step':>5} {'recorded':>23} {'rerun':>23} {'relative':>9}"
    lines = [
        f"  {row.metric:<{max(width, 18)}}  {row.step:>5} {_number(row.recorded):>23} {_number(row.rerun):>23} "
        f"{row.relative:>9.2g}"
        for row in rows
    ]
    return "\n".join([header, *lines])


def _number(value: float | None) -> str:
    return "missing" if value is None else repr(value)
