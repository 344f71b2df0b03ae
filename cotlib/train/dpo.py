"""Recipes: the generator tuned on judged preferences.

    dpo-pictures      data: a generator's pictures of training prompts with verdicts (a folder for --data)
    dpo               the base on pairs of its own pictures
    dpo-iter          goes on from dpo, on pairs of *its* pictures (a second round; iterative DPO)
    dpo-guided-orm    the same second round with the outcome verifier's reward on fresh pictures (`align.guided`)
    dpo-guided-parm   the same with PARM's reward

Only the transformer's layers are tuned, not embeddings and head, so that a checkpoint holds the layers alone and names its
base. Truth on training prompts that stand in no pair decides which weights are kept. Both data folders of `dpo` are welcome:
pictures, or the paths that the verifiers were tuned on.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cotlib.align.dpo import DPOConfig
from cotlib.align.guided import GuidedConfig, orm_reward, parm_reward, reward_term
from cotlib.align.pairs import (
    HEADER,
    Pictures,
    PicturesPlan,
    draw_pictures,
    final_pictures,
    hold_out,
    load_pictures,
    pair_up,
)
from cotlib.align.tuning import STATE, Validation, tune
from cotlib.assets import data_dir
from cotlib.errors import UserError
from cotlib.loading import load, verifier_folder
from cotlib.models.checkpoint import base_folder, weights_hash
from cotlib.models.generator import PictogramGenerator
from cotlib.several import join_training, rank
from cotlib.train.verifier_paths import load_paths, read_header
from cotlib.world.scenes import TASKS

TUNED_PARTS = ("blocks.", "norm.")  # names of the tuned parameters begin so


@dataclass(frozen=True)
class DPORecipe:
    """dpo: the loss and its schedule; most: pairs a prompt; validate: (training prompts a task set aside, pictures each);
    guided, reward: of the online term, "orm" or "parm"."""

    dpo: DPOConfig
    start: str  # the stage it goes on from
    most: int = 16
    validate: tuple[int, int] = (12, 8)
    guided: GuidedConfig | None = None
    reward: str | None = None


FIRST = DPOConfig(beta=0.1, sft=0.2, lr=3e-4, batch=32, updates=450, ema=0.97, scored="differing")
SECOND = DPOConfig(beta=0.1, sft=0.2, lr=3e-4, batch=32, updates=300, ema=0.97, scored="differing")
STAGES = {
    "dpo": DPORecipe(FIRST, "generator-base"),
    "dpo-iter": DPORecipe(SECOND, "generator-dpo"),
    "dpo-guided-orm": DPORecipe(SECOND, "generator-dpo", guided=GuidedConfig(), reward="orm"),
    "dpo-guided-parm": DPORecipe(SECOND, "generator-dpo", guided=GuidedConfig(), reward="parm"),
}


def run_pictures(out: Path, seed: int = 1, minutes: float | None = None, resume: bool = False, start: Path | None = None,
                 plan: PicturesPlan | None = None) -> dict:  # fmt: skip
    """Draws and judges pictures into the folder `out`; returns their counts. start: the generator's folder."""
    join_training()
    if start is None:
        raise UserError("dpo-pictures draws with a generator; give its folder with --init")
    model = PictogramGenerator.from_pretrained(start)
    model.tokenizer = load("tokenizer")
    made_by = {"generator": weights_hash(start), "judge": weights_hash(data_dir() / "detector")}
    return draw_pictures(model, load("judge"), plan or PicturesPlan(seed=seed), out, made_by, resume, minutes)


