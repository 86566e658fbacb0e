"""A trial as Optuna keeps it: the record in its attributes, and what Optuna is told about its end."""

from collections.abc import Sequence

import optuna

from sweeper.ledger.trial import TrialRecord, TrialState, id_of, stored_reports
from sweeper.samplers.history import finite_values

ObjectiveValues = Sequence[float | None]
"""The value of each objective; None if there is none."""
StoredValues = float | Sequence[float | None] | None
"""The same as stored when a trial ends: the value of a single objective is not in a list."""


def record_of(study: str, frozen: optuna.trial.FrozenTrial) -> TrialRecord:
    """The record of a stored trial."""
    attrs = frozen.user_attrs
    state = TrialState.PAUSED if attrs.get("paused") else TrialState.RUNNING
    ending = attrs.get("ending") or attrs.get("paused") or {}
    charges = {key.removeprefix("charge:"): attrs[key] for key in attrs if key.startswith("charge:")}
    return TrialRecord(
        id=id_of(study, frozen.number, attrs.get("control"), attrs.get("again", 0)),
        number=frozen.number,
        params=dict(frozen.params),
        state=TrialState(ending.get("state", state)),
        reason=ending.get("reason", ""),
        evidence=ending.get("evidence", {}),
        reports=stored_reports(attrs),
        retry_of=attrs.get("retry_of"),
        losses=tuple(attrs.get("losses", ())),
        charges=charges | ending.get("charge", {}),
        mlflow_run_id=attrs.get("mlflow_run_id"),
        control=attrs.get("control"),
        again=attrs.get("again", 0),
        enqueued=attrs.get("enqueued", False),
        repeat=attrs.get("repeat", 0),
    )


def tell(study: optuna.Study, handle: optuna.trial.Trial, state: TrialState, values: StoredValues) -> None:
    """Tell Optuna how a trial ended; `values` as stored at its end, see `stored_values`."""
    told = optuna.trial.TrialState
    match state:
        case TrialState.COMPLETE if (finite := finite_values(values)) is not None:
            study.tell(handle.number, finite)
        case TrialState.PRUNED:
            study.tell(handle.number, state=told.PRUNED)
        case TrialState.INFEASIBLE:
            handle.set_constraint("infeasible", 1.0)
            study.tell(handle.number, state=told.PRUNED)
        case TrialState.COLLAPSED:
            handle.set_constraint("collapsed", 1.0)
            study.tell(handle.number, state=told.PRUNED)
        case _:
            study.tell(handle.number, state=told.FAIL)


def stored_values(values: ObjectiveValues) -> StoredValues:
    """The values of the objectives as stored at the end."""
    return values[0] if len(values) == 1 else list(values)
