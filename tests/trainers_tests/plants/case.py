"""One planted fault, and its preflight in a separate process, so that nothing of it remains."""

import importlib
import inspect
import json
import os
import sys
import textwrap
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mano_trainers import loop
from mano_trainers import preflight as preflight_package
from mano_trainers.config import TrainConfig
from mano_trainers.data.load import LoadedData
from mano_trainers.preflight import preflight

LONGEST_S = 180


def base_mapping(count: int = 1000, size: int = 32, seed: int = 1) -> dict[str, Any]:
    """The sound config that faults are planted into."""
    return {
        "data": {"embedded_count": count, "embedded_seed": seed, "image_size": size},
        "loss": {"lambda_joint": 8.0, "lambda_angular": 0.1, "lambda_pca": 0.001},
        "device": "cpu",
    }


@dataclass
class Case:
    """What a plant may change: the config's mapping, the data as loaded, or the trainer's code in this process."""

    mapping: dict[str, Any]
    of_data: list[Callable[[LoadedData], LoadedData]] = field(default_factory=list)

    def spec(self, path: str, value: Any) -> None:
        """Give another value to a field of the config."""
        *sections, name = path.split(".")
        place = self.mapping
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value

    def data(self, change: Callable[[LoadedData], LoadedData], *, stale: bool = False) -> None:
        """Change what `load_data` returns, wherever it is called from.

        Args:
            change: applied to the data.
            stale: the files stay as they are, so that the cache differs from them.
        """
        self.of_data.append(change if stale else lambda data: replace(change(data), examples=()))

    def labels(self, **changes: Callable[[LoadedData], Any]) -> None:
        """Replace some arrays of the labels with what is made of the data."""
        self.data(lambda data: replace(data, labels=replace(data.labels, **{k: f(data) for k, f in changes.items()})))

    def edit(self, where: str, old: str, new: str) -> None:
        """Replace text in the source of `module:function`, or of `module:Class.method`, as in a copy of the trainer."""
        module_name, _, name = where.partition(":")
        module = importlib.import_module(f"mano_trainers.{module_name}")
        function: Any = module
        for part in name.split("."):
            function = inspect.getattr_static(function, part)
        function = function.fget if isinstance(function, property) else function
        source = textwrap.dedent(inspect.getsource(function))
        assert old in source, f"{where} has no {old!r}"
        made: dict[str, Any] = {}
        text = "from __future__ import annotations\n" + source.replace(old, new, 1)
        exec(compile(text, f"<{where}>", "exec"), function.__globals__, made)
        function.__code__ = made[name.split(".")[-1]].__code__

    def patch(self, where: str, make: Callable[[Any], Any]) -> None:
        """Put what `make` makes of `module:name` in its place, in every module of the trainer that has imported it."""
        module_name, _, name = where.partition(":")
        owner: Any = importlib.import_module(module_name)
        *parts, last = name.split(".")
        for part in parts:
            owner = getattr(owner, part)
        old = getattr(owner, last)
        new = make(old)
        setattr(owner, last, new)
        for module in [item for key, item in sys.modules.items() if key.startswith("mano_trainers")]:
            if getattr(module, last, None) is old:
                setattr(module, last, new)


Apply = Callable[[Case], None]


@dataclass(frozen=True)
class Plant:
    """One way to make a kind of fault."""

    kind: str
    variant: str
    apply: Apply


def two(kind: str, a: Apply, b: Apply) -> list[Plant]:
    return [Plant(kind, "a", a), Plant(kind, "b", b)]


def run_planted(
    apply: Sequence[Apply] = (),
    mapping: dict[str, Any] | None = None,
    only: Sequence[str] = (),
    *,
    until_found: bool = False,
) -> dict[str, Any]:
    """Run preflight on a pipeline with faults, in a forked child; returns `checks` by name, `seconds`, `error`.

    Args:
        apply: the faults; none means the sound pipeline.
        mapping: of the config; by default `base_mapping()`.
        only: groups of checks to run; by default all.
        until_found: stop after the group of checks that fails first.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        result: dict[str, Any] = {}
        try:
            result = _preflight(apply, mapping or base_mapping(), only, until_found)
        except BaseException as error:
            result = {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc(), "checks": {}}
        finally:
            with os.fdopen(write, "w") as pipe:
                json.dump(result, pipe)
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    answer: dict[str, Any] = json.loads(text)
    return answer


def _preflight(
    apply: Sequence[Apply], mapping: dict[str, Any], only: Sequence[str], until_found: bool
) -> dict[str, Any]:
    torch.set_num_threads(1)
    case = Case(json.loads(json.dumps(mapping)))
    for change in apply:
        change(case)
    original = loop.load_data

    def load_data(*config: Any) -> LoadedData:
        data = original(*config)
        for change in case.of_data:
            data = change(data)
        return data

    for module in (loop, preflight_package, sys.modules["mano_trainers.overfit"]):
        module.load_data = load_data  # type: ignore[attr-defined]
    if only:
        checks = preflight_package.CHECKS
        for name in [name for name in checks if name not in only]:
            del checks[name]
    config = TrainConfig.model_validate(case.mapping)
    started = time.process_time()
    found: dict[str, list[Any]] = {}
    for result in preflight(config, [config]):
        group = result.name.split(".")[0]
        if until_found and any(
            status == "FAIL" and name.split(".")[0] != group for name, (status, *_) in found.items()
        ):
            break
        found[result.name] = [str(result.status), result.measured, round(result.seconds, 3), result.help]
    return {"checks": found, "seconds": time.process_time() - started}


def val_rows(data: LoadedData) -> Any:
    """Images of the validation poses."""
    return np.flatnonzero(np.isin(data.labels.pose_index, data.val_poses))


def root_of(path: str) -> Path:
    return Path(path)
