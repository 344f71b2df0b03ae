"""PRM with every decision on record: for looking at a search, and for asking others about the same branches.

`prm` hands over a picture. What comes back here is each of its steps with all branches, their scores and which one
was kept.
"""

from collections.abc import Sequence
from typing import NamedTuple

from cotlib.interfaces import ImageTokenModel, Step
from cotlib.search.paths import pick_each
from cotlib.search.prm import prm


class Decision(NamedTuple):
    """One step of a search over P prompts with n branches each.

    step: codes and masks of all P * n branches, all of the first prompt first. scores: their P(yes), 0 where nobody
    was asked. kept: the branch number that each prompt goes on from.
    """

    step: Step
    scores: list[float]
    kept: list[int]


def keep_branches(history: Sequence[Sequence[float]], n: int) -> list[int]:
    """The branch each prompt goes on from: the highest score of the last step, of equals the lowest number.

    history: the scores of every step so far, P * n each, all of the first prompt first. Earlier scores do not count:
    all n branches of this step come from the one state that was kept, so they share its past, whatever their number.
    """
    return pick_each(list(history[-1]), n)[0]


def decide(
    model: ImageTokenModel, prompts: list[str], n: int = 20, seed: int = 0, **options
) -> list[Decision]:
    """One `Decision` a step of `prm`; options and errors as there (verifier, question, first, ledger, ...).

    With `first` the number of steps nobody is ever asked, and the kept branches are path 0 of best-of-N.
    """
    decisions: list[Decision] = []
    prm(model, prompts, n, seed, watch=lambda *seen: decisions.append(Decision(*seen)), **options)
    return decisions
