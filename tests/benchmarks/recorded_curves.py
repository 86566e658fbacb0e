"""The curves that `record_curves.py` recorded, as a table of configurations."""

import json
import lzma
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sweeper.pruning.guards import Evaluation

TABLE = Path(__file__).parent / "curves.json.xz"
OBJECTIVE = "val/pa_mpjpe_mm"
NEAR_BEST = 1.02
HEALTHY_SKILL, HEALTHY_RATIO = 0.05, 0.05


@dataclass(frozen=True)
class Table:
    """The recorded curves.

    Attributes:
        params: of each configuration.
        place: (N, dimensions) where it lies in the search space, 0 to 1 along each log scale.
        curves: its evaluations.
        healthy: (N,) whether it has skill and varied predictions in the end.
        targets: the healthy configurations that are within 2 % of the best of them.
    """

    space: dict[str, tuple[float, float]]
    params: list[dict[str, float]]
    place: np.ndarray
    curves: list[list[Evaluation]]
    healthy: np.ndarray
    targets: set[int]

    @property
    def epochs(self) -> float:
        """Length of a full run."""
        return max(curve[-1].epoch for curve in self.curves)

    def value(self, index: int, step: int = -1) -> float:
        return self.curves[index][step].metrics[OBJECTIVE]

    def nearest(self, params: dict[str, float], unused: Sequence[int]) -> int:
        """The unused configuration that is nearest to a proposal."""
        distance = np.linalg.norm(self.place[list(unused)] - _place(params, self.space), axis=1)
        return unused[int(distance.argmin())]


def load_table(path: Path, rows: slice = slice(None)) -> Table:
    """Those rows of the recorded table."""
    data = json.loads(lzma.decompress(path.read_bytes()))
    data["trials"] = data["trials"][rows]
    space = {name: tuple(limits) for name, limits in data["space"].items()}
    curves = []
    for trial in data["trials"]:
        names, columns = trial["curve"].keys(), zip(*trial["curve"].values(), strict=True)
        rows = [{n: math.nan if v is None else v for n, v in zip(names, row, strict=True)} for row in columns]
        curves.append([Evaluation(epoch, row) for epoch, row in zip(data["epochs"], rows, strict=False)])
    params = [trial["params"] for trial in data["trials"]]
    last = [curve[-1].metrics for curve in curves]
    healthy = np.array([m["val/skill"] > HEALTHY_SKILL and m["val/theta_var_ratio"] > HEALTHY_RATIO for m in last])
    best = min(m[OBJECTIVE] for m, is_healthy in zip(last, healthy, strict=True) if is_healthy)
    targets = {index for index in np.flatnonzero(healthy).tolist() if last[index][OBJECTIVE] <= NEAR_BEST * best}
    place = np.array([_place(each, space) for each in params])
    return Table(space, params, place, curves, healthy, targets)


def _place(params: dict[str, float], space: dict[str, tuple[float, float]]) -> np.ndarray:
    return np.array([math.log(params[name] / low) / math.log(high / low) for name, (low, high) in space.items()])
