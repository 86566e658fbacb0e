"""`sweeper winners`: train the best configurations of a study again with fresh seeds, before one is called a winner.

The best of many trials is partly the luckiest one. So the top k become the `variants` of a separate study
(`STUDY-winners`), each trained with the same new `seeds`; it runs through `run_study` like any other, and can be
interrupted and resumed.
"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import yaml

from sweeper.analysis.design_power import design_power
from sweeper.analysis.power import power_text
from sweeper.analysis.winners import ENDING, rounds_of, winners_result
from sweeper.console import to_json
from sweeper.errors import EXIT_NO_SKILL, EXIT_SIGNAL, UserError
from sweeper.files import write_atomic
from sweeper.home import refuse_code_of
from sweeper.ledger.storage.location import url_beside
from sweeper.ledger.studies import open_study
from sweeper.ledger.trial import TrialRecord, TrialState
from sweeper.lifecycle.options import RunOptions
from sweeper.lifecycle.run import run_study
from sweeper.search_space.paths import set_path
from sweeper.spec.load import parse_spec
from sweeper.spec.model import SEED, VARIANT, SpecFile
from sweeper.tracking import register_winner, tracking_uri
from sweeper.views.winners import print_winners, winners_json

INHERITED: Final = ("trainer", "guards", "controls", "resources", "budget")


def run_winners(
    home: Path,
    study: str,
    top: int,
    seeds: int,
    *,
    options: RunOptions,
    new: bool = False,
    overrides: Sequence[str] = (),
) -> tuple[int, str]:
    """Train the best `top` configurations of a study with `seeds` fresh seeds each; continue where that stopped.

    Args:
        home: the study home.
        study: whose best are taken.
        top: how many configurations.
        seeds: how many seeds.
        options: as of `run_study`.
        new: start another round, with seeds that no earlier one had, instead of continuing the last one.
        overrides: `key=value` of the second round's spec, as for `run`.

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
        write_atomic(path, text)
    if name == next_name:  # once a round has begun, its own runs say more
        sight = design_power(spec, home, len(spec.variants) * (len(spec.variants) - 1) // 2)
        print(f"before any run: {power_text(sight, spec.objective)}", flush=True)
    url = url_beside(path.parent, ledger.study_dir)
    code = run_study(spec, home, options, ledger_url=url)
    return code, name


def winners_spec(
    name: str, recorded: SpecFile, trials: Sequence[TrialRecord], top: int, seeds: int, used: Sequence[int] = ()
) -> str:
    """The spec of the second round, as YAML: one variant per configuration, no rank, fresh seeds.

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
    data["budget"]["trials"] = None  # of the search; the other limits apply to this round again
    head = f"# The best {top} configurations of {recorded.name}, trained again. Written by `sweeper winners`.\n"
    return head + yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def best_configurations(recorded: SpecFile, trials: Sequence[TrialRecord], top: int) -> list[TrialRecord]:
    """The best trials that ran to their end, each configuration once whatever its seeds; if `replicate: auto` ran some
    again, those come first, by their averages."""
    found: dict[str, list[TrialRecord]] = {}
    for trial in trials:
        if trial.state is TrialState.COMPLETE and trial.value(recorded.objective.metric) is not None:
            found.setdefault(str(sorted(configuration(recorded, trial).items())), []).append(trial)
    repeated = any(trial.repeat for runs in found.values() for trial in runs)

    def rank(runs: Sequence[TrialRecord]) -> tuple[bool, float, int]:
        losses = [recorded.objective.loss(trial.value(recorded.objective.metric) or 0.0) for trial in runs]
        return repeated and len(runs) == 1, fmean(losses) if repeated else min(losses), runs[0].number

    best = sorted(found.values(), key=rank)[:top]
    return [runs[0] if repeated else min(runs, key=lambda run: rank([run])) for runs in best]


def configuration(recorded: SpecFile, trial: TrialRecord) -> dict[str, Any]:
    """What a trial set, by dotted path, without its seed."""
    if recorded.variants:
        settings: Mapping[str, Any] = recorded.variants[str(trial.params[VARIANT])]
    else:
        settings = trial.params
    return {path: value for path, value in settings.items() if path != SEED}


def _shared(recorded: SpecFile) -> dict[str, Any]:
    """What all variants of a study set to the same value, by dotted path: an effective spec repeats it for each of
    them, and the controls of the second round and its data need it in base."""
    first, *others = [dict(settings) for settings in recorded.variants.values()] or [{}]
    alike = {
        path: value for path, value in first.items() if all(path in other and other[path] == value for other in others)
    }
    return {path: value for path, value in alike.items() if path != SEED}


def fresh_seeds(recorded: SpecFile, trials: Sequence[TrialRecord], count: int, earlier: Sequence[int]) -> list[int]:
    """Seeds that no trial of the study or of an earlier round has used: the next ones above all of them."""
    used = [int(recorded.base.get(SEED, 0)), *recorded.seeds, *earlier]
    used += [int(settings[SEED]) for settings in recorded.variants.values() if SEED in settings]
    used += [int(trial.params[SEED] or 0) for trial in trials if SEED in trial.params]
    repeats = max((trial.repeat for trial in trials), default=0)
    first = max(used) + (len(trials) if recorded.replicate_seed == "per_trial" else repeats) + 1
    return list(range(first, first + count))


def train_and_compare(
    home: Path,
    study: str,
    top: int,
    seeds: int,
    *,
    promote: bool,
    as_json: bool,
    new: bool,
    overrides: Sequence[str],
    options: RunOptions,
) -> int:
    """Run the second round of a study to its end, print what it says, and promote its winner if asked to.

    Args:
        home, study, top, seeds, new, overrides, options: as of `run_winners`.
        promote: register the winner in MLflow.
        as_json: print JSON.

    Returns:
        The exit code of the run; 3 if there is nothing to promote.
    """
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        code, name = run_winners(home, study, top, seeds, new=new, overrides=overrides, options=options)
    if code > EXIT_SIGNAL:
        return code
    result = winners_result(home, study, name)
    print(to_json(winners_json(result))) if as_json else print_winners(result)
    if not promote:
        return code
    if code == EXIT_NO_SKILL:
        print("nothing is promoted: no run beats the controls", file=sys.stderr)
        return code
    if result.best_run is None:
        print("nothing is promoted: no configuration beats all the others", file=sys.stderr)
        return code or EXIT_NO_SKILL
    objective = result.objective
    uri = tracking_uri(home)
    registered = register_winner(uri, result.best_run, objective.metric, objective.mode, studies=[study])
    said = f"promoted {result.best_run}, {registered.checkpoint}: version {registered.version} of {registered.model}"
    print(f"{said} in MLflow, with the alias `winner`", file=sys.stderr)
    return code
