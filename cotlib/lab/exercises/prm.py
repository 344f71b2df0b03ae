"""Exercises of notebook 05, process reward models: the label of a step, and which branch goes on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cotlib.lab.exercises.registry import Exercise, Mistake

# --- step_labels: from the verdicts of rollouts to labels


def _verdicts() -> list[tuple]:
    """(right [S - 1, K], own): mixed states, all and none right, few and many continuations, both verdicts of a path."""
    rng = torch.Generator().manual_seed(21)
    cases = []
    for states, k, chance in ((7, 4, 0.35), (7, 4, 0.6), (5, 4, 0.2), (3, 2, 0.5), (4, 8, 0.3)):
        right = torch.rand((states, k), generator=rng) < chance
        cases += [(right, True), (right.clone(), False)]
    mixed = torch.tensor(
        [[1, 0, 0, 0], [0, 0, 0, 1], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]]
    )
    return [*cases, (mixed.bool(), False), (mixed.flip(0).bool(), True)]


def _with_own(labels: Tensor, own) -> Tensor:
    return torch.cat([labels, torch.tensor([bool(own)])])


STEP_LABELS = Exercise(
    name="step_labels",
    where="cotlib.verifying.steps:step_labels",
    inputs=_verdicts,
    mistakes=(
        Mistake(
            "share",
            "You return the share of right continuations. The label is yes or no: yes when any of them is right.",
            lambda right, own: torch.cat([right.float().mean(1), torch.tensor([float(own)])]),
        ),
        Mistake(
            "majority",
            "You ask for a majority. The paper's rule is weaker: one right continuation is enough.",
            lambda right, own: _with_own(right.float().mean(1) > 0.5, own),
        ),
        Mistake(
            "half",
            "You ask for half of the continuations. The paper's rule is weaker: one right continuation is enough.",
            lambda right, own: _with_own(right.float().mean(1) >= 0.5, own),
        ),
        Mistake(
            "all",
            "You ask that all continuations are right. One is enough: the question is whether it *can* still end well.",
            lambda right, own: _with_own(right.all(1), own),
        ),
        Mistake(
            "own verdict",
            "You give every state the verdict of the path's own picture. That is one roll of the dice; the rollouts are there "
            "to try others.",
            lambda right, own: torch.full((len(right) + 1,), bool(own)),
        ),
        Mistake(
            "own verdict joined",
            "You count the path itself as one more continuation of each state. Only the rollouts count, except after the last step.",
            lambda right, own: _with_own(right.any(1) | bool(own), own),
        ),
        Mistake(
            "last step left out",
            "The last step has no label. After it nothing is left to draw: its label is the path's own verdict.",
            lambda right, own: right.any(1),
        ),
        Mistake(
            "over the states",
            "You look for a right one down the states (dim 0). The continuations of one state lie along dim 1.",
            lambda right, own: _with_own(right.any(0), own),
        ),
        Mistake(
            "once bad always bad",
            "You carry a no on to all later states. Each state has its own rollouts; a later one may do better by luck.",
            lambda right, own: _with_own(right.any(1).long().cumprod(0).bool(), own),
        ),
        Mistake(
            "good if good later",
            "You call a state good when a later state of the path is. Only its own rollouts count.",
            lambda right, own: _with_own(right.any(1).flip(0).cummax(0).values.flip(0), own),
        ),
    ),
)


# --- keep_branches: which branch each prompt goes on from


def _histories() -> list[tuple]:
    """(history, n): scores of 1 to 8 steps, with ties; in some the earlier scores favour another branch."""
    rng = np.random.default_rng(22)
    cases = []
    for steps, prompts, n in ((1, 3, 4), (3, 4, 5), (8, 2, 20), (2, 5, 2), (4, 1, 6)):
        cases.append((rng.random((steps, prompts * n)).round(3).tolist(), n))
        cases.append(((rng.integers(0, 3, size=(steps, prompts * n)) / 2).tolist(), n))
    early = [[0.9, 0.1, 0.1, 0.9, 0.2, 0.1], [0.4, 0.5, 0.4, 0.1, 0.3, 0.3]]
    return [*cases, (early, 3), ([[0.0] * 8, [0.0] * 8], 4)]


def _best(scores, n, pick=max, last=False) -> list[int]:
    rows = [list(scores[i : i + n]) for i in range(0, len(scores), n)]
    return [len(r) - 1 - r[::-1].index(pick(r)) if last else r.index(pick(r)) for r in rows]


def _sums(history, n) -> list[int]:
    return _best([sum(column) for column in zip(*history, strict=True)], n)


def _best_ever(history, n) -> list[int]:
    return _best([max(column) for column in zip(*history, strict=True)], n)


def _whole_batch(history, n) -> list[int]:
    place = history[-1].index(max(history[-1]))
    return [place % n] * (len(history[-1]) // n)


def _places(history, n) -> list[int]:
    return [i * n + k for i, k in enumerate(_best(history[-1], n))]


def _every_other(history, n) -> list[int]:
    prompts = len(history[-1]) // n
    return [_best(history[-1][i::prompts], n)[0] for i in range(prompts)]


KEEP_BRANCHES = Exercise(
    name="keep_branches",
    where="cotlib.search.decisions:keep_branches",
    inputs=_histories,
    mistakes=(
        Mistake(
            "sum of past scores",
            "You add up the scores of all steps. Branch 3 of this step does not continue branch 3 of the last one: all branches "
            "come from the one that was kept and share its past. Only this step's scores differ between them.",
            _sums,
        ),
        Mistake(
            "best score ever",
            "You take the highest score of any step. The branches of earlier steps are gone; look at the last row only.",
            _best_ever,
        ),
        Mistake(
            "first step",
            "You look at the first row of the history. The current step is the last one.",
            lambda h, n: _best(h[0], n),
        ),
        Mistake(
            "whole batch",
            "You take one best of the whole batch. Each prompt keeps one branch of its own n.",
            _whole_batch,
        ),
        Mistake(
            "place in the list",
            "You return places in the whole list. Asked for are branch numbers within each prompt, 0 to n - 1.",
            _places,
        ),
        Mistake(
            "smallest",
            "You keep the branch with the smallest P(yes), the one the verifier likes least.",
            lambda h, n: _best(h[-1], n, pick=min),
        ),
        Mistake(
            "last of equals",
            "Of equal scores you keep the last. The rule is the lowest number, so that a step nobody judged keeps branch 0.",
            lambda h, n: _best(h[-1], n, last=True),
        ),
        Mistake(
            "every P-th",
            "You group every P-th score. The list holds all branches of the first prompt, then all of the second, and so on.",
            _every_other,
        ),
    ),
)

EXERCISES = (STEP_LABELS, KEEP_BRANCHES)
