"""Residual networks from timm."""

import timm
from timm.models.resnet import BasicBlock, ResNet
from torch import nn


def resnet_tiny(outputs: int) -> nn.Module:
    """BasicBlocks (1, 1, 1, 1) of widths 16 to 128 on three narrow 3x3 convolutions: 0.31 M parameters.

    The usual 7x7 stem of 64 channels costs as much at 64 px as all the blocks after it; this one trains at twice the
    speed. With one block a stage, blocks that start as the identity (timm's zero_init_last) only delay learning.
    """
    model: nn.Module = ResNet(
        BasicBlock,
        (1, 1, 1, 1),
        num_classes=outputs,
        channels=(16, 32, 64, 128),
        stem_type="deep",
        stem_width=8,
        zero_init_last=False,
    )
    return model


def resnet(name: str, outputs: int) -> nn.Module:
    """timm's `resnet18`, `resnet34` or `resnet50`, randomly initialised, with its usual stem for 224 px."""
    model: nn.Module = timm.create_model(name, num_classes=outputs)
    return model
