"""Pretrained backbones see pixels in the range they were trained with, decided by the config alone."""

import pytest
import timm
import torch
from timm.data import resolve_data_config

from mano_trainers.config import ModelConfig
from mano_trainers.hand.model import load_embedded_hand
from mano_trainers.models import build_model
from mano_trainers.models.pixels import PixelScale, pixel_statistics

CASES = [
    ({"backbone": "resnet18", "pretrained": "/weights.safetensors"}, "resnet18"),
    ({"backbone": "vit_b16", "pretrained": "hub:timm/vit_base_patch16_224.mae"}, "vit_base_patch16_224.mae"),
    ({"backbone": "vit_b16", "pretrained": "hub:timm/vit_base_patch16_224.augreg2_in21k_ft_in1k"},
     "vit_base_patch16_224.augreg2_in21k_ft_in1k"),
    ({"backbone": "vit_s16", "pretrained": "hub:somebody/unknown"}, "vit_small_patch16_224"),
]  # fmt: skip


@pytest.mark.parametrize(("mapping", "name"), CASES)
def test_timms_own_data_config_is_used(mapping: dict[str, str], name: str) -> None:
    expected = resolve_data_config({}, model=timm.create_model(name, pretrained=False))
    assert pixel_statistics(ModelConfig.model_validate(mapping)) == (expected["mean"], expected["std"])


@pytest.mark.parametrize(
    "mapping",
    [
        {"backbone": "resnet18"},
        {"backbone": "resnet_tiny", "pretrained": "/checkpoint/weights.safetensors"},
        {"backbone": "resnet18", "pretrained": "/checkpoint/weights.safetensors", "pixels": "symmetric"},
    ],
)
def test_our_own_networks_see_minus_1_to_1(mapping: dict[str, str]) -> None:
    config = ModelConfig.model_validate(mapping)
    assert pixel_statistics(config) is None
    assert build_model(config, 32, load_embedded_hand()).pixels is None


def test_the_backbone_is_given_what_timms_transform_gives() -> None:
    config = ModelConfig(backbone="resnet18", pixels="imagenet")
    model = build_model(config, 32, load_embedded_hand())
    seen: list[torch.Tensor] = []
    model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    unit = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))  # pixels in [0, 1]
    images = (2 * unit - 1).to(memory_format=torch.channels_last)
    model(images)
    mean, deviation = (
        torch.tensor(values).view(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    torch.testing.assert_close(seen[0], (unit - mean) / deviation, atol=1e-5, rtol=0)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert not [name for name in model.state_dict() if "pixels" in name]
    assert isinstance(model.pixels, PixelScale)
