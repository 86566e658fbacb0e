"""A ledger of a small study."""

from pathlib import Path

from postgres_server import PostgresServer

from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import Report, TrialState
from sweeper.spec.resolve import SweepSpec

SPEC = SweepSpec.model_validate(
    {
        "name": "toy",
        "trainer": "scripted_trainer:train",
        "search_space": {
            "scale": {"low": 0.1, "high": 10.0, "log": True},
            "epochs": {"type": "int", "low": 2, "high": 8},
            "name": {"choices": ["a", "b"]},
        },
        "objective": {"metric": "val/pa_mpjpe_mm", "mode": "min"},
        "trials": 20,
        "sampler": {"name": "tpe", "startup_trials": 3},
    }
)


def run_one(ledger: Ledger, value: float, state: TrialState = TrialState.COMPLETE) -> dict[str, object]:
    record = ledger.ask(SPEC)
    ledger.report(record.id, report(1, value), value)
    ledger.finish(record.id, state, "because", {"rung": 1}, (value,))
    return dict(record.params)


def report(step: int, value: float) -> Report:
    return Report(step, float(step), {"val/pa_mpjpe_mm": value}, f"trials/x/{step}", 1000 + step)


def open_on_server(folder: Path, server: PostgresServer, *, create: bool = True) -> Ledger:
    """The ledger of the study in this folder, in PostgreSQL."""
    folder.mkdir(parents=True, exist_ok=True)
    return (Ledger.create if create else Ledger.open)(folder, folder.name, url=server.url())
