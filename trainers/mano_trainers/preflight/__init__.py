"""Is the pipeline sound? Measurements to make before a sweep.

Six runs over three weeks of one team differed in their loss weights alone, and all ended at 47 mm, because labels were
mispaired and the metric reported 47 mm for anything. Each check here measures one thing that such a pipeline gets
wrong, on the functions that training itself calls, in seconds.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from mano_trainers.config import TrainConfig
from mano_trainers.data.load import load_data
from mano_trainers.device import process
from mano_trainers.errors import TrainerError
from mano_trainers.preflight.augmentation import check_augmentation
from mano_trainers.preflight.data.figures import check_pairs
from mano_trainers.preflight.data.held_out import check_held_out
from mano_trainers.preflight.data.images import check_images
from mano_trainers.preflight.data.labels import check_labels
from mano_trainers.preflight.data.pairing import check_pairing
from mano_trainers.preflight.data.pixels import check_pixels
from mano_trainers.preflight.data.seen import check_seen
from mano_trainers.preflight.data.split import check_split
from mano_trainers.preflight.losses import check_losses
from mano_trainers.preflight.metrics import check_metrics
from mano_trainers.preflight.overfit import check_overfit
from mano_trainers.preflight.subject import Check, make_subject
from mano_trainers.preflight.training import check_training
from mano_trainers.report import CheckResult, CheckStatus

CHECKS: Final[dict[str, Check]] = {
    "metric": check_metrics,
    "labels": check_labels,
    "images": check_images,
    "pixels": check_pixels,
    "split": check_split,
    "held_out": check_held_out,
    "seen": check_seen,
    "figures": check_pairs,
    "pairing": check_pairing,
    "augmentation": check_augmentation,
    "loss": check_losses,
    "training": check_training,
    "overfit": check_overfit,
}
"""The cheap ones first."""
READABLE: Final = "every file is there and sound"


def preflight(config: TrainConfig, corners: Sequence[TrainConfig]) -> Iterator[CheckResult]:
    """Check data, metric, losses and training of a config.

    Bounded: at most 512 poses are looked at, and at most 20 s trained. A check that breaks down fails, and the others
    continue.

    Args:
        config: the base of the sweep.
        corners: configs at the ends of its search space, or its variants: their loss terms are looked at.

    Yields:
        Results as they become available. If the data cannot be read, the only one is ``data.readable``.
    """
    started = time.perf_counter()
    try:
        with process.settings(config) as device:
            data = load_data(config.data, config.needs_masks)
            subject = make_subject(data, config, corners, device)
            poses, images = len(data.labels.theta), len(data.images)
            found = f"{images} images of {poses} poses, {len(data.val_poses)} held out"
            seconds = time.perf_counter() - started
            yield CheckResult("data.readable", CheckStatus.PASS, found, READABLE, seconds=seconds)
            for name, check in CHECKS.items():
                yield from _timed(name, check(subject))
    except Exception as error:  # whatever a broken reader raises
        known = isinstance(error, TrainerError)
        found = str(error) if known else f"{type(error).__name__}: {error}"
        help = (error.help if isinstance(error, TrainerError) else "") or "fix what is named: no pipeline can be built"
        yield CheckResult("data.readable", CheckStatus.FAIL, found, READABLE, help, time.perf_counter() - started)


def _timed(name: str, results: Iterator[CheckResult]) -> Iterator[CheckResult]:
    """The results of a group with the seconds that each took; an exception ends the group as a failed check."""
    while True:
        started = time.perf_counter()
        try:
            result = next(results)
        except StopIteration:
            return
        except Exception as error:  # whatever a broken pipeline raises
            result = CheckResult(
                f"{name}.runs",
                CheckStatus.FAIL,
                f"{type(error).__name__}: {error}",
                "no error",
                "the pipeline itself breaks down here",
            )
        yield replace(result, seconds=time.perf_counter() - started)
