import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from finished import finish_study

from mano_trainers.errors import DataError
from sweeper.cli import main as cli
from sweeper.errors import UserError
from sweeper.spec.load import load_spec
from sweeper.spec.resolve import SweepSpec

SPEC = "search_spaces/loss_balance.yaml"


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", commands(cli.sweeper), ids=" ".join)
def test_every_help_has_an_example(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*path, "--help"]) == 0
    printed = capsys.readouterr().out
    assert f"Example:\n    sweeper {' '.join(path)}" in printed


@pytest.mark.parametrize("arguments", [["--help"], ["check", SPEC], ["data", "make", "--help"]], ids=" ".join)
def test_quick_verbs_import_nothing_slow(arguments: list[str]) -> None:
    slow = ("torch", "ray", "mlflow", "optuna", "sqlalchemy", "rich", "numpy", "scipy", "pandas", "matplotlib")
    program = (
        "import sys; from sweeper.cli.main import main; code = main(sys.argv[1:]);"
        f"print([name for name in {slow} if name in sys.modules]); sys.exit(code)"
    )
    run = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


def test_json_of_a_study_imports_only_what_reads_the_ledger(tmp_path: Path) -> None:
    finish_study(tmp_path, load_spec(Path(SPEC)), lambda params: 20.0, trials=2)
    slow = ("torch", "ray", "mlflow", "sqlalchemy", "rich.console", "scipy", "pandas", "matplotlib")
    program = (
        "import sys; from sweeper.cli.main import main; code = main(sys.argv[1:]);"
        f"print([name for name in {slow} if name in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    arguments = ["list", "--json", "--home", str(tmp_path)]
    run = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout)[0]["trials"] == 2
    assert run.stderr.splitlines()[-1] == "[]"


