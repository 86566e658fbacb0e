import contextlib
import hashlib
import importlib.metadata
import json
import subprocess
from pathlib import Path

import pytest
from git_helpers import git, make_repo

from sweeper.reproducibility.provenance import collect

SECRET = "hunter2-and-more"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    repo = make_repo(tmp_path / "repo", {"train.py": "lr = 1\n", "requirements.lock": "torch==1\n"})
    git(repo, "remote", "add", "origin", f"https://me:{SECRET}@example.org/repo.git")
    return repo


def test_a_clean_repository(repo: Path) -> None:
    found = collect(repo)
    assert found["code"]["commit"] == git(repo, "rev-parse", "HEAD")
    assert found["code"]["dirty"] is False
    assert "diff" not in found["code"]
    assert found["lock_sha256"] == hashlib.sha256(b"torch==1\n").hexdigest()
    assert found["packages"]["mlflow"] >= "3"
    assert found["hardware"]["cpu_count"] >= 1


def test_packages_vendored_by_another_do_not_count(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vendored = tmp_path / "thirdparty" / "vendored-1.dist-info"
    vendored.mkdir(parents=True)
    (vendored / "METADATA").write_text("Metadata-Version: 2.1\nName: vendored\nVersion: 1\n")
    before = collect(repo)["packages"]
    monkeypatch.syspath_prepend(tmp_path / "thirdparty")
    assert importlib.metadata.version("vendored") == "1"
    assert collect(repo)["packages"] == before


def test_changes_and_new_files_are_recorded(repo: Path) -> None:
    (repo / "train.py").write_text("lr = 2\n")
    (repo / "new.py").write_text("x = 1\n")
    code = collect(repo)["code"]
    assert code["dirty"] is True
    assert "+lr = 2" in code["diff"]
    assert code["untracked"] == {"new.py": hashlib.sha256(b"x = 1\n").hexdigest()}


def test_the_whole_repository_counts_from_a_subfolder(repo: Path) -> None:
    (repo / "inner").mkdir()
    (repo / "train.py").write_text("lr = 2\n")
    assert "+lr = 2" in collect(repo / "inner")["code"]["diff"]


def test_no_secret_is_recorded(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    (repo / "train.py").write_text(
        f"url = 'postgresql://me:{SECRET}@db/x'\npassword = '{SECRET}'\nkey = 'ghp_0123456789abcdefghij'\n"
    )
    text = json.dumps(collect(repo))
    assert SECRET not in text
    assert "ghp_0123456789abcdefghij" not in text
    assert "https://***@example.org/repo.git" in text
    assert json.loads(text)["environment"]["OMP_NUM_THREADS"] == "3"


def test_git_runs_nothing_that_the_repository_configures(repo: Path, tmp_path: Path) -> None:
    trap, sprung = tmp_path / "trap.sh", tmp_path / "sprung"
    trap.write_text(f"#!/bin/sh\ntouch {sprung}\ncat /dev/null\n")
    trap.chmod(0o755)
    (repo / ".gitattributes").write_text("*.py diff=trap filter=tr=ap\n")
    filters = ("filter.tr=ap.clean", "filter.tr=ap.smudge", "filter.tr=ap.process")
    for name in ("core.fsmonitor", "diff.external", "diff.trap.command", "diff.trap.textconv", *filters):
        git(repo, "config", name, str(trap))
    (repo / "train.py").write_text("lr = 2\n")
    assert "+lr = 2" in collect(repo)["code"]["diff"]
    assert not sprung.exists()
    with contextlib.suppress(subprocess.CalledProcessError):  # a filter that answers nothing
        git(repo, "diff")
    assert sprung.exists()  # the trap works


def test_outside_a_repository(tmp_path: Path) -> None:
    found = collect(tmp_path)
    assert found["code"] == {"commit": None, "dirty": None}
    assert found["lock_sha256"] is None


def test_an_image_knows_the_commit_that_it_was_built_from(
    tmp_path: Path, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEPER_COMMIT", "c0ffee")
    assert collect(tmp_path)["code"] == {"commit": "c0ffee", "dirty": None}
    assert collect(repo)["code"]["commit"] == git(repo, "rev-parse", "HEAD").strip(), "a repository knows better"
    monkeypatch.setenv("SWEEPER_COMMIT", "")
    assert collect(tmp_path)["code"]["commit"] is None


def test_without_git(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert collect(repo)["code"]["commit"] is None


def test_before_the_first_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert collect(tmp_path)["code"]["commit"] is None
