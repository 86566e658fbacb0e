"""What the controls say about a study's trials, and whole studies with controls through the command line."""

import os
import signal
import time
from pathlib import Path

import mlflow
import pytest
from faulty import begin, sweep
from sweeps import mlflow_runs, run, show

from sweeper.ledger.trial import Report, TrialRecord, TrialState
from sweeper.spec.objective import Objective
from sweeper.study.controls import final_word

LOW = Objective(metric="val/pa_mpjpe_mm", mode="min")
HIGH = Objective(metric="val/auc", mode="max")
GOOD = {"oracle": 0.0, "zero": 23.0, "constant_pose": 19.8, "shuffled_labels": 19.6}


def candidate(
    number: int, value: float, p: float | None = None, state: TrialState = TrialState.COMPLETE
) -> TrialRecord:
    metrics = {"val/pa_mpjpe_mm": value, "val/auc": value} | ({"val/skill_p": p} if p is not None else {})
    return TrialRecord(f"toy-{number:04d}", number, {}, state, reports=(Report(1, 1.0, metrics, None, 0),))


def rulers(values: dict[str, float], **states: TrialState) -> list[TrialRecord]:
    return [
        TrialRecord(
            f"toy-{name}",
            number,
            {},
            states.get(name, TrialState.COMPLETE),
            "it broke" if name in states else "",
            reports=(Report(1, 0.0, {"val/pa_mpjpe_mm": value, "val/auc": value}, None, 0),),
            control=name,
        )
        for number, (name, value) in enumerate(values.items())
    ]


def test_the_reference_line_of_a_sound_study() -> None:
    word = final_word([candidate(0, 11.2, p=1e-9), candidate(1, 13.0, p=0.2)], rulers(GOOD), LOW)
    assert word.lines == ("best trial 11.20 mm; constant pose 19.80; shuffled labels 19.60",)
    assert not word.no_skill


@pytest.mark.parametrize(
    ("p", "others", "no_skill"),
    [(0.049, 0, False), (0.051, 0, True), (0.02, 1, False), (0.02, 2, True), (1e-6, 40, False)],
)
def test_skill_needs_a_p_value_below_005_over_all_trials_together(p: float, others: int, no_skill: bool) -> None:
    trials = [candidate(0, 11.0, p), *(candidate(n + 1, 12.0, 0.5, TrialState.PRUNED) for n in range(others))]
    assert final_word(trials, rulers(GOOD), LOW).no_skill is no_skill


def test_that_no_trial_beats_the_constant_pose_is_reported() -> None:
    word = final_word([candidate(0, 19.5, p=0.031), candidate(1, 20.0, p=0.9)], rulers(GOOD), LOW)
    assert word.no_skill
    assert word.lines[1:] == (
        "NO TRIAL BEATS THE CONSTANT POSE (p = 0.062, corrected for the best of 2; below 0.05 counts): "
        "suspect data or metric, not the loss weights",
    )
    alone = final_word([candidate(0, 19.5, p=0.31)], rulers(GOOD), LOW)
    assert alone.lines[1].startswith("NO TRIAL BEATS THE CONSTANT POSE (p = 0.31; below 0.05 counts): ")


@pytest.mark.parametrize(("steps", "named"), [(16.0, True), (299.0, True), (300.0, False)])
def test_too_little_training_is_suspected_before_the_data(steps: float, named: bool) -> None:
    """128 poses for 8 epochs are 16 steps, in which no sound pipeline moves away from the mean pose."""
    metrics = {"val/pa_mpjpe_mm": 19.9, "train/optimizer_steps": steps}
    trial = TrialRecord("toy-0000", 0, {}, TrialState.COMPLETE, reports=(Report(1, 1.0, metrics, None, 0),))
    word = final_word([trial], rulers(GOOD), LOW)
    cause = f"only {steps:.0f} optimizer steps, so suspect too little data or training first, then data or metric"
    assert [line.endswith(cause) for line in word.lines[1:]] == [named, named]


def test_without_a_p_value_the_values_decide() -> None:
    assert not final_word([candidate(0, 19.0)], rulers(GOOD), LOW).no_skill
    worse = final_word([candidate(0, 19.9)], rulers(GOOD), LOW)
    assert worse.lines[1:] == (
        "NO TRIAL BEATS THE CONSTANT POSE (19.90 against 19.80): suspect data or metric, not the loss weights",
        "NO TRIAL BEATS SHUFFLED LABELS (19.90 against 19.60): suspect data or metric, not the loss weights",
    )


