"""`sweeper winners`: train the best configurations of a study again with fresh seeds, before one is called a winner.

The best of many trials is partly the luckiest one. So the top k become the `variants` of a study of their own
(`STUDY-winners`), each trained with the same new `seeds`; it runs through `run_study` like any other, and can be
interrupted and resumed.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import yaml

from sweeper.analysis.replicates import Comparison, VariantRuns, better, compare, runs_of_variants, verdict_of
from sweeper.analysis.statistics import detectable_effect
from sweeper.errors import UserError
from sweeper.home import refuse_code_of
from sweeper.ledger.ledger import Ledger, study_dirs
from sweeper.ledger.storage import url_beside
from sweeper.ledger.trial import TrialRecord, TrialState
from sweeper.lifecycle.run import run_study
from sweeper.search_space.dimensions import set_path
from sweeper.spec.load import parse_spec
from sweeper.spec.model import SEED, VARIANT, SpecFile
from sweeper.spec.sections import Objective
from sweeper.study.controls import amount, value_of
from sweeper.study.pareto import winner_of
from sweeper.views.study import open_study

ENDING: Final = "-winners"
INHERITED: Final = ("trainer", "guards", "controls", "resources", "budget")


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
    verdict: tuple[str, ...]


def rounds_of(home: Path, study: str) -> list[str]:
    """The studies that trained the best of this one again, in the order in which they were started."""
    pattern = re.compile(rf"{re.escape(study)}{ENDING}(-[0-9]+)?")
    names = [path.name for path in study_dirs(home) if pattern.fullmatch(path.name)]
    return sorted(names, key=lambda name: (len(name), name))


def run_winners(
    home: Path,
    study: str,
    top: int,
    seeds: int,
    *,
    new: bool = False,
    overrides: Sequence[str] = (),
    skip_preflight: str = "",
    accept_drift: bool = False,
    address: str | None = None,
) -> tuple[int, str]:
    """Train the best `top` configurations of a study with `seeds` fresh seeds each; continue where that stopped.

    Args:
        home: the study home.
        study: whose best are taken.
        top: how many configurations.
        seeds: how many seeds.
        new: start another round, with seeds that no earlier one had, instead of continuing the last one.
        overrides: `key=value` of the second round's spec, as for `run`.
        skip_preflight: as of `run_study`.
        accept_drift: as of `run_study`.
        address: as of `run_study`.

    Returns:
        The exit code of `run_study`, and the name of the second round.

    Raises:
        UserError: no such study, or fewer trials than `top` ran to their end; else as `run_study`.
    """
    ledger, recorded = open_study(home, study)
    refuse_code_of(home, recorded.trainer)
    earlier = rounds_of(home, study)
    next_name = f"{study}{ENDING}" + (f"-{len(earlier) + 1}" if earlier else "")
    name = earlier.pop() if earlier and not new else next_name
    used = [seed for each in earlier for seed in open_study(home, each)[1].seeds]
    text = winners_spec(name, recorded, ledger.trials(), top, seeds, used)
    path = home / "studies" / name / "spec.yaml"
    spec = parse_spec(text, path, overrides)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(text)
    url = url_beside(path.parent, ledger.study_dir)
    code = run_study(
        spec, home, ledger_url=url, skip_preflight=skip_preflight, accept_drift=accept_drift, address=address
    )
    return code, name


def winners_spec(
    name: str, recorded: SpecFile, trials: Sequence[TrialRecord], top: int, seeds: int, used: Sequence[int] = ()
) -> str:
    """The spec of the second round, as YAML: a variant a configuration, no rank, fresh seeds.

    Args:
        name: of the second round.
        recorded: the effective spec of the study.
        trials: its trials.
        top: configurations to take; trials that differ in nothing but the seed are one.
        seeds: how many.
        used: seeds of earlier rounds.

    Raises:
        UserError: there are not that many.
    """
    best = best_configurations(recorded, trials, top)
    if len(best) < top:
        what = f"{len(best)} configurations of the study `{recorded.name}` ran to their end, so there is no top {top}"
        raise UserError(what, help=f"--top {len(best)}" if len(best) > 1 else "first let more trials run to their end")
    shared = _shared(recorded)
    base: dict[str, Any] = {key: value for key, value in recorded.base.items() if key != SEED}
    for path, value in shared.items():
        set_path(base, path, value)
    data: dict[str, Any] = {"name": name, "base": base}
    data["variants"] = {
        trial.id: {path: value for path, value in configuration(recorded, trial).items() if path not in shared}
        for trial in best
    }
    data["seeds"] = fresh_seeds(recorded, trials, seeds, used)
    written = recorded.model_dump(mode="json", by_alias=True)
    data |= {key: written[key] for key in (*INHERITED, "objective")}
    data["scheduler"] = {"name": "none"}
    data["budget"]["trials"] = None  # of the search; the other limits hold for this round anew
    head = f"# The best {top} configurations of {recorded.name}, trained again. Written by `sweeper winners`.\n"
    return head + yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def best_configurations(recorded: SpecFile, trials: Sequence[TrialRecord], top: int) -> list[TrialRecord]:
    """The best trials that ran to their end, each configuration once whatever its seeds."""
    sign = 1 if recorded.objective.mode == "min" else -1
    scored = [
        (sign * value, trial.number, trial)
        for trial in trials
        if trial.state is TrialState.COMPLETE and (value := value_of(trial, recorded.objective)) is not None
    ]
    found: dict[str, TrialRecord] = {}
    for _, _, trial in sorted(scored, key=lambda entry: entry[:2]):
        found.setdefault(str(sorted(configuration(recorded, trial).items())), trial)
    return list(found.values())[:top]


def configuration(recorded: SpecFile, trial: TrialRecord) -> dict[str, Any]:
    """What a trial set, by dotted path, without its seed."""
    if recorded.variants:
        settings: Mapping[str, Any] = recorded.variants[str(trial.params[VARIANT])]
    else:
        settings = trial.params
    return {path: value for path, value in settings.items() if path != SEED}


def _shared(recorded: SpecFile) -> dict[str, Any]:
    """What all variants of a study set alike, by dotted path: an effective spec says it with each of them, and the
    controls of the second round and its data need it as base."""
    first, *others = [dict(settings) for settings in recorded.variants.values()] or [{}]
    alike = {
        path: value for path, value in first.items() if all(path in other and other[path] == value for other in others)
    }
    return {path: value for path, value in alike.items() if path != SEED}


def fresh_seeds(recorded: SpecFile, trials: Sequence[TrialRecord], count: int, earlier: Sequence[int]) -> list[int]:
    """Seeds that no trial of the study or of an earlier round was trained with: the next ones above all of them."""
    used = [int(recorded.base.get(SEED, 0)), *recorded.seeds, *earlier]
    used += [int(settings[SEED]) for settings in recorded.variants.values() if SEED in settings]
    used += [int(trial.params[SEED]) for trial in trials if SEED in trial.params]
    first = max(used) + (len(trials) if recorded.replicate_seed == "per_trial" else 0) + 1
    return list(range(first, first + count))


def winners_result(home: Path, study: str, name: str) -> WinnersResult:
    """What a second round of a study says.

    Args:
        home: the study home.
        study: whose best were trained again.
        name: of the round, one of `rounds_of`.
    """
    _, source = open_study(home, study)
    ledger, spec = open_study(home, name)
    selected = {
        trial.id: value_of(trial, source.objective) for trial in Ledger(home / "studies" / study, study).trials()
    }
    sign = 1 if spec.objective.mode == "min" else -1
    runs = runs_of_variants(spec, ledger.trials())
    runs.sort(key=lambda each: (not each.values, sign * each.estimate.mean))
    candidates = tuple(Candidate(each.name, selected.get(each.name) or math.nan, each) for each in runs)
    comparisons = tuple(compare(list(combinations(runs, 2))))
    winner = winner_of_comparisons(runs[0], comparisons, spec.objective)
    verdict = verdict_lines(candidates, comparisons, winner, spec)
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
        verdict=tuple(verdict),
    )


def winner_of_comparisons(best: VariantRuns, comparisons: Sequence[Comparison], objective: Objective) -> str | None:
    """The variant with the best mean, if it beats every other one by more than chance and all its runs are there."""
    own = [each for each in comparisons if best.name in (each.first, each.second)]
    beaten = [each for each in own if each.is_told_apart and better(each, objective)[0] == best.name]
    return best.name if own and len(beaten) == len(own) and not best.losses_text else None


def verdict_lines(
    candidates: Sequence[Candidate], comparisons: Sequence[Comparison], winner: str | None, spec: SpecFile
) -> list[str]:
    """What the second round says, in sentences: the winner, or that there is none, and what n can see."""
    lines = [
        f"{each.trial}: {each.runs.losses_text} of {each.runs.runs} runs"
        for each in candidates
        if each.runs.losses_text
    ]
    best = candidates[0].trial
    own = [each for each in comparisons if best in (each.first, each.second)]
    if winner is None and not any(each.is_told_apart for each in comparisons):
        lines.append(f"the top {len(candidates)} cannot be told apart with {len(spec.seeds)} seeds")
    lines += [verdict_of(each, spec.objective) for each in own]
    spreads = [each.difference.estimate.sd for each in own if not math.isnan(each.difference.p)]
    if winner is None and spreads:
        smallest = max(spreads) * detectable_effect(len(spec.seeds), len(comparisons))
        lines.append(f"the smallest difference this many seeds show 4 times in 5 is {amount(smallest, spec.objective)}")
    return lines
