"""Freeze-thaw, replayed: after every evaluation the search goes on with whichever trial, or new configuration, is most
likely to end better than the best. Does it need fewer epochs than the best ASHA for the same regret?

The model is a Gaussian process over (configuration, epoch) after Swersky, Snoek and Adams, "Freeze-Thaw Bayesian
Optimization", arXiv 2014: Matern 5/2 over the logarithms of the parameters for where curves end, their exponential
decay kernel for how they come there, and noise. Its seven scales are those of the greatest likelihood, found again
whenever a quarter more evaluations are known. A decision is a pure function of the evaluations so far.

For each mean regret that ASHA has, at its epochs, the budget at which freeze-thaw has no more is looked up. Resuming
costs nothing here, which favours it.

    PYTHONPATH=. python tests/benchmarks/freeze_thaw.py --task hand --replays 40
"""

import argparse
import math
from dataclasses import dataclass, field

import numpy as np
from figures import interval
from replays import TASKS, Replay
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize
from scipy.stats import norm
from search_noise import SETTINGS, asha, search

JITTER = 1e-6
GROWTH = 1.25
"""So many times the evaluations of the last fit call for another."""
START = np.log([1.0, 0.5, 0.3, 0.3, 0.1, 0.5, 1.0])
"""Scales: of what parameters decide, of what they do not, of the decay that parameters decide, of that which they do
not, of the noise; the length of the Matern kernel in units of the space; beta of the decay."""


