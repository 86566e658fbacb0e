"""A study home is data, whoever made it: nothing read from one leads out of it or brings code along."""

import errno
import fcntl
import os
import shlex
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Final

from sweeper.errors import UserError
from sweeper.files import inside

FILES = frozenset(
    {".journal", ".jsonl", ".ack", ".url", ".json", ".gz", ".lock", ".store", ".place", ".yaml", ".html"}
    | {"home.id", "lock", "request"}
)
"""Endings and names of what a study keeps in files."""
CACHE_VARIABLE: Final = "TRAINERS_CACHE_DIR"
"""Environment variable that says where trainers keep what they derive from the data."""
FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
HELP = "was this home made by somebody else? Read SECURITY.md before you continue with it"


def command_line(home: Path, *words: str) -> str:
    """`sweeper VERB ...` as it is typed for this home: with `--home` if another home would be used without it."""
    default = Path(os.environ.get("SWEEPER_HOME") or ".sweeper")
    option = [] if home.resolve() == default.resolve() else ["--home", str(home)]
    return shlex.join(["sweeper", *words, *option])


def cache_of(home: Path) -> Path:
    """Folder in which the trials of a home keep what they derive from the data."""
    return home.resolve() / "data"


def refuse_foreign_links(study_dir: Path) -> None:
    """Refuse a study with a symbolic link that leads out of it: what is written here would be written there.

    `artifacts`, `data` and `studies` themselves may be links to a larger disk.

    Raises:
        UserError: names the link.
    """
    artifacts = study_dir.parents[1] / "artifacts" / study_dir.name
    for folder in (study_dir, artifacts):
        if (link := next(_foreign_links(folder), None)) is not None:
            raise UserError(f"a symbolic link points outside the study `{study_dir.name}`", str(link), HELP)


def refuse_special_files(study_dir: Path) -> None:
    """Refuse a study whose folder contains a pipe or a device, on which reading would hang, or a folder where a file
    should be, or the other way round.

    Raises:
        UserError: names it.
    """
    if not study_dir.is_dir():
        return
    require_folder(study_dir / "trials")
    for path in study_dir.iterdir():
        mode = path.stat().st_mode if path.exists() else stat.S_IFREG
        kind = "" if stat.S_ISREG(mode) else "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        if kind and (not stat.S_ISDIR(mode) or path.suffix in FILES or path.name in FILES):
            raise UserError(f"{path.name} of the study `{study_dir.name}` is {kind}, not a file", str(path), HELP)


def refuse_unfit_disk(folder: Path, *, locks: bool) -> None:
    """Refuse a file system that lacks what a home needs: a cloud drive or another mount that is not made for it.

    Args:
        folder: in the home.
        locks: whether locks of files are needed too.

    Raises:
        UserError: says what it cannot do.
    """
    attempts: list[tuple[str, Callable[[Path, IO[bytes]], object]]] = [
        ("sync files", lambda _, file: os.fsync(file.fileno())),
        ("rename a file over another", lambda made, file: os.replace(_sibling(made), file.name)),
        ("rename folders", lambda made, _: os.rename(_folder(made / "a"), made / "b")),
        ("sync folders", lambda made, _: _sync_folder(made)),
    ]
    if locks:
        attempts.append(("support locks", lambda _, file: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)))
    made = Path(tempfile.mkdtemp(prefix=".disk-", dir=folder))
    try:
        for what, attempt in attempts:
            with open(made / "file", "wb") as file:
                file.write(b"sweeper")
                file.flush()
                try:
                    attempt(made, file)
                except OSError as error:
                    if error.errno in FULL:
                        raise
                    help = "name a --home on a disk of this machine, and keep a copy on this one with --sync-to"
                    help += "; or keep the ledger in PostgreSQL (--ledger)" if what == "support locks" else ""
                    raise UserError(
                        f"the file system of the study home does not {what}: {error.strerror}", str(folder), help
                    ) from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _sibling(made: Path) -> Path:
    (made / "other").write_bytes(b"sweeper")
    return made / "other"


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_folder(folder: Path) -> None:
    """Refuse what is where a folder should be: a file, or a link to a missing disk, which would seem to be empty.

    Raises:
        UserError: names it.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        what = "a dangling link" if folder.is_symlink() and not folder.exists() else "not a folder"
        raise UserError(f"`{folder.name}` is {what}", str(folder), "is its disk mounted? If so, move this away")


def _foreign_links(folder: Path) -> Iterator[Path]:
    if folder.is_symlink():
        yield folder
    for parent, names, files in os.walk(folder):
        for name in (*names, *files):
            path = os.path.join(parent, name)
            if os.path.islink(path) and not inside(folder, Path(path)):
                yield Path(path)


def refuse_code_of(home: Path, trainer: str) -> None:
    """Refuse a recorded trainer that would be imported from the home that records it. Nothing of the home is imported.

    Raises:
        UserError: its module is in the home, or the working folder is, which is importable.
    """
    home = home.resolve()
    if Path.cwd().resolve().is_relative_to(home):
        raise UserError(
            "the current folder is inside the study home",
            str(Path.cwd()),
            "change to another folder: Python imports from this one",
        )
    module = trainer.partition(":")[0].split(".")
    for length in range(1, len(module) + 1):
        name = ".".join(module[:length])
        if any(place.is_relative_to(home) for place in _places(name)):
            what = f"the recorded trainer `{trainer}` would be code of the study home itself"
            raise UserError(what, str(home), f"{HELP}; keep code that you trust elsewhere, on PYTHONPATH")


def _places(module: str) -> list[Path]:
    """Where a module would be imported from; its parents, which are outside the home, are imported for that."""
    before, sys.path = sys.path, [*sys.path, str(Path.cwd())]
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return []
    finally:
        sys.path = before
    found = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
    return [Path(place).resolve() for place in found if place and os.path.exists(place)]
