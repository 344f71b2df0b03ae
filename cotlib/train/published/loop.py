"""The tuning loop of the published models: updates on a cosine schedule, states to go on from, several processes.

What an update draws (its examples, its masks) depends on the seed and the number of the update alone, and is drawn for the
whole batch on every process alike; each works on its share. So a killed run goes on exactly as if nothing had happened, and
the result does not depend on the number of processes beyond rounding. A process keeps the whole model and all of Adam's
numbers: 16 bytes a tuned weight. (The paper spread them over 8 GPUs with DeepSpeed; that is not done here.)

More than one process: `accelerate launch -m cotlib train ...`, or `torchrun`.
"""

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from cotlib.devices import enough_memory, pick_dtype
from cotlib.errors import UserError
from cotlib.models.published.files import open_weights, reason_of
from cotlib.several import average_gradients, mean_over_processes, rank, slowest, wait, workers
from cotlib.train.published.presets import Fit

STATE = "resume.pt"
CARD = "training.json"
BUCKET = 25_000_000  # numbers that are averaged over the processes at a time, 100 MB
GIB = 2**30
NARROWER = "give a smaller part (--set micro=1) or tune adapters (--lora), and go on with --resume"

Step = Callable[[int], dict[str, float]]
"""Leaves in the module the gradients of one update's loss, its share of this process, and returns the update's curves.
The mean over the processes of either is that of the whole batch."""

Watch = Callable[[int, dict], None]
"""Called after each update with its number, from 0, and its curves."""


@dataclass
class Run:
    """One tuning run: the module's parameters that require gradients, in groups with a learning rate each.

    key: hash of what the result depends on; updates: how many there are to be; update: how many were made.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    fit: Fit
    updates: int
    folder: Path
    key: str
    update: int = 0
    curves: list[dict] = field(default_factory=list)

    @property
    def tuned(self) -> dict[str, nn.Parameter]:
        """The parameters that are tuned, by name."""
        return {name: p for name, p in self.module.named_parameters() if p.requires_grad}

    def save(self) -> None:
        """Writes the state under another name first, so that the file is always whole."""
        state = {"tuned": {name: p.detach() for name, p in self.tuned.items()}, "optimizer": self.optimizer.state_dict(),
                 "key": self.key, "update": self.update, "curves": self.curves}  # fmt: skip
        torch.save(state, self.folder / "resume.tmp")
        (self.folder / "resume.tmp").replace(self.folder / STATE)

    def load(self) -> None:
        """Goes on from the file of `save`. UserError when it cannot be read or belongs to another run."""
        file = self.folder / STATE
        try:
            state = torch.load(file, weights_only=True, map_location="cpu", mmap=True)
            same = state["key"] == self.key
        except Exception as error:  # torch raises many kinds for a damaged file
            raise UserError(f"{file} cannot be read ({reason_of(error)}); expected the state of a tuning run; delete it to "
                            "start anew") from error  # fmt: skip
        if not same:
            raise UserError(f"{file} belongs to a run with other data, weights, settings or seed; give another folder, or "
                            "start anew without --resume")  # fmt: skip
        with torch.no_grad():
            for name, parameter in self.tuned.items():
                parameter.copy_(state["tuned"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.update, self.curves = state["update"], state["curves"]


def tune(
    run: Run, step: Step, *, resume: bool = False, minutes: float | None = None, watch: Watch | None = None
) -> bool:
    """Makes the run's updates; whether all were made. resume: goes on from the state in the folder if there is one.

    minutes: no update is begun after this time in this call. The state is kept at the end, too. UserError at the first update
    whose loss or gradient is no number, which then is not made, and for what `step` refuses; the state before it is kept.
    """
    if resume and (run.folder / STATE).is_file():
        run.load()
    begin = saved = time.monotonic()
    rates = [group["lr"] for group in run.optimizer.param_groups]
    run.module.train()
    while run.update < run.updates and not _late(begin, minutes):
        with enough_memory(lambda: f"an update in parts of {run.fit.micro} examples", NARROWER):
            try:
                curves = _update(run, step, rates)
            except UserError:  # no weight was changed yet
                _keep(run, rates)
                raise
        run.curves.append({"update": run.update, **curves})
        run.update += 1
        if rank() == 0:
            (watch or report)(run.update - 1, run.curves[-1])
        if time.monotonic() - saved >= 60 * run.fit.save_minutes and run.update < run.updates:
            _keep(run, rates)
            saved = time.monotonic()
    run.module.eval()
    _keep(run, rates)
    wait()
    return run.update == run.updates


def report(update: int, curves: dict) -> None:
    """The watch where none is given: every tenth update is printed."""
    if update % 10 == 0:
        print(json.dumps({name: round(value, 5) for name, value in curves.items()}), flush=True)


def _late(begin: float, minutes: float | None) -> bool:
    return minutes is not None and slowest(time.monotonic() - begin) > 60 * minutes


def _keep(run: Run, rates: list[float]) -> None:
    """Saves the state, with the learning rates as they were given."""
    for group, rate in zip(run.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    if rank() == 0:
        run.save()


def _update(run: Run, step: Step, rates: list[float]) -> dict[str, float]:
    """One update; returns its curves."""
    factor = cosine(run.update, run.updates, run.fit.warmup)
    for group, rate in zip(run.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate * factor
    run.optimizer.zero_grad(set_to_none=True)
    curves = mean_over_processes(step(run.update))
    parameters = [p for p in run.module.parameters() if p.grad is not None]
    for bucket in _buckets(parameters):
        average_gradients(nn.ParameterList(bucket))
    length = float(nn.utils.clip_grad_norm_(parameters, run.fit.clip or math.inf))
    if not (math.isfinite(curves["loss"]) and math.isfinite(length)):
        raise UserError(f"the loss is {curves['loss']} and its gradient's length {length} at update {run.update} (from 0), which was "
                        f"not made; the state before it is in {run.folder / STATE}; lower lr")  # fmt: skip
    run.optimizer.step()
    return {**curves, "gradient": length, "rate": factor}


def _buckets(parameters: list[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Parameters in parts of about BUCKET numbers."""
    part, size = [], 0
    for parameter in parameters:
        part.append(parameter)
        size += parameter.numel()
        if size >= BUCKET:
            yield part
            part, size = [], 0
    if part:
        yield part


