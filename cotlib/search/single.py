"""The baseline: draw, and take what comes. With n > 1 all n pictures of a prompt are drawn and the first is chosen."""

import torch

from cotlib.decoding import Graphs
from cotlib.interfaces import ImageTokenModel, Outcome
from cotlib.search.ledger import Ledger
from cotlib.search.paths import Drawn, decode, draw, stack_codes


def single(
    model: ImageTokenModel, prompts: list[str], n: int = 1, seed: int = 0, ledger: Ledger | None = None,
    steps: int | None = None, guidance: float | None = None, *, drawn: Drawn | None = None,
    kernel: bool = True, graphs: Graphs | None = None,
) -> Outcome:  # fmt: skip
    """Draws n independent pictures a prompt. `chosen` is path 0 everywhere; `images` holds the chosen pictures.

    Every path's codes are in `paths`, so whoever wants all pictures can decode them. drawn: paths to take instead of
    drawing, here and in all strategies that choose among finished paths. kernel, graphs: as in `draw`.
    """
    ledger = Ledger() if ledger is None else ledger
    paths, rows = (drawn or draw(model, prompts, n, seed, steps, guidance, kernel, graphs)).again(ledger)
    images = decode(model, stack_codes(rows[::n]), ledger)
    return Outcome(images, [0] * len(prompts), paths, ledger)


def decode_all(model: ImageTokenModel, outcome: Outcome, chunk: int = 64) -> torch.Tensor:
    """Pictures of every path, float [prompts, n, 3, H, W], decoded `chunk` at a time and counted in the ledger.

    A path that was stopped gives the picture it was stopped at.
    """
    codes = torch.stack([p.codes for row in outcome.paths for p in row])
    images = torch.cat([model.decode(part) for part in codes.split(chunk)])
    outcome.ledger.decodes += len(codes)
    return images.unflatten(0, (len(outcome.paths), -1))
