"""`--overfit N`: a sound pipeline memorises a few images, one with another joint order does not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mano_trainers import overfit
from mano_trainers.__main__ import main
from mano_trainers.config import TrainConfig
from mano_trainers.config.data import DataConfig
from mano_trainers.data.load import LoadedData, load_data
from mano_trainers.errors import ConfigError

CONFIG = TrainConfig.model_validate({"data": {"embedded_count": 24, "image_size": 32}, "device": "cpu"})


@pytest.fixture(scope="module", autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINERS_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.slow
def test_eight_images_are_memorised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("data: {embedded_count: 24, image_size: 64}\ndevice: cpu\n")
    assert main([str(path), "--out", str(tmp_path / "out"), "--overfit", "8"]) == 0
    assert "8 images are memorised" in capsys.readouterr().err


@pytest.mark.slow
def test_joints_in_another_order_cannot_be_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_manos_order(config: DataConfig) -> LoadedData:
        data = load_data(config)
        swapped = data.labels.joints_m[:, [0, *range(5, 21), 1, 2, 3, 4]]  # the thumb last
        return replace(data, labels=replace(data.labels, joints_m=swapped))

    monkeypatch.setattr(overfit, "load_data", in_manos_order)
    monkeypatch.setattr(overfit, "EPOCHS", 5)
    *_, last = overfit.overfit(CONFIG, 8, tmp_path)
    assert last.metrics["val/theta_r2"] > 0.8  # theta itself is learned
    assert last.metrics["val/pa_mpjpe_mm"] > 10


def test_what_prevents_an_exact_answer_is_left_out() -> None:
    given = TrainConfig.model_validate(
        {"loss": {"lambda_pca": 1.0, "lambda_joint": 2.0}, "optim": {"weight_decay": 0.1}, "seed": 3}
    )
    chosen = overfit.overfit_config(given, 8)
    assert (chosen.loss.lambda_pca, chosen.loss.lambda_reg, chosen.optim.weight_decay) == (0.0, 0.0, 0.0)
    assert (chosen.augment, chosen.model.predict_shape, chosen.optim.batch_size) == (False, True, 8)
    assert (chosen.loss.lambda_joint, chosen.seed) == (2.0, 3)


def test_training_and_validation_are_the_same_few_images() -> None:
    data = load_data(CONFIG.data)
    few = overfit.few_images(data, 5)
    assert few.images.shape == (5, 32, 32, 3)
    assert set(few.train_poses) == set(few.val_poses) == set(range(5))
    for row, pose in enumerate(data.train_poses[:5]):
        (first, *_) = np.flatnonzero(data.labels.pose_index == pose)
        assert np.array_equal(few.images[row], data.images[first])
        assert np.array_equal(few.labels.theta[row], data.labels.theta[pose])


@pytest.mark.parametrize(
    ("count", "message"), [(1, "must be at least 2"), (25, "the data hold only 22 training poses")]
)
def test_too_few_or_too_many_images_are_refused(tmp_path: Path, count: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        next(overfit.overfit(CONFIG, count, tmp_path))
