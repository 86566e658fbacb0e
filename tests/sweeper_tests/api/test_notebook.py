"""docs/colab.md and `sweeper.run` as in a notebook's cells: no terminal, and an interrupt instead of Ctrl-C."""

import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
from faulty import environment, wait_until
from places import ROOT

PAGE = (ROOT / "docs" / "colab.md").read_text()
CELLS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SMALL = '"trials": 2, "base.data.embedded_count": 120, "base.optim.batch_size": 8, "controls": "[constant_pose]",'
"""Replaces the page's `"trials": 8`: as few images as preflight accepts."""
KERNEL = """
import os, sys, time
import sweeper

def children(pid):
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = open(f"/proc/{name}/stat").read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(stat[1]) == pid and stat[0] != "Z":
            found.append(int(name))
    return found

def cell(number):
    print(f"cell {number}", flush=True)
    try:
        study = sweeper.run(SPEC, home="home")
        print(f"exit code {study.exit_code}: {study!r}", flush=True)
    except KeyboardInterrupt:
        print("KeyboardInterrupt", flush=True)
    import ray
    ends_s = time.monotonic() + 20  # a process that was just being started sees by itself that nobody needs it
    while children(os.getpid()) and time.monotonic() < ends_s:
        time.sleep(0.1)
    print(f"ray {ray.is_initialized()}, children {len(children(os.getpid()))}", flush=True)

SPEC = {
    "name": "cells", "trainer": "scripted_trainer:train", "base": {"epochs": 4, "sleep_s": 1.0}, "controls": [],
    "search_space": {"scale": {"values": [1.0, 2.0]}}, "sampler": {"name": "grid"}, "trials": 2, "guards": [],
    "objective": {"metric": "val/pa_mpjpe_mm", "mode": "min"}, "scheduler": {"name": "none"},
}
for line in sys.stdin:
    cell(line.strip())
"""


class Kernel:
    """A process that runs the cell each time it is told to, without a terminal, like a notebook's kernel."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", KERNEL],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment(),
            text=True,
            start_new_session=True,
        )
        self.said = ""
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said += line

    def run_cell(self, name: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{name}\n")
        self._process.stdin.flush()

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def wait_for(self, what: str, after: str = "") -> str:
        """Wait until it has printed `what`; returns its output since `after`, that is, the cell's."""
        wait_until(lambda: what in self._since(after) or self._process.poll() is not None, 200)
        found = self._since(after)
        assert what in found, self.said
        return found

    def _since(self, after: str) -> str:
        return self.said.partition(after)[2] if after else self.said

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.mark.slow
def test_an_interrupted_cell_leaves_no_ray_and_resumes_when_it_is_run_again(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    try:
        kernel.run_cell("early")
        kernel.wait_for("starting to prepare the data")
        kernel.interrupt()
        assert kernel.wait_for("ray False, children 0", "cell early").count("KeyboardInterrupt") == 1
        kernel.run_cell("midway")
        kernel.wait_for("cells-0000 epoch 1: ", "cell midway")  # progress, a line each
        kernel.interrupt()
        said = kernel.wait_for("ray False, children 0", "cell midway")
        assert "exit code 130" in said
        assert "Traceback" not in said
        kernel.run_cell("again")
        said = kernel.wait_for("ray False, children 0", "cell again")
        assert "exit code 0: <Study cells: 2 COMPLETE>" in said
        assert "resumed after evaluation" in said
    finally:
        kernel.close()


def run_page(folder: Path) -> dict[str, Any]:
    """The page's cells after the first, as IPython runs them: a line with `!` is a command."""
    names: dict[str, Any] = {}
    for cell in CELLS[1:]:
        if cell.startswith("!sweeper "):
            command = [sys.executable, "-m", *cell[1:].strip().format(**names).split()]
            names["winners"] = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        else:
            exec(
                cell.replace('"trials": 8,', SMALL).replace('"base.optim.epochs": 12', '"base.optim.epochs": 2'), names
            )
    return names


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_page_leads_from_nothing_to_a_winner_and_continues_in_the_next_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert CELLS[0].startswith("%pip install")
    monkeypatch.chdir(tmp_path)
    names = run_page(tmp_path)
    study = names["study"]
    assert study.exit_code in (0, 3), "so few images need not teach anything"
    assert len(study.trials()) == 2
    assert (tmp_path / "sweeps-copy" / "loss_balance").is_dir()
    winners = names["winners"]
    assert winners.returncode in (0, 3), winners.stderr
    assert "loss_balance-winners" in winners.stdout + winners.stderr
    before = study.trials()
    shutil.rmtree(tmp_path / "sweeps")  # the session is gone
    again = run_page(tmp_path)
    assert again["study"].trials().equals(before), "all of it came from the copy"
    assert "continues from its copy" in again["winners"].stderr


def test_the_cells_of_the_page_are_valid_python() -> None:
    assert len(CELLS) == 6
    for cell in CELLS:
        lines = [line for line in cell.splitlines() if not line.startswith(("!", "%"))]
        compile(textwrap.dedent("\n".join(lines)), "docs/colab.md", "exec")
