"""The tuning loop: preference updates on judged pairs, watched by truth on prompts of its own, resumable.

    from cotlib.align.tuning import tune
    tuned = tune(base, pairs, DPOConfig(), seed=0).model

Everything random is drawn for the whole batch from one seed, on every process alike, and each process works on its
share of the rows. So a run does not depend on the number of processes, and pairs are shuffled anew in every epoch
and never seen twice in one. (In the released code of the paper each process goes through all pairs, in the order
of the file.) A killed run goes on from its last state with the same curve.

More than one process: `accelerate launch` where accelerate is installed, else `torchrun`; the code is the same.
"""

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from cotlib.align.dpo import DPOConfig, check_same_shape, draw_batch, pair_loss
from cotlib.align.pairs import Pairs, draw, require_training
from cotlib.devices import on_all_cores
from cotlib.errors import UserError
from cotlib.interfaces import Judge
from cotlib.judging.stats import task_means
from cotlib.models.generator import PictogramGenerator
from cotlib.several import (
    average_gradients,
    gathered,
    mean_over_processes,
    rank,
    slowest,
    start_training,
    workers,
)

WARM_UP = 10  # updates in which the learning rate rises to its full value
STATE = "resume.pt"

Watch = Callable[[int, dict], None]
"""Called after each update with its number, from 0, and its curves."""

Extra = Callable[[PictogramGenerator, PictogramGenerator, list[str], int], tuple[Tensor, dict]]
"""A further term of the loss: (policy, reference, prompts of the batch, update) -> (term, curves). Each process is asked
and returns its share, such that the mean over processes is the term."""


@dataclass(frozen=True)
class Validation:
    """Truth while tuning. metadatas: training prompts that stand in no pair (`pairs.hold_out`).

    pictures: drawn for each; every: updates from one measurement to the next; patience: measurements without a new
    best after which tuning stops, 0 for never.
    """

    metadatas: list[dict]
    judge: Judge
    pictures: int = 4
    every: int = 30
    patience: int = 3
    seed: int = 7

    def __post_init__(self):
        if not self.metadatas or self.pictures < 1 or self.every < 1:
            raise UserError(f"validation has {len(self.metadatas)} prompts, {self.pictures} pictures each, every "
                            f"{self.every} updates; expected at least 1 of each")  # fmt: skip


@dataclass
class Tuned:
    """What tuning gives. model: averaged weights, the best measured ones if truth was watched; update: how many updates
    they have seen; truth: theirs, if watched; curves: one dict an update, with its number "update" from 0, "truth" where it was
    measured, and "truth_before" in the first."""

    model: PictogramGenerator
    update: int
    curves: list[dict]
    truth: float | None = None


class Diverged(UserError):
    """The loss was no number. `tuned` holds the last good weights."""

    def __init__(self, message: str, tuned: Tuned):
        super().__init__(message)
        self.tuned = tuned


@dataclass
class _Run:
    """Everything a killed run needs to go on."""

    policy: PictogramGenerator
    optimizer: torch.optim.Optimizer
    chance: torch.Generator
    key: str  # hash of what the run depends on
    average: dict[str, Tensor]
    order: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))  # pairs left of the epoch
    update: int = 0
    curves: list[dict] = field(default_factory=list)
    best: dict = field(default_factory=dict)  # update, truth, average
    waited: int = 0  # measurements since the best

    def save(self, folder: Path) -> None:
        """Writes the state under another name first, so that the file is always whole."""
        state = {"policy": self.policy.state_dict(), "optimizer": self.optimizer.state_dict(),
                 "chance": self.chance.get_state(), "key": self.key, "average": self.average, "order": self.order,
                 "update": self.update, "curves": self.curves, "best": self.best, "waited": self.waited}  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(state, folder / "resume.tmp")
        (folder / "resume.tmp").replace(folder / STATE)

    def load(self, file: Path) -> None:
        """Goes on from a file of `save`. UserError when it cannot be read or belongs to another run."""
        try:
            state = torch.load(file, weights_only=True, map_location=self.policy.device)
            same = state["key"] == self.key
        except Exception as error:  # torch raises many kinds for a damaged file
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"{file} cannot be read ({reason}); expected the state of a tuning run; delete it to start anew"
            ) from error
        if not same:
            raise UserError(f"{file} belongs to a run with other pairs, weights, settings or seed; give another folder, or "
                            "start anew without resuming")  # fmt: skip
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.chance.set_state(state["chance"].cpu())
        self.average, self.order, self.update = state["average"], state["order"].cpu(), state["update"]
        self.curves, self.best, self.waited = state["curves"], state["best"], state["waited"]

    def tuned(self) -> Tuned:
        """The best weights measured so far, or the averaged ones where truth is not watched."""
        model = copy.deepcopy(self.policy).eval()
        model.load_state_dict(self.best.get("average", self.average))
        return Tuned(model, self.best.get("update", self.update), self.curves, self.best.get("truth"))


