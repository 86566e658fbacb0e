"""The lock that a driver holds on its study in a PostgreSQL: one driver, wherever its home is."""

import os
import subprocess
from pathlib import Path
from threading import Timer

import psycopg
import pytest
from ledgers import open_on_server
from postgres_server import PostgresServer

from sweeper.errors import StudyTaken, UserError
from sweeper.ledger.storage import advisory_lock as advisory
from sweeper.ledger.study_lock import running_driver

pytestmark = pytest.mark.slow


def test_a_study_has_one_driver_wherever_its_home_is(postgres_server: PostgresServer, tmp_path: Path) -> None:
    first = open_on_server(tmp_path / "a" / "held", postgres_server)
    me = f"pid {os.getpid()} on {os.uname().nodename}"
    with pytest.raises(StudyTaken, match=f"the study `held` is being run by another driver .{me}"):
        open_on_server(tmp_path / "b" / "held", postgres_server)
    assert running_driver(tmp_path / "a" / "held") == me
    first.close()
    assert running_driver(tmp_path / "a" / "held") is None
    with pytest.raises(UserError, match="contains a study `held` of another folder"):
        open_on_server(tmp_path / "b" / "held", postgres_server)
    open_on_server(tmp_path / "a" / "held", postgres_server).close()


def test_a_driver_takes_its_study_again_after_a_restart_or_stops(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    ledger = open_on_server(tmp_path / "a" / "again", postgres_server)
    postgres_server.stop()
    postgres_server.start()
    ledger.attributes.store("note", 1)
    with pytest.raises(StudyTaken):
        open_on_server(tmp_path / "b" / "again", postgres_server)
    postgres_server.stop()
    postgres_server.start()
    other = psycopg.connect(postgres_server.url(), application_name="sweeper 00000000 pid 7 on elsewhere")
    advisory.take(other, "again", advisory.Driver("00000000", "pid 7 on elsewhere"))
    with pytest.raises(StudyTaken, match=r"another driver \(pid 7 on elsewhere"):
        ledger.attributes.store("note", 2)
    other.close()
    assert ledger.attributes.stored["note"] == 1


def test_a_connection_that_only_the_server_believes_in_gives_the_study_back(postgres_server: PostgresServer) -> None:
    """What is left of a driver that was cut off for a while."""
    driver = advisory.this_driver()
    zombie = psycopg.connect(postgres_server.url(), application_name=driver.name)
    advisory.take(zombie, "haunted", driver)
    with psycopg.connect(postgres_server.url(), application_name=driver.name) as connection:
        advisory.take(connection, "haunted", driver)
        assert advisory.holder(connection, "haunted") == driver.place
    with pytest.raises(psycopg.OperationalError):
        zombie.execute("SELECT 1")


def test_a_driver_that_was_killed_just_now_is_waited_for(postgres_server: PostgresServer) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    killed = advisory.Driver("0", f"pid {process.pid} on {os.uname().nodename}")
    left = psycopg.connect(postgres_server.url(), application_name=killed.name)
    advisory.take(left, "quick", killed)
    Timer(0.5, left.close).start()
    with psycopg.connect(postgres_server.url()) as connection:
        advisory.take(connection, "quick", advisory.this_driver())
