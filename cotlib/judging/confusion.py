"""How often the judges are right: against exact truth, on drawings and on the tokenizer's reconstructions.

    python -m cotlib.judging.confusion            writes data/results/judge_confusion.json

Each of the 300 test prompts is drawn a few times.  Every drawing is judged three times: for its own prompt, which
it fulfils; for another prompt of the same task, which it mostly does not; and for a near miss, its own prompt with
one fact changed.  Truth is `world.scenes.holds` each time.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from cotlib.assets import data_dir
from cotlib.interfaces import Detection
from cotlib.judging.pictogram import DetectorJudge, TemplateJudge
from cotlib.judging.rules import THRESHOLD, judge_detections
from cotlib.models.tokenizer import PictogramTokenizer
from cotlib.world.prompts import attributes, benchmark, colored, counting, position, single, two
from cotlib.world.render import render_batch
from cotlib.world.scenes import CELL, CLASSES, COLORS, RELATIONS, TASKS, Scene, Thing, holds, sample_scene

NOTHING = "nothing"  # row: a detection where nothing is; column: a thing that was missed
REACH = CELL / 3  # a detection belongs to a thing when their centres are this close along both axes, pixels


def measure(
    judges: dict, tokenizer: PictogramTokenizer, drawings_per_prompt: int = 4, seed: int = 20_000
) -> dict:
    """Agreement with truth and confusion counts of each judge, on drawings and on reconstructions.

    judges: {name: judge}.  Gives {prompts, drawings_per_prompt, seed, judges: {name: {"drawings": ..,
    "reconstructions": ..}}}; see `agreement` and `confusion` for what each of those holds.
    """
    rng = np.random.default_rng(seed)
    distinct = benchmark("test")
    prompts = [metadata for metadata in distinct for _ in range(drawings_per_prompt)]
    scenes = [sample_scene(rng, metadata) for metadata in prompts]
    asked = {
        "own": prompts,
        "other": [another(rng, metadata, prompts) for metadata in prompts],
        "near": [near_miss(rng, metadata) for metadata in prompts],
    }
    drawings = render_batch(scenes)
    with torch.no_grad():
        decoded = torch.cat([tokenizer.decode(tokenizer.encode(part)) for part in drawings.split(64)])
    results: dict = {name: {} for name in judges}
    for name, judge in judges.items():
        for kind, images in (("drawings", drawings), ("reconstructions", decoded)):
            found = judge.detect(images)
            given = {which: [judge_detections(m, d).correct for m, d in zip(metadatas, found, strict=True)]
                     for which, metadatas in asked.items()}  # fmt: skip
            results[name][kind] = {"agreement": agreement(scenes, asked, given)} | confusion(scenes, found)
    about = {"prompts": len(distinct), "drawings_per_prompt": drawings_per_prompt, "seed": seed}
    return about | {"judges": results}


def agreement(scenes: list[Scene], asked: dict[str, list[dict]], given: dict[str, list[bool]]) -> dict:
    """Share of verdicts equal to the truth, over all three questions and by task, and the two kinds of error.

    asked and given: the prompts and verdicts of the questions "own", "other" and "near", one per scene.
    agree: share equal to truth; refused: right pictures called wrong, of `right`; accepted: wrong pictures
    called right, of `wrong`; accepted_other and true_other: how many of `others` drawings were accepted for
    another prompt of the task, and how many truly fulfil it.
    """
    tasks = {}
    for task in TASKS:
        rows = [i for i, metadata in enumerate(asked["own"]) if metadata["tag"] == task]
        truth = {which: [holds(scenes[i], asked[which][i]) for i in rows] for which in asked}
        said = {which: [given[which][i] for i in rows] for which in asked}
        pairs = [pair for which in asked for pair in zip(truth[which], said[which], strict=True)]
        tasks[task] = {
            "verdicts": len(pairs),
            "agree": round(sum(true == verdict for true, verdict in pairs) / len(pairs), 5),
            "refused": pairs.count((True, False)),
            "right": sum(true for true, _ in pairs),
            "accepted": pairs.count((False, True)),
            "wrong": sum(not true for true, _ in pairs),
            "accepted_other": sum(said["other"]),
            "true_other": sum(truth["other"]),
            "others": len(rows),
        }
    counts = [sum(t[key] for t in tasks.values()) for key in ("refused", "accepted", "verdicts")]
    return {"overall": round(1 - (counts[0] + counts[1]) / counts[2], 5), "tasks": tasks}


def confusion(scenes: list[Scene], found: list[list[Detection]]) -> dict:
    """Counts {true: {detected: n}} of classes and of colours, zeros left out; colours where the class is right.

    A thing that was missed counts as detected "nothing", a detection without a thing as true "nothing".
    """
    classes: dict = defaultdict(lambda: defaultdict(int))
    colors: dict = defaultdict(lambda: defaultdict(int))
    for scene, detections in zip(scenes, found, strict=True):
        free = [d for d in detections if d.score > THRESHOLD]
        for thing in scene.things:
            match = next((d for d in free if _covers(d, thing)), None)
            classes[thing.cls][match.cls if match else NOTHING] += 1
            if match:
                free.remove(match)
            if match and match.cls == thing.cls:
                colors[thing.color][match.color] += 1
        for spurious in free:
            classes[NOTHING][spurious.cls] += 1
    return {"classes": _ordered(classes, (*CLASSES, NOTHING)), "colors": _ordered(colors, COLORS)}


def another(rng: np.random.Generator, metadata: dict, prompts: list[dict]) -> dict:
    """Another prompt of the same task."""
    pool = [p for p in prompts if p["tag"] == metadata["tag"] and p["prompt"] != metadata["prompt"]]
    return pool[rng.integers(len(pool))]


def near_miss(rng: np.random.Generator, metadata: dict) -> dict:
    """The prompt with one fact changed: a class, a count by one, a colour or the relation; or two colours swapped."""

    def other(names: tuple[str, ...], *taken: str) -> str:
        return str(rng.choice([name for name in names if name not in taken]))

    first, last = metadata["include"][0], metadata["include"][-1]
    match metadata["tag"]:
        case "single_object":
            return single(other(CLASSES, first["class"]))
        case "two_object":
            return two(first["class"], other(CLASSES, first["class"], last["class"]))
        case "counting":
            return counting(first["class"], {2: 3, 3: int(rng.choice([2, 4])), 4: 3}[first["count"]])
        case "colors":
            return colored(first["class"], other(COLORS, first["color"]))
        case "position":
            return position(last["class"], other(RELATIONS, last["position"][0]), first["class"])
    swapped = last["color"] if last["color"] != first["color"] else other(COLORS, first["color"])
    return attributes((first["class"], swapped), (last["class"], first["color"]))


def _covers(detection: Detection, thing: Thing) -> bool:
    x0, y0, x1, y1 = detection.box
    off = abs((x0 + x1) / 2 - thing.x - CELL / 2), abs((y0 + y1) / 2 - thing.y - CELL / 2)
    return max(off) <= REACH


def _ordered(table: dict, names: tuple[str, ...]) -> dict:
    return {r: {name: table[r][name] for name in names if table[r][name]} for r in names if r in table}


def main() -> None:
    tokenizer = PictogramTokenizer.from_pretrained(data_dir() / "tokenizer")
    results = measure({"detector": DetectorJudge(), "template": TemplateJudge()}, tokenizer)
    path = Path(data_dir()) / "results" / "judge_confusion.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    for name, kinds in results["judges"].items():
        for kind, numbers in kinds.items():
            tasks = "  ".join(f"{task} {t['agree']:.4f}" for task, t in numbers["agreement"]["tasks"].items())
            print(f"{name:9} {kind:16} {numbers['agreement']['overall']:.4f}   {tasks}")


if __name__ == "__main__":
    main()
