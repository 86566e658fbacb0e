"""The stem of a residual network, as it is computed on a GPU."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mano_trainers.models.resnet import folded_stem, resnet


@pytest.mark.parametrize("side", [2, 32, 64, 98])
def test_a_folded_stem_is_the_convolution_and_so_is_its_gradient(side: int) -> None:
    images = torch.randn(2, 3, side, side, dtype=torch.float64)
    weight = torch.randn(8, 3, 7, 7, dtype=torch.float64, requires_grad=True)
    folded, plain = folded_stem(images, weight), F.conv2d(images, weight, stride=2, padding=3)
    torch.testing.assert_close(folded, plain, rtol=1e-12, atol=1e-12)
    slope = torch.randn_like(plain)
    ours, theirs = (torch.autograd.grad(output, weight, slope)[0] for output in (folded, plain))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_images_stay_channels_last_or_all_layers_after_the_stem_would_be_slow() -> None:
    images = torch.randn(2, 3, 32, 32).to(memory_format=torch.channels_last)
    folded = folded_stem(images, torch.randn(64, 3, 7, 7))
    assert folded.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_the_folded_stem_is_that_of_the_network(name: str) -> None:
    """A later timm might have a different one."""
    stem = resnet(name, 45).conv1
    assert isinstance(stem, nn.Conv2d)
    assert (stem.kernel_size, stem.stride, stem.padding, stem.in_channels) == ((7, 7), (2, 2), (3, 3), 3)
    assert (stem.dilation, stem.groups, stem.bias) == ((1, 1), 1, None)
