"""Preflight finds every planted fault and names it, and finds nothing in sound pipelines, on rendered sets."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from damages import DAMAGES
from mano_pickles import as_official, mano_content, python2_pickle
from torch import Tensor

from mano_trainers.config import TrainConfig
from mano_trainers.data.rendering.freihand import make_freihand
from mano_trainers.hand.layer import HandLayer
from mano_trainers.hand.model import load_embedded_hand
from mano_trainers.losses import terms as losses
from mano_trainers.preflight import preflight
from mano_trainers.preflight.losses import check_losses
from mano_trainers.preflight.training import check_training
from mano_trainers.report import CheckResult, CheckStatus

pytestmark = pytest.mark.slow

COUNT, SIZE = 240, 32
SEEDS = 10
"""`tests/benchmarks/planted_faults.py sound` counts false alarms over many more."""
FAULTS = {
    "mispaired_labels": "pairing.rotation",
    "misread_theta": "labels.kinematics",
    "no_mean_pose": "labels.mean_pose",
    "mano_joint_order": "labels.joint_order",
    "camera_frame": "loss.truth",
    "broken_procrustes": "metric.similarity",
    "unturned_labels": "augmentation.mirror",
    "leaky_split": "split.poses",
}


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("preflight")


@pytest.fixture(scope="session")
def sound_set(cache_dir: Path) -> Path:
    make_freihand(cache_dir / "sound", COUNT, SIZE, seed=1, workers=2)
    return cache_dir / "sound"


@pytest.fixture(autouse=True)
def own_cache(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINERS_CACHE_DIR", str(cache_dir / "cache"))


@pytest.fixture
def copied(sound_set: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the sound set to damage: its files may be links, since they are replaced and never written into."""
    shutil.copytree(sound_set, tmp_path / "set", copy_function=os.link)
    yield tmp_path / "set"
    shutil.rmtree(tmp_path / "set")


def config_of(root: Path | str, **changes: Any) -> TrainConfig:
    weights = {"lambda_joint": 8.0, "lambda_angular": 0.1, "lambda_pca": 0.001}
    return TrainConfig.model_validate(
        {"data": {"root": str(root), "image_size": SIZE}, "loss": weights, "device": "cpu"} | changes
    )


def check(
    config: TrainConfig, until: str = "loss.shares", corners: Sequence[TrainConfig] | None = None
) -> list[CheckResult]:
    """Results up to a check; by default all that need no training. The only corner, by default, is the config."""
    results: list[CheckResult] = []
    for result in preflight(config, [config] if corners is None else corners):
        results.append(result)
        if result.name == until:
            break
    return results


def failed(results: list[CheckResult]) -> dict[str, CheckResult]:
    return {result.name: result for result in results if result.status is CheckStatus.FAIL}


def assert_named(planted: str, name: str, results: list[CheckResult]) -> None:
    found = failed(results)
    print(f"{planted:28} {', '.join(found)}")  # the detection table: pytest -s
    assert name in found, f"{planted}: {name} should fail, but these did: {list(found)}"
    assert found[name].help
    assert found[name].measured


@pytest.mark.parametrize("fault", list(FAULTS))
def test_each_mistake_behind_the_47_mm_is_named(sound_set: Path, fault: str) -> None:
    assert_named(fault, FAULTS[fault], check(config_of(sound_set, faults=[fault]), until=FAULTS[fault]))


def test_a_file_in_the_official_convention_passes(sound_set: Path, tmp_path: Path) -> None:
    file = tmp_path / "MANO_RIGHT.pkl"
    file.write_bytes(python2_pickle(mano_content(as_official(load_embedded_hand()))))
    data = {"root": str(sound_set), "image_size": SIZE, "hand": str(file)}
    results = check(config_of(sound_set, data=data))
    assert not failed(results)
    (pose_space,) = [result for result in results if result.name == "loss.pose_space"]
    assert pose_space.status is CheckStatus.PASS


def test_labels_that_contradict_the_metric_cannot_be_memorised(sound_set: Path) -> None:
    results = check(config_of(sound_set, faults=["mano_joint_order"]), until="overfit")
    assert results[-1].name == "overfit"
    assert results[-1].status is not CheckStatus.PASS


@pytest.mark.parametrize("kind", list(DAMAGES))
def test_damage_on_disk_is_named(copied: Path, kind: str) -> None:
    damage, name = DAMAGES[kind]
    damage(copied)
    assert_named(kind, name, check(config_of(copied), until=name))


def summed_param_loss(theta: Tensor, theta_true: Tensor) -> Tensor:
    return (theta - theta_true).square().sum()


def detached_param_loss(theta: Tensor, theta_true: Tensor) -> Tensor:
    return (theta.detach() - theta_true).square().mean() + 0.0 * theta.sum()


