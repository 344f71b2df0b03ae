"""The reward term: exact gradients on networks small enough to count every picture, and flaw 4 of the released code."""

import math

import pytest
import torch

from cotlib.align.dpo import DPOConfig, draw_batch, pair_loss
from cotlib.align.guided import (
    GuidedConfig,
    advantages,
    draw_group,
    orm_reward,
    parm_reward,
    path_log_probability,
    released_term,
    reward_term,
)
from cotlib.align.pairs import Pairs
from cotlib.align.tuning import tune
from cotlib.errors import UserError
from cotlib.interfaces import CLARITY, FINAL, POTENTIAL
from cotlib.models.generator import GeneratorConfig, PictogramGenerator
from cotlib.world.prompts import prompt_pool

PROMPTS = list(prompt_pool("train", "colors")[:4])


def tiny(**changes) -> PictogramGenerator:
    sizes = {"width": 16, "layers": 1, "heads": 2, "hidden": 16, "grid": 2, "codes": 4, "steps": 3} | changes
    torch.manual_seed(0)
    model = PictogramGenerator(GeneratorConfig(**sizes))
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.4)
    model.decode = lambda codes: codes
    return model.eval()


def twos(model, prompts, steps):
    """A known reward: the share of code 2 in the finished picture."""
    return (steps[-1].codes == 2).float().mean(1)


def gradient(model, value) -> torch.Tensor:
    model.zero_grad()
    value.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).clone()


def test_advantages_are_distances_to_the_others_mean():
    found = advantages(torch.tensor([[1.0, 0.0, 0.0], [0.3, 0.3, 0.3]]))
    assert torch.allclose(found[0], torch.tensor([1.0, -0.5, -0.5]))
    assert found.sum(1).abs().max() < 1e-6


@pytest.mark.parametrize("order", ["masked", "raster"])
@pytest.mark.parametrize("guidance", [0.0, 1.5])
def test_a_paths_log_probability_is_that_of_its_drawing(order, guidance):
    """Independent of the training code: the sampler's own log-probabilities of the codes it kept."""
    model = tiny(order=order, grid=3, guidance=guidance)
    texts, steps = draw_group(model, PROMPTS[:2], 3, first=0, seed=1)
    drawn = sum(step.log_p.masked_fill(step.masked, 0.0).sum(1) for step in steps)
    with torch.no_grad():
        found = path_log_probability(model, texts, steps)
    assert torch.allclose(found, drawn, atol=1e-4)


def test_some_rounds_stand_for_all_of_them():
    model = tiny(grid=3)
    texts, steps = draw_group(model, PROMPTS[:1], 2, first=0, seed=1)
    with torch.no_grad():
        every = path_log_probability(model, texts, steps)
        single = torch.stack([path_log_probability(model, texts, steps, [t]) for t in range(3)])
    assert torch.allclose(single.mean(0), every, atol=1e-4)


@pytest.mark.parametrize("guidance", [0.0, 1.5])
def test_the_gradient_is_that_of_the_expected_reward(guidance):
    """One token, one round, four codes: E R = sum over codes of p(code) R(code), differentiated outright."""
    model = tiny(grid=1, steps=1, guidance=guidance)
    rewards = torch.tensor([0.1, 0.9, 0.3, 0.0])
    config = GuidedConfig(weight=1.0, kl=0.0, prompts=1, each=1500)
    term = reward_term(lambda model, prompts, steps: rewards[steps[-1].codes[:, 0]], config)
    estimate = -gradient(model, term(model, model, PROMPTS, 0)[0])
    texts, steps = draw_group(model, PROMPTS[:1], 4, 0, 0)
    steps[0].codes[:, 0] = torch.arange(4)  # every picture there is
    p = path_log_probability(model, texts, steps).exp()
    assert math.isclose(p.sum().item(), 1.0, rel_tol=1e-5)
    exact = gradient(model, (p * rewards).sum())
    assert exact.norm() > 1e-3
    assert torch.cosine_similarity(estimate, exact, dim=0) > 0.95
    assert 0.8 < (estimate.norm() / exact.norm()).item() < 1.25


@pytest.mark.parametrize("order, rounds", [("masked", 0), ("masked", 1), ("raster", 0)])
def test_following_the_gradient_raises_the_reward(order, rounds):
    model = tiny(order=order)
    term = reward_term(twos, GuidedConfig(weight=1.0, kl=0.0, prompts=2, each=24, rounds=rounds))

    def expected():
        texts, steps = draw_group(model, PROMPTS[:2], 150, 10_000, 9)
        return twos(model, texts, steps).mean().item()

    before = expected()
    optimizer = torch.optim.SGD(model.parameters(), 0.02)
    for update in range(15):
        loss = term(model, model, PROMPTS, update)[0]
        assert gradient(model, loss).norm() > 0
        optimizer.step()
    assert expected() > before + 0.1


def test_a_constant_reward_gives_no_gradient():
    model = tiny()
    term = reward_term(lambda m, prompts, steps: torch.full((len(prompts),), 0.5), GuidedConfig(kl=0.0))
    value, curves = term(model, model, PROMPTS, 0)
    assert gradient(model, value).abs().max() == 0 and curves["reward"] == 0.5 and curves["spread"] == 0


