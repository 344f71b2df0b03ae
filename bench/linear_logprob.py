"""Log-probabilities with gradients: all logits as released, the reference, the libraries, the kernel; time, memory, error.

    python bench/linear_logprob.py [--seconds 1]        appends rows to bench/results/kernels.csv

Forward and backward of a preference step's hidden tokens; on a GPU 20 pictures of Show-o at 512 pixels, on a CPU the
pictogram generator's. Errors, of the sum over one picture against float64, go to bench/results/linear_logprob_error.csv.
"""

import torch
import torch.nn.functional as F
from _measure import Bench, installed

from cotlib.kernels.linear_logprob import cost, launch, reference

SHARE = 0.64  # 2 / pi, the mean share of hidden tokens in training


def released(hidden, weight, targets):
    """The logits in the weights' own dtype, then a log-softmax of all of them in float32."""
    return F.linear(hidden, weight).float().log_softmax(-1).gather(1, targets[:, None]).squeeze(1)


def torch_library(hidden, weight, targets):
    """PyTorch's own fused form; its result has the inputs' dtype."""
    return -F.linear_cross_entropy(hidden, weight, targets, reduction="none")


def liger(hidden, weight, targets):
    """Liger-Kernel's fused form."""
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    return -liger_fused_linear_cross_entropy(hidden, weight, targets, reduction="none")


def both_ways(form):
    """Forward and backward of a form, for both inputs."""

    def work(hidden, weight, targets):
        leaves = hidden.detach().requires_grad_(), weight.detach().requires_grad_()
        return torch.autograd.grad(form(*leaves, targets).float().sum(), leaves)

    return work


def errors(device: torch.device, forms: dict, pictures: int = 8) -> list[dict]:
    """Nats that each form is off, for the sum over one picture's 650 hidden tokens with inputs in bfloat16: root mean square
    over `pictures`, as the sign of a single one is chance."""
    chance = torch.Generator().manual_seed(0)
    off = {name: [] for name in forms}
    for _ in range(pictures):
        hidden, weight = torch.randn(650, 512, generator=chance), torch.randn(8192, 512, generator=chance) / 8
        targets = torch.randint(0, 8192, (650,), generator=chance).to(device)
        hidden, weight = (x.bfloat16().to(device) for x in (hidden, weight))
        exact = (hidden.double() @ weight.double().T).log_softmax(-1).gather(1, targets[:, None]).sum()
        for name, form in forms.items():
            off[name].append((form(hidden, weight, targets).double().sum() - exact).item())
    rows = []
    for name, each in off.items():
        size = (sum(nats**2 for nats in each) / pictures) ** 0.5
        rows.append({"form": name, "pictures": pictures, "nats_off": f"{size:.3g}"})
        print(f"   {size:9.2e} nat off in the sum over a picture: {name}")
    return rows


def main() -> None:
    bench = Bench("linear_logprob", __doc__.splitlines()[0])
    r, d, v = (int(20 * 1024 * SHARE), 2048, 8192) if bench.gpu else (int(64 * 64 * SHARE), 128, 1024)
    hidden, weight = (torch.randn(n, d, device=bench.device, dtype=bench.dtype) for n in (r, v))
    targets = torch.randint(0, v, (r,), device=bench.device)
    plain = {"as released": released, "reference": reference}
    if hasattr(F, "linear_cross_entropy"):
        plain["torch's linear_cross_entropy"] = torch_library
    gpu = {"kernel": launch} | ({"Liger-Kernel": liger} if installed("liger_kernel") else {})
    floor = cost(r, d, v, backward=True, itemsize=hidden.itemsize)
    bench.compare(
        f"{r} rows of {d}, {v} codes, both ways", floor, plain, gpu, (hidden, weight, targets), both_ways
    )
    rows = errors(bench.device, plain | (gpu if bench.gpu else {}))
    bench.append(bench.csv.with_name("linear_logprob_error.csv"), rows)


if __name__ == "__main__":
    main()
