"""Whether the section `ablation` of a spec makes sense, and the spec with the variants that it stands for."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import ValidationError

from sweeper.spec.design import (
    BASELINE,
    Ablation,
    Factor,
    baseline_levels,
    design_runs,
    factors_of,
    level_name,
    runs_of,
    variants_of,
)
from sweeper.spec.model import VARIANT_PATTERN
from sweeper.spec.reading.messages import did_you_mean, dotted, show
from sweeper.spec.reading.yaml_reader import KeyPath, SpecFinding
from sweeper.spec.validation.generators import check_fraction, check_generators

NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]*")
NAME_WORDS: Final = "lower-case letters, digits, `.`, `_` and `-`"
FACTORS: Final = ("ablation", "factors")
TWO_LEVEL: Final = ("leave_one_out", "add_one_in", "fractional_factorial")
KEPT: Final = ("search_space", "trials", "variants")
"""Keys that the design sets itself."""


def expand(data: Mapping[str, Any]) -> tuple[dict[str, Any], list[SpecFinding]]:
    """The spec with the design's runs as `variants`, and what is wrong with the section; its single keys are checked by
    the model of the spec. Where something is wrong the variants are one that changes nothing, so that the rest of the
    spec can be checked."""
    section, kind = data.get("ablation"), data.get("kind")
    own: dict[str, Any] = {"variants": {BASELINE: {}}, "scheduler": {"name": "none"}, **data}
    if section is None and kind != "ablation":
        return dict(data), []
    if section is None:
        return own, [_at_key(("ablation",), "missing key `ablation`", "add `ablation:`, or leave out `kind`")]
    findings = []
    if kind != "ablation":
        findings.append(_at_key(("ablation",), "missing key `kind`", "add `kind: ablation`"))
    if not data.get("seeds"):
        help = "one run of each says nothing: add `seeds: [0, 1, 2, 3, 4]`"
        findings.append(SpecFinding(("seeds",), "missing key `seeds`", help))
    try:
        ablation = Ablation.model_validate(section)
    except ValidationError:  # the spec's own model says what is wrong
        return own, findings
    if ablation.design == "variants":
        return own, findings + _check_variants_design(ablation, data)
    findings += [
        _at_key((key,), f"`{key}` and a design with factors cannot be used together")
        for key in KEPT
        if key in data and key != "trials"
    ]
    found = _problems(ablation)
    if not found:
        own["variants"] = variants_of(ablation)
    return own, findings + found


def _problems(ablation: Ablation) -> list[SpecFinding]:
    return list(_check_factors(ablation)) or list(_check_design(ablation))


def _at_key(path: KeyPath, what: str, help: str | None = None) -> SpecFinding:
    return SpecFinding(path, what, help, at_key=True)


def _check_variants_design(ablation: Ablation, data: Mapping[str, Any]) -> list[SpecFinding]:
    variants = data.get("variants")
    names = list(variants) if isinstance(variants, dict) else []
    if not names:
        return [
            SpecFinding(("variants",), "missing key `variants`", "the design `variants` compares those that are named")
        ]
    if ablation.factors or ablation.generators:
        key = "factors" if ablation.factors else "generators"
        return [_at_key(("ablation", key), f"the design `variants` has no `{key}`", "leave it out")]
    if ablation.baseline is None or ablation.baseline in names:
        return []
    return [_not_among(("ablation", "baseline"), "the baseline", str(ablation.baseline), names, "variants")]


def _not_among(path: KeyPath, what: str, name: str, known: list[str], of: str) -> SpecFinding:
    return SpecFinding(path, f"{what} {show(name)} is not among the {of}", did_you_mean(name, known))


def _check_factors(ablation: Ablation) -> Iterator[SpecFinding]:
    """What is wrong with the factors on their own."""
    if not ablation.factors:
        yield SpecFinding(FACTORS, "missing key `factors`", "add `factors:`, each with its levels")
    for name, raw in ablation.factors.items():
        place = (*FACTORS, name)
        if not isinstance(raw, list | tuple | dict):
            yield SpecFinding(
                place, f"expected a list or a mapping of levels but got {show(raw)}", "such as [0.1, 1.0]"
            )
            continue
        broken = list(_check_levels(place, raw))
        yield from broken
        if broken:
            continue
        if len(raw) < 2:
            yield SpecFinding(place, f"a factor needs at least 2 levels but got {len(raw)}")
        elif len(raw) != 2 and ablation.design in TWO_LEVEL:
            yield SpecFinding(
                place, f"the design `{ablation.design}` has factors of 2 levels, but this one has {len(raw)}"
            )
    yield from _check_shared(ablation.factors)


def _check_levels(place: KeyPath, raw: Any) -> Iterator[SpecFinding]:
    if isinstance(raw, dict):
        for level, settings in raw.items():
            if not isinstance(settings, dict):
                what = f"expected a mapping of config fields but got {show(settings)}"
                yield SpecFinding((*place, level), what, "for example {loss.lambda_joint: 5.0}")
            if not NAME.fullmatch(level):
                yield _at_key((*place, level), f"expected a name of {NAME_WORDS}, but got {show(level)}")
        return
    names = Counter(level_name(value) for value in raw)
    for index, value in enumerate(raw):
        if not isinstance(value, bool | int | float | str):
            yield SpecFinding((*place, index), f"expected a string, a number, true or false, but got {show(value)}")
        elif names[level_name(value)] > 1:
            yield SpecFinding((*place, index), f"the level {show(value)} appears twice", "remove one of the two")
            return
        elif not NAME.fullmatch(level_name(value).lstrip("-")):
            help = "name the levels: {name: {path: value}}"
            yield SpecFinding((*place, index), f"the level {show(value)} cannot be part of a variant's name", help)


def _check_shared(raw: Mapping[str, Any]) -> Iterator[SpecFinding]:
    """Two factors must not set the same field: what a run trains would depend on their order."""
    setter: dict[str, str] = {}
    for name, levels in raw.items():
        if isinstance(levels, list | tuple):
            paths: dict[str, KeyPath] = {name: (*FACTORS, name)}
        elif isinstance(levels, dict):
            pairs = [(level, path) for level, each in levels.items() if isinstance(each, dict) for path in each]
            paths = {path: (*FACTORS, name, level, path) for level, path in reversed(pairs)}
        else:
            paths = {}
        for path, place in paths.items():
            if path in setter:
                yield _at_key(place, f"the factor `{setter[path]}` sets `{path}` too", "make the two one factor")
            setter.setdefault(path, name)


def _check_design(ablation: Ablation) -> Iterator[SpecFinding]:
    """What is wrong between factors, baseline and generators."""
    factors = factors_of(ablation.factors)
    baseline = list(_check_baseline(ablation, factors))
    yield from baseline
    if ablation.design == "fractional_factorial":
        generators = list(check_generators(ablation, factors))
        yield from generators
        if not generators and not baseline:
            yield from check_fraction(ablation, factors)
        if generators or baseline:
            return
    elif ablation.generators:
        what = f"the design `{ablation.design}` has no generators"
        yield _at_key(("ablation", "generators"), what, "leave them out, or use `fractional_factorial`")
        return
    if not baseline:
        yield from _check_names(ablation, factors)


def _check_baseline(ablation: Ablation, factors: Mapping[str, Factor]) -> Iterator[SpecFinding]:
    written, place = ablation.baseline, ("ablation", "baseline")
    if written is None:
        return
    if ablation.design in ("leave_one_out", "add_one_in"):
        help = f"it is every factor at its {'second' if ablation.design == 'leave_one_out' else 'first'} level"
        yield _at_key(place, f"the design `{ablation.design}` determines the baseline by itself", help)
    elif isinstance(written, str):
        example = ", ".join(f"{name}: {next(iter(factor.levels))}" for name, factor in list(factors.items())[:2])
        yield SpecFinding(
            place, f"expected the level of each factor but got {show(written)}", f"for example {{{example}}}"
        )
    else:
        for name, value in written.items():
            if name not in factors:
                yield _at_key((*place, name), f"there is no factor {show(name)}", did_you_mean(name, list(factors)))
            elif level_name(value) not in factors[name].levels:
                known = list(factors[name].levels)
                yield _not_among((*place, name), "the baseline", level_name(value), known, f"levels of `{name}`")


def _check_names(ablation: Ablation, factors: Mapping[str, Factor]) -> Iterator[SpecFinding]:
    """Each run's name must be a valid variant name, and unique."""
    levels = baseline_levels(ablation.design, factors, ablation.baseline)
    names = Counter(run.name for run in design_runs(ablation.design, factors, levels, ablation.generators))
    for name, count in names.items():
        if not re.fullmatch(VARIANT_PATTERN, name):
            long = f"the name of a run, `{name[:40]}...`, has {len(name)} characters, more than 64"
            what = long if len(name) > 64 else f"the name of a run, `{name}`, is not of {NAME_WORDS}"
            yield _at_key(FACTORS, what, "shorten the names of factors and levels")
            return
        if count > 1:
            yield _at_key(FACTORS, f"two runs have the name `{name}`", "rename a factor or a level")
            return


