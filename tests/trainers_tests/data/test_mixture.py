"""Mixtures of data sets: loading, curriculum, and a training that continues bit for bit within a stage."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from mano_trainers.batches import image_table, seeded
from mano_trainers.config import TrainConfig
from mano_trainers.config.data import CurriculumStage, DataConfig
from mano_trainers.data.curriculum import epoch_poses, weights_at
from mano_trainers.data.load import LoadedData, load_data
from mano_trainers.data.readers import dexycb
from mano_trainers.data.readers.labels import Labels
from mano_trainers.data.rendering.dexycb import make_dexycb
from mano_trainers.data.rendering.ho3d import make_ho3d
from mano_trainers.data.split import split_by_group
from mano_trainers.errors import ConfigError, DataError
from mano_trainers.loop import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Config of a mixture of three small sets; also sets the cache folder."""
    root = tmp_path_factory.mktemp("sets")
    make_ho3d(root / "ho3d", 15, 32, seed=0)
    make_dexycb(root / "dexycb", 12, 32, seed=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINERS_CACHE_DIR", str(root / "cache"))
        yield {
            "sets": [
                {"name": "rendered", "root": "embedded"},
                {"name": "ho", "root": str(root / "ho3d"), "format": "ho3d"},
                {"name": "dex", "root": str(root / "dexycb"), "format": "dexycb"},
            ],
            "embedded_count": 16,
            "image_size": 32,
            "val_fraction": 0.3,
        }


@pytest.fixture(scope="module")
def loaded(data: dict[str, Any]) -> LoadedData:
    return load_data(DataConfig.model_validate(data))


def test_a_mixture_holds_all_sets_and_splits_each_by_its_groups(loaded: LoadedData) -> None:
    labels, train, val = loaded.labels, loaded.train_poses, loaded.val_poses
    assert dict(zip(*np.unique(labels.set_name, return_counts=True), strict=True)) == {
        "rendered": 16,
        "ho": 15,
        "dex": 24,
    }
    assert sorted([*train, *val]) == list(range(55))
    assert not set(labels.group[train]) & set(labels.group[val])
    for name in ("rendered", "ho", "dex"):
        assert 0 < (labels.set_name[val] == name).sum() <= 0.5 * (labels.set_name == name).sum()
    assert len(loaded.images) == len(labels.pose_index) == 4 * 16 + 15 + 24


def test_images_of_poses_are_those_of_their_set(loaded: LoadedData) -> None:
    table = image_table(loaded.labels.pose_index)
    assert table.shape == (55, 4)
    assert table[3].tolist() == [3, 19, 35, 51]
    assert table[16].tolist() == [64] * 4  # one image each
    for pose in range(55):
        assert set(loaded.labels.pose_index[table[pose]]) == {pose}


def test_poses_with_three_and_with_four_images_show_each_image_equally_often() -> None:
    table = image_table(np.array([0, 1, 0, 1, 0, 1, 2, 2, 2, 2]))
    assert table.shape == (3, 12)
    assert np.bincount(table.ravel()).tolist() == [4, 4, 4, 4, 4, 4, 3, 3, 3, 3]


def test_labels_once_read_are_kept(data: dict[str, Any], loaded: LoadedData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(dexycb, "read_dexycb")
    again = load_data(DataConfig.model_validate(data))
    assert again.fingerprint == loaded.fingerprint
    for name, values in vars(loaded.labels).items():
        np.testing.assert_array_equal(getattr(again.labels, name), values)


def test_a_changed_label_is_read_again(data: dict[str, Any], loaded: LoadedData, tmp_path: Path) -> None:
    make_dexycb(tmp_path / "dexycb", 12, 32, seed=0)
    single = {"root": str(tmp_path / "dexycb"), "format": "dexycb", "image_size": 32, "val_fraction": 0.3}
    before = load_data(DataConfig.model_validate(single))
    path = sorted((tmp_path / "dexycb").glob("*/*/*/labels_000001.npz"))[0]
    with np.load(path, allow_pickle=False) as stored:
        pose, joints = stored["pose_m"], stored["joint_3d"]
    pose[0, 5] += 0.25
    np.savez(path, pose_m=pose, joint_3d=joints)
    after = load_data(DataConfig.model_validate(single))
    assert after.fingerprint != before.fingerprint
    assert not np.array_equal(after.labels.theta[0], before.labels.theta[0])


def some_labels() -> Labels:
    """100 poses: 60 of set a (20 of them egocentric), 40 of set b (10 of them egocentric)."""
    zeros = np.zeros((100, 1))
    views = np.array((["egocentric"] * 20 + ["third_person"] * 40) + (["egocentric"] * 10 + ["third_person"] * 30))
    names = np.array(["a"] * 60 + ["b"] * 40)
    return Labels(zeros, zeros, zeros, zeros, zeros, np.arange(100), views, names, np.arange(100), names)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({}, {"a/egocentric": 20, "a/third_person": 40, "b/egocentric": 10, "b/third_person": 30}),
        ({"a": 1, "b": 3}, {"a": 25, "b": 75}),
        ({"a": 1}, {"a": 100}),
        ({"egocentric": 1, "third_person": 1}, {"egocentric": 50, "third_person": 50}),
        ({"b": 2, "egocentric": 5}, {"b/egocentric": 100}),
        ({"a": 1, "b": 1, "egocentric": 4, "third_person": 1},
         {"a/egocentric": 40, "a/third_person": 10, "b/egocentric": 40, "b/third_person": 10}),
    ],
)  # fmt: skip
def test_an_epoch_has_the_shares_of_its_weights(weights: dict[str, float], expected: dict[str, int]) -> None:
    labels, poses = some_labels(), np.arange(100)
    drawn = epoch_poses(labels, poses, weights, seeded(0, "curriculum", 1))
    assert len(drawn) == 100
    for names, count in expected.items():
        rows = np.ones(100, bool)
        for name in names.split("/"):
            rows &= (labels.set_name[drawn] == name) | (labels.viewpoint[drawn] == name)
        assert rows.sum() == count


