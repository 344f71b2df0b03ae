"""Exercises of notebook 02, token generation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cotlib.lab.exercises.registry import Exercise, Mistake

# --- masked_count: how many tokens stay masked after a step


def _count_inputs() -> list[tuple]:
    """(step, steps, n_tokens, unknown): whole schedules, and late starts in which few tokens are unknown."""
    full = [
        (step, steps, n, n) for steps, n in ((18, 256), (10, 64), (6, 49), (1, 64)) for step in range(steps)
    ]
    few = [(0, 10, 64, 20), (1, 10, 64, 5), (3, 8, 64, 2), (7, 8, 64, 3), (2, 5, 256, 100)]
    small = [(2, 4, 6, 3), (10, 12, 9, 4), (14, 16, 8, 5), (30, 32, 16, 4)]
    return full + few + small


def _count(step, steps, n, unknown, share=None, rounding=math.floor, at_least=1, end=True, bound=True):
    share = share if share is not None else math.cos(math.pi / 2 * (step + 1) / steps)
    if end and step == steps - 1:
        return 0
    left = rounding(n * share)
    return max(at_least, min(unknown - 1, left) if bound else left)


MASKED_COUNT = Exercise(
    name="masked_count",
    where="cotlib.decoding.schedule:masked_count",
    inputs=_count_inputs,
    mistakes=(
        Mistake(
            "step off by one",
            "You count steps from the wrong end: after step 0 one step is done, so the share is cos(pi/2 (step + 1)/steps).",
            lambda s, t, n, u: _count(s, t, n, u, share=math.cos(math.pi / 2 * s / t)),
        ),
        Mistake(
            "last step keeps one",
            "Your last step leaves a token masked. After the last step nothing may stay masked: return 0.",
            lambda s, t, n, u: _count(s, t, n, u, end=False),
        ),
        Mistake(
            "no lower bound",
            "Before the last step you let the count fall to 0, and the steps after it have nothing to do. Keep at least 1.",
            lambda s, t, n, u: _count(s, t, n, u, at_least=0),
        ),
        Mistake(
            "no upper bound",
            "With few unknown tokens your step may reveal none. At least one must be revealed: at most unknown - 1 stay.",
            lambda s, t, n, u: _count(s, t, n, u, bound=False),
        ),
        Mistake(
            "bound is unknown",
            "A step must reveal at least one token, so at most unknown - 1 stay masked, not unknown.",
            lambda s, t, n, u: _count(s, t, n, u + 1),
        ),
        Mistake(
            "linear",
            "You take away the same number each step (a linear schedule). The cosine keeps most tokens masked early.",
            lambda s, t, n, u: _count(s, t, n, u, share=1 - (s + 1) / t),
        ),
        Mistake(
            "sine",
            "You count the revealed tokens, or use the sine: the number grows. The masked share falls from 1 to 0, a cosine.",
            lambda s, t, n, u: _count(s, t, n, u, share=math.sin(math.pi / 2 * (s + 1) / t)),
        ),
        Mistake(
            "pi for pi/2",
            "Your angle runs to pi, where the cosine is -1. A quarter turn, pi/2, takes it from 1 to 0.",
            lambda s, t, n, u: _count(s, t, n, u, share=math.cos(math.pi * (s + 1) / t)),
        ),
        Mistake(
            "rounded",
            "Nearly: you round to the nearest whole number. The schedule rounds down (floor).",
            lambda s, t, n, u: _count(s, t, n, u, rounding=round),
        ),
        Mistake(
            "rounded up",
            "Nearly: you round up. The schedule rounds down (floor).",
            lambda s, t, n, u: _count(s, t, n, u, rounding=math.ceil),
        ),
        Mistake(
            "of unknown",
            "The share is taken of all n_tokens, also late: you take it of the tokens still unknown, which shrink twice.",
            lambda s, t, n, u: _count(s, t, u, u),
        ),
    ),
)


# --- masked_step: which tokens stay masked


def _step_inputs() -> list[tuple]:
    """(confidence [B,N], known [B,N], left): random, without ties, fewer to mask than unknown."""
    rng = torch.Generator().manual_seed(3)
    cases = []
    for batch, n, shown, left in (
        (1, 8, 2, 3),
        (3, 16, 5, 4),
        (4, 64, 30, 20),
        (2, 64, 0, 63),
        (2, 9, 6, 1),
        (3, 64, 40, 0),
    ):
        confidence = torch.rand((batch, n), generator=rng)
        known = torch.rand((batch, n), generator=rng).argsort(-1) < shown
        cases.append((confidence, known, left))
    return cases


def _lowest(score: Tensor, left: int) -> Tensor:
    """True at the `left` smallest scores of each row."""
    return score.argsort(-1).argsort(-1) < left


def _over_the_batch(confidence: Tensor, known: Tensor, left: int) -> Tensor:
    score = confidence.masked_fill(known, math.inf).flatten()
    return (score.argsort().argsort() < left * len(confidence)).view_as(known)


def _threshold_of_first(confidence: Tensor, known: Tensor, left: int) -> Tensor:
    score = confidence.masked_fill(known, math.inf)
    return score < score.sort(-1).values[0, left]


MASKED_STEP = Exercise(
    name="masked_step",
    where="cotlib.kernels.remask_step:remask",
    inputs=_step_inputs,
    mistakes=(
        Mistake(
            "most confident masked",
            "You mask the tokens the model is most sure of. Those should be kept: the least confident ones stay masked.",
            lambda c, k, m: _lowest(-c.masked_fill(k, -math.inf), m),
        ),
        Mistake(
            "known tokens masked",
            "Known tokens may not be masked again. Give them infinite confidence before you choose the lowest.",
            lambda c, k, m: _lowest(c, m),
        ),
        Mistake(
            "known cleared afterwards",
            "You choose the lowest among all tokens and clear the known ones afterwards, so too few stay masked. "
            "Set known tokens aside first.",
            lambda c, k, m: _lowest(c, m) & ~k,
        ),
        Mistake(
            "inverted",
            "Your answer is the opposite: True must mean still masked, not revealed.",
            lambda c, k, m: ~_lowest(c.masked_fill(k, math.inf), m),
        ),
        Mistake(
            "whole batch",
            "You choose the lowest over the whole batch. Every picture (row) keeps `left` tokens masked: use dim=-1.",
            _over_the_batch,
        ),
        Mistake(
            "one too many",
            "One token too many stays masked. With a sorted row, compare with `<` to the value at index `left`, not `<=`.",
            lambda c, k, m: _lowest(c.masked_fill(k, math.inf), m + 1),
        ),
        Mistake(
            "one too few",
            "One token too few stays masked: exactly `left` must be True in each row.",
            lambda c, k, m: _lowest(c.masked_fill(k, math.inf), max(m - 1, 0)),
        ),
        Mistake(
            "first row's threshold",
            "You take the threshold of the first picture for all. Each row has its own: keep the axis, [B,1].",
            _threshold_of_first,
        ),
        Mistake(
            "known set to zero",
            "Known tokens got confidence 0, the lowest, so they are masked first. Give them infinity instead.",
            lambda c, k, m: _lowest(c.masked_fill(k, 0.0), m),
        ),
    ),
)


# --- guide: classifier-free guidance


def _guide_inputs() -> list[tuple]:
    """(cond [B,V], uncond [B,V], w); w = 0 and w = 1 are among them because some mistakes show only elsewhere."""
    rng = torch.Generator().manual_seed(4)
    return [
        (2 * torch.randn((3, 16), generator=rng), 2 * torch.randn((3, 16), generator=rng), w)
        for w in (0.0, 0.5, 1.0, 1.75, 4.0)
    ]


GUIDE = Exercise(
    name="guide",
    where="cotlib.decoding.masked:guide",
    inputs=_guide_inputs,
    mistakes=(
        Mistake(
            "swapped",
            "cond and uncond changed places: the prompt is pushed away instead of pulled in.",
            lambda c, u, w: (1 + w) * u - w * c,
        ),
        Mistake(
            "interpolation",
            "w cond + (1 - w) uncond is the other convention, in which w = 1 means no guidance. "
            "Here w = 0 means none: (1 + w) cond - w uncond.",
            lambda c, u, w: w * c + (1 - w) * u,
        ),
        Mistake(
            "sign",
            "You add the unconditional part. It is subtracted: what the model would draw without the prompt is taken off.",
            lambda c, u, w: (1 + w) * c + w * u,
        ),
        Mistake(
            "toward uncond",
            "You mix the two like an average, so guidance weakens the prompt. Go beyond cond, away from uncond.",
            lambda c, u, w: (c + w * u) / (1 + w),
        ),
        Mistake(
            "no weight on uncond",
            "The unconditional part lacks its weight w: with w = 0 the result must be cond itself.",
            lambda c, u, w: (1 + w) * c - u,
        ),
        Mistake(
            "no 1 +",
            "cond needs the weight 1 + w: the two weights add up to 1, so that w = 0 changes nothing.",
            lambda c, u, w: w * c - w * u,
        ),
        Mistake(
            "weights do not add to 1",
            "The weights 1 and -w do not add up to 1. The weight of cond is 1 + w.",
            lambda c, u, w: c - w * u,
        ),
        Mistake(
            "on probabilities",
            "You combine probabilities. Combine the scores first and take the softmax afterwards.",
            lambda c, u, w: (1 + w) * c.softmax(-1) - w * u.softmax(-1),
        ),
        Mistake(
            "softmax taken",
            "The combination is right, but you already took the softmax. Return the scores.",
            lambda c, u, w: ((1 + w) * c - w * u).softmax(-1),
        ),
    ),
)

EXERCISES = (MASKED_COUNT, MASKED_STEP, GUIDE)
