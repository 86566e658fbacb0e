"""The smallest difference that the runs of an ablation can show, before they are run."""

import math
import textwrap
from pathlib import Path

from sweeper.analysis.ablation import baseline_of, family_size
from sweeper.analysis.power import DetectableEffect, detectable
from sweeper.analysis.replicates import compare, runs_of_variants
from sweeper.analysis.statistics import pooled_sd
from sweeper.errors import UserError
from sweeper.ledger.studies import open_study, study_dirs
from sweeper.spec.design import resolution_of
from sweeper.spec.model import SpecFile


def design_power(spec: SpecFile, home: Path, comparisons: int | None = None) -> DetectableEffect:
    """What the design of a spec with variants can see.

    The spread is that of the earlier runs of this study; without any, that of the newest study in the home with the
    same objective and variants over seeds; failing that, what the spec assumes for single runs times the square root of
    2, as if pairs had nothing in common.

    Args:
        spec: with variants.
        home: the study home.
        comparisons: that p is corrected for; None: those of `sweeper ablate`.
    """
    pairs, comparisons = max(1, len(spec.seeds)), comparisons or family_size(spec)
    spread, source = _measured(spec, home)
    if spread is None and spec.ablation is not None and spec.ablation.spread is not None:
        spread = math.sqrt(2) * spec.ablation.spread
        source = f"{spec.ablation.spread:g} over seeds assumed by the spec"
    return detectable(pairs, comparisons, spread, source)


def _measured(spec: SpecFile, home: Path) -> tuple[float | None, str]:
    """The pooled standard deviation of paired differences of an earlier study, and its name."""
    folders = [folder for folder in study_dirs(home) if folder.name != spec.name]
    own = [folder for folder in study_dirs(home) if folder.name == spec.name]
    for folder in (*own, *sorted(folders, key=lambda each: -each.stat().st_mtime)):
        try:
            ledger, other = open_study(home, folder.name)
        except UserError:  # its first run ended before its data were ready, or `sweeper list` says why not
            continue
        if not other.variants or len(other.seeds) < 2 or other.objective.metric != spec.objective.metric:
            continue
        runs = runs_of_variants(other, ledger.trials())
        base = next(each for each in runs if each.name == baseline_of(other))
        found = compare([(each, base) for each in runs if each is not base])
        spread, degrees = pooled_sd([each.difference for each in found])
        if degrees:
            return spread, f"measured in {other.name}, {degrees} degrees of freedom"
    return None, ""


def design_power_text(spec: SpecFile, sight: DetectableEffect) -> str:
    """What the design runs and can detect, as lines below the plan."""
    names = textwrap.wrap(", ".join(spec.variants), 90)
    lines = [f"  {'' if index else 'runs':<11} {line}" for index, line in enumerate(names)]
    seeds = ", ".join(map(str, spec.seeds)) or "that of its config"
    lines.append(f"  seeds       {seeds}: every run above once with each")
    if spec.ablation is not None and (resolution := resolution_of(spec.ablation.generators)):
        mixed = "main effects are mixed with two-way interactions" if resolution == 3 else "main effects are clear"
        lines.append(f"  resolution  {resolution}: {mixed}")
    if math.isinf(sight.one):
        return "\n".join([*lines, f"  sees        nothing: {sight.pairs} seeds are too few to say anything"])
    if sight.spread is None:
        seen = [f"{value:.2f} standard deviations of the differences" for value in (sight.one, sight.corrected)]
        source = "  spread      unknown: no study with seeds in this home, and no `ablation.spread`"
    else:
        seen = [spec.objective.format(value) for value in (sight.one, sight.corrected)]
        source = f"  spread      {spec.objective.format(sight.spread)} of paired differences ({sight.source})"
    lines.append(f"  sees        differences of {seen[0]} or more, 4 times in 5 ({sight.pairs} pairs)")
    if sight.comparisons > 1:
        lines.append(f"              {seen[1]} or more after correction for {sight.comparisons} comparisons")
    return "\n".join([*lines, source])
