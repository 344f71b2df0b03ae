"""Masked rounds, exactly as Show-o does them: guess every hidden token, keep the surest, hide the rest again.

`masked_rounds` is a generator that yields a `Step` after each round; whoever drives it may send back which rows go
on, and the others cost nothing more. `sample_masked` runs it to the end.

Exact savings, all tested: text prefix computed once per prompt; only the rows still hidden go through the head;
guidance is combined before the head (it is linear); the first round, where all candidates of a prompt look alike,
runs the network once per prompt.
"""

from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor

from cotlib.decoding.noise import draw_codes, draw_shared, gumbel, path_uniforms
from cotlib.decoding.ratios import masked_left
from cotlib.decoding.schedule import check_steps, check_temperature, temperatures
from cotlib.errors import UserError
from cotlib.interfaces import ImageTokenModel, Step
from cotlib.kernels.remask_step import remask_step


def guide(cond: Tensor, uncond: Tensor, w: float) -> Tensor:
    """Classifier-free guidance as in Show-o: (1 + w) cond - w uncond, elementwise; w = 0 is no guidance."""
    return (1 + w) * cond - w * uncond


def settle(
    index: int, codes: Tensor, masked: Tensor, drawn: tuple[Tensor, Tensor], noise: tuple[float, Tensor], left: int,
    paths: Tensor, mask_id: int, kernel: bool = True,
) -> tuple[Step, Tensor]:  # fmt: skip
    """Ends a round: (its record, codes [B, N] that the next one starts from, with `left` tokens a row hidden again).

    codes, masked: the round's input [B, N]; drawn: (codes, log-probabilities) of the masked places, in row-major order;
    noise: (scale, standard Gumbel noise [B, N]); paths: path numbers [B].
    """
    guess = codes.masked_scatter(masked, drawn[0])
    log_p = torch.zeros(codes.shape, device=codes.device).masked_scatter(masked, drawn[1])
    scale, gumbels = noise
    ids, known, confidence = remask_step(log_p, guess, ~masked, left, gumbels, scale, mask_id, kernel=kernel)
    return Step(index, guess, ~known, confidence, paths, log_p), ids


def masked_rounds(
    model: ImageTokenModel, prompts: list[str], paths: list[int], seed: int,
    steps: int | None = None, guidance: float | None = None, temperature: float = 1.0,
    start: Tensor | None = None, prefix: Any = None, owners: list[str] | None = None, kernel: bool = True,
) -> Generator[Step, Tensor | None, None]:  # fmt: skip
    """Yields a `Step` after each round; send back bool [B] to stop the other rows, or nothing to go on with all.

    prompts, paths: one entry per row; rows of one prompt share their text prefix. steps, guidance: the model's own
    unless given. temperature: start of the annealed noise in the choice of tokens to keep (1.0 in Show-o).
    start: long [B, N], codes to begin from instead of an empty canvas; only tokens that are `mask_id` are drawn, and
    every row has as many of them. prefix: one row per path, instead of that of the prompts. owners: texts that the
    random numbers belong to, instead of the prompts. kernel: False for plain torch on a GPU too.
    """
    n = _unknown(start, model)
    steps = check_steps(model.config.steps if steps is None else steps, n)
    scales = temperatures(steps, check_temperature(temperature))
    size = model.grid[0] * model.grid[1]
    uniforms = path_uniforms(seed, owners or prompts, paths, (steps, 2, size)).to(model.device)
    noise = gumbel(uniforms[:, :, 1])  # of all rounds, [B, S, N]
    distinct = list(dict.fromkeys(prompts))
    owner = torch.tensor([distinct.index(p) for p in prompts])
    alike = start is None and prefix is None  # all rows of a prompt are the same empty canvas
    if prefix is None:
        shared = model.prefix(distinct, guidance)
        prefix = shared.select(owner)
    number = torch.tensor(paths)
    codes = torch.full((len(prompts), size), model.mask_id, device=model.device) if start is None else start
    masked, left = codes == model.mask_id, n
    for step, scale in enumerate(scales):
        if step == 0 and alike:
            logits = model.logits(shared, codes[: len(distinct)], masked[: len(distinct)])
            drawn = _draw_alike(logits, uniforms[:, 0, 0], owner, kernel)
        else:
            logits = model.logits(prefix, codes, masked)
            drawn = draw_codes(logits, uniforms[:, step, 0][masked], kernel=kernel)
        left = masked_left(step, steps, n, left)
        dice = (scale, noise[:, step])
        record, codes = settle(step, codes, masked, drawn, dice, left, number, model.mask_id, kernel)
        masked = record.masked
        go_on = yield record
        if go_on is not None and not bool(go_on.all()):
            prefix, uniforms, noise = prefix.select(go_on), uniforms[go_on], noise[go_on]
            codes, masked, owner, number = codes[go_on], masked[go_on], owner[go_on], number[go_on]
            if not len(codes):
                return


def _draw_alike(logits: Tensor, uniforms: Tensor, owner: Tensor, kernel: bool) -> tuple[Tensor, Tensor]:
    """(codes, log-probabilities) [B, N] of paths that all start from their prompt's logits [P * N, V].

    uniforms: [B, N]; owner: long [B], each path's prompt, 0 .. P - 1.
    """
    count = torch.nn.functional.one_hot(owner).cumsum(0)  # paths of each prompt so far, [B, P]
    place = owner, count.gather(1, owner[:, None])[:, 0] - 1  # (prompt, which of its paths)
    table = uniforms.new_zeros(count.shape[1], int(count[-1].max()), uniforms.shape[1])  # [P, K, N]
    place = tuple(index.to(uniforms.device) for index in place)
    table[place] = uniforms
    codes, log_p = draw_shared(logits, table, kernel)
    return codes[place], log_p[place]


def _unknown(start: Tensor | None, model: ImageTokenModel) -> int:
    """Tokens that each row has to draw; UserError when there are none or the rows differ."""
    if start is None:
        return model.grid[0] * model.grid[1]
    counts = (start == model.mask_id).sum(1)
    if not len(counts) or int(counts[0]) == 0 or bool((counts != counts[0]).any()):
        raise UserError(f"the rows to go on from have {counts.tolist()} masked tokens; expected as many in each, and at "
                        "least one; group the rows by their masked tokens")  # fmt: skip
    return int(counts[0])


def sample_masked(
    model: ImageTokenModel, prompts: list[str], paths: list[int], seed: int, **options
) -> Tensor:
    """Codes [B, N] of the finished paths; options as in `masked_rounds`."""
    for step in masked_rounds(model, prompts, paths, seed, **options):
        last = step
    return last.codes
