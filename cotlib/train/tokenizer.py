"""Recipe: the tokenizer, from drawings alone. About five minutes on two cores.

The target is the drawing without its background tint, so the encoder learns that paper is paper: one code.
Things fill little of a picture, so their pixels weigh eleven times as much as the background's.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cotlib.models.tokenizer import PictogramTokenizer
from cotlib.train.loop import Budget, Trainer, train
from cotlib.world.render import coverage_mask, render_batch
from cotlib.world.scenes import sample_scene


@dataclass(frozen=True)
class TokenizerRecipe:
    """Hyperparameters; `minutes` is wall time on two cores."""

    minutes: float = 6.0
    batch: int = 32
    lr: float = 2e-3
    foreground: float = 3.3  # weight of pixels on or beside a thing
    background: float = 0.3


def batch_of_drawings(rng: np.random.Generator, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """(pictures, the same without tint, mask of things [B, 1, 64, 64]) of fresh random scenes."""
    scenes = [sample_scene(rng) for _ in range(size)]
    mask = torch.from_numpy(np.stack([coverage_mask(s) for s in scenes]))[:, None].float()
    near = torch.nn.functional.max_pool2d(mask, 3, 1, 1)
    return render_batch(scenes), render_batch(scenes, plain=True), near


def psnr(tokenizer: PictogramTokenizer, seed: int = 10_000, count: int = 512) -> float:
    """Peak signal-to-noise ratio, dB, of reconstructions of fresh drawings (tint included in the error)."""
    images, _, _ = batch_of_drawings(np.random.default_rng(seed), count)
    with torch.no_grad():
        error = (tokenizer.decode(tokenizer.encode(images)) - images).square().mean()
    return float(-10 * error.log10())


def run(out: Path, seed: int = 0, minutes: float | None = None, resume: bool = False) -> dict:
    """Trains and writes the checkpoint folder `out`; returns the metrics on its card."""
    recipe = TokenizerRecipe() if minutes is None else TokenizerRecipe(minutes=minutes)
    torch.manual_seed(seed)
    tokenizer = PictogramTokenizer()
    optimizer = torch.optim.AdamW(tokenizer.parameters(), recipe.lr, weight_decay=1e-4)
    trainer = Trainer(
        tokenizer, [optimizer], Budget(recipe.minutes), out, torch.Generator().manual_seed(seed)
    )
    if resume:
        trainer.resume()

    def step(trainer: Trainer) -> Tensor:
        rng = np.random.default_rng([seed, trainer.steps])
        images, plain, near = batch_of_drawings(rng, recipe.batch)
        weight = recipe.background + (recipe.foreground - recipe.background) * near
        difference = tokenizer.paint(tokenizer.quantised(images)) - plain
        return (weight * (difference.abs() + difference.square())).mean()

    def report(trainer: Trainer, loss: float) -> None:
        print(f"{trainer.used / 60:5.1f} min  step {trainer.steps:5d}  loss {loss:.4f}", flush=True)

    train(trainer, step, report)
    images, _, _ = batch_of_drawings(np.random.default_rng(10_001), 512)
    codes = tokenizer.encode(images)
    share = torch.bincount(codes.flatten(), minlength=1024).double() / codes.numel()
    used = share[share > 0]
    metrics = {"psnr_db": round(psnr(tokenizer), 2), "codes_used": len(used), "most_common_share": round(float(share.max()), 3),
               "bits_per_token": round(float(-(used * used.log2()).sum()), 2), "steps": trainer.steps}  # fmt: skip
    tokenizer.save_pretrained(out, {"model": "tokenizer", "command": "python -m cotlib train tokenizer --out data/tokenizer",
                                    "seed": seed, "minutes": recipe.minutes, "metrics": metrics})  # fmt: skip
    (out / "resume.pt").unlink(missing_ok=True)
    return metrics
