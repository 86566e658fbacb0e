"""Controls of the trainer: rulers judged by the same evaluation, and the p-value that tells skill from luck."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import wilcoxon

from mano_trainers.config import TrainConfig
from mano_trainers.data.load import LoadedData, load_data
from mano_trainers.evaluation.metrics import p_of_smaller
from mano_trainers.loop import train
from mano_trainers.report import EpochReport
from mano_trainers.training.controls import shuffle_labels

MODEL_METRICS = {"val/mpjpe_camera_mm", "val/joints_mpjpe_mm", "val/joints_pa_mpjpe_mm"}


@pytest.fixture(scope="module", autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINERS_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def config(control: str | None, **changes: Any) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "data": {"embedded_count": 48, "image_size": 32, "val_fraction": 0.25},
            "optim": {"epochs": 1, "batch_size": 8, "warmup_steps": 2},
            "eval": {"mesh_images": 4},
            "device": "cpu",
            "control": control,
        }
        | changes
    )


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, cache_dir: None) -> dict[str, EpochReport]:
    reports = {}
    for control in ("oracle", "zero", "constant_pose"):
        workdir = tmp_path_factory.mktemp(control)
        [reports[control]] = train(config(control), workdir)
        assert list(workdir.iterdir()) == [], "nothing is trained, so nothing is saved"
    return reports


def test_the_oracle_is_perfect(evaluated: dict[str, EpochReport]) -> None:
    report = evaluated["oracle"]
    assert (report.step, report.epoch, report.checkpoint) == (1, 0.0, None)
    for name in ("mpjpe_mm", "pa_mpjpe_mm", "pa_mpvpe_mm"):
        assert report.metrics[f"val/{name}"] < 1e-3, name
    assert report.metrics["val/theta_r2"] == 1.0
    assert report.metrics["val/skill_p"] < 1e-3


def test_zero_and_constant_pose_read_no_image(evaluated: dict[str, EpochReport]) -> None:
    zero, constant = evaluated["zero"].metrics, evaluated["constant_pose"].metrics
    assert (zero["val/theta_min"], zero["val/theta_max"]) == (0.0, 0.0)
    assert constant["val/skill"] == pytest.approx(0.0, abs=1e-9)
    assert constant["val/skill_p"] == 1.0
    assert constant["val/theta_variance_rad2"] == pytest.approx(0.0, abs=1e-12)
    assert 5 < constant["val/pa_mpjpe_mm"] <= zero["val/pa_mpjpe_mm"] + 1.0


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "model": {"predict_orient": True, "head": "joints"},
            "loss": {"lambda_direct": 1.0, "lambda_orient": 1.0},
        },
    ],
    ids=["theta", "orientation and joints too"],
)
def test_controls_report_what_a_model_reports(changes: dict[str, Any], tmp_path: Path) -> None:
    [trained] = train(config(None, **changes), tmp_path)
    of_model = {name for name in trained.metrics if name.startswith("val/")}
    assert (of_model >= MODEL_METRICS) == bool(changes)
    for control in ("oracle", "constant_pose"):
        [report] = train(config(control, **changes), tmp_path)
        assert set(report.metrics) == of_model
        if control == "oracle":
            assert max(report.metrics.get(name, 0.0) for name in MODEL_METRICS) < 1e-3


def test_the_oracle_shows_a_broken_metric(tmp_path: Path, evaluated: dict[str, EpochReport]) -> None:
    broken = {"faults": ["mano_joint_order", "broken_procrustes"]}
    [oracle], [constant] = (train(config(name, **broken), tmp_path) for name in ("oracle", "constant_pose"))
    assert oracle.metrics["val/pa_mpjpe_mm"] > 0.8 * constant.metrics["val/pa_mpjpe_mm"] > 20
    assert oracle.metrics["honest/pa_mpjpe_mm"] < 1e-3
    assert 5 < constant.metrics["honest/pa_mpjpe_mm"] < constant.metrics["val/pa_mpjpe_mm"]


def test_shuffled_labels_train_like_a_trial(tmp_path: Path) -> None:
    [shuffled] = train(config("shuffled_labels"), tmp_path / "shuffled")
    [straight] = train(config(None), tmp_path / "straight")
    assert shuffled.checkpoint is not None
    assert set(shuffled.metrics) == set(straight.metrics)
    assert shuffled.metrics["train/loss"] != straight.metrics["train/loss"]


def loaded(cache_dir: None) -> LoadedData:
    return load_data(config(None).data)


def test_shuffling_mispairs_training_images_by_the_seed_and_no_others(cache_dir: None) -> None:
    data = loaded(cache_dir)
    shuffled = shuffle_labels(data, seed=3)
    before, after = data.labels.pose_index, shuffled.labels.pose_index
    held_out = np.isin(before, data.val_poses)
    assert (before[held_out] == after[held_out]).all()
    assert (before[~held_out] != after[~held_out]).mean() > 0.8
    assert (np.bincount(before) == np.bincount(after)).all(), "every pose is still shown equally often"
    assert set(after[~held_out]) == set(data.train_poses.tolist())
    for name in ("theta", "joints_m", "betas"):
        assert getattr(shuffled.labels, name) is getattr(data.labels, name)
    assert (shuffle_labels(data, seed=3).labels.pose_index == after).all()
    assert (shuffle_labels(data, seed=4).labels.pose_index != after).any()


def rejected(draw: Any, runs: int = 2000) -> float:
    """Share of p-values below 0.05 over many draws of (errors, others)."""
    rng = np.random.default_rng(0)
    return float(np.mean([p_of_smaller(*draw(rng)) < 0.05 for _ in range(runs)]))


def test_under_the_null_the_p_value_is_below_005_five_times_in_a_hundred() -> None:
    def skewed(rng: np.random.Generator) -> tuple[Any, Any]:
        """Two predictors equally good on average, on images of very different difficulty."""
        difficulty = rng.gamma(2.0, 5.0, size=60)
        return difficulty * rng.gamma(20.0, 0.05, size=60), difficulty * rng.gamma(20.0, 0.05, size=60)

    assert rejected(skewed) == pytest.approx(0.05, abs=0.015)


def test_a_little_better_on_most_and_much_worse_on_some_is_not_skill() -> None:
    """Two constants can differ like that. A signed-rank test would call most of these better."""

    def lopsided(rng: np.random.Generator) -> tuple[Any, Any]:
        others = rng.uniform(15.0, 25.0, size=300)
        lost = rng.random(300) < 0.2
        return others + np.where(lost, 4.2, -1.0) + rng.normal(size=300), others

    assert rejected(lopsided, runs=300) < 0.05
    rng = np.random.default_rng(0)
    signed_rank = [wilcoxon(*lopsided(rng), alternative="less").pvalue < 0.05 for _ in range(100)]
    assert np.mean(signed_rank) > 0.5


def test_skill_is_detected() -> None:
    def better(rng: np.random.Generator) -> tuple[Any, Any]:
        others = rng.uniform(15.0, 25.0, size=300)
        return others - 0.5 + rng.normal(scale=2.0, size=300), others

    assert rejected(better, runs=300) > 0.95


@pytest.mark.parametrize(
    ("errors", "others", "expected"),
    [
        ([3.0, 4.0], [3.0, 4.0], 1.0),
        ([3.0], [4.0], 1.0),
        ([2.0, 3.0], [3.0, 4.0], 0.0),
        ([4.0, 5.0], [3.0, 4.0], 1.0),
        ([math.nan, 1.0], [2.0, 2.0], math.nan),
    ],
    ids=["equal", "one sample", "better by a constant", "worse by a constant", "not a number"],
)
def test_p_values_without_spread(errors: list[float], others: list[float], expected: float) -> None:
    assert p_of_smaller(np.array(errors), np.array(others)) == pytest.approx(expected, nan_ok=True)
