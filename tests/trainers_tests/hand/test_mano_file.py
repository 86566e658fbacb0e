"""The licensed MANO files: read bit for bit, told apart, and refused plainly when they are something else."""

import pickle
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mano_pickles import (
    Ch,
    CscMatrix,
    Select,
    as_official,
    mano_content,
    mirrored,
    python2_pickle,
    select_of,
    standard_coefficients,
)
from scipy import sparse
from smplx_reference import smplx_layer

from mano_trainers.errors import DataError
from mano_trainers.hand.layer import HandLayer
from mano_trainers.hand.load import load_hand
from mano_trainers.hand.mano_file import Side, load_mano
from mano_trainers.hand.model import HandModel, load_embedded_hand
from mano_trainers.losses.terms import PosePrior, pca_loss


def posed_hand() -> HandModel:
    """The embedded hand with MANO's convention of pose components, and with the pose blend shapes that it lacks."""
    noise = np.random.default_rng(0).normal(scale=1e-4, size=(778, 3, 135))
    return replace(as_official(load_embedded_hand()), posedirs=noise)


def write(folder: Path, content: Any, name: str = "MANO_RIGHT.pkl") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else python2_pickle(content))
    return path


def assert_equal(read: HandModel, source: HandModel) -> None:
    for item in fields(source):
        have, want = getattr(read, item.name), getattr(source, item.name)
        if item.name == "hands_std":  # the root of a square in the file
            np.testing.assert_allclose(have, want, rtol=1e-12)
        elif item.name != "side":
            assert have.dtype == want.dtype
            np.testing.assert_array_equal(have, want)
    assert read.side == source.side


def test_a_right_hand_is_read_bit_for_bit(tmp_path: Path) -> None:
    source = posed_hand()
    content = python2_pickle(mano_content(source))
    for name in (b"chumpy.reordering\nSelect", b"chumpy.ch\nCh", b"scipy.sparse.csc\ncsc_matrix", b"__builtin__\nset"):
        assert name in content
    assert content[:2] == b"\x80\x02"
    read = load_mano(write(tmp_path, content), "right")
    assert_equal(read, source)
    assert all(getattr(read, item.name).flags.writeable for item in fields(read) if item.name != "side")


def test_smplx_and_the_layer_run_on_it_and_agree(tmp_path: Path) -> None:
    hand = load_mano(write(tmp_path, mano_content(posed_hand())), "right")
    generator = torch.Generator().manual_seed(1)
    theta, betas = (torch.randn(4, size, generator=generator, dtype=torch.float64) * 0.3 for size in (45, 10))
    reference = smplx_layer(hand, batch_size=4).double()
    output = reference(hand_pose=theta, betas=betas, global_orient=torch.zeros(4, 3, dtype=torch.float64))
    vertices = HandLayer(hand, torch.float64).vertices(theta, betas)
    torch.testing.assert_close(vertices, output.vertices, atol=1e-6, rtol=0)


def test_files_saved_again_by_python_3_are_read_too(tmp_path: Path) -> None:
    source = posed_hand()
    plain = {key: value for key, value in mano_content(source).items() if key not in ("shapedirs", "J_regressor")}
    plain |= {"shapedirs": source.shapedirs, "J_regressor": source.J_regressor}
    for protocol in range(6):
        assert_equal(load_mano(write(tmp_path, pickle.dumps(plain, protocol)), "right"), source)


def test_python_2_protocols_0_and_1_are_read_too(tmp_path: Path) -> None:
    source = posed_hand()
    for protocol in (0, 1):
        assert_equal(load_mano(write(tmp_path, python2_pickle(mano_content(source), protocol)), "right"), source)


@pytest.mark.parametrize("kind", ["csc_matrix", "csr_matrix", "coo_matrix", "csc_array", "csr_array", "coo_array"])
@pytest.mark.parametrize("protocol", range(6))
def test_every_sparse_layout_of_scipy_is_read(tmp_path: Path, kind: str, protocol: int) -> None:
    source = posed_hand()
    content = {"J_regressor": getattr(sparse, kind)(source.J_regressor), "shapedirs": source.shapedirs}
    path = write(tmp_path, pickle.dumps(mano_content(source) | content, protocol))
    np.testing.assert_array_equal(load_mano(path, "right").J_regressor, source.J_regressor)


