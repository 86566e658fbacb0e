"""A worker, its process that has the trainer's module, and the trial's own: no Ray, no study."""

import json
import os
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from leaky_trainer import sleepers

from sweeper.executor.worker.trainable import Job, TrialWorker


def job(folder: Path, trainer: str, gpus: float = 0, **config: Any) -> dict[str, str]:
    name = trainer if ":" in trainer else f"odd_trainers:{trainer}"
    return {"job": Job(name, config, str(folder), None, gpus=gpus, folder=os.getcwd()).to_json()}


def step(worker: TrialWorker) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(worker.step()["message"])
    return message


def test_nothing_that_a_trial_leaves_is_seen_by_the_next(tmp_path: Path) -> None:
    before, folder = dict(os.environ), Path.cwd()
    worker = TrialWorker(job(tmp_path / "a", "leaky_trainer:leaky"))
    first = step(worker)["metrics"]
    assert worker.reset_config(job(tmp_path / "b", "leaky_trainer:leaky"))
    assert step(worker)["metrics"] == first
    assert (first["threads"], first["children"], first["home"]) == (1, 0, 1)
    worker.cleanup()
    assert sleepers() == []
    assert dict(os.environ) == before
    assert Path.cwd() == folder


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("gpu", "out of GPU memory: OutOfMemoryError"),
        ("context", "out of GPU memory: RuntimeError: CUDA error: out of memory;"),
        ("cublas", "out of GPU memory: RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED"),
        ("lost", "the GPU failed: AcceleratorError: CUDA error: unspecified launch failure;"),
        ("ecc", "the GPU failed: AcceleratorError: CUDA error: uncorrectable ECC error encountered;"),
        ("driver", "no GPU: RuntimeError: Found no NVIDIA driver"),
        ("ram", "out of memory"),
        ("interrupt", "KeyboardInterrupt: mine"),
        ("silent", "KeyboardInterrupt at tests/sweeper_tests/odd_trainers.py:"),
        ("exit", "SystemExit: 3"),
        ("base", "Mine: of its own kind"),
        ("text", "ValueError: lone ? surrogate and \N{REPLACEMENT CHARACTER}"),
        ("long", "ValueError: xxx"),
    ],
)
def test_whatever_a_trainer_raises_is_its_trials_result(what: str, reason: str, tmp_path: Path) -> None:
    worker = TrialWorker(job(tmp_path, "failing", what=what))
    assert step(worker)["kind"] == "report"
    message = step(worker)
    assert message["kind"] == "error"
    assert message["error"].startswith(reason)
    assert len(json.dumps(message)) < 50_000
    assert ("use smaller batches" in message["error"]) == (what in ("gpu", "context", "cublas", "ram"))
    worker.cleanup()


def test_a_lost_gpu_is_its_trials_result_and_the_next_one_has_a_process_that_can_use_it(tmp_path: Path) -> None:
    worker = TrialWorker(job(tmp_path / "1", "reused_trainer:train"))
    first = step(worker)["metrics"]["pid"]
    assert (step(worker)["kind"], step(worker)["kind"]) == ("report", "end")
    worker.reset_config(job(tmp_path / "2", "reused_trainer:train", loses_gpu=True))
    assert step(worker)["metrics"]["pid"] == first
    assert step(worker)["error"].startswith("the GPU failed: RuntimeError: CUDA error: unspecified launch failure")
    worker.reset_config(job(tmp_path / "3", "reused_trainer:train"))
    assert step(worker)["metrics"]["pid"] != first, "CUDA stays broken in the process that has lost its GPU"
    worker.cleanup()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("segfault", "was ended by SIGSEGV"),
        ("kill", "was ended by SIGKILL (out of memory?)"),
        ("exit", "ended with exit code 7"),
    ],
)
def test_a_process_that_dies_leaves_its_last_words(how: str, said: str, tmp_path: Path) -> None:
    worker = TrialWorker(job(tmp_path, "dying", how=how))
    assert step(worker)["kind"] == "report"
    message = step(worker)
    assert (message["kind"], message["how"]) == ("gone", said)
    log = (tmp_path / "log.txt").read_text()
    assert log.startswith("last words\nand more\n")
    assert ("Fatal Python error: Segmentation fault" in log) == (how == "segfault")
    lines = [line for line in log.splitlines() if line]
    if how == "segfault":
        assert message["last_lines"] == lines[2:7]
        assert message["last_lines"][0] == "Fatal Python error: Segmentation fault"
        assert "odd_trainers.py" in message["last_lines"][3], message["last_lines"]
    else:
        assert message["last_lines"] == lines[-5:]
    worker.reset_config(job(tmp_path / "next", "writing"))
    assert step(worker)["kind"] == "report"
    worker.cleanup()


