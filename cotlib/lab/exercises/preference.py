"""Exercises of notebook 08, preference tuning: which pictures make a pair, the DPO loss, and the advantage of a reward."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cotlib.align.dpo import dpo_loss
from cotlib.align.guided import advantages
from cotlib.align.pairs import Pairs, Pictures
from cotlib.lab.exercises.registry import Exercise, Mistake, call
from cotlib.world.prompts import prompt_pool

# --- pair_up: right and wrong pictures of the same prompt


def _judged() -> list[tuple]:
    """(pictures, most): prompts with more right ones, more wrong ones, as many of both, only one kind; also out of order.
    The codes of a picture are its row number, so that pairs can be told."""
    texts = prompt_pool("train", "position")
    cases = []
    for number, (most, verdicts) in enumerate(
        (
            (4, ("110", "100", "111")),
            (2, ("111000", "000111", "101010")),
            (1, ("0110", "1111", "0000", "1000")),
            (16, ("11111000", "1110", "01")),
            (3, ("10101010", "00000001", "11111110")),
        )
    ):
        rows = [(texts[k], letter == "1") for k, word in enumerate(verdicts) for letter in word]
        if number % 2:
            rows = [rows[i] for i in np.random.default_rng(number).permutation(len(rows))]
        codes = torch.arange(len(rows))[:, None]
        correct = torch.tensor([right for _, right in rows])
        cases.append((Pictures([t for t, _ in rows], codes[:, 0], codes, correct), most))
    return cases


def _rows_of_pairs(fn: Callable, *args) -> tuple[list[int], list[int]]:
    """The rows of the chosen and of the rejected pictures; of the library's `Pairs` they are the codes."""
    value = call(fn, *args)
    if isinstance(value, Pairs):
        return value.chosen[:, 0].tolist(), value.rejected[:, 0].tolist()
    chosen, rejected = value
    return [int(row) for row in chosen], [int(row) for row in rejected]


def _sides(pictures: Pictures, one_prompt: bool = False) -> list[tuple[list[int], list[int]]]:
    """(rows of right pictures, rows of wrong ones) of each prompt, or of all together."""
    sides: dict[str, tuple[list[int], list[int]]] = {}
    for row, (prompt, right) in enumerate(zip(pictures.prompts, pictures.correct.tolist(), strict=True)):
        sides.setdefault("" if one_prompt else prompt, ([], []))[0 if right else 1].append(row)
    return list(sides.values())


def _pairs_by(pick: Callable, one_prompt: bool = False) -> Callable:
    """A pairing that takes pick(right rows, wrong rows, most), a list of pairs, of each prompt."""

    def pair(pictures: Pictures, most: int) -> tuple[list[int], list[int]]:
        found = [p for good, bad in _sides(pictures, one_prompt) for p in pick(good, bad, most)]
        return [a for a, _ in found], [b for _, b in found]

    return pair


def _in_turn(good, bad, most) -> list[tuple[int, int]]:
    return list(zip(good, bad, strict=False))[:most]


def _again_and_again(good, bad, most) -> list[tuple[int, int]]:
    """The shorter side starts again when it is used up."""
    if not good or not bad:
        return []
    size = min(max(len(good), len(bad)), most)
    return [(good[i % len(good)], bad[i % len(bad)]) for i in range(size)]


def _most_in_all(pictures: Pictures, most: int) -> tuple[list[int], list[int]]:
    chosen, rejected = _pairs_by(lambda g, b, m: _in_turn(g, b, None))(pictures, most)
    return chosen[:most], rejected[:most]


