"""What a study of ten thousand trials costs: a thousand trials, first against last; bytes a trial; the verbs then.

The trials do nothing and run without Ray, as in `orchestrator_scale.py`, with MLflow. Then `show`, `status`, `report`,
`doctor`, `sync` and `resume` are run on the home, each in a process of its own, as a user runs them; `resume` finds the
study complete.

    PYTHONPATH=.:trainers:tests/benchmarks python tests/benchmarks/growth.py --trials 10000
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from orchestrator_scale import EPOCHS, SPEC, measure, report

from sweeper.ledger.ledger import Ledger
from sweeper.spec.load import parse_spec

VERBS = (
    ("show", "scale"),
    ("status", "scale"),
    ("report", "scale"),
    ("doctor",),
    ("sync", "scale"),
    ("resume", "scale"),
)


def grow(home: Path, trials: int) -> None:
    report("random, stop, MLflow on", measure(home, trials, "random", "stop", tracked=True))


def bytes_of(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum({file.stat().st_ino: file.stat().st_blocks * 512 for file in files}.values())  # links once


def print_sizes(home: Path, trials: int) -> None:
    study = home / "studies" / "scale"
    for name, path in (
        ("ledger", study / "ledger.journal"),
        ("outbox, as it waits", study / "outbox.jsonl"),
        ("outbox, delivered", study / "outbox.delivered.gz"),
        ("MLflow's database", home / "mlflow.db"),
        ("artifacts", home / "artifacts"),
        ("the whole home", home),
    ):
        if path.exists():
            print(f"{name}: {bytes_of(path) / trials / 1000:.2f} KB a trial")


def time_verbs(home: Path) -> None:
    """Seconds of each verb: wall and processor. The first is an empty one, which all of them include."""
    for verb in (("--version",), *VERBS):
        command = [sys.executable, "-m", "sweeper", *verb, *(["--home", str(home)] if verb[0] != "--version" else [])]
        if verb[0] == "report":
            command += ["--out", str(home / "report.html")]
        began, before = time.perf_counter(), os.times()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        now = os.times()
        used_s = now.children_user + now.children_system - before.children_user - before.children_system
        last = (done.stdout + done.stderr).strip().splitlines()[-1]
        print(
            f"{' '.join(verb)}: {time.perf_counter() - began:.2f} s ({used_s:.2f} of processor), exit code "
            f"{done.returncode}, {len(done.stdout.splitlines())} lines: {last[:100]}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        grown = multiprocessing.Process(target=grow, args=(home, args.trials))  # what it has not delivered, sync does
        grown.start()
        grown.join()
        text = SPEC.format(epochs=EPOCHS, sampler="random", trials=args.trials, mode="stop")
        spec = parse_spec(text, home / "spec.yaml")
        ledger = Ledger.create(home / "studies" / "scale", "scale")
        ledger.attributes.spec, ledger.attributes.spec_text = spec.effective, text
        ledger.close()
        print_sizes(home, args.trials)
        time_verbs(home)
        print_sizes(home, args.trials)


if __name__ == "__main__":
    main()
