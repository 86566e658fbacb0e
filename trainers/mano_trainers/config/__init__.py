"""The fully resolved input of one training run. Importing this module imports no torch.

Every field says what it is; ``TrainConfig.model_validate(mapping)`` refuses unknown keys, wrong types, infinities
and NaN. The default of every field is what the embedded default task uses.
"""

import math
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from mano_trainers.config.data import DataConfig
from mano_trainers.config.strict import Strict, Weight

Share = Annotated[float, Field(ge=0, le=1)]


PATCH_PX = {"vit_tiny": 8, "handformer_small": 16, "handformer_full": 16, "vit_s16": 16, "vit_b16": 16}
"""Side of the patches that a transformer cuts the image into, in pixels."""


class ModelConfig(Strict):
    backbone: Literal[
        "resnet_tiny",
        "resnet18",
        "resnet34",
        "resnet50",
        "vit_tiny",
        "handformer_small",
        "handformer_full",
        "vit_s16",
        "vit_b16",
    ] = "resnet_tiny"
    """`resnet_tiny`: BasicBlocks (1,1,1,1), widths 16-128, 0.31 M parameters; `vit_tiny`: a small transformer;
    `handformer_small`, `handformer_full`: HandFormer-style, 4 layers of 8 heads and 6 of 12; `vit_s16`, `vit_b16`:
    ViT-S/16 and ViT-B/16."""
    pretrained: str | None = None
    """Weights the backbone starts from: the path of a state dict (safetensors or torch's format) of timm's model or of
    a checkpoint of your own, or `hub:NAME` for a model on the Hugging Face hub; without it, random ones."""
    pixels: Literal["auto", "symmetric", "imagenet"] = "auto"
    """Range of the pixels that the backbone gets. `auto`: the one that timm's pretrained weights were trained with, and
    `symmetric`, [-1, 1], without `pretrained` or for backbones that are not timm's; `imagenet`: ImageNet's mean and
    standard deviation of each channel. Set `symmetric` if `pretrained` is a checkpoint trained here."""
    head: Literal["theta", "rot6d", "pca", "joints"] = "theta"
    """How the network represents theta. `theta`: as 45 axis-angle values; `rot6d`: as 6 values per joint rotation;
    `pca`: as coefficients of the hand's pose components; `joints`: as `theta`, with 21 joints predicted directly beside
    it."""
    pca_components: Annotated[int, Field(ge=1, le=45)] = 15
    """Leading pose components of the `pca` head: it cannot represent poses outside them."""
    predict_shape: bool = False
    """Predict the hand's shape too (10 values); else joints are judged with the mean shape."""
    predict_orient: bool = False
    """Predict the rotation of the wrist in the camera's frame too."""


BALANCED_TERMS = ("param", "joint", "angular", "vertex", "procrustes", "direct", "shape", "orient")
"""Terms that compare with the truth, whose weights `balance` may learn; the others are priors and hinges."""


class LossConfig(Strict):
    lambda_param: Weight = 1.0
    """Weight of the mean squared error on theta (rad^2)."""
    lambda_joint: Weight = 0.0
    """Weight of the joint term. Its form and unit are `joint_form`, its frame is `joint_frame`."""
    lambda_angular: Weight = 0.0
    """Weight of the mean geodesic angle between true and predicted joint rotations (rad)."""
    lambda_pca: Weight = 0.0
    """Weight of the pose prior: mean over components of z^2 / sigma^2 (dimensionless)."""
    lambda_reg: Weight = 0.001
    """Weight of the mean squared theta (rad^2)."""
    lambda_vertex: Weight = 0.0
    """Weight of the vertex term, in the wrist frame, in the form and unit of `joint_form`."""
    lambda_procrustes: Weight = 0.0
    """Weight of the mean squared coordinate (m^2) of joints after scaling, rotating and shifting them onto the true
    ones. Square metres are large: it pulls like the param term at 250 : 1."""
    lambda_direct: Weight = 0.0
    """Weight of the joints of the `joints` head, in the wrist frame, in the form and unit of `joint_form`."""
    lambda_shape: Weight = 0.0
    """Weight of the mean squared error of the predicted shape (squared standard deviations)."""
    lambda_orient: Weight = 0.0
    """Weight of the mean geodesic angle between true and predicted rotation of the wrist (rad)."""
    lambda_variance: Weight = 0.0
    """Weight of the hinge on theta's spread over the batch, zero above `variance_floor` (dimensionless)."""
    variance_floor: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Least share of the labels' variance that the hinge demands; never 1, since an ideal regressor has less."""
    lambda_entropy: Weight = 0.0
    """Weight of the entropy of poses over a codebook that a batch lacks compared with its labels (bits). Pulls like the
    param term at 0.05 : 1."""
    joint_form: Literal["l2_norm_m", "mse_m2", "l1_mm"] = "l2_norm_m"
    """`l2_norm_m`: mean distance in m; `mse_m2`: mean squared coordinate in m^2; `l1_mm`: mean absolute one in mm."""
    joint_frame: Literal["wrist", "camera"] = "wrist"
    """Frame of the joint term, root-centred in both. `camera` is meant for `model.predict_orient`: a model that
    predicts only theta has an error there that it can never remove. It is allowed, to show that mistake."""
    pca_components: Annotated[int, Field(ge=1, le=45)] = 15
    """Leading pose components in the prior; the last ones have no variance and would dominate it."""
    balance: Literal["fixed", "uncertainty", "gradnorm"] = "fixed"
    """`fixed`: the weights above are kept; otherwise those of the terms that compare with the truth are learned,
    starting there: `uncertainty` (Kendall et al., 2018) or `gradnorm` (Chen et al., 2018)."""
    balance_lr: Annotated[float, Field(gt=0)] = 0.025
    """Learning rate of learned weights."""
    gradnorm_alpha: Annotated[float, Field(ge=0)] = 1.5
    """How much more `gradnorm` pulls terms that have fallen less; 0: all gradients are made equally large."""

    @model_validator(mode="after")
    def _some_loss(self) -> Self:
        if not any(value for name, value in self if name.startswith("lambda_")):
            raise ValueError("nothing to learn: at least one weight must be above 0")
        balanced = [name for name in BALANCED_TERMS if getattr(self, f"lambda_{name}") > 0]
        if self.balance != "fixed" and len(balanced) < 2:
            raise ValueError(f"balance {self.balance} needs at least two of {', '.join(BALANCED_TERMS)} above 0")
        return self


