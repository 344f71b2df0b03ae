"""Raster order: one token after the other, left to right and top to bottom, with a key/value cache."""

from collections.abc import Generator

import torch
from torch import Tensor

from cotlib.decoding.noise import draw_codes, path_uniforms
from cotlib.decoding.schedule import check_temperature
from cotlib.interfaces import Step


def raster_steps(
    model, prompts: list[str], paths: list[int], seed: int,
    guidance: float | None = None, temperature: float = 1.0, kernel: bool = True,
) -> Generator[Step, Tensor | None, None]:  # fmt: skip
    """Yields a `Step` after each token; send back bool [B] to stop the other rows, or nothing to go on with all.

    Each token costs one row of the network: keys and values of text and earlier tokens are kept. In a step's
    `codes`, places not drawn yet hold `mask_id`; `temperature` divides the logits; kernel: as in `masked_rounds`.
    """
    n = model.grid[0] * model.grid[1]
    check_temperature(temperature, zero=False)
    uniforms = path_uniforms(seed, prompts, paths, (n,)).to(model.device)
    distinct = list(dict.fromkeys(prompts))
    owner = torch.tensor([distinct.index(p) for p in prompts])
    cache = model.start_cache(model.prefix(distinct, guidance).select(owner), len(prompts))
    number = torch.tensor(paths)
    codes = torch.full((len(prompts), n), model.mask_id, device=model.device)
    confidence = torch.full(codes.shape, float("-inf"), device=codes.device)
    for place in range(n):
        before = codes[:, place - 1] if place else torch.full_like(codes[:, 0], model.mask_id)
        logits = model.next_logits(cache, before, place)
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


def sample_raster(model, prompts: list[str], paths: list[int], seed: int, **options) -> Tensor:
    """Codes [B, N] of the finished paths; options as in `raster_steps`."""
    for step in raster_steps(model, prompts, paths, seed, **options):
        last = step
    return last.codes
