"""masked_sample: against float64, against the loop's own draw of codes, in Triton's interpreter, and compiled."""

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
from cotlib.kernels import masked_sample as module
from cotlib.kernels.masked_sample import cost, launch, masked_sample, reference

# a power of two; ragged; one row; the Show-o codebook; one code only
SHAPES = [(64, 512), (100, 1000), (1, 1024), (32, 8192), (3, 1)]


def logits_of(rows: int, v: int, dtype=torch.float32, seed: int = 0) -> torch.Tensor:
    return (torch.randn(rows, v, generator=torch.Generator().manual_seed(seed)) * 3).to(dtype)


def oracle(logits: torch.Tensor, temperature: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """(log-probabilities, cumulative probabilities) in float64."""
    log_p = torch.log_softmax(logits.double() / temperature, dim=-1)
    return log_p, log_p.exp().cumsum(-1)


def uniforms_of(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def middles(logits: torch.Tensor, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """(uniforms in the middle of a code's share, those codes), where the share is far wider than rounding; [R]."""
    log_p, cumulative = oracle(logits)
    wide = (log_p.exp() > 1e-5).float()
    codes = torch.multinomial(wide, 1, generator=torch.Generator().manual_seed(seed))
    middle = cumulative.gather(1, codes) - log_p.exp().gather(1, codes) / 2
    return middle.squeeze(1).float(), codes.squeeze(1)


def check_draw(form, logits: torch.Tensor, uniforms: torch.Tensor, temperature: float = 1.0) -> None:
    """Every token's share of 0..1 holds its uniform within rounding, and its log-probability is float64's."""
    tokens, log_p = (x.cpu() for x in form(logits, uniforms, temperature))
    assert tokens.shape == log_p.shape == uniforms.shape
    assert tokens.dtype == torch.long and log_p.dtype == torch.float32
    exact, cumulative = oracle(logits.cpu(), temperature)
    tokens, u = tokens.view(len(logits), -1), uniforms.cpu().double().view(len(logits), -1)
    end, p = cumulative.gather(1, tokens), exact.exp().gather(1, tokens)
    assert ((u < end + 2e-6) & (u > end - p - 2e-6)).all()
    torch.testing.assert_close(log_p.view_as(tokens).double(), exact.gather(1, tokens), atol=1e-5, rtol=0)


def check_edges(form, device: str) -> None:
    """Codes without probability are never drawn, whatever the uniform; a row of one possible code gives that code."""
    x = logits_of(8, 300)
    x[:, ::2] = float("-inf")
    x[:, -50:] = -1e9
    edge = torch.tensor([0.0, 1 - 2**-24, 0.5, 1e-30])
    tokens, log_p = form(x.to(device), edge.expand(8, 4).contiguous().to(device))
    assert (tokens % 2 == 1).all() and (tokens < 250).all() and torch.isfinite(log_p).all()
    one = torch.full((3, 77), float("-inf"))
    one[torch.arange(3), torch.tensor([0, 40, 76])] = 2.0
    tokens, log_p = form(one.to(device), edge.expand(3, 4).contiguous().to(device))
    assert tokens.cpu().tolist() == [[0] * 4, [40] * 4, [76] * 4] and log_p.abs().max() < 1e-6


# ----- the reference -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "v"), SHAPES)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_reference_against_float64(rows, v, temperature):
    x, u = logits_of(rows, v), uniforms_of(rows)
    check_draw(reference, x, u, temperature)
    planted, codes = middles(x)
    assert reference(x, planted)[0].equal(codes)


def test_reference_draws_in_proportion():
    x, n = torch.tensor([[0.0, 1.0, 2.0, -1.0]]), 20000
    grid = (torch.arange(n) + 0.5)[None] / n  # instead of chance: the counts are right up to one
    counts = reference(x, grid)[0][0].bincount(minlength=4)
    assert (counts - n * x[0].softmax(0)).abs().max() <= 1.01


def test_many_draws_of_a_row_are_as_one_at_a_time():
    x, u = logits_of(5, 100), uniforms_of(5, 7)
    tokens, log_p = masked_sample(x, u)
    for k in range(7):
        one = masked_sample(x, u[:, k])
        assert tokens[:, k].equal(one[0]) and log_p[:, k].equal(one[1])


@pytest.mark.parametrize("k", [None, 3])
def test_pieces_are_the_whole_to_the_last_bit(k, monkeypatch):
    x, u = logits_of(101, 300), uniforms_of(*((101,) if k is None else (101, k)))
    for rows in (1, 7, 100, 101):
        monkeypatch.setattr(module, "CHUNK_BYTES", 4 * 300 * rows)
        for piecewise, at_once in zip(masked_sample(x, u, 0.7), reference(x, u, 0.7), strict=True):
            assert piecewise.equal(at_once)


@pytest.mark.parametrize(
    ("rows", "seen"), [(100, [100, 1]), (101, [101]), (40, [40, 40, 21]), (0, [1] * 101)]
)
def test_many_rows_go_through_in_pieces(rows, seen, monkeypatch):
    calls = []
    monkeypatch.setattr(module, "CHUNK_BYTES", 4 * 300 * rows)
    monkeypatch.setattr(module, "reference", lambda x, u, t: calls.append(len(x)) or (u, u))
    masked_sample(logits_of(101, 300), uniforms_of(101))
    assert calls == seen


def test_reference_at_the_edges():
    check_edges(reference, "cpu")
    x = torch.full((1, 6), float("nan"))
    tokens, log_p = reference(x, torch.tensor([0.3]))
    assert tokens.tolist() == [5] and log_p.isnan().all()


def test_no_rows():
    tokens, log_p = masked_sample(torch.zeros(0, 5), torch.zeros(0))
    assert tokens.shape == log_p.shape == (0,)


# ----- the kernel, in a process of its own -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "v"), SHAPES)
def kernel_against_float64(rows, v, dtype):
    x, u = logits_of(rows, v, dtype).to(DEVICE), uniforms_of(rows).to(DEVICE)
    check_draw(launch, x, u)
    check_draw(launch, x, u, 0.7)


@pytest.mark.parametrize("dtype", DTYPES)
def kernel_draws_the_reference_s_tokens(dtype):
    x = logits_of(300, 1000, dtype)
    u, codes = middles(x)
    tokens, log_p = launch(x.to(DEVICE), u.to(DEVICE))
    same, same_log_p = reference(x, u)
    assert tokens.cpu().equal(codes) and same.equal(codes)
    torch.testing.assert_close(log_p.cpu(), same_log_p, atol=5e-6, rtol=0)


def kernel_many_draws_of_a_row_and_strided_rows():
    x, u = logits_of(40, 300).to(DEVICE), uniforms_of(40, 6).to(DEVICE)
    check_draw(launch, x, u)
    check_draw(launch, x[::2, :200], u[::2])  # rows apart in memory, codes side by side
    check_draw(launch, x, u.T.contiguous().T)
    check_draw(launch, x, u[:, 0])


def kernel_at_the_edges():
    check_edges(launch, DEVICE)
    x = torch.zeros(2, 6, device=DEVICE)
    x[0] = float("nan")
    tokens, log_p = launch(x, torch.tensor([0.3, 0.3], device=DEVICE))
    assert tokens.tolist() == [5, 1] and log_p.isnan().tolist() == [True, False]


def kernel_marks_a_uniform_out_of_range(monkeypatch):
    monkeypatch.setattr(module, "_check", lambda *_: None)  # which refuses these on a CPU
    x, u = torch.zeros(5, 8, device=DEVICE), torch.tensor([1.0, -0.1, float("nan"), 7.0, 0.99], device=DEVICE)
    for form in (launch, reference):
        tokens, log_p = form(x, u)
        assert tokens.tolist() == [-1] * 4 + [7] and log_p.isnan().tolist() == [True] * 4 + [False]


def kernel_refuses_what_it_cannot_do():
    x, u = torch.zeros(2, 8, device=DEVICE), torch.zeros(2, device=DEVICE)
    for wrong, word in ((x.double(), "float64"), (x.expand(8, 2, 8)[..., 0].T, "contiguous"),
                        (torch.zeros(2, 20000, device=DEVICE), "16384"), (x.clone().requires_grad_(), "gradient")):  # fmt: skip
        with pytest.raises(UserError, match=word):
            launch(wrong, u[: len(wrong)])


@needs_triton
@pytest.mark.parametrize("place", PLACES)
def test_kernel(place, request):
    run_kernels(request, place)


# ----- bad input, cost ---------------------------------------------------------------------------------------------

X, U = torch.zeros(2, 4), torch.zeros(2)


@pytest.mark.parametrize(("arguments", "word"), [
    ((X.long(), U), "dtype torch.int64"), ((X[0], U), "2 dimensions"), ((X[:, :0], U), "at least one"),
    ((X, U.double()), "torch.float32"), ((X, U[:1]), r"expected \[2\]"), ((X, U[:, None, None]), r"\[R, K\]"),
    ((X, U + 1), r"outside \[0, 1\)"), ((X, U - 1e-9), r"outside \[0, 1\)"), ((X, U * float("nan")), "outside"),
    ((X, U, 0.0), "above 0"), ((X, U, float("nan")), "above 0"), ((X, U.to("meta")), "is on meta|are on meta"),
])  # fmt: skip
def test_bad_input(arguments, word):
    with pytest.raises(UserError, match=word):
        masked_sample(*arguments)


def test_the_kernel_wants_a_gpu():
    with pytest.raises(UserError, match="Triton is not installed|takes CUDA tensors"):
        launch(X, U)


def test_cost_is_one_read_of_the_logits():
    assert cost(100, 8192).bytes == pytest.approx(100 * 8192 * 2, rel=1e-3)
    assert cost(100, 8192, itemsize=4).flops == 5 * 100 * 8192