def test_no_pose_repeats_before_all_of_its_part_have_been_shown() -> None:
    labels = some_labels()
    drawn = epoch_poses(labels, np.arange(100), {"a": 1, "b": 3}, seeded(0, "curriculum", 1))
    times = np.bincount(drawn, minlength=100)
    assert set(times[labels.set_name == "a"]) == {0, 1}
    assert set(times[labels.set_name == "b"]) == {1, 2}


def test_an_epoch_depends_on_seed_and_number_alone() -> None:
    labels, poses = some_labels(), np.arange(0, 100, 3)
    draws = [
        epoch_poses(labels, poses, {"a": 1, "b": 2}, seeded(seed, "curriculum", epoch)).tolist()
        for seed, epoch in ((0, 1), (0, 1), (0, 2), (1, 1))
    ]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]
    assert draws[0] != draws[3]
    assert all(set(draw) <= set(poses.tolist()) for draw in draws)


def test_stages_end_with_their_epoch_and_the_last_never_ends() -> None:
    stages = [
        CurriculumStage(until_epoch=2, weights={"egocentric": 1.0}),
        CurriculumStage(until_epoch=3, weights={"a": 1.0}),
    ]
    assert [list(weights_at(stages, epoch)) for epoch in (1, 2, 3, 9)] == [["egocentric"], ["egocentric"], ["a"], ["a"]]
    assert weights_at([], 1) == {}


