"""The preference loss: its variants against closed forms, both orders, and flaw 5 of the released code in miniature."""

import math

import pytest
import torch

from cotlib.align.dpo import (
    DPOConfig,
    check_same_shape,
    dpo_loss,
    draw_batch,
    log_probability,
    masked_log_probability,
    pair_loss,
    raster_log_probability,
    text_batch,
)
from cotlib.align.pairs import Pairs
from cotlib.errors import UserError
from cotlib.models.generator import GeneratorConfig, PictogramGenerator
from cotlib.world.prompts import prompt_pool

PROMPTS = list(prompt_pool("train", "colors")[:8])


def tiny(seed: int = 0, **changes) -> PictogramGenerator:
    """A network whose weights are all random, so that its guesses depend on everything it sees."""
    sizes = {"width": 16, "layers": 1, "heads": 2, "hidden": 32, "grid": 4, "codes": 16, "steps": 3} | changes
    torch.manual_seed(seed)
    model = PictogramGenerator(GeneratorConfig(**sizes))
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.4)
    return model.eval()


def some_pairs(count: int = 8, tokens: int = 16, codes: int = 16) -> Pairs:
    chance = torch.Generator().manual_seed(5)
    chosen, rejected = (torch.randint(0, codes, (count, tokens), generator=chance) for _ in range(2))
    return Pairs([PROMPTS[i % len(PROMPTS)] for i in range(count)], chosen, rejected, {})


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"beta": 0}, "beta is 0"),
        ({"beta": -0.1}, "beta is -0.1"),
        ({"beta": float("nan")}, "beta is nan"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"smoothing": 0.5}, "smoothing is 0.5"),
        ({"dropped_text": 1.0}, "dropped_text"),
        ({"sft": -1.0}, "sft is -1.0"),
        ({"batch": 0}, "batch is 0"),
        ({"loss": "hinge"}, 'loss is "hinge"'),
        ({"length": "max"}, 'length is "max"'),
        ({"loss": "ipo", "smoothing": 0.1}, "belongs to the sigmoid loss"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, says):
    with pytest.raises(UserError, match=says):
        DPOConfig(**changes)


def test_smoothing_and_ipo_have_their_least_loss_where_theory_says():
    """Smoothing e: sigmoid(beta m) = 1 - e. IPO: m = 1 / (2 beta). Plain: no finite margin."""
    margins = torch.linspace(-20, 20, 4001)
    zero = torch.zeros(1)

    def best(beta, **options):
        losses = [dpo_loss(m[None], zero, zero, zero, beta, **options)[0].item() for m in margins]
        return margins[losses.index(min(losses))].item()

    assert math.isclose(best(0.5, smoothing=0.2), math.log(0.8 / 0.2) / 0.5, abs_tol=0.02)
    assert math.isclose(best(0.5, kind="ipo"), 1.0, abs_tol=0.02)
    assert best(0.5) == 20


def test_raster_order_gives_the_exact_likelihood():
    model, text = tiny(order="raster", grid=2, codes=4), text_batch(PROMPTS[:1])
    every = torch.cartesian_prod(*[torch.arange(4)] * 4)  # all 256 pictures
    text = tuple(part.expand(len(every), -1) for part in text)
    with torch.no_grad():
        total = raster_log_probability(model, text, every).exp().sum()
    assert math.isclose(total.item(), 1.0, rel_tol=1e-4)


def test_masked_order_gives_the_exact_likelihood_when_one_place_is_masked():
    model = tiny(grid=2, codes=4)
    every = torch.tensor([1, 2, 3, 0]).repeat(4, 1)
    every[:, 2] = torch.arange(4)
    rows = torch.tensor([[False, False, True, False]]).expand(4, -1)
    text = tuple(part.expand(4, -1) for part in text_batch(PROMPTS[:1]))
    with torch.no_grad():
        total = masked_log_probability(model, text, every, rows).exp().sum()
    assert math.isclose(total.item(), 1.0, rel_tol=1e-4)


