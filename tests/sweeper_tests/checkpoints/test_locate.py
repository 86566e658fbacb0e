import json
from pathlib import Path
from typing import Any

import pytest
from scripted_trainer import ScriptedConfig, train

from sweeper.checkpoints.locate import last_good
from sweeper.checkpoints.manifest import damage
from sweeper.ledger.trial import Report, TrialRecord


@pytest.fixture
def checkpoints(tmp_path: Path) -> list[Path]:
    reports = list(train(ScriptedConfig(epochs=3), tmp_path / "trials" / "0000"))
    return [report.checkpoint for report in reports if report.checkpoint]


def flip_a_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def record_of(folder: Path, checkpoints: list[Path]) -> TrialRecord:
    reports = tuple(
        Report(step, float(step), {}, str(path.relative_to(folder)), 0) for step, path in enumerate(checkpoints, 1)
    )
    return TrialRecord("toy-0000", 0, {}, reports=reports)


DAMAGES: dict[str, Any] = {
    "zero bytes": lambda folder: (folder / "weights.safetensors").write_bytes(b""),
    "truncated": lambda folder: (folder / "weights.safetensors").write_bytes(
        (folder / "weights.safetensors").read_bytes()[:-1]
    ),
    "one bit flipped": lambda folder: flip_a_bit(folder / "weights.safetensors"),
    "manifest of zero bytes": lambda folder: (folder / "manifest.json").write_bytes(b""),
    "manifest of another kind": lambda folder: (folder / "manifest.json").write_text("[]"),
    "file gone": lambda folder: (folder / "weights.safetensors").unlink(),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_it_is_used(
    how: str, tmp_path: Path, checkpoints: list[Path]
) -> None:
    assert damage(checkpoints[2]) is None
    DAMAGES[how](checkpoints[2])
    folder, step, passed_over = last_good(tmp_path, record_of(tmp_path, checkpoints))
    assert (folder, step) == (checkpoints[1], 2)
    assert [problem.startswith("the checkpoint trials/0000/epoch_003 is damaged") for problem in passed_over] == [True]


def test_without_an_intact_checkpoint_the_trial_starts_afresh(tmp_path: Path, checkpoints: list[Path]) -> None:
    for folder in checkpoints:
        (folder / "weights.safetensors").unlink()
    folder, step, passed_over = last_good(tmp_path, record_of(tmp_path, checkpoints))
    assert (folder, step, len(passed_over)) == (None, 0, 3)


def test_another_trainers_layout_is_accepted_as_it_is(tmp_path: Path) -> None:
    assert damage(tmp_path / "absent") is not None
    (tmp_path / "own").mkdir()
    assert damage(tmp_path / "own") == "empty"
    (tmp_path / "own" / "model.bin").write_bytes(b"x")
    assert damage(tmp_path / "own") is None
    (tmp_path / "own" / "manifest.json").write_text(json.dumps({"files": {"model.bin": {"sha256": "0"}}}))
    assert damage(tmp_path / "own") == "model.bin does not match the manifest"
