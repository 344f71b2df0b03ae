"""Exercises of notebook 03, measuring."""

from __future__ import annotations

import math
from functools import partial
from inspect import signature

import numpy as np

from cotlib.lab.exercises.registry import Exercise, Mistake, call

# --- relative_position: GenEval's rule


def _box_pairs() -> list[tuple]:
    """Pairs of boxes (x0, y0, x1, y1): random, plus near ones, aligned ones and one of each plain direction."""
    rng = np.random.default_rng(5)
    pairs = []
    for _ in range(200):
        (xa, ya, xb, yb), sizes = rng.uniform(0, 40, 4), rng.uniform(6, 24, 4)
        a = (xa, ya, xa + sizes[0], ya + sizes[1])
        b = (xb, yb, xb + sizes[2], yb + sizes[3])
        pairs.append((tuple(map(float, a)), tuple(map(float, b))))
    here = (20.0, 20.0, 40.0, 40.0)
    for dx, dy in ((30, 0), (-30, 0), (0, 30), (0, -30), (22, 20), (-20, 22), (3, 0), (0, 0), (0, -3)):
        pairs.append(((20.0 + dx, 20.0 + dy, 40.0 + dx, 40.0 + dy), here))
    return pairs


def _relations(
    a, b, offset=0.1, cosine=0.5, after=False, flip_x=1, flip_y=1, half=False, rest=True
) -> set[str]:
    d = [(a[i] + a[i + 2] - b[i] - b[i + 2]) / 2 for i in (0, 1)]
    sizes = [a[i + 2] - a[i] + b[i + 2] - b[i] for i in (0, 1)]
    sizes = [size / 2 for size in sizes] if half else sizes
    cut = [math.copysign(max(abs(x) - offset * s, 0.0), x) for x, s in zip(d, sizes, strict=True)]
    if rest and max(map(abs, cut)) < 1e-3:
        return set()
    length = math.hypot(*(cut if after else d)) or 1.0
    dx, dy = flip_x * cut[0] / length, flip_y * cut[1] / length
    names = {"left of": -dx, "right of": dx, "above": -dy, "below": dy}
    return {name for name, along in names.items() if along > cosine}


def _stronger_axis(a, b) -> set[str]:
    d = [(a[i] + a[i + 2] - b[i] - b[i + 2]) / 2 for i in (0, 1)]
    relations = _relations(a, b)
    keep = {"left of", "right of"} if abs(d[0]) >= abs(d[1]) else {"above", "below"}
    return relations & keep


def _by_corners(a, b) -> set[str]:
    shifted = (a[0], a[1], a[0] + b[2] - b[0], a[1] + b[3] - b[1])  # compares top-left corners, not centres
    return _relations(shifted, b)


RELATIVE_POSITION = Exercise(
    name="relative_position",
    where="cotlib.judging.rules:relative_position",
    inputs=_box_pairs,
    mistakes=(
        Mistake(
            "y upwards",
            "Above and below are exchanged: in pictures y grows downwards, so a smaller y is above.",
            lambda a, b: _relations(a, b, flip_y=-1),
        ),
        Mistake(
            "left and right",
            "Left and right are exchanged: a is left of b when its centre has the smaller x.",
            lambda a, b: _relations(a, b, flip_x=-1),
        ),
        Mistake(
            "of b",
            "You name the relation of b to a. Asked for is a, seen from b: centre_a - centre_b.",
            lambda a, b: _relations(b, a),
        ),
        Mistake(
            "no offset",
            "You forgot to take a tenth of both sizes off the distance, so almost aligned things get a relation too many.",
            lambda a, b: _relations(a, b, offset=0.0),
        ),
        Mistake(
            "offset of half the size",
            "The offset is a tenth of the sum of both sizes; you take a tenth of their mean.",
            lambda a, b: _relations(a, b, half=True),
        ),
        Mistake(
            "length after",
            "You divide by the length of the shortened offset. GenEval divides by the length before shortening.",
            lambda a, b: _relations(a, b, after=True),
        ),
        Mistake(
            "any sign",
            "You accept any shift. A relation holds only when the shortened shift is beyond half of the distance.",
            lambda a, b: _relations(a, b, cosine=0.0),
        ),
        Mistake(
            "one axis only",
            "You allow one relation at most. Diagonal neighbours may be in two at once, left of and above for example.",
            _stronger_axis,
        ),
        Mistake(
            "corners",
            "You compare corners. The shift is between the centres, (x0 + x1)/2 and (y0 + y1)/2.",
            _by_corners,
        ),
    ),
)


# --- bootstrap_interval: resample prompts within each task


def _score_tables() -> list[tuple]:
    """Tables [(task, [0 or 1, ...])] with uneven tasks and prompts that differ in difficulty."""
    rng = np.random.default_rng(6)
    tables = []
    for shift in (0.0, 0.15):
        rows = []
        for task, prompts, centre, pictures in (
            ("single_object", 60, 0.8, 20),
            ("position", 12, 0.2, 20),
            ("counting", 24, 0.45, 20),
        ):
            for _ in range(prompts):
                p = float(np.clip(rng.normal(centre + shift, 0.35), 0, 1))
                rows.append((task, [int(x) for x in rng.random(pictures) < p]))
        tables.append((rows,))
    return tables