@pytest.mark.parametrize("how", ["forks", "leaves with 0", "has no output", "has no folder"])
def test_what_a_program_does_to_its_own_process_costs_no_report(how: str, tmp_path: Path) -> None:
    worker = TrialWorker(job(tmp_path / "trial", "unruly", how=how))
    assert [step(worker)["kind"] for _ in range(2)] == ["report", "end"]
    worker.reset_config(job(tmp_path / "next", "unruly", how="nothing"))
    assert step(worker)["kind"] == "report"
    worker.cleanup()


def test_a_trainer_that_closes_what_is_not_its_own_is_told_so(tmp_path: Path) -> None:
    worker = TrialWorker(job(tmp_path, "unruly", how="closes what is not its own"))
    message = step(worker)
    assert (message["kind"], message["how"]) == ("gone", "ended with exit code 1")
    assert message["last_lines"] == ["sweeper: the trainer has closed file descriptors that it had not opened"]
    worker.cleanup()


def test_a_trainer_that_will_not_be_stopped_is(tmp_path: Path) -> None:
    worker = TrialWorker(job(tmp_path / "trial", "unruly", how="holds on"))
    step(worker)
    began_s = time.monotonic()
    worker.reset_config(job(tmp_path / "next", "unruly", how="nothing"))
    assert step(worker)["kind"] == "report"
    assert time.monotonic() - began_s < 50
    worker.cleanup()


def test_secrets_are_taken_out_of_error_and_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "planted-7f3a9c1e")
    worker = TrialWorker(job(tmp_path, "talkative"))
    message = step(worker)
    assert message["kind"] == "error"
    said = message["error"] + message["traceback"] + (tmp_path / "log.txt").read_text()
    assert "planted-7f3a9c1e" not in said
    assert "no access with ***" in message["error"]
    assert "the key is ***" in said
    worker.cleanup()


def test_a_trainer_that_asks_for_input_gets_none(tmp_path: Path) -> None:
    worker = TrialWorker(job(tmp_path, "asking"))
    assert step(worker)["error"].startswith("EOFError")
    worker.cleanup()


def test_a_trial_works_in_the_drivers_folder_and_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "driver").mkdir()
    monkeypatch.chdir(tmp_path / "driver")
    worker = TrialWorker(job(tmp_path / "trial", "writing"))
    assert step(worker)["kind"] == "report"
    assert step(worker)["kind"] == "end"
    worker.cleanup()
    assert (tmp_path / "driver" / "relative.txt").read_text() == "here"
    assert sorted(path.name for path in (tmp_path / "trial").iterdir()) == ["log.txt", "own.txt"]


def test_a_trainer_that_is_stopped_tidies_up(tmp_path: Path) -> None:
    worker = TrialWorker(job(tmp_path, "tidy"))
    step(worker)
    worker.cleanup()
    assert (tmp_path / "tidied").exists()


def test_a_repeated_step_is_told_once_with_its_place(tmp_path: Path) -> None:
    worker = TrialWorker(job(tmp_path, "tidy", repeat=True))
    step(worker)
    message = step(worker)
    assert "odd_trainers.py:" in message["error"]
    assert "step 1 was reported twice (at epoch 1 and at epoch 1)" in message["error"]
    worker.cleanup()


def test_the_processes_end_with_the_worker(tmp_path: Path) -> None:
    """As after kill -9: nothing says goodbye."""
    worker = TrialWorker(job(tmp_path, "tidy"))
    step(worker)
    assert worker._process is not None
    process = worker._process._process
    os.close(worker._process._commands)
    assert process.wait(240) == 0
    assert not (tmp_path / "tidied").exists()


def test_a_trial_costs_a_fork_not_an_import(tmp_path: Path) -> None:
    worker = TrialWorker(job(tmp_path / "first", "leaky_trainer:quiet"))
    step(worker)
    times_s = []
    for number in range(10):
        began_s = time.monotonic()
        worker.reset_config(job(tmp_path / str(number), "leaky_trainer:quiet"))
        step(worker)
        times_s.append(time.monotonic() - began_s)
    worker.cleanup()
    assert sorted(times_s)[5] < 0.5


def test_a_log_is_rotated(tmp_path: Path) -> None:
    from sweeper.entrypoint.trial.log import TrialLog

    with closing(TrialLog(tmp_path / "log.txt", largest_bytes=100)) as log:
        for number in range(20):
            log.write(f"line {number:02d} of the log\n".encode())
    assert (tmp_path / "log.txt").read_text().endswith("line 19 of the log\n")
    assert (tmp_path / "log.txt").stat().st_size <= 100
    assert (tmp_path / "log.1.txt").stat().st_size <= 100
