"""DPO guided by a reward: a verifier judges fresh pictures while the generator is tuned (arXiv 2501.13926, section 3.3).

The paper prints no formula, and the term in its released code is a constant: the reward of a sampled picture, rebuilt as
a plain number (`released_term`). Its gradient is exactly zero, so that the update equals plain DPO. Here the loss is

    L = L_DPO - weight * J,        J = E over prompts and pictures x drawn by the policy of  R(x) - kl log(p(x) / p_ref(x))

with the gradient of REINFORCE (Williams 1992): for K pictures of a prompt

    grad J = mean over k of A_k grad log p(x_k),        A_k = R_k - mean of the other pictures' rewards

which is RLOO (arXiv 2402.14740); A_k is K / (K - 1) times the distance to the group's mean, and sums to zero.
The pull to the reference, kl, is the one that DPO's own loss is derived from; as there, it belongs to the reward.

log p(x): a masked path is a list of rounds. Of each it counts the codes that were *fixed* in that round, given what was
visible before it. Which places were fixed is taken as given, although it too depends on the weights, through
the confidence. With one round, and in raster order, log p(x) is exact and the gradient unbiased.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cotlib.align.dpo import text_batch
from cotlib.align.tuning import Extra
from cotlib.decoding import run_steps
from cotlib.errors import UserError
from cotlib.interfaces import CLARITY, FINAL, POTENTIAL, Step, Verifier
from cotlib.kernels.linear_logprob import linear_logprob
from cotlib.models.generator import PictogramGenerator
from cotlib.search.paths import need, need_masked
from cotlib.several import rank, workers

Reward = Callable[[PictogramGenerator, list[str], list[Step]], Tensor]
"""(model, prompt of each row, all steps of the rows) -> reward float [B]; larger is better. The model decodes."""


@dataclass(frozen=True)
class GuidedConfig:
    """weight: of the reward term; kl: of the pull to the reference, reward per nat; prompts: an update, of all processes
    together; each: pictures a prompt (K above); rounds: how many rounds' codes are scored in an update, drawn anew each
    time and scaled up, 0 for all; guidance: while drawing and scoring, the model's own unless given."""

    weight: float = 0.1
    kl: float = 0.01
    prompts: int = 4
    each: int = 4
    rounds: int = 4
    guidance: float | None = None

    def __post_init__(self):
        if not 0 <= self.weight < float("inf") or not 0 <= self.kl < float("inf"):
            raise UserError(
                f"weight is {self.weight} and kl {self.kl}; expected finite numbers of at least 0"
            )
        if self.each < 2:
            raise UserError(
                f"each is {self.each}; expected at least 2 pictures a prompt, which are compared with each other"
            )
        if self.prompts < 1 or self.rounds < 0:
            raise UserError(
                f"prompts is {self.prompts} and rounds {self.rounds}; expected at least 1 and at least 0"
            )


# ----- rewards -----------------------------------------------------------------------------------------------------


def orm_reward(verifier: Verifier) -> Reward:
    """P(yes) to FINAL of the finished picture. UserError when the verifier lacks the question."""
    need(verifier, FINAL)

    def reward(model: PictogramGenerator, prompts: list[str], steps: list[Step]) -> Tensor:
        return verifier.ask(FINAL, prompts, model.decode(steps[-1].codes)).float()

    return reward


def parm_reward(verifier: Verifier) -> Reward:
    """Half of P(yes) to FINAL, half of the potential of the unfinished pictures, each weighted by its clarity.

        R = 1/2 P(FINAL) + 1/2 sum_t c_t q_t / sum_t c_t        c_t = P(CLARITY), q_t = P(POTENTIAL) after round t

    over the rounds from the verifier's `ask_from` on, but for the last. UserError when it lacks a question.
    """
    need(verifier, CLARITY, POTENTIAL, FINAL)

    def reward(model: PictogramGenerator, prompts: list[str], steps: list[Step]) -> Tensor:
        need_masked(model, "PARM")
        final = verifier.ask(FINAL, prompts, model.decode(steps[-1].codes)).float()
        watched = steps[min(getattr(verifier, "ask_from", 0), len(steps) - 1) : -1]
        if not watched:
            return final
        images = [model.decode(step.codes) for step in watched]
        clarity, potential = (
            torch.stack([verifier.ask(question, prompts, image).float() for image in images])
            for question in (CLARITY, POTENTIAL)
        )  # [watched rounds, B]
        return (final + (clarity * potential).sum(0) / clarity.sum(0).clamp(min=1e-6)) / 2

    return reward


def advantages(rewards: Tensor) -> Tensor:
    """Each picture's reward minus the mean of the others of its prompt; rewards: float [P, K] with K > 1."""
    each = rewards.shape[1]
    return (rewards - rewards.mean(1, keepdim=True)) * each / (each - 1)


def released_term(rewards: Tensor) -> Tensor:
    """The released code's term, mean of -log reward, from rewards [B] in (0, 1]: a constant (train_dpo.py at 1ff33eb).

    Sampling and judging run without gradients and the reward is made a new tensor, so nothing in it leads back to the
    weights.
    """
    return -torch.tensor(rewards.tolist()).log().mean()


# ----- paths and their log-probability -----------------------------------------------------------------------------


