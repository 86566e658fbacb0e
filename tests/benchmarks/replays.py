"""Search problems whose truth is known, to replay searches on: recorded tables, and a simulated one."""

import json
import lzma
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Replay:
    """One search problem. `curves`: (configurations, seeds, evaluations), `truth`: mean over seeds at the end."""

    space: dict[str, tuple[float, float]]
    params: list[dict[str, float]]
    curves: np.ndarray
    truth: np.ndarray
    epochs: list[float]
    metric: str
    good_enough: float


Task = Callable[[np.random.Generator, int], Replay]
"""A problem of so many trials."""


def recorded(name: str, held_out: int, good_enough: float) -> Task:
    """A random part of the configurations of a table, and an order of its seeds, of which a search sees none that are
    `held_out`."""
    data = json.loads(lzma.decompress((DATA / f"{name}.json.xz").read_bytes()))
    space = {name: tuple(limits) for name, limits in data["space"].items()}

    def replay(rng: np.random.Generator, trials: int) -> Replay:
        chosen = rng.permutation(len(data["configs"]))[:trials]
        configs = [data["configs"][index] for index in chosen]
        runs = np.array([config["runs"] for config in configs], float)[:, rng.permutation(len(configs[0]["runs"]))]
        params, truth = [config["params"] for config in configs], runs[:, :held_out, -1].mean(axis=1)
        return Replay(space, params, runs[:, held_out:], truth, data["epochs"], data["metric"], good_enough)

    return replay


def simulated(rng: np.random.Generator, trials: int) -> Replay:
    """A bowl in three parameters, whose runs differ by a seed noise of 0.25 mm and learn at their own pace."""
    space = dict.fromkeys(("a", "b", "c"), (0.001, 1.0))
    places = rng.random((trials, 3))
    truth = 19.0 + 6.0 * ((places - rng.random(3)) ** 2) @ rng.dirichlet(np.ones(3))
    epochs = [(step + 1) / 2 for step in range(16)]
    pace, start = np.exp(rng.normal(0.0, 0.4, trials)) * 2.0, 8.0 + rng.random(trials)
    seeds = 0.25 * rng.standard_normal((trials, 12))
    learned = start[:, None] * (np.exp(-np.array(epochs) / pace[:, None]) - np.exp(-epochs[-1] / pace[:, None]))
    wobble = 0.15 * rng.standard_normal((trials, 12, 16)) * (np.arange(16) < 15)
    curves = truth[:, None, None] + seeds[:, :, None] + learned[:, None] + wobble
    params = [dict(zip(space, 10 ** (3 * place - 3), strict=True)) for place in places]
    return Replay(space, params, curves, truth, epochs, "val/pa_mpjpe_mm", 0.2)


TASKS: dict[str, Task] = {
    "simulated": simulated,
    "digits": recorded("digits", 4, 0.01),
    "hand": recorded("hand", 2, 0.2),
    "transformer": recorded("transformer", 1, 0.2),
}
