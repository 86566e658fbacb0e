"""What a report shows about a study: plain data, from the ledger alone."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from sweeper.entrypoint.offers import DEFAULT_OFFERS
from sweeper.home import command_line
from sweeper.html_report.markdown import preflight_line
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.study_lock import is_driven
from sweeper.ledger.trial import WAITING, TrialRecord, TrialState
from sweeper.noise.model import StudyNoise, noise_of
from sweeper.noise.replication import conclusion
from sweeper.noise.words import floor_sentence
from sweeper.redaction import redact
from sweeper.search_space.dimensions import CategoricalDimension, FloatDimension, ParamValue
from sweeper.search_space.paths import short_names
from sweeper.search_space.value_text import value_text
from sweeper.spec.model import SpecFile
from sweeper.study.controls import final_word
from sweeper.study.pareto import winner_of
from sweeper.study.pruning_audit import audit_of
from sweeper.study.usage.accounting import audit_seconds
from sweeper.study.usage.budget import saved_s
from sweeper.views.study import outcome, usage

GRAD_SHARE: Final = DEFAULT_OFFERS.gradient_share
"""Prefix of the metrics that say which share of the gradient each loss term has."""
PICTURE_TYPES: Final = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".svg": "image/svg+xml",  # shown as an image, whose scripts do not run
}
MOST_PICTURE_BYTES: Final = 2_000_000
EARLY: Final = (TrialState.PRUNED, TrialState.COLLAPSED)
UNITS: Final = {"_mm": "mm", "_rad2": "rad²", "_rad": "rad", "_m2": "m²", "_s": "s", "_bits": "bits"}


@dataclass(frozen=True)
class StudyData:
    """A study at one moment.

    Attributes:
        study: its name.
        spec: as it was started.
        trials: the candidates, by number.
        controls: the reference points.
        winner: the best candidate that ran to its end.
        verdict: what the study says, in sentences, the most important first.
        no_skill: whether no trial beats the controls.
        driven: whether a driver runs it now.
        facts: how the study went, in sentences.
        folder: of the study; checkpoints are below it.
        spec_text: the spec as it was written.
        audit_s: seconds that stopped trials held a worker to be audited.
        noise: what is known about its noise.
    """

    study: str
    spec: SpecFile
    trials: Sequence[TrialRecord]
    controls: Sequence[TrialRecord]
    winner: TrialRecord | None
    verdict: list[str]
    no_skill: bool
    driven: bool
    facts: list[str]
    folder: Path
    spec_text: str
    audit_s: float
    noise: StudyNoise | None = None

    @cached_property
    def axes(self) -> list["Axis"]:
        """Every parameter, in the order of the spec."""
        names = short_names(self.spec.search_space)
        return [axis_of(path, names[path], self.spec, self.trials) for path in self.spec.search_space]

    @cached_property
    def state_names(self) -> dict[str, str]:
        """State -> how it is shown: trials that no driver runs any longer are waiting."""
        names = {state.value: state.value for state in TrialState}
        return names if self.driven else names | {TrialState.RUNNING.value: WAITING}

    def command(self, *words: str) -> str:
        """A command on this study's home."""
        return command_line(self.folder.parent.parent, *words)

    def objective_of(self, trial: TrialRecord) -> float | None:
        """The objective at a trial's last evaluation, if it is finite."""
        return trial.value(self.spec.objective.metric)


@dataclass(frozen=True)
class Axis:
    """A parameter as a figure draws it.

    Attributes:
        path: dotted path in the config.
        name: for titles; unique in the study.
        kind: `linear` or `log` for numbers, `category` for the rest.
        low: lower end; 0 for a category.
        high: upper end; for a category the number of values less one.
        categories: the values of a category, as text.
    """

    path: str
    name: str
    kind: str
    low: float
    high: float
    categories: tuple[str, ...] = ()

    def index(self, value: ParamValue) -> int:
        """The place of a value among those of a category."""
        return self.categories.index(value_text(value))

    def unit(self, value: ParamValue) -> float:
        """Where a value lies between the axis's ends, 0 to 1."""
        if self.kind == "category":
            low, high, number = 0.0, self.high, float(self.index(value))
        else:
            assert value is not None, "null is a category"
            ends = (self.low, self.high, float(value))
            low, high, number = (math.log(end) if self.kind == "log" else end for end in ends)
        return (number - low) / (high - low) if high > low else 0.5

    def at(self, unit: float) -> float:
        """The number at a place between the axis's ends."""
        if self.kind == "log":
            return math.exp(math.log(self.low) + unit * (math.log(self.high) - math.log(self.low)))
        return self.low + unit * (self.high - self.low)


@dataclass(frozen=True)
class CostShare:
    """Seconds of a worker, in total and by what they were spent on; `saved_s`: what would have been added."""

    name: str
    state: TrialState | None
    trials: int
    used_s: float
    saved_s: float


