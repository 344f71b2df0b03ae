"""Which device, which number format, and how to keep all cores busy."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from cotlib.errors import UserError


def pick_device(name: str = "auto") -> torch.device:
    """ "auto" is CUDA when torch sees a GPU, else the CPU. Of several processes (`cotlib.several`) each gets a GPU of its own.

    UserError for a device this machine does not have.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f'there is no device "{name}"; expected auto, cpu or cuda') from error
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise UserError("torch sees no GPU here; use --device cpu, or install a CUDA build of torch")
    if device.index is None and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    return device


def pick_dtype(device: torch.device, capability: tuple[int, int] | None = None) -> torch.dtype:
    """float32 on a CPU; on a GPU bfloat16 from compute capability 8.0 on, float16 below (a T4 has 7.5).

    Not torch's `is_bf16_supported`: it says yes on a T4, where bfloat16 is emulated and slow.
    """
    if device.type != "cuda":
        return torch.float32
    capability = capability or torch.cuda.get_device_capability(device)
    return torch.bfloat16 if capability >= (8, 0) else torch.float16


@contextmanager
def enough_memory(what: Callable[[], str], instead: str) -> Iterator[None]:
    """Says in one sentence that `what()` did not fit into the device's memory, and what to do `instead`: a UserError."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        size = f" of {torch.cuda.mem_get_info()[1] / 2**30:.1f} GiB" if torch.cuda.is_available() else ""
        raise UserError(f"{what()} does not fit into the device's memory{size}; {instead}") from error


def on_all_cores(work: Callable, items: Iterable, threads: int | None = None) -> Iterator:
    """`work(item)` for every item, in order, by `threads` threads with one core each (default: one per core).

    For small models this is faster than all cores on one item, whose layers are too small to share.
    """
    threads = threads or os.cpu_count() or 1
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // threads))
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(work, items)
    finally:
        torch.set_num_threads(before)
