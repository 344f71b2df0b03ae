"""Signs to codes, 13 bits each: plain torch, torch.compile and the kernel.

python bench/lfq_pack.py [--seconds 1]        appends rows to bench/results/kernels.csv
"""

import torch
from _measure import Bench

from cotlib.kernels.lfq_pack import cost, launch, reference


def main() -> None:
    bench = Bench("lfq_pack", __doc__.splitlines()[0])
    for pictures in (1, 20):
        z = torch.randn(pictures * 1024, 13, device=bench.device)
        case = f"{pictures} x 1024 tokens of 13 bits"
        bench.compare(case, cost(*z.shape), {"reference": reference}, {"kernel": launch}, (z,))


if __name__ == "__main__":
    main()
