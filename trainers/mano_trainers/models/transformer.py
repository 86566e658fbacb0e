"""Vision transformers from timm."""

import timm
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


def handformer(outputs: int, image_size: int, layers: int, heads: int) -> nn.Module:
    """A plain transformer on patches of 16 px, averaged over patches, each head 32 wide.

    Layers, heads and patch are those of the systems named HandFormer-style; their width was not published, and 32 per
    head is chosen here: 3.4 M parameters with 4 layers of 8 heads, 11 M with 6 of 12.
    """
    model: nn.Module = VisionTransformer(
        img_size=image_size,
        patch_size=16,
        embed_dim=32 * heads,
        depth=layers,
        num_heads=heads,
        num_classes=outputs,
        global_pool="avg",
    )
    return model


def vit(name: str, outputs: int, image_size: int) -> nn.Module:
    """timm's `vit_small_patch16_224` or `vit_base_patch16_224` for images of another size, randomly initialised."""
    model: nn.Module = timm.create_model(name, num_classes=outputs, img_size=image_size)
    return model
