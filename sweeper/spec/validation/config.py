"""What the trainer's config says about `base` and `search_space`, tested as trials have them: at joint points."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from random import Random
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from sweeper.search_space.conditions import Params, Space, point
from sweeper.search_space.constraints import all_hold, parse_constraint
from sweeper.search_space.dimensions import AnyDimension, CategoricalDimension, FloatDimension, extremes
from sweeper.search_space.paths import leaves, set_path
from sweeper.spec.draft import Draft
from sweeper.spec.reading.messages import did_you_mean, dotted, findings_of, leaf_paths, show, unknown_path
from sweeper.spec.reading.yaml_reader import KeyPath, SpecFinding

BASE: Final = ("base",)
CONTEXTS: Final = 16
"""Points at which a part of a spec is tested: what is wrong at all of them is wrong with that part."""
MOST_POINTS: Final = 1_000
MOST_DEAD: Final = 5
"""Choices that no trial can have, before the others are not tested."""


def config_findings(model: type[BaseModel], config: Mapping[str, Any], root: KeyPath) -> list[SpecFinding]:
    """What the trainer's config says to one config, at its paths below `root`."""

    def fix(loc: KeyPath) -> str | None:
        return did_you_mean(dotted(loc), leaf_paths(model))

    try:
        model.model_validate(config)
    except ValidationError as error:
        return findings_of(error, config, root, fix)
    except Exception as error:  # a user's validator may raise anything
        return [SpecFinding(root, f"the trainer's config cannot be checked: {type(error).__name__}: {error}")]
    return []


def check_plain(draft: Draft) -> list[SpecFinding]:
    """Whether the parameters fit into a base that no model describes: no value may stand where a section must."""
    return [
        SpecFinding(("search_space", key), problem, at_key=True)
        for key in draft.search_space or {}
        if (problem := _in_the_way(draft.base or {}, key)) is not None
    ]


def check_search_space(model: type[BaseModel], draft: Draft) -> list[SpecFinding]:
    """Findings about `base` and each dimension; if there are none, whether any trial at all is accepted, and each
    choice in some trial. Some of the points may be refused: the study draws others, and `check` states the share."""
    findings: list[SpecFinding] = []
    written = draft.search_space or {}
    space: dict[str, AnyDimension] = {}
    for key in written:
        if problem := unknown_path(model, key):
            findings.append(SpecFinding(("search_space", key), *problem, at_key=True))
        elif key in draft.dimensions and not _in_the_way(draft.base or {}, key):
            space[key] = draft.dimensions[key]
    joint = _Joint(model, draft, space)
    findings += [finding for finding in joint.common() if not _is_set_by_space(finding, written)]
    in_base = leaves(draft.base or {})
    for key in space:
        if key in in_base and (finding := joint.own(key, in_base[key])) is not None:
            findings.append(finding)
        findings += _check_dimension(joint, key)
    return findings or _check_accepted(joint)


class _Joint:
    """Configs of trials, with what the trainer's config says to each."""

    def __init__(self, model: type[BaseModel], draft: Draft, space: Space) -> None:
        self.space = space
        self.constraints = _usable(draft.valid_constraints, space)
        self._model = model
        self._base = draft.base or {}

    def points(self, count: int, fixed: Mapping[str, Any] | None = None) -> Iterator[Params]:
        """Random points, always the same, with the values of `fixed`."""
        random = Random(0)
        for _ in range(count if self.space else 1):
            yield point(self.space, {path: random.random() for path in self.space}, fixed or {})

    def findings(self, params: Params) -> list[SpecFinding]:
        """What the config says to a trial with these parameters."""
        config = deepcopy(self._base)
        for path, value in params.items():
            set_path(config, path, value)
        return config_findings(self._model, config, BASE)

    def common(self) -> list[SpecFinding]:
        """What it says at every one of some points."""
        points = self.points(CONTEXTS)
        common = self.findings(next(points))
        for params in points:
            if not common:
                break
            found = self.findings(params)
            common = [finding for finding in common if finding in found]
        return common

    def own(self, key: str, value: object) -> SpecFinding | None:
        """What it says about a value of a dimension whatever the other parameters are; None if it accepts it
        somewhere."""
        place, found = (*BASE, *key.split(".")), None
        for params in self.points(CONTEXTS, {**_needed(self.space, key), key: value}):
            own = [finding for finding in self.findings(params) if finding.path[: len(place)] == place]
            if not own:
                return None
            found = found or own[0]
        return found

    def refusal(self, fixed: Mapping[str, Any]) -> str | None:
        """Why it refuses every point with the values of `fixed` that meets the constraints; None if it accepts one."""
        reason = None
        for params in self.points(MOST_POINTS, fixed):
            if all_hold(self.constraints, params):
                found = self.findings(params)
                if not found:
                    return None
                reason = reason or found[0].what
        return reason


