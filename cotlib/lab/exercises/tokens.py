"""Exercises of notebook 01, image tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from cotlib.lab.exercises.registry import Exercise, Mistake, call

LEVELS, DIGITS = 4, 5


# --- pack_digits: five base-4 digits -> one code


def _digit_batches() -> list[tuple]:
    rng = torch.Generator().manual_seed(1)
    shapes = [(DIGITS,), (7, DIGITS), (3, 64, DIGITS)]
    ends = [torch.tensor([[0, 0, 0, 0, 0], [0, 0, 0, 0, 1], [1, 0, 0, 0, 0], [3, 3, 3, 3, 3]])]
    return [(d,) for d in ends + [torch.randint(LEVELS, shape, generator=rng) for shape in shapes * 3]]


def _weighted(digits: Tensor, weights: list[int]) -> Tensor:
    return (digits * torch.tensor(weights)).sum(-1)


PACK_DIGITS = Exercise(
    name="pack_digits",
    where="cotlib.models.tokenizer:pack",
    inputs=_digit_batches,
    mistakes=(
        Mistake(
            "reversed",
            "The order of the digits is turned round: the first digit counts 4^4 = 256, the last one 4^0 = 1.",
            lambda d: _weighted(d, [4**i for i in range(5)]),
        ),
        Mistake(
            "base 5",
            "You count in base 5, the number of digits. The base is the number of levels of one digit: 4.",
            lambda d: _weighted(d, [5**i for i in (4, 3, 2, 1, 0)]),
        ),
        Mistake(
            "powers from 1",
            "Every code is 4 times too large: the last digit has weight 4^0 = 1, not 4^1.",
            lambda d: _weighted(d, [4**i for i in (5, 4, 3, 2, 1)]),
        ),
        Mistake(
            "decimal",
            "You wrote the digits side by side as a decimal number. Each place is worth 4 times the next, not 10 times.",
            lambda d: _weighted(d, [10**i for i in (4, 3, 2, 1, 0)]),
        ),
        Mistake(
            "plain sum",
            "You add the digits without weights, so 1024 codes collapse onto 16. Each place needs its power of 4.",
            lambda d: d.sum(-1),
        ),
        Mistake(
            "float",
            "The numbers are right, but they are floats. A code is an index into a table: keep whole numbers (long).",
            lambda d: _weighted(d, [4**i for i in (4, 3, 2, 1, 0)]).float(),
        ),
        Mistake(
            "wrong axis",
            "You sum over the first axis. The digits stand on the last axis, dim=-1; all other axes stay.",
            lambda d: (d * torch.tensor([256, 64, 16, 4, 1])).sum(0),
        ),
    ),
)


# --- straight_through: round in the forward pass, identity in the backward pass


def _bounded_batches() -> list[tuple]:
    rng = torch.Generator().manual_seed(2)
    return [
        (torch.tanh(1.5 * torch.randn(shape, generator=rng)),) for shape in [(4, DIGITS), (2, 9, DIGITS)] * 4
    ]


def _values_and_gradient(fn, z: Tensor):
    """(output, is it connected to z, gradient of a weighted sum of the output with respect to z)."""
    z.requires_grad_()
    out = call(fn, z)
    if not isinstance(out, Tensor) or out.shape != z.shape:
        return out
    weights = torch.linspace(-1, 2, z.numel()).reshape(z.shape)
    if out.requires_grad:
        (out * weights).sum().backward()
    return out.detach(), out.requires_grad, torch.zeros_like(z) if z.grad is None else z.grad


def _rounded(z: Tensor) -> Tensor:
    return torch.round((z + 1) * 1.5) / 1.5 - 1


def _through(z: Tensor, rounded: Tensor) -> Tensor:
    return z + (rounded - z).detach()


def _five_levels(z: Tensor) -> Tensor:
    return _through(z, torch.round(z * 2) / 2)


STRAIGHT_THROUGH = Exercise(
    name="straight_through",
    where="cotlib.models.tokenizer:quantise",
    inputs=_bounded_batches,
    observe=_values_and_gradient,
    mistakes=(
        Mistake(
            "no gradient",
            "The values are right, but the gradient is 0: round is flat, and z + (rounded - z) is just rounded again. "
            "Detach the correction alone: z + (rounded - z).detach().",
            _rounded,
        ),
        Mistake(
            "all detached",
            "The values are right, but the result is cut off from z. Only the correction (rounded - z) may be detached.",
            lambda z: _rounded(z).detach(),
        ),
        Mistake(
            "not rounded",
            "The gradient is right, but the values are not rounded: the correction is missing or cancels out.",
            lambda z: z * 1.0,
        ),
        Mistake(
            "gradient doubled",
            "The values are right, but the gradient is twice what it should be: z enters twice without detach.",
            lambda z: 2 * z + (_rounded(z) - 2 * z).detach(),
        ),
        Mistake(
            "five levels",
            "You round to 5 levels with spacing 1/2. Four levels from -1 to 1 have spacing 2/3: -1, -1/3, 1/3, 1.",
            _five_levels,
        ),
        Mistake(
            "integers",
            "You round to whole numbers -1, 0, 1. First scale to 0..3, round there, and scale back to -1..1.",
            lambda z: _through(z, torch.round(z)),
        ),
        Mistake(
            "levels 0 to 3",
            "The levels are right but not scaled back: the result runs from 0 to 3 where -1 to 1 is expected.",
            lambda z: _through(z, torch.round((z + 1) * 1.5)),
        ),
        Mistake(
            "floor",
            "You round down (floor, or a cast to int). Take the nearest level: torch.round.",
            lambda z: _through(z, torch.floor((z + 1) * 1.5) / 1.5 - 1),
        ),
    ),
)

EXERCISES = (PACK_DIGITS, STRAIGHT_THROUGH)
