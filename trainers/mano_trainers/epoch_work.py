"""How much work an epoch of a config is, and how fast each GPU does it, for users who have neither data nor a GPU yet.

Imports no torch: plans are made with it. docs/strength.md says how the rates were found and how far off they may be.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mano_trainers.config import PATCH_PX, TrainConfig
from mano_trainers.config.data import DataConfig, DataSetConfig
from mano_trainers.report import EpochWork, GpuRate

MEASURED_PX: Final = 224
SMALLEST_PX: Final = 160
"""In smaller images a step is limited by how fast kernels start, not by the pixels that the rates are scaled by."""
EVALUATION_SHARE: Final = 1 / 3
"""Cost relative to training on an image: forward without backward."""
ON_H200: Final = {"resnet18": 9533.0, "vit_b16": 2577.0}
"""Images/s that we measured at 224 px (docs/benchmarks.md): steps recorded, not compiled."""
ON_RTX3090: Final = {"resnet18": 3482.0, "resnet34": 2037.0, "resnet50": 1218.0, "vit_s16": 1058.0, "vit_b16": 393.0}
"""Images/s of training, by timm (results/benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv): how backbones compare."""
GIGA_MACS: Final = {"resnet18": 1.82, "resnet34": 3.67, "resnet50": 4.11, "vit_s16": 4.61, "vit_b16": 17.58}
"""Multiplications and additions of an image at 224 px, by timm."""
T4_FLOPS: Final = 428 * 2 * 4.11e9
"""Per second in float32, since a T4 has no bfloat16: NVIDIA's ResNet-50 infers 428 images/s (DeepLearningExamples)."""


@dataclass(frozen=True)
class Scaled:
    """How a GPU compares with an H200 (NVIDIA's data sheets, SXM, dense): `bandwidth` limits convolutions, `products`
    in bfloat16 transformers. 1: the same."""

    bandwidth: float
    products: float


SCALED: Final = {"A100": Scaled(2.04 / 4.8, 312 / 989), "H100": Scaled(3.35 / 4.8, 1.0)}


@dataclass(frozen=True)
class SetSize:
    """Poses and images of a data set's training part, and images of its labelled evaluation."""

    poses: int
    images: int
    evaluation: int
    source: str


PUBLISHED: Final = {
    "freihand": SetSize(32_560, 130_240, 3_960, "FreiHAND"),
    "ho3d": SetSize(83_325, 83_325, 0, "HO-3D v3"),
    "dexycb": SetSize(406_888, 406_888, 78_768, "DexYCB s0"),
}


def epoch_work(config: TrainConfig) -> EpochWork:
    """The images of an epoch and its evaluations, and the rates of GPUs; none where nothing is known of the backbone at
    that size. Data that are not there are taken to be the published set of their format."""
    sizes = [_size(config.data, item) for item in config.data.all_sets]
    poses = sum(size.poses for size in sizes)
    if config.data.validate_on == "evaluation":
        validated = float(sum(size.evaluation for size in sizes))
    else:
        validated = poses * config.data.val_fraction
        poses -= round(validated)
    versions = math.lcm(*(size.images // size.poses for size in sizes)) if config.data.versions == "all" else 1
    images = poses * versions + EVALUATION_SHARE * validated * config.evaluations_an_epoch
    sources = " and ".join(dict.fromkeys(size.source for size in sizes))
    return EpochWork(images, f"{sources}; an evaluated image counts a third", _rates(config))


def _size(config: DataConfig, item: DataSetConfig) -> SetSize:
    if item.root == "embedded":
        return SetSize(config.embedded_count, 4 * config.embedded_count, 0, "embedded")
    published = PUBLISHED[item.format]
    if item.format == "freihand" and (counted := _counted(Path(item.root).expanduser())):
        return counted
    return SetSize(published.poses, published.images, published.evaluation, f"{published.source} as published")


def _counted(root: Path) -> SetSize | None:
    """Of files in FreiHAND's layout; None if they are missing or damaged, which training will report."""
    try:
        poses = len(json.loads((root / "training_K.json").read_bytes()))
        images, evaluation = (
            sum(1 for file in folder.iterdir() if file.suffix == ".jpg") if folder.is_dir() else 0
            for folder in (root / "training" / "rgb", root / "evaluation" / "rgb")
        )
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return SetSize(poses, images, evaluation, f"counted in {root}") if poses and images >= poses else None


def _rates(config: TrainConfig) -> tuple[GpuRate, ...]:
    """For each GPU at the config's image size, scaled by the number of pixels from 224 px."""
    backbone, size = config.model.backbone, config.data.image_size
    if backbone not in ON_RTX3090 or size < SMALLEST_PX:
        return ()
    larger = (size / MEASURED_PX) ** 2
    is_transformer = backbone in PATCH_PX
    reference = "vit_b16" if is_transformer else "resnet18"
    on_h200 = ON_H200[reference] * ON_RTX3090[backbone] / ON_RTX3090[reference] / larger
    as_measured = backbone in ON_H200 and size == MEASURED_PX
    by = "products in bfloat16" if is_transformer else "memory bandwidth"
    in_float32 = T4_FLOPS / (3 * 2 * GIGA_MACS[backbone] * 1e9) / larger
    return (
        GpuRate("T4", in_float32, 2.0, "float32, from NVIDIA's ResNet-50 on a T4 by operations"),
        *(
            GpuRate(
                gpu, on_h200 * (than.products if is_transformer else than.bandwidth), 2.0, f"our H200's, scaled by {by}"
            )
            for gpu, than in SCALED.items()
        ),
        GpuRate("H200", on_h200, 1.5, "the steps alone, measured by us on one")
        if as_measured
        else GpuRate("H200", on_h200, 2.0, f"our {reference}'s, scaled as timm's on an RTX 3090"),
    )
