"""Preference tuning: the loss against a closed form, and behaviour on a pair that can be learnt."""

import math

import numpy as np
import torch

from cotlib.align.dpo import DPOConfig, dpo_loss, masked_log_probability, text_batch
from cotlib.align.pairs import Pairs, draw_pairs
from cotlib.align.tuning import tune
from cotlib.interfaces import Verdict
from cotlib.models.generator import GeneratorConfig, PictogramGenerator

PROMPT = "a photo of a red dog"


def small_model() -> PictogramGenerator:
    torch.manual_seed(0)
    return PictogramGenerator(GeneratorConfig(width=32, layers=2, heads=2, hidden=64)).eval()


def test_loss_and_its_gradient():
    chosen = torch.tensor([-3.0], requires_grad=True)
    rejected = torch.tensor([-4.0], requires_grad=True)
    loss, margin = dpo_loss(chosen, rejected, torch.tensor([-3.5]), torch.tensor([-3.0]), beta=0.5)
    assert margin.item() == 1.5
    assert math.isclose(loss.item(), math.log(1 + math.exp(-0.75)), rel_tol=1e-6)
    loss.backward()
    expected = 0.5 / (1 + math.exp(0.75))
    assert math.isclose(chosen.grad.item(), -expected, rel_tol=1e-5)
    assert math.isclose(rejected.grad.item(), expected, rel_tol=1e-5)


def test_log_probability_sums_the_masked_places_only():
    model, text = small_model(), text_batch([PROMPT])
    codes = torch.randint(0, 1024, (1, 64))
    rows = torch.zeros(1, 64, dtype=torch.bool)
    rows[0, [3, 40]] = True
    with torch.no_grad():
        found = masked_log_probability(model, text, codes, rows)
        logits = model.head(model.train_hidden(*text, codes.masked_fill(rows, model.mask_id)))
        by_hand = logits.log_softmax(-1)[0, [3, 40], codes[0, [3, 40]]].sum()
    assert torch.allclose(found, by_hand[None], atol=1e-5)


def test_tuning_prefers_the_chosen_picture_and_leaves_the_reference_alone():
    model = small_model()
    generator = torch.Generator().manual_seed(1)
    chosen, rejected = (torch.randint(0, 1024, (8, 64), generator=generator) for _ in range(2))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    curves = []
    tuned = tune(model, Pairs([PROMPT] * 8, chosen, rejected, {}), DPOConfig(lr=1e-3, batch=8, updates=15), 0,
                 lambda update, values: curves.append(values)).model  # fmt: skip
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert curves[-1]["margin"] > 1 and curves[-1]["accuracy"] == 1.0
    rows, text = torch.ones(8, 64, dtype=torch.bool), text_batch([PROMPT] * 8)
    with torch.no_grad():

        def gain(codes):
            new, old = (masked_log_probability(m, text, codes, rows) for m in (tuned, model))
            return (new - old).mean().item()

        assert gain(chosen) > gain(rejected)


def test_shuffled_labels_keep_the_pictures():
    chosen, rejected = torch.zeros(200, 4, dtype=torch.long), torch.ones(200, 4, dtype=torch.long)
    mixed = Pairs(["p"] * 200, chosen, rejected, {}).shuffled(np.random.default_rng(0))
    assert ((mixed.chosen + mixed.rejected) == 1).all()
    assert 0.35 < mixed.chosen.float().mean() < 0.65


def test_pairs_are_right_and_wrong_pictures_of_one_training_prompt():
    class EvenIsRight:
        def __call__(self, metadatas, images):
            return [Verdict(k % 2 == 0) for k in range(len(images))]

    model = small_model()
    model.decode = lambda codes: codes  # the judge above looks at the order only
    pairs = draw_pairs(model, EvenIsRight(), prompts=3, each=4, seed=0, most=1)
    assert pairs.counts["pairs"] == len(pairs.prompts) == pairs.counts["prompts"] == len(set(pairs.prompts))
    assert pairs.counts["right"] * 2 == pairs.counts["pictures"]
    assert not torch.equal(pairs.chosen, pairs.rejected)