def _check_dimension(joint: _Joint, key: str) -> list[SpecFinding]:
    """Whether the config takes both ends, or every choice, of a dimension, whatever the other parameters are."""
    dimension, findings = joint.space[key], []
    for below, value in extremes(dimension):
        finding = joint.own(key, value)
        if finding is None:
            continue
        if isinstance(dimension, FloatDimension) and finding.what.startswith("expected a whole number"):
            what = f"`{key}` is a whole number, and this dimension samples real numbers"
            return [SpecFinding(("search_space", key), what, "add `type: int`", at_key=True)]
        findings.append(SpecFinding(("search_space", key, *below), finding.what, finding.help))
    return findings


def _check_accepted(joint: _Joint) -> list[SpecFinding]:
    """Whether some trial is accepted, and one with each choice."""
    if (reason := joint.refusal({})) is not None:
        what = f"the trainer's config rejects every point of the search space that was tried: {reason}"
        help = "change `base`, or what varies: these fields do not go together"
        return [SpecFinding(("search_space",), what, help, at_key=True)]
    findings: list[SpecFinding] = []
    for key, dimension in joint.space.items():
        if not isinstance(dimension, CategoricalDimension):
            continue
        for index, choice in enumerate(dimension.choices):
            reason = joint.refusal({**_needed(joint.space, key), key: choice})
            if reason is not None and len(findings) < MOST_DEAD:
                what = f"the trainer's config rejects every trial with {show(choice)}: {reason}"
                findings.append(SpecFinding(("search_space", key, "choices", index), what, "remove it"))
    return findings


def _usable(constraints: list[str], space: Space) -> list[str]:
    """The constraints that can be computed: what is wrong with the others is found elsewhere."""
    usable = []
    for text in constraints:
        try:
            if parse_constraint(text).names <= space.keys():
                usable.append(text)
        except ValueError:
            continue
    return usable


def _in_the_way(base: Mapping[str, Any], key: str) -> str | None:
    """What in `base` is where a section of the parameter's path must be."""
    try:
        set_path(deepcopy(dict(base)), key, 0)
    except TypeError as error:
        return str(error)
    return None


def _is_set_by_space(finding: SpecFinding, written: Mapping[str, Any]) -> bool:
    """Whether a finding is about a field that the search space sets, or is a missing key that it fills."""
    path = dotted(finding.path[1:])
    missing = finding.what.startswith("missing key")
    for key, raw in written.items():
        if f"{path}.".startswith(f"{key}.") and not missing:
            return True  # reported at the dimension
        always = not (isinstance(raw, dict) and raw.get("when"))
        if missing and always and f"{key}.".startswith(f"{path}."):
            return True
    return False


def _needed(space: Space, key: str) -> dict[str, Any]:
    """What the parameters above have to be for the parameter to exist: the first values that `when` names."""
    needed: dict[str, Any] = {}
    pending = [key]
    while pending:
        for parent, allowed in space[pending.pop()].when.items():
            if parent in space and parent not in needed:
                needed[parent] = allowed[0]
                pending.append(parent)
    return needed
