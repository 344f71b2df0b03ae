"""Direct preference optimisation for image tokens (Rafailov et al., arXiv 2305.18290; arXiv 2501.13926, section 3.3).

Masked order: a picture's log-probability is estimated on a random mask, as the sum of log p(code) over the masked
places, given the visible ones and the prompt. Chosen and rejected share the mask, so its luck cancels in their
difference, and they keep or lose their prompt together. The released code of the paper does both independently.
Raster order needs no estimate: the sum over all tokens is the exact log-likelihood.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cotlib.align.pairs import Pairs
from cotlib.errors import UserError
from cotlib.kernels.linear_logprob import linear_logprob
from cotlib.models.generator import PictogramGenerator
from cotlib.world.prompts import encode

Text = tuple[Tensor, Tensor]  # token ids [B, T] and their validity [B, T]


@dataclass(frozen=True)
class DPOConfig:
    """What a tuning run minimises, and how.

    beta: strength of the pull to the reference, per nat of margin (per nat a token with length "mean"). sft: weight
    of -log p(chosen), per scored token. loss: "sigmoid" or "ipo". length: "sum" of the scored tokens' log-probabilities
    or their "mean". scored: "all" places may be masked and scored, or only those where the two pictures are "differing";
    the others are seen by both and decide nothing. smoothing: share of labels taken for exchanged. dropped_text: share of pairs without their prompt.
    """

    beta: float = 0.1
    sft: float = 0.2
    lr: float = 3e-4
    batch: int = 32  # pairs, of all processes together
    updates: int = 150
    ema: float = 0.97
    smoothing: float = 0.0
    dropped_text: float = 0.0
    scored: str = "all"
    loss: str = "sigmoid"
    length: str = "sum"

    def __post_init__(self):
        for name in ("beta", "lr"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UserError(f"{name} is {getattr(self, name)}; expected a finite number above 0")
        for name, end in (("smoothing", 0.5), ("dropped_text", 1.0), ("ema", 1.0)):
            if not 0 <= getattr(self, name) < end:
                raise UserError(f"{name} is {getattr(self, name)}; expected at least 0 and less than {end}")
        if not 0 <= self.sft < float("inf"):
            raise UserError(f"sft is {self.sft}; expected a finite number of at least 0")
        if self.batch < 1 or self.updates < 1:
            raise UserError(f"batch is {self.batch} and updates {self.updates}; expected at least 1 of each")
        for name, known in (
            ("loss", ("sigmoid", "ipo")),
            ("length", ("sum", "mean")),
            ("scored", ("all", "differing")),
        ):
            if getattr(self, name) not in known:
                raise UserError(f'{name} is "{getattr(self, name)}"; expected "{known[0]}" or "{known[1]}"')
        if self.loss == "ipo" and self.smoothing:
            raise UserError("smoothing belongs to the sigmoid loss; leave it out with ipo")


# ----- log-probabilities -------------------------------------------------------------------------------------------


def masked_log_probability(
    model: PictogramGenerator, text: Text, codes: Tensor, rows: Tensor, kernel: bool = True
) -> Tensor:
    """Sum over the masked places of log p(code | visible codes, prompt) in nats, one number a picture.

    text: (token ids [B, T], validity [B, T]); codes: long [B, N]; rows: bool [B, N], the masked places; kernel: False
    for plain torch on a GPU too. Returns float [B], with gradients.
    """
    hidden = model.train_hidden(*text, codes.masked_fill(rows, model.mask_id))
    return _sum_at(model, hidden, codes, rows, kernel)


def raster_log_probability(
    model: PictogramGenerator, text: Text, codes: Tensor, kernel: bool = True
) -> Tensor:
    """Exact log-likelihood in nats, the sum over all places of log p(code | earlier codes, prompt); float [B]."""
    rows = torch.ones_like(codes, dtype=torch.bool)
    return _sum_at(model, model.train_hidden(*text, codes), codes, rows, kernel)


def log_probability(
    model: PictogramGenerator, text: Text, codes: Tensor, rows: Tensor, kernel: bool = True
) -> Tensor:
    """The one of the two above that belongs to the model's order."""
    if model.config.order == "raster":
        return raster_log_probability(model, text, codes, kernel)
    return masked_log_probability(model, text, codes, rows, kernel)


def _sum_at(model: PictogramGenerator, hidden: Tensor, codes: Tensor, rows: Tensor, kernel: bool) -> Tensor:
    """Log-probabilities of the codes at the True places, summed for each picture [B]; hidden: [B, N, D]."""
    log_p = linear_logprob(hidden[rows], model.head_weight(), codes[rows], kernel=kernel)
    return torch.zeros_like(rows, dtype=log_p.dtype).masked_scatter(rows, log_p).sum(1)


# ----- the loss ----------------------------------------------------------------------------------------------------


