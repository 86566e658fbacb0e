"""Names of Ray and Optuna that the sweeper uses although they are not public: an upgrade that moves one fails
here, with the list of what is gone, instead of somewhere in a sweep."""

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

PARAMETERS = {
    "ray._private.state:actors": ("actor_id",),
    "ray._private.node:Node.start_api_server": ("self", "include_dashboard", "raise_on_failure"),
    "ray._private.node:Node.start_log_monitor": ("self",),
    "ray._private.node:Node.start_monitor": ("self",),
    "ray._private.services:canonicalize_bootstrap_address": ("addr",),
    "ray._private.services:start_ray_process": ("command",),
    "ray._private.utils:get_dashboard_dependency_error": (),
    "ray._private.utils:set_sigterm_handler": ("sigterm_handler",),
    "optuna.storages:get_storage": ("storage",),
    "optuna.trial:Trial.__init__": ("self", "study", "trial_id"),
    "optuna.samplers:NSGAIISampler.get_trial_generation": ("self", "study", "trial"),
    "optuna.samplers:NSGAIISampler.get_population": ("self", "study", "generation"),
}
"""A function -> the parameters that it is called with, which come first."""

NAMES = (
    "ray._private.worker:_worker_logs_enabled",
    "ray._raylet:GcsClient",
    "ray._raylet:InnerGcsClient.get_all_node_info",
    "ray.actor:ActorHandle._actor_id",
    "ray.tune.execution.class_cache:DEFAULT_ENV_VARS",
    "ray.tune.execution.class_cache:ENV_VARS_TO_PROPAGATE",
    "ray.tune.progress_reporter:TrialProgressCallback",
)

ATTRIBUTES = {
    "ray.tune.execution.tune_controller:TuneController.__init__": (
        "_stopped_trials",
        "_trials",
        "_trial_to_actor",
        "_trials_to_cache",
    ),
    "ray.tune.experiment.trial:_TemporaryTrialState.__init__": ("ray_actor",),
    "optuna.study:Study.__init__": ("_storage", "_study_id"),
    "optuna.trial:FrozenTrial.__init__": ("_trial_id",),
}
"""A constructor -> attributes that it sets."""

SWITCHES = {
    "ray._private.ray_constants:ENABLE_RAY_CLUSTERS_ENV_VAR": "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER",
}
"""A constant -> the environment variable that it names."""


def find(place: str) -> Any:
    module, _, path = place.partition(":")
    found = import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


def parameters_are(place: str) -> str | None:
    expected = PARAMETERS[place]
    found = tuple(inspect.signature(find(place)).parameters)[: len(expected)]
    return None if found == expected else f"takes {', '.join(found)}"


def attributes_are(place: str) -> str | None:
    source = inspect.getsource(find(place))
    missing = [name for name in ATTRIBUTES[place] if f"self.{name}" not in source]
    return f"sets no {', '.join(missing)}" if missing else None


CHECKS: dict[str, Callable[[str], str | None]] = {
    **dict.fromkeys(PARAMETERS, parameters_are),
    **dict.fromkeys(NAMES, lambda place: None if find(place) is not None else "is None"),
    **dict.fromkeys(ATTRIBUTES, attributes_are),
    **dict.fromkeys(SWITCHES, lambda place: None if find(place) == SWITCHES[place] else f"is {find(place)}"),
}


def test_private_names_are_still_what_the_sweeper_expects() -> None:
    changed = []
    for place, check in CHECKS.items():
        try:
            problem = check(place)
        except (ImportError, AttributeError) as error:
            problem = f"is gone: {error}"
        if problem:
            changed.append(f"{place} {problem}")
    if changed:
        pytest.fail("an upgrade changed what is used:\n" + "\n".join(changed))