def tune(
    model: PictogramGenerator, pairs: Pairs, config: DPOConfig, seed: int = 0, watch: Watch | None = None,
    *, reference: PictogramGenerator | None = None, validation: Validation | None = None, extra: Extra | None = None,
    what: dict | None = None, folder: Path | str | None = None, save_every: int = 10, resume: bool = False,
    minutes: float | None = None, kernel: bool = True,
) -> Tuned:  # fmt: skip
    """Tunes a copy of the model on the pairs; the model given stays as it is.

    reference: the model that the tuned one is pulled to, the given one unless said otherwise. extra: a further term of
    the loss (`cotlib.align.guided`); what: its settings, which a resumed run must share. folder: where the state is
    kept every `save_every` updates; resume: goes on from it if it is there. minutes: no update is begun after this time.
    kernel: False for plain torch on a GPU too; a further term has its own. Raises UserError: no pairs, a prompt or
    pair that must not be there, models of different shape, a state of another run; `Diverged` at the first update
    whose loss or gradient is no number, which then is not made.
    """
    start_training()
    reference = copy.deepcopy(model if reference is None else reference).eval().requires_grad_(False)
    check_same_shape(model, reference)
    _check(pairs, config, model, validation)
    policy = copy.deepcopy(model).train()
    optimizer = torch.optim.AdamW(policy.parameters(), config.lr, betas=(0.9, 0.98), weight_decay=0.0)
    average = {k: v.clone() for k, v in policy.state_dict().items()}
    key = _key(model, reference, pairs, config, seed, validation, what)
    run = _Run(policy, optimizer, torch.Generator().manual_seed(seed), key, average)
    folder = None if folder is None else Path(folder)
    if resume and folder is not None and (folder / STATE).is_file():
        run.load(folder / STATE)
    begin = time.monotonic()
    while run.update < config.updates and not _tired(run, validation) and not _late(begin, minutes):
        before = {}
        if validation and not run.best:
            before = {
                "truth_before": _measure(run, validation, kernel)
            }  # of the weights that tuning begins with
        curves = _update(run, reference, pairs, config, extra, folder, kernel)
        run.curves.append({"update": run.update, **curves, **before})
        run.update += 1
        if validation and (run.update % validation.every == 0 or run.update == config.updates):
            run.curves[-1]["truth"] = _measure(run, validation, kernel)
        if (
            folder is not None
            and rank() == 0
            and (run.update % save_every == 0 or run.update == config.updates)
        ):
            run.save(folder)
        if watch and rank() == 0:
            watch(run.update - 1, run.curves[-1])
    return run.tuned()


def _update(
    run: _Run,
    reference,
    pairs: Pairs,
    config: DPOConfig,
    extra: Extra | None,
    folder: Path | None,
    kernel: bool,
) -> dict:
    """One update; returns its curves. Diverged when loss or gradient is no number, with the weights as they were."""
    before = (run.chance.get_state(), run.order)
    picked, run.order = next_pairs(run.order, len(pairs.prompts), config.batch, run.chance)
    batch = draw_batch(pairs, picked, config, run.policy.config.order, run.chance)
    mine, scored = batch.shard(rank(), workers()), int(batch.rows.sum()) / workers()
    run.policy.train()
    run.optimizer.zero_grad()
    loss, curves = pair_loss(run.policy, reference, mine, config, scored, kernel)
    if extra:
        prompts = list(dict.fromkeys(pairs.prompts[i] for i in picked))
        term, more = extra(run.policy, reference, prompts, run.update)
        loss, curves = loss + term, curves | more
    loss.backward()
    average_gradients(run.policy)
    length = torch.nn.utils.clip_grad_norm_(run.policy.parameters(), 1.0)
    curves = mean_over_processes(curves | {"total": loss.item()})
    if not (math.isfinite(curves["total"]) and bool(torch.isfinite(length))):
        run.chance.set_state(before[0])
        run.order = before[1]
        if folder is not None and rank() == 0:
            run.save(folder)
        kept = f"; the state before it is in {folder / STATE}" if folder is not None else ""
        raise Diverged(f"the loss is {curves['total']} and its gradient's length {float(length)} at update {run.update} "
                       f"(from 0), which was not made{kept}; lower lr or beta", run.tuned())  # fmt: skip
    for group in run.optimizer.param_groups:
        group["lr"] = config.lr * min(1.0, (run.update + 1) / WARM_UP)
    run.optimizer.step()
    with torch.no_grad():
        for name, value in run.policy.state_dict().items():
            run.average[name].lerp_(value, 1 - min(config.ema, (1 + run.update) / (10 + run.update)))
    return curves


