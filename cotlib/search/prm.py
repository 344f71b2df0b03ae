"""PRM, the process reward model: at every step branch, ask, and keep one.

After arXiv 2501.13926, section 3.2 and figure 4; the authors released no code. Our reading: at each step n branches
go out from the one kept state; a branch draws its own codes and its own choice of tokens to keep; every branch's
full guess is shown to the verifier, the highest P(yes) stays (of equals the lowest number) and the others are
dropped. In the last step the branches are finished pictures and one of them is the result.

All branches of a step come from the same state, so the network runs once per prompt and step, not n times: the price
of PRM is its verifier, asked n times at every step.
"""

from collections.abc import Callable, Generator

import torch

from cotlib.decoding.masked import settle, told
from cotlib.decoding.noise import draw_shared, gumbel, path_uniforms
from cotlib.decoding.ratios import masked_left
from cotlib.decoding.schedule import check_steps, temperatures
from cotlib.interfaces import STEP, ImageTokenModel, Outcome, Step, Verifier
from cotlib.search.ledger import Ledger
from cotlib.search.paths import (
    advance,
    ask,
    branches,
    candidates,
    decode,
    need,
    need_masked,
    of_chosen,
    pick_each,
    stack_codes,
)


def prm(
    model: ImageTokenModel, prompts: list[str], n: int = 20, seed: int = 0, ledger: Ledger | None = None,
    steps: int | None = None, guidance: float | None = None, *,
    verifier: Verifier | None = None, question: str = STEP, first: int = 0,
    watch: Callable[[Step, list[float], list[int]], None] | None = None, kernel: bool = True,
) -> Outcome:  # fmt: skip
    """Keeps, at every step, the branch with the highest P(yes); path k of the outcome is branch k of every step.

    question: STEP, or FINAL for a zero-shot verifier, which is asked of unfinished pictures what ORM asks of
    finished ones. first: the first step, from 0, at which the verifier is asked; before it branch 0 goes on, and if
    that is never, no verifier is needed and the result is path 0 of best-of-N. watch: sees every step, the scores of
    its branches (0 where nobody was asked) and the branch that each prompt keeps. kernel: False for plain torch on a GPU too.
    `Path.kept` lists the steps at which a branch was kept; `ties` are those of the last step.
    Raises UserError when n < 1, the verifier lacks the question, or the order is raster.
    """
    if first < (model.config.steps if steps is None else steps):
        need(verifier, question)
    need_masked(model, "PRM")
    ledger = Ledger() if ledger is None else ledger
    paths, rows = candidates(prompts, n)
    loop = branch_rounds(model, prompts, n, seed, steps, guidance, kernel)
    chosen = None
    while (step := advance(loop, chosen, ledger)) is not None:
        tokens = step.codes.shape[1]
        ledger.generator_token_passes += branches(model, guidance) * len(prompts) * tokens
        images, scores = None, [0.0] * len(rows)
        if step.index >= first:
            images = decode(model, step.codes, ledger)
            scores = ask(verifier, question, rows, images, step.index, ledger)
        chosen, ties = pick_each(scores, n)
        for own, k in zip(paths, chosen, strict=True):
            own[k].kept.append(step.index)
        for row, codes in zip(rows, step.codes, strict=True):
            row.path.codes = codes
        if watch:
            watch(step, scores, chosen)
    if images is None:
        return Outcome(
            decode(model, of_chosen(stack_codes(rows), chosen, n), ledger), chosen, paths, ledger, ties
        )
    return Outcome(of_chosen(images, chosen, n), chosen, paths, ledger, ties)


def branch_rounds(
    model: ImageTokenModel, prompts: list[str], n: int, seed: int, steps: int | None, guidance: float | None,
    kernel: bool = True,
) -> Generator[Step, list[int], None]:  # fmt: skip
    """Masked rounds in which every prompt has one state and n branches: yields a `Step` of all branches, all of the
    first prompt first; send back the branch that each prompt goes on from.

    Branch k draws in step s the random numbers of path k in step s, so if branch 0 is always kept the result is
    path 0 of best-of-N.
    """
    model, size = told(model, kernel), model.grid[0] * model.grid[1]
    steps = check_steps(model.config.steps if steps is None else steps, size)
    texts, numbers = [p for p in prompts for _ in range(n)], list(range(n)) * len(prompts)
    uniforms = path_uniforms(seed, texts, numbers, (steps, 2, size)).to(model.device)
    prefix = model.prefix(prompts, guidance)
    codes = torch.full((len(prompts), size), model.mask_id, device=model.device)
    masked, left, number = torch.ones_like(codes, dtype=torch.bool), size, torch.tensor(numbers)
    for step, scale in enumerate(temperatures(steps)):
        unknown = masked.repeat_interleave(n, 0)  # [P * n, N]
        dice = uniforms[:, step, 0][unknown].view(len(prompts), n, -1)
        drawn = draw_shared(model.logits(prefix, codes, masked), dice, kernel)
        left = masked_left(step, steps, size, left)
        noise = (scale, gumbel(uniforms[:, step, 1]))
        branches = codes.repeat_interleave(n, 0)
        record, after = settle(step, branches, unknown, drawn, noise, left, number, model.mask_id, kernel)
        chosen = yield record
        codes, masked = of_chosen(after, chosen, n), of_chosen(record.masked, chosen, n)
