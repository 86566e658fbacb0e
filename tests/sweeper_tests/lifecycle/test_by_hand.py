"""The verbs with which a user adds a trial to a study, stops one of its trials, and removes the study."""

import os
import pty
import subprocess
from pathlib import Path

import pytest
from checker import check, results
from faulty import SPEC, FreshHome, begin, command, environment, sweep, wait_until
from finished import finish_study
from mlflow_helpers import uri_of
from sweeps import mlflow_runs

from sweeper.cli import main as cli
from sweeper.errors import UserError
from sweeper.ledger.ledger import Ledger
from sweeper.lifecycle.enqueue import chosen_params, enqueue
from sweeper.lifecycle.stop import stop_trial
from sweeper.spec.load import parse_spec
from sweeper.tracking.store.client import open_client

SPACE = """
name: toy
trainer: scripted_trainer:train
base: {epochs: 2}
search_space:
  scale: {low: 0.5, high: 10.0}
  threads: {type: int, low: 1, high: 4}
  noise: {choices: [true, false]}
  noise_mm: {low: 0.1, high: 1.0, when: {noise: true}}
constraints: [scale >= threads]
objective: {metric: val/pa_mpjpe_mm, mode: min}
trials: 3
"""


def test_a_chosen_configuration_is_complete_and_valid() -> None:
    spec = parse_spec(SPACE, Path("toy.yaml"))
    like = {"scale": 3.0, "threads": 2, "noise": True, "noise_mm": 0.5}
    assert chosen_params(spec, ["scale=4"], like) == like | {"scale": 4.0}
    assert chosen_params(spec, ["noise=false"], like) == {"scale": 3.0, "threads": 2, "noise": False}
    refused = {
        "scale": "expected key=value but got `scale`",
        "scale=20": "`scale` cannot be 20.0",
        "threads=1.5": "`threads` cannot be 1.5",
        "noise=1": "`noise` cannot be 1",
        "scael=2": "the search space has no parameter `scael`",
        "scale=1": "the constraints of `toy` do not hold",
    }
    for setting, message in refused.items():
        with pytest.raises(UserError) as caught:
            chosen_params(spec, [setting], like)
        assert caught.value.problems[0].what == message
    with pytest.raises(UserError, match="a trial with these values has no `noise_mm`"):
        chosen_params(spec, ["noise=false", "noise_mm=0.2"], like)
    with pytest.raises(UserError, match="no value for `threads`"):
        chosen_params(spec, ["scale=2"], {})


def test_a_refused_configuration_adds_nothing(tmp_path: Path) -> None:
    finish_study(tmp_path, parse_spec(SPACE, Path("toy.yaml")), lambda params: float(params["scale"]))
    for setting, problem in (("scale=20", "`scale` cannot be 20"), ("scael=1", "scael")):
        with pytest.raises(UserError, match=problem):
            enqueue(tmp_path, "toy", [setting], "toy:best")
    with pytest.raises(UserError, match="no trial `toy-0009`"):
        enqueue(tmp_path, "toy", ["scale=5"], "toy-0009")
    assert Ledger.open(tmp_path / "studies" / "toy", "toy").count == 3


@pytest.mark.slow
def test_a_trial_added_to_a_finished_study_is_trained_by_the_next_run(fresh_home: FreshHome) -> None:
    home = fresh_home(SPEC)
    assert sweep(home, "run").returncode == 0
    before = results(home)
    added = sweep(home, "enqueue", "scripted", "scale=0.5")
    assert added.stdout == f"scripted-0004: added; `sweeper resume scripted --home {home}` runs it: scale=0.5\n"
    assert "5 of 5 trials: 1 WAITING" in sweep(home, "status", "scripted").stdout
    assert sweep(home, "resume", "scripted").returncode == 0
    after = check(home, before=before)
    [new] = [after[trial] for trial in after if trial not in before]
    assert (new["params"], new["state"]) == ({"scale": 0.5}, "COMPLETE")
    tags = {run.info.run_name: run.data.tags for run in mlflow_runs(home)}
    assert tags["scripted-0004"]["sweeper.winner"] == "best of 5 trials"
    said = "**Winner**, the best of 5 trials. scripted-0004 was chosen by the user"
    assert tags["scripted-0004"]["mlflow.note.content"].startswith(said)
    [former] = [name for name, each in tags.items() if each.get("sweeper.winner", "").startswith("not")]
    assert tags[former]["sweeper.winner"] == "not the best of 5 trials: scripted-0004 is"
    assert tags[former]["mlflow.note.content"].startswith(f"{former} was ")
    assert "chosen by the user" in sweep(home, "explain", "scripted-0004").stdout
    again = sweep(home, "resume", "scripted")
    assert "the study `scripted` is complete" in again.stderr, "it is no lack of the search"
    assert len(results(home)) == len(after)


