"""A study home that a stranger has made: it is read as data, nothing of it runs, and nothing leads out of it."""

import hashlib
import json
import os
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import OpenTracker
from finished import OBJECTIVE, finish_study
from mlflow_helpers import runs_of, start, uri_of

from sweeper.checkpoints.locate import last_good
from sweeper.checkpoints.manifest import damage
from sweeper.cli.main import main
from sweeper.entrypoint.resolve import load_trainer
from sweeper.errors import UserError
from sweeper.home import refuse_foreign_links
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.storage import POINTER
from sweeper.ledger.trial import Report, TrialRecord, TrialState
from sweeper.maintenance import gc as garbage
from sweeper.spec.load import parse_spec
from sweeper.tracking import find_trial

SPEC = f"""
name: toy
trainer: scripted_trainer:train
search_space:
  scale: {{low: 0.5, high: 10.0, log: true}}
objective: {{metric: {OBJECTIVE}, mode: min}}
trials: 3
controls: []
"""
TRAP = "import os, pathlib\npathlib.Path(os.environ['CANARY']).touch()\n\n\ndef train(config, workdir, resume): ...\n"


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that code of the home would make."""
    path = tmp_path / "canary"
    monkeypatch.setenv("CANARY", str(path))
    return path


@pytest.fixture
def toy(home: Path) -> Path:
    """A home with a finished study."""
    finish_study(home, parse_spec(SPEC, home / "spec.yaml"), lambda params: params["scale"])
    return home


@pytest.fixture
def evil(toy: Path, canary: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The home, whose record names a trainer that lies in it, as code in the working folder."""
    (toy / "evil.py").write_text(TRAP)
    monkeypatch.setattr(sys, "path", list(sys.path))
    set_spec(toy, trainer="evil:train")
    yield toy
    for name in ("evil", "homes", "homes.evil"):
        sys.modules.pop(name, None)


def set_spec(home: Path, **changes: Any) -> None:
    ledger = Ledger.create(home / "studies" / "toy", "toy")
    ledger.attributes.spec = ledger.attributes.spec | changes


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(list(arguments))
    return code, capsys.readouterr().err


