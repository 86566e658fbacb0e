"""Checkpoints: complete or absent, and damage is reported."""

import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch

from mano_trainers import checkpoint
from mano_trainers.checkpoint import Checkpoint
from mano_trainers.errors import CheckpointError


def a_checkpoint(step: int = 1) -> Checkpoint:
    model = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    model(torch.randn(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    return Checkpoint(
        step, float(step), {"optim": {"lr": 1e-4}}, model.state_dict(), {"optimizer": optimizer.state_dict()}
    )


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    saved = a_checkpoint(3)
    checkpoint.save(tmp_path / "new" / "epoch_003", saved)
    loaded = checkpoint.load(tmp_path / "new" / "epoch_003")
    assert (loaded.step, loaded.epoch, loaded.config) == (3, 3.0, {"optim": {"lr": 1e-4}})
    assert all(torch.equal(loaded.weights[name], saved.weights[name]) for name in saved.weights)
    state, expected = loaded.state["optimizer"]["state"], saved.state["optimizer"]["state"]
    assert all(torch.equal(state[i][name], expected[i][name]) for i in expected for name in expected[i])


@pytest.mark.parametrize("name", ["weights.safetensors", "state.pt"])
def test_one_flipped_bit_is_an_error_that_names_the_file(tmp_path: Path, name: str) -> None:
    checkpoint.save(tmp_path / "epoch_001", a_checkpoint())
    data = bytearray((tmp_path / "epoch_001" / name).read_bytes())
    data[-5] ^= 1
    (tmp_path / "epoch_001" / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=f"epoch_001/{name}: does not match the checkpoint's manifest"):
        checkpoint.load(tmp_path / "epoch_001")


@pytest.mark.parametrize("name", ["weights.safetensors", "state.pt", "manifest.json"])
def test_a_missing_file_is_an_error(tmp_path: Path, name: str) -> None:
    checkpoint.save(tmp_path / "epoch_001", a_checkpoint())
    (tmp_path / "epoch_001" / name).unlink()
    with pytest.raises(CheckpointError, match="not a complete checkpoint: No such file"):
        checkpoint.load(tmp_path / "epoch_001")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 1, "files": {}}'])
def test_a_damaged_manifest_is_an_error(tmp_path: Path, text: str) -> None:
    checkpoint.save(tmp_path / "epoch_001", a_checkpoint())
    (tmp_path / "epoch_001" / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match="not a checkpoint's manifest"):
        checkpoint.load(tmp_path / "epoch_001")


def test_another_format_is_an_error(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "epoch_001", a_checkpoint())
    manifest = tmp_path / "epoch_001" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(CheckpointError, match="format 2, but this version reads format 1"):
        checkpoint.load(tmp_path / "epoch_001")


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> object:
        return Path.touch, (self.target,)


def test_a_state_that_runs_code_is_refused_even_with_a_matching_manifest(tmp_path: Path) -> None:
    folder = tmp_path / "epoch_001"
    checkpoint.save(folder, a_checkpoint())
    torch.save(Malicious(tmp_path / "ran"), folder / "state.pt")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["state.pt"]["sha256"] = hashlib.sha256((folder / "state.pt").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="contains more than tensors"):
        checkpoint.load(folder)
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(Malicious(tmp_path / "ran")))  # the check can fail: a plain load would have run it
    assert (tmp_path / "ran").exists()


def test_a_failed_write_leaves_the_older_checkpoint_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path / "epoch_001", a_checkpoint())
    before = (tmp_path / "epoch_001" / "manifest.json").read_text()

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mano_trainers.checkpoint.os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(tmp_path / "epoch_001", a_checkpoint())
    assert [path.name for path in tmp_path.iterdir()] == ["epoch_001"]
    assert (tmp_path / "epoch_001" / "manifest.json").read_text() == before


def test_latest_good_skips_damaged_checkpoints(tmp_path: Path) -> None:
    assert checkpoint.latest_good(tmp_path) is None
    assert checkpoint.latest_good(tmp_path / "absent") is None
    for step in (2, 9, 10, 11):
        checkpoint.save(tmp_path / f"epoch_{step:03d}", a_checkpoint(step))
    assert checkpoint.latest_good(tmp_path) == tmp_path / "epoch_011"
    (tmp_path / "epoch_011" / "manifest.json").write_text("{")
    (tmp_path / "epoch_010" / "state.pt").write_bytes(b"")
    assert checkpoint.latest_good(tmp_path) == tmp_path / "epoch_009"
