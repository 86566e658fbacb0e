"""`sweeper doctor`: what it finds in a home and around it, what it fixes, and that without --fix it only looks."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from mlflow_helpers import runs_of, uri_of
from studies import make_spec

from mano_trainers import checkpoint
from mano_trainers.checkpoint import Checkpoint
from sweeper.cli.main import main
from sweeper.executor.worker import scratch
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.storage.location import JOURNAL
from sweeper.ledger.study_lock import study_lock
from sweeper.ledger.trial import Report, TrialState
from sweeper.maintenance import machine as doctor_machine

OBJECTIVE = "val/pa_mpjpe_mm"


def write_checkpoint(folder: Path) -> None:
    checkpoint.save(folder, Checkpoint(1, 1.0, {}, {}, {}))


@pytest.fixture
def home(tmp_path: Path, template_db: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of one finished trial with its checkpoint; there is nothing to find."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # another run's scratch is not this test's business
    folder = tmp_path / "home" / "studies" / "toy"
    folder.mkdir(parents=True)
    shutil.copy(template_db, tmp_path / "home" / "mlflow.db")
    ledger = Ledger.create(folder, "toy")
    spec = make_spec(trials=1)
    ledger.attributes.spec = spec.effective
    trial_id = ledger.ask(spec).id
    write_checkpoint(folder / "trials" / "0000" / "epoch_001")
    ledger.report(trial_id, Report(1, 1.0, {OBJECTIVE: 9.0}, "trials/0000/epoch_001", 1), 9.0)
    ledger.finish(trial_id, TrialState.COMPLETE, "ran all 1 epochs", {}, (9.0,))
    return tmp_path / "home"


def examine(home: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, dict[str, Any]]]:
    code = main(["doctor", "--home", str(home), "--json", *options])
    return code, {found["check"]: found for found in json.loads(capsys.readouterr().out)}


def files_of(home: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file()}


def test_a_sound_home_has_nothing_to_fix(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = examine(home, capsys)
    assert code == 0, found
    assert found["studies.toy"]["what"] == "ledger and checkpoints are intact"
    assert {"packages.floors", "packages.torch_pair", "processes.left_over", "ports.open"} <= set(found)


def damage_everything(folder: Path) -> None:
    write_checkpoint(folder / "trials" / "0000" / "epoch_002")  # its report was never stored
    (folder / "trials" / "0000" / ".epoch_003.x").mkdir()
    (folder / "meter.tmp").write_text("{")
    (folder / "outbox.jsonl").write_text('{"op": "report"}\n{"op": "report"}\n')
    (folder / "outbox.ack").write_text("17\n")
    with open(folder / JOURNAL, "ab") as journal:
        journal.write(b'{"op_code": 4, "wor')


def test_without_fix_everything_is_reported_and_nothing_changed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage_everything(home / "studies" / "toy")
    before = files_of(home)
    code, found = examine(home, capsys)
    assert code == 1
    assert files_of(home) == before
    told = {name.removeprefix("studies.toy."): each["what"] for name, each in found.items() if "toy." in name}
    assert set(told) == {"ledger", "orphans", "left_over", "outbox"}
    assert told["ledger"].startswith("the last line was cut off by a crash (19 bytes")
    assert told["orphans"].startswith("1 checkpoints")
    assert told["outbox"] == "1 records wait for MLflow"


def test_fix_repairs_what_it_can_and_loses_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = home / "studies" / "toy"
    damage_everything(folder)
    (folder / "outbox.jsonl").write_text("")  # everything was delivered, to a store that has lost it
    (folder / "outbox.ack").unlink()
    assert "1 trials have no run in MLflow: toy-0000" in examine(home, capsys)[1]["studies.toy.mlflow"]["what"]
    examine(home, capsys, "--fix")
    code, found = examine(home, capsys)
    assert code == 0, found
    assert [path.name for path in (folder / "trials" / "0000").iterdir()] == ["epoch_001"]
    [trial] = Ledger.open(folder, "toy").trials()
    assert (trial.state, len(trial.reports)) == (TrialState.COMPLETE, 1)
    assert {name: run.info.status for name, run in runs_of(uri_of(home)).items()} == {
        "toy-0000": "FINISHED",
        "toy": "KILLED",  # no driver wrote its report
    }


def test_a_damaged_checkpoint_fails_and_is_left_to_the_user(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = home / "studies" / "toy" / "trials" / "0000" / "epoch_001" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    code, found = examine(home, capsys, "--fix")
    assert (code, found["studies.toy.checkpoint"]["status"]) == (1, "FAIL")
    assert "weights.safetensors does not match the manifest" in found["studies.toy.checkpoint"]["what"]


def test_what_gc_has_collected_is_not_reported_as_damaged(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = home / "studies" / "toy" / "trials" / "0000" / "epoch_001"
    for path in folder.iterdir():
        if path.name != "manifest.json":
            path.unlink()  # as gc does
    code, found = examine(home, capsys)
    assert code == 0, found
    what = "of 1 checkpoints of ended trials 1 were collected by `sweeper gc`"
    assert found["studies.toy.checkpoints"]["what"] == what
    shutil.rmtree(folder)
    code, found = examine(home, capsys)
    assert found["studies.toy.checkpoints"]["what"].endswith("1 are missing, trials/0000/epoch_001 first")


def test_a_missing_checkpoint_of_an_unfinished_trial_is_reported(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = Ledger.create(home / "studies" / "toy", "toy")
    trial_id = ledger.ask(make_spec(trials=2)).id
    ledger.report(trial_id, Report(1, 1.0, {OBJECTIVE: 9.0}, "trials/0001/epoch_001", 1), 9.0)
    ledger.close()
    code, found = examine(home, capsys)
    assert code == 1
    what = "trials/0001/epoch_001 of toy-0001, which has not ended, is missing"
    assert found["studies.toy.checkpoint"]["what"] == what


def test_a_running_study_is_left_alone(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with study_lock(home / "studies" / "toy"):
        damage_everything(home / "studies" / "toy")
        before = files_of(home)
        code, found = examine(home, capsys, "--fix")
        assert files_of(home) == before
    assert code == 0
    assert found["studies.toy"]["what"].startswith(f"is being run by pid {os.getpid()}")


def test_an_interrupted_study_is_reported(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Ledger.create(home / "studies" / "toy", "toy").ask(make_spec(trials=2))
    code, found = examine(home, capsys)
    assert code == 1
    assert "toy-0001" in found["studies.toy.unfinished"]["what"]
    assert found["studies.toy.unfinished"]["help"].startswith("sweeper resume toy")


SLEEPER = "import socket, time; s = socket.socket(); s.bind(('0.0.0.0', 0)); s.listen(); time.sleep(60)"


def test_processes_of_a_driver_that_is_gone_are_ended(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_machine, "processes_of_killed_drivers", set)  # other tests kill some
    environment = os.environ | {"TRAINERS_CACHE_DIR": str(home / "data")}
    # the driver in between ends at once, and its child is orphaned
    child = f"subprocess.Popen([sys.executable, '-c', {SLEEPER!r}], stdout=subprocess.DEVNULL)"
    driver = f"import subprocess, sys; print({child}.pid)"
    command = [sys.executable, "-c", driver]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=300)
    pid = int(done.stdout)
    ours = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env=environment)
    try:
        deadline_s = time.monotonic() + 30
        while not doctor_machine.open_ports({pid}) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        _, found = examine(home, capsys)
        assert f"pids {pid}" in found["processes.left_over"]["what"]
        assert f"(pid {pid})" in found["ports.open"]["what"]
        _, found = examine(home, capsys, "--fix")
        assert found["processes.left_over"]["fixed"] == "ended 1 processes"
        assert not Path(f"/proc/{pid}/fd").exists() or not doctor_machine.open_ports({pid})
        assert ours.poll() is None, "its parent lives"
    finally:
        ours.kill()
        ours.wait()


def test_a_port_on_the_loopback_device_is_not_open(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)), socket.create_server(("0.0.0.0", 0)) as wide:
        assert doctor_machine.open_ports({os.getpid()}) == [(os.getpid(), wide.getsockname()[1])]


def test_an_old_package_and_a_mismatched_torch_pair_fail(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    version = metadata.version
    monkeypatch.setattr(
        metadata, "version", lambda name: {"ray": "2.50.0", "torch": "2.12.0"}.get(name) or version(name)
    )
    code, found = examine(home, capsys)
    assert code == 1
    assert "ray 2.50.0 is not >=2.56" in found["packages.floors"]["what"]
    assert found["packages.torch_pair"]["status"] == "FAIL"
    assert found["packages.torch_pair"]["help"].startswith("pip install 'torchvision==0.27.*'")


def test_scratch_of_killed_drivers_is_removed(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "scratch_parent", lambda: home.parent)
    folder = home.parent / "sweeper-run-abc"
    (folder / "tune").mkdir(parents=True)
    assert examine(home, capsys)[1]["processes.scratch"]["status"] == "WARN"
    assert folder.exists()
    examine(home, capsys, "--fix")
    assert not folder.exists()
