"""A ledger in PostgreSQL: its server crashes in mid-sweep, two drivers want one study, and a home is lost and its
study adopted by another one, with a single experiment in MLflow."""

import os
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from checker import Results, check
from faulty import SHORT, FreshHome, begin, wait_until
from forked import Driver
from mlflow_helpers import points_in_ledger, points_in_mlflow
from postgres_server import PostgresServer

from sweeper.cli.main import main
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.storage import bounded_connection
from sweeper.ledger.storage.retrying_storage import RetryingStorage
from sweeper.study.controller import StudyController
from sweeper.tracking.store.client import open_client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MOMENTS = 4
AWAY_S = 0.8


@pytest.fixture(scope="module")
def unbroken(fresh_home: FreshHome) -> Results:
    """What the study finds with its ledger in a file, when nothing goes wrong."""
    home = fresh_home(SHORT)
    assert Driver(home, "run").end()[0] == 0
    return check(home)


@pytest.fixture
def database(postgres_server: PostgresServer, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty database, which the checker reads too."""
    return fresh(postgres_server, f"db{abs(hash(request.node.name)) % 10**8}", monkeypatch)


def fresh(postgres_server: PostgresServer, name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    url = postgres_server.new_database(name)
    monkeypatch.setenv("SWEEPER_LEDGER", url)
    return url


def at_call(number: int, act: Callable[[], Any]) -> None:
    """In a driver: call `act` right before its `number`-th call to the storage."""
    until_answered, calls = RetryingStorage.until_answered, 0

    def counted(self: RetryingStorage, call: Callable[..., Any], *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            act()
        return until_answered(self, call, *arguments)

    RetryingStorage.until_answered = counted  # type: ignore[method-assign]


def crash(postgres_server: PostgresServer, away_s: float) -> None:
    postgres_server.stop()
    postgres_server.restart_after(away_s)


def after_report(trial_id: str, what: Callable[[], None]) -> None:
    """In a driver: do something once the trial's first report is in the ledger."""
    on_report = StudyController.on_report

    def then(self: StudyController, reporting: str, *arguments: Any) -> bool:
        goes_on = on_report(self, reporting, *arguments)
        if reporting == trial_id:
            what()
        return goes_on

    StudyController.on_report = then  # type: ignore[method-assign]


def count_calls(file: Path) -> None:
    """In a driver: record in the file how often the storage is called."""
    until_answered = RetryingStorage.until_answered

    def counted(self: RetryingStorage, call: Callable[..., Any], *arguments: Any) -> Any:
        with file.open("a") as out:
            out.write(".")
        return until_answered(self, call, *arguments)

    RetryingStorage.until_answered = counted  # type: ignore[method-assign]


def test_a_sweep_survives_a_crash_of_the_server_at_several_moments(
    postgres_server: PostgresServer,
    fresh_home: FreshHome,
    unbroken: Results,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    home, url = fresh_home(SHORT), fresh(postgres_server, "whole", monkeypatch)
    assert Driver(home, "run", before=partial(count_calls, tmp_path / "calls"), SWEEPER_LEDGER=url).end()[0] == 0
    check(home, unbroken=unbroken)
    calls = (tmp_path / "calls").stat().st_size
    for moment in range(1, MOMENTS + 1):
        number = 20 + moment * (calls - 40) // MOMENTS  # neither while it is opened nor while it is shown at the end
        home, url = fresh_home(SHORT), fresh(postgres_server, f"moment{moment}", monkeypatch)
        before = partial(at_call, number, partial(crash, postgres_server, AWAY_S))
        code, said = Driver(home, "run", before=before, SWEEPER_LEDGER=url).end()
        assert code == 0, said
        assert "the ledger has not answered since" in said, f"call {number} of {calls}"
        assert "the ledger answers again after" in said
        check(home, unbroken=unbroken)


def test_a_waiting_driver_can_be_interrupted_and_resumed_later(
    postgres_server: PostgresServer, database: str, fresh_home: FreshHome, unbroken: Results
) -> None:
    home = fresh_home(SHORT)
    for way in ("Ctrl-C", "sweeper pause", "patience"):
        options = {"LEDGER_RETRY_LIMIT_S": "1"} if way == "patience" else {}
        before = partial(at_call, 45, postgres_server.stop)
        output = home.parent / "output"
        output.unlink(missing_ok=True)
        driver = Driver(home, "run", before=before, SWEEPER_LEDGER=database, **options)
        wait_until(lambda output=output: output.exists() and "has not answered since" in output.read_text())
        if way == "Ctrl-C":
            os.kill(driver.pid, signal.SIGINT)
        elif way == "sweeper pause":
            assert main(["pause", "scripted", "--home", str(home)]) == 0
        began_s = time.monotonic()
        code, said = driver.end()
        assert time.monotonic() - began_s < 100
        text = " ".join(said.split())
        assert code == (2 if way == "patience" else 130), said
        assert "Traceback" not in said
        assert (
            "has not answered for 1 s" if way == "patience" else "does not answer, and the wait was interrupted"
        ) in text
        postgres_server.start()
    assert Driver(home, "run", SWEEPER_LEDGER=database).end()[0] == 0
    check(home, unbroken=unbroken)


def test_a_server_that_freezes_is_waited_for_like_one_that_is_down(
    postgres_server: PostgresServer, database: str, fresh_home: FreshHome, unbroken: Results
) -> None:
    """It is suspended, so it answers nothing, while its kernel acknowledges everything. First the driver is interrupted
    while it waits, then it waits until the server continues."""
    home = fresh_home(SHORT)
    for way in ("Ctrl-C", "thaw"):
        output = home.parent / "output"
        output.unlink(missing_ok=True)
        before = partial(at_call, 45, partial(freeze_soon_known, postgres_server))
        driver = Driver(home, "run", before=before, SWEEPER_LEDGER=database)
        try:
            wait_until(lambda output=output: output.exists() and "has not answered since" in output.read_text())
            if way == "Ctrl-C":
                began_s = time.monotonic()
                os.kill(driver.pid, signal.SIGINT)
                code, said = driver.end()
                assert time.monotonic() - began_s < 100, "a connection is tried for 10 s"
                assert (code, "Traceback" in said) == (130, False), said
                assert "does not answer, and the wait was interrupted" in " ".join(said.split())
        finally:
            postgres_server.thaw()
    code, said = driver.end()
    assert code == 0, said
    assert "the ledger answers again after" in said
    check(home, unbroken=unbroken)


def freeze_soon_known(postgres_server: PostgresServer) -> None:
    """In a driver: freeze the server, and be less patient with it than in real use."""
    bounded_connection.ANSWER_S = 2.0  # type: ignore[misc]
    postgres_server.freeze()


def test_a_driver_with_another_home_is_refused(
    postgres_server: PostgresServer, database: str, fresh_home: FreshHome, unbroken: Results
) -> None:
    home, other = fresh_home(SHORT), fresh_home(SHORT)
    first = Driver(home, "run", SWEEPER_LEDGER=database, before=partial(at_call, 78, stop_here))
    wait_until(lambda: is_stopped(first.pid))
    code, said = Driver(other, "run", SWEEPER_LEDGER=database).end()
    assert code == 2
    place = f"pid {first.pid} on {os.uname().nodename}"
    assert f"the study `scripted` is being run by another driver ({place})" in " ".join(said.split())
    first.kill()
    code, said = Driver(other, "run", SWEEPER_LEDGER=database).end()
    assert (code, "of another folder" in said) == (2, True), "the study is free, and not this home's"
    assert Driver(home, "run", SWEEPER_LEDGER=database).end()[0] == 0
    check(home, unbroken=unbroken)


@pytest.mark.parametrize("mlflow_is_up", [True, False])
def test_a_study_continues_in_another_home(
    mlflow_is_up: bool,
    postgres_server: PostgresServer,
    fresh_home: FreshHome,
    unbroken: Results,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = postgres_server.new_database(f"lost_{mlflow_is_up}".lower())
    lost, new = fresh_home(SHORT), fresh_home(SHORT)
    store = f"sqlite:///{new}/mlflow.db"
    monkeypatch.setenv("SWEEPER_LEDGER", url)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    options = {"SWEEPER_LEDGER": url, "MLFLOW_TRACKING_URI": store} | ({} if mlflow_is_up else {"MLFLOW_DOWN": "1"})
    first = Driver(lost, "run", before=partial(after_report, "scripted-0001", stop_here), **options)
    wait_until(lambda: is_stopped(first.pid))
    assert main(["resume", "scripted", "--home", str(new), "--adopt"]) == 2, "its driver is there"
    first.kill()
    before = Ledger.open(lost / "studies" / "scripted", "scripted")
    [going_on] = [trial.id for trial in before.trials() if not trial.state.is_finished]
    if mlflow_is_up:  # a shared disk
        shutil.copytree(lost / "studies/scripted/trials", new / "studies/scripted/trials")
    shutil.rmtree(lost)

    options.pop("MLFLOW_DOWN", None)
    code, said = Driver(new, "resume", "scripted", "--adopt", **options).end()
    assert code == (0 if mlflow_is_up else 5), said  # checkpoints that were lost with the home never reach MLflow
    assert f"scripted: taken over from {lost} on " in said
    how = f"resumed from their checkpoints: {going_on}" if mlflow_is_up else f"can be reached from here: {going_on}"
    assert how in said, said
    lost_files = () if mlflow_is_up else lost_checkpoints(new)
    check(new, unbroken=unbroken, damaged=lost_files)
    assert points_in_mlflow(store, "scripted") == points_in_ledger(new, "scripted")
    client = open_client(store)
    assert [each.name for each in client.search_experiments(filter_string="name != 'Default'")] == ["scripted"]
    [experiment] = client.search_experiments(filter_string="name = 'scripted'")
    for run in client.search_runs([experiment.experiment_id]):
        if "sweeper.trial_id" in run.data.tags:
            assert {"trial.yaml", "provenance.json"} <= {each.path for each in client.list_artifacts(run.info.run_id)}
            assert run.data.params.keys() == ({"scale"} if run.data.tags["sweeper.role"] == "candidate" else set())
            assert run.info.start_time <= run.info.end_time


def lost_checkpoints(home: Path) -> tuple[str, ...]:
    """Checkpoints of trials that had ended in the lost home."""
    folder = home / "studies" / "scripted"
    ledger = Ledger.open(folder, "scripted")
    paths = [report.checkpoint for trial in ledger.all_trials() for report in trial.reports]
    return tuple(path for path in paths if path and not (folder / path).exists())


def test_a_home_that_was_given_up_may_take_its_study_back(
    postgres_server: PostgresServer,
    fresh_home: FreshHome,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = postgres_server.new_database("back")
    monkeypatch.setenv("SWEEPER_LEDGER", url)
    old, new = fresh_home(SHORT), fresh_home(SHORT)
    assert Driver(old, "run", SWEEPER_LEDGER=url).end()[0] == 0
    code, said = Driver(new, "resume", "scripted", "--adopt", SWEEPER_LEDGER=url).end()
    assert (code, "MLflow lacks 4 records" in said) == (5, True), said  # they are in `old`
    code, said = Driver(old, "resume", "scripted", SWEEPER_LEDGER=url).end()
    assert code == 2
    assert f"the study `scripted` was taken over by the home {new} on " in " ".join(said.split())
    assert Driver(old, "resume", "scripted", "--adopt", SWEEPER_LEDGER=url).end()[0] == 0
    assert main(["resume", "nothing", "--adopt", "--home", str(new)]) == 2
    assert "contains no study `nothing`" in capsys.readouterr().err
    monkeypatch.delenv("SWEEPER_LEDGER")
    assert main(["resume", "other", "--adopt", "--home", str(new)]) == 2
    assert "which database contains the ledger?" in capsys.readouterr().err


def test_ray_continues_after_the_server_of_ledger_and_mlflow_crashes(
    postgres_server: PostgresServer, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = postgres_server.new_database("mlflow").replace("postgresql", "postgresql+psycopg")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    home = tmp_path / "home"
    (tmp_path / "spec.yaml").write_text(SHORT.replace("epochs: 2", "epochs: 4, sleep_s: 0.5"))
    process = begin(home, ray=True)
    outbox = home / "studies" / "scripted" / "outbox.jsonl"
    wait_until(lambda: outbox.exists() and '"trial":"scripted-0001"' in outbox.read_text(), 200)
    postgres_server.stop()
    time.sleep(3)
    assert process.poll() is None
    postgres_server.start()
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "the ledger answers again after" in errors
    check(home)
    assert points_in_mlflow(store, "scripted") == points_in_ledger(home, "scripted")


def stop_here() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
