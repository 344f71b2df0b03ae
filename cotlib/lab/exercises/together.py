"""Exercises of notebook 09, the whole table."""

from __future__ import annotations

import numpy as np

from cotlib.lab.exercises.registry import Exercise, Mistake
from cotlib.lab.together_figures import compute_matched, pareto_front

# --- compute_matched: a method against best-of-n for the same money


def _races() -> list[tuple]:
    """(truth [P], budget, scores [P,N], right [P,N], price): budgets that buy less than one, whole numbers, all and more than all.

    Scores have two decimals, so that the best is shared now and then.
    """
    rng = np.random.default_rng(4)
    cases = []
    for size, n, budget, price in ((40, 12, 5.3, 1.0), (60, 8, 0.36, 0.1), (30, 10, 0.2, 0.5), (50, 6, 30.0, 1.5),
                                   (40, 20, 2.0, 0.25), (60, 16, 9.8, 2.0), (40, 10, 3.99, 0.5)):  # fmt: skip
        right = (rng.random((size, n)) < rng.random((size, 1))).astype(float)
        scores = np.clip(0.3 * right + 0.8 * rng.random((size, n)), 0, 1).round(1)
        cases.append(((rng.random(size) < 0.7).astype(float), budget, scores, right, price))
    return cases


def _race(truth, budget, scores, right, price, bought=np.floor, least=1, rival=None, sign=1.0):
    """`compute_matched` with one mistake at a time. rival: (scores [P,n], right [P,n]) -> truth [P]."""
    most = scores.shape[1]
    n = int(min(max(bought(budget / price), least), most))
    seen = scores[:, :n], right[:, :n]
    theirs = rival(*seen) if rival else right[np.arange(len(right)), seen[0].argmax(1)]
    return n, sign * float(np.mean(truth - theirs))


def _equal_n(truth, budget, scores, right, price):
    """All of the rival's candidates, whatever they cost."""
    return _race(truth, np.inf, scores, right, price)


def _best_n(truth, budget, scores, right, price):
    """Of all affordable n the one with the most truth."""
    top = compute_matched(truth, budget, scores, right, price)[0]
    runs = [compute_matched(truth, n * price * (1 + 1e-9), scores, right, price) for n in range(1, top + 1)]
    return min(runs, key=lambda run: run[1])


def _last_of_equals(scores, right):
    picks = scores.shape[1] - 1 - scores[:, ::-1].argmax(1)
    return right[np.arange(len(right)), picks]


COMPUTE_MATCHED = Exercise(
    name="compute_matched",
    where="cotlib.lab.together_figures:compute_matched",
    inputs=_races,
    mistakes=(
        Mistake(
            "equal N",
            "You give the rival all its candidates. Equal N is not equal cost: it gets as many as the budget buys.",
            _equal_n,
        ),
        Mistake(
            "best affordable n",
            "Of all n that the budget allows you take the one with the most truth. That is choosing on the prompts you report: "
            "take the largest n, whatever comes of it.",
            _best_n,
        ),
        Mistake(
            "rounded up",
            "Your rival spends more than the budget: round down.",
            lambda *a: _race(*a, bought=np.ceil),
        ),
        Mistake(
            "rounded to the nearest",
            "You round to the nearest n, so the rival may spend more than the budget: round down.",
            lambda *a: _race(*a, bought=np.round),
        ),
        Mistake(
            "one too few",
            "Your rival gets one candidate less than the budget buys. Costs that fit exactly are allowed.",
            lambda *a: _race(*a, bought=lambda x: np.ceil(x) - 1),
        ),
        Mistake(
            "the judge picks",
            "Your rival is right whenever one of its n is. That is coverage, the bound: the rival has its scores to choose by.",
            lambda *a: _race(*a, rival=lambda s, r: r.max(1)),
        ),
        Mistake(
            "no choice",
            "Your rival's truth is the mean over its n candidates. It hands over one of them, that with the highest score.",
            lambda *a: _race(*a, rival=lambda s, r: r.mean(1)),
        ),
        Mistake(
            "last of equals",
            "Of equal scores you take the last. The first wins, as everywhere in this course.",
            lambda *a: _race(*a, rival=_last_of_equals),
        ),
        Mistake(
            "sign",
            "Your difference is the rival minus the method. Asked for is by how much the method is ahead.",
            lambda *a: _race(*a, sign=-1.0),
        ),
        Mistake(
            "n as in the budget alone",
            "Your n is the budget in full units of 1. Divide it by the price of a candidate.",
            lambda t, budget, s, r, price: _race(t, budget, s, r, 1.0),
        ),
    ),
)

