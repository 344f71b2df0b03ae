"""Softmax, draw and log-probability of the drawn code, in one read of the logits.

    p_v = exp(x_v / T) / sum_w exp(x_w / T)        token = the first v with p_0 + ... + p_v > u        log p_token

logits x [R, V], uniforms u [R] or [R, K] in [0, 1): K draws from each row, as in the first round of masked decoding,
where all K candidates of a prompt share one row of logits. Returns tokens (int64) and their log-probabilities
(float32), of the uniforms' shape. The chance comes in as numbers, so this is a function: same uniforms, same tokens.

Least traffic: R V logits in, R K uniforms in, tokens and log-probabilities out. About 5 FLOP a logit (subtract,
exponential, sum, running sum, compare), so the memory is the limit on every device.

The draw is the inverse of the cumulative distribution, not the Gumbel trick: a random number for each *logit* costs
about 70 integer instructions, which is more than reading it.

Where it can surprise: the running sum is made in parallel, and rounding can make it fall by a hair from one class to the
next. So the kernel takes the first class that is past u *and* has a probability, and a class without one is never drawn.
Where u lies within rounding (1e-6) of the border between two codes, kernel and reference may draw different ones.
"""

from math import isfinite

import torch
from torch import Tensor

from cotlib.kernels.checks import check, check_float, check_shape, readable, unfit_floats
from cotlib.kernels.compiled import Build
from cotlib.kernels.cost import Cost
from cotlib.kernels.launch import cdiv, chosen, jit, need_triton, power_of_two, rows_a_program, tl

MAX_V = 16384  # codes a program holds in registers without spilling
CHUNK_BYTES = 2 * 2**20  # of float32 logits at a time on a CPU; of 0.5 to 8 MiB mostly the fastest


def masked_sample(
    logits: Tensor, uniforms: Tensor, temperature: float = 1.0, *, kernel: bool = True
) -> tuple[Tensor, Tensor]:
    """Draws codes: (tokens int64, log-probabilities float32), both of the uniforms' shape, [R] or [R, K].

    logits: float [R, V]; uniforms: float32 [R] or [R, K] in [0, 1); temperature above 0 divides the logits. The Triton
    form takes float32, float16 and bfloat16 with V up to 16384; otherwise plain torch runs. UserError for a wrong dtype,
    shape or device, and on a CPU for uniforms outside [0, 1). On a GPU, which nobody waits for, those give token -1 and
    log-probability NaN.
    """
    _check(logits, uniforms, temperature)
    form = launch if chosen(kernel, logits, unfit(logits)) else in_pieces
    return form(logits, uniforms, temperature)


