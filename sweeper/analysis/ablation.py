"""What an ablation found: variants against the baseline over shared seeds, main effects and interactions. Pure.

All p-values of a result are one family: variants, main effects and interactions are corrected together, so at most 5 %
of results claim a difference where there is none.

An effect is estimated separately for each seed, from all runs of the design with that seed, and averaged over the
seeds: so its interval says how much it depends on the seed. Imports scipy, so import it late.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from sweeper.analysis.power import DetectableEffect, pairing_text, power_of, power_text
from sweeper.analysis.replicates import (
    Comparison,
    VariantRuns,
    compare,
    constant_error,
    runs_of_variants,
    verdict_of,
)
from sweeper.analysis.statistics import Difference, holm, mean_difference
from sweeper.errors import UserError
from sweeper.ledger.trial import TrialRecord
from sweeper.search_space.dimensions import ParamValue
from sweeper.search_space.paths import short_names
from sweeper.spec.design import (
    BASELINE,
    DesignRun,
    baseline_levels,
    defining_words,
    factors_of,
    letters_of,
    resolution_of,
    runs_of,
)
from sweeper.spec.model import SpecFile
from sweeper.spec.objective import Objective

FACTORIALS = ("full_factorial", "fractional_factorial")
Where = Mapping[str, str]
"""Factor -> level: the runs that have these levels."""


@dataclass(frozen=True)
class Row:
    """One variant.

    Attributes:
        variant: its name.
        levels: factor -> level; empty if the design has no factors.
        runs: the results of its runs.
        comparison: with the baseline, variant minus baseline, over the seeds that both have; None for the baseline.
    """

    variant: str
    levels: Mapping[str, str]
    runs: VariantRuns
    comparison: Comparison | None


@dataclass(frozen=True)
class Effect:
    """A main effect, or a two-way interaction, of a factorial.

    A main effect is the mean over all runs with the level minus that with the baseline's level. An interaction is half
    the change of one factor's effect from one level of the other to the other (Montgomery, Design and Analysis of
    Experiments, chapter 6).

    Attributes:
        name: `joint: 5 against 0`, or `joint x pca`.
        difference: in the unit of the objective, with its interval over the seeds.
        p_holm: corrected for all that the result compares; NaN where there is none.
        aliases: two-way interactions that are the same contrast in a fraction, with a sign: part of what is seen may
            be theirs.
    """

    name: str
    difference: Difference
    p_holm: float
    aliases: tuple[str, ...]


@dataclass(frozen=True)
class AblationResult:
    """The result of an ablation.

    Attributes:
        study: its name.
        objective: what variants are judged by.
        design: of the spec; `variants` if it names none.
        resolution: of a fraction, 3 for III; else None.
        baseline: the variant that the others are compared with.
        seeds: with which each variant is trained.
        rows: the variants, in the order of the spec.
        main_effects: of a factorial; else none.
        interactions: of a factorial, two-way; else none.
        power: what comparisons of variants can see.
        effects_power: what main effects can see, which are means over many runs; None where there are none.
        opening: what can be seen and how it is compared, to be read before the tables.
        sentences: the result in words, what is missing first.
    """

    study: str
    objective: Objective
    design: str
    resolution: int | None
    baseline: str
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    main_effects: tuple[Effect, ...]
    interactions: tuple[Effect, ...]
    power: DetectableEffect
    effects_power: DetectableEffect | None
    opening: tuple[str, ...]
    sentences: tuple[str, ...]


def ablation_result(
    study: str,
    spec: SpecFile,
    trials: Sequence[TrialRecord],
    baseline: str | None = None,
    controls: Sequence[TrialRecord] = (),
) -> AblationResult:
    """What the runs of a study with variants say so far.

    Args:
        study: its name.
        spec: the spec it was started with.
        trials: its candidates.
        baseline: a variant to compare with, instead of the spec's.
        controls: of the study, for the error of the constant pose.

    Raises:
        UserError: the study has no variants, or none of this name.
    """
    name = _known_baseline(study, spec, baseline)
    constant = constant_error([*controls, *trials], spec.objective)
    runs = {each.name: each for each in runs_of_variants(spec, trials, constant)}
    others = [each for each in runs.values() if each.name != name]
    comparisons = compare([(other, runs[name]) for other in others])
    design = {run.name: run for run in runs_of(spec.ablation)} if spec.ablation else {}
    mains, pairs, notes = _effects(spec, list(design.values()), runs)
    comparisons, mains, pairs = _corrected(comparisons, mains, pairs)
    compared = {each.first: each for each in comparisons}
    rows = [
        Row(each.name, design[each.name].levels if each.name in design else {}, each, compared.get(each.name))
        for each in runs.values()
    ]
    seeds, family = max(1, len(spec.seeds)), len(comparisons) + len(mains) + len(pairs)
    power = power_of([each.difference for each in comparisons], seeds, family)
    effects_power = power_of([each.difference for each in mains], seeds, family) if mains else None
    return AblationResult(
        study=study,
        objective=spec.objective,
        design=spec.ablation.design if spec.ablation else "variants",
        resolution=resolution_of(spec.ablation.generators) if spec.ablation else None,
        baseline=name,
        seeds=spec.seeds,
        rows=tuple(rows),
        main_effects=tuple(mains),
        interactions=tuple(pairs),
        power=power,
        effects_power=effects_power,
        opening=tuple(_opening(spec.objective, power, effects_power, comparisons)),
        sentences=(*_missing(spec, rows), *notes, *(verdict_of(each, spec.objective) for each in compared.values())),
    )


def _known_baseline(study: str, spec: SpecFile, asked_for: str | None) -> str:
    if not spec.variants:
        raise UserError(
            f"the study `{study}` has no variants to compare",
            help="`sweeper winners` compares the best trials of a search",
        )
    name = asked_for or baseline_of(spec)
    if name not in spec.variants:
        raise UserError(f"no variant `{name}` in the study `{study}`", help=f"they are {', '.join(spec.variants)}")
    return name


def baseline_of(spec: SpecFile) -> str:
    """The variant that the others of a spec are compared with."""
    if spec.ablation is None or spec.ablation.design == "variants":
        written = spec.ablation.baseline if spec.ablation else None
        return written if isinstance(written, str) else next(iter(spec.variants))
    return BASELINE


def family_size(spec: SpecFile) -> int:
    """How many p-values, corrected together, the result of a spec with variants has; at least 1."""
    design = list(runs_of(spec.ablation)) if spec.ablation else []
    nothing = {name: VariantRuns(name, {}, 0, 0, 0, 0, 0) for name in spec.variants}
    mains, pairs, _ = _effects(spec, design, nothing)
    return max(1, len(spec.variants) - 1 + len(mains) + len(pairs))


def _opening(
    objective: Objective, power: DetectableEffect, effects: DetectableEffect | None, comparisons: Sequence[Comparison]
) -> Iterator[str]:
    yield power_text(power, objective, "differences of variants")
    if effects is not None:
        yield power_text(effects, objective, "main effects")
    if said := pairing_text(comparisons):
        yield said


def _missing(spec: SpecFile, rows: Sequence[Row]) -> list[str]:
    """What the table lacks, in words: runs still to come, and those that no mean includes."""
    to_come = spec.trials - sum(row.runs.runs for row in rows)
    lines = [f"{to_come} of {spec.trials} runs are still to come"] if to_come > 0 else []
    return lines + [
        f"{row.variant}: {row.runs.losses_text} of {row.runs.runs} runs" for row in rows if row.runs.losses_text
    ]


def _effects(
    spec: SpecFile, design: Sequence[DesignRun], runs: Mapping[str, VariantRuns]
) -> tuple[list[Effect], list[Effect], list[str]]:
    """Main effects, two-way interactions, and what to know of them."""
    ablation = spec.ablation
    if ablation is None or ablation.design not in FACTORIALS:
        return [], [], []
    complete = [seed for seed in spec.seeds if all(seed in runs[run.name].values for run in design)]

    def contrast(*terms: tuple[float, Where]) -> Difference:
        """The sum over terms of a factor times the mean of the runs there, with each seed."""
        values = [sum(factor * _mean(design, runs, where, seed) for factor, where in terms) for seed in complete]
        return mean_difference(values)

    factors = factors_of(ablation.factors)
    base, short = baseline_levels(ablation.design, factors, ablation.baseline), short_names(factors)
    others = {name: [level for level in factor.levels if level != base[name]] for name, factor in factors.items()}
    mains, pairs = [], []
    for one, levels in others.items():
        for level in levels:
            name = f"{short[one]}: {level} against {base[one]}"
            found = contrast((1.0, {one: level}), (-1.0, {one: base[one]}))
            mains.append(Effect(name, found, math.nan, _aliases(ablation.generators, short, one) or ()))
    for one, other in combinations(factors, 2):
        aliases = _aliases(ablation.generators, short, one, other)
        if aliases is None:
            continue
        for level in others[one]:
            for beside in others[other]:
                several = len(others[one]) > 1 or len(others[other]) > 1
                name = f"{short[one]} x {short[other]}" + (f": {level}, {beside}" if several else "")
                found = contrast(
                    (0.5, {one: level, other: beside}),
                    (-0.5, {one: level, other: base[other]}),
                    (-0.5, {one: base[one], other: beside}),
                    (0.5, {one: base[one], other: base[other]}),
                )
                pairs.append(Effect(name, found, math.nan, aliases))
    lost = len(spec.seeds) - len(complete)
    said = f"effects use {len(complete)} of {len(spec.seeds)} seeds: for the others some run is missing"
    return mains, pairs, [said] if lost else []


def _mean(design: Sequence[DesignRun], runs: Mapping[str, VariantRuns], where: Where, seed: ParamValue) -> float:
    """The mean objective of the runs of a design that have these levels, with one seed."""
    there = [run for run in design if all(run.levels[name] == level for name, level in where.items())]
    return float(np.mean([runs[run.name].values[seed] for run in there]))


def _corrected(
    comparisons: Sequence[Comparison], mains: Sequence[Effect], pairs: Sequence[Effect]
) -> tuple[list[Comparison], list[Effect], list[Effect]]:
    """All of a result's p-values, corrected as one family (Holm)."""
    differences = [each.difference for each in comparisons] + [each.difference for each in (*mains, *pairs)]
    ps = iter(holm([each.p for each in differences]))
    return (
        [replace(each, p_holm=next(ps)) for each in comparisons],
        [replace(each, p_holm=next(ps)) for each in mains],
        [replace(each, p_holm=next(ps)) for each in pairs],
    )


def _aliases(generators: Sequence[str], short: Mapping[str, str], *factors: str) -> tuple[str, ...] | None:
    """The two-way interactions that are the same contrast as an effect; None for an interaction that is the same as a
    main effect, or as one that stands before it."""
    names = letters_of(short)
    letters = {name: letter for letter, name in names.items()}
    own = frozenset(letters[name] for name in factors)
    found = []
    for word in defining_words(generators):
        same = own ^ word.letters
        if len(factors) == 2 and (len(same) == 1 or (len(same) == 2 and sorted(same) < sorted(own))):
            return None
        if len(same) == 2:
            sign = "-" if len(word.letters) % 2 else ""  # the baseline, a run in which all factors are low, fixes it
            found.append(sign + " x ".join(short[names[letter]] for letter in sorted(same)))
    return tuple(found)
