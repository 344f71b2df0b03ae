"""lfq_pack and lfq_unpack: against Python's own integers, in Triton's interpreter, and compiled."""

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
from cotlib.kernels import lfq_pack as module
from cotlib.kernels.lfq_pack import cost, launch, launch_unpack, lfq_pack, lfq_unpack
from cotlib.models.published.magvit import SignQuantizer

# a power of two; Show-o's 13; one row; one bit; all 32
SHAPES = [(128, 16), (100, 13), (1, 5), (7, 1), (65, 32)]


def numbers(rows: int, bits: int, dtype=torch.float32) -> torch.Tensor:
    """Numbers of both signs, and what counts as -1: zeros of both signs and NaN."""
    z = torch.randn(rows, bits, generator=torch.Generator().manual_seed(rows))
    z.view(-1)[::7], z.view(-1)[::11], z.view(-1)[::13] = 0.0, -0.0, float("nan")
    return z.to(dtype)


def in_python(z: torch.Tensor) -> list[int]:
    return [int("".join("1" if x > 0 else "0" for x in row), 2) for row in z.tolist()]


@pytest.mark.parametrize(("rows", "bits"), SHAPES)
def test_reference_is_a_binary_number(rows, bits):
    z = numbers(rows, bits)
    assert lfq_pack(z).tolist() == in_python(z)
    assert lfq_unpack(lfq_pack(z), bits).equal(torch.where(z > 0, 1.0, -1.0))


def test_all_codes_there_and_back():
    codes = torch.arange(8192)
    assert lfq_pack(lfq_unpack(codes, 13)).equal(codes)
    first = torch.tensor([[1.0] + [-1.0] * 12])
    assert lfq_pack(first).item() == 4096  # channel 0 is the most significant bit


def test_reference_is_the_published_quantiser():
    """MAGVIT-v2's own tables, channels first as its encoder leaves them."""
    quantiser, z = (
        SignQuantizer(13),
        numbers(2 * 12, 13).view(2, 3, 4, 13).permute(0, 3, 1, 2),
    )  # [B, bits, h, w]
    codes = quantiser.codes(z)
    assert lfq_pack(z.flatten(2).transpose(1, 2).flatten(0, 1)).view(2, 12).equal(codes)
    signs = lfq_unpack(codes.flatten(), 13).view(2, 3, 4, 13).permute(0, 3, 1, 2)
    assert signs.equal(quantiser.vectors(codes, (3, 4)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "bits"), SHAPES)
def kernel_is_the_reference(rows, bits, dtype):
    z = numbers(rows, bits, dtype).to(DEVICE)
    codes = launch(z)
    assert codes.tolist() == in_python(z)
    assert launch_unpack(codes, bits).equal(module.reference_unpack(codes, bits))


def kernel_takes_channels_first():
    z = numbers(13, 100).to(DEVICE)
    assert launch(z.T).equal(module.reference(z.T.contiguous()))
    assert launch(z.T[::3, ::2]).equal(module.reference(z.T[::3, ::2]))
    codes = launch(z.T)
    assert launch_unpack(codes.repeat_interleave(2)[::2], 13).equal(module.reference_unpack(codes, 13))


def kernel_refuses_float64():
    with pytest.raises(UserError, match="float64"):
        launch(torch.zeros(2, 3, device=DEVICE, dtype=torch.float64))


@needs_triton
@pytest.mark.parametrize("place", PLACES)
def test_kernel(place, request):
    run_kernels(request, place)


@pytest.mark.parametrize(("call", "word"), [
    (lambda: lfq_pack(torch.zeros(2, 3).long()), "floats"), (lambda: lfq_pack(torch.zeros(3)), "2 dimensions"),
    (lambda: lfq_pack(torch.zeros(2, 33)), "1 to 32"), (lambda: lfq_pack(torch.zeros(2, 0)), "1 to 32"),
    (lambda: lfq_unpack(torch.zeros(2), 3), "torch.int64"), (lambda: lfq_unpack(torch.arange(9), 3), "0 to 7"),
    (lambda: lfq_unpack(torch.tensor([-1]), 3), "0 to 7"), (lambda: lfq_unpack(torch.arange(2), 0), "1 to 32"),
    (lambda: lfq_unpack(torch.zeros(2, 2).long(), 3), r"\[R\]"),
    (lambda: launch(torch.zeros(2, 3)), "Triton is not installed|takes CUDA tensors"),
    (lambda: launch_unpack(torch.arange(2), 3), "Triton is not installed|takes CUDA tensors"),
])  # fmt: skip
def test_bad_input(call, word):
    with pytest.raises(UserError, match=word):
        call()


def test_cost_counts_numbers_and_codes():
    z = numbers(100, 13)
    assert cost(100, 13).bytes == z.nbytes + lfq_pack(z).nbytes
