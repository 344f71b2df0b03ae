"""qknorm_rope_kv: against complex numbers in float64, the generator's own layer, in the interpreter, and compiled."""

import pytest
import torch
from kernel_tools import (
    DEVICE,
    DTYPES,
    PLACES,
    needs_triton,
    run_kernels,
)

from cotlib.errors import UserError
from cotlib.kernels import qknorm_rope_kv as module
from cotlib.kernels.qknorm_rope_kv import cost, launch, qknorm_rope_kv
from cotlib.models.generator import Block, GeneratorConfig

# (B, L, H, Dh, half): Show-o's head; all turned; nothing turned; one token; ragged heads and an odd width
SHAPES = [(2, 19, 3, 64, 16), (1, 8, 2, 32, 16), (3, 7, 4, 32, 0), (2, 1, 1, 64, 8), (2, 5, 3, 24, 4)]
START, ROOM = 3, 2  # places before and behind the written ones


def case(shape, dtype=torch.float32, packed: bool = True, seed: int = 0) -> list:
    """Arguments of the function, caches filled with 7; packed: q, k, v are views of one projection's output."""
    batch, length, heads, d, half = shape
    chance = torch.Generator().manual_seed(seed)
    if packed:
        q, k, v = (torch.randn(batch, length, 3, heads, d, generator=chance) * 2 + 0.5).to(dtype).unbind(2)
    else:
        q, k, v = ((torch.randn(batch, length, heads, d, generator=chance) * 2).to(dtype) for _ in range(3))
    norms = [tuple(torch.randn(2, d, generator=chance) / 3 + torch.tensor([[1.0], [0.0]])) for _ in range(2)]
    angle = torch.arange(5.0, 5 + length)[:, None] * 0.7 ** torch.arange(half)
    rotary = (angle.cos(), angle.sin()) if half else None
    caches = [torch.full((batch, heads, START + length + ROOM, d), 7.0, dtype=dtype) for _ in range(2)]
    return [q, k, v, *norms, rotary, *caches, START]


def on(device: str, part):
    if isinstance(part, torch.Tensor):
        return part.to(device)
    return type(part)(on(device, x) for x in part) if isinstance(part, (list, tuple)) else part


def oracle(x: torch.Tensor, norm, rotary) -> torch.Tensor:
    """Norm by its definition, rotation as a product of complex numbers, in float64; [B, H, L, Dh]."""
    x = x.double()
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    x = x * norm[0].double() + norm[1].double()
    if rotary:
        half = rotary[0].shape[1]
        turn = torch.complex(rotary[0].double(), rotary[1].double())[:, None]
        pairs = torch.complex(x[..., :half], x[..., half : 2 * half]) * turn
        x = torch.cat([pairs.real, pairs.imag, x[..., 2 * half :]], dim=-1)
    return x.transpose(1, 2)


def check_result(form, arguments: list) -> None:
    q, k, v, q_norm, k_norm, rotary, *_ = arguments
    dtype, length = q.dtype, q.shape[1]
    moved = on(DEVICE, arguments)
    out = form(*moved).cpu()
    k_cache, v_cache = moved[6].cpu(), moved[7].cpu()
    rtol = 2e-6 if dtype == torch.float32 else 0.51 * torch.finfo(dtype).eps  # of the stored number
    for got, x, norm in ((out, q, q_norm), (k_cache[:, :, START : START + length], k, k_norm)):
        torch.testing.assert_close(got.double(), oracle(x, norm, rotary), atol=5e-6, rtol=rtol)
    assert v_cache[:, :, START : START + length].equal(v.transpose(1, 2))
    for cache in (k_cache, v_cache):  # nothing beside the slot was touched
        assert (cache[:, :, :START] == 7).all() and (cache[:, :, START + length :] == 7).all()
    assert out.dtype == dtype


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_reference_against_float64(shape, dtype):
    check_result(qknorm_rope_kv, case(shape, dtype))


