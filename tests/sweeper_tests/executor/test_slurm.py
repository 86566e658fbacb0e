"""The batch script of `sweeper slurm`: its text, and what it does on one node with stand-ins for `sweeper` and Slurm.

For the real ones, see test_slurm_jobs.py.
"""

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from places import ROOT
from slurm_node import Job

from sweeper.cli.main import main

SPEC = """
name: toy
trainer: scripted_trainer:train
search_space: {scale: {values: [1.0, 2.0]}}
trials: 2
objective: {metric: val/pa_mpjpe_mm, mode: min}
resources: {cpus: 2, concurrent: 3}
"""
HOSTILE = """it's "quoted" $(touch {trap}) `id` \\ ;&| #x"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a spec, in which the command is run."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "spec.yaml").write_text(SPEC)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("SWEEPER_HOME", raising=False)
    return folder


@pytest.fixture
def printed(project: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def script(*options: str, spec: str = "spec.yaml") -> str:
        assert main(["slurm", spec, *options]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    return script


def options_of(script: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]


def assigned(script: str, name: str) -> str:
    """What bash makes of a variable of the script; only its assignments are run."""
    lines = [line for line in script.splitlines() if line.startswith(("run=(", f"{name}="))][:2]
    shown = subprocess.run(
        ["bash", "-c", "\n".join([*lines, f'printf "%s\\0" "${{{name}[@]}}"'])],
        capture_output=True,
        text=True,
        check=True,
    )
    return shown.stdout


def refused(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["slurm", "spec.yaml", *options]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_the_script_requests_what_it_was_told_to(printed: Callable[..., str], project: Path) -> None:
    script = printed(
        *("--nodes", "2", "--gpus-per-node", "a100:4", "--cpus-per-task", "32", "--time", "04:00:00", "--mem", "64G"),
        *("--partition", "gpu", "--account", "hands", "--constraint", "a100|h100", "--sbatch", "--qos=long"),
        *("--sbatch", "#SBATCH --mail-type=END", "--setup", "module load cuda", "--signal-s", "300"),
    )
    assert script.startswith("#!/bin/bash\n#SBATCH ")
    assert {
        *("--job-name=toy", "--dependency=singleton", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=32"),
        *("--gres=gpu:a100:4", "--time=04:00:00", "--mem=64G", "--partition=gpu", "--account=hands", "--qos=long"),
        *("--constraint=a100|h100", "--mail-type=END", "--signal=B:USR1@300", "--requeue", "--open-mode=append"),
    } <= set(options_of(script))
    before, _, after = script.partition("\nmodule load cuda\n")
    assert "PATH=" in before, "a module may come before it"
    assert "run=(" in after
    assert assigned(script, "gpus") == "4\0"
    assert assigned(script, "run").split("\0")[:-1] == [
        *("sweeper", "run", str(project / "spec.yaml"), "--home", str(project / ".sweeper")),
        *("--set", "resources.concurrent=all"),
    ]


def test_what_is_not_given_is_requested_according_to_the_spec(printed: Callable[..., str]) -> None:
    assert "--cpus-per-task=6" in options_of(printed()), "three trials of two cores each"
    assert "--cpus-per-task=4" in options_of(printed("--nodes", "2"))
    half = ("--gpus-per-node", "4", "--set", "resources.gpus=0.5", "--set", "resources.concurrent=all")
    assert "--cpus-per-task=16" in options_of(printed(*half)), "eight trials on four GPUs"
    plain = options_of(printed())
    assert not [line for line in plain if line.startswith(("--gres", "--time", "--partition", "--mem"))]


def test_options_for_the_study_come_after_the_default(printed: Callable[..., str]) -> None:
    script = printed("--set", "resources.concurrent=2", "--trials", "5", "--skip-preflight", "it's known")
    words = assigned(script, "run").split("\0")
    assert words.index("resources.concurrent=all") < words.index("resources.concurrent=2")
    assert words[-5:-1] == ["--trials", "5", "--skip-preflight", "it's known"]


def test_a_hostile_path_is_only_a_path(printed: Callable[..., str], project: Path) -> None:
    trap = project / "sprung"
    name = HOSTILE.replace("{trap}", trap.name)
    (project / name).write_text(SPEC)
    script = printed("--home", f"{name}/home", "--partition", "a b", "--sbatch", '--comment="x y"', spec=name)
    assert subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True).stderr == ""
    assert assigned(script, "home") == f"{project / name}/home\0"
    assert assigned(script, "run").split("\0")[2] == str(project / name)
    assert {'--partition="a b"', '--comment="x y"'} <= set(options_of(script))
    assert not trap.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--partition", "a\n#SBATCH --uid=root"), "more than one line"),
        (("--setup", "true\nrm x"), "more than one line"),
        (("--sbatch", "qos=long"), "is not an option of sbatch"),
        (("--gpus-per-node", "a100"), "not a number of GPUs"),
        (("--cpus-per-task", "1"), "a trial takes 2 cores"),
        (("--set", "resources.gpus=1"), "a trial takes 1 GPUs"),
        (("--set", "resources.concurrent=all"), "how many cores"),
        (("--nodes", "0"), "nodes"),
        (("--set", "trails=3"), "trials"),
    ],
)
def test_impossible_options_are_refused(
    project: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    assert said in refused(capsys, *options)


def test_the_example_in_the_docs_prints_what_they_show(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs" / "slurm.md").read_text(), re.M | re.S)
    typed = next(line for line in blocks[0].replace("\\\n", "").splitlines() if line.startswith("sweeper slurm"))
    assert main(shlex.split(typed)[1 : shlex.split(typed).index(">")]) == 0
    printed = capsys.readouterr().out.splitlines()
    shown = [line for line in blocks[-1].splitlines() if line.startswith(("#", "module"))]
    assert len(shown) > 8
    assert [line for line in shown if line not in printed] == []


def test_a_job_runs_the_study_where_the_script_was_made_with_its_files_on_the_node(
    printed: Callable[..., str], project: Path, tmp_path: Path
) -> None:
    job = Job(printed("--setup", "export FROM_SETUP=1"), tmp_path, CODE="0")
    assert job.end()[0] == 0
    assert job.read("arguments").splitlines()[:2] == ["run", str(project / "spec.yaml")]
    assert job.read("pwd") == str(project)
    environ = dict(line.partition("=")[::2] for line in job.read("environment").splitlines())
    assert environ["FROM_SETUP"] == "1"
    assert environ["TMPDIR"].startswith(str(job.local))
    assert environ["TRAINERS_CACHE_DIR"].startswith(str(job.local))
    assert job.read("arguments").splitlines()[-2] == "--address"
    assert job.read("asked") == "", "it is complete"
    assert "SLURM" not in job.read("ray_environment").replace(str(job.local), ""), "Lightning would take it for its own"


@pytest.mark.parametrize("code", ["0", "1", "2", "3", "5"])
def test_a_study_that_has_ended_or_failed_is_not_requeued(
    printed: Callable[..., str], tmp_path: Path, code: str
) -> None:
    job = Job(printed(), tmp_path, CODE=code)
    assert job.end()[0] == int(code)
    assert job.read("asked") == ""


def test_a_job_stops_the_study_before_the_time_limit_and_is_requeued(
    printed: Callable[..., str], tmp_path: Path
) -> None:
    job = Job(printed(), tmp_path)
    job.started()
    job.process.send_signal(signal.SIGUSR1)
    code, said = job.end()
    assert (code, job.read("told"), job.read("asked")) == (143, "TERM", f"requeue {os.getpid()}")
    assert "the study continues when the job starts again" in said


def test_a_job_that_slurm_does_not_requeue_says_what_to_do(printed: Callable[..., str], tmp_path: Path) -> None:
    job = Job(printed(), tmp_path, SCONTROL_CODE="1")
    job.started()
    job.process.send_signal(signal.SIGUSR1)
    assert "submit the script again" in job.end()[1]


def test_a_job_that_made_no_progress_is_not_requeued(printed: Callable[..., str], tmp_path: Path) -> None:
    """Otherwise one whose evaluation takes longer than its time limit would come back for ever."""
    job = Job(printed("--signal-s", "60").replace("\nsignal_s=60\n", "\nsignal_s=6\n"), tmp_path, STUBBORN="yes")
    job.started()
    job.process.send_signal(signal.SIGUSR1)
    code, said = job.end()
    assert (code, job.read("told"), job.read("asked")) == (137, "TERM\nTERM", "")
    assert "no evaluation was reached" in said


@pytest.mark.parametrize("limit", ["1-00:00:00", "30:00", "UNLIMITED"])
def test_a_job_that_is_preempted_early_is_requeued_whatever_it_reached(
    printed: Callable[..., str], tmp_path: Path, limit: str
) -> None:
    job = Job(printed().replace("\nsignal_s=120\n", "\nsignal_s=6\n"), tmp_path, STUBBORN="yes", LIMIT=limit)
    job.started()
    job.process.send_signal(signal.SIGUSR1)
    assert (job.end()[0], job.read("asked")) == (137, f"requeue {os.getpid()}")


def test_a_cancelled_job_stops_the_study_and_is_not_requeued(printed: Callable[..., str], tmp_path: Path) -> None:
    job = Job(printed(), tmp_path)
    job.started()
    job.process.send_signal(signal.SIGTERM)
    assert job.end()[0] == 143
    assert job.read("asked") == ""


def test_a_job_that_is_cancelled_before_the_study_starts_ends(printed: Callable[..., str], tmp_path: Path) -> None:
    job = Job(printed("--setup", "SLOW_RAY=1"), tmp_path, SLOW_RAY="1")
    job.started("ray_environment")
    job.process.send_signal(signal.SIGTERM)
    assert job.end()[0] == 143
    assert job.read("arguments") == ""


def test_a_folder_made_by_somebody_else_is_not_used(printed: Callable[..., str], tmp_path: Path) -> None:
    """Anyone who guesses the job's ID could read the sockets in it. That it cannot be removed is simulated here."""
    folder = Path(f"/tmp/sweeper-{os.getpid()}-one")
    folder.mkdir()
    try:
        job = Job(printed().replace("\nsay()", "\nrm() { :; }\nsay()"), tmp_path)
        assert "File exists" in job.process.communicate(timeout=300)[1]
        assert job.process.returncode == 2
        assert job.read("ray_environment") == ""
    finally:
        folder.rmdir()


def test_a_node_without_the_program_says_so(printed: Callable[..., str], tmp_path: Path) -> None:
    job = Job(printed("--setup", "PATH=/nowhere:/usr/bin:/bin"), tmp_path)
    said = job.process.communicate(timeout=300)[1]
    assert job.process.returncode == 2
    assert "no `sweeper` on the PATH of one" in said
