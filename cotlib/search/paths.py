"""What all strategies share: drawing paths under a watching hook, decoding and asking, each counted in the ledger.

A hook sees every step and says which rows go on. The others are taken out of the batch and cost nothing more; since
every path owns its randomness, those that go on draw the same codes as if nobody had stopped.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cotlib.decoding import Graphs, run_steps
from cotlib.errors import UserError
from cotlib.interfaces import ImageTokenModel, Path, Row, Step, StepHook, Verifier
from cotlib.search.ledger import Ledger

CHUNK = 64  # pictures decoded or shown at a time


def candidates(prompts: list[str], n: int) -> tuple[list[list[Path]], list[Row]]:
    """(n new paths for each prompt, the same as rows: all of the first prompt, then all of the second, ...)."""
    if not isinstance(n, int) or n < 1:
        raise UserError(f"n is {n}; expected a whole number of at least 1")
    paths = [[Path(k) for k in range(n)] for _ in prompts]
    return paths, [Row(prompt, path) for prompt, own in zip(prompts, paths, strict=True) for path in own]


@dataclass(frozen=True)
class Drawn:
    """Finished paths for several strategies to choose from, when these are compared on the same paths.

    paths: n for each prompt; last: the last step; log_p: sum over the tokens of the log-probability each code had when
    it was drawn for good, one float for each path, all of the first prompt first; cost: what drawing took.
    """

    prompts: list[str]
    paths: list[list[Path]]
    last: int
    log_p: list[float]
    cost: Ledger

    def again(self, ledger: Ledger) -> tuple[list[list[Path]], list[Row]]:
        """Fresh paths with the same codes, and the same as rows, as if `ledger` had paid for drawing them."""
        ledger.add(self.cost)
        paths = [[Path(path.number, path.codes) for path in own] for own in self.paths]
        return paths, [
            Row(prompt, path) for prompt, own in zip(self.prompts, paths, strict=True) for path in own
        ]


def draw(
    model: ImageTokenModel, prompts: list[str], n: int, seed: int = 0, steps: int | None = None,
    guidance: float | None = None, kernel: bool = True, graphs: Graphs | None = None,
) -> Drawn:  # fmt: skip
    """Draws n paths a prompt to their ends. kernel, graphs: as in `cotlib.decoding.masked_rounds`, here and in all
    strategies."""
    ledger, last = Ledger(), 0
    paths, rows = candidates(prompts, n)
    total = torch.zeros(len(rows))

    def part(mine: slice) -> Tensor:
        nonlocal last

        def add(step: Step, _: list[Row]) -> None:
            fixed = step.log_p.masked_fill(step.masked, 0.0)  # [B, N], codes drawn now and not hidden again
            total[mine] += fixed.sum(1).cpu()

        total[mine] = 0.0
        last = run_paths(
            model, rows[mine], seed, ledger, add, steps=steps, guidance=guidance, kernel=kernel, graphs=graphs
        )
        return total[mine]

    if hasattr(model, "groups"):  # keys and values of all paths may be too many at once
        model.groups.run(part, len(rows), "paths")
    else:
        part(slice(len(rows)))
    return Drawn(list(prompts), paths, last, total.tolist(), ledger)


def need(verifier: Verifier | None, *questions: str) -> None:
    """UserError unless there is a verifier that answers the questions."""
    asked = ", ".join(questions)
    if verifier is None:
        raise UserError(
            f"there is no verifier; expected one that answers {asked}; give it as the argument verifier"
        )
    if missing := [question for question in questions if question not in verifier.questions]:
        raise UserError(
            f"the verifier answers {', '.join(verifier.questions)}; expected also {', '.join(missing)}; "
            f"take weights trained for {asked}"
        )


def need_masked(model: ImageTokenModel, what: str) -> None:
    """UserError unless the model guesses the whole picture in every step."""
    if model.config.order != "masked":
        raise UserError(
            f"{what} looks at the full guess after each step, which {model.config.order} order does not have; "
            "use masked order, or the strategy orm"
        )


def branches(model: ImageTokenModel, guidance: float | None) -> int:
    """Passes a row needs: two with guidance, else one."""
    return 2 if (model.config.guidance if guidance is None else guidance) else 1


def token_passes(model: ImageTokenModel, step: Step, prompts: int, guidance: float | None) -> int:
    """Image tokens that one step sent through the network.

    Masked rounds run all N tokens of every row, but the first round only once per distinct prompt; raster order
    runs one token a row. Guidance doubles both.
    """
    if model.config.order == "raster":
        return branches(model, guidance) * len(step.codes)
    rows = prompts if step.index == 0 else len(step.codes)
    return branches(model, guidance) * rows * step.codes.shape[1]


def advance(loop: Generator[Step, Any, None], answer: Any, ledger: Ledger) -> Step | None:
    """The loop's next step, timed; None when it has ended."""
    with ledger.timed("generator"):
        try:
            return loop.send(answer)
        except StopIteration:
            return None