def run(out: Path, stage: str, seed: int = 0, minutes: float | None = None, resume: bool = False,
        start: Path | None = None, data: Path | None = None, recipe: DPORecipe | None = None) -> dict:  # fmt: skip
    """Tunes a generator into the folder `out`; returns the metrics on its card.

    start: folder of the generator it goes on from; data: of pictures or paths that this generator drew. UserError when
    one is missing, unusable, or the pictures are another generator's.
    """
    device, recipe, out = join_training(), recipe or STAGES[stage], Path(out)
    if start is None or data is None:
        raise UserError(f"{stage} goes on from {recipe.start} and needs pictures drawn by it; give the folders of "
                        "both with --init and --data")  # fmt: skip
    pictures, header = read_pictures(Path(data))
    if header.get("generator") != weights_hash(start):
        raise UserError(f"the pictures in {data} were drawn by another generator than {start}; draw them with "
                        f"`python -m cotlib train dpo-pictures --init {start}`")  # fmt: skip
    pairs, held = hold_out(pair_up(pictures, recipe.most), recipe.validate[0])
    model = PictogramGenerator.from_pretrained(start, device)
    model.tokenizer = load("tokenizer", device=device)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(TUNED_PARTS))
    extra, what = None, None
    if recipe.guided:
        verifier = load("verifier", weights=recipe.reward, device=device)
        reward = {"orm": orm_reward, "parm": parm_reward}[recipe.reward](verifier)
        extra = reward_term(reward, recipe.guided, seed)
        what = {
            "guided": asdict(recipe.guided),
            "reward": recipe.reward,
            "verifier": weights_hash(verifier_folder(recipe.reward)),
        }
    validation = Validation(held, load("judge"), pictures=recipe.validate[1], every=75, patience=0)
    tuned = tune(model, pairs, recipe.dpo, seed, _watch, validation=validation, extra=extra, what=what, folder=out,
                 resume=resume, minutes=minutes)  # fmt: skip
    metrics = {"updates": tuned.update, "truth": round(tuned.truth, 4),
               "truth_before": round(tuned.curves[0]["truth_before"], 4), "pairs": len(pairs.prompts)}  # fmt: skip
    if rank() == 0:
        card = {"model": "generator", "stage": stage, "seed": seed, "command": command_line(stage), "metrics": metrics,
                "tuned_from": {"folder": Path(start).name, "sha256": weights_hash(start)}, "pairs": pairs.counts,
                "pairs_by_task": by_task(pairs.prompts), "dpo": asdict(recipe.dpo), "reward": what,
                "curves": thinned(tuned.curves)}  # fmt: skip
        tuned.model.save_pretrained(out, card, base=base_folder(start) or start)
        (out / STATE).unlink(missing_ok=True)
    return metrics


def read_pictures(data: Path) -> tuple[Pictures, dict]:
    """(pictures, header) of a folder of `dpo-pictures`, or of `verifier-paths`."""
    if (data / HEADER).is_file():
        return load_pictures(data), json.loads((data / HEADER).read_text(encoding="utf-8"))
    return final_pictures(load_paths(data)), read_header(data)


def by_task(prompts: list[str]) -> dict[str, int]:
    """Number of pairs of each task."""
    from cotlib.world import parse_prompt

    tags = [parse_prompt(prompt)["tag"] for prompt in prompts]
    return {task: tags.count(task) for task in TASKS}


def thinned(curves: list[dict], width: int = 10) -> dict[str, list[float]]:
    """The curves as lists: means over `width` updates, and truth as pairs (updates made, truth)."""
    measured = [[0, curves[0]["truth_before"]]] if "truth_before" in curves[0] else []
    measured += [[c["update"] + 1, c["truth"]] for c in curves if "truth" in c]
    parts = [curves[i : i + width] for i in range(0, len(curves), width)]
    names = [name for name in curves[0] if name not in ("update", "truth", "truth_before")]
    lists = {name: [round(float(np.mean([c[name] for c in part])), 4) for part in parts] for name in names}
    return {"update": [part[-1]["update"] + 1 for part in parts], **lists,
            "truth": [[update, round(score, 4)] for update, score in measured]}  # fmt: skip


def _watch(update: int, curves: dict) -> None:
    if update % 25 == 0 or "truth" in curves:
        print(json.dumps({k: round(v, 4) for k, v in curves.items()}), flush=True)


def command_line(stage: str) -> str:
    """The command that makes the shipped checkpoint."""
    data = "build/verifier-paths" if stage == "dpo" else "build/dpo-pictures"
    return (f"torchrun --nproc_per_node 2 -m cotlib train {stage} --out data/generator-{stage} "
            f"--init data/{STAGES[stage].start} --data {data}")  # fmt: skip