def test_big_endian_and_plain_chumpy_arrays_are_read(tmp_path: Path) -> None:
    source = posed_hand()
    content = mano_content(source)
    content |= {"v_template": source.v_template.astype(">f8"), "shapedirs": Ch(x=source.shapedirs)}
    assert_equal(load_mano(write(tmp_path, content), "right"), source)


@pytest.mark.parametrize("fixed", [True, False])
def test_the_left_hand_has_mirrored_shapes_whether_its_file_was_fixed_or_not(tmp_path: Path, fixed: bool) -> None:
    left = mirrored(posed_hand())
    content = mano_content(left)
    if not fixed:  # as published: the right hand's components (smplx issue 48)
        content["shapedirs"] = select_of(posed_hand().shapedirs)
    assert_equal(load_mano(write(tmp_path, content, "MANO_LEFT.pkl"), "left"), left)


def test_the_wrong_side_is_recognised_by_the_content_not_the_name(tmp_path: Path) -> None:
    right, left = mano_content(posed_hand()), mano_content(mirrored(posed_hand()))
    with pytest.raises(DataError, match="is a left hand, but a right hand is needed") as caught:
        load_mano(write(tmp_path, left, "MANO_RIGHT.pkl"), "right")
    assert caught.value.help == "give MANO_RIGHT.pkl"
    with pytest.raises(DataError, match="is a right hand"):
        load_mano(write(tmp_path, right, "MANO_LEFT.pkl"), "left")
    assert load_hand(str(write(tmp_path, left, "any.pkl"))).side == "left"
    half_mirrored = left | {"hands_mean": right["hands_mean"]}
    with pytest.raises(DataError, match="template of one hand and a mean pose of the other"):
        load_mano(write(tmp_path, half_mirrored), "left")


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("components", [1, 15, 45])
def test_the_prior_is_1_on_a_files_own_poses_and_pulls_alike_in_both_conventions(
    tmp_path: Path, components: int, side: Side
) -> None:
    """The spread is in the rows (the published files) or in the coefficients (the embedded hand)."""
    official = posed_hand() if side == "right" else mirrored(posed_hand())
    unit, spread = official.pose_basis
    hands = (official, replace(official, hands_components=unit, hands_std=spread))
    own = torch.from_numpy(standard_coefficients() @ official.hands_components)
    values, slopes = [], []
    for number, source in enumerate(hands):
        hand = load_mano(write(tmp_path, mano_content(source), f"{number}.pkl"), side)
        prior = PosePrior(*(torch.from_numpy(array) for array in (hand.hands_mean, *hand.pose_basis)))
        theta = own.clone().requires_grad_()
        loss = pca_loss(theta, prior, components)
        loss.backward()
        values.append(loss.item())
        slopes.append(theta.grad)
    assert values == pytest.approx([1.0, 1.0], rel=1e-9)
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-9, atol=0)


def test_the_pose_basis_of_the_embedded_hand_is_its_components_to_the_last_bit() -> None:
    hand = load_embedded_hand()
    components, spread = hand.pose_basis
    np.testing.assert_array_equal(components, hand.hands_components)
    np.testing.assert_array_equal(spread, hand.hands_std)


def test_load_hand_knows_the_embedded_hand() -> None:
    assert load_hand("embedded") is load_embedded_hand()


