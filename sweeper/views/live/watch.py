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

from sweeper.errors import LedgerLost
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.studies import open_if_started, open_study, planned_trials, study_folder
from sweeper.ledger.study_lock import running_driver
from sweeper.ledger.trial import TrialRecord, TrialState
from sweeper.spec.model import SpecFile
from sweeper.spec.objective import Objective
from sweeper.study.snapshot import snapshot
from sweeper.study.stage import Stage, stage_of
from sweeper.views.live.screen import Scene, screen
from sweeper.views.status import preparing_text, status, status_text

RECENT: Final = 8


@dataclass(frozen=True)
class Event:
    """Something that happened to a trial; `time_s` since the epoch."""

    time_s: float
    trial: str
    kind: str
    text: str


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
            shown = "" if value is None else f": {objective.metric.removeprefix('val/')} {objective.number(value)}"
            found.append(Event(report.timestamp_ms / 1000, trial.id, "report", f"epoch {report.epoch:g}{shown}"))
        known = old.state if old else TrialState.RUNNING
        if trial.state is not known:
            found.append(Event(ended_s, trial.id, trial.state.value, f"{trial.state.value} {trial.reason}".strip()))
    return found


class Watcher:
    """Looks at a study again and again, and knows what is new.

    Args:
        home: the study home.
        study: its name.
    """

    def __init__(self, home: Path, study: str) -> None:
        self._home, self._study, self._study_dir = home, study, study_folder(home, study)
        self._seen: dict[str, TrialRecord] = {}
        self._stage: Stage | None = None
        self._opened: tuple[Ledger, SpecFile] | None = None
        self.recent: deque[Event] = deque(maxlen=RECENT)

    def look(self) -> list[Event]:
        """What is new. A study that is prepared for the first time has no trials yet, but a stage."""
        found = []
        driver = running_driver(self._study_dir)
        stage = stage_of(self._study_dir) if driver else None
        if stage is not None and stage != self._stage:
            found.append(Event(stage.since_s, self._study, "preparing", stage.text))
        self._stage = stage
        self._opened = open_if_started(self._home, self._study)
        if self._opened is None and driver is None:
            open_study(self._home, self._study)  # says that it was never started
        if self._opened:
            ledger, spec = self._opened
            records = ledger.all_trials()
            found += events(self._seen, records, spec.objective)
            self._seen.update((record.id, record) for record in records)
        found.sort(key=lambda event: event.time_s)
        self.recent.extend(found)
        return found

    def screen(self, width: int) -> Group:
        """What the last look has seen, as the live screen of the driver shows it."""
        driver = running_driver(self._study_dir) or ""
        doing = preparing_text(self._stage) if self._stage else f"driver: {driver or 'none'}"
        lock = self._study_dir / "lock"
        since_s = lock.stat().st_mtime if driver and lock.exists() else None
        scene = Scene(self._study, driver, doing, since_s, [line(event) for event in self.recent])
        if self._opened is None:
            return screen(scene, None, None, width)
        ledger, spec = self._opened
        return screen(scene, snapshot(ledger, spec, planned_trials(ledger, spec), time.time()), spec, width)


def watch(home: Path, study: str, *, as_json: bool = False, interval_s: float = 1.0) -> None:
    """Show the study until its driver ends: a live screen in a terminal, else a line per event (JSON if asked).

    Raises:
        UserError: no such study.
    """
    console = Console(highlight=False, markup=False)
    watcher = Watcher(home, study)

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
                time.sleep(max(interval_s, 4 * (time.monotonic() - started_s)))  # a long ledger takes a while to read

    def tell(said: Callable[[Event], str]) -> None:
        for event in watcher.look():
            print(said(event), flush=True)

    if as_json:
        until_the_driver_ends(lambda: tell(lambda event: json.dumps(asdict(event))))
        return
    if console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:

            def refresh() -> None:
                watcher.look()
                live.update(watcher.screen(console.width), refresh=True)

            until_the_driver_ends(refresh)
    else:
        until_the_driver_ends(lambda: tell(line))
    console.print(status_text(status(home, study)))


def line(event: Event) -> str:
    """An event as a line of text."""
    return f"{time.strftime('%H:%M:%S', time.localtime(event.time_s))} {event.trial} {event.text}"
