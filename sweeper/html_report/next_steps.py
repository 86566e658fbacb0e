"""What to do after a study: the sentence, the commands, and the winner's parameters to continue with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from sweeper.html_report.data import StudyData
from sweeper.ledger.trial import TrialState
from sweeper.search_space.dimensions import Dimension, FloatDimension, IntDimension
from sweeper.search_space.paths import set_path
from sweeper.search_space.value_text import value_text
from sweeper.spec.model import SEED, VARIANT
from sweeper.study.ties import near_ties
from sweeper.views.caveats import tie_lines

AT_BOUND: Final = 0.03
"""How close to an end of its range a parameter of the best must be, as a share of the range, to count as at the end."""
MANY_COLLAPSED: Final = 0.3


@dataclass(frozen=True)
class NextStep:
    """A command or a line of the sweep file, and what it does; empty `command`: something to change by hand."""

    command: str
    why: str


@dataclass(frozen=True)
class NextSteps:
    """Attributes:
    sentence: where the study stands, in one paragraph.
    steps: what follows from it, most important first.
    parameters: the winner's, as YAML for the `base` of a next sweep; empty without a winner.
    """

    sentence: str
    steps: Sequence[NextStep]
    parameters: str


def next_steps(data: StudyData) -> NextSteps:
    """What a study leads to."""
    if data.no_skill:
        look = NextStep("", "Check the data and the metric before the search space: trials learn nothing yet.")
        sentence = "No trial beats the controls, so there is no winner: nothing here says which parameters are good."
        return NextSteps(sentence, [look, NextStep("sweeper preflight SPEC", "says what is wrong with a pipeline")], "")
    if data.winner is None:
        is_over = all(trial.state.is_finished for trial in data.trials)
        again = NextStep(data.command("resume", data.study), "continues where the study stopped")
        sentence = "No trial has run to its end yet, so there is no winner."
        return NextSteps(sentence, [] if is_over else [again], "")
    return NextSteps(_sentence(data), _steps(data, data.winner.id), _parameters(data))


def _sentence(data: StudyData) -> str:
    """The winner, or the trials that share its place."""
    assert data.winner is not None
    objective = data.spec.objective
    value = f"{objective.metric} {objective.format(data.winner.value(objective.metric) or 0.0)}"
    if data.spec.variants:
        return f"The best single run is {data.winner.id} with {value}; the table of variants compares them over seeds."
    tie = tie_lines(data.trials, data.spec, data.command("winners", data.study))
    if tie:
        best = "lowest" if objective.mode == "min" else "highest"
        return f"A tie: {tie[0].partition(': run')[0]}. {data.winner.id} has the {best} number, {value}."
    return f"The winner is {data.winner.id} with {value}. It is the best of {len(data.trials)} by one run."


def _steps(data: StudyData, winner: str) -> list[NextStep]:
    study, steps = data.study, []
    if data.spec.variants:
        steps.append(
            NextStep(data.command("ablate", study), "compares the variants with the baseline over the seeds they share")
        )
    else:
        why = "trains the best again with fresh seeds: the best of many trials is partly the luckiest"
        tied = len(near_ties(data.trials, data.spec))
        top = ("--top", str(min(tied, 5))) if tied > 1 else ()
        steps.append(NextStep(data.command("winners", study, *top), why))
    steps += [*_at_bounds(data), *(NextStep("", line) for line in _collapsed(data))]
    steps += _audit(data)
    steps.append(NextStep(data.command("reproduce", winner), "runs the winner again and compares every metric"))
    steps.append(NextStep(f"{data.command('config', winner)} > best.yaml", "writes its whole configuration"))
    return steps


def _at_bounds(data: StudyData) -> list[NextStep]:
    """The ranges at whose end the winner is: the best may be beyond. One command for those that can be doubled
    (on a log scale: by a factor of ten), a line for each of the others."""
    assert data.winner is not None
    steps, wider = [], []
    for axis in data.axes:
        if axis.kind == "category" or axis.path not in data.winner.params:
            continue
        place = axis.unit(data.winner.params[axis.path])
        end = "low" if place < AT_BOUND else "high" if place > 1 - AT_BOUND else None
        if end is None:
            continue
        value = value_text(data.winner.params[axis.path])
        where = f"{axis.path} of the winner, {value}, is at the {'lower' if end == 'low' else 'upper'} end of its range"
        bound = _further(data.spec.search_space[axis.path], end)
        if bound is None:
            steps.append(NextStep("", f"{where}: widen the range there."))
        else:
            wider.append((where, f"search_space.{axis.path}.{end}={bound:.12g}"))
    if wider:
        changes = [f"name={data.study}_wide", *(change for _, change in wider)]
        words = [word for change in changes for word in ("--set", change)]
        why = f"a new study beyond the range: {'; '.join(where for where, _ in wider)}"
        steps.insert(0, NextStep(data.command("run", "SPEC", *words), why))
    return steps


def _further(dimension: Dimension, end: str) -> float | None:
    """A bound beyond the end, `low` or `high`; None where a list of values, a prior or zero is in the way."""
    if not isinstance(dimension, FloatDimension | IntDimension) or dimension.prior is not None:
        return None
    if isinstance(dimension, FloatDimension) and dimension.values:
        return None
    low, high = dimension.low, dimension.high
    if end == "high":
        return high * 10 if dimension.log else high + (high - low)
    lower = low / 10 if dimension.log else low - (high - low)
    if low >= 0 > lower or (isinstance(dimension, IntDimension) and not float(lower).is_integer()):
        return None
    return lower


def _collapsed(data: StudyData) -> list[str]:
    count = sum(trial.state is TrialState.COLLAPSED for trial in data.trials)
    if not data.trials or count < MANY_COLLAPSED * len(data.trials):
        return []
    where = "the section Where trials collapse shows where"
    return [f"{count} of {len(data.trials)} trials collapsed: narrow the search space; {where}."]


def _audit(data: StudyData) -> list[NextStep]:
    pruned = sum(trial.state is TrialState.PRUNED for trial in data.trials)
    if not pruned or data.spec.audit:
        return []
    why = f"in the next sweep file shows how many trials are pruned wrongly: {pruned} were pruned here, unaudited"
    return [NextStep("audit: 0.1", why)]


def _parameters(data: StudyData) -> str:
    """What the search has chosen, nested as in a sweep file."""
    assert data.winner is not None
    settings: dict[str, Any] = dict(data.winner.params)
    if VARIANT in settings:
        settings = {**data.spec.variants[str(settings[VARIANT])], **settings}
    base: dict[str, Any] = {}
    for path, value in settings.items():
        if path not in (VARIANT, SEED):
            set_path(base, path, value)
    text: str = yaml.safe_dump({"base": base}, sort_keys=False, allow_unicode=True)
    return f"# {data.winner.id}\n{text}"
