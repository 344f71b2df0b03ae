"""The baseline: draw, and take what comes. With n > 1 all n pictures of a prompt are drawn and the first is chosen."""

import torch

from cotlib.decoding import run_steps
from cotlib.interfaces import ImageTokenModel, Outcome, Path, Step
from cotlib.search.ledger import Ledger


def token_passes(model: ImageTokenModel, step: Step, prompts: int, guidance: float) -> int:
    """Image tokens that one step sent through the network.

    Masked rounds run all N tokens of every row, but the first round only once per distinct prompt; raster order
    runs one token a row. Guidance doubles both.
    """
    branches = 2 if guidance else 1
    if model.config.order == "raster":
        return branches * len(step.codes)
    rows = prompts if step.index == 0 else len(step.codes)
    return branches * rows * step.codes.shape[1]


def single(
    model: ImageTokenModel, prompts: list[str], n: int = 1, seed: int = 0, ledger: Ledger | None = None,
    steps: int | None = None, guidance: float | None = None,
) -> Outcome:  # fmt: skip
    """Draws n independent pictures a prompt. `chosen` is path 0 everywhere; `images` holds the chosen pictures.

    Every path's codes are in `paths`, so whoever wants all pictures can decode them.
    """
    ledger = Ledger() if ledger is None else ledger
    strength = model.config.guidance if guidance is None else guidance
    rows = [(prompt, path) for prompt in prompts for path in range(n)]
    with ledger.timed():
        loop = run_steps(
            model, [p for p, _ in rows], [k for _, k in rows], seed, steps=steps, guidance=guidance
        )
        for step in loop:
            ledger.generator_token_passes += token_passes(model, step, len(set(prompts)), strength)
        codes = step.codes.unflatten(0, (len(prompts), n))
        images = model.decode(codes[:, 0])
        ledger.decodes += len(prompts)
    paths = [[Path(k, codes[i, k]) for k in range(n)] for i in range(len(prompts))]
    return Outcome(images, [0] * len(prompts), paths, ledger)


def decode_all(model: ImageTokenModel, outcome: Outcome, chunk: int = 64) -> torch.Tensor:
    """Pictures of every path, float [prompts, n, 3, H, W], decoded `chunk` at a time and counted in the ledger."""
    codes = torch.stack([p.codes for row in outcome.paths for p in row])
    images = torch.cat([model.decode(part) for part in codes.split(chunk)])
    outcome.ledger.decodes += len(codes)
    return images.unflatten(0, (len(outcome.paths), -1))
