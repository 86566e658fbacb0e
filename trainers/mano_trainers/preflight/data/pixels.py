"""What becomes of pixels between the cache and the network? Real images, and how sharp they are."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mano_trainers.arrays import evenly
from mano_trainers.data.augment import HALF_WHITE
from mano_trainers.data.cache import decode
from mano_trainers.data.on_device import gather
from mano_trainers.preflight.subject import Subject, verdict, warning
from mano_trainers.report import CheckResult
from mano_trainers.training.pipeline import training_batch

IMAGES: Final = 64
TOLERANCE: Final = 0.02
"""Of pixels from -1 to 1."""
MOST_SHIFT_PX: Final = 8
SMALL_SIDE: Final = 64
LOST: Final = 0.015
"""Share of an image's variance that the coarser copy loses: less is no detail at all. Sound sets lose 0.1 or more."""
LOST_HALF: Final = 0.004
DECODED_TOLERANCE: Final = 1.0
"""Grey levels, on average, between the cache and the file decoded again."""


def check_pixels(subject: Subject) -> Iterator[CheckResult]:
    """The cache against the files, a training batch against the cache, and the detail in both."""
    if subject.data.examples:
        yield _cache(subject)
    yield _training(subject)
    yield _detail(subject)


def _cache(subject: Subject) -> CheckResult:
    size = subject.data.images.shape[1]
    apart = {
        index: float(np.abs(decode(picture, size)[0].astype(float) - subject.data.images[index]).mean())
        for index, picture in subject.data.examples
    }
    wrong = [index for index, levels in apart.items() if levels > DECODED_TOLERANCE]
    return verdict(
        "pixels.cache",
        not wrong,
        f"{len(wrong)} of {len(apart)} images in the cache differ from their file decoded now"
        + (f", image {wrong[0]} by {apart[wrong[0]]:.1f} grey levels" if wrong else ""),
        "0",
        "the cache is stale: delete its folder (TRAINERS_CACHE_DIR), and it is made again",
    )


def _training(subject: Subject) -> CheckResult:
    """A batch that is not augmented, against (pixel / 127.5 - 1) of the cache."""
    pipeline = subject.pipeline
    config = pipeline.config.model_copy(update={"augment": False})
    chosen = np.sort(pipeline.table[evenly(subject.poses, IMAGES), 0])
    images, _ = training_batch(replace(pipeline, config=config, turn_pixels=None), chosen, step=0)
    shown = images.detach().float().cpu()
    true = gather(pipeline.images, chosen, torch.device("cpu")).permute(0, 3, 1, 2).float() / HALF_WHITE - 1
    apart = float((shown - true).abs().mean()) if shown.shape == true.shape else float("inf")
    sound = apart < TOLERANCE
    return verdict(
        "pixels.training",
        sound,
        f"pixels of a batch that is not augmented differ by {apart:.3g} from the cache's, from -1 to 1"
        + ("" if sound else f"; {_likely(shown, true)}"),
        f"below {TOLERANCE:g}",
        "check in this order: what the measured line says fits best, order of channels (RGB), a shift or flip without "
        "its label, normalisation to -1 ... 1",
    )


def _likely(shown: Tensor, true: Tensor) -> str:
    """The change of the true pixels that comes nearest to those shown."""
    if shown.shape != true.shape:
        return f"their shape is {tuple(shown.shape)} where {tuple(true.shape)} is expected"
    changes: dict[str, Callable[[Tensor], Tensor]] = {
        "red and blue are swapped": lambda images: images.flip(1),
        "the images are mirrored": lambda images: images.flip(3),
        "the images are upside down": lambda images: images.flip(2),
        "they are from 0 to 1": lambda images: (images + 1) / 2,
        "they are from 0 to 255": lambda images: HALF_WHITE * (images + 1),
    }
    for shift in (each for each in range(-MOST_SHIFT_PX, MOST_SHIFT_PX + 1) if each):
        changes[f"they are shifted by {shift} px across"] = partial(torch.roll, shifts=shift, dims=3)
        changes[f"they are shifted by {shift} px across and down"] = partial(
            torch.roll, shifts=(shift, shift), dims=(2, 3)
        )
    left = {name: float((shown - change(true)).abs().mean()) for name, change in changes.items()}
    best = min(left, key=lambda name: left[name])
    return best if left[best] < 0.5 * float((shown - true).abs().mean()) else "none of the usual mistakes explains it"


def _detail(subject: Subject) -> CheckResult:
    """How much a coarser copy of the images loses: of images that were enlarged, nothing."""
    pipeline = subject.pipeline
    chosen = np.sort(pipeline.table[evenly(subject.poses, IMAGES), 0])
    grey = gather(pipeline.images, chosen, torch.device("cpu")).float().mean(-1)[:, None]
    size = grey.shape[-1]
    coarse = 2 if size <= SMALL_SIDE else 4
    lost, lost_half = _lost(grey, 2 * coarse), _lost(grey, coarse)
    sound = lost >= LOST and lost_half >= LOST_HALF
    make = verdict if lost < LOST else warning
    side = size // (2 * coarse) if lost < LOST else size // coarse
    return make(
        "pixels.detail",
        sound,
        f"at {size // (2 * coarse)} px the images lose {lost:.2%} of their variance, at {size // coarse} px "
        f"{lost_half:.2%}",
        f"at least {LOST:.1%} and {LOST_HALF:.1%}",
        f"the images of {size} px show no more than images of {side} px: they were made small and enlarged, or are "
        "blurred",
    )


def _lost(grey: Tensor, factor: int) -> float:
    """Least share of variance that images (n, 1, S, S) lose when made smaller by a factor and enlarged again."""
    size = grey.shape[-1]
    small = F.interpolate(grey, (size // factor, size // factor), mode="area")
    total = float((grey - grey.mean((2, 3), keepdim=True)).square().mean().clamp_min(1e-9))
    again = [
        F.interpolate(small, (size, size), mode="nearest"),
        F.interpolate(small, (size, size), mode="bilinear", align_corners=False),
        F.interpolate(small, (size, size), mode="bicubic", align_corners=False),
    ]
    return min(float((grey - each).square().mean()) for each in again) / total
