"""Everything that is wrong with the data of a spec: its own keys, and whether the trainer's config takes them."""

import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from sweeper.entrypoint.resolve import DEFAULT_TRAINER, config_class, offered_controls
from sweeper.errors import UserError
from sweeper.redaction import is_secret
from sweeper.search_space.dimensions import (
    AnyDimension,
    CategoricalDimension,
    FloatDimension,
    IntDimension,
    dimensions_of,
    extremes,
)
from sweeper.search_space.paths import set_path
from sweeper.spec.command import of_command
from sweeper.spec.messages import did_you_mean, dotted, findings_of, leaf_paths, sub_model, unknown_path
from sweeper.spec.model import SEED, TRAINER_PATTERN, SpecFile
from sweeper.spec.sections import CollapseGuard, Objective, ThresholdGuard
from sweeper.spec.validate_design import at_its_level, expand
from sweeper.spec.validate_space import check_space
from sweeper.spec.yaml_reader import KeyPath, SpecFinding

_BRANCHES: Final[dict[str, type[BaseModel]]] = {
    "float": FloatDimension,
    "int": IntDimension,
    "categorical": CategoricalDimension,
    "collapse": CollapseGuard,
    "threshold": ThresholdGuard,
}


def check_spec(data: object) -> tuple[SpecFile | None, list[SpecFinding]]:
    """Validate the data of a spec file.

    Returns:
        The spec, or None where its own keys are wrong; and one finding a path.
    """
    spec = None
    findings = _secrets(data, ())
    data = of_command(data)
    if isinstance(data, dict):
        data, of_ablation = expand(data)
        findings += of_ablation
        findings += [at_its_level(finding, data.get("ablation")) for finding in _check_config(data)]
        findings += check_space(data)
    try:
        spec = SpecFile.model_validate(data)
    except ValidationError as error:
        findings += findings_of(error, data, (), _mend_spec_key)
    first: dict[KeyPath, SpecFinding] = {}
    for finding in findings:
        first.setdefault(finding.path, finding)
    return spec, list(first.values())


def _secrets(data: object, path: KeyPath) -> list[SpecFinding]:
    """A spec is copied into ledger, MLflow and reports, and a config cannot be run again with a secret left out."""
    if isinstance(data, dict):
        return [finding for key, value in data.items() for finding in _secrets(value, (*path, str(key)))]
    if isinstance(data, list):
        return [finding for index, value in enumerate(data) for finding in _secrets(value, (*path, index))]
    key = next((part for part in reversed(path) if isinstance(part, str)), "")
    if path[:1] == ("ledger",) or not isinstance(data, str) or not is_secret(key, data):
        return []
    help = "every record of the study would hold it: let the trainer read it from an environment variable or a file"
    return [SpecFinding(path, "this looks like a secret", help)]


def _mend_spec_key(loc: KeyPath) -> str | None:
    """Help for an unknown key of the spec: the keys that may stand beside it."""
    model: type[BaseModel] = SpecFile
    for part in loc[:-1]:
        if part in _BRANCHES:
            model = _BRANCHES[str(part)]
        elif part == "objective":
            model = Objective
        elif part in model.model_fields:
            model = sub_model(model.model_fields[str(part)].annotation) or model
    known = [info.alias or name for name, info in model.model_fields.items()]
    if model is FloatDimension:
        known.append("choices")  # without it the dimension is taken for a float
    return did_you_mean(str(loc[-1]), known)


def _check_config(data: Mapping[str, Any]) -> list[SpecFinding]:
    """What the trainer's config says to `base` and `search_space`."""
    trainer, base, space = data.get("trainer", DEFAULT_TRAINER), data.get("base", {}), data.get("search_space")
    if not isinstance(trainer, str) or not re.fullmatch(TRAINER_PATTERN, trainer):
        return []  # the spec's own model says what is wrong
    try:
        model = config_class(trainer)
    except UserError as error:
        return [SpecFinding(("trainer",), problem.what, problem.help) for problem in error.problems]
    base = base if isinstance(base, dict) else {}
    space = space if isinstance(space, dict) else {}
    variants = data.get("variants")
    findings = _check_controls(model, data.get("controls"))
    if model is not None and data.get("replicate_seed") == "per_trial" and "seed" not in model.model_fields:
        findings.append(SpecFinding(("replicate_seed",), "the trainer's config has no `seed` to vary"))
    if data.get("seeds"):
        findings += _check_seeds(model, base, variants)
    if isinstance(variants, dict) and variants:
        for name, settings in variants.items():
            findings += _check_variant(model, base, name, settings) if isinstance(settings, dict) else []
        return findings
    if model is None:
        return _check_plain(base, space)
    base_findings = _config_findings(model, base, ("base",))
    findings += [finding for finding in base_findings if not _filled_by_space(finding, space)]
    dimensions = dimensions_of(space)
    for key in space:
        problem = unknown_path(model, key)
        if problem is not None:
            what, help = problem
            findings.append(SpecFinding(("search_space", key), what, help, at_key=True))
        else:
            findings += _check_dimension(model, base, key, dimensions, base_findings)
    return findings


