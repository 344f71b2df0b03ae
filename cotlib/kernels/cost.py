"""What a kernel must move and compute at the least. Counted from the shapes, before anything is timed.

A count says where the floor is: with bandwidth b (bytes/s) and peak f (FLOP/s), both *measured* on the same device,
no program for the same task is faster than max(bytes / b, flops / f). That is the roofline of Williams et al. (2009).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """bytes: each input read once, each output written once. flops: an addition, multiplication, comparison,
    exponential or logarithm counts as one."""

    bytes: int
    flops: int

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.bytes + other.bytes, self.flops + other.flops)

    def floor(self, bandwidth: float, peak: float) -> float:
        """Seconds that no program can beat, from measured bytes a second and FLOP a second."""
        return max(self.bytes / bandwidth, self.flops / peak)

    @property
    def intensity(self) -> float:
        """FLOP a byte. Below peak / bandwidth the memory is the limit, above it the arithmetic."""
        return self.flops / self.bytes