def in_pieces(logits: Tensor, uniforms: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """`reference`, on a CPU some rows at a time: what one operation writes is then still in the cache for the next one.

    The same numbers to the last bit; for many rows two to three times as fast with two threads, about as fast with one.
    """
    rows = max(1, CHUNK_BYTES // (4 * logits.shape[1]))
    if logits.is_cuda or len(logits) <= rows:
        return reference(logits, uniforms, temperature)
    pieces = zip(logits.split(rows), uniforms.split(rows), strict=True)
    tokens, log_p = zip(*(reference(x, u, temperature) for x, u in pieces), strict=True)
    return torch.cat(tokens), torch.cat(log_p)


def reference(logits: Tensor, uniforms: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """The same in plain torch; on a CPU several times as fast as `torch.multinomial` (bench/masked_sample.py)."""
    scaled = logits.float() if temperature == 1 else logits.float() / temperature
    draws = uniforms[:, None] if uniforms.dim() == 1 else uniforms
    log_p = torch.log_softmax(scaled, dim=-1)
    cumulative = log_p.exp().cumsum_(-1)
    target = (draws * cumulative[:, -1:]).contiguous()  # [R, K]
    tokens = torch.searchsorted(cumulative, target, right=True).clamp_(max=logits.shape[-1] - 1)
    log_p = log_p.gather(1, tokens)
    wrong = ~((draws >= 0) & (draws < 1))
    return (
        tokens.masked_fill_(wrong, -1).view(uniforms.shape),
        log_p.masked_fill_(wrong, float("nan")).view(uniforms.shape),
    )


@jit
def _kernel(
    logits, uniforms, tokens, log_p, row_stride, rows, temperature,
    V: tl.constexpr, K: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    read = tl.minimum(row, rows - 1)  # rows past the end repeat the last one and are not stored
    place = tl.arange(0, BLOCK)[None, :]
    start = logits + read * row_stride
    x = tl.load(start[:, None] + place, mask=place < V, other=float("-inf")).to(tl.float32) / temperature
    top = tl.max(x, axis=1)
    p = tl.exp(x - top[:, None])  # [ROWS, BLOCK], not divided by the sum
    total = tl.sum(p, axis=1)
    cumulative = tl.cumsum(p, axis=1)
    for k in range(K):
        u = tl.load(uniforms + read * K + k)
        past = cumulative > (u * total)[:, None]
        # one reduction for two questions: the first code past u, and if rounding left none, the last with p > 0
        key = tl.where(p > 0, tl.where(past, place, 2 * BLOCK - place), 4 * BLOCK)
        key = tl.min(key, axis=1)
        token = tl.where(key < BLOCK, key, tl.where(key < 4 * BLOCK, 2 * BLOCK - key, V - 1))
        drawn = tl.load(start + token).to(tl.float32) / temperature
        right = (u >= 0) & (u < 1)
        tl.store(tokens + row * K + k, tl.where(right, token, -1).to(tl.int64), mask=row < rows)
        drawn = tl.where(right, drawn - top - tl.log(total), float("nan"))
        tl.store(log_p + row * K + k, drawn, mask=row < rows)


def meta(v: int, k: int) -> dict:
    """Compile-time choices for V codes and K draws."""
    block = power_of_two(v)
    warps = 4 if block <= 2048 else 8 if block <= 8192 else 16
    return {"V": v, "K": k, "BLOCK": block, "ROWS": rows_a_program(1), "num_warps": warps}


def launch(logits: Tensor, uniforms: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """The Triton form; UserError for what it does not take (see `unfit`)."""
    _check(logits, uniforms, temperature)
    need_triton(logits, unfit(logits))
    uniforms = uniforms.contiguous()
    tokens = torch.empty(uniforms.shape, dtype=torch.long, device=logits.device)
    log_p = torch.empty(uniforms.shape, dtype=torch.float32, device=logits.device)
    rows, v = logits.shape
    options = meta(v, 1 if uniforms.dim() == 1 else uniforms.shape[1])
    _kernel[(cdiv(rows, options["ROWS"]),)](
        logits, uniforms, tokens, log_p, logits.stride(0), rows, float(temperature), **options
    )
    return tokens, log_p


def unfit(logits: Tensor) -> str | None:
    """Why the Triton kernel cannot take these logits, or None."""
    if logits.shape[1] > MAX_V:
        return f"there are {logits.shape[1]} codes; the kernel holds up to {MAX_V}"
    return unfit_floats("logits", logits)


def builds() -> list[Build]:
    """What is compiled to be looked at (`cotlib.kernels.compiled`): pictograms, Show-o, the widest row."""
    types = {"uniforms": "*fp32", "tokens": "*i64", "log_p": "*fp32", "row_stride": "i32", "rows": "i32",
             "temperature": "fp32"}  # fmt: skip
    cases = ((1024, 20, "fp32"), (8192, 1, "fp16"), (8192, 1, "bf16"), (MAX_V, 1, "fp16"))
    return [Build(_kernel, f"{v} codes, {k} draws, {dtype}", types | {"logits": f"*{dtype}"}, meta(v, k))
            for v, k, dtype in cases]  # fmt: skip


def cost(rows: int, v: int, k: int = 1, itemsize: int = 2) -> Cost:
    """Least bytes and FLOPs for R rows of V logits of `itemsize` bytes and K draws a row."""
    return Cost(rows * v * itemsize + rows * k * (4 + 8 + 4), rows * v * (4 + k))


def _check(logits: Tensor, uniforms: Tensor, temperature: float) -> None:
    check_float("logits", logits, 2)
    check(logits.shape[1] > 0, "logits have no code", "at least one")
    check(uniforms.dtype == torch.float32, f"uniforms have dtype {uniforms.dtype}", "torch.float32")
    check(uniforms.dim() in (1, 2), f"uniforms have shape {list(uniforms.shape)}", "[R] or [R, K]")
    check_shape("uniforms", uniforms, (len(logits), *uniforms.shape[1:]), logits)
    warm = isfinite(temperature) and temperature > 0
    check(warm, f"temperature is {temperature}", "a finite number above 0")
    if readable(uniforms):
        check(bool(((uniforms >= 0) & (uniforms < 1)).all()), "a uniform lies outside [0, 1)", "0 <= u < 1")
