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


def device_gb(device: torch.device | str) -> float | None:
    """A GPU's memory in 10^9 bytes; None for a CPU."""
    if torch.device(device).type != "cuda":
        return None
    return torch.cuda.get_device_properties(device).total_memory / 1e9


@contextmanager
def enough_memory(what: Callable[[], str], instead: str) -> Iterator[None]:
    """Says in one sentence that `what()` did not fit into the device's memory, and what to do `instead`: a UserError."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        size = f" of {torch.cuda.mem_get_info()[1] / 2**30:.1f} GiB" if torch.cuda.is_available() else ""
        raise UserError(f"{what()} does not fit into the device's memory{size}; {instead}") from error


def cores() -> int:
    """How many cores the system lets this process use; a large machine may have many more.

    On Linux that is the process's affinity, elsewhere all cores. From Python 3.13 on, PYTHON_CPU_COUNT overrules both.
    """
    if hasattr(os, "process_cpu_count"):
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _most_threads() -> int:
    """`cores()`, or OMP_NUM_THREADS where it is less; of a list ("4,2") the first counts, as for OpenMP."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return min(cores(), int(asked)) if asked.isdecimal() and int(asked) else cores()


def on_all_cores(work: Callable, items: Iterable, threads: int | None = None) -> Iterator:
    """`work(item)` for every item, in order, by `threads` threads with one core each.

    Default: one for each core that this process may use (`cores`), and no more than OMP_NUM_THREADS: every thread needs memory of
    its own. For small models this is faster than all cores on one item, whose layers are too small to share.
    """
    threads = threads or _most_threads()
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // threads))
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(work, items)
    finally:
        torch.set_num_threads(before)
