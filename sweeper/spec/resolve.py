"""A validated spec, and the config of each of its trials."""

from collections.abc import Mapping
from copy import deepcopy
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any, Final

from pydantic import ValidationError

from sweeper.entrypoint.resolve import config_class, offered_controls
from sweeper.errors import Problem, SpecError
from sweeper.search_space.conditions import Params, example, point
from sweeper.search_space.dimensions import ParamValue
from sweeper.search_space.paths import leaves, set_path
from sweeper.spec.command import COMMAND, ScriptReports, with_command
from sweeper.spec.model import SEED, VARIANT, SpecFile
from sweeper.spec.reading.messages import dotted, findings_of

NOT_COMPARED: Final = {"text", "path", "overrides", "ledger", "checkpoints"}
"""Where a spec came from and where its study is kept: not part of what the study is."""


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
        spec = self.model_dump(mode="json", exclude=NOT_COMPARED)
        spec["controls"] = list(self.control_names)
        if self.variants:
            # Each variant holds all its fields; base is for the controls.
            return spec | {"base": self._base(), "variants": {name: self._leaves_of(name) for name in self.variants}}
        # A conditional parameter may be left to base, whose value then counts.
        always = accepted_example(self)
        spec["base"] = resolve(self, always)
        spec["base"].pop(COMMAND if self.command else None, None)  # it is a key of its own
        for key in always:
            *sections, last = key.split(".")
            section = spec["base"]
            for name in sections:
                section = section[name]
            del section[last]
        return spec

    def _base(self) -> dict[str, Any]:
        """`base` with every default but the seed where `seeds` sets it; as written where it is not a whole config."""
        try:
            base = _validated(self, {})
        except SpecError:
            base = self.base
        return {key: value for key, value in base.items() if not (self.seeds and key == SEED)}

    def _leaves_of(self, variant: str) -> dict[str, Any]:
        """Every field of a variant, but for the seed where `seeds` sets it."""
        fields = leaves(resolve(self, {VARIANT: variant}))
        return {path: value for path, value in fields.items() if not (self.seeds and path == SEED)}


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
    """The config of a control: `base` with the field `control` set. Where `base` alone is not a config, because it
    leaves a field to the search space that has no default, the lower ends of the search space fill it.

    Raises:
        SpecError: the trainer's config model refuses it.
    """
    try:
        return _validated(spec, {"control": control})
    except SpecError:
        return _validated(spec, {**_settings(spec, accepted_example(spec)), "control": control})


def _settings(spec: SweepSpec, params: Mapping[str, ParamValue]) -> Mapping[str, Any]:
    """Dotted path of the config -> value, with what a variant stands for in place of its name."""
    if not spec.variants:
        return params
    others = {path: value for path, value in params.items() if path != VARIANT}
    return {**spec.variants[str(params[VARIANT])], **others}


def accepted_example(spec: SweepSpec) -> Params:
    """A point of the search space, without the parameters that not every trial has, that the trainer's config accepts:
    the lower ends, or the first of 1,000 random ones; the lower ends again if it accepts none of them."""
    first = example(spec.search_space)
    random = Random(0)
    always = {path: spec.search_space[path] for path in first}
    others = (point(always, {path: random.random() for path in always}, {}) for _ in range(1_000))
    return next((params for params in chain([first], others) if _accepts(spec, params)), first)


def _accepts(spec: SweepSpec, params: Params) -> bool:
    try:
        resolve(spec, params)
    except SpecError:
        return False
    return True


def unchecked_config(spec: SweepSpec, params: Mapping[str, ParamValue]) -> dict[str, Any]:
    """The config of one trial as it is put to the trainer's config model: `base` with the parameters set."""
    return _with_settings(spec, _settings(spec, params))


def _with_settings(spec: SweepSpec, settings: Mapping[str, Any]) -> dict[str, Any]:
    config = deepcopy(spec.base)
    for path, value in settings.items():
        set_path(config, path, value)
    if spec.command is not None:
        return with_command(config, spec.command, spec.report or ScriptReports(), spec.objective.metric)
    return config


def _validated(spec: SweepSpec, settings: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with settings (dotted path -> value), as the trainer's config model completes it."""
    config = _with_settings(spec, settings)
    if spec.command is not None:
        return config
    model = config_class(spec.trainer)
    if model is None:
        return config
    source = str(spec.path or spec.name)
    try:
        return model.model_validate(config).model_dump(mode="json")
    except ValidationError as error:
        found = findings_of(error, config, (), lambda _: None)
        raise SpecError(
            [Problem(one.what, f"{source} {dotted(('base', *one.path))}", one.help) for one in found]
        ) from error
    except Exception as error:  # a user's validator may raise anything
        what = f"the trainer's config cannot be checked: {type(error).__name__}: {error}"
        raise SpecError([Problem(what, f"{source} base")]) from error
