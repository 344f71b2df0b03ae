"""Decoding without a network: schedule, noise, the choice of tokens to hide, and both loops over a model of tables.

The network's own exactness (caches, padding, batches) is tested in `test_generator.py`.
"""

from math import cos, floor, pi
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from published_showo_tools import masked_after

from cotlib.decoding import masked_rounds, run_steps, sample_masked
from cotlib.decoding.masked import guide
from cotlib.decoding.noise import draw_codes, gumbel, path_seed, path_uniforms
from cotlib.decoding.ratios import masked_left
from cotlib.decoding.schedule import check_steps, check_temperature, masked_count, temperatures
from cotlib.errors import UserError
from cotlib.kernels.remask_step import remask

# Worked out from the published code's formula, in its float32, for 18 rounds of 256 tokens. Its loop would keep one token hidden after
# the last round but returns the full guess all the same; here nothing stays hidden.
PUBLISHED_LEFT = [255, 252, 247, 240, 232, 221, 209, 196, 181, 164, 146, 127, 108, 87, 66, 44, 22, 0]
PUBLISHED_TAU = [.944, .840, .700, .544, .393, .262, .160, .089, .044, .020, .008, .003, .001, 0, 0, 0, 0, 0]  # fmt: skip


class TableModel:
    """An `ImageTokenModel` whose logits depend on the prompt and the place alone: the loop can be checked by hand."""

    grid, codebook_size, mask_id, device = (3, 4), 7, 7, "cpu"

    def __init__(self, order: str = "masked"):
        self.config = SimpleNamespace(order=order, steps=4, guidance=0.0)
        self.seen: list[int] = []  # rows of each call

    def prefix(self, prompts, guidance=None):
        tables = [torch.randn(12, 7, generator=torch.Generator().manual_seed(len(p))) for p in prompts]
        return Tables(torch.stack(tables))

    def logits(self, prefix, codes, rows):
        self.seen.append(len(codes))
        return prefix.tables.expand(len(codes), -1, -1)[rows]

    def start_cache(self, prefix, rows):
        return prefix

    def next_logits(self, cache, before, place):
        self.seen.append(len(before))
        return cache.tables[:, place]


class Tables:
    """A prefix (and a cache) that is just the logits of each row, [P, N, V]."""

    def __init__(self, tables):
        self.tables = tables

    def select(self, index):
        return Tables(self.tables[index])


# ----- schedule ----------------------------------------------------------------------------------------------------


def walk(steps: int, n: int, rule=masked_left) -> list[int]:
    """Tokens left hidden after every round of a whole run."""
    left, unknown = [], n
    for step in range(steps):
        unknown = rule(step, steps, n, unknown)
        left.append(unknown)
    return left


def test_the_schedule_is_the_published_one():
    assert walk(18, 256) == PUBLISHED_LEFT == [*masked_after(256, 18)[:-1], 0]
    exact = walk(18, 256, masked_count)  # 256 cos(pi / 3) is 128, and a hair less in float32
    assert [i for i in range(18) if exact[i] != PUBLISHED_LEFT[i]] == [11] and exact[11] == 128


def test_the_noise_scale_is_the_published_running_product():
    assert temperatures(18) == pytest.approx(PUBLISHED_TAU, abs=6e-4)
    assert temperatures(18)[-1] == 0.0
    assert temperatures(6, 0.0) == [0.0] * 6


@given(st.integers(1, 80), st.integers(1, 80))
def test_every_round_fixes_a_token_and_the_last_one_fixes_the_rest(steps, n):
    steps = min(steps, n)
    left = [n, *walk(steps, n)]
    assert left[-1] == 0
    assert all(a > b for a, b in zip(left, left[1:], strict=False))
    free = [floor(n * cos(pi / 2 * (s + 1) / steps)) for s in range(steps - 1)]
    assert all(
        a <= max(b, 1) for a, b in zip(left[1:], free, strict=False)
    )  # never more hidden than the cosine says


@pytest.mark.parametrize("steps", [0, -3, 65, 2.5, None])
def test_a_number_of_rounds_that_is_none_is_refused(steps):
    with pytest.raises(UserError, match=f"steps is {steps}; expected a whole number from 1 to 64"):
        check_steps(steps, 64)


@pytest.mark.parametrize("steps", [1, 8, 64])
def test_possible_numbers_of_rounds_pass(steps):
    assert check_steps(steps, 64) == steps


def test_a_temperature_that_is_none_is_refused():
    assert check_temperature(0.0) == 0.0
    for wrong in (float("nan"), float("inf"), -0.1):
        with pytest.raises(UserError, match="expected a finite number of at least 0"):
            check_temperature(wrong)
    with pytest.raises(UserError, match="above 0"):
        check_temperature(0.0, zero=False)


