"""How many trials find room on machines."""

import pytest

from sweeper.spec_model import Resources
from sweeper.workers import Node, room


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
def test_a_share_of_a_gpu_is_of_one_gpu(cpus: int, gpus: float, of_node: tuple[int, int], expected: int) -> None:
    node = Node("one", *of_node)
    assert room(Resources(cpus=cpus, gpus=gpus), [node]) == expected
    assert room(Resources(cpus=cpus, gpus=gpus), [node, node]) == 2 * expected
