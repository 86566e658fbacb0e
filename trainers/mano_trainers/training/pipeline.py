"""Everything that does not change during a training: data as they are read, hand layer, losses, and what validation
compares.

`make_pipeline` makes it as it should be. `mano_trainers.training.faults` puts other parts in, for a study of mistakes.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mano_trainers.arrays import Array, Integers, Pixels
from mano_trainers.batches import Targets, image_table, make_batch, make_targets, seeded
from mano_trainers.config import LossConfig, TrainConfig
from mano_trainers.data.augment import Draw, augment, draw, normalise
from mano_trainers.data.background import Background, background_on, draw_background
from mano_trainers.data.load import LoadedData
from mano_trainers.data.on_device import gather, to_device
from mano_trainers.data.readers.labels import check_shown
from mano_trainers.data.split import validated_versions
from mano_trainers.device.memory_share import resident
from mano_trainers.evaluation.evaluate import Outputs, evaluate
from mano_trainers.evaluation.pictures import draw_samples
from mano_trainers.evaluation.predict import predict
from mano_trainers.evaluation.reference import Reference, make_reference
from mano_trainers.hand.layer import HandLayer
from mano_trainers.hand.model import FREIHAND_ORDER
from mano_trainers.losses.diversity import pose_codes
from mano_trainers.losses.terms import Criterion, PosePrior, Target, needs_orient
from mano_trainers.models import HandNet

Predictor = Callable[[Integers], Outputs]
"""What a model predicts for some images."""
Split = tuple[Integers, Integers, Integers]
"""Images (N, V) of each pose to train on; of `data.val_poses`; and of the last evaluation."""


@dataclass(frozen=True)
class Pipeline:
    """One run's.

    Attributes:
        config: what is trained.
        device: where.
        data: as the pipeline reads them.
        images: those of `data`, on the device where they fit.
        masks: of hands, likewise; None where none are asked for.
        table: (N, V) images of each pose to train on.
        val_images: images of `data.val_poses`.
        last_val_images: those of the last evaluation.
        criterion: the losses, with the hand layer.
        targets: what they compare with.
        reference: what validation compares with.
        turn_pixels: done to normalised images with the generator of the step, instead of the augmentation.
        more_metrics: metrics of a model beside those of `reference`.
    """

    config: TrainConfig
    device: torch.device
    data: LoadedData
    images: Pixels | Tensor
    table: Integers
    val_images: Integers
    last_val_images: Integers
    criterion: Criterion
    targets: Targets
    reference: Reference
    masks: Pixels | Tensor | None = None
    turn_pixels: Callable[[Tensor, torch.Generator], Tensor] | None = None
    more_metrics: Callable[[Predictor], dict[str, float]] | None = None


def make_pipeline(data: LoadedData, config: TrainConfig, device: torch.device) -> Pipeline:
    """The pipeline of a config, without its faults: `mano_trainers.training.faults.pipeline_of` makes those too."""
    check_shown(data.labels)
    assert not config.faults, "see mano_trainers.training.faults.pipeline_of"
    reference = make_reference(data, config.eval.mesh_images)
    return assemble(data, config, device, reference, proper_split(data))


def with_config(pipeline: Pipeline, config: TrainConfig) -> Pipeline:
    """The pipeline of another config, which may be a lane beside that of `pipeline` (`mano_trainers.lane_rules`): both
    have the same images, labels and hand layer."""
    return replace(pipeline, config=config, criterion=replace(pipeline.criterion, config=config.loss))


def assemble(
    data: LoadedData,
    config: TrainConfig,
    device: torch.device,
    reference: Reference,
    split: Split,
    joint_order: Sequence[int] = FREIHAND_ORDER,
) -> Pipeline:
    """A pipeline of given parts.

    Args:
        data: as it reads them.
        config: what is trained.
        device: where.
        reference: what validation compares with.
        split: which images are trained and validated on.
        joint_order: in which the hand layer of the losses has its joints.
    """
    assert data.masks is not None or not config.needs_masks, "load_data was not asked for masks"
    hand = HandLayer(data.hand, joint_order=joint_order).to(device)
    return Pipeline(
        config,
        device,
        data,
        resident(data.images, device),
        *split,
        criterion=_criterion(config.loss, hand, data, reference.codebook, device),
        targets=make_targets(hand, data.labels, device, needs_orient(config.loss)),
        reference=reference,
        masks=None if data.masks is None else resident(data.masks.alpha, device),
    )


def proper_split(data: LoadedData) -> Split:
    """Every image of a pose to train on; of the held-out poses one each, all image versions equally often."""
    table = image_table(data.labels.pose_index)
    mixed = table[data.val_poses, validated_versions(len(data.val_poses), table.shape[1])]
    return table, mixed, mixed


@dataclass(frozen=True)
class RawBatch:
    """What a step is given before anything is computed: tensors on the device alone, of one shape in all steps.

    Attributes:
        images: on a CPU the batch as the network gets it (B, 3, S, S); elsewhere uint8 (B, S, S, 3), or the rows (B,)
            of images that are on the device.
        poses: (B,) that they show.
        drawn: augmentation; None for none.
    """

    images: Tensor
    poses: Tensor
    drawn: Draw | None


def training_batch(
    pipeline: Pipeline,
    indices: Integers,
    step: int,
    memory: Tensor | None = None,
    gathered: Tensor | None = None,
) -> tuple[Tensor, Target]:
    """Normalised images (B, 3, S, S) of a step, augmented as the config says, and what belongs to them.

    `raw_batch`, and what `augmented` makes of it.

    Args:
        pipeline: of the run.
        indices: (B,) images.
        step: of training, which the augmentation is drawn for.
        memory: from `batch_memory`.
        gathered: from `gather_ahead`, where the images are copied ahead.
    """
    return augmented(pipeline, raw_batch(pipeline, indices, step, memory, gathered))


def raw_batch(
    pipeline: Pipeline,
    indices: Integers,
    step: int,
    memory: Tensor | None = None,
    gathered: Tensor | None = None,
) -> RawBatch:
    """What the processor does for a step; arguments as for `training_batch`. Waits for no device."""
    config, device = pipeline.config, pipeline.device
    generator = seeded(config.seed, "augment", step)
    poses = to_device(pipeline.data.labels.pose_index[indices], device)
    drawn = None
    if config.augment and pipeline.turn_pixels is None:
        drawn = draw(len(indices), config.data.image_size, generator, device, config.augmentation)
        drawn = replace(drawn, background=_background(pipeline, indices, generator))
    if pipeline.turn_pixels is not None:
        images = make_batch(pipeline.images, indices, device, None, memory, gathered)
        return RawBatch(pipeline.turn_pixels(images, generator), poses, None)
    if device.type == "cpu" and not isinstance(pipeline.images, Tensor):
        return RawBatch(make_batch(pipeline.images, indices, device, drawn, memory), poses, drawn)
    if isinstance(pipeline.images, Tensor):
        return RawBatch(to_device(indices, device), poses, drawn)
    return RawBatch(gather(pipeline.images, indices, device) if gathered is None else gathered, poses, drawn)


def _background(pipeline: Pipeline, indices: Integers, generator: torch.Generator) -> Background | None:
    masks, share = pipeline.data.masks, pipeline.config.augmentation.background
    if masks is None or pipeline.masks is None or share == 0:
        return None
    return background_on(draw_background(masks, pipeline.masks, indices, share, generator), pipeline.device)


def augmented(pipeline: Pipeline, raw: RawBatch) -> tuple[Tensor, Target]:
    """What the device does: images as the network gets them and their labels, from tensors of the device alone."""
    images, drawn = raw.images, raw.drawn
    if images.dim() == 1 and isinstance(pipeline.images, Tensor):
        images = pipeline.images[images]
    if drawn is not None and drawn.background is not None and isinstance(pipeline.masks, Tensor):
        alpha = pipeline.masks[drawn.background.alpha]
        drawn = replace(drawn, background=replace(drawn.background, alpha=alpha))
    if images.dtype == torch.uint8:
        images = normalise(images) if drawn is None else augment(normalise(images), drawn)
    return images, pipeline.targets.of(raw.poses, None if drawn is None else drawn.angle)


def validate(pipeline: Pipeline, model: HandNet, last: bool) -> tuple[dict[str, float], bytes]:
    """Every metric of a model, and a picture of some predictions, see `draw_samples`.

    Args:
        pipeline: of the run.
        model: as it is now.
        last: whether training ends here.
    """
    config, images = pipeline.config, pipeline.images

    def predictor(shown: Integers) -> Outputs:
        # Recompiling for evaluation, and for a last batch of another size, would take longer than it saves.
        with torch.compiler.set_stance("force_eager") if config.compile else nullcontext():
            return predict(model, images, shown, config.eval.batch_size, pipeline.device)

    shown = pipeline.last_val_images if last else pipeline.val_images
    outputs = predictor(shown)
    metrics = evaluate(pipeline.reference, outputs)
    picture = draw_samples(pipeline.data, images, pipeline.reference, shown, outputs)
    if pipeline.more_metrics is not None:
        metrics |= pipeline.more_metrics(predictor)
    return metrics, picture


def _criterion(
    config: LossConfig, hand: HandLayer, data: LoadedData, codebook: Array, device: torch.device
) -> Criterion:
    values = (data.hand.hands_mean, *data.hand.pose_basis)
    prior = PosePrior(*(torch.from_numpy(value).to(device, torch.float32) for value in values))
    codes = pose_codes(codebook, data.labels.theta[data.train_poses], device) if config.lambda_entropy > 0 else None
    return Criterion(config, hand, prior, codes)