# ----- one masked step ---------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 30), st.data())
def test_remask_hides_the_least_confident_unknown_tokens(seed, batch, n, data):
    rng = torch.Generator().manual_seed(seed)
    confidence = torch.randn(batch, n, generator=rng)
    shown = data.draw(st.integers(0, n))
    left = data.draw(st.integers(0, n - shown))
    known = torch.rand(batch, n, generator=rng).argsort(1) < shown
    masked = remask(confidence, known, left)
    for row in range(batch):
        unknown = [i for i in range(n) if not known[row, i]]
        lowest = sorted(unknown, key=lambda i: float(confidence[row, i]))[:left]
        assert masked[row].nonzero().flatten().tolist() == sorted(lowest)


def test_remask_settles_ties_by_place():
    assert remask(torch.zeros(1, 5), torch.tensor([[False, True, False, False, False]]), 2).tolist() == [
        [True, False, True, False, False]
    ]


def test_guidance_of_zero_is_none_and_weights_add_up_to_one():
    cond, uncond = torch.randn(2, 9).unbind()
    assert torch.equal(guide(cond, uncond, 0.0), cond)
    torch.testing.assert_close(guide(cond, cond, 3.0), cond)
    torch.testing.assert_close(guide(cond, uncond, 1.0), cond + (cond - uncond))


# ----- noise -------------------------------------------------------------------------------------------------------


def test_codes_are_drawn_with_their_exact_probabilities():
    logits = torch.tensor([2.0, 0.0, -1.0, 1.0, -30.0])
    uniforms = (
        torch.arange(20_000) + 0.5
    ) / 20_000  # an even grid instead of chance: errors stay below 1 / 20,000
    codes, log_p = draw_codes(logits.expand(20_000, -1), uniforms)
    exact = torch.softmax(logits.double(), 0)
    shares = torch.bincount(codes, minlength=5).double() / 20_000
    torch.testing.assert_close(shares, exact, atol=1e-4, rtol=0)
    torch.testing.assert_close(log_p.double(), exact[codes].log(), atol=1e-6, rtol=1e-6)


def test_random_draws_pass_a_chi_square_test():
    logits = torch.randn(12, generator=torch.Generator().manual_seed(1)) * 1.5
    uniforms = torch.rand(6_000, generator=torch.Generator().manual_seed(2))
    counts = torch.bincount(draw_codes(logits.expand(6_000, -1), uniforms)[0], minlength=12)
    expected = 6_000 * torch.softmax(logits, 0)
    assert (
        float(((counts - expected) ** 2 / expected).sum()) < 31.3
    )  # 99.9 % point with 11 degrees of freedom


def test_draws_keep_away_from_impossible_codes_at_the_ends():
    logits = torch.tensor([[-float("inf"), 0.0, -float("inf")]]).expand(2, -1)
    assert draw_codes(logits, torch.tensor([0.0, 1 - 2**-24]))[0].tolist() == [1, 1]


def test_the_temperature_of_a_draw_sharpens_it():
    logits = torch.tensor([[1.0, 0.0]])
    log_p = [float(draw_codes(logits, torch.tensor([0.1]), t)[1]) for t in (2.0, 1.0, 0.25)]
    assert log_p == sorted(log_p)


def test_gumbel_noise_has_the_moments_of_its_distribution():
    noise = gumbel((torch.arange(100_000) + 0.5) / 100_000)
    assert float(noise.mean()) == pytest.approx(0.5772, abs=2e-3)
    assert float(noise.var()) == pytest.approx(pi**2 / 6, abs=5e-3)
    assert torch.isfinite(gumbel(torch.tensor([0.0, 1 - 2**-24, 1.0]))).all()


def test_a_paths_numbers_depend_on_seed_prompt_and_path_alone():
    alone = path_uniforms(5, ["b"], [3], (4, 2))
    among = path_uniforms(5, ["a", "b", "b"], [3, 1, 3], (4, 2))
    assert torch.equal(among[2], alone[0])
    seeds = {path_seed(s, p, k) for s in range(5) for p in ("a", "b", "a|1") for k in range(20)}
    assert len(seeds) == 5 * 3 * 20
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_prompts_and_paths_must_be_as_many():
    with pytest.raises(ValueError):
        path_uniforms(0, ["a", "b"], [0], (2,))


# ----- the loops ---------------------------------------------------------------------------------------------------


