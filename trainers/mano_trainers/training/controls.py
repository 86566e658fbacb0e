"""Reference points for the trainings: what is known to be perfect, and what has not seen the images.

`config.control` names one. They are judged by the same `evaluate` as a model. If the oracle is not far better than the
constant pose, the metric is broken; if no training is better than the constant pose or than one on shuffled labels,
labels or pipeline are broken, and no loss weight fixes that.
"""

from dataclasses import replace

import numpy as np
import torch

from mano_trainers.arrays import Integers
from mano_trainers.config import TrainConfig
from mano_trainers.data.load import LoadedData
from mano_trainers.data.readers.labels import Labels, joints_in_wrist_frame
from mano_trainers.evaluation.evaluate import Outputs, evaluate
from mano_trainers.evaluation.reference import Reference, joints_of, make_reference
from mano_trainers.report import EpochReport
from mano_trainers.rotations import matrix_from_axis_angle


def evaluate_control(data: LoadedData, config: TrainConfig) -> EpochReport:
    """The one evaluation of `oracle`, `zero` or `constant_pose`, with the `val/` metrics of a model of this config.

    The oracle predicts the labels: theta, shape, orientation, joints. `zero` predicts theta 0, which is MANO's mean
    pose; `constant_pose` the pose that `best_constant_theta` fitted to the training labels. Those two turn the hand
    like the camera, and have zero shape.
    """
    reference = make_reference(data, config.eval.mesh_images)
    return EpochReport(1, 0.0, evaluate(reference, control_outputs(reference, data.labels, data.val_poses, config)))


def control_outputs(reference: Reference, labels: Labels, poses: Integers, config: TrainConfig) -> Outputs:
    """What the control says of these poses (N): theta and shape, and what else a model of the config predicts."""
    count = len(poses)
    betas, turns = np.zeros((count, 10)), np.zeros((count, 3))
    match config.control:
        case "oracle":
            theta, betas, turns = labels.theta[poses], labels.betas[poses], labels.global_orient[poses]
        case "constant_pose":
            theta = np.tile(reference.constant_theta, (count, 1))
        case _:
            theta = np.zeros((count, 45))
    orient, joints_m = None, None
    if config.model.predict_orient:
        orient = matrix_from_axis_angle(torch.from_numpy(turns)).numpy()
    if config.model.head == "joints":
        is_oracle = config.control == "oracle"
        joints_m = joints_in_wrist_frame(labels)[poses] if is_oracle else joints_of(reference.hand, theta, betas)
    return Outputs(theta, betas, orient, joints_m)


def shuffle_labels(data: LoadedData, seed: int) -> LoadedData:
    """The data with every training pose shown by images of another one, drawn by the seed; validation stays as it is.

    Poses change places within their data set only, since another set may have another number of images per pose. The
    labels themselves stay where they are, so what evaluation takes from them (codebook, constant pose) is the same.
    """
    labels = data.labels
    shown_as = np.arange(len(labels.theta))
    random = np.random.default_rng(seed)
    trained = np.unique(data.train_poses)
    for name in np.unique(labels.set_name):
        poses = trained[labels.set_name[trained] == name]
        shown_as[poses] = random.permutation(poses)
    return replace(data, labels=replace(labels, pose_index=shown_as[labels.pose_index]))
