"""The pictogram world: prompts and scenes agree exactly, splits are disjoint, drawing is fast."""

import json
import time

import numpy as np
import pytest

from cotlib.errors import UserError
from cotlib.world import prompts, render, render_batch, sample_scene
from cotlib.world.prompts import (
    HONEST,
    MAX_TEXT,
    SPLITS,
    Carelessness,
    benchmark,
    compositions,
    corrupt,
    encode,
    load_prompts,
    parse_prompt,
    prompt_pool,
    prompt_text,
    sample_metadata,
)
from cotlib.world.scenes import CELL, CLASSES, COLORS, RELATIONS, SIZE, TASKS, Scene, Thing, apart, holds

ALL = [p for split in SPLITS for task in TASKS for p in prompt_pool(split, task)[::7]]


def test_size_of_the_world():
    assert len(CLASSES) >= 12 and len(COLORS) >= 8 and len(set(CLASSES)) == len(CLASSES)
    assert len(TASKS) == 6


def test_every_prompt_reads_back_as_itself():
    for text in ALL:
        metadata = parse_prompt(text)
        assert metadata["prompt"] == text == prompt_text(metadata)
        assert len(encode(text)) <= MAX_TEXT


def test_metadata_has_genevals_form():
    metadata = parse_prompt("a photo of a dog left of a cat")
    assert metadata["include"] == [
        {"class": "cat", "count": 1},
        {"class": "dog", "count": 1, "position": ["left of", 0]},
    ]
    counted = parse_prompt("a photo of three dogs")
    assert counted["include"] == [{"class": "dog", "count": 3}]
    assert counted["exclude"] == [{"class": "dog", "count": 4}]


def test_sampled_scenes_satisfy_their_prompt():
    rng = np.random.default_rng(0)
    for _ in range(300):
        metadata = sample_metadata(rng)
        scene = sample_scene(rng, metadata)
        assert holds(scene, metadata)
        spots = [(t.x, t.y) for t in scene.things]
        assert all(apart(a, b) for i, a in enumerate(spots) for b in spots[:i])
        assert all(0 <= x <= SIZE - CELL and 0 <= y <= SIZE - CELL for x, y in spots)


def test_truth_by_hand():
    scene = Scene((Thing("dog", "red", 0, 16), Thing("cat", "blue", 40, 16)))
    true = ["a photo of a dog", "a photo of a red dog", "a photo of a dog and a cat", "a photo of a dog left of a cat",
            "a photo of a cat right of a dog", "a photo of a red dog and a blue cat"]  # fmt: skip
    false = ["a photo of a bus", "a photo of a blue dog", "a photo of two dogs", "a photo of a dog right of a cat",
             "a photo of a dog above a cat", "a photo of a blue dog and a red cat"]  # fmt: skip
    assert all(holds(scene, parse_prompt(p)) for p in true)
    assert not any(holds(scene, parse_prompt(p)) for p in false)


def test_too_many_is_wrong_only_in_counting():
    three = Scene(tuple(Thing("dog", "red", x, y) for x, y in ((0, 0), (40, 0), (0, 40))))
    assert not holds(three, parse_prompt("a photo of two dogs"))
    assert holds(three, parse_prompt("a photo of three dogs"))
    assert holds(three, parse_prompt("a photo of a dog"))


def test_mirrored_scene_turns_left_into_right():
    rng = np.random.default_rng(1)
    for _ in range(200):
        scene = sample_scene(rng, sample_metadata(rng, task="position"))
        mirrored = Scene(tuple(Thing(t.cls, t.color, SIZE - CELL - t.x, t.y) for t in scene.things))
        a, b = (t.cls for t in scene.things)
        for relation, other in (("left of", "right of"), ("above", "above"), ("below", "below")):
            here = holds(scene, parse_prompt(f"a photo of a {a} {relation} a {b}"))
            assert here == holds(mirrored, parse_prompt(f"a photo of a {a} {other} a {b}"))


