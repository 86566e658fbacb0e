"""A node for the batch script of `sweeper slurm` without Slurm: `sweeper`, Ray and Slurm's programs are stand-ins."""

import os
import shlex
import subprocess
import time
from pathlib import Path
from typing import Final

SWEEPER: Final = """#!/bin/bash
# `status`: an evaluation more at each call of `run`, or none. `run`: ends by itself, or when it is told to.
here=$(dirname "$0")
case $1 in
  status) echo "  \\"evaluations\\": $(cat "$here/evaluations" 2>/dev/null || echo 0),"; exit ;;
esac
printf '%s\\n' "$@" > "$here/arguments"
pwd > "$here/pwd"; env > "$here/environment"
trap 'echo TERM >> "$here/told"; [ -n "$STUBBORN" ] || { echo 7 > "$here/evaluations"; exit 143; }' TERM
[ -z "$CODE" ] || exit "$CODE"
while :; do sleep 0.1; done
"""
SQUEUE: Final = """#!/bin/bash
echo "${LIMIT:-00:01}"
"""
RAY: Final = """#!/bin/bash
env > "$(dirname "$0")/ray_environment"
[ -z "$SLOW_RAY" ] || exec sleep 100
for word; do case $word in --temp-dir=*) mkdir "${word#*=}"; echo up > "${word#*=}/ray_current_cluster" ;; esac; done
exec sleep 100
"""
SCONTROL: Final = """#!/bin/bash
echo "$*" >> "$(dirname "$0")/asked"
exit ${SCONTROL_CODE:-0}
"""


class Job:
    """The script on a node of its own."""

    def __init__(self, script: str, folder: Path, **environ: str) -> None:
        self.programs, self.local = folder / "programs", folder / "local"
        self.local.mkdir()
        self.programs.mkdir()
        for name, text in (("sweeper", SWEEPER), ("ray", RAY), ("squeue", SQUEUE), ("scontrol", SCONTROL)):
            (self.programs / name).write_text(text)
            (self.programs / name).chmod(0o755)
        path = folder / "job.sbatch"
        path.write_text(script.replace("\nPATH=", f"\nPATH={shlex.quote(str(self.programs))}:$PATH\nIGNORED=", 1))
        slurm = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "one", "SLURM_JOB_NUM_NODES": "1"}
        slurm |= {"SLURMD_NODENAME": "one", "SLURM_TMPDIR": str(self.local), "SLURM_CPUS_PER_TASK": "2"}
        own = {name: value for name, value in os.environ.items() if name != "TRAINERS_CACHE_DIR"}
        self.process = subprocess.Popen(
            ["bash", str(path)], stderr=subprocess.PIPE, text=True, env=own | slurm | environ
        )

    def read(self, name: str) -> str:
        """What a stand-in has written; nothing if it was not called."""
        path = self.programs / name
        return path.read_text().rstrip("\n") if path.exists() else ""

    def started(self, tells: str = "environment") -> None:
        """Waits until a program has started, by what it writes first: `sweeper`, or Ray by `ray_environment`."""
        deadline_s = time.monotonic() + 20
        while not self.read(tells):
            assert time.monotonic() < deadline_s
            time.sleep(0.05)

    def end(self) -> tuple[int, str]:
        said = self.process.communicate(timeout=300)[1]
        assert list(self.local.iterdir()) == [], "its folder is removed"
        assert not list(Path("/tmp").glob(f"sweeper-{os.getpid()}-*"))
        return self.process.returncode, said
