"""What another terminal asks of a driver, and what was left for an earlier one."""

import json
import os
import threading
from pathlib import Path

import pytest

from sweeper.study import requests


def lock(folder: Path, at_s: float) -> None:
    (folder / "lock").touch()
    os.utime(folder / "lock", (at_s, at_s))


def leave(folder: Path, text: str, at_s: float) -> None:
    (folder / "request").write_text(text)
    os.utime(folder / "request", (at_s, at_s))


def taken(folder: Path) -> str | None:
    asked = requests.take(folder)
    return asked.request if asked else None


def test_a_driver_takes_a_request_and_the_sender_hears_of_it(tmp_path: Path) -> None:
    answers: list[bool] = []
    asker = threading.Thread(target=lambda: answers.append(requests.ask(tmp_path, "pause")))
    asker.start()
    while not (tmp_path / "request").exists():
        pass
    asked = json.loads((tmp_path / "request").read_text())
    assert asked["by"] == f"pid {os.getpid()} on {os.uname().nodename}"
    assert requests.take(tmp_path, "stop") is None, "not this one"
    assert taken(tmp_path) == "pause"
    asker.join(240)
    assert answers == [True]
    assert requests.take(tmp_path) is None


def test_a_request_carries_its_trial_or_its_params(tmp_path: Path) -> None:
    for request, more in (("stop", {"trial": "toy-0003"}), ("enqueue", {"params": {"lr": 0.1, "head": "mlp", "n": 2}})):
        leave(tmp_path, json.dumps({"request": request, "by": "me", "at": "now"} | more), 1.0)
        asked = requests.take(tmp_path)
        assert asked is not None
        assert (asked.trial, dict(asked.params)) == (more.get("trial", ""), more.get("params", {}))


def test_a_sender_that_gives_up_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "ANSWER_S", 0.2)
    assert not requests.ask(tmp_path, "stop")
    assert list(tmp_path.iterdir()) == []


def test_the_requests_of_an_earlier_version_are_understood(tmp_path: Path) -> None:
    leave(tmp_path, "stop", 1.0)
    assert taken(tmp_path) == "stop"


@pytest.mark.parametrize("text", ["", "{", '{"request": "dance"}', "[]", "\udcff"])
def test_a_request_that_makes_no_sense_is_dropped(tmp_path: Path, text: str) -> None:
    (tmp_path / "request").write_text(text, errors="surrogateescape")
    assert requests.take(tmp_path) is None
    assert not (tmp_path / "request").exists()


def test_a_driver_drops_a_request_to_an_earlier_one_and_says_so(tmp_path: Path) -> None:
    leave(tmp_path, json.dumps({"request": "stop", "by": "pid 7 on there", "at": "2026-01-02 03:04:05"}), 10.0)
    lock(tmp_path, 20.0)
    said = requests.clear_older(tmp_path)
    assert said == "a request to stop, left by pid 7 on there at 2026-01-02 03:04:05 for an earlier driver, was dropped"
    assert requests.take(tmp_path) is None


def test_a_request_to_this_driver_stays(tmp_path: Path) -> None:
    lock(tmp_path, 20.0)
    leave(tmp_path, "pause", 20.0)
    assert requests.clear_older(tmp_path) is None
    assert taken(tmp_path) == "pause"
