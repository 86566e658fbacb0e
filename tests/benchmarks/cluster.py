"""What the driver costs on a Ray cluster: processor time a trial and a report, by nodes and by trials at once.

Trials sleep and report, so that the driver is what is measured: the processor seconds of `sweeper run --address` itself
(getrusage of the ended process), on a cluster of `ray.cluster_utils` with as many logical cores as there are
trials at once. The cost of a report is the slope between runs of few and of many reports, that of a trial between runs
of few and of many trials, so that what a start costs is in neither.

    PYTHONPATH=. python tests/benchmarks/cluster.py --nodes 1 2 4 --concurrent 4 16 64
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
SPEC = """
name: noop
trainer: noop_trainer:train
base: {{epochs: {epochs}, sleep_s: {sleep_s}}}
search_space:
  scale: {{low: 0.5, high: 10.0, log: true}}
  offset: {{low: 0.0, high: 1.0}}
objective: {{metric: val/pa_mpjpe_mm, mode: min}}
sampler: {{name: random}}
trials: {trials}
controls: []
scheduler: {{name: none}}
resources: {{concurrent: {concurrent}}}
"""


@contextmanager
def cluster(nodes: int, cores: int) -> Iterator[str]:
    """A Ray cluster with so many logical cores, spread over its nodes; yields its address."""
    from ray.cluster_utils import Cluster

    each = -(-cores // nodes)
    there = Cluster(initialize_head=True, head_node_args={"num_cpus": each, "include_dashboard": False})
    try:
        for _ in range(nodes - 1):
            there.add_node(num_cpus=each)
        yield str(there.address)
    finally:
        there.shutdown()


def driver_cost(address: str, trials: int, epochs: int, concurrent: int, sleep_s: float) -> tuple[float, float]:
    """(processor seconds, wall seconds) of one `sweeper run`."""
    with tempfile.TemporaryDirectory() as name:
        spec = Path(name) / "spec.yaml"
        spec.write_text(SPEC.format(trials=trials, epochs=epochs, concurrent=concurrent, sleep_s=sleep_s))
        command = [str(Path(sys.executable).parent / "sweeper"), "run", str(spec), "--home", f"{name}/home"]
        began_s = time.monotonic()
        with (Path(name) / "output").open("w") as output:
            process = subprocess.Popen([*command, "--address", address], stdout=output, stderr=output)
            _, status, usage = os.wait4(process.pid, 0)
        if os.waitstatus_to_exitcode(status) != 0:
            raise SystemExit((Path(name) / "output").read_text()[-3000:])
        return usage.ru_utime + usage.ru_stime, time.monotonic() - began_s


def measure(nodes: int, concurrent: int, sleep_s: float, waves: int, epochs: int) -> None:
    """Print the cost of a trial and of a report."""
    with cluster(nodes, concurrent) as address:
        few = driver_cost(address, concurrent, 1, concurrent, sleep_s)
        many_reports = driver_cost(address, concurrent, 1 + epochs, concurrent, sleep_s)
        many_trials = driver_cost(address, concurrent * (1 + waves), 1, concurrent, sleep_s)
    report_ms = 1000 * (many_reports[0] - few[0]) / (concurrent * epochs)
    trial_ms = 1000 * (many_trials[0] - few[0]) / (concurrent * waves)
    print(
        f"{nodes} nodes, {concurrent} at once: {report_ms:.1f} ms of the processor a report, {trial_ms:.1f} ms a trial "
        f"of one report; a start {few[0]:.1f} s; at that, 100 trials at once saturate the driver where an epoch takes "
        f"{report_ms / 10:.1f} s, 1000 where it takes {report_ms:.0f} s; load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--concurrent", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--sleep-s", type=float, default=2.0)
    parser.add_argument("--waves", type=int, default=3, help="further trials, in multiples of those at once")
    parser.add_argument("--epochs", type=int, default=20, help="further reports of each trial")
    args = parser.parse_args()
    path = [str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(path)  # the nodes and the driver inherit it
    os.environ["TRAINERS_CACHE_DIR"] = tempfile.mkdtemp()
    from sweeper.executor.cluster import set_environment

    os.environ["RAY_AUTH_MODE"] = "disabled"
    set_environment("a cluster")
    for nodes in args.nodes:
        for concurrent in args.concurrent:
            measure(nodes, concurrent, args.sleep_s, args.waves, args.epochs)


if __name__ == "__main__":
    main()
