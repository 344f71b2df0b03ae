"""ORM, the outcome reward model: finish n pictures, ask of each whether it is right, keep the surest yes.

After arXiv 2501.13926, section 3.2. P(yes) comes straight from the verifier's logits, no answer is sampled, so the
choice repeats and good pictures do not all read as 1. Of equal scores the lowest path number wins, and
`Outcome.ties` says how many there were.
"""

from cotlib.decoding import Graphs
from cotlib.interfaces import FINAL, ImageTokenModel, Outcome, Verifier
from cotlib.search.ledger import Ledger
from cotlib.search.paths import Drawn, ask, decode, draw, need, of_chosen, pick_each, stack_codes
from cotlib.search.released import released_orm


def orm(
    model: ImageTokenModel, prompts: list[str], n: int = 20, seed: int = 0, ledger: Ledger | None = None,
    steps: int | None = None, guidance: float | None = None, *,
    verifier: Verifier | None = None, paper_compatible: bool = False, drawn: Drawn | None = None,
    kernel: bool = True, graphs: Graphs | None = None,
) -> Outcome:  # fmt: skip
    """Draws n pictures a prompt and takes the one with the highest P(yes) to FINAL.

    verifier: zero-shot and fine-tuned differ in their weights alone. paper_compatible: the released code's rules,
    see `cotlib.search.released`. drawn, kernel, graphs: as in `single`. Raises UserError when n < 1 or the verifier lacks FINAL, before
    anything is drawn.
    """
    need(verifier, FINAL)
    ledger = Ledger() if ledger is None else ledger
    if paper_compatible:
        drawing = {"kernel": kernel, "graphs": graphs}
        return released_orm(model, prompts, n, seed, ledger, steps, guidance, verifier=verifier, **drawing)
    drawn = drawn or draw(model, prompts, n, seed, steps, guidance, kernel, graphs)
    (paths, rows), last = drawn.again(ledger), drawn.last
    images = decode(model, stack_codes(rows), ledger)
    chosen, ties = pick_each(ask(verifier, FINAL, rows, images, last, ledger), n)
    return Outcome(of_chosen(images, chosen, n), chosen, paths, ledger, ties)
