import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mano_trainers.data.split import split_by_pose


@given(st.integers(2, 500), st.floats(0.01, 0.99), st.integers(0, 5))
def test_every_pose_is_on_exactly_one_side(poses: int, val_fraction: float, seed: int) -> None:
    train, val = split_by_pose(poses, val_fraction, seed)
    assert sorted([*train, *val]) == list(range(poses))
    assert len(train) >= 1
    assert len(val) >= 1
    assert abs(len(val) - poses * val_fraction) <= 1


def test_the_split_is_the_same_every_time() -> None:
    np.testing.assert_array_equal(split_by_pose(100, 0.2)[1], split_by_pose(100, 0.2)[1])
