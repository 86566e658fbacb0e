"""Do pictures show something, and do the labels lie on the hands in them, unmirrored?"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

from mano_trainers.arrays import Array, Integers, evenly
from mano_trainers.data.load import cache_folder, embedded_root
from mano_trainers.data.on_device import gather
from mano_trainers.data.readers.crop import project
from mano_trainers.data.verify import LEAST_INSIDE, LEAST_ON_MASK, on_mask
from mano_trainers.preflight.permutation import p_value, permutations
from mano_trainers.preflight.subject import Subject, verdict
from mano_trainers.report import CheckResult

SIDE = 32
"""Pictures are examined at this size: enough to tell a hand from its surroundings."""
LEAST_CONTRAST = 2.0
"""Standard deviation of the grey values (0 to 255) below which a picture shows nothing."""
MOST_EMPTY = 0.01
FINGERS = [[0, *range(first, first + 4)] for first in range(1, 21, 4)]
PALM = [0, 1, 5, 9, 13, 17]
STRONG_P = 0.01
MOSTLY = 0.4
"""It is a half for labels that do not fit at all, and nearly 0 for mirrored ones."""
MOST_IMAGES = 256
LESS_INSIDE = 0.1
"""Share of the joints by which validated pictures may show less than trained ones."""


@dataclass(frozen=True)
class Shown:
    """Some training images, and the labels they have in training: images (n, S, S, 3), pixels (n, 21, 2) of S."""

    images: Array
    pixels: Array


def check_images(subject: Subject) -> Iterator[CheckResult]:
    """Content, position of the joints in the picture, and whether a stick figure of them lies on a hand."""
    shown = _shown(subject)
    yield _content(shown)
    yield _inside(subject, shown)
    yield _validated_inside(subject, shown)
    yield from _projection(shown)


def _shown(subject: Subject) -> Shown:
    pipeline = subject.pipeline
    poses = evenly(subject.poses, MOST_IMAGES)
    versions = np.arange(len(poses)) % pipeline.table.shape[1]  # all versions in turn
    return show(subject, np.sort(pipeline.table[poses, versions]))


def show(subject: Subject, chosen: Integers) -> Shown:
    """The images at the indices `chosen`, reduced, and where their labels' joints lie in them."""
    pipeline = subject.pipeline
    labels = pipeline.data.labels
    of = labels.pose_index[chosen]
    pixels = project(labels.intrinsics[of], labels.joints_m[of])
    pixels *= SIDE / pipeline.data.sides_px[of, None, None]
    order = np.argsort(chosen, kind="stable")  # the file is read forwards
    images = gather(pipeline.images, chosen[order], torch.device("cpu"))[torch.from_numpy(np.argsort(order))]
    images = images.permute(0, 3, 1, 2).float()
    small = F.interpolate(images, (SIDE, SIDE), mode="area").permute(0, 2, 3, 1).double().numpy()
    return Shown(small, pixels)


def _content(shown: Shown) -> CheckResult:
    grey = shown.images.mean(-1)
    contrast = grey.std(axis=(1, 2))
    empty = float((contrast < LEAST_CONTRAST).mean())
    variety = float(grey.std(axis=0).mean())
    return verdict(
        "images.content",
        empty <= MOST_EMPTY and variety > LEAST_CONTRAST,
        f"{empty:.1%} of the pictures have only one colour; a pixel varies by {variety:.1f} of 255 between pictures",
        f"at most {MOST_EMPTY:.0%}, over {LEAST_CONTRAST:g}",
        "look at the files: black or identical pictures come from a failed export, an empty mask, or a wrong crop",
    )


def _inside(subject: Subject, shown: Shown) -> CheckResult:
    inside = _share_inside(shown)
    masked = _share_on_masks(subject)
    says = "" if masked is None else f", {masked:.0%} on the hand's mask"
    return verdict(
        "labels.projection",
        inside >= LEAST_INSIDE and (masked is None or masked >= LEAST_ON_MASK),
        f"{inside:.0%} of the joints lie in their picture{says}",
        f"at least {LEAST_INSIDE:.0%}" + ("" if masked is None else f", {LEAST_ON_MASK:.0%}"),
        "camera matrices and joints do not match each other, or these pictures: check K, crop and resizing",
    )


def _validated_inside(subject: Subject, shown: Shown) -> CheckResult:
    """Whether validated pictures show their hands: `data.crop` cuts FreiHAND's without looking at the labels."""
    data, chosen = subject.pipeline.data, evenly(subject.pipeline.val_images, MOST_IMAGES)
    of = data.labels.pose_index[chosen]
    pixels = project(data.labels.intrinsics[of], data.labels.joints_m[of])
    share = float(((pixels >= 0) & (pixels < data.sides_px[of, None, None])).all(-1).mean())
    trained = _share_inside(shown)
    least = max(LEAST_INSIDE, trained - LESS_INSIDE)
    return verdict(
        "split.inside",
        share >= least,
        f"{share:.0%} of the joints of validated poses lie in their picture, {trained:.0%} of trained ones",
        f"at least {least:.0%}",
        "hands are cut off that validation is about: if data.crop is set, hands do not lie in the middle of the "
        "pictures, so use a larger factor or `null`; else look at K of the validated pictures",
    )


