"""The licensed MANO files, `MANO_RIGHT.pkl` and `MANO_LEFT.pkl`, read without chumpy and without running anything.

The files are Python 2 pickles that contain chumpy and scipy objects; `restricted_pickle` returns them as plain records,
and both kinds are evaluated here. MANO is licensed for non-commercial research and is never shipped: the user brings
the file. Fields and frame: Romero et al., "Embodied Hands", 2017, and smplx.
"""

import math
from pathlib import Path
from typing import Any, Final, Literal, TypeGuard

import numpy as np
from numpy.typing import NDArray

from mano_trainers.arrays import Array
from mano_trainers.errors import DataError
from mano_trainers.hand.model import PARENTS, HandModel
from mano_trainers.hand.restricted_pickle import Stored, read_pickle

Side = Literal["right", "left"]
SHAPES: Final = {
    "v_template": (778, 3),
    "shapedirs": (778, 3, 10),
    "posedirs": (778, 3, 135),
    "J_regressor": (16, 778),
    "weights": (778, 16),
    "hands_components": (45, 45),
    "hands_mean": (45,),
    "hands_coeffs": (None, 45),
    "f": (None, 3),
    "kintree_table": (2, 16),
}
INTEGER_FIELDS: Final = ("f", "kintree_table")
LARGEST: Final = 1e6
"""No metre, radian or weight of a hand comes close; below it no sum overflows."""
BODY_MODELS: Final = {6890: "SMPL or SMPL+H", 10475: "SMPL-X"}
WHERE_FROM: Final = {
    "right": "register on the MANO website and take models/MANO_RIGHT.pkl out of its archive; or use the embedded hand",
    "left": "register on the MANO website and take models/MANO_LEFT.pkl out of its archive",
}
"""Where to get the file of each hand. A left one is needed only if a data set shows left hands."""


class _Unsound(Exception):
    """The file does not contain a MANO hand; the text says why."""


def load_mano(path: Path, side: Side) -> HandModel:
    """Reads a licensed MANO file and checks that it is the hand asked for.

    Args:
        path: `MANO_RIGHT.pkl` or `MANO_LEFT.pkl`; the name does not matter.
        side: which hand it must be.

    Returns:
        The hand, float64, metres and radians. `hands_std` is the standard deviation of `hands_coeffs`, which is
        1 in the published files: there the rows of `hands_components` carry the spread. If a left hand's
        `shapedirs` are the right hand's (as published), they are mirrored: see `_mirror_shapedirs`.

    Raises:
        DataError: missing, not a MANO file, damaged, refused (it asks for code), or the other hand.
    """
    hand = read_mano(path, side)
    if hand.side != side:
        raise DataError(
            f"is a {hand.side} hand, but a {side} hand is needed",
            where=str(path),
            help=f"give MANO_{side.upper()}.pkl",
        )
    return hand


def read_mano(path: Path, wanted: Side = "right") -> HandModel:
    """As `load_mano`, whichever hand it is: the side is determined from the content by `hand_side`.

    `wanted` is the hand that errors say where to get.
    """
    try:
        return _read(read_pickle(path, help=WHERE_FROM[wanted]))
    except _Unsound as error:
        raise DataError(str(error), where=str(path), help=WHERE_FROM[wanted]) from None


def _read(content: Any) -> HandModel:
    if type(content) is not dict:
        raise _Unsound("contains no MANO model")
    fields = {name: _field(content, name) for name in SHAPES}
    _check(fields)
    side = hand_side(fields["J_regressor"] @ fields["v_template"], fields["hands_mean"])
    if side is None:
        raise _Unsound("has a template of one hand and a mean pose of the other")
    if side == "left":
        fields["shapedirs"] = _mirror_shapedirs(fields["v_template"], fields["shapedirs"])
    hands_std = fields.pop("hands_coeffs").std(axis=0)
    return HandModel(side=side, hands_std=hands_std, **fields)