class OptimConfig(Strict):
    lr: Annotated[float, Field(gt=0)] = 3e-3
    """Peak learning rate of AdamW."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """Decoupled weight decay."""
    weight_decay_on: Literal["all", "weights"] = "all"
    """`weights`: neither norms and biases nor a transformer's positions decay."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Learning rate of each layer as a share of the next one's; the last has the full one. Pretrained ViTs are
    fine-tuned at 0.65 to 0.9. Below 1 it needs `weight_decay_on: weights`."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay per step of the average of the weights that is evaluated and kept, such as 0.999; without it the weights
    themselves are. It averages over about 1 / (1 - decay) steps, so a short run needs a smaller one."""
    micro_batches: Annotated[int, Field(ge=1)] = 1
    """Parts in which a step's images go through the network, one after another: less memory, and the same gradient
    except for batch normalisation, which is per part."""
    batch_size: Annotated[int, Field(ge=1)] = 64
    """Images per step."""
    epochs: Annotated[int, Field(ge=1)] = 8
    """Epochs of a full run; the cosine schedule ends there."""
    warmup_steps: Annotated[int, Field(ge=0)] = 20
    """Steps of linear warm-up of the learning rate."""
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of the gradient."""

    @model_validator(mode="after")
    def _layers_have_groups(self) -> Self:
        if self.layer_decay < 1 and self.weight_decay_on == "all":
            raise ValueError("layer_decay below 1 needs weight_decay_on: weights")
        if self.batch_size % self.micro_batches:
            raise ValueError(f"micro_batches {self.micro_batches} do not divide batch_size {self.batch_size}")
        return self


class AugmentConfig(Strict):
    """Strengths of the augmentation; it is done where `augment` is true. What moves pixels moves labels."""

    rotate_deg: Annotated[float, Field(ge=0, le=180)] = 15.0
    """Largest rotation about the centre of the image, in either direction."""
    zoom: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest change of scale: by 1 / (1 + zoom) to 1 + zoom."""
    shift: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Largest shift along each axis, as a share of the image's side."""
    brightness: Share = 0.15
    """Largest change, as a share of white."""
    contrast: Share = 0.25
    """Largest change of the factor."""
    noise: Share = 0.02
    """Largest standard deviation, as a share of white."""
    colour: Share = 0.0
    """Largest change of the saturation's factor; hues shift by up to this many eighths of a circle."""
    grayscale: Share = 0.0
    """Share of the images that lose their colours."""
    blur: Annotated[float, Field(ge=0, le=0.1)] = 0.0
    """Largest standard deviation of a Gaussian blur, as a share of the image's side."""
    erase: Share = 0.0
    """Share of the images that get an occluder: a rectangle of one colour, with sides of 15 to 45 % of the image's."""
    background: Share = 0.0
    """Share of the images with an exact mask, in FreiHAND's layout those of version 0, that get the background of
    another image of the batch. Needs `training/mask`."""


class EvalConfig(Strict):
    batch_size: Annotated[int, Field(ge=1)] = 256
    """Images per validation batch."""
    mesh_images: Annotated[int, Field(ge=1)] = 128
    """Validation images used for the vertex metrics (pa_mpvpe, f5, f15): the first ones, always the same."""


