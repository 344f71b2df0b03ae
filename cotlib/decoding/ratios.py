"""Show-o's mask schedules, in the number format that its code computes them in.

The surprising fact: the format matters. Of 256 tokens a cosine schedule of 18 steps leaves 256 cos(pi/3) after step 12.
In float64 that is 128; in float32, as Show-o computes it, it is a hair less, and 127 stay masked.
"""

import math

import torch
from torch import Tensor

from cotlib.decoding.schedule import masked_count
from cotlib.errors import UserError


def mask_ratio(share: float, schedule: str = "cosine") -> Tensor:
    """Share of the tokens that stays masked when `share` (0..1) of the steps is done; float32 [].

    schedule: "cosine" cos(pi share / 2), "linear" 1 - share, "pow2" and other powers 1 - share^2, or "sigmoid", a
    logistic curve from -3 to 3 scaled to end at 0. All but the cosine stay at least at 1e-6. UserError for another.
    """
    t = torch.tensor(share, dtype=torch.float32)
    if schedule == "cosine":
        return torch.cos(t * math.pi * 0.5)
    if schedule == "linear":
        return (1 - t).clamp(1e-6, 1.0)
    if schedule == "sigmoid":
        start, end = torch.sigmoid(torch.tensor(-3.0)), torch.sigmoid(torch.tensor(3.0))
        return ((end - torch.sigmoid(t * 6 - 3)) / (end - start)).clamp(1e-6, 1.0)
    if schedule.startswith("pow"):
        try:
            return (1.0 - t ** float(schedule[3:])).clamp(1e-6, 1.0)
        except ValueError:
            pass
    raise UserError(
        f'there is no mask schedule "{schedule}"; expected cosine, linear, sigmoid or pow2, pow3, ...'
    )


def masked_left(step: int, steps: int, tokens: int, unknown: int) -> int:
    """`schedule.masked_count` with the cosine as Show-o computes it: what the loops use."""
    return masked_count(step, steps, tokens, unknown, float(mask_ratio((step + 1) / steps)))