# --- code


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
def test_nothing_is_run_that_would_be_code_of_the_home(
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


def test_a_home_that_is_a_package_of_the_working_folder_is_refused(
    evil: Path, canary: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evil.rename(evil.with_name("homes"))
    monkeypatch.chdir(evil.parent)
    set_spec(Path("homes"), trainer="homes.evil:train")
    code, error = said(capsys, "resume", "toy", "--home", "homes")
    assert (code, "would be code of the study home" in error) == (2, True)
    assert not canary.exists()


@pytest.mark.parametrize("trainer", ["os:system", "subprocess:run", "builtins:exec", "runpy:run_path", "pty:spawn"])
def test_no_recorded_trainer_is_a_tool_of_python_itself(
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


# --- places


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A private file of whoever opens the home."""
    folder = tmp_path / "private"
    folder.mkdir()
    (folder / "key").write_text("private")
    return folder


@pytest.mark.parametrize("name", ["../private/key", "/etc/passwd", "link", "linked/key"])
def test_a_manifest_names_files_of_its_checkpoint_only(tmp_path: Path, outside: Path, name: str) -> None:
    folder = tmp_path / "epoch_001"
    folder.mkdir()
    (folder / "link").symlink_to(outside / "key")
    (folder / "linked").symlink_to(outside)
    sum_of = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({"files": {name: {"sha256": sum_of}}}))
    assert damage(folder) == f"its manifest names {name}, which lies elsewhere"


@pytest.mark.parametrize("form", ["absolute", "parents", "link"])
def test_no_trial_goes_on_from_a_folder_outside_and_gc_removes_none(
    toy: Path, outside: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_dir = toy / "studies" / "toy"
    (study_dir / "link").symlink_to(outside)
    place = {"absolute": str(outside), "parents": "../../../private", "link": "link"}[form]
    assert (study_dir / place / "key").is_file()
    report = Report(3, 3.0, {OBJECTIVE: 1.0}, place, 3)
    folder, _, passed_over = last_good(study_dir, TrialRecord("toy-0000", 0, {}, reports=(report,)))
    assert folder is None
    assert passed_over == [f"the checkpoint {place} is damaged: it lies outside of the study's folder"]

    class AllIsStored:
        def __init__(self, uri: str) -> None: ...

        def checkpoint(self, run_id: str, name: str) -> dict[str, int]:
            return {"key": len("private")}

        def runs_of(self, folder: Path) -> None: ...

    monkeypatch.setattr(garbage, "Inventory", AllIsStored)
    (study_dir / "trials" / "0000" / "epoch_003").mkdir(parents=True)
    (study_dir / "trials" / "0000" / "epoch_003" / "key").write_text("private")
    with_checkpoint(toy, place)
    with_checkpoint(toy, "trials/0000/epoch_003")
    found, _ = garbage.find_garbage(toy)
    assert [each.folder.name for each in found] == ["epoch_003"]  # so gc does look


def with_checkpoint(home: Path, checkpoint: str) -> None:
    """A further trial that ended and whose checkpoint lies there."""
    ledger = Ledger.create(home / "studies" / "toy", "toy")
    record = ledger.ask(parse_spec(SPEC, home / "spec.yaml"))
    ledger.report(record.id, Report(1, 1.0, {OBJECTIVE: 1.0}, checkpoint, 1), 1.0)
    ledger.set_mlflow_run_id(record.id, "0" * 32)
    ledger.finish(record.id, TrialState.FAILED, "boom", {}, (None,))


def test_nothing_outside_of_the_study_is_handed_to_mlflow(
    home: Path, study_dir: Path, outside: Path, open_tracker: OpenTracker
) -> None:
    tracker = open_tracker()
    start(tracker, "toy-0001")
    (study_dir / "link").symlink_to(outside)
    tracker.checkpoint("toy-0001", outside, "checkpoints/epoch_001")
    tracker.file("toy-0001", outside / "key", "pictures/key")
    tracker.close()
    with (study_dir / "outbox.jsonl").open("a") as outbox:
        for place in ("../../../private", "link"):
            operation = {"op": "checkpoint", "trial": "toy-0001", "ms": 1, "path": f"checkpoints/{place[-4:]}"}
            outbox.write(json.dumps({**operation, "folder": place}) + "\n")
    assert open_tracker().flush(60) == 0
    rejected = (study_dir / "outbox.rejected.jsonl").read_text().splitlines()
    assert ["outside of the study's folder" in line for line in rejected] == [True] * 4
    assert [
        path for path in (home / "artifacts").rglob("*") if path.is_file() and path.read_bytes() == b"private"
    ] == []


@pytest.mark.parametrize("form", ["elsewhere", "server", "parents", "link"])
def test_mlflow_writes_no_artifact_where_the_database_of_a_home_points(
    home: Path, study_dir: Path, tmp_path: Path, open_tracker: OpenTracker, form: str
) -> None:
    tracker = open_tracker()
    start(tracker, "toy-0001")
    assert tracker.flush(60) == 0
    tracker.close()
    run_id, target = runs_of(uri_of(home))["toy-0001"].info.run_id, tmp_path / "site-packages"
    target.mkdir()
    (target / "artifacts" / "x" / run_id).mkdir(parents=True)
    (target / "artifacts" / "x" / run_id / "artifacts").symlink_to(target)
    place = {
        "elsewhere": str(target),
        "server": "http://192.0.2.1/artifacts/x/{run_id}/artifacts",
        "parents": f"{home}/artifacts/../{run_id}/artifacts",
        "link": f"{target}/artifacts/x/{run_id}/artifacts",
    }[form]
    with sqlite3.connect(home / "mlflow.db") as database:
        database.execute("update runs set artifact_uri = ? where run_uuid = ?", (place, run_id))
    (study_dir / "sitecustomize.py").write_text("print('owned')")
    tracker = open_tracker()
    tracker.file("toy-0001", study_dir / "sitecustomize.py", "sitecustomize.py")
    assert tracker.flush(60) == 0
    assert "the artifacts of `toy-0001` would go to" in (study_dir / "outbox.rejected.jsonl").read_text()
    assert [path for path in tmp_path.rglob("sitecustomize.py") if path.parent != study_dir] == []


def test_artifacts_that_a_home_places_on_a_web_server_are_not_asked_for(recorded: str, home: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(0.2)
        with sqlite3.connect(home / "mlflow.db") as database:
            url = f"http://127.0.0.1:{server.getsockname()[1]}/x"
            database.execute("update runs set artifact_uri = ?", (url,))
        with pytest.raises(UserError, match="the artifacts of `toy-0001` are elsewhere"):
            find_trial(recorded, "toy-0001")
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize("name", ["lock", "outbox.jsonl", "trials/0000", "report.html"])
def test_a_link_that_leads_out_is_not_written_through(toy: Path, outside: Path, name: str) -> None:
    link = toy / "studies" / "toy" / name
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(outside / "key")
    assert main(["stop", "toy", "--home", str(toy)]) == 2
    assert (outside / "key").read_text() == "private"
    with pytest.raises(UserError, match="a symbolic link points outside the study `toy`"):
        refuse_foreign_links(toy / "studies" / "toy")


def test_links_within_a_study_and_of_whole_folders_are_fine(toy: Path, tmp_path: Path) -> None:
    study_dir = toy / "studies" / "toy"
    (study_dir / "trials" / "epoch_001").mkdir(parents=True)
    (study_dir / "trials" / "latest").symlink_to("epoch_001")
    (toy / "artifacts").rename(tmp_path / "large-disk") if (toy / "artifacts").exists() else (
        tmp_path / "large-disk"
    ).mkdir()
    (toy / "artifacts").symlink_to(tmp_path / "large-disk")
    (tmp_path / "large-disk" / "toy").mkdir()
    refuse_foreign_links(study_dir)
    (tmp_path / "large-disk" / "toy" / "run").symlink_to(tmp_path)
    with pytest.raises(UserError, match="a symbolic link points outside"):
        refuse_foreign_links(study_dir)


# --- the ledger


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me@192.0.2.1/db",
        "postgresql+psycopg://me@127.0.0.1/db?host=192.0.2.1",
        "postgresql+psycopg:///db?service=x",
        "postgresql+psycopg://me@localhost/db?passfile=/etc/passwd",
    ],
)
def test_a_database_that_only_the_home_names_is_not_called(
    toy: Path, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PGPASSWORD", "not-for-them")
    monkeypatch.setattr("sweeper.ledger.database._connect", lambda *_, **__: pytest.fail("it was called"))
    (toy / "studies" / "toy" / POINTER).write_text(url)
    for verb in ("show", "resume", "status"):
        code, error = said(capsys, verb, "toy", "--home", str(toy))
        assert (code, "the study home names a ledger elsewhere" in error) == (2, True)
    assert said(capsys, "list", "--home", str(toy))[0] == 0


def test_a_database_whose_host_the_user_names_is_called(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []

    def connect(url: Any, *_: object, **__: object) -> None:
        called.append(url.host)
        raise UserError("called")

    monkeypatch.setattr("sweeper.ledger.database._connect", connect)
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


def test_a_database_file_that_is_no_ledger_is_left_as_it_is(toy: Path, tmp_path: Path) -> None:
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


HOSTILE_LINES = [
    "null",
    "[]",
    "7",
    '{"op_code": 99}',
    '{"op_code": "os.system"}',
    '{"op_code": 4, "worker_id": "x", "study_id": 10000}',
    '{"op_code": 5, "worker_id": "x", "trial_id": 1e309}',
    '{"op_code": 2, "worker_id": "x", "study_id": 0, "user_attr": {"spec": 7}}',
    '{"op_code": 2, "worker_id": "x", "study_id": 0, "user_attr": {"spec": {"trainer": "../x:y"}}}',
    "[" * 100_000,
    "not json",
    "\x00\x00",
]


@pytest.mark.parametrize("line", HOSTILE_LINES, ids=lambda line: line[:20])
@pytest.mark.parametrize("verb", ["show toy", "list", "resume toy"])
def test_a_hostile_line_of_the_journal_is_an_error_and_no_traceback(
    toy: Path, line: str, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = toy / "studies" / "toy" / "ledger.journal"
    with journal.open("a") as file:
        file.write(line + "\n")
    code, error = said(capsys, *verb.split(), "--home", str(toy))
    assert code in (0, 2)
    assert code == 0 or "error: " in error


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
def test_hostile_files_beside_the_ledger_are_passed_over(toy: Path, text: str) -> None:
    study_dir = toy / "studies" / "toy"
    (study_dir / "meter.json").write_text(text)
    (study_dir / "request").write_text(text)
    (study_dir / "outbox.jsonl").write_text(text + "\n")
    (study_dir / "outbox.ack").write_text(text)
    (study_dir / "trials").mkdir()
    (study_dir / "trials" / "worker.pid").write_text("1")
    assert main(["show", "toy", "--home", str(toy)]) == 0
    from sweeper.study.accounting import UsageMeter, run_seconds

    ledger = Ledger.create(study_dir, "toy")
    spec = parse_spec(SPEC, toy / "spec.yaml")
    UsageMeter(ledger, spec.budget, spec.resources)
    assert all(0 <= seconds < 1e9 for seconds in run_seconds(ledger).values())


@pytest.mark.parametrize("study", ["../toy", "/etc", "toy/../toy", "a\0b", "x" * 5000, "\u202eyot", "--", "."])
def test_a_study_is_named_by_its_name_only(toy: Path, study: str, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("show", "resume", "status"):
        assert said(capsys, verb, "--home", str(toy), "--", study)[0] == 2


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\0b", "x" * 300, "\u202etxt", "", ".", "a b", "-rf", "<script>"])
def test_a_spec_names_no_path(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        parse_spec(SPEC.replace("name: toy", f"name: {json.dumps(name)}"), tmp_path / "spec.yaml")
    assert os.listdir(tmp_path) == []