def study_data(ledger: Ledger, spec: SpecFile) -> StudyData:
    """Everything a report shows, read from the ledger at once."""
    trials, controls = ledger.trials(), ledger.controls()
    winner = winner_of(trials, spec.objective)
    word = final_word(trials, controls, spec.objective)
    driven = is_driven(ledger.study_dir)
    ran = [line for line in outcome(trials, spec.objective, is_driven=driven) if line]
    found = audit_of(ledger, spec, winner)
    noise = noise_of(spec, trials)
    said = [conclusion(spec, trials) or "", floor_sentence(noise, spec.objective) if noise else ""]
    facts = [*said, usage(ledger, spec), *([found.sentence()] if found else []), preflight_line(ledger)]
    return StudyData(
        study=ledger.study,
        spec=spec,
        trials=trials,
        controls=controls,
        winner=winner,
        verdict=[*reversed(word.lines), *ran] if word.no_skill else [*ran[:1], *word.lines, *ran[1:]],
        no_skill=word.no_skill,
        driven=driven,
        facts=[fact for fact in facts if fact],
        folder=ledger.study_dir,
        spec_text=redact(ledger.attributes.spec_text),  # an old study may hold a secret
        audit_s=audit_seconds(ledger),
        noise=noise,
    )


def axis_of(path: str, name: str, spec: SpecFile, trials: Sequence[TrialRecord]) -> Axis:
    """How a parameter is drawn: as its dimension says, and wide enough for what was tried."""
    dimension = spec.search_space[path]
    tried = [trial.params[path] for trial in trials if path in trial.params]
    if isinstance(dimension, CategoricalDimension):
        categories = tuple(dict.fromkeys(value_text(value) for value in (*dimension.choices, *tried)))
        return Axis(path, name, "category", 0.0, len(categories) - 1.0, categories)
    numbers = [float(value) for value in tried if value is not None]
    low, high = min([dimension.low, *numbers]), max([dimension.high, *numbers])
    is_log = dimension.log or (isinstance(dimension, FloatDimension) and _spans_decades(dimension.values))
    return Axis(path, name, "log" if is_log and low > 0 else "linear", low, high)


def title_of(metric: str) -> str:
    """A metric as the title of an axis, with its unit: `pa_mpjpe (mm)`."""
    name = metric.removeprefix("val/").removeprefix("train/")
    for ending, unit in UNITS.items():
        if name.endswith(ending):
            return f"{name.removesuffix(ending)} ({unit})"
    return name


def device_of(spec: SpecFile) -> tuple[str, float]:
    """What is paid for, `GPU` or `CPU`, and how much of it a trial uses."""
    resources = spec.resources
    return ("GPU", resources.trial_gpus) if resources.gpus else ("CPU", resources.trial_cpus)


def costs(data: StudyData) -> list[CostShare]:
    """Where the seconds went, by state, then the controls and the audit; states without a trial are left out."""
    full = max((t.last.epoch for t in data.trials if t.last and t.state is TrialState.COMPLETE), default=0.0)
    found = []
    for state in TrialState:
        own = [trial for trial in data.trials if trial.state is state]
        stopped = [(trial.seconds, trial.last.epoch) for trial in own if trial.last and state in EARLY]
        if own:
            seconds = sum(trial.seconds for trial in own)
            found.append(CostShare(state.value, state, len(own), seconds, saved_s(stopped, full)))
    if data.controls:
        used_s = sum(trial.seconds for trial in data.controls)
        found.append(CostShare("controls", None, len(data.controls), used_s, 0.0))
    if data.audit_s:
        found.append(CostShare("audit", None, 0, data.audit_s, 0.0))
    return found


def share_terms(trials: Sequence[TrialRecord]) -> list[str]:
    """The loss terms whose share of the gradient was reported, in the order of the reports."""
    names = (name for trial in trials for report in trial.reports[-1:] for name in report.metrics)
    return list(dict.fromkeys(name.removeprefix(GRAD_SHARE) for name in names if name.startswith(GRAD_SHARE)))


def pictures(data: StudyData) -> list[tuple[str, str]]:
    """The picture files in the newest checkpoint folder of the winner, as (file name, data URI), two megabytes at
    most together."""
    written = [report.checkpoint for report in (data.winner.reports if data.winner else ()) if report.checkpoint]
    folder = data.folder / written[-1] if written else None
    if folder is None or not folder.is_dir():
        return []
    found, left = [], MOST_PICTURE_BYTES
    for path in sorted(folder.iterdir()):
        kind = PICTURE_TYPES.get(path.suffix.lower())
        if kind and path.is_file() and path.stat().st_size <= left:
            left -= path.stat().st_size
            found.append((path.name, f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"))
    return found


def metrics_of(trial: TrialRecord) -> Mapping[str, Any]:
    """What a trial reported last."""
    return trial.metrics


def _spans_decades(values: Sequence[float]) -> bool:
    return bool(values) and min(values) > 0 and max(values) >= 30 * min(values)
