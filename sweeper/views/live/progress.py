"""What a person sees while a study runs: a live screen in a terminal, plain lines anywhere else. On stderr."""

import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

from rich.console import Console, RenderableType
from rich.live import Live

from mano_trainers.report import CheckResult, CheckStatus
from sweeper.entrypoint.offers import offers_of
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.study_lock import this_process
from sweeper.ledger.trial import TrialRecord
from sweeper.search_space.paths import short_names
from sweeper.spec.objective import metric_number
from sweeper.spec.resolve import SweepSpec
from sweeper.study.callback import StudyCallback
from sweeper.study.snapshot import Snapshot, snapshot
from sweeper.study.stage import enter_stage, leave_stages
from sweeper.views.live.screen import Scene, screen

RECENT: Final = 6
REFRESHES_PER_S: Final = 2.0
SHARE: Final = 0.05
"""Share of the driver's time that the screen may take: a study of thousands of trials takes long to count."""


class Progress(StudyCallback):
    """Told by the study what happens. A context manager: the live screen begins and ends with it.

    The screen is drawn by a thread, so that its clock runs while data are made; what it shows of the study is counted
    by the driver's own thread, the only one that uses the ledger.

    Args:
        spec: of the study, with the trials that were added to it.
        ledger: of the study.
    """

    def __init__(self, spec: SweepSpec, ledger: Ledger) -> None:
        self._spec, self._ledger = spec, ledger
        self._names = short_names(spec.search_space)
        # In a notebook rich's live screen needs widgets and shows nothing without: plain lines, as into a pipe.
        self._console = Console(stderr=True, highlight=False, markup=False, force_jupyter=False)
        self._recent: deque[str] = deque(maxlen=RECENT)
        self._started_s = time.monotonic()
        self._began_s = time.time()
        self._at: Snapshot | None = None
        self._next_count_s = 0.0
        self._doing = ""
        self._is_training = False
        self._live = (
            Live(console=self._console, get_renderable=self._screen, refresh_per_second=REFRESHES_PER_S, transient=True)
            if self._console.is_terminal
            else None
        )

    def __enter__(self) -> Self:
        self._count()
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        leave_stages(self._ledger.study_dir)
        if self._live:
            self._live.stop()

    def note(self, text: str) -> None:
        """Say what the driver is doing."""
        self._doing = text
        if not self._is_training:
            enter_stage(self._ledger.study_dir, text)
        self._say(text)

    def notice(self, text: str) -> None:
        self._say(text)

    def checked(self, result: CheckResult) -> None:
        """A check of the preflight is done."""
        if result.status is CheckStatus.PASS:
            self.note(f"preflight: {result.name} PASS")
        else:
            self.note(f"preflight: {result.name} {result.status}: {result.measured}")

    def trial_started(self, record: TrialRecord, config: Mapping[str, Any], resumed_from: int) -> None:
        self._doing = ""
        if not self._is_training:
            self._is_training = True
            leave_stages(self._ledger.study_dir)
        params = " ".join(f"{self._names[path]}={_short(value)}" for path, value in record.params.items())
        params = params or record.role
        verb = f"resumed after evaluation {resumed_from}" if resumed_from else "started"
        self._say(f"{record.id} {verb}: {params}")
        self._count()

    def trial_reported(self, record: TrialRecord) -> None:
        self._say(f"{record.id} epoch {record.reports[-1].epoch:g}: {self._values(record)}")
        self._count()

    def trial_finished(self, record: TrialRecord) -> None:
        self._say(f"{record.id} {record.state}: {record.reason}")
        self._count()

    def _values(self, record: TrialRecord) -> str:
        metrics, offers = record.reports[-1].metrics, offers_of(self._spec.trainer)
        shown = [self._spec.objective.metric, offers.variance_ratio, offers.explained]
        there = (name for name in shown if name in metrics)
        return "  ".join(f"{name.removeprefix('val/')} {metric_number(name, metrics[name])}" for name in there)

    def _say(self, line: str) -> None:
        if self._live:
            self._recent.append(f"{time.strftime('%H:%M:%S')} {line}")
        else:
            self._console.print(f"[{time.monotonic() - self._started_s:6.1f} s] {line}", markup=False, soft_wrap=True)

    def _count(self) -> None:
        """What the screen shows of the study, counted again unless that was just now."""
        began_s = time.monotonic()
        if self._live and began_s >= self._next_count_s:
            self._at = snapshot(self._ledger, self._spec, self._spec.trials + self._ledger.enqueued, time.time())
            ended_s = time.monotonic()
            self._next_count_s = ended_s + (ended_s - began_s) / SHARE

    def _screen(self) -> RenderableType:
        scene = Scene(self._ledger.study, this_process(), self._doing, self._began_s, list(self._recent))
        return screen(scene, self._at, self._spec, self._console.width)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