def hand_side(joints_m: Array, hands_mean: Array) -> Side | None:
    """Distinguishes a right hand's model from a left one's; None where its two signs contradict.

    1. MANO's frame, that of a person in T pose who faces +z: the fingers of the right hand point along -x, those of
       the left hand along +x (wrist at x = +0.096 m and -0.096 m in the published files).
    2. The mean pose, whatever the frame: curling fingers turn about an axis across the palm. By the right-hand rule it
       points from the pinky to the index in a right hand, and the other way in a left hand. This relies on a mean pose
       that curls the fingers, as that of natural poses does.

    Args:
        joints_m: (16, 3) joints of the template in MANO's order.
        hands_mean: (45,) mean pose, axis-angle.
    """
    wrist, index, middle, pinky = joints_m[[0, 1, 4, 7]]
    right_by_frame = middle[0] < wrist[0]
    curl = hands_mean.reshape(15, 3)[:12].sum(axis=0)  # the four fingers; the thumb bends about other axes
    right_by_curl = curl @ (index - pinky) > 0
    if right_by_frame != right_by_curl:
        return None
    return "right" if right_by_frame else "left"


def _mirror_shapedirs(template: Array, shapedirs: Array) -> Array:
    """The left hand's shape components with the sign of x fixed, where it has to be.

    The published MANO_LEFT carries the right hand's components, so its hands grow shorter while they grow broader
    (smplx issue 48: `shapedirs[:, 0, :] *= -1`). The components are those of a population of unit variance, so the
    covariance of length (x) and breadth (z) over it is the sum over components of the product of both stretches.
    It is positive in people; a negative one shows the fault, and a file fixed before is left as it is.
    """
    centred = template - template.mean(axis=0)
    stretch = np.einsum("vc,vck->ck", centred, shapedirs) / (centred**2).sum(axis=0)[:, None]
    if stretch[0] @ stretch[2] >= 0:
        return shapedirs
    fixed: Array = shapedirs * np.array([-1.0, 1.0, 1.0])[:, None]
    return fixed


def _check(fields: dict[str, Any]) -> None:
    """What holds for every hand of MANO's layout."""
    faces, tree = fields["f"], fields["kintree_table"]
    if not len(faces) or faces.min() < 0 or faces.max() >= 778:
        raise _Unsound("f names vertices that do not exist")
    if tuple(tree[0, 1:]) != PARENTS or tuple(tree[1]) != tuple(range(16)):
        raise _Unsound("kintree_table is not the joint tree of a MANO hand")
    for name in ("weights", "J_regressor"):
        if np.abs(fields[name].sum(axis=1) - 1).max() > 1e-4:
            raise _Unsound(f"the rows of {name} do not each sum to 1")
    if fields["weights"].min() < -1e-6:
        raise _Unsound("weights are negative")
    if len(fields["hands_coeffs"]) < 2:
        raise _Unsound("hands_coeffs has fewer than 2 poses, so no spread")
    if not (fields["hands_coeffs"].std(axis=0) > 0).all():
        raise _Unsound("hands_coeffs has a component without spread")
    if not fields["hands_components"].any(axis=1).all():
        raise _Unsound("hands_components has a row of zeros")
    joints = fields["J_regressor"] @ fields["v_template"]
    palm = float(np.linalg.norm(joints[4] - joints[0]))
    if not 0.03 < palm < 0.3:
        raise _Unsound(f"wrist and middle knuckle are {palm:.4g} apart: not a hand in metres")


