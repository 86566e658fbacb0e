"""Nothing that a stranger's study home names is imported or run."""

import sys
from pathlib import Path

import pytest
from conftest import OpenTracker
from finished import OBJECTIVE
from hostile import TRAP, said, set_spec
from mlflow_helpers import start

from sweeper.entrypoint.resolve import load_trainer
from sweeper.errors import UserError


@pytest.mark.parametrize(
    "verb",
    ["list", "show toy", "status toy", "report toy", "explain toy-0001", "compare toy-0000 toy-0001", "importance toy"],
)
def test_looking_at_a_home_imports_nothing_it_names(
    evil: Path, canary: Path, verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(evil)
    assert said(capsys, *verb.split(), "--home", ".")[0] in (0, 2, 3)
    assert not canary.exists()
    assert "evil" not in sys.modules


@pytest.mark.parametrize(
    "verb", ["resume toy", "extend toy --trials 1", "retry toy --failed", "sync toy", "stop toy", "winners toy"]
)
def test_no_code_of_the_home_is_run(
    evil: Path, canary: Path, verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(evil)
    code, error = said(capsys, *verb.split(), "--home", ".")
    assert (code, "error: the current folder is inside the study home" in error) == (2, True), error
    monkeypatch.chdir("/")
    monkeypatch.setattr(sys, "path", [*sys.path, str(evil)])
    code, error = said(capsys, *verb.split(), "--home", str(evil))
    assert (code, "the recorded trainer `evil:train` would be code of the study home itself" in error) == (2, True)
    assert not canary.exists()
    load_trainer("evil:train")
    assert canary.exists()  # the trap works


def test_a_home_that_is_a_package_in_the_working_folder_is_refused(
    evil: Path, canary: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evil.rename(evil.with_name("homes"))
    monkeypatch.chdir(evil.parent)
    set_spec(Path("homes"), trainer="homes.evil:train")
    code, error = said(capsys, "resume", "toy", "--home", "homes")
    assert (code, "would be code of the study home" in error) == (2, True)
    assert not canary.exists()


@pytest.mark.parametrize("trainer", ["os:system", "subprocess:run", "builtins:exec", "runpy:run_path", "pty:spawn"])
def test_a_recorded_trainer_from_pythons_standard_library_is_refused(
    toy: Path, trainer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="is part of Python's standard library"):
        load_trainer(trainer)
    set_spec(toy, trainer=trainer, trials=5, base={"touch": 1})
    assert said(capsys, "resume", "toy", "--home", str(toy))[0] == 2


def test_a_rerun_takes_no_code_from_the_home(
    home: Path,
    canary: Path,
    open_tracker: OpenTracker,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (home / "scripted_trainer.py").write_text(TRAP)
    tracker = open_tracker()
    start(tracker, "toy-0001")
    tracker.report("toy-0001", 1, 1, {OBJECTIVE: 1.0})
    assert tracker.flush(60) == 0
    monkeypatch.setattr(sys, "path", [str(home), *sys.path])
    monkeypatch.delitem(sys.modules, "scripted_trainer", raising=False)
    code, error = said(capsys, "reproduce", "toy-0001", "--home", str(home))
    assert (code, "would be code of the study home itself" in error) == (2, True), error
    assert not canary.exists()
