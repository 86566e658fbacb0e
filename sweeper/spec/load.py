"""The sweep spec: read a sweep file, and make the config of one trial. Imports no torch, ray, optuna, mlflow."""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sweeper.entrypoint.resolve import config_class, offered_controls
from sweeper.errors import Problem, SpecError
from sweeper.search_space.conditions import example
from sweeper.search_space.dimensions import ParamValue, leaves, set_path
from sweeper.spec.messages import dotted, findings_of
from sweeper.spec.model import SEED, VARIANT, SpecFile
from sweeper.spec.overrides import apply_overrides, override_place
from sweeper.spec.sections import (
    Budget,
    CollapseGuard,
    Guard,
    Objective,
    Resources,
    SamplerConfig,
    SchedulerConfig,
    ThresholdGuard,
)
from sweeper.spec.validate import check_spec
from sweeper.spec.yaml_reader import Document, KeyPath, Place, SpecFinding, parse_yaml, read_text

__all__ = [
    "Budget",
    "CollapseGuard",
    "Guard",
    "Objective",
    "Resources",
    "SamplerConfig",
    "SchedulerConfig",
    "SweepSpec",
    "ThresholdGuard",
    "config_class",
    "load_spec",
    "parse_spec",
    "resolve",
    "spec_differences",
    "spec_fingerprint",
]


class SweepSpec(SpecFile):
    """A validated spec, with where it came from."""

    text: str = ""
    """The exact text of the file."""
    path: Path | None = None
    """The file."""
    overrides: tuple[str, ...] = ()
    """The `key=value` given with --set, in order."""

    @property
    def control_names(self) -> tuple[str, ...]:
        """The controls of the study, in the order in which they start."""
        return offered_controls(config_class(self.trainer)) if self.controls is None else self.controls

    @property
    def effective(self) -> dict[str, Any]:
        """The whole spec as plain data: overrides applied, every default of spec and trainer written out.

        This is what a study stores and compares, so a changed default of the trainer shows as a difference.
        """
        spec = self.model_dump(mode="json", exclude={"text", "path", "overrides", "ledger", "checkpoints"})
        spec["controls"] = list(self.control_names)
        if self.variants:
            # Each variant holds all its fields; base is for the controls.
            return spec | {"base": self._base(), "variants": {name: self._leaves_of(name) for name in self.variants}}
        # A conditional parameter may be left to base, whose value counts then.
        always = example(self.search_space)
        spec["base"] = resolve(self, always)
        for key in always:
            *sections, last = key.split(".")
            section = spec["base"]
            for name in sections:
                section = section[name]
            del section[last]
        return spec

    def _base(self) -> dict[str, Any]:
        """`base` with every default, but for the seed where `seeds` sets it; as written where it is no config alone."""
        try:
            base = _validated(self, {})
        except SpecError:
            base = self.base
        return {key: value for key, value in base.items() if not (self.seeds and key == SEED)}

    def _leaves_of(self, variant: str) -> dict[str, Any]:
        """Every field of a variant, but for the seed where `seeds` sets it."""
        fields = leaves(resolve(self, {VARIANT: variant}))
        return {path: value for path, value in fields.items() if not (self.seeds and path == SEED)}


def load_spec(path: Path, overrides: Sequence[str] = (), trials: int | None = None) -> SweepSpec:
    """Read and validate a sweep file.

    Args:
        path: the YAML file.
        overrides: `key=value` with a dotted path of the spec and a YAML value, applied in order.
        trials: replaces the number of trials; kept as the override `trials=N`.

    Raises:
        SpecError: with everything that is wrong with the file and the overrides, each with its place.
    """
    if trials is not None:
        overrides = (*overrides, f"trials={trials}")
    return parse_spec(read_text(path), path, overrides)


def parse_spec(text: str, path: Path, overrides: Sequence[str] = ()) -> SweepSpec:
    """As `load_spec`, for a text that was read before (a study keeps the text of its spec); `path` is for errors."""
    document = parse_yaml(text)
    if any(finding.path == () for finding in document.findings):
        raise SpecError(_problems(document, {}, path, ()))  # the text could not be read to its end
    refused = [finding.path for finding in document.findings]
    places = apply_overrides(document, overrides) if isinstance(document.data, dict) else {}
    spec, findings = check_spec(document.data)
    document.findings += [
        finding for finding in findings if not any(finding.path[: len(known)] == known for known in refused)
    ]
    if spec is None or document.findings:
        raise SpecError(_problems(document, places, path, overrides))
    return SweepSpec(**dict(spec), text=text, path=path, overrides=tuple(overrides))


