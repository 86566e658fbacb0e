"""A run with records missing from MLflow is not a success; an outbox and a ledger that do not match are reported.

One study, run to its end by the serial driver; each test harms a copy of its home.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty import SPEC, sweep
from mlflow_helpers import points_in_ledger, points_in_mlflow, uri_of

from sweeper.errors import EXIT_BAD_INPUT, EXIT_NOT_RECORDED, EXIT_OK, EXIT_TRIAL_FAILED
from sweeper.tracking.outbox import waiting_records
from sweeper.tracking.standing import standing_of
from sweeper.tracking.store.client import open_client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # up to seven whole verbs per test


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory, template_db: Path) -> Path:
    """The home of a complete study; beside it, the ledger that it had halfway."""
    home = tmp_path_factory.mktemp("complete") / "home"
    home.mkdir()
    shutil.copy(template_db, home / "mlflow.db")
    (home.parent / "spec.yaml").write_text(SPEC.replace("trials: 4", "trials: 2"))
    done = sweep(home, "run")
    assert (done.returncode, "sweeper sync" in done.stderr) == (EXIT_OK, False), done.stderr
    shutil.copy(home / "studies" / "scripted" / "ledger.journal", home.parent / "older.journal")
    assert sweep(home, "extend", "scripted", "--trials", "2").returncode == EXIT_OK
    return home


@pytest.fixture
def home(complete: Path, tmp_path: Path) -> Path:
    shutil.copytree(complete.parent, tmp_path / "copy")
    return tmp_path / "copy" / "home"


def study_dir(home: Path) -> Path:
    return home / "studies" / "scripted"


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def test_records_refused_for_good_are_exit_code_5_everywhere(home: Path) -> None:
    with (study_dir(home) / "outbox.jsonl").open("a") as outbox:
        outbox.write('{"x":1}\n')
    run = sweep(home, "resume", "scripted")
    assert run.returncode == EXIT_NOT_RECORDED, run.stderr
    said = "MLflow lacks 1 records of `scripted` that were refused"
    assert said in last_line(run.stderr)
    assert f"`sweeper sync scripted --home {home}`" in last_line(run.stderr)

    status = sweep(home, "status", "scripted")
    assert (status.returncode, said in last_line(status.stdout)) == (EXIT_NOT_RECORDED, True)
    sync = sweep(home, "sync", "scripted")
    assert sync.returncode == EXIT_NOT_RECORDED, sync.stdout + sync.stderr
    assert "1 records were refused for good" in sync.stdout
    doctor = sweep(home, "doctor", "--json", "--fix")
    (found,) = [each for each in json.loads(doctor.stdout) if each["check"].endswith(".refused")]
    assert (found["status"], found["fixed"]) == ("WARN", "")
    assert points_in_mlflow(uri_of(home), "scripted") == points_in_ledger(home, "scripted")


def test_waiting_records_are_named_with_the_command_that_sends_them(home: Path) -> None:
    (study_dir(home) / "outbox.ack").unlink()
    waiting = waiting_records(study_dir(home))
    run = sweep(home, "resume", "scripted", MLFLOW_DOWN="1")
    assert run.returncode == EXIT_OK
    assert (
        last_line(run.stderr)
        == f"{waiting} records of `scripted` wait for MLflow: `sweeper sync scripted --home {home}` sends them again"
    )
    assert sweep(home, "sync", "scripted", MLFLOW_DOWN="1").returncode == 1
    assert sweep(home, "sync", "scripted").returncode == EXIT_OK
    assert standing_of(study_dir(home)).sentence == ""


HARM: dict[str, Callable[[Path], object]] = {
    "gone": lambda home: (study_dir(home) / "ledger.journal").unlink(),
    "zeroed": lambda home: (study_dir(home) / "ledger.journal").write_bytes(b""),
    "older": lambda home: shutil.copy(home.parent / "older.journal", study_dir(home) / "ledger.journal"),
}


@pytest.mark.parametrize("harm", HARM)
def test_a_ledger_without_what_was_sent_is_reported_before_anything_runs(home: Path, harm: str) -> None:
    before = points_in_mlflow(uri_of(home), "scripted")
    HARM[harm](home)
    run = sweep(home, "run") if harm != "older" else sweep(home, "resume", "scripted")
    assert run.returncode == EXIT_BAD_INPUT, run.stderr
    assert "the ledger of `scripted` does not have the trial scripted-" in run.stderr
    assert "Restore it, or start another study beside it with --new" in run.stderr
    if harm == "older":
        assert sweep(home, "sync", "scripted").returncode == EXIT_BAD_INPUT
        assert sweep(home, "doctor").returncode == EXIT_TRIAL_FAILED
    assert points_in_mlflow(uri_of(home), "scripted") == before


def test_a_lost_first_line_creates_no_second_experiment(home: Path) -> None:
    outbox = study_dir(home) / "outbox.jsonl"
    first, rest = outbox.read_bytes().split(b"\n", 1)
    assert b'"open"' in first
    outbox.write_bytes(rest)
    (study_dir(home) / "outbox.ack").unlink()
    assert sweep(home, "sync", "scripted").returncode == EXIT_OK
    names = [each.name for each in open_client(uri_of(home)).search_experiments()]
    assert sorted(names) == ["Default", "scripted"]
    assert points_in_mlflow(uri_of(home), "scripted") == points_in_ledger(home, "scripted")


def test_an_older_copy_of_mlflow_gets_what_is_missing(home: Path, template_db: Path) -> None:
    client = open_client(uri_of(home))
    runs = client.search_runs([client.get_experiment_by_name("scripted").experiment_id])
    one, other = [run for run in runs if "sweeper.trial_id" in run.data.tags][:2]
    client.delete_run(one.info.run_id)
    client.update_run(other.info.run_id, status="RUNNING")
    doctor = sweep(home, "doctor", "--json")
    said = [each["what"] for each in json.loads(doctor.stdout) if each["check"] == "studies.scripted.mlflow"]
    assert len(said) == 2, doctor.stdout
    sync = sweep(home, "sync", "scripted")
    assert sync.returncode == EXIT_OK
    assert "records delivered, MLflow is up to date" in sync.stdout
    assert points_in_mlflow(uri_of(home), "scripted") == points_in_ledger(home, "scripted")
    assert client.get_run(other.info.run_id).info.status == other.info.status

    shutil.copy(template_db, home / "mlflow.db")
    assert sweep(home, "doctor", "--fix", "--json").returncode in (EXIT_OK, EXIT_TRIAL_FAILED)
    fresh = home.with_name("fresh")
    home.rename(fresh)  # MLflow keeps connections to what it once opened
    assert points_in_mlflow(uri_of(fresh), "scripted") == points_in_ledger(fresh, "scripted")
