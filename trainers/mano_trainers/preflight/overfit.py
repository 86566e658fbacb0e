"""Can the pipeline memorise a few images?"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mano_trainers.config import TrainConfig
from mano_trainers.loop import train_on
from mano_trainers.overfit import PASSES, few_images, overfit_config
from mano_trainers.preflight.subject import Subject
from mano_trainers.report import CheckResult, CheckStatus

IMAGES: Final = 4
EPOCHS: Final = 5
NEAR_ZERO_MM: Final = 3.0
"""Against some 20 mm of a constant pose. Sound pipelines came to 1.2 to 2.2 mm."""
LEAST_LR: Final = 1e-3
"""So few steps need no less: what is asked is whether the pipeline can, not whether this learning rate is the best."""
BY_HEART_R2: Final = 0.95
CONTRADICTION_MM: Final = 8.0
"""Theta known so well leaves no such error in a sound pipeline."""
LEARNED_R2: Final = 0.8
"""Of a large model on a small machine, whose time is up before it knows its images exactly: it learns them."""
LONGEST_S: Final = 20.0
"""A large model on a small machine cannot take all steps in this time, which is the processor's: on a busy machine a
step takes as much of it as on an idle one."""
LONGEST_WALL_S: Final = 90.0


def check_overfit(subject: Subject) -> Iterator[CheckResult]:
    """Few images to an error near zero, in bounded steps and time."""
    config = _config(subject.config)
    started_s, started_wall_s = time.process_time(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for report in train_on(few_images(subject.data, IMAGES), config, subject.device, Path(folder)):
            error_mm, r2 = report.metrics["val/pa_mpjpe_mm"], report.metrics["val/theta_r2"]
            used_s, wall_s = time.process_time() - started_s, time.perf_counter() - started_wall_s
            if error_mm < NEAR_ZERO_MM or used_s > LONGEST_S * subject.config.threads or wall_s > LONGEST_WALL_S:
                break
    measured = f"{IMAGES} images: {error_mm:.2f} mm after {report.step * PASSES} steps, r2 of theta {r2:.3f}"
    expected = f"below {NEAR_ZERO_MM:g} mm within {EPOCHS * PASSES} steps"
    if error_mm < NEAR_ZERO_MM:
        yield CheckResult("overfit", CheckStatus.PASS, measured, expected)
    elif report.step < EPOCHS and r2 > LEARNED_R2 and error_mm < CONTRADICTION_MM:
        yield CheckResult("overfit", CheckStatus.PASS, measured + ", when its time was up", expected)
    elif r2 > BY_HEART_R2 and error_mm > CONTRADICTION_MM:
        help = "theta is memorised, but the error does not show it: hand layer, labels or metric contradict theta"
        yield CheckResult("overfit", CheckStatus.FAIL, measured, expected, help)
    elif report.step < EPOCHS or error_mm < CONTRADICTION_MM:
        alone = "`python -m mano_trainers CONFIG --overfit 8`"
        help = f"too few steps to tell, in {LONGEST_S:g} s on this machine: try {alone}"
        yield CheckResult("overfit", CheckStatus.WARN, measured, expected, help)
    else:
        help = "not even four images are learned: look at the checks above, then at loss weights and learning rate"
        yield CheckResult("overfit", CheckStatus.FAIL, measured, expected, help)


def _config(base: TrainConfig) -> TrainConfig:
    config = overfit_config(base, IMAGES)
    optim = config.optim.model_copy(update={"epochs": EPOCHS, "lr": max(config.optim.lr, LEAST_LR)})
    return config.model_copy(update={"optim": optim})
