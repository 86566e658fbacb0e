"""What the driver says and does about Ray's trials, without Ray: the rest is tested by real sweeps in `test_run.py`."""

from types import SimpleNamespace
from typing import Any

import pytest

from sweeper.executor import ticker as ticking
from sweeper.executor.tune import LedgerScheduler


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now_s=1000.0)
    monkeypatch.setattr(ticking, "time", SimpleNamespace(monotonic=lambda: clock.now_s))
    return clock


def test_a_notice_says_that_trials_wait_while_none_runs(clock: SimpleNamespace) -> None:
    notices: list[str] = []
    resources = SimpleNamespace(heartbeat_s=600.0)
    study: Any = SimpleNamespace(spec=SimpleNamespace(resources=resources), notice=notices.append)
    searcher: Any = SimpleNamespace(trials={"t": "toy-0000"})
    ticker = ticking.Ticker(study, searcher, workers=SimpleNamespace())  # type: ignore[arg-type]
    waiting = SimpleNamespace(is_finished=lambda: False)
    ended = SimpleNamespace(is_finished=lambda: True)

    def look(seconds: float, *trials: Any, live: bool = False) -> int:
        clock.now_s += seconds
        ticker.live = {"toy-0001": object()} if live else {}
        ticker._look_at_waiting_trials(list(trials))
        return len(notices)

    assert look(100, waiting) == 0
    assert look(30, waiting) == 1
    assert "no worker has started for 120 s" in notices[0]
    assert look(100, waiting) == 1, "not again at once"
    assert look(100, waiting, live=True) == 1, "another one runs"
    assert look(100, waiting) == 1, "the time counts anew"
    assert look(500, ended) == 1, "nothing waits"
    assert look(119, waiting) == 1


def test_only_waiting_trials_are_started() -> None:
    """Tune starts some by itself before the scheduler is asked for them, and these may have ended by then."""
    scheduler = LedgerScheduler(SimpleNamespace(), SimpleNamespace())  # type: ignore[arg-type]
    ended, runs, waits = (SimpleNamespace(status=each, PENDING="PENDING") for each in ("ERROR", "RUNNING", "PENDING"))
    for trial in (ended, runs, waits):
        scheduler.on_trial_add(None, trial)
    assert scheduler.choose_trial_to_run(None) is waits
    assert scheduler.choose_trial_to_run(None) is None