def test_shuffled_labels_must_be_beaten_even_with_skill() -> None:
    word = final_word([candidate(0, 19.7, p=1e-9)], rulers(GOOD), LOW)
    assert word.no_skill
    assert [line[:30] for line in word.lines[1:]] == ["NO TRIAL BEATS SHUFFLED LABELS"]


@pytest.mark.parametrize(
    ("oracle", "said"),
    [
        (46.6, "THE ORACLE IS NO BETTER THAN ZERO (46.60 against 23.00): suspect the metric"),
        (15.0, "THE ORACLE IS NO BETTER THAN BEST TRIAL (15.00 against 11.20): suspect the metric"),
    ],
)
def test_an_oracle_that_is_beaten_shows_a_broken_metric(oracle: float, said: str) -> None:
    word = final_word([candidate(0, 11.2, p=1e-9)], rulers(GOOD | {"oracle": oracle}), LOW)
    assert word.no_skill
    assert said in word.lines


def test_an_objective_to_maximise_is_judged_the_other_way_round() -> None:
    values = {"oracle": 1.0, "constant_pose": 0.6, "shuffled_labels": 0.55}
    good = final_word([candidate(0, 0.7)], rulers(values), HIGH)
    assert (good.lines, good.no_skill) == (("best trial 0.7; constant pose 0.6; shuffled labels 0.55",), False)
    assert final_word([candidate(0, 0.58)], rulers(values), HIGH).no_skill


def test_when_all_collapsed_the_best_of_them_is_judged() -> None:
    trials = [candidate(n, 21.0 + n, 0.9, TrialState.COLLAPSED) for n in range(3)]
    word = final_word(trials, rulers(GOOD), LOW)
    assert word.no_skill
    assert word.lines[0].startswith("best trial 21.00 mm")


def test_nothing_is_decided_while_a_trial_runs_or_without_scores() -> None:
    running = final_word([candidate(0, 25.0), candidate(1, 25.0, None, TrialState.RUNNING)], rulers(GOOD), LOW)
    assert (running.lines, running.no_skill) == (("constant pose 19.80; shuffled labels 19.60",), False)
    unscored = final_word([candidate(0, float("nan"), None, TrialState.FAILED)], rulers(GOOD), LOW)
    assert not unscored.no_skill


def test_a_failed_control_is_named_and_its_value_not_used() -> None:
    word = final_word([candidate(0, 25.0)], rulers(GOOD, constant_pose=TrialState.FAILED), LOW)
    assert "control constant pose FAILED: it broke" in word.lines
    assert not any("THE CONSTANT POSE" in line for line in word.lines)


def test_without_controls_nothing_is_said() -> None:
    assert final_word([candidate(0, 25.0, p=0.9)], [], LOW).lines == ()


SPEC = """
name: scripted
trainer: scripted_trainer:train
base: {epochs: 4, curve_mm: [20.0, 15.0, 12.0, 10.0], constant_mm: 25.0, skill_p: 0.001}
search_space:
  scale: {low: 0.5, high: 1.0}
objective: {metric: val/pa_mpjpe_mm, mode: min}
trials: 2
"""
IDS = [f"scripted-{name}" for name in ("oracle", "zero", "constant_pose", "shuffled_labels")]


