"""Pictures with one true and one false caption, for the zero-shot verifier and against forgetting later on.

A false caption differs from the truth in one fact: a class, a colour, the count, the relation, or the two colours
exchanged. Each such change within a task is a lesson. Lessons are learnt one after another (classes first, relations
last), so the next pictures are drawn mostly from the lessons whose answers are still close to chance.

Captions are training prompts (`split_of` says "train"), the false ones too. Counts are exchanged evenly, so no word
is likelier in a false caption than in a true one: a verifier that only reads gets nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from cotlib.models.verifier import text_batch
from cotlib.world.prompts import (
    NUMBERS,
    attributes,
    colored,
    counting,
    plural,
    position,
    sample_metadata,
    single,
    split_of,
    two,
)  # fmt: skip
from cotlib.world.scenes import (
    CELL,
    CLASSES,
    COLORS,
    OPPOSITE,
    RELATIONS,
    SIZE,
    SPOTS,
    Scene,
    Thing,
    apart,
    holds,
    related,
    sample_scene,
)

LESSONS = (
    ("single_object", "class"), ("two_object", "class"), ("counting", "class"), ("counting", "count"),
    ("colors", "class"), ("colors", "color"), ("position", "class"), ("position", "relation"),
    ("color_attr", "class"), ("color_attr", "color"), ("color_attr", "exchange"),
)  # fmt: skip
CROWD = 0.3  # share of pictures with one more thing that no caption mentions
RELATION_WORDS = tuple(relation.split()[0] for relation in RELATIONS)
_SINGULAR = {plural(name): name for name in CLASSES}


@dataclass
class Curriculum:
    """Which lessons come next: a floor for all, the rest by how much is still answered wrong (0.5 is chance)."""

    floor: float = 0.3
    memory: float = 0.97
    error: dict = field(default_factory=lambda: dict.fromkeys(LESSONS, 0.5))

    def weights(self) -> np.ndarray:
        """Probability of each lesson, in the order of `LESSONS`."""
        wrong = np.array([self.error[lesson] for lesson in LESSONS]) + 0.01
        return self.floor / len(LESSONS) + (1 - self.floor) * wrong / wrong.sum()

    def update(self, lessons: Sequence[tuple[str, str]], right: Sequence[bool]) -> None:
        """Takes in whether answers were right, one lesson name each."""
        for lesson in set(lessons):
            share = 1 - np.mean([r for name, r in zip(lessons, right, strict=True) if name == lesson])
            self.error[lesson] = self.memory * self.error[lesson] + (1 - self.memory) * float(share)


@dataclass
class Captions:
    """B scenes and R = 2 B captions: rows 2 b and 2 b + 1 are the true and the false caption of scene b.

    ids: long [R, T]; valid: bool [R, T]; right: float [R], 1 for true captions; wrong: float [R, T], 1 for words that
    are wrong; owner: long [R], the scene of each row; lessons: one (task, change) per row.
    """

    scenes: list[Scene]
    metadatas: list[dict]
    ids: Tensor
    valid: Tensor
    right: Tensor
    wrong: Tensor
    owner: Tensor
    lessons: list[tuple[str, str]]


def draw_captions(
    rng: np.random.Generator, size: int, weights: np.ndarray | None = None, split: str = "train"
) -> Captions:
    """`size` scenes of prompts of the split with a true and a false caption each; lessons drawn by `weights`.

    For split "dev" or "test" the false captions come from any split: they are only used to measure.
    """
    scenes, metadatas, lessons = [], [], []
    while len(scenes) < size:
        task, change = lesson = LESSONS[rng.choice(len(LESSONS), p=weights)]
        metadata = sample_metadata(rng, split, task)
        scene = crowded(rng, sample_scene(rng, metadata), metadata)
        false = false_caption(rng, metadata, scene, change, "train" if split == "train" else None)
        if false is not None:
            scenes.append(scene)
            metadatas += [metadata, false]
            lessons += [lesson, lesson]
    ids, valid = text_batch([m["prompt"] for m in metadatas])
    owner = torch.arange(size).repeat_interleave(2)
    wrong = torch.zeros(ids.shape)
    for row, metadata in enumerate(metadatas):
        if row % 2:
            wrong[row, wrong_words(metadata, scenes[row // 2].things)] = 1.0
    right = torch.tensor([1.0, 0.0]).repeat(size)
    return Captions(scenes, metadatas, ids, valid, right, wrong, owner, lessons)


def crowded(rng: np.random.Generator, scene: Scene, metadata: dict) -> Scene:
    """The scene, in some cases with one more thing of a class that the prompt does not name, if there is room."""
    free = [s for s in SPOTS if all(apart(s, (t.x, t.y)) for t in scene.things)]
    if rng.random() >= CROWD or not free:
        return scene
    others = [name for name in CLASSES if all(name != c["class"] for c in metadata["include"])]
    x, y = free[rng.integers(len(free))]
    more = Thing(others[rng.integers(len(others))], COLORS[rng.integers(len(COLORS))], x, y)
    return replace(scene, things=(*scene.things, more))


def false_caption(
    rng: np.random.Generator, metadata: dict, scene: Scene, change: str, split: str | None = "train"
) -> dict | None:
    """The prompt with one fact changed so that it no longer holds; None when a few tries give none of the split."""
    for _ in range(6):
        false = changed(rng, metadata, change)
        if (split is None or split_of(false) == split) and not holds(scene, false):
            return false
    return None


def changed(rng: np.random.Generator, metadata: dict, change: str) -> dict:
    """The prompt with one change: "class", "color", "count", "relation" (mirrored in half the cases) or "exchange"."""

    def other(names: Sequence[str], *taken: str) -> str:
        free = [name for name in names if name not in taken]
        return free[rng.integers(len(free))]

    clauses = [dict(clause) for clause in metadata["include"]]
    picked = clauses[rng.integers(len(clauses))]
    names = [clause["class"] for clause in clauses]
    match change:
        case "class":
            picked["class"] = other(CLASSES, *names)
        case "color":
            picked["color"] = other(COLORS, picked["color"])
        case "count":
            picked["count"] = int(rng.choice([n for n in NUMBERS.values() if n != picked["count"]]))
        case "relation":
            relation = clauses[1]["position"][0]
            turned = OPPOSITE[relation] if rng.random() < 0.5 else other(RELATIONS, relation)
            clauses[1]["position"] = [turned, 0]
        case "exchange":
            clauses[0]["color"], clauses[1]["color"] = clauses[1]["color"], clauses[0]["color"]
    return rebuilt(metadata["tag"], clauses)


def rebuilt(tag: str, clauses: list[dict]) -> dict:
    """Complete metadata of a task from its include clauses."""
    first, last = clauses[0], clauses[-1]
    match tag:
        case "single_object":
            return single(first["class"])
        case "two_object":
            return two(first["class"], last["class"])
        case "counting":
            return counting(first["class"], first["count"])
        case "colors":
            return colored(first["class"], first["color"])
        case "position":
            return position(last["class"], last["position"][0], first["class"])
    return attributes((first["class"], first["color"]), (last["class"], last["color"]))


def wrong_words(metadata: dict, things: Sequence[Thing]) -> list[int]:
    """Places, in `encode(prompt)`, of the words that are wrong about the things: a noun that is not there at all, a
    number or a colour that does not fit the noun's things, a relation that does not hold between those there are."""
    words = ["", *metadata["prompt"].split()]  # place 0 is the begin token
    clauses = {clause["class"]: clause for clause in metadata["include"]}
    places = []
    for place, word in enumerate(words):
        name = _SINGULAR.get(word, word)
        if name in clauses:
            there = [t for t in things if t.cls == name]
            clause = clauses[name]
            if not there:
                places.append(place)
            elif metadata["tag"] == "counting" and len(there) != clause["count"]:
                places.append(place - 1)
            elif "color" in clause and any(t.color != clause["color"] for t in there):
                places.append(place - 1)
        elif word in RELATION_WORDS:
            target, placed = metadata["include"]
            pairs = [
                (a, b) for a in things if a.cls == placed["class"] for b in things if b.cls == target["class"]
            ]
            if pairs and not all(related(a, b, placed["position"][0]) for a, b in pairs):
                places.append(place)
    return places


