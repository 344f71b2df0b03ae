"""Data for fine-tuned verifiers: the generator's own paths over training prompts, judged, with all they were on the way.

    torchrun --nproc_per_node 2 -m cotlib train verifier-paths --out build/verifier-paths

For each path: the full guess after every round and which tokens were still masked, the judge's verdict on the final
picture and what it detected in it, and for every round whether the decoded guess already shows the same things (the
label of CLARITY). For some paths also rollouts (the label of STEP): how many of four continuations of each state end
right. Paths of development prompts are drawn the same way, only to measure.

Files hold 16 prompts each, are written under another name and then renamed, and depend on nothing but their number:
a stopped run goes on without doubles or halves, with any number of processes.
"""

import json
import os
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from cotlib.assets import data_dir
from cotlib.decoding import masked_rounds
from cotlib.errors import UserError
from cotlib.interfaces import ImageTokenModel
from cotlib.judging.rules import judge_detections
from cotlib.loading import generator_folder, load
from cotlib.models.checkpoint import weights_hash
from cotlib.several import rank, start_training, wait, workers
from cotlib.train.verifier_rollouts import roll_out
from cotlib.verifying.repair import things_of
from cotlib.world.prompts import benchmark, first_held_out, parse_prompt, prompt_pool
from cotlib.world.scenes import CLASSES, COLORS, PITCH, TASKS, Thing

MOST = 8  # things remembered of a picture
HEADER = "paths.json"
Job = tuple[dict, int]  # a prompt's metadata and the number of its first path


@dataclass(frozen=True)
class PathsPlan:
    """How much is drawn. A job is one prompt with `each` paths; the tasks have equal numbers of jobs."""

    jobs: int = 1000
    dev: bool = True  # also the 120 development prompts, once each
    each: int = 8
    rolled_every: int = 3  # every third job has rollouts ...
    rolled_paths: int = 2  # ... for this many of its paths
    chunk: int = 16  # jobs a file
    seed: int = 0


# ----- jobs --------------------------------------------------------------------------------------------------------


def require_training(prompts: list[str]) -> None:
    """UserError for the first prompt with a pair, (object, colour) or (object, object), that is kept for evaluation."""
    if found := first_held_out(prompts):
        raise UserError(f'the prompt "{found[0]}" holds a pair that is kept for the {found[1]} prompts; verifiers learn '
                        'from training prompts only; draw prompts of the split "train"')  # fmt: skip


