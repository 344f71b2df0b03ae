"""The loops and the losses with their Triton forms: the same tokens and the same numbers as with plain torch."""

import pytest
import torch
from kernel_tools import DEVICE, PLACES, needs_triton, run_kernels

from cotlib.align.dpo import log_probability, text_batch
from cotlib.align.guided import draw_group, path_log_probability
from cotlib.decoding import run_steps
from cotlib.decoding.noise import draw_codes, draw_shared
from cotlib.kernels import linear_logprob, masked_sample, remask_step
from cotlib.models.generator import GeneratorConfig, PictogramGenerator
from cotlib.search.prm import branch_rounds

PROMPTS = ["a photo of a bus", "a photo of a red boat", "a photo of a bus", "a photo of a bus"]
USED = {"masked": (masked_sample, remask_step), "raster": (masked_sample,)}


@pytest.fixture
def forced(monkeypatch):
    """`kernel=True` means Triton on a CPU too (the interpreter); gives the names of the kernels that ran."""
    ran = set()
    for module in (masked_sample, remask_step, linear_logprob):

        def chosen(kernel, *_, name=module.__name__):
            ran.update([name] * kernel)
            return kernel

        monkeypatch.setattr(module, "chosen", chosen)
    return ran


def model_of(order: str) -> PictogramGenerator:
    torch.manual_seed(0)
    model = PictogramGenerator(GeneratorConfig(order, width=32, layers=1, heads=2, hidden=32, steps=3))
    torch.nn.init.normal_(model.code_out, std=1.0)
    return model.to(DEVICE).eval()


@pytest.mark.parametrize("order", ["masked", "raster"])
def kernel_paths_are_the_same(order, forced):
    model, steps = model_of(order), {}
    for kernel in (True, False):
        loop = run_steps(model, PROMPTS, [0, 0, 1, 2], 5, kernel=kernel)
        steps[kernel] = [step for _, step in zip(range(6), loop, strict=False)]
    assert forced == {module.__name__ for module in USED[order]}
    for ours, plain in zip(steps[True], steps[False], strict=True):
        assert ours.codes.equal(plain.codes) and ours.masked.equal(plain.masked)
        torch.testing.assert_close(ours.log_p, plain.log_p, atol=1e-5, rtol=0)


def kernel_branches_are_the_same(forced):
    model, finals = model_of("masked"), []
    for kernel in (True, False):
        loop = branch_rounds(model, PROMPTS[:2], 3, 1, None, None, kernel)
        next(loop)
        finals.append(loop.send([2, 0]).codes)
    assert finals[0].equal(finals[1])


@pytest.mark.parametrize("order", ["masked", "raster"])
def kernel_log_probabilities_are_the_same(order, forced):
    model, results = model_of(order), []
    chance = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 1024, (4, 64), generator=chance).to(DEVICE)
    rows = (torch.rand(codes.shape, generator=chance) < 0.5).to(DEVICE)
    for kernel in (True, False):
        log_p = log_probability(model, text_batch(PROMPTS, DEVICE), codes, rows, kernel)
        results.append((log_p, *torch.autograd.grad(log_p.sum(), [model.code_out, model.rows])))
    assert forced == {linear_logprob.__name__}
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("order", ["masked", "raster"])
def kernel_paths_log_probabilities_are_the_same(order, forced):
    model, results = model_of(order), []
    texts, steps = draw_group(model, PROMPTS[:2], 2, 0, 0, kernel=False)
    forced.clear()
    for kernel in (True, False):
        log_p = path_log_probability(model, texts, steps, kernel=kernel)
        results.append((log_p, *torch.autograd.grad(log_p.sum(), [model.code_out, model.rows])))
    assert forced == {linear_logprob.__name__}
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-3, rtol=1e-4)


@needs_triton
@pytest.mark.parametrize("place", PLACES)
def test_kernel(place, request):
    run_kernels(request, place)


def test_candidates_that_look_alike_draw_as_if_each_had_its_own_logits():
    chance = torch.Generator().manual_seed(0)
    logits, uniforms = torch.randn(2 * 5, 9, generator=chance), torch.rand(2, 3, 5, generator=chance)
    alike = draw_shared(logits, uniforms)
    own = draw_codes(logits.view(2, 1, 5, 9).expand(-1, 3, -1, -1).reshape(-1, 9), uniforms.flatten())
    for shared, single in zip(alike, own, strict=True):
        assert shared.flatten().equal(single)
