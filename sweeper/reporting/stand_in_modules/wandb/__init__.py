"""A stand-in for `wandb` in scripts that a sweep runs: `init`, `config`, `log`, `finish`, `agent`. Anything else is
accepted and does nothing.

`log` collects metrics; the call that logs the sweep's objective is a report, with the latest value of every other one.
As for W&B's own early termination, each such call is one iteration: an epoch of the sweep.
"""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from sweeper.reporting import push
from sweeper.reporting.stand_in import OBJECTIVE


class Config(dict[str, Any]):
    """Parameters by key and by attribute; those of the sweep win over a script's defaults."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def update(self, *others: Any, allow_val_change: bool = True, **more: Any) -> None:
        super().update(dict(*others, **more) | _parameters())

    setdefaults = update


class _Nothing:
    """Accepts any use."""

    def __getattr__(self, name: str) -> "_Nothing":
        return self

    def __call__(self, *args: Any, **options: Any) -> "_Nothing":
        return self

    def __enter__(self) -> "_Nothing":
        return self

    def __exit__(self, *args: object) -> None:
        pass

    def __setitem__(self, key: str, value: Any) -> None:
        pass


class Run:
    """What `init` returns."""

    def __init__(self, settings: Config) -> None:
        self.config = settings
        self.summary: dict[str, Any] = {}
        self.name = self.id = os.path.basename(push.workdir())
        self.dir = str(push.workdir())
        self._latest: dict[str, float] = {}
        self._count = 0

    def log(self, data: Mapping[str, Any], step: int | None = None, commit: bool | None = None) -> None:
        """Collect metrics; report when the objective is among them."""
        numbers = {name: number for name, value in data.items() if (number := _number(value)) is not None}
        self._latest |= numbers
        if os.environ.get(OBJECTIVE) in numbers:
            self._count += 1
            push.report(self._count, self._latest)

    def finish(self, *args: Any, **options: Any) -> None:
        pass

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *args: object) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return _Nothing()


def _parameters() -> dict[str, Any]:
    """The trial's parameters. A list among the choices of a sweep file is written as JSON."""

    def given(value: Any) -> Any:
        if not isinstance(value, str) or value[:1] not in ("[", "{"):
            return value
        try:
            return json.loads(value)
        except ValueError:
            return value

    return {name: given(value) for name, value in push.config().items()}


run: Run | None = None
config = Config(_parameters())


def init(*args: Any, config: Any = None, **options: Any) -> Run:
    """Start; a script's own `config` holds defaults."""
    global run
    settings = globals()["config"]
    settings.update(config if isinstance(config, Mapping) else vars(config) if config is not None else {})
    run = Run(settings)
    return run


def log(data: Mapping[str, Any], step: int | None = None, commit: bool | None = None) -> None:
    """As `Run.log`."""
    (run or init()).log(data, step=step, commit=commit)


def finish(*args: Any, **options: Any) -> None:
    pass


def agent(sweep_id: str, function: Callable[[], Any] | None = None, **options: Any) -> None:
    """The sweep is run by another program: one trial."""
    if function is not None:
        function()


def __getattr__(name: str) -> Any:
    return _Nothing()


def _number(value: Any) -> float | None:
    if isinstance(value, bool | str):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
