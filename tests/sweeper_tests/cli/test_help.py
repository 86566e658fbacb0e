"""Help at the command line before a verb runs: the list of verbs, and Tab completion."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from sweeper.cli import main as cli
from sweeper.cli.group import SECTIONS


def completed(*typed: str) -> list[str]:
    shell = BashComplete(cli.sweeper, {}, "sweeper", "_SWEEPER_COMPLETE")
    return [item.value for item in shell.get_completions(list(typed[:-1]), typed[-1])]


def test_the_help_lists_every_verb_once_by_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    printed = capsys.readouterr().out
    listed = printed[printed.index(f"{next(iter(SECTIONS))}:") :]
    assert re.findall(r"^([A-Z][a-z ]+):$", listed, re.M) == list(SECTIONS)
    verbs = re.findall(r"^  ([a-z]+) ", listed, re.M)
    assert sorted(verbs) == sorted(cli.sweeper.commands)
    assert verbs.index("check") < verbs.index("run") < verbs.index("show") < verbs.index("winners")


@pytest.fixture
def studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    for trial in ("heads/trials/0000", "heads/trials/0001", "heads/trials/oracle", "lr/trials/0000"):
        (home / "studies" / trial).mkdir(parents=True)
    monkeypatch.setenv("SWEEPER_HOME", str(home))
    return home


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["sh"], ["show"]),
        (["show", ""], ["heads", "lr"]),
        (["report", "h"], ["heads"]),
        (["gc", "l"], ["lr"]),
        (["explain", "heads-0"], ["heads-0000", "heads-0001"]),
        (["reproduce", "l"], ["lr:best", "lr-0000"]),
        (["compare", "heads-0000", "heads:"], ["heads:best"]),
        (["compare", "lr-0000", "heads-o"], ["heads-oracle"]),
        (["show", "--home", "nowhere", ""], []),
        (["ablate", "x"], []),
    ],
    ids=str,
)
@pytest.mark.usefixtures("studies")
def test_completion(typed: list[str], offered: list[str]) -> None:
    assert completed(*typed) == offered


def test_completion_imports_nothing_slow(studies: Path) -> None:
    program = (
        "import atexit, sys; from sweeper.cli.main import main;"
        "atexit.register(lambda: print([n for n in ('optuna', 'rich', 'pydantic_core', 'numpy') if n in sys.modules]));"
        "main()"
    )
    asked = {"_SWEEPER_COMPLETE": "bash_complete", "COMP_WORDS": "sweeper show h", "COMP_CWORD": "2"}
    run = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | asked, capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines() == ["plain,heads", "[]"]
