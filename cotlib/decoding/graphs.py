"""Masked rounds as CUDA graphs: a round is recorded once and from then on launched as one piece.

A small network's round is many short kernels, and the GPU waits for the host to launch each. A graph holds them all,
with all addresses and numbers; replaying it is one call. Opt-in: recording costs time and memory, and what it saves
depends on the GPU, so measure both before making it a habit.

    graphs = Graphs(model)
    for prompt in prompts:
        outcome = orm(model, [prompt], 20, verifier=verifier, graphs=graphs)

A recorded round reads and writes the same memory every time. So each shape of batch has a place of its own, which
inputs are copied to and results are copied from; the text's keys and values only when they are others than last time.
Shapes are those of the batch and of the text, and the round: how many tokens are hidden before and after it. When paths
stop, the batch is another one. A shape is recorded the second time it is met, so that one which never comes again costs
nothing; the first time is an ordinary round.

Where it can surprise: one `Graphs` serves one model and one thread. Weights may change in place, as in training; when
they move to other addresses, all recordings are dropped.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cotlib.errors import UserError

Work = Callable[..., tuple[Tensor, ...]]
Recorded = tuple[tuple[Tensor, ...], Callable[[], None]]
"""(results, which keep their addresses; what computes them anew from the inputs' addresses)."""


@dataclass
class _Batch:
    """Inputs of one shape at fixed addresses, and what was recorded on them."""

    prefix: Any
    tensors: tuple[Tensor, ...]
    recorded: dict[Hashable, Recorded] = field(default_factory=dict)
    source: Any = None  # the prefix that was copied last

    def fill(self, prefix: Any, tensors: tuple[Tensor, ...]) -> None:
        """Copies the inputs to their addresses."""
        pairs = list(zip(self.tensors, tensors, strict=True))
        if self.source is not prefix:
            pairs += zip(leaves(self.prefix), leaves(prefix), strict=True)
            self.source = prefix
        for target, given in pairs:
            target.copy_(given)


class Graphs:
    """Recorded rounds of one model, for `cotlib.decoding.masked_rounds` and the strategies.

    The model needs, beside what `ImageTokenModel` says, `hidden(prefix, codes, places)` with places long [B, M] to
    [B, M, D] and `head` from there to logits, both without anything for the host to wait for; its prefix is a dataclass
    of tensors. batches: shapes of batches that are kept, each with one graph for each round; the least recently used one
    is dropped. UserError for a number of batches below 1 and, at the first round, for another model.
    """

    def __init__(self, model: Any, batches: int = 8):
        if batches < 1:
            raise UserError(f"batches is {batches}; expected at least 1, or no graphs at all")
        self.model, self.batches = model, batches
        self._kept: OrderedDict[Hashable, _Batch] = OrderedDict()
        self._met: set[int] = set()  # hashes of shapes; a mix-up would only record one too early
        self._weights: list[int] = []  # addresses
        self._pool = None  # memory that all graphs share: only one runs at a time

    def ready(self, model: Any) -> bool:
        """Whether the model's rounds can be recorded: on a GPU. UserError for another model, or one without the parts."""
        if model is not self.model:
            raise UserError(
                "the graphs belong to another model; expected the one that draws; make Graphs(model)"
            )
        if not (hasattr(model, "hidden") and hasattr(model, "head")):
            raise UserError(f"a {type(model).__name__} has no hidden and head; expected both, as Showo and "
                            "PictogramGenerator have; leave the graphs out")  # fmt: skip
        if not self.serves(torch.device(model.device)):
            return False
        weights = [tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())]
        if weights != self._weights:
            self.clear()
            self._weights = weights
        return True

    def serves(self, device: torch.device) -> bool:
        """Whether there are graphs on this device."""
        return device.type == "cuda"

    def clear(self) -> None:
        """Forgets everything."""
        self._kept.clear()
        self._met.clear()

    @torch.no_grad()
    def run(self, work: Work, what: Hashable, prefix: Any, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """`work(prefix, *tensors)`, recorded or replayed; the results belong to the caller.

        what: everything else that the work depends on; the same `what` with the same shapes is the same recording.
        """
        shape = signature((prefix, tensors))
        if hash((shape, what)) not in self._met:
            self._met.add(hash((shape, what)))
            return work(prefix, *tensors)
        batch = self._batch(shape, prefix, tensors)
        batch.fill(prefix, tensors)
        if what not in batch.recorded:
            batch.recorded[what] = self.record(partial(work, batch.prefix, *batch.tensors))
        results, replay = batch.recorded[what]
        replay()
        return tuple(result.clone() for result in results)

    def _batch(self, shape: Hashable, prefix: Any, tensors: tuple[Tensor, ...]) -> _Batch:
        if shape not in self._kept:
            self._kept[shape] = _Batch(cloned(prefix), cloned(tensors))
        self._kept.move_to_end(shape)
        while len(self._kept) > self.batches:
            self._kept.popitem(last=False)
        return self._kept[shape]

    def record(self, work: Callable[[], tuple[Tensor, ...]]) -> Recorded:
        """Records the work as a CUDA graph. Nothing is computed before the first replay."""
        with torch.cuda.device(self.model.device):
            aside, here = torch.cuda.Stream(), torch.cuda.current_stream()
            aside.wait_stream(here)
            with torch.cuda.stream(
                aside
            ):  # compiles kernels and sets up libraries, which no recording may do
                work()
            here.wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                results = work()
            self._pool = graph.pool()
        return results, graph.replay


# ----- a prefix as tensors and the rest ------------------------------------------------------------------------------


def signature(part: Any) -> Hashable:
    """Shapes, formats and devices of all tensors in a prefix, and all that is no tensor.

    UserError for a part that is neither a tensor, a number, a text, None, nor made of such.
    """
    if isinstance(part, Tensor):
        return tuple(part.shape), part.dtype, part.device
    if isinstance(part, list | tuple):
        return tuple(signature(one) for one in part)
    if is_dataclass(part):
        return type(part), tuple(signature(getattr(part, f.name)) for f in fields(part))
    if part is None or isinstance(part, bool | int | float | str):
        return part
    raise UserError(f"a {type(part).__name__} cannot be recorded; expected a prefix that is a dataclass of tensors, lists of "
                    "them and numbers; leave the graphs out")  # fmt: skip


def leaves(part: Any) -> list[Tensor]:
    """All tensors in a prefix, in order."""
    if isinstance(part, Tensor):
        return [part]
    if isinstance(part, list | tuple):
        return [leaf for one in part for leaf in leaves(one)]
    if is_dataclass(part):
        return [leaf for f in fields(part) for leaf in leaves(getattr(part, f.name))]
    return []


def cloned(part: Any) -> Any:
    """A prefix, or a tuple, with tensors of its own."""
    if isinstance(part, Tensor):
        return part.clone()
    if isinstance(part, list | tuple):
        return type(part)(cloned(one) for one in part)
    if is_dataclass(part):
        return replace(part, **{f.name: cloned(getattr(part, f.name)) for f in fields(part)})
    return part