FaultName = Literal[
    "mispaired_labels",
    "misread_theta",
    "no_mean_pose",
    "mano_joint_order",
    "camera_frame",
    "broken_procrustes",
    "unturned_labels",
    "leaky_split",
]
"""Mistakes that a real pipeline had, in the order in which data travels. `mano_trainers.training.faults` says what each
does."""


def _each_once(faults: tuple[FaultName, ...]) -> tuple[FaultName, ...]:
    if len(set(faults)) < len(faults):
        raise ValueError(f"each fault can be named only once, but got {', '.join(faults)}")
    return faults


class TrainConfig(Strict):
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    eval: EvalConfig = EvalConfig()
    evaluate_every: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Epochs from one evaluation and checkpoint to the next: 1, 0.5, 0.1, ...; a whole number of them is an epoch. The
    final weights of a run do not depend on it."""
    augment: bool = True
    """Change images as `augmentation` says; by default rotate (labels rotate with the pixels), change brightness and
    contrast, add noise."""
    augmentation: AugmentConfig = AugmentConfig()
    seed: Annotated[int, Field(ge=0)] = 0
    """Seeds the initial weights, the order of the data and the augmentation."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: cuda where there is one."""
    compile: bool = False
    """Compile backbone, loss terms and augmentation: faster steps on a GPU after a minute at the start. Needs a C++
    compiler; results differ in their last bits."""
    cuda_graph: bool = True
    """On a GPU, record a step once and replay it: small steps are limited by how fast kernels are started. What cannot
    be recorded is trained without it, with a warning. Takes the memory of a second step. No effect on a CPU."""
    faults: Annotated[tuple[FaultName, ...], Field(strict=False), AfterValidator(_each_once)] = ()
    """Mistakes to make on purpose, to study what each of them costs. `val/...` is then what the faulty pipeline reports
    about itself, and about the mean pose of its labels, and `honest/...` what a sound one reports about the same
    model."""
    control: Literal["oracle", "zero", "constant_pose", "shuffled_labels"] | None = None
    """A reference point instead of a training, see `mano_trainers.training.controls`: the labels themselves, theta 0 or
    the best constant pose are evaluated once; `shuffled_labels` trains on images whose labels belong to others."""
    threads: Annotated[int, Field(ge=1)] = 1
    """torch threads. One and two threads give different bits, so the number belongs to the config."""

    @property
    def needs_masks(self) -> bool:
        """Whether training asks which pixels are the hand's."""
        return self.augment and self.augmentation.background > 0

    @property
    def evaluations_an_epoch(self) -> int:
        """How many evaluations the steps of an epoch are divided into."""
        return round(1 / self.evaluate_every)

    @model_validator(mode="after")
    def _evaluations_fill_an_epoch(self) -> Self:
        if not math.isclose(self.evaluate_every * self.evaluations_an_epoch, 1, rel_tol=0.015):  # 0.33 means a third
            raise ValueError(
                f"evaluate_every must be 1 / a whole number (1, 0.5, 0.25, 0.1), but got {self.evaluate_every:g}"
            )
        return self

    @model_validator(mode="after")
    def _parts_have_one_balance(self) -> Self:
        if self.optim.micro_batches > 1 and self.loss.balance != "fixed":
            raise ValueError("optim.micro_batches needs loss.balance: fixed; weights are learned from whole batches")
        return self

    @model_validator(mode="after")
    def _masks_are_there(self) -> Self:
        if self.needs_masks and not any(item.may_have_masks for item in self.data.all_sets):
            raise ValueError(
                "augmentation.background needs a set in FreiHAND's layout with training/mask, and "
                + " and ".join(f"{item.root} ({item.format})" for item in self.data.all_sets)
                + " has none; unpack the masks, or set it to 0"
            )
        return self

    @model_validator(mode="after")
    def _patches_fit(self) -> Self:
        patch = PATCH_PX.get(self.model.backbone, 1)
        if self.data.image_size % patch:
            raise ValueError(
                f"{self.model.backbone} cuts images into patches of {patch} px, which do not divide data.image_size "
                f"{self.data.image_size}; use {self.data.image_size // patch * patch or patch}"
            )
        return self

    @model_validator(mode="after")
    def _terms_have_outputs(self) -> Self:
        for term, setting, is_there in (
            ("direct", "head: joints", self.model.head == "joints"),
            ("shape", "predict_shape: true", self.model.predict_shape),
            ("orient", "predict_orient: true", self.model.predict_orient),
        ):
            if getattr(self.loss, f"lambda_{term}") > 0 and not is_there:
                raise ValueError(f"loss.lambda_{term} needs model.{setting}")
        if self.model.head == "joints" and self.loss.lambda_direct == 0:
            raise ValueError("model.head joints learns nothing without loss.lambda_direct")
        return self
