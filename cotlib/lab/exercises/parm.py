"""Exercises of notebook 06, PARM."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cotlib.lab.exercises.registry import Exercise, Mistake

# --- three_tasks: clarity until the first yes, potential once, final among those that are left


def _answers() -> list[tuple]:
    """(clarity [n,S], potential [n,S], final [n], clear, promising): random, and each way in which a search can end.

    Two decimals, so that answers sit exactly on a threshold now and then.
    """
    rng = np.random.default_rng(8)
    cases = []
    for n, steps in ((4, 3), (6, 8), (9, 5), (3, 8), (5, 1), (8, 6)):
        for clear, promising in ((0.5, 0.5), (0.7, 0.3), (0.3, 0.8), (0.6, 0.4)):
            clarity = np.sort(rng.random((n, steps)), 1) * rng.uniform(0.5, 1.2)
            clarity = np.clip(clarity + rng.normal(0, 0.15, clarity.shape), 0, 1).round(2)
            cases.append((clarity, rng.random((n, steps)).round(2), rng.random(n).round(2), clear, promising))
    clarity, potential, final = (
        rng.random((5, 4)).round(2),
        rng.random((5, 4)).round(2),
        rng.random(5).round(2),
    )
    final[0] = final.min() / 2
    cases.append((clarity, potential, final, 0.2, 1.1))  # nothing is promising
    cases.append((clarity, potential, final, 1.1, 0.5))  # nothing is ever clear
    clarity = np.array([[0.2, 0.5, 0.9], [0.1, 0.6, 0.7], [0.5, 0.5, 0.5]])
    cases.append(
        (
            clarity,
            np.array([[0.9, 0.5, 0.1], [0.9, 0.5, 0.9], [0.4, 0.9, 0.9]]),
            np.array([0.4, 0.4, 0.9]),
            0.5,
            0.5,
        )
    )
    return cases


def _search(clarity, potential, final, clear, promising, first=None, stop=None, late=0, everyone=False, unclear=False,
            fallback="potential", number=True, strict=False):  # fmt: skip
    """The three tasks written out path by path, with one mistake at a time.

    first: (clarity of a path, clear) -> its step of POTENTIAL or None; stop: (path's clear steps, potential,
    promising) -> step it stops at or None.
    """
    n, steps = clarity.shape
    at = []
    for k in range(n):
        seen = [s for s in range(steps) if (clarity[k, s] > clear if strict else clarity[k, s] >= clear)]
        at.append(first(clarity[k], seen) if first else seen[0] if seen else None)
    stopped = np.full(n, -1)
    for k in range(n):
        if stop:
            seen = [s for s in range(steps) if clarity[k, s] >= clear]
            stopped[k] = stop(seen, potential[k], promising, steps)
        elif at[k] is not None and (
            potential[k, at[k]] <= promising if strict else potential[k, at[k]] < promising
        ):
            stopped[k] = at[k] + late
    left = [k for k in range(n) if stopped[k] < 0 and (at[k] is not None or unclear)]
    assessed = [k for k in range(n) if at[k] is not None]
    pool = list(range(n)) if everyone else left
    if pool and (left or everyone):
        best = int(np.argmax(final[pool]))
        return (pool[best] if number else best), stopped
    if not assessed or fallback == "final":
        return int(np.argmax(final)), stopped
    if fallback == "first":
        return 0, stopped
    return assessed[int(np.argmax([potential[k, at[k]] for k in assessed]))], stopped


def _stop_at_any_clear(seen, potential, promising, steps):
    return next((s for s in seen if potential[s] < promising), -1)


def _stop_before_clear(seen, potential, promising, steps):
    """Asked from the start on until the picture is clear."""
    until = seen[0] if seen else steps - 1
    return next((s for s in range(until + 1) if potential[s] < promising), -1)


def _stop_at_unclear(clarity, potential, final, clear, promising):
    """What is not clear at the last step counts as refused."""
    chosen, stopped = _search(clarity, potential, final, clear, promising)
    never = (clarity < clear).all(1)
    return chosen, np.where(never, clarity.shape[1] - 1, stopped)


THREE_TASKS = Exercise(
    name="three_tasks",
    where="cotlib.search.replay:three_tasks",
    inputs=_answers,
    mistakes=(
        Mistake(
            "potential at every clear step",
            "You ask POTENTIAL again at later clear steps, so a path that was promising once may still be stopped. "
            "It is asked once, at the first clear step.",
            lambda c, p, f, a, b: _search(c, p, f, a, b, stop=_stop_at_any_clear),
        ),
        Mistake(
            "potential before clear",
            "You stop paths whose picture is not clear yet. POTENTIAL waits for the first clear step.",
            lambda c, p, f, a, b: _search(c, p, f, a, b, stop=_stop_before_clear),
        ),
        Mistake(
            "off by one step",
            "Your stops come one step late. Steps count from 0, and a path stops at the very step at which POTENTIAL was asked.",
            lambda c, p, f, a, b: _search(c, p, f, a, b, late=1),
        ),
        Mistake(
            "last clear step",
            "You ask POTENTIAL at the last clear step. It is asked at the first one, since waiting costs rounds.",
            lambda c, p, f, a, b: _search(c, p, f, a, b, first=lambda row, seen: seen[-1] if seen else None),
        ),
        Mistake(
            "clearest step",
            "You ask POTENTIAL where the picture is clearest. A search cannot know that there is no clearer step to come: "
            "take the first that is clear enough.",
            lambda c, p, f, a, b: _search(
                c, p, f, a, b, first=lambda row, seen: int(row.argmax()) if seen else None
            ),
        ),
        Mistake(
            "final over the stopped",
            "FINAL chooses a path that was stopped. It picks among the promising ones only.",
            lambda c, p, f, a, b: _search(c, p, f, a, b, everyone=True),
        ),
        Mistake(
            "number among the left",
            "You return the place among the paths that are left. Asked for is the path's own number.",
            lambda c, p, f, a, b: _search(c, p, f, a, b, number=False),
        ),
        Mistake(
            "never clear is promising",
            "A path that was never clear was never found promising, so FINAL does not see it, unless no path was ever clear.",
            lambda c, p, f, a, b: _search(c, p, f, a, b, unclear=True),
        ),
        Mistake(
            "never clear is stopped",
            "A path that was never clear is not stopped: nobody asked for its potential. Its entry is -1.",
            _stop_at_unclear,
        ),
        Mistake(
            "fallback missing",
            "When no promising path is left you return path 0. Take the stopped path with the highest POTENTIAL at its stop.",
            lambda c, p, f, a, b: _search(c, p, f, a, b, fallback="first"),
        ),
        Mistake(
            "fallback by final",
            "When no promising path is left you go by FINAL. The stopped pictures are not finished: go by the highest POTENTIAL.",
            lambda c, p, f, a, b: _search(c, p, f, a, b, fallback="final"),
        ),
        Mistake(
            "strict",
            "A probability equal to the threshold counts as yes: use >= for clear, and stop only when potential < promising.",
            lambda c, p, f, a, b: _search(c, p, f, a, b, strict=True),
        ),
    ),
)


# --- keep_rows: compaction of a running batch


def keep_rows(
    go_on: Tensor, codes: Tensor, masked: Tensor, uniforms: Tensor, text: Tensor
) -> tuple[Tensor, ...]:
    """The batch without the rows that stop: (codes, masked, uniforms, text) of the rows where go_on is True, in order.

    go_on: bool [B]; codes, masked: [B, N]; uniforms: [B, S, N], every path's own random numbers for all steps;
    text: [B, T, D], keys or values of the prompt. `cotlib.decoding.masked.masked_rounds` ends each round with this.
    """
    return codes[go_on], masked[go_on], uniforms[go_on], text[go_on]


def _batches() -> list[tuple]:
    """(go_on, codes, masked, uniforms, text): one row gone in front, inside and at the end, several, none, all but one."""
    rng = torch.Generator().manual_seed(9)
    cases = []
    for pattern in ("01111", "11011", "11110", "0101101", "1111", "00010", "1001"):
        go_on = torch.tensor([letter == "1" for letter in pattern])
        size = len(pattern)
        codes = torch.randint(1, 1024, (size, 9), generator=rng)
        cases.append((go_on, codes, torch.rand((size, 9), generator=rng) < 0.5, torch.rand((size, 3, 9), generator=rng),
                      torch.rand((size, 4, 2), generator=rng)))  # fmt: skip
    return cases


def _filled_from_the_end(go_on: Tensor) -> Tensor:
    """Row numbers after each gap was filled with the last row that is left."""
    rows = list(range(len(go_on)))
    for place in range(len(rows)):
        while place < len(rows) and not go_on[rows[place]]:
            last = rows.pop()
            if place < len(rows):
                rows[place] = last
    return torch.tensor(rows)


def _zeroed(go_on: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
    return tuple(part * go_on.view(-1, *[1] * (part.ndim - 1)).to(part.dtype) for part in parts)


KEEP_ROWS = Exercise(
    name="keep_rows",
    where="cotlib.lab.exercises.parm:keep_rows",
    inputs=_batches,
    mistakes=(
        Mistake(
            "the stopped ones kept",
            "You keep the rows that stop. go_on is True for those that go on.",
            lambda g, c, m, u, t: keep_rows(~g, c, m, u, t),
        ),
        Mistake(
            "first random numbers",
            "Your random numbers are those of the first rows, not of the rows that are left: the survivors would draw other "
            "pictures from here on. Index uniforms with go_on, too.",
            lambda g, c, m, u, t: (c[g], m[g], u[: int(g.sum())], t[g]),
        ),
        Mistake(
            "uniforms forgotten",
            "You leave the random numbers as they are. They belong to the paths: row b of the batch must go on with its own ones.",
            lambda g, c, m, u, t: (c[g], m[g], u, t[g]),
        ),
        Mistake(
            "text forgotten",
            "You leave the text as it is. Each row reads its own prompt, so the text shrinks together with the codes.",
            lambda g, c, m, u, t: (c[g], m[g], u[g], t),
        ),
        Mistake(
            "first texts",
            "Your texts are those of the first rows. With several prompts in one batch the survivors would go on with a wrong prompt.",
            lambda g, c, m, u, t: (c[g], m[g], u[g], t[: int(g.sum())]),
        ),
        Mistake(
            "masked forgotten",
            "You leave `masked` as it is, so it no longer says which cells of these rows are open. Index it with go_on, too.",
            lambda g, c, m, u, t: (c[g], m, u[g], t[g]),
        ),
        Mistake(
            "gaps filled from the end",
            "You fill the gaps with the last rows, so the order changes, and nobody knows any more which row is which path. "
            "Keep the order: a boolean index does.",
            lambda g, c, m, u, t: keep_rows(_filled_from_the_end(g), c, m, u, t),
        ),
        Mistake(
            "reversed",
            "The right rows, but in another order. Keep the order: a boolean index does.",
            lambda g, c, m, u, t: keep_rows(torch.nonzero(g).flatten().flip(0), c, m, u, t),
        ),
        Mistake(
            "zeroed",
            "You blank the rows that stop and leave them in the batch, so they cost as much as before. Take them out: x[go_on].",
            _zeroed,
        ),
    ),
)

EXERCISES = (THREE_TASKS, KEEP_ROWS)
