"""Everything between the projection and the attention of a layer: norm q and k, turn them, put k and v into the cache.

    q = rope(layernorm(q))        k_cache[:, :, start : start + L] = rope(layernorm(k))        v_cache[...] = v

q, k, v [B, L, H, Dh] as the projection leaves them, also as views of one packed tensor; LayerNorm over each head's Dh
numbers with one weight and bias for all heads; rope turns the pairs (x_i, x_(i + half)), i < half, of the first 2 half
numbers of a head by an angle that depends on the place:

    x_i cos - x_(i + half) sin,    x_(i + half) cos + x_i sin        cos, sin [L, half]

and leaves the others (Phi, and so Show-o, turns half of them; the pictogram generator has places in its embeddings and
turns none). Caches [B, H, S, Dh], written in place. Returns q [B, H, L, Dh], as attention wants it.

Least traffic: q, k, v read once and written once, 6 B L H Dh numbers; 12 FLOP for each number of q and k at most. Plain
torch makes about 27 passes over them, four for joining k and v with the cached text.

Where it can surprise: the three parts of a head (first half, second half, rest) are three loads; no number has to be
fetched from another thread, and all sums are in float32 whatever the dtype.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from cotlib.kernels.checks import check, check_float, check_shape, unfit_floats
from cotlib.kernels.compiled import Build
from cotlib.kernels.cost import Cost
from cotlib.kernels.launch import cdiv, chosen, jit, need_triton, power_of_two, rows_a_program, tl

MAX_HEAD = 256
Norm = tuple[Tensor, Tensor]  # weight and bias [Dh]
Rotary = tuple[Tensor, Tensor]  # cosines and sines [L, half], float32


def qknorm_rope_kv(
    q: Tensor, k: Tensor, v: Tensor, q_norm: Norm, k_norm: Norm, rotary: Rotary | None,
    k_cache: Tensor, v_cache: Tensor, start: int, eps: float = 1e-5, *, kernel: bool = True,
) -> Tensor:  # fmt: skip
    """Writes k and v into the caches at `start`, and returns q, [B, H, L, Dh].

    q, k, v: float [B, L, H, Dh]; q_norm, k_norm: (weight, bias) [Dh]; rotary: (cos, sin) float32 [L, half], or None for
    no turning; k_cache, v_cache: [B, H, S, Dh] of the same dtype. The Triton form takes float32, float16 and bfloat16
    with Dh up to 256, half a power of two, q, k and v laid out alike, without gradients; otherwise plain torch runs.
    UserError for a wrong dtype, shape or device, and when L places from `start` do not fit into the cache.
    """
    arguments = (q, k, v, q_norm, k_norm, rotary, k_cache, v_cache, start, eps)
    _check(*arguments)
    form = launch if chosen(kernel, q, unfit(q, k, v, rotary, k_cache, v_cache)) else reference
    return form(*arguments)


def reference(
    q: Tensor, k: Tensor, v: Tensor, q_norm: Norm, k_norm: Norm, rotary: Rotary | None,
    k_cache: Tensor, v_cache: Tensor, start: int, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """The same in plain torch, in float32 between reading and writing."""
    slot = slice(start, start + q.shape[1])
    k_cache[:, :, slot] = _turned(k, k_norm, rotary, eps).transpose(1, 2)
    v_cache[:, :, slot] = v.transpose(1, 2)
    return _turned(q, q_norm, rotary, eps).transpose(1, 2).to(q.dtype)


def _turned(x: Tensor, norm: Norm, rotary: Rotary | None, eps: float) -> Tensor:
    weight, bias = norm
    x = F.layer_norm(x.float(), x.shape[-1:], weight.float(), bias.float(), eps)
    if rotary is None:
        return x
    cos, sin = (part[:, None] for part in rotary)  # [L, 1, half]
    half = cos.shape[-1]
    a, b, rest = x.split([half, half, x.shape[-1] - 2 * half], dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], dim=-1)


@jit
def _normed(
    source, target, weight, bias, cos, sin, live, eps, D: tl.constexpr, HALF: tl.constexpr, REST: tl.constexpr
):  # fmt: skip
    """LayerNorm and rope of rows of D numbers; source, target, live: [ROWS, 1], cos and sin at the rows' places."""
    last = 2 * HALF + tl.arange(0, REST)[None, :]
    inside = live & (last < D)
    c = tl.load(source + last, mask=inside, other=0.0).to(tl.float32)
    total = tl.sum(c, axis=1)
    if HALF > 0:
        i = tl.arange(0, HALF)[None, :]
        a = tl.load(source + i, mask=live, other=0.0).to(tl.float32)
        b = tl.load(source + HALF + i, mask=live, other=0.0).to(tl.float32)
        total += tl.sum(a, axis=1) + tl.sum(b, axis=1)
    mean = (total / D)[:, None]
    c = tl.where(inside, c - mean, 0.0)
    squares = tl.sum(c * c, axis=1)
    if HALF > 0:
        a, b = a - mean, b - mean
        squares += tl.sum(a * a, axis=1) + tl.sum(b * b, axis=1)
    scale = (1 / tl.sqrt(squares / D + eps))[:, None]
    used = last < D
    w = tl.load(weight + last, mask=used, other=0.0).to(tl.float32)
    shift = tl.load(bias + last, mask=used, other=0.0).to(tl.float32)
    tl.store(target + last, c * scale * w + shift, mask=inside)
    if HALF > 0:
        a = a * scale * tl.load(weight + i).to(tl.float32) + tl.load(bias + i).to(tl.float32)
        b = b * scale * tl.load(weight + HALF + i).to(tl.float32) + tl.load(bias + HALF + i).to(tl.float32)
        x, y = tl.load(cos + i, mask=live, other=0.0), tl.load(sin + i, mask=live, other=0.0)
        tl.store(target + i, a * x - b * y, mask=live)
        tl.store(target + HALF + i, b * x + a * y, mask=live)


