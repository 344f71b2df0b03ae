"""Recipe: the generator, in stages that begin where the one before ended.

1. `clean`: captions always tell the truth. The network learns to draw, and to bind words to things.
2. `base`: the same network goes on with careless captions (`world.prompts.corrupt`): each fact is wrong at
   a stated rate, always in the same direction. It can still draw everything, but its knowledge of what words
   mean is diluted, as in a model trained on captions from the web. That is why choosing and preference tuning
   can bring something forward later; a network that is wrong because it is small has nothing to bring forward.

Pictures are never drawn here: with a strictly local tokenizer a thing's nine codes do not depend on where it
stands, so a scene's codes are pasted from a table of 20 x 8 things.

Three more aids, for learning speed only: background tokens count 0.4; an auxiliary head (thrown away afterwards)
names the class and colour of every hidden cell, which makes attention find the right word early; and a second one,
on the middle layer, names the mention of the prompt that a cell belongs to (none, first, second). Without that one
"left of" was not learnt in 42 minutes: relation, place and both names only mean something together (docs/LAB_BOOK.md).
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cotlib.assets import data_dir
from cotlib.models.generator import GeneratorConfig, PictogramGenerator
from cotlib.models.tokenizer import PictogramTokenizer
from cotlib.several import rank, start_training, workers
from cotlib.train.loop import Budget, Trainer, train
from cotlib.train.muon import Muon
from cotlib.world.prompts import HONEST, MAX_TEXT, Carelessness, corrupt, encode, sample_metadata
from cotlib.world.render import render_batch
from cotlib.world.scenes import CLASSES, COLORS, PITCH, SPAN, TASKS, Scene, Thing, sample_scene


@dataclass(frozen=True)
class GeneratorRecipe:
    """Hyperparameters of one stage; `minutes` is wall time of two processes on two cores."""

    minutes: float
    noise: Carelessness  # how often a fact of a caption is wrong
    batch: int = 32  # per process
    muon_lr: float = 0.02
    adam_lr: float = 3e-3
    dropped_text: float = 0.1
    background: float = 0.4
    auxiliary: float = 0.5
    # Shares of the six tasks: prompts with two things are harder to bind, so they come more often.
    task_weights: tuple[float, ...] = (0.06, 0.15, 0.17, 0.14, 0.24, 0.24)


STAGES = {
    "clean": GeneratorRecipe(minutes=34, noise=HONEST),
    "base": GeneratorRecipe(minutes=14, noise=Carelessness(), adam_lr=1e-3, muon_lr=0.007),
    "raster": GeneratorRecipe(minutes=6, noise=Carelessness(), adam_lr=2e-3, muon_lr=0.014),
}
START = {"base": "clean", "raster": "clean"}  # the stage whose weights each one begins with


class CodeTable:
    """Codes of every (class, colour) thing, and a picture's codes pasted from them."""

    def __init__(self, tokenizer: PictogramTokenizer):
        scenes = [Scene((Thing(cls, color, 16, 16),)) for cls in CLASSES for color in COLORS]
        codes = tokenizer.encode(render_batch(scenes, plain=True)).view(-1, 8, 8).numpy()
        self.blocks = codes[:, 2 : 2 + SPAN, 2 : 2 + SPAN].copy()  # [classes * colours, 3, 3]
        self.paper = int(codes[0, 0, 0])

    def block(self, thing: Thing) -> np.ndarray:
        """The nine codes of a thing, [3, 3]."""
        return self.blocks[kind_of(thing)]

    def paste(self, scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(codes, cell labels, owners), each [64]: label 0 is paper, else 1 + class * 8 + colour; owner 0 is paper,
        else 1 + the thing's index in the scene."""
        codes, labels, owners = np.full((8, 8), self.paper), *np.zeros((2, 8, 8), dtype=np.int64)
        for index, thing in enumerate(scene.things):
            kind = kind_of(thing)
            place = np.s_[
                thing.y // PITCH : thing.y // PITCH + SPAN, thing.x // PITCH : thing.x // PITCH + SPAN
            ]
            codes[place], labels[place], owners[place] = self.block(thing), 1 + kind, 1 + index
        return codes.reshape(-1), labels.reshape(-1), owners.reshape(-1)


def kind_of(thing: Thing) -> int:
    """Class and colour of a thing as one number."""
    return CLASSES.index(thing.cls) * len(COLORS) + COLORS.index(thing.color)


def mentions(owners: np.ndarray, tag: str) -> np.ndarray:
    """Owners of cells by the order in which the prompt mentions them: 0 paper, 1 first, 2 second mention."""
    if tag == "counting":
        return np.minimum(owners, 1)  # "three birds" is one mention
    if tag == "position":
        return np.where(owners > 0, 3 - owners, 0)  # GenEval's first clause is the target, the second name
    return owners


@dataclass
class Batch:
    """Token ids [B, T], their validity, and codes, cell labels and mentions [B, N]."""

    ids: Tensor
    valid: Tensor
    codes: Tensor
    labels: Tensor
    mentions: Tensor


def draw_batch(table: CodeTable, rng: np.random.Generator, recipe: GeneratorRecipe) -> Batch:
    """Fresh prompts of the training split with pictures that fit their (perhaps careless) captions."""
    ids = np.zeros((recipe.batch, MAX_TEXT), dtype=np.int64)
    valid = np.zeros((recipe.batch, MAX_TEXT), dtype=bool)
    pasted = []
    for row in range(recipe.batch):
        metadata = sample_metadata(rng, "train", str(rng.choice(TASKS, p=recipe.task_weights)))
        codes, labels, owners = table.paste(sample_scene(rng, corrupt(rng, metadata, recipe.noise)))
        pasted.append((codes, labels, mentions(owners, metadata["tag"])))
        text = "" if rng.random() < recipe.dropped_text else metadata["prompt"]
        tokens = encode(text)
        ids[row, : len(tokens)], valid[row, : len(tokens)] = tokens, True
    drawn = (torch.from_numpy(np.stack(part)) for part in zip(*pasted, strict=True))
    return Batch(torch.from_numpy(ids), torch.from_numpy(valid), *drawn)


def masked_states(
    model: PictogramGenerator, batch: Batch, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """(final hidden states [R, D], middle ones [R, D], rows bool [B, N]): rows are the places to predict, a
    cosine-scheduled random mask, or all in raster order.

    The masked share is cos(pi u / 2) with u uniform, the distribution over a whole round of Show-o's schedule.
    """
    if model.config.order == "raster":
        rows = torch.ones_like(batch.codes, dtype=torch.bool)
        visible = batch.codes
    else:
        share = torch.cos(torch.rand(len(batch.codes), 1, generator=generator) * torch.pi / 2)
        order = torch.rand(batch.codes.shape, generator=generator).argsort(1).argsort(1)
        rows = order < (share * batch.codes.shape[1]).ceil()
        visible = batch.codes.masked_fill(rows, model.mask_id)
    layers: list[Tensor] = []
    hidden = model.train_hidden(batch.ids, batch.valid, visible, layers)
    return hidden[rows], layers[len(layers) // 2 - 1][rows], rows


def optimizers(model: PictogramGenerator, muon_lr: float, adam_lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings, head, norms and the auxiliary head."""
    matrices = [p for p in model.blocks.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return [Muon(matrices, muon_lr),
            torch.optim.AdamW(rest, lr=adam_lr, betas=(0.9, 0.98), weight_decay=0.0)]  # fmt: skip


def run(out: Path, stage: str, seed: int = 0, minutes: float | None = None, resume: bool = False,
        start: Path | None = None) -> dict:  # fmt: skip
    """Trains one stage ("clean", "base" or "raster") and writes the checkpoint folder `out`.

    start: checkpoint to begin from; "base" and "raster" need the clean one.
    """
    start_training()
    recipe = (
        STAGES[stage] if minutes is None else GeneratorRecipe(**{**vars(STAGES[stage]), "minutes": minutes})
    )
    torch.manual_seed(seed)
    config = GeneratorConfig(order="raster" if stage == "raster" else "masked")
    model = PictogramGenerator(config)
    if start is not None:
        model.load_state_dict(PictogramGenerator.from_pretrained(start).state_dict())
    model.probe = nn.Linear(config.width, 1 + len(CLASSES) + 1 + len(COLORS))
    model.mention_probe = nn.Sequential(nn.LayerNorm(config.width), nn.Linear(config.width, 3))
    table = CodeTable(PictogramTokenizer.from_pretrained(data_dir() / "tokenizer"))
    chance = torch.Generator().manual_seed(seed * 1000 + rank())
    trainer = Trainer(
        model,
        optimizers(model, recipe.muon_lr, recipe.adam_lr),
        Budget(recipe.minutes, ema=0.998),
        out,
        chance,
    )
    if resume:
        trainer.resume()

    def step(trainer: Trainer) -> Tensor:
        rng = np.random.default_rng([seed, rank(), trainer.steps])
        batch = draw_batch(table, rng, recipe)
        hidden, middle, rows = masked_states(model, batch, chance)
        codes, labels, owners = batch.codes[rows], batch.labels[rows], batch.mentions[rows]
        weight = torch.where(codes == table.paper, recipe.background, 1.0)
        classes, colors = model.probe(hidden).split([1 + len(CLASSES), 1 + len(COLORS)], dim=1)
        things, kind = labels > 0, labels - 1
        losses = [
            F.cross_entropy(logits, target, reduction="none")
            for logits, target in (
                (model.head(hidden), codes),
                (classes, torch.where(things, 1 + kind // len(COLORS), 0)),
                (colors, torch.where(things, 1 + kind % len(COLORS), 0)),
                (model.mention_probe(middle), owners),
            )
        ]
        trainer.log.append([part[things].mean().item() for part in losses[1:]])
        loss = losses[0] + recipe.auxiliary * sum(losses[1:])
        return (weight * loss).sum() / weight.sum()

    def report(trainer: Trainer, loss: float) -> None:
        cls, color, mention = np.nanmean(trainer.log[-100:], axis=0)
        print(f"{trainer.used / 60:5.1f} min  step {trainer.steps:5d}  loss {loss:.4f}  class {cls:.3f}  "
              f"color {color:.3f}  mention {mention:.3f}", flush=True)  # fmt: skip

    train(trainer, step, report)
    del model.probe, model.mention_probe
    metrics = {"steps": trainer.steps, "pictures": trainer.steps * recipe.batch * workers(),
               "noise": asdict(recipe.noise)}  # fmt: skip
    if rank() == 0:
        model.save_pretrained(out, {"model": f"generator ({config.order} order)", "stage": stage, "seed": seed,
                                    "command": command_line(stage),
                                    "minutes": recipe.minutes, "metrics": metrics})  # fmt: skip
        (out / "resume.pt").unlink(missing_ok=True)
    return metrics


def command_line(stage: str) -> str:
    """The command that makes the shipped checkpoint of a stage."""
    start = f" --init data/generator-{START[stage]}" if stage in START else ""
    return (
        f"torchrun --nproc_per_node 2 -m cotlib train generator-{stage} --out data/generator-{stage}{start}"
    )