# --- pareto_front: who is beaten by nobody


def _markets() -> list[tuple]:
    """(costs, truths): one system, all on the front, one that beats all, ties in cost, in truth and in both, random ones."""
    rng = np.random.default_rng(5)
    cases = [([3.0], [0.5]), ([1.0, 2.0, 3.0], [0.1, 0.2, 0.3]), ([2.0, 1.0, 3.0], [0.6, 0.9, 0.7]),
             ([1.0, 1.0, 2.0], [0.4, 0.6, 0.6]), ([5.0, 1.0, 5.0, 1.0], [0.9, 0.3, 0.9, 0.3]),
             ([2.0, 2.0, 1.0], [0.8, 0.7, 0.2]), ([4.0, 3.0, 2.0, 1.0], [0.9, 0.9, 0.5, 0.4])]  # fmt: skip
    for size in (6, 9, 14):
        cases.append(
            (rng.integers(1, 9, size).astype(float).tolist(), (rng.integers(2, 10, size) / 10).tolist())
        )
    return cases


def _front(costs, truths, beats):
    """Places of all whom nobody beats, cheapest first."""
    places = range(len(costs))
    kept = [
        i
        for i in places
        if not any(beats(costs[j], truths[j], costs[i], truths[i]) for j in places if j != i)
    ]
    return sorted(kept, key=lambda i: (costs[i], truths[i], i))


def _running_best(costs, truths):
    """In the order given, not by cost."""
    front, best = [], -1.0
    for i, truth in enumerate(truths):
        if truth > best:
            front.append(i)
            best = truth
    return front


PARETO_FRONT = Exercise(
    name="pareto_front",
    where="cotlib.lab.together_figures:pareto_front",
    inputs=_markets,
    mistakes=(
        Mistake(
            "equals beat each other",
            "Of two systems with the same cost and the same truth neither is left. To beat means to be better in at least one of the two.",
            lambda c, t: _front(c, t, lambda c1, t1, c2, t2: c1 <= c2 and t1 >= t2),
        ),
        Mistake(
            "strictly better in both",
            "You ask for cheaper *and* right more often. One of the two is enough, if the other is equal.",
            lambda c, t: _front(c, t, lambda c1, t1, c2, t2: c1 < c2 and t1 > t2),
        ),
        Mistake(
            "dear ones win",
            "Your front rewards cost: you compare costs the wrong way round. Less is better.",
            lambda c, t: _front(c, t, lambda c1, t1, c2, t2: c1 >= c2 and t1 >= t2 and (c1 > c2 or t1 > t2)),
        ),
        Mistake(
            "in the order of the table",
            "You go through the systems in the order given and keep each new record. A record counts only among those that cost no more: "
            "sort by cost, or compare all pairs.",
            _running_best,
        ),
        Mistake(
            "truth by cost",
            "You return the one system with the most truth for its cost. A front has one for every budget.",
            lambda c, t: [int(np.argmax(np.divide(t, c)))],
        ),
        Mistake(
            "not sorted",
            "The right systems, but not the cheapest first.",
            lambda c, t: sorted(pareto_front(c, t)),
        ),
        Mistake(
            "the beaten ones",
            "You return those that are beaten.",
            lambda c, t: [i for i in range(len(c)) if i not in pareto_front(c, t)],
        ),
        Mistake(
            "costs instead of places",
            "You return costs. Asked for are the places in the lists.",
            lambda c, t: [c[i] for i in pareto_front(c, t)],
        ),
    ),
)

EXERCISES = (COMPUTE_MATCHED, PARETO_FRONT)
