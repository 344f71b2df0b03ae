"""Recipe: the detector, on drawings first, then also on what the tokenizer makes of them.

Judged pictures come from a generator, and generators draw halves of things.  So over half of the training pictures
are collages: some of their 8x8 tokens come from another picture, are blank, or (once the tokenizer is in play) are
any code.  A thing counts by the share of it that is left: more than .8 must be found, less than .6 must not be,
and in between nothing is asked.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cotlib.assets import data_dir
from cotlib.judging.confusion import measure
from cotlib.judging.pictogram import DetectorJudge, glyph_box
from cotlib.models.detector import BOX_SCALE, STRIDE, PictogramDetector
from cotlib.models.tokenizer import PictogramTokenizer
from cotlib.train.loop import Budget, Trainer, train
from cotlib.world.render import background, render_batch, sprite
from cotlib.world.scenes import CELL, CLASSES, COLORS, PITCH, SIZE, Scene, Thing, sample_scene

GRID = SIZE // PITCH  # tokens per side
CELLS = SIZE // STRIDE  # heat-map cells per side
FOUND, HIDDEN = 0.8, 0.6  # shares of a thing above which it must, and below which it must not be found
SOURCES = ("other", "blank", "noise")  # what a collage fills its gaps with


@dataclass(frozen=True)
class DetectorRecipe:
    """Hyperparameters; `minutes` is wall time on one core."""

    minutes: float = 8.0
    drawings_until: float = 0.4  # share of the time before reconstructions join in
    batch: int = 32
    lr: float = 2e-3
    collages: float = 0.6  # share of pictures
    spread: float = 0.8  # width of a heat-map peak, cells


@cache
def token_shares(cls: str) -> np.ndarray:
    """Share of a thing's ink in each of its 3x3 tokens, [3, 3], sums to 1."""
    alpha = sprite(cls, COLORS[0])[1]
    side = CELL // PITCH
    return alpha.reshape(side, PITCH, side, PITCH).sum((1, 3)) / alpha.sum()


def sample_gaps(rng: np.random.Generator) -> np.ndarray:
    """Which tokens of a collage are its own, bool [8, 8]: all but a rectangle, or all but scattered ones."""
    keep = np.ones((GRID, GRID), dtype=bool)
    if rng.random() < 0.5:
        top, left = rng.integers(0, GRID, 2)
        height, width = rng.integers(1, GRID + 1, 2)
        keep[top : top + height, left : left + width] = False
        return keep
    return rng.random((GRID, GRID)) > rng.uniform(0, 0.5)


def share_left(thing: Thing, keep: np.ndarray) -> float:
    """How much of a thing the kept tokens show, 0..1."""
    x, y = thing.x // PITCH, thing.y // PITCH
    return float((token_shares(thing.cls) * keep[y : y + 3, x : x + 3]).sum())


def make_collages(
    rng: np.random.Generator, scenes: list[Scene], share: float, tokenizer: PictogramTokenizer | None
) -> tuple[Tensor, list[list[tuple[Thing, float]]]]:
    """Pictures [B, 3, 64, 64] and, for each, the things in it with the share of them that is to be seen.

    Without a tokenizer the gaps are filled in pixels, with one in codes, and the pictures are reconstructions.
    """
    count = len(scenes)
    keeps = np.stack(
        [sample_gaps(rng) if rng.random() < share else np.ones((GRID, GRID), bool) for _ in scenes]
    )
    sources = rng.choice(SOURCES if tokenizer else SOURCES[:2], count)
    keep = torch.from_numpy(keeps)
    pictures = render_batch(scenes)
    chosen = torch.tensor([SOURCES.index(s) for s in sources])
    blank = torch.from_numpy(background(None).copy()).permute(2, 0, 1)[None]  # [1, 3, 64, 64]
    if tokenizer is None:
        whole = keep.repeat_interleave(PITCH, 1).repeat_interleave(PITCH, 2)[:, None]  # [B, 1, 64, 64]
        filling = torch.where(chosen[:, None, None, None] == 0, pictures.roll(1, 0), blank)
        pictures = torch.where(whole, pictures, filling)
    else:
        codes = tokenizer.encode(pictures)  # [B, 64]
        noise = torch.from_numpy(rng.integers(tokenizer.codebook_size, size=codes.shape))
        fillings = torch.stack([codes.roll(1, 0), tokenizer.encode(blank).expand_as(codes), noise])
        pictures = tokenizer.decode(
            torch.where(keep.flatten(1), codes, fillings[chosen, torch.arange(count)])
        )
    shown = []
    for i, scene in enumerate(scenes):
        seen = [(thing, share_left(thing, keeps[i])) for thing in scene.things]
        if sources[i] == "other":
            seen += [(thing, share_left(thing, ~keeps[i])) for thing in scenes[i - 1].things]
        shown.append(seen)
    return pictures, shown