@dataclass
class Model:
    """The Gaussian process. `places`: of all configurations, in the unit cube; `last`: the epoch that counts."""

    places: np.ndarray
    last: float
    index: list[int] = field(default_factory=list)
    epoch: list[float] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    scales: np.ndarray = field(default_factory=lambda: START.copy())
    fitted_at: int = 0

    def __post_init__(self) -> None:
        gaps = self.places[:, None] - self.places[None]
        self.distances = np.sqrt((gaps**2).sum(-1))

    def add(self, index: int, epoch: float, value: float) -> None:
        self.index.append(index)
        self.epoch.append(epoch)
        self.value.append(value)

    def ends(self, indices: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of what these configurations would come to, without noise."""
        if len(self.value) >= GROWTH * self.fitted_at and len(self.value) >= 8:
            self.fitted_at = len(self.value)
            found = minimize(self._loss, self.scales, method="L-BFGS-B", options={"maxiter": 15})
            self.scales = np.clip(found.x, math.log(1e-3), math.log(30.0))
        trend, residual, unit = self._standardised()
        own, times = np.array(self.index), np.array(self.epoch)
        covariance = self._kernel(own, times, own, times) + self._noise() * np.eye(len(own))
        factor = cho_factor(covariance, lower=True)
        asked, at = np.array(indices), np.full(len(indices), self.last)
        cross = self._kernel(asked, at, own, times)
        mean = trend(at) + unit * cross @ cho_solve(factor, residual)
        explained = (solve_triangular(factor[0], cross.T, lower=True) ** 2).sum(0)
        prior = np.diag(self._kernel(asked, at, asked, at))
        return mean, unit * np.sqrt(np.maximum(prior - explained, 1e-9))

    def _standardised(self) -> tuple:
        """The trend of all curves, a constant and a decay, and what is left of the values in units of its spread."""
        times, values = np.array(self.epoch), np.array(self.value)
        basis = np.stack([np.ones_like(times), 1 / (1 + times)], 1)
        known = len(set(self.epoch)) > 1
        weights = np.linalg.lstsq(basis, values, rcond=None)[0] if known else np.array([values.mean(), 0.0])
        residual = values - basis @ weights
        unit = float(residual.std()) or 1.0
        return (lambda at: weights[0] + weights[1] / (1 + at)), residual / unit, unit

    def _noise(self) -> float:
        return float(np.exp(2 * self.scales[4])) + JITTER

    def _kernel(self, a: np.ndarray, at: np.ndarray, b: np.ndarray, bt: np.ndarray) -> np.ndarray:
        shared, own, shared_decay, own_decay, _, length, beta = np.exp(self.scales)
        scaled = math.sqrt(5) * self.distances[np.ix_(a, b)] / length
        matern = (1 + scaled + scaled**2 / 3) * np.exp(-scaled)
        same = (a[:, None] == b[None]).astype(float)
        decay = beta / (at[:, None] + bt[None] + beta)
        return matern * (shared**2 + shared_decay**2 * decay) + same * (own**2 + own_decay**2 * decay)

    def _loss(self, scales: np.ndarray) -> float:
        kept, self.scales = self.scales, np.clip(scales, math.log(1e-3), math.log(30.0))
        own, times = np.array(self.index), np.array(self.epoch)
        _, residual, _ = self._standardised()
        covariance = self._kernel(own, times, own, times) + self._noise() * np.eye(len(own))
        self.scales = kept
        try:
            lower, _ = cho_factor(covariance, lower=True)
        except np.linalg.LinAlgError:
            return 1e9
        whitened = solve_triangular(lower, residual, lower=True)
        prior = 0.05 * float(((scales - START) ** 2).sum())  # few evaluations say little of seven scales
        return 0.5 * float(whitened @ whitened) + float(np.log(np.diag(lower)).sum()) + prior


def freeze_thaw(replay: Replay, budget: float) -> list[tuple[float, float]]:
    """(epochs, regret of what would be chosen) after each evaluation."""
    low, high = np.log(np.array(list(replay.space.values()))).T
    points = np.log([[params[name] for name in replay.space] for params in replay.params])
    model = Model((points - low) / (high - low), replay.epochs[-1])
    steps = [0] * len(points)
    begun, epochs, path = 0, 0.0, []
    step_epochs = replay.epochs[0]
    while epochs < budget:
        open_ones = [index for index in range(begun) if steps[index] < len(replay.epochs)]
        candidates = open_ones + ([begun] if begun < len(points) else [])
        if not candidates:
            break
        if begun < 3:
            index = begun
        else:
            mean, spread = model.ends([*range(begun), *candidates])
            best = mean[:begun].min()
            index = candidates[int(np.argmax(norm.cdf((best - mean[begun:]) / spread[begun:])))]
        begun = max(begun, index + 1)
        model.add(index, replay.epochs[steps[index]], float(replay.curves[index, 0, steps[index]]))
        steps[index] += 1
        epochs += step_epochs
        if begun >= 3:
            chosen = int(np.argmin(model.ends(list(range(begun)))[0]))
            path.append((epochs, float(replay.truth[chosen] - replay.truth.min())))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--replays", type=int, default=40)
    parser.add_argument("--trials", type=int, default=24)
    args = parser.parse_args()
    problems = [TASKS[args.task](np.random.default_rng(seed), args.trials) for seed in range(args.replays)]
    rivals = {}
    for grace, eta in SETTINGS:
        rows = [search(asha(grace, eta))(problem) for problem in problems]
        rivals[f"ASHA {grace}/{eta}"] = np.array(
            [(epochs, p.truth[chosen] - p.truth.min()) for (epochs, chosen, _), p in zip(rows, problems, strict=True)]
        )
    budget = max(rows[:, 0].mean() for rows in rivals.values())
    grid = np.arange(4.0, budget, 2.0)
    regrets = np.empty((args.replays, len(grid)))
    for place, problem in enumerate(problems):
        path = np.array(freeze_thaw(problem, budget))
        reached = np.searchsorted(path[:, 0], grid, side="right") - 1
        regrets[place] = path[np.clip(reached, 0, None), 1]
    print(f"{args.task}, {args.replays} replays of {args.trials} configurations")
    for name, rows in rivals.items():

        def ratio(draw: np.ndarray, rows: np.ndarray = rows) -> float:
            reached = np.nonzero(regrets[draw].mean(0) <= rows[draw, 1].mean())[0]
            return float(rows[draw, 0].mean() / grid[reached[0]]) if len(reached) else 0.0

        low, high = interval(ratio, args.replays)
        at_equal = regrets[:, min(len(grid) - 1, int(np.searchsorted(grid, rows[:, 0].mean())))].mean()
        fewer = ratio(np.arange(args.replays))
        print(f"{name}: {rows[:, 0].mean():.1f} epochs, regret {rows[:, 1].mean():.4f}; freeze-thaw {at_equal:.4f}; "
              f"it has no more after {fewer:.2f} times fewer epochs ({low:.2f} to {high:.2f}; 0: never)",
              flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