def dpo_loss(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float,
    smoothing: float = 0.0, kind: str = "sigmoid",
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(loss, margin [B]) with the margin m = (chosen - rejected) - (ref_chosen - ref_rejected), in nats.

    The first four arguments are log-probabilities [B]. The loss is the mean over pairs of

        sigmoid   -(1 - e) log sigmoid(beta m) - e log sigmoid(-beta m)   e = smoothing; with 0 Rafailov et al., eq. 7
        ipo       (m - 1 / (2 beta))^2                                    Azar et al., arXiv 2310.12036

    ipo asks for a certain margin and no more; sigmoid always asks for more.
    """
    margin = (chosen - rejected) - (ref_chosen - ref_rejected)
    if kind == "ipo":
        return (margin - 1 / (2 * beta)).square().mean(), margin
    right, exchanged = F.logsigmoid(beta * margin), F.logsigmoid(-beta * margin)
    return -((1 - smoothing) * right + smoothing * exchanged).mean(), margin


def check_same_shape(policy: PictogramGenerator, reference: PictogramGenerator) -> None:
    """UserError unless both have the same order and tensors of the same shapes; the tokenizer does not matter."""
    orders = policy.config.order, reference.config.order
    if orders[0] != orders[1]:
        raise UserError(f"the policy draws in {orders[0]} order, the reference in {orders[1]} order; expected the same; "
                        "take the weights that the tuning began with as reference")  # fmt: skip
    ours, theirs = (
        {k: tuple(v.shape) for k, v in m.state_dict().items() if not k.startswith("tokenizer.")}
        for m in (policy, reference)
    )
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            raise UserError(f"{name} has shape {ours.get(name)} in the policy and {theirs.get(name)} in the reference; "
                            "expected the same; take the weights that the tuning began with as reference")  # fmt: skip


# ----- one batch ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """B pairs. prompts: texts, empty where the prompt is dropped; chosen, rejected: long [B, N]; rows: bool [B, N], the
    places that are scored in both pictures of a pair."""

    prompts: list[str]
    chosen: Tensor
    rejected: Tensor
    rows: Tensor

    def shard(self, rank: int, workers: int) -> "Batch":
        """The part of one of several processes."""
        mine = slice(rank, None, workers)
        return Batch(self.prompts[mine], self.chosen[mine], self.rejected[mine], self.rows[mine])


def draw_batch(pairs: Pairs, picked: Tensor, config: DPOConfig, order: str, chance: torch.Generator) -> Batch:
    """The pairs at `picked` (long [B]) with one mask and one fate of the prompt for each.

    Of the places that may be scored a share of cos(pi u / 2) with u uniform is masked, as in training; raster order
    scores every place.
    """
    chosen, rejected = pairs.chosen[picked], pairs.rejected[picked]
    if order == "raster":
        rows = torch.ones_like(chosen, dtype=torch.bool)
    else:
        share = torch.cos(torch.rand(len(picked), 1, generator=chance) * torch.pi / 2)
        open_ = (
            chosen != rejected if config.scored == "differing" else torch.ones_like(chosen, dtype=torch.bool)
        )
        luck = torch.rand(chosen.shape, generator=chance).masked_fill(~open_, 2.0)
        rows = luck.argsort(1).argsort(1) < (share * open_.sum(1, keepdim=True)).ceil()
    prompts = [pairs.prompts[i] for i in picked]
    if config.dropped_text:
        dropped = torch.rand(len(picked), generator=chance) < config.dropped_text
        prompts = ["" if drop else prompt for prompt, drop in zip(prompts, dropped, strict=True)]
    return Batch(prompts, chosen, rejected, rows)


def text_batch(prompts: list[str], device: torch.device | str = "cpu") -> Text:
    """Token ids [B, T] padded on the right, and their validity [B, T]."""
    ids = [encode(p) for p in prompts]
    longest = max(map(len, ids))
    padded = torch.tensor([row + [row[-1]] * (longest - len(row)) for row in ids])
    valid = torch.arange(longest) < torch.tensor([len(row) for row in ids])[:, None]
    return padded.to(device), valid.to(device)


def pair_loss(
    policy: PictogramGenerator, reference: PictogramGenerator, batch: Batch, config: DPOConfig, scored: float,
    kernel: bool = True,
) -> tuple[Tensor, dict[str, float]]:  # fmt: skip
    """(loss with the SFT term, curves) of one batch.

    scored: scored places of a picture, summed over the batch; with several processes their mean, so that the mean of
    their gradients is that of the whole batch. Curves: the preference loss, margin and accuracy, and the changes of both
    log-probabilities against the reference (in nats a picture, or a token with length "mean"). kernel: False for plain torch
    on a GPU too.
    """
    device = policy.device
    codes = torch.cat([batch.chosen, batch.rejected]).to(device)
    rows = batch.rows.repeat(2, 1).to(device)
    text = text_batch(batch.prompts * 2, device)
    with torch.no_grad():
        before = log_probability(reference, text, codes, rows, kernel)
    now = log_probability(policy, text, codes, rows, kernel)
    total = now[: len(batch.prompts)].sum()  # log p of the chosen pictures
    if config.length == "mean":
        before, now = before / rows.sum(1), now / rows.sum(1)
    (ref_chosen, ref_rejected), (chosen, rejected) = before.chunk(2), now.chunk(2)
    loss, margin = dpo_loss(
        chosen, rejected, ref_chosen, ref_rejected, config.beta, config.smoothing, config.loss
    )
    curves = {"loss": loss.item(), "margin": margin.mean().item(), "accuracy": (margin > 0).float().mean().item(),
              "chosen": (chosen - ref_chosen).mean().item(),
              "rejected": (rejected - ref_rejected).mean().item()}  # fmt: skip
    return loss - config.sft * total / scored, curves
