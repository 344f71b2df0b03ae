"""Masked rounds, exactly as Show-o does them: guess every hidden token, keep the surest, hide the rest again.

`masked_rounds` is a generator that yields a `Step` after each round; whoever drives it may send back which rows go
on, and the others cost nothing more. `sample_masked` runs it to the end.

Exact savings, all tested: text prefix computed once per prompt; only the rows still hidden go through the head;
guidance is combined before the head (it is linear); the first round, where all candidates of a prompt look alike,
runs the network once per prompt.

How many tokens are hidden is known from the schedule and never read back from the device. So a round has the same
shapes whatever is drawn, and on a GPU it can be recorded once and replayed (`cotlib.decoding.graphs`).
"""

from collections.abc import Generator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cotlib.decoding.graphs import Graphs
from cotlib.decoding.noise import draw_codes, draw_shared, gumbel, path_uniforms
from cotlib.decoding.ratios import masked_left
from cotlib.decoding.schedule import check_steps, check_temperature, temperatures
from cotlib.errors import UserError
from cotlib.interfaces import ImageTokenModel, Step
from cotlib.kernels.remask_step import remask_step


def guide(cond: Tensor, uncond: Tensor, w: float) -> Tensor:
    """Classifier-free guidance as in Show-o: (1 + w) cond - w uncond, elementwise; w = 0 is no guidance."""
    return (1 + w) * cond - w * uncond


def settle(
    index: int, codes: Tensor, masked: Tensor, drawn: tuple[Tensor, Tensor], noise: tuple[float, Tensor], left: int,
    paths: Tensor, mask_id: int, kernel: bool = True,
) -> tuple[Step, Tensor]:  # fmt: skip
    """Ends a round: (its record, codes [B, N] that the next one starts from, with `left` tokens a row hidden again).

    codes, masked: the round's input [B, N]; drawn: (codes, log-probabilities) of the masked places, in row-major order;
    noise: (scale, standard Gumbel noise [B, N]); paths: path numbers [B].
    """
    guess = codes.masked_scatter(masked, drawn[0])
    log_p = torch.zeros(codes.shape, device=codes.device).masked_scatter(masked, drawn[1])
    scale, gumbels = noise
    ids, known, confidence = remask_step(log_p, guess, ~masked, left, gumbels, scale, mask_id, kernel=kernel)
    return Step(index, guess, ~known, confidence, paths, log_p), ids


class Round(NamedTuple):
    """What is known of a round before it begins: its number, from 0, tokens a row that are hidden before and after it,
    scale of the noise."""

    index: int
    hidden: int
    left: int
    scale: float


def masked_places(masked: Tensor, count: int) -> Tensor:
    """Where the True values of bool [B, N] are, `count` in each row, from the left: long [B, count].

    As `masked.nonzero()`, but nobody waits to learn how many there are.
    """
    return torch.nonzero_static(masked, size=len(masked) * count)[:, 1].view(len(masked), count)


def play_round(
    model: ImageTokenModel, this: Round, prefix: Any, codes: Tensor, masked: Tensor, uniforms: Tensor, gumbels: Tensor,
    paths: Tensor, kernel: bool = True, at_places: bool = False,
) -> tuple[Step, Tensor]:  # fmt: skip
    """Looks, draws and settles one round; results as in `settle`.

    codes, masked: [B, N], `this.hidden` masked tokens in each row; uniforms, gumbels: [B, N], for codes and for the choice of
    tokens to keep; at_places: ask the model for these places, as `Graphs` describes, and not by the mask.
    """
    places = masked_places(masked, this.hidden)
    if at_places:
        logits = model.head(model.hidden(prefix, codes, places).flatten(0, 1))
    else:
        logits = model.logits(prefix, codes, masked)
    drawn = draw_codes(logits, uniforms.gather(1, places).flatten(), kernel=kernel)
    noise = (this.scale, gumbels)
    return settle(this.index, codes, masked, drawn, noise, this.left, paths, model.mask_id, kernel)


