"""GenEval's judge: mmdetection's way from picture to instances, CLIP's colours, and the shared rules.

Oracles: OpenCV's own output (recorded), a plain float64 post-processing pixel by pixel, transformers' full model and picture
processor. Checkpoints are tiny, random, and written here as the published ones are.
"""

import hashlib
import json
import math
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from published_tools import tiny_mask2former, write_judge
from safetensors.torch import load_file, save_file
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from cotlib.errors import UserError
from cotlib.judging import mask2former
from cotlib.judging.clip_colors import COLORS, ClipColors, clip_pixels, cut_out
from cotlib.judging.geneval import GenEvalJudge, apart, overlap
from cotlib.judging.mask2former import (
    CLASSES,
    Instance,
    Mask2FormerDetector,
    instances,
    network_input,
    resized,
    scaled_size,
)


def one_sentence(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# ----- picture to network -------------------------------------------------------------------------------------------


def pattern(height, width):
    y, x, c = np.mgrid[:height, :width, :3]
    return ((y * y * 37 + x * 91 + c * 53 + x * y * 11) % 256).astype(np.uint8)


def test_scaling_is_opencvs_to_the_last_bit():
    """cv2.resize(..., INTER_LINEAR) of OpenCV 4.14 on `pattern`: red of a small one, hashes of larger ones."""
    red = [[0, 40, 96, 153, 130, 27, 68, 108], [13, 55, 114, 173, 153, 52, 95, 137], [34, 79, 142, 205, 188, 91, 139, 183],
           [93, 83, 79, 146, 173, 160, 147, 139], [143, 89, 25, 85, 150, 221, 148, 86],
           [102, 115, 128, 100, 124, 199, 130, 70], [77, 131, 193, 110, 108, 185, 119, 61]]  # fmt: skip
    assert resized(pattern(4, 5), (7, 8))[..., 0].tolist() == red
    recorded = {((64, 64), (800, 800)): "4c979c202500485f", ((48, 100), (640, 1333)): "3a67e0ad0a3e7053",
                ((90, 70), (51, 33)): "441d5562d972c314"}  # fmt: skip
    for (old, new), digest in recorded.items():
        assert hashlib.sha256(resized(pattern(*old), new).tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize(
    ("size", "expected"), [((256, 256), (800, 800)), ((512, 512), (800, 800)), ((1600, 1600), (800, 800)),
                           ((400, 600), (800, 1200)), ((300, 600), (667, 1333)), ((600, 300), (1333, 667))]
)  # fmt: skip
def test_scaled_sizes(size, expected):
    """By hand: min(1333 / longer, 800 / shorter), then rounded half up."""
    assert scaled_size(size) == expected


def test_the_network_gets_rgb_padded_with_grey_on_the_right_and_below():
    picture = Image.fromarray(np.tile(np.uint8([[[200, 100, 50]]]), (300, 600, 1)))
    pixels, size = network_input(picture)
    assert size == (667, 1333) and pixels.shape == (3, 672, 1344) and pixels.dtype == torch.float32
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    inside = [(v - m) / s for v, m, s in zip((200, 100, 50), mean, std, strict=True)]
    grey = [(128 - m) / s for m, s in zip(mean, std, strict=True)]
    for y, x, expected in [(0, 0, inside), (666, 1332, inside), (667, 0, grey), (0, 1333, grey)]:
        assert pixels[:, y, x].tolist() == pytest.approx(expected, abs=1e-5)


# ----- network to instances -----------------------------------------------------------------------------------------


def stretched(plane, size):
    """A plane scaled as bilinear interpolation defines it, one pixel after the other, in float64."""
    out = np.zeros(size)
    for i in range(size[0]):
        for j in range(size[1]):
            y, x = (
                (k + 0.5) * old / new - 0.5 for k, old, new in zip((i, j), plane.shape, size, strict=True)
            )
            y, x = min(max(y, 0), plane.shape[0] - 1), min(max(x, 0), plane.shape[1] - 1)
            top, left = math.floor(y), math.floor(x)
            bottom, right = min(top + 1, plane.shape[0] - 1), min(left + 1, plane.shape[1] - 1)
            v, u = y - top, x - left
            out[i, j] = ((1 - v) * ((1 - u) * plane[top, left] + u * plane[top, right])
                         + v * ((1 - u) * plane[bottom, left] + u * plane[bottom, right]))  # fmt: skip
    return out


def plain_instances(classes, masks, padded, scaled, size, most=100):
    """All pairs of query and class, as mmdetection defines their scores: [(class, box, score, mask)], best first."""
    odds = np.exp(classes - classes.max(1, keepdims=True))
    odds /= odds.sum(1, keepdims=True)
    pairs = sorted(
        ((odds[q, c], q, c) for q in range(len(odds)) for c in range(odds.shape[1] - 1)), reverse=True
    )[:most]
    planes = {q: stretched(stretched(masks[q], padded)[: scaled[0], : scaled[1]], size) for _, q, _ in pairs}
    found = []
    for p, q, c in pairs:
        mask = planes[q] > 0
        if mask.any():
            ys, xs = np.where(mask)
            score = p * (1 / (1 + np.exp(-planes[q][mask]))).sum() / (mask.sum() + 1e-6)
            found.append((CLASSES[c], (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1), score, mask))
    return found


@pytest.mark.parametrize("seed", (0, 1, 2))
def test_instances_equal_the_plain_post_processing(seed):
    draw = np.random.default_rng(seed)
    classes = draw.normal(0, 3, (6, 81)).astype(np.float32)
    masks = draw.normal(0, 4, (6, 8, 12)).astype(np.float32)
    masks[2] = -1.0  # an empty mask
    sizes = (32, 48), (27, 45), (19, 31)
    ours = instances(torch.from_numpy(classes), torch.from_numpy(masks), *sizes)
    theirs = plain_instances(classes.astype(float), masks.astype(float), *sizes)
    assert len(ours) == len(theirs) and len({d.cls for d in ours}) > 20
    for one, (cls, box, score, mask) in zip(
        sorted(ours, key=lambda d: -d.score), sorted(theirs, key=lambda d: -d[2]), strict=True
    ):
        assert one.cls == cls and one.box == box and one.score == pytest.approx(score, rel=1e-5)
        assert np.array_equal(one.mask, mask)


def test_a_threshold_only_leaves_out_what_is_below_it():
    draw = torch.Generator().manual_seed(1)
    classes, masks = 4 * torch.randn(9, 81, generator=draw), 4 * torch.randn(9, 6, 6, generator=draw)
    everything = instances(classes, masks, (24, 24), (24, 24), (12, 12))
    some = instances(classes, masks, (24, 24), (24, 24), (12, 12), lowest=0.3)
    key = lambda d: (d.cls, d.box, round(d.score, 5))  # noqa: E731
    assert 0 < len(some) < len(everything)
    assert sorted(map(key, some)) == sorted(key(d) for d in everything if d.score > 0.3)


def test_at_most_a_hundred_and_never_nothing():
    classes = torch.zeros(4, 81)
    classes[:, -1] = 50.0  # nothing is the likeliest, and no class all the same
    found = instances(classes, torch.ones(4, 3, 3), (12, 12), (12, 12), (6, 6))
    assert len(found) == 100 and {d.box for d in found} == {(0, 0, 6, 6)}
    assert set(found[0].__dataclass_fields__) > {"cls", "box", "score", "color"}


def test_classes_are_coco_in_order_by_genevals_names():
    assert len(set(CLASSES)) == 80
    places = {"person": 0, "traffic light": 9, "bench": 13, "sports ball": 32, "cup": 41, "hot dog": 52, "couch": 57,
              "dining table": 60, "tv": 62, "computer mouse": 64, "tv remote": 65, "computer keyboard": 66, "cell phone": 67,
              "teddy bear": 77, "toothbrush": 79}  # fmt: skip
    assert {name: CLASSES.index(name) for name in places} == places


# ----- the detector -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full_model():
    return tiny_mask2former()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, full_model):
    return write_judge(tmp_path_factory.mktemp("judge"), full_model)


@pytest.fixture
def small(monkeypatch):
    """Pictures are scaled to 96 pixels instead of 800, so that a test takes no time."""
    monkeypatch.setattr(mask2former, "SHORT", 96)
    monkeypatch.setattr(mask2former, "LONG", 160)


@torch.no_grad()
def test_the_network_is_transformers_own_without_scipy(folder, full_model):
    detector = Mask2FormerDetector.from_pretrained(folder / "segmenter")
    pixels = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    theirs, (classes, masks) = full_model(pixels), detector.logits(pixels)
    assert (classes - theirs.class_queries_logits).abs().max() <= 1e-5
    assert (masks - theirs.masks_queries_logits).abs().max() <= 1e-4 * masks.abs().max()


def test_a_batch_is_detected_as_one_by_one(folder, small):
    detector = Mask2FormerDetector.from_pretrained(folder / "segmenter", batch=2)
    images = torch.rand(3, 3, 40, 60, generator=torch.Generator().manual_seed(2))
    together = detector.detect(images, lowest=0.01)
    alone = [detector.detect(images[i : i + 1], lowest=0.01)[0] for i in range(3)]
    assert all(len(found) > 3 for found in together)
    for a, b in zip(together, alone, strict=True):
        assert [(d.cls, d.box) for d in a] == [(d.cls, d.box) for d in b]
        assert [d.score for d in a] == pytest.approx([d.score for d in b], abs=1e-5)
    mixed = [Image.new("RGB", (30, 20)), Image.new("RGB", (20, 30)), Image.new("RGB", (30, 20))]
    assert [{d.mask.shape for d in found} for found in detector.detect(mixed, 0.01)] == [
        {(20, 30)},
        {(30, 20)},
        {(20, 30)},
    ]
    assert detector.detect(images[:0]) == []


def test_full_size_pictures_go_through(folder):
    found = Mask2FormerDetector.from_pretrained(folder / "segmenter").detect(
        torch.rand(1, 3, 64, 64), lowest=0.0
    )
    assert found[0] and all(d.mask.shape == (64, 64) for d in found[0])


def test_wrong_detectors_are_refused(folder, tmp_path):
    def refused(name, config=None, drop=None) -> str:
        place = tmp_path / name
        shutil.copytree(folder / "segmenter", place)
        if config:
            said = json.loads((place / "config.json").read_text()) | config
            (place / "config.json").write_text(json.dumps(said))
        if drop:
            state = {k: v for k, v in load_file(place / "model.safetensors").items() if drop not in k}
            save_file(state, place / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(UserError) as error:
            Mask2FormerDetector.from_pretrained(place)
        return one_sentence(error)

    assert "MaskFormerFor" in refused(
        "a", {"architectures": ["MaskFormerForInstance"], "model_type": "maskformer"}
    )
    assert "0 classes" in refused("b", drop="class_predictor")
    assert "queries_features.weight missing" in refused("c", drop="queries_features")
    assert "another shape" in refused("d", {"dim_feedforward": 64})
    with pytest.raises(UserError) as error:
        Mask2FormerDetector.from_pretrained(tmp_path / "nowhere")
    assert "no folder" in one_sentence(error)


# ----- colours ------------------------------------------------------------------------------------------------------


def test_only_the_thing_is_cut_out():
    picture = Image.new("RGB", (6, 4), (10, 20, 30))
    mask = np.zeros((4, 6), dtype=bool)
    mask[1:3, 2:5] = True
    mask[1, 2] = False
    cut = np.asarray(cut_out(picture, Instance("dog", (2.0, 1.0, 5.0, 3.0), 0.9, mask=mask)))
    assert cut.shape == (2, 3, 3)
    assert cut[0, 0].tolist() == [0x99] * 3 and cut[1, 2].tolist() == [10, 20, 30]


@pytest.mark.parametrize("size", [(50, 50), (60, 41), (33, 97), (32, 32)])
def test_clip_pixels_equal_transformers_where_the_middle_is_whole(size):
    picture = Image.fromarray(pattern(size[1], size[0]))
    theirs = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    pixels = theirs(picture, return_tensors="pt")["pixel_values"][0]
    longer = int(32 * max(size) / min(size))
    ours = clip_pixels(picture, 32)
    assert ours.shape == (3, 32, 32)
    if (longer - 32) % 2 == 0:
        assert (ours - pixels).abs().max() <= 1e-5


@pytest.mark.parametrize(("extra", "skipped"), [(1, 0), (2, 1), (3, 2), (5, 2), (7, 4)])
def test_the_middle_is_torchvisions(extra, skipped):
    """Half a pixel goes to the even number: round(1.5) = 2, round(2.5) = 2."""
    levels = pattern(32 + extra, 32)
    ours = clip_pixels(Image.fromarray(levels), 32)
    row = levels[skipped, :, 0] / 255
    assert ours[0, 0].tolist() == pytest.approx(((row - 0.48145466) / 0.26862954).tolist(), abs=1e-5)


@torch.no_grad()
def test_directions_are_means_of_three_sentences(folder):
    colors = ClipColors.from_pretrained(folder / "names")
    ours = colors.directions("computer mouse")
    assert ours.shape == (10, 16) and torch.allclose(ours.norm(dim=1), torch.ones(10))
    for row, color in zip(ours, COLORS, strict=True):
        said = [f"a photo of a {color} computer mouse", f"a photo of a {color}-colored computer mouse",
                f"a photo of a {color} object"]  # fmt: skip
        each = []
        for sentence in said:  # alone, so that nothing is padded
            ids = torch.tensor([colors.words(sentence)["input_ids"]])
            states = colors.model.text_model(input_ids=ids).last_hidden_state[0, -1]  # at the end mark
            vector = colors.model.text_projection(states)
            each.append(vector / vector.norm())
        mean = sum(each) / 3
        assert (row - mean / mean.norm()).abs().max() <= 1e-5


@torch.no_grad()
def test_the_nearest_direction_names_the_colour(folder):
    colors = ClipColors.from_pretrained(folder / "names")
    draw = np.random.default_rng(0)
    picture = Image.fromarray(draw.integers(0, 256, (40, 50, 3), dtype=np.uint8))
    things = [
        Instance("dog", (x, 3.0, x + 12, 30.0), 0.9, mask=draw.random((40, 50)) < 0.7) for x in range(20)
    ]
    named = colors(picture, things, "dog")
    for thing, name in zip(things, named, strict=True):
        image = colors.model.visual_projection(
            colors.model.vision_model(
                pixel_values=clip_pixels(cut_out(picture, thing), 32)[None]
            ).pooler_output
        )[0]
        cosines = [float(image @ row / image.norm() / row.norm()) for row in colors.directions("dog")]
        assert name == COLORS[max(range(10), key=cosines.__getitem__)]
    assert colors(picture, [], "dog") == []


def test_wrong_clips_are_refused(folder, tmp_path):
    with pytest.raises(UserError) as error:
        ClipColors.from_pretrained(folder / "segmenter")
    assert "Mask2Former" in one_sentence(error)
    shutil.copytree(folder / "names", tmp_path / "a")
    (tmp_path / "a" / "tokenizer.json").unlink()
    (tmp_path / "a" / "tokenizer_config.json").unlink(missing_ok=True)
    state = {
        k: v
        for k, v in load_file(folder / "names" / "model.safetensors").items()
        if "text_projection" not in k
    }
    shutil.copytree(folder / "names", tmp_path / "b")
    save_file(state, tmp_path / "b" / "model.safetensors", metadata={"format": "pt"})
    for name, expected in (("a", "tokenizer"), ("b", "text_projection.weight missing")):
        with pytest.raises(UserError) as error:
            ClipColors.from_pretrained(tmp_path / name)
        assert expected in one_sentence(error)


# ----- the judge ----------------------------------------------------------------------------------------------------


class Painted:
    """Names each thing by the colour it was given here, and remembers what it was asked."""

    def __init__(self, colors):
        self.colors, self.asked = colors, []

    def __call__(self, picture, things, name):
        self.asked.append((name, [t.score for t in things]))
        return [self.colors[t.score] for t in things]


def thing(cls, x, score, y=0.0, side=10.0):
    return Instance(cls, (x, y, x + side, y + side), score)


PICTURE = Image.new("RGB", (100, 100))


def test_colours_are_asked_of_the_best_only_and_only_when_enough():
    red_dog = {
        "tag": "colors",
        "include": [{"class": "dog", "count": 1, "color": "red"}],
        "prompt": "a photo of a red dog",
    }
    colors = Painted({0.9: "red", 0.8: "blue", 0.95: "blue"})
    judge = GenEvalJudge(None, colors)
    assert judge.decide(red_dog, PICTURE, [thing("dog", 0, 0.8), thing("dog", 50, 0.9)]).verdict.correct
    assert not judge.decide(red_dog, PICTURE, [thing("dog", 0, 0.95), thing("dog", 50, 0.9)]).verdict.correct
    assert not judge.decide(red_dog, PICTURE, [thing("cat", 0, 0.9)]).verdict.correct
    assert not judge.decide(
        red_dog, PICTURE, [thing("dog", 0, 0.3)]
    ).verdict.correct  # not above the threshold
    assert colors.asked == [("dog", [0.9]), ("dog", [0.95])]


def test_two_clauses_each_have_their_colour():
    both = {"tag": "color_attr", "prompt": "a photo of a red dog and a blue cat", "include": [
        {"class": "dog", "count": 1, "color": "red"}, {"class": "cat", "count": 1, "color": "blue"}]}  # fmt: skip
    found = [thing("dog", 0, 0.9), thing("cat", 50, 0.8)]
    right, wrong = ({0.9: a, 0.8: b} for a, b in (("red", "blue"), ("blue", "red")))
    judged = GenEvalJudge(None, Painted(right)).decide(both, PICTURE, found)
    assert judged.verdict.correct and [judged.found[name][0].color for name in ("dog", "cat")] == [
        "red",
        "blue",
    ]
    verdict = GenEvalJudge(None, Painted(wrong)).decide(both, PICTURE, found).verdict
    assert not verdict.correct and len(verdict.reasons) == 2


def test_counting_positions_and_the_limit_of_sixteen():
    judge = GenEvalJudge(None, Painted({}))
    three = {"tag": "counting", "prompt": "a photo of three dogs", "include": [{"class": "dog", "count": 3}],
             "exclude": [{"class": "dog", "count": 4}]}  # fmt: skip
    sure = [thing("dog", 20 * k, 0.91 + 0.01 * k) for k in range(4)]
    assert judge.decide(three, PICTURE, sure[:3]).verdict.correct
    assert judge.decide(
        three, PICTURE, [*sure[:3], thing("dog", 70, 0.9)]
    ).verdict.correct  # .9 does not count
    assert not judge.decide(three, PICTURE, sure).verdict.correct
    left = {"tag": "position", "prompt": "a photo of a dog left of a cat", "include": [
        {"class": "cat", "count": 1}, {"class": "dog", "count": 1, "position": ["left of", 0]}]}  # fmt: skip
    assert judge.decide(left, PICTURE, [thing("cat", 60, 0.9), thing("dog", 10, 0.9)]).verdict.correct
    assert not judge.decide(left, PICTURE, [thing("cat", 10, 0.9), thing("dog", 60, 0.9)]).verdict.correct
    many = judge.decide(left, PICTURE, [thing("dog", k, 0.31 + 0.01 * k) for k in range(30)]).found["dog"]
    assert len(many) == 16 and many[0].score == max(d.score for d in many)


def test_overlapping_things_count_once_if_asked():
    assert overlap((0, 0, 9, 9), (0, 0, 9, 9)) == 1 and overlap((0, 0, 9, 9), (20, 0, 29, 9)) == 0
    assert overlap((0, 0, 9, 9), (5, 0, 14, 9)) == 50 / 150  # sides of ten pixels
    twice = [thing("dog", 0, 0.95), thing("dog", 1, 0.94), thing("dog", 50, 0.93)]
    assert apart(twice, 1.0) == twice and apart(twice, 0.5) == [twice[0], twice[2]]
    two = {"tag": "counting", "prompt": "a photo of two dogs", "include": [{"class": "dog", "count": 2}],
           "exclude": [{"class": "dog", "count": 3}]}  # fmt: skip
    assert not GenEvalJudge(None, None).decide(two, PICTURE, twice).verdict.correct
    assert GenEvalJudge(None, None, max_overlap=0.5).decide(two, PICTURE, twice).verdict.correct


def test_a_judge_from_one_folder(folder, small):
    judge = GenEvalJudge.from_pretrained(folder)
    images = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(3))
    metadatas = [
        {"tag": "single_object", "prompt": "a photo of a dog", "include": [{"class": "dog", "count": 1}]}
    ] * 2
    assert [v.correct for v in judge(metadatas, images)] == [False, False]
    asked = judge.judge(metadatas, images)
    assert all(d.score > 0.3 for one in asked for things in one.found.values() for d in things)
    with pytest.raises(ValueError, match="1 prompts for 2"):
        judge(metadatas[:1], images)


def test_a_judges_folder_must_hold_both(folder, tmp_path):
    shutil.copytree(folder / "names", tmp_path / "clip")
    for give, expected in [(lambda: GenEvalJudge.from_pretrained(tmp_path), "0 folders of a mask2former"),
                           (lambda: GenEvalJudge.from_pretrained(), "no folder of a mask2former")]:  # fmt: skip
        with pytest.raises(UserError) as error:
            give()
        assert expected in one_sentence(error)
    GenEvalJudge.from_pretrained(detector=folder / "segmenter", colors=tmp_path / "clip")
