"""Studies of a scripted trainer, without a driver: a spec, a callback that watches it, its worker's messages."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mano_trainers.report import EpochReport
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import TrialRecord
from sweeper.spec.resolve import SweepSpec
from sweeper.study.callback import StudyCallback
from sweeper.study.controller import StudyController

OBJECTIVE = "val/pa_mpjpe_mm"


def make_spec(**changes: Any) -> SweepSpec:
    return SweepSpec.model_validate(
        {
            "name": "toy",
            "trainer": "scripted_trainer:train",
            "base": {"epochs": 8},
            "search_space": {"scale": {"low": 0.1, "high": 10.0, "log": True}},
            "objective": {"metric": OBJECTIVE, "mode": "min"},
            "trials": 4,
            "controls": [],
        }
        | changes
    )


class Log(StudyCallback):
    """A callback that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def trial_started(self, record: TrialRecord, config: Mapping[str, Any], resumed_from: int) -> None:
        self.events.append(("started", f"{record.id} from {resumed_from}"))

    def trial_reported(self, record: TrialRecord) -> None:
        self.events.append(("reported", record.id))

    def notice(self, text: str) -> None:
        self.events.append(("notice", text))

    def trial_finished(self, record: TrialRecord) -> None:
        self.events.append(("finished", f"{record.id} {record.state}"))


def make_study(folder: Path, log: Log | None = None, **changes: Any) -> StudyController:
    return StudyController(make_spec(**changes), Ledger.create(folder, "toy"), [log or Log()])


def message(epoch: int, value: float, ratio: float = 0.5, checkpoint: Path | None = None) -> EpochReport:
    metrics = {OBJECTIVE: value, "val/theta_var_ratio": ratio, "val/theta_r2": ratio}
    return EpochReport(epoch, float(epoch), metrics, checkpoint, 8.0)


def start(study: StudyController) -> str:
    upcoming = study.next_trial()
    assert upcoming is not None
    return upcoming.record.id


def report_to_rung(study: StudyController, trial_id: str, value: float) -> bool:
    study.on_report(trial_id, message(1, value))
    return study.on_report(trial_id, message(2, value))


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s