def test_masked_rounds_keep_what_is_fixed_and_follow_the_schedule():
    model, prompts = TableModel(), ["x", "x", "yy"]
    before, fixed = torch.ones(3, 12, dtype=torch.bool), torch.zeros(3, 12, dtype=torch.long)
    for step in masked_rounds(model, prompts, [0, 1, 0], seed=3, steps=6):
        assert step.codes.shape == (3, 12) and int(step.codes.max()) < model.mask_id
        assert (step.masked <= before).all()  # nothing fixed is ever hidden again
        assert step.masked.sum(1).tolist() == [walk(6, 12)[step.index]] * 3
        assert torch.isinf(step.confidence[~before]).all() and torch.isfinite(step.confidence[before]).all()
        assert torch.equal(step.codes[~before], fixed[~before])
        before, fixed = step.masked, step.codes
    assert step.index == 5 and not step.masked.any()


def test_without_noise_the_surest_draws_are_the_ones_kept():
    model = TableModel()
    step = next(masked_rounds(model, ["x"], [0], seed=0, steps=3, temperature=0.0))
    log_p = torch.log_softmax(model.prefix(["x"]).tables[0], -1).gather(1, step.codes[0, :, None])[:, 0]
    assert log_p[~step.masked[0]].min() >= log_p[step.masked[0]].max()


@pytest.mark.parametrize("order", ["masked", "raster"])
def test_places_are_drawn_from_the_models_distribution(order):
    model = TableModel(order)
    for step in run_steps(model, ["x"] * 2_000, list(range(2_000)), seed=1, steps=1):
        last = step
    exact = torch.softmax(model.prefix(["x"]).tables[0], -1)  # [N, V]
    shares = torch.stack([torch.bincount(column, minlength=7) for column in last.codes.T]) / 2_000
    assert float((shares - exact).abs().max()) < 0.045  # four standard errors of a share of one half


def test_keeping_the_surest_draws_sharpens_the_distribution():
    model = TableModel()
    log_p = torch.log_softmax(model.prefix(["x"]).tables[0], -1)

    def mean_log_p(**options) -> float:
        codes = sample_masked(model, ["x"] * 500, list(range(500)), seed=1, **options)
        return float(log_p.gather(1, codes.T).mean())

    one, many, without_noise = mean_log_p(steps=1), mean_log_p(steps=8), mean_log_p(steps=8, temperature=0.0)
    assert one + 0.1 < many < without_noise - 0.02


@pytest.mark.parametrize("order", ["masked", "raster"])
def test_rows_that_stop_leave_the_others_as_they_were(order):
    prompts, paths = ["x", "yy", "x", "yy"], [0, 0, 1, 7]
    for step in run_steps(TableModel(order), prompts, paths, seed=2):
        whole = step
    model, loop, sent = TableModel(order), None, None
    loop = run_steps(model, prompts, paths, seed=2)
    while True:
        try:
            step = loop.send(sent)
        except StopIteration:
            break
        sent = None
        if step.index == 0:
            sent = torch.tensor([True, False, True, True])
        elif step.index == 2:
            sent = torch.tensor([False, True, True])
    assert step.paths.tolist() == [1, 7]
    assert torch.equal(step.codes, whole.codes[2:])
    assert model.seen[1:3] == [3, 3] and set(model.seen[3:]) == {2}  # a stopped row costs nothing more


def test_a_loop_whose_last_row_stops_ends():
    loop = masked_rounds(TableModel(), ["x"], [0], seed=0)
    next(loop)
    with pytest.raises(StopIteration):
        loop.send(torch.tensor([False]))


def test_the_first_round_is_computed_once_for_each_distinct_prompt():
    model = TableModel()
    sample_masked(model, ["x"] * 5 + ["yy"] * 5, list(range(5)) * 2, seed=0)
    assert model.seen == [2, 10, 10, 10]


def test_raster_order_fills_from_the_top_left_and_ignores_steps():
    for step in run_steps(TableModel("raster"), ["x"], [0], seed=0, steps=5):
        assert (step.codes[0, step.index + 1 :] == 7).all() and (step.codes[0, : step.index + 1] < 7).all()
        assert step.masked.sum() == 11 - step.index
    assert step.index == 11


@pytest.mark.parametrize("order", ["masked", "raster"])
def test_loops_refuse_what_they_cannot_do(order):
    with pytest.raises(UserError, match="temperature is nan"):
        next(run_steps(TableModel(order), ["x"], [0], seed=0, temperature=float("nan")))
    if order == "masked":
        with pytest.raises(UserError, match="steps is 0"):
            next(run_steps(TableModel(order), ["x"], [0], seed=0, steps=0))
    with pytest.raises(UserError, match="no prompts"):
        next(run_steps(TableModel(order), [], [], seed=0))
