"""How many tokens stay hidden after each round, and how much noise goes into choosing them (Show-o, MaskGIT)."""

from math import cos, floor, isfinite, pi

from cotlib.errors import UserError


def check_steps(steps: int, n_tokens: int) -> int:
    """The number of rounds, if it is one: a whole number from 1 to the number of tokens. UserError otherwise."""
    if not isinstance(steps, int) or not 1 <= steps <= n_tokens:
        raise UserError(
            f"steps is {steps}; expected a whole number from 1 to {n_tokens}, the number of image tokens"
        )
    return steps


def check_temperature(temperature: float, zero: bool = True) -> float:
    """The temperature, if it is one: finite and at least 0, or above 0 where it divides. UserError otherwise."""
    if not isfinite(temperature) or temperature < 0 or (temperature == 0 and not zero):
        bound = "of at least 0" if zero else "above 0"
        raise UserError(f"temperature is {temperature}; expected a finite number {bound}")
    return temperature


def masked_count(step: int, steps: int, n_tokens: int, unknown: int, share: float | None = None) -> int:
    """Tokens left masked after `step` (from 0) of `steps`.

    max(1, min(unknown - 1, floor(n_tokens cos(pi/2 (step+1)/steps)))), and 0 after the last step. `unknown` is the
    number masked before the step. At least one token is fixed per step. share: in the place of the cosine, for those who
    need it in another number format (`cotlib.decoding.ratios`).
    """
    if step + 1 >= steps:
        return 0
    share = cos(pi / 2 * (step + 1) / steps) if share is None else share
    return max(1, min(unknown - 1, floor(n_tokens * share)))


def temperatures(steps: int, start: float = 1.0) -> list[float]:
    """Scale of the Gumbel noise in each step: as in Show-o's loop, a running product of (1 - (step+1)/steps).

    The released code of the paper carries the end value, 0, over to the next path; here each path starts anew.
    """
    scales, scale = [], start
    for step in range(steps):
        scale *= 1 - (step + 1) / steps
        scales.append(scale)
    return scales
