"""`sweeper watch`: a study while it runs, read from its ledger, so from any terminal that sees the study home."""

import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sweeper.errors import LedgerLost
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.studies import open_study, planned_trials
from sweeper.ledger.study_lock import running_driver
from sweeper.ledger.trial import TrialRecord, TrialState
from sweeper.pruning.asha import bracket_of, rung_epochs
from sweeper.spec.model import SpecFile
from sweeper.spec.sections import Objective
from sweeper.study.accounting import recorded
from sweeper.study.budget import Spent, duration_text, used_text
from sweeper.study.controls import control_values, spoken
from sweeper.study.pareto import winner_of
from sweeper.views.status import status, status_text

RECENT: Final = 8
MINUTES: Final = 5
IMAGES_PER_S: Final = "train/images_per_s"


@dataclass(frozen=True)
class Event:
    """Something that happened to a trial; `time_s` since the epoch."""

    time_s: float
    trial: str
    kind: str
    text: str


@dataclass(frozen=True)
class Standing:
    """A study at one moment.

    Attributes:
        trials: its candidates.
        controls: objective of each control that has come to its end.
        planned: candidates it will have.
        used: what it has used up to now.
        rungs: epoch of each rung -> how many candidates reached it, and how many of them went on.
        epochs_per_minute: over the last five minutes.
        eta_s: seconds to its end at the pace of the trials that have ended; None before one has.
    """

    trials: tuple[TrialRecord, ...]
    controls: Mapping[str, float]
    planned: int
    used: Spent
    rungs: Mapping[float, tuple[int, int]]
    epochs_per_minute: float
    eta_s: float | None

    @property
    def running(self) -> list[TrialRecord]:
        return [trial for trial in self.trials if trial.state is TrialState.RUNNING]


def standing(ledger: Ledger, spec: SpecFile, now_s: float) -> Standing:
    """Where the study stands at `now_s` (seconds since the epoch)."""
    trials = tuple(ledger.trials())
    planned = planned_trials(ledger, spec)
    recent = [
        after.epoch - (before.epoch if before else 0.0)
        for trial in trials
        for before, after in zip((None, *trial.reports), trial.reports, strict=False)
        if after.timestamp_ms / 1000 > now_s - 60 * MINUTES
    ]
    return Standing(
        trials=trials,
        controls=control_values(ledger.controls(), spec.objective),
        planned=planned,
        used=recorded(ledger, spec.budget, spec.resources),
        rungs=rungs_reached(spec, trials),
        epochs_per_minute=sum(recent) / MINUTES,
        eta_s=eta_s(trials, planned, spec.resources.at_once(sum(not trial.state.is_finished for trial in trials))),
    )


def rungs_reached(spec: SpecFile, trials: Sequence[TrialRecord]) -> dict[float, tuple[int, int]]:
    """Epoch of each rung -> how many healthy candidates reached it, and how many of them went on. Pure."""
    scheduler = spec.scheduler
    lengths = [report.total_epochs for trial in trials for report in trial.reports[-1:] if report.total_epochs]
    if scheduler.name == "none" or not lengths:
        return {}
    counts: dict[float, tuple[int, int]] = {}
    for trial in trials:
        grace = scheduler.grace_epochs * scheduler.eta ** bracket_of(scheduler, trial.number)
        for rung in rung_epochs(grace, scheduler.eta, max(lengths)):
            reached, on = counts.get(rung, (0, 0))
            if trial.last and trial.last.epoch >= rung and trial.state is not TrialState.COLLAPSED:
                stopped = trial.state in (TrialState.PRUNED, TrialState.PAUSED)
                after = next(report.epoch for report in trial.reports if report.epoch >= rung) < trial.last.epoch
                reached, on = reached + 1, on + (after or not stopped)
            counts[rung] = reached, on
    return dict(sorted(counts.items()))


def eta_s(trials: Sequence[TrialRecord], planned: int, concurrent: int) -> float | None:
    """Seconds to the end of a study whose other trials take as long as those that have ended, on average. Pure."""
    ended = [trial.seconds for trial in trials if trial.state.is_finished]
    if not ended:
        return None
    mean_s = sum(ended) / len(ended)
    open_s = sum(max(0.0, mean_s - trial.seconds) for trial in trials if not trial.state.is_finished)
    return (open_s + mean_s * max(0, planned - len(trials))) / concurrent


