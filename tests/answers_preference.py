"""Right and wrong answers to the exercises of notebook 08, written as a learner would write them; see `test_exercises.py`."""

import math

import torch
import torch.nn.functional as F

# --- right answers


def pair_up(pictures, most):
    chosen, rejected = [], []
    for prompt in dict.fromkeys(pictures.prompts):
        rows = [i for i, text in enumerate(pictures.prompts) if text == prompt]
        right = [i for i in rows if pictures.correct[i]]
        wrong = [i for i in rows if not pictures.correct[i]]
        while right and wrong and len(set(chosen) & set(rows)) < most:
            chosen.append(right.pop(0))
            rejected.append(wrong.pop(0))
    return chosen, rejected


def dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta):
    margin = (chosen - ref_chosen) - (rejected - ref_rejected)
    losses = [
        math.log1p(math.exp(-x)) if x > 0 else -x + math.log1p(math.exp(x))
        for x in (beta * margin).double().tolist()
    ]
    return torch.tensor(sum(losses) / len(losses)), margin


def advantages(rewards):
    answer = torch.zeros_like(rewards)
    for p, row in enumerate(rewards.tolist()):
        for k, value in enumerate(row):
            others = row[:k] + row[k + 1 :]
            answer[p, k] = value - sum(others) / len(others)
    return answer


RIGHT = [pair_up, dpo_loss, advantages]


# --- wrong answers: exercise, a learner's function, a piece of the hint it must get


def every_right_with_every_wrong(pictures, most):
    chosen, rejected = [], []
    for prompt in dict.fromkeys(pictures.prompts):
        rows = [i for i, text in enumerate(pictures.prompts) if text == prompt]
        pairs = [(a, b) for a in rows for b in rows if pictures.correct[a] and not pictures.correct[b]]
        chosen += [a for a, _ in pairs[:most]]
        rejected += [b for _, b in pairs[:most]]
    return chosen, rejected


def forgets_the_prompts(pictures, most):
    right = [i for i, ok in enumerate(pictures.correct) if ok]
    wrong = [i for i, ok in enumerate(pictures.correct) if not ok]
    size = min(len(right), len(wrong))
    return right[:size], wrong[:size]


def forgets_the_limit(pictures, most):
    return pair_up(pictures, 10_000)


def margin_of(c, r, rc, rr):
    return c - r - rc + rr


def without_reference(c, r, rc, rr, b):
    return F.softplus(-b * (c - r)).mean(), c - r


def upside_down(c, r, rc, rr, b):
    m = -margin_of(c, r, rc, rr)
    return F.softplus(-b * m).mean(), m


def underflows(c, r, rc, rr, b):
    m = margin_of(c, r, rc, rr)
    return -torch.log(torch.sigmoid(b * m)).mean(), m


WRONG = [
    ("pair_up", every_right_with_every_wrong, "one pair only"),
    ("pair_up", forgets_the_prompts, "group by prompt"),
    ("pair_up", forgets_the_limit, "At most `most`"),
    ("pair_up", lambda p, m: pair_up(p, 1), "one pair of each prompt"),
    ("pair_up", lambda p, m: pair_up(p, m)[::-1], "exchanged"),
    ("pair_up", lambda p, m: tuple(s[:m] for s in pair_up(p, 99)), "not of all prompts"),
    ("dpo_loss", without_reference, "reference is missing"),
    ("dpo_loss", upside_down, "wrong sign"),
    ("dpo_loss", underflows, "minus infinity"),
    ("dpo_loss", lambda c, r, rc, rr, b: dpo_loss(c, r, rc, rr, 1.0), "Beta is missing"),
    ("dpo_loss", lambda c, r, rc, rr, b: dpo_loss(c, r, rc, rr, 1 / b), "divide by beta"),
    (
        "dpo_loss",
        lambda c, r, rc, rr, b: (b * dpo_loss(c, r, rc, rr, 1.0)[0], margin_of(c, r, rc, rr)),
        "outside of the logarithm",
    ),
    (
        "dpo_loss",
        lambda c, r, rc, rr, b: (len(c) * dpo_loss(c, r, rc, rr, b)[0], margin_of(c, r, rc, rr)),
        "Take their mean",
    ),
    (
        "dpo_loss",
        lambda c, r, rc, rr, b: (F.softplus(-b * margin_of(c, r, rc, rr).mean()), margin_of(c, r, rc, rr)),
        "Average the losses",
    ),
    ("dpo_loss", lambda c, r, rc, rr, b: (-dpo_loss(c, r, rc, rr, b)[0], margin_of(c, r, rc, rr)), "-log sigmoid"),
    ("dpo_loss", lambda c, r, rc, rr, b: (dpo_loss(c, r, rc, rr, b)[0], b * margin_of(c, r, rc, rr)), "without beta"),
    ("advantages", lambda r: r - torch.mean(r, dim=1)[:, None], "K / (K - 1)"),
    ("advantages", lambda r: r - torch.mean(r), "over all prompts"),
    ("advantages", lambda r: r - torch.mean(r, dim=0), "axis 1"),
    ("advantages", lambda r: (r - r.mean(1, True)) / (r.std(1, keepdim=True) + 1e-6), "as GRPO does"),
    ("advantages", lambda r: r.clone(), "Nothing is subtracted"),
    ("advantages", lambda r: 0 - advantages(r), "sign is wrong"),
]  # fmt: skip