def word_facts(captions: Captions) -> tuple[Tensor, Tensor]:
    """(facts, known), each [R, T, 3]: what a word should know of the picture, and whether it can.

    Of a noun: x and y of its things, the picture's sides at -1 and 1, averaged, and how many there are. Of a relation:
    the offset (x, y) of the thing placed from its target. `known` is 1 where a number exists, else 0.
    """
    facts, known = np.zeros((2, *captions.ids.shape, 3), dtype=np.float32)
    for row, metadata in enumerate(captions.metadatas):
        things = captions.scenes[row // 2].things
        names = [clause["class"] for clause in metadata["include"]]
        groups = {name: [t for t in things if t.cls == name] for name in names}
        middles = {name: np.mean([(t.x, t.y) for t in group], axis=0) * 2 / SIZE + CELL / SIZE - 1
                   for name, group in groups.items() if group}  # fmt: skip
        for place, word in enumerate(metadata["prompt"].split(), 1):
            name = _SINGULAR.get(word, word)
            if name in groups:
                facts[row, place, 2], known[row, place, 2] = len(groups[name]), 1
            if name in middles:
                facts[row, place, :2], known[row, place, :2] = middles[name], 1
            elif word in RELATION_WORDS and len(middles) == 2:
                facts[row, place, :2], known[row, place, :2] = middles[names[1]] - middles[names[0]], 1
    return torch.from_numpy(facts), torch.from_numpy(known)
