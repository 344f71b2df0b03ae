"""Exercises of notebook 04, outcome reward models."""

from __future__ import annotations

import numpy as np
import torch

from cotlib.lab.exercises.registry import Exercise, Mistake

# --- p_yes: from the logits of the answer's first word

YES, NO = 3, 7  # places of the two words in the inputs


def _logit_batches() -> list[tuple]:
    """(logits [B, V], yes, no): other words likely or not, sure and unsure answers, one row, and very large logits."""
    rng = torch.Generator().manual_seed(11)
    plain = [(2.5 * torch.randn((rows, 12), generator=rng), YES, NO) for rows in (6, 1, 9)]
    near = 0.4 * torch.randn((5, 12), generator=rng)
    near[:, [YES, NO]] += 6.0  # hardly anything is left for the other words
    return [
        *plain,
        (near, YES, NO),
        (near.flip(1), NO, YES),
        (40.0 * torch.randn((4, 12), generator=rng) + 120.0, 1, 0),
    ]


def _two(logits: torch.Tensor, yes: int, no: int) -> torch.Tensor:
    """Logits of the two words, [B, 2], yes first."""
    return torch.stack([logits[:, yes], logits[:, no]], dim=1)


def _filtered(logits, yes, no, top_p=0.8):
    p = _two(logits, yes, no).softmax(-1)
    p = p.masked_fill(p <= 1 - top_p, 0.0)
    return (p / p.sum(1, keepdim=True))[:, 0]


def _unguarded(logits, yes, no):
    a, b = logits[:, yes].exp(), logits[:, no].exp()
    return a / (a + b)


P_YES = Exercise(
    name="p_yes",
    where="cotlib.verifying.answers:p_yes",
    inputs=_logit_batches,
    mistakes=(
        Mistake(
            "over the batch",
            "Your softmax runs over the batch (dim 0): the pictures compete with each other. Each row has its own answer.",
            lambda x, y, n: x.softmax(0)[:, y],
        ),
        Mistake(
            "whole vocabulary",
            "You compare yes with the whole vocabulary. What goes to other words ('Yes', 'The', ...) lowers your number without "
            "saying anything about the picture. Compare yes with no alone.",
            lambda x, y, n: x.softmax(-1)[:, y],
        ),
        Mistake(
            "P(no)",
            "That is P(no): the margin is the logit of yes minus the logit of no.",
            lambda x, y, n: (x[:, n] - x[:, y]).sigmoid(),
        ),
        Mistake(
            "margin",
            "You return the margin itself, any real number. P(yes) is its sigmoid.",
            lambda x, y, n: x[:, y] - x[:, n],
        ),
        Mistake(
            "odds",
            "exp(margin) is the odds, P(yes)/P(no), and grows beyond 1. P(yes) = odds / (1 + odds).",
            lambda x, y, n: (x[:, y] - x[:, n]).exp(),
        ),
        Mistake(
            "yes alone",
            "You look at the logit of yes alone. A logit means something only against another: subtract that of no.",
            lambda x, y, n: x[:, y].sigmoid(),
        ),
        Mistake(
            "overflow",
            "exp of a large logit is infinite, and infinite by infinite is no number. Subtract first: sigmoid(yes - no).",
            _unguarded,
        ),
        Mistake(
            "filtered",
            "You read it after a top-p filter: sure answers all become exactly 1, and best-of-N cannot tell them apart any more.",
            _filtered,
        ),
        Mistake(
            "temperature",
            "You divide by a sampling temperature of 0.7. Nothing is sampled here: take the logits as they are.",
            lambda x, y, n: ((x[:, y] - x[:, n]) / 0.7).sigmoid(),
        ),
        Mistake(
            "verdict",
            "You return the verdict, 0 or 1. Then half of the candidates tie; keep the probability.",
            lambda x, y, n: (x[:, y] > x[:, n]).float(),
        ),
    ),
)


# --- pick_each: the best of each prompt's N


def _score_lists() -> list[tuple]:
    """(scores, n): all of the first prompt, then all of the second, ...; with and without ties, negative ones too."""
    rng = np.random.default_rng(12)
    cases = []
    for prompts, n in ((4, 5), (3, 20), (6, 2), (1, 8)):
        cases.append((rng.normal(size=prompts * n).round(3).tolist(), n))
        cases.append((rng.integers(0, 3, size=prompts * n).astype(float).tolist(), n))
    return [*cases, ([1.0, 1.0, 0.2, 0.2, 1.0, 0.2, 0.1, 0.1, 0.1], 3), ([0.3, 0.9, 0.9, 0.9, 0.1, 0.0], 3)]


def _rows(scores, n) -> list[list[float]]:
    return [scores[start : start + n] for start in range(0, len(scores), n)]


def _picks(
    rows, best=max, last=False, number=lambda row, place: place, count=lambda row, value: row.count(value)
):
    chosen, ties = [], []
    for index, row in enumerate(rows):
        value = best(row)
        place = len(row) - 1 - row[::-1].index(value) if last else row.index(value)
        chosen.append(number(index, place))
        ties.append(count(row, value))
    return chosen, ties


def _strided(scores, n) -> list[list[float]]:
    prompts = len(scores) // n
    return [scores[i::prompts] for i in range(prompts)]


