"""The recorded code restored in a worktree: commit, changes, new files; nothing that the repository configures runs."""

import os
from pathlib import Path

import pytest
from git_helpers import git, make_repo

from sweeper.errors import UserError
from sweeper.reproducibility.git import recorded_tree
from sweeper.reproducibility.provenance import collect


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "repo", {"train.py": "lr = 1\n", "unchanged.py": "x = 1\n"})


def test_the_recorded_code_is_restored_and_removed_again(repo: Path) -> None:
    (repo / "train.py").write_text("lr = 2\n")
    (repo / "models").mkdir()
    (repo / "models" / "new.py").write_text("layers = 3\n")
    (repo / "notes.txt").write_text("still there\n")
    then = collect(repo)["code"]
    git(repo, "add", ".")
    git(repo, "commit", "-q", "-m", "later")
    (repo / "models" / "new.py").write_text("layers = 4\n")
    with recorded_tree(repo, then) as tree:
        assert (tree / "train.py").read_text() == "lr = 2\n"
        assert (tree / "models" / "new.py").read_text() == "layers = 3\n"
        assert (tree / "notes.txt").read_text() == "still there\n"
        assert collect(tree)["code"] == then
    assert not tree.exists()
    assert len(git(repo, "worktree", "list").splitlines()) == 1
    assert (repo / "models" / "new.py").read_text() == "layers = 4\n"


def test_a_checkout_runs_nothing_that_the_repository_configures(repo: Path, tmp_path: Path) -> None:
    (repo / "train.py").write_text("lr = 2\n")
    (repo / ".gitattributes").write_text("*.py filter=trap\n")
    git(repo, "add", ".gitattributes")
    git(repo, "commit", "-q", "-m", "attributes")
    then = collect(repo)["code"]
    trap, sprung = tmp_path / "trap.sh", tmp_path / "sprung"
    trap.write_text(f"#!/bin/sh\ntouch {sprung}\ncat\n")
    trap.chmod(0o755)
    (repo / ".git" / "hooks").mkdir(exist_ok=True)
    os.link(trap, repo / ".git" / "hooks" / "post-checkout")
    for name in ("core.fsmonitor", "filter.trap.clean", "filter.trap.smudge"):
        git(repo, "config", name, str(trap))
    with recorded_tree(repo, then) as tree:
        assert (tree / "train.py").read_text() == "lr = 2\n"
        assert not sprung.exists()
    git(repo, "checkout", "--", ".")
    assert sprung.exists()  # the trap works


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"commit": None}, "no commit was recorded"),
        ({"commit": "1" * 40}, "commit 111111111111 is not in the repository"),
        ({"diff": "+lr = ***\n", "diff_sha256": "0" * 64}, "were not recorded in full"),
        ({"untracked": {"new.py": "0" * 64}}, "the new file `new.py` was not recorded in full"),
        ({"untracked": {"../outside.py": "0" * 64}}, "outside the repository"),
        ({"untracked": {"/outside.py": "0" * 64}}, "outside the repository"),
    ],
)
def test_code_that_cannot_be_restored_is_refused_and_leaves_nothing_behind(
    repo: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message), recorded_tree(repo, collect(repo)["code"] | change):
        pass
    assert len(git(repo, "worktree", "list").splitlines()) == 1


def test_changes_that_do_not_apply_are_refused(repo: Path) -> None:
    (repo / "train.py").write_text("lr = 2\n")
    then = collect(repo)["code"]
    git(repo, "commit", "-q", "-a", "-m", "later")
    now = git(repo, "rev-parse", "HEAD")
    with pytest.raises(UserError, match="do not apply"), recorded_tree(repo, then | {"commit": now}):
        pass


def test_outside_a_repository(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no git repository"), recorded_tree(None, {"commit": "1" * 40}):
        pass