def test_held_out_pairs_never_occur_in_training_prompts():
    def pairs(text):
        clauses = parse_prompt(text)["include"]
        found = {("color", c["class"], c["color"]) for c in clauses if "color" in c}
        if len(clauses) == 2:
            found.add(("objects", *sorted(c["class"] for c in clauses)))
        return found

    seen = set().union(*(pairs(p) for task in TASKS for p in prompt_pool("train", task)))
    for split in ("dev", "test"):
        held = set().union(*(pairs(m["prompt"]) for m in benchmark(split)))
        assert held and not held & seen
    dev, test = ({m["prompt"] for m in benchmark(s) if compositions(m)} for s in ("dev", "test"))
    assert not dev & test


def test_benchmarks_are_distinct_and_cover_all_tasks():
    test = benchmark("test")
    assert len(test) == 300 == len({m["prompt"] for m in test})
    assert {m["tag"] for m in test} == set(TASKS)


def test_careless_captions_are_wrong_at_the_stated_rate():
    rng = np.random.default_rng(2)
    noise = Carelessness(cls=0.4, color=0.4)
    metadata = parse_prompt("a photo of a red dog")
    changed = [corrupt(rng, metadata, noise)["include"][0] for _ in range(2000)]
    assert abs(np.mean([c["class"] == "cat" for c in changed]) - 0.4) < 0.04
    assert abs(np.mean([c["color"] == "orange" for c in changed]) - 0.4) < 0.04
    assert corrupt(rng, metadata, HONEST)["include"] == metadata["include"]


def test_drawing_is_fast_and_never_empty():
    rng = np.random.default_rng(3)
    scenes = [sample_scene(rng) for _ in range(400)]
    render(scenes[0])
    begin = time.process_time()
    pictures = [render(s) for s in scenes]
    rate = len(scenes) / (time.process_time() - begin)
    assert rate > 2000, f"{rate:.0f} pictures a second"
    assert all(p.shape == (SIZE, SIZE, 3) and p.min() < 150 for p in pictures)
    batch = render_batch(scenes[:2])
    assert batch.shape == (2, 3, SIZE, SIZE) and 0 <= batch.min() and batch.max() <= 1


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "empty"),
        ("a photo of a unicorn", "unicorn"),
        ("a photo of a mauve dog", "mauve"),
        ("a photo of a red dog and a blue cat and a cup", "words"),
        ("a photo of two dog", "six forms"),
        ("a photo of a dog and a dog", "six forms"),
    ],
)
def test_bad_prompts_are_named(text, part):
    with pytest.raises(UserError, match=part):
        parse_prompt(text)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("{bad json", "line 2"),
        ('["a list"]', "JSON object"),
        ('{"tag": "colors", "include": [{"class": "yak", "count": 1}], "prompt": "a photo of a dog"}', "yak"),
        ('{"tag": "colors", "include": [{"class": "dog", "count": 1, "color": "mauve"}], "prompt": "a photo of a dog"}', "mauve"),
        ('{"tag": "riddles", "include": [], "prompt": "a photo of a dog"}', "riddles"),
        ('{"tag": "colors", "include": [{"class": "dog"}], "prompt": "a photo of a dog"}', "count"),
    ],
)  # fmt: skip
def test_bad_prompt_files_name_file_and_line(tmp_path, line, part):
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps(parse_prompt("a photo of a dog")) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=part) as caught:
        load_prompts(path)
    assert "prompts.jsonl, line 2" in str(caught.value)


def test_missing_and_empty_prompt_files(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        load_prompts(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(UserError, match="holds no prompt"):
        load_prompts(tmp_path / "empty.jsonl")


def test_unknown_task():
    with pytest.raises(UserError, match="riddles"):
        prompt_pool("train", "riddles")


def test_relations_are_all_parsed():
    for relation in RELATIONS:
        assert parse_prompt(f"a photo of a dog {relation} a cat")["tag"] == "position"
    assert prompts.article("umbrella") == "an" and prompts.article("cup") == "a"
