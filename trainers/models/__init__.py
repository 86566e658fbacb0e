"""Image -> theta networks."""

from torch import nn

from trainers.config import ModelConfig
from trainers.models.resnet import resnet, resnet_tiny
from trainers.models.transformer import vit_tiny

THETA = 45


def build_model(config: ModelConfig, image_size: int) -> nn.Module:
    """The network that maps normalised images (B, 3, S, S) to theta (B, 45) in rad, mean pose excluded.

    Its last layer starts at zero: every run starts from the mean pose, whatever its seed.

    Args:
        config: which backbone.
        image_size: S, in pixels.
    """
    match config.backbone:
        case "resnet_tiny":
            model = resnet_tiny(THETA)
        case "vit_tiny":
            model = vit_tiny(THETA, image_size)
        case "resnet18" | "resnet34" | "resnet50" as name:
            model = resnet(name, THETA)
    nn.init.zeros_(last_layer(model).weight)
    nn.init.zeros_(last_layer(model).bias)
    return model


def last_layer(model: nn.Module) -> nn.Linear:
    """The layer that makes theta: the last one that all loss terms share."""
    layer = model.get_classifier()  # type: ignore[operator]
    assert isinstance(layer, nn.Linear), "timm's models end in one"
    return layer
