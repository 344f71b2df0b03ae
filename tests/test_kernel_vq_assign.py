"""vq_assign: against all distances in float64, planted ties, in Triton's interpreter, and compiled."""

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
from cotlib.kernels import vq_assign as module
from cotlib.kernels.vq_assign import cost, launch, vq_assign

# a power of two; ragged; one row; one code; more codes than a block
SHAPES = [(64, 8, 256), (45, 12, 1000), (1, 4, 32), (9, 3, 1), (20, 8, 5000)]


def case(rows: int, d: int, k: int, dtype=torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(k)
    return torch.randn(rows, d, generator=chance).to(dtype), torch.randn(k, d, generator=chance).to(dtype)


def check_nearest(form, x: torch.Tensor, codebook: torch.Tensor) -> None:
    """No code's distance is beaten by more than rounding, in float64 by the definition."""
    codes = form(x, codebook)
    assert codes.shape == x.shape[:1] and codes.dtype == torch.long
    distance = (x.double()[:, None] - codebook.double()[None]).square().sum(2)
    assert (distance.gather(1, codes[:, None]).squeeze(1) - distance.min(1).values < 1e-5).all()


def check_ties(form, device: str) -> None:
    """Of equal rows the lowest wins, in one block and over several; whole numbers, so that nothing is rounded."""
    codebook = torch.randint(-3, 4, (3000, 4), generator=torch.Generator().manual_seed(0)).float()
    x = codebook[torch.tensor([5, 2999, 1500, 40])]
    first = [next(k for k, row in enumerate(codebook.tolist()) if row == v) for v in x.tolist()]
    assert form(x.to(device), codebook.to(device)).tolist() == first


@pytest.mark.parametrize(("rows", "d", "k"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_reference_against_float64(rows, d, k, dtype):
    check_nearest(vq_assign, *case(rows, d, k, dtype))


def test_reference_ties_and_own_rows():
    check_ties(vq_assign, "cpu")
    _, codebook = case(1, 6, 300)
    assert vq_assign(codebook, codebook).equal(torch.arange(300))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "d", "k"), SHAPES)
def kernel_against_float64(rows, d, k, dtype):
    check_nearest(launch, *(part.to(DEVICE) for part in case(rows, d, k, dtype)))


def kernel_ties_and_chunks(monkeypatch):
    check_ties(launch, DEVICE)
    x, codebook = (part.to(DEVICE) for part in case(45, 6, 300))
    whole = launch(x, codebook)
    monkeypatch.setattr(module, "CHUNK_BYTES", 4 * 300 * 20)  # 20 rows at a time
    assert launch(x, codebook).equal(whole)
    x[3] = float("nan")
    assert launch(x, codebook)[3] == vq_assign(x, codebook, kernel=False)[3] == 0


def kernel_takes_strided_tensors():
    x, codebook = (part.to(DEVICE) for part in case(*SHAPES[1]))
    assert launch(x.T.contiguous().T, codebook.T.contiguous().T).equal(launch(x, codebook))


def kernel_refuses_float64():
    with pytest.raises(UserError, match="float64"):
        launch(*(part.double().to(DEVICE) for part in case(2, 3, 4)))


@needs_triton
@pytest.mark.parametrize("place", PLACES)
def test_kernel(place, request):
    run_kernels(request, place)


X, E = case(2, 3, 4)


@pytest.mark.parametrize(("arguments", "word"), [
    ((X.long(), E), "floats"), ((X[0], E), "2 dimensions"), ((X, E[0]), "2 dimensions"), ((X, E[:0]), "at least one row"),
    ((X, E[:, :2]), r"expected \[4, 3\]"), ((X, E.half()), "as x"), ((X, E.to("meta")), "is on meta"),
])  # fmt: skip
def test_bad_input(arguments, word):
    with pytest.raises(UserError, match=word):
        vq_assign(*arguments)


def test_the_kernel_wants_a_gpu():
    with pytest.raises(UserError, match="Triton is not installed|takes CUDA tensors"):
        launch(X, E)


def test_cost_is_the_matrix_product():
    assert cost(100, 256, 8192).flops == pytest.approx(2 * 100 * 256 * 8192, rel=1e-2)
