"""Recipe: the zero-shot verifier, from clean drawings with true and false captions alone. Two parts in one command.

1. The eye learns to name class and colour of every cell and the centres of things.
2. With the eye held still, the rest learns the question FINAL on pairs of captions that differ in one fact
   (`verifier_captions`). Yes and no alone teach it nothing for a long time: two more losses say where to look. Each
   word of a caption is told whether it is wrong, and (for learning speed only, thrown away afterwards) each noun is
   asked where its things are and how many, each relation for the offset between its two. Without the latter "left
   of" stays at chance while everything else is learnt.

Half of the pictures are drawings, half the tokenizer's reconstructions of drawings. The verifier never sees a picture
of the generator here; that is what zero-shot means. Questions about unfinished pictures cannot be learnt from
drawings, so they are not trained, and a zero-shot process verifier asks FINAL (`cotlib.verifying.questions`).
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cotlib.assets import data_dir
from cotlib.interfaces import FINAL
from cotlib.models.eye import GRID, Sight
from cotlib.models.tokenizer import PictogramTokenizer
from cotlib.models.verifier import QUESTIONS, WORDS, VerifierConfig
from cotlib.several import rank, start_training
from cotlib.train.generator import CodeTable
from cotlib.train.loop import Budget, Trainer, train
from cotlib.train.muon import Muon
from cotlib.train.verifier_captions import (
    LESSONS,
    RELATION_WORDS,
    Captions,
    Curriculum,
    draw_captions,
    word_facts,
)
from cotlib.train.verifier_report import measure_drawings, measure_paths
from cotlib.verifying.reflection import LearnedVerifier
from cotlib.world.render import render_batch
from cotlib.world.scenes import COLORS, PITCH, Scene, sample_scene

_RELATIONS = torch.tensor([WORDS.index(word) for word in RELATION_WORDS])


@dataclass(frozen=True)
class VerifierRecipe:
    """Hyperparameters; `minutes` is wall time of two processes on two cores, both parts together."""

    minutes: float = 14.0
    eye: float = 0.08  # share of the time for the first part
    batch: int = 32  # pictures a process, with two captions each in the second part
    decoded: float = 0.5  # share of pictures that went through the tokenizer
    eye_lr: float = 2e-3
    muon_lr: float = 0.02
    adam_lr: float = 3e-3
    paper: float = 0.3  # weight of empty cells
    words: float = 0.5  # weight of "which word is wrong"
    facts: float = 1.0  # weight of "where, how many, which offset"


class Painter:
    """Scenes to pictures: drawn, or pasted as codes and decoded as the generator's pictures are."""

    def __init__(self, tokenizer: PictogramTokenizer | None = None):
        self.tokenizer = tokenizer or PictogramTokenizer.from_pretrained(data_dir() / "tokenizer")
        self.table = CodeTable(self.tokenizer)

    @torch.no_grad()
    def paint(self, scenes: list[Scene], decoded: float) -> Tensor:
        """Pictures [B, 3, 64, 64] in 0..1; the first `decoded` share of them are reconstructions."""
        split = round(decoded * len(scenes))
        pictures = [render_batch(scenes[split:])] if split < len(scenes) else []
        if split:
            codes = np.stack([self.table.paste(scene)[0] for scene in scenes[:split]])
            pictures.insert(0, self.tokenizer.decode(torch.from_numpy(codes)))
        return torch.cat(pictures)

    def labels(self, scenes: list[Scene]) -> tuple[Tensor, Tensor, Tensor]:
        """Class (0 is paper), colour (0 is paper) and being a centre (0 or 1) of each cell, [B, N] each."""
        kinds = torch.from_numpy(np.stack([self.table.paste(scene)[1] for scene in scenes]))
        centres = torch.zeros(len(scenes), GRID, GRID)
        for b, scene in enumerate(scenes):
            for thing in scene.things:
                centres[b, thing.y // PITCH + 1, thing.x // PITCH + 1] = 1.0
        classes, colors = (kinds - 1) // len(COLORS) + 1, (kinds - 1) % len(COLORS) + 1
        return classes.where(kinds > 0, 0), colors.where(kinds > 0, 0), centres.flatten(1)


def eye_loss(sight: Sight, labels: tuple[Tensor, Tensor, Tensor], paper: float) -> Tensor:
    """Cross entropy of class and colour, mean over cells with empty ones weighing `paper`, + that of centres, mean
    over pictures of the sum over cells. labels: as from `Painter.labels`."""
    classes, colors, centres = labels
    weight = torch.where(classes > 0, 1.0, paper).flatten()
    what = sum(F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
               for logits, target in ((sight.classes, classes), (sight.colors, colors)))  # fmt: skip
    where = F.binary_cross_entropy_with_logits(sight.centres, centres, reduction="none").sum(1).mean()
    return (weight * what).sum() / weight.sum() + 0.2 * where


def word_loss(wrong: Tensor, captions: Captions) -> Tensor:
    """Binary cross entropy of each word being wrong, summed over the words, mean over captions. wrong: logits [R, T]."""
    loss = F.binary_cross_entropy_with_logits(
        wrong.masked_fill(~captions.valid, 0.0), captions.wrong, captions.valid.float(), reduction="sum"
    )
    return loss / len(wrong)


def fact_loss(probes: nn.ModuleList, layers: list[Tensor], captions: Captions) -> Tensor:
    """Mean absolute error of places and offsets + half of that of counts. A noun is asked after the first layer, a
    relation, which needs its nouns, after the second. layers: outputs [R, 1 + T, D] of the layers."""
    facts, known = word_facts(captions)
    relation = torch.isin(captions.ids, _RELATIONS)[..., None]
    noun, offset = (probe(x[:, 1 : 1 + facts.shape[1]]) for probe, x in zip(probes, layers, strict=False))
    error = known * (torch.where(relation, offset, noun) - facts).abs()
    places, counts = error[..., :2].sum() / known[..., :2].sum(), error[..., 2].sum() / known[..., 2].sum()
    return places + 0.5 * counts


def reading_optimizers(
    verifier: LearnedVerifier, muon_lr: float, adam_lr: float
) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for everything else but the eye."""
    matrices = [p for p in verifier.layers.parameters() if p.ndim == 2]
    apart = {id(p) for p in (*matrices, *verifier.eye.parameters())}
    rest = [p for p in verifier.parameters() if id(p) not in apart]
    return [Muon(matrices, muon_lr), torch.optim.AdamW(rest, adam_lr, betas=(0.9, 0.98), weight_decay=0.0)]


def train_eye(verifier: LearnedVerifier, painter: Painter, recipe: VerifierRecipe, folder: Path, seed: int,
              resume: bool) -> int:  # fmt: skip
    """The first part; returns the number of steps."""
    optimizer = torch.optim.AdamW(verifier.eye.parameters(), recipe.eye_lr, weight_decay=1e-4)
    chance = torch.Generator().manual_seed(seed)
    trainer = Trainer(verifier, [optimizer], Budget(recipe.minutes * recipe.eye), folder, chance)
    if resume:
        trainer.resume()

    def step(trainer: Trainer) -> Tensor:
        rng = np.random.default_rng([seed, rank(), trainer.steps])
        scenes = [sample_scene(rng) for _ in range(recipe.batch)]
        sight, labels = verifier.eye(painter.paint(scenes, recipe.decoded)), painter.labels(scenes)
        things = labels[0] > 0
        trainer.log.append((sight.classes.argmax(-1) == labels[0])[things].float().mean().item())
        return eye_loss(sight, labels, recipe.paper)

    def report(trainer: Trainer, loss: float) -> None:
        print(f"eye {trainer.used / 60:5.1f} min  step {trainer.steps:5d}  loss {loss:.4f}  class of cells "
              f"{np.mean(trainer.log[-50:]):.3f}", flush=True)  # fmt: skip

    train(trainer, step, report)
    return trainer.steps


def train_reading(verifier: LearnedVerifier, painter: Painter, recipe: VerifierRecipe, folder: Path, seed: int,
                  resume: bool) -> tuple[int, Curriculum]:  # fmt: skip
    """The second part, with the eye held still; returns the number of steps and the last curriculum."""
    verifier.eye.requires_grad_(False)
    verifier.probes = nn.ModuleList(nn.Linear(verifier.config.width, 3) for _ in range(2))
    optimizers = reading_optimizers(verifier, recipe.muon_lr, recipe.adam_lr)
    chance = torch.Generator().manual_seed(seed)
    trainer = Trainer(
        verifier, optimizers, Budget(recipe.minutes * (1 - recipe.eye), ema=0.998), folder, chance
    )
    if resume:
        trainer.resume()
    lessons = Curriculum()

    def step(trainer: Trainer) -> Tensor:
        rng = np.random.default_rng([seed, rank(), 1, trainer.steps])
        captions = draw_captions(rng, recipe.batch, lessons.weights())
        with torch.no_grad():
            sight = verifier.eye(painter.paint(captions.scenes, recipe.decoded))
        view = verifier.view(verifier.tokens(sight)).select(captions.owner)
        asked = torch.full((len(captions.ids),), QUESTIONS.index(FINAL))
        layers: list[Tensor] = []
        states = verifier.read(asked, captions.ids, captions.valid, view, layers=layers)
        margin, wrong = verifier.answer(states, asked, captions.valid)
        lessons.update(captions.lessons, ((margin > 0) == (captions.right > 0.5)).tolist())
        loss = F.binary_cross_entropy_with_logits(margin, captions.right)
        loss = loss + recipe.words * word_loss(wrong, captions)
        return loss + recipe.facts * fact_loss(verifier.probes, layers, captions)

    def report(trainer: Trainer, loss: float) -> None:
        errors = "  ".join(f"{task}/{change} {lessons.error[task, change]:.2f}" for task, change in LESSONS)
        print(
            f"{trainer.used / 60:5.1f} min  step {trainer.steps:5d}  loss {loss:.4f}  errors {errors}",
            flush=True,
        )

    train(trainer, step, report)
    del verifier.probes
    verifier.eye.requires_grad_(True)
    return trainer.steps, lessons


def run(out: Path, seed: int = 0, minutes: float | None = None, resume: bool = False,
        data: Path | None = None) -> dict:  # fmt: skip
    """Trains the zero-shot verifier into the folder `out`; returns the metrics on its card.

    data: folder of own paths (`verifier_paths`); when given, the metrics on the generator's pictures of development
    prompts are measured too. A run that is resumed after the first part does not repeat it.
    """
    start_training()
    recipe = VerifierRecipe() if minutes is None else replace(VerifierRecipe(), minutes=minutes)
    torch.manual_seed(seed)
    verifier, painter, out = LearnedVerifier(VerifierConfig(questions=(FINAL,))), Painter(), Path(out)
    finished = out / "eye" / "card.json"
    if resume and finished.is_file():
        verifier.load_state_dict(LearnedVerifier.from_pretrained(finished.parent).state_dict())
    else:
        train_eye(verifier, painter, recipe, out / "eye", seed, resume)
        if rank() == 0:
            verifier.save_pretrained(out / "eye", {"model": "verifier", "stage": "eye", "metrics": {}})
    steps, lessons = train_reading(verifier, painter, recipe, out, seed, resume)
    metrics: dict = {"steps": steps}
    if rank() == 0:
        metrics["last_errors"] = {"/".join(name): round(error, 3) for name, error in lessons.error.items()}
        metrics["drawings"] = measure_drawings(verifier, painter)
        if data is not None:
            metrics["own_pictures"] = measure_paths(verifier, painter.tokenizer, data)
        verifier.save_pretrained(out, {"model": "verifier", "stage": "zs", "seed": seed, "minutes": recipe.minutes,
                                       "command": "torchrun --nproc_per_node 2 -m cotlib train verifier-zs "
                                                  "--out data/verifier-zs", "metrics": metrics})  # fmt: skip
        (out / "resume.pt").unlink(missing_ok=True)
        shutil.rmtree(out / "eye")
    return metrics
