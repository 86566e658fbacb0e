"""Vision transformers from timm."""

from timm.models.vision_transformer import VisionTransformer
from torch import nn


def vit_tiny(outputs: int, image_size: int) -> nn.Module:
    """Four layers of width 128 with 4 heads on patches of 8 px, averaged over patches: 0.6 M parameters at 64 px."""
    model: nn.Module = VisionTransformer(
        img_size=image_size,
        patch_size=8,
        embed_dim=128,
        depth=4,
        num_heads=4,
        mlp_ratio=2.0,
        num_classes=outputs,
        global_pool="avg",
    )
    return model
