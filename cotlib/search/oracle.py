"""The coverage bound: the judge itself picks. No verifier can do better on the same paths."""

from collections.abc import Mapping

from cotlib.decoding import Graphs
from cotlib.errors import UserError
from cotlib.interfaces import ImageTokenModel, Judge, Outcome
from cotlib.search.ledger import Ledger
from cotlib.search.paths import Drawn, decode, draw, of_chosen, pick_each, stack_codes

JUDGE = "JUDGE"  # the name of this score in a path's record, and of its calls in the ledger


def shown_to_verifier(calls: Mapping[str, int]) -> int:
    """Pictures shown to verifiers, from a ledger's `verifier_calls`. The judge's are left out: they are part of the
    bound or of the measurement, and no method could ask it."""
    return sum(count for question, count in calls.items() if question != JUDGE)


def oracle(
    model: ImageTokenModel, prompts: list[str], n: int = 20, seed: int = 0, ledger: Ledger | None = None,
    steps: int | None = None, guidance: float | None = None, *,
    judge: Judge | None = None, metadatas: list[dict] | None = None, drawn: Drawn | None = None,
    kernel: bool = True, graphs: Graphs | None = None,
) -> Outcome:  # fmt: skip
    """Draws n pictures a prompt and takes the first that the judge calls right, or path 0 if there is none.

    metadatas: one per prompt, in GenEval's form. A bound, not a method: it knows the answer. `ties` counts the
    right pictures, or all of them where none is right. drawn, kernel, graphs: as in `single`.
    """
    if judge is None or metadatas is None or len(metadatas) != len(prompts):
        raise UserError(
            f"the oracle has {'no judge' if judge is None else 'a judge'} and "
            f"{len(metadatas or [])} metadatas for {len(prompts)} prompts; expected a judge and one metadata for each"
        )
    ledger = Ledger() if ledger is None else ledger
    drawn = drawn or draw(model, prompts, n, seed, steps, guidance, kernel, graphs)
    (paths, rows), last = drawn.again(ledger), drawn.last
    images = decode(model, stack_codes(rows), ledger)
    with ledger.timed("judge"):
        verdicts = judge([metadata for metadata in metadatas for _ in range(n)], images)
    ledger.verifier_calls[JUDGE] += len(rows)
    scores = [float(verdict.correct) for verdict in verdicts]
    for row, score in zip(rows, scores, strict=True):
        row.path.note(JUDGE, last, score)
    chosen, ties = pick_each(scores, n)
    return Outcome(of_chosen(images, chosen, n), chosen, paths, ledger, ties)
