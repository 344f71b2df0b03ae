"""Best of N by the generator's own confidence: the baseline that needs no verifier.

The score of a path is the mean over its N image tokens of the log-probability each code had when it was drawn for
good. In raster order that is the exact log-likelihood of the picture, divided by N; in masked order it is that of the
order in which this path happened to fix its tokens. Every path has N tokens, so the sum would choose the same one.
"""

import torch

from cotlib.interfaces import ImageTokenModel, Outcome, Row, Step
from cotlib.search.ledger import Ledger
from cotlib.search.paths import candidates, decode, of_chosen, pick_each, run_paths, stack_codes

LOG_P = "LOG_P"  # the name of this score in a path's record


def logprob(
    model: ImageTokenModel, prompts: list[str], n: int = 20, seed: int = 0, ledger: Ledger | None = None,
    steps: int | None = None, guidance: float | None = None,
) -> Outcome:  # fmt: skip
    """Draws n pictures a prompt and takes the one with the highest mean log-probability, under guidance if there is
    any. Only the chosen pictures are decoded."""
    ledger = Ledger() if ledger is None else ledger
    paths, rows = candidates(prompts, n)
    total = torch.zeros(len(rows))

    def add(step: Step, _: list[Row]) -> None:
        nonlocal total
        fixed = step.log_p.masked_fill(step.masked, 0.0)  # [B, N], codes drawn now and not hidden again
        total = total + fixed.sum(1).cpu()

    last = run_paths(model, rows, seed, ledger, add, steps=steps, guidance=guidance)
    scores = (total / len(rows[0].path.codes)).tolist()
    for row, score in zip(rows, scores, strict=True):
        row.path.note(LOG_P, last, score)
    chosen, ties = pick_each(scores, n)
    images = decode(model, of_chosen(stack_codes(rows), chosen, n), ledger)
    return Outcome(images, chosen, paths, ledger, ties)
