"""What a person sees while a study runs: a live screen in a terminal, plain lines anywhere else. On stderr."""

import time
from collections import Counter, deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mano_trainers.report import CheckResult, CheckStatus
from sweeper.entrypoint.offers import offers_of
from sweeper.ledger.trial import TrialRecord, TrialState
from sweeper.search_space.paths import short_names
from sweeper.spec.resolve import SweepSpec
from sweeper.study.callback import StudyCallback
from sweeper.study.controls import spoken

RECENT = 6


class Progress(StudyCallback):
    """Told by the study what happens. A context manager: the live screen ends with it."""

    def __init__(self, spec: SweepSpec) -> None:
        self._spec = spec
        self._names = short_names(spec.search_space)
        self._console = Console(stderr=True, highlight=False, markup=False)
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._running: dict[str, TrialRecord] = {}
        self._ended: Counter[TrialState] = Counter()
        self._recent: deque[str] = deque(maxlen=RECENT)
        self._best: float | None = None
        self._controls: dict[str, float] = {}
        self._started_s = time.monotonic()
        self._note = ""

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.update(Text(""), refresh=True)
            self._live.stop()

    def note(self, text: str) -> None:
        """Say what the driver is doing."""
        self._note = text
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
        self._note = ""
        self._running[record.id] = record
        params = " ".join(f"{self._names[path]}={_short(value)}" for path, value in record.params.items())
        params = params or record.role
        resumed = f" continues after evaluation {resumed_from}" if resumed_from else ""
        self._say(f"{record.id} started{resumed}: {params}")

    def trial_reported(self, record: TrialRecord) -> None:
        self._running[record.id] = record
        self._say(f"{record.id} epoch {record.reports[-1].epoch:g}: {self._values(record)}", recent=False)

    def trial_finished(self, record: TrialRecord) -> None:
        self._running.pop(record.id, None)
        value = record.value(self._spec.objective.metric)
        if record.control is not None:
            if record.state is TrialState.COMPLETE and value is not None:
                self._controls[spoken(record.control)] = value
        else:
            self._ended[record.state] += 1
            if record.state is TrialState.COMPLETE and value is not None:
                is_best = self._best is None or self._spec.objective.is_better(value, self._best)
                self._best = value if is_best else self._best
        self._say(f"{record.id} {record.state}: {record.reason}")

    def _values(self, record: TrialRecord) -> str:
        metrics, offers = record.reports[-1].metrics, offers_of(self._spec.trainer)
        shown = [self._spec.objective.metric, offers.variance_ratio, offers.explained]
        return "  ".join(f"{name.removeprefix('val/')} {metrics[name]:.4g}" for name in shown if name in metrics)

    def _say(self, line: str, *, recent: bool = True) -> None:
        if not self._live:
            self._console.print(f"[{time.monotonic() - self._started_s:6.1f} s] {line}", markup=False, soft_wrap=True)
            return
        if recent:
            self._recent.append(line)
        self._live.update(self._screen(), refresh=True)

    def _screen(self) -> Group:
        table = Table(box=None, pad_edge=False)
        for column in ("RUNNING", "epoch", "last evaluation"):
            table.add_column(column)
        for record in self._running.values():
            epoch = f"{record.last.epoch:g}" if record.last else "-"
            table.add_row(record.id, epoch, self._values(record) if record.reports else "first epoch")
        ended = sum(self._ended.values())
        counts = ", ".join(f"{count} {state}" for state, count in self._ended.items()) or "none"
        best = f"   best {self._best:.2f}" if self._best is not None else ""
        best += "".join(f"   {name} {value:.2f}" for name, value in self._controls.items())
        elapsed_s = time.monotonic() - self._started_s
        headline = f"{ended} of {self._spec.trials} trials ended ({counts}){best}   {elapsed_s:.0f} s"
        return Group(Text(headline, style="bold"), table, *(Text(line, style="dim") for line in self._recent))


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