@pytest.mark.parametrize("order", ["masked", "raster"])
@pytest.mark.parametrize("options", [{}, {"length": "mean"}, {"loss": "ipo"}, {"dropped_text": 0.5}])
def test_policy_equal_to_reference_has_no_margin_and_shares_add_up(order, options):
    """Two processes' gradients have the whole batch's as their mean."""
    config, pairs = DPOConfig(**options), some_pairs()
    batch = draw_batch(pairs, torch.arange(8), config, order, torch.Generator().manual_seed(0))
    reference, gradients = tiny(order=order), []
    for parts in ([batch], [batch.shard(0, 2), batch.shard(1, 2)]):
        policy = tiny(order=order)
        for part in parts:
            loss, curves = pair_loss(policy, reference, part, config, int(batch.rows.sum()) / len(parts))
            (loss / len(parts)).backward()
            assert abs(curves["margin"]) < 1e-5 and abs(curves["chosen"]) < 1e-5
        gradients.append(policy.code_out.grad)
    size = gradients[0].abs().max().item()
    assert size > 1e-4 and torch.allclose(*gradients, atol=1e-5 * size)  # float32, other order of summing


def test_mean_length_is_the_sum_over_the_scored_places():
    policy, reference, pairs = tiny(1), tiny(0), some_pairs()
    batch = draw_batch(pairs, torch.arange(8), DPOConfig(), "raster", torch.Generator())  # every place scored
    total, mean = (
        pair_loss(policy, reference, batch, DPOConfig(length=how), 1.0)[1]["margin"]
        for how in ("sum", "mean")
    )
    assert math.isclose(total, 16 * mean, rel_tol=1e-4)


def test_only_differing_places_are_masked_and_a_common_place_never_is():
    pairs = some_pairs()
    same = torch.rand(pairs.chosen.shape, generator=torch.Generator().manual_seed(3)) < 0.6
    pairs = Pairs(pairs.prompts, pairs.chosen, torch.where(same, pairs.chosen, pairs.rejected), {})
    differ = pairs.chosen != pairs.rejected
    for seed in range(20):
        chance = torch.Generator().manual_seed(seed)
        rows = draw_batch(pairs, torch.arange(8), DPOConfig(scored="differing"), "masked", chance).rows
        assert not (rows & ~differ).any() and (rows.sum(1) >= differ.any(1)).all()
    whole = draw_batch(pairs, torch.arange(8), DPOConfig(), "masked", torch.Generator().manual_seed(0)).rows
    assert (whole & ~differ).any()


def test_independent_masks_and_prompts_make_the_margin_noisier():
    """Flaw 5 of the released code. Same pictures, same two networks: only the luck of the mask and of the dropped
    prompt differs, and sharing it takes most of it out of the margin."""
    policy, reference = tiny(1), tiny(0)
    pairs = some_pairs(1)
    near = pairs.chosen.clone()
    near[:, :3] = (near[:, :3] + 1) % 16  # a rejected picture is much like the chosen one of its prompt
    pairs = Pairs(pairs.prompts * 2, torch.cat([pairs.chosen, near]), torch.cat([near, pairs.chosen]), {})
    draws = torch.zeros(400, dtype=torch.long)

    def changes(codes, batch):
        text = text_batch(batch.prompts)
        new, old = (log_probability(m, text, codes, batch.rows) for m in (policy, reference))
        return new - old

    def variance(**options):
        chance, config = torch.Generator().manual_seed(3), DPOConfig(**options)
        one, two = (draw_batch(pairs, draws, config, "masked", chance) for _ in range(2))
        with torch.no_grad():
            chosen, rejected = changes(one.chosen, one), changes(one.rejected, one)
            apart = changes(two.rejected, two)  # other mask, other fate of the prompt
        return (chosen - rejected).var().item(), (chosen - apart).var().item()

    for options in ({}, {"dropped_text": 0.3}):
        shared, independent = variance(**options)
        assert independent > 2 * shared


def test_reference_and_policy_must_have_the_same_shape():
    check_same_shape(tiny(0), tiny(1))
    with pytest.raises(UserError, match="has shape"):
        check_same_shape(tiny(), tiny(width=32))
    with pytest.raises(UserError, match="has shape None|has shape .* and None"):
        check_same_shape(tiny(), tiny(layers=2))
    with pytest.raises(UserError, match="masked order, the reference in raster order"):
        check_same_shape(tiny(), tiny(order="raster"))
