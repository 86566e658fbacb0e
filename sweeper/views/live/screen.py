"""The live screen of a study, in the terminal that runs it and in one that watches it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Group
from rich.text import Text

from sweeper.ledger.trial import TrialRecord, TrialState
from sweeper.search_space.paths import short_names
from sweeper.spec.model import SpecFile
from sweeper.study.controls import spoken
from sweeper.study.snapshot import IMAGES_PER_S, Snapshot, leader
from sweeper.study.usage.budget import amount_text, duration_text, used_text
from sweeper.views.states import counts_text
from sweeper.views.tables.columns import Column, fitted, lines_of
from sweeper.views.tables.digits import metric_texts, param_texts
from sweeper.views.tables.trial_table import shown_metrics, unit_decimals

MOST_OPEN: Final = 12
"""Trials that have not ended and have a line of their own."""


@dataclass(frozen=True)
class Scene:
    """What a screen shows beside the study itself.

    Attributes:
        study: its name.
        driver: who runs it; empty: nobody does.
        doing: what the driver does beside training, in a few words; empty if nothing.
        since_s: when the driver's run began, in seconds since 1970; None: unknown.
        recent: lines about what happened last.
    """

    study: str
    driver: str
    doing: str
    since_s: float | None
    recent: Sequence[str]


def screen(scene: Scene, at: Snapshot | None, spec: SpecFile | None, width: int) -> Group:
    """The screen, as wide as the terminal; `at`, `spec`: None while the study is prepared for the first time."""
    clock = "" if scene.since_s is None else f"   {clock_text(time.time() - scene.since_s)}"
    lines = [Text(f"{scene.study}{clock}", style="bold")]
    if scene.doing:
        lines.append(Text(scene.doing, style="cyan"))
    if at is not None and spec is not None:
        lines += _standing(at, spec, is_driven=bool(scene.driver))
        lines += [Text(line, no_wrap=True) for line in _open_trials(at, spec, width)]
    lines += [Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in scene.recent]
    return Group(*lines)


def clock_text(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    whole = max(0, int(seconds))
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def _standing(at: Snapshot, spec: SpecFile, *, is_driven: bool) -> list[Text]:
    """How the study stands, line by line; long lines are folded between words."""
    ended = sum(trial.state.is_finished for trial in at.trials)
    rulers = "   ".join(f"{spoken(name)} {spec.objective.format(value)}" for name, value in at.controls.items())
    images = sum(trial.metrics.get(IMAGES_PER_S, 0.0) for trial in at.open)
    pace = f"{at.epochs_per_minute:.3g} epochs/min" + (f", {images:.0f} images/s" if images else "")
    eta = "" if at.eta_s is None else f"about {duration_text(at.eta_s)} left   "
    device, share = (
        ("gpu_seconds", spec.resources.trial_gpus)
        if spec.resources.gpus
        else ("cpu_seconds", spec.resources.trial_cpus)
    )
    saved = f"   early stops saved about {amount_text(device, at.saved_s * share)}" if at.saved_s else ""
    rungs = "   ".join(f"epoch {rung:g}: {on} of {of} advanced" for rung, (of, on) in at.rungs.items())
    lines = [
        f"{ended} of {at.planned} trials done   {counts_text(at.trials, is_driven)}",
        f"best so far {best_text(at, spec)}",
        *([f"controls   {rulers}"] if rulers else []),
        f"{eta}{pace}",
        f"{used_text(spec.budget, at.used)}{saved}",
        *([f"rungs   {rungs}"] if rungs else []),
    ]
    return [Text(line) for line in lines]


def best_text(at: Snapshot, spec: SpecFile) -> str:
    """The best trial so far, where it stands if it has not ended, and what it was trained with."""
    best = leader(at.trials, spec.objective)
    if best is None or best.last is None:
        return "-"
    names = short_names(spec.search_space)
    params = "  ".join(f"{names.get(path, path)} {param_texts([value])[0]}" for path, value in best.params.items())
    value = spec.objective.format(best.value(spec.objective.metric) or 0.0)
    where = "" if best.state is TrialState.COMPLETE else f", {best.state} at epoch {best.last.epoch:g}"
    return f"{value} ({best.id}{where})   {params}"


def _open_trials(at: Snapshot, spec: SpecFile, width: int) -> list[str]:
    """A line for each trial that has not ended."""
    shown = at.open[:MOST_OPEN]
    if not shown:
        return []
    metrics = shown_metrics(spec.objectives, shown)
    columns = [
        Column("NOT ENDED", tuple(trial.id for trial in shown), "left", short_cells=tuple(t.folder for t in shown)),
        Column("epoch", tuple(map(_epoch, shown)), "left"),
        *(
            Column(
                metric.removeprefix("val/"),
                metric_texts([trial.metrics.get(metric) for trial in shown], unit_decimals(metric)),
                short_head=metric.removeprefix("val/").removesuffix("_mm").removeprefix("theta_"),
                dropped=place,
            )
            for place, metric in enumerate(metrics)
        ),
        Column("", tuple(trial.reason for trial in shown), "left", shrinks_to=12, dropped=len(metrics)),
    ]
    lines = lines_of(fitted(columns, width)[0])
    return ["", *lines, *([f"and {len(at.open) - len(shown)} more"] if len(at.open) > len(shown) else []), ""]


def _epoch(trial: TrialRecord) -> str:
    if trial.last is None:
        return "-"
    return f"{trial.last.epoch:g}" + (f" of {trial.last.total_epochs:g}" if trial.last.total_epochs else "")
