"""The git repository of the training code: read, and restored as it was, without running anything that it configures.

A repository's config can name programs for nearly everything: hooks, filters of files that are checked out or compared,
external diffs, a file-system monitor. None of them runs here.
"""

import contextlib
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from sweeper.errors import UserError

GIT_TIMEOUT_S: Final = 60
REDIRECTIONS: Final = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_EXTERNAL_DIFF", "GIT_OBJECT_DIRECTORY")
"""Variables of a git hook that may have started us; they would name another repository."""
HARMLESS: Final = {
    "core.fsmonitor": "false",
    "core.hooksPath": "/dev/null",
    "protocol.allow": "never",
}
DIFF: Final = (
    *("diff", "--no-ext-diff", "--no-textconv", "--no-color", "--no-renames", "--full-index"),
    *("--src-prefix=a/", "--dst-prefix=b/", "--submodule=short", "--ignore-submodules=dirty", "HEAD"),
)
"""The same text whatever the user's config says about diffs."""


def git(repo: Path, *arguments: str, given: str | None = None) -> str | None:
    """The output of git on a repository, or None if it fails. Nothing that the repository configures is run.

    Args:
        repo: a folder inside it.
        arguments: of git.
        given: what git reads from stdin.
    """
    done = _run(repo, arguments, {**HARMLESS, **_no_filters(repo)}, given)
    return done.stdout.decode(errors="replace") if done is not None and done.returncode == 0 else None


def _no_filters(repo: Path) -> dict[str, str]:
    """Settings that disable every filter: `filter.NAME.clean` would run on a mere diff, `smudge` on a checkout."""
    listed = _run(repo, ("config", "--list", "--name-only", "-z"), HARMLESS)
    names = listed.stdout.decode(errors="replace").split("\0") if listed is not None else []
    kinds = (("clean", ""), ("smudge", ""), ("process", ""), ("required", "false"))
    drivers = {name.rpartition(".")[0] for name in names if name.startswith("filter.")}
    return {f"{driver}.{kind}": value for driver in drivers for kind, value in kinds}


def _run(
    repo: Path, arguments: tuple[str, ...], settings: Mapping[str, str], given: str | None = None
) -> subprocess.CompletedProcess[bytes] | None:
    environment = {name: value for name, value in os.environ.items() if name not in REDIRECTIONS}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}
    first = int(environment.get("GIT_CONFIG_COUNT") or 0)  # through the environment, since a name may contain a `=`
    for index, (name, value) in enumerate(settings.items(), start=first):
        environment |= {f"GIT_CONFIG_KEY_{index}": name, f"GIT_CONFIG_VALUE_{index}": value}
    environment["GIT_CONFIG_COUNT"] = str(first + len(settings))
    command = ["git", "--no-pager", "-C", str(repo), *arguments]
    try:
        return subprocess.run(
            command,
            input=(given or "").encode(),
            capture_output=True,
            env=environment,
            timeout=GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def top_of(repo: Path) -> Path | None:
    """The top folder of the repository, or None outside one."""
    root = git(repo, "rev-parse", "--show-toplevel")
    return Path(root.rstrip("\n")) if root else None


@contextlib.contextmanager
def recorded_tree(repo: Path | None, code: Mapping[str, Any]) -> Iterator[Path]:
    """The code as it was: a worktree of the recorded commit with the recorded changes, deleted afterwards.

    Args:
        repo: a folder inside the repository, or None if there is none.
        code: `provenance.collect()["code"]` of then.

    Yields:
        The top folder of the worktree.

    Raises:
        UserError: no commit was recorded, the repository does not have it, or the changes are not there in full.
    """
    top = top_of(repo) if repo is not None else None
    commit = code.get("commit")
    if not commit:
        raise UserError("the trial ran outside a git repository: no commit was recorded", "--at-commit")
    if top is None:
        raise UserError(f"no git repository to find commit {commit[:12]} in", "--at-commit", "run it in the repository")
    if git(top, "cat-file", "-e", f"{commit}^{{commit}}") is None:
        help = f"fetch it first{': ' + code['remote'] if code.get('remote') else ''}, or leave --at-commit out"
        raise UserError(f"commit {commit[:12]} is not in the repository", str(top), help)
    with tempfile.TemporaryDirectory(prefix="sweeper-commit-") as scratch:
        tree = Path(scratch).resolve() / "tree"
        try:
            if git(top, "worktree", "add", "--detach", str(tree), commit) is None:
                raise UserError(f"git cannot check out commit {commit[:12]}", str(tree), "is the disk full?")
            _apply(tree, code)
            _put_new_files(tree, top, code)
            yield tree
        finally:
            git(top, "worktree", "remove", "--force", str(tree))


def _apply(tree: Path, code: Mapping[str, Any]) -> None:
    diff = code.get("diff")
    if not diff:
        return
    if hashlib.sha256(diff.encode()).hexdigest() != code.get("diff_sha256"):
        raise UserError(
            "the uncommitted changes were not recorded in full: they were too long, or held what looks like a secret",
            "--at-commit",
            "leave --at-commit out, and commit before the next study",
        )
    if git(tree, "apply", "--whitespace=nowarn", "-", given=diff) is None:
        help = "does it change a file that is not text? Leave --at-commit out"
        raise UserError(f"the recorded changes do not apply to commit {code['commit'][:12]}", "--at-commit", help)


def _put_new_files(tree: Path, top: Path, code: Mapping[str, Any]) -> None:
    """Write the files that git did not track, as recorded or as they still are in the repository."""
    texts: Mapping[str, str] = code.get("untracked_text", {})
    for name, sha256 in code.get("untracked", {}).items():
        target = (tree / name).resolve()
        if not target.is_relative_to(tree) or target.exists():
            raise UserError(f"the record names a new file outside the repository: `{name}`", "--at-commit")
        content = texts[name].encode() if name in texts else _read(top / name)
        if hashlib.sha256(content).hexdigest() == sha256:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        elif name.endswith(".py"):
            help = "leave --at-commit out, and commit before the next study"
            raise UserError(f"the new file `{name}` was not recorded in full", "--at-commit", help)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