def _field(content: dict[str, Any], name: str) -> Any:
    """One field as a new float64 or int64 array of the right shape, finite."""
    if name not in content:
        raise _Unsound(f"has no field {name}")
    value = _evaluate(content[name], name)
    vertices = value.shape[0] if name == "v_template" and value.ndim else None
    if vertices in BODY_MODELS:
        raise _Unsound(f"is a {BODY_MODELS[vertices]} body model ({vertices} vertices), not a MANO hand (778)")
    expected = SHAPES[name]
    fits = len(value.shape) == len(expected) and all(
        want in (None, have) for want, have in zip(expected, value.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in expected)
        raise _Unsound(f"{name} has shape {value.shape}, not ({wanted})")
    integers = name in INTEGER_FIELDS
    if value.dtype.kind not in ("iu" if integers else "fiu"):
        raise _Unsound(f"{name} holds {value.dtype}, not {'whole numbers' if integers else 'numbers'}")
    array: NDArray[Any] = np.array(value, dtype=np.int64 if integers else np.float64, order="C")
    if not integers and not (np.abs(array) < LARGEST).all():
        raise _Unsound(f"{name} contains values that are not finite, or absurd")
    return array


def _evaluate(value: Any, name: str) -> NDArray[Any]:
    """The array that an array, a chumpy object or a sparse matrix stands for."""
    if isinstance(value, Stored) and isinstance(value.state, dict):
        state = value.state
        if value.kind == "Ch":
            value = state.get("x")
        elif value.kind == "Select":
            source = state.get("a")
            if isinstance(source, Stored) and source.kind == "Ch" and isinstance(source.state, dict):
                source = source.state.get("x")
            value = _select(source, state.get("idxs"), state.get("preferred_shape"))
        elif value.kind in ("csc", "csr", "coo"):
            value = _dense(value.kind, state)
    if not isinstance(value, np.ndarray):
        raise _Unsound(f"{name} is not an array, nor a chumpy or sparse one that fits together")
    return value


def _select(source: Any, places: Any, shape: Any) -> NDArray[Any] | None:
    """chumpy's Select: elements of the flat source by index, in a shape; None where the parts do not fit."""
    if not (_is_array(source, "fiu") and _is_array(places, "iu") and _within(places, source.size)):
        return None
    picked: NDArray[Any] = source.ravel()[places]
    if shape is None:
        return picked
    if not (isinstance(shape, tuple) and len(shape) <= 3 and all(type(size) is int and size > 0 for size in shape)):
        return None
    return picked.reshape(shape) if math.prod(shape) == picked.size else None


def _dense(layout: str, state: dict[str, Any]) -> Array | None:
    """A sparse matrix of the joint regressor's shape; None where the parts do not fit. Entries of one place add up.

    coo: data[i] stands in row[i] and col[i] (`coords` since scipy 1.13). csc and csr: data[i] stands in row or column
    indices[i] of the column or row c that has indptr[c] <= i < indptr[c + 1].
    """
    shape = (16, 778)
    data = state.get("data")
    if layout == "coo":
        coords = state.get("coords", (state.get("row"), state.get("col")))
    else:
        indices, repeated = state.get("indices"), _repeated(state.get("indptr"), shape[layout == "csc"])
        coords = (indices, repeated) if layout == "csc" else (repeated, indices)
    if not (_is_array(data, "fiu") and data.ndim == 1 and isinstance(coords, tuple) and len(coords) == 2):
        return None
    for places, size in zip(coords, shape, strict=True):
        if not _is_array(places, "iu") or places.shape != data.shape or not _within(places, size):
            return None
    dense = np.zeros(shape)
    np.add.at(dense, coords, data)
    return dense


def _repeated(ends: Any, count: int) -> NDArray[np.int64] | None:
    """Each of `count` rows or columns as often as it has entries, which `ends` (count + 1,) tells."""
    if not _is_array(ends, "iu") or ends.shape != (count + 1,):
        return None
    starts: NDArray[np.int64] = ends.astype(np.int64)
    counts = np.diff(starts)
    if starts[0] != 0 or (counts < 0).any() or starts[-1] > LARGEST:
        return None
    return np.repeat(np.arange(count), counts)


def _within(places: NDArray[Any], size: int) -> bool:
    return places.size == 0 or (int(places.min()) >= 0 and int(places.max()) < size)


def _is_array(value: Any, kinds: str) -> TypeGuard[NDArray[Any]]:
    return isinstance(value, np.ndarray) and value.dtype.kind in kinds
