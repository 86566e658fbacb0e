"""The records of a stranger's study home are read as data: a hostile one is an error that a user can act on."""

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile import SPEC, said

from sweeper.cli.main import main
from sweeper.errors import UserError
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.storage.location import POINTER
from sweeper.spec.load import parse_spec


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me@192.0.2.1/db",
        "postgresql+psycopg://me@127.0.0.1/db?host=192.0.2.1",
        "postgresql+psycopg:///db?service=x",
        "postgresql+psycopg://me@localhost/db?passfile=/etc/passwd",
    ],
)
def test_a_database_that_only_the_home_names_is_not_contacted(
    toy: Path, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PGPASSWORD", "not-for-them")
    monkeypatch.setattr("sweeper.ledger.storage.database._connect", lambda *_, **__: pytest.fail("it was called"))
    (toy / "studies" / "toy" / POINTER).write_text(url)
    for verb in ("show toy", "resume toy", "status toy", "list"):
        code, error = said(capsys, *verb.split(), "--home", str(toy))
        assert (code, "the study home names a ledger elsewhere" in error) == (2, True)


def test_a_database_whose_host_the_user_names_is_contacted(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []

    def connect(url: Any, *_: object, **__: object) -> None:
        called.append(url.host)
        raise UserError("called")

    monkeypatch.setattr("sweeper.ledger.storage.database._connect", connect)
    (toy / "studies" / "toy" / POINTER).write_text("postgresql+psycopg://me@db.example/x")
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pgpass"))
    (tmp_path / "pgpass").write_text("*:*:*:*:x\n")
    ways: list[Callable[[], object]] = [
        lambda: monkeypatch.setenv("SWEEPER_LEDGER", "postgresql://me:secret@db.example/x"),
        lambda: (monkeypatch.delenv("SWEEPER_LEDGER"), monkeypatch.setenv("PGHOST", "db.example")),
        lambda: (monkeypatch.delenv("PGHOST"), (tmp_path / "pgpass").write_text("db.example:5432:x:me:secret\n")),
    ]
    with pytest.raises(UserError, match="names a ledger elsewhere"):
        Ledger.open(toy / "studies" / "toy", "toy")
    for count, way in enumerate(ways, start=1):
        way()
        with pytest.raises(UserError, match="called"):
            Ledger.open(toy / "studies" / "toy", "toy")
        assert called == ["db.example"] * count


def test_a_database_file_that_is_not_a_ledger_is_left_as_it_is(toy: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "places.sqlite"
    with sqlite3.connect(theirs) as database:
        database.execute("create table mine (x)")
    before = theirs.read_bytes()
    for path in (theirs, tmp_path / "none.sqlite"):
        (toy / "studies" / "toy" / POINTER).write_text(f"sqlite:///{path}")
        with pytest.raises(UserError, match=r"the ledger sqlite:///.* (does not answer|is gone)"):
            Ledger.open(toy / "studies" / "toy", "toy")
    assert theirs.read_bytes() == before
    assert not (tmp_path / "none.sqlite").exists()


HARMLESS_LINES = [  # of studies and trials that are not there
    '{"op_code": 4, "worker_id": "x", "study_id": 10000}',
    '{"op_code": 5, "worker_id": "x", "trial_id": 1e309}',
]
NO_RECORDS = ["null", "[]", "7", '{"op_code": "os.system"}', "[" * 100_000, "not json", "\x00\x00"]
DAMAGE = [
    *((line, "this line is not a record") for line in NO_RECORDS),
    ('{"op_code": 99}', "the ledger of `toy` is damaged"),
    ('{"op_code": 2, "worker_id": "x", "study_id": 0, "user_attr": {"spec": 7}}', "its attribute `spec` is not valid"),
    (
        '{"op_code": 2, "worker_id": "x", "study_id": 0, "user_attr": {"spec": {"trainer": "../x:y"}}}',
        "the study `toy` was written by another version",
    ),
]


def append(toy: Path, line: str) -> Path:
    journal = toy / "studies" / "toy" / "ledger.journal"
    with journal.open("a") as file:
        file.write(line + "\n")
    return journal


@pytest.mark.parametrize("line", HARMLESS_LINES, ids=lambda line: line[:20])
@pytest.mark.parametrize("verb", ["show toy", "list", "resume toy"])
def test_a_line_of_the_journal_about_nothing_known_changes_nothing(
    toy: Path, line: str, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    append(toy, line)
    assert said(capsys, *verb.split(), "--home", str(toy))[0] == 0


@pytest.mark.parametrize(("line", "what"), DAMAGE, ids=lambda text: text[:20])
@pytest.mark.parametrize("verb", ["show toy", "list", "resume toy", "dashboard"])
def test_a_hostile_line_in_the_journal_is_an_error(
    toy: Path, line: str, what: str, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = append(toy, line)
    code, error = said(capsys, *verb.split(), "--home", str(toy))
    assert code == 2
    assert what in error
    if line in NO_RECORDS:
        assert f"{journal}:{len(journal.read_bytes().splitlines())}" in error
    assert "no studies in" not in error, "there is one"


@pytest.mark.parametrize(("line", "what"), DAMAGE[-3:], ids=lambda text: text[:20])
def test_a_damaged_study_stops_no_plan_of_another(
    toy: Path, line: str, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    append(toy, line)
    (toy / "other.yaml").write_text(SPEC.replace("toy", "other", 1))
    code, error = said(capsys, "plan", str(toy / "other.yaml"), "--home", str(toy))
    assert code == 0, error


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "[]",
        "{}",
        '{"run": "1", "seconds": 1e400, "trials": {}}',
        '{"run": "1", "seconds": 1, "trials": {"toy-9999": {"attempt": "1", "lost_s": 1, "open_s": 1, "reports": 0}}}',
        '{"run": "1", "seconds": -5, "trials": {}}',
        '{"run": 1, "seconds": "x", "trials": 3}',
        "[" * 100_000,
    ],
    ids=lambda text: text[:30],
)
def test_hostile_files_beside_the_ledger_are_ignored(toy: Path, text: str) -> None:
    study_dir = toy / "studies" / "toy"
    (study_dir / "meter.json").write_text(text)
    (study_dir / "request").write_text(text)
    (study_dir / "outbox.jsonl").write_text(text + "\n")
    (study_dir / "outbox.ack").write_text(text)
    (study_dir / "trials").mkdir()
    (study_dir / "trials" / "worker.pid").write_text("1")
    assert main(["show", "toy", "--home", str(toy)]) == 0
    from sweeper.study.usage.accounting import UsageMeter, run_seconds

    ledger = Ledger.create(study_dir, "toy")
    spec = parse_spec(SPEC, toy / "spec.yaml")
    UsageMeter(ledger, spec.budget, spec.resources)
    assert all(0 <= seconds < 1e9 for seconds in run_seconds(ledger).values())


@pytest.mark.parametrize("study", ["../toy", "/etc", "toy/../toy", "a\0b", "x" * 5000, "\u202eyot", "--", "."])
def test_a_study_can_only_be_named_by_its_name(toy: Path, study: str, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("show", "resume", "status"):
        assert said(capsys, verb, "--home", str(toy), "--", study)[0] == 2


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\0b", "x" * 300, "\u202etxt", "", ".", "a b", "-rf", "<script>"])
def test_the_name_in_a_spec_cannot_be_a_path(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected lower-case letters, digits, `_` and `-`"):
        parse_spec(SPEC.replace("name: toy", f"name: {json.dumps(name)}"), tmp_path / "spec.yaml")
    assert os.listdir(tmp_path) == []
