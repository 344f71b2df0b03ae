"""PARM++: PARM's choice, then reflection. The verifier says whether the picture is right and if not why; a correction
draws another one; at most three times.

After arXiv 2501.13926, section 5; the authors released no code. There a correction draws n new candidates that go
through PARM again; here it is one picture a round, so that any two corrections can be compared at equal generator
rounds. What a correction does is the caller's: `redraw` is the control that learns nothing from the reflection.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from cotlib.errors import UserError
from cotlib.interfaces import (
    CLARITY,
    FINAL,
    POTENTIAL,
    REFLECT,
    ImageTokenModel,
    Outcome,
    Path,
    Reflection,
    Round,
    Row,
    Verifier,
)
from cotlib.search.ledger import Ledger
from cotlib.search.parm import parm
from cotlib.search.paths import decode, need, run_paths, stack_codes

FAULTY = "FAULTY"  # calls of the second opinion in the ledger
SecondOpinion = Callable[[list[str], Tensor], list[bool]]
"""(prompts, pictures [B, 3, H, W]) to whether each has a fault."""


class Correct(Protocol):
    """Refused pictures to new ones: codes long [B, N] to [B, N], one reflection for each.

    round: from 1. A correction counts its own token passes in the ledger, for it may draw with another network;
    steps and guidance are those of the whole search. kernel=False is passed as well where the search was told so.
    """

    def __call__(
        self, model: ImageTokenModel, prompts: list[str], codes: Tensor, reflections: list[Reflection],
        seed: int, round: int, *, ledger: Ledger, steps: int | None, guidance: float | None,
    ) -> Tensor: ...  # fmt: skip


def redraw(
    model: ImageTokenModel, prompts: list[str], codes: Tensor, reflections: list[Reflection], seed: int, round: int,
    *, ledger: Ledger, steps: int | None = None, guidance: float | None = None, kernel: bool = True,
) -> Tensor:  # fmt: skip
    """Plain re-drawing: a new path from an empty canvas, blind to picture and reflection.

    Its path number is minus the round, which no candidate has.
    """
    rows = [Row(prompt, Path(-round)) for prompt in prompts]
    run_paths(model, rows, seed, ledger, steps=steps, guidance=guidance, kernel=kernel)
    return stack_codes(rows)


def parm_plus_plus(
    model: ImageTokenModel, prompts: list[str], n: int = 20, seed: int = 0, ledger: Ledger | None = None,
    steps: int | None = None, guidance: float | None = None, *,
    verifier: Verifier | None = None, correct: Correct = redraw, rounds: int = 3, words: bool = True,
    also_faulty: SecondOpinion | None = None, kernel: bool = True, **options,
) -> Outcome:  # fmt: skip
    """PARM (options: its thresholds, ask_from and graphs), then up to `rounds` corrections of the chosen picture.

    Arguments as in `correct_chosen`. Raises UserError when the verifier lacks a question, before anything is drawn.
    """
    need(verifier, CLARITY, POTENTIAL, FINAL, REFLECT)
    check_rounds(rounds)
    outcome = parm(
        model, prompts, n, seed, ledger, steps, guidance, verifier=verifier, kernel=kernel, **options
    )
    return correct_chosen(model, prompts, outcome, seed, steps, guidance, verifier=verifier, correct=correct,
                          rounds=rounds, words=words, also_faulty=also_faulty, kernel=kernel)  # fmt: skip


def correct_chosen(
    model: ImageTokenModel, prompts: list[str], outcome: Outcome, seed: int = 0, steps: int | None = None,
    guidance: float | None = None, *, verifier: Verifier | None = None, correct: Correct = redraw, rounds: int = 3,
    words: bool = True, also_faulty: SecondOpinion | None = None, kernel: bool = True,
) -> Outcome:  # fmt: skip
    """Reflects on an outcome's chosen pictures and corrects those refused, until accepted or after `rounds` rounds.

    words: with False the correction gets the reflections without their words and faults, a bare "no". also_faulty: with it a refused
    picture is corrected only if this second opinion finds a fault too. The last picture is handed over; after the
    last round nobody is asked any more. Writes `images`, and into `rounds` every picture and what was said of it;
    `chosen` stays the path that all began with. kernel: False for plain torch on a GPU too.
    """
    need(verifier, REFLECT)
    check_rounds(rounds)
    ledger, images = outcome.ledger, outcome.images.clone()
    codes = torch.stack([own[k].codes for own, k in zip(outcome.paths, outcome.chosen, strict=True)])
    drawing = {"ledger": ledger, "steps": steps, "guidance": guidance} | ({} if kernel else {"kernel": False})
    history, waiting = [[] for _ in prompts], list(range(len(prompts)))
    for number in range(1, rounds + 1):
        texts = [prompts[i] for i in waiting]
        reflections = _reflect(verifier, texts, images[waiting], ledger)
        faulty = _confirm(also_faulty, texts, images[waiting], [not r.accepted for r in reflections], ledger)
        for i, reflection, confirmed in zip(waiting, reflections, faulty, strict=True):
            history[i].append(Round(codes[i].clone(), reflection, not (reflection.accepted or confirmed)))
        waiting = [i for i, confirmed in zip(waiting, faulty, strict=True) if confirmed]
        if not waiting:
            break
        told = [
            r if words else replace(r, words="", faults=())
            for r, again in zip(reflections, faulty, strict=True)
            if again
        ]
        codes[waiting] = correct(
            model, [prompts[i] for i in waiting], codes[waiting], told, seed, number, **drawing
        )
        images[waiting] = decode(model, codes[waiting], ledger)
    for i in waiting:
        history[i].append(Round(codes[i].clone()))
    return replace(outcome, images=images, rounds=history)


def check_rounds(rounds: int) -> None:
    """UserError unless rounds is a whole number of at least 0."""
    if not isinstance(rounds, int) or rounds < 0:
        raise UserError(f"rounds is {rounds}; expected a whole number of at least 0")


def _reflect(verifier: Verifier, prompts: list[str], images: Tensor, ledger: Ledger) -> list[Reflection]:
    ledger.verifier_calls[REFLECT] += len(prompts)
    with ledger.timed("verifier"):
        return verifier.reflect(prompts, images)


def _confirm(
    also_faulty: SecondOpinion | None, prompts: list[str], images: Tensor, refused: list[bool], ledger: Ledger
) -> list[bool]:
    """Which pictures are to be corrected: the refused ones, or those of them that the second opinion refuses too."""
    where = [b for b, no in enumerate(refused) if no]
    if also_faulty is None or not where:
        return refused
    ledger.verifier_calls[FAULTY] += len(where)
    with ledger.timed("verifier"):
        found = also_faulty([prompts[b] for b in where], images[where])
    confirmed = {b for b, fault in zip(where, found, strict=True) if fault}
    return [b in confirmed for b in range(len(refused))]
