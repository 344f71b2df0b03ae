"""The local edit: what is right stays, what is wrong is erased, and only the cells concerned are drawn again.

Each thing to be drawn has an order of its own, "a photo of a red dog", and nine masked cells; the things of one
picture are drawn one after another and share the search's rounds, so an edit never takes more rounds than a picture
drawn from nothing.
"""

from collections import defaultdict

import numpy as np
from torch import Tensor

from cotlib.correcting.edits import Edit, cells_of, order_of, plan_edit
from cotlib.decoding import masked_rounds
from cotlib.decoding.noise import path_seed
from cotlib.interfaces import ImageTokenModel, Reflection
from cotlib.models.generator import PictogramGenerator
from cotlib.search.ledger import Ledger
from cotlib.search.parm_plus_plus import redraw
from cotlib.search.paths import run_to_end
from cotlib.world.prompts import parse_prompt
from cotlib.world.render import render_batch
from cotlib.world.scenes import Scene

MOST_ORDERS = 100  # apart in the numbering of an edit's random numbers


class LocalEdit:
    """A `Correct` for PARM++ that draws with a generator tuned to local orders; see `load("correction")`.

    A refusal that says nothing which could be acted on is answered by plain re-drawing with the search's own
    generator. The reflection needs `seen`, as those of `verifying.LearnedVerifier` have.
    """

    def __init__(self, editor: PictogramGenerator):
        self.editor = editor
        blank = render_batch([Scene(())], plain=True).to(editor.device)
        self.paper = int(editor.tokenizer.encode(blank).flatten()[0])

    def __call__(
        self, model: ImageTokenModel, prompts: list[str], codes: Tensor, reflections: list[Reflection],
        seed: int, round: int, *, ledger: Ledger, steps: int | None = None, guidance: float | None = None,
        kernel: bool = True,
    ) -> Tensor:  # fmt: skip
        """Codes [B, N] of refused pictures to new ones."""
        edits = [self.plan(p, r, seed, round) for p, r in zip(prompts, reflections, strict=True)]
        codes = codes.clone()
        blank = [b for b, edit in enumerate(edits) if edit is None]
        if blank:
            codes[blank] = redraw(model, [prompts[b] for b in blank], codes[blank], [], seed, round,
                                  ledger=ledger, steps=steps, guidance=guidance, kernel=kernel)  # fmt: skip
        self.apply(prompts, codes, edits, seed, round, ledger, steps, guidance, kernel)
        return codes

    def plan(self, prompt: str, reflection: Reflection, seed: int, round: int) -> Edit | None:
        """The edit for one refused picture, None when there is nothing to go by."""
        if not reflection.faults:
            return None
        rng = np.random.default_rng(path_seed(seed, prompt, -round))
        return plan_edit(rng, parse_prompt(prompt), reflection.seen, reflection.faults)

    def apply(
        self, prompts: list[str], codes: Tensor, edits: list[Edit | None], seed: int, round: int,
        ledger: Ledger, steps: int | None, guidance: float | None, kernel: bool = True,
    ) -> None:  # fmt: skip
        """Erases and draws in place, in `codes` [B, N]; rows whose edit is None stay as they are."""
        groups = defaultdict(list)  # rows by their number of orders: these share their rounds
        for row, edit in enumerate(edits):
            if edit is not None:
                for thing in edit.gone:
                    codes[row, cells_of(thing)] = self.paper
                if edit.drawn:
                    groups[len(edit.drawn)].append(row)
        total = self.editor.config.steps if steps is None else steps
        for count, rows in groups.items():
            for turn in range(count):
                share = max(1, (turn + 1) * total // count - turn * total // count)
                things = [edits[row].drawn[turn] for row in rows]
                number = -(round * MOST_ORDERS + turn)
                codes[rows] = self.draw(codes[rows], things, [prompts[row] for row in rows], seed, number,
                                        ledger, share, guidance, kernel)  # fmt: skip

    def draw(
        self, codes: Tensor, things: list, prompts: list[str], seed: int, number: int, ledger: Ledger, steps: int,
        guidance: float | None, kernel: bool = True,
    ) -> Tensor:  # fmt: skip
        """Draws one thing into each row of `codes` [B, N] in `steps` rounds, at most one for each of its cells."""
        start = codes.clone()
        for row, thing in enumerate(things):
            start[row, cells_of(thing)] = self.editor.mask_id
        steps = min(steps, int((start[0] == self.editor.mask_id).sum()))
        orders = [order_of(thing) for thing in things]
        loop = masked_rounds(self.editor, orders, [number] * len(orders), seed, steps, guidance,
                             start=start, owners=prompts, kernel=kernel)  # fmt: skip
        return run_to_end(self.editor, loop, ledger, guidance)