@torch.no_grad()
def draw_group(
    policy: PictogramGenerator,
    prompts: list[str],
    each: int,
    first: int,
    seed: int,
    guidance: float | None = None,
    kernel: bool = True,
) -> tuple[list[str], list[Step]]:
    """(prompt of each row, steps) of `each` pictures a prompt, all of the first prompt first, path numbers from `first`.

    kernel: False for plain torch on a GPU too, here and in all that follows.
    """
    texts = [prompt for prompt in prompts for _ in range(each)]
    numbers = list(range(first, first + each)) * len(prompts)
    return texts, list(run_steps(policy, texts, numbers, seed, guidance=guidance, kernel=kernel))


def path_log_probability(
    model: PictogramGenerator, prompts: list[str], steps: list[Step], rounds: list[int] | None = None,
    guidance: float | None = None, kernel: bool = True,
) -> Tensor:  # fmt: skip
    """log p(x) of each row's path in nats, float [B], with gradients; see the head of this file.

    prompts: one per row; rounds: only these rounds' codes, scaled by all rounds over their number; guidance: the model's
    own unless given, its gradient runs through both passes.
    """
    guidance = model.config.guidance if guidance is None else guidance
    if model.config.order == "raster":
        codes = steps[-1].codes
        states = [(codes, torch.ones_like(codes, dtype=torch.bool), codes)]
    else:
        chosen = range(len(steps)) if rounds is None else rounds
        states = [_state(model, steps, t) for t in chosen]
    visible, fixed, codes = (torch.cat(part) for part in zip(*states, strict=True))  # [R * B, N]
    ids, valid = text_batch(prompts, model.device)
    hidden = model.train_hidden(ids.repeat(len(states), 1), valid.repeat(len(states), 1), visible)[fixed]
    if guidance:
        ids, valid = text_batch([""], model.device)
        empty = model.train_hidden(ids.expand(len(visible), -1), valid.expand(len(visible), -1), visible)[
            fixed
        ]
        hidden = (1 + guidance) * hidden - guidance * empty
    log_p = linear_logprob(hidden, model.head_weight(), codes[fixed], kernel=kernel)
    sums = torch.zeros(fixed.shape, device=fixed.device).masked_scatter(fixed, log_p).sum(1)
    scale = len(steps) / len(states) if model.config.order == "masked" else 1.0
    return scale * sums.view(len(states), -1).sum(0)


def _state(model: PictogramGenerator, steps: list[Step], t: int) -> tuple[Tensor, Tensor, Tensor]:
    """(codes visible before round t, places fixed in it, codes drawn), each [B, N]."""
    codes, left = steps[t].codes, steps[t].masked
    if t == 0:
        return torch.full_like(codes, model.mask_id), ~left, codes
    before = steps[t - 1].masked
    return steps[t - 1].codes.masked_fill(before, model.mask_id), before & ~left, codes


# ----- the term ----------------------------------------------------------------------------------------------------


def reward_term(reward: Reward, config: GuidedConfig, seed: int = 0, kernel: bool = True) -> Extra:
    """The term -weight * J for `cotlib.align.tuning.tune(..., extra=...)`, its value being -weight * mean(A log p).

    Every update draws fresh pictures of the first prompts of its batch. Curves: "reward", the mean reward; "spread",
    the standard deviation within a prompt, without which there is nothing to learn; "kl", mean log(p / p_ref) of the scored codes.
    Raises UserError when a reward is no number, or the prompts cannot be shared by the processes.
    """

    def term(policy, reference, prompts: list[str], update: int) -> tuple[Tensor, dict]:
        if config.prompts % workers():
            raise UserError(
                f"{config.prompts} prompts an update cannot be shared by {workers()} processes; expected a multiple"
            )
        prompts = prompts[: config.prompts]
        mine = prompts[rank() :: workers()]
        if not mine:  # fewer different prompts in the batch than processes
            return torch.zeros((), device=policy.device), {"reward": 0.0, "spread": 0.0, "kl": 0.0}
        share = workers() / len(prompts)  # the mean over processes of share * sum is the mean over prompts
        first = update * config.each
        texts, steps = draw_group(policy, mine, config.each, first, seed, config.guidance, kernel)
        rewards = reward(policy, texts, steps).to(policy.device).detach()
        if not bool(torch.isfinite(rewards).all()):
            raise UserError(f"the reward is {rewards.tolist()} at update {update}; expected finite numbers; look at the "
                            "verifier's weights")  # fmt: skip
        rounds = _some_rounds(len(steps), config.rounds, seed, update)
        log_p = path_log_probability(policy, texts, steps, rounds, config.guidance, kernel)
        with torch.no_grad():
            ratio = log_p - path_log_probability(reference, texts, steps, rounds, config.guidance, kernel)
        groups = (rewards - config.kl * ratio).view(len(mine), config.each)
        gain = (advantages(groups) * log_p.view_as(groups)).mean(1).sum()
        plain = rewards.view_as(groups)
        curves = {"reward": share * plain.mean(1).sum().item(), "spread": share * plain.std(1).sum().item(),
                  "kl": share * ratio.view_as(groups).mean(1).sum().item()}  # fmt: skip
        return -config.weight * share * gain, curves

    return term


def _some_rounds(rounds: int, wanted: int, seed: int, update: int) -> list[int] | None:
    """Which rounds are scored in this update; None for all."""
    if not 0 < wanted < rounds:
        return None
    chance = torch.Generator().manual_seed(seed * 1_000_003 + update)
    return sorted(torch.randperm(rounds, generator=chance)[:wanted].tolist())
