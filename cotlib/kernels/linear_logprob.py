"""Log-probabilities of given codes straight from hidden states, without ever holding all logits.

    z = h W^T + b        log p_t = z_t - log sum_v exp z_v

hidden h [R, D], weight W [V, D], bias b [V] or None, targets t int64 [R]. window (start, stop) leaves the codes
start .. stop - 1 alone in the softmax, as when only image codes may follow. Returns float32 [R], in nats, with gradients
for h, W and b:

    g_v = up (1[v = t] - exp(z_v - lse))        dh = g W        dW = g^T h        db = sum over rows of g

Rows go through in chunks: a matrix product (cuBLAS, float32 result), then one kernel that reads the logits once. Kept for
the way back is lse alone, one number a row; the logits are computed again there, and turned into g where they lie. So
four matrix products instead of three, and `chunk` x V logits in memory instead of R x V, three times over.

Least traffic of the row kernels: the logits once forward, once in and once out backward; FLOP: 2 R V D for each product.
Preference tuning needs the result in float32: with bfloat16 logits the sum over a picture of 650 tokens is off by about
0.7 nat, as much as an early margin. Source of the chunks: Liger-Kernel's fused linear cross entropy (arXiv 2410.10989).

Where it can surprise: the products stay with cuBLAS on purpose. A matrix product in Triton gets no tensor cores on a T4.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from cotlib.kernels.checks import check, check_float, check_long, check_shape, readable, unfit_dtype
from cotlib.kernels.compiled import Build
from cotlib.kernels.cost import Cost
from cotlib.kernels.launch import cdiv, chosen, jit, need_triton, power_of_two, product, rows_a_program, tl

CHUNK_BYTES = 64 * 2**20  # of float32 logits at a time, unless `chunk` is given


def linear_logprob(
    hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None,
    window: tuple[int, int] | None = None, chunk: int | None = None, *, kernel: bool = True,
) -> Tensor:  # fmt: skip
    """log p of each row's target in nats, float32 [R], with gradients for hidden, weight and bias.

    hidden: float [R, D]; weight: [V, D] of the same dtype; targets: int64 [R], numbered as the rows of weight, inside
    the window; bias: float [V]; chunk: rows at a time, 64 MiB of logits unless given. The Triton form takes float32,
    float16 and bfloat16; otherwise plain torch runs, which holds all logits. UserError for a wrong dtype, shape, device
    or window, and on a CPU for a target outside the window; on a GPU, which nobody waits for, that row gives NaN.
    """
    _check(hidden, weight, targets, bias, window, chunk)
    form = launch if chosen(kernel, hidden, unfit_dtype("hidden", hidden)) else reference
    return form(hidden, weight, targets, bias, window, chunk)


def reference(
    hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None,
    window: tuple[int, int] | None = None, chunk: int | None = None,
) -> Tensor:  # fmt: skip
    """The same in plain torch: all logits at once, in float32 at the least (`chunk` is for the other form)."""
    weight, targets, bias = _seen(weight, targets, bias, window)
    wide = torch.promote_types(hidden.dtype, torch.float32)
    logits = F.linear(hidden.to(wide), weight.to(wide), None if bias is None else bias.to(wide))
    wrong = (targets < 0) | (targets >= len(weight))
    loss = F.cross_entropy(logits, targets.masked_fill(wrong, 0), reduction="none")
    return (-loss).masked_fill(wrong, float("nan")).float()


# ----- the row kernels ---------------------------------------------------------------------------------------------


@jit
def _forward_kernel(
    logits, bias, targets, log_p, lse, rows,
    V: tl.constexpr, BIAS: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """lse and log p of each row of logits [rows, V] in one read, by the running maximum and sum of online softmax."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    read = tl.minimum(row, rows - 1).to(tl.int64)
    start = logits + read * V
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    for first in range(0, V, BLOCK):
        place = first + tl.arange(0, BLOCK)[None, :]
        z = tl.load(start[:, None] + place, mask=place < V, other=float("-inf"))
        if BIAS:
            z += tl.load(bias + place, mask=place < V, other=0.0).to(tl.float32)
        above = tl.maximum(top, tl.max(z, axis=1))
        base = tl.where(above == float("-inf"), 0.0, above)  # a block of codes that are all ruled out
        total = total * tl.exp(top - base) + tl.sum(tl.exp(z - base[:, None]), axis=1)
        top = above
    whole = top + tl.log(total)
    target = tl.load(targets + read)
    right = (target >= 0) & (target < V)
    target = tl.where(right, target, 0)
    z = tl.load(start + target)
    if BIAS:
        z += tl.load(bias + target).to(tl.float32)
    tl.store(lse + row, whole, mask=row < rows)
    tl.store(log_p + row, tl.where(right, z - whole, float("nan")), mask=row < rows)


