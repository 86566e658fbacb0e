"""The fully resolved input of one training run. Importing this module imports no torch.

Every field says what it is; ``TrainConfig.model_validate(mapping)`` refuses unknown keys, wrong types, infinities
and NaN. The default of every field is what the embedded default task uses.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Weight = Annotated[float, Field(ge=0)]


class Strict(BaseModel):
    """Base of all configs: unknown keys, silent casts, NaN and infinity are errors; instances do not change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class DataConfig(Strict):
    root: str = "embedded"
    """Folder of a data set in FreiHAND's layout, or `embedded`: the licence-free rendered set, made on first use."""
    embedded_count: Annotated[int, Field(ge=8)] = 3000
    """Poses in the embedded set (each has 4 image versions). Ignored for other roots."""
    embedded_seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the embedded set. Ignored for other roots."""
    image_size: Annotated[int, Field(ge=16, le=1024)] = 64
    """Side of the square input image, in pixels."""
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the poses held out for validation. The split is by pose, never by image version."""
    versions: Literal["all", "one"] = "one"
    """`all`: an epoch shows every training pose in all its image versions; `one`: in one, drawn anew each epoch."""


class ModelConfig(Strict):
    backbone: Literal["resnet_tiny", "resnet18", "resnet34", "resnet50", "vit_tiny"] = "resnet_tiny"
    """`resnet_tiny`: BasicBlocks (1,1,1,1), widths 16-128, 0.31 M parameters; `vit_tiny`: a small transformer."""


class LossConfig(Strict):
    lambda_param: Weight = 1.0
    """Weight of the mean squared error on theta (rad^2)."""
    lambda_joint: Weight = 0.0
    """Weight of the joint term, on joints in the wrist frame. Its form and unit are `joint_form`."""
    lambda_angular: Weight = 0.0
    """Weight of the mean geodesic angle between true and predicted joint rotations (rad)."""
    lambda_pca: Weight = 0.0
    """Weight of the pose prior: mean over components of z^2 / sigma^2 (dimensionless)."""
    lambda_reg: Weight = 0.001
    """Weight of the mean squared theta (rad^2)."""
    joint_form: Literal["l2_norm_m", "mse_m2", "l1_mm"] = "l2_norm_m"
    """`l2_norm_m`: mean distance in m; `mse_m2`: mean squared coordinate in m^2; `l1_mm`: mean absolute one in mm."""
    pca_components: Annotated[int, Field(ge=1, le=45)] = 15
    """Leading pose components in the prior; the last ones have no variance and would dominate it."""

    @model_validator(mode="after")
    def _some_loss(self) -> Self:
        if not any((self.lambda_param, self.lambda_joint, self.lambda_angular, self.lambda_pca, self.lambda_reg)):
            raise ValueError("nothing to learn: at least one weight must be above 0")
        return self


class OptimConfig(Strict):
    lr: Annotated[float, Field(gt=0)] = 1e-3
    """Peak learning rate of AdamW."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """Decoupled weight decay."""
    batch_size: Annotated[int, Field(ge=1)] = 64
    """Images a step."""
    epochs: Annotated[int, Field(ge=1)] = 8
    """Epochs of a full run; the cosine schedule ends there."""
    warmup_steps: Annotated[int, Field(ge=0)] = 20
    """Steps of linear warm-up of the learning rate."""
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of the gradient."""


class EvalConfig(Strict):
    batch_size: Annotated[int, Field(ge=1)] = 256
    """Images a validation batch."""
    mesh_images: Annotated[int, Field(ge=1)] = 128
    """Validation images used for the vertex metrics (pa_mpvpe, f5, f15): the first ones, always the same."""


class TrainConfig(Strict):
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    eval: EvalConfig = EvalConfig()
    augment: bool = True
    """Rotate (labels turn with the pixels), scale brightness and contrast."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seeds the initial weights, the order of the data and the augmentation."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: cuda where there is one."""
    threads: Annotated[int, Field(ge=1)] = 1
    """torch threads. One and two threads give different bits, so the number belongs to the config."""