PAIR_UP = Exercise(
    name="pair_up",
    where="cotlib.align.pairs:pair_up",
    inputs=_judged,
    observe=_rows_of_pairs,
    mistakes=(
        Mistake(
            "across prompts",
            "You pair pictures of different prompts. Then the prompt alone tells which is better, and nothing is learnt "
            "about drawing it right: group by prompt first.",
            _pairs_by(lambda g, b, m: _in_turn(g, b, None), one_prompt=True),
        ),
        Mistake(
            "exchanged",
            "Right pictures and wrong ones are exchanged: the first list holds the chosen, that is, the right ones.",
            lambda p, m: _pairs_by(_in_turn)(p, m)[::-1],
        ),
        Mistake(
            "all combinations",
            "You pair every right picture with every wrong one. A picture may stand in one pair only, or the few pictures of the rarer "
            "kind would be learnt many times over.",
            _pairs_by(lambda g, b, m: list(product(g, b))[:m]),
        ),
        Mistake(
            "shorter side again",
            "When one kind is used up you start it again. A picture may stand in one pair only; the rest of the other kind is left over.",
            _pairs_by(_again_and_again),
        ),
        Mistake(
            "no limit",
            "You take all pairs of a prompt. At most `most` of them: else the prompts that are right half the time outweigh the rest.",
            _pairs_by(lambda g, b, m: _in_turn(g, b, None)),
        ),
        Mistake(
            "limit of all",
            "`most` limits the pairs of each prompt, not of all prompts together.",
            _most_in_all,
        ),
        Mistake(
            "one a prompt",
            "You take one pair of each prompt. Up to `most` may be taken.",
            _pairs_by(lambda g, b, m: _in_turn(g, b, 1)),
        ),
        Mistake(
            "last ones first",
            "You pair from the end of the lists. Any order would do for training; here, take the pictures in the order in which they come.",
            _pairs_by(lambda g, b, m: _in_turn(g[::-1], b[::-1], m)),
        ),
    ),
)


# --- dpo_loss


def _log_probabilities() -> list[tuple]:
    """(chosen, rejected, ref_chosen, ref_rejected, beta): small and large margins, of both signs."""
    rng = torch.Generator().manual_seed(10)
    cases = []
    for size, beta, wide in ((1, 0.1, 5.0), (4, 0.1, 20.0), (6, 0.5, 3.0), (5, 1.0, 2.0), (3, 2.0, 400.0)):
        reference = -60 - 10 * torch.rand((2, size), generator=rng)
        moved = reference + wide * torch.randn((2, size), generator=rng)
        cases.append((moved[0], moved[1], reference[0], reference[1], beta))
    return cases


def _loss(of_margin: Callable, margin: Callable | None = None) -> Callable:
    """A loss made of another function of the margins and beta, or of another margin."""

    def loss(chosen, rejected, ref_chosen, ref_rejected, beta) -> tuple[Tensor, Tensor]:
        m = (chosen - rejected) - (ref_chosen - ref_rejected)
        if margin is not None:
            m = margin(chosen, rejected, ref_chosen, ref_rejected)
        return of_margin(m, beta), m

    return loss


def _right(m, beta) -> Tensor:
    return -F.logsigmoid(beta * m).mean()


DPO_LOSS = Exercise(
    name="dpo_loss",
    where="cotlib.align.dpo:dpo_loss",
    inputs=_log_probabilities,
    mistakes=(
        Mistake(
            "sign of the margin",
            "Your margin has the wrong sign: it grows when the rejected picture gains. Chosen minus rejected, policy minus reference.",
            lambda c, r, rc, rr, b: dpo_loss(r, c, rr, rc, b),
        ),
        Mistake(
            "no reference",
            "The reference is missing. A picture that was likely from the start is no merit of the tuning: subtract the reference's "
            "difference.",
            _loss(_right, lambda c, r, rc, rr: c - r),
        ),
        Mistake(
            "reference added",
            "You add the reference's difference. It has to be subtracted: what counts is the change.",
            _loss(_right, lambda c, r, rc, rr: (c - r) + (rc - rr)),
        ),
        Mistake(
            "minus forgotten",
            "Your loss is negative, and falls when the margin falls. A loss has to fall when the margin grows: -log sigmoid.",
            _loss(lambda m, b: F.logsigmoid(b * m).mean()),
        ),
        Mistake(
            "beta outside",
            "Beta stands outside of the logarithm. It scales the margin inside the sigmoid; outside it would only scale the learning rate.",
            _loss(lambda m, b: -b * F.logsigmoid(m).mean()),
        ),
        Mistake("no beta", "Beta is missing. It scales the margin.", _loss(lambda m, b: _right(m, 1.0))),
        Mistake(
            "divided by beta",
            "You divide by beta. A small beta must make the loss slow to be content, so it multiplies the margin.",
            _loss(lambda m, b: _right(m, 1 / b)),
        ),
        Mistake(
            "no logarithm",
            "You take minus the sigmoid, without the logarithm. Then a pair that is badly wrong has next to no gradient.",
            _loss(lambda m, b: -torch.sigmoid(b * m).mean()),
        ),
        Mistake(
            "mean inside",
            "You average the margins before the sigmoid. Then one pair with a huge margin pays for all others. Average the losses of the pairs.",
            _loss(lambda m, b: -F.logsigmoid(b * m.mean())),
        ),
        Mistake(
            "sum",
            "You add the pairs up. Take their mean, so that the step does not depend on the batch.",
            _loss(lambda m, b: -F.logsigmoid(b * m).sum()),
        ),
        Mistake(
            "infinite",
            "The formula is right, but log(sigmoid(x)) is minus infinity for x below about -100: sigmoid(x) has become 0. "
            "torch.nn.functional.logsigmoid does both at once.",
            _loss(lambda m, b: -torch.sigmoid(b * m).log().mean()),
        ),
        Mistake(
            "beta in the margin",
            "The loss is right. Return the margin itself, in nats, without beta.",
            lambda c, r, rc, rr, b: (dpo_loss(c, r, rc, rr, b)[0], b * dpo_loss(c, r, rc, rr, b)[1]),
        ),
    ),
)


