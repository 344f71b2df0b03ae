"""Raster order: one token after the other, left to right and top to bottom, with a key/value cache.

The cache keeps keys and values of every token of every path, which is what bounds the number of paths drawn at once.
"""

from collections.abc import Generator

import torch
from torch import Tensor

from cotlib.decoding.noise import draw_codes, path_uniforms
from cotlib.decoding.schedule import check_temperature
from cotlib.errors import UserError
from cotlib.interfaces import Step


def raster_steps(
    model, prompts: list[str], paths: list[int], seed: int,
    guidance: float | None = None, temperature: float = 1.0, kernel: bool = True, start: Tensor | None = None,
) -> Generator[Step, Tensor | None, None]:  # fmt: skip
    """Yields a `Step` after each token; send back bool [B] to stop the other rows, or nothing to go on with all.

    Each token costs one row of the network: keys and values of text and earlier tokens are kept. In a step's
    `codes`, places not drawn yet hold `mask_id`; `temperature` divides the logits; kernel: as in `masked_rounds`.
    start: long [B, N], codes to go on from instead of an empty canvas: the first few, as many in each row, and `mask_id`
    behind them. A path that goes on from its own codes draws the rest as if it had never paused.
    """
    n = model.grid[0] * model.grid[1]
    check_temperature(temperature, zero=False)
    uniforms = path_uniforms(seed, prompts, paths, (n,)).to(model.device)
    distinct = list(dict.fromkeys(prompts))
    owner = torch.tensor([distinct.index(p) for p in prompts])
    known = 0 if start is None else _known(start, model, len(prompts))
    cache = model.start_cache(model.prefix(distinct, guidance).select(owner), len(prompts))
    number = torch.tensor(paths)
    codes = torch.full((len(prompts), n), model.mask_id, device=model.device)
    confidence = torch.full(codes.shape, float("-inf"), device=codes.device)
    if known:
        codes[:, :known], confidence[:, :known] = start[:, :known].to(codes.device), float("inf")
        _read(model, cache, codes, known)
    for place in range(known, n):
        logits = model.next_logits(cache, _before(model, codes, place), place)
        draw = draw_codes(logits, uniforms[:, place], temperature, kernel=kernel)
        codes[:, place], confidence[:, place] = draw
        masked = torch.arange(n, device=codes.device).expand_as(codes) > place
        log_p = torch.zeros_like(confidence)
        log_p[:, place] = confidence[:, place]
        go_on = yield Step(place, codes.clone(), masked, confidence.clone(), number, log_p)
        if go_on is not None and not bool(go_on.all()):
            codes, confidence, uniforms, number = (
                codes[go_on],
                confidence[go_on],
                uniforms[go_on],
                number[go_on],
            )
            cache = cache.select(go_on)
            if not len(codes):
                return


def _before(model, codes: Tensor, place: int) -> Tensor:
    """The codes [B] that token `place` comes after; mask_id at the start."""
    return codes[:, place - 1] if place else torch.full_like(codes[:, 0], model.mask_id)


def _read(model, cache, codes: Tensor, known: int) -> None:
    """Puts the first `known` codes into the cache but for the last, which the next token's step reads: in one pass
    where the model can, or else one after the other."""
    if hasattr(model, "fill_cache"):
        if known > 1:
            model.fill_cache(cache, codes[:, : known - 1])
        return
    for place in range(known):
        model.next_logits(cache, _before(model, codes, place), place)


def _known(start: Tensor, model, rows: int) -> int:
    """How many codes each row begins with; UserError when rows differ, have gaps, or are finished."""
    n = model.grid[0] * model.grid[1]
    if start.shape != (rows, n):
        raise UserError(
            f"the codes to go on from have shape {list(start.shape)}; expected {[rows, n]}, a row for each path"
        )
    masked = start == model.mask_id
    known = n - int(masked[0].sum())
    if bool((masked != (torch.arange(n, device=masked.device) >= known)).any()):
        raise UserError("the rows to go on from do not begin with equally many codes and mask_id behind them; expected that, "
                        "as raster order leaves no gaps; group the rows by their codes")  # fmt: skip
    if known == n:
        raise UserError("the rows to go on from are finished; expected at least one place with mask_id")
    return known


def sample_raster(
    model, prompts: list[str], paths: list[int], seed: int, start: Tensor | None = None, **options
) -> Tensor:
    """Codes [B, N] of the finished paths; options as in `raster_steps`.

    A model with `groups` (see `cotlib.models.published.chunked`) draws the paths in as many groups as fit on its device,
    which does not change them.
    """

    def part(mine: slice) -> Tensor:
        own = None if start is None else start[mine]
        for step in raster_steps(model, prompts[mine], paths[mine], seed, start=own, **options):
            last = step
        return last.codes

    groups = getattr(model, "groups", None)
    return groups.run(part, len(prompts), "paths") if groups else part(slice(None))
