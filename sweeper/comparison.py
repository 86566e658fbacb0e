"""Compares a rerun with the record: every metric of every step, weights, and what the two stood on. Pure functions."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

RELATIVE_TOLERANCE: Final = 1e-3
ABSOLUTE_TOLERANCE: Final = 1e-6
TIMINGS: Final = ("train/seconds", "train/images_per_s", "gpu/", "sys/", "system/")
"""Metrics (or prefixes ending in ``/``) that measure the machine and not the training."""

MOST_PACKAGES = 6

Steps = Mapping[int, Mapping[str, float]]


@dataclass(frozen=True)
class Deviation:
    """One value that is not bit for bit the recorded one; None stands for a value that is missing."""

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


@dataclass(frozen=True)
class Drift:
    """One thing a run stands on, then and now. `detail` says the difference, or the common value."""

    what: str
    same: bool
    detail: str


def deviations(recorded: Steps, rerun: Steps) -> list[Deviation]:
    """Every recorded value, timings apart, that the rerun did not meet exactly; by step, then by metric.

    NaN equals NaN. Metrics that only the rerun has are no deviation.
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
    """Whether the metric measures the machine, so that no rerun can meet it."""
    return any(metric.startswith(name) if name.endswith("/") else metric == name for name in TIMINGS)


def drift(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Drift]:
    """Two provenances of :func:`sweeper.provenance.collect`, row by row; what one of them lacks is left out."""
    return [
        *_code_drift(then.get("code") or {}, now.get("code") or {}),
        *_row("lock", then.get("lock_sha256"), now.get("lock_sha256"), shorten=12),
        *_row("python", then.get("python"), now.get("python")),
        *_package_drift(then.get("packages") or {}, now.get("packages") or {}),
        *_row("platform", then.get("platform"), now.get("platform")),
        *_mapping_drift("", then.get("hardware") or {}, now.get("hardware") or {}),
        *_mapping_drift("data: ", then.get("data") or {}, now.get("data") or {}, shorten=12),
    ]


def _row(what: str, then: Any, now: Any, shorten: int | None = None) -> Iterator[Drift]:
    if then is None or now is None:
        return
    before, after = str(then)[:shorten], str(now)[:shorten]
    yield Drift(what, then == now, before if then == now else f"{before} -> {after}")


def _mapping_drift(
    prefix: str, then: Mapping[str, Any], now: Mapping[str, Any], shorten: int | None = None
) -> Iterator[Drift]:
    for key in then:
        yield from _row(prefix + key, then[key], now.get(key), shorten)


def _code_drift(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Drift]:
    yield from _row("commit", then.get("commit"), now.get("commit"), shorten=12)
    if then.get("dirty") is None or now.get("dirty") is None:
        return
    keys = ("diff_sha256", "untracked")
    if all(then.get(key) == now.get(key) for key in keys):
        yield Drift("uncommitted changes", True, "the same ones" if then["dirty"] else "none")
    else:
        was, is_now = ("some" if side["dirty"] else "none" for side in (then, now))
        yield Drift("uncommitted changes", False, f"{was} -> {'others' if was == is_now else is_now}")


def _package_drift(then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Drift]:
    if not then or not now:
        return
    changed = [
        f"{name} {then.get(name, 'absent')} -> {now.get(name, 'absent')}"
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    ]
    more = f" and {len(changed) - MOST_PACKAGES} more" if len(changed) > MOST_PACKAGES else ""
    detail = ", ".join(changed[:MOST_PACKAGES]) + more if changed else f"{len(now)} of them"
    yield Drift("packages", not changed, detail)


def drift_table(rows: Sequence[Drift]) -> str:
    """The rows as text: what, same or differs, the detail."""
    width = max((len(row.what) for row in rows), default=0)
    return "\n".join(f"  {row.what:<{width}}  {'same   ' if row.same else 'DIFFERS'}  {row.detail}" for row in rows)


def deviation_table(found: Sequence[Deviation], most: int = 5) -> str:
    """The metrics with the largest relative deviation, one row each, as text."""
    worst: dict[str, Deviation] = {}
    for deviation in sorted(found, key=lambda deviation: deviation.relative):
        worst[deviation.metric] = deviation
    rows = sorted(worst.values(), key=lambda deviation: -deviation.relative)[:most]
    width = max((len(row.metric) for row in rows), default=0)
    header = f"  {'largest deviations':<{width}}  {'step':>5} {'recorded':>20} {'rerun':>20} {'relative':>9}"
    lines = [
        f"  {row.metric:<{max(width, 18)}}  {row.step:>5} {_number(row.recorded):>20} {_number(row.rerun):>20} "
        f"{row.relative:>9.2g}"
        for row in rows
    ]
    return "\n".join([header, *lines])


def _number(value: float | None) -> str:
    return "missing" if value is None else f"{value:.12g}"
