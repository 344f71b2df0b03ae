"""Run one notebook from top to bottom in a fresh kernel and measure it: seconds, peak memory, what went wrong.

Used by the build; the headless run of the whole course is `cotlib.lab.run`. The learner's progress file is never touched:
the kernel gets an empty one of its own.
"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cotlib.lab.run import MemoryMeter


@dataclass(frozen=True)
class Run:
    """What one notebook took.

    seconds: wall time of the cells; on a machine busy with other work, where that is longer than the kernel's own
    processor time, the processor time.  peak_gb: memory of the kernel with its children, 10^9 bytes.
    error: "" or one line.
    """

    seconds: float = 0.0
    peak_gb: float = 0.0
    error: str = ""


def run_notebook(nb, folder: Path, timeout: int = 600) -> Run:
    """Execute `nb` (changed in place: outputs and execution counts) with `folder` as working directory.

    timeout: seconds for one cell. A failing cell or a dead kernel ends the run; the error names the cell.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    client = NotebookClient(
        nb, timeout=timeout, kernel_name="python3", resources={"metadata": {"path": str(folder)}},
        store_widget_state=False, record_timing=False, coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],  # recent kernels warn at each start about local TCP
    )  # fmt: skip
    position = {"cell": 0}
    client.on_cell_start = lambda cell, cell_index: position.update(cell=cell_index)
    error, seconds = "", 0.0
    with _quiet_environment(), client.setup_kernel():
        memory = MemoryMeter(client.km.provisioner.pid)
        memory.start()
        start, start_cpu = time.perf_counter(), _cpu_seconds(memory.process)
        try:
            for index, cell in enumerate(nb.cells):
                client.execute_cell(cell, index)
        except CellExecutionError as problem:
            error = f"cell {position['cell'] + 1}: {problem.ename}: {problem.evalue}"
        except CellTimeoutError:
            error = f"cell {position['cell'] + 1} took longer than {timeout} s"
        except DeadKernelError:
            error = f"cell {position['cell'] + 1}: the kernel died, perhaps for lack of memory"
        seconds = min(time.perf_counter() - start, _cpu_seconds(memory.process) - start_cpu)
        memory.done.set()
        memory.join()
    return Run(round(seconds, 1), round(memory.peak / 1e9, 2), error)


@contextmanager
def _quiet_environment():
    """Variables the kernel inherits: nobody is watching, and progress goes to a throw-away file."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = {"COTLIB_HEADLESS": "1", "COTLIB_PROGRESS": str(Path(folder) / "progress.json")}
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name)
                else:
                    os.environ[name] = value


def _cpu_seconds(process) -> float:
    """Processor time of a psutil process and its children so far; infinite when it is gone."""
    import psutil  # comes with ipykernel

    try:
        times = [member.cpu_times() for member in (process, *process.children(recursive=True))]
    except psutil.Error:
        return float("inf")
    return sum(t.user + t.system for t in times)
