"""The eight mistakes of a pipeline whose every training ended at 47 mm, to be reproduced on purpose.

Each is written as that pipeline had it, and switched on by its name in `TrainConfig.faults`: it replaces a part of a
`Pipeline`, and nothing below this module knows of it. `docs/plateau.md` shows what each of them costs.

Shapes: N poses, M images, V image versions of a pose, B batch, S side of the images in pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

from mano_trainers.arrays import Array, Integers
from mano_trainers.batches import Targets, image_table
from mano_trainers.config import FaultName, TrainConfig
from mano_trainers.data.augment import Draw, augment, camera_roll
from mano_trainers.data.load import LoadedData
from mano_trainers.data.on_device import to_device
from mano_trainers.data.readers.labels import joints_in_wrist_frame
from mano_trainers.evaluation.evaluate import evaluate
from mano_trainers.evaluation.procrustes import aligned_distances, similarity
from mano_trainers.evaluation.reference import Reference, joints_of, make_reference
from mano_trainers.hand.model import FREIHAND_ORDER
from mano_trainers.losses.terms import Criterion, Target
from mano_trainers.models import Prediction
from mano_trainers.report import EpochReport
from mano_trainers.training.controls import control_outputs, evaluate_control
from mano_trainers.training.pipeline import Pipeline, Predictor, Split, assemble, make_pipeline, proper_split

HONEST: Final = ("pa_mpjpe_mm", "mpjpe_mm", "skill")
"""Metrics that a faulty pipeline reports of a sound one too, as `honest/...`."""
MANO_ORDER: Final = tuple(range(21))
FAULTY_ANGLE: Final = math.radians(30)
FAULTY_SCALE: Final = 3.0
"""Over the number of points: how much too small their scale was."""


def pipeline_of(data: LoadedData, config: TrainConfig, device: torch.device) -> Pipeline:
    """The pipeline of a config on data that are as they should be: sound, or with the config's faults."""
    faults = config.faults
    if not faults:
        return make_pipeline(data, config, device)
    read = read_faultily(data, faults)
    reference = faulty_reference(read, config.eval.mesh_images, faults)
    pipeline = assemble(read, config, device, reference, split_images(read, faults), joint_order(faults))
    criterion, targets = pipeline.criterion, pipeline.targets
    if {"misread_theta", "no_mean_pose", "mano_joint_order"} & set(faults):
        # Their joints are those of the data set's file, not those that their own hand layer would make.
        targets = replace(targets, joints_m=torch.from_numpy(joints_in_wrist_frame(data.labels)).to(targets.joints_m))
    if "camera_frame" in faults:
        targets = CameraTargets(**vars(targets), camera_m=torch.from_numpy(data.labels.joints_m).to(targets.joints_m))
        criterion = CameraCriterion(**vars(criterion))
    return replace(
        pipeline,
        criterion=criterion,
        targets=targets,
        turn_pixels=turn_pixels_only if "unturned_labels" in faults else None,
        more_metrics=_HonestMetrics(data, read, reference),
    )


def control_report(data: LoadedData, config: TrainConfig) -> EpochReport:
    """As `evaluate_control`; a pipeline with faults is measured with them, and honestly as well."""
    faults = config.faults
    if not faults:
        return evaluate_control(data, config)
    read = read_faultily(data, faults)
    reference = faulty_reference(read, config.eval.mesh_images, faults)
    metrics = evaluate(reference, control_outputs(reference, read.labels, read.val_poses, config))
    outputs = control_outputs(reference, read.labels, data.val_poses, config)
    honest = evaluate(make_reference(data, mesh_images=1), outputs)
    return EpochReport(1, 0.0, metrics | {f"honest/{name}": honest[f"val/{name}"] for name in HONEST})


class _HonestMetrics:
    """What a faulty pipeline reports beside its own `val/` metrics.

    `honest/...`: the same model by right labels, metric, hand and split. Only from `mispaired_labels` no image can be
    held out: it shows those of all poses, under other poses' labels.

    `val/mean_pose_pa_mpjpe_mm`: what the pipeline says of the mean of its training labels, shown for every image: the
    pose of a model that has learned nothing else. The best constant pose of its reference is found by the sound
    alignment, and means little where the measure is not that one.
    """

    def __init__(self, data: LoadedData, read: LoadedData, reference: Reference) -> None:
        self.reference, self.images = make_reference(data, mesh_images=1), proper_split(data)[1]
        mean_m = joints_of(reference.hand, read.labels.theta[read.train_poses].mean(0)[None], np.zeros((1, 10)))
        distances_m = aligned_distances(mean_m, reference.aligned_to_m, reference.align)
        self.mean_pose_pa_mm = 1000.0 * float(distances_m.mean())

    def __call__(self, predictor: Predictor) -> dict[str, float]:
        honest = evaluate(self.reference, predictor(self.images))
        metrics = {f"honest/{name}": honest[f"val/{name}"] for name in HONEST}
        return metrics | {"val/mean_pose_pa_mpjpe_mm": self.mean_pose_pa_mm}


def joint_order(faults: Sequence[FaultName]) -> tuple[int, ...]:
    """Order in which joints are predicted; labels have FreiHAND's.

    `mano_joint_order`: MANO's own, thumb last and the five tips after all. The wrist is first in both, so that nothing
    looks wrong.
    """
    return MANO_ORDER if "mano_joint_order" in faults else FREIHAND_ORDER


