"""The processes of a soak, and its series of small studies whose drivers are killed."""

import os
import random
import shutil
import signal
import subprocess
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil
from checker import Results, check
from faulty import command, environment
from soak_series import Sample

from sweeper.tracking.store.client import open_client

NO_ROOM: Final = "Ray did not start"
"""What a driver says on a machine that is so busy that Ray's processes do not come up in minutes: to be run again."""
KILLS_A_STUDY: Final = 4
"""Most kills of one short study: then it is left to end."""
SHORT = """
name: short
trainer: scripted_trainer:train
base: {{epochs: 4, sleep_s: 0.5, collapse_above: 6.0}}
search_space:
  scale: {{low: 0.5, high: 10.0, log: true}}
objective: {{metric: val/pa_mpjpe_mm, mode: min}}
trials: 5
controls: []
sampler: {{name: tpe, startup_trials: 2}}
scheduler: {{name: asha, mode: {mode}, grace_epochs: 1, eta: 2}}
retention: last
resources: {{concurrent: 1}}
"""


class Soak:
    """The processes, folders and counts of one soak."""

    def __init__(self, out: Path, hours: float, seed: int) -> None:
        self.out, self.seconds, self.draw = out, hours * 3600, random.Random(seed)
        self.ray = Path(f"/tmp/soak-{os.getpid()}")  # short: Ray's sockets lie below it
        self.faults: Counter[str] = Counter()
        self.damaged: set[str] = set()
        self.problems: list[str] = []
        self.samples: list[Sample] = []
        self.children: list[subprocess.Popen[bytes]] = []
        self.template = out / "template.db"
        self.stopped = False

    def home(self, name: str, spec: str) -> Path:
        """A study home with an empty MLflow database, and the spec beside it."""
        home = self.out / name / "home"
        home.mkdir(parents=True)
        (home.parent / "spec.yaml").write_text(spec)
        if not self.template.exists():
            open_client(f"sqlite:///{self.template}").search_experiments()
        shutil.copy(self.template, home / "mlflow.db")
        return home

    def start(self, home: Path) -> "subprocess.Popen[bytes]":
        """`sweeper run` in a process group of its own."""
        with open(home.parent / "said.txt", "ab") as said:
            child = subprocess.Popen(
                command(home, "run", str(home.parent / "spec.yaml"), ray=True),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=environment(RAY_TMPDIR=str(self.ray)),
                start_new_session=True,
            )
        self.children.append(child)
        return child

    def kill(self, child: "subprocess.Popen[bytes]") -> None:
        """kill -9 of a driver and its group; all below it must go by itself."""
        with suppress(psutil.NoSuchProcess):
            below = psutil.Process(child.pid).children(recursive=True)
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            _, alive = psutil.wait_procs(below, timeout=60)
            self.problem(*(f"outlived its driver by a minute: {process}" for process in alive))
            for process in alive:
                process.kill()

    def problem(self, *what: str) -> None:
        for line in what:
            print(f"PROBLEM: {line}", flush=True)
            self.problems.append(line)

    def close(self) -> None:
        for child in self.children:
            if child.poll() is None:
                self.kill(child)
        shutil.rmtree(self.ray, ignore_errors=True)


class ShortSeries:
    """Small studies, one after the other; the first of each mode in peace, the others killed and run again."""

    def __init__(self, soak: Soak, pause_s: float) -> None:
        self.soak, self.pause_s = soak, pause_s
        self.unbroken: dict[str, Results] = {}
        self.number = self.complete = self.kills = self.refused = 0
        self.child: subprocess.Popen[bytes] | None = None
        self.next_s, self.left = 0.0, 0
        self.mode, self.home = "", Path()

    def step(self, now_s: float) -> None:
        """Start, kill, or look, whatever is due."""
        if self.child is None:
            if now_s >= self.next_s:
                self._start(now_s)
        elif self.child.poll() is not None:
            self._ended(self.child.returncode, now_s)
        elif self.left and now_s >= self.next_s:
            self.soak.kill(self.child)
            self.kills += 1
            self.left -= 1
            self.child, self.next_s = None, now_s + self._pause_s()

    def _start(self, now_s: float) -> None:
        if self.home == Path():
            self.number += 1
            self.mode = ("promote", "stop")[self.number % 2]
            self.home = self.soak.home(f"short-{self.number:03d}", SHORT.format(mode=self.mode))
            known = self.mode in self.unbroken
            self.left = self.soak.draw.randint(1, KILLS_A_STUDY) if known else 0
        self.child = self.soak.start(self.home)
        self.next_s = now_s + self.soak.draw.uniform(2.0, 35.0)

    def _ended(self, code: int, now_s: float) -> None:
        name = self.home.parent.name
        if code == 2 and NO_ROOM in (self.home.parent / "said.txt").read_text():
            (self.home.parent / "said.txt").unlink()
            self.refused += 1
            self.child, self.next_s = None, now_s + self._pause_s()
            return
        try:
            assert code == 0, f"exit code {code}"
            found = check(self.home, study="short", unbroken=self.unbroken.get(self.mode))
            self.unbroken.setdefault(self.mode, found)
            self.complete += 1
            shutil.rmtree(self.home.parent)
        except Exception as error:
            self.soak.problem(f"{name}: {error}")
        self.home, self.child, self.next_s = Path(), None, now_s + self._pause_s()

    def finish(self) -> None:
        """Kill no more; run the study at hand to its end."""
        self.left = 0
        while self.home != Path():
            self.child = self.child or self.soak.start(self.home)
            self._ended(self.child.wait(), 0.0)

    def _pause_s(self) -> float:
        return self.soak.draw.expovariate(1 / self.pause_s)
