"""A training function: a config in, one report per epoch out. Put your own training in its place."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class Config:
    """What a sweep may set; the rest keeps its default."""

    lr: float = 0.1
    hidden: int = 16
    epochs: int = 8
    seed: int = 0


def train(config: Config, workdir: Path, resume: Path | None = None) -> Iterator[tuple[int, dict[str, float], Path]]:
    random = np.random.default_rng(config.seed)
    x = random.uniform(-1, 1, (200, 1))
    y = np.sin(3 * x) + random.normal(0, 0.1, x.shape)
    weights: dict[str, Any] = {
        "in": random.normal(0, 1, (1, config.hidden)),
        "bias": np.zeros(config.hidden),
        "out": random.normal(0, config.hidden**-0.5, (config.hidden, 1)),
    }
    done = 0
    if resume is not None:  # after an interruption: what was reported last
        with np.load(resume) as state:
            weights, done = {name: state[name] for name in weights}, int(state["epoch"])
    for epoch in range(done + 1, config.epochs + 1):
        for _ in range(20):
            hidden = np.tanh(x[:150] @ weights["in"] + weights["bias"])
            error = hidden @ weights["out"] - y[:150]
            back = error @ weights["out"].T * (1 - hidden**2)
            weights["out"] = weights["out"] - config.lr * hidden.T @ error / 150
            weights["in"] = weights["in"] - config.lr * x[:150].T @ back / 150
            weights["bias"] = weights["bias"] - config.lr * back.mean(axis=0)
        predicted = np.tanh(x[150:] @ weights["in"] + weights["bias"]) @ weights["out"]
        rmse = float(np.sqrt(np.mean((predicted - y[150:]) ** 2)))
        np.savez(workdir / "state.npz", epoch=epoch, **weights)
        yield epoch, {"val/rmse": rmse}, workdir / "state.npz"  # epoch, metrics; a checkpoint if there is one
