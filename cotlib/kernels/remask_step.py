"""The end of a masked round: hide the k least sure of the new tokens again and write the next input.

    c = log p + T g                  confidence of each new token; infinite for a known one
    hidden = the k smallest c        of equals the one further left, so exactly k
    ids = mask_id where hidden, token + offset elsewhere

log p, g (standard Gumbel noise) float32 [B, N], tokens int64 [B, N], known bool [B, N], k int64 [B] or one number.
Returns ids (int64), known after the round (bool) and c (float32), all [B, N]. Source: Show-o's loop, after MaskGIT
(arXiv 2202.04200); released code sorts the whole row to read one value of it.

Least traffic: 34 bytes a token, for 20 pictures of 1024 tokens 0.7 MB: on a GPU launching the kernels is all the time
there is. Plain torch takes about a dozen of them; here it is one, with nothing for the host to wait for, so that the
step fits into a CUDA graph. FLOP: about 85 a token, two for c and two for each bit below.

The k-th smallest without a sort: each (confidence, place) becomes one whole number that sorts alike, and that number is
found bit by bit, from the top: is the bit 0 or 1? Count how many numbers lie below; 32 + log2 N counts of a row that
stays in registers. Floats sort like their bits, once negative ones are turned over.

Where it can surprise: T g + log p in one rounding (a fused multiply-add) is another number than in two, and one such
number changes which token is hidden. The kernel is compiled without fusing, so it agrees with torch bit by bit.
"""

from math import isfinite

import torch
from torch import Tensor

from cotlib.kernels.checks import check, check_float, check_long, check_shape, readable
from cotlib.kernels.compiled import Build
from cotlib.kernels.cost import Cost
from cotlib.kernels.launch import cdiv, chosen, jit, need_triton, power_of_two, rows_a_program, tl

MAX_N = 4096  # tokens a program holds in registers without spilling


