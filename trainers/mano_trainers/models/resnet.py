"""Residual networks from timm."""

import timm
from timm.layers import SelectAdaptivePool2d
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn
from torch.nn import functional as F


def resnet_tiny(outputs: int) -> nn.Module:
    """BasicBlocks (1, 1, 1, 1) of widths 16 to 128 on three narrow 3x3 convolutions: 0.31 M parameters.

    The usual 7x7 stem of 64 channels costs as much at 64 px as all the blocks after it; this one trains at twice the
    speed. With one block per stage, blocks that start as the identity (timm's zero_init_last) only delay learning.
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
    model.global_pool = _global_pool()
    return model


def resnet(name: str, outputs: int) -> nn.Module:
    """timm's `resnet18`, `resnet34` or `resnet50`, randomly initialised, with its usual stem for 224 px."""
    model: nn.Module = timm.create_model(name, num_classes=outputs)
    model.global_pool = _global_pool()
    model.conv1.__class__ = Stem  # the same weights by the same name
    return model


def _global_pool() -> nn.Module:
    """A mean. torch's adaptive pooling to one pixel is the same bits, but lanes would take turns in it."""
    pool: nn.Module = SelectAdaptivePool2d(pool_type="fast", flatten=True)
    return pool


class Stem(nn.Conv2d):
    """The 7x7 convolution of stride 2 over 3 channels. On a GPU, where so few channels make it the slowest layer of
    all, the same sums as a 4x4 one of stride 1 over squares of 2x2 pixels: 12 channels, and 4 of zeros, since tensor
    cores take 8 at a time."""

    def forward(self, images: Tensor) -> Tensor:
        if images.device.type != "cuda" or images.shape[-1] % 2:
            return super().forward(images)
        return folded_stem(images, self.weight)


def folded_stem(images: Tensor, weight: Tensor) -> Tensor:
    """Images (B, 3, S, S) of an even side and a weight (C, 3, 7, 7) -> (B, C, S/2, S/2), as `conv2d` with stride 2 and
    padding 3: output row i begins at row 2i - 3; with a tap of zeros in front of the 7 at 2i - 4, with a square."""
    squares = F.pad(_squares(images), (0, 4, 2, 1, 2, 1))
    taps = F.pad(_squares(F.pad(weight, (1, 0, 1, 0))), (0, 4))
    return F.conv2d(squares.permute(0, 3, 1, 2), taps.permute(0, 3, 1, 2))  # both channels_last


def _squares(images: Tensor) -> Tensor:
    """(B, 3, S, S) -> (B, S/2, S/2, 12): the 4 pixels of each square of 2x2 as channels."""
    count, _, height, width = images.shape
    rows = images.permute(0, 2, 3, 1).reshape(count, height // 2, 2, width // 2, 2, -1)
    return rows.transpose(2, 3).flatten(3)
