"""Whether the parts of a search space fit together: `when`, `constraints`, `enqueue`, and the size of a grid."""

from collections.abc import Iterator, Mapping
from typing import Any

from sweeper.search_space.conditions import can_be_met, contains, exists
from sweeper.search_space.constraints import LANGUAGE, parse_constraint
from sweeper.search_space.dimensions import AnyDimension, CategoricalDimension
from sweeper.search_space.grid import LARGEST_GRID, grid_size
from sweeper.search_space.unit import listed
from sweeper.spec.draft import Draft
from sweeper.spec.reading.messages import did_you_mean, show
from sweeper.spec.reading.yaml_reader import KeyPath, SpecFinding


def check_space(draft: Draft) -> list[SpecFinding]:
    """What is wrong between the parts of a spec's search space; each part alone is checked by the spec's model."""
    space, written = draft.dimensions, draft.search_space or {}
    if not written or draft.variants:
        return []
    findings = [finding for path in space for finding in _check_when(path, space, written)]
    findings += _check_cycles(space)
    if findings or len(space) < len(written):
        return findings  # nothing can be drawn from it yet
    findings = [
        finding
        for index, text in enumerate(draft.constraints or ())
        if text is not None
        for finding in _check_constraint(("constraints", index), text, space)
    ]
    solvable = not findings
    constraints = draft.valid_constraints if solvable else []
    for index, entry in enumerate(draft.enqueue or ()):
        if entry is not None:
            findings += _check_entry(("enqueue", index), entry, space, constraints)
    findings += [*_check_warm_start(draft), *_check_sampler(draft)]
    trials, first = draft.trials, len(draft.enqueue or ())
    if trials is not None and 0 < trials < first:
        noun = "trial" if trials == 1 else "trials"
        what = f"{first} configurations come first, but there {'is' if trials == 1 else 'are'} {trials} {noun}"
        findings.append(SpecFinding(("enqueue",), what, at_key=True))
    if draft.sampler is not None and draft.sampler.name == "grid":
        findings += _check_grid(draft, constraints)
    elif constraints and not can_be_met(space, constraints, {}):
        what = "no point of the search space that was tried meets the constraints"
        findings.append(SpecFinding(("constraints",), what, "widen the ranges or loosen a constraint", at_key=True))
    return findings


def _check_when(path: str, space: Mapping[str, AnyDimension], raw: Mapping[str, Any]) -> Iterator[SpecFinding]:
    for parent, allowed in space[path].when.items():
        place: KeyPath = ("search_space", path, "when", parent)
        is_list = isinstance(raw[path]["when"][parent], list | tuple)
        if parent not in raw:
            help = did_you_mean(parent, [name for name in raw if name != path])
            yield SpecFinding(place, f"the search space has no parameter {show(parent)}", help, at_key=True)
        elif parent in space:
            for index, value in enumerate(allowed):
                if not contains(space[parent], value):
                    what, help = f"{show(parent)} is never {show(value)}", _values(space[parent], value)
                    yield SpecFinding((*place, index) if is_list else place, what, help)


def _values(dimension: AnyDimension, value: object) -> str | None:
    values = listed(dimension)
    if values is None or len(values) > 1000:
        return None if hasattr(dimension, "choices") else f"it must be between {dimension.low:g} and {dimension.high:g}"
    return did_you_mean(str(value), [show(one).strip("`") for one in values])


def _check_cycles(space: Mapping[str, AnyDimension]) -> list[SpecFinding]:
    """One finding per cycle of `when`, at its first parameter in the file."""
    findings, told = [], set[str]()
    for path in space:
        chain = _cycle(space, path)
        if chain and not told & set(chain):
            told |= set(chain)
            what = "a parameter cannot depend on itself: " + " -> ".join((*chain, path))
            findings.append(
                SpecFinding(("search_space", path, "when"), what, "remove one of these `when`", at_key=True)
            )
    return findings


def _cycle(space: Mapping[str, AnyDimension], start: str) -> list[str] | None:
    """A way from a parameter over `when` back to itself."""
    ways, visited = [[start]], set[str]()
    while ways:
        way = ways.pop()
        for parent in space[way[-1]].when if way[-1] in space else ():
            if parent == start:
                return way
            if parent not in visited:
                visited.add(parent)
                ways.append([*way, parent])
    return None


