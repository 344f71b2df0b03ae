"""Nearest codebook rows: the whole table of distances as usually written, the rewritten form, torch.compile, the kernel.

python bench/vq_assign.py [--seconds 1]        appends rows to bench/results/kernels.csv
"""

import torch
from _measure import Bench

from cotlib.kernels.vq_assign import cost, launch, reference


def usual(x: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    """|x|^2 - 2 x e + |e|^2 for every pair, then the smallest."""
    distance = x.square().sum(1, keepdim=True) - 2 * x @ codebook.T + codebook.square().sum(1)
    return distance.argmin(1)


def main() -> None:
    bench = Bench("vq_assign", __doc__.splitlines()[0])
    rows, d, k = (20 * 1024, 256, 8192) if bench.gpu else (20 * 64, 64, 1024)
    x, codebook = (torch.randn(n, d, device=bench.device, dtype=bench.dtype) for n in (rows, k))
    case = f"{rows} vectors of {d} numbers, {k} codes"
    forms = {"as usually written": usual, "reference": reference}
    floor = cost(rows, d, k, x.itemsize)
    bench.compare(case, floor, forms, {"kernel": launch}, (x, codebook))


if __name__ == "__main__":
    main()