def detector_loss(detector: PictogramDetector, pictures: Tensor, shown: list, spread: float) -> Tensor:
    """Penalty-reduced focal loss of the heat maps (CenterNet, eq. 1) + cross entropy of colours + L1 of boxes.

    With y the target (1 at a centre, a Gaussian around it) and p the score, the focal part is
    -(1 - p) log p at centres and -(1 - y)^4 p^2 log(1 - p) elsewhere, summed, over the number of centres.
    CenterNet squares (1 - p); without the square clear things score far enough above .9 for counting.
    """
    heat, colors, sides = detector(pictures)
    target = torch.zeros_like(heat)  # [B, 20, 16, 16]
    asked = torch.ones(len(pictures), 1, CELLS, CELLS)
    grid = torch.arange(CELLS)
    rows = []  # (picture, cell y, cell x, color, left, top, right, bottom) around each centre
    for b, things in enumerate(shown):
        for thing, share in things:
            x, y = (thing.x + CELL // 2) // STRIDE, (thing.y + CELL // 2) // STRIDE
            if share > FOUND:
                away = (grid[:, None] - y).square() + (grid[None, :] - x).square()
                bump = torch.exp(-away / (2 * spread**2))
                layer = target[b, CLASSES.index(thing.cls)]
                torch.maximum(layer, bump, out=layer)
                rows += _rows_around(b, x, y, thing)
            elif share > HIDDEN:
                asked[b, 0, y - 2 : y + 3, x - 2 : x + 3] = 0
    centres = target == 1
    positive = F.logsigmoid(heat) * (1 - heat.sigmoid()) * centres
    negative = F.logsigmoid(-heat) * heat.sigmoid().square() * (1 - target) ** 4 * asked
    focal = -(positive + negative).sum() / max(1, int(centres.sum()))
    if not rows:
        return focal
    table = torch.tensor(rows)
    b, y, x, color = table[:, :4].long().unbind(1)
    return focal + F.cross_entropy(colors[b, :, y, x], color) + F.l1_loss(sides[b, :, y, x], table[:, 4:])


def _rows_around(b: int, x: int, y: int, thing: Thing) -> list[tuple]:
    """Colour and box targets of the 3x3 cells around a centre: a peak may be off by one."""
    left, top, right, bottom = glyph_box(thing.cls, thing.x, thing.y)
    color, rows = COLORS.index(thing.color), []
    for cy in (y - 1, y, y + 1):
        for cx in (x - 1, x, x + 1):
            px, py = cx * STRIDE, cy * STRIDE
            sides = (px - left, py - top, right - px, bottom - py)
            rows.append((b, cy, cx, color, *(side / BOX_SCALE for side in sides)))
    return rows


def run(out: Path, seed: int = 0, minutes: float | None = None, resume: bool = False) -> dict:
    """Trains and writes the checkpoint folder `out`; returns the metrics on its card."""
    recipe = DetectorRecipe() if minutes is None else DetectorRecipe(minutes=minutes)
    tokenizer = PictogramTokenizer.from_pretrained(data_dir() / "tokenizer")
    detector, steps = fit(recipe, tokenizer, out, seed, resume)
    results = measure({"detector": DetectorJudge(detector)}, tokenizer)["judges"]["detector"]
    metrics = {f"agreement_{kind}": numbers["agreement"]["overall"] for kind, numbers in results.items()}
    metrics["steps"] = steps
    detector.save_pretrained(out, {"model": "detector", "command": "python -m cotlib train detector --out data/detector",
                                   "seed": seed, "minutes": recipe.minutes, "metrics": metrics})  # fmt: skip
    (Path(out) / "resume.pt").unlink(missing_ok=True)
    return metrics


def fit(
    recipe: DetectorRecipe, tokenizer, out: Path, seed: int, resume: bool
) -> tuple[PictogramDetector, int]:
    """The trained detector and the number of its steps; without a tokenizer it only ever sees drawings."""
    torch.manual_seed(seed)
    detector = PictogramDetector()
    optimizer = torch.optim.AdamW(detector.parameters(), recipe.lr, weight_decay=1e-4)
    generator = torch.Generator().manual_seed(seed)
    trainer = Trainer(detector, [optimizer], Budget(recipe.minutes), Path(out), generator)
    if resume:
        trainer.resume()

    def step(trainer: Trainer) -> Tensor:
        rng = np.random.default_rng([seed, trainer.steps])
        scenes = [sample_scene(rng) for _ in range(recipe.batch)]
        late = tokenizer is not None and trainer.share > recipe.drawings_until
        drawn = recipe.batch // 2 if late else recipe.batch
        with torch.no_grad():
            pictures, shown = make_collages(rng, scenes[:drawn], recipe.collages, None)
            if late:
                decoded, more = make_collages(rng, scenes[drawn:], recipe.collages, tokenizer)
                pictures, shown = torch.cat([pictures, decoded]), shown + more
        return detector_loss(detector, pictures, shown, recipe.spread)

    def report(trainer: Trainer, loss: float) -> None:
        print(f"{trainer.used / 60:5.1f} min  step {trainer.steps:5d}  loss {loss:.4f}", flush=True)

    train(trainer, step, report)
    return detector, trainer.steps