@pytest.mark.slow
def test_a_running_study_runs_an_added_trial_next_and_can_stop_a_single_one(fresh_home: FreshHome) -> None:
    home = fresh_home(SPEC)
    running = begin(home, "--set", "base.sleep_s=1", "--set", "scheduler.name=none")

    def of(trial: str) -> dict[str, object]:
        journal = home / "studies" / "scripted" / "ledger.journal"
        return results(home).get(trial, {}) if journal.exists() and "scale" in journal.read_text() else {}

    wait_until(lambda: bool(of("scripted-0000").get("curve")) or running.poll() is not None)
    assert enqueue(home, "scripted", ["scale=0.75"]) == "scripted: added, and next to run: scale=0.75"
    wait_until(lambda: bool(of("scripted-0001")))
    assert stop_trial(home, "scripted-0001") == "scripted-0001: stopped"
    _, errors = running.communicate(timeout=300)
    assert running.returncode == 0, errors
    found = check(home)
    assert found["scripted-0001"]["params"] == {"scale": 0.75}, "it came before what the sampler proposes"
    assert (found["scripted-0001"]["state"], found["scripted-0001"]["reason"]) == ("STOPPED", "stopped by the user")
    candidates = [trial for trial in found if trial[-4:].isdigit()]
    assert len(candidates) == 5, "the study went on to its end, the chosen one beside"
    assert sweep(home, "stop", "scripted-0001").stderr.startswith("error: `scripted-0001` has ended: it is STOPPED\n")


@pytest.mark.slow
def test_a_study_is_removed_with_its_runs_and_its_name_can_be_reused(fresh_home: FreshHome) -> None:
    home = fresh_home(SPEC)
    assert sweep(home, "run").returncode == 0
    refused = sweep(home, "rm", "scripted")
    assert (refused.returncode, "add --yes" in refused.stderr) == (2, True)
    assert (home / "studies" / "scripted" / "ledger.journal").exists()
    terminal, end = pty.openpty()
    os.write(terminal, b"n\n")
    asked = subprocess.run(
        command(home, "rm", "scripted"), stdin=end, capture_output=True, text=True, env=environment(), timeout=300
    )
    assert asked.stdout == "nothing was removed\n"
    assert "remove scripted: 8 trials and controls, " in asked.stderr
    assert results(home)
    removed = sweep(home, "rm", "scripted", "--yes")
    assert removed.returncode == 0, removed.stderr
    assert removed.stdout.startswith("removed scripted: 8 trials and controls, ")
    assert not (home / "studies" / "scripted").exists()
    assert not (home / "artifacts" / "scripted").exists()
    client = open_client(uri_of(home))
    assert client.get_experiment_by_name("scripted") is None
    assert [each.name for each in client.search_experiments()] == ["Default"]
    assert sweep(home, "run", "--trials", "1").returncode == 0
    found = client.get_experiment_by_name("scripted")
    assert found is not None, "the next study has the name"
    assert len(client.search_runs([found.experiment_id])) == 6


def test_the_verbs_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["--help"])
    said = capsys.readouterr().out
    assert all(f"  {verb} " in said for verb in ("enqueue", "stop", "rm"))
