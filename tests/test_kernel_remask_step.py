"""remask_step: against a sort in Python, the loop's own choice, in Triton's interpreter, and compiled."""

import pytest
import torch
from kernel_tools import CAPABILITIES, DEVICE, PLACES, needs_triton, run_kernels

from cotlib.errors import UserError
from cotlib.kernels import remask_step as module
from cotlib.kernels.compiled import assembly
from cotlib.kernels.remask_step import cost, launch, reference, remask, remask_step

MASK = 9999
# a power of two; ragged; one row; one token; the 512-pixel grid
SHAPES = [(6, 64), (20, 100), (1, 256), (4, 1), (3, 1024)]


def case(rows: int, n: int, ties: bool = False, seed: int = 0) -> tuple:
    """Arguments with k from 0 to all unknown; with ties the confidences take few values, -0 and 0 among them."""
    chance = torch.Generator().manual_seed(seed)
    log_p = -torch.rand(rows, n, generator=chance) * 8
    noise = torch.randn(rows, n, generator=chance)
    if ties:
        log_p, noise = log_p.round() / 2, torch.zeros(rows, n)
        log_p[:, ::3] = torch.tensor([0.0, -0.0]).repeat(n)[: log_p[:, ::3].shape[1]]
    known = torch.rand(rows, n, generator=chance) < 0.4
    tokens = torch.randint(0, 1000, (rows, n), generator=chance)
    unknown = (~known).sum(1)
    k = (torch.linspace(0, 1, rows) * unknown).long() if rows > 1 else (unknown + 1) // 2
    return log_p, tokens, known, k, noise, 0.37, MASK, 50


def oracle(log_p, tokens, known, k, noise, temperature, mask_id, offset) -> tuple[list, list]:
    """(ids, known) by sorting (confidence, place) in Python."""
    confidence = log_p + torch.tensor(temperature) * noise
    ids, after = (tokens + offset).tolist(), [[True] * tokens.shape[1] for _ in tokens]
    for row, c in enumerate(confidence.tolist()):
        free = sorted((value, place) for place, value in enumerate(c) if not known[row, place])
        for _, place in free[: int(k[row])]:
            ids[row][place], after[row][place] = mask_id, False
    return ids, after


def on(device: str, arguments: tuple) -> tuple:
    return tuple(a.to(device) if isinstance(a, torch.Tensor) else a for a in arguments)


@pytest.mark.parametrize(("rows", "n"), SHAPES)
@pytest.mark.parametrize("ties", [False, True])
def test_reference_against_a_sort(rows, n, ties):
    arguments = case(rows, n, ties)
    ids, known, confidence = remask_step(*arguments)
    assert (ids.tolist(), known.tolist()) == oracle(*arguments)
    assert (ids == MASK).sum(1).equal(arguments[3])
    assert confidence.isinf().equal(arguments[2])


def test_reference_is_the_loop_s_choice():
    log_p, tokens, known, _, noise, scale, mask_id, _ = case(8, 64)
    left = int((~known).sum(1).min()) // 2
    ids, after, confidence = remask_step(log_p, tokens, known, left, noise, scale, mask_id)
    before = log_p.masked_fill(known, float("inf")) + scale * noise  # as the loop writes it
    hidden = remask(before, known, left)
    assert hidden.equal(~after) and confidence.equal(before)
    assert ids.equal(tokens.masked_fill(hidden, mask_id))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("rows", "n"), SHAPES)
def kernel_is_the_reference_bit_by_bit(rows, n, ties):
    arguments = case(rows, n, ties)
    for got, wanted in zip(launch(*on(DEVICE, arguments)), reference(*arguments), strict=True):
        assert got.cpu().equal(wanted)


def kernel_takes_strided_tensors_and_one_number():
    log_p, tokens, known, _, noise, *rest = case(6, 64)
    k = int((~known[:, ::2]).sum(1).min())
    half = (log_p[:, ::2], tokens[:, ::2], known[:, ::2], k, noise[:, ::2], *rest)
    for got, wanted in zip(launch(*on(DEVICE, half)), remask_step(*half), strict=True):
        assert got.cpu().equal(wanted)
    each = torch.tensor([3, 0, 9, 1, 7, 20], device=DEVICE).repeat_interleave(2)[::2]  # apart in memory
    apart = on(DEVICE, (log_p, tokens, known, each, noise, *rest))
    assert not each.is_contiguous()
    for got, wanted in zip(launch(*apart), reference(*on("cpu", apart)), strict=True):
        assert got.cpu().equal(wanted)


def kernel_marks_a_wrong_k(monkeypatch):
    monkeypatch.setattr(
        module, "readable", lambda _: False
    )  # as on a GPU; on a CPU the reference refuses these
    log_p, tokens, known, k, *rest = case(3, 64)
    k[0], k[1] = -1, (~known[1]).sum() + 1
    for form in (launch, reference):
        ids, after, confidence = form(*on(DEVICE, (log_p, tokens, known, k, *rest)))
        assert (ids[:2] == -1).all() and not after[:2].any() and confidence[:2].isnan().all()
        assert (ids[2] >= 0).all() and not confidence[2].isnan().any()


def kernel_refuses_a_row_too_long():
    with pytest.raises(UserError, match="up to 4096"):
        launch(*on(DEVICE, case(2, 5000)))


@needs_triton
@pytest.mark.parametrize("place", PLACES)
def test_kernel(place, request):
    run_kernels(request, place)


@needs_triton
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_no_multiply_add_is_fused(capability):
    for build in module.builds():
        ptx, _ = assembly(build, capability)
        assert "mul.f32" in ptx or "mul.rn.f32" in ptx
        assert "fma" not in ptx


GOOD = case(2, 8)


@pytest.mark.parametrize(("place", "value", "word"), [
    (0, GOOD[0].long(), "dtype"), (0, GOOD[0].half(), "torch.float32"), (0, GOOD[0][0], "2 dimensions"),
    (1, GOOD[1].int(), "torch.int64"), (1, GOOD[1][:, :3], "shape"), (2, GOOD[1], "torch.bool"),
    (3, -1, r"k is \[-1, -1\]"), (3, 9, "0 to the unknown"), (3, torch.tensor([0, 9]), "0 to the unknown"),
    (3, torch.tensor([0]), r"expected \[2\]"), (3, torch.tensor([0.0, 1.0]), "torch.int64"),
    (4, GOOD[4].double(), "torch.float32"), (4, GOOD[4].to("meta"), "is on meta"),
    (5, -0.1, "at least 0"), (5, float("inf"), "finite"),
])  # fmt: skip
def test_bad_input(place, value, word):
    with pytest.raises(UserError, match=word):
        remask_step(*GOOD[:place], value, *GOOD[place + 1 :])


def test_k_is_looked_at_once(monkeypatch):
    """And not at all where the host would have to wait."""
    looks = []
    monkeypatch.setattr(module, "_check_values", lambda *_: looks.append(1))
    remask_step(*GOOD)
    assert looks == [1]
    monkeypatch.setattr(module, "readable", lambda _: False)
    remask_step(*GOOD)
    assert looks == [1]


def test_the_kernel_wants_a_gpu():
    with pytest.raises(UserError, match="Triton is not installed|takes CUDA tensors"):
        launch(*GOOD)


def test_cost_counts_each_argument_and_result_once():
    log_p, tokens, known, k, noise, *_ = GOOD
    moved = sum(t.nbytes for t in (log_p, tokens, known, k, noise, *reference(*GOOD)))
    assert cost(2, 8).bytes == moved