def next_pairs(order: Tensor, pairs: int, batch: int, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """(the next `batch` pairs, those left of the epoch), long; when too few are left, a newly shuffled epoch follows."""
    while len(order) < batch:
        order = torch.cat([order, torch.randperm(pairs, generator=chance)])
    return order[:batch], order[batch:]


def truth(model: PictogramGenerator, validation: Validation, kernel: bool = True) -> float:
    """Mean of the task means on the validation prompts; the same dice every time."""
    numbers, mine = list(range(validation.pictures)), validation.metadatas[rank() :: workers()]

    def right(metadata: dict) -> tuple[str, list[int]]:
        _, correct = draw(model, validation.judge, metadata, numbers, validation.seed, kernel)
        return metadata["tag"], correct.int().tolist()

    threads = 1 if workers() > 1 or model.device.type != "cpu" else None
    parts = gathered(list(on_all_cores(right, mine, threads)))
    means = task_means([row for part in parts for row in part])
    return sum(mean for mean, _ in means.values()) / len(means)


def _measure(run: _Run, validation: Validation, kernel: bool) -> float:
    """Truth of the averaged weights, which are remembered if it is the best so far."""
    model = copy.deepcopy(run.policy).eval()
    model.load_state_dict(run.average)
    score = truth(model, validation, kernel)
    run.waited += 1
    if not run.best or score > run.best["truth"]:
        average = {k: v.clone() for k, v in run.average.items()}
        run.best, run.waited = {"update": run.update, "truth": score, "average": average}, 0
    return score


def _tired(run: _Run, validation: Validation | None) -> bool:
    return validation is not None and 0 < validation.patience <= run.waited


def _late(begin: float, minutes: float | None) -> bool:
    return minutes is not None and slowest(time.monotonic() - begin) > 60 * minutes


def _check(pairs: Pairs, config: DPOConfig, model: PictogramGenerator, validation: Validation | None) -> None:
    """UserError for what cannot be tuned on."""
    if not pairs.prompts:
        raise UserError(
            "there are no pairs; expected at least one; draw more pictures a prompt, or other prompts"
        )
    shape = (len(pairs.prompts), model.tokens)
    if tuple(pairs.chosen.shape) != shape or tuple(pairs.rejected.shape) != shape:
        raise UserError(f"the pairs' codes have shapes {tuple(pairs.chosen.shape)} and {tuple(pairs.rejected.shape)}; "
                        f"expected {shape} for {shape[0]} prompts; draw them with this generator")  # fmt: skip
    if config.batch % workers():
        raise UserError(
            f"{config.batch} pairs a batch cannot be shared by {workers()} processes; expected a multiple"
        )
    require_training(pairs.prompts)
    if validation:
        held = [m["prompt"] for m in validation.metadatas]
        require_training(held)
        if both := set(held) & set(pairs.prompts):
            raise UserError(f'"{min(both)}" stands in the validation prompts and in a pair; expected different prompts; '
                            "make both with `hold_out`")  # fmt: skip


def _key(model, reference, pairs: Pairs, config: DPOConfig, seed: int, validation, what: dict | None) -> str:
    """A hash of everything the run's curve depends on, but for the number of updates it is to take."""
    digest = hashlib.sha256()
    watched = validation and [[m["prompt"] for m in validation.metadatas], validation.pictures, validation.every,
                              validation.patience, validation.seed]  # fmt: skip
    settings = {k: v for k, v in asdict(config).items() if k != "updates"}
    digest.update(json.dumps([settings, seed, pairs.prompts, watched, what], sort_keys=True).encode())
    for tensor in (
        pairs.chosen,
        pairs.rejected,
        *model.state_dict().values(),
        *reference.state_dict().values(),
    ):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
