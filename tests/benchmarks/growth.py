"""What a study of ten thousand trials costs: a thousand trials, first against last; bytes a trial; the verbs then.

The trials do nothing and run without Ray, as in `orchestrator_scale.py`, with MLflow. Then `show`, `status`, `report`,
`doctor`, `sync` and `resume` are run on the home, each in a process of its own, as a user runs them; `resume` finds the
study complete.

    PYTHONPATH=.:trainers:tests/benchmarks python tests/benchmarks/growth.py --trials 10000
    PYTHONPATH=.:trainers:tests/benchmarks python tests/benchmarks/growth.py --at-once 48

With `--at-once` a Ray node that claims 64 CPUs, whatever the machine has, runs so many trials side by side, each in a
process of its own; all must end, and MLflow must have every report once.
"""

import argparse
import multiprocessing
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from orchestrator_scale import EPOCHS, SPEC, measure, report

from sweeper.ledger.ledger import Ledger
from sweeper.spec.load import parse_spec

HERE = Path(__file__).resolve().parent
CLAIMED_CPUS = 64
SLEEP_S = 30.0
"""Before each report: so that the first trial still runs when the last is started."""
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


def run_at_once(folder: Path, count: int) -> bool:
    """Run `count` trials at the same time on a node that claims CLAIMED_CPUS; whether all are sound."""
    home, log = folder / "home", folder / "log"
    text = SPEC.format(epochs=EPOCHS, sampler="random", trials=count, mode="stop")
    text = text.replace("mode: stop, grace_epochs: 1, eta: 3", "").replace("{name: asha, }", "{name: none}")
    text = text.replace(f"epochs: {EPOCHS}", f"epochs: {EPOCHS}, sleep_s: {SLEEP_S}, log: {log}")
    spec = folder / "spec.yaml"
    spec.write_text(f"{text}resources: {{concurrent: {count}}}\n")
    paths = (str(HERE), str(HERE.parents[1]), str(HERE.parents[1] / "trainers"))
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "RAY_AUTH_MODE": "token"}
    environ |= {"RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}
    with claimed_node(folder, environ) as address:
        command = [sys.executable, "-m", "sweeper", "run", str(spec), "--home", str(home), "--address", address]
        began_s = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
        wall_s = time.perf_counter() - began_s
    if not log.exists():
        print(
            f"exit code {done.returncode} after {wall_s:.0f} s, and no trial has begun:\n{done.stdout}{done.stderr}"[
                -3000:
            ]
        )
        return False
    trials = Ledger.open(home / "studies" / "scale", "scale").trials()
    reports: dict[str, list[float]] = {}
    for line in log.read_text().splitlines():
        trial, _, at_s = line.split()
        reports.setdefault(trial, []).append(float(at_s))
    spans = [(min(times), max(times)) for times in reports.values()]
    together = max(sum(begin <= at <= end for begin, end in spans) for at, _ in spans)
    with closing(sqlite3.connect(home / "mlflow.db")) as database:
        points = database.execute("SELECT count(*) FROM metrics WHERE key = 'val/pa_mpjpe_mm'").fetchone()[0]
    sound = [trial for trial in trials if trial.state == "COMPLETE" and len(trial.reports) == EPOCHS]
    print(
        f"{count} trials on a node that claims {CLAIMED_CPUS} CPUs ({os.cpu_count()} are there): exit code "
        f"{done.returncode} after {wall_s:.0f} s, {together} at the same time, {len(sound)} sound; MLflow has {points} "
        f"of {count * EPOCHS} reports; load {os.getloadavg()[0]:.1f}"
    )
    is_sound = done.returncode == 0 and len(sound) == count and points == count * EPOCHS
    if not is_sound:
        print(f"{done.stdout}{done.stderr}"[-3000:])
    return is_sound


@contextmanager
def claimed_node(folder: Path, environ: Mapping[str, str]) -> Iterator[str]:
    """A Ray node of this machine with CLAIMED_CPUS; its address."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--disable-usage-stats"]
    command += ["--node-ip-address=127.0.0.1", f"--port={port}", f"--num-cpus={CLAIMED_CPUS}", "--num-gpus=0"]
    command += ["--include-dashboard=false", f"--object-store-memory={100 * 2**20}"]
    with (folder / "node").open("w") as said:
        node = subprocess.Popen(command, stdout=said, stderr=said, env=environ, start_new_session=True)
    try:
        while True:
            assert node.poll() is None, (folder / "node").read_text()
            with closing(socket.socket()) as probe:
                if (
                    probe.connect_ex(("127.0.0.1", port)) == 0
                    and "Ray runtime started" in (folder / "node").read_text()
                ):
                    break
            time.sleep(0.2)
        yield f"127.0.0.1:{port}"
    finally:
        os.killpg(node.pid, signal.SIGTERM)
        node.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, metavar="COUNT", help="run so many trials side by side instead")
    args = parser.parse_args()
    if args.at_once:
        signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # the node ends with this
        with tempfile.TemporaryDirectory() as folder:
            sys.exit(0 if run_at_once(Path(folder), args.at_once) else 1)
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
