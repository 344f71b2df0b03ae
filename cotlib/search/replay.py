"""PARM, and successive halving, played through on answers that are written down: which path it would choose, where each would stop, what it
would cost.

Every path owns its randomness, so a path that is stopped draws until then what it draws anyway. Whoever has all
paths drawn to their ends and all questions answered at every step therefore knows PARM's outcome for *every* pair of thresholds,
exactly, without drawing again. Steps count from 0; n paths, S steps.
"""

from dataclasses import dataclass

import numpy as np

from cotlib.search.halving import halvings, upper_half

NEVER = -1  # "stopped at" of a path that was not stopped, "first clear step" of one that was never clear


def three_tasks(clarity, potential, final, clear: float, promising: float, ask_from: int = 0):
    """(chosen path, stopped [n]): PARM's three tasks on the answers about one prompt.

    clarity, potential: P(yes) [n, S] at every step; final: P(yes) [n] for the finished pictures. clear, promising:
    from where on P(yes) counts as yes. stopped: the step after which a path was dropped, -1 if it never was.

    A path is asked CLARITY from step `ask_from` on until the first yes, then POTENTIAL once, at that step. FINAL picks
    among the paths that were promising. None promising: the stopped path with the highest POTENTIAL. None ever clear:
    FINAL picks among all. Of equal scores the lowest path number wins.
    """
    clarity, potential, final = (np.asarray(answers) for answers in (clarity, potential, final))
    paths = np.arange(len(clarity))
    first = first_clear(clarity, clear, ask_from)
    asked = first != NEVER
    odds = np.where(asked, potential[paths, first], -1.0)
    stopped = np.where(asked & (odds < promising), first, NEVER)
    left = asked & (stopped == NEVER)
    if left.any():
        return int(np.where(left, final, -1.0).argmax()), stopped
    return int((odds if asked.any() else final).argmax()), stopped


def halved(potential, final):
    """(chosen path, stopped [n]): successive halving (`search.halving`) on the answers about one prompt, as above."""
    potential, final = np.asarray(potential), np.asarray(final)
    left, stopped = np.arange(len(potential)), np.full(len(potential), NEVER)
    for step in halvings(potential.shape[1]):
        if len(left) > 1:
            stays = left[upper_half(potential[left, step].tolist())]
            stopped[np.setdiff1d(left, stays)] = step
            left = stays
    return int(left[final[left].argmax()]), stopped


def halving_bill(n: int, steps: int) -> "Bill":
    """What successive halving pays for n paths; it is known beforehand."""
    rows, left, asked = 1, n, 0
    for step in range(1, steps):
        if step - 1 in halvings(steps) and left > 1:
            asked, left = asked + left, -(-left // 2)
        rows += left
    return Bill(rows, potential=asked, final=left, decodes=asked + left)


def first_clear(clarity, clear: float, ask_from: int = 0) -> np.ndarray:
    """The first step, from `ask_from` on, at which each path is clear; -1 for never. clarity: [n, S]."""
    seen = np.asarray(clarity) >= clear
    seen[:, :ask_from] = False
    return np.where(seen.any(1), seen.argmax(1), NEVER)


@dataclass(frozen=True)
class Bill:
    """What a search of one prompt costs, in the ledger's units, but for seconds: one `rows` is one row of the batch
    through one step (times tokens, times two with guidance: token passes)."""

    rows: int
    clarity: int = 0
    potential: int = 0
    final: int = 0
    decodes: int = 0

    @property
    def calls(self) -> int:
        """Pictures shown to the verifier."""
        return self.clarity + self.potential + self.final


def best_of_n_bill(n: int, steps: int) -> Bill:
    """Drawing n paths to their ends and asking FINAL of each. The first step runs once for all of them."""
    return Bill(1 + n * (steps - 1), final=n, decodes=n)


def parm_bill(clarity, clear: float, ask_from: int, chosen: int, stopped) -> Bill:
    """What PARM pays for the outcome (chosen, stopped) of `three_tasks`, counted as `search.parm` counts it."""
    n, steps = np.shape(clarity)
    first = first_clear(clarity, clear, ask_from)
    asked = np.where(first == NEVER, steps - 1, first) - ask_from + 1
    rows = 1 + int(np.where(stopped == NEVER, steps - 1, stopped).sum())
    left = int(((first != NEVER) & (stopped == NEVER)).sum())
    shown = left if left or (first != NEVER).any() else n  # none ever clear: FINAL sees them all
    again = stopped[chosen] != NEVER and stopped[chosen] < steps - 1
    rows += steps if again else 0
    calls = int(asked.sum())
    return Bill(rows, calls, int((first != NEVER).sum()), shown, calls + max(shown, 1))