NOT_A_HAND: list[tuple[str, Callable[[dict[str, Any]], dict[str, Any]]]] = [
    ("has no field hands_coeffs", lambda c: {key: value for key, value in c.items() if key != "hands_coeffs"}),
    ("SMPL or SMPL\\+H body model", lambda c: c | {"v_template": np.zeros((6890, 3))}),
    ("shapedirs has shape \\(778, 3, 9\\)", lambda c: c | {"shapedirs": np.zeros((778, 3, 9))}),
    ("posedirs contains values that are not finite", lambda c: c | {"posedirs": np.full((778, 3, 135), np.nan)}),
    ("absurd", lambda c: c | {"hands_mean": np.full(45, 1e300)}),
    ("rows of weights do not each sum to 1", lambda c: c | {"weights": c["weights"] * 0.9}),
    ("weights are negative", lambda c: c | {"weights": np.tile([2.0, -1.0] + [0.0] * 14, (778, 1))}),
    ("rows of J_regressor", lambda c: c | {"J_regressor": np.zeros((16, 778))}),
    ("kintree_table is not", lambda c: c | {"kintree_table": c["kintree_table"][:, ::-1]}),
    ("vertices that do not exist", lambda c: c | {"f": c["f"] + 1}),
    ("f holds float64", lambda c: c | {"f": c["f"].astype(float)}),
    ("not a hand in metres", lambda c: c | {"v_template": c["v_template"] * 1000}),
    ("fewer than 2 poses", lambda c: c | {"hands_coeffs": np.zeros((1, 45))}),
    ("component without spread", lambda c: c | {"hands_coeffs": np.ones((3, 45))}),
    ("a row of zeros", lambda c: c | {"hands_components": np.diag([0.0] + [1.0] * 44)}),
    ("weights is not an array", lambda c: c | {"weights": "many"}),
    ("shapedirs is not an array", lambda c: c | {"shapedirs": broken(select_of(c["weights"]), idxs=np.array([-1]))}),
    ("shapedirs is not an array", lambda c: c | {"shapedirs": broken(select_of(c["weights"]), idxs=np.array([10**9]))}),
    (
        "shapedirs is not an array",
        lambda c: c | {"shapedirs": broken(select_of(c["weights"]), preferred_shape=(1,) * 99)},
    ),
    ("shapedirs is not an array", lambda c: c | {"shapedirs": Select(a=Ch(x=Ch(x=c["weights"])), idxs=np.arange(9))}),
    ("J_regressor is not an array", lambda c: c | {"J_regressor": sparse_with(c, "indices", 16)}),
    ("J_regressor is not an array", lambda c: c | {"J_regressor": sparse_with(c, "indices", -1)}),
    ("J_regressor is not an array", lambda c: c | {"J_regressor": sparse_with(c, "indptr", 10**9)}),
]


def broken(record: Any, **state: Any) -> Any:
    record.__dict__.update(state)
    return record


def sparse_with(content: dict[str, Any], name: str, value: int) -> CscMatrix:
    matrix: CscMatrix = content["J_regressor"]
    changed = getattr(matrix, name).copy()
    changed[5] = value
    return broken(matrix, **{name: changed})


@pytest.mark.parametrize(("message", "change"), NOT_A_HAND, ids=[message for message, _ in NOT_A_HAND])
def test_what_is_wrong_with_the_model_is_reported(
    tmp_path: Path, message: str, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    path = write(tmp_path, change(mano_content(posed_hand())))
    with pytest.raises(DataError, match=message) as caught:
        load_mano(path, "right")
    assert caught.value.where == str(path)
    assert "MANO website" in str(caught.value.help)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "but empty"),
        (b"PK\x03\x04 mano_v1_2.zip", "a zip archive"),
        (b"\n<!DOCTYPE html><html>Please log in</html>", "a web page"),
        (b"\x80\x06N.", "pickle of another protocol"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "a Git LFS pointer.*git lfs pull"),
        (b"hello", "something else"),
        (b"\x80\x02N.", "contains no MANO model"),
        (python2_pickle(mano_content(load_embedded_hand()))[:200_000], "cut short or damaged"),
    ],
)
def test_other_files_are_not_taken_for_mano(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_mano(write(tmp_path, content), "right")
    assert "MANO website" in str(caught.value.help)


def test_a_missing_file_says_where_to_get_one(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "none.pkl", "no such file"), (tmp_path, "not a file")):
        with pytest.raises(DataError, match=message) as caught:
            load_mano(path, "right")
        assert "MANO website" in str(caught.value.help)
