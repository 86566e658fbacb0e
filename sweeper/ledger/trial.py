"""One trial of a study: what was tried, what it reported, its state. Imports nothing heavy."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from sweeper.search_space.dimensions import ParamValue


class TrialState(StrEnum):
    """The state of a trial. PAUSED waits at a rung; COLLAPSED (guard), PRUNED (rank) and FAILED (error) are different.

    INFEASIBLE was never trained: the trainer's config refuses its parameters, and would again, so that it is nothing to
    retry; and unlike STOPPED it tells the sampler something.
    """

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    COLLAPSED = "COLLAPSED"
    STOPPED = "STOPPED"
    FAILED = "FAILED"
    INFEASIBLE = "INFEASIBLE"

    @property
    def is_finished(self) -> bool:
        return self not in (TrialState.RUNNING, TrialState.PAUSED)


WAITING: Final = "WAITING"
"""The name for a trial that was running when its driver ended: the next run of the study continues it."""


@dataclass(frozen=True)
class Report:
    """One evaluation of a trial, as the ledger keeps it. `checkpoint` is relative to the study's folder; `seconds` is
    how long the trial held its worker since the report before, `total_epochs` the length of a full run if known."""

    step: int
    epoch: float
    metrics: Mapping[str, float]
    checkpoint: str | None
    timestamp_ms: int
    seconds: float = 0.0
    total_epochs: float | None = None

    def value(self, metric: str) -> float | None:
        """A metric, if it was reported and is finite."""
        value = self.metrics.get(metric, math.nan)
        return value if math.isfinite(value) else None


@dataclass(frozen=True)
class TrialRecord:
    """One trial: what was tried, what it reported, how it ended.

    Attributes:
        id: `STUDY-0007` of a candidate, `STUDY-oracle` of a control.
        number: from 0, among the candidates or among the controls.
        control: name of the control, None of a candidate.
        retry_of: ID of the failed trial whose parameters it tries again, or None.
        losses: why each worker that ran it before was lost.
        charges: seconds for which it held a worker that no report covers, by attempt.
        again: for a control that failed and is tried again, how many came before it.
        enqueued: whether the user has chosen its parameters while the study ran or after it.
        repeat: 0; for a trial that runs an earlier configuration again with a new seed, which repetition it is.
    """

    id: str
    number: int
    params: Mapping[str, ParamValue]
    state: TrialState = TrialState.RUNNING
    reason: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    reports: tuple[Report, ...] = ()
    mlflow_run_id: str | None = None
    control: str | None = None
    retry_of: str | None = None
    losses: tuple[str, ...] = ()
    charges: Mapping[str, float] = field(default_factory=dict)
    again: int = 0
    enqueued: bool = False
    repeat: int = 0

    @property
    def role(self) -> str:
        """`candidate`, or `control`: a reference point that never wins."""
        return "candidate" if self.control is None else "control"

    @property
    def folder(self) -> str:
        """Name of its folder below `trials/`."""
        return _name(self.number, self.control, self.again)

    @property
    def seconds(self) -> float:
        """How long it held a worker, over all attempts."""
        return sum(report.seconds for report in self.reports) + sum(self.charges.values())

    @property
    def last(self) -> Report | None:
        return self.reports[-1] if self.reports else None

    @property
    def metrics(self) -> dict[str, float]:
        """The latest value of each metric: an evaluation need not report all of them."""
        found: dict[str, float] = {}
        for report in self.reports:
            found.update(report.metrics)
        return found

    def reported(self, metric: str) -> Report | None:
        """The last evaluation that reported a metric."""
        return last_with(self.reports, metric)

    def value(self, metric: str) -> float | None:
        """A metric as it was last reported; None if it never was, or was not finite then."""
        report = self.reported(metric)
        return report.value(metric) if report else None

    def curve(self, metric: str, latest: int = 0) -> list[tuple[float, float]]:
        """(epoch, metric) of each evaluation, NaN if it was not reported; of the `latest` ones, or 0 for all."""
        return [(report.epoch, report.metrics.get(metric, math.nan)) for report in self.reports[-latest:]]


def id_of(study: str, number: int, control: str | None = None, again: int = 0) -> str:
    """The one ID of a trial, in the ledger, in MLflow and on the screen."""
    return f"{study}-{_name(number, control, again)}"


def _name(number: int, control: str | None, again: int) -> str:
    if control is None:
        return f"{number:04d}"
    return f"{control}-{again + 1}" if again else control


def last_with(reports: Sequence[Report], metric: str) -> Report | None:
    """The last of the evaluations that reported a metric."""
    return next((report for report in reversed(reports) if metric in report.metrics), None)


def encode_report(report: Report) -> dict[str, Any]:
    """A report as JSON; `decode_report` reads it."""
    # JSON has no NaN; a dashboard that reads the journal would choke on Python's spelling of it.
    metrics = {k: v if math.isfinite(v) else str(v) for k, v in report.metrics.items()}
    return vars(report) | {"metrics": metrics}


def report_key(step: int) -> str:
    """The end of the name of the attribute that holds the report of a step."""
    return f"report:{step:05d}"


def stored_reports(attributes: Mapping[str, Any], prefix: str = "") -> tuple[Report, ...]:
    """The reports among these attributes, whose names begin with `prefix` and `report_key`, by step.

    By number: as text, `report:100000` comes before `report:50000`.
    """
    start = f"{prefix}report:"
    return tuple(
        sorted(
            (decode_report(value) for key, value in attributes.items() if key.startswith(start)),
            key=lambda report: report.step,
        )
    )


def with_report(reports: tuple[Report, ...], report: Report) -> tuple[Report, ...] | None:
    """The reports with one more, by step; None if there is one of this step."""
    if not reports or reports[-1].step < report.step:
        return (*reports, report)
    place = bisect_left(reports, report.step, key=lambda known: known.step)
    if reports[place].step == report.step:
        return None
    return (*reports[:place], report, *reports[place:])


def decode_report(data: Mapping[str, Any]) -> Report:
    """The report that `encode_report` turned into JSON."""
    metrics = data["metrics"]
    if any(value.__class__ is not float for value in metrics.values()):  # NaN is text, and 20.0 may be written as 20
        metrics = {name: float(value) for name, value in metrics.items()}
    return Report(**{**data, "metrics": metrics})
