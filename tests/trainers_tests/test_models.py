"""Every backbone maps images to theta and trains."""

import pytest
import torch

from trainers.config import ModelConfig
from trainers.models import build_model


@pytest.mark.parametrize("backbone", ["resnet_tiny", "resnet18", "resnet34", "resnet50", "vit_tiny"])
def test_backbone_gives_the_mean_pose_first_and_has_a_gradient(backbone: str) -> None:
    model = build_model(ModelConfig.model_validate({"backbone": backbone}), image_size=64)
    theta = model(torch.randn(2, 3, 64, 64))
    assert theta.shape == (2, 45)
    assert not theta.any()
    (theta - 1).square().mean().backward()
    assert model.get_classifier().weight.grad.norm() > 0


def test_tiny_is_tiny() -> None:
    parameters = sum(parameter.numel() for parameter in build_model(ModelConfig(), 64).parameters())
    assert 250_000 < parameters < 400_000


def test_weights_derive_from_the_seed() -> None:
    def first_weight(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return next(build_model(ModelConfig(), 64).parameters())

    assert torch.equal(first_weight(0), first_weight(0))
    assert not torch.equal(first_weight(0), first_weight(1))
