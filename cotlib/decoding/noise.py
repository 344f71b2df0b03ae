"""Randomness that belongs to a path.

Every draw of a path depends on (seed, prompt, path number) alone: not on the batch, not on which other paths are
still alive, not on the number of processes. So survivors of a search are the same pictures as in best-of-N.
"""

import hashlib

import torch
from torch import Tensor

from cotlib.errors import UserError


def path_seed(seed: int, prompt: str, path: int) -> int:
    """A 63-bit seed from (seed, prompt, path number)."""
    digest = hashlib.sha256(f"{seed}|{path}|{prompt}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def path_uniforms(seed: int, prompts: list[str], paths: list[int], shape: tuple[int, ...]) -> Tensor:
    """Uniform numbers in [0, 1), float [B, *shape], row b for path `paths[b]` of `prompts[b]`.

    Drawn on the CPU, so every device sees the same numbers. UserError when there is no prompt.
    """
    if not prompts:
        raise UserError("there are no prompts to draw; expected at least one")
    rows = []
    for prompt, path in zip(prompts, paths, strict=True):
        generator = torch.Generator().manual_seed(path_seed(seed, prompt, path))
        rows.append(torch.rand(shape, generator=generator))
    return torch.stack(rows)


def draw_codes(logits: Tensor, uniforms: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Draws one code a row by the inverse of the cumulative distribution.

    logits: [R, V]; uniforms: [R] in [0, 1). Returns (codes [R], log-probabilities of the drawn codes [R]); the
    temperature shapes the draw and the log-probability alike.
    """
    log_p = torch.log_softmax(logits.float() / temperature, dim=-1)
    cumulative = log_p.exp().cumsum(-1)
    target = (uniforms * cumulative[:, -1]).unsqueeze(1)
    codes = torch.searchsorted(cumulative, target, right=True).clamp(max=logits.shape[-1] - 1)
    return codes.squeeze(1), log_p.gather(1, codes).squeeze(1)


def gumbel(uniforms: Tensor) -> Tensor:
    """Standard Gumbel noise from uniforms in [0, 1)."""
    return -torch.log(-torch.log(uniforms.clamp(1e-20, 1 - 1e-7)))
