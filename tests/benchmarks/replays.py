"""Search problems whose truth is known, to replay searches on: a recorded table, and a simulated one."""

import json
import lzma
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DIGITS = Path(__file__).parent / "data" / "digits.json.xz"
HELD_OUT = 4
"""Seeds of a table that no search sees."""
GOOD_ENOUGH_NLL = 0.01


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


def digits(rng: np.random.Generator, trials: int) -> Replay:
    """A random part of the table's configurations, and an order of its seeds."""
    data = json.loads(lzma.decompress(DIGITS.read_bytes()))
    chosen = rng.permutation(len(data["configs"]))[:trials]
    configs = [data["configs"][index] for index in chosen]
    runs = np.array([config["runs"] for config in configs], float)[:, rng.permutation(len(configs[0]["runs"]))]
    space = {name: tuple(limits) for name, limits in data["space"].items()}
    truth = runs[:, :HELD_OUT, -1].mean(axis=1)
    return Replay(
        space,
        [c["params"] for c in configs],
        runs[:, HELD_OUT:],
        truth,
        data["epochs"],
        data["metric"],
        GOOD_ENOUGH_NLL,
    )


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
