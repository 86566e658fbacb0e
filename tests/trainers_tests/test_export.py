"""pred.json: the benchmark's layout, and the same hands that validation judged."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mano_trainers import checkpoint
from mano_trainers.config import TrainConfig
from mano_trainers.evaluation.procrustes import aligned_distances
from mano_trainers.export import main
from mano_trainers.loop import train
from mano_trainers.report import EpochReport

MAPPING: dict[str, Any] = {
    "data": {"embedded_count": 32, "image_size": 32, "validate_on": "evaluation"},
    "model": {"predict_shape": True, "predict_orient": True},
    "loss": {"lambda_shape": 0.1, "lambda_orient": 1.0},
    "optim": {"epochs": 2, "batch_size": 8},
    "eval": {"mesh_images": 2},
    "device": "cpu",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def trained(folder: Path) -> EpochReport:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINERS_CACHE_DIR", str(folder))
        *_, last = train(TrainConfig.model_validate(MAPPING), folder / "run")
    return last


@pytest.fixture(autouse=True)
def _cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINERS_CACHE_DIR", str(folder))


def test_exported_joints_have_the_errors_of_the_last_validation(
    folder: Path, trained: EpochReport, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pred.json"
    assert main([str(trained.checkpoint), "--out", str(out)]) == 0
    (root,) = (path for path in folder.glob("embedded-*") if path.is_dir())
    true = np.array(json.loads((root / "evaluation_xyz.json").read_text()))
    joints_m, verts_m = (np.array(points) for points in json.loads(out.read_text()))
    assert capsys.readouterr().out == f"{out}: {len(true)} images\n"
    assert joints_m.shape == true.shape
    assert verts_m.shape == (len(true), 778, 3)
    aligned_mm = 1000 * aligned_distances(joints_m, true).mean()
    assert aligned_mm == pytest.approx(trained.metrics["val/pa_mpjpe_mm"], abs=1e-2)
    centred_mm = 1000 * np.linalg.norm(joints_m - (true - true[:, :1]), axis=-1).mean()
    assert centred_mm == pytest.approx(trained.metrics["val/mpjpe_camera_mm"], abs=1e-2)
    assert [path.name for path in tmp_path.iterdir()] == ["pred.json"]


def test_pictures_without_labels_are_enough(trained: EpochReport, folder: Path, tmp_path: Path) -> None:
    (root,) = (path for path in folder.glob("embedded-*") if path.is_dir())
    shutil.copytree(root / "evaluation", tmp_path / "set" / "evaluation")
    outs = tmp_path / "with.json", tmp_path / "without.json"
    assert main([str(trained.checkpoint), "--out", str(outs[0])]) == 0
    assert main([str(trained.checkpoint), "--out", str(outs[1]), "--data", str(tmp_path / "set")]) == 0
    assert outs[0].read_text() == outs[1].read_text()


def test_pictures_are_cut_as_validation_cuts_them(folder: Path, tmp_path: Path) -> None:
    cut = MAPPING | {"data": MAPPING["data"] | {"crop": 1.3}, "optim": {"epochs": 1, "batch_size": 8}}
    *_, last = train(TrainConfig.model_validate(cut), tmp_path / "run")
    assert main([str(last.checkpoint), "--out", str(tmp_path / "pred.json")]) == 0
    (root,) = (path for path in folder.glob("embedded-*") if path.is_dir())
    true = np.array(json.loads((root / "evaluation_xyz.json").read_text()))
    joints_m = np.array(json.loads((tmp_path / "pred.json").read_text())[0])
    aligned_mm = 1000 * aligned_distances(joints_m, true).mean()
    assert aligned_mm == pytest.approx(last.metrics["val/pa_mpjpe_mm"], abs=1e-2)
    shutil.copytree(root / "evaluation", tmp_path / "bare" / "evaluation")  # no labels, and no training split
    assert main([str(last.checkpoint), "--out", str(tmp_path / "bare.json"), "--data", str(tmp_path / "bare")]) == 0
    assert (tmp_path / "bare.json").read_text() == (tmp_path / "pred.json").read_text()


def test_a_mixture_needs_to_be_told_whose_pictures_to_take(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root,) = (path for path in folder.glob("embedded-*") if path.is_dir())
    shutil.copytree(root, tmp_path / "two")
    sets = [{"name": "one", "root": str(root)}, {"name": "two", "root": str(tmp_path / "two")}]
    mixed = MAPPING | {"data": {"sets": sets, "image_size": 32}, "optim": {"epochs": 1, "batch_size": 8}}
    *_, last = train(TrainConfig.model_validate(mixed), tmp_path / "run")
    out = tmp_path / "pred.json"
    assert main([str(last.checkpoint), "--out", str(out)]) == 2
    assert "--data DIR" in capsys.readouterr().err
    assert not out.exists()
    assert main([str(last.checkpoint), "--out", str(out), "--data", str(root)]) == 0


def test_without_a_set_of_its_layout_no_square_is_known(
    folder: Path, trained: EpochReport, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root,) = (path for path in folder.glob("embedded-*") if path.is_dir())
    assert trained.checkpoint is not None
    before = checkpoint.load(trained.checkpoint)
    config = {**before.config, "data": {**before.config["data"], "crop": 1.3}}
    checkpoint.save(tmp_path / "other", replace(before, config=config))
    assert main([str(tmp_path / "other"), "--out", str(tmp_path / "pred.json"), "--data", str(root)]) == 2
    told = capsys.readouterr().err
    assert "the checkpoint says for 0 sets" in told
    assert "--> data.crop" in told


def test_bad_input_is_reported(trained: EpochReport, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "absent")]) == 2
    assert "not a complete checkpoint" in capsys.readouterr().err
    assert main([str(trained.checkpoint), "--data", str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err
