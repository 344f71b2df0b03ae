"""Successive halving: after half of the rounds the half of a prompt's paths with the lower POTENTIAL stops, after three
quarters again half of those left; FINAL picks among the rest.

Beyond arXiv 2501.13926. PARM compares each path with a fixed threshold, so it stops all paths of a hard prompt and none of an
easy one. Here paths of one prompt are compared with each other: only their order counts, the price is known beforehand,
and somebody is always left. The scheme is sequential halving (Karnin, Koren, Somekh, ICML 2013; Jamieson and
Talwalkar, arXiv 1502.07943).
"""

import torch
from torch import Tensor

from cotlib.decoding import Graphs
from cotlib.decoding.schedule import check_steps
from cotlib.interfaces import FINAL, POTENTIAL, ImageTokenModel, Outcome, Path, Row, Step, Verifier
from cotlib.search.ledger import Ledger
from cotlib.search.parm import choose_final
from cotlib.search.paths import ask, candidates, decode, need, need_masked, run_paths, stack_codes


def halving(
    model: ImageTokenModel, prompts: list[str], n: int = 20, seed: int = 0, ledger: Ledger | None = None,
    steps: int | None = None, guidance: float | None = None, *, verifier: Verifier | None = None,
    kernel: bool = True, graphs: Graphs | None = None,
) -> Outcome:  # fmt: skip
    """n paths a prompt, halved by POTENTIAL at `halvings(steps)`; the surest yes to FINAL of those left.

    Of equal scores the lower path number stays. kernel, graphs: as in `cotlib.search.single`. Raises UserError when n < 1, the
    verifier lacks POTENTIAL or FINAL, or the order is raster.
    """
    need(verifier, POTENTIAL, FINAL)
    need_masked(model, "halving")
    ledger = Ledger() if ledger is None else ledger
    count = check_steps(model.config.steps if steps is None else steps, model.grid[0] * model.grid[1])
    paths, rows = candidates(prompts, n)
    owner = {id(path): i for i, own in enumerate(paths) for path in own}

    def watch(step: Step, rows: list[Row]) -> Tensor | None:
        if step.index not in halvings(count) or len(rows) == len(prompts):
            return None
        odds = ask(verifier, POTENTIAL, rows, decode(model, step.codes, ledger), step.index, ledger)
        go_on = torch.zeros(len(rows), dtype=torch.bool)
        for i in range(len(prompts)):
            mine = [b for b, row in enumerate(rows) if owner[id(row.path)] == i]
            go_on[[mine[j] for j in upper_half([odds[b] for b in mine])]] = True
        return go_on

    run_paths(model, rows, seed, ledger, watch, steps=steps, guidance=guidance, kernel=kernel, graphs=graphs)
    left: list[list[Path]] = [[path for path in own if path.stopped is None] for own in paths]
    finalists = [Row(prompt, path) for prompt, own in zip(prompts, left, strict=True) for path in own]
    images = decode(model, stack_codes(finalists), ledger)
    ask(verifier, FINAL, finalists, images, count - 1, ledger)
    return choose_final(images, finalists, paths, ledger)


def halvings(steps: int) -> list[int]:
    """Steps, from 0, after which half of the paths stop: half and three quarters of the way, but never the last one."""
    return sorted({step for step in (steps // 2 - 1, 3 * steps // 4 - 1) if 0 <= step < steps - 1})


def upper_half(odds: list[float]) -> list[int]:
    """Places of the higher half of the scores, in order; of an odd number the larger part, of equal scores the first."""
    best = sorted(range(len(odds)), key=lambda place: (-odds[place], place))
    return sorted(best[: -(-len(odds) // 2)])
