"""Notifications, against a server and a command that are really called."""

import json
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from studies import make_spec

from mano_trainers.report import EpochReport
from sweeper.errors import UserError
from sweeper.ledger.ledger import Ledger
from sweeper.lifecycle import notifications as notify
from sweeper.study.controller import StudyController

OBJECTIVE = "val/pa_mpjpe_mm"


class Service:
    """The other end of a webhook; answers with `status`."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.status = 200
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                service.got.append(json.loads(body))
                self.send_response(service.status)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook/s3cret"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.server.shutdown()
    service.server.server_close()


def sweep(study: StudyController, ending: Callable[[StudyController, str], None], trials: int) -> None:
    """Start `trials` trials, one after the other, and end each of them this way."""
    for _ in range(trials):
        upcoming = study.next_trial()
        assert upcoming is not None
        ending(study, upcoming.record.id)


def report(study: StudyController, trial_id: str, **metrics: float) -> None:
    metrics = {OBJECTIVE: 12.0, "val/theta_var_ratio": 0.5, "val/theta_r2": 0.5, **metrics}
    study.on_report(trial_id, EpochReport(1, 1.0, metrics, total_epochs=1.0))


def complete(study: StudyController, trial_id: str) -> None:
    report(study, trial_id)
    study.on_end(trial_id)


def collapse(study: StudyController, trial_id: str) -> None:
    for epoch in (1, 2):
        metrics = {OBJECTIVE: 22.0, "val/theta_var_ratio": 0.001, "val/theta_r2": 0.0}
        study.on_report(trial_id, EpochReport(epoch, float(epoch), metrics, total_epochs=4.0))


def heard(service: Service, count: int) -> None:
    """Wait until the service has received this many events; there must be no more."""
    deadline_s = time.monotonic() + 10
    while len(service.got) < count and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert len(service.got) == count


def open_study(tmp_path: Path, **spec: Any) -> StudyController:
    return StudyController(make_spec(**{"scheduler": {"name": "none"}, **spec}), Ledger.create(tmp_path, "toy"), [])


def attached(study: StudyController, complaints: list[str], **environment: str) -> notify.Notifier:
    notifier = notify.attach(study, notify.channels(environment), complaints.append)
    assert notifier is not None
    return notifier


def test_a_study_that_ends_well_says_so_once(tmp_path: Path, service: Service) -> None:
    study, complaints = open_study(tmp_path, trials=2), list[str]()
    notifier = attached(study, complaints, SWEEPER_WEBHOOK=service.url)
    sweep(study, complete, 2)
    notifier.close(study)
    [message] = service.got
    assert (message["event"], message["study"], complaints) == ("end", "toy", [])
    assert message["text"].startswith("toy: has finished\nbest trial: toy-0000")


def test_a_wave_of_collapses_and_a_failure_are_reported_once_each(tmp_path: Path, service: Service) -> None:
    study = open_study(tmp_path, trials=9)
    notifier = attached(study, [], SWEEPER_WEBHOOK=service.url)
    sweep(study, collapse, 4)
    sweep(study, lambda study, trial_id: study.on_error(trial_id, "ValueError: boom"), 2)
    notifier.close(study)
    assert [message["event"] for message in service.got] == ["collapse", "failure", "end"]
    assert "3 of the 3 trials that ended here have collapsed" in service.got[0]["text"]
    assert "toy-0004 failed: ValueError: boom" in service.got[1]["text"]
    assert service.got[2]["text"].startswith("toy: was interrupted\n")


def test_three_collapses_in_seven_trials_are_not_a_wave(tmp_path: Path, service: Service) -> None:
    study = open_study(tmp_path, trials=9)
    notifier = attached(study, [], SWEEPER_WEBHOOK=service.url)
    sweep(study, complete, 4)
    sweep(study, collapse, 3)
    notifier.close(study)
    assert [message["event"] for message in service.got] == ["end"]


def test_a_budget_is_reported_at_80_percent(tmp_path: Path, service: Service) -> None:
    now_s = 0.0
    spec = make_spec(trials=3, scheduler={"name": "none"}, budget={"cpu_seconds": 10.0})
    study = StudyController(spec, Ledger.create(tmp_path, "toy"), [], clock=lambda: now_s)
    notifier = attached(study, [], SWEEPER_WEBHOOK=service.url)
    for seconds, told in ((7.9, 0), (0.2, 1), (0.5, 1)):
        upcoming = study.next_trial()
        assert upcoming is not None
        now_s += seconds
        complete(study, upcoming.record.id)
        heard(service, told)
    notifier.close(study)
    assert [message["event"] for message in service.got] == ["budget", "end"]
    assert "80% of a budget is used up: used" in service.got[0]["text"]


def test_a_command_gets_the_message_on_standard_input(tmp_path: Path) -> None:
    told = tmp_path / "told"
    program = f"import sys; open({str(told)!r}, 'a').write(sys.stdin.read() + '\\n')"
    study, complaints = open_study(tmp_path, trials=1), list[str]()
    notifier = attached(study, complaints, SWEEPER_NOTIFY_COMMAND=shlex.join([sys.executable, "-c", program]))
    sweep(study, complete, 1)
    notifier.close(study)
    assert json.loads(told.read_text())["event"] == "end"
    assert complaints == []


def test_a_notification_that_cannot_be_sent_is_reported_without_the_address(tmp_path: Path, service: Service) -> None:
    service.status = 500
    study, complaints = open_study(tmp_path, trials=1), list[str]()
    notifier = attached(
        study, complaints, SWEEPER_WEBHOOK=service.url, SWEEPER_NOTIFY_COMMAND=f"{sys.executable} -c 'exit(7)'"
    )
    sweep(study, complete, 1)
    notifier.close(study)
    assert complaints == [
        "the notification by webhook failed: the service answers 500",
        "the notification by command failed: it ended with code 7",
    ]


def test_without_settings_in_the_environment_nobody_is_notified(tmp_path: Path) -> None:
    assert notify.channels({}) is None
    assert notify.attach(open_study(tmp_path), None, print) is None


@pytest.mark.parametrize("url", ["ftp://host/s3cret", "s3cret", "http:///s3cret"])
def test_an_invalid_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UserError, match="not an http or https URL") as caught:
        notify.channels({"SWEEPER_WEBHOOK": url})
    assert "s3cret" not in caught.value.render()


def test_an_invalid_command_is_refused() -> None:
    with pytest.raises(UserError, match="no command: No closing quotation"):
        notify.channels({"SWEEPER_NOTIFY_COMMAND": "tell 'me"})