def _share_inside(shown: Shown) -> float:
    return float(((shown.pixels >= 0) & (shown.pixels < SIDE)).all(-1).mean())


def _share_on_masks(subject: Subject) -> float | None:
    """Share of joints on the masks of FreiHAND's layout; None if there are no masks, or several sets."""
    config, data = subject.pipeline.config.data, subject.pipeline.data
    if config.sets or config.format != "freihand":
        return None
    root = embedded_root(config, cache_folder()) if config.root == "embedded" else Path(config.root).expanduser()
    poses = evenly(subject.poses, MOST_IMAGES)
    paths = [root / "training" / "mask" / f"{pose:08d}.jpg" for pose in poses]
    if not all(path.exists() for path in paths):
        return None
    labels = data.labels
    pixels = project(labels.intrinsics[poses], labels.joints_m[poses]) + data.corners_px[poses, None]
    return float(np.mean([on_mask(path, points) for path, points in zip(paths, pixels, strict=True)]))


def _projection(shown: Shown) -> Iterator[CheckResult]:
    """A stick figure drawn from the labels separates the hand's colours from the rest: better than the figures of other
    hands, and better than its own mirror image."""
    pictures = Pictures(shown.images)
    figures = draw_figures(shown.pixels)
    own = pictures.separation(figures)
    others = [float(pictures.separation(figures[order]).mean()) for order in permutations(len(own), 99)]
    p = p_value(float(own.mean()), others)
    yield verdict(
        "labels.silhouette",
        p <= STRONG_P,
        f"figures of the labels separate hand and background by {own.mean():.2f}, those of other poses by "
        f"{np.mean(others):.2f} (p = {p:.2g})",
        f"more, p at most {STRONG_P}",
        "the labels do not lie on the hands in their pictures: check pairing, camera matrices and crops",
    )
    mirrored_pixels = shown.pixels * [-1, 1] + [SIDE, 0]
    mirrored = pictures.separation(draw_figures(mirrored_pixels))
    better = float((own > mirrored).mean())
    yield verdict(
        "images.mirrored",
        better > MOSTLY,
        f"{better:.0%} of the pictures fit their labels better than the labels' mirror image",
        f"over {MOSTLY:.0%}",
        "the pictures are flipped, or the labels' x axis is: mirror one of them, and remember that a flip makes a left "
        "hand",
    )


class Pictures:
    """Colours of pictures (n, S, S, 3), prepared so that many figures can be laid on them."""

    def __init__(self, images: Array) -> None:
        count = len(images)
        flat = images.reshape(count, -1, 3)
        self.colours = flat - flat.mean(1, keepdims=True)
        covariance = np.einsum("npc,npd->ncd", self.colours, self.colours) / flat.shape[1]
        self.precision = np.linalg.inv(covariance + np.eye(3))  # 1 of 255 squared: a picture may have only one colour

    def separation(self, figures: npt.NDArray[np.bool_]) -> Array:
        """Squared distance (n,) of the mean colours inside and outside of figures (n, S, S), in units of its spread."""
        weight = figures.reshape(len(figures), 1, -1).astype(np.float64)
        inside = weight.sum(2).clip(1)
        total = weight.shape[2]
        summed = (weight @ self.colours)[:, 0]
        apart = summed / inside + summed / (total - inside).clip(1)  # colours are centred: inside and outside sum to 0
        distance: Array = np.einsum("nc,ncd,nd->n", apart, self.precision, apart)
        return distance

    def separations(self, figures: npt.NDArray[np.bool_]) -> Array:
        """As `separation`, (n, m) for each figure (m, S, S) on each picture."""
        weight = figures.reshape(len(figures), -1).astype(np.float32)
        inside, total = weight.sum(1).clip(1), weight.shape[1]
        summed = np.stack([self.colours[..., channel].astype(np.float32) @ weight.T for channel in range(3)], axis=-1)
        apart = summed * (1 / inside + 1 / (total - inside).clip(1))[:, None]
        turned = apart @ self.precision.astype(np.float32)
        distances: Array = (turned * apart).sum(-1).astype(np.float64)
        return distances


def draw_figures(pixels: Array) -> npt.NDArray[np.bool_]:
    """Hands (n, SIDE, SIDE) drawn from their joints (n, 21, 2): fingers as thick lines, the palm as a surface."""
    drawn = np.zeros((len(pixels), SIDE, SIDE), dtype=bool)
    for figure, joints in zip(drawn, pixels, strict=True):
        canvas = Image.new("1", (SIDE, SIDE))
        draw = ImageDraw.Draw(canvas)
        points = [(float(x), float(y)) for x, y in joints.clip(-SIDE, 2 * SIDE)]
        draw.polygon([points[joint] for joint in PALM], fill=1)
        width = max(1, round(float(np.linalg.norm(joints[9] - joints[0])) / 5))
        for finger in FINGERS:
            draw.line([points[joint] for joint in finger], fill=1, width=width)
        figure[:] = np.asarray(canvas)
    return drawn
