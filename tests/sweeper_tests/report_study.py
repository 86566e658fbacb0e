"""The study whose report is tested."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studies import make_spec

from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import Report, TrialState

OBJECTIVE, RATIO = "val/pa_mpjpe_mm", "val/theta_var_ratio"
SPACE = {
    "loss.lambda_joint": {"low": 0.01, "high": 100.0, "log": True},
    "loss.lambda_pca": {"low": 0.0, "high": 1.0},
    "head": {"choices": ["theta", "pca"]},
}
Trial = tuple[TrialState | None, str, Sequence[float]]
"""State (None: running), reason, objective by epoch."""
USUAL: list[Trial] = [
    (TrialState.COMPLETE, "ran all 4 epochs", [20.0, 15.0, 12.0, 10.5]),
    (TrialState.PRUNED, "rank 2 of 2 at epoch 2", [19.0, 18.0]),
    (TrialState.COLLAPSED, "collapse: ratio low", [22.0]),
    (TrialState.FAILED, "ValueError: boom", []),
    (TrialState.STOPPED, "budget", [21.0, math.nan]),
    (None, "", [math.nan]),
]


def fill(
    home: Path, trials: Sequence[Trial], name: str = "toy", controls: Mapping[str, float] | None = None, **changes: Any
) -> Ledger:
    """A study in `home` whose trials ended as given, each report 10 s after the one before."""
    spec = make_spec(**{"search_space": SPACE, "trials": max(1, len(trials)), "base": {"epochs": 4}} | changes)
    folder = home / "studies" / name
    folder.mkdir(parents=True)
    ledger = Ledger.create(folder, name, modes=[one.mode for one in spec.objectives])
    ledger.attributes.spec = spec.model_dump(mode="json", exclude={"text", "path", "overrides"})
    for control, value in (controls or {}).items():
        record = ledger.add_control(control)
        ledger.report(record.id, Report(1, 0.0, {OBJECTIVE: value}, None, 1, 5.0), value)
        ledger.finish(record.id, TrialState.COMPLETE, "evaluated without training", {}, (value,))
    for number, (state, reason, values) in enumerate(trials):
        trial_id = ledger.ask(spec).id
        for epoch, value in enumerate(values, start=1):
            ratio = 0.001 if state is TrialState.COLLAPSED else 0.1 * epoch + 0.01 * number
            metrics = {OBJECTIVE: value, RATIO: ratio, "val/theta_r2": ratio}
            metrics |= {"train/grad_share_param": 0.25, "train/grad_share_joint": 0.75}
            checkpoint = f"trials/{number:04d}/epoch_{epoch:03d}"
            ledger.report(trial_id, Report(epoch, float(epoch), metrics, checkpoint, epoch, 10.0, 4.0), value)
        if state:
            last = next((value for value in reversed(values) if math.isfinite(value)), None)
            ledger.finish(trial_id, state, reason, {}, [last] * len(spec.objectives))
    return ledger
