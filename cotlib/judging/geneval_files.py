"""GenEval's files: its list of prompts, and its layout of pictures and results.

    evaluation_metadata.jsonl         one JSON object a line: tag, include, exclude, prompt
    OUT/00000/metadata.jsonl          the line of prompt 0
    OUT/00000/samples/0000.png, ...   its pictures
    OUT/results.jsonl                 one line a picture: filename, tag, prompt, correct, reason, metadata, details

So pictures drawn here can be judged by GenEval's own scripts, and pictures drawn elsewhere can be judged here.
"""

import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from torch import Tensor

from cotlib.errors import UserError
from cotlib.files import write_whole
from cotlib.interfaces import Judge
from cotlib.judging.clip_colors import COLORS
from cotlib.judging.geneval import GenEvalJudge, Judged
from cotlib.judging.mask2former import CLASSES
from cotlib.judging.rules import overall
from cotlib.judging.stats import task_means
from cotlib.models.published.pictures import to_pil
from cotlib.world.prompts import load_prompts
from cotlib.world.scenes import RELATIONS, TASKS

RESULTS = "results.jsonl"

# ----- prompts ------------------------------------------------------------------------------------------------------


def read_metadata(path: Path | str) -> list[dict]:
    """The prompts of a file in GenEval's form, as they are.

    UserError naming file and line for bad JSON, unknown tags, classes, colours and relations; and for an empty file.
    """
    return load_prompts(path, check_metadata)


def check_metadata(entry: object) -> dict:
    """The entry, unchanged; UserError says what is missing or unknown."""
    if not isinstance(entry, dict) or not isinstance(entry.get("prompt"), str) or not entry["prompt"].strip():
        raise UserError('expected a JSON object with a text "prompt" and GenEval\'s tag, include, exclude')
    if entry.get("tag") not in TASKS:
        raise UserError(f"unknown tag {entry.get('tag')!r}; expected one of {', '.join(TASKS)}")
    for key, needed in (("include", True), ("exclude", False)):
        clauses = entry.get(key, [])
        if not isinstance(clauses, list) or (needed and not clauses):
            raise UserError(f"{key} is {clauses!r}; expected a list of clauses")
        for index, clause in enumerate(clauses):
            _check_clause(clause, index)
    return entry


def _check_clause(clause: object, index: int) -> None:
    if not isinstance(clause, dict) or clause.get("class") not in CLASSES:
        raise UserError(f"clause {clause!r} has an unknown class; expected one of GenEval's {len(CLASSES)}, like dog or computer "
                        "mouse")  # fmt: skip
    if clause.get("color", COLORS[0]) not in COLORS:
        raise UserError(f"unknown color {clause['color']!r}; expected one of {', '.join(COLORS)}")
    count = clause.get("count")
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise UserError(f"count is {count!r}; expected a whole number of at least 1")
    match clause.get("position", [RELATIONS[0], 0]):
        case [str(relation), int(target)] if relation in RELATIONS and 0 <= target < max(1, index):
            return
    raise UserError(f"position is {clause['position']!r}; expected one of {', '.join(RELATIONS)} and the number of an earlier "
                    "clause")  # fmt: skip


# ----- pictures -----------------------------------------------------------------------------------------------------


class Drawn(NamedTuple):
    """A prompt's folder: its number, metadata and pictures in order."""

    index: int
    metadata: dict
    pictures: list[Path]


def write_prompt(out: Path | str, index: int, metadata: dict, images: Tensor | Sequence[Image.Image]) -> Path:
    """Writes the folder of one prompt and returns it; what was there is replaced.

    images: [N, 3, H, W] in 0..1, or PIL pictures. The folder is there whole or not at all, however the run ends. UserError
    when it cannot be written.
    """
    folder = Path(out) / f"{index:05d}"
    partial = folder.with_name(folder.name + ".partial")
    pictures = to_pil(images)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        (partial / "samples").mkdir(parents=True)
        (partial / "metadata.jsonl").write_text(json.dumps(metadata), encoding="utf-8")
        for number, picture in enumerate(pictures):
            picture.save(partial / "samples" / f"{number:04d}.png")
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(
            f"{folder} cannot be written ({error.strerror or error}); give a folder of yours with room for it"
        ) from error
    return folder


def room_for(out: Path | str, prompts: dict[int, dict]) -> None:
    """UserError when `out` already holds pictures of other prompts than these, which would be counted with them.

    prompts: their metadata by number.
    """
    for drawn in drawn_prompts(out):
        if prompts.get(drawn.index) != drawn.metadata:
            raise UserError(f"{out} holds pictures of another list of prompts (number {drawn.index}: "
                            f'"{drawn.metadata["prompt"]}"); give an empty folder')  # fmt: skip


