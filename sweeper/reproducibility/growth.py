"""Which other spec a study continues with without asking: one that removes nothing that its trials have tried.

A grid, variants, seeds, choices or trials may be added, and those that no trial has tried may be removed; every trial
of the study is then one that the study could have with its current spec.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sweeper.errors import UserError
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import TrialRecord
from sweeper.reproducibility.drift import spec_differences, with_new_defaults
from sweeper.samplers.distributions import distribution
from sweeper.search_space.conditions import same
from sweeper.search_space.dimensions import AnyDimension, ParamValue, dimensions_of
from sweeper.search_space.unit import listed
from sweeper.spec.model import VARIANT
from sweeper.spec.reading.messages import show
from sweeper.spec.resolve import SweepSpec

LISTS: Final = frozenset({"search_space", "variants", "seeds", "enqueue", "ablation", "trials"})
"""Keys of a spec in which something may be added."""
VALUES: Final = frozenset({"choices", "values"})


def additions(ledger: Ledger, spec: SweepSpec) -> list[str] | None:
    """What a spec adds to the study, or removes untried, in words; None if it changes more than that."""
    if ledger.attributes.spec is None:
        return None
    old, new = with_new_defaults(ledger.attributes.spec), spec.effective
    if spec_differences(*({key: one[key] for key in one if key not in LISTS} for one in (old, new))):
        return None
    trials = [trial for trial in ledger.trials() if not (trial.retry_of or trial.enqueued or trial.repeat)]
    first = min(len(old["enqueue"]), len(trials))
    fits = (
        new["trials"] >= len(trials)
        and (old["ablation"] is None) == (new["ablation"] is None)
        and old["enqueue"][:first] == new["enqueue"][:first]
        and _same_but_for_values(old["search_space"], new["search_space"])
        and all(old["variants"].get(name) == new["variants"].get(name) for name in _tried(trials, VARIANT))
        and lost_value(ledger.trials(), spec.search_space) is None
    )
    return _in_words(old, new) if fits else None


def refuse_unfit_space(ledger: Ledger, spec: SweepSpec) -> None:
    """Refuse, even if drift is accepted, what one ledger cannot hold: another kind of parameter, or lists without a
    value that a trial has.

    Raises:
        UserError: names the parameter.
    """
    before = dimensions_of((ledger.attributes.spec or {}).get("search_space", {}))
    now: Mapping[str, AnyDimension] = spec.search_space
    other = next((path for path in before if path in now and _kind(before[path]) != _kind(now[path])), None)
    if other is not None:
        what = f"`{other}` of the study `{ledger.study}` is now another kind of parameter"
    elif lost := lost_value(ledger.trials(), now):
        path, value, trial = lost
        what = f"`{path}` of the study `{ledger.study}` can no longer be {show(value)}, which {trial} has"
    else:
        return
    help = "start another study beside it with --new, or undo the change"
    raise UserError(f"{what}, and one study cannot hold both", str(spec.path), help)


def lost_value(trials: Sequence[TrialRecord], space: Mapping[str, AnyDimension]) -> tuple[str, ParamValue, str] | None:
    """A parameter, its value and the trial that has it, if the search space no longer lists it; None if it lists
    all."""
    for path, dimension in space.items():
        if _kind(dimension) != "list":
            continue
        values = listed(dimension) or ()
        for trial in trials:
            value = trial.params.get(path)
            if path in trial.params and not any(same(value, other) for other in values):
                return path, value, trial.id
    return None


def _kind(dimension: AnyDimension) -> str:
    """What Optuna distinguishes."""
    kind = type(distribution(dimension)).__name__
    return "list" if kind.startswith("Categorical") else f"{kind} {dimension.log}"  # type: ignore[union-attr]


def _tried(trials: Sequence[TrialRecord], path: str) -> set[str]:
    return {str(trial.params[path]) for trial in trials if path in trial.params}


def _same_but_for_values(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return list(old) == list(new) and all(_without_values(old[path]) == _without_values(new[path]) for path in old)


def _without_values(dimension: Mapping[str, Any]) -> dict[str, Any]:
    bounds = {"low", "high"} if dimension.get("values") else set()  # they follow from the values
    rest = {key: value for key, value in dimension.items() if key not in VALUES | bounds}
    return rest | {"is_list": bool(dimension.get("values"))}


def _in_words(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line per list that has changed."""
    lines = [
        _changed(path, _values(old["search_space"][path]), _values(new["search_space"][path]))
        for path in new["search_space"]
    ]
    lines.append(_changed("enqueue", *([_entry(entry) for entry in one["enqueue"]] for one in (old, new))))
    if old["trials"] != new["trials"]:
        lines.append(f"trials: {old['trials']} -> {new['trials']}")
    return [line for line in lines if line]


def _entry(entry: Mapping[str, Any]) -> str:
    return " ".join(f"{path}={value}" for path, value in entry.items())


def _values(dimension: Mapping[str, Any]) -> Sequence[Any]:
    return dimension.get("choices") or dimension.get("values") or ()


def _changed(name: str, old: Sequence[Any], new: Sequence[Any]) -> str:
    added = [show(value) for value in new if value not in old]
    gone = [show(value) for value in old if value not in new]
    parts = [f"with {', '.join(added)}"] * bool(added) + [f"without {', '.join(gone)}"] * bool(gone)
    return f"{name}: {', '.join(parts)}" if parts else ""