def read_faultily(data: LoadedData, faults: Sequence[FaultName]) -> LoadedData:
    """The data as a pipeline with these faults reads them. The joints, which have a file of their own, stay right.

    `mispaired_labels`: image i shows pose i // V, as if the versions of a pose lay one after the other; in FreiHAND it
    is i modulo N. `misread_theta`: theta begins at the first of the 61 MANO values, where the wrist's rotation stands,
    so every joint gets the values of the one before; the shape is zero. `no_mean_pose`: the hand layer does not add
    `hands_mean`, and the pose components were not loaded. `leaky_split`: validation on poses of the training set.
    """
    labels, hand = data.labels, data.hand
    if "mispaired_labels" in faults:
        versions = np.bincount(labels.pose_index)
        labels = replace(labels, pose_index=np.repeat(np.arange(len(versions)), versions))
    if "misread_theta" in faults:
        values = np.concatenate([labels.global_orient, labels.theta], axis=1)
        labels = replace(labels, theta=values[:, :45], betas=np.zeros_like(labels.betas))
    if "no_mean_pose" in faults:
        nothing = np.zeros_like(hand.hands_mean), np.zeros_like(hand.hands_components)
        hand = replace(hand, hands_mean=nothing[0], hands_components=nothing[1])
    val_poses = _leaked(data) if "leaky_split" in faults else data.val_poses
    return replace(data, labels=labels, hand=hand, val_poses=val_poses)


def faulty_reference(read: LoadedData, mesh_images: int, faults: Sequence[FaultName]) -> Reference:
    """What validation of a pipeline with these faults compares with.

    `broken_procrustes`: by `broken_align`, with the hand as the camera sees it.
    """
    if "broken_procrustes" in faults:
        in_camera_m = read.labels.joints_m[read.val_poses]
        reference = make_reference(read, mesh_images, joint_order(faults), broken_align, in_camera_m)
    else:
        reference = make_reference(read, mesh_images, joint_order(faults))
    if "leaky_split" in faults:  # its images are not those of the versions in turn
        reference = replace(reference, versions={})
    return replace(reference, protocols={})  # published tables know nothing of mistakes


def split_images(read: LoadedData, faults: Sequence[FaultName]) -> Split:
    """Which images are trained and validated on.

    `leaky_split`: of a pose that is validated on, the first version is held out and the others are trained on; the last
    evaluation is on one of those.
    """
    if "leaky_split" not in faults:
        return proper_split(read)
    table = image_table(read.labels.pose_index)
    first = table[read.val_poses, 0]
    if table.shape[1] > 1:
        table[read.val_poses, 0] = table[read.val_poses, 1]
    return table, first, table[read.val_poses, 0]


@dataclass(frozen=True)
class CameraTarget(Target):
    """`camera_frame`: with joints (B, 21, 3) in metres as seen from the camera, not centred."""

    camera_m: Tensor | None = None


@dataclass(frozen=True)
class CameraTargets(Targets):
    """Those of `CameraTarget`, of all poses (N, 21, 3)."""

    camera_m: Tensor | None = None

    def of(self, poses: Integers | Tensor, angle: Tensor | None) -> CameraTarget:
        """As `Targets.of`; the joints turn with the pixels."""
        assert self.camera_m is not None
        index = to_device(poses, self.theta.device)
        camera_m = self.camera_m[index]
        if angle is not None:
            rolled = camera_m[..., :2] @ camera_roll(angle, self.intrinsics[index]).mT
            camera_m = torch.cat((rolled, camera_m[..., 2:]), dim=-1)
        return CameraTarget(**vars(super().of(poses, angle)), camera_m=camera_m)


@dataclass(frozen=True)
class CameraCriterion(Criterion):
    """`camera_frame`: the joint term compares with `CameraTarget`."""

    def joint_pair(self, joints_m: Tensor, prediction: Prediction, target: Target) -> tuple[Tensor, Tensor]:
        """The hand in its own frame, with its own origin, and the joints as seen from the camera."""
        assert isinstance(target, CameraTarget)
        assert target.camera_m is not None
        betas = target.betas if prediction.betas is None else prediction.betas
        return self.hand.joints(prediction.theta, betas), target.camera_m


def turn_pixels_only(images: Tensor, generator: torch.Generator) -> Tensor:
    """`unturned_labels`: normalised images (B, 3, S, S), half of them mirrored, turned by up to 30 degrees.

    Their labels stay: half of the right hands become left ones.
    """
    count = len(images)
    angle, coin = torch.rand(2, count, generator=generator).to(images.device)
    mirrored = torch.where((coin < 0.5).view(-1, 1, 1, 1), images.flip(-1), images)
    one, zero = torch.ones_like(angle), torch.zeros_like(angle)
    return augment(mirrored, Draw(FAULTY_ANGLE * (2 * angle - 1), one, zero, zero, torch.zeros_like(images[:1])))


def broken_align(predicted: Array, true: Array) -> Array:
    """`broken_procrustes`: as `procrustes.align`, but the scale is 3 / P of the right one and the rotation is inverse.

    For 21 joints that is a seventh: the prediction shrinks to nearly a point, and what is measured is how far the true
    joints (N, 21, 3) lie from their centroid.
    """
    scale, rotation = similarity(predicted, true)
    centred = predicted - predicted.mean(1, keepdims=True)
    aligned: Array = scale * FAULTY_SCALE / predicted.shape[1] * centred @ rotation + true.mean(1, keepdims=True)
    return aligned


def _leaked(data: LoadedData) -> Integers:
    """As many training poses as are held out, drawn without a seed of the run: all trials validate on the same."""
    poses = np.unique(data.train_poses)
    drawn = np.random.default_rng(0).choice(poses, min(len(poses), len(data.val_poses)), replace=False)
    return np.sort(drawn)
