"""The finished trials of an Optuna study that another program made, by its storage's URL: what a warm start learns."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from sweeper.errors import UserError
from sweeper.ledger.trial import TrialState
from sweeper.spec.objective import Objective

STATES: Final = {OptunaState.COMPLETE: TrialState.COMPLETE, OptunaState.PRUNED: TrialState.PRUNED}


def foreign_trials(url: str, study: str, objectives: Iterable[Objective], paths: Iterable[str]) -> list[dict[str, Any]]:
    """What a ledger's attribute `warm_start` holds of each finished trial.

    Args:
        url: of the storage, `sqlite:///optuna.db` or `postgresql://user@host/database`.
        study: its name there.
        objectives: of the study that learns; the other's must match in number and direction.
        paths: the parameters of the study that learns. A parameter of the other matches the one whose last part has its
            name.

    Raises:
        UserError: the storage cannot be read, has no such study, or its direction differs.
    """
    found = _load(url, study)
    wanted = ["minimize" if one.mode == "min" else "maximize" for one in objectives]
    directions = [direction.name.lower() for direction in found.directions]
    if directions != wanted:
        what = f"the Optuna study `{study}` would {' and '.join(directions)}, and this one {' and '.join(wanted)}"
        raise UserError(what, "warm_start", "name a study with the same objectives")
    names = _short(paths)
    return [entry for trial in found.get_trials(deepcopy=False) if (entry := _entry(trial, names, len(wanted)))]


def _load(url: str, study: str) -> optuna.Study:
    where = "warm_start.storage"
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        raise UserError("the URL of the storage cannot be read", where, "for example sqlite:///optuna.db") from None
    if address.drivername in ("postgresql", "postgres"):
        address = address.set(drivername="postgresql+psycopg")
    if address.drivername == "sqlite" and not (address.database and Path(address.database).is_file()):
        raise UserError(f"there is no file `{address.database}`", where)  # it would be created, empty
    try:
        storage = optuna.storages.get_storage(address.render_as_string(hide_password=False))
        names = optuna.get_all_study_names(storage)
        if study not in names:
            known = f"its studies are {', '.join(f'`{name}`' for name in names)}" if names else "it has no studies"
            raise UserError(f"the storage has no study `{study}`", "warm_start.study", known)
        return optuna.load_study(study_name=study, storage=storage)
    except (SQLAlchemyError, RuntimeError, ImportError, ValueError, optuna.exceptions.OptunaError) as error:
        said = str(error).split("\n")[0]
        raise UserError(f"the storage cannot be read: {type(error).__name__}: {said}", where) from None


def _short(paths: Iterable[str]) -> Mapping[str, str]:
    """Name in the other study -> parameter here: the whole path, or its last part if only one path has it."""
    paths = list(paths)
    lasts = [path.rpartition(".")[2] for path in paths]
    unique = {last: path for last, path in zip(lasts, paths, strict=True) if lasts.count(last) == 1}
    return unique | {path: path for path in paths}


def _entry(trial: FrozenTrial, names: Mapping[str, str], count: int) -> dict[str, Any] | None:
    """A trial as a warm start has it; None: it says nothing. A pruned one has the last value that it reported."""
    state, values = STATES.get(trial.state), trial.values
    if state is TrialState.PRUNED and trial.intermediate_values and count == 1:
        values = [trial.intermediate_values[max(trial.intermediate_values)]]
    if state is None or not values or any(value != value for value in values):
        return None
    params = {names.get(name, name): value for name, value in trial.params.items()}
    return {"params": params, "state": state, "values": list(values), "step": trial.last_step or 1}