def test_reference_is_the_generator_s_layer():
    block, x = Block(GeneratorConfig()), torch.randn(2, 9, 128)
    text_k, text_v = torch.randn(2, 4, 3, 32), torch.randn(2, 4, 3, 32)
    with torch.no_grad():
        wanted = block.project(x)
        q, k, v = block.qkv(block.norm1(x)).unflatten(-1, (3, 4, -1)).unbind(2)
        caches = [torch.cat([text, torch.empty(2, 4, 9, 32)], dim=2) for text in (text_k, text_v)]
        norms = [(n.weight, n.bias) for n in (block.q_norm, block.k_norm)]
        assert qknorm_rope_kv(q, k, v, *norms, None, *caches, 3).equal(wanted[0])
    assert caches[0].equal(torch.cat([text_k, wanted[1]], dim=2))
    assert caches[1].equal(torch.cat([text_v, wanted[2]], dim=2))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def kernel_against_float64(shape, dtype):
    check_result(launch, case(shape, dtype))


def kernel_takes_separate_tensors_and_half_precision_norms():
    arguments = case(SHAPES[0], packed=False)
    check_result(launch, arguments)
    arguments = case(SHAPES[0], torch.float16)
    arguments[3], arguments[4] = (tuple(x.half() for x in norm) for norm in arguments[3:5])
    check_result(launch, arguments)


def kernel_refuses_what_it_cannot_do():
    good = on(DEVICE, case(SHAPES[0]))

    def but(place, value):
        return [*good[:place], value, *good[place + 1 :]]

    apart = good[0].transpose(2, 3).contiguous().transpose(2, 3)
    angle = torch.zeros(19, 12, device=DEVICE)
    for arguments, word in ((but(0, good[0].contiguous()), "alike"), (but(5, (angle, angle)), "powers of two"),
                            ([apart, apart, apart, *good[3:]], "contiguous"),
                            (but(0, good[0].detach().requires_grad_()), "gradient"),
                            (on(DEVICE, case((1, 1, 1, 512, 0))), "up to 256"),
                            (on(DEVICE, case(SHAPES[0], torch.float64)), "float64")):  # fmt: skip
        with pytest.raises(UserError, match=word):
            launch(*arguments)


@needs_triton
@pytest.mark.parametrize("place", PLACES)
def test_kernel(place, request):
    run_kernels(request, place)


GOOD = case((2, 3, 2, 8, 2))
WIDE = torch.zeros(3, 5)


@pytest.mark.parametrize(("place", "value", "word"), [
    (0, GOOD[0][0], "4 dimensions"), (0, GOOD[0].long(), "floats"), (1, GOOD[1][:1], "k has shape"),
    (1, GOOD[1].half(), "as q"), (2, GOOD[2].to("meta"), "is on meta"), (3, (WIDE[0], WIDE[0]), "q_norm has shape"),
    (5, (WIDE, WIDE), "1 to 4"), (5, (WIDE[:2, :2], WIDE[:2, :2]), "cos has shape"),
    (5, (WIDE[:, :2].double(), WIDE[:, :2]), "torch.float32"), (6, GOOD[6][0], r"\[B, H, S, Dh\]"),
    (7, GOOD[7][:, :, 1:], "v_cache has shape"), (7, GOOD[7].half(), "as q"), (8, 6, "do not fit"), (8, -1, "do not fit"),
])  # fmt: skip
def test_bad_input(place, value, word):
    with pytest.raises(UserError, match=word):
        qknorm_rope_kv(*GOOD[:place], value, *GOOD[place + 1 :])


def test_more_numbers_than_the_kernel_counts():
    """2^31 of them, side by side, of which no memory holds any."""
    q = torch.empty(2**15, 16, 64, 64, device="meta")
    cache = torch.empty(1, 1, 1, 64, device="meta")
    assert "2^31; split the batch" in module.unfit(q, q, q, None, cache, cache)
    assert module.unfit(q[:1], q[:1], q[:1], None, cache, cache) is None


def test_bad_epsilon():
    with pytest.raises(UserError, match="eps is 0.0; expected a number above 0"):
        qknorm_rope_kv(*GOOD, 0.0)


def test_the_kernel_wants_a_gpu():
    with pytest.raises(UserError, match="Triton is not installed|takes CUDA tensors"):
        launch(*GOOD)


def test_cost_counts_q_k_v_in_and_out():
    q, k, v, _, _, rotary, *_ = case(SHAPES[0])
    moved = 2 * sum(x.numel() * 4 for x in (q, k, v)) + sum(x.nbytes for x in rotary) + 4 * 64 * 4
    assert cost(*SHAPES[0], itemsize=4).bytes == moved
