"""A copy of a study elsewhere, from which it continues when its home is lost: a borrowed machine whose disk is wiped.

    DIR/STUDY/state-000012.zip     the ledger, the outbox, and a list of the files below, as of one moment
    DIR/STUDY/trials/0007/...      checkpoints and logs, as they lie in the study's folder

Files are copied first and the state is written last, under a new name, so that an interruption leaves the previous
state. The outbox is read before the ledger, since the ledger is written first. MLflow's database is not part of it:
MLflow gets everything again from the outbox.
"""

import io
import json
import os
import re
import shutil
import threading
import zipfile
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path, PurePosixPath
from typing import Final

from sweeper.checkpoints.copy_place import CopyPlace, open_place
from sweeper.errors import UserError
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.storage.location import JOURNAL, is_study
from sweeper.ledger.trial import TrialRecord
from sweeper.study.callback import StudyCallback
from sweeper.tracking.outbox import ACK, OUTBOX, STORE, Outbox

STATE: Final = re.compile(r"state-(\d{6,})\.zip")
PLAIN: Final = re.compile(r"\w[\w.-]*")
"""The name of a file in a state, which cannot lead elsewhere."""
FILES: Final = "files.json"
"""In a state: path of each copied file -> its bytes and its time in ns."""
KEPT: Final = 2
"""States to keep: the newest may be half written."""
NOT_COPIED: Final = frozenset({"lock", "request", "stage.json", ACK, STORE})
LAST_S: Final = 300.0
"""How long a run waits for its copy at its end."""

Stamp = tuple[int, int]


class StudyCopy(StudyCallback):
    """Keeps the copy up to date from a separate thread: no trial waits for it.

    Args:
        ledger: of the study, which this process drives.
        where: a folder or `s3://BUCKET/PREFIX`.
        every_s: seconds from one copy to the next, at least; 0: after each evaluation.
        note: tells the user.

    Raises:
        UserError: nothing can be written there, or it is the copy of another study, or of a later state of this one.
    """

    def __init__(self, ledger: Ledger, where: str, every_s: float, note: Callable[[str], None]) -> None:
        self._folder, self._every_s, self._note = ledger.study_dir, every_s, note
        self._place = open_place(where, ledger.study)
        self._number, before = _newest(self._place)
        self._copied: dict[str, Stamp] = _files_of(before)
        if before:
            _refuse_other_study(self._folder, before, self._place.shown)
        self._due, self._is_over, self._failed = threading.Event(), threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="study-copy", daemon=True)
        self._thread.start()

    def trial_reported(self, record: TrialRecord) -> None:
        self._due.set()

    def trial_finished(self, record: TrialRecord) -> None:
        self._due.set()

    def close(self) -> None:
        """Copy what is new one last time, and say so if that fails."""
        self._is_over.set()
        self._due.set()
        self._thread.join(LAST_S)
        if self._thread.is_alive() or self._failed:
            self._note(f"the copy in {self._place.shown} lacks what is new; it is in {self._folder}")

    def _run(self) -> None:
        while not self._is_over.is_set():
            self._due.wait()
            self._due.clear()
            if not self._is_over.is_set():
                self._try()
                self._is_over.wait(self._every_s)
        self._try()  # what was written after the last copy began

    def _try(self) -> None:
        try:
            self._copy()
        except (UserError, OSError) as error:
            if not self._failed:
                self._note(f"{error}; the run continues, and the copy is tried again")
            self._failed = True
        else:
            if self._failed:
                self._note(f"the copy in {self._place.shown} is up to date again")
            self._failed = False

    def _copy(self) -> None:
        state = _state_of(self._folder)
        found = _trial_files(self._folder)
        for name, stamp in found.items():
            if self._copied.get(name) != stamp:
                with suppress(FileNotFoundError):  # deleted meanwhile: the next state does not list it
                    self._place.upload(self._folder / name, name)
                    self._copied[name] = stamp
        listed = {name: self._copied[name] for name in found if name in self._copied}
        number = self._number + 1
        self._place.write(f"state-{number:06d}.zip", _packed(state | {FILES: json.dumps(listed).encode()}))
        self._number = number
        for old in _states(self._place)[:-KEPT]:
            self._place.remove(old)
        for gone in self._copied.keys() - listed.keys():
            self._place.remove(gone)
        self._copied = dict(listed)


