"""The best configurations of a study, compared over fresh seeds."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Final

from sweeper.analysis.power import DetectableEffect, pairing_text, power_of, power_text
from sweeper.analysis.replicates import (
    Comparison,
    VariantRuns,
    better,
    compare,
    constant_error,
    runs_of_variants,
    verdict_of,
)
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.studies import open_study, study_dirs
from sweeper.spec.model import VARIANT, SpecFile
from sweeper.spec.objective import Objective
from sweeper.study.pareto import winner_of

ENDING: Final = "-winners"
"""Suffix of the name of a study that retrains the best of another one."""


@dataclass(frozen=True)
class Candidate:
    """A configuration that was trained again.

    Attributes:
        trial: ID of the trial it comes from, and name of its variant.
        selected: what that trial scored when it was selected; the best of many is too good on average.
        runs: with fresh seeds.
    """

    trial: str
    selected: float
    runs: VariantRuns


@dataclass(frozen=True)
class WinnersResult:
    """The best configurations of a study, compared over fresh seeds.

    Attributes:
        study: the study that trained them again.
        source: the study they come from.
        objective: what they are judged by.
        seeds: the fresh seeds.
        candidates: best mean first.
        comparisons: every pair of them, corrected together.
        winner: the trial that beats every other one, or None.
        best_run: ID of the winner's best run with a fresh seed: the one to promote; None without a winner.
        power: what these seeds can show.
        opening: that, and how runs are compared, in sentences to be read before the table.
        verdict: sentences.
    """

    study: str
    source: str
    objective: Objective
    seeds: tuple[int, ...]
    candidates: tuple[Candidate, ...]
    comparisons: tuple[Comparison, ...]
    winner: str | None
    best_run: str | None
    power: DetectableEffect
    opening: tuple[str, ...]
    verdict: tuple[str, ...]


def rounds_of(home: Path, study: str) -> list[str]:
    """The studies that trained the best of this one again, in the order in which they were started."""
    pattern = re.compile(rf"{re.escape(study)}{ENDING}(-[0-9]+)?")
    names = [path.name for path in study_dirs(home) if pattern.fullmatch(path.name)]
    return sorted(names, key=lambda name: (len(name), name))


def source_of(home: Path, name: str) -> str | None:
    """The study whose best a second round trains again; None: the study is not a second round."""
    found = re.fullmatch(rf"(.+){ENDING}(-[0-9]+)?", name)
    return found[1] if found and name in rounds_of(home, found[1]) and (home / "studies" / found[1]).is_dir() else None


def winners_result(home: Path, study: str, name: str) -> WinnersResult:
    """What a second round of a study says.

    Args:
        home: the study home.
        study: whose best were trained again.
        name: of the round, one of `rounds_of`.
    """
    _, source = open_study(home, study)
    ledger, spec = open_study(home, name)
    earlier, metric = Ledger.open(home / "studies" / study, study), source.objective.metric
    selected = {trial.id: trial.value(metric) for trial in earlier.trials()}
    constant = constant_error(ledger.all_trials(), spec.objective)
    runs = runs_of_variants(spec, ledger.trials(), constant)
    runs.sort(key=lambda each: (not each.values, spec.objective.loss(each.estimate.mean)))
    candidates = tuple(Candidate(each.name, selected.get(each.name) or math.nan, each) for each in runs)
    comparisons = tuple(compare(list(combinations(runs, 2))))
    winner = winner_of_comparisons(runs[0], comparisons, spec.objective)
    verdict = verdict_lines(candidates, comparisons, winner, spec)
    power = power_of([each.difference for each in comparisons], len(spec.seeds), len(comparisons))
    opening = [power_text(power, spec.objective), pairing_text(comparisons)]
    own = [trial for trial in ledger.trials() if winner is not None and trial.params[VARIANT] == winner]
    best_run = winner_of(own, spec.objective)
    return WinnersResult(
        study=ledger.study,
        source=study,
        objective=spec.objective,
        seeds=spec.seeds,
        candidates=candidates,
        comparisons=comparisons,
        winner=winner,
        best_run=best_run.id if best_run else None,
        power=power,
        opening=tuple(line for line in opening if line),
        verdict=tuple(verdict),
    )


def winner_of_comparisons(best: VariantRuns, comparisons: Sequence[Comparison], objective: Objective) -> str | None:
    """The variant with the best mean, if it beats every other one by more than chance and all its runs are complete."""
    own = [each for each in comparisons if best.name in (each.first, each.second)]
    beaten = [each for each in own if each.is_told_apart and better(each, objective)[0] == best.name]
    return best.name if own and len(beaten) == len(own) and not best.losses_text else None


def verdict_lines(
    candidates: Sequence[Candidate], comparisons: Sequence[Comparison], winner: str | None, spec: SpecFile
) -> list[str]:
    """What the second round says, in sentences: the winner, or that there is none."""
    lines = [
        f"{each.trial}: {each.runs.losses_text} of {each.runs.runs} runs"
        for each in candidates
        if each.runs.losses_text
    ]
    best = candidates[0].trial
    own = [each for each in comparisons if best in (each.first, each.second)]
    if winner is None and not any(each.is_told_apart for each in comparisons):
        lines.append(f"the top {len(candidates)} cannot be told apart with {len(spec.seeds)} seeds")
    return lines + [verdict_of(each, spec.objective) for each in own]
