"""A trial by its ID, from the ledgers of a home, and the whole configuration it was trained with."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sweeper.errors import UserError
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.studies import open_study, study_dirs
from sweeper.ledger.trial import TrialRecord
from sweeper.search_space.paths import leaves, set_path
from sweeper.spec.model import SEED, VARIANT, SpecFile
from sweeper.study.pareto import winner_of


@dataclass(frozen=True)
class FoundTrial:
    """A trial, with the ledger and the spec of its study."""

    trial: TrialRecord
    ledger: Ledger
    spec: SpecFile


def look_up(home: Path, *selectors: str) -> list[FoundTrial]:
    """The trial of each ID (`STUDY-0007`, `STUDY-oracle`), or the best one of a study (`STUDY:best`).

    Raises:
        UserError: there is none; names close ones.
    """

    @cache
    def opened(study: str) -> tuple[Ledger, SpecFile]:
        return open_study(home, study)

    return [_look_up(home, selector, opened) for selector in selectors]


def _look_up(home: Path, selector: str, opened: Callable[[str], tuple[Ledger, SpecFile]]) -> FoundTrial:
    study, colon, which = selector.partition(":")
    if colon:
        if which != "best":
            raise UserError(f"no trial `{selector}`", help="expected an ID, or STUDY:best")
        ledger, spec = opened(study)
        winner = winner_of(ledger.trials(), spec.objective)
        if winner is None:
            raise UserError(f"no trial of the study `{study}` has run to its end, so there is no best one")
        return FoundTrial(winner, ledger, spec)
    studies = [path.name for path in study_dirs(home)]
    names = [name for name in studies if selector.startswith(f"{name}-")]
    known: list[str] = []
    for name in sorted(names, key=len, reverse=True):  # `a-winners-0001` is not of the study `a`
        ledger, spec = opened(name)
        trials = {trial.id: trial for trial in ledger.all_trials()}
        if selector in trials:
            return FoundTrial(trials[selector], ledger, spec)
        known += trials
    if selector in studies:
        raise UserError(f"`{selector}` is a study, but a trial is needed", help=f"for example `{selector}:best`")
    close = difflib.get_close_matches(selector, known, n=1)
    help = f"did you mean `{close[0]}`?" if close else "`sweeper list` shows the studies, `sweeper show STUDY` the IDs"
    raise UserError(f"no trial `{selector}`", help=help)


def configuration_of(spec: SpecFile, trial: TrialRecord) -> dict[str, Any]:
    """Dotted path -> value of everything the trial was trained with.

    Args:
        spec: the effective spec that the study recorded, which has every default written out.
        trial: a candidate or a control.
    """
    settings: Mapping[str, Any] = trial.params
    if VARIANT in trial.params and spec.variants:
        settings = {**spec.variants[str(trial.params[VARIANT])], **trial.params}
    config = leaves(spec.base) | {path: value for path, value in settings.items() if path != VARIANT}
    if spec.replicate_seed == "per_trial" and trial.control is None:
        config[SEED] = config.get(SEED, 0) + trial.number
    elif trial.repeat:
        config[SEED] = config.get(SEED, 0) + trial.repeat
    if trial.control is not None:
        config["control"] = trial.control
    return config


def nested_configuration(spec: SpecFile, trial: TrialRecord) -> dict[str, Any]:
    """As `configuration_of`, as a config file has it."""
    config: dict[str, Any] = {}
    for path, value in configuration_of(spec, trial).items():
        set_path(config, path, value)
    return config