def cosine(update: int, updates: int, warmup: float) -> float:
    """Multiplier of the learning rate: a rise over the first share of the updates, then half a cosine to zero."""
    rising = math.ceil(warmup * updates)
    if update < rising:
        return (update + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (update - rising) / max(1, updates - rising)))


def picks(update: int, count: int, batch: int, seed: int) -> Tensor:
    """The examples of an update, long [batch]: epoch after epoch, each in an order of its own."""
    places = torch.arange(update * batch, (update + 1) * batch)
    parts = []
    for epoch in range(int(places[0]) // count, int(places[-1]) // count + 1):
        order = torch.randperm(count, generator=dice(seed, "epoch", epoch))
        parts.append(order[places[places // count == epoch] - epoch * count])
    return torch.cat(parts)


def dice(seed: int, *what: object) -> torch.Generator:
    """A generator for one purpose."""
    told = hashlib.sha256(json.dumps([seed, *what]).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(told[:7]))


def require_share(batch: int) -> None:
    """UserError unless all processes can have equally many examples of a batch."""
    if batch % workers():
        raise UserError(f"a batch of {batch} cannot be shared by {workers()} processes; expected a multiple; --set "
                        f"batch={math.ceil(batch / workers()) * workers()}")  # fmt: skip


# ----- number formats and memory -----------------------------------------------------------------------------------


def mixed(device: torch.device) -> contextlib.AbstractContextManager:
    """Where the networks run: bfloat16 products on a GPU that has them, else nothing changes. Weights that are tuned
    stay in float32 in either case, since steps of 1e-5 are lost in bfloat16."""
    if device.type == "cuda" and pick_dtype(device) == torch.bfloat16:
        return torch.autocast("cuda", torch.bfloat16)
    return contextlib.nullcontext()


def recompute(model: nn.Module) -> None:
    """From now on a model of transformers computes hidden states again on the way back, layer by layer."""
    options = {"use_reentrant": False}
    if hasattr(model, "activation_checkpointing_enable"):  # its name in newer versions
        model.activation_checkpointing_enable(options)
    else:
        model.gradient_checkpointing_enable(options)


def frozen_dtype(device: torch.device) -> torch.dtype:
    """Of weights that adapters leave as they are."""
    return torch.bfloat16 if pick_dtype(device) == torch.bfloat16 else torch.float32


def memory(parameters: int, fit: Fit, dtype: torch.dtype, copies: int = 0) -> int:
    """Least bytes for weights, of that format where they are frozen, gradients and Adam's two means, without what is in
    between. copies: of the model, frozen; adapters need none."""
    return parameters * (dtype.itemsize if fit.lora else 4 + 4 + 8 + copies * dtype.itemsize)


def require_memory(folder: Path, fit: Fit, device: torch.device, dtype: torch.dtype, copies: int = 0) -> None:
    """UserError when a GPU is too small for the model in a folder, before it is loaded."""
    if device.type != "cuda":
        return
    parameters = sum(math.prod(shape) for shape in open_weights(folder).shapes.values())
    needed, there = memory(parameters, fit, dtype, copies), torch.cuda.mem_get_info(device)[1]
    if needed > there:
        advice = "use a smaller model" if fit.lora else "tune adapters with --lora, or use a smaller model"
        raise UserError(f"tuning the {parameters / 1e9:.2f} G weights in {folder} takes more than {needed / GIB:.0f} GiB, the device "
                        f"has {there / GIB:.0f} GiB; {advice}")  # fmt: skip


# ----- what a run was --------------------------------------------------------------------------------------------------


def key_of(*what: object) -> str:
    """Hash of what a run depends on: JSON values and tensors."""
    digest = hashlib.sha256()
    for part in what:
        data = (
            part.contiguous().numpy().tobytes()
            if isinstance(part, Tensor)
            else json.dumps(part, sort_keys=True).encode()
        )
        digest.update(data)
    return digest.hexdigest()


def finished(folder: Path, key: str) -> dict | None:
    """Metrics of the same run if it was finished in the folder before."""
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return card["metrics"] if card.get("key") == key and card.get("complete") else None


def close(run: Run, complete: bool, card: dict) -> dict:
    """Writes what was done into `training.json` and lets the state go when nothing is left to do; returns the metrics."""
    last = run.curves[-10:]
    names = [name for name in last[-1] if name != "update"] if last else []
    metrics = {"updates": run.update, "of": run.updates,
               **{name: sum(c[name] for c in last) / len(last) for name in names}}  # fmt: skip
    if rank() == 0:
        whole = {
            "complete": complete,
            "key": run.key,
            "metrics": metrics,
            **card,
            "torch": torch.__version__,
            "curves": run.curves,
        }
        (run.folder / CARD).write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        if complete:
            (run.folder / STATE).unlink(missing_ok=True)
    return metrics
