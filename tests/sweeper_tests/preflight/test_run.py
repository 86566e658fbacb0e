"""`sweeper preflight` and the preflight before a run: real child processes, a trainer that follows a script."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest
from places import ROOT, TESTS

from mano_trainers.report import CheckResult, CheckStatus
from sweeper.cli.main import main
from sweeper.executor.cluster import Local
from sweeper.ledger.ledger import Ledger
from sweeper.preflight import run as preflight
from sweeper.preflight.run import PreflightOutcome
from sweeper.spec.load import parse_spec
from sweeper.spec.resolve import SweepSpec

SPEC = """
name: checked
trainer: checked_trainer:train
base: {epochs: 2, curve_mm: [20.0, 15.0]}
search_space:
  scale: {low: 0.5, high: 10.0, log: true}
  noise: {choices: [true, false]}
objective: {metric: val/pa_mpjpe_mm, mode: min}
trials: 1
scheduler: {name: none}
guards: []
"""
BROKEN = ("--set", "base.curve_mm=[200.0]")


@pytest.fixture(autouse=True)
def children_find_the_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(TESTS), str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC)
    return path


def spec_of(*overrides: str) -> SweepSpec:
    return parse_spec(SPEC, Path("spec.yaml"), overrides)


def checked(spec: SweepSpec, home: Path, **options: Any) -> tuple[PreflightOutcome, list[CheckResult]]:
    told: list[CheckResult] = []
    here = Local(spec.resources, home / "data")
    child = preflight.start(spec, here)
    return preflight.finish(child, spec, home, told.append, here, **options), told


def test_machine_and_trainer_are_checked_and_reported_one_by_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    outcome, told = checked(spec_of(), tmp_path)
    assert tuple(told) == outcome.results
    names = [result.name for result in outcome.results]
    assert names[:5] == ["machine.gpu", "machine.cpus", "machine.write", "machine.disk", "machine.tracking"]
    assert names[5:] == ["script.error", "script.corners"]
    assert outcome.results[-1].measured == "scale 0.5, 0.5, 10, 10"
    assert outcome.fingerprints["data"]
    assert not outcome.failed
    assert "a trainer may print" in capfd.readouterr().err


def test_a_pass_is_kept_until_something_changes(tmp_path: Path) -> None:
    first, _ = checked(spec_of(), tmp_path)
    second, told = checked(spec_of(), tmp_path)
    assert (first.kept, second.kept) == (False, True)
    assert [result.name for result in second.results] == [result.name for result in first.results]
    assert all(result.name.startswith("machine.") for result in told)
    assert "kept from an earlier run" in second.summary
    assert not checked(spec_of("base.epochs=3"), tmp_path)[0].kept
    assert not checked(spec_of("search_space.scale.high=9.0"), tmp_path)[0].kept
    assert not checked(spec_of(), tmp_path, again=True)[0].kept
    assert checked(spec_of("trials=2"), tmp_path)[0].kept  # the pipeline is the same


def test_changed_data_is_checked_again(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("a")
    spec = spec_of(f"base.data_file={tmp_path / 'data.txt'}")
    assert not checked(spec, tmp_path)[0].kept
    assert checked(spec, tmp_path)[0].kept
    (tmp_path / "data.txt").write_text("b")
    assert not checked(spec, tmp_path)[0].kept


def test_changed_code_is_checked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked(spec_of(), tmp_path)
    monkeypatch.setattr(preflight, "trainer_sums", lambda trainer: {"trainer.py": "other"})
    assert not checked(spec_of(), tmp_path)[0].kept


def test_a_failure_is_not_kept(tmp_path: Path) -> None:
    spec = spec_of("base.curve_mm=[200.0]")
    for _ in range(2):
        outcome, _ = checked(spec, tmp_path)
        assert outcome.failed
        assert not outcome.kept
    assert "FAIL of script.error" in outcome.summary


def test_a_trainer_without_checks_gets_only_those_of_the_machine(tmp_path: Path) -> None:
    outcome, _ = checked(spec_of("trainer=scripted_trainer:train"), tmp_path)
    assert all(result.name.startswith("machine.") for result in outcome.results)


def test_variants_are_the_corners_and_the_base_is_checked() -> None:
    text = SPEC.split("search_space")[0] + "variants: {slow: {scale: 3.0}, fast: {epochs: 1}}\n"
    text += "objective: {metric: val/pa_mpjpe_mm, mode: min}\n"
    spec = parse_spec(text, Path("spec.yaml"))
    assert preflight.base_config(spec)["scale"] == 1.0
    assert [(each["scale"], each["epochs"]) for each in preflight.corners(spec)] == [(3.0, 2), (1.0, 1)]


def test_a_large_search_space_has_a_bounded_number_of_corners() -> None:
    wide = {f"loss.lambda_{name}": "{low: 0.1, high: 1.0}" for name in ("param", "joint", "angular", "pca", "reg")}
    wide |= {"optim.lr": "{low: 0.1, high: 1.0}", "optim.weight_decay": "{low: 0.1, high: 1.0}"}
    dimensions = "\n".join(f"  {path}: {value}" for path, value in wide.items())
    text = f"name: wide\nsearch_space:\n{dimensions}\nobjective: {{metric: val/x, mode: min}}\ntrials: 1\n"
    configs = preflight.corners(parse_spec(text, Path("spec.yaml")))
    assert len(configs) == 2 + len(wide)
    assert {config["loss"]["lambda_pca"] for config in configs} == {0.1, 1.0}


def test_the_verb_shows_the_checks_and_how_to_fix_what_fails(
    spec_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = ("--home", str(tmp_path / "home"))
    assert main(["preflight", str(spec_file), *home]) == 0
    shown = capsys.readouterr()
    assert "script.error" in shown.out
    assert "HOW TO FIX" in shown.out
    assert "PASS script.error" in shown.err
    assert main(["preflight", str(spec_file), *home, *BROKEN, "--json"]) == 3
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["script.error"]["status"] == "FAIL"
    assert checks["script.error"]["help"] == "fix the script"


def test_data_that_cannot_be_prepared_is_bad_input(spec_file: Path, tmp_path: Path) -> None:
    missing = ("--set", f"base.data_file={tmp_path / 'missing'}")
    assert main(["preflight", str(spec_file), "--home", str(tmp_path / "home"), *missing]) == 2


def test_a_failure_before_a_run_starts_nothing(spec_file: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(spec_file), "--home", str(home), *BROKEN]) == 3
    shown = capsys.readouterr()
    assert "fix the script" in shown.out
    ledger = Ledger.open(home / "studies" / "checked", "checked")
    assert ledger.trials() == []
    assert ledger.attributes.spec is None


def test_skipping_it_needs_a_reason(spec_file: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(spec_file), "--home", str(home), "--skip-preflight", " "]) == 2
    assert "a reason is required" in capsys.readouterr().err


@pytest.mark.slow
def test_the_reason_of_a_skip_is_recorded(spec_file: Path, home: Path) -> None:
    command = [str(Path(sys.executable).parent / "sweeper"), "run", str(spec_file), "--home", str(home), *BROKEN]
    done = subprocess.run([*command, "--skip-preflight", "known: forensics"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    recorded = Ledger.open(home / "studies" / "checked", "checked").attributes.preflight
    assert recorded["skipped"] == "known: forensics"
    assert main(["report", "checked", "--format", "md", "--home", str(home)]) == 0
    assert "preflight: skipped: known: forensics" in (home / "studies" / "checked" / "report.md").read_text()
    client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("checked").experiment_id])
    assert [run.data.tags["sweeper.preflight"] for run in runs if "sweeper.preflight" in run.data.tags] == [
        "skipped: known: forensics"
    ]


def test_a_child_that_dies_is_a_failure(tmp_path: Path) -> None:
    outcome, _ = checked(spec_of("trainer=dying_trainer:train"), tmp_path)
    assert outcome.results[-1].status is CheckStatus.FAIL
    assert "exit code 7" in outcome.results[-1].measured
