"""Scripts that call `sweeper.report`: how they end, along with everything they have started."""

import signal
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

import sweeper
from sweeper.entrypoint.program.script import ScriptFailed, run_script


def script(folder: Path, text: str) -> list[str]:
    (folder / "script.py").write_text(textwrap.dedent(text))
    return [sys.executable, str(folder / "script.py")]


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE  # a zombie has ended, though nobody waited
    except psutil.NoSuchProcess:
        return False


def test_a_signal_is_named(tmp_path: Path) -> None:
    command = script(tmp_path, "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(ScriptFailed, match="was ended by SIGKILL"):
        list(run_script(command, {}, tmp_path, None))


@pytest.mark.parametrize("catches", ["except Exception: pass", "finally: pass"])
def test_a_script_that_catches_exceptions_is_stopped_all_the_same(tmp_path: Path, catches: str) -> None:
    command = script(
        tmp_path,
        f"""
        import sweeper
        for epoch in range(1, 1000):
            try: sweeper.report(epoch, {{"a": epoch}})
            {catches}
        """,
    )
    training = run_script(command, {}, tmp_path, None)
    next(training)
    began_s = time.monotonic()
    training.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began_s < 9, "it was not waited for"


def test_what_a_script_started_ends_with_it(tmp_path: Path) -> None:
    command = script(
        tmp_path,
        """
        import subprocess, sweeper, sys
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
        sweeper.report(1, {"child": child.pid})
        """,
    )
    [report] = run_script(command, {}, tmp_path, None)
    deadline_s = time.monotonic() + 10
    while is_running(int(report.metrics["child"])):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def test_a_script_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    command = script(
        tmp_path,
        f"""
        import os, pathlib, signal, sweeper, time
        pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(os.getpid()))
        signal.signal({int(signal.SIGTERM)}, signal.SIG_IGN)
        try: sweeper.report(1, {{"a": 1}})
        except SystemExit: time.sleep(1000)
        """,
    )
    training = run_script(command, {}, tmp_path, None, grace_s=0.3)
    next(training)
    process = psutil.Process(int((tmp_path / "pid").read_text()))
    training.close()  # type: ignore[attr-defined]
    assert not process.is_running()


def test_a_fractional_epoch_needs_a_step(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = script(tmp_path, "import sweeper; sweeper.report(0.5, {'a': 1})")
    with pytest.raises(ScriptFailed):
        list(run_script(command, {}, tmp_path, None))
    assert "epoch 0.5 is fractional, so the evaluation needs a `step=`" in capfd.readouterr().err


def test_outside_a_sweep_a_report_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SWEEPER_SOCKET", raising=False)
    sweeper.report(2, {"val/error": 0.25})
    assert capsys.readouterr().err == "epoch 2: val/error 0.25\n"
    assert (sweeper.config(), sweeper.resume_from()) == ({}, None)