def _problems(document: Document, places: dict[KeyPath, str], path: Path, overrides: Sequence[str]) -> list[Problem]:
    """The findings with the place of each, in the order of the file; those of the command line last."""
    order = list(dict.fromkeys(override_place(text) for text in overrides))
    located: list[tuple[Place, Problem]] = []
    for finding in document.findings:
        place = finding.place or _override_of(finding.path, places) or _place_of(finding, document)
        key = dotted(finding.path)
        if isinstance(place, str):
            located.append((Place(sys.maxsize, order.index(place)), Problem(finding.what, place, finding.help)))
        else:
            where = f"{path}:{place.line}:{place.col} {key}".rstrip()
            located.append((place, Problem(finding.what, where, finding.help)))
    return [problem for _, problem in sorted(located, key=lambda pair: pair[0])]


def _override_of(path: KeyPath, places: dict[KeyPath, str]) -> str | None:
    """The override that set the value at the path, or something above or below it."""
    for changed, place in reversed(places.items()):
        shared = min(len(changed), len(path))
        if shared and changed[:shared] == path[:shared]:
            return place
    return None


def _place_of(finding: SpecFinding, document: Document) -> Place:
    """The place of the path in the file; of the nearest key above it, where it is missing."""
    path = finding.path
    if path in document.values and not finding.at_key:
        return document.values[path]
    while path and path not in document.values:
        path = path[:-1]
    return document.keys.get(path) or document.values.get(path) or Place(1, 1)


def resolve(spec: SweepSpec, params: Mapping[str, ParamValue]) -> dict[str, Any]:
    """The config of one trial: `base` with the parameters set, validated by the trainer's config model.

    Args:
        spec: the sweep.
        params: dotted path of the config -> value; or the name of a variant, and a seed if there are several.

    Returns:
        Plain data with every default written out. A trainer without a config model gets base and parameters only.

    Raises:
        SpecError: the trainer's config model refuses the combination.
    """
    return _validated(spec, _settings(spec, params))


def control_config(spec: SweepSpec, control: str) -> dict[str, Any]:
    """The config of a control: `base` with the field `control` set. Where `base` alone is no config, because it leaves
    a field to the search space that has no default, the lower ends of the search space fill it.

    Raises:
        SpecError: the trainer's config model refuses it.
    """
    try:
        return _validated(spec, {"control": control})
    except SpecError:
        point = example(spec.search_space)
        return _validated(spec, {**_settings(spec, point), "control": control})


def _settings(spec: SweepSpec, params: Mapping[str, ParamValue]) -> Mapping[str, Any]:
    """Dotted path of the config -> value, with what a variant stands for in place of its name."""
    if not spec.variants:
        return params
    others = {path: value for path, value in params.items() if path != VARIANT}
    return {**spec.variants[str(params[VARIANT])], **others}


def _validated(spec: SweepSpec, settings: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with settings (dotted path -> value), as the trainer's config model completes it."""
    config = deepcopy(spec.base)
    for path, value in settings.items():
        set_path(config, path, value)
    model = config_class(spec.trainer)
    if model is None:
        return config
    try:
        return model.model_validate(config).model_dump(mode="json")
    except ValidationError as error:
        found = findings_of(error, config, (), lambda _: None)
        source = str(spec.path or spec.name)
        raise SpecError([Problem(one.what, f"{source} base.{dotted(one.path)}", one.help) for one in found]) from error


def spec_fingerprint(spec: SweepSpec) -> str:
    """SHA-256 of the effective spec: equal for two files that mean the same."""
    return hashlib.sha256(json.dumps(spec.effective, sort_keys=True).encode()).hexdigest()


def spec_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What changed between two effective specs, a line a value: `trials: 14 -> 20`, in the order of the keys."""
    before, after = _flat(old), _flat(new)
    return [
        f"{key}: {before.get(key, '(absent)')} -> {after.get(key, '(absent)')}"
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key)
    ]


def _flat(value: object, path: str = "") -> dict[str, str]:
    """Dotted path -> JSON text of each value that is no mapping or list."""
    match value:
        case Mapping() if value:
            items = [(str(key), below) for key, below in value.items()]
        case list() | tuple() if value:
            items = [(str(index), below) for index, below in enumerate(value)]
        case _:
            return {path: json.dumps(value)}
    return {
        key: text for name, below in items for key, text in _flat(below, f"{path}.{name}" if path else name).items()
    }
