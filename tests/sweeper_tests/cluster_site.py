"""A cluster of network namespaces, with a study home that all of them see."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import faulty
import mlflow
import network

from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import TrialRecord

SPEC = """
name: scripted
trainer: scripted_trainer:train
base: {epochs: 8, sleep_s: 0.4}
search_space:
  scale: {low: 0.5, high: 10.0, log: true}
objective: {metric: val/pa_mpjpe_mm, mode: min}
controls: []
trials: 12
scheduler: {name: none}
resources: {concurrent: all}
"""


WHOLE = ("--set", "resources.cpus=2")
"""A trial takes a machine: its worker takes two seconds of processor time to start."""
SWEEPER = str(Path(sys.executable).parent / "sweeper")


def wait_until(condition: Callable[[], object], timeout_s: float = 400) -> None:
    """Looks twice a second: a look reads the ledger or MLflow, and the cluster is on the same processors."""
    faulty.wait_until(condition, timeout_s, every_s=0.5)


class Site:
    """A cluster: `head` has no room for trials, each of `nodes` has room for two. `with_jobs`: jobs can be submitted to
    it."""

    def __init__(self, stack: ExitStack, *, with_jobs: bool = False) -> None:
        self.make = stack.enter_context(network.network())
        self.head = self.make("head")
        self.address = network.start_head(self.head, with_jobs=with_jobs)
        self.nodes: list[network.Machine] = []

    @property
    def room(self) -> int:
        return 2 * len(self.nodes)

    def join(self, *machines: network.Machine, **environ: str) -> None:
        """They join at the same time."""
        network.join(*machines, address=self.address, **environ)
        self.nodes += machines

    def kill(self, machine: network.Machine) -> None:
        machine.kill()
        self.nodes.remove(machine)

    def run(self, home: Path, *arguments: str, **environ: str) -> "subprocess.Popen[str]":
        spec = str(home.parent / "spec.yaml")
        return self.head.start(
            SWEEPER, "run", spec, "--home", str(home), "--address", self.address, *arguments, **environ
        )


class Slowness:
    """A sweep whose trials take `sleep_s` for each epoch until it ends: whatever is done to it meanwhile finds it at
    work, on a busy machine too, and what is left takes no time. `options` are those of `run`; `folder`: one that all
    machines see."""

    def __init__(self, folder: Path, sleep_s: float) -> None:
        self._mark = folder / "slow"
        self._mark.touch()
        self.options = ("--set", f"base.sleep_s={sleep_s}", "--set", f"base.slow_while={self._mark}")

    def end(self) -> None:
        self._mark.unlink()


def reports(home: Path, study: str = "scripted") -> int:
    folder = home / "studies" / study
    return (folder / "ledger.journal").read_text().count('"report:') if (folder / "ledger.journal").exists() else 0


def trials(home: Path) -> list[TrialRecord]:
    return list(Ledger.open(home / "studies" / "scripted", "scripted").trials())


def machines(home: Path) -> dict[str, str]:
    """Where each trial was at its last report, as MLflow says."""
    client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("scripted")
    assert experiment is not None
    tags = [run.data.tags for run in client.search_runs([experiment.experiment_id])]
    return {tag["sweeper.trial_id"]: tag["sweeper.machine"] for tag in tags if "sweeper.machine" in tag}
