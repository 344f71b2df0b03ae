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

from cotlib.decoding.noise import draw_codes, gumbel, path_uniforms
from cotlib.decoding.ratios import masked_left
from cotlib.decoding.schedule import check_steps, check_temperature, temperatures
from cotlib.errors import UserError
from cotlib.interfaces import ImageTokenModel, Step


def guide(cond: Tensor, uncond: Tensor, w: float) -> Tensor:
    """Classifier-free guidance as in Show-o: (1 + w) cond - w uncond, elementwise; w = 0 is no guidance."""
    return (1 + w) * cond - w * uncond


def remask(confidence: Tensor, known: Tensor, left: int) -> Tensor:
    """Which tokens stay masked: the `left` least confident of the unknown ones.

    confidence: float [B, N]; known: bool [B, N], never masked again. Returns bool [B, N] with `left` True a row.
    Ties go to the lower position.
    """
    order = confidence.masked_fill(known, float("inf")).argsort(dim=1, stable=True)
    masked = torch.zeros_like(known)
    return masked.scatter_(1, order[:, :left], True)


def masked_rounds(
    model: ImageTokenModel, prompts: list[str], paths: list[int], seed: int,
    steps: int | None = None, guidance: float | None = None, temperature: float = 1.0,
    start: Tensor | None = None, prefix: Any = None, owners: list[str] | None = None,
) -> Generator[Step, Tensor | None, None]:  # fmt: skip
    """Yields a `Step` after each round; send back bool [B] to stop the other rows, or nothing to go on with all.

    prompts, paths: one entry per row; rows of one prompt share their text prefix. steps, guidance: the model's own
    unless given. temperature: start of the annealed noise in the choice of tokens to keep (1.0 in Show-o).
    start: long [B, N], codes to begin from instead of an empty canvas; only tokens that are `mask_id` are drawn, and
    every row has as many of them. prefix: one row per path, instead of that of the prompts. owners: texts that the
    random numbers belong to, instead of the prompts.
    """
    n = _unknown(start, model)
    steps = check_steps(model.config.steps if steps is None else steps, n)
    scales = temperatures(steps, check_temperature(temperature))
    size = model.grid[0] * model.grid[1]
    uniforms = path_uniforms(seed, owners or prompts, paths, (steps, 2, size)).to(model.device)
    distinct = list(dict.fromkeys(prompts))
    owner = torch.tensor([distinct.index(p) for p in prompts])
    alike = start is None and prefix is None  # all rows of a prompt are the same empty canvas
    if prefix is None:
        shared = model.prefix(distinct, guidance)
        prefix = shared.select(owner)
    number = torch.tensor(paths)
    codes = torch.full((len(prompts), size), model.mask_id, device=model.device) if start is None else start
    masked = codes == model.mask_id
    for step, scale in enumerate(scales):
        if step == 0 and alike:
            logits = model.logits(shared, codes[: len(distinct)], masked[: len(distinct)])
            logits = logits.unflatten(0, (len(distinct), n))[owner].flatten(0, 1)
        else:
            logits = model.logits(prefix, codes, masked)
        drawn, drawn_log_p = draw_codes(logits, uniforms[:, step, 0][masked])
        guess = codes.masked_scatter(masked, drawn)
        log_p = torch.zeros(codes.shape, device=codes.device).masked_scatter(masked, drawn_log_p)
        confidence = log_p.masked_fill(~masked, float("inf")) + scale * gumbel(uniforms[:, step, 1])
        left = masked_left(step, steps, n, int(masked[0].sum()))
        masked = remask(confidence, ~masked, left)
        codes = guess.masked_fill(masked, model.mask_id)
        go_on = yield Step(step, guess, masked, confidence, number, log_p)
        if go_on is not None and not bool(go_on.all()):
            prefix, uniforms, codes, masked = (
                prefix.select(go_on),
                uniforms[go_on],
                codes[go_on],
                masked[go_on],
            )
            owner, number = owner[go_on], number[go_on]
            if not len(codes):
                return


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
