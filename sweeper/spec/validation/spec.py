"""Everything that is wrong with the data of a spec: its own keys, and whether the trainer's config takes them."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from sweeper.entrypoint.resolve import DEFAULT_TRAINER, config_class, current_name, offered_controls
from sweeper.errors import UserError
from sweeper.redaction import is_secret
from sweeper.search_space.dimensions import CategoricalDimension, FloatDimension, IntDimension
from sweeper.search_space.paths import set_path
from sweeper.spec.command import COMMAND, of_command
from sweeper.spec.draft import Draft
from sweeper.spec.model import SEED, SpecFile
from sweeper.spec.objective import Objective
from sweeper.spec.reading.messages import did_you_mean, dotted, findings_of, sub_model, unknown_path
from sweeper.spec.reading.yaml_reader import KeyPath, SpecFinding
from sweeper.spec.run_length import two_graces, with_grace_epochs
from sweeper.spec.sections import CollapseGuard, PlateauGuard, ThresholdGuard
from sweeper.spec.validate_command import check_command
from sweeper.spec.validation.config import check_plain, check_search_space, config_findings
from sweeper.spec.validation.design import at_its_level, expand
from sweeper.spec.validation.space import check_space

_BRANCHES: Final[dict[str, type[BaseModel]]] = {
    "float": FloatDimension,
    "int": IntDimension,
    "categorical": CategoricalDimension,
    "collapse": CollapseGuard,
    "threshold": ThresholdGuard,
    "plateau": PlateauGuard,
}


def check_spec(data: object) -> tuple[SpecFile | None, list[SpecFinding]]:
    """Validate the data of a spec file.

    Returns:
        The spec, or None where its own keys are wrong; and one finding per path.
    """
    spec = None
    findings = _secrets(data, ())
    data = of_command(data)
    if isinstance(data, dict):
        data, of_ablation = expand(data)
        findings += of_ablation
        draft = Draft.model_validate(data)
        findings += [at_its_level(finding, data.get("ablation")) for finding in _check_config(draft)]
        findings += [*check_space(draft), *check_command(data.get(COMMAND), draft), *two_graces(data)]
    try:
        spec = SpecFile.model_validate(data)
    except ValidationError as error:
        findings += findings_of(error, data, (), _mend_spec_key)
    if spec is not None and spec.resources.gpus > 1 and current_name(spec.trainer) == DEFAULT_TRAINER:
        what = f"{DEFAULT_TRAINER} trains on one GPU, but got {spec.resources.gpus:g}: the others would be idle"
        help = "set it to 1 and let several trials run at once: resources.concurrent"
        findings.append(SpecFinding(("resources", "gpus"), what, help))
    if spec is not None and not findings:
        spec, findings = with_grace_epochs(spec)
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
    """Help for an unknown key of the spec: the keys that are valid beside it."""
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
        known.append("choices")  # without it the dimension is assumed to be a float
    return did_you_mean(str(loc[-1]), known)


def _check_config(draft: Draft) -> list[SpecFinding]:
    """What the trainer's config says about everything that becomes one."""
    if draft.trainer is None:
        return []  # the spec's own model says what is wrong
    try:
        model = config_class(draft.trainer)
    except UserError as error:
        return [SpecFinding(("trainer",), problem.what, problem.help) for problem in error.problems]
    findings = _check_controls(model, draft.controls or ())
    if model is not None and draft.replicate_seed == "per_trial" and "seed" not in model.model_fields:
        findings.append(SpecFinding(("replicate_seed",), "the trainer's config has no `seed` to vary"))
    if model is not None and draft.replicate and SEED not in model.model_fields:
        findings.append(SpecFinding(("replicate",), "the trainer's config has no `seed` to vary"))
    variants = {name: settings for name, settings in (draft.variants or {}).items() if settings is not None}
    base = draft.base or {}
    if draft.seeds:
        findings += _check_seeds(model, base, variants)
    if draft.variants:
        return findings + [
            finding for name, settings in variants.items() for finding in _check_variant(model, base, name, settings)
        ]
    return findings + (check_plain(draft) if model is None else check_search_space(model, draft))


def _check_seeds(
    model: type[BaseModel] | None, base: Mapping[str, Any], variants: Mapping[str, Mapping[str, Any]]
) -> list[SpecFinding]:
    """Whether the config has a seed, which nothing but `seeds` sets."""
    if model is not None and SEED not in model.model_fields:
        return [SpecFinding(("seeds",), "the trainer's config has no `seed` to vary")]
    places: list[KeyPath] = [("base", SEED)] if SEED in base else []
    places += [("variants", name, SEED) for name, settings in variants.items() if SEED in settings]
    return [SpecFinding(place, "`seeds` sets this field too", "leave it out", at_key=True) for place in places]


def _check_controls(model: type[BaseModel] | None, controls: Sequence[str | None]) -> list[SpecFinding]:
    """Whether the trainer offers the controls that are asked for."""
    offered = offered_controls(model)
    return [
        SpecFinding(("controls", index), f"the trainer offers no control `{name}`", did_you_mean(name, offered))
        for index, name in enumerate(controls)
        if name is not None and name not in offered
    ]


def _check_variant(
    model: type[BaseModel] | None, base: Mapping[str, Any], name: str, settings: Mapping[str, Any]
) -> list[SpecFinding]:
    """What the config says about one variant, each thing at the variant's key if it set it, otherwise in base."""
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
    for finding in config_findings(model, config, ()):
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
