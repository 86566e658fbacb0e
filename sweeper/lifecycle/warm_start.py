"""What a study learns from an earlier one, copied into its own ledger once."""

from typing import Any

from sweeper.errors import UserError
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import TrialState
from sweeper.spec.resolve import SweepSpec
from sweeper.study.pareto import objective_values

LEARNED_FROM = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.COLLAPSED)


def record_warm_start(ledger: Ledger, spec: SweepSpec) -> None:
    """Copy the earlier study's trials that `warm_start` names into an attribute of the ledger, unless that was done
    before: a resumed study proposes the same even if the earlier one has changed since, or is gone.

    Raises:
        UserError: there is no such study or storage, or it has no trial to learn from.
    """
    if spec.warm_start is None or ledger.attributes.warm_start is not None:
        return
    name = spec.warm_start.study
    if spec.warm_start.storage is None:
        found = _own_trials(ledger, spec, name)
    else:
        from sweeper.ledger.foreign_study import foreign_trials  # imports sqlalchemy, which a journal does not need

        found = foreign_trials(spec.warm_start.storage, name, spec.objectives, spec.search_space)
    if spec.warm_start.trials != "all":
        complete = [entry for entry in found if entry["state"] is TrialState.COMPLETE]
        best = sorted(complete, key=lambda entry: spec.objective.loss(entry["values"][0]))
        found = best[: int(spec.warm_start.trials.removeprefix("best "))]
    if not found:
        metrics = " and ".join(objective.metric for objective in spec.objectives)
        raise UserError(f"no finished trial of the study `{name}` reports {metrics}: nothing to start from")
    ledger.attributes.warm_start = found


def _own_trials(ledger: Ledger, spec: SweepSpec, name: str) -> list[dict[str, Any]]:
    """Those of a study in the same home."""
    found: list[dict[str, Any]] = []
    for trial in Ledger.open(ledger.study_dir.parent / name, name).trials():
        values = [value for value in objective_values(trial, spec.objectives) if value is not None]
        if trial.state in LEARNED_FROM and trial.last and len(values) == len(spec.objectives):
            entry = {"params": dict(trial.params), "state": trial.state, "values": values, "step": trial.last.step}
            found.append(entry)
    return found
