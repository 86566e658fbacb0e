"""Finished studies, for tests of the code that reads them: a real ledger, filled in without training."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import Report, TrialState
from sweeper.spec.resolve import SweepSpec

OBJECTIVE = "val/pa_mpjpe_mm"
Outcome = float | TrialState
Score = Callable[[Mapping[str, Any]], Outcome]


def finish_study(home: Path, spec: SweepSpec, score: Score, trials: int | None = None) -> Ledger:
    """A study of two evaluations per trial: `score(params)` is the final value, or how the trial ended without one."""
    folder = home / "studies" / spec.name
    folder.mkdir(parents=True, exist_ok=True)
    modes = [objective.mode for objective in spec.objectives]
    ledger = Ledger.create(folder, spec.name, modes=modes)
    ledger.attributes.spec = spec.effective
    for _ in range(spec.trials if trials is None else trials):
        record = ledger.ask(spec)
        outcome = score(record.params)
        value = 20.0 if isinstance(outcome, TrialState) else outcome
        flat = 0.001 if outcome is TrialState.COLLAPSED else 0.5
        for epoch, at in ((1, value + 2.0), (2, value)):
            metrics = {OBJECTIVE: at, "val/theta_var_ratio": flat, "val/theta_r2": flat}
            ledger.report(record.id, Report(epoch, float(epoch), metrics, None, epoch, total_epochs=2.0), at)
        if isinstance(outcome, TrialState):
            reason = {"COLLAPSED": "collapse: flat", "FAILED": "RuntimeError: boom"}.get(outcome, "stopped")
            ledger.finish(record.id, outcome, reason, {}, (value,))
        else:
            ledger.finish(record.id, TrialState.COMPLETE, "ran all 2 epochs", {}, (value,))
    return ledger
