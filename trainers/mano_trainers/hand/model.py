"""A hand model in MANO's field layout: the embedded licence-free right hand.

The embedded hand (778 vertices, 16 joints, 10 shape components, pose components and mean) is cut from a CC0 mesh by
`tools/build_hand_asset.py`. It is free of the MANO licence; smplx itself is for non-commercial research.
"""

import hashlib
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from mano_trainers.arrays import Array

ASSETS: Final = Path(__file__).parent / "assets"
PARENTS: Final = (0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14)
"""Of the joints 1 to 15: index, middle, pinky, ring, thumb, three each."""
TIP_VERTICES: Final = (744, 320, 443, 555, 672)
"""Fingertip vertices in FreiHAND's order: thumb, index, middle, ring, pinky."""
FREIHAND_ORDER: Final = (0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20)
"""MANO's 16 joints followed by the 5 tips -> FreiHAND's 21 joints: wrist, then each finger from base to tip."""
UNIT_TOLERANCE: Final = 1e-6
"""A row whose norm is this near to 1 is a unit row that was rounded to float32."""
GESTURE_NAMES: Final = ("open", "fist", "point", "pinch", "peace", "thumb_up", "relaxed", "three")


@dataclass(frozen=True, eq=False)
class HandModel:
    """A hand in MANO's fields; metres and radians.

    Attributes:
        side: which hand it is.
        v_template: (778, 3) vertices of the mean shape at zero pose.
        f: (F, 3) triangles.
        shapedirs: (778, 3, 10) displacement per unit of each shape component.
        posedirs: (778, 3, 135) displacement per entry of R - I of the 15 finger joints.
        J_regressor: (16, 778) vertices -> joints.
        weights: (778, 16) skinning weights.
        kintree_table: (2, 16) parents, and the joints' own indices.
        hands_components: (45, 45) rows are pose components, orthogonal, the strongest first. In the official MANO files
            their norms carry the spread of the pose; in the embedded hand they are 1.
        hands_mean: (45,) mean pose; a full pose is hands_mean + theta.
        hands_std: (45,) standard deviation of the coefficients of `hands_components`: 1 in the official MANO files.
    """

    side: Literal["right", "left"]
    v_template: Array
    f: NDArray[np.int64]
    shapedirs: Array
    posedirs: Array
    J_regressor: Array
    weights: Array
    kintree_table: NDArray[np.int64]
    hands_components: Array
    hands_mean: Array
    hands_std: Array

    @property
    def parents(self) -> tuple[int, ...]:
        """Parent of each joint; -1 for the wrist."""
        return (-1, *(int(parent) for parent in self.kintree_table[0, 1:]))

    @property
    def pose_basis(self) -> tuple[Array, Array]:
        """Orthonormal pose directions (45, 45) as rows, and the standard deviation (45,) of the pose along each, rad.

        The same whether a file keeps the spread in its coefficients or in the norms of its components, so a pose prior
        made of them weighs poses alike. `hands_components` stay as stored: DexYCB and smplx mean those.
        """
        norms = np.linalg.norm(self.hands_components, axis=1)
        # Unit rows stay as they are, to the last bit; rows of zeros (a basis that was never loaded) stay zero.
        norms = np.where((np.abs(norms - 1) < UNIT_TOLERANCE) | (norms == 0), 1.0, norms)
        return self.hands_components / norms[:, None], self.hands_std * norms

    @property
    def fingerprint(self) -> str:
        """SHA-256 over side and all arrays."""
        digest = hashlib.sha256(self.side.encode())
        for item in fields(self):
            if item.name != "side":
                digest.update(item.name.encode() + np.ascontiguousarray(getattr(self, item.name)).tobytes())
        return digest.hexdigest()


@cache
def load_embedded_hand() -> HandModel:
    """The embedded right hand."""
    with np.load(ASSETS / "hand_right_cc0.npz", allow_pickle=False) as stored:
        data = {name: stored[name] for name in stored.files}
    arrays = {name: value.astype(np.float64) for name, value in data.items() if value.dtype.kind == "f"}
    return HandModel(
        side="right",
        f=data["f"].astype(np.int64),
        kintree_table=data["kintree_table"].astype(np.int64),
        posedirs=np.zeros((778, 3, 135)),  # the embedded hand has no pose blend shapes
        **arrays,
    )


@cache
def load_gestures() -> dict[str, Array]:
    """Named poses of the embedded hand: name -> theta (45,), mean pose excluded, in radians."""
    with np.load(ASSETS / "gestures.npz", allow_pickle=False) as stored:
        full = stored["theta"].astype(np.float64)
    mean = load_embedded_hand().hands_mean
    return {name: pose - mean for name, pose in zip(GESTURE_NAMES, full, strict=True)}
