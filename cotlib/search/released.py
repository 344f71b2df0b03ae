"""The released code's rules for choosing, flaws included, for comparisons that need them (`paper_compatible=True`).

Read from github.com/ZiyuGuo99/Image-Generation-CoT at 1ff33eb (orm.py, parm.py, selector.py). What is kept:

- The noise in the choice of tokens to keep is annealed in place and never set back. Only the first path of a prompt
  has it; all others, of its later pictures too, draw at its end temperature, 0. `fresh` says whether it is the first picture.
- PARM stops no path: all run to the end, and those it refuses are merely left out of the choice.
- A clarity answer counts as yes unless it is no, from the first step on. The first clear step asks POTENTIAL.
- None kept: the path with the smallest stored probability of "no" wins, with 1 stored for a path that was never
  clear and 50 for an answer that is neither yes nor no. FINAL is not asked then.
- The first of equal scores wins.

Here an answer is P(yes): yes from one half on, NaN for neither word. That P(yes) saturates there, because it is read
after the sampling filters, is the verifier's affair (`LlavaVerifier(paper_compatible=True)`, `FilteredVerifier`). What is
not kept: answers drawn by chance, one path at a time, and a picture on disk after every step.
"""

from math import isnan

import torch

from cotlib.decoding import Graphs
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
from cotlib.search.paths import (
    ask,
    candidates,
    decode,
    need,
    need_masked,
    of_chosen,
    pick,
    pick_each,
    run_paths,
    stack_codes,
)

NEVER_CLEAR, NO_WORD = 1.0, 50.0  # stored instead of a probability of "no"


def word_missing(p: float, instead: float) -> float:
    """p, or `instead` where the answer was neither yes nor no (NaN)."""
    return instead if isnan(p) else p


def leaky_paths(
    model: ImageTokenModel,
    rows: list[Row],
    seed: int,
    ledger: Ledger,
    hook: StepHook | None = None,
    fresh: bool = True,
    **options,
) -> int:
    """As `run_paths`, with the temperature carried over: 1 for path 0 of each prompt, 0 for all others, and for path 0 too
    unless it is of the prompt's first picture (fresh)."""
    need_masked(model, "the released code")
    last = 0
    for temperature in (1.0, 0.0):
        part = [row for row in rows if (fresh and row.path.number == 0) == (temperature == 1.0)]
        if part:
            last = run_paths(model, part, seed, ledger, hook, temperature=temperature, **options)
    return last


def released_single(
    model: ImageTokenModel, prompts: list[str], n: int = 1, seed: int = 0, ledger: Ledger | None = None,
    steps: int | None = None, guidance: float | None = None, *, fresh: bool = True,
    kernel: bool = True, graphs: Graphs | None = None,
) -> Outcome:  # fmt: skip
    """The released baseline: as `cotlib.search.single`, by the rules above."""
    ledger = Ledger() if ledger is None else ledger
    paths, rows = candidates(prompts, n)
    drawing = {"steps": steps, "guidance": guidance, "kernel": kernel, "graphs": graphs}
    leaky_paths(model, rows, seed, ledger, fresh=fresh, **drawing)
    images = decode(model, stack_codes(rows[::n]), ledger)
    return Outcome(images, [0] * len(prompts), paths, ledger)


def released_orm(
    model: ImageTokenModel, prompts: list[str], n: int = 20, seed: int = 0, ledger: Ledger | None = None,
    steps: int | None = None, guidance: float | None = None, *, verifier: Verifier | None = None, fresh: bool = True,
    kernel: bool = True, graphs: Graphs | None = None,
) -> Outcome:  # fmt: skip
    """ORM by the rules above; other arguments as in `cotlib.search.orm`. An answer that is neither word scores 0."""
    need(verifier, FINAL)
    ledger = Ledger() if ledger is None else ledger
    paths, rows = candidates(prompts, n)
    drawing = {"steps": steps, "guidance": guidance, "kernel": kernel, "graphs": graphs}
    last = leaky_paths(model, rows, seed, ledger, fresh=fresh, **drawing)
    images = decode(model, stack_codes(rows), ledger)
    odds = ask(verifier, FINAL, rows, images, last, ledger, strict=False)
    chosen, ties = pick_each([word_missing(p, 0.0) for p in odds], n)
    return Outcome(of_chosen(images, chosen, n), chosen, paths, ledger, ties)


def stored_no(path: Path) -> float:
    """What the released PARM stores for a path: the probability of "no" to POTENTIAL, or a stand-in."""
    if POTENTIAL not in path.scores:
        return NEVER_CLEAR
    return word_missing(1 - path.scores[POTENTIAL][0], NO_WORD)


def kept(path: Path) -> bool:
    """Whether POTENTIAL was answered with yes."""
    return stored_no(path) <= 0.5


def released_parm(
    model: ImageTokenModel, prompts: list[str], n: int = 20, seed: int = 0, ledger: Ledger | None = None,
    steps: int | None = None, guidance: float | None = None, verifier: Verifier | None = None, *, fresh: bool = True,
    kernel: bool = True, graphs: Graphs | None = None,
) -> Outcome:  # fmt: skip
    """PARM by the rules above; other arguments as in `cotlib.search.parm`."""
    need(verifier, CLARITY, POTENTIAL, FINAL)
    ledger = Ledger() if ledger is None else ledger

    def watch(step: Step, rows: list[Row]) -> None:
        waiting = [b for b, row in enumerate(rows) if POTENTIAL not in row.path.scores]
        if not waiting:
            return
        images, asked = decode(model, step.codes[waiting], ledger), [rows[b] for b in waiting]
        answers = ask(verifier, CLARITY, asked, images, step.index, ledger, strict=False)
        seen = [j for j, p in enumerate(answers) if not p < 0.5]
        if seen:
            ask(verifier, POTENTIAL, [asked[j] for j in seen], images[seen], step.index, ledger, strict=False)

    paths, rows = candidates(prompts, n)
    drawing = {"steps": steps, "guidance": guidance, "kernel": kernel, "graphs": graphs}
    last = leaky_paths(model, rows, seed, ledger, watch, fresh, **drawing)
    finalists = [row for row in rows if kept(row.path)]
    if finalists:
        images = decode(model, stack_codes(finalists), ledger)
        ask(verifier, FINAL, finalists, images, last, ledger, strict=False)
    picks = [pick([_score(path, any(map(kept, own))) for path in own]) for own in paths]
    chosen, ties = [k for k, _ in picks], [count for _, count in picks]
    codes = torch.stack([own[k].codes for own, k in zip(paths, chosen, strict=True)])
    return Outcome(decode(model, codes, ledger), chosen, paths, ledger, ties)


def _score(path: Path, any_kept: bool) -> float:
    """What the choice goes by: FINAL among the kept ones, or else the stored probability of "no", turned round."""
    if not any_kept:
        return -stored_no(path)
    return word_missing(path.scores[FINAL][0], 0.0) if kept(path) else float("-inf")


RELEASED = {"single": released_single, "orm-zs": released_orm, "orm": released_orm, "parm": released_parm}
"""The strategies of the released code by their names on the command line; its PRM and PARM++ were never released."""
