"""A home whose ledger is in a database is copied: the copy takes over the study, and the original says so."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from checker import check
from faulty import SHORT, FreshHome
from forked import Driver
from mlflow_helpers import points_in_ledger, points_in_mlflow
from postgres_server import PostgresServer

from sweeper.study.controller import StudyController

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.new_database(f"copied_{abs(hash(request.node.name)) % 10**8}")


def killed_in_its_second_trial() -> None:
    """In a driver: kill it during its second trial."""
    on_report = StudyController.on_report

    def then(self: StudyController, trial_id: str, *arguments: Any) -> bool:
        goes_on = on_report(self, trial_id, *arguments)
        if trial_id == "scripted-0001":
            os.kill(os.getpid(), signal.SIGKILL)
        return goes_on

    StudyController.on_report = then  # type: ignore[method-assign]


@pytest.mark.parametrize("mlflow", ["one for both", "each its own"])
def test_a_copy_takes_over_a_study_whose_ledger_is_in_a_database(
    ledger_url: str, mlflow: str, fresh_home: FreshHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = fresh_home(SHORT)
    copy = home.with_name("copy")
    environ = {"SWEEPER_LEDGER": ledger_url}
    if mlflow == "one for both":
        environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{home}/mlflow.db"
    for name, value in environ.items():
        monkeypatch.setenv(name, value)  # which the checker reads
    code, said = Driver(home, "run", before=killed_in_its_second_trial, **environ).end()
    assert code == -9, said
    assert Driver(home, "pause", "scripted", **environ).end()[0] == 2, "nobody drives it"
    shutil.copytree(home, copy)

    code, said = Driver(copy, "resume", "scripted", **environ).end()
    said = " ".join(said.split())
    assert code == 2, said
    assert f"continues in {home}/studies/scripted, and this copy would write to the same ledger" in said
    code, said = Driver(copy, "resume", "scripted", "--fork", **environ).end()
    assert (code, "the copy shares its ledger with its original" in " ".join(said.split())) == (2, True), said

    code, said = Driver(copy, "resume", "scripted", "--adopt", **environ).end()
    assert code == 0, said
    assert f"scripted: taken over from {home} on " in said
    check(copy)
    store = environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{copy}/mlflow.db")
    assert points_in_mlflow(store, "scripted") == points_in_ledger(copy, "scripted")

    for verb in (("resume", "scripted"), ("run",), ("extend", "scripted", "--trials", "1"), ("sync", "scripted")):
        code, said = Driver(home, *verb, **environ).end()
        assert code == 2, said
        assert str(copy) in said.replace("\n", ""), said
    assert Driver(copy, "resume", "scripted", **environ).end()[0] == 0
    code, said = Driver(home, "resume", "scripted", "--adopt", **environ).end()
    assert code in (0, 5), said  # 5: what the copy trained is stored there
    assert f"taken over from {copy} on " in said
    assert Driver(copy, "resume", "scripted", **environ).end()[0] == 2
