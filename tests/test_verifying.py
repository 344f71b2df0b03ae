"""Faults, words, repairs, reflections and the numbers that say how far to trust them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotlib.errors import UserError
from cotlib.interfaces import Detection
from cotlib.judging.pictogram import glyph_box
from cotlib.models.verifier import MAX_WORDS, QUESTIONS, WORDS, VerifierConfig
from cotlib.verifying import (
    MEANING,
    Fault,
    LearnedVerifier,
    find_faults,
    parse_words,
    reliability,
    repair,
    report,
    step_question,
    things_of,
    to_words,
    understand,
)
from cotlib.verifying.calibration import balanced_accuracy, calibration_error, false_positive_rate, ranking
from cotlib.world.prompts import parse_prompt, sample_metadata
from cotlib.world.scenes import CLASSES, COLORS, RELATIONS, TASKS, Scene, Thing, holds, sample_scene

classes, colors = st.sampled_from(CLASSES), st.sampled_from(COLORS)
maybe = st.one_of(st.none(), colors)
counts = st.integers(1, 4)
faults = st.one_of(
    st.builds(Fault, st.just("missing"), classes, maybe, counts),
    st.builds(Fault, st.just("extra"), classes, maybe, counts),
    st.builds(Fault, st.just("wrong"), classes, maybe, counts, to_cls=classes, to_color=maybe),
    st.builds(Fault, st.just("wrong"), classes, colors, counts, to_color=colors),
    st.builds(Fault, st.just("move"), classes, relation=st.sampled_from(RELATIONS), target=classes),
)


def near_scene(rng, metadata):
    """A scene that is right, free, or made of the prompt's own classes and colours: often close to right."""
    kind = rng.integers(3)
    scene = sample_scene(rng, metadata if kind == 0 else None)
    names = [c["class"] for c in metadata["include"]] + ["cat"]
    shades = [c.get("color", "red") for c in metadata["include"]] + ["blue"]
    if kind == 2:
        things = (replace(t, cls=str(rng.choice(names)), color=str(rng.choice(shades))) for t in scene.things)
        scene = replace(scene, things=tuple(things))
    return scene


@given(st.lists(faults, min_size=1, max_size=5))
def test_words_are_read_back(listed):
    words = to_words(listed)
    said, rest = parse_words(words)
    assert len(words) <= MAX_WORDS and set(words) <= set(WORDS) and not rest
    assert list(said) == listed[: len(said)]
    if len(said) < len(listed):
        assert len(words) + len(listed[len(said)].words()) > MAX_WORDS


def test_words_by_hand():
    for text, fault in {
        "missing two cat": Fault("missing", "cat", count=2),
        "missing red cat": Fault("missing", "cat", "red"),
        "wrong blue dog should red": Fault("wrong", "dog", "blue", to_color="red"),
        "wrong dog should cat": Fault("wrong", "dog", to_cls="cat"),
        "wrong blue dog should red cat": Fault("wrong", "dog", "blue", to_cls="cat", to_color="red"),
        "extra one bird": Fault("extra", "bird"),
        "extra blue bird": Fault("extra", "bird", "blue"),
        "move cup left of clock": Fault("move", "cup", relation="left of", target="clock"),
        "move cup above clock": Fault("move", "cup", relation="above", target="clock"),
    }.items():
        assert parse_words(text.split()) == ((fault,), ()) and " ".join(fault.words()) == text
    assert to_words(()) == ("yes",)
    for text in ("missing", "wrong dog", "wrong dog should", "move cup clock", "extra yes", "cat missing"):
        assert parse_words(("extra", "one", "bird", *text.split())) == (
            (Fault("extra", "bird"),),
            tuple(text.split()),
        )


@pytest.mark.parametrize("task", TASKS)
def test_putting_the_faults_right_makes_the_prompt_hold(task):
    rng = np.random.default_rng(TASKS.index(task))
    wrong = 0
    for _ in range(60):
        metadata = sample_metadata(rng, "train", task)
        scene = near_scene(rng, metadata)
        found = find_faults(metadata, scene.things)
        assert bool(found) != holds(scene, metadata)
        if found:
            wrong += 1
            fixed = repair(rng, scene, found, metadata)
            assert holds(fixed, metadata), (metadata["prompt"], scene, found, fixed)
    assert wrong > 20


