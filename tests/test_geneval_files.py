"""GenEval's files: prompts read as they are, pictures and results laid out so that its own scripts find them."""

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from cotlib.errors import UserError
from cotlib.interfaces import Verdict
from cotlib.judging.geneval import Judged
from cotlib.judging.geneval_files import drawn_prompts, judge_folder, read_metadata, summary, write_prompt
from cotlib.judging.mask2former import Instance

# One line of each task, in the form of GenEval's evaluation_metadata.jsonl.
LINES = [
    {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"},
    {"tag": "two_object", "include": [{"class": "computer mouse", "count": 1}, {"class": "spoon", "count": 1}],
     "prompt": "a photo of a computer mouse and a spoon"},
    {"tag": "counting", "include": [{"class": "clock", "count": 2}], "exclude": [{"class": "clock", "count": 3}],
     "prompt": "a photo of two clocks"},
    {"tag": "colors", "include": [{"class": "fire hydrant", "count": 1, "color": "brown"}],
     "prompt": "a photo of a brown fire hydrant"},
    {"tag": "position", "include": [{"class": "cat", "count": 1}, {"class": "dog", "count": 1, "position": ["right of", 0]}],
     "prompt": "a photo of a dog right of a cat"},
    {"tag": "color_attr", "include": [{"class": "hot dog", "count": 1, "color": "white"},
                                      {"class": "couch", "count": 1, "color": "black"}],
     "prompt": "a photo of a white hot dog and a black couch"},
]  # fmt: skip


def write_lines(path: Path, lines) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def refused(give) -> str:
    with pytest.raises(UserError) as error:
        give()
    assert "\n" not in str(error.value)
    return str(error.value)


class Counter:
    """A judge that calls every second picture right."""

    def __init__(self):
        self.seen = []

    def judge(self, metadatas, pictures):
        first = len(self.seen)
        self.seen += [picture.getpixel((0, 0)) for picture in pictures]
        return [Judged(Verdict((first + i) % 2 == 0, () if (first + i) % 2 == 0 else ("No dog.", "No cat.")),
                       {"dog": [Instance("dog", (0.0, 1.0, 2.0, 3.0), 0.5)], "cat": []})
                for i in range(len(pictures))]  # fmt: skip


def test_metadata_is_read_as_it_is(tmp_path):
    assert read_metadata(write_lines(tmp_path / "a.jsonl", LINES)) == LINES
    (tmp_path / "b.jsonl").write_text("\n" + json.dumps(LINES[0]) + "\n\n")
    assert read_metadata(tmp_path / "b.jsonl") == LINES[:1]


HARM = {
    "unknown class": {"include": [{"class": "mouse", "count": 1}]},
    "unknown color 'grey'": {"include": [{"class": "dog", "count": 1, "color": "grey"}]},
    "count is 0": {"include": [{"class": "dog", "count": 0}]},
    "count is True": {"include": [{"class": "dog", "count": True}]},
    "unknown tag 'text'": {"tag": "text"},
    "position is ['behind', 0]": {"include": [{"class": "dog", "count": 1}, {"class": "cat", "count": 1, "position": ["behind", 0]}]},
    "position is ['above', 1]": {"include": [{"class": "dog", "count": 1}, {"class": "cat", "count": 1, "position": ["above", 1]}]},
    "include is []": {"include": []},
    "exclude is 3": {"exclude": 3},
    'text "prompt"': {"prompt": " "},
}  # fmt: skip


@pytest.mark.parametrize("expected", HARM)
def test_bad_lines_are_refused_by_file_and_line(tmp_path, expected):
    path = write_lines(tmp_path / "bad.jsonl", [LINES[0], LINES[1] | HARM[expected]])
    said = refused(lambda: read_metadata(path))
    assert said.startswith(f"{path}, line 2: ") and expected in said


def test_bad_files_are_refused(tmp_path):
    assert "cannot be read" in refused(lambda: read_metadata(tmp_path / "none.jsonl"))
    (tmp_path / "empty.jsonl").write_text("\n\n")
    assert "holds no prompt" in refused(lambda: read_metadata(tmp_path / "empty.jsonl"))
    (tmp_path / "half.jsonl").write_text(json.dumps(LINES[0]) + "\n" + '{"tag": ')
    assert "line 2" in refused(lambda: read_metadata(tmp_path / "half.jsonl"))
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in refused(lambda: read_metadata(tmp_path / "bytes.jsonl"))


def test_the_layout_is_genevals(tmp_path):
    """Found as its evaluate_images.py looks for it: digits, metadata.jsonl, and samples of digits ending in .png."""
    images = torch.rand(4, 3, 8, 8)
    for index, metadata in enumerate(LINES):
        write_prompt(tmp_path / "out", index, metadata, images)
    folders = sorted(p for p in (tmp_path / "out").iterdir() if p.is_dir() and p.name.isdigit())
    assert [p.name for p in folders] == [f"{i:05d}" for i in range(6)]
    for folder, metadata in zip(folders, LINES, strict=True):
        assert json.load((folder / "metadata.jsonl").open()) == metadata
        samples = sorted((folder / "samples").iterdir())
        assert [p.name for p in samples] == ["0000.png", "0001.png", "0002.png", "0003.png"]
        assert all(re.match(r"\d+\.png", p.name) for p in samples)
    levels = torch.tensor([list(Image.open(samples[2]).convert("RGB").tobytes())]).view(8, 8, 3)
    assert torch.equal(levels, (images[2] * 255).floor().long().permute(1, 2, 0))


def test_what_was_written_is_found_again(tmp_path):
    assert drawn_prompts(tmp_path / "out") == []
    for index in (3, 0):
        write_prompt(tmp_path / "out", index, LINES[index], torch.rand(2, 3, 8, 8))
    write_prompt(tmp_path / "out", 3, LINES[4], torch.rand(1, 3, 8, 8))  # again, with another prompt
    (tmp_path / "out" / "00003" / "grid.png").touch()
    (tmp_path / "out" / "00003" / "samples" / "grid.png").touch()
    found = drawn_prompts(tmp_path / "out")
    assert [(p.index, p.metadata["prompt"], len(p.pictures)) for p in found] == [
        (0, LINES[0]["prompt"], 2), (3, LINES[4]["prompt"], 1)]  # fmt: skip


def test_a_prompt_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    images = torch.rand(3, 3, 8, 8)
    write_prompt(tmp_path, 0, LINES[0], images)
    saved = Image.Image.save
    calls = []

    def full_disk(picture, path):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        saved(picture, path)

    monkeypatch.setattr(Image.Image, "save", full_disk)
    assert "No space left" in refused(lambda: write_prompt(tmp_path, 1, LINES[1], images))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00000"]
    monkeypatch.setattr(Image.Image, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_prompt(tmp_path, 1, LINES[1], images)
    assert [p.index for p in drawn_prompts(tmp_path)] == [0]  # what is left of it is no prompt's folder
    monkeypatch.undo()
    write_prompt(tmp_path, 1, LINES[1], images)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00000", "00001"]


def test_a_folder_is_judged_into_genevals_lines(tmp_path):
    for index in (0, 1):
        write_prompt(tmp_path, index, LINES[index], torch.full((2, 3, 4, 4), (index + 1) / 255))
    judge = Counter()
    lines = list(judge_folder(judge, tmp_path))
    assert judge.seen == [(1, 1, 1)] * 2 + [(2, 2, 2)] * 2
    written = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert written == lines and len(lines) == 4
    assert list(lines[1]) == ["filename", "tag", "prompt", "correct", "reason", "metadata", "details"]
    assert (
        lines[1]["filename"].endswith("00000/samples/0001.png") and lines[1]["reason"] == "No dog.\nNo cat."
    )
    assert json.loads(lines[1]["metadata"]) == LINES[0]
    assert json.loads(lines[1]["details"]) == {"dog": [[0.0, 1.0, 2.0, 3.0, 0.5]]}


def test_the_summary_is_genevals(tmp_path):
    """Two tags of unequal size, worked out by hand: overall is the mean of the tags, not of the pictures."""
    rows = [("single_object", "a", True), ("single_object", "a", False), ("counting", "b", False), ("counting", "b", False),
            ("counting", "c", True), ("counting", "c", True)]  # fmt: skip
    got = summary([{"tag": t, "metadata": m, "correct": c} for t, m, c in rows])
    assert got["tasks"] == {"single_object": 0.5, "counting": 0.5} and got["overall"] == 0.5
    assert got["images"] == pytest.approx(3 / 6) and got["prompts"] == pytest.approx(2 / 3)
    got = summary([{"tag": t, "metadata": m, "correct": c} for t, m, c in rows[1:]])
    assert got["overall"] == pytest.approx((0 + 0.5) / 2) and got["images"] == pytest.approx(2 / 5)
    assert "no results" in refused(lambda: summary([]))


def test_bad_folders_are_refused(tmp_path):
    assert "holds no pictures" in refused(lambda: list(judge_folder(Counter(), tmp_path)))
    folder = write_prompt(tmp_path, 0, LINES[0], torch.rand(1, 3, 4, 4))
    (folder / "samples" / "0000.png").write_bytes(b"no picture")
    assert "0000.png is no picture" in refused(lambda: list(judge_folder(Counter(), tmp_path)))
    (folder / "metadata.jsonl").write_text("{}")
    assert "metadata.jsonl cannot be used" in refused(lambda: drawn_prompts(tmp_path))
    (tmp_path / "file").touch()
    assert "cannot be written" in refused(
        lambda: write_prompt(tmp_path / "file", 0, LINES[0], torch.rand(1, 3, 4, 4))
    )
    assert "RGB" in refused(lambda: write_prompt(tmp_path, 1, LINES[0], torch.rand(1, 1, 4, 4)))