def remask_step(
    log_p: Tensor, tokens: Tensor, known: Tensor, k: Tensor | int, noise: Tensor, temperature: float,
    mask_id: int, offset: int = 0, *, kernel: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """(next ids int64, known bool, confidence float32), each [B, N]; exactly k of the unknown tokens become mask_id.

    log_p: float32 [B, N], of the tokens (what it holds at known places does not matter); tokens: int64 [B, N], the
    full guess; known: bool [B, N]; k: int64 [B] or one int; noise: float32 [B, N]; temperature: of at least 0;
    offset: added to the tokens that stay. The Triton form takes N up to 4096; otherwise plain torch runs. UserError for
    a wrong dtype, shape or device, and on a CPU for k below 0 or above the unknown tokens of a row; on a GPU, which nobody
    waits for, such a row gets ids -1, nothing known and confidence NaN.
    """
    k = _check(log_p, tokens, known, k, noise, temperature)
    form = launch if chosen(kernel, log_p, unfit(log_p)) else reference
    return form(log_p, tokens, known, k, noise, temperature, mask_id, offset)


def reference(
    log_p: Tensor, tokens: Tensor, known: Tensor, k: Tensor, noise: Tensor, temperature: float,
    mask_id: int, offset: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The same in plain torch; k is int64 [B]."""
    confidence = (log_p + temperature * noise).masked_fill_(known, float("inf"))
    hidden = remask(confidence, known, k[:, None])
    ids, kept = (tokens + offset).masked_fill_(hidden, mask_id), ~hidden
    if readable(k):
        _check_values(k, known)
        return ids, kept, confidence
    wrong = ((k < 0) | (k > (~known).sum(1)))[:, None]
    return ids.masked_fill_(wrong, -1), kept & ~wrong, confidence.masked_fill_(wrong, float("nan"))


def remask(confidence: Tensor, known: Tensor, k: Tensor | int) -> Tensor:
    """Which tokens stay masked: the k least confident of the unknown ones.

    confidence: float [B, N]; known: bool [B, N], never masked again; k: one int or int64 [B, 1]. Returns bool [B, N] with
    k True a row. Ties go to the lower position.
    """
    order = confidence.masked_fill(known, float("inf")).argsort(dim=1, stable=True)
    first = (torch.arange(order.shape[1], device=order.device) < k).expand_as(order)
    return torch.zeros_like(order, dtype=torch.bool).scatter_(1, order, first)


@jit
def _kernel(
    log_p, tokens, known, k, noise, ids, kept, confidence, rows, temperature, mask_id, offset,
    N: tl.constexpr, BLOCK: tl.constexpr, BITS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    place = tl.arange(0, BLOCK)[None, :]
    live = (row < rows)[:, None] & (place < N)
    at = row.to(tl.int64)[:, None] * N + place
    old = tl.load(known + at, mask=live, other=1) != 0
    c = tl.load(log_p + at, mask=live, other=0.0) + temperature * tl.load(noise + at, mask=live, other=0.0)
    c = tl.where(old, float("inf"), c)
    bits = tl.where(c == 0, 0.0, c).to(tl.int32, bitcast=True)  # -0 and 0 are equal
    ordered = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(tl.int64) + 0x80000000  # 0 .. 2^32 - 1
    key = ordered * BLOCK + place  # no two alike
    key = tl.where(old, 0x100000000 * BLOCK, key)  # known ones come after all others, NaN too
    wanted = tl.load(k + row, mask=row < rows, other=0)
    least = tl.zeros([ROWS], tl.int64)  # becomes the wanted-th smallest key, bit by bit
    for i in range(BITS):
        trial = least + (tl.full([ROWS], 1, tl.int64) << (BITS - 1 - i))
        below = tl.sum((key < trial[:, None]).to(tl.int32), axis=1)
        least = tl.where(below < wanted, trial, least)
    hidden = (key <= least[:, None]) & (wanted > 0)[:, None]
    unknown = tl.sum((live & (old == 0)).to(tl.int32), axis=1)
    right = ((wanted >= 0) & (wanted <= unknown))[:, None]
    next_id = tl.where(hidden, mask_id, tl.load(tokens + at, mask=live, other=0) + offset)
    tl.store(ids + at, tl.where(right, next_id, -1), mask=live)
    tl.store(kept + at, right & (hidden == 0), mask=live)
    tl.store(confidence + at, tl.where(right, c, float("nan")), mask=live)


def meta(n: int) -> dict:
    """Compile-time choices for N tokens."""
    block = power_of_two(n)
    return {"N": n, "BLOCK": block, "BITS": 32 + block.bit_length() - 1, "ROWS": rows_a_program(1),
            "num_warps": 4 if block <= 1024 else 8, "enable_fp_fusion": False}  # fmt: skip


def launch(
    log_p: Tensor, tokens: Tensor, known: Tensor, k: Tensor | int, noise: Tensor, temperature: float,
    mask_id: int, offset: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The Triton form; UserError for what it does not take (see `unfit`)."""
    k = _check(log_p, tokens, known, k, noise, temperature)
    need_triton(log_p, unfit(log_p))
    rows, n = log_p.shape
    log_p, tokens, known, k, noise = (x.contiguous() for x in (log_p, tokens, known, k, noise))
    ids, kept, confidence = torch.empty_like(tokens), torch.empty_like(known), torch.empty_like(log_p)
    options = meta(n)
    grid = (cdiv(rows, options["ROWS"]),)
    numbers = (rows, float(temperature), mask_id, offset)
    _kernel[grid](log_p, tokens, known, k, noise, ids, kept, confidence, *numbers, **options)
    return ids, kept, confidence


def unfit(log_p: Tensor) -> str | None:
    """Why the Triton kernel cannot take these rows, or None."""
    if log_p.shape[1] > MAX_N:
        return f"there are {log_p.shape[1]} tokens; the kernel holds up to {MAX_N}"
    return None


def builds() -> list[Build]:
    """What is compiled to be looked at (`cotlib.kernels.compiled`): pictograms, Show-o 512, the longest row."""
    types = {"log_p": "*fp32", "tokens": "*i64", "known": "*i1", "k": "*i64", "noise": "*fp32", "ids": "*i64", "kept": "*i1",
             "confidence": "*fp32", "rows": "i32", "temperature": "fp32", "mask_id": "i32", "offset": "i32"}  # fmt: skip
    return [Build(_kernel, f"{n} tokens", types, meta(n)) for n in (64, 1024, MAX_N)]


def cost(rows: int, n: int) -> Cost:
    """Least bytes and FLOPs for B rows of N tokens: two floats, id and flag in; id, flag and a float out."""
    return Cost(rows * n * (4 + 4 + 8 + 1 + 8 + 1 + 4) + rows * 8, rows * n * (2 + 2 * meta(n)["BITS"]))


def _check(log_p, tokens, known, k, noise, temperature) -> Tensor:
    """k as a tensor [B]."""
    check_float("log_p", log_p, 2)
    for name, tensor in (("tokens", tokens), ("known", known), ("noise", noise)):
        check_shape(name, tensor, log_p.shape, log_p)
    for name, tensor in (("log_p", log_p), ("noise", noise)):
        check(tensor.dtype == torch.float32, f"{name} has dtype {tensor.dtype}", "torch.float32")
    check_long("tokens", tokens)
    check(known.dtype == torch.bool, f"known has dtype {known.dtype}", "torch.bool")
    usable = isfinite(temperature) and temperature >= 0
    check(usable, f"temperature is {temperature}", "a finite number of at least 0")
    k = torch.full((len(log_p),), k, device=log_p.device) if isinstance(k, int) else k
    check_long("k", k)
    check_shape("k", k, log_p.shape[:1], log_p)
    return k


def _check_values(k: Tensor, known: Tensor) -> None:
    unknown = (~known).sum(1)
    right = bool(((k >= 0) & (k <= unknown)).all())
    check(right, f"k is {k.tolist()}", f"0 to the unknown tokens, {unknown.tolist()}")
