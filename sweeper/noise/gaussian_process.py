"""The mean over seeds of each configuration of a study, given one run or a few of each: a Gaussian process.

Sixty lines of numpy rather than scikit-learn's: that one finds the single most likely noise, which after some twenty
runs of one seed each is often none at all, and intervals are then too narrow. Here the noise and all other
hyperparameters are drawn from their posterior by elliptical slice sampling (Murray, Adams and MacKay 2010,
https://arxiv.org/abs/1001.0175), which has nothing to tune. Imports scipy, so import it late.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular

Array = np.ndarray[Any, Any]

BURN_IN: Final = 60
KEPT: Final = 100
"""Draws of the hyperparameters."""
THINNING: Final = 2
DRAWS: Final = 40
"""Draws of the means for each of them."""
LENGTH_LOG_SD: Final = math.sqrt(3)
"""The prior of a length scale in the unit cube is log-normal around exp(sqrt 2) times the root of the number of
parameters (Hvarfner, Hellsten and Nardi 2024, https://arxiv.org/abs/2402.02229)."""
SCALES: Final = ((0.0, 0.5), (math.log(0.1), 1.0), (math.log(0.3), 1.0))
"""Mean and standard deviation of the logarithms of three standard deviations, as parts of that of all values: of the
smooth function, of what is specific to each configuration, of the noise."""
JITTER: Final = 1e-8


@dataclass(frozen=True)
class Posterior:
    """Draws from what may be true.

    Attributes:
        means: (draws, configurations), the mean over seeds of each.
        noise_sd: (KEPT,) the standard deviation between runs of one configuration.
    """

    means: Array
    noise_sd: Array


def posterior(places: Array, averages: Array, runs: Array, within: float, seed: int = 0) -> Posterior:
    """What the configurations may reach on average over seeds.

    Args:
        places: (n, d) where each configuration lies in the unit cube; n of 2 or more.
        averages: (n,) mean over its runs.
        runs: (n,) how many those are.
        within: sum over all runs of the squared distance from the average of their configuration.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    centre, scale = float(np.mean(averages)), float(np.std(averages)) or 1.0
    model = _Model((places[:, None] - places[None]) ** 2, (averages - centre) / scale, runs, within / scale**2)
    hyper = rng.standard_normal(places.shape[1] + len(SCALES))
    means, noises = [], []
    likelihood = model.log_likelihood(hyper)
    for step in range(BURN_IN + KEPT * THINNING):
        hyper, likelihood = _slice_step(model, hyper, likelihood, rng)
        if step >= BURN_IN and (step - BURN_IN) % THINNING == 0:
            means.append(model.draw_means(hyper, rng))
            noises.append(model.scales(hyper)[2])
    return Posterior(np.concatenate(means) * scale + centre, np.array(noises) * scale)


@dataclass(frozen=True)
class _Model:
    """Standardised values. `squares`: (n, n, d) squared differences of the places."""

    squares: Array
    averages: Array
    runs: Array
    within: float

    def scales(self, hyper: Array) -> Array:
        """Standard deviations, as SCALES has them."""
        centres, spreads = np.array(SCALES).T
        return np.asarray(np.exp(centres + spreads * hyper[-len(SCALES) :]))

    def _covariances(self, hyper: Array) -> tuple[Array, Array]:
        """Of the means, prior to any run, and of the averages over runs: a Matern kernel of smoothness 5/2."""
        dimensions = self.squares.shape[2]
        lengths = np.exp(math.sqrt(2) + 0.5 * math.log(max(dimensions, 1)) + LENGTH_LOG_SD * hyper[:dimensions])
        smooth, own, noise = self.scales(hyper)
        distance = np.sqrt(5.0 * (self.squares @ lengths**-2.0))
        of_means = 1.0 + smooth**2 * (1.0 + distance + distance**2 / 3.0) * np.exp(-distance)
        of_means += np.eye(len(self.runs)) * (own**2 + JITTER)
        return of_means, of_means + np.diag(noise**2 / self.runs)

    def log_likelihood(self, hyper: Array) -> float:
        """Up to a constant: of the averages, and of the runs around them."""
        try:
            factor = cholesky(self._covariances(hyper)[1], lower=True, check_finite=False)
        except LinAlgError:  # so smooth a function that rounding decides
            return -math.inf
        fitted = solve_triangular(factor, self.averages, lower=True, check_finite=False)
        noise = float(self.scales(hyper)[2])
        around = (self.runs.sum() - len(self.runs)) * math.log(noise) + self.within / (2.0 * noise**2)
        return float(-0.5 * fitted @ fitted - np.log(np.diag(factor)).sum() - around)

    def draw_means(self, hyper: Array, rng: np.random.Generator) -> Array:
        """(DRAWS, n) means over seeds, given the runs."""
        of_means, of_averages = self._covariances(hyper)
        gain = cho_solve((cholesky(of_averages, lower=True), True), of_means).T
        remaining = of_means - gain @ of_means
        values, vectors = np.linalg.eigh((remaining + remaining.T) / 2)  # of which rounding may make some negative
        factor = vectors * np.sqrt(np.maximum(values, 0.0))
        return np.asarray(gain @ self.averages + rng.standard_normal((DRAWS, len(of_means))) @ factor.T)


def _slice_step(model: _Model, hyper: Array, likelihood: float, rng: np.random.Generator) -> tuple[Array, float]:
    """The next draw of the hyperparameters, whose prior is a standard normal, and its likelihood."""
    other = rng.standard_normal(len(hyper))
    level = likelihood + math.log(rng.uniform())
    angle = rng.uniform(0.0, 2 * math.pi)
    low, high = angle - 2 * math.pi, angle
    while True:
        proposed = hyper * math.cos(angle) + other * math.sin(angle)
        found = model.log_likelihood(proposed)
        if found > level or high - low < 1e-9:
            return proposed, found
        low, high = (angle, high) if angle < 0 else (low, angle)
        angle = rng.uniform(low, high)
