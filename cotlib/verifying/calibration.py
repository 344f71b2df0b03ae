"""How far a verifier's answers can be trusted: accuracy, calibration, and whether it ranks the pictures of a prompt.

All from the same three columns: P(yes), the truth, and the group (task or prompt) of each answer.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby

import numpy as np

BINS = 10


def balanced_accuracy(probabilities: Sequence[float], truth: Sequence[bool]) -> float:
    """Mean of the shares of right pictures accepted and wrong pictures refused at P(yes) > 0.5; 0.5 is chance.

    When one kind is absent, the share of the other; NaN without any answer.
    """
    said, true = np.asarray(probabilities) > 0.5, np.asarray(truth, dtype=bool)
    shares = [np.mean(said[true == kind] == kind) for kind in (True, False) if (true == kind).any()]
    return float(np.mean(shares)) if shares else float("nan")


def false_positive_rate(probabilities: Sequence[float], truth: Sequence[bool]) -> float:
    """Share of wrong pictures that are accepted; NaN when none is wrong."""
    wrong = np.asarray(probabilities)[~np.asarray(truth, dtype=bool)]
    return float(np.mean(wrong > 0.5)) if len(wrong) else float("nan")


def reliability(probabilities: Sequence[float], truth: Sequence[bool]) -> list[tuple[float, float, int]]:
    """(mean P(yes), share that is right, answers) of each of ten equal bins of P(yes) that holds any."""
    p, true = np.asarray(probabilities, dtype=float), np.asarray(truth, dtype=float)
    places = np.minimum((p * BINS).astype(int), BINS - 1)
    return [(float(p[places == b].mean()), float(true[places == b].mean()), int((places == b).sum()))
            for b in range(BINS) if (places == b).any()]  # fmt: skip


def calibration_error(probabilities: Sequence[float], truth: Sequence[bool]) -> float:
    """Expected calibration error: mean over answers of |mean P(yes) - share right| of their bin (Guo et al. 2017)."""
    bins = reliability(probabilities, truth)
    total = sum(count for _, _, count in bins)
    return sum(count * abs(mean - share) for mean, share, count in bins) / total if total else float("nan")


def ranking(probabilities: Sequence[float], truth: Sequence[bool], prompts: Sequence[str]) -> float:
    """Share of (right, wrong) pairs of the same prompt in which the right picture scores higher; ties count half.

    What best-of-N needs: a verifier may be badly calibrated and rank well. NaN without any pair.
    """
    rows = sorted(zip(prompts, truth, probabilities, strict=True), key=lambda row: row[0])
    won, pairs = 0.0, 0
    for _, group in groupby(rows, key=lambda row: row[0]):
        group = list(group)
        good = np.array([p for _, right, p in group if right])
        bad = np.array([p for _, right, p in group if not right])
        won += float((good[:, None] > bad).sum() + 0.5 * (good[:, None] == bad).sum())
        pairs += len(good) * len(bad)
    return won / pairs if pairs else float("nan")


def report(
    probabilities: Sequence[float], truth: Sequence[bool], tasks: Sequence[str], prompts: Sequence[str]
) -> dict:
    """All numbers of one question, rounded for a card; balanced accuracy also per task."""
    groups = defaultdict(list)
    for task, p, right in zip(tasks, probabilities, truth, strict=True):
        groups[task].append((p, right))
    return {
        "answers": len(tasks), "right": _rounded(float(np.mean(truth))),
        "balanced_accuracy": _rounded(balanced_accuracy(probabilities, truth)),
        "false_positive_rate": _rounded(false_positive_rate(probabilities, truth)),
        "calibration_error": _rounded(calibration_error(probabilities, truth)),
        "ranking": _rounded(ranking(probabilities, truth, prompts)),
        "by_task": {task: _rounded(balanced_accuracy(*zip(*rows, strict=True))) for task, rows in groups.items()},
    }  # fmt: skip


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)
