"""What is held out of DexYCB's layout: recordings, each seen by two cameras."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from plants.validation import easiest, flattest, one_fist, one_gesture

from mano_trainers.arrays import Integers
from mano_trainers.config import TrainConfig
from mano_trainers.data.load import LoadedData, load_data
from mano_trainers.data.rendering import dexycb
from mano_trainers.data.rendering.shots import draw_nothing
from mano_trainers.preflight.data.held_out import check_held_out
from mano_trainers.preflight.subject import make_subject
from mano_trainers.report import CheckResult, CheckStatus

pytestmark = pytest.mark.slow

SEEDS = 2


@pytest.fixture(scope="module", params=range(SEEDS))
def config(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainConfig]:
    """Config for a set with one of four recordings held out. Its pictures show nothing: only the labels matter."""
    root = tmp_path_factory.mktemp("dexycb") / "set"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINERS_CACHE_DIR", str(root.parent))
        patch.setattr(dexycb, "draw_shot", lambda shots, index, size, generator, left: draw_nothing(size, generator))
        dexycb.make_dexycb(root, count=240, size=48, seed=request.param)
        data = {"root": str(root), "format": "dexycb", "image_size": 32, "val_fraction": 0.3}
        yield TrainConfig.model_validate({"data": data, "device": "cpu"})


def spread(config: TrainConfig, choose: Callable[[LoadedData], Integers] = lambda data: data.val_poses) -> CheckResult:
    data = load_data(config.data)
    chosen = replace(data, val_poses=np.sort(choose(data)))
    [found] = [
        result
        for result in check_held_out(make_subject(chosen, config, [config], torch.device("cpu")))
        if result.name == "split.spread"
    ]
    return found


def of_one_camera(data: LoadedData) -> Integers:
    return data.val_poses[: len(data.val_poses) // 2]


def every_third(data: LoadedData) -> Integers:
    return data.val_poses[::3]


def first_half(data: LoadedData) -> Integers:
    """The first half of what each camera saw."""
    half = len(data.val_poses) // 4
    return np.concatenate([data.val_poses[:half], data.val_poses[2 * half : 3 * half]])


@pytest.mark.parametrize("choose", [lambda data: data.val_poses, of_one_camera, every_third, first_half])
def test_a_sound_split_by_recording_does_not_fail(
    config: TrainConfig, choose: Callable[[LoadedData], Integers]
) -> None:
    found = spread(config, choose)
    assert found.status is not CheckStatus.FAIL, found.measured


@pytest.mark.parametrize("choose", [easiest, flattest, one_gesture, one_fist])
def test_the_easy_poses_of_a_held_out_recording_fail(
    config: TrainConfig, choose: Callable[[LoadedData], Integers]
) -> None:
    found = spread(config, choose)
    assert found.status is CheckStatus.FAIL, found.measured
    assert "draw it at random" in found.help