def training_jobs(plan: PathsPlan) -> list[Job]:
    """Jobs over training prompts, the tasks in turn. Where a task has fewer prompts than jobs, a prompt comes again
    with further path numbers, so no path is ever drawn twice."""
    rng = np.random.default_rng([plan.seed, 2])
    pools = {}
    for task in TASKS:
        pool = prompt_pool("train", task)
        pools[task] = [pool[i] for i in rng.permutation(len(pool))]
    jobs = []
    for number in range(plan.jobs):
        pool, turn = pools[TASKS[number % len(TASKS)]], number // len(TASKS)
        jobs.append((parse_prompt(pool[turn % len(pool)]), plan.each * (turn // len(pool))))
    require_training([metadata["prompt"] for metadata, _ in jobs])
    return jobs


def files_of(plan: PathsPlan) -> dict[str, list[Job]]:
    """Name of each file and the jobs it holds."""
    jobs = {"train": training_jobs(plan)}
    if plan.dev:
        jobs["dev"] = [(metadata, 0) for metadata in benchmark("dev")]
    return {f"{split}_{start // plan.chunk:04d}.npz": part[start : start + plan.chunk]
            for split, part in jobs.items() for start in range(0, len(part), plan.chunk)}  # fmt: skip


# ----- one file ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def draw_jobs(model: ImageTokenModel, judge, jobs: list[Job], plan: PathsPlan) -> dict[str, np.ndarray]:
    """The arrays of one file, R paths: see `Paths`. Masks are packed, 8 tokens a byte."""
    rows = [(metadata, first + k) for metadata, first in jobs for k in range(plan.each)]
    prompts, numbers = [m["prompt"] for m, _ in rows], [k for _, k in rows]
    steps = list(masked_rounds(model, prompts, numbers, plan.seed))
    codes = torch.stack([s.codes for s in steps], dim=1)  # [R, S, N]
    masked = torch.stack([s.masked for s in steps], dim=1)
    seen = [judge.detect(model.decode(part)) for part in codes.flatten(0, 1).split(128)]
    seen = [found for part in seen for found in part]
    tags = [m["tag"] for m, _ in rows for _ in steps]
    things = [things_of(found, tag) for found, tag in zip(seen, tags, strict=True)]
    per_path = [things[start : start + len(steps)] for start in range(0, len(things), len(steps))]
    finals = seen[len(steps) - 1 :: len(steps)]
    rolled = np.full((len(rows), len(steps)), -1, dtype=np.int8)
    chosen = [
        j * plan.each + k for j in range(0, len(jobs), plan.rolled_every) for k in range(plan.rolled_paths)
    ]
    correct = np.array(
        [judge_detections(m, found).correct for (m, _), found in zip(rows, finals, strict=True)]
    )
    rolled[chosen] = roll_out(model, judge, [rows[i] for i in chosen], codes[chosen], masked[chosen],
                              correct[chosen], plan.seed)  # fmt: skip
    return {
        "prompts": np.array([m["prompt"] for m, _ in jobs]),
        "prompt": np.repeat(np.arange(len(jobs)), plan.each).astype(np.int16),
        "path": np.array(numbers, dtype=np.int16),
        "codes": codes.numpy().astype(np.uint16),
        "masked": np.packbits(masked.numpy(), axis=2),
        "correct": correct,
        "clear": np.array([[set_of(t) == set_of(path[-1]) for t in path] for path in per_path]),
        "things": np.stack([pack_things(path[-1]) for path in per_path]),
        "rolled": rolled,
    }


def set_of(things: tuple[Thing, ...]) -> list[tuple]:
    """What CLARITY compares: classes, colours and places, in a fixed order."""
    return sorted((t.cls, t.color, t.x, t.y) for t in things)


def pack_things(things: tuple[Thing, ...]) -> np.ndarray:
    """Things as int8 [8, 4]: class, colour, column and row; -1 where there is none."""
    table = np.full((MOST, 4), -1, dtype=np.int8)
    for row, t in enumerate(things[:MOST]):
        table[row] = CLASSES.index(t.cls), COLORS.index(t.color), t.x // PITCH, t.y // PITCH
    return table


def unpack_things(table: np.ndarray) -> tuple[Thing, ...]:
    """Things of `pack_things`."""
    return tuple(
        Thing(CLASSES[c], COLORS[k], int(x) * PITCH, int(y) * PITCH) for c, k, x, y in table if c >= 0
    )


# ----- all files ---------------------------------------------------------------------------------------------------


def run(out: Path, seed: int = 0, minutes: float | None = None, resume: bool = False, start: Path | None = None,
        plan: PathsPlan | None = None) -> dict:  # fmt: skip
    """Draws all files into the folder `out` and returns the counts on its card.

    start: folder of a generator instead of the shipped base; minutes: no new file is begun after this time. Raises
    UserError when `out` holds paths already and `resume` is not given, or paths drawn in another way.
    """
    start_training()
    plan = plan or PathsPlan(seed=seed)
    weights = "base" if start is None else str(start)
    model, judge, out = load("generator", weights=weights), load("judge"), Path(out)
    header = {"generator": weights_hash(generator_folder("masked", weights)), "steps": model.config.steps,
              "guidance": model.config.guidance, "judge": weights_hash(data_dir() / "detector"),
              "plan": asdict(plan)}  # fmt: skip
    files = files_of(plan)
    if rank() == 0:
        claim(out, HEADER, header, resume, "paths")
    wait()
    begin = time.monotonic()
    for number, (name, jobs) in enumerate(files.items()):
        late = minutes is not None and time.monotonic() - begin > 60 * minutes
        if number % workers() == rank() and not late and not (out / name).is_file():
            write_arrays(out / name, draw_jobs(model, judge, jobs, plan))
            print(f"{(time.monotonic() - begin) / 60:5.1f} min  {name} of {len(files)} files", flush=True)
    wait()
    there = [name for name in files if (out / name).is_file()]
    counts = {"files": len(there), "of": len(files)}
    for split in ("train", "dev"):
        if any(name.startswith(split) for name in there):
            counts[split] = count(load_paths(out, split))
    if rank() == 0:
        card = {"data": "verifier paths", **header, "complete": len(there) == len(files), "counts": counts}
        (out / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return counts


def claim(out: Path, name: str, header: dict, resume: bool, what: str) -> None:
    """Writes the header as `out`/`name`, or checks that the one there is the same and to be gone on with."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / name
    if not file.is_file():
        file.write_text(json.dumps(header, indent=1) + "\n", encoding="utf-8")
    elif json.loads(file.read_text(encoding="utf-8")) != header:
        raise UserError(
            f"{out} holds {what} of another generator, judge, seed or plan; give another folder with --out"
        )
    elif not resume:
        raise UserError(
            f"{out} holds {what} already; add --resume to go on with them, or give another folder"
        )


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes an .npz file under another name first, so that a file of this name is always whole."""
    passing = path.with_suffix(f".{os.getpid()}.tmp")
    with passing.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    passing.replace(path)


# ----- reading -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Paths:
    """R paths of S rounds over some prompts.

    metadatas: one per prompt; prompt: the prompt of each path; path: its number. codes: uint16 [R, S, N], the full
    guess after each round; masked: bool [R, S, N]. correct: bool [R]; things: int8 [R, 8, 4], what the judge saw in
    the final picture (`unpack_things`); clear: bool [R, S]; rolled: int8 [R, S], how many of four continuations
    ended right, -1 where none were drawn (after the last round: four or none, as the picture is).
    """

    metadatas: list[dict]
    prompt: np.ndarray
    path: np.ndarray
    codes: np.ndarray
    masked: np.ndarray
    correct: np.ndarray
    things: np.ndarray
    clear: np.ndarray
    rolled: np.ndarray

    def metadata(self, row: int) -> dict:
        """Metadata of the prompt of a path."""
        return self.metadatas[self.prompt[row]]


def read_header(folder: Path | str) -> dict:
    """How the paths of a folder were drawn: hashes of generator and judge, rounds, guidance, plan. UserError without."""
    try:
        return json.loads((Path(folder) / HEADER).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}/{HEADER} cannot be read ({error}); expected a folder of "
                        "`python -m cotlib train verifier-paths`") from error  # fmt: skip


def load_paths(folder: Path | str, split: str = "train") -> Paths:
    """All paths of a split in a folder of `run`. UserError: no such files, doubles, or (split "train") a prompt that
    is kept for evaluation."""
    files = sorted(Path(folder).glob(f"{split}_*.npz"))
    if not files:
        raise UserError(f"{folder} holds no paths of the {split} prompts; draw them with "
                        "`python -m cotlib train verifier-paths --out FOLDER`")  # fmt: skip
    parts: dict[str, list] = defaultdict(list)
    metadatas: list[dict] = []
    for file in files:
        with np.load(file, allow_pickle=False) as arrays:
            for key in arrays.files:
                parts[key].append(arrays[key])
        parts["prompt"][-1] = parts["prompt"][-1].astype(int) + len(metadatas)
        metadatas += [parse_prompt(str(text)) for text in parts["prompts"][-1]]
    if split == "train":
        require_training([m["prompt"] for m in metadatas])
    joined = {key: np.concatenate(part) for key, part in parts.items() if key != "prompts"}
    joined["masked"] = np.unpackbits(joined["masked"], axis=2).astype(bool)
    paths = Paths(metadatas, **joined)
    if len({(paths.metadata(r)["prompt"], paths.path[r]) for r in range(len(paths.path))}) < len(paths.path):
        raise UserError(f"{folder} holds some path twice; draw the paths again into another folder")
    return paths


def count(paths: Paths) -> dict:
    """What a card says of the paths: numbers, shares right by task, clear by round, states with any right rollout."""
    tags = np.array([paths.metadata(row)["tag"] for row in range(len(paths.path))])
    states = paths.rolled[:, :-1] >= 0
    return {
        "prompts": len({m["prompt"] for m in paths.metadatas}), "paths": len(paths.path),
        "right": {task: round(float(paths.correct[tags == task].mean()), 3) for task in TASKS if (tags == task).any()},
        "clear_by_round": [round(float(share), 3) for share in paths.clear.mean(axis=0)],
        "rolled_states": int(states.sum()),
        "rolled_any_right": [round(float((r > 0)[r >= 0].mean()), 3) if (r >= 0).any() else None
                             for r in paths.rolled.T],
    }  # fmt: skip
