"""Judged pairs: two pictures of the same prompt, one right and one wrong, drawn by the generator itself.

After arXiv 2501.13926, section 3.3. Prompts whose pictures are all right or all wrong give no pair. For a second round
(iterative DPO) the same is done with the pictures of the tuned generator. Verifier data can be used as it is: the
paths of `python -m cotlib train verifier-paths` end in judged pictures (`final_pictures`).

Only training prompts may stand in a pair: every function that makes one refuses a prompt with a combination of
(object, colour) or (object, object) that is kept for evaluation.

Files hold some jobs each, are written under another name and then renamed, and depend on nothing but their number:
a stopped run goes on without doubles or halves, with any number of processes.
"""

import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cotlib.decoding import run_steps
from cotlib.devices import on_all_cores
from cotlib.errors import UserError
from cotlib.interfaces import ImageTokenModel, Judge
from cotlib.several import rank, wait, workers
from cotlib.train.verifier_paths import Job, Paths, PathsPlan, claim, training_jobs, write_arrays
from cotlib.world.prompts import first_held_out, parse_prompt, prompt_pool, sample_metadata
from cotlib.world.scenes import TASKS

HEADER = "pictures.json"


@dataclass(frozen=True)
class Pictures:
    """R judged pictures. prompts: one text each; paths: long [R], path number; codes: long [R, N]; correct: bool [R]."""

    prompts: list[str]
    paths: Tensor
    codes: Tensor
    correct: Tensor


@dataclass(frozen=True)
class Pairs:
    """prompts: one per pair; chosen, rejected: codes long [pairs, N]; counts of what was drawn and kept."""

    prompts: list[str]
    chosen: Tensor
    rejected: Tensor
    counts: dict[str, int]

    def shuffled(self, rng: np.random.Generator) -> "Pairs":
        """The control: in each pair the labels are exchanged with probability one half."""
        swap = torch.from_numpy(rng.random(len(self.prompts)) < 0.5)[:, None]
        chosen, rejected = (
            torch.where(swap, self.rejected, self.chosen),
            torch.where(swap, self.chosen, self.rejected),
        )
        return Pairs(self.prompts, chosen, rejected, self.counts)


# ----- from pictures to pairs --------------------------------------------------------------------------------------


def require_training(prompts: list[str]) -> None:
    """UserError for the first prompt with a combination that is kept for evaluation."""
    if found := first_held_out(prompts):
        raise UserError(f'the prompt "{found[0]}" holds a combination that is kept for the {found[1]} prompts; '
                        'preferences come from training prompts only; draw prompts of the split "train"')  # fmt: skip


def match(pictures: Pictures, chosen: list[int], rejected: list[int]) -> Pairs:
    """Pairs picture `chosen[i]` with picture `rejected[i]`, rows of `pictures`.

    UserError: no pair at all, two prompts in one pair, two pictures with the same verdict (or the wrong one chosen),
    a prompt that is kept for evaluation.
    """
    for number, (a, b) in enumerate(zip(chosen, rejected, strict=True)):
        if pictures.prompts[a] != pictures.prompts[b]:
            raise UserError(f'pair {number} has the prompts "{pictures.prompts[a]}" and "{pictures.prompts[b]}"; expected '
                            "two pictures of one prompt; pair pictures within a prompt")  # fmt: skip
        labels = [bool(pictures.correct[a]), bool(pictures.correct[b])]
        if labels != [True, False]:
            words = " and ".join("right" if label else "wrong" for label in labels)
            raise UserError(f'pair {number}, "{pictures.prompts[a]}", has the labels {words}; expected the first right '
                            "and the second wrong; leave the pair out or exchange its pictures")  # fmt: skip
    prompts = [pictures.prompts[a] for a in chosen]
    require_training(prompts)
    counts = count(pictures) | {"pairs": len(prompts), "mixed_prompts": len(set(prompts))}
    if not prompts:
        raise UserError(f"no pair is left of {counts['pictures']} pictures of {counts['prompts']} prompts; expected a prompt "
                        "with a right and a wrong picture; draw more pictures a prompt, or other prompts")  # fmt: skip
    return Pairs(prompts, pictures.codes[chosen], pictures.codes[rejected], counts)