def run_to_end(
    model: ImageTokenModel, loop: Generator[Step, Any, None], ledger: Ledger, guidance: float | None
) -> Tensor:
    """Final codes [B, N] of masked rounds that nobody watches and that do not begin alike; counted and timed."""
    while (step := advance(loop, None, ledger)) is not None:
        ledger.generator_token_passes += branches(model, guidance) * step.codes.numel()
        codes = step.codes
    return codes


def run_paths(
    model: ImageTokenModel, rows: list[Row], seed: int, ledger: Ledger, hook: StepHook | None = None,
    guidance: float | None = None, **options,
) -> int:  # fmt: skip
    """Draws every row's path to its end, or to the step where the hook stops it; writes `codes` and `stopped`.

    options: as in `cotlib.decoding.run_steps`. A path that was stopped in an earlier call starts anew here, with the
    same random numbers, so it draws what it would have drawn. Returns the last step that was taken.
    """
    prompts, numbers = [row.prompt for row in rows], [row.path.number for row in rows]
    loop = run_steps(model, prompts, numbers, seed, guidance=guidance, **options)
    go_on, last = None, 0
    while (step := advance(loop, go_on, ledger)) is not None:
        last = step.index
        ledger.generator_token_passes += token_passes(model, step, len(set(prompts)), guidance)
        for row, codes in zip(rows, step.codes, strict=True):
            row.path.codes = codes
        go_on = hook(step, rows) if hook else None
        if go_on is not None:
            for row, on in zip(rows, go_on.tolist(), strict=True):
                row.path.stopped = row.path.stopped if on else step.index
            rows = [row for row, on in zip(rows, go_on.tolist(), strict=True) if on]
    return last


def stack_codes(rows: Sequence[Row]) -> Tensor:
    """Codes of the rows' paths, long [B, N]."""
    return torch.stack([row.path.codes for row in rows])


def decode(model: ImageTokenModel, codes: Tensor, ledger: Ledger) -> Tensor:
    """Codes [B, N] to pictures [B, 3, H, W], `CHUNK` at a time, counted and timed."""
    ledger.decodes += len(codes)
    with ledger.timed("decode"):
        return torch.cat([model.decode(part) for part in codes.split(CHUNK)])


def ask(
    verifier: Verifier, question: str, rows: Sequence[Row], images: Tensor, step: int, ledger: Ledger,
    strict: bool = True,
) -> list[float]:  # fmt: skip
    """P(yes) for each row's picture, `CHUNK` at a time, counted, timed and noted in the row's path.

    UserError for an answer that is no probability; with strict False it passes (the released code's verifiers
    answer NaN when their word is neither yes nor no).
    """
    ledger.verifier_calls[question] += len(rows)
    prompts, odds = [row.prompt for row in rows], []
    with ledger.timed("verifier"):
        for start in range(0, len(rows), CHUNK):
            part = slice(start, start + CHUNK)
            odds += verifier.ask(question, prompts[part], images[part]).tolist()
    if wrong := [p for p in odds if strict and not 0 <= p <= 1]:
        raise UserError(
            f'the verifier answered {wrong[0]} to "{question}"; expected a probability from 0 to 1; '
            "its weights are damaged or not meant for this question"
        )
    for row, p in zip(rows, odds, strict=True):
        row.path.note(question, step, p)
    return odds


def pick(scores: Sequence[float]) -> tuple[int, int]:
    """(place of the highest score, how many share it); of equals the first, which is the lowest path number."""
    best = max(scores)
    return scores.index(best), scores.count(best)


def pick_each(scores: list[float], n: int) -> tuple[list[int], list[int]]:
    """`pick` for every prompt's n paths: (chosen path numbers, ties), one entry per prompt."""
    picks = [pick(scores[start : start + n]) for start in range(0, len(scores), n)]
    return [chosen for chosen, _ in picks], [ties for _, ties in picks]


def of_chosen(values: Tensor, chosen: list[int], n: int) -> Tensor:
    """From the values of all paths [prompts * n, ...], pictures or codes, those of each prompt's chosen path."""
    return values[[i * n + k for i, k in enumerate(chosen)]]