def _check_constraint(place: KeyPath, text: str, space: Mapping[str, AnyDimension]) -> Iterator[SpecFinding]:
    try:
        constraint = parse_constraint(text)
    except ValueError as error:
        yield SpecFinding(place, str(error), LANGUAGE)
        return
    for name in sorted(constraint.names):
        if name not in space:
            yield SpecFinding(place, f"the search space has no parameter {show(name)}", did_you_mean(name, list(space)))
        elif any(value is None or isinstance(value, str) for value in listed(space[name]) or ()):
            yield SpecFinding(place, f"{show(name)} is not a number, so a constraint cannot use it")


def _check_entry(
    place: KeyPath, entry: Mapping[str, Any], space: Mapping[str, AnyDimension], constraints: list[str]
) -> list[SpecFinding]:
    findings = []
    for path, value in entry.items():
        if path not in space:
            what = f"the search space has no parameter {show(path)}"
            findings.append(SpecFinding((*place, path), what, did_you_mean(path, list(space)), at_key=True))
        elif not contains(space[path], value):
            what = f"{show(path)} cannot be {show(value)}"
            findings.append(SpecFinding((*place, path), what, _values(space[path], value)))
        elif not exists(space[path], entry):
            needed = " and ".join(f"{show(parent)}" for parent in space[path].when)
            what = f"{show(path)} exists only for certain values of {needed}, which this entry does not set"
            findings.append(SpecFinding((*place, path), what, "add it, or leave this out", at_key=True))
    if not findings and constraints and not can_be_met(space, constraints, entry):
        broken = [text for text in constraints if not can_be_met(space, [text], entry)]
        what = (
            f"this configuration violates the constraint {show(broken[0])}" if broken else "the constraints rule it out"
        )
        findings.append(SpecFinding(place, what))
    return findings


def _check_grid(draft: Draft, constraints: list[str]) -> list[SpecFinding]:
    space = draft.dimensions
    findings = [
        SpecFinding(
            ("search_space", path),
            f"a grid needs lists, and {show(path)} is a range of real numbers",
            "give it `values: [...]` or a `step`",
            at_key=True,
        )
        for path, dimension in space.items()
        if listed(dimension) is None
    ]
    if draft.enqueue:
        findings.append(SpecFinding(("enqueue",), "a grid has its own order, nothing can come first", at_key=True))
    if findings:
        return findings
    size = grid_size(space, constraints)
    if size > LARGEST_GRID:
        return [SpecFinding(("search_space",), f"the grid has more than {LARGEST_GRID} points", at_key=True)]
    if size == 0:
        return [SpecFinding(("constraints",), "no point of the grid meets the constraints", at_key=True)]
    if draft.trials is not None and draft.trials > size:
        what = f"the grid has {size} points, and each is one trial; got {draft.trials} trials"
        return [SpecFinding(("trials",), what)]
    return []


def _check_sampler(draft: Draft) -> list[SpecFinding]:
    """Whether the sampler can search this space, and takes notice of the priors."""
    if draft.sampler is None:
        return []
    name, findings = draft.sampler.name, []
    numeric = [path for path, each in draft.dimensions.items() if not isinstance(each, CategoricalDimension)]
    ranges = [path for path in numeric if not getattr(draft.dimensions[path], "values", ())]
    if name == "cmaes" and not any(not draft.dimensions[path].when for path in ranges):
        what = "the sampler `cmaes` searches numbers between bounds, and the search space has none that every trial has"
        findings.append(SpecFinding(("sampler",), what, "use `tpe`"))
    if name == "cmaes" and draft.objectives > 1:
        findings.append(SpecFinding(("sampler",), "the sampler `cmaes` takes one objective", "use `nsga2` or `tpe`"))
    if name == "grid" or draft.sampler.is_custom:
        what = f"the sampler {show(name)} takes no priors"
        findings += [
            SpecFinding(("search_space", path, "prior"), what, "leave it out", at_key=True)
            for path in ranges
            if getattr(draft.dimensions[path], "prior", None) is not None
        ]
    return findings


def _check_warm_start(draft: Draft) -> list[SpecFinding]:
    if draft.warm_start is None or draft.sampler is None:
        return []
    if draft.sampler.name in ("random", "qmc", "grid"):
        what = f"the sampler {show(draft.sampler.name)} does not learn from trials, not even those of a warm start"
        return [
            SpecFinding(("warm_start",), what, "use `tpe`, `gp`, `cmaes` or `nsga2`, or leave this out", at_key=True)
        ]
    if draft.warm_start.study == draft.name and draft.warm_start.storage is None:
        what = "a study cannot start from itself"
        return [SpecFinding(("warm_start", "study"), what, "give this one another `name`")]
    return []
