"""The generator's savings are exact: each is compared with the plain way of computing the same thing.

A small network with random weights stands for all; the shipped ones join in where they are present.
"""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from cotlib import load
from cotlib.assets import data_dir
from cotlib.decoding import run_steps
from cotlib.errors import UserError
from cotlib.models.generator import GeneratorConfig, PictogramGenerator
from cotlib.world.prompts import encode

SHORT, LONG = "a photo of a cat", "a photo of a red dog and a blue cup"
PROMPTS = [SHORT, LONG, "a photo of three birds"]
EXACT = dict(atol=1e-5, rtol=1e-5)
SHIPPED = {"shipped masked": "generator-base", "shipped raster": "generator-raster"}


def small(order: str) -> PictogramGenerator:
    """Random weights everywhere: with the usual zero-initialised layers attention would not matter."""
    model = PictogramGenerator(
        GeneratorConfig(order=order, width=32, layers=3, heads=2, hidden=48, grid=5, steps=6)
    )
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" not in name:
                p.copy_(torch.randn(p.shape, generator=rng) * (0.4 if p.ndim < 3 else 0.2))
    return model.eval()


@pytest.fixture(scope="module", params=["masked", "raster", *SHIPPED])
def model(request):
    if request.param not in SHIPPED:
        return small(request.param)
    if not (data_dir() / SHIPPED[request.param] / "card.json").is_file():
        pytest.skip("no shipped weights here")
    return load("generator", order=request.param.split()[1])


@pytest.fixture(scope="module")
def masked():
    return small("masked")


@pytest.fixture(scope="module")
def raster():
    return small("raster")


def half_drawn(model, rows: int, seed: int = 0) -> torch.Tensor:
    """Codes [rows, N], about half of them not drawn yet (in raster order all are drawn)."""
    rng = torch.Generator().manual_seed(seed)
    codes = torch.randint(model.codebook_size, (rows, model.tokens), generator=rng)
    if model.config.order == "raster":
        return codes
    return codes.masked_fill(torch.rand(codes.shape, generator=rng) < 0.5, model.mask_id)


