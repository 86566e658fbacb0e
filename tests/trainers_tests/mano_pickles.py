"""Writes pickles in the form of the published MANO files: Python 2, protocol 2, with chumpy's and scipy's class names.

Their names and fields are those of chumpy (`Ch`, `reordering.Select`) and of scipy's csc_matrix at that time; neither
library is needed, since a pickle holds names only.
"""

import io
import pickle
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from scipy import sparse

from mano_trainers.hand.model import HandModel

PYTHON2_MODULES = {
    "numpy._core.multiarray": "numpy.core.multiarray",
    "builtins": "__builtin__",
    "copyreg": "copy_reg",
    "scipy.sparse._csc": "scipy.sparse.csc",
}


class Ch:
    def __init__(self, **state: Any) -> None:
        added = {
            "_dirty_vars": {"x"},
            "_itr": None,
            "_depends_on_deps": {},
            "_make_dense": False,
            "_make_sparse": False,
        }
        self.__dict__.update(added | state)


class Select(Ch):
    pass


class CscMatrix:
    def __init__(self, matrix: Any) -> None:
        compressed = sparse.csc_matrix(matrix)
        arrays = {name: getattr(compressed, name) for name in ("data", "indices", "indptr")}
        self.__dict__.update(_shape=compressed.shape, format="csc", maxprint=50, **arrays)


NAMES = {
    Ch: ("chumpy.ch", "Ch"),
    Select: ("chumpy.reordering", "Select"),
    CscMatrix: ("scipy.sparse.csc", "csc_matrix"),
}


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined,misc]
    """Protocols 0 to 2 as Python 2 wrote them: text and bytes as 8-bit strings, modules by their old names."""

    dispatch = pickle._Pickler.dispatch.copy()  # type: ignore[attr-defined]

    def save_8_bit(self, value: str | bytes) -> None:
        raw = value.encode("latin-1") if isinstance(value, str) else value
        if self.proto == 0:  # the literal, which holds no line break
            self.write(pickle.STRING + repr(raw)[1:].encode() + b"\n")
            self.memoize(value)
            return
        short = len(raw) < 256
        size = len(raw).to_bytes(1 if short else 4, "little")
        self.write((pickle.SHORT_BINSTRING if short else pickle.BINSTRING) + size + raw)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_8_bit

    def save_global(self, obj: Any, name: str | None = None) -> None:
        module, name = NAMES.get(obj, (obj.__module__, name or obj.__qualname__))
        module = PYTHON2_MODULES.get(module, module)
        self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
        self.memoize(obj)

    dispatch[type] = save_global


def python2_pickle(value: Any, protocol: int = 2) -> bytes:
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=protocol).dump(value)
    return stream.getvalue()


def select_of(array: np.ndarray[Any, Any]) -> Select:
    """chumpy's `Ch(big)[:, :, :n]`: the array is the first part of one with more components."""
    big = np.concatenate([array, array[..., ::-1] * 0.5], axis=-1)
    places = np.arange(big.size).reshape(big.shape)[..., : array.shape[-1]]
    return Select(a=Ch(x=big), idxs=places.ravel(), preferred_shape=places.shape)


@cache
def standard_coefficients() -> np.ndarray[Any, Any]:
    """(1554, 45) of mean 0 and standard deviation 1 in every column."""
    drawn = np.random.default_rng(0).normal(size=(1554, 45))
    drawn -= drawn.mean(axis=0)
    coefficients: np.ndarray[Any, Any] = drawn / drawn.std(axis=0)
    return coefficients


def as_official(hand: HandModel) -> HandModel:
    """The hand in the convention of the published files: orthogonal rows whose norms are the spread of the pose (1.307,
    ... 0.036 there), and coefficients of standard deviation 1. The spread falls as theirs does."""
    spread = np.geomspace(1.307, 0.036, 45)
    unit = np.linalg.qr(hand.hands_components.T)[0].T  # the embedded hand's are rounded to float32
    return replace(hand, hands_components=spread[:, None] * unit, hands_std=np.ones(45))


def mano_content(hand: HandModel) -> dict[str, Any]:
    """The fields of a MANO file that holds this hand, with 1554 poses, as published, whose coefficients spread by its
    `hands_std` about zero."""
    return {
        "hands_components": hand.hands_components,
        "f": hand.f.astype(np.uint32),
        "J_regressor": CscMatrix(hand.J_regressor),
        "kintree_table": hand.kintree_table,
        "J": hand.J_regressor @ hand.v_template,
        "weights": hand.weights,
        "bs_style": "lbs",
        "hands_coeffs": standard_coefficients() * hand.hands_std,
        "posedirs": np.asfortranarray(hand.posedirs),
        "hands_mean": hand.hands_mean,
        "v_template": hand.v_template,
        "shapedirs": select_of(hand.shapedirs),
        "bs_type": "lrotmin",
    }


def mirrored(hand: HandModel) -> HandModel:
    """The same hand as a left one: positions mirrored in x, rotations turned about the mirrored axes."""
    position, rotation = np.array([-1.0, 1.0, 1.0]), np.tile([1.0, -1.0, -1.0], 15)
    return HandModel(
        side="left",
        v_template=hand.v_template * position,
        f=hand.f[:, ::-1].copy(),
        shapedirs=hand.shapedirs * position[:, None],
        posedirs=hand.posedirs,
        J_regressor=hand.J_regressor,
        weights=hand.weights,
        kintree_table=hand.kintree_table,
        hands_components=hand.hands_components * rotation,
        hands_mean=hand.hands_mean * rotation,
        hands_std=hand.hands_std,
    )
