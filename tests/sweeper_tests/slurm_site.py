"""A real Slurm whose nodes are network namespaces: Debian's slurmctld, slurmd and munged, which end with the block."""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import faulty
import network

PROGRAMS: Final = ("slurmctld", "slurmd", "sbatch", "munged")
CPUS: Final = 2
CONF: Final = """
ClusterName=tests
SlurmctldHost={head}({address})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=10
FirstJobId={first}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
MpiDefault=none
SlurmdTimeout=20
KillWait=6
OverTimeLimit=2
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0
GresTypes=gpu
{nodes}
PartitionName=p Nodes=ALL Default=YES PriorityTier=1 MaxTime=INFINITE State=UP
PartitionName=urgent Nodes=ALL PriorityTier=9 PreemptMode=OFF MaxTime=INFINITE State=UP
"""
"""`cred_expire`: a requeued job starts again after so many seconds, else after two minutes. `sched_interval` and
`bf_interval`: and no more than a second later, else up to a minute. `OverTimeLimit`: minutes that a job has beyond its
limit, so that a test may set one that is close."""


def cannot() -> str | None:
    """Why no Slurm can run here, or None."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"{missing[0]} is not installed (Debian: slurmctld, slurmd, slurm-client, munge)"
    return network.cannot()


class SlurmSite:
    """A controller `head`, and nodes with two cores and a GPU that is none."""

    def __init__(self, stack: ExitStack, *names: str) -> None:
        make = stack.enter_context(network.network())
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sweeper-slurm-")))
        self.folder.chmod(0o755)
        (self.folder / "state").mkdir()
        self.head = make("head")
        self.nodes = {name: make(name) for name in names}
        self._write_conf()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        munge = {"key-file": key, "socket": self.folder / "munge.sock", "pid-file": self.folder / "munge.pid"}
        munge |= {"log-file": self.folder / "munge.log", "seed-file": self.folder / "munge.seed"}
        munged = subprocess.Popen(
            [
                "setpriv",
                "--pdeathsig",
                "KILL",
                "munged",
                "--force",
                "--foreground",
                *(f"--{name}={value}" for name, value in munge.items()),
            ]
        )
        stack.callback(munged.wait)
        stack.callback(munged.kill)
        self._until("munge.sock")
        self.head.start("slurmctld", "-D", **self._environ)
        for name in names:
            self.start_node(name)
        stack.callback(self._end_jobs)
        wait_for(lambda: self.states().count("idle") == len(names), 60)

    @property
    def _environ(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def _write_conf(self) -> None:
        nodes = "\n".join(
            f"NodeName={name} NodeAddr={machine.address} CPUs={CPUS} Gres=gpu:1 State=UNKNOWN"
            for name, machine in self.nodes.items()
        )
        conf = CONF.format(
            head=self.head.name, address=self.head.address, folder=self.folder, nodes=nodes, first=100_000 + os.getpid()
        )
        (self.folder / "slurm.conf").write_text(conf)
        (self.folder / "gres.conf").write_text("Name=gpu File=/dev/null\n")
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")  # no look at what a namespace lacks

    def _until(self, name: str) -> None:
        wait_for((self.folder / name).exists, 20)

    def _end_jobs(self) -> None:
        """End what a failed test has left, and the folders of jobs that were killed."""
        self.head.run("scancel", "--full", "--signal=KILL", "--user=root", **self._environ)
        for left in Path("/tmp").glob(f"sweeper-*{os.getpid()}-*"):
            shutil.rmtree(left, ignore_errors=True)

    def start_node(self, name: str) -> None:
        self.nodes[name].start("slurmd", "-D", "-N", name, **self._environ)

    def call(self, *command: str) -> str:
        """Run a command of Slurm on the controller; returns what it says."""
        done = self.head.run(*command, timeout_s=60, **self._environ)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def states(self) -> list[str]:
        return self.call("sinfo", "-hN", "-p", "p", "-o", "%T").split()

    def script(self, home: Path, *options: str, lean: bool = False) -> Path:
        """A batch script for the spec beside the home, as `sweeper slurm` prints it. `lean`: its `ray` is that of
        `lean_node`."""
        spec = str(home.parent / "spec.yaml")
        options = ("--setup", f"PATH={self._lean_program().parent}:$PATH", *options) if lean else options
        command = [str(Path(sys.executable).parent / "sweeper"), "slurm", spec, "--home", str(home), *options]
        done = subprocess.run(command, capture_output=True, text=True, cwd=home.parent, env=faulty.environment())
        assert done.returncode == 0, done.stderr
        path = home.parent / "job.sbatch"
        path.write_text(done.stdout)
        return path

    def _lean_program(self) -> Path:
        path = self.folder / "lean" / "ray"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\nexec {shlex.join(network.LEAN)} "$@"\n')
        path.chmod(0o755)
        return path

    def submit(self, script: Path, *options: str) -> str:
        """Submit it; returns the job's ID. Its output is in `job.out` beside it."""
        log = f"--output={script.parent / 'job.out'}"
        return self.call("sbatch", "--parsable", f"--chdir={script.parent}", log, *options, str(script))

    def job(self, job: str, key: str) -> str:
        """A value of `scontrol show job`."""
        shown = self.call("scontrol", "show", "job", "-o", job)
        return dict(part.partition("=")[::2] for part in shown.split())[key]

    def wait(self, job: str, *states: str, timeout_s: float = 400) -> str:
        """Until it is in one of these states; returns which."""
        wait_for(lambda: self.job(job, "JobState") in states, timeout_s)
        return self.job(job, "JobState")


def wait_for(condition: Callable[[], object], timeout_s: float) -> None:
    """Looks twice a second, as Slurm's daemons are on the same processors."""
    faulty.wait_until(condition, timeout_s, every_s=0.5)