# --- advantages


def _rewards() -> list[tuple]:
    """(rewards [P, K],): groups of two to eight pictures, easy and hard prompts, one with no differences."""
    rng = torch.Generator().manual_seed(11)
    cases = [
        (torch.rand((p, k), generator=rng) * 0.5 + torch.linspace(0, 0.5, p)[:, None],)
        for p, k in ((1, 2), (2, 4), (3, 3), (5, 8))
    ]
    return [*cases, (torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.6, 0.6, 0.6, 0.6]]),)]


ADVANTAGES = Exercise(
    name="advantages",
    where="cotlib.align.guided:advantages",
    inputs=_rewards,
    mistakes=(
        Mistake(
            "own reward in the mean",
            "You subtract the mean of the whole group, the picture itself included. Its own reward then pulls its own baseline up: "
            "subtract the mean of the others, or multiply by K / (K - 1).",
            lambda r: r - r.mean(1, keepdim=True),
        ),
        Mistake(
            "mean of all prompts",
            "You compare with the pictures of all prompts. Then every picture of an easy prompt looks good. Compare within a prompt.",
            lambda r: r - (r.sum() - r) / (r.numel() - 1),
        ),
        Mistake(
            "plain mean of all prompts",
            "You compare with the mean over all prompts. Then every picture of an easy prompt looks good. Compare within a prompt.",
            lambda r: r - r.mean(),
        ),
        Mistake(
            "wrong axis",
            "You average over the prompts. A row is a prompt, and its K pictures are compared with each other: axis 1.",
            lambda r: r - r.mean(0, keepdim=True),
        ),
        Mistake(
            "divided by the deviation",
            "You divide by the standard deviation, as GRPO does. Then a group whose pictures hardly differ counts as much as one that is half "
            "right, half wrong. Here the differences stay as they are.",
            lambda r: (r - r.mean(1, keepdim=True)) / (r.std(1, keepdim=True) + 1e-6),
        ),
        Mistake(
            "no baseline",
            "Nothing is subtracted. On average that is right, too, but every drawn picture would be pushed up, the bad ones only a little less: "
            "very noisy. Subtract the mean of the others.",
            lambda r: r + 0,
        ),
        Mistake(
            "sign", "The sign is wrong: a picture above the others gets a positive number.", lambda r: -advantages(r)
        ),
        Mistake(
            "best of the others",
            "You subtract the best of the others. Subtract their mean, or the numbers do not add up to zero.",
            lambda r: r
            - torch.stack([torch.cat([r[:, :k], r[:, k + 1 :]], 1).amax(1) for k in range(r.shape[1])], 1),
        ),
    ),
)  # fmt: skip

EXERCISES = (PAIR_UP, DPO_LOSS, ADVANTAGES)
