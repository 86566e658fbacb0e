"""The smallest difference that the runs of an ablation can show, before they are run."""

import math
import textwrap
from dataclasses import dataclass
from pathlib import Path

from sweeper.analysis.ablation import baseline_of
from sweeper.analysis.replicates import compare, runs_of_variants
from sweeper.analysis.statistics import detectable_effect
from sweeper.errors import UserError
from sweeper.ledger.studies import open_study, study_dirs
from sweeper.spec.design import resolution_of
from sweeper.spec.model import SpecFile


@dataclass(frozen=True)
class DetectableEffect:
    """What a design can see.

    Attributes:
        pairs: seeds, so pairs of a comparison.
        comparisons: with the baseline, over which p is corrected.
        spread: standard deviation of the paired differences, in the unit of the objective; None: unknown.
        source: where that comes from; empty where it is unknown.
        one: the smallest true difference that one comparison alone shows 4 times in 5; in standard deviations of the
            differences where the spread is unknown. Infinite where n is too small to say.
        corrected: the same after Holm's correction for all comparisons, at its strictest.
    """

    pairs: int
    comparisons: int
    spread: float | None
    source: str
    one: float
    corrected: float


def design_power(spec: SpecFile, home: Path) -> DetectableEffect:
    """What the design of a spec with variants can see.

    The spread is that of the earlier runs of this study, else that of the newest study in the home with the same
    objective and variants over seeds; else what the spec assumes of single runs, times the square root of 2: as if
    pairs had nothing in common.
    """
    pairs, comparisons = max(1, len(spec.seeds)), max(1, len(spec.variants) - 1)
    spread, source = _measured(spec, home)
    if spread is None and spec.ablation is not None and spec.ablation.spread is not None:
        spread = math.sqrt(2) * spec.ablation.spread
        source = f"assumed: {spec.ablation.spread:g} over seeds, by the spec"
    scale = 1.0 if spread is None else spread
    one, corrected = (scale * detectable_effect(pairs, count) for count in (1, comparisons))
    return DetectableEffect(pairs, comparisons, spread, source, one, corrected)


def _measured(spec: SpecFile, home: Path) -> tuple[float | None, str]:
    """The pooled standard deviation of paired differences of an earlier study, and its name."""
    folders = [folder for folder in study_dirs(home) if folder.name != spec.name]
    own = [folder for folder in study_dirs(home) if folder.name == spec.name]
    for folder in (*own, *sorted(folders, key=lambda each: -each.stat().st_mtime)):
        try:
            ledger, other = open_study(home, folder.name)
        except UserError:  # its first run ended before its data were there
            continue
        if not other.variants or len(other.seeds) < 2 or other.objective.metric != spec.objective.metric:
            continue
        runs = runs_of_variants(other, ledger.trials())
        base = next(each for each in runs if each.name == baseline_of(other))
        found = [
            (each.difference.estimate.n - 1, each.difference.estimate.sd)
            for each in compare([(each, base) for each in runs if each is not base])
            if each.difference.estimate.n > 1
        ]
        degrees = sum(df for df, _ in found)
        if degrees:
            pooled = math.sqrt(sum(df * sd * sd for df, sd in found) / degrees)
            return pooled, f"measured in {other.name}, {degrees} degrees of freedom"
    return None, ""


def design_power_text(spec: SpecFile, sight: DetectableEffect) -> str:
    """What the design runs and can see, as lines below the plan."""
    names = textwrap.wrap(", ".join(spec.variants), 90)
    lines = [f"  {'' if index else 'runs':<11} {line}" for index, line in enumerate(names)]
    seeds = ", ".join(map(str, spec.seeds)) or "that of its config"
    lines.append(f"  seeds       {seeds}: each run above once with each")
    if spec.ablation is not None and (resolution := resolution_of(spec.ablation.generators)):
        mixed = "main effects are mixed with two-way interactions" if resolution == 3 else "main effects stand clear"
        lines.append(f"  resolution  {resolution}: {mixed}")
    if math.isinf(sight.one):
        return "\n".join([*lines, f"  sees        nothing: n is too small to say anything with {sight.pairs} seeds"])
    if sight.spread is None:
        seen = [f"{value:.2f} standard deviations of the differences" for value in (sight.one, sight.corrected)]
        source = "  spread      unknown: no study with seeds in this home, and no `ablation.spread`"
    else:
        seen = [spec.objective.format(value) for value in (sight.one, sight.corrected)]
        source = f"  spread      {spec.objective.format(sight.spread)} of paired differences ({sight.source})"
    lines.append(f"  sees        differences from {seen[0]} on, 4 times in 5 ({sight.pairs} pairs)")
    if sight.comparisons > 1:
        lines.append(f"              from {seen[1]} on after correction for {sight.comparisons} comparisons")
    return "\n".join([*lines, source])
