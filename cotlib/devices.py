"""Which device, which number format, and how to keep all cores busy."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from cotlib.errors import UserError


def pick_device(name: str = "auto") -> torch.device:
    """ "auto" is CUDA when torch sees a GPU, else the CPU. UserError for a device this machine does not have."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f'there is no device "{name}"; expected auto, cpu or cuda') from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("torch sees no GPU here; use --device cpu, or install a CUDA build of torch")
    return device


def pick_dtype(device: torch.device, capability: tuple[int, int] | None = None) -> torch.dtype:
    """float32 on a CPU; on a GPU bfloat16 from compute capability 8.0 on, float16 below (a T4 has 7.5).

    Not torch's `is_bf16_supported`: it says yes on a T4, where bfloat16 is emulated and slow.
    """
    if device.type != "cuda":
        return torch.float32
    capability = capability or torch.cuda.get_device_capability(device)
    return torch.bfloat16 if capability >= (8, 0) else torch.float16


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