def restore(home: Path, study: str, where: str) -> bool:
    """Restore a study from its copy into a home that does not have it.

    Returns:
        Whether there is a copy.

    Raises:
        UserError: the home has the study; the place cannot be reached; no state of the copy is complete.
    """
    study_dir = home.resolve() / "studies" / study
    if is_study(study_dir):
        help = f"leave --from out to continue it, or name another --home; the copy in {where} stays as it is"
        raise UserError(f"the home already has a study `{study}`", str(study_dir), help)
    place = open_place(where, study)
    if not _states(place):
        return False
    _, state = _newest(place)
    if not state:
        raise UserError(f"no state of the copy of `{study}` is complete", place.shown)
    _bring_files(place, study_dir, _files_of(state))
    for name in sorted(state.keys() - {FILES}, key=JOURNAL.__eq__):  # the ledger last: with it this is a study
        (study_dir / name).write_bytes(state[name])
    with closing(Outbox(study_dir)) as outbox:
        outbox.rewind()  # MLflow's database may be lost too; what it has is stored once
    return True


def _bring_files(place: CopyPlace, study_dir: Path, listed: Mapping[str, Stamp]) -> None:
    """The files of the trials; a checkpoint with any file that is not as listed is left out entirely."""
    study_dir.mkdir(parents=True, exist_ok=True)
    damaged: set[Path] = set()
    for name, (size, time_ns) in listed.items():
        target = study_dir / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            place.download(name, target)
        if target.is_file() and target.stat().st_size == size:
            os.utime(target, ns=(time_ns, time_ns))
        elif len(target.relative_to(study_dir).parts) > 3:  # trials/0007/epoch_003/...; a log may have grown since
            damaged.add(target.parent)
    for folder in damaged:
        shutil.rmtree(folder, ignore_errors=True)


def _state_of(folder: Path) -> dict[str, bytes]:
    """Ledger, outbox, report and notes of a study, name -> content; of ledger and outbox only complete lines."""
    names = [
        path.name
        for path in folder.iterdir()
        if path.is_file() and path.name not in NOT_COPIED and not path.name.startswith(".")
        if path.suffix != ".tmp"
    ]
    state: dict[str, bytes] = {}
    for name in sorted(names, key=lambda name: (name == JOURNAL, name != OUTBOX)):  # outbox first, journal last
        with suppress(FileNotFoundError):
            content = (folder / name).read_bytes()
            state[name] = content[: content.rfind(b"\n") + 1] if name in (JOURNAL, OUTBOX) else content
    return state


def _trial_files(folder: Path) -> dict[str, Stamp]:
    found = {}
    for place, folders, names in os.walk(folder / "trials"):
        folders[:] = sorted(name for name in folders if not name.startswith("."))  # those are being written
        for path in (Path(place) / name for name in sorted(names) if not name.startswith(".")):
            with suppress(FileNotFoundError):
                if path.is_file() and not path.is_symlink():
                    at = path.stat()
                    found[path.relative_to(folder).as_posix()] = (at.st_size, at.st_mtime_ns)
    return found


def _packed(state: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in state.items():
            archive.writestr(name, content)
    return file.getvalue()


def _states(place: CopyPlace) -> list[str]:
    return sorted((name for name in place.names() if STATE.fullmatch(name)), key=lambda name: (len(name), name))


def _newest(place: CopyPlace) -> tuple[int, dict[str, bytes]]:
    """The number of the last state, 0 without one, and the newest that is complete; empty if there is none."""
    states = _states(place)
    last = int(states[-1][len("state-") : -len(".zip")]) if states else 0
    for name in reversed(states):
        with suppress(zipfile.BadZipFile, EOFError, OSError), zipfile.ZipFile(io.BytesIO(place.read(name))) as archive:
            if archive.testzip() is None and all(PLAIN.fullmatch(each) for each in archive.namelist()):
                return last, {each: archive.read(each) for each in archive.namelist()}
    return last, {}


def _files_of(state: Mapping[str, bytes]) -> dict[str, Stamp]:
    """The files that a state lists, none of which may lead out of `trials`."""
    listed: dict[str, Stamp] = {}
    with suppress(ValueError, TypeError, AttributeError):
        for name, (size, time_ns) in json.loads(state.get(FILES, b"{}")).items():
            parts = PurePosixPath(name).parts
            if parts[:1] == ("trials",) and ".." not in parts:
                listed[name] = (int(size), int(time_ns))
    return listed


def _refuse_other_study(folder: Path, state: Mapping[str, bytes], shown: str) -> None:
    """Each line of a journal names the process that wrote it, so two studies start differently."""
    theirs = state.get(JOURNAL, b"")
    ours = (folder / JOURNAL).read_bytes() if theirs else b""
    if theirs.partition(b"\n")[0] != ours.partition(b"\n")[0]:
        what, help = "of another study of this name", "name another folder with --sync-to, or remove that one"
    elif theirs.count(b"\n") > ours.count(b"\n"):
        what, help = "newer than this home", "continue from it in a new home: `sweeper resume STUDY --from`"
    else:
        return
    raise UserError(f"the copy is {what}", shown, help)
