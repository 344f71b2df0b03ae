"""Drawing codes: softmax and multinomial as released, the inverse of the cumulative distribution, the kernel.

    python bench/masked_sample.py [--seconds 1]        appends rows to bench/results/kernels.csv

Two cases of N = 20 candidates: a middle round, where each hidden token has its own logits, and the first one, where all
candidates draw from the same rows.
"""

import torch
from _measure import Bench

from cotlib.kernels.masked_sample import cost, launch, reference

CANDIDATES = 20


def released(logits: torch.Tensor, uniforms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As the released loops write it: probabilities, `multinomial`, and the logarithm of what was drawn; each candidate
    has logits of its own, even where they are all alike."""
    p = logits.repeat_interleave(uniforms[0].numel(), dim=0).float().softmax(-1)
    tokens = torch.multinomial(p, 1)
    return tokens.view(uniforms.shape), p.gather(1, tokens).log().view(uniforms.shape)


def main() -> None:
    bench = Bench("masked_sample", __doc__.splitlines()[0])
    places, codes = (1024, 8192) if bench.gpu else (64, 1024)
    share = 0.66  # of the places still hidden, the mean over 18 rounds of the cosine schedule
    rows = int(CANDIDATES * places * share)
    forms = {"as released": released, "reference": reference}
    for case, r, k in ((f"middle round, {rows} rows of {codes}", rows, 1),
                       (f"first round, {places} rows of {codes}, {CANDIDATES} draws", places, CANDIDATES)):  # fmt: skip
        logits = torch.randn(r, codes, device=bench.device).mul_(3).to(bench.dtype)
        uniforms = torch.rand((r, k) if k > 1 else (r,), device=bench.device)
        floor = cost(r, codes, k, logits.itemsize)
        bench.compare(case, floor, forms, {"kernel": launch}, (logits, uniforms))


if __name__ == "__main__":
    main()