@pytest.mark.parametrize("task", TASKS)
def test_one_change_is_one_fault_that_leaves_the_rest_alone(task):
    """A right scene with one thing recoloured, renamed or taken away: the words name it, the rest stays in place."""
    rng = np.random.default_rng(10 + TASKS.index(task))
    for _ in range(30):
        metadata = sample_metadata(rng, "train", task)
        scene = sample_scene(rng, metadata)
        index = int(rng.integers(len(scene.things)))
        victim, others = scene.things[index], scene.things[:index] + scene.things[index + 1 :]
        absent = next(c for c in CLASSES if all(c != t.cls for t in scene.things))
        renamed = replace(victim, cls=absent)
        faults = find_faults(metadata, (*others, renamed))
        assert (
            [f.kind for f in faults] == ["wrong"]
            and faults[0].cls == absent
            and faults[0].to_cls == victim.cls
        )
        assert [f.kind for f in find_faults(metadata, others)] == ["missing"]
        fixed = repair(rng, replace(scene, things=(*others, renamed)), faults, metadata)
        assert set(others) <= set(fixed.things) and len(fixed.things) == len(scene.things)
        if task in ("colors", "color_attr"):
            shade = next(c for c in COLORS if c != victim.color)
            [fault] = find_faults(metadata, (*others, replace(victim, color=shade)))
            assert fault == Fault("wrong", victim.cls, shade, to_color=victim.color)


def test_faults_by_hand():
    def said(text, *things):
        return " ".join(to_words(find_faults(parse_prompt(text), things)))

    dog, cat, bird = Thing("dog", "blue", 0, 0), Thing("cat", "red", 40, 0), Thing("bird", "red", 0, 40)
    assert said("a photo of a dog", dog, cat) == "yes"
    assert said("a photo of three birds", bird) == "missing two bird"
    assert said("a photo of two birds", bird, replace(bird, x=40), replace(bird, y=0)) == "extra one bird"
    assert (
        said("a photo of three cups", dog, replace(dog, x=40), replace(dog, y=40))
        == "wrong three dog should cup"
    )
    assert said("a photo of a dog right of a cat", dog, cat) == "move dog right of cat"
    assert (
        said("a photo of a red dog and a blue cat", dog, cat)
        == "wrong blue dog should red wrong red cat should blue"
    )
    assert said("a photo of a red dog", dog, replace(dog, color="red", x=40)) == "extra blue dog"
    assert said("a photo of a cup left of a clock") == "missing clock missing cup"


def test_detections_land_on_the_grid_of_places():
    rng = np.random.default_rng(0)
    for _ in range(50):
        scene = sample_scene(rng)
        boxes = [glyph_box(t.cls, t.x, t.y) for t in scene.things]
        off = rng.uniform(-1, 1, (len(boxes), 4))
        found = [
            Detection(t.cls, tuple(np.add(b, o)), 0.95, t.color)
            for t, b, o in zip(scene.things, boxes, off, strict=True)
        ]
        assert set(things_of(found, "counting")) == set(scene.things)
        assert things_of([replace(d, score=0.8) for d in found], "counting") == ()


# ----- reflections -------------------------------------------------------------------------------------------------

RED_DOG = parse_prompt("a photo of a red dog and a blue cat")
SEEN = [
    Detection("dog", (0.0, 0.0, 24.0, 24.0), 0.9, "blue"),
    Detection("bird", (40.0, 0.0, 64.0, 24.0), 0.9, "red"),
]


def test_a_reflection_is_understood():
    reflection = understand("wrong blue dog should red wrong bird should cat".split(), RED_DOG, SEEN)
    assert not reflection.accepted and not reflection.flags
    assert reflection.words == "wrong blue dog should red wrong bird should cat"
    assert reflection.faults == (
        Fault("wrong", "dog", "blue", to_color="red"),
        Fault("wrong", "bird", to_cls="cat"),
    )
    assert understand(["yes"], RED_DOG, SEEN).accepted