def masked_rounds(
    model: ImageTokenModel, prompts: list[str], paths: list[int], seed: int,
    steps: int | None = None, guidance: float | None = None, temperature: float = 1.0,
    start: Tensor | None = None, prefix: Any = None, owners: list[str] | None = None, kernel: bool = True,
    graphs: Graphs | None = None,
) -> Generator[Step, Tensor | None, None]:  # fmt: skip
    """Yields a `Step` after each round; send back bool [B] to stop the other rows, or nothing to go on with all.

    prompts, paths: one entry per row; rows of one prompt share their text prefix. steps, guidance: the model's own
    unless given. temperature: start of the annealed noise in the choice of tokens to keep (1.0 in Show-o).
    start: long [B, N], codes to begin from instead of an empty canvas; only tokens that are `mask_id` are drawn, and
    every row has as many of them. prefix: one row per path, instead of that of the prompts. owners: texts that the
    random numbers belong to, instead of the prompts. kernel: False for plain torch on a GPU too, in the model as well.
    graphs: the model's recorded rounds, for a GPU; not used on a CPU, nor with kernel False.
    """
    recorded = graphs is not None and kernel and graphs.ready(model)
    model, n = told(model, kernel), _unknown(start, model)
    steps = check_steps(model.config.steps if steps is None else steps, n)
    scales = temperatures(steps, check_temperature(temperature))
    size = model.grid[0] * model.grid[1]
    uniforms = path_uniforms(seed, owners or prompts, paths, (steps, 2, size)).to(model.device)
    noise = gumbel(uniforms[:, :, 1])  # of all rounds, [B, S, N]
    distinct = list(dict.fromkeys(prompts))
    owner = torch.tensor([distinct.index(p) for p in prompts])
    alike = start is None and prefix is None  # all rows of a prompt are the same empty canvas
    if prefix is None:
        shared = model.prefix(distinct, guidance)
        prefix = shared.select(owner)
    number = torch.tensor(paths)
    codes = torch.full((len(prompts), size), model.mask_id, device=model.device) if start is None else start
    masked, left = codes == model.mask_id, n
    for step, scale in enumerate(scales):
        hidden, left = left, masked_left(step, steps, n, left)
        this = Round(step, hidden, left, scale)
        if step == 0 and alike:
            logits = model.logits(shared, codes[: len(distinct)], masked[: len(distinct)])
            drawn = _draw_alike(logits, uniforms[:, 0, 0], owner, kernel)
            dice = (scale, noise[:, 0])
            record, codes = settle(0, codes, masked, drawn, dice, left, number, model.mask_id, kernel)
        else:
            play = partial(_replay, graphs) if recorded else partial(play_round, kernel=kernel)
            dice = uniforms[:, step, 0], noise[:, step]
            record, codes = play(model, this, prefix, codes, masked, *dice, number)
        masked = record.masked
        go_on = yield record
        if go_on is not None and not bool(go_on.all()):
            prefix, uniforms, noise = prefix.select(go_on), uniforms[go_on], noise[go_on]
            codes, masked, owner, number = codes[go_on], masked[go_on], owner[go_on], number[go_on]
            if not len(codes):
                return


def _replay(
    graphs: Graphs, model: ImageTokenModel, this: Round, prefix: Any, codes: Tensor, masked: Tensor, uniforms: Tensor,
    gumbels: Tensor, paths: Tensor,
) -> tuple[Step, Tensor]:  # fmt: skip
    """`play_round`, recorded or replayed."""

    def work(prefix: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        record, ids = play_round(model, this, prefix, *tensors, paths, at_places=True)
        return record.codes, record.masked, record.confidence, record.log_p, ids

    *seen, log_p, ids = graphs.run(work, this, prefix, (codes, masked, uniforms, gumbels))
    return Step(this.index, *seen, paths, log_p), ids


def told(model: ImageTokenModel, kernel: bool) -> ImageTokenModel:
    """The model; with kernel False without kernels of its own, where it has any."""
    return model.without_kernels() if not kernel and hasattr(type(model), "without_kernels") else model


def _draw_alike(logits: Tensor, uniforms: Tensor, owner: Tensor, kernel: bool) -> tuple[Tensor, Tensor]:
    """(codes, log-probabilities) [B, N] of paths that all start from their prompt's logits [P * N, V].

    uniforms: [B, N]; owner: long [B], each path's prompt, 0 .. P - 1.
    """
    count = torch.nn.functional.one_hot(owner).cumsum(0)  # paths of each prompt so far, [B, P]
    place = owner, count.gather(1, owner[:, None])[:, 0] - 1  # (prompt, which of its paths)
    table = uniforms.new_zeros(count.shape[1], int(count[-1].max()), uniforms.shape[1])  # [P, K, N]
    place = tuple(index.to(uniforms.device) for index in place)
    table[place] = uniforms
    codes, log_p = draw_shared(logits, table, kernel)
    return codes[place], log_p[place]


def _unknown(start: Tensor | None, model: ImageTokenModel) -> int:
    """Tokens that each row has to draw; UserError when there are none or the rows differ."""
    if start is None:
        return model.grid[0] * model.grid[1]
    counts = (start == model.mask_id).sum(1)
    if not len(counts) or int(counts[0]) == 0 or bool((counts != counts[0]).any()):
        raise UserError(f"the rows to go on from have {counts.tolist()} masked tokens; expected as many in each, and at "
                        "least one; group the rows by their masked tokens")  # fmt: skip
    return int(counts[0])


def sample_masked(
    model: ImageTokenModel, prompts: list[str], paths: list[int], seed: int, **options
) -> Tensor:
    """Codes [B, N] of the finished paths; options as in `masked_rounds`."""
    for step in masked_rounds(model, prompts, paths, seed, **options):
        last = step
    return last.codes
