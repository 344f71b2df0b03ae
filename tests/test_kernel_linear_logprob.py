"""linear_logprob: against float64 and autograd, the loss of preference tuning, in the interpreter, and compiled."""

import pytest
import torch
import torch.nn.functional as F
from kernel_tools import (
    DEVICE,
    DTYPES,
    PLACES,
    needs_triton,
    run_kernels,
)

from cotlib.errors import UserError
from cotlib.kernels import linear_logprob as module
from cotlib.kernels.linear_logprob import cost, launch, linear_logprob, reference

# (R, D, V, chunk): powers of two; ragged, several chunks and a rest; one row; more codes than one block holds
SHAPES = [(64, 32, 512, None), (45, 24, 1000, 20), (1, 16, 64, None), (6, 8, 8192, 4)]


def case(r: int, d: int, v: int, dtype=torch.float32, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """hidden, weight, targets, bias, upstream gradient."""
    chance = torch.Generator().manual_seed(seed)
    hidden, weight = (torch.randn(rows, d, generator=chance).to(dtype) for rows in (r, v))
    return (hidden, weight, torch.randint(0, v, (r,), generator=chance), torch.randn(v, generator=chance),
            torch.randn(r, generator=chance))  # fmt: skip


def oracle(hidden, weight, targets, bias, up, window) -> list[torch.Tensor]:
    """log p and the gradients of (up * log p).sum() by hidden, weight and bias, in float64."""
    leaves = [x.double().requires_grad_() for x in (hidden, weight, bias)]
    z = (leaves[0] @ leaves[1].T + leaves[2])[:, slice(*window)]
    log_p = torch.log_softmax(z, dim=1).gather(1, (targets - window[0])[:, None]).squeeze(1)
    return [log_p.detach(), *torch.autograd.grad((up.double() * log_p).sum(), leaves)]


def check_form(form, r, d, v, chunk, dtype, with_bias=True, window=None) -> None:
    hidden, weight, targets, bias, up = case(r, d, v, dtype)
    if window:
        targets = window[0] + targets % (window[1] - window[0])
    wanted = oracle(hidden, weight, targets, bias * with_bias, up, window or (0, v))
    leaves = [x.to(DEVICE).requires_grad_() for x in (hidden, weight, bias)]
    log_p = form(leaves[0], leaves[1], targets.to(DEVICE), leaves[2] if with_bias else None, window, chunk)
    assert log_p.dtype == torch.float32
    torch.testing.assert_close(log_p.detach().cpu().double(), wanted[0], atol=2e-5, rtol=2e-6)
    wrt = leaves if with_bias else leaves[:2]
    gradients = torch.autograd.grad(log_p, wrt, up.to(DEVICE))
    for got, exact, leaf in zip(gradients, wanted[1 : 1 + len(wrt)], wrt, strict=True):
        assert got.dtype == leaf.dtype
        error = (got.cpu().double() - exact).norm() / exact.norm()
        # in float32 lse (about 20) is known to 1e-6, and so is each p relative to itself
        assert error < (1e-5 if dtype == torch.float32 else 2 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("r", "d", "v", "chunk"), SHAPES)
def test_reference_against_float64(r, d, v, chunk, dtype):
    check_form(linear_logprob, r, d, v, chunk, dtype)
    check_form(linear_logprob, r, d, v, chunk, dtype, with_bias=False, window=(v // 4, v // 2))


def test_reference_is_the_loss_of_preference_tuning():
    hidden, weight, targets, _, _ = case(50, 128, 1024)
    loss = F.cross_entropy(hidden @ weight.T, targets, reduction="none")  # as cotlib.align.dpo writes it
    assert linear_logprob(hidden, weight, targets).equal(-loss)


def test_half_precision_inputs_lose_nothing_on_the_way():
    """The sum over a picture is what the loss takes: logits in bfloat16 are off by tenths of a nat, this is not."""
    hidden, weight, targets, bias, up = case(650, 64, 1024, torch.bfloat16)
    exact = oracle(hidden, weight, targets, bias * 0, up, (0, 1024))[0].sum()
    ours = linear_logprob(hidden, weight, targets).double().sum()
    rounded = -F.cross_entropy(F.linear(hidden, weight).float(), targets, reduction="none").double().sum()
    assert abs(ours - exact) < 1e-3 < 0.05 < abs(rounded - exact)


def test_no_rows():
    hidden, weight, targets, *_ = case(0, 4, 8)
    assert linear_logprob(hidden, weight, targets).shape == (0,)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("r", "d", "v", "chunk"), SHAPES)
def kernel_against_float64(r, d, v, chunk, dtype):
    check_form(launch, r, d, v, chunk, dtype)
    check_form(launch, r, d, v, chunk, dtype, with_bias=False, window=(v // 4, v // 2))


def kernel_gradients_are_those_of_differences():
    hidden, weight, targets, bias, _ = (x.to(DEVICE) for x in case(5, 4, 12))
    leaves = [x.requires_grad_() for x in (hidden, weight, bias)]
    gradients = torch.autograd.grad(launch(leaves[0], leaves[1], targets, leaves[2]).sum(), leaves)
    step = 1e-2
    for leaf, gradient in zip(leaves, gradients, strict=True):
        for place in range(0, leaf.numel(), 5):
            ends = []
            for sign in (step, -step):
                moved = leaf.detach().clone().double()
                moved.view(-1)[place] += sign
                inputs = [moved if x is leaf else x.detach().double() for x in leaves]
                ends.append(reference(inputs[0], inputs[1], targets, inputs[2]).double().sum())
            slope = (ends[0] - ends[1]) / (2 * step)
            assert abs(slope - gradient.view(-1)[place]) < 2e-3


def kernel_computes_only_the_gradients_that_are_wanted():
    hidden, weight, targets, bias, _ = (x.to(DEVICE) for x in case(9, 8, 32))
    whole = torch.autograd.grad(launch(hidden.requires_grad_(), weight, targets, bias).sum(), hidden)[0]
    weight.requires_grad_()
    both = torch.autograd.grad(launch(hidden, weight, targets, bias).sum(), (hidden, weight))
    assert both[0].equal(whole)
    with torch.no_grad():
        assert not launch(hidden, weight, targets, bias).requires_grad


def kernel_takes_strided_tensors():
    hidden, weight, targets, bias, up = (x.to(DEVICE) for x in case(40, 8, 64))
    apart = (hidden.T.contiguous().T, weight.T.contiguous().T, targets.repeat_interleave(2)[::2])
    for spread in (bias.repeat_interleave(2)[::2], bias[:1].expand(64)):
        found = []
        for form, arguments in (
            (launch, (*apart, spread)),
            (reference, (hidden, weight, targets, spread.contiguous())),
        ):
            leaves = [x.detach().requires_grad_() for x in (arguments[0], arguments[1], arguments[3])]
            log_p = form(leaves[0], leaves[1], arguments[2], leaves[2])
            found.append((log_p, *torch.autograd.grad(log_p, leaves, up.repeat_interleave(2)[::2])))
        for got, wanted in zip(*found, strict=True):
            torch.testing.assert_close(got, wanted, atol=2e-5, rtol=1e-5)


def kernel_codes_that_are_ruled_out():
    hidden, weight, targets, bias, _ = (x.to(DEVICE) for x in case(4, 8, 8192))
    bias[:4500] = float("-inf")  # the whole first block and part of the second
    targets = 4500 + targets % 3692
    wanted = reference(hidden, weight, targets, bias)
    torch.testing.assert_close(launch(hidden, weight, targets, bias), wanted, atol=1e-5, rtol=1e-6)
    hidden.requires_grad_()
    gradient = torch.autograd.grad(launch(hidden, weight, targets, bias).sum(), hidden)[0]
    exact = torch.autograd.grad(reference(hidden, weight, targets, bias).sum(), hidden)[0]
    torch.testing.assert_close(gradient, exact, atol=1e-5, rtol=1e-5)


def kernel_marks_a_target_outside(monkeypatch):
    monkeypatch.setattr(module, "_check", lambda *_: None)  # which refuses these on a CPU
    hidden, weight, *_ = (x.to(DEVICE) for x in case(4, 8, 32))
    hidden.requires_grad_()
    for window, targets in ((None, [-100, 32, 5, 0]), ((4, 20), [3, 20, 4, 19])):
        targets = torch.tensor(targets, device=DEVICE)
        log_p = launch(hidden, weight, targets, None, window)
        gradient = torch.autograd.grad(log_p.sum(), hidden)[0]
        for result in (log_p, reference(hidden, weight, targets, None, window), gradient.sum(1)):
            assert result.isnan().tolist() == [True, True, False, False]


def kernel_refuses_float64():
    hidden, weight, targets, *_ = (x.to(DEVICE) for x in case(2, 4, 8))
    with pytest.raises(UserError, match="float64"):
        launch(hidden.double(), weight.double(), targets)


@needs_triton
@pytest.mark.parametrize("place", PLACES)
def test_kernel(place, request):
    run_kernels(request, place)


H, W, T, B, _ = case(2, 4, 8)


@pytest.mark.parametrize(("arguments", "word"), [
    ((H.long(), W, T), "hidden has dtype"), ((H[0], W, T), "2 dimensions"), ((H, W[:, :3], T), r"expected \[8, 4\]"),
    ((H, W.half(), T), "as hidden"), ((H, W, T.int()), "torch.int64"), ((H, W, T[:1]), r"expected \[2\]"),
    ((H, W.to("meta"), T), "is on meta"), ((H, W, T, B[:3]), "bias has shape"), ((H, W, T, B.long()), "floats"),
    ((H, W, T + 8), "outside the window; expected 0 to 7"), ((H, W, T - 8), "outside the window"),
    ((H, W, T * 0 + 1, None, (2, 5)), "expected 2 to 4"), ((H, W, T, None, (5, 5)), "start < stop"),
    ((H, W, T, None, (0, 9)), "<= 8"), ((H, W, T, None, None, 0), "at least one row"),
])  # fmt: skip
def test_bad_input(arguments, word):
    with pytest.raises(UserError, match=word):
        linear_logprob(*arguments)


def test_the_kernel_wants_a_gpu():
    with pytest.raises(UserError, match="Triton is not installed|takes CUDA tensors"):
        launch(H, W, T)


def test_cost_is_two_flop_for_each_weight_and_row():
    assert cost(1000, 2048, 8192).flops == pytest.approx(2 * 1000 * 2048 * 8192, rel=2e-3)
    both = cost(1000, 2048, 8192, backward=True)
    assert both.flops == pytest.approx(4 * 2 * 1000 * 2048 * 8192, rel=2e-3)
