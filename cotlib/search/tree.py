"""The tree of paths of one prompt in plain form: for a widget that lets paths be looked at, and for reports."""

from math import isnan

from cotlib.interfaces import CLARITY, FINAL, POTENTIAL, STEP, Outcome, Path
from cotlib.search.logprob import LOG_P
from cotlib.search.oracle import JUDGE


def tree(outcome: Outcome, prompt: int) -> list[dict]:
    """One dict per path of prompt number `prompt`, in order.

    path: its number. clarity, potential, step: {step: P(yes)} for each step it was asked at (from 0). kept: steps
    after which all other branches were dropped (PRM). stopped: the step it stopped at, or None. final: the score the
    choice went by (P(yes) to FINAL, log-probability, or the judge's 0 or 1), None if it never came to that. chosen:
    whether it is the result. An answer that was neither yes nor no is None.
    """
    return [_entry(path, path.number == outcome.chosen[prompt]) for path in outcome.paths[prompt]]


def _entry(path: Path, chosen: bool) -> dict:
    by_step = {question.lower(): _by_step(path, question) for question in (CLARITY, POTENTIAL, STEP)}
    final = [p for question in (FINAL, LOG_P, JUDGE) for p in _by_step(path, question).values()]
    return {"path": path.number, **by_step, "kept": path.kept, "stopped": path.stopped,
            "final": final[-1] if final else None, "chosen": chosen}  # fmt: skip


def _by_step(path: Path, question: str) -> dict[int, float | None]:
    pairs = zip(path.asked.get(question, []), path.scores.get(question, []), strict=True)
    return {step: None if isnan(p) else p for step, p in pairs}