def _check_seeds(model: type[BaseModel] | None, base: Mapping[str, Any], variants: object) -> list[SpecFinding]:
    """Whether the config has a seed, which nothing but `seeds` sets."""
    if model is not None and SEED not in model.model_fields:
        return [SpecFinding(("seeds",), "the trainer's config has no `seed` to vary")]
    named = variants.items() if isinstance(variants, dict) else ()
    places: list[KeyPath] = [("base", SEED)] if SEED in base else []
    places += [("variants", name, SEED) for name, settings in named if isinstance(settings, dict) and SEED in settings]
    return [SpecFinding(place, "`seeds` sets this field too", "leave it out", at_key=True) for place in places]


def _check_controls(model: type[BaseModel] | None, controls: object) -> list[SpecFinding]:
    """Whether the trainer offers the controls that are asked for."""
    offered = offered_controls(model)
    names = controls if isinstance(controls, list) else []
    return [
        SpecFinding(("controls", index), f"the trainer offers no control `{name}`", did_you_mean(str(name), offered))
        for index, name in enumerate(names)
        if isinstance(name, str) and name not in offered
    ]


def _check_variant(
    model: type[BaseModel] | None, base: Mapping[str, Any], name: str, settings: Mapping[str, Any]
) -> list[SpecFinding]:
    """What the config says to one variant, each thing at the variant's key if it set it, else in base."""
    config, findings = deepcopy(dict(base)), []
    for key, value in settings.items():
        problem = unknown_path(model, key) if model else None
        try:
            set_path(config, key, value)
        except TypeError as error:
            problem = problem or (str(error), None)
        if problem is not None:
            findings.append(SpecFinding(("variants", name, key), *problem, at_key=True))
    if findings or model is None:
        return findings
    for finding in _config_findings(model, config, ()):
        path = dotted(finding.path)
        setter = next((key for key in settings if f"{path}.".startswith(f"{key}.")), None)
        place = (
            ("variants", name)
            if not path
            else ("base", *finding.path)
            if setter is None
            else ("variants", name, setter)
        )
        findings.append(finding._replace(path=place, at_key=finding.at_key or not path))
    return findings


def _check_plain(base: Mapping[str, Any], space: Mapping[str, Any]) -> list[SpecFinding]:
    """Whether the parameters fit into a base that no model describes: no value may stand where a section must."""
    config, findings = deepcopy(dict(base)), []
    for key in space:
        try:
            set_path(config, key, 0)
        except TypeError as error:
            findings.append(SpecFinding(("search_space", key), str(error), at_key=True))
    return findings


def _filled_by_space(finding: SpecFinding, space: Mapping[str, Any]) -> bool:
    """Whether a key that is missing in base is set by the search space."""
    path = dotted(finding.path[1:])
    return finding.what.startswith("missing key") and any(
        f"{key}.".startswith(f"{path}.") and not (isinstance(raw, dict) and raw.get("when"))
        for key, raw in space.items()
    )


def _config_findings(model: type[BaseModel], config: Mapping[str, Any], root: KeyPath) -> list[SpecFinding]:
    def mend(loc: KeyPath) -> str | None:
        return did_you_mean(dotted(loc), leaf_paths(model))

    try:
        model.model_validate(config)
    except ValidationError as error:
        return findings_of(error, config, root, mend)
    return []


def _check_dimension(
    model: type[BaseModel],
    base: Mapping[str, Any],
    key: str,
    space: Mapping[str, AnyDimension],
    base_findings: list[SpecFinding],
) -> list[SpecFinding]:
    """Whether the config takes both ends, or every choice, of a dimension, beside what its `when` asks for."""
    if key not in space:
        return []  # the spec's own model says what is wrong
    dimension, findings = space[key], []
    beside, known = deepcopy(dict(base)), base_findings
    try:
        for path, needed in _needed(space, key).items():
            set_path(beside, path, needed)
            known = _config_findings(model, beside, ("base",))
        set_path(deepcopy(beside), key, 0)
    except TypeError:
        return []  # a section of base is no mapping, which is found there
    for below, value in extremes(dimension):
        config = deepcopy(beside)
        set_path(config, key, value)
        new = [finding for finding in _config_findings(model, config, ("base",)) if finding not in known]
        for finding in new:
            if isinstance(dimension, FloatDimension) and finding.what.startswith("expected a whole number"):
                what = f"`{key}` is a whole number, and this dimension samples real numbers"
                return [SpecFinding(("search_space", key), what, "add `type: int`", at_key=True)]
            findings.append(SpecFinding(("search_space", key, *below), finding.what, finding.help))
    return findings


def _needed(space: Mapping[str, AnyDimension], key: str) -> dict[str, object]:
    """What the parameters above have to be for the parameter to exist: the first values that `when` names."""
    needed: dict[str, object] = {}
    pending = [key]
    while pending:
        for parent, allowed in space[pending.pop()].when.items():
            if parent in space and parent not in needed:
                needed[parent] = allowed[0]
                pending.append(parent)
    return needed