PICK_EACH = Exercise(
    name="pick_each",
    where="cotlib.search.paths:pick_each",
    inputs=_score_lists,
    mistakes=(
        Mistake(
            "last of equals",
            "Of equal scores you take the last. The rule is the lowest path number: it must not matter how the search goes "
            "through the list.",
            lambda s, n: _picks(_rows(s, n), last=True),
        ),
        Mistake(
            "lowest score",
            "You take the lowest score. The verifier's P(yes) is highest for the best picture.",
            lambda s, n: _picks(_rows(s, n), best=min),
        ),
        Mistake(
            "place in the list",
            "You return the place in the whole list. Asked for is the path number within the prompt, 0 to n - 1.",
            lambda s, n: _picks(_rows(s, n), number=lambda i, place: i * n + place),
        ),
        Mistake(
            "counted from one",
            "Your path numbers start at 1. They start at 0.",
            lambda s, n: _picks(_rows(s, n), number=lambda i, place: place + 1),
        ),
        Mistake(
            "every P-th",
            "You group every P-th score. The list holds all n scores of the first prompt, then all of the second, and so on.",
            lambda s, n: _picks(_strided(s, n)),
        ),
        Mistake(
            "one best for all",
            "You compare candidates of different prompts. Each prompt chooses among its own n.",
            lambda s, n: _picks([s]),
        ),
        Mistake(
            "others only",
            "You count the other paths that share the best score. The winner counts too: 1 means no tie.",
            lambda s, n: _picks(_rows(s, n), count=lambda row, value: row.count(value) - 1),
        ),
        Mistake(
            "ties over all prompts",
            "You count equal scores in the whole list. Only those of the same prompt are a tie.",
            lambda s, n: _picks(_rows(s, n), count=lambda row, value: s.count(value)),
        ),
    ),
)


# --- ranking: does the right picture score higher than the wrong one of the same prompt?


def _answers() -> list[tuple]:
    """(P(yes), truth, prompts): prompts of different difficulty and number, shuffled, scores rounded so that some tie."""
    rng = np.random.default_rng(13)
    cases = []
    for sizes in ((8, 8, 8), (4, 12, 6, 10), (20, 3)):
        rows = []
        for prompt, size in enumerate(sizes):
            truth = rng.random(size) < (prompt + 1) / (len(sizes) + 1)
            truth[:2] = True, False
            p = (0.25 * prompt + 0.25 * truth + rng.normal(0.3, 0.2, size)).clip(0, 1).round(1)
            rows += [(float(x), bool(t), f"prompt {prompt}") for x, t in zip(p, truth, strict=True)]
        order = rng.permutation(len(rows))
        cases.append(tuple(list(column) for column in zip(*(rows[i] for i in order), strict=True)))
    return cases


def _pairs(p, truth, prompts, tie=0.5, flip=False, pooled=False, per_prompt=False):
    """(right, wrong) pairs by prompt; the share won."""
    groups: dict[str, tuple[list, list]] = {}
    for x, t, name in zip(p, truth, prompts, strict=True):
        groups.setdefault("" if pooled else name, ([], []))[0 if t else 1].append(x)
    won = [
        [(a < b if flip else a > b) + tie * (a == b) for a in good for b in bad]
        for good, bad in groups.values()
    ]
    shares = [float(np.mean(pairs)) for pairs in won if pairs]
    return float(np.mean(shares)) if per_prompt else float(np.mean([x for pairs in won for x in pairs]))


def _top_is_right(p, truth, prompts):
    best: dict[str, tuple[float, bool]] = {}
    for x, t, name in zip(p, truth, prompts, strict=True):
        if name not in best or x > best[name][0]:
            best[name] = (x, t)
    return float(np.mean([t for _, t in best.values()]))


def _neighbours(p, truth, prompts):
    """Groups only runs of the same prompt, as `itertools.groupby` does on an unsorted list."""
    runs, last = [], None
    for name in prompts:
        runs.append(len(runs) if name != last else runs[-1])
        last = name
        last = name
    return _pairs(p, truth, runs)


RANKING = Exercise(
    name="ranking",
    where="cotlib.verifying.calibration:ranking",
    inputs=_answers,
    mistakes=(
        Mistake(
            "across prompts",
            "You also compare pictures of different prompts. Best-of-N never does: an easy prompt's wrong picture may well score "
            "higher than a hard prompt's right one.",
            lambda p, t, q: _pairs(p, t, q, pooled=True),
        ),
        Mistake(
            "mean over prompts",
            "You average the share of each prompt. Here every pair counts the same: add up wins and pairs over all prompts.",
            lambda p, t, q: _pairs(p, t, q, per_prompt=True),
        ),
        Mistake(
            "ties lost",
            "A tie counts nothing in yours. It counts one half, since the choice between the two is arbitrary.",
            lambda p, t, q: _pairs(p, t, q, tie=0.0),
        ),
        Mistake(
            "ties won",
            "A tie counts as won in yours (>=). It counts one half: otherwise a verifier that always says 0.5 would be perfect.",
            lambda p, t, q: _pairs(p, t, q, tie=1.0),
        ),
        Mistake(
            "turned round",
            "You count the pairs in which the wrong picture scores higher.",
            lambda p, t, q: _pairs(p, t, q, flip=True),
        ),
        Mistake(
            "accuracy",
            "That is the accuracy at P(yes) > 0.5. Ranking compares two pictures with each other and needs no threshold.",
            lambda p, t, q: float(np.mean((np.array(p) > 0.5) == np.array(t))),
        ),
        Mistake(
            "best of N",
            "That is the share of prompts whose highest score is right: best-of-N itself. Ranking looks at all pairs.",
            _top_is_right,
        ),
        Mistake(
            "only neighbours",
            "You group only neighbouring rows of the same prompt (groupby needs sorted rows), so most pairs are missed.",
            _neighbours,
        ),
    ),
)

EXERCISES = (P_YES, PICK_EACH, RANKING)
