"""GenEval's rules: known cases, symmetries, and brute force against the truth of the world."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotlib.interfaces import Detection
from cotlib.judging.rules import judge_detections, overall, relative_position
from cotlib.world.prompts import sample_metadata
from cotlib.world.scenes import CELL, CLASSES, COLORS, OPPOSITE, RELATIONS, SIZE, TASKS, holds, sample_scene

coordinates = st.integers(0, SIZE - 1)
boxes = st.tuples(coordinates, coordinates, st.integers(1, 30), st.integers(1, 30)).map(
    lambda t: (float(t[0]), float(t[1]), float(t[0] + t[2]), float(t[1] + t[3]))
)
detections = st.lists(
    st.builds(Detection, st.sampled_from(CLASSES[:3]), boxes, st.sampled_from([0.2, 0.3, 0.5, 0.9, 0.95, 1.0]),
              st.sampled_from(COLORS[:2])), max_size=6)  # fmt: skip
clauses = [
    {"tag": "single_object", "include": [{"class": "cat", "count": 1}]},
    {"tag": "two_object", "include": [{"class": "cat", "count": 1}, {"class": "dog", "count": 1}]},
    {"tag": "counting", "include": [{"class": "cat", "count": 2}], "exclude": [{"class": "cat", "count": 3}]},
    {"tag": "colors", "include": [{"class": "dog", "count": 1, "color": "red"}]},
    *({"tag": "position", "include": [{"class": "dog", "count": 1},
                                      {"class": "cat", "count": 1, "position": [r, 0]}]} for r in RELATIONS),
    {"tag": "color_attr", "include": [{"class": "cat", "count": 1, "color": "orange"},
                                      {"class": "dog", "count": 1, "color": "red"}]},
]  # fmt: skip


def thing(cls="cat", x=0.0, y=0.0, score=1.0, color="red", size=20.0):
    return Detection(cls, (x, y, x + size, y + size), score, color)


def mirrored(box):
    return (SIZE - box[2], box[1], SIZE - box[0], box[3])


def transposed(box):
    return (box[1], box[0], box[3], box[2])


@given(boxes, boxes)
def test_mirror_and_transpose_move_the_relation_along(a, b):
    relations = relative_position(a, b)
    assert relative_position(b, a) == {OPPOSITE[r] for r in relations}
    swap = {"left of": "right of", "right of": "left of"}
    assert relative_position(mirrored(a), mirrored(b)) == {swap.get(r, r) for r in relations}
    turn = {"left of": "above", "above": "left of", "right of": "below", "below": "right of"}
    assert relative_position(transposed(a), transposed(b)) == {turn[r] for r in relations}


@given(boxes, boxes, st.integers(-9, 9), st.sampled_from([0.5, 1.0, 2.0, 4.0]))
def test_shift_and_scale_do_not_matter(a, b, shift, scale):
    moved = [tuple(v * scale + shift for v in box) for box in (a, b)]
    assert relative_position(*moved) == relative_position(a, b)


def test_position_rule_by_hand():
    """Two boxes of 20: a tenth of both sizes is 4 pixels; the rest is divided by the whole distance."""
    origin = (0.0, 0.0, 20.0, 20.0)

    def at(x, y):
        return (x, y, x + 20.0, y + 20.0)

    assert relative_position(origin, origin) == set()
    assert relative_position(at(4, 4), origin) == set()  # nothing left after the offset
    assert relative_position(at(7, 0), origin) == set()  # 3 / 7 < 0.5
    assert relative_position(at(9, 0), origin) == {"right of"}  # 5 / 9 > 0.5
    assert relative_position(at(-30, 30), origin) == {"left of", "below"}  # 26 / 42.4 both ways
    assert relative_position(at(30, -60), origin) == {"above"}  # 26 / 67 and 56 / 67


@given(st.sampled_from(clauses), detections, st.randoms())
def test_the_order_of_detections_does_not_matter(metadata, found, random):
    shuffled = random.sample(found, len(found))
    assert judge_detections(metadata, shuffled) == judge_detections(metadata, found)


@given(st.sampled_from(clauses), detections)
def test_reasons_come_exactly_with_a_wrong_verdict(metadata, found):
    verdict = judge_detections(metadata, found)
    assert verdict.correct == (not verdict.reasons)
    assert all(reason[0].isupper() and reason.endswith(".") for reason in verdict.reasons)


@given(
    st.sampled_from([c for c in clauses if "exclude" not in c]),
    detections,
    st.sampled_from(["couch", "book"]),
)
def test_other_classes_are_ignored_without_an_exclude_clause(metadata, found, other):
    assert judge_detections(metadata, [*found, thing(other)]) == judge_detections(metadata, found)


def test_thresholds_are_strict_and_higher_for_counting():
    single, counting = clauses[0], clauses[2]
    assert not judge_detections(single, [thing(score=0.3)]).correct
    assert judge_detections(single, [thing(score=0.31)]).correct
    assert not judge_detections(counting, [thing(score=0.9), thing(x=30)]).correct
    assert judge_detections(counting, [thing(score=0.91), thing(x=30)]).correct
    assert judge_detections(
        counting, [thing(), thing(x=30), thing(y=30, score=0.9)]
    ).correct  # a weak third is unseen


def test_at_most_sixteen_of_a_class():
    metadata = {"tag": "counting", "include": [{"class": "cat", "count": 17}]}
    assert not judge_detections(metadata, [thing(x=float(i)) for i in range(20)]).correct
    metadata["include"][0]["count"] = 16
    assert judge_detections(metadata, [thing(x=float(i)) for i in range(20)]).correct


def test_the_best_scores_decide_the_color():
    red_cat = {"tag": "colors", "include": [{"class": "cat", "count": 1, "color": "red"}]}
    red, blue = thing(score=0.8), thing(x=30, score=0.7, color="blue")
    assert judge_detections(red_cat, [red, blue]).correct
    assert not judge_detections(red_cat, [red, thing(x=30, score=0.9, color="blue")]).correct


def test_reasons_name_what_is_wrong():
    dog, cat = thing("dog", x=30, color="blue"), thing("cat")
    said = {
        "single_object": "Asked for a cat; found none.",
        "counting": "Asked for fewer than 3 cats; found 3.",
        "colors": "Asked for the colour red; the dog is blue.",
        "position": "Asked for the cat right of the dog; it is left of the dog.",
    }
    pictures = {"single_object": [dog], "counting": [cat] * 3, "colors": [dog], "position": [dog, cat]}
    for metadata in clauses:
        if metadata["tag"] in said and metadata["include"][-1].get("position", ["right of"])[0] == "right of":
            assert judge_detections(metadata, pictures[metadata["tag"]]).reasons == (said[metadata["tag"]],)


def test_a_relation_to_something_missing_is_its_own_reason():
    position = next(c for c in clauses if c["tag"] == "position")
    missing, relation = judge_detections(position, [thing("cat")]).reasons
    assert missing == "Asked for a dog; found none."
    assert relation == "The cat cannot be left of a dog that is missing or wrong."


@pytest.mark.parametrize("task", TASKS)
def test_rules_agree_with_the_truth_of_the_world(task):
    """Brute force: a scene holds exactly when its perfect detections pass under every order of their scores."""
    rng = np.random.default_rng(TASKS.index(task))
    for trial in range(150):
        metadata = sample_metadata(rng, "train", task)
        scene = sample_scene(rng, metadata if trial % 2 else None)
        names = [clause["class"] for clause in metadata["include"]]
        if trial % 4 == 0:  # few classes, so that random scenes often come close
            scene = renamed(scene, names, rng)
        ways = [judge_detections(metadata, order).correct for order in score_orders(scene)]
        assert all(ways) == holds(scene, metadata), (metadata, scene)


def renamed(scene, names, rng):
    return replace(scene, things=tuple(replace(t, cls=str(rng.choice(names))) for t in scene.things))


def score_orders(scene):
    full = [Detection(t.cls, (t.x, t.y, t.x + CELL, t.y + CELL), 1.0, t.color) for t in scene.things]
    for scores in permutations(np.linspace(0.92, 1.0, len(full))):
        yield [Detection(d.cls, d.box, float(s), d.color) for d, s in zip(full, scores, strict=True)]


def test_overall_is_the_mean_of_the_task_means():
    assert overall([("a", [1, 1]), ("a", [1, 1]), ("b", [0, 0])]) == 0.5
