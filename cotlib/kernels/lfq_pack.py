"""Look-up-free quantisation: the signs of C numbers are the bits of a code. The smallest kernel here, to begin with.

    code = sum over i of [z_i > 0] 2^(C - 1 - i)            bits = 2 ((code >> (C - 1 - i)) & 1) - 1

`lfq_pack`: z float [R, C] to codes int64 [R], 0 .. 2^C - 1. `lfq_unpack`: codes int64 [R] to signs [R, C], -1 or 1. Channel 0
is the most significant bit, and a zero (or NaN) counts as -1, as in MAGVIT-v2 (arXiv 2310.05737), whose 13 channels make
8192 codes. There is no codebook: the nearest of all 2^C corners of a cube is the one with the same signs.

Least traffic: each number once, 8 bytes a code; 3 FLOP a number. Microseconds whatever is done: it matters nowhere, and
is the place to see rows, masks and a reduction.

Where it can surprise: z may be a transposed view, as of channels-first pictures; its strides go to the kernel.
"""

import torch
from torch import Tensor

from cotlib.kernels.checks import check, check_float, check_long, readable, unfit_dtype
from cotlib.kernels.compiled import Build
from cotlib.kernels.cost import Cost
from cotlib.kernels.launch import cdiv, chosen, jit, need_triton, power_of_two, rows_a_program, tl

MAX_BITS = 32


def lfq_pack(z: Tensor, *, kernel: bool = True) -> Tensor:
    """Signs to codes, int64 [R]. z: float [R, C], C from 1 to 32. UserError for another dtype or shape."""
    _check(z)
    return (launch if chosen(kernel, z, unfit_dtype("z", z)) else reference)(z)


def lfq_unpack(codes: Tensor, bits: int, *, kernel: bool = True) -> Tensor:
    """Codes to signs -1 or 1, float32 [R, C]. codes: int64 [R] in 0 .. 2^bits - 1, others lose their higher bits;
    bits: C, from 1 to 32. UserError for another dtype or shape, and on a CPU for a code out of range."""
    _check_codes(codes, bits)
    return (launch_unpack if chosen(kernel, codes, None) else reference_unpack)(codes, bits)


def reference(z: Tensor) -> Tensor:
    """`lfq_pack` in plain torch."""
    return ((z > 0) * _powers(z.shape[1], z.device)).sum(1)


def reference_unpack(codes: Tensor, bits: int) -> Tensor:
    """`lfq_unpack` in plain torch."""
    return ((codes[:, None] & _powers(bits, codes.device)) != 0) * 2.0 - 1


def _powers(bits: int, device: torch.device) -> Tensor:
    return 1 << torch.arange(bits - 1, -1, -1, device=device)


@jit
def _pack_kernel(z, codes, rows, in_row, in_bit, C: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    i = tl.arange(0, BLOCK)[None, :]
    inside = (row < rows)[:, None] & (i < C)
    at = row.to(tl.int64)[:, None] * in_row + i * in_bit
    bit = (tl.load(z + at, mask=inside, other=0.0) > 0).to(tl.int64)
    code = tl.sum(bit << tl.where(i < C, C - 1 - i, 0).to(tl.int64), axis=1)
    tl.store(codes + row, code, mask=row < rows)


@jit
def _unpack_kernel(codes, signs, rows, C: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    i = tl.arange(0, BLOCK)[None, :]
    code = tl.load(codes + row, mask=row < rows, other=0)[:, None]
    bit = (code >> tl.where(i < C, C - 1 - i, 0).to(tl.int64)) & 1
    inside = (row < rows)[:, None] & (i < C)
    tl.store(signs + row.to(tl.int64)[:, None] * C + i, bit.to(tl.float32) * 2 - 1, mask=inside)


def meta(bits: int) -> dict:
    """Compile-time choices for C bits, of both kernels."""
    return {"C": bits, "BLOCK": power_of_two(bits), "ROWS": rows_a_program(64), "num_warps": 4}


def launch(z: Tensor) -> Tensor:
    """`lfq_pack`, the Triton form; UserError for what it does not take."""
    _check(z)
    need_triton(z, unfit_dtype("z", z))
    codes, options = torch.empty(len(z), dtype=torch.long, device=z.device), meta(z.shape[1])
    _pack_kernel[(cdiv(len(z), options["ROWS"]),)](z, codes, len(z), *z.stride(), **options)
    return codes


def launch_unpack(codes: Tensor, bits: int) -> Tensor:
    """`lfq_unpack`, the Triton form."""
    _check_codes(codes, bits)
    need_triton(codes, None)
    signs, options = torch.empty(len(codes), bits, device=codes.device), meta(bits)
    _unpack_kernel[(cdiv(len(codes), options["ROWS"]),)](codes.contiguous(), signs, len(codes), **options)
    return signs


def builds() -> list[Build]:
    """What is compiled to be looked at (`cotlib.kernels.compiled`): 13 bits, as in MAGVIT-v2."""
    types = {"codes": "*i64", "signs": "*fp32", "rows": "i32", "in_row": "i32", "in_bit": "i32"}
    return [Build(kernel, f"13 bits, {dtype}", types | {"z": f"*{dtype}"}, meta(13))
            for kernel, dtype in ((_pack_kernel, "fp32"), (_pack_kernel, "bf16"), (_unpack_kernel, "fp32"))]  # fmt: skip


def cost(rows: int, bits: int, itemsize: int = 4) -> Cost:
    """Least bytes and FLOPs of `lfq_pack`: compare, shift and add each number."""
    return Cost(rows * bits * itemsize + rows * 8, 3 * rows * bits)


def _check(z: Tensor) -> None:
    check_float("z", z, 2)
    check(1 <= z.shape[1] <= MAX_BITS, f"z has {z.shape[1]} channels", f"1 to {MAX_BITS}")


def _check_codes(codes: Tensor, bits: int) -> None:
    check_long("codes", codes)
    check(codes.dim() == 1, f"codes have shape {list(codes.shape)}", "[R]")
    check(1 <= bits <= MAX_BITS, f"bits is {bits}", f"1 to {MAX_BITS}")
    if readable(codes):
        inside = bool(((codes >= 0) & (codes < 1 << bits)).all())
        check(inside, "a code is out of range", f"0 to {(1 << bits) - 1}")
