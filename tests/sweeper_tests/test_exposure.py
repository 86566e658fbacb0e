"""What a real sweep lets others see while it runs and afterwards: sockets, files, secrets. One sweep for all of it."""

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from exposure import MARK, Socket, beyond_loopback, call_ray, holding, listening, marked, names_of, open_to_others
from finished import finish_study
from mlflow_helpers import answers
from places import TESTS
from ports import free_port
from telling_trainer import VARIABLES

from sweeper.cli.main import main
from sweeper.spec.load import parse_spec

pytestmark = pytest.mark.slow

SWEEPER = str(Path(sys.executable).with_name("sweeper"))
SECRETS = {name: f"planted-{index}-{name[::-1]}" for index, name in enumerate(VARIABLES)}
SPEC = """
name: exposed
trainer: telling_trainer:train
base: {epochs: 400, sleep_s: 0.2}
search_space:
  scale: {choices: [1.0, 2.0, 3.0]}
sampler: {name: grid}
objective: {metric: val/pa_mpjpe_mm, mode: min}
controls: []
scheduler: {name: none}
resources: {concurrent: 2, retries: 0}
"""


def until(what: Callable[[], object], process: "subprocess.Popen[str]", within_s: float = 120) -> None:
    deadline = time.monotonic() + within_s
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)


@dataclass
class Seen:
    """A sweep as seen from outside while it ran, and what it left behind."""

    home: Path
    user: Path
    processes: list[str] = field(default_factory=list)
    sockets: list[Socket] = field(default_factory=list)
    called: dict[str, list[str]] = field(default_factory=dict)
    open_files: list[str] = field(default_factory=list)
    scratch: list[str] = field(default_factory=list)
    said: str = ""
    told: str = ""


