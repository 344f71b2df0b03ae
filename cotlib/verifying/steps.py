"""Step by step: the labels a step verifier learns from, and how far its answers can be trusted at a step.

Three questions that are easily taken for one:

    accuracy    does P(yes) tell good states from bad ones, over all prompts?      (`accuracy_interval`)
    ranking     does it tell the better of two branches of the *same* state?       (`ranking_interval`)
    spread      is there a better one at all: how much do the branches differ?     (`spread`)

A process reward model keeps one branch of each state, so the first does not help it: it needs the second, and the third
says how much the second can win. All intervals draw prompts with replacement.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cotlib.judging.stats import LEVELS

Interval = tuple[float, float, float]  # (value, low, high)


def step_labels(right: Tensor, own: bool) -> Tensor:
    """Whether the state after each of S steps is a good one, bool [S] (arXiv 2501.13926, section 3.2).

    right: bool [S - 1, K], the verdicts of K continuations from the state after each step but the last. own: the
    verdict of the path's finished picture. A state is good when any of its continuations ends right; after the last
    step nothing is left to draw, so the path's own verdict is the label.
    """
    return torch.cat([right.any(dim=1), torch.tensor([bool(own)])])


def accuracy_interval(p, truth, repeats: int = 1000, seed: int = 0) -> Interval:
    """Balanced accuracy at P(yes) > 0.5 over all answers, with its 95 % interval over prompts.

    p, truth: [P, M], M answers for each of P prompts. One half is chance.
    """
    said, true = np.asarray(p) > 0.5, np.asarray(truth, dtype=bool)
    table = np.stack([(said & true).sum(1), true.sum(1), (~said & ~true).sum(1), (~true).sum(1)], axis=1)

    def balanced(sums: np.ndarray) -> np.ndarray:
        accepted, right, refused, wrong = np.moveaxis(sums, -1, 0)
        return (accepted / np.maximum(right, 1) + refused / np.maximum(wrong, 1)) / 2

    return _resampled(table, balanced, repeats, seed)


def ranking_interval(p, truth, repeats: int = 1000, seed: int = 0) -> Interval:
    """Share of (right, wrong) pairs of one group in which the right one scores higher, with its interval over prompts.

    p, truth: [P, G, B], B candidates in each of G groups of P prompts; pairs are made within a group only, ties count
    half. One half is chance; NaN when no group has both kinds.
    """
    p, true = np.asarray(p, dtype=float), np.asarray(truth, dtype=bool)
    pair = true[..., :, None] & ~true[..., None, :]  # [P, G, B, B]: a right one against a wrong one
    higher, same = p[..., :, None] > p[..., None, :], p[..., :, None] == p[..., None, :]
    won = (pair * (higher + 0.5 * same)).sum((1, 2, 3))
    table = np.stack([won, pair.sum((1, 2, 3))], axis=1)

    def share(sums: np.ndarray) -> np.ndarray:
        return np.where(sums[..., 1] > 0, sums[..., 0] / np.maximum(sums[..., 1], 1), np.nan)

    return _resampled(table, share, repeats, seed)


class Spread(NamedTuple):
    """The variance of a verdict, split by where it arises; the three add up to all of it.

    prompts: between states of different prompts. branches: between branches of one state, what a choice among them can
    use. dice: between continuations of one branch, still to come whatever is chosen. branches_interval: (low, high).
    """

    prompts: float
    branches: float
    dice: float
    branches_interval: tuple[float, float]


def spread(right, repeats: int = 1000, seed: int = 0) -> Spread:
    """`Spread` of right: bool [P, B, R], verdicts of R continuations of B branches of one state of each of P prompts.

    Unbiased, from products of two verdicts v of the same branch, of two branches of one state, and of two prompts:

        branches = E[v v' same branch] - E[v v' same state];  prompts = E[v v' same state] - E[v v' two prompts]
        dice = E[v] - E[v v' same branch]

    so an estimate can fall a little below 0. Raises ValueError with fewer than two of P, B or R.
    """
    v = np.asarray(right, dtype=float)
    if v.ndim != 3 or min(v.shape) < 2:
        raise ValueError(f"verdicts of shape {v.shape}; expected [P, B, R] with at least two of each")
    prompts, b, r = v.shape
    of_branch, of_state = v.sum(2), v.sum((1, 2))
    same_branch = ((of_branch**2 - (v**2).sum(2)) / (r * (r - 1))).mean(1)  # [P]
    same_state = (of_state**2 - (of_branch**2).sum(1)) / (b * (b - 1) * r * r)  # [P]
    mean = v.mean((1, 2))
    two_prompts = (mean.sum() ** 2 - (mean**2).sum()) / (prompts * (prompts - 1))
    branches = same_branch - same_state
    _, low, high = _resampled(np.stack([branches, np.ones(prompts)], axis=1), lambda s: s[..., 0] / s[..., 1],
                              repeats, seed)  # fmt: skip
    return Spread(float(same_state.mean() - two_prompts), float(branches.mean()),
                  float((mean - same_branch).mean()), (low, high))  # fmt: skip


def _resampled(table: np.ndarray, value, repeats: int, seed: int) -> Interval:
    """(value, low, high) of value(sum of rows), table [P, C] with one row a prompt."""
    picks = np.random.default_rng(seed).integers(len(table), size=(repeats, len(table)))
    estimate = float(value(table.sum(0)))
    if np.isnan(estimate):
        return estimate, estimate, estimate
    low, high = np.nanpercentile(value(table[picks].sum(1)), LEVELS)
    return estimate, float(low), float(high)
