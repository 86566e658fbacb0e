"""Lists of values that have changed: the parameters of a ledger's trials are stored with the current lists.

Optuna stores with a parameter the values it could have had, and accepts no other trial that could have had different
ones. If a study's grid, variants or choices are extended, its stored lists are therefore replaced, all at once or not
at all; the values themselves do not change.
"""

from collections.abc import Mapping
from typing import Any, Final

import optuna
from optuna.distributions import CategoricalDistribution, distribution_to_json, json_to_distribution

from sweeper.ledger.storage.journal import LedgerJournal
from sweeper.samplers.distributions import distribution
from sweeper.search_space.dimensions import AnyDimension

Lists = Mapping[str, CategoricalDistribution]

FIND: Final = """
    SELECT param_id, param_value, distribution_json FROM trial_params JOIN trials USING (trial_id)
    WHERE trials.study_id = :study AND param_name = :name
"""
CHANGE: Final = "UPDATE trial_params SET distribution_json = :text, param_value = :value WHERE param_id = :id"
"""Optuna has no call for this."""


def follow_lists(study: optuna.Study, space: Mapping[str, AnyDimension]) -> bool:
    """Store the trials of a study with the lists of values of this search space, if they differ. The lists contain
    every value that a trial has. Returns whether anything has changed."""
    trials = study.get_trials(deepcopy=False)
    lists: dict[str, CategoricalDistribution] = {}
    for path, dimension in space.items():
        now = distribution(dimension)
        before = next((trial.distributions[path] for trial in trials if path in trial.distributions), now)  # as of all
        if isinstance(now, CategoricalDistribution) and before != now:
            lists[path] = now
    if not lists:
        return False
    if isinstance(study._storage, LedgerJournal):
        study._storage.rewrite(lambda log: _restated_log(log, lists))
    else:
        _rewrite_database(study, lists)
    return True


def _restated(stored: str, index: float, now: CategoricalDistribution) -> tuple[str, float]:
    """A stored list and the index of a value in it, converted to the current list."""
    value = json_to_distribution(stored).to_external_repr(index)
    return distribution_to_json(now), now.to_internal_repr(value)


def _restated_log(log: dict[str, Any], lists: Lists) -> dict[str, Any]:
    """A line of a journal: it gives a trial a parameter, or starts a trial with all of them."""
    name = str(log.get("param_name"))
    if name in lists:
        text, index = _restated(log["distribution"], log["param_value_internal"], lists[name])
        return log | {"distribution": text, "param_value_internal": index}
    if lists.keys() & log.get("distributions", {}).keys():
        params, distributions = dict(log["params"]), dict(log["distributions"])
        for path in lists.keys() & distributions.keys():
            distributions[path], params[path] = _restated(distributions[path], params[path], lists[path])
        return log | {"params": params, "distributions": distributions}
    return log


def _rewrite_database(study: optuna.Study, lists: Lists) -> None:
    import sqlalchemy  # slow to import, as the next, and no journal needs them

    from sweeper.ledger.storage.retrying_storage import RetryingStorage

    storage = study._storage
    assert isinstance(storage, RetryingStorage)
    find, change = sqlalchemy.text(FIND), sqlalchemy.text(CHANGE)

    def write() -> None:
        with storage.engine.begin() as connection:
            for name, now in lists.items():
                for row in connection.execute(find, {"study": study._study_id, "name": name}).all():
                    text, value = _restated(row.distribution_json, row.param_value, now)
                    connection.execute(change, {"text": text, "value": value, "id": row.param_id})

    storage.until_answered(write)
    storage.reread()
