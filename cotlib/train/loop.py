"""What every recipe shares: the time budget, the learning-rate schedule, averaging, checkpoints and `--resume`.

A recipe supplies one function, `step(trainer) -> loss`; the loop owns everything else. The schedule follows the
share of the time budget that is used, so `--minutes` is the only dial: warm-up, constant, linear decay to zero.

Data-parallel runs need no other code: under `torchrun --nproc_per_node 2 -m cotlib train ...` gradients and the
clock are averaged over the processes, and only rank 0 writes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from cotlib.several import average_gradients, rank, slowest


@dataclass
class Budget:
    """How long to train and how the learning rate moves over that time (shares of the budget)."""

    minutes: float
    warmup: float = 0.02
    decay_from: float = 0.4
    ema: float = 0.995
    save_every: float = 60.0  # seconds between resumable checkpoints

    def rate(self, share: float) -> float:
        """Multiplier of the learning rate after `share` (0..1) of the budget."""
        if share < self.warmup:
            return max(share / self.warmup, 0.01)
        return min(1.0, max(0.0, (1 - share) / (1 - self.decay_from)))


@dataclass
class Trainer:
    """State of one run: module, optimisers, averaged weights, seconds used, steps done."""

    module: nn.Module
    optimizers: list[torch.optim.Optimizer]
    budget: Budget
    folder: Path
    generator: torch.Generator
    used: float = 0.0
    steps: int = 0
    average: dict[str, Tensor] = field(default_factory=dict)
    log: list[dict] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Share of the time budget used so far, 0..1."""
        return self.used / (60 * self.budget.minutes)

    def save(self) -> None:
        """Writes the resumable state to `folder/resume.pt` (a private file of the run, loaded weights-only)."""
        state = {"module": self.module.state_dict(), "optimizers": [o.state_dict() for o in self.optimizers],
                 "used": self.used, "steps": self.steps, "average": self.average,
                 "random": self.generator.get_state()}  # fmt: skip
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.save(state, self.folder / "resume.tmp")
        (self.folder / "resume.tmp").replace(self.folder / "resume.pt")

    def resume(self) -> bool:
        """Continues from `folder/resume.pt` when it is there."""
        path = self.folder / "resume.pt"
        if not path.is_file():
            return False
        state = torch.load(path, weights_only=True)
        self.module.load_state_dict(state["module"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.used, self.steps, self.average = state["used"], state["steps"], state["average"]
        self.generator.set_state(state["random"])
        return True


def train(
    trainer: Trainer, step: Callable[[Trainer], Tensor], report: Callable[[Trainer, float], None]
) -> None:
    """Runs `step` until the budget is used up, then loads the averaged weights into the module.

    step: returns the loss of one fresh batch; report: called about every 15 seconds with the smoothed loss.
    """
    base = [[group["lr"] for group in o.param_groups] for o in trainer.optimizers]
    smooth, last_report, last_save = None, time.monotonic(), time.monotonic()
    trainer.module.train()
    while trainer.share < 1:
        begin = time.monotonic()
        rate = trainer.budget.rate(trainer.share)
        for optimizer, rates in zip(trainer.optimizers, base, strict=True):
            optimizer.zero_grad(set_to_none=True)
            for group, lr in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = lr * rate
        loss = step(trainer)
        loss.backward()
        average_gradients(trainer.module)
        nn.utils.clip_grad_norm_(trainer.module.parameters(), 1.0)
        for optimizer in trainer.optimizers:
            optimizer.step()
        trainer.steps += 1
        _average(trainer)
        smooth = loss.item() if smooth is None else 0.98 * smooth + 0.02 * loss.item()
        now = time.monotonic()
        trainer.used += slowest(now - begin)
        if rank() == 0 and (now - last_report > 15 or trainer.share >= 1):
            report(trainer, smooth)
            last_report = now
        if rank() == 0 and now - last_save > trainer.budget.save_every:
            for optimizer, rates in zip(trainer.optimizers, base, strict=True):
                for group, lr in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = lr
            trainer.save()
            last_save = now
    trainer.module.load_state_dict(trainer.average)
    trainer.module.eval()


@torch.no_grad()
def _average(trainer: Trainer) -> None:
    """Exponential moving average of the weights, with a shorter memory in the first steps."""
    state = trainer.module.state_dict()
    if not trainer.average:
        trainer.average = {k: v.detach().clone() for k, v in state.items()}
        return
    decay = min(trainer.budget.ema, (1 + trainer.steps) / (10 + trainer.steps))
    for key, value in state.items():
        if value.is_floating_point():
            trainer.average[key].lerp_(value, 1 - decay)
        else:
            trainer.average[key].copy_(value)