def events(before: Mapping[str, TrialRecord], after: Sequence[TrialRecord], objective: Objective) -> list[Event]:
    """What has happened between two looks at the ledger, in the order of the trials and of their reports. Pure."""
    found = []
    for trial in after:
        old = before.get(trial.id)
        ended_s = trial.last.timestamp_ms / 1000 if trial.last else time.time()
        if old is None:
            began_s = trial.reports[0].timestamp_ms / 1000 - trial.reports[0].seconds if trial.reports else time.time()
            found.append(Event(began_s, trial.id, "started", "started"))
        for report in trial.reports[len(old.reports) if old else 0 :]:
            value = report.metrics.get(objective.metric)
            shown = "" if value is None else f": {objective.metric.removeprefix('val/')} {value:.4g}"
            found.append(Event(report.timestamp_ms / 1000, trial.id, "report", f"epoch {report.epoch:g}{shown}"))
        known = old.state if old else TrialState.RUNNING
        if trial.state is not known:
            found.append(Event(ended_s, trial.id, trial.state.value, f"{trial.state.value} {trial.reason}".strip()))
    return found


def watch(home: Path, study: str, *, as_json: bool = False, interval_s: float = 1.0) -> None:
    """Show the study until its driver ends: a live screen in a terminal, else a line an event (JSON if asked).

    Raises:
        UserError: no such study.
    """
    console = Console(highlight=False, markup=False)
    seen: dict[str, TrialRecord] = {}
    recent: deque[Event] = deque(maxlen=RECENT)

    def look(show: Callable[[Event], None]) -> tuple[Ledger, SpecFile]:
        ledger, spec = open_study(home, study)  # a ledger that was opened before is as it was then
        records = ledger.all_trials()
        new = sorted(events(seen, records, spec.objective), key=lambda event: event.time_s)
        seen.update((record.id, record) for record in records)
        for event in new:
            show(event)
        return ledger, spec

    def until_the_driver_ends(step: Callable[[], object]) -> None:
        running = True
        while running:
            # before the look, which then is the last one
            running = running_driver(home / "studies" / study) is not None
            started_s = time.monotonic()
            try:
                step()
            except LedgerLost:  # the driver waits for it, and says so
                if not running:
                    raise
            if running:
                time.sleep(max(interval_s, 4 * (time.monotonic() - started_s)))  # a long ledger takes long to read

    if as_json:
        until_the_driver_ends(lambda: look(lambda event: print(json.dumps(asdict(event)), flush=True)))
        return
    if console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:

            def refresh() -> None:
                ledger, spec = look(recent.append)
                driver = running_driver(ledger.study_dir) or "no driver"
                live.update(screen(study, driver, standing(ledger, spec, time.time()), spec, recent), refresh=True)

            until_the_driver_ends(refresh)
    else:
        until_the_driver_ends(lambda: look(lambda event: print(line(event), flush=True)))
    console.print(status_text(status(home, study)))


def line(event: Event) -> str:
    """An event as a line of text."""
    return f"{time.strftime('%H:%M:%S', time.localtime(event.time_s))} {event.trial} {event.text}"


def screen(study: str, driver: str, at: Standing, spec: SpecFile, recent: Sequence[Event]) -> Group:
    """The live screen."""
    counts = {state: sum(trial.state is state for trial in at.trials) for state in TrialState}
    states = ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "none yet"
    best = winner_of(at.trials, spec.objective)
    best_text = "best -" if best is None else f"best {best.value(spec.objective.metric):.4g} ({best.id})"
    rulers = "   ".join(f"{spoken(name)} {value:.4g}" for name, value in at.controls.items())
    eta = "unknown yet" if at.eta_s is None else f"about {duration_text(at.eta_s)}"
    images = sum(trial.last.metrics.get(IMAGES_PER_S, 0.0) for trial in at.running if trial.last)
    pace = f"{at.epochs_per_minute:.2g} epochs/min" + (f", {images:.0f} images/s" if images else "")
    rungs = "   ".join(f"epoch {rung:g}: {on} of {of} went on" for rung, (of, on) in at.rungs.items())
    lines = [
        Text(f"{study}   {len(at.trials)} of {at.planned} trials: {states}", style="bold"),
        Text(f"{best_text}   {rulers}"),
        Text(f"time left {eta}   {pace}   {used_text(spec.budget, at.used)}"),
        *([Text(f"rungs   {rungs}")] if rungs else []),
        Text(f"driver: {driver}", style="dim"),
        Text(""),
    ]
    table = Table(box=None, pad_edge=False)
    for header in ("RUNNING", "epoch", spec.objective.metric.removeprefix("val/"), "reason"):
        table.add_column(header)
    for trial in at.trials:
        if not trial.state.is_finished:
            table.add_row(trial.id, *_progress(trial, spec.objective), trial.reason)
    return Group(*lines, table, Text(""), *(Text(line(event), style="dim") for event in recent))


def _progress(trial: TrialRecord, objective: Objective) -> tuple[str, str]:
    if trial.last is None:
        return "-", "-"
    total = f" of {trial.last.total_epochs:g}" if trial.last.total_epochs else ""
    value = trial.value(objective.metric)
    return f"{trial.last.epoch:g}{total}", "-" if value is None else f"{value:.4g}"