@torch.no_grad()
def plain_hidden(model, prompt: str, codes: torch.Tensor) -> torch.Tensor:
    """The whole sequence of text and picture [1, T + N, D] in one go, under a mask written out by hand: no cache."""
    ids = torch.tensor([encode(prompt)])
    t, n = ids.shape[1], model.tokens
    if model.config.order == "raster":
        codes = torch.cat([torch.tensor([model.mask_id]), codes[:-1]])
    table = model.code_in.weight.clone()
    for digit in range(5):
        table[:-1] += model.digit_in[digit, model.digits[:, digit]]
    grid = model.config.grid
    places = torch.stack([model.rows[i // grid] + model.columns[i % grid] for i in range(n)])
    x = torch.cat([model.words.weight[ids] + model.word_places[:t], (table[codes] + places)[None]], dim=1)
    seen = torch.ones(t + n, t + n).tril().bool()  # everything causal ...
    if model.config.order == "masked":
        seen[t:, t:] = True  # ... but image tokens, which see each other
    for block in model.blocks:
        q, k, v = block.project(x)
        weights = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~seen, -torch.inf).softmax(-1)
        x = block.finish(x, weights @ v)
    return model.norm(x)[:, t:]


@torch.no_grad()
def plain_logits(model, prompt: str, codes: torch.Tensor, guidance: float) -> torch.Tensor:
    """Logits [N, V] with guidance taken after the head, on the logits themselves."""
    cond = model.head(plain_hidden(model, prompt, codes))[0]
    uncond = model.head(plain_hidden(model, "", codes))[0]
    return (1 + guidance) * cond - guidance * uncond


def everywhere(codes: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(codes, dtype=torch.bool)


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal to 1e-5, as probabilities and relative to the largest logit (trained logits reach tens)."""
    torch.testing.assert_close(found.softmax(-1), expected.softmax(-1), **EXACT)
    torch.testing.assert_close(found, expected, atol=1e-5 * max(1.0, float(expected.abs().max())), rtol=0)


# ----- exact savings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", [0.0, 1.75])
def test_cached_text_and_guidance_before_the_head_change_nothing(model, guidance):
    # in float64, since guided logits of a trained network reach 40, where float32 is good for 3e-5 only
    model = copy.deepcopy(model).double()
    codes = half_drawn(model, 1)
    found = model.logits(model.prefix([LONG], guidance), codes, everywhere(codes))
    assert_same(found, plain_logits(model, LONG, codes[0], guidance))


def test_batched_and_padded_prompts_equal_each_prompt_alone(model):
    model = copy.deepcopy(model).double()  # as above: processors sum in different orders
    codes = half_drawn(model, 3)
    together = model.logits(model.prefix(PROMPTS), codes, everywhere(codes)).unflatten(0, (3, -1))
    for row, prompt in enumerate(PROMPTS):
        alone = model.logits(model.prefix([prompt]), codes[row : row + 1], everywhere(codes[row : row + 1]))
        assert_same(together[row], alone)


def test_trimmed_equals_padded_to_the_full_length(model):
    ids, codes = encode(SHORT), half_drawn(model, 1)
    padded = torch.tensor([ids + [7] * (model.max_text - len(ids))])
    valid = torch.arange(model.max_text)[None] < len(ids)
    with torch.no_grad():
        found = model.train_hidden(padded, valid, codes)
    torch.testing.assert_close(found, model.hidden(model.prefix([SHORT], 0.0), codes), **EXACT)


def test_only_the_asked_rows_go_through_the_head(model):
    codes, prefix = half_drawn(model, 2), model.prefix(PROMPTS[:2])
    rows = torch.rand(codes.shape, generator=torch.Generator().manual_seed(1)) < 0.3
    assert_same(
        model.logits(prefix, codes, rows), model.logits(prefix, codes, everywhere(codes))[rows.flatten()]
    )


def test_a_selected_prefix_is_the_prefix_of_the_selection(model):
    codes = half_drawn(model, 3)
    found = model.hidden(model.prefix(PROMPTS).select(torch.tensor([2, 0, 2])), codes)
    expected = model.hidden(model.prefix([PROMPTS[2], PROMPTS[0], PROMPTS[2]]), codes)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("guidance", [0.0, 1.75])
def test_the_raster_cache_equals_full_recomputation(raster, guidance):
    codes, prompts = half_drawn(raster, 2), [SHORT, LONG]
    plain = [plain_logits(raster, p, codes[row], guidance) for row, p in enumerate(prompts)]
    cache = raster.start_cache(raster.prefix(prompts, guidance), 2)
    before = torch.full((2,), raster.mask_id)
    for place in range(raster.tokens):
        logits = raster.next_logits(cache, before, place)
        before = codes[:, place]
        for row in range(2):
            assert_same(logits[row], plain[row][place])


def test_a_compacted_raster_cache_goes_on_as_before(raster):
    codes, prefix = half_drawn(raster, 3), raster.prefix(PROMPTS)
    whole, part = raster.start_cache(prefix, 3), raster.start_cache(prefix, 3)
    keep = torch.tensor([True, False, True])
    for place in range(6):
        before = codes[:, place - 1] if place else torch.full((3,), raster.mask_id)
        expected = raster.next_logits(whole, before, place)
        if place == 3:
            part = part.select(keep)
        found = raster.next_logits(part, before if place < 3 else before[keep], place)
        assert_same(found, expected if place < 3 else expected[keep])


# ----- what sees what ----------------------------------------------------------------------------------------------


def test_text_is_causal(model):
    first, second = (torch.tensor([encode(p)]) for p in ("a photo of a cat", "a photo of a dog"))
    for a, b in zip(model.text(first)[0], model.text(second)[0], strict=True):
        torch.testing.assert_close(a[:, :, :5], b[:, :, :5], **EXACT)
        assert not torch.allclose(a[:, :, 5], b[:, :, 5])


def test_image_tokens_see_all_or_only_earlier_ones(model):
    codes = half_drawn(model, 1).clamp(max=model.codebook_size - 1)
    changed, place = codes.clone(), model.tokens // 2
    changed[0, place] = (changed[0, place] + 1) % model.codebook_size
    prefix = model.prefix([SHORT], 0.0)
    moved = (model.hidden(prefix, codes) - model.hidden(prefix, changed)).abs().amax(-1)[0] > 0
    expected = (
        torch.arange(model.tokens) > place if model.config.order == "raster" else torch.ones_like(moved)
    )
    assert torch.equal(moved, expected)


# ----- the loops over the network ----------------------------------------------------------------------------------


def finished(model, prompts, paths, seed=0, **options) -> torch.Tensor:
    for step in run_steps(model, prompts, paths, seed, **options):
        last = step
    return last.codes


def test_same_seed_same_tokens_whatever_the_batch(model):
    prompts, paths = [p for p in PROMPTS for _ in range(3)], [0, 1, 2] * 3
    together = finished(model, prompts, paths)
    for row in (0, 4, 8):
        assert torch.equal(finished(model, [prompts[row]], [paths[row]])[0], together[row])
    order = torch.tensor([5, 0, 7, 3])
    shuffled = finished(model, [prompts[i] for i in order], [paths[i] for i in order])
    assert torch.equal(shuffled, together[order])
    assert not torch.equal(finished(model, prompts[:1], paths[:1], seed=1)[0], together[0])


def test_stopped_rows_leave_the_survivors_tokens_unchanged(model):
    prompts, paths = [LONG] * 4, [0, 1, 2, 3]
    together = finished(model, prompts, paths)
    loop = run_steps(model, prompts, paths, seed=0)
    next(loop)
    step = loop.send(torch.tensor([True, False, True, True]))
    step = loop.send(torch.tensor([False, True, True]))
    for step in loop:
        last = step
    assert last.paths.tolist() == [2, 3]
    assert torch.equal(last.codes, together[2:])


def test_guidance_zero_needs_no_empty_prompt(masked):
    prefix = masked.prefix([SHORT], 0)
    assert prefix.null_keys is None and prefix.guidance == 0.0
    assert finished(masked, [SHORT], [0], guidance=0.0).shape == (1, masked.tokens)


# ----- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", [float("nan"), float("inf"), -0.5])
def test_guidance_that_is_no_strength_is_refused(model, guidance):
    with pytest.raises(UserError, match="expected a finite number of at least 0"):
        next(run_steps(model, [SHORT], [0], seed=0, guidance=guidance))


@pytest.mark.parametrize("prompt, words", [
    ("a photo of a zebra", 'the word "zebra" is not in the pictogram world'),
    ("a photo of a red cat and a blue dog and a cup", "at most 10 fit"),
])  # fmt: skip
def test_prompts_outside_the_world_are_refused(model, prompt, words):
    with pytest.raises(UserError, match=words):
        model.prefix([prompt])


def test_no_prompts_at_all_are_refused(model):
    with pytest.raises(UserError, match="no prompts"):
        next(run_steps(model, [], [], seed=0))


def test_impossible_numbers_of_rounds_are_refused(masked):
    for steps in (0, -1, masked.tokens + 1):
        with pytest.raises(UserError, match=f"steps is {steps}"):
            next(run_steps(masked, [SHORT], [0], seed=0, steps=steps))


def test_decoding_without_a_tokenizer_is_refused(masked):
    with pytest.raises(UserError, match="no tokenizer"):
        masked.decode(torch.zeros(1, 25, dtype=torch.long))


def test_an_unknown_order_is_refused():
    with pytest.raises(ValueError, match="order is \"spiral\"|order is 'spiral'"):
        GeneratorConfig(order="spiral")


# ----- training and files ------------------------------------------------------------------------------------------


def test_training_sees_what_sampling_sees_and_has_gradients(masked):
    codes, ids = half_drawn(masked, 1), torch.tensor([encode(SHORT)])
    hidden = masked.train_hidden(ids, torch.ones_like(ids, dtype=torch.bool), codes)
    torch.testing.assert_close(hidden.detach(), masked.hidden(masked.prefix([SHORT], 0.0), codes), **EXACT)
    F.cross_entropy(masked.head(hidden)[0], codes[0].clamp(max=1023)).backward()
    silent = [name for name, p in masked.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert silent == []
    masked.zero_grad()


def test_a_saved_generator_draws_the_same_pictures(raster, tmp_path):
    raster.save_pretrained(tmp_path, {"model": "test"})
    again = PictogramGenerator.from_pretrained(tmp_path)
    assert again.config == raster.config
    halved = small("raster")  # files hold fp16
    halved.load_state_dict(
        {k: v.half().float() if v.is_floating_point() else v for k, v in halved.state_dict().items()}
    )
    assert torch.equal(finished(again, [SHORT], [0]), finished(halved, [SHORT], [0]))