def test_weights_without_poses_are_reported_before_training(data: dict[str, Any]) -> None:
    single = {"embedded_count": 16, "image_size": 32}
    views = load_data(DataConfig.model_validate(single)).labels.viewpoint
    absent = {"egocentric", "third_person"} - set(views.tolist())
    labels = some_labels()
    with pytest.raises(ConfigError, match="no training pose belongs to egocentric"):
        epoch_poses(labels, np.arange(20, 60), {"egocentric": 1.0}, seeded(0, "curriculum", 1))
    for name in absent:
        with pytest.raises(ConfigError, match="no training pose"):
            load_data(DataConfig.model_validate({**single, "curriculum": [{"weights": {name: 1.0}}]}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hand": "MANO_RIGHT.pkl"}, "shows the embedded hand"),
        ({"format": "ho3d"}, "in FreiHAND's layout"),
        ({"root": "x", "sets": [{"name": "a", "root": "y"}]}, "describe a single set"),
        ({"sets": [{"name": "a", "root": "y"}, {"name": "a", "root": "z"}]}, "must differ"),
        ({"sets": [{"name": "egocentric", "root": "y"}]}, "must differ"),
        ({"root": "x", "format": "ho3d", "validate_on": "evaluation"}, "no labelled evaluation split"),
        ({"curriculum": [{"weights": {"nobody": 1.0}}]}, "names nobody, which is not one of egocentric, third_person"),
        ({"curriculum": [{"weights": {"egocentric": 0.0}}]}, "at least one weight"),
        ({"curriculum": [{"weights": {"egocentric": 1.0}}, {"weights": {"egocentric": 1.0}}]}, "every stage but"),
        ({"curriculum": [{"until_epoch": 3, "weights": {"egocentric": 1.0}},
                         {"until_epoch": 3, "weights": {"egocentric": 1.0}},
                         {"weights": {"egocentric": 1.0}}]}, "increase from stage to stage"),
    ],
)  # fmt: skip
def test_configs_that_contradict_themselves_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        DataConfig.model_validate(changes)


def test_one_recording_cannot_be_split() -> None:
    with pytest.raises(DataError, match="all frames belong to one group"):
        split_by_group(np.zeros(9, np.int64), 0.1)


def test_groups_stay_whole_and_a_share_is_not_exceeded_where_groups_fit() -> None:
    group = np.repeat(np.arange(20), 5)
    train, val = split_by_group(group, 0.2)
    assert len(val) == 20
    assert not set(group[train]) & set(group[val])
    train, val = split_by_group(np.array([0] * 50 + [1] * 30 + [2] * 20), 0.1)
    assert len(val) == 20  # none fits: the smallest


def test_validation_on_the_evaluation_split_trains_on_every_pose_of_the_other(data: dict[str, Any]) -> None:
    config = DataConfig(embedded_count=16, image_size=32, validate_on="evaluation")
    both = load_data(config)
    assert both.train_poses.tolist() == list(range(16))
    assert both.val_poses.tolist() == list(range(16, 24))
    assert len(both.images) == 4 * 16 + 8
    assert image_table(both.labels.pose_index)[16].tolist() == [64] * 4


def reports(config: TrainConfig, folder: Path, resume: Path | None = None) -> list[Any]:
    timings = ("train/seconds", "train/images_per_s")
    return [
        (report.step, {name: value for name, value in report.metrics.items() if name not in timings})
        for report in train(config, folder, resume)
    ]


def test_a_training_with_a_curriculum_continues_bit_for_bit(data: dict[str, Any], tmp_path: Path) -> None:
    curriculum = [{"until_epoch": 1, "weights": {"rendered": 1.0}}, {"weights": {"ho": 1.0, "dex": 3.0}}]
    mapping = {
        "data": {**data, "curriculum": curriculum},
        "optim": {"epochs": 3, "batch_size": 8, "warmup_steps": 2},
        "eval": {"mesh_images": 4},
        "device": "cpu",
    }
    config = TrainConfig.model_validate(mapping)
    whole = reports(config, tmp_path / "whole")
    assert {f"val/{name}/pa_mpjpe_mm" for name in ("rendered", "ho", "dex")} <= whole[0][1].keys()
    resumed = reports(config, tmp_path / "resumed", tmp_path / "whole" / "epoch_002")
    assert resumed == whole[2:]
    mapping["data"] = data
    plain = reports(TrainConfig.model_validate(mapping), tmp_path / "plain")
    assert plain[0][1]["train/optimizer_steps"] == whole[0][1]["train/optimizer_steps"]
    assert plain[0] != whole[0]
