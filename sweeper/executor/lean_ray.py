"""Ray on this machine without the processes that no trial needs.

Whatever its arguments, `ray.init` starts five Python processes besides its own two programs: the dashboard's server
(even without a dashboard), the autoscaler's monitor, the reader of log files, and two agents. Each imports Ray, which
takes most of a second of CPU. Here the first three are not started. The raylet waits for what its dashboard agent
writes, so a few lines of shell stand in for that one. The agent for runtime environments stays.

Tune gives each trial's worker an environment variable of its own, so Ray starts two more Python processes for it and
uses none of those that it has started already. Here workers inherit the driver's environment.
"""

import os
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

STAND_IN: Final = Path(__file__).with_name("ray_agent.sh")
AGENT: Final = "--dashboard_agent_command="
LOG_LEVEL: Final = "RAY_BACKEND_LOG_LEVEL"
PRESTART: Final = "RAY_prestart_worker_first_driver"


@contextmanager
def lean_ray() -> Iterator[None]:
    """Within, `ray.init` starts what trials need. Names that Ray does not promise: see tests/test_private_apis.py."""
    from ray._private import services, utils
    from ray._private.node import Node

    start_process = services.start_ray_process

    def start(command: Sequence[str], *arguments: Any, **options: Any) -> Any:
        return start_process([_agent_replaced(argument) for argument in command], *arguments, **options)

    with ExitStack() as stack:
        for name in ("start_monitor", "start_log_monitor", "start_api_server"):
            stack.enter_context(patch.object(Node, name, lambda self, **options: None))
        # As if Ray were installed without its dashboard; checking for it imports it.
        stack.enter_context(patch.object(utils, "get_dashboard_dependency_error", lambda: ImportError("not wanted")))
        stack.enter_context(patch.object(services, "start_ray_process", start))
        yield


@contextmanager
def quiet_processes() -> Iterator[None]:
    """Within, the processes that `ray.init` starts log only errors: their output may reach stdout. Only their
    environment says so: if that of this process did, Ray would announce it in the middle of the live screen."""
    from ray._private import services

    start_process = services.start_ray_process

    def start(*arguments: Any, **options: Any) -> Any:
        if LOG_LEVEL in os.environ:  # the user's
            return start_process(*arguments, **options)
        os.environ[LOG_LEVEL] = "error"
        try:
            return start_process(*arguments, **options)
        finally:
            del os.environ[LOG_LEVEL]

    with patch.object(services, "start_ray_process", start):
        yield


@contextmanager
def inherited_environment(cpus: int) -> Iterator[None]:
    """Within, workers that Ray starts, for trials with this many cores each, have the environment of this process."""
    from ray.tune.execution import class_cache

    os.environ.update(getattr(class_cache, "DEFAULT_ENV_VARS", {}))
    if cpus > 1:
        os.environ.setdefault(PRESTART, "0")  # a worker for each core, of which only some will be used
    with ExitStack() as stack:
        for name in ("DEFAULT_ENV_VARS", "ENV_VARS_TO_PROPAGATE"):
            if hasattr(class_cache, name):
                stack.enter_context(patch.object(class_cache, name, {}))
        yield


def _agent_replaced(argument: str) -> str:
    if not argument.startswith(AGENT):
        return argument
    options = dict(part.partition("=")[::2] for part in shlex.split(argument.removeprefix(AGENT)))
    return AGENT + subprocess.list2cmdline(["sh", str(STAND_IN), options["--session-dir"], options["--node-id"]])
