"""Best of N by the generator's own confidence: the baseline that needs no verifier.

The score of a path is the mean over its N image tokens of the log-probability each code had when it was drawn for
good. In raster order that is the exact log-likelihood of the picture, divided by N; in masked order it is that of the
order in which this path happened to fix its tokens. Every path has N tokens, so the sum would choose the same one.
"""

from cotlib.decoding import Graphs
from cotlib.interfaces import ImageTokenModel, Outcome
from cotlib.search.ledger import Ledger
from cotlib.search.paths import Drawn, decode, draw, of_chosen, pick_each, stack_codes

LOG_P = "LOG_P"  # the name of this score in a path's record


def logprob(
    model: ImageTokenModel, prompts: list[str], n: int = 20, seed: int = 0, ledger: Ledger | None = None,
    steps: int | None = None, guidance: float | None = None, *, drawn: Drawn | None = None,
    kernel: bool = True, graphs: Graphs | None = None,
) -> Outcome:  # fmt: skip
    """Draws n pictures a prompt and takes the one with the highest mean log-probability, under guidance if there is
    any. Only the chosen pictures are decoded. drawn, kernel, graphs: as in `single`."""
    ledger = Ledger() if ledger is None else ledger
    drawn = drawn or draw(model, prompts, n, seed, steps, guidance, kernel, graphs)
    paths, rows = drawn.again(ledger)
    scores = [total / len(rows[0].path.codes) for total in drawn.log_p]
    for row, score in zip(rows, scores, strict=True):
        row.path.note(LOG_P, drawn.last, score)
    chosen, ties = pick_each(scores, n)
    images = decode(model, of_chosen(stack_codes(rows), chosen, n), ledger)
    return Outcome(images, chosen, paths, ledger, ties)
