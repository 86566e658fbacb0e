"""A copy of studies in memory, for a page that shows Optuna studies: changes to the copy do not reach a ledger."""

import copy
import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from sweeper.ledger.optuna_trials import record_of
from sweeper.ledger.storage.location import close_storage, open_storage, readable
from sweeper.ledger.studies import open_study
from sweeper.ledger.study_lock import is_driven
from sweeper.ledger.trial import WAITING, TrialState


def copy_studies(home: Path, studies: Iterable[str]) -> optuna.storages.InMemoryStorage:
    """The candidates of studies as they stand now, each objective with its name.

    Optuna knows fewer states than a ledger, so each trial has `state` and `reason` as attributes, beside its ID and its
    latest metrics.

    Args:
        home: the study home.
        studies: their names; the first one gets the ID 0.

    Raises:
        UserError: there is no such study, it has not begun, or its ledger is damaged.
    """
    made = optuna.storages.InMemoryStorage()
    for study in studies:
        ledger, spec = open_study(home, study)
        driven = is_driven(ledger.study_dir)
        with readable(ledger.study_dir):
            storage = open_storage(ledger.study_dir, None, create=False)
            original = optuna.load_study(study_name=study, storage=storage)
            shown = optuna.create_study(study_name=study, storage=made, directions=original.directions)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                shown.set_metric_names([objective.metric for objective in spec.objectives])
            shown.add_trials([_told(study, frozen, driven) for frozen in original.get_trials(deepcopy=False)])
            close_storage(storage)
    return made


def _told(study: str, frozen: FrozenTrial, driven: bool) -> FrozenTrial:
    record = record_of(study, frozen)
    waits = record.state is TrialState.RUNNING and not driven
    told: dict[str, Any] = {"id": record.id, "state": WAITING if waits else record.state.value, "reason": record.reason}
    shown = copy.copy(frozen)
    shown.user_attrs = told | {name: value for name, value in record.metrics.items() if math.isfinite(value)}
    return shown
