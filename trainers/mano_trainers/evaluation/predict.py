"""Predictions of a model for many images, in batches."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mano_trainers.arrays import Array, Integers, Pixels
from mano_trainers.batches import batch_memory, make_batch
from mano_trainers.evaluation.evaluate import Outputs
from mano_trainers.models import HandNet, Prediction
from mano_trainers.precision import mixed


def predict(
    model: HandNet, images: Pixels | Tensor, indices: Integers, batch_size: int, device: torch.device
) -> Outputs:
    """What the model, put into evaluation mode, says about the images at `indices`; the latter as for `make_batch`."""
    model.eval()
    predicted: list[Prediction] = []
    memory = batch_memory(images, min(batch_size, len(indices)), device)
    with torch.inference_mode():
        for start in range(0, len(indices), batch_size):
            batch = make_batch(images, indices[start : start + batch_size], device, memory=memory)
            with mixed(device):
                predicted.append(model(batch))
    return Outputs(
        theta=_join([each.theta for each in predicted]),
        betas=_join_if_there([each.betas for each in predicted]),
        orient=_join_if_there([each.orient for each in predicted]),
        joints_m=_join_if_there([each.joints_m for each in predicted]),
    )


def _join(parts: Sequence[Tensor]) -> Array:
    joined: Array = torch.cat(list(parts)).cpu().double().numpy()
    return joined


def _join_if_there(parts: Sequence[Tensor | None]) -> Array | None:
    there = [part for part in parts if part is not None]
    return _join(there) if there else None
