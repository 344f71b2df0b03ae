"""Direct preference optimisation for masked image tokens (Rafailov et al., arXiv 2305.18290; arXiv 2501.13926, 3.3).

A picture's log-probability is estimated on a random mask: the sum of log p(code) over the masked places, given the
visible ones and the prompt. Chosen and rejected share the mask, so its luck cancels in their difference; the
released code of the paper masks the two independently.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cotlib.align.pairs import Pairs
from cotlib.models.generator import PictogramGenerator
from cotlib.world.prompts import encode


@dataclass(frozen=True)
class DPOConfig:
    """beta: strength of the pull to the reference. sft: weight of -log p(chosen), per masked token."""

    beta: float = 0.1
    sft: float = 0.2
    lr: float = 3e-4
    batch: int = 32  # pairs
    updates: int = 150
    ema: float = 0.97


def masked_log_probability(model: PictogramGenerator, prefix: tuple, codes: Tensor, rows: Tensor) -> Tensor:
    """Sum over the masked places of log p(code | visible codes, prompt), one number a picture.

    prefix: (token ids [B, T], validity [B, T]); codes: long [B, N]; rows: bool [B, N], the masked places.
    Returns float [B].
    """
    hidden = model.train_hidden(*prefix, codes.masked_fill(rows, model.mask_id))
    loss = F.cross_entropy(model.head(hidden[rows]), codes[rows], reduction="none")
    return -torch.zeros_like(rows, dtype=loss.dtype).masked_scatter(rows, loss).sum(1)


def dpo_loss(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float
) -> tuple[Tensor, Tensor]:
    """(loss, margin): mean of -log sigmoid(beta m), with m = (chosen - rejected) - (ref_chosen - ref_rejected).

    All arguments are log-probabilities [B] in nats (Rafailov et al., equation 7).
    """
    margin = (chosen - rejected) - (ref_chosen - ref_rejected)
    return -F.logsigmoid(beta * margin).mean(), margin


def text_batch(prompts: list[str]) -> tuple[Tensor, Tensor]:
    """Token ids [B, T] padded on the right, and their validity [B, T]."""
    ids = [encode(p) for p in prompts]
    longest = max(map(len, ids))
    padded = torch.tensor([row + [row[-1]] * (longest - len(row)) for row in ids])
    return padded, torch.arange(longest) < torch.tensor([len(row) for row in ids])[:, None]


def tune(model: PictogramGenerator, pairs: Pairs, config: DPOConfig, seed: int,
         watch: Callable[[int, dict], None] | None = None) -> PictogramGenerator:  # fmt: skip
    """A tuned copy of the model (averaged weights); the model given is the reference and stays as it is.

    watch(update, curves) is called after each update with loss, margin, accuracy and both changes in log-probability.
    """
    generator = torch.Generator().manual_seed(seed)
    policy = copy.deepcopy(model).train()
    average = {k: v.clone() for k, v in policy.state_dict().items()}
    optimizer = torch.optim.AdamW(policy.parameters(), config.lr, betas=(0.9, 0.98), weight_decay=0.0)
    order = torch.empty(0, dtype=torch.long)
    for update in range(config.updates):
        if len(order) < config.batch:
            order = torch.cat([order, torch.randperm(len(pairs.prompts), generator=generator)])
        picked, order = order[: config.batch], order[config.batch :]
        codes = torch.cat([pairs.chosen[picked], pairs.rejected[picked]])
        share = torch.cos(torch.rand(len(picked), 1, generator=generator) * torch.pi / 2)
        places = torch.rand(len(picked), codes.shape[1], generator=generator).argsort(1).argsort(1)
        rows = (places < (share * codes.shape[1]).ceil()).repeat(2, 1)
        text = text_batch([pairs.prompts[i] for i in picked] * 2)
        with torch.no_grad():
            ref_chosen, ref_rejected = masked_log_probability(model, text, codes, rows).chunk(2)
        chosen, rejected = masked_log_probability(policy, text, codes, rows).chunk(2)
        loss, margin = dpo_loss(chosen, rejected, ref_chosen, ref_rejected, config.beta)
        total = loss - config.sft * chosen.sum() / rows[: len(picked)].sum()
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = config.lr * min(1.0, (update + 1) / 10)
        optimizer.step()
        with torch.no_grad():
            for key, value in policy.state_dict().items():
                average[key].lerp_(value, 1 - min(config.ema, (1 + update) / (10 + update)))
        if watch:
            watch(update, {"loss": loss.item(), "margin": margin.mean().item(),
                           "accuracy": (margin > 0).float().mean().item(),
                           "chosen": (chosen - ref_chosen).mean().item(),
                           "rejected": (rejected - ref_rejected).mean().item()})  # fmt: skip
    policy.load_state_dict(average)
    return policy.eval()
