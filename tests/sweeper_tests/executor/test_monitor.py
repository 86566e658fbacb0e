"""How many trials fit on the machines, and what their workers use there."""

from types import SimpleNamespace
from typing import Any

import pytest

from sweeper.executor import monitor as workers
from sweeper.executor.monitor import Node, Worker, Workers, room
from sweeper.executor.processes import Sample
from sweeper.spec.model import Resources


@pytest.mark.parametrize(
    ("cpus", "gpus", "of_node", "expected"),
    [
        (2, 0, (9, 0), 4),
        (1, 2, (64, 5), 2),
        (1, 0.6, (64, 3), 3),
        (1, 0.4, (64, 2), 4),
        (1, 0.3, (64, 4), 12),
        (1, 0.25, (2, 1), 2),
    ],
)
def test_a_share_of_a_gpu_comes_from_a_single_gpu(
    cpus: int, gpus: float, of_node: tuple[int, int], expected: int
) -> None:
    node = Node("one", *of_node)
    assert room(Resources(cpus=cpus, gpus=gpus), [node]) == expected
    assert room(Resources(cpus=cpus, gpus=gpus), [node, node]) == 2 * expected


def test_workers_on_one_machine_count_as_busy_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one prepares the data of a machine, the others there wait for it."""
    monkeypatch.setattr(workers, "EVERY_S", 0.01)
    used_s = {1: 30.0, 2: 0.5, 3: 7.0}
    there: Any = SimpleNamespace(samples=lambda asked: {one: Sample(used_s[one.pid], 0.0, {}) for one in asked})
    watched = Workers(there)
    for trial_id, node, pid in (("t-0", "one", 1), ("t-1", "one", 2), ("t-2", "two", 3)):
        watched.started(trial_id, Worker(node, pid, "10.0.0.1"))
    while not all(watched.cpu_s(trial_id) for trial_id in ("t-0", "t-1", "t-2")):
        pass
    assert watched.cpu_s("t-1") == 0.5
    assert watched.cpu_s("t-1", {"t-0", "t-1", "t-2"}) == 30.5
    assert watched.cpu_s("t-2", {"t-0", "t-1", "t-2"}) == 7.0
    watched.ended("t-0")
    assert watched.cpu_s("t-1", {"t-0", "t-1", "t-2"}) == 0.5
    watched.close()
