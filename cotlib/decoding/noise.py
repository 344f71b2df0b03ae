"""Randomness that belongs to a path.

Every draw of a path depends on (seed, prompt, path number) alone: not on the batch, not on which other paths are
still alive, not on the number of processes. So survivors of a search are the same pictures as in best-of-N.
"""

import hashlib

import torch
from torch import Tensor

from cotlib.errors import UserError
from cotlib.kernels.masked_sample import masked_sample


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


draw_codes = masked_sample  # the Triton kernel on a GPU, the same tokens from plain torch elsewhere


def draw_shared(logits: Tensor, uniforms: Tensor, kernel: bool = True) -> tuple[Tensor, Tensor]:
    """One draw for each of K candidates that look alike: (codes, log-probabilities), each [P, K, M].

    logits: [P * M, V], of M places of P prompts; uniforms: [P, K, M] in [0, 1). The softmax runs once for all K.
    """
    prompts, _, places = uniforms.shape
    draws = draw_codes(logits, uniforms.transpose(1, 2).flatten(0, 1), kernel=kernel)  # [P * M, K]
    codes, log_p = (x.unflatten(0, (prompts, places)).transpose(1, 2) for x in draws)
    return codes, log_p


def gumbel(uniforms: Tensor) -> Tensor:
    """Standard Gumbel noise from uniforms in [0, 1)."""
    return -torch.log(-torch.log(uniforms.clamp(1e-20, 1 - 1e-7)))