def at_its_level(finding: SpecFinding, section: object) -> SpecFinding:
    """What the trainer's config says about a run, at the level of the factor that caused it."""
    if section is None or len(finding.path) < 2 or finding.path[0] != "variants":
        return finding
    try:
        ablation = Ablation.model_validate(section)
    except ValidationError:  # then the variants are one that changes nothing
        return finding._replace(path=("base",), at_key=True)
    if ablation.design == "variants":
        return finding
    if _problems(ablation):
        return finding._replace(path=("base",), at_key=True)
    run = next((run for run in runs_of(ablation) if run.name == finding.path[1]), None)
    factors = factors_of(ablation.factors)
    key = finding.path[2] if len(finding.path) > 2 else None
    for name, level in run.levels.items() if run and key else ():
        if key in factors[name].levels[level]:
            written = ablation.factors[name]
            if isinstance(written, dict):
                return finding._replace(path=(*FACTORS, name, level, str(key), *finding.path[3:]))
            if finding.what.startswith("unknown key") or finding.at_key:
                return finding._replace(path=(*FACTORS, name), at_key=True)
            return finding._replace(path=(*FACTORS, name, list(factors[name].levels).index(level)))
    where = f"run `{finding.path[1]}`" if run is None or key is None else dotted(finding.path[2:])
    return finding._replace(path=("ablation",), what=f"{where}: {finding.what}", at_key=True)
