"""The released code's rules for choosing, flaws included, for comparisons that need them (`paper_compatible=True`).

Read from github.com/ZiyuGuo99/Image-Generation-CoT at 1ff33eb (orm.py, parm.py, selector.py). What is kept:

- The noise in the choice of tokens to keep is annealed in place and never set back. Only the first path of a prompt
  has it; all others draw at its end temperature, 0. (There it is one path in 4 x 20, here one for each seed.)
- PARM stops no path: all run to the end, and those it refuses are merely left out of the choice.
- A clarity answer counts as yes unless it is no, from the first step on. The first clear step asks POTENTIAL.
- None kept: the path with the smallest stored probability of "no" wins, with 1 stored for a path that was never
  clear and 50 for an answer that is neither yes nor no. FINAL is not asked then.
- The first of equal scores wins.

Here an answer is P(yes): yes from one half on, NaN for neither word. That P(yes) saturates there, because it is read
after the sampling filters, is the verifier's affair. What is not kept: one path at a time, and a picture on disk
after every step.
"""

from math import isnan

import torch

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
from cotlib.search.paths import ask, candidates, decode, need_masked, pick, run_paths, stack_codes

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
    **options,
) -> int:
    """As `run_paths`, with the temperature carried over: 1 for path 0 of each prompt, 0 for all others."""
    need_masked(model, "the released code")
    first = [row for row in rows if row.path.number == 0]
    others = [row for row in rows if row.path.number != 0]
    last = run_paths(model, first, seed, ledger, hook, temperature=1.0, **options)
    if others:
        run_paths(model, others, seed, ledger, hook, temperature=0.0, **options)
    return last


def stored_no(path: Path) -> float:
    """What the released PARM stores for a path: the probability of "no" to POTENTIAL, or a stand-in."""
    if POTENTIAL not in path.scores:
        return NEVER_CLEAR
    return word_missing(1 - path.scores[POTENTIAL][0], NO_WORD)


def kept(path: Path) -> bool:
    """Whether POTENTIAL was answered with yes."""
    return stored_no(path) <= 0.5


def released_parm(
    model: ImageTokenModel, prompts: list[str], n: int, seed: int, ledger: Ledger, steps: int | None,
    guidance: float | None, verifier: Verifier,
) -> Outcome:  # fmt: skip
    """PARM by the rules above; arguments as in `cotlib.search.parm`."""

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
    last = leaky_paths(model, rows, seed, ledger, watch, steps=steps, guidance=guidance)
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
