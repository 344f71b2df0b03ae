"""Hiding the least sure tokens: a sort and its k-th value as released, the reference, the kernel.

    python bench/remask_step.py [--seconds 1]        appends rows to bench/results/kernels.csv

The released form is the fastest to write and not exact: it hides all tokens below the k-th value, so with equal ones
fewer than k. On a GPU a CUDA graph of the kernel is measured too, as everything here is launching.
"""

import torch
from _measure import Bench

from cotlib.kernels.remask_step import cost, launch, reference


def released(log_p, tokens, known, k, noise, temperature, mask_id):
    """As the released loops write it: sort, read the k-th value, compare."""
    confidence = torch.where(known, torch.inf, log_p + temperature * noise)
    cut = confidence.sort(dim=1).values.gather(1, k[:, None])
    hidden = confidence < cut
    return torch.where(hidden, mask_id, tokens), ~hidden, confidence


class Graph:
    """The kernel captured at the first call, with that call's tensors, and replayed from then on."""

    def __init__(self):
        self.captured = None

    def __call__(self, *arguments) -> None:
        if self.captured is None:
            launch(*arguments)  # compiles
            torch.cuda.synchronize()
            captured = torch.cuda.CUDAGraph()
            with torch.cuda.graph(captured):
                launch(*arguments)
            self.captured = captured
        self.captured.replay()


def main() -> None:
    bench = Bench("remask_step", __doc__.splitlines()[0])
    for n in (64, 1024):
        shape, device = (20, n), bench.device
        log_p, noise = -torch.rand(shape, device=device) * 8, torch.randn(shape, device=device)
        tokens, known = torch.randint(0, 1024, shape, device=device), torch.zeros(shape, device=device) > 0
        known[:, : n // 3] = True
        k = torch.full((20,), n // 2, device=device)
        arguments = (log_p, tokens, known, k, noise, 0.5, 8192)
        gpu = {"kernel": launch, "kernel in a CUDA graph": Graph()}
        forms = {"as released": released, "reference": reference}
        bench.compare(f"20 x {n} tokens", cost(*shape), forms, gpu, arguments)


if __name__ == "__main__":
    main()
