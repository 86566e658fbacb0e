"""A home that keeps a copy is killed and wiped: the study continues from the copy on another machine."""

import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checker import Results, check
from faulty import SHORT, FreshHome, wait_until
from forked import Driver
from mlflow_helpers import points_in_ledger, points_in_mlflow, uri_of
from s3_server import BUCKET, s3_server

from sweeper.checkpoints.copy_place import open_place
from sweeper.errors import UserError
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.storage.location import JOURNAL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SLOWLY = SHORT.replace("epochs: 2", "epochs: 2, sleep_s: 0.6")


@pytest.fixture(scope="module")
def unbroken(fresh_home: FreshHome) -> Results:
    home = fresh_home(SHORT)
    assert Driver(home, "run").end()[0] == 0
    return check(home)


@pytest.fixture(params=["folder", "store"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, dict[str, str]]]:
    """Where the copy is, and what a driver needs to reach it."""
    if request.param == "folder":
        yield str(tmp_path / "drive"), {}
        return
    with s3_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield f"s3://{BUCKET}/copies", server.environment


def ended(home: Path) -> dict[str, Any]:
    """ID of each trial that has ended -> what it reported."""
    try:
        ledger = Ledger.open(home / "studies" / "scripted", "scripted")
    except UserError:  # it is just being created
        return {}
    return {trial.id: trial.reports for trial in ledger.all_trials() if trial.state.is_finished}


def newest(where: str) -> int:
    """The number of the copy's last state."""
    states = [name for name in open_place(where, "scripted").names() if name.startswith("state-")]
    return max((int(name[6:-4]) for name in states), default=0)


def test_a_wiped_home_is_continued_from_its_copy(
    place: tuple[str, dict[str, str]], fresh_home: FreshHome, unbroken: Results
) -> None:
    where, environ = place
    lost, new = fresh_home(SLOWLY), fresh_home(SLOWLY)
    driver = Driver(lost, "run", "--sync-to", where, **environ)
    wait_until(lambda: len(ended(lost)) >= 2)
    before = ended(lost)
    seen = newest(where)
    # The first of these states may already have been on its way when the trials ended.
    wait_until(lambda: newest(where) >= seen + 2 or not driver.is_running)
    driver.kill()
    shutil.rmtree(lost)

    code, said = Driver(new, "resume", "scripted", "--from", where, **environ).end()
    assert code == 0, said
    check(new, unbroken=unbroken)
    after = ended(new)
    assert {trial: after[trial] for trial in before} == before, "nothing finished is lost, or trained again"
    assert points_in_mlflow(uri_of(new), "scripted") == points_in_ledger(new, "scripted")

    again = fresh_home(SLOWLY)  # the copy was kept up to date, and `run` finds it by itself
    code, said = Driver(again, "run", "--sync-to", where, **environ).end()
    assert code == 0, said
    assert f"note: the study `scripted` continues from its copy in {where}" in said
    assert ended(again) == after
    check(again, unbroken=unbroken)


def test_a_copy_cut_off_in_its_last_write_is_used_as_it_was_before(fresh_home: FreshHome, tmp_path: Path) -> None:
    home, where = fresh_home(SHORT), tmp_path / "drive"
    assert Driver(home, "run", "--sync-to", str(where)).end()[0] == 0
    states = sorted((where / "scripted").glob("state-*.zip"))
    assert len(states) == 2, "older ones are removed"
    with zipfile.ZipFile(states[-1]) as archive:
        assert archive.read(JOURNAL) == (home / "studies" / "scripted" / JOURNAL).read_bytes(), "to the last record"
    states[-1].write_bytes(states[-1].read_bytes()[:-40])
    weights = sorted((where / "scripted" / "trials").rglob("weights.safetensors"))
    weights[0].write_bytes(weights[0].read_bytes()[:-1])
    new = fresh_home(SHORT)
    code, said = Driver(new, "resume", "scripted", "--from", str(where)).end()
    assert (code, "MLflow lacks 1 records" in said) == (5, True), said
    there = {path.relative_to(new / "studies" / "scripted") for path in (new / "studies/scripted").rglob("weights.*")}
    assert len(there) == len(weights) - 1, "a checkpoint that is not whole is none"
    for state in (where / "scripted").glob("state-*.zip"):
        state.write_bytes(b"PK")
    code, said = Driver(fresh_home(SHORT), "resume", "scripted", "--from", str(where)).end()
    assert (code, "no state of the copy of `scripted` is complete" in said) == (2, True), said


def test_what_keeps_a_copy_from_being_made_or_used_is_reported(fresh_home: FreshHome, tmp_path: Path) -> None:
    home, where = fresh_home(SHORT), str(tmp_path / "drive")
    assert Driver(home, "run", "--sync-to", where).end()[0] == 0
    (tmp_path / "file").write_text("")
    other = fresh_home(SLOWLY)
    driver = Driver(other, "run")
    wait_until(lambda: len(ended(other)) >= 1)
    driver.kill()
    cases = [
        (home, ["resume", "scripted", "--from", where], "the home already has a study `scripted`"),
        (
            fresh_home(SHORT),
            ["resume", "scripted", "--from", str(tmp_path / "none")],
            "no copy of a study `scripted`",
        ),
        (fresh_home(SHORT), ["run", "--sync-to", str(tmp_path / "file")], "the copy cannot be kept: "),
        (fresh_home(SHORT), ["run", "--sync-to", "gs://bucket/x"], "a copy cannot be kept in `gs://bucket/x`"),
        (other, ["resume", "scripted", "--sync-to", where], "the copy is of another study"),
        (home, ["resume", "scripted", "--from", where, "--adopt"], "--from cannot be used together with"),
    ]
    for where_to, line, said_is in cases:
        code, said = Driver(where_to, *line).end()
        assert (code, "Traceback" in said) == (2, False), said
        assert said_is in " ".join(said.split()), said


def test_a_copy_made_by_others_cannot_write_outside_the_home(fresh_home: FreshHome, tmp_path: Path) -> None:
    home, where = fresh_home(SHORT), tmp_path / "drive"
    assert Driver(home, "run", "--sync-to", str(where)).end()[0] == 0
    newest = sorted((where / "scripted").glob("state-*.zip"))[-1]
    with zipfile.ZipFile(newest) as archive:
        kept = {name: archive.read(name) for name in archive.namelist()}
    changes = (("../evil", b"x", 0), ("..", b"x", 0), ("files.json", b'{"trials/../../../evil": [1, 1]}', 5))
    for name, content, expected in changes:
        with zipfile.ZipFile(newest, "w") as archive:
            for each, data in (kept | {name: content}).items():
                archive.writestr(each, data)
        new = fresh_home(SHORT)
        code, said = Driver(new, "resume", "scripted", "--from", str(where)).end()
        assert code == expected, "5: MLflow's checkpoints are not in the copy's list of files"
        assert "the study `scripted` is complete" in said
        assert not list(new.parent.rglob("evil"))


def test_a_copy_that_fails_does_not_stop_the_run(fresh_home: FreshHome, tmp_path: Path, unbroken: Results) -> None:
    home, where = fresh_home(SLOWLY), tmp_path / "drive"
    driver = Driver(home, "run", "--sync-to", str(where))
    wait_until(lambda: list(where.glob("scripted/state-*.zip")))
    os.rename(where, tmp_path / "away")
    where.write_text("the drive is not mounted any more")
    code, said = driver.end()
    assert code == 0, said
    assert "the run continues, and the copy is tried again" in said
    assert "lacks what is new" in said
    check(home, unbroken=unbroken)