@pytest.fixture
def study_home(home: Path) -> Path:
    (home.parent / "spec.yaml").write_text(SPEC)
    return home


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_controls_run_alongside_the_candidates_and_are_marked_everywhere(study_home: Path) -> None:
    result = run(study_home)
    assert result.returncode == 0, result.stderr
    study = show(study_home)
    assert [control["id"] for control in study["controls"]] == IDS
    assert [(control["state"], control["epochs"]) for control in study["controls"]] == [("COMPLETE", 0)] * 3 + [
        ("COMPLETE", 2)
    ]
    assert [trial["id"] for trial in study["trials"]] == ["scripted-0000", "scripted-0001"]
    assert study["winner"] in {"scripted-0000", "scripted-0001"}
    [line] = study["final_word"]
    assert line.endswith(" mm; constant pose 25.00; shuffled labels 25.00")
    assert line in result.stdout
    assert "controls (reference points, never winners)" in result.stdout

    runs = {run.data.tags.get("sweeper.trial_id", "study"): run for run in mlflow_runs(study_home)}
    for control in study["controls"]:
        tags = runs[control["id"]].data.tags
        assert (tags["sweeper.role"], tags["sweeper.control"]) == ("control", control["control"])
        assert tags["mlflow.parentRunId"] == runs["study"].info.run_id
        assert runs[control["id"]].info.run_id == control["mlflow_run_id"]
    assert "sweeper.control" not in runs["scripted-0000"].data.tags
    parent = runs["study"].data
    assert parent.metrics["control/constant_pose/val/pa_mpjpe_mm"] == 25.0
    assert parent.metrics["control/oracle/val/pa_mpjpe_mm"] == 0.0
    assert parent.tags["sweeper.final_word"] == line
    client = mlflow.MlflowClient(f"sqlite:///{study_home / 'mlflow.db'}")
    report = Path(client.download_artifacts(runs["study"].info.run_id, "report.md", str(study_home.parent))).read_text()
    assert "## Controls" in report
    assert f"- {line}" in report

    again = sweep(study_home, "reproduce", "scripted-shuffled_labels")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "verdict: BIT-EXACT" in again.stdout


@pytest.mark.slow
def test_a_study_that_learns_nothing_says_so_and_exits_with_3(study_home: Path) -> None:
    nothing = ("--trials", "2", "--set", "base.skill_p=0.04", "--set", "controls=[oracle, constant_pose]")
    result = run(study_home, *nothing, ray=False)
    assert result.returncode == 3, result.stderr
    assert (
        "NO TRIAL BEATS THE CONSTANT POSE (p = 0.08, corrected for the best of 2; below 0.05 counts): "
        "suspect data or metric, not the loss weights\n"
    ) in result.stdout
    again = run(study_home, *nothing, ray=False)
    assert again.returncode == 3, "and again when it is only shown"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_half_done_controls_are_finished_after_a_kill(study_home: Path) -> None:
    slow = ("--set", "base.sleep_s=0.5")
    process = begin(study_home, *slow)
    journal = study_home / "studies" / "scripted" / "ledger.journal"
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not (
        journal.exists() and '"control":"constant_pose"' in journal.read_text().replace(" ", "")
    ):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    half = show(study_home)
    assert any(control["state"] == "WAITING" for control in half["controls"])

    result = run(study_home, *slow, ray=False)
    assert result.returncode == 0, result.stderr
    whole = show(study_home)
    assert [control["id"] for control in whole["controls"]] == IDS
    assert all(control["state"] == "COMPLETE" for control in whole["controls"])
    done = {control["id"]: control for control in half["controls"] if control["state"] == "COMPLETE"}
    assert all(
        control["metrics"] == done[control["id"]]["metrics"] for control in whole["controls"] if control["id"] in done
    )
    assert [trial["id"] for trial in whole["trials"]] == ["scripted-0000", "scripted-0001"]


EMBEDDED = """
name: scripted
base:
  data: {embedded_count: 48, image_size: 32, val_fraction: 0.25}
  optim: {batch_size: 8, epochs: 1, warmup_steps: 2}
  eval: {mesh_images: 4}
  device: cpu
  faults: [mano_joint_order, broken_procrustes]
search_space:
  loss.lambda_joint: {low: 0.1, high: 10.0, log: true}
objective: {metric: val/pa_mpjpe_mm, mode: min}
trials: 1
controls: [oracle, constant_pose]
"""


@pytest.mark.slow
def test_a_broken_metric_is_found_on_the_embedded_hand(home: Path) -> None:
    (home.parent / "spec.yaml").write_text(EMBEDDED)
    result = run(home, "--skip-preflight", "it would find this first", ray=False)
    assert result.returncode == 3, result.stderr + result.stdout
    study = show(home)
    assert [control["state"] for control in study["controls"]] == ["COMPLETE"] * 2
    values = {control["control"]: control["metrics"]["val/pa_mpjpe_mm"] for control in study["controls"]}
    assert max(values.values()) < 1.3 * min(values.values()), "the metric says the same of everything"
    assert study["no_skill"]