def drawn_prompts(out: Path | str) -> list[Drawn]:
    """The prompts whose folders are in `out`, by number; [] when there are none. UserError for a damaged one."""
    out, found = Path(out), []
    for folder in sorted(p for p in out.glob("*") if p.is_dir() and p.name.isdigit()):
        try:
            metadata = check_metadata(json.loads((folder / "metadata.jsonl").read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise UserError(
                f"{folder / 'metadata.jsonl'} cannot be used ({error}); expected one prompt in GenEval's form"
            ) from error
        pictures = sorted(p for p in (folder / "samples").glob("*.png") if p.stem.isdigit())
        found.append(Drawn(int(folder.name), metadata, pictures))
    return found


# ----- results ------------------------------------------------------------------------------------------------------


def result_line(filename: Path, metadata: dict, judged: Judged) -> dict:
    """One line of results.jsonl. details: JSON of [x0, y0, x1, y1, score] of what was found, by class."""
    found = {name: [[*d.box, d.score] for d in things] for name, things in judged.found.items() if things}
    return {
        "filename": str(filename), "tag": metadata["tag"], "prompt": metadata["prompt"],
        "correct": judged.verdict.correct, "reason": "\n".join(judged.verdict.reasons),
        "metadata": json.dumps(metadata), "details": json.dumps(found),
    }  # fmt: skip


def judged_by(judge: Judge, metadata: dict, images: Tensor) -> list[Judged]:
    """What a judge says of pictures [B, 3, H, W] of one prompt; only GenEval's own says what it found."""
    metadatas = [metadata] * len(images)
    if isinstance(judge, GenEvalJudge):
        return judge.judge(metadatas, images)
    return [Judged(verdict, {}) for verdict in judge(metadatas, images)]


def keep(
    out: Path | str, index: int, metadata: dict, images: Tensor, judged: Sequence[Judged] = ()
) -> list[dict]:
    """Writes the folder of one prompt and returns the lines of results.jsonl about its pictures; none without verdicts."""
    files = sorted((write_prompt(out, index, metadata, images) / "samples").iterdir())
    return [result_line(*row) for row in zip(files, [metadata] * len(judged), judged, strict=False)]


def write_results(out: Path | str, lines: Sequence[dict]) -> None:
    """Writes lines of `result_line` to results.jsonl; without any the file of an earlier run goes. UserError when it cannot
    be written."""
    file = Path(out) / RESULTS
    if lines:
        write_whole(file, "".join(json.dumps(line) + "\n" for line in lines))
    else:
        file.unlink(missing_ok=True)


def judge_folder(judge: GenEvalJudge, out: Path | str) -> Iterator[dict]:
    """Judges all pictures of a folder in GenEval's layout; yields the lines of results.jsonl as they are written there.

    UserError when there are no pictures, when one cannot be read, or when the file cannot be written.
    """
    out = Path(out)
    drawn = [prompt for prompt in drawn_prompts(out) if prompt.pictures]
    if not drawn:
        raise UserError(
            f"{out} holds no pictures; expected folders like 00000 with metadata.jsonl and samples/0000.png"
        )
    try:
        with (out / RESULTS).open("w", encoding="utf-8") as stream:
            for prompt in drawn:
                pictures = [_opened(path) for path in prompt.pictures]
                judged = judge.judge([prompt.metadata] * len(pictures), pictures)
                for path, one in zip(prompt.pictures, judged, strict=True):
                    line = result_line(path, prompt.metadata, one)
                    stream.write(json.dumps(line) + "\n")
                    yield line
    except OSError as error:
        raise UserError(
            f"{out / RESULTS} cannot be written ({error.strerror or error}); give a folder of yours"
        ) from error


def _opened(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is no picture that can be read ({error}); expected a PNG") from error


def summary(lines: Sequence[dict]) -> dict:
    """GenEval's figures from lines of results.jsonl.

    overall: the plain mean of the tags' means over pictures; tasks: {tag: mean}; images, prompts: share of right pictures, and
    of prompts with at least one. UserError without any line.
    """
    if not lines:
        raise UserError("there are no results; expected lines of results.jsonl")
    rows = [(line["tag"], [float(line["correct"])]) for line in lines]
    prompts = defaultdict(list)
    for line in lines:
        prompts[line["metadata"]].append(line["correct"])
    return {
        "overall": overall(rows), "tasks": {tag: mean for tag, (mean, _) in task_means(rows).items()},
        "images": sum(line["correct"] for line in lines) / len(lines),
        "prompts": sum(map(any, prompts.values())) / len(prompts),
    }  # fmt: skip