def _with_many_repeats(fn, rows):
    """Call with 5000 repeats when the function takes that argument: less noise in both intervals."""
    return call(partial(fn, repeats=5000) if "repeats" in signature(fn).parameters else fn, rows)


def _bootstrap(
    rows, levels=(2.5, 97.5), by_task=True, pictures=False, pooled=False, replace=True, repeats=2000
):
    rng = np.random.default_rng(7)
    groups: dict[str, list] = {}
    for task, scores in rows:
        part = groups.setdefault(task if by_task else "", [])
        part.extend([float(s)] for s in scores) if pictures else part.append(list(map(float, scores)))
    means = [np.array([np.mean(scores) for scores in group]) for group in groups.values()]
    sizes = np.array([len(m) for m in means])
    weights = sizes / sizes.sum() if pooled else np.full(len(means), 1 / len(means))
    draws = np.zeros(repeats)
    for mean, weight in zip(means, weights, strict=True):
        picks = (
            rng.integers(len(mean), size=(repeats, len(mean)))
            if replace
            else np.tile(np.arange(len(mean)), (repeats, 1))
        )
        draws += weight * mean[picks].mean(1)
    low, high = np.percentile(draws, levels)
    return float(sum(w * m.mean() for w, m in zip(weights, means, strict=True))), float(low), float(high)


def _standard_error(rows):
    value, low, high = _bootstrap(rows)
    half = (high - low) / 2 / 1.96
    return value, value - half, value + half


BOOTSTRAP_INTERVAL = Exercise(
    name="bootstrap_interval",
    where="cotlib.judging.stats:bootstrap_interval",
    inputs=_score_tables,
    observe=_with_many_repeats,
    tolerance=0.008,  # a quarter of the standard error: 95 % and 90 % stay apart
    mistakes=(
        Mistake(
            "pictures resampled",
            "Your interval is too narrow: you resample single pictures. The pictures of one prompt share its difficulty, "
            "so draw whole prompts.",
            lambda rows: _bootstrap(rows, pictures=True),
        ),
        Mistake(
            "pooled mean",
            "The estimate is the mean of all prompts. The overall score is the mean of the task means, "
            "however many prompts each task has.",
            lambda rows: _bootstrap(rows, pooled=True),
        ),
        Mistake(
            "tasks mixed",
            "You throw the tasks together before you resample. Resample within each task, then average the task means.",
            lambda rows: _bootstrap(rows, by_task=False),
        ),
        Mistake(
            "ends exchanged",
            "The two ends are exchanged: return (overall, low, high).",
            lambda rows: tuple(_bootstrap(rows)[i] for i in (0, 2, 1)),
        ),
        Mistake(
            "90 percent",
            "Yours is a 90 % interval (percentiles 5 and 95). For 95 % leave 2.5 % on each side.",
            lambda rows: _bootstrap(rows, levels=(5.0, 95.0)),
        ),
        Mistake(
            "standard error",
            "You give plus and minus one standard error, a 68 % interval. For 95 % take the percentiles 2.5 and 97.5.",
            _standard_error,
        ),
        Mistake(
            "without replacement",
            "Your interval has no width: without replacement each resample is the same set. Draw with replacement.",
            lambda rows: _bootstrap(rows, replace=False),
        ),
    ),
)


# --- coverage: unbiased pass@k


def _count_triples() -> list[tuple]:
    return [(c, n, k) for n in (5, 20) for k in (1, 2, 4, n) for c in (0, 1, 2, n // 2, n - 1, n)]


COVERAGE = Exercise(
    name="coverage",
    where="cotlib.judging.stats:coverage",
    inputs=_count_triples,
    mistakes=(
        Mistake(
            "all wrong",
            "That is the chance that all k are wrong. Coverage is one minus it.",
            lambda c, n, k: math.comb(n - c, k) / math.comb(n, k),
        ),
        Mistake(
            "with replacement",
            "1 - (1 - c/n)^k draws with replacement and is too low. The k pictures are different ones: use C(n, k).",
            lambda c, n, k: 1 - (1 - c / n) ** k,
        ),
        Mistake(
            "all right",
            "C(c, k) / C(n, k) is the chance that all k are right. Asked is the chance of at least one.",
            lambda c, n, k: math.comb(c, k) / math.comb(n, k),
        ),
        Mistake(
            "not all right",
            "You take one minus the chance that all k are right. Take one minus the chance that all k are wrong: C(n - c, k).",
            lambda c, n, k: 1 - math.comb(c, k) / math.comb(n, k),
        ),
        Mistake(
            "k times the rate",
            "k c/n counts the pictures with two right ones twice. Go by the opposite: no right one among k.",
            lambda c, n, k: min(1.0, k * c / n),
        ),
        Mistake(
            "any in n",
            "You look at all n pictures. With only k < n of them the chance is smaller unless all are right.",
            lambda c, n, k: float(c > 0),
        ),
        Mistake(
            "pass rate",
            "c/n is the chance of one picture. With k pictures the chance of at least one right one grows.",
            lambda c, n, k: c / n,
        ),
    ),
)

EXERCISES = (RELATIVE_POSITION, BOOTSTRAP_INTERVAL, COVERAGE)
