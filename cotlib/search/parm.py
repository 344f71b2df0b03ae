"""PARM, the potential assessment reward model: wait until a picture is clear, ask once whether it can still turn out
right, stop it if not, and take the best of those that are left.

After arXiv 2501.13926, section 4. There the refused paths are drawn to their ends all the same; here they leave the
batch and cost nothing more, and those that stay draw exactly the codes they would have drawn anyway.
"""

import torch
from torch import Tensor

from cotlib.decoding import Graphs
from cotlib.decoding.schedule import check_steps
from cotlib.errors import UserError
from cotlib.interfaces import (
    CLARITY,
    FINAL,
    POTENTIAL,
    ImageTokenModel,
    Outcome,
    Path,
    Row,
    Step,
    StepHook,
    Verifier,
)
from cotlib.search.ledger import Ledger
from cotlib.search.paths import ask, candidates, decode, need, need_masked, pick, run_paths, stack_codes
from cotlib.search.released import released_parm


def parm(
    model: ImageTokenModel, prompts: list[str], n: int = 20, seed: int = 0, ledger: Ledger | None = None,
    steps: int | None = None, guidance: float | None = None, *,
    verifier: Verifier | None = None, clear: float | None = None, promising: float | None = None,
    ask_from: int | None = None,
    paper_compatible: bool = False, kernel: bool = True, graphs: Graphs | None = None,
) -> Outcome:  # fmt: skip
    """From step `ask_from` on asks CLARITY of the full guess, at the first clear step POTENTIAL of the same picture;
    a path that is not promising stops for good. FINAL picks among the promising ones.

    clear, promising: P(yes) that counts as yes; the verifier's own `thresholds` unless given, or one half if it has
    none. ask_from: step, from 0; the verifier's own `ask_from` unless given (at the latest the last step), or 0.
    No promising path left: the stopped path with the highest POTENTIAL is drawn to its end after all, from its
    start, and the ledger counts it. Only if no path was ever clear does FINAL pick among all of them.
    paper_compatible: the released code's rules instead, see `cotlib.search.released`; thresholds and ask_from are
    not used then. kernel, graphs: as in `cotlib.search.single`. Raises UserError when n < 1, the verifier lacks a question, or the order is raster.
    """
    need(verifier, CLARITY, POTENTIAL, FINAL)
    need_masked(model, "PARM")
    ledger = Ledger() if ledger is None else ledger
    if paper_compatible:
        return released_parm(
            model, prompts, n, seed, ledger, steps, guidance, verifier, kernel=kernel, graphs=graphs
        )
    last = check_steps(model.config.steps if steps is None else steps, model.grid[0] * model.grid[1]) - 1
    paths, rows = candidates(prompts, n)
    own = getattr(verifier, "thresholds", (0.5, 0.5))
    clear, promising = (given if given is not None else own[i] for i, given in enumerate((clear, promising)))
    watch = stop_unpromising(model, verifier, ledger, clear, promising, first_step(verifier, ask_from, last))
    drawing = {"steps": steps, "guidance": guidance, "kernel": kernel, "graphs": graphs}
    run_paths(model, rows, seed, ledger, watch, **drawing)

    finalists, fallbacks = [], []
    for prompt, own in zip(prompts, paths, strict=True):
        left, fallback = who_is_left(own)
        finalists += [Row(prompt, path) for path in left]
        fallbacks += [Row(prompt, path) for path in fallback]
    if unfinished := [row for row in fallbacks if row.path.stopped < last]:
        run_paths(model, unfinished, seed, ledger, **drawing)
    images = decode(model, stack_codes(finalists + fallbacks), ledger)
    if finalists:
        ask(verifier, FINAL, finalists, images[: len(finalists)], last, ledger)
    return choose_final(images, finalists + fallbacks, paths, ledger)


def stop_unpromising(
    model: ImageTokenModel, verifier: Verifier, ledger: Ledger, clear: float, promising: float, first: int
) -> StepHook:
    """The hook of PARM: a path is asked CLARITY until the first yes, POTENTIAL once, and nothing after that."""

    def watch(step: Step, rows: list[Row]) -> Tensor | None:
        waiting = [b for b, row in enumerate(rows) if POTENTIAL not in row.path.scores]
        if step.index < first or not waiting:
            return None
        images, asked = decode(model, step.codes[waiting], ledger), [rows[b] for b in waiting]
        clarity = ask(verifier, CLARITY, asked, images, step.index, ledger)
        seen = [j for j, p in enumerate(clarity) if p >= clear]
        if not seen:
            return None
        potential = ask(verifier, POTENTIAL, [asked[j] for j in seen], images[seen], step.index, ledger)
        go_on = torch.ones(len(rows), dtype=torch.bool)
        for j, p in zip(seen, potential, strict=True):
            go_on[waiting[j]] = p >= promising
        return go_on

    return watch


def first_step(verifier: Verifier, ask_from: int | None, last: int) -> int:
    """The first step at which CLARITY is asked. UserError when the one given is no step of this run."""
    if ask_from is None:
        return min(getattr(verifier, "ask_from", 0), last)
    if not 0 <= ask_from <= last:
        raise UserError(f"ask_from is {ask_from}; expected a step from 0 to {last}, the last one")
    return ask_from


def who_is_left(own: list[Path]) -> tuple[list[Path], list[Path]]:
    """(paths that FINAL picks from, or else the one that is handed over unasked) of one prompt; one list is empty."""
    assessed = [path for path in own if POTENTIAL in path.scores]
    promising = [path for path in assessed if path.stopped is None]
    if promising or not assessed:
        return promising or own, []
    return [], [assessed[pick([path.scores[POTENTIAL][0] for path in assessed])[0]]]


def choose_final(images: Tensor, shown: list[Row], paths: list[list[Path]], ledger: Ledger) -> Outcome:
    """The best of each prompt's shown paths; images [len(shown), 3, H, W] are theirs."""
    place = {id(row.path): b for b, row in enumerate(shown)}
    chosen, ties = [], []
    for own in paths:
        mine = [path for path in own if id(path) in place]
        best, count = pick([path.scores.get(FINAL, [0.0])[0] for path in mine])
        chosen.append(mine[best].number)
        ties.append(count)
    picked = [place[id(own[k])] for own, k in zip(paths, chosen, strict=True)]
    return Outcome(images[picked], chosen, paths, ledger, ties)
