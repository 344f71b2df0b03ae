"""Rollouts: from a state in the middle of a path, several continuations with other dice; any right one makes it good.

This is how the paper labels steps (section 3.2, after Math-Shepherd, arXiv 2312.08935): a state is good when any of
four continuations ends right. Only what was still masked is drawn anew; what was fixed stays.
"""

import numpy as np
import torch
from torch import Tensor

from cotlib.decoding.masked import Round, play_round, told
from cotlib.decoding.noise import gumbel, path_uniforms
from cotlib.decoding.ratios import masked_left
from cotlib.decoding.schedule import temperatures
from cotlib.interfaces import ImageTokenModel

CONTINUATIONS = 4
OTHER_DICE = 1_000_000  # path numbers of continuations begin here, so that they share no draw with any path


@torch.no_grad()
def continue_rounds(
    model: ImageTokenModel, prompts: list[str], codes: Tensor, masked: Tensor, done: int, uniforms: Tensor,
    guidance: float | None = None, temperature: float = 1.0, kernel: bool = True,
) -> Tensor:  # fmt: skip
    """Final codes [B, N] of paths that go on after `done` rounds.

    codes: long [B, N], the full guess after the last of these rounds; masked: bool [B, N], which of its tokens are
    drawn again; uniforms: float [B, S, 2, N], the dice of all S rounds. With the dice that the path began with this is
    the rest of that very path. kernel: False for plain torch on a GPU too.
    """
    model, n, steps = told(model, kernel), codes.shape[1], uniforms.shape[1]
    scales = temperatures(steps, temperature)
    distinct = list(dict.fromkeys(prompts))
    prefix = model.prefix(distinct, guidance).select(torch.tensor([distinct.index(p) for p in prompts]))
    ids, number = codes.masked_fill(masked, model.mask_id), torch.arange(len(codes))
    left = int(masked[0].sum())
    for step in range(done, steps):
        hidden, left = left, masked_left(step, steps, n, left)
        this, dice = (
            Round(step, hidden, left, scales[step]),
            (uniforms[:, step, 0], gumbel(uniforms[:, step, 1])),
        )
        record, ids = play_round(model, this, prefix, ids, masked, *dice, number, kernel)
        codes, masked = record.codes, record.masked
    return codes


def roll_out(
    model: ImageTokenModel, judge, rows: list[tuple[dict, int]], codes: Tensor, masked: Tensor, correct: np.ndarray,
    seed: int,
) -> np.ndarray:  # fmt: skip
    """How many of four continuations end right, int8 [R, S], for the state of each path after each round.

    rows: (metadata, path number) of each path; codes: long [R, S, N]; masked: bool [R, S, N]; correct: bool [R]. After
    the last round nothing is left to draw: four if the picture is right, else none.
    """
    steps, n = codes.shape[1:]
    counts = np.zeros(codes.shape[:2], dtype=np.int8)
    counts[:, -1] = CONTINUATIONS * correct
    if not rows:
        return counts
    metadatas = [m for m, _ in rows for _ in range(CONTINUATIONS)]
    prompts = [m["prompt"] for m in metadatas]
    for done in range(1, steps):
        numbers = [
            OTHER_DICE + (path * steps + done) * CONTINUATIONS + k
            for _, path in rows
            for k in range(CONTINUATIONS)
        ]
        uniforms = path_uniforms(seed, prompts, numbers, (steps, 2, n)).to(model.device)
        state, hidden = (x[:, done - 1].repeat_interleave(CONTINUATIONS, 0) for x in (codes, masked))
        finals = continue_rounds(model, prompts, state, hidden, done, uniforms)
        right = np.array([v.correct for v in judge(metadatas, model.decode(finals))])
        counts[:, done - 1] = right.reshape(len(rows), CONTINUATIONS).sum(1)
    return counts
