"""The two judges against exact truth, and against each other."""

import json

import numpy as np
import pytest
import torch

from cotlib.assets import data_dir
from cotlib.interfaces import Detection
from cotlib.judging.confusion import NOTHING, confusion, measure, near_miss
from cotlib.judging.pictogram import DetectorJudge, TemplateJudge, glyph_box
from cotlib.models.detector import PictogramDetector
from cotlib.models.tokenizer import PictogramTokenizer
from cotlib.train.detector import detector_loss, make_collages, sample_gaps, share_left, token_shares
from cotlib.world.prompts import benchmark, parse_prompt
from cotlib.world.render import background, render_batch
from cotlib.world.scenes import CLASSES, Scene, Thing, holds, sample_scene

JUDGES = {"detector": DetectorJudge, "template": TemplateJudge}


@pytest.fixture(scope="module", params=JUDGES)
def judge(request):
    return JUDGES[request.param]()


@pytest.fixture(scope="module")
def tokenizer():
    return PictogramTokenizer.from_pretrained(data_dir() / "tokenizer")


@pytest.fixture(scope="module")
def scenes():
    rng = np.random.default_rng(7)
    return [sample_scene(rng) for _ in range(60)]


def test_both_judges_agree_with_the_truth(judge, tokenizer):
    """300 test prompts, one drawing each, asked for itself, for another prompt and for a near miss."""
    results = measure({"judge": judge}, tokenizer, drawings_per_prompt=1, seed=1)["judges"]["judge"]
    assert results["drawings"]["agreement"]["overall"] >= 0.995
    assert results["reconstructions"]["agreement"]["overall"] >= 0.99


def test_the_shipped_figures_say_the_same():
    results = json.loads((data_dir() / "results" / "judge_confusion.json").read_text(encoding="utf-8"))
    assert set(results["judges"]) == set(JUDGES)
    for kinds in results["judges"].values():
        assert kinds["drawings"]["agreement"]["overall"] >= 0.995
        assert kinds["reconstructions"]["agreement"]["overall"] >= 0.99
        things = [sum(row.values()) for name, row in kinds["drawings"]["classes"].items() if name != NOTHING]
        assert len(things) == len(CLASSES) and min(things) > 20


def test_every_thing_is_found_with_its_box_and_a_clear_score(judge, scenes):
    """The template judge's boxes are exact; the shipped detector's worst side is .9 pixels off on average, 2.6 at most."""
    errors = []
    for scene, found in zip(scenes, judge.detect(render_batch(scenes)), strict=True):
        assert sorted((d.cls, d.color) for d in found) == sorted((t.cls, t.color) for t in scene.things)
        assert all(d.score > 0.9 for d in found)
        for thing in scene.things:
            truth = np.array(glyph_box(thing.cls, thing.x, thing.y))
            errors.append(min(np.abs(np.array(d.box) - truth).max() for d in found))
    worst, mean = (3.0, 1.0) if isinstance(judge, DetectorJudge) else (0.0, 0.0)
    assert max(errors) <= worst and np.mean(errors) <= mean


