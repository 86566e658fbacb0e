"""Damage to the files of a study home, as crashes, disks, restored backups and people cause it.

Each function does one kind of damage to the study `scripted`, if there is anything to damage, and says what it did.
"""

import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from sweeper.ledger.storage.location import JOURNAL
from sweeper.tracking.outbox import ACK, OUTBOX

STUDY: Final = "scripted"
KEPT: Final = ("mlflow.db", f"studies/{STUDY}/{OUTBOX}", f"studies/{STUDY}/{ACK}", f"studies/{STUDY}/{JOURNAL}")
"""Files that belong together: an older copy of one alone is damage."""

Damage = Callable[[Path, random.Random], str | None]


def keep_copies(home: Path) -> None:
    """Keep the files as they are, beside the home: what a backup would put back."""
    past = home.parent / "past"
    folder = past / f"{len(list(past.glob('*'))):03d}"
    for name in KEPT:
        if (home / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(home / name, folder / name)


def _file_damage(name: str) -> Mapping[str, Damage]:
    """Kinds of damage that any file may suffer."""
    short = Path(name).name

    def gone(home: Path, draw: random.Random) -> str | None:
        (home / name).unlink()
        return f"{short} is removed"

    def zeroed(home: Path, draw: random.Random) -> str | None:
        (home / name).write_bytes(b"")
        return f"{short} is empty"

    def cut(home: Path, draw: random.Random) -> str | None:
        size = draw.randrange((home / name).stat().st_size + 1)
        os.truncate(home / name, size)
        return f"{short} is cut to {size} bytes"

    def garbage(home: Path, draw: random.Random) -> str | None:
        (home / name).write_bytes(draw.randbytes(draw.randrange(1, 3000)))
        return f"{short} is garbage"

    def older(home: Path, draw: random.Random) -> str | None:
        copies = sorted((home.parent / "past").glob(f"*/{name}"))
        copy = draw.choice(copies)
        shutil.copyfile(copy, home / name)
        return f"{short} is the copy {copy.relative_to(home.parent / 'past').parts[0]} of {len(copies)}"

    kinds = {"gone": gone, "zeroed": zeroed, "cut": cut, "garbage": garbage, "older": older}
    return {f"{short} {kind}": damage for kind, damage in kinds.items()}


def _run_deleted(home: Path, draw: random.Random) -> str | None:
    return _in_database(
        home, "UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = ?", draw, "deleted in the UI"
    )


def _run_purged(home: Path, draw: random.Random) -> str | None:
    seed = draw.random()
    for table in ("tags", "params", "metrics", "latest_metrics", "runs"):
        what = _in_database(home, f"DELETE FROM {table} WHERE run_uuid = ?", random.Random(seed), "deleted for good")
    return what


def _run_open(home: Path, draw: random.Random) -> str | None:
    return _in_database(home, "UPDATE runs SET status = 'RUNNING' WHERE run_uuid = ?", draw, "RUNNING again")


def _experiment_deleted(home: Path, draw: random.Random) -> str | None:
    with suppress(sqlite3.Error), closing(sqlite3.connect(home / "mlflow.db")) as database, database:
        database.execute("UPDATE experiments SET lifecycle_stage = 'deleted' WHERE name = ?", (STUDY,))
        database.execute("UPDATE runs SET lifecycle_stage = 'deleted'")
        return "the experiment is deleted in the UI"
    return None


def _in_database(home: Path, statement: str, draw: random.Random, what: str) -> str | None:
    with suppress(sqlite3.Error), closing(sqlite3.connect(home / "mlflow.db")) as database, database:
        rows = database.execute("SELECT run_uuid, name FROM runs ORDER BY start_time, run_uuid").fetchall()
        if rows:
            run, name = draw.choice(rows)
            database.execute(statement, (run,))
            return f"the run {name} is {what}"
    return None


def _outbox_lines(home: Path, change: Callable[[list[bytes]], object]) -> None:
    path = home / "studies" / STUDY / OUTBOX
    lines = path.read_bytes().splitlines(keepends=True)
    change(lines)
    path.write_bytes(b"".join(lines))


def _outbox_bad_line(home: Path, draw: random.Random) -> str | None:
    bad = draw.choice([b'{"x":1}\n', b'{"op":"start"}\n', b"no JSON\n", b'{"op":"report","trial":"scripted-0000"}\n'])
    _outbox_lines(home, lambda lines: lines.insert(draw.randrange(len(lines) + 1), bad))
    return f"a line of the outbox is {bad!r}"


def _outbox_line_lost(home: Path, draw: random.Random) -> str | None:
    lost: list[bytes] = []
    _outbox_lines(home, lambda lines: lines and lost.append(lines.pop(draw.randrange(len(lines)))))
    return f"the outbox has lost {lost[0][:80]!r}" if lost else None


def _ack_other(home: Path, draw: random.Random) -> str | None:
    number = draw.randrange((home / "studies" / STUDY / OUTBOX).stat().st_size + 100)
    (home / "studies" / STUDY / ACK).write_text(f"{number}\n")
    return f"the ack says {number}"


def _note(name: str) -> Damage:
    def spoil(home: Path, draw: random.Random) -> str | None:
        path = home / "studies" / STUDY / name
        data = draw.choice([b"", b"garbage", b"{}", b"[1, 2]", b"\x00\x01", b"\xff\xfe", b'{"path": 7}'])
        if path.parent.is_dir():
            path.write_bytes(data)
        return f"{name} is {data!r}"

    return spoil


def _request_left(home: Path, draw: random.Random) -> str | None:
    text = draw.choice(
        ["stop", "pause", "{", '{"request": "stop", "by": "pid 7 on there", "at": "2026-01-02 03:04:05"}']
    )
    (home / "studies" / STUDY / "request").write_text(text)
    return f"a killed asker left the request {text!r}"


def _half_line(home: Path, draw: random.Random) -> str | None:
    with (home / "studies" / STUDY / JOURNAL).open("ab") as file:
        file.write(b'{"op_code":5,"worker_id":"x","study_id":0,"dat')
    return "the ledger's last line is half written"


def _ledger_garbled(home: Path, draw: random.Random) -> str | None:
    path = home / "studies" / STUDY / JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    place = draw.randrange(len(lines))
    lines[place] = b"garbage\n"
    path.write_bytes(b"".join(lines))
    return f"line {place + 1} of {len(lines)} of the ledger is garbage"


def _ledger_behind(home: Path, draw: random.Random) -> str | None:
    path = home / "studies" / STUDY / JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    kept = draw.randrange(len(lines))
    path.write_bytes(b"".join(lines[:kept]))
    return f"the ledger is what it was after {kept} of {len(lines)} lines"


def checkpoints(home: Path) -> list[Path]:
    return sorted(path.parent for path in (home / "studies" / STUDY / "trials").glob("*/epoch_*/manifest.json"))


def _weights_flipped(home: Path, draw: random.Random) -> str | None:
    folder = draw.choice(checkpoints(home))
    data = bytearray((folder / "weights.safetensors").read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    (folder / "weights.safetensors").unlink()  # MLflow's copy may be the same file
    (folder / "weights.safetensors").write_bytes(data)
    return f"a bit of the weights in {folder.parent.name}/{folder.name} is flipped"


def _weights_gone(home: Path, draw: random.Random) -> str | None:
    folder = draw.choice(checkpoints(home))
    (folder / "weights.safetensors").unlink()
    return f"the weights in {folder.parent.name}/{folder.name} are gone"


def _manifest_spoilt(home: Path, draw: random.Random) -> str | None:
    folder = draw.choice(checkpoints(home))
    (folder / "manifest.json").unlink()
    if text := draw.choice(["", "{", "[]", '{"files": {"../../meter.json": {}}}']):
        (folder / "manifest.json").write_text(text)
    return f"the manifest in {folder.parent.name}/{folder.name} is {text!r}"


def _checkpoint_gone(home: Path, draw: random.Random) -> str | None:
    folder = draw.choice(checkpoints(home))
    shutil.rmtree(folder)
    return f"{folder.parent.name}/{folder.name} is gone"


def _checkpoints_swapped(home: Path, draw: random.Random) -> str | None:
    one, other = draw.sample(checkpoints(home), 2)
    between = one.with_name("between")
    one.rename(between)
    other.rename(one)
    between.rename(other)
    return f"{one.parent.name}/{one.name} and {other.parent.name}/{other.name} are swapped"


OF_TRACKING: Final[Mapping[str, Damage]] = {
    **_file_damage("mlflow.db"),
    **_file_damage(f"studies/{STUDY}/{OUTBOX}"),
    **_file_damage(f"studies/{STUDY}/{ACK}"),
    "run deleted": _run_deleted,
    "run purged": _run_purged,
    "run open": _run_open,
    "experiment deleted": _experiment_deleted,
    "outbox bad line": _outbox_bad_line,
    "outbox line lost": _outbox_line_lost,
    "ack other": _ack_other,
}
OF_NOTES: Final[Mapping[str, Damage]] = {
    **{name: _note(name) for name in ("outbox.store", "outbox.place", "meter.json", "lock")},
    "request left": _request_left,
    "half line": _half_line,
}
OF_CHECKPOINTS: Final[Mapping[str, Damage]] = {
    "weights flipped": _weights_flipped,
    "weights gone": _weights_gone,
    "manifest spoilt": _manifest_spoilt,
    "checkpoint gone": _checkpoint_gone,
    "checkpoints swapped": _checkpoints_swapped,
}
OF_LEDGER: Final[Mapping[str, Damage]] = {
    "ledger garbled": _ledger_garbled,
    "ledger behind": _ledger_behind,
    **{f"ledger {kind.split()[1]}": damage for kind, damage in _file_damage(f"studies/{STUDY}/{JOURNAL}").items()},
}


def damage(home: Path, draw: random.Random, kinds: Mapping[str, Damage]) -> str | None:
    """Do one of these kinds of damage; None if there is nothing to damage."""
    name = draw.choice(sorted(kinds))
    try:
        return kinds[name](home, draw)
    except (FileNotFoundError, IndexError, ValueError):  # there is no such file, or nothing in it, yet
        return None
