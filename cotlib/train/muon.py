"""Muon: momentum whose matrix updates are made orthogonal, so that every direction learns at the same speed.

After Keller Jordan, "Muon: an optimizer for hidden layers in neural networks" (2024). PyTorch has one, but it
iterates in bfloat16, which processors without bfloat16 units run a hundred times slower; this one uses float32.
"""

from collections import defaultdict

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic Newton-Schulz step, from the source above


def orthogonalise(updates: Tensor, rounds: int = 5) -> Tensor:
    """Nearest (semi-)orthogonal matrices, roughly: singular values end between 0.7 and 1.2.

    updates: float [M, rows, columns] with rows <= columns. Returns the same shape.
    """
    a, b, c = COEFFICIENTS
    x = updates / (updates.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(rounds):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


class Muon(torch.optim.Optimizer):
    """For 2-D weights only; matrices of one shape are orthogonalised together."""

    def __init__(self, params: list[Tensor], lr: float, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            shapes = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    velocity = self.state[p].setdefault("velocity", torch.zeros_like(p))
                    velocity.lerp_(p.grad, 1 - group["momentum"])
                    nesterov = p.grad.lerp(velocity, group["momentum"])
                    tall = p.shape[0] > p.shape[1]
                    shapes[tuple(sorted(p.shape))].append((p, nesterov.mT if tall else nesterov, tall))
            for entries in shapes.values():
                for (p, _, tall), update in zip(
                    entries, orthogonalise(torch.stack([u for _, u, _ in entries])), strict=True
                ):
                    scale = max(1.0, p.shape[0] / p.shape[1]) ** 0.5
                    p.add_(update.mT if tall else update, alpha=-group["lr"] * scale)
