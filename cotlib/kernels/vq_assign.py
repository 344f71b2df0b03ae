"""The nearest row of a codebook for each vector.

    code = argmin over k of |x - e_k|^2 = argmin over k of |e_k|^2 / 2 - x . e_k            of equals the lowest k

x [R, D], codebook e [K, D] to codes int64 [R]. The squares of x are the same for every k and left out; what remains is a
matrix product (cuBLAS, float32 result) and one read of it per row, which keeps the smallest value and its place. Rows go
through in chunks, so the [R, K] table of distances is never whole.

Least traffic: x and codebook once, 8 bytes a code; FLOP: 2 R K D for the product and 3 for each pair.

Where it can surprise: |x - e|^2 as a sum of three terms cancels. Two codes whose distances differ by less than rounding
(about 1e-6 |x| |e|) may be exchanged; this form, without |x|^2, loses the least.
"""

import torch
from torch import Tensor

from cotlib.kernels.checks import check, check_float, check_shape, unfit_dtype
from cotlib.kernels.compiled import Build
from cotlib.kernels.cost import Cost
from cotlib.kernels.launch import cdiv, chosen, jit, need_triton, power_of_two, product, rows_a_program, tl

CHUNK_BYTES = 64 * 2**20  # of float32 products at a time


def vq_assign(x: Tensor, codebook: Tensor, *, kernel: bool = True) -> Tensor:
    """Codes int64 [R] of the nearest codebook rows.

    x: float [R, D]; codebook: [K, D] of the same dtype. The Triton form takes float32, float16 and bfloat16; otherwise
    plain torch runs. UserError for a wrong dtype, shape or device. A vector with NaN in it gets code 0.
    """
    _check(x, codebook)
    return (launch if chosen(kernel, x, unfit_dtype("x", x)) else reference)(x, codebook)


def reference(x: Tensor, codebook: Tensor) -> Tensor:
    """The same in plain torch, in float32 at the least."""
    wide = torch.promote_types(x.dtype, torch.float32)
    x, codebook = x.to(wide), codebook.to(wide)
    return torch.addmm(codebook.square().sum(1) / 2, x, codebook.T, alpha=-1).argmin(1)


@jit
def _kernel(dots, half_squares, codes, rows, K: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    read = tl.minimum(row, rows - 1).to(tl.int64)
    best = tl.full([ROWS], float("inf"), tl.float32)
    code = tl.zeros([ROWS], tl.int32)
    for first in range(0, K, BLOCK):
        k = first + tl.arange(0, BLOCK)[None, :]
        distance = tl.load(half_squares + k, mask=k < K, other=float("inf"))
        distance = distance - tl.load(dots + (read * K)[:, None] + k, mask=k < K, other=0.0)
        least = tl.min(distance, axis=1)
        place = tl.min(tl.where(distance == least[:, None], k, K), axis=1)
        nearer = least < best  # of equals the earlier block stays
        best, code = tl.where(nearer, least, best), tl.where(nearer, place, code)
    tl.store(codes + row, code.to(tl.int64), mask=row < rows)


def meta(k: int) -> dict:
    """Compile-time choices for K codes."""
    return {"K": k, "BLOCK": min(2048, power_of_two(k)), "ROWS": rows_a_program(1), "num_warps": 4}


def launch(x: Tensor, codebook: Tensor) -> Tensor:
    """The Triton form; UserError for what it does not take."""
    _check(x, codebook)
    need_triton(x, unfit_dtype("x", x))
    codes, options = torch.empty(len(x), dtype=torch.long, device=x.device), meta(len(codebook))
    half_squares = codebook.float().square().sum(1) / 2
    chunk = max(1, CHUNK_BYTES // (4 * len(codebook)))
    for part, out in zip(x.split(chunk), codes.split(chunk), strict=True):
        grid = (cdiv(len(part), options["ROWS"]),)
        _kernel[grid](product(part, codebook.T), half_squares, out, len(part), **options)
    return codes


def builds() -> list[Build]:
    """What is compiled to be looked at (`cotlib.kernels.compiled`)."""
    types = {"dots": "*fp32", "half_squares": "*fp32", "codes": "*i64", "rows": "i32"}
    return [Build(_kernel, f"{k} codes", types, meta(k)) for k in (1024, 8192)]


def cost(rows: int, d: int, k: int, itemsize: int = 4) -> Cost:
    """Least bytes and FLOPs for R vectors of D numbers and K codes."""
    return Cost((rows * d + k * d) * itemsize + rows * 8, 2 * rows * k * d + 3 * rows * k)


def _check(x: Tensor, codebook: Tensor) -> None:
    check_float("x", x, 2)
    check_float("codebook", codebook, 2)
    check(len(codebook) > 0, "the codebook is empty", "at least one row")
    check_shape("codebook", codebook, (len(codebook), x.shape[1]), x)
    check(codebook.dtype == x.dtype, f"codebook has dtype {codebook.dtype}", f"{x.dtype}, as x")