def test_the_released_term_is_a_constant():
    """Flaw 4: with it, the gradient of the whole loss is that of plain DPO, to the last bit. Ours differs."""
    model, reference = tiny(), tiny()
    chosen, rejected = torch.zeros(4, 4, dtype=torch.long), torch.ones(4, 4, dtype=torch.long)
    pairs, config = Pairs(PROMPTS, chosen, rejected, {}), DPOConfig()
    batch = draw_batch(pairs, torch.arange(4), config, "masked", torch.Generator().manual_seed(0))

    def dpo():
        return pair_loss(model, reference, batch, config, 10)[0]

    texts, steps = draw_group(model, PROMPTS, 1, 0, 0)
    released = released_term(0.1 + 0.9 * twos(model, texts, steps))
    assert released > 0 and not released.requires_grad
    plain = gradient(model, dpo())
    assert torch.equal(gradient(model, dpo() + 0.1 * released), plain)
    ours = reward_term(twos, GuidedConfig(weight=0.1))(model, reference, PROMPTS, 0)[0]
    assert not torch.equal(gradient(model, dpo() + ours), plain)


def test_the_pull_holds_the_policy_at_the_reference():
    """With no reward but the pull, a policy that has moved away goes back."""
    model, reference = tiny(), tiny()
    with torch.no_grad():
        model.code_out[2] += 0.5
    term = reward_term(lambda m, prompts, steps: torch.zeros(len(prompts)),
                       GuidedConfig(weight=1.0, kl=1.0, prompts=4, each=24, rounds=0))  # fmt: skip
    optimizer, distances = torch.optim.SGD(model.parameters(), 0.01), []
    for update in range(12):
        value, curves = term(model, reference, PROMPTS, update)
        gradient(model, value)
        optimizer.step()
        distances.append(curves["kl"])
    assert sum(distances[-3:]) < 0.7 * sum(distances[:3])


class Scripted:
    """P(yes) from the share of code 2: FINAL that share, CLARITY its square root, POTENTIAL its square."""

    questions, ask_from = (FINAL, CLARITY, POTENTIAL), 1

    def ask(self, question, prompts, images):
        share = (images == 2).float().mean(1)
        return {FINAL: share, CLARITY: share.sqrt(), POTENTIAL: share.square()}[question]


def test_rewards_of_orm_and_parm():
    model = tiny(grid=3, steps=4)
    texts, steps = draw_group(model, PROMPTS[:2], 3, 0, 0)
    shares = torch.stack([(step.codes == 2).float().mean(1) for step in steps])  # [S, B]
    assert torch.allclose(orm_reward(Scripted())(model, texts, steps), shares[-1])
    found = parm_reward(Scripted())(model, texts, steps)
    for b in range(6):
        clarity = [shares[t, b].item() ** 0.5 for t in (1, 2)]
        potential = [shares[t, b].item() ** 2 for t in (1, 2)]
        weighted = sum(c * q for c, q in zip(clarity, potential, strict=True)) / max(sum(clarity), 1e-6)
        assert math.isclose(
            found[b].item(), (shares[-1, b].item() + weighted) / 2, rel_tol=1e-4, abs_tol=1e-6
        )
    one_round = draw_group(tiny(steps=1), PROMPTS[:1], 2, 0, 0)  # nothing unfinished to look at
    assert torch.equal(parm_reward(Scripted())(model, *one_round), twos(model, *one_round))


def test_verifiers_that_lack_a_question_are_refused():
    class OnlyFinal(Scripted):
        questions = (FINAL,)

    with pytest.raises(UserError, match="expected also CLARITY, POTENTIAL"):
        parm_reward(OnlyFinal())
    with pytest.raises(UserError, match="raster"):
        parm_reward(Scripted())(tiny(order="raster"), *draw_group(tiny(order="raster"), PROMPTS[:1], 2, 0, 0))


@pytest.mark.parametrize(
    "changes, says",
    [({"each": 1}, "each is 1"), ({"weight": -1.0}, "weight is -1.0"), ({"kl": float("nan")}, "kl nan"),
     ({"prompts": 0}, "prompts is 0"), ({"rounds": -1}, "rounds -1")],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(changes, says):
    with pytest.raises(UserError, match=says):
        GuidedConfig(**changes)


def test_a_reward_that_is_no_number_is_refused():
    term = reward_term(lambda m, prompts, steps: torch.full((len(prompts),), float("nan")), GuidedConfig())
    with pytest.raises(UserError, match="the reward is .*nan.* at update 5"):
        term(tiny(), tiny(), PROMPTS, 5)


def test_guided_tuning_resumes_with_the_same_curve(tmp_path):
    chosen, rejected = torch.full((4, 4), 2), torch.ones(4, 4, dtype=torch.long)
    pairs, settings = Pairs(PROMPTS, chosen, rejected, {}), GuidedConfig(prompts=2, each=3, rounds=2)
    options = {"extra": reward_term(twos, settings), "what": vars(settings)}
    whole = tune(tiny(), pairs, DPOConfig(batch=4, updates=4), **options)
    tune(tiny(), pairs, DPOConfig(batch=4, updates=2), folder=tmp_path, **options)
    rest = tune(tiny(), pairs, DPOConfig(batch=4, updates=4), folder=tmp_path, resume=True, **options)
    assert rest.curves == whole.curves and {"reward", "spread", "kl"} < set(whole.curves[0])
