"""Scenes of the pictogram world, and the exact truth about them.

A scene is 1 to 4 things, each a COCO class in one of GenEval's colours, in a 24x24 box on a 64x64 picture. Boxes
start at multiples of 8 pixels, the size of one image token, so a thing covers exactly 3x3 tokens.

`holds(scene, metadata)` is the truth that every judge is measured against. It looks at the scene, not at pixels,
and is written apart from `judging.rules` on purpose: two codes that must agree.
"""

from dataclasses import dataclass
from itertools import product
from math import hypot

import numpy as np

SIZE = 64  # picture side, pixels
PITCH = 8  # things start at multiples of this; also the side of one image token
CELL = 24  # side of a thing's box, pixels
SPAN = CELL // PITCH  # a thing covers SPAN x SPAN tokens

# Neighbours in pairs (0-1, 2-3, ...) are the ones that careless captions confuse: see `prompts.corrupt`.
CLASSES = (
    "cat", "dog", "horse", "elephant", "bus", "train", "boat", "airplane", "car", "bicycle",
    "chair", "couch", "cup", "clock", "banana", "pizza", "bird", "giraffe", "book", "umbrella",
)  # fmt: skip
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black")
TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
RELATIONS = ("left of", "right of", "above", "below")
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
TINTS = 5

_STARTS = range(0, SIZE - CELL + 1, PITCH)
SPOTS = tuple(product(_STARTS, _STARTS))  # 36 possible top-left corners (x, y)


@dataclass(frozen=True)
class Thing:
    """One drawn object: class, colour, and the top-left pixel of its 24x24 box (multiples of 8 in 0..40)."""

    cls: str
    color: str
    x: int
    y: int


@dataclass(frozen=True)
class Scene:
    """What is in a picture: non-overlapping things and one of five background tints."""

    things: tuple[Thing, ...]
    tint: int = 0


def apart(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """True when the 24x24 boxes at corners `a` and `b` do not overlap."""
    return abs(a[0] - b[0]) >= CELL or abs(a[1] - b[1]) >= CELL


_FREE = {spot: frozenset(s for s in SPOTS if apart(s, spot)) for spot in SPOTS}


def related(a: Thing, b: Thing, relation: str) -> bool:
    """Whether `a` stands in `relation` to `b`, by GenEval's geometry with both boxes 24 pixels wide.

    The offset shrinks by a tenth of the two sizes (4.8 pixels) per axis and is then divided by the distance of the
    centres; a component above 0.5 makes the relation. A diagonal neighbour can be left of and above at once.
    """
    dx, dy = a.x - b.x, a.y - b.y
    axis, sign = {"left of": (dx, -1), "right of": (dx, 1), "above": (dy, -1), "below": (dy, 1)}[relation]
    shrunk = sign * axis - 0.1 * 2 * CELL
    return shrunk > 0.5 * hypot(dx, dy)


def holds(scene: Scene, metadata: dict) -> bool:
    """Whether the scene satisfies a prompt's metadata (GenEval form). Exact; extra things only matter in counting."""
    groups = []
    for clause in metadata["include"]:
        found = [t for t in scene.things if t.cls == clause["class"]]
        if "color" in clause:
            matching = [t for t in found if t.color == clause["color"]]
            # GenEval looks at the `count` best boxes of the class: with more boxes than asked for, all may be looked at.
            if len(found) > clause["count"] and len(matching) < len(found):
                return False
            found = matching
        if len(found) < clause["count"]:
            return False
        if "position" in clause:
            relation, target = clause["position"]
            if not all(related(a, b, relation) for a in found for b in groups[target]):
                return False
        groups.append(found)
    return all(
        sum(t.cls == clause["class"] for t in scene.things) < clause["count"]
        for clause in metadata.get("exclude", [])
    )


def sample_scene(rng: np.random.Generator, metadata: dict | None = None, most: int = 4) -> Scene:
    """Draws a scene that satisfies `metadata`; without metadata, 1 to `most` things of any class and colour.

    Colours that the prompt leaves open are drawn freely, one per thing.
    """
    while True:
        if metadata is None:
            wanted = [(str(rng.choice(CLASSES)), None) for _ in range(rng.integers(1, most + 1))]
        else:
            wanted = [(c["class"], c.get("color")) for c in metadata["include"] for _ in range(c["count"])]
        spots: list[tuple[int, int]] = []
        for _ in wanted:
            free = [s for s in SPOTS if all(s in _FREE[t] for t in spots)]
            if not free:
                break
            spots.append(free[rng.integers(len(free))])
        if len(spots) < len(wanted):
            continue
        colors = [color or COLORS[rng.integers(len(COLORS))] for _, color in wanted]
        things = tuple(
            Thing(cls, color, x, y) for (cls, _), color, (x, y) in zip(wanted, colors, spots, strict=True)
        )
        scene = Scene(things, int(rng.integers(TINTS)))
        if metadata is None or holds(scene, metadata):
            return scene
