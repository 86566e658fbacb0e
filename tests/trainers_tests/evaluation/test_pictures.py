"""The picture of some predictions: what is drawn is where the hand is."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mano_trainers.arrays import Array
from mano_trainers.batches import image_table
from mano_trainers.config.data import DataConfig
from mano_trainers.data.load import LoadedData, load_data
from mano_trainers.evaluation.evaluate import Outputs
from mano_trainers.evaluation.pictures import HEADER_PX, PREDICTED, TILE_PX, TRUE, draw_samples
from mano_trainers.evaluation.reference import Reference, make_reference


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> LoadedData:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINERS_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        return load_data(DataConfig(embedded_count=32, image_size=48, val_fraction=0.25))


@pytest.fixture(scope="module")
def reference(data: LoadedData) -> Reference:
    return make_reference(data, mesh_images=1)


def picture(data: LoadedData, reference: Reference, theta: Array) -> Array:
    """RGB of the tiles, in rows of four."""
    shown = image_table(data.labels.pose_index)[data.val_poses, 0]
    jpeg = draw_samples(data, data.images, reference, shown, Outputs(theta))
    return np.asarray(Image.open(io.BytesIO(jpeg)))[HEADER_PX:].astype(float)


def near(image: Array, colour: tuple[int, int, int]) -> Array:
    return np.linalg.norm(image - np.array(colour), axis=-1) < 80


def test_a_right_prediction_covers_the_truth_and_a_wrong_one_does_not(data: LoadedData, reference: Reference) -> None:
    right = picture(data, reference, reference.theta)
    wrong = picture(data, reference, reference.theta + 1.0)
    assert right.shape == (2 * TILE_PX, 4 * TILE_PX, 3)
    assert near(wrong, TRUE).sum() > 3 * near(right, TRUE).sum(), "the predicted skeleton lies over the true one"
    assert near(right, PREDICTED).sum() > 500


def test_the_skeleton_lies_on_the_hand(data: LoadedData, reference: Reference) -> None:
    drawn = near(picture(data, reference, reference.theta), PREDICTED)[:TILE_PX, :TILE_PX]
    first = data.images[image_table(data.labels.pose_index)[data.val_poses[0], 0]].astype(float)
    green_screen = (first[..., 1] > first[..., 0] + 20) & (first[..., 1] > first[..., 2] + 20)
    hand = np.kron(~green_screen, np.ones((TILE_PX // 48, TILE_PX // 48), bool))
    assert hand.mean() < 0.7
    assert (drawn & hand).sum() / drawn.sum() > 0.9


def test_what_is_not_finite_is_not_drawn(data: LoadedData, reference: Reference) -> None:
    theta = reference.theta.copy()
    theta[0] = np.nan
    tiles = near(picture(data, reference, theta), PREDICTED)
    assert not tiles[:TILE_PX, :TILE_PX].any()
    assert tiles[:TILE_PX, TILE_PX:].any()


def test_the_loop_puts_the_picture_beside_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mano_trainers import checkpoint
    from mano_trainers.config import TrainConfig
    from mano_trainers.loop import train

    monkeypatch.setenv("TRAINERS_CACHE_DIR", str(tmp_path / "cache"))
    small = {"data": {"embedded_count": 16, "image_size": 32, "val_fraction": 0.25}, "optim": {"epochs": 1}}
    [report] = train(TrainConfig.model_validate({**small, "device": "cpu"}), tmp_path)
    assert report.checkpoint is not None
    assert checkpoint.load(report.checkpoint).step == 1
    with Image.open(report.checkpoint / "predictions.jpg") as image:
        assert image.width == 4 * TILE_PX