@jit
def _backward_kernel(
    logits, bias, targets, lse, upstream, gradient, rows,
    V: tl.constexpr, BIAS: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """upstream (1[v = t] - p_v) for logits [rows, V]; gradient may be the logits themselves."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    read = tl.minimum(row, rows - 1).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    at = (read * V)[:, None] + place
    z = tl.load(logits + at, mask=place < V, other=0.0)
    if BIAS:
        z += tl.load(bias + place, mask=place < V, other=0.0).to(tl.float32)
    p = tl.exp(z - tl.load(lse + read)[:, None])
    target, up = tl.load(targets + read), tl.load(upstream + read)
    up = tl.where((target >= 0) & (target < V), up, float("nan"))
    g = up[:, None] * (tl.where(place == target[:, None], 1.0, 0.0) - p)
    tl.store(gradient + at, g, mask=(row < rows)[:, None] & (place < V))


def meta(v: int, bias: bool) -> dict:
    """Compile-time choices for V codes, of both kernels."""
    block = min(4096, power_of_two(v))
    return {"V": v, "BIAS": bias, "BLOCK": block, "ROWS": rows_a_program(1), "num_warps": 8}


# ----- the Triton form ---------------------------------------------------------------------------------------------


def launch(
    hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None,
    window: tuple[int, int] | None = None, chunk: int | None = None,
) -> Tensor:  # fmt: skip
    """The form in chunks, its row kernels in Triton; UserError for what it does not take."""
    _check(hidden, weight, targets, bias, window, chunk)
    need_triton(hidden, unfit_dtype("hidden", hidden))
    weight, targets, bias = _seen(weight, targets, bias, window)
    chunk = chunk or max(1, CHUNK_BYTES // (4 * len(weight)))
    bias = None if bias is None else bias.contiguous()
    return _LinearLogprob.apply(hidden, weight, targets.contiguous(), bias, chunk)


class _LinearLogprob(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, targets, bias, chunk):
        log_p = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        lse, options = torch.empty_like(log_p), meta(len(weight), bias is not None)
        for part in _parts(len(hidden), chunk):
            logits = product(hidden[part], weight.T)
            grid = (cdiv(len(logits), options["ROWS"]),)
            row = (targets[part], log_p[part], lse[part])
            _forward_kernel[grid](logits, bias, *row, len(logits), **options)
        ctx.save_for_backward(hidden, weight, targets, bias, lse)
        ctx.chunk = chunk
        return log_p

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream):
        hidden, weight, targets, bias, lse = ctx.saved_tensors
        want_hidden, want_weight, _, want_bias, _ = ctx.needs_input_grad
        upstream, options = upstream.contiguous(), meta(len(weight), bias is not None)
        d_hidden = torch.empty_like(hidden) if want_hidden else None
        # sums over chunks, in float32
        d_weight = torch.zeros_like(weight, dtype=torch.float32) if want_weight else None
        d_bias = torch.zeros_like(bias, dtype=torch.float32) if want_bias else None
        for part in _parts(len(hidden), ctx.chunk):
            logits = product(hidden[part], weight.T)
            g = logits if hidden.dtype == torch.float32 else torch.empty_like(logits, dtype=hidden.dtype)
            grid = (cdiv(len(g), options["ROWS"]), cdiv(len(weight), options["BLOCK"]))
            row = (targets[part], lse[part], upstream[part])
            _backward_kernel[grid](logits, bias, *row, g, len(g), **options)
            if want_hidden:
                d_hidden[part] = product(g, weight)
            if want_weight:
                d_weight += product(g.T, hidden[part])
            if want_bias:
                d_bias += g.sum(0, dtype=torch.float32)
        d_weight = d_weight.to(weight.dtype) if want_weight else None
        return d_hidden, d_weight, None, d_bias.to(bias.dtype) if want_bias else None, None


def _parts(rows: int, chunk: int) -> list[slice]:
    return [slice(first, min(first + chunk, rows)) for first in range(0, rows, chunk)]


def _seen(weight: Tensor, targets: Tensor, bias: Tensor | None, window: tuple[int, int] | None):
    """Weight, targets and bias as if the window were all there is."""
    if window is None:
        return weight, targets, bias
    seen = slice(*window)
    return weight[seen], targets - window[0], None if bias is None else bias[seen]


def builds() -> list[Build]:
    """What is compiled to be looked at (`cotlib.kernels.compiled`): pictograms, all ids of Show-o."""
    types = {"logits": "*fp32", "bias": "*fp32", "targets": "*i64", "log_p": "*fp32", "lse": "*fp32", "rows": "i32",
             "upstream": "*fp32"}  # fmt: skip
    cases = ((1024, False, "fp32"), (58498, True, "fp16"), (58498, True, "bf16"))
    return [Build(kernel, f"{v} codes, {dtype}", types | {"gradient": f"*{dtype}"}, meta(v, bias))
            for kernel in (_forward_kernel, _backward_kernel) for v, bias, dtype in cases
            if kernel is _backward_kernel or dtype != "bf16"]  # fmt: skip


def cost(rows: int, d: int, v: int, backward: bool = False, itemsize: int = 2) -> Cost:
    """Least bytes and FLOPs for R rows of D numbers against V codes; with backward both ways, four products."""
    inputs = (rows * d + v * d) * itemsize + rows * (8 + 4)
    if not backward:
        return Cost(inputs, 2 * rows * v * d + 4 * rows * v)
    return Cost(2 * inputs + rows * 8, 4 * 2 * rows * v * d + 8 * rows * v)


def _check(hidden, weight, targets, bias, window, chunk) -> None:
    check_float("hidden", hidden, 2)
    check_float("weight", weight, 2)
    v, d = weight.shape
    check_shape("weight", weight, (v, hidden.shape[1]), hidden)
    check(weight.dtype == hidden.dtype, f"weight has dtype {weight.dtype}", f"{hidden.dtype}, as hidden")
    check_long("targets", targets)
    check_shape("targets", targets, (len(hidden),), hidden)
    if bias is not None:
        check_float("bias", bias, 1)
        check_shape("bias", bias, (v,), hidden)
    start, stop = window or (0, v)
    check(0 <= start < stop <= v, f"window is {(start, stop)}", f"0 <= start < stop <= {v}, the codes")
    check(chunk is None or chunk > 0, f"chunk is {chunk}", "at least one row")
    if readable(targets):
        inside = bool(((targets >= start) & (targets < stop)).all())
        check(inside, "a target lies outside the window", f"{start} to {stop - 1}")