@pytest.fixture(scope="module")
def seen(fresh_home: Callable[[str], Path]) -> Iterator[Seen]:
    home = fresh_home(SPEC)
    home.chmod(0o700)
    (home / "mlflow.db").chmod(0o600)
    with tempfile.TemporaryDirectory(prefix="seen-") as root:  # short: paths of sockets are below it
        user, mark, told = Path(root) / "user", uuid.uuid4().hex, Path(root) / "told"
        user.mkdir()
        environment = os.environ | SECRETS | {MARK: mark, "HOME": str(user), "TMPDIR": root, "RAY_TMPDIR": root}
        environment |= {
            "SWEEPER_WEBHOOK": f"http://127.0.0.1:1/{SECRETS['SWEEPER_WEBHOOK']}",
            "SWEEPER_NOTIFY_COMMAND": f"sh -c 'cat >> {told}; echo >> {told}'",
            "PYTHONPATH": os.pathsep.join((str(TESTS), os.environ.get("PYTHONPATH", ""))),
        }
        outcome = Seen(home, user)
        driver = subprocess.Popen(
            [SWEEPER, "run", str(home.parent / "spec.yaml"), "--home", str(home)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            umask=0o022,
        )
        trials = home / "studies" / "exposed" / "trials"
        try:
            until(lambda: (trials / "0000" / "error.txt").exists() and len(list(trials.glob("*/epoch_*"))) > 2, driver)
            processes = marked(mark)
            outcome.processes = names_of(processes)
            outcome.sockets = listening(processes)
            if os.getuid() == 0:  # only root becomes another user
                outcome.called = {who: call_ray(outcome.sockets, user, who) for who in ("owner", "another")}
            outcome.open_files = [*open_to_others(home), *open_to_others(user / ".ray")]
            outcome.scratch = [stat.filemode(each.stat().st_mode) for each in Path(root).glob("sweeper-run-*")]
            driver.send_signal(signal.SIGINT)
            outcome.said, _ = driver.communicate(timeout=300)
            assert driver.returncode == 130, outcome.said
            command = [SWEEPER, "report", "exposed", "--home", str(home)]
            done = subprocess.run(command, capture_output=True, text=True, env=environment, umask=0o022, check=True)
            outcome.said += done.stdout + done.stderr
            outcome.told = told.read_text()
        finally:
            for process in marked(mark):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            driver.wait()
        yield outcome


def test_a_local_sweep_can_be_reached_from_this_machine_only(seen: Seen) -> None:
    assert {"gcs_server", "raylet"} <= set(seen.processes)
    assert any(name.startswith("ray::") for name in seen.processes), seen.processes
    ports = {name for name, _, _ in seen.sockets}
    assert {"gcs_server", "raylet"} <= ports  # these do listen, so the check was not in vain
    assert beyond_loopback(seen.sockets) == []


def test_another_user_of_the_machine_is_not_answered_by_ray(seen: Seen) -> None:
    if not seen.called:
        pytest.skip("only root becomes another user")
    assert "in" in seen.called["owner"]  # so the call is one that Ray answers
    assert seen.called["another"]
    assert "in" not in seen.called["another"], seen.called


def test_other_users_can_read_nothing_of_a_home_or_of_ray(seen: Seen) -> None:
    assert seen.scratch == ["drwx------"]  # a closed door: behind it, Ray opens its folders to everybody
    assert (seen.user / ".ray" / "auth_token").is_file()
    assert (seen.home / "studies" / "exposed" / "ledger.journal").is_file()
    assert seen.open_files == []
    assert open_to_others(seen.home) == []


def test_no_secret_from_the_environment_is_left_anywhere(seen: Seen) -> None:
    secrets = list(SECRETS.values())
    error = (seen.home / "studies" / "exposed" / "trials" / "0000" / "error.txt").read_text()
    assert "cannot reach postgresql://***@db/x and s3://***@bucket/x" in error
    assert "scripted_trainer" not in error
    assert holding(seen.home, secrets) == []
    assert holding(seen.home.parent, secrets) == []
    assert [secret for secret in secrets if secret in seen.said + seen.told] == []
    messages = [json.loads(line) for line in seen.told.splitlines() if line]
    assert "failure" in {message["event"] for message in messages}
    assert "the notification by webhook failed" in seen.said


def test_the_ui_can_be_reached_from_this_machine_only(seen: Seen) -> None:
    port, mark = free_port(), uuid.uuid4().hex
    command = [SWEEPER, "ui", "--home", str(seen.home), "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {MARK: mark})
    try:
        until(lambda: answers(port), server)
        sockets = listening(marked(mark))
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=300)
        for process in marked(mark):
            process.kill()
    assert (port, "127.0.0.1") in {(each[2], each[1]) for each in sockets}
    assert beyond_loopback(sockets) == []


# --- the checks can fail


def test_what_a_verb_writes_is_private_and_the_umask_is_restored(tmp_path: Path) -> None:
    spec = parse_spec(SPEC.replace("telling", "scripted"), tmp_path / "spec.yaml")
    before = os.umask(0o022)
    try:
        finish_study(tmp_path / "home", spec, lambda params: params["scale"])
        assert main(["report", "exposed", "--home", str(tmp_path / "home")]) == 0
        report = next((tmp_path / "home").rglob("*.html"))
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
    assert stat.filemode(report.stat().st_mode) == "-rw-------"
    assert str(report.parent) in "".join(open_to_others(tmp_path / "home"))  # made before, outside any verb


def test_the_check_of_sockets_sees_tcp_and_udp_of_a_child(tmp_path: Path) -> None:
    program = "import socket as s, time; a, b = s.socket(), s.socket(s.AF_INET6, s.SOCK_DGRAM)\n"
    program += "a.bind(('0.0.0.0', 0)); a.listen(); b.bind(('::', 0)); print(flush=True); time.sleep(60)"
    mark = uuid.uuid4().hex
    child = subprocess.Popen([sys.executable, "-c", program], env=os.environ | {MARK: mark}, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        assert {address for _, address, _ in beyond_loopback(listening(marked(mark)))} == {"0.0.0.0", "::"}
    finally:
        child.kill()
        child.communicate()


def test_ray_without_its_loopback_setting_would_be_found(tmp_path: Path) -> None:
    """Ray as it binds by default; also the proof that the driver's setting is what keeps it on loopback."""
    program = "import ray; ray.init(address='local', num_cpus=1, include_dashboard=False, log_to_driver=False)\n"
    program += "print(flush=True); input()"
    mark = uuid.uuid4().hex
    with tempfile.TemporaryDirectory(prefix="ray-") as root:
        environment = os.environ | {MARK: mark, "RAY_TMPDIR": root, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}
        command = [sys.executable, "-c", program]
        driver = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        try:
            assert driver.stdout is not None
            assert driver.stdout.readline()
            wide = beyond_loopback(listening(marked(mark)))
        finally:
            driver.communicate(b"\n", timeout=300)
            for process in marked(mark):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
    assert "gcs_server" in {name for name, _, _ in wide}