def test_paper_and_noise_hold_nothing(judge):
    paper = torch.from_numpy(background(None).copy()).permute(2, 0, 1)[None]
    noise = torch.rand(20, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for found in judge.detect(torch.cat([paper, noise])):
        assert all(d.score <= 0.3 for d in found)


def test_half_a_thing_is_not_a_thing(judge, scenes):
    """Each thing of a one-thing picture loses its left or its upper half."""
    paper = torch.from_numpy(background(None).copy()).permute(2, 0, 1)
    singles = [Scene((scene.things[0],)) for scene in scenes]
    pictures = render_batch(singles)
    for i, scene in enumerate(singles):
        thing = scene.things[0]
        if i % 2:
            pictures[i, :, :, : thing.x + 14] = paper[:, :, : thing.x + 14]
        else:
            pictures[i, :, : thing.y + 14] = paper[:, : thing.y + 14]
    counted = sum(any(d.score > 0.3 for d in found) for found in judge.detect(pictures))
    assert counted <= 0.05 * len(singles)


def test_a_verdict_does_not_depend_on_the_batch(judge, scenes):
    metadatas = [m for m in benchmark("test") if m["tag"] in ("counting", "position")][:20]
    pictures = render_batch(scenes[:20])
    alone = [judge([m], picture[None])[0] for m, picture in zip(metadatas, pictures, strict=True)]
    assert judge(metadatas, pictures) == alone


def test_wrong_input_is_refused(judge):
    with pytest.raises(ValueError, match="2 prompts for 1 pictures"):
        judge([{}, {}], torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="expected"):
        judge.detect(torch.zeros(1, 3, 32, 32))


def test_the_judges_speak_plainly(judge):
    scene = Scene((Thing("dog", "blue", 40, 16), Thing("cat", "red", 0, 16)))
    said = {
        "a photo of a red dog": "Asked for the colour red; the dog is blue.",
        "a photo of a dog left of a cat": "Asked for the dog left of the cat; it is right of the cat.",
        "a photo of two cats": "Asked for 2 cats; found 1.",
    }
    verdicts = judge([parse_prompt(text) for text in said], render_batch([scene] * len(said)))
    assert [v.reasons for v in verdicts] == [(reason,) for reason in said.values()]


def test_the_template_score_has_the_closed_form():
    """A thing that is paper to the share 1 - f: u = f t, so R = 1 - ((1 - f) / f)^2."""
    judge = TemplateJudge()
    scene = Scene((Thing("car", "blue", 16, 24),), tint=0)
    paper, full = render_batch([Scene(())], plain=True), render_batch([scene], plain=True)
    for f in (1.0, 0.8, 0.7):
        explained = 1 - ((1 - f) / f) ** 2
        [[found]] = judge.detect(paper + f * (full - paper))
        assert (found.cls, found.box) == ("car", glyph_box("car", 16, 24))
        assert found.score == pytest.approx(1 / (1 + np.exp(-20 * (explained - 0.7))), abs=2e-3)


def test_confusion_counts_known_mistakes():
    scene = Scene((Thing("cat", "red", 0, 0), Thing("dog", "blue", 40, 0), Thing("bus", "green", 0, 40)))
    found = [
        Detection("cat", glyph_box("cat", 0, 0), 0.9, "pink"),  # wrong color
        Detection("horse", glyph_box("horse", 40, 0), 0.9, "blue"),  # wrong class
        Detection("bus", glyph_box("bus", 0, 40), 0.2, "green"),  # too weak: missed
        Detection("cup", glyph_box("cup", 40, 40), 0.9, "black"),  # nothing is there
    ]
    assert confusion([scene], [found]) == {
        "classes": {"cat": {"cat": 1}, "dog": {"horse": 1}, "bus": {NOTHING: 1}, NOTHING: {"cup": 1}},
        "colors": {"red": {"pink": 1}},
    }


def test_a_near_miss_is_mostly_false_for_the_drawing():
    rng = np.random.default_rng(0)
    prompts = benchmark("test")
    missed = [near_miss(rng, m) for m in prompts]
    assert all(
        m["tag"] == n["tag"] and m["prompt"] != n["prompt"] for m, n in zip(prompts, missed, strict=True)
    )
    true = [holds(sample_scene(rng, m), n) for m, n in zip(prompts, missed, strict=True)]
    assert sum(true) < 0.1 * len(true)  # a thing above and left of another fulfils both


def test_the_detector_is_small():
    assert sum(p.numel() for p in PictogramDetector().parameters()) <= 200_000


def test_collages_know_what_is_left_of_a_thing(scenes, tokenizer):
    assert all(token_shares(cls).sum() == pytest.approx(1) for cls in CLASSES)
    rng = np.random.default_rng(0)
    keep = sample_gaps(rng)
    for thing in scenes[0].things:
        assert share_left(thing, keep) + share_left(thing, ~keep) == pytest.approx(1)
    for given in (None, tokenizer):
        with torch.no_grad():
            pictures, shown = make_collages(rng, scenes, share=0.0, tokenizer=given)
        assert pictures.shape == (len(scenes), 3, 64, 64)
        whole = [[thing for thing, share in things if share > 0.99] for things in shown]
        assert whole == [list(scene.things) for scene in scenes]


def test_a_few_steps_lower_the_loss(scenes):
    torch.manual_seed(0)
    detector = PictogramDetector()
    optimizer = torch.optim.AdamW(detector.parameters(), 2e-3)
    pictures, shown = make_collages(np.random.default_rng(0), scenes[:8], 0.5, None)
    losses = []
    for _ in range(8):
        loss = detector_loss(detector, pictures, shown, spread=0.8)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