def test_check_says_what_will_happen(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", SPEC, "--trials", "3", "--set", "guards=[]", "--set", "scheduler.name=none"]) == 0
    assert capsys.readouterr() == (
        f"""\
{SPEC}: valid
  study       loss_balance: 3 trials of mano_trainers.loop:train, 2 at once
  objective   lowest val/pa_mpjpe_mm
  sampler     tpe, the first 4 at random, seed 2
  scheduler   none: every trial runs to its end
  guard       none
  controls    oracle, zero, constant_pose, shuffled_labels
  resources   1 CPU, 0 GPU per trial
  varies      5 parameters
    lambda_param    0.01 to 10, log scale
    lambda_joint    0.1 to 100, log scale
    lambda_angular  0.001 to 10, log scale
    lambda_pca      0.0001 to 10, log scale
    lr              0.002 to 0.01, log scale
""",
        "",
    )


def test_check_names_all_kinds_of_dimensions_and_guards(capsys: pytest.CaptureFixture[str]) -> None:
    dimensions = (
        "search_space={optim.batch_size: {type: int, low: 16, high: 64, step: 16}, augment: {choices: [true, false]}}"
    )
    guards = "guards=[{name: g, kind: threshold, metric: val/skill, below: 0, above: 2, after_epochs: 3}]"
    assert cli.main(["check", SPEC, "--set", dimensions, "--set", guards]) == 0
    printed = capsys.readouterr().out
    assert "guard       g: val/skill < 0 or val/skill > 2, 1 times in a row from epoch 3 on" in printed
    assert "batch_size  16 to 64, whole, step 16\n" in printed
    assert "augment     one of true, false\n" in printed


def test_check_json_is_the_whole_spec(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", SPEC, "--json", "--set", "base.optim.epochs=3"]) == 0
    spec = json.loads(capsys.readouterr().out)
    assert spec["base"]["optim"]["epochs"] == 3
    assert spec["base"]["eval"]["batch_size"] == 256


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chek"], "error: no such command `chek`\nhelp: did you mean `check`?\n"),
        (["check"], "error: missing argument `SPEC`\nhelp: see `sweeper check --help`\n"),
        (["check", SPEC, "--jsn"], "error: no such option `--jsn`\nhelp: did you mean `--json`?\n"),
        (
            ["run", SPEC, "--trials", "0"],
            "error: invalid value for `--trials`: 0 is not in the range x>=1\nhelp: see `sweeper run --help`\n",
        ),
        (
            ["check", "no.yaml"],
            "error: cannot read the file: no such file or directory\n  --> no.yaml\nhelp: check the path\n",
        ),
        (
            ["run", SPEC, "--set", "base.loss.lamda_joint=1"],
            "error: unknown key `lamda_joint`\n  --> --set 'base.loss.lamda_joint=1'\n"
            "help: did you mean `loss.lambda_joint`?\n",
        ),
        (
            ["data", "make", "--out", "x", "--count", "0"],
            "error: invalid value for `--count`: 0 is not in the range x>=1\nhelp: see `sweeper data make --help`\n",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_command_lines(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    assert capsys.readouterr() == ("", message)


@pytest.mark.parametrize("arguments", [[], ["data"]], ids=str)
def test_the_help_is_shown_without_a_verb(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err.startswith("Usage: sweeper")


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (
            UserError("the study is in use", "a/lock", "wait"),
            2,
            "error: the study is in use\n  --> a/lock\nhelp: wait\n",
        ),
        (DataError("no such file", "hands/rgb", "make it"), 2, "error: no such file\n  --> hands/rgb\nhelp: make it\n"),
        (
            OSError(28, "No space left on device", "home/ledger.journal"),
            2,
            "error: cannot write: No space left on device\n  --> home/ledger.journal\n"
            "help: the ledger is safe: free some space and run the study again\n",
        ),
        (KeyboardInterrupt(), 130, ""),
    ],
    ids=["UserError", "TrainerError", "full disk", "Ctrl-C"],
)
def test_errors_while_running(
    raised: BaseException,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run_study(*_: Any, **__: Any) -> int:
        raise raised

    monkeypatch.setattr("sweeper.lifecycle.run.run_study", run_study)
    assert cli.main(["run", SPEC]) == code
    assert capsys.readouterr().err.strip("\n") == message.strip("\n")


def test_run_passes_on_the_spec_the_home_and_the_exit_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple[SweepSpec, Path, bool]] = []

    def run_study(spec: SweepSpec, home: Path, options: object, *, new: bool, **_: object) -> int:
        seen.append((spec, home, new))
        return 1

    monkeypatch.setattr("sweeper.lifecycle.run.run_study", run_study)
    monkeypatch.setenv("SWEEPER_HOME", str(tmp_path))
    assert cli.main(["run", SPEC, "--trials", "2", "--set", "seed=3"]) == 1
    assert cli.main(["run", SPEC, "--home", "elsewhere", "--new"]) == 1
    assert [(spec.trials, spec.seed, home, new) for spec, home, new in seen] == [
        (2, 3, tmp_path, False),
        (8, 2, Path("elsewhere"), True),
    ]


def test_read_only_verbs_in_an_empty_home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = str(tmp_path / "none")
    assert cli.main(["list", "--home", home, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    for verb in ("show", "reproduce"):
        assert cli.main([verb, "nope", "--home", home]) == 2
        assert capsys.readouterr().err.startswith("error: ")
    assert not Path(home).exists()


def test_data_make_renders_a_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "hands"
    arguments = ["data", "make", "--out", str(out), "--count", "2", "--size", "32", "--workers", "1"]
    assert cli.main(arguments) == 0
    assert capsys.readouterr() == (f"{out}\n", "")
    assert len(list((out / "training" / "rgb").iterdir())) == 8


def test_the_command_is_installed_and_returns_the_exit_code() -> None:
    run = subprocess.run(
        [Path(sys.executable).with_name("sweeper"), "check", "no.yaml"],
        capture_output=True,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
        check=False,
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert "Traceback" not in run.stderr