@jit
def _kernel(
    q, k, v, q_weight, q_bias, k_weight, k_bias, cos, sin, q_out, k_cache, v_cache, start, eps, rows, length, heads,
    in_batch, in_place, in_head, cache_batch, cache_head, cache_place,
    D: tl.constexpr, HALF: tl.constexpr, REST: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)  # a head of a token of a picture
    live = (row < rows)[:, None]
    head, token = (row % heads).to(tl.int64), row // heads
    place, batch = (token % length).to(tl.int64), (token // length).to(tl.int64)
    source = (batch * in_batch + place * in_place + head * in_head)[:, None]
    cached = (batch * cache_batch + head * cache_head + (start + place) * cache_place)[:, None]
    out = (((batch * heads + head) * length + place) * D)[:, None]
    cos, sin = cos + (place * HALF)[:, None], sin + (place * HALF)[:, None]
    _normed(q + source, q_out + out, q_weight, q_bias, cos, sin, live, eps, D, HALF, REST)
    _normed(k + source, k_cache + cached, k_weight, k_bias, cos, sin, live, eps, D, HALF, REST)
    d = tl.arange(0, BLOCK)[None, :]
    inside = live & (d < D)
    tl.store(v_cache + cached + d, tl.load(v + source + d, mask=inside, other=0.0), mask=inside)


def meta(d: int, half: int) -> dict:
    """Compile-time choices for heads of d numbers of which 2 half are turned."""
    return {"D": d, "HALF": half, "REST": power_of_two(d - 2 * half), "BLOCK": power_of_two(d),
            "ROWS": rows_a_program(max(1, 2048 // power_of_two(d))), "num_warps": 4}  # fmt: skip


def launch(
    q: Tensor, k: Tensor, v: Tensor, q_norm: Norm, k_norm: Norm, rotary: Rotary | None,
    k_cache: Tensor, v_cache: Tensor, start: int, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """The Triton form; UserError for what it does not take (see `unfit`)."""
    _check(q, k, v, q_norm, k_norm, rotary, k_cache, v_cache, start, eps)
    need_triton(q, unfit(q, k, v, rotary, k_cache, v_cache))
    batch, length, heads, d = q.shape
    out = torch.empty((batch, heads, length, d), dtype=q.dtype, device=q.device)
    norms = [x.contiguous() for x in (*q_norm, *k_norm)]
    cos, sin = (x.contiguous() for x in rotary) if rotary else (norms[0], norms[0])  # not read without rotary
    options = meta(d, cos.shape[1] if rotary else 0)
    rows = batch * length * heads
    cache_batch, cache_head, cache_place, _ = k_cache.stride()
    _kernel[(cdiv(rows, options["ROWS"]),)](
        q, k, v, *norms, cos, sin, out, k_cache, v_cache, start, float(eps), rows, length, heads,
        *q.stride()[:3], cache_batch, cache_head, cache_place, **options,
    )  # fmt: skip
    return out


def unfit(q: Tensor, k: Tensor, v: Tensor, rotary: Rotary | None, k_cache: Tensor, v_cache: Tensor):
    """Why the Triton kernel cannot take these, a sentence or None."""
    if q.shape[3] > MAX_HEAD:
        return f"a head has {q.shape[3]} numbers; the kernel takes up to {MAX_HEAD}"
    if rotary and rotary[0].shape[1] & (rotary[0].shape[1] - 1):
        return f"{rotary[0].shape[1]} pairs are turned; the kernel takes powers of two"
    if not q.stride() == k.stride() == v.stride() or k_cache.stride() != v_cache.stride():
        return "q, k and v, or the two caches, do not lie alike in memory; make them contiguous"
    if q.numel() >= 2**31:
        return f"there are {q.numel()} numbers in q; the kernel counts up to 2^31; split the batch"
    named = (("q", q), ("k", k), ("v", v), ("k_cache", k_cache))
    return next((reason for name, tensor in named if (reason := unfit_floats(name, tensor))), None)


def builds() -> list[Build]:
    """What is compiled to be looked at (`cotlib.kernels.compiled`): Show-o, pictograms, the widest head."""
    names = _kernel.arg_names
    types = dict.fromkeys(names, "i32") | {"eps": "fp32", "cos": "*fp32", "sin": "*fp32"}
    moved = (*names[:7], "q_out", "k_cache", "v_cache")
    cases = ((64, 16, "fp16"), (64, 16, "bf16"), (32, 0, "fp32"), (MAX_HEAD, MAX_HEAD // 2, "fp16"))
    return [Build(_kernel, f"heads of {d}, {2 * half} turned, {dtype}", types | dict.fromkeys(moved, f"*{dtype}"), meta(d, half))
            for d, half, dtype in cases]  # fmt: skip


def cost(batch: int, length: int, heads: int, d: int, half: int = 0, itemsize: int = 2) -> Cost:
    """Least bytes and FLOPs: q, k, v in and out; 8 FLOP a number of q and k for the norm, 3 a turned one."""
    numbers = batch * length * heads * d
    turned = batch * length * heads * 2 * half
    return Cost(6 * numbers * itemsize + 2 * length * half * 4 + 4 * d * 4, 2 * (8 * numbers + 3 * turned))


def _check(q, k, v, q_norm, k_norm, rotary, k_cache, v_cache, start, eps) -> None:
    check_float("q", q, 4)
    batch, length, heads, d = q.shape
    check_shape("k", k, q.shape, q)
    check_shape("v", v, q.shape, q)
    check(k_cache.dim() == 4, f"k_cache has shape {list(k_cache.shape)}", "[B, H, S, Dh]")
    room = k_cache.shape[2]
    for name, cache in (("k_cache", k_cache), ("v_cache", v_cache)):
        check_shape(name, cache, (batch, heads, room, d), q)
    for name, tensor in (("k", k), ("v", v), ("k_cache", k_cache), ("v_cache", v_cache)):
        check(tensor.dtype == q.dtype, f"{name} has dtype {tensor.dtype}", f"{q.dtype}, as q")
    for name, norm in (("q_norm", q_norm), ("k_norm", k_norm)):
        for part in norm:
            check_shape(name, part, (d,), q)
    fits = 0 <= start <= room - length
    check(fits, f"{length} places from {start} on do not fit", f"room in the cache's {room}")
    check(eps > 0, f"eps is {eps}", "a number above 0")
    if rotary is not None:
        half = rotary[0].shape[-1]
        check(0 < 2 * half <= d, f"{half} pairs are to be turned", f"1 to {d // 2}")
        for name, part in zip(("cos", "sin"), rotary, strict=True):
            check_shape(name, part, (length, half), q)
            check(part.dtype == torch.float32, f"{name} has dtype {part.dtype}", "torch.float32")