def pair_up(pictures: Pictures, most: int = 4) -> Pairs:
    """Pairs each prompt's right pictures with its wrong ones, at most `most` pairs a prompt.

    A picture stands in one pair only. UserError as in `match`.
    """
    if most < 1:
        raise UserError(f"most is {most}; expected at least one pair a prompt")
    rows: dict[str, tuple[list[int], list[int]]] = {}
    for row, (prompt, right) in enumerate(zip(pictures.prompts, pictures.correct.tolist(), strict=True)):
        rows.setdefault(prompt, ([], []))[0 if right else 1].append(row)
    chosen, rejected = [], []
    for good, bad in rows.values():
        size = min(len(good), len(bad), most)
        chosen += good[:size]
        rejected += bad[:size]
    return match(pictures, chosen, rejected)


def count(pictures: Pictures) -> dict[str, int]:
    """What a card says: prompts, pictures, right ones, prompts whose pictures are all right or all wrong."""
    tries, hits = Counter(pictures.prompts), Counter()
    for prompt, right in zip(pictures.prompts, pictures.correct.tolist(), strict=True):
        hits[prompt] += right
    return {"prompts": len(tries), "pictures": len(pictures.prompts), "right": sum(hits.values()),
            "all_right": sum(hits[p] == n for p, n in tries.items()),
            "all_wrong": sum(hits[p] == 0 for p in tries)}  # fmt: skip


