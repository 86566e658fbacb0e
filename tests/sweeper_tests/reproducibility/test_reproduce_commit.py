"""A study run from a repository with uncommitted changes: what is stored, and rerunning its trials at their commit.

The package is copied into a repository of its own, since the code that runs is what is recorded.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from git_helpers import git, make_repo
from places import ROOT, TESTS

from sweeper.errors import EXIT_BAD_INPUT, EXIT_DIFFERS, EXIT_OK

pytestmark = pytest.mark.slow
SECRET = "hunter2-and-more"
SPEC = f"""\
# from https://me:{SECRET}@example.org/specs
name: toy
trainer: scripted_trainer:train
base: {{epochs: 2, seed: 3}}
search_space:
  scale: {{low: 0.5, high: 2.0}}
objective: {{metric: val/pa_mpjpe_mm, mode: min}}
trials: 2
scheduler: {{name: none}}
controls: []
"""
Sweeper = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a change, a new module and a new file of secrets that are not committed."""
    repo = tmp_path_factory.mktemp("commit") / "repo"
    for package in ("sweeper", "trainers"):
        shutil.copytree(ROOT / package, repo / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("scripted_trainer.py", "serial_driver.py"):
        shutil.copy(TESTS / name, repo / name)
    make_repo(repo, {".gitignore": "__pycache__/\nhome/\n"})
    git(repo, "remote", "add", "origin", f"https://me:{SECRET}@example.org/repo.git")
    script = (repo / "scripted_trainer.py").read_text()
    for before, after in (
        ("import hashlib\n", "import hashlib\n\nimport extra\n"),
        ("        if config.noise:\n", "        error_mm += extra.EXTRA_MM\n        if config.noise:\n"),
    ):
        assert before in script
        script = script.replace(before, after)
    (repo / "scripted_trainer.py").write_text(script)
    (repo / "extra.py").write_text("EXTRA_MM = 0.125\n")
    (repo / "secrets.txt").write_text(SECRET)
    return repo


@pytest.fixture(scope="module")
def sweeper(repo: Path, template_db: Path) -> Sweeper:
    """Run a verb with the repository's code, and secrets in the environment."""
    home = repo / "home"
    home.mkdir()
    shutil.copy(template_db, home / "mlflow.db")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= {
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "MLFLOW_TRACKING_PASSWORD": SECRET,
            "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db?timeout=60&password={SECRET}",
            "SWEEPER_HOME": str(home),
            "PYTHONPATH": str(repo / "trainers"),  # the working folder comes first by itself
        }
        command = [sys.executable, str(repo / "serial_driver.py"), *arguments]
        return subprocess.run(command, cwd=repo, env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="module")
def study(repo: Path, sweeper: Sweeper) -> Path:
    """The home of the finished study; since then, its changes were committed and others made."""
    (repo / "toy.yaml").write_text(SPEC)
    done = sweeper("run", "toy.yaml")
    assert done.returncode == EXIT_OK, done.stderr
    assert SECRET not in done.stdout + done.stderr
    git(repo, "add", "extra.py", "scripted_trainer.py")
    git(repo, "commit", "-q", "-m", "later")
    (repo / "extra.py").write_text("EXTRA_MM = 0.5\n")
    return repo / "home"


def test_no_secret_is_stored(study: Path) -> None:
    files = [path for path in study.rglob("*") if path.is_file()]
    assert {"ledger.journal", "outbox.jsonl", "mlflow.db", "provenance.json", "spec.yaml"} <= {p.name for p in files}
    assert [str(path) for path in files if SECRET.encode() in path.read_bytes()] == []


def test_what_a_trial_depended_on_is_recorded(study: Path) -> None:
    found = sorted((study / "artifacts").rglob("provenance.json"))
    records = [json.loads(path.read_text()) for path in found]
    [shared] = (study / "artifacts").rglob("provenance/*.json")  # what all trials of a run share is stored once
    trials = [json.loads(shared.read_text()) | record for record in records if "config" in record]
    assert len(trials) == 2
    for record in trials:
        assert record["config"]["scale"] == record["params"]["scale"]  # to the last bit
        assert record["seeds"] == {"seed": 3}
        assert record["spec"].startswith("# from https://***@example.org/specs\nname: toy\n")
        assert record["code"]["remote"] == "https://***@example.org/repo.git"
        assert record["code"]["untracked_text"] == {"extra.py": "EXTRA_MM = 0.125\n"}
        assert {"scripted_trainer.py", "sweeper/study/controller.py"} <= set(record["sources"])
        assert {"lock_sha256", "packages", "hardware", "numerics", "data"} <= set(record)


def test_a_trial_is_reproduced_at_its_commit_but_not_by_the_current_code(
    repo: Path, sweeper: Sweeper, study: Path
) -> None:
    done = sweeper("reproduce", "toy-0001")
    assert done.returncode == EXIT_DIFFERS
    assert "; less likely: uncommitted changes\nverdict: DIFFERS from epoch 1 (train/loss)\n" in done.stdout
    assert "likely cause: commit (" in done.stdout

    done = sweeper("reproduce", "toy:best", "--at-commit", "--yes", "--json")
    assert done.returncode == EXIT_OK, done.stderr
    commit = git(repo, "rev-list", "--max-parents=0", "HEAD").strip()[:12]
    assert f"warning: --at-commit runs the code of commit {commit} with its recorded " in done.stderr
    told = json.loads(done.stdout)
    assert told["verdict"] == "BIT-EXACT"
    assert [row["what"] for row in told["drift"] if not row["same"]] == []
    assert len(git(repo, "worktree", "list").splitlines()) == 1
    assert (repo / "extra.py").read_text() == "EXTRA_MM = 0.5\n"


def test_recorded_code_is_not_run_without_confirmation(repo: Path, sweeper: Sweeper, study: Path) -> None:
    done = sweeper("reproduce", "toy:best", "--at-commit")  # no terminal
    assert done.returncode == EXIT_BAD_INPUT
    assert "warning: --at-commit runs the code of commit " in done.stderr
    assert f"{study}/mlflow.db?" in done.stderr
    assert " names them; run only what you trust" in done.stderr
    assert SECRET not in done.stderr
    assert "error: recorded code is not run without confirmation, and there is no terminal to ask on" in done.stderr
    assert "Then and now" not in done.stdout


def test_a_missing_repository_is_reported(repo: Path, sweeper: Sweeper, study: Path) -> None:
    (repo / ".git").rename(repo / "git.away")
    try:
        done = sweeper("reproduce", "toy-0001", "--at-commit", "--yes")
    finally:
        (repo / "git.away").rename(repo / ".git")
    assert done.returncode == EXIT_BAD_INPUT
    assert "error: no git repository to find commit" in done.stderr
    assert "Traceback" not in done.stderr
