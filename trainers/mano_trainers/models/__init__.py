"""Image -> hand networks: a backbone that ends in one linear layer, and a head that turns its outputs into a hand."""

from torch import Tensor, nn

from mano_trainers.config import PATCH_PX, ModelConfig
from mano_trainers.errors import ConfigError
from mano_trainers.hand.model import HandModel
from mano_trainers.models.heads import Head, Prediction
from mano_trainers.models.pixels import PixelScale, pixel_statistics
from mano_trainers.models.resnet import resnet, resnet_tiny
from mano_trainers.models.transformer import handformer, vit, vit_tiny

__all__ = ["HandNet", "Prediction", "build_model"]


class HandNet(nn.Module):
    """Normalised images (B, 3, S, S) -> `Prediction`.

    Attributes:
        backbone: everything that has weights; its last layer is linear.
        head: what its outputs mean.
        pixels: applied to the images first.
    """

    def __init__(self, backbone: nn.Module, head: Head, pixels: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone, self.head, self.pixels = backbone, head, pixels

    def forward(self, images: Tensor) -> Prediction:
        if self.pixels is not None:
            images = self.pixels(images)
        prediction: Prediction = self.head(self.backbone(images))
        return prediction

    @property
    def last_layer(self) -> nn.Linear:
        """The layer that makes all outputs: the last one that every loss term reaches."""
        layer = self.backbone.get_classifier()  # type: ignore[operator]
        assert isinstance(layer, nn.Linear), "timm's models end in one"
        return layer


def build_model(config: ModelConfig, image_size: int, hand: HandModel) -> HandNet:
    """The network of a config, with random weights from torch's global generator.

    Its last layer starts at zero: every run starts from the mean pose, whatever its seed.

    Args:
        config: which backbone and head.
        image_size: S, in pixels.
        hand: the hand whose pose is predicted.

    Raises:
        ConfigError: the backbone's patches do not divide the image.
    """
    if image_size % PATCH_PX.get(config.backbone, 1):
        raise ConfigError(f"{config.backbone} needs a multiple of {PATCH_PX[config.backbone]} px", "data.image_size")
    head = Head(config, hand)
    outputs = head.outputs
    match config.backbone:
        case "resnet_tiny":
            backbone = resnet_tiny(outputs)
        case "resnet18" | "resnet34" | "resnet50" as name:
            backbone = resnet(name, outputs)
        case "vit_tiny":
            backbone = vit_tiny(outputs, image_size)
        case "handformer_small":
            backbone = handformer(outputs, image_size, layers=4, heads=8)
        case "handformer_full":
            backbone = handformer(outputs, image_size, layers=6, heads=12)
        case "vit_s16":
            backbone = vit("vit_small_patch16_224", outputs, image_size)
        case "vit_b16":
            backbone = vit("vit_base_patch16_224", outputs, image_size)
    statistics = pixel_statistics(config)
    model = HandNet(backbone, head, None if statistics is None else PixelScale(statistics))
    nn.init.zeros_(model.last_layer.weight)
    nn.init.zeros_(model.last_layer.bias)
    return model
