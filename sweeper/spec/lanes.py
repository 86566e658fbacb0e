"""Whether the trials of a spec train as lanes: several of them in one process (`resources.lanes`)."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from pydantic import ValidationError

from sweeper.entrypoint.lanes.offer import lanes_problem
from sweeper.search_space.dimensions import extremes
from sweeper.search_space.paths import set_path
from sweeper.spec.model import VARIANT
from sweeper.spec.resolve import SweepSpec, accepted_example, resolve


def why_no_lanes(spec: SweepSpec, *, on_cluster: bool = False) -> str | None:
    """Why a spec that asks for lanes cannot have them, in one line; None: it has them, or does not ask.

    Args:
        spec: the sweep.
        on_cluster: whether its trials run on the machines of a Ray cluster.
    """
    resources = spec.resources
    if resources.lanes == 1:
        return None
    if on_cluster:
        return "they need one machine, and trials of a Ray cluster may run on several"
    if resources.gpus not in (0, 1):
        return f"they share one GPU or none, and resources.gpus is {resources.gpus:g}"
    configs = list(_configs(spec))
    try:
        return lanes_problem(spec.trainer, configs, on_gpu=resources.gpus > 0)
    except ValidationError:  # a combination that no trial has; each trial is asked before it starts
        return None


def lanes_text(spec: SweepSpec) -> str:
    """A line for people: how many trials share a process, or why none do; empty if lanes are not requested."""
    if spec.resources.lanes == 1:
        return ""
    if reason := why_no_lanes(spec):
        return f"none, each trial has its own process: {reason}"
    return f"up to {spec.resources.lanes} trials in one process, which share its cores and its GPU"


def fits_lanes(spec: SweepSpec, config: Mapping[str, Any]) -> bool:
    """Whether a trial with this config can be a lane beside the others of the spec."""
    try:
        both = [next(_configs(spec)), config]
        return lanes_problem(spec.trainer, both, on_gpu=spec.resources.gpus > 0) is None
    except ValidationError:  # the trial will report it
        return False


def with_usable_lanes(spec: SweepSpec, *, on_cluster: bool = False) -> SweepSpec:
    """The spec, with a process for each trial if lanes are not possible."""
    if why_no_lanes(spec, on_cluster=on_cluster) is None:
        return spec
    return spec.model_copy(update={"resources": spec.resources.model_copy(update={"lanes": 1})})


def _configs(spec: SweepSpec) -> Iterator[dict[str, Any]]:
    """A config of the spec, and others that together differ from it in all that its trials may."""
    if spec.variants:
        yield from (resolve(spec, {VARIANT: name}) for name in spec.variants)
        return
    first = resolve(spec, accepted_example(spec))
    yield first
    for path, dimension in spec.search_space.items():
        for _, value in extremes(dimension):
            config = deepcopy(first)
            set_path(config, path, value)
            yield config
