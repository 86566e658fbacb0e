"""`python -m mano_trainers`: reading configs, and errors that a user can fix."""

import subprocess
import sys
from pathlib import Path

import pytest

from mano_trainers.__main__ import main
from mano_trainers.config import TrainConfig
from mano_trainers.config.read import read_config
from mano_trainers.errors import ConfigError


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


def test_an_empty_file_is_the_default_config(tmp_path: Path) -> None:
    assert read_config(written(tmp_path, "# nothing yet\n")) == TrainConfig()


def test_numbers_are_numbers_and_overrides_win(tmp_path: Path) -> None:
    path = written(tmp_path, "optim: {lr: 1e-4, weight_decay: 1.0e-2}\nseed: 3\n")
    config = read_config(path, ["optim.lr=3e-4", "loss.lambda_joint=25", "augment=false"])
    assert (config.optim.lr, config.optim.weight_decay, config.seed) == (3e-4, 1e-2, 3)
    assert (config.loss.lambda_joint, config.augment) == (25.0, False)


@pytest.mark.parametrize(
    ("text", "overrides", "match"),
    [
        ("seed: 1\nseed: 2\n", [], r"config.yaml:2:1: seed is given twice"),
        ("a: [1\n", [], r"config.yaml:2:1"),
        ("- 1\n", [], "must hold keys and values"),
        (f"seed: {'1' * 5000}\n", [], "config.yaml: a number this long is not allowed"),
        ("seed: 1\n", ["optim.lr"], "--set optim.lr: must be KEY=VALUE"),
        ("seed: 1\n", ["seed.x=1"], "seed contains a value, not keys"),
        ("x: !!python/name:os.system\n", [], "could not determine a constructor"),
    ],
)
def test_what_is_not_a_config_is_refused(tmp_path: Path, text: str, overrides: list[str], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        read_config(written(tmp_path, text), overrides)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path / "absent.yaml")


def test_all_wrong_keys_are_reported_at_once_with_their_fix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "optim: {lr: -1, epocs: 3}\nbackbone: x\naugment: no\n")
    assert main([str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "error: Input should be greater than 0, but got -1",
        f"  --> {path} optim.lr",
        "error: there is no such key",
        f"  --> {path} optim.epocs",
        "help: did you mean epochs?",
        "error: Input should be a valid boolean, but got 'no'",
        f"  --> {path} augment",
        "error: there is no such key",
        f"  --> {path} backbone",
        f"help: the keys here are {', '.join(TrainConfig.model_fields)}",
    ]


def test_a_config_without_any_loss_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "loss: {lambda_param: 0, lambda_reg: 0}")
    assert main([str(path)]) == 2
    assert "at least one weight must be above 0" in capsys.readouterr().err


def test_a_run_prints_a_line_per_epoch_and_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINERS_CACHE_DIR", str(tmp_path / "cache"))
    text = "data: {embedded_count: 16, image_size: 32}\noptim: {epochs: 2, batch_size: 8}\neval: {mesh_images: 2}\n"
    arguments = [str(written(tmp_path, text)), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["epoch", "1", "2"]
    assert len(lines[1].split("\t")) == len(lines[0].split("\t"))
    (tmp_path / "out" / "epoch_002" / "state.pt").write_bytes(b"damaged")
    assert main([*arguments, "--resume"]) == 0
    captured = capsys.readouterr()
    assert "resuming after" in captured.err
    resumed = [line.split("\t") for line in captured.out.splitlines()]
    assert [line[:-1] for line in resumed[1:]] == [lines[2].split("\t")[:-1]]


def test_bad_input_ends_without_traceback_and_without_importing_torch(tmp_path: Path) -> None:
    path = written(tmp_path, "sed: 1\n")
    code = f"import sys; from mano_trainers.__main__ import main; print(main([{str(path)!r}]), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False"]
    assert "did you mean seed?" in done.stderr
    assert "Traceback" not in done.stderr
