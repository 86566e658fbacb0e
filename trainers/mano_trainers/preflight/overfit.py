"""Can the pipeline memorise a few images?"""

import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from mano_trainers.config import OptimConfig, TrainConfig
from mano_trainers.loop import train_on
from mano_trainers.overfit import PASSES, few_images, overfit_config
from mano_trainers.preflight.schedule import RATE_TOLERANCE
from mano_trainers.preflight.subject import Subject, verdict
from mano_trainers.report import CheckResult, CheckStatus
from mano_trainers.training.steps import learning_rate

IMAGES: Final = 4
EPOCHS: Final = 5
LOOKS: Final = 2
"""Evaluations per epoch: most pipelines know their images after one and a half."""
NEAR_ZERO_MM: Final = 3.0
"""Against some 20 mm of a constant pose. Sound pipelines reached 1.2 to 2.2 mm."""
LEAST_LR: Final = 1e-3
"""This few steps need no less: the question is whether the pipeline can, not whether this learning rate is the best."""
BY_HEART_R2: Final = 0.95
CONTRADICTION_MM: Final = 8.0
"""With theta known this well, a sound pipeline has no such error."""
LEARNED_R2: Final = 0.8
"""Of a large model on a small machine, whose time is up before it knows its images exactly: it learns them."""
LONGEST_S: Final = 20.0
"""A large model on a small machine cannot take all steps in this time, which is the processor's: on a busy machine a
step takes as much of it as on an idle one."""
LONGEST_WALL_S: Final = 90.0


def check_overfit(subject: Subject) -> Iterator[CheckResult]:
    """Few images to an error near zero, in bounded steps and time; and the learning rates on the way."""
    config, rates = _config(subject.config), _Rates()
    started_s, started_wall_s = time.process_time(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, rates.hook():
        for report in train_on(few_images(subject.data, IMAGES), config, subject.device, Path(folder)):
            if report.checkpoint is not None:
                shutil.rmtree(report.checkpoint)  # of a large model a GB
            error_mm, r2 = report.metrics["val/pa_mpjpe_mm"], report.metrics["val/theta_r2"]
            used_s, wall_s = time.process_time() - started_s, time.perf_counter() - started_wall_s
            late = used_s > LONGEST_S * subject.config.threads or wall_s > LONGEST_WALL_S
            if error_mm < NEAR_ZERO_MM or (late and report.epoch.is_integer()):
                break
    yield _scheduled(config.optim, rates.of_network())
    measured = f"{IMAGES} images: {error_mm:.2f} mm after {report.epoch * PASSES:.0f} steps, r2 of theta {r2:.3f}"
    expected = f"below {NEAR_ZERO_MM:g} mm within {EPOCHS * PASSES} steps"
    if error_mm < NEAR_ZERO_MM:
        yield CheckResult("overfit", CheckStatus.PASS, measured, expected)
    elif report.epoch < EPOCHS and r2 > LEARNED_R2 and error_mm < CONTRADICTION_MM:
        yield CheckResult("overfit", CheckStatus.PASS, measured + ", when its time was up", expected)
    elif r2 > BY_HEART_R2 and error_mm > CONTRADICTION_MM:
        help = "theta is memorised, but the error does not show it: hand layer, labels or metric contradict theta"
        yield CheckResult("overfit", CheckStatus.FAIL, measured, expected, help)
    elif report.epoch < EPOCHS or error_mm < CONTRADICTION_MM:
        alone = "`python -m mano_trainers CONFIG --overfit 8`"
        help = f"too few steps to tell, in {LONGEST_S:g} s on this machine: try {alone}"
        yield CheckResult("overfit", CheckStatus.WARN, measured, expected, help)
    else:
        help = "not even four images are learned: look at the checks above, then at loss weights and learning rate"
        yield CheckResult("overfit", CheckStatus.FAIL, measured, expected, help)


class _Rates:
    """The learning rates that optimizers step with: those of learned loss weights hold fewer parameters. Each is kept:
    that of the best constant pose ends before the network's begins, which could else get its `id`."""

    def __init__(self) -> None:
        self.seen: dict[torch.optim.Optimizer, list[float]] = defaultdict(list)

    @contextmanager
    def hook(self) -> Iterator[None]:
        handle = register_optimizer_step_pre_hook(self.step)
        try:
            yield
        finally:
            handle.remove()

    def step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self.seen[optimizer].append(float(optimizer.param_groups[0]["lr"]))

    def of_network(self) -> list[float]:
        return self.seen[max(self.seen, key=_size)] if self.seen else []


def _size(optimizer: torch.optim.Optimizer) -> int:
    return sum(len(group["params"]) for group in optimizer.param_groups)


def _scheduled(config: OptimConfig, rates: list[float]) -> CheckResult:
    """Rates of all steps, including those after the warm-up, against the schedule of a run with this many steps."""
    total = EPOCHS * PASSES * IMAGES // config.batch_size
    expected = np.array([learning_rate(config, step, total) for step in range(len(rates))])
    apart = float(np.abs(np.array(rates) - expected).max(initial=0.0)) / config.lr
    return verdict(
        "overfit.rates",
        bool(rates) and apart < RATE_TOLERANCE,
        f"in {len(rates)} steps the learning rate differs from the schedule's by at most {apart:.1%} of optim.lr",
        f"below {RATE_TOLERANCE:.0%}",
        "the loop counts steps differently from the schedule: it steps once per epoch, or assumes another run length",
    )


def _config(base: TrainConfig) -> TrainConfig:
    config = overfit_config(base, IMAGES)
    optim = config.optim.model_copy(update={"epochs": EPOCHS, "lr": max(config.optim.lr, LEAST_LR)})
    return config.model_copy(update={"optim": optim, "evaluate_every": 1 / LOOKS})
