"""Intervals and coverage: how sure is a score that was measured on a few hundred prompts?

Pictures of one prompt share its difficulty, so the bootstrap draws *prompts*, never single pictures:
300 prompts with 20 pictures each are 300 observations, not 6,000.

A score table is a list of rows, one per prompt: (task, scores), scores being a 0 or 1 for each picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Rows = Sequence[tuple[str, Sequence[float]]]
LEVELS = (2.5, 97.5)  # percentiles of a 95 % interval


def task_means(rows: Rows) -> dict[str, tuple[float, int]]:
    """{task: (mean over its pictures, number of its prompts)}, tasks in the order they first appear."""
    return {t: (float(hits.sum() / tries.sum()), len(hits)) for t, (hits, tries) in _by_task(rows).items()}


def bootstrap_interval(rows: Rows, repeats: int = 2000, seed: int | np.random.Generator = 0):
    """(overall, low, high): the mean of the task means and its 95 % percentile interval.

    Each repeat draws, within every task, as many prompts as the task has, with replacement.
    """
    tables = _by_task(rows)
    picks = _draw_prompts(tables, repeats, seed)
    low, high = np.percentile(_resampled_overall(tables, picks), LEVELS)
    return _overall(tables), float(low), float(high)


def paired_difference(rows_a: Rows, rows_b: Rows, repeats: int = 2000, seed: int | np.random.Generator = 0):
    """(difference, low, high): overall of a minus overall of b, both on the same prompts in the same order.

    Both tables are resampled with the same draws, so the prompts' own difficulty cancels.
    Raises ValueError when the two tables do not list the same tasks in the same order.
    """
    if [task for task, _ in rows_a] != [task for task, _ in rows_b]:
        raise ValueError("the two tables differ in their prompts; a paired difference needs the same prompts")
    tables_a, tables_b = _by_task(rows_a), _by_task(rows_b)
    picks = _draw_prompts(tables_a, repeats, seed)
    differences = _resampled_overall(tables_a, picks) - _resampled_overall(tables_b, picks)
    low, high = np.percentile(differences, LEVELS)
    return _overall(tables_a) - _overall(tables_b), float(low), float(high)


def coverage(correct, n: int, k: int):
    """Chance that k pictures drawn without return from n, of which `correct` are right, hold a right one.

    1 - C(n - c, k) / C(n, k), the unbiased estimate of 1 - (1 - p)^k (Chen et al. 2021, arXiv 2107.03374).
    correct: a count or an array of counts; gives a float or an array of the same shape.
    Raises ValueError unless 1 <= k <= n and 0 <= correct <= n.
    """
    correct = np.asarray(correct)
    if not 1 <= k <= n or correct.min(initial=0) < 0 or correct.max(initial=0) > n:
        raise ValueError(
            f"coverage needs 1 <= k <= n and 0 <= correct <= n; found n {n}, k {k}, correct {correct}"
        )
    drawn = np.arange(k)
    all_wrong = np.prod(np.clip(n - correct[..., None] - drawn, 0, None) / (n - drawn), axis=-1)
    return 1.0 - all_wrong if correct.ndim else float(1.0 - all_wrong)


def wilson(k: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """(low, high) of Wilson's 95 % interval for k successes in n independent tries; (0, 1) without tries."""
    if n == 0:
        return 0.0, 1.0
    p = k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    return (max(0.0, centre - half) if k else 0.0), (min(1.0, centre + half) if k < n else 1.0)


def _by_task(rows: Rows) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{task: (sum of scores [P], number of pictures [P])} with P prompts of that task."""
    if not rows or any(len(scores) == 0 for _, scores in rows):
        raise ValueError("a score table needs at least one prompt, and at least one score for every prompt")
    tasks = list(dict.fromkeys(task for task, _ in rows))
    mine = {task: [scores for t, scores in rows if t == task] for task in tasks}
    return {
        t: (np.array([sum(s) for s in mine[t]], float), np.array([len(s) for s in mine[t]])) for t in tasks
    }


def _overall(tables) -> float:
    return float(np.mean([hits.sum() / tries.sum() for hits, tries in tables.values()]))


def _draw_prompts(tables, repeats: int, seed) -> list[np.ndarray]:
    """Per task an index array [repeats, P]."""
    rng = np.random.default_rng(seed)
    return [rng.integers(len(hits), size=(repeats, len(hits))) for hits, _ in tables.values()]


def _resampled_overall(tables, picks) -> np.ndarray:
    """Overall of every repeat, [repeats]."""
    means = [
        hits[p].sum(1) / tries[p].sum(1) for (hits, tries), p in zip(tables.values(), picks, strict=True)
    ]
    return np.mean(means, axis=0)
