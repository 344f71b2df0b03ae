"""From projection to attention in one layer: separate steps and a joined cache, the reference, the kernel.

    python bench/qknorm_rope_kv.py [--seconds 1]        appends rows to bench/results/kernels.csv

N = 20 candidates with guidance, so 40 rows; on a GPU a layer of Show-o at 512 pixels, on a CPU one of the pictogram
generator.
"""

import torch
import torch.nn.functional as F
from _measure import Bench

from cotlib.kernels.qknorm_rope_kv import cost, launch, reference


def separate(q, k, v, q_norm, k_norm, rotary, k_cache, v_cache, start):
    """As models are usually written: norm, turn, and join with the text's keys and values by `cat`."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    q, k = (
        F.layer_norm(x, x.shape[-1:], *(part.to(x.dtype) for part in norm))
        for x, norm in ((q, q_norm), (k, k_norm))
    )
    if rotary:
        q, k = _turn(q, *rotary), _turn(k, *rotary)
    return q, torch.cat([k_cache[:, :, :start], k], dim=2), torch.cat([v_cache[:, :, :start], v], dim=2)


def _turn(x, cos, sin):
    turned, rest = x[..., : 2 * cos.shape[1]], x[..., 2 * cos.shape[1] :]
    a, b = turned.chunk(2, dim=-1)
    cos, sin = (torch.cat([part, part], dim=-1).to(x.dtype) for part in (cos, sin))
    return torch.cat([turned * cos + torch.cat([-b, a], dim=-1) * sin, rest], dim=-1)


def main() -> None:
    bench = Bench("qknorm_rope_kv", __doc__.splitlines()[0])
    length, heads, d, half, text = (1026, 32, 64, 16, 18) if bench.gpu else (64, 4, 32, 0, 12)
    options = {"device": bench.device, "dtype": bench.dtype}
    q, k, v = torch.randn(40, length, 3, heads, d, **options).unbind(2)
    norm = (torch.ones(d, device=bench.device), torch.zeros(d, device=bench.device))
    angle = torch.arange(length, device=bench.device)[:, None] * torch.rand(half, device=bench.device)
    rotary = (angle.cos(), angle.sin()) if half else None
    caches = [torch.zeros(40, heads, text + length, d, **options) for _ in range(2)]
    floor = cost(40, length, heads, d, half, q.itemsize)
    case, forms = (
        f"40 x {length} tokens, {heads} heads of {d}",
        {"separate steps": separate, "reference": reference},
    )
    bench.compare(case, floor, forms, {"kernel": launch}, (q, k, v, norm, norm, rotary, *caches, text))


if __name__ == "__main__":
    main()
