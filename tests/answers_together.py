"""Right and wrong answers to the exercises of notebook 09, written as a learner would write them; see `test_exercises.py`."""

import numpy as np


def compute_matched(truth, budget, scores, right, price):
    n = 1
    while n < len(scores[0]) and (n + 1) * price <= budget:
        n += 1
    gaps = []
    for mine, row, verdicts in zip(truth, scores, right, strict=True):
        best = max(range(n), key=lambda k: (row[k], -k))
        gaps.append(mine - verdicts[best])
    return n, sum(gaps) / len(gaps)


def pareto_front(costs, truths):
    front, best = [], None
    for cost, negative, place in sorted(
        (c, -t, i) for i, (c, t) in enumerate(zip(costs, truths, strict=True))
    ):
        if best is None or -negative > best[1] or (cost, -negative) == best:
            front.append(place)
            best = (cost, -negative)
    return front


RIGHT = [compute_matched, pareto_front]


def all_candidates(truth, budget, scores, right, price):
    return scores.shape[1], compute_matched(truth, 1e9, scores, right, price)[1]


def with_the_judge(truth, budget, scores, right, price):
    n = compute_matched(truth, budget, scores, right, price)[0]
    return n, float(np.mean(truth - right[:, :n].any(1)))


def average_candidate(truth, budget, scores, right, price):
    n = compute_matched(truth, budget, scores, right, price)[0]
    return n, float(np.mean(truth) - right[:, :n].mean())


def turned_round(*race):
    n, gap = compute_matched(*race)
    return n, -gap


def rounded(truth, budget, scores, right, price):
    return compute_matched(truth, max(1, round(budget / price)) * price, scores, right, price)


def luckiest(truth, budget, scores, right, price):
    most = compute_matched(truth, budget, scores, right, price)[0]
    return min((compute_matched(truth, (n + 0.5) * price, scores, right, price) for n in range(1, most + 1)), key=lambda r: r[1])  # fmt: skip


def both_strict(costs, truths):
    rows = list(zip(costs, truths, range(len(costs)), strict=True))
    left = [row for row in rows if not any(c < row[0] and t > row[1] for c, t, _ in rows)]
    return [place for *_, place in sorted(left)]


def no_equals(costs, truths):
    rows = list(zip(costs, truths, range(len(costs)), strict=True))
    left = [a for a in rows if not any(b[0] <= a[0] and b[1] >= a[1] for b in rows if b[2] != a[2])]
    return [place for *_, place in sorted(left)]


def most_for_the_money(costs, truths):
    return [max(range(len(costs)), key=lambda i: (truths[i] / costs[i], -i))]


def records(costs, truths):
    return [i for i in range(len(truths)) if truths[i] > max([-1, *truths[:i]])]


WRONG = [
    ("compute_matched", all_candidates, "Equal N is not equal cost"),
    ("compute_matched", with_the_judge, "coverage"),
    ("compute_matched", average_candidate, "mean over its n"),
    ("compute_matched", turned_round, "the method is ahead"),
    ("compute_matched", rounded, "nearest"),
    ("compute_matched", luckiest, "choosing on the prompts"),
    ("pareto_front", both_strict, "One of the two is enough"),
    ("pareto_front", no_equals, "better in at least one"),
    ("pareto_front", most_for_the_money, "every budget"),
    ("pareto_front", records, "sort by cost"),
    ("pareto_front", lambda c, t: sorted(pareto_front(c, t)), "cheapest first"),
]
