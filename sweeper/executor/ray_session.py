"""The one door to a Ray session: where it begins and where it ends in this process."""

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def connect(**arguments: Any) -> None:
    """`ray.init` with these arguments, without the workers' output and Ray's own chatter."""
    import ray

    ray.init(log_to_driver=False, logging_level=logging.ERROR, **arguments)


def disconnect() -> None:
    """`ray.shutdown`, during which no Ray object is freed.

    A reference or handle that is freed while Ray shuts down ends the process at once, exit code 1 and no traceback: Ray
    does so on purpose. Python's cyclic garbage collector runs in whatever thread allocates, the one that delivers to
    MLflow say, and may find one at any moment. So what is garbage is collected before, and nothing is until it is over.
    """
    import ray

    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def session(connect_to: Callable[[], None]) -> Iterator[None]:
    """Ray runs within; it ends with the block, also where `connect_to` failed half way."""
    try:
        connect_to()
        yield
    finally:
        disconnect()
