"""Batches of several runs as one: every image is what it would be in its own batch."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mano_trainers.config import TrainConfig
from mano_trainers.data.load import LoadedData, load_data
from mano_trainers.training.one_batch import one_batch
from mano_trainers.training.pipeline import Pipeline, RawBatch, augmented, make_pipeline, raw_batch, with_config

EVERYTHING = {"zoom": 0.1, "shift": 0.1, "colour": 0.2, "blur": 0.02, "erase": 0.5, "background": 0.5}
CPU = torch.device("cpu")


def config(**changes: Any) -> TrainConfig:
    data = {"embedded_count": 24, "image_size": 32, "val_fraction": 0.25}
    return TrainConfig.model_validate({"data": data, "eval": {"mesh_images": 4}, "device": "cpu"} | changes)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedData]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINERS_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield load_data(config().data, with_masks=True)


def as_on_a_gpu(data: LoadedData, *configs: TrainConfig) -> list[Pipeline]:
    """Pipelines of lanes whose images and masks are on the device, as they are on a GPU that has room for them."""
    assert data.masks is not None
    first = make_pipeline(data, configs[0], CPU)
    alpha = torch.from_numpy(np.array(data.masks.alpha))
    first = replace(first, images=torch.from_numpy(np.array(data.images)), masks=alpha)
    return [first, *(with_config(first, each) for each in configs[1:])]


def batches(pipelines: list[Pipeline]) -> list[RawBatch]:
    return [raw_batch(each, np.arange(number, number + 8), 3 + number) for number, each in enumerate(pipelines)]


@pytest.mark.parametrize("strengths", [EVERYTHING, {}], ids=["everything", "the default"])
def test_images_and_labels_are_those_of_each_batch(data: LoadedData, strengths: dict[str, float]) -> None:
    configs = [config(seed=seed, augmentation=strengths) for seed in range(3)]
    pipelines = as_on_a_gpu(data, *configs)
    raws = batches(pipelines)
    joined = one_batch(raws)
    assert joined is not None
    images, target = augmented(pipelines[0], joined)
    for number, pair in enumerate(augmented(*each) for each in zip(pipelines, raws, strict=True)):
        rows = slice(8 * number, 8 * (number + 1))
        torch.testing.assert_close(images[rows], pair[0], rtol=0, atol=1e-6)
        assert torch.equal(target.theta[rows], pair[1].theta)
        assert torch.equal(target.joints_m[rows], pair[1].joints_m)
    assert not torch.equal(images[:8], images[8:16])


def test_a_part_of_the_augmentation_may_be_stronger_in_one_run_but_not_missing(data: LoadedData) -> None:
    weak, strong, without = (config(augmentation={"rotate_deg": 10, "zoom": zoom}) for zoom in (0.1, 0.3, 0.0))
    assert one_batch(batches(as_on_a_gpu(data, weak, strong))) is not None
    assert one_batch(batches(as_on_a_gpu(data, weak, without))) is None
    assert one_batch(batches(as_on_a_gpu(data, weak, config(augment=False)))) is None