def test_what_nobody_asked_for_is_dropped_and_flagged():
    position = parse_prompt("a photo of a cup left of a clock")
    for metadata, text, flag in (
        (RED_DOG, "missing bus", "no bus was seen"),  # neither seen nor asked for
        (RED_DOG, "missing bird", "nobody asked for a bird"),  # seen, not asked for
        (RED_DOG, "wrong dog should bus", "nobody asked for a bus"),
        (RED_DOG, "wrong blue dog should green", "nobody asked for a green dog"),
        (RED_DOG, "extra one train", "no train was seen"),
        (RED_DOG, "move dog left of cat", "nobody asked for a dog left of a cat"),
        (position, "move clock left of cup", "nobody asked for a clock left of a cup"),
        (position, "move cup right of clock", "nobody asked for a cup right of a clock"),
        (RED_DOG, "dog should", "cannot be read"),
        (RED_DOG, "", "cannot be read"),
        (RED_DOG, "yes yes", "cannot be read"),
    ):
        reflection = understand(text.split(), metadata, SEEN)
        assert not reflection.accepted and reflection.faults == ()
        assert len(reflection.flags) == 1 and flag in reflection.flags[0]
    kept = understand("extra one bird missing bus missing cat".split(), RED_DOG, SEEN)
    assert [f.cls for f in kept.faults] == ["bird", "cat"] and len(kept.flags) == 1


def test_targets_are_always_understood():
    """Words made by rule from a scene pass the rule for what may be acted on, whole."""
    rng = np.random.default_rng(3)
    for _ in range(200):
        metadata = sample_metadata(rng)
        scene = near_scene(rng, metadata)
        seen = [Detection(t.cls, glyph_box(t.cls, t.x, t.y), 1.0, t.color) for t in scene.things]
        found = find_faults(metadata, scene.things)
        reflection = understand(to_words(found), metadata, seen)
        assert not reflection.flags and reflection.accepted == (not found)
        assert reflection.faults == found[: len(reflection.faults)]


def test_every_question_has_a_meaning_and_steps_have_a_stand_in():
    assert tuple(MEANING) == QUESTIONS
    for questions, step in ((("FINAL",), "FINAL"), (("STEP",), "STEP"), (QUESTIONS, "STEP")):
        assert step_question(LearnedVerifier(VerifierConfig(questions=questions))) == step
    with pytest.raises(UserError, match="STEP or FINAL"):
        step_question(LearnedVerifier(VerifierConfig(questions=("CLARITY",))))


# ----- calibration -------------------------------------------------------------------------------------------------


def test_numbers_by_hand():
    p, right = [0.9, 0.8, 0.7, 0.2, 0.6], [True, True, False, False, True]
    assert balanced_accuracy(p, right) == pytest.approx((1 + 0.5) / 2)
    assert false_positive_rate(p, right) == 0.5
    assert ranking(p, right, ["a", "a", "a", "b", "b"]) == 1.0
    assert ranking([0.5, 0.5, 0.1], [True, False, True], ["a"] * 3) == pytest.approx(0.25)
    assert reliability([0.05, 0.15, 0.12, 1.0], [0, 1, 0, 1]) == [
        (0.05, 0.0, 1),
        (pytest.approx(0.135), 0.5, 2),
        (1.0, 1.0, 1),
    ]
    assert calibration_error([0.05, 0.15, 0.12, 1.0], [0, 1, 0, 1]) == pytest.approx((0.05 + 2 * 0.365) / 4)


def test_a_calibrated_verifier_has_no_error_and_a_bold_one_has():
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    right = rng.random(20_000) < p
    assert calibration_error(p, right) < 0.01
    assert calibration_error(np.where(p > 0.5, 0.99, 0.01), right) > 0.2


def test_a_report_is_ready_for_a_card():
    made = report([0.9, 0.2, 0.9], [True, False, False], ["colors", "colors", "position"], ["a", "a", "b"])
    assert made["by_task"] == {"colors": 1.0, "position": 0.0} and made["answers"] == 3
    assert made["ranking"] == 1.0 and report([0.9], [True], ["colors"], ["a"])["ranking"] is None


def test_the_eye_sees_what_a_perfect_grid_says():
    """`see` on logits made by hand: two cats side by side stay two."""
    from cotlib.models.eye import Sight
    from cotlib.train.verifier import Painter

    scene = Scene((Thing("cat", "red", 0, 0), Thing("cat", "red", 24, 0), Thing("bus", "blue", 40, 40)))
    kinds, shades, centres = Painter().labels([scene])
    import torch.nn.functional as F

    sight = Sight(None, 9.0 * F.one_hot(kinds, 21), 9.0 * F.one_hot(shades, 9), 20 * centres - 10)
    [things] = sight.things()
    assert {(d.cls, d.color, d.box[:2]) for d in things} == {
        (t.cls, t.color, (t.x, t.y)) for t in scene.things
    }
    assert all(d.score > 0.9 and d.box[2] - d.box[0] == 24 for d in things)