def broken_angular_loss(theta: Tensor, theta_true: Tensor, mean: Tensor) -> Tensor:
    return torch.acos(torch.cos(theta - theta_true) + 1.0).mean()


MUTATIONS: dict[str, tuple[str, Callable[..., Tensor], str]] = {
    "summed, not averaged": ("param_loss", summed_param_loss, "loss.batch_size"),
    "cut off from the prediction": ("param_loss", detached_param_loss, "loss.gradient"),
    "not finite": ("angular_loss", broken_angular_loss, "loss.finite"),
    "a prior that is always zero": ("pca_loss", lambda theta, *_: 0.0 * theta.sum(), "loss.constant"),
}


@pytest.mark.parametrize("kind", list(MUTATIONS))
def test_a_broken_loss_term_is_named(sound_set: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function, broken, name = MUTATIONS[kind]
    monkeypatch.setattr(losses, function, broken)
    results = check(config_of(sound_set), until=name)
    assert_named(kind, name, results)
    if name != "loss.batch_size":
        assert function.removesuffix("_loss") in failed(results)[name].measured


def test_a_pose_basis_that_never_loaded_is_named(sound_set: Path) -> None:
    found = failed(check(config_of(sound_set, faults=["no_mean_pose"])))
    assert "pca" in found["loss.constant"].measured
    assert "loss.pose_space" in found


def test_a_hand_layer_that_shifts_one_joint_is_named(sound_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = HandLayer.joints

    def shifted(self: HandLayer, *pose: Tensor) -> Tensor:
        joints = original(self, *pose).clone()
        joints[:, 8, 1] += 0.02
        return joints

    monkeypatch.setattr(HandLayer, "joints", shifted)
    assert_named("a fingertip 20 mm off", "labels.kinematics", check(config_of(sound_set), until="labels.kinematics"))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_sound_pipeline_passes_whatever_its_seed(seed: int) -> None:
    data = {"embedded_count": COUNT, "embedded_seed": seed, "image_size": SIZE}
    optim = {"warmup_steps": 2}  # out of the few steps that so few poses give
    config = config_of("embedded", data=data, seed=seed, augment=seed % 2 == 0, optim=optim)
    results = check(config, until="overfit" if seed < 2 else "loss.shares")
    assert not failed(results), failed(results)
    unsure = {result.name for result in results if result.status is CheckStatus.WARN}
    assert unsure <= {
        "pairing.theta",
        "loss.shares",
        "overfit",
        "split.size",
    }  # overfit: on a machine that is very busy


EVEN = {"lambda_param": 1.0, "lambda_joint": 8.0, "lambda_pca": 0.0, "lambda_angular": 0.0}


@pytest.mark.parametrize(
    ("corners", "status", "says"),
    [
        ([{"lambda_joint": 1e4}, {}], CheckStatus.WARN, "in 1 of 2 corners"),
        ([{"lambda_joint": 1e4}], CheckStatus.WARN, "most: joint"),
        ([{"lambda_joint": 8e-3}, {"lambda_joint": 8e3}], CheckStatus.PASS, "in 2 of 2 corners"),
        ([{"lambda_joint": 0.0, "lambda_reg": 1e-6}], CheckStatus.PASS, "in 0 of 1 corners"),
        ([{"lambda_pca": 10.0}], CheckStatus.WARN, "pca in the middle"),
    ],
    ids=["too wide upwards", "a unit", "wide both ways", "a weak regulariser", "a prior"],
)
def test_gradient_shares_over_a_search(
    sound_set: Path, monkeypatch: pytest.MonkeyPatch, corners: list[dict[str, float]], status: CheckStatus, says: str
) -> None:
    monkeypatch.setattr("mano_trainers.preflight.CHECKS", {"loss": check_losses})
    base = config_of(sound_set, loss=EVEN)
    configs = [base.model_copy(update={"loss": base.loss.model_copy(update=changes)}) for changes in corners]
    shares = check(base, until="loss.shares", corners=configs)[-1]
    assert (shares.name, shares.status) == ("loss.shares", status)
    assert says in shares.measured


def test_weights_that_a_warm_up_moves_too_little_to_notice_are_not_called_frozen(
    sound_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks that start as the identity have next to no gradient in the first steps, whose rates are tiny."""
    monkeypatch.setattr("mano_trainers.preflight.CHECKS", {"training": check_training})
    small = {"model": {"backbone": "resnet18"}, "optim": {"lr": 2e-5, "epochs": 50}, "augment": False}
    moved = check(config_of(sound_set, **small), until="training.weights_move")[-1]
    assert (moved.name, moved.status) == ("training.weights_move", CheckStatus.PASS), moved.measured
    assert "more by steps too small for float32" in moved.measured
