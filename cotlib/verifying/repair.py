"""From what is in a picture to its faults, and from faults to a repaired scene.

`find_faults` makes the *targets* that reflections are trained on, from a scene or from a judge's detections. It is
never asked when a picture is verified: there the words come from the verifier alone.

Both ways are minimal: right things stay where they are. A thing that no clause of the prompt names is no fault
(GenEval tolerates it), but it is the first to be turned into something that is missing.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations, product

import numpy as np

from cotlib.interfaces import Detection
from cotlib.judging.rules import group_detections
from cotlib.verifying.faults import Fault
from cotlib.world.scenes import CELL, PITCH, SIZE, SPOTS, Scene, Thing, apart, holds, related

TRIES = 200  # placements tried when things have to be put somewhere


def things_of(detections: Iterable[Detection], task: str | None) -> tuple[Thing, ...]:
    """Detections that count in the task (see `judging.rules`), put on the grid of places: best first per class."""
    things = []
    for found in group_detections(detections, task).values():
        for d in found:
            x, y = ((low + high - CELL) / 2 for low, high in ((d.box[0], d.box[2]), (d.box[1], d.box[3])))
            corner = (min(max(round(v / PITCH), 0), (SIZE - CELL) // PITCH) * PITCH for v in (x, y))
            things.append(Thing(d.cls, d.color, *corner))
    return tuple(things)


# ----- faults ------------------------------------------------------------------------------------------------------


def find_faults(metadata: dict, things: Sequence[Thing]) -> tuple[Fault, ...]:
    """What has to change so that the prompt holds, at most one `Fault` per kind of change; () when it holds.

    Order: wrong colours, too many, something else in the place of what is missing, missing, wrongly placed.
    """
    if holds(Scene(tuple(things)), metadata):
        return ()
    recolor, extra, lacking = [], [], []
    for clause in metadata["include"]:
        a, b, missing = _clause_faults(clause, things, metadata["tag"])
        recolor += a
        extra += b
        lacking += [clause] * missing
    named = {clause["class"] for clause in metadata["include"]}
    spare = [t for t in things if t.cls not in named]
    turned = [_turned(thing, clause) for thing, clause in zip(spare, lacking, strict=False)]
    missing = [Fault("missing", c["class"], c.get("color")) for c in lacking[len(spare) :]]
    faults = _merged([*recolor, *extra, *turned, *missing])
    if metadata["tag"] == "position":
        faults += _place_faults(metadata, apply_in_place(things, faults, metadata))
    return tuple(faults)


def _clause_faults(clause: dict, things: Sequence[Thing], tag: str) -> tuple[list[Fault], list[Fault], int]:
    """(things to recolour, things to remove, how many are missing) for one clause of the prompt."""
    cls, count, color = clause["class"], clause["count"], clause.get("color")
    there = [t for t in things if t.cls == cls]
    if color is None:
        surplus = len(there) - count if tag == "counting" else 0
        return [], [Fault("extra", cls, count=surplus)] * (surplus > 0), max(0, count - len(there))
    off = [t for t in there if t.color != color]
    needed = max(0, count - (len(there) - len(off)))
    recolor = [Fault("wrong", cls, t.color, to_color=color) for t in off[:needed]]
    extra = [Fault("extra", cls, t.color) for t in off[needed:]]
    return recolor, extra, max(0, needed - len(off))


def _turned(thing: Thing, clause: dict) -> Fault:
    """A thing nobody asked for becomes the one that is missing; its colour is said when it has to change."""
    color = clause.get("color")
    if color is None or thing.color == color:
        return Fault("wrong", thing.cls, to_cls=clause["class"])
    return Fault("wrong", thing.cls, thing.color, to_cls=clause["class"], to_color=color)


def _merged(faults: Iterable[Fault]) -> list[Fault]:
    """Equal faults become one with their number."""
    counts: Counter = Counter()
    for fault in faults:
        counts[replace(fault, count=1)] += fault.count
    return [replace(fault, count=count) for fault, count in counts.items()]


def _place_faults(metadata: dict, things: Sequence[Thing]) -> list[Fault]:
    """What a position prompt lacks beyond its classes: surplus things in the way, then the relation itself."""
    target, placed = metadata["include"]
    relation, names = placed["position"][0], (placed["class"], target["class"])
    groups = [[t for t in things if t.cls == name] for name in names]
    related_pairs = [related(a, b, relation) for a, b in product(*groups)]
    if related_pairs and all(related_pairs):
        return []
    surplus = [Fault("extra", name, count=len(group) - 1) for name, group in zip(names, groups, strict=True)
               if len(group) > 1]  # fmt: skip
    if any(related_pairs) or not all(groups):
        return surplus
    return [*surplus, Fault("move", names[0], relation=relation, target=names[1])]


# ----- repair ------------------------------------------------------------------------------------------------------


def apply_in_place(things: Sequence[Thing], faults: Iterable[Fault], metadata: dict) -> list[Thing]:
    """The things after everything that needs no new place: recoloured, turned into something else, or removed.

    Of several things that would do, those go whose absence makes the prompt hold, else the last.
    """
    things = list(things)
    faults = list(faults)
    for fault in (f for f in faults if f.kind == "wrong"):
        for index in _matching(things, fault)[: fault.count]:
            old = things[index]
            things[index] = replace(old, cls=fault.to_cls or old.cls, color=fault.to_color or old.color)
    extras = [(_matching(things, f), f.count) for f in faults if f.kind == "extra"]
    ways = [list(combinations(reversed(found), min(count, len(found)))) for found, count in extras]
    for way in product(*ways):
        gone = {index for group in way for index in group}
        rest = [t for i, t in enumerate(things) if i not in gone]
        if holds(Scene(tuple(rest)), metadata):
            return rest
    gone = {index for group in (w[0] for w in ways) for index in group}
    return [t for i, t in enumerate(things) if i not in gone]


def _matching(things: Sequence[Thing], fault: Fault) -> list[int]:
    """Indices of the things that a fault speaks of."""
    return [i for i, t in enumerate(things) if t.cls == fault.cls and fault.color in (None, t.color)]


def repair(rng: np.random.Generator, scene: Scene, faults: Sequence[Fault], metadata: dict) -> Scene:
    """The scene with the faults put right. Things that were right stay in place as far as there is room.

    With the faults of `find_faults` the result holds; with those of a learned reflection it is the best attempt.
    """
    things = apply_in_place(scene.things, faults, metadata)
    loose = []
    for fault in faults:
        if fault.kind == "missing":
            colors = [
                fault.color or str(rng.choice(sorted({t.color for t in things}) or ["red"]))
            ] * fault.count
            loose += [Thing(fault.cls, color, 0, 0) for color in colors]
        if fault.kind == "move":
            index = next((i for i, t in enumerate(things) if t.cls == fault.cls), None)
            loose += [things.pop(index)] if index is not None else []
    named = {clause["class"] for clause in metadata["include"]}
    for fixed in (things, [t for t in things if t.cls in named], []):
        moved = [*loose, *(t for t in things if t not in fixed and t.cls in named)]
        placed = _placed(rng, fixed, moved, metadata)
        if placed is not None:
            return replace(scene, things=placed)
    return replace(scene, things=tuple(things))


def _placed(rng: np.random.Generator, fixed: list[Thing], loose: list[Thing], metadata: dict) -> tuple | None:
    """Fixed things where they are and loose ones somewhere free so that the prompt holds; None if no try succeeds."""
    for _ in range(TRIES if loose else 1):
        things = list(fixed)
        for thing in loose:
            free = [s for s in SPOTS if all(apart(s, (t.x, t.y)) for t in things)]
            if not free:
                break
            x, y = free[rng.integers(len(free))]
            things.append(replace(thing, x=x, y=y))
        if len(things) == len(fixed) + len(loose) and holds(Scene(tuple(things)), metadata):
            return tuple(things)
    return None
