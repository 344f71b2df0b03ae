"""Figures of reflection say what happened, the tallies add up, and the exercise's loop is the library's."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cotlib.correcting import plan_edit
from cotlib.correcting.edits import order_of
from cotlib.interfaces import REFLECT, Detection, Outcome, Path, Reflection, Round, Verdict
from cotlib.judging.pictogram import glyph_box
from cotlib.lab.exercises.reflection import until_accepted
from cotlib.lab.figures import MAX_BYTES, compact_png
from cotlib.lab.reflection_figures import (
    KEPT,
    KINDS,
    UNASKED,
    Story,
    Tally,
    after_round,
    answer_to,
    edit_anatomy,
    fixed_broken_chart,
    kind_of,
    reflector,
    rounds_of,
    stories,
    transcripts,
    word_steps,
    word_steps_chart,
    words_chart,
)
from cotlib.models.verifier import QUESTIONS, VerifierConfig
from cotlib.search import Ledger, correct_chosen
from cotlib.verifying import Fault, LearnedVerifier, find_faults, understand
from cotlib.world.prompts import parse_prompt
from cotlib.world.render import render_batch
from cotlib.world.scenes import Scene, Thing

PROMPT = "a photo of a red dog and a blue cat"
DOG, CAT = Thing("dog", "blue", 0, 16), Thing("cat", "blue", 40, 16)


class Canvas:
    """A generator whose picture of codes full of k is grey of brightness k / 10."""

    def decode(self, codes):
        return (codes[:, :1, None, None].float() / 10).expand(-1, 3, 64, 64)


def bright(metadatas, images):
    """A judge that calls pictures right from brightness 0.3 on."""
    return [Verdict(bool(image.mean() > 0.25)) for image in images]


def brighter(model, prompts, codes, reflections, seed, round, *, ledger, steps, guidance):
    return codes + 1


def codes_of(k):
    return torch.full((64,), k)


def told(*verdicts, spared=False):
    """A story of as many pictures as verdicts; the last one is not asked about."""
    rounds = [Round(codes_of(k), Reflection(False, "missing red dog")) for k in range(len(verdicts) - 1)]
    last = Round(codes_of(9), Reflection(False, "missing red dog") if spared else None, spared)
    return Story(PROMPT, torch.rand(len(verdicts), 3, 64, 64), (*rounds, last), verdicts)


def texts(fig):
    return " ".join(t.get_text() for ax in fig.axes for t in ax.texts).replace("\n", " ")


def test_stories_follow_an_outcome_with_its_pictures_and_verdicts():
    class Verifier:
        questions = (REFLECT,)

        def reflect(self, prompts, images):
            return [Reflection(bool(image.mean() > 0.15), "dark") for image in images]

    prompts = [PROMPT, "a photo of three birds"]
    paths = [[Path(0, codes_of(0))], [Path(0, codes_of(2))]]
    outcome = Outcome(Canvas().decode(torch.stack([codes_of(0), codes_of(2)])), [0, 0], paths, Ledger())
    outcome = correct_chosen(Canvas(), prompts, outcome, verifier=Verifier(), correct=brighter)
    first, second = stories(Canvas(), prompts, outcome, bright)
    assert [len(s.right) for s in (first, second)] == [3, 1] and first.right == (False, False, False)
    assert torch.allclose(first.pictures.mean((1, 2, 3)), torch.tensor([0.0, 0.1, 0.2]))
    assert first.said() == ('"dark"', '"dark"', '"dark"') and second.prompt == prompts[1]


def test_a_tally_counts_what_each_round_fixed_and_broke():
    all_told = [told(False, True), told(True, False, True), told(True), told(False, False, False, False)]
    assert rounds_of(all_told) == [Tally(3, 1, 1), Tally(2, 1, 0), Tally(1, 0, 0)]
    for k, right in enumerate(([0, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0])):
        assert after_round(all_told, k) == [("color_attr", [r]) for r in right]


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=4), min_size=1, max_size=8))
def test_fixed_minus_broken_is_the_change_of_the_score(rows):
    all_told = [told(*row) for row in rows]
    for k, tally in enumerate(rounds_of(all_told)):
        before, after = (sum(s[0] for _, s in after_round(all_told, j)) for j in (k, k + 1))
        assert after - before == tally.fixed - tally.broken <= tally.corrected


def test_transcripts_name_prompt_words_and_what_happened():
    fig = transcripts([told(False, True), told(True, False, True), told(True, spared=True)])
    words = texts(fig)
    assert words.count('"missing red dog"') == 4 and KEPT in words and UNASKED in words
    assert "a red dog" in words and len(compact_png(fig)[0]) <= MAX_BYTES
    beside = transcripts([told(False), told(True)], across=2, unasked="afterwards")
    assert texts(beside).count("afterwards") == 2
    assert beside.get_figwidth() > beside.get_figheight()


def test_the_chart_shows_each_rounds_numbers():
    fig = fixed_broken_chart(
        {"a": [Tally(40, 20, 3), Tally(20, 0, 0)], "b": [Tally(1, 1, 0), Tally(0, 0, 0)]}
    )
    assert [t.get_text() for t in fig.axes[0].texts] == ["+20", "-3", "+0", "0"]
    assert [t.get_text() for t in fig.axes[0].get_xticklabels()] == ["1\n(40)", "2\n(20)"]


def test_the_anatomy_shows_things_plan_and_orders():
    metadata = parse_prompt(PROMPT)
    faults = find_faults(metadata, (DOG, CAT))
    reflection = understand(faults[0].words(), metadata, detections(DOG, CAT))
    edit = plan_edit(np.random.default_rng(0), metadata, reflection.seen, reflection.faults)
    before, after = render_batch([Scene((DOG, CAT)), Scene((DOG, CAT))])
    fig = edit_anatomy(before, reflection, edit, [order_of(t) for t in edit.drawn], after)
    words = texts(fig)
    assert (
        "blue dog" in words and "wrong blue dog should red" in words and '1: "a photo of a red dog"' in words
    )


def detections(*things):
    return [Detection(t.cls, glyph_box(t.cls, t.x, t.y), 0.95, t.color) for t in things]


@pytest.fixture(scope="module")
def verifier():
    torch.manual_seed(0)
    return LearnedVerifier(VerifierConfig(questions=QUESTIONS)).eval()


def test_words_step_by_step_are_the_words_that_are_said(verifier):
    images = render_batch([Scene((DOG, CAT)), Scene(())])
    said = verifier.say([PROMPT, PROMPT], images)
    for image, words in zip(images, said, strict=True):
        steps = word_steps(verifier, PROMPT, image)
        assert [w for w, _ in steps if w != "(end)"] == [w.strip("<>") for w in words]
        assert all(likely[0][0] == word and 0 < likely[0][1] <= 1 for word, likely in steps)
    assert len(word_steps_chart(steps[:5]).axes) == 5


def test_reflections_on_wrong_pictures_are_sorted_by_what_they_name():
    dog, cat = Fault("missing", "dog", "red"), Fault("missing", "cat", "blue")
    both = (dog, cat)
    assert kind_of(Reflection(True, "yes"), both) == KINDS[3]
    assert kind_of(Reflection(False, "", (cat, dog)), both) == KINDS[0]
    assert kind_of(Reflection(False, "", (dog,)), both) == KINDS[1]
    assert kind_of(Reflection(False, "", both), (dog,)) == KINDS[1]
    assert kind_of(Reflection(False, "", ()), both) == KINDS[2]
    fig = words_chart({"counting": [KINDS[0]] * 3 + [KINDS[3]], "position": [], "color_attr": [KINDS[2]]})
    labels = [t.get_text() for t in fig.axes[0].get_yticklabels()]
    assert labels == ["color attr (1)", "counting (4)", "all (5)"] and "0.75" in texts(fig)


def test_own_words_are_understood_and_carried_out():
    seen = detections(DOG, CAT)
    reflection, new = answer_to("Wrong blue dog should red", PROMPT, codes_of(2), seen, Canvas(), brighter)
    assert reflection.faults == (Fault("wrong", "dog", "blue", to_color="red"),) and int(new[0]) == 3
    reflection, new = answer_to("yes", PROMPT, codes_of(2), seen, Canvas(), brighter)
    assert reflection.accepted and int(new[0]) == 2
    reflection, _ = answer_to("", PROMPT, codes_of(2), seen, Canvas(), brighter)
    assert not reflection.accepted and reflection.flags


def test_the_widget_answers_to_its_button():
    codes = torch.stack([codes_of(2), codes_of(5)])
    widget = reflector(Canvas(), [PROMPT, "a photo of a dog"], codes, [detections(DOG), []],
                       ["missing blue cat", "yes"], brighter, bright)  # fmt: skip
    top, pictures, note = widget.children
    which, words, button = top.children
    assert words.value == "missing blue cat" and "wrong" in note.value
    before = pictures.children[1].value
    button.click()
    assert "1 fault(s) understood" in note.value and "right" in note.value
    assert pictures.children[1].value != before
    which.value = 1
    button.click()
    assert "Accepted" in note.value


@given(st.lists(st.booleans(), min_size=5, max_size=5), st.integers(0, 4))
def test_the_exercises_loop_is_the_librarys(verdicts, rounds):
    """One prompt: the same picture, asked about and corrected as often."""

    class Verifier:
        questions = (REFLECT,)

        def reflect(self, prompts, images):
            return [Reflection(verdicts[round(10 * float(image.mean()))], "no") for image in images]

    outcome = Outcome(Canvas().decode(codes_of(0)[None]), [0], [[Path(0, codes_of(0))]], Ledger())
    outcome = correct_chosen(
        Canvas(), [PROMPT], outcome, verifier=Verifier(), correct=brighter, rounds=rounds
    )
    asked = []

    def reflect(k):
        asked.append(k)
        return verdicts[k], 0.5, "no"

    last = int(outcome.rounds[0][-1].codes[0])
    assert until_accepted(0, reflect, lambda k, words: k + 1, rounds) == last
    assert len(asked) == outcome.ledger.verifier_calls[REFLECT]
