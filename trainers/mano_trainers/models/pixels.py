"""The range of pixel values that a backbone was trained with."""

from typing import Final

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from mano_trainers.config import ModelConfig

TIMM_NAMES: Final = {
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    "resnet50": "resnet50",
    "vit_s16": "vit_small_patch16_224",
    "vit_b16": "vit_base_patch16_224",
}
"""Backbones of which there are pretrained weights in timm."""
Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]


def pixel_statistics(config: ModelConfig) -> Statistics | None:
    """Mean and standard deviation of each channel, of pixels in [0, 1], that the backbone expects; None for [-1, 1].

    A function of the config alone: whoever loads a checkpoint needs the same, and may have no network.
    """
    match config.pixels:
        case "symmetric":
            return None
        case "imagenet":
            return IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
        case "auto" if config.pretrained is None or config.backbone not in TIMM_NAMES:
            return None
    name = config.pretrained.removeprefix("hub:").removeprefix("timm/")
    known = get_pretrained_cfg(name) or get_pretrained_cfg(TIMM_NAMES[config.backbone])
    assert known is not None, "timm has weights of these backbones"
    return known.mean, known.std


class PixelScale(nn.Module):
    """Images (B, 3, S, S) in [-1, 1] -> by mean and standard deviation of each channel. Has no weights."""

    scale: Tensor
    shift: Tensor

    def __init__(self, statistics: Statistics) -> None:
        super().__init__()
        mean, deviation = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in statistics)
        self.register_buffer("scale", (0.5 / deviation).float(), persistent=False)
        self.register_buffer("shift", ((0.5 - mean) / deviation).float(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return torch.addcmul(self.shift, images, self.scale)