def hold_out(pairs: Pairs, each_task: int = 12, seed: int = 0) -> tuple[Pairs, list[dict]]:
    """(the pairs without some training prompts, metadata of these prompts), to measure truth on while tuning.

    `each_task` prompts of every task, but at most a quarter of the task's training prompts. UserError when no pair
    is left.
    """
    rng, held = np.random.default_rng([seed, 3]), []
    for task in TASKS:
        pool = prompt_pool("train", task)
        held += [pool[i] for i in rng.permutation(len(pool))[: min(each_task, len(pool) // 4)]]
    kept = [i for i, prompt in enumerate(pairs.prompts) if prompt not in set(held)]
    if not kept:
        raise UserError(f"no pair is left of {len(pairs.prompts)} after {len(held)} prompts were set aside for validation; "
                        "draw pairs of more prompts, or set fewer aside")  # fmt: skip
    prompts = [pairs.prompts[i] for i in kept]
    counts = pairs.counts | {"pairs": len(kept), "mixed_prompts": len(set(prompts)), "held_out": len(held)}
    return Pairs(prompts, pairs.chosen[kept], pairs.rejected[kept], counts), [parse_prompt(p) for p in held]


# ----- drawing pictures --------------------------------------------------------------------------------------------


@torch.no_grad()
def draw(
    model: ImageTokenModel, judge: Judge, metadata: dict, paths: list[int], seed: int, kernel: bool = True
) -> tuple[Tensor, Tensor]:
    """(codes [K, N], right or wrong bool [K]), on the CPU, of K paths of one prompt.

    kernel: False for plain torch on a GPU too, here and in all that follows.
    """
    for step in run_steps(model, [metadata["prompt"]] * len(paths), paths, seed, kernel=kernel):
        codes = step.codes
    verdicts = judge([metadata] * len(paths), model.decode(codes).cpu())
    return codes.cpu(), torch.tensor([v.correct for v in verdicts])


def draw_pairs(
    model: ImageTokenModel,
    judge: Judge,
    prompts: int,
    each: int,
    seed: int,
    most: int = 4,
    kernel: bool = True,
) -> Pairs:
    """Draws `each` pictures for `prompts` training prompts, judges them, and pairs right with wrong ones.

    Everything stays in memory; `draw_pictures` is for longer runs. UserError as in `pair_up`.
    """
    rng = np.random.default_rng([seed, 1])
    metadatas = list({(m := sample_metadata(rng))["prompt"]: m for _ in range(prompts)}.values())
    parts = on_all_cores(lambda m: draw(model, judge, m, list(range(each)), seed, kernel), metadatas)
    codes, correct = (torch.cat(side) for side in zip(*parts, strict=True))
    texts = [m["prompt"] for m in metadatas for _ in range(each)]
    return pair_up(Pictures(texts, torch.arange(each).repeat(len(metadatas)), codes, correct), most)


@dataclass(frozen=True)
class PicturesPlan:
    """How much is drawn. A job is one training prompt with `each` pictures; the tasks have equal numbers of jobs."""

    jobs: int = 1000
    each: int = 8
    chunk: int = 16  # jobs a file
    seed: int = 1  # verifiers' own paths have seed 0

    def __post_init__(self):
        if self.jobs < 1 or self.each < 2 or self.chunk < 1:
            raise UserError(f"the plan has {self.jobs} jobs of {self.each} pictures, {self.chunk} a file; expected at least "
                            "one job of two pictures, and one a file")  # fmt: skip


def draw_pictures(
    model: ImageTokenModel, judge: Judge, plan: PicturesPlan, out: Path | str, made_by: dict | None = None,
    resume: bool = False, minutes: float | None = None, kernel: bool = True,
) -> dict[str, int]:  # fmt: skip
    """Draws and judges all pictures of the plan into files of the folder `out`; returns the counts so far.

    made_by: what the header says of generator and judge, such as the hashes of their weights. minutes: no new file is
    begun after this time. UserError when `out` holds pictures made in another way, or some already and `resume` is
    not given.
    """
    out, begin = Path(out), time.monotonic()
    jobs = training_jobs(PathsPlan(jobs=plan.jobs, each=plan.each, seed=plan.seed))
    require_training([metadata["prompt"] for metadata, _ in jobs])
    header = {"plan": asdict(plan), "order": model.config.order, "steps": model.config.steps,
              "guidance": model.config.guidance, **(made_by or {})}  # fmt: skip
    if rank() == 0:
        claim(out, HEADER, header, resume, "pictures")
    wait()

    def write(number: int) -> None:
        file = out / f"pictures_{number:04d}.npz"
        if file.is_file() or (minutes is not None and time.monotonic() - begin > 60 * minutes):
            return
        write_arrays(file, _arrays(model, judge, jobs[number * plan.chunk :][: plan.chunk], plan, kernel))

    files = range(-(-len(jobs) // plan.chunk))
    list(on_all_cores(write, files[rank() :: workers()], 1 if workers() > 1 else None))
    wait()
    return count(load_pictures(out))


def _arrays(model, judge, jobs: list[Job], plan: PicturesPlan, kernel: bool) -> dict[str, np.ndarray]:
    """The arrays of one file: see `Pictures`."""
    parts = [
        draw(model, judge, m, list(range(first, first + plan.each)), plan.seed, kernel) for m, first in jobs
    ]
    codes, correct = (torch.cat(side).numpy() for side in zip(*parts, strict=True))
    return {"prompts": np.repeat([m["prompt"] for m, _ in jobs], plan.each),
            "paths": np.concatenate([np.arange(first, first + plan.each) for _, first in jobs]),
            "codes": codes.astype(np.uint16), "correct": correct}  # fmt: skip


# ----- reading -----------------------------------------------------------------------------------------------------


def load_pictures(folder: Path | str) -> Pictures:
    """All pictures in a folder of `draw_pictures`. UserError: none there, a file that cannot be read, doubles, or a
    prompt that is kept for evaluation."""
    files = sorted(Path(folder).glob("pictures_*.npz"))
    if not files:
        raise UserError(f"{folder} holds no judged pictures; draw them first, or give another folder")
    parts: dict[str, list[np.ndarray]] = {}
    for file in files:
        try:
            with np.load(file, allow_pickle=False) as arrays:
                for key in ("prompts", "paths", "codes", "correct"):
                    parts.setdefault(key, []).append(arrays[key])
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{file} cannot be read ({error}); expected judged pictures; delete it and resume drawing"
            ) from error
    whole = {key: np.concatenate(part) for key, part in parts.items()}
    prompts = [str(text) for text in whole["prompts"]]
    require_training(prompts)
    if len(set(zip(prompts, whole["paths"].tolist(), strict=True))) < len(prompts):
        raise UserError(f"{folder} holds some picture twice; draw the pictures again into another folder")
    codes = torch.from_numpy(whole["codes"].astype(np.int64))
    return Pictures(prompts, torch.from_numpy(whole["paths"]), codes, torch.from_numpy(whole["correct"]))


def final_pictures(paths: Paths) -> Pictures:
    """The finished pictures of a verifier's own paths (`cotlib.train.verifier_paths.load_paths`)."""
    prompts = [paths.metadata(row)["prompt"] for row in range(len(paths.path))]
    codes = torch.from_numpy(paths.codes[:, -1].astype(np.int64))
    return Pictures(
        prompts, torch.from_numpy(paths.path.astype(np.int64)), codes, torch.from_numpy(paths.correct)
    )
