"""What the kernels' benchmarks share: ceilings of this device, times, and the rows of bench/results/kernels.csv.

A ceiling is measured, not read from a data sheet: bytes a second of a large copy, FLOP a second of a large matrix
product. From them and a kernel's own count (`cost()`) follows the least time; a row says how much of it a form reaches.
"""

import argparse
import csv
import importlib.util
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path

import torch

from cotlib.devices import pick_device, pick_dtype
from cotlib.errors import UserError
from cotlib.kernels.cost import Cost
from cotlib.kernels.launch import triton

RESULTS = Path(__file__).parent / "results"
MODES = {"torch.compile": None, "torch.compile, reduce-overhead": "reduce-overhead"}


class Bench:
    """The ceilings, printed first, and one row for each form that is measured.

    On a CPU only plain torch is measured; on a GPU also `torch.compile` and the kernel. dtype: what the models use here.
    """

    def __init__(self, kernel: str, about: str):
        parser = argparse.ArgumentParser(description=about)
        parser.add_argument("--seconds", type=float, default=1.0, help="time for each row")
        parser.add_argument("--csv", type=Path, default=RESULTS / "kernels.csv", help="file the rows go to")
        options = parser.parse_args()
        self.kernel, self.seconds, self.csv = kernel, options.seconds, options.csv
        self.device = pick_device()
        self.dtype, self.gpu = pick_dtype(self.device), self.device.type == "cuda"
        self.copy, self.peak = self._ceilings()
        self.facts = facts(self.device)
        print(f"{kernel} on {self.facts['device']}: copy {self.copy / 1e9:,.0f} GB/s, matrix product {self.peak / 1e12:,.2f} TFLOP/s "
              f"({self._dtype()})")  # fmt: skip

    def compare(
        self, case: str, cost: Cost, plain: dict[str, Callable], gpu: dict[str, Callable], arguments: tuple,
        around: Callable = lambda form: form,
    ) -> None:  # fmt: skip
        """Times `around(form)(*arguments)` of every form and appends the rows.

        plain: plain torch, "reference" among them, which is compiled too on a GPU; gpu: what only a GPU runs.
        """
        forms = dict(plain)
        if self.gpu:
            forms |= {
                name: torch.compile(plain["reference"], dynamic=False, mode=mode)
                for name, mode in MODES.items()
            }
            forms |= gpu
        floor, rows = 1000 * cost.floor(self.copy, self.peak), []
        for name, form in forms.items():
            try:
                low, middle, high, memory = self._time(partial(around(form), *arguments))
            except (
                RuntimeError,
                ImportError,
                UserError,
            ) as error:  # no compiler, no Triton, a card too small
                print(f"   not measured: {name}: {str(error).splitlines()[0][:120]}")
                continue
            share = 100 * floor / middle
            rows.append({"kernel": self.kernel, "case": case, "form": name, "ms": f"{middle:.4g}", "ms_20": f"{low:.4g}",
                         "ms_80": f"{high:.4g}", "floor_ms": f"{floor:.3g}", "percent_of_floor": f"{share:.3g}",
                         "peak_mb": memory, "copy_gb_s": f"{self.copy / 1e9:.0f}",
                         "product_tflop_s": f"{self.peak / 1e12:.3g}", "dtype": self._dtype()})  # fmt: skip
            print(
                f"   {middle:9.4f} ms ({low:.4f} .. {high:.4f}) {share:6.3g} % of the floor  {memory:>7}  {case}: {name}"
            )
        self.append(self.csv, rows)

    def append(self, file: Path, rows: list[dict]) -> None:
        """Adds rows to a CSV file, with device, versions and date."""
        append(file, rows, self.facts)

    def _dtype(self) -> str:
        return format_name(self.dtype)

    def _time(self, work: Callable) -> tuple[float, float, float, str]:
        """(20 %, median, 80 % of the milliseconds of a call, peak memory in MB on a GPU)."""
        for _ in range(3):
            work()
        memory = self._peak_memory(work) if self.gpu else ""
        times, begin = [], time.perf_counter()
        while time.perf_counter() - begin < self.seconds or len(times) < 5:
            times.append(self._ms(work))
        fifths = statistics.quantiles(times, n=5)
        return fifths[0], statistics.median(times), fifths[3], memory

    def _ms(self, work: Callable) -> float:
        """Milliseconds of one call whose data are not in the cache: something larger was written in between."""
        self.flush.zero_()
        if not self.gpu:
            begin = time.perf_counter()
            work()
            return 1000 * (time.perf_counter() - begin)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)

    def _peak_memory(self, work: Callable) -> str:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return f"{(torch.cuda.max_memory_allocated() - before) / 1e6:.1f}"

    def _ceilings(self) -> tuple[float, float]:
        """(bytes a second of a large copy, FLOP a second of a large matrix product); the best of ten."""
        n = 8192 if self.gpu else 1536
        self.flush = torch.empty(2**28 if self.gpu else 2**26, dtype=torch.uint8, device=self.device)
        source = torch.rand(2**28 if self.gpu else 2**25, device=self.device)  # 1 GiB, 128 MiB
        target = torch.empty_like(source)
        a, b = (torch.randn(n, n, device=self.device, dtype=self.dtype) for _ in range(2))
        copy = min(self._ms(partial(target.copy_, source)) for _ in range(10))
        product = min(self._ms(partial(torch.mm, a, b)) for _ in range(10))
        return 2 * source.nbytes / copy * 1000, 2 * n**3 / product * 1000


def facts(device: torch.device) -> dict:
    """What a row says of where and when it was measured: device, versions, date."""
    gpu = device.type == "cuda"
    name = torch.cuda.get_device_name() if gpu else f"{os.cpu_count()} CPU cores, {platform.machine()}"
    return {"device": name, "torch": torch.__version__, "triton": triton.__version__ if triton and gpu else "",
            "date": date.today().isoformat()}  # fmt: skip


def append(file: Path, rows: list[dict], told: dict) -> None:
    """Adds rows to a CSV file, each with what is `told` of all. UserError for a file with other columns."""
    file.parent.mkdir(exist_ok=True)
    columns, found = [*rows[0], *told], None
    if file.is_file():
        with file.open(encoding="utf-8", newline="") as stream:
            found = next(csv.reader(stream), None)
    if found and found != columns:
        raise UserError(
            f"{file} has the columns {', '.join(found)}; expected {', '.join(columns)}; move it away"
        )
    with file.open("a", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        if not found:
            writer.writeheader()
        writer.writerows(row | told for row in rows)


def format_name(dtype: torch.dtype) -> str:
    """A number format's name: float32, bfloat16."""
    return str(dtype).removeprefix("torch.")


def installed(name: str) -> bool:
    """Whether a library that is only compared with can be imported."""
    return importlib.util.find_spec(name) is not None
