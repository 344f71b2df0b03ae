"""Stopwatch of notebook 10: ceilings of a device, forms timed by turns, and where the time of a search goes.

    roof = ceiling(device, dtype)                    bytes and FLOP a second that this device reaches, seconds of a call
    roof.least(cost), roof.limit(cost)               the least time of an operation, and what decides it
    times = race({"reference": f, "kernel": g}, device)      {name: Timing}, taken by turns
    parts = time_by_part(generator, prompt, n=20, seed=0)    {part: seconds}, the parts add up to the whole

A time is a median with the 20 % and 80 % quantiles beside it: other programs make some calls slow, never fast. Forms that are
compared are timed by turns, so that a busy moment meets all of them. On a processor, measure on one core
(`torch.set_num_threads(1)`): several cores wait for each other, so that one that is busy elsewhere makes all of them slow.
"""

from __future__ import annotations

import contextlib
import os
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple
from unittest import mock

import torch

from cotlib.kernels.cost import Cost


class Timing(NamedTuple):
    """Seconds of a call: median, and the bounds between which three of five calls lie."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{1000 * self.median:8.3f} ms ({1000 * self.low:.3f} to {1000 * self.high:.3f})"


class Ceiling(NamedTuple):
    """What a device reached. name; bandwidth: bytes a second of a large copy, read and written ones both counted; peak: FLOP a
    second of a large matrix product; curve: [(bytes copied, seconds)], from 1 KiB to
    that large copy. All are the fastest of many calls: a ceiling is what nothing passes."""

    name: str
    bandwidth: float
    peak: float
    curve: list[tuple[int, float]]

    @property
    def call(self) -> float:
        """Seconds of the smallest copy, which is nothing but calling."""
        return self.curve[0][1]

    @property
    def cached(self) -> float:
        """Bytes a second of the fastest size of copy: between nothing but calling and too large for the cache."""
        return max(2 * size / seconds for size, seconds in self.curve)

    def least(self, cost: Cost) -> float:
        """Seconds that an operation of this cost takes at the least: a call, its bytes from memory, or its arithmetic."""
        return max(self.call, cost.floor(self.bandwidth, self.peak))

    def limit(self, cost: Cost) -> str:
        """What decides that time: "calling" (below twice the smallest call), "memory" or "arithmetic"."""
        if cost.floor(self.bandwidth, self.peak) < 2 * self.call:
            return "calling"
        return "memory" if cost.intensity < self.ridge else "arithmetic"

    @property
    def ridge(self) -> float:
        """FLOP that are done in the time in which a byte is moved."""
        return self.peak / self.bandwidth


# ----- times -------------------------------------------------------------------------------------------------------


def race(forms: Mapping[str, Callable[[], object]], device: str | torch.device = "cpu", seconds: float = 0.5,
         least: int = 5) -> dict[str, Timing]:  # fmt: skip
    """Timings of all forms, called by turns until `seconds` a form have passed and each was called `least` times.

    The first call of each is not counted: it may compile, or fetch memory from the system.
    """
    once = _gpu_seconds if torch.device(device).type == "cuda" else _cpu_seconds
    for form in forms.values():
        form()
    taken: dict[str, list[float]] = {name: [] for name in forms}
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds * len(forms) or len(next(iter(taken.values()))) < least:
        for name, form in forms.items():
            taken[name].append(once(form))
    return {name: _timing(times) for name, times in taken.items()}


def _for_a_while(once: Callable[[], float], seconds: float) -> list[float]:
    """What `once` returns, at least twice."""
    found, begin = [once()], time.perf_counter()
    while time.perf_counter() - begin < seconds or len(found) < 2:
        found.append(once())
    return found


def timed(work: Callable[[], object], device: str | torch.device = "cpu", seconds: float = 0.2) -> Timing:
    """Timing of one form."""
    return race({"": work}, device, seconds)[""]


def _timing(times: list[float]) -> Timing:
    fifths = statistics.quantiles(times, n=5, method="inclusive")
    return Timing(statistics.median(times), fifths[0], fifths[3])


def _cpu_seconds(work: Callable) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _gpu_seconds(work: Callable) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    work()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000


# ----- ceilings ----------------------------------------------------------------------------------------------------


def ceiling(device: str | torch.device, dtype: torch.dtype = torch.float32) -> Ceiling:
    """Measures a device, in some two seconds: copies from 1 KiB to 128 MiB (1 GiB on a GPU) and one large product in `dtype`."""
    device = torch.device(device)
    gpu = device.type == "cuda"
    once = _gpu_seconds if gpu else _cpu_seconds
    whole = torch.ones(2 ** (30 if gpu else 27), dtype=torch.uint8, device=device)
    room, fastest = torch.zeros_like(whole), {}
    for _ in range(5):  # by turns, so that a busy moment does not meet one size alone
        for size in (2**power for power in range(10, whole.numel().bit_length())):
            copy = partial(room[:size].copy_, whole[:size])
            least = min(_for_a_while(partial(once, copy), 0.008))
            fastest[size] = min(fastest.get(size, least), least)
    n = 8192 if gpu else 1024
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    product = min(once(partial(torch.mm, a, b)) for _ in range(15))
    cores = f"{torch.get_num_threads()} of {os.cpu_count()} CPU cores, {platform.machine()}"
    name = torch.cuda.get_device_name(device) if gpu else cores
    return Ceiling(name, 2 * size / fastest[size], 2 * n**3 / product, list(fastest.items()))


# ----- where the time of a search goes -----------------------------------------------------------------------------

DRAW, HIDE, NORM, REST = (
    "draw codes",
    "hide the unsure again",
    "norm of q and k, join with text",
    "all the rest",
)
PARTS = {  # part: the kernel that is meant for it, or None
    "projections": None, "attention": None, "output and feed-forward": None, NORM: "qknorm_rope_kv", "head": None,
    DRAW: "masked_sample", HIDE: "remask_step", REST: None,
}  # fmt: skip


def time_by_part(generator, prompt: str, n: int, seed: int, repeats: int = 3) -> dict[str, Timing]:
    """Seconds that each of `PARTS` takes while n paths of one prompt are drawn; the parts of a run add up to the run.

    generator: a `PictogramGenerator` in masked order. On a GPU the clock waits for the device at every part, which makes the whole
    slower; the shares stay useful.
    """
    from cotlib.decoding import sample_masked

    work = partial(sample_masked, generator, [prompt] * n, list(range(n)), seed)
    work()
    runs = []
    for _ in range(repeats):
        clock = _Clock(generator.device.type == "cuda")
        with _watched(generator, clock), clock.part(REST):
            work()
        runs.append(clock.spent)
    return {part: _timing([run[part] for run in runs]) for part in PARTS}


class _Clock:
    """Time by part; while an inner part runs, its outer one stands still."""

    def __init__(self, gpu: bool):
        self.gpu, self.spent, self.open, self.last = gpu, defaultdict(float), [], 0.0

    def _turn(self) -> None:
        if self.gpu:
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self.open:
            self.spent[self.open[-1]] += now - self.last
        self.last = now

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        self._turn()
        self.open.append(name)
        try:
            yield
        finally:
            self._turn()
            self.open.pop()

    def around(self, name: str, function: Callable) -> Callable:
        def watched(*arguments, **options):
            with self.part(name):
                return function(*arguments, **options)

        return watched


@contextlib.contextmanager
def _watched(generator, clock: _Clock) -> Iterator[None]:
    """Puts the clock around the functions that a masked round calls."""
    from cotlib.decoding import masked

    watch = [(torch.nn.functional, "scaled_dot_product_attention", "attention"), (torch, "cat", NORM),
             (generator, "head", "head"), (masked, "draw_codes", DRAW), (masked, "draw_shared", DRAW),
             (masked, "remask_step", HIDE)]  # fmt: skip
    for block in generator.blocks:
        watch += [(block, "project", "projections"), (block, "finish", "output and feed-forward"),
                  (block.q_norm, "forward", NORM), (block.k_norm, "forward", NORM)]  # fmt: skip
    with contextlib.ExitStack() as stack:
        for owner, name, part in watch:
            stack.enter_context(mock.patch.object(owner, name, clock.around(part, getattr(owner, name))))
        yield
