"""All that does not change during a training: data as they are read, hand layer, losses, and what validation compares.

This is where the faults of a config come in, but for those of the pixels; a config without faults passes them by.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mano_trainers.arrays import Array, Integers, Pixels
from mano_trainers.batches import Targets, make_batch, make_targets, seeded
from mano_trainers.config import LossConfig, TrainConfig
from mano_trainers.data.augment import draw
from mano_trainers.data.load import LoadedData
from mano_trainers.device.memory_share import resident
from mano_trainers.device.shared_images import SharedImages
from mano_trainers.evaluation.evaluate import Reference, evaluate, joints_of, make_reference
from mano_trainers.evaluation.pictures import draw_samples
from mano_trainers.evaluation.predict import predict
from mano_trainers.evaluation.procrustes import aligned_distances
from mano_trainers.faults import faulty_targets, joint_order, read_faultily, split_images, turn_pixels_only
from mano_trainers.hand.layer import HandLayer
from mano_trainers.losses.diversity import pose_codes
from mano_trainers.losses.terms import Criterion, PosePrior, Target, needs_orient
from mano_trainers.models import HandNet

HONEST = ("pa_mpjpe_mm", "mpjpe_mm", "skill")


@dataclass(frozen=True)
class Pipeline:
    """One run's.

    Attributes:
        config: what is trained.
        device: where.
        data: as the pipeline reads them, with the faults of the config.
        held: the images of `data`, on the device where they fit.
        table: (N, V) images of each pose to train on.
        val_images: images of `data.val_poses`.
        last_val_images: those of the last evaluation.
        criterion: the losses, with the hand layer.
        targets: what they compare with.
        reference: what validation compares with.
        honest: reference and images of the same metrics without faults; None without faults.
        mean_pose_pa_mm: what a pipeline with faults says of the mean of its training labels, shown for every image:
            the pose of a model that has learned nothing else. The best constant pose of `reference` is found by the
            sound alignment, and means little where the measure is not that one. None without faults.
    """

    config: TrainConfig
    device: torch.device
    data: LoadedData
    held: Pixels | Tensor | SharedImages
    table: Integers
    val_images: Integers
    last_val_images: Integers
    criterion: Criterion
    targets: Targets
    reference: Reference
    honest: tuple[Reference, Integers] | None
    mean_pose_pa_mm: float | None

    @property
    def images(self) -> Pixels | Tensor:
        """Of `data`, to read from now."""
        return self.held.now() if isinstance(self.held, SharedImages) else self.held


def make_pipeline(data: LoadedData, config: TrainConfig, device: torch.device) -> Pipeline:
    """The pipeline of a config on data that are as they should be."""
    faults = config.faults
    read = read_faultily(data, faults) if faults else data
    hand = HandLayer(read.hand, joint_order=joint_order(faults)).to(device)
    reference = make_reference(read, config.eval.mesh_images, faults)
    targets = make_targets(hand, read.labels, device, needs_orient(config.loss))
    honest = mean_pose_pa_mm = None
    if faults:
        targets = faulty_targets(targets, data.labels, faults)
        honest = make_reference(data, mesh_images=1), split_images(data, ())[1]
        mean_m = joints_of(reference.hand, read.labels.theta[read.train_poses].mean(0)[None], np.zeros((1, 10)))
        distances_m = aligned_distances(mean_m, reference.aligned_to_m, reference.align)
        mean_pose_pa_mm = 1000.0 * float(distances_m.mean())
    return Pipeline(
        config,
        device,
        read,
        resident(data.images, device),
        *split_images(read, faults),
        criterion=_criterion(config.loss, hand, read, reference.codebook, device),
        targets=targets,
        reference=reference,
        honest=honest,
        mean_pose_pa_mm=mean_pose_pa_mm,
    )


def training_batch(
    pipeline: Pipeline, indices: Integers, step: int, memory: Tensor | None = None
) -> tuple[Tensor, Target]:
    """Normalised images (B, 3, S, S) of a step, augmented as the config says, and what belongs to them.

    Args:
        pipeline: of the run.
        indices: (B,) images.
        step: of training, which the augmentation is drawn for.
        memory: from `batch_memory`.
    """
    config, device = pipeline.config, pipeline.device
    generator, mirrored = seeded(config.seed, "augment", step), "unturned_labels" in config.faults
    drawn = None
    if config.augment and not mirrored:
        drawn = draw(len(indices), config.data.image_size, generator, device)
    images = make_batch(pipeline.images, indices, device, drawn, memory)
    if mirrored:
        images = turn_pixels_only(images, generator)
    angle = None if drawn is None else drawn.angle
    return images, pipeline.targets.of(pipeline.data.labels.pose_index[indices], angle)


def validate(pipeline: Pipeline, model: HandNet, last: bool) -> tuple[dict[str, float], bytes]:
    """Every `val/` metric of a model, and with faults its `honest/` ones: by right labels, metric, hand and split.

    Only from `mispaired_labels` no image can be held out: it shows those of all poses, under other poses' labels.

    Args:
        pipeline: of the run.
        model: as it is now.
        last: whether training ends here.

    Returns:
        The metrics, and a picture of some predictions, see `draw_samples`.
    """
    config, device, images = pipeline.config, pipeline.device, pipeline.images
    shown = pipeline.last_val_images if last else pipeline.val_images
    outputs = predict(model, images, shown, config.eval.batch_size, device)
    metrics = evaluate(pipeline.reference, outputs)
    picture = draw_samples(pipeline.data, pipeline.images, pipeline.reference, shown, outputs)
    if pipeline.honest is not None:
        reference, shown = pipeline.honest
        honest = evaluate(reference, predict(model, images, shown, config.eval.batch_size, device))
        metrics |= {f"honest/{name}": honest[f"val/{name}"] for name in HONEST}
    if pipeline.mean_pose_pa_mm is not None:
        metrics["val/mean_pose_pa_mpjpe_mm"] = pipeline.mean_pose_pa_mm
    return metrics, picture


def _criterion(
    config: LossConfig, hand: HandLayer, data: LoadedData, codebook: Array, device: torch.device
) -> Criterion:
    values = (data.hand.hands_mean, *data.hand.pose_basis)
    prior = PosePrior(*(torch.from_numpy(value).to(device, torch.float32) for value in values))
    codes = pose_codes(codebook, data.labels.theta[data.train_poses], device) if config.lambda_entropy > 0 else None
    return Criterion(config, hand, prior, codes)
