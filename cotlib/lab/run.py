"""Execute the notebooks headless, hold them to their budgets, write build/run.json and build/report.html.

    python -m cotlib.lab.run             all of them        (python course.py run does this)
    python -m cotlib.lab.run 00 02       those whose name starts so

Exit code 1 when a notebook raises, claims something that no longer holds, or needs more time or memory than it may.
The notebooks themselves are never written: a copy runs in memory, with a throw-away progress file, so a run neither
changes the repository nor a learner's answers. Peak memory is that of the kernel with all its children, sampled ten times a
second and after every code cell, or the system's own record of the kernel's peak (Linux, Windows) where that is higher.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from tqdm import tqdm

from cotlib.errors import UserError
from cotlib.lab.claim_table import claims_in
from cotlib.lab.report import report_html

ROOT = Path(__file__).resolve().parents[2]
LONGEST_CELL = 300  # seconds; beyond that a cell hangs, and is stopped


@dataclass(frozen=True)
class Budget:
    """What the course may cost on two CPU cores: seconds and bytes (given in GB) per notebook, seconds in all."""

    seconds: float = 90.0
    memory_gb: float = 2.0
    total_seconds: float = 720.0


@dataclass
class Result:
    """One notebook's run. seconds: wall time with the kernel's start; peak_gb: 10^9 bytes; error: "" or what was
    raised, with the cell's number; claims: as in cotlib.lab.claim_table; problems: why it does not pass."""

    name: str
    title: str
    seconds: float = 0.0
    peak_gb: float = 0.0
    error: str = ""
    claims: list[dict] = field(default_factory=list)
    claims_text: str = ""
    figures: list[dict] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems


class MemoryMeter(threading.Thread):
    """Peak resident memory of a process and its children, in bytes; use as a context manager."""

    def __init__(self, pid: int, interval: float = 0.1):
        super().__init__(daemon=True)
        self.process, self.interval, self.peak = psutil.Process(pid), interval, 0
        self.done = threading.Event()

    def run(self):
        while not self.done.wait(self.interval):
            self.look()

    def look(self) -> None:
        """One reading; for moments when something may be over before the next regular one."""
        self.peak = max(self.peak, self.now(), self.recorded_peak())

    def now(self) -> int:
        try:
            family = [self.process, *self.process.children(recursive=True)]
            return sum(member.memory_info().rss for member in family)
        except psutil.Error:
            return 0

    def recorded_peak(self) -> int:
        """The system's record for the process itself; 0 where the system keeps none."""
        try:
            if sys.platform == "linux":
                status = Path(f"/proc/{self.process.pid}/status").read_text()
                return 1024 * int(re.search(r"VmHWM:\s*(\d+)", status).group(1))
            return getattr(self.process.memory_info(), "peak_wset", 0)
        except (OSError, AttributeError, psutil.Error):
            return 0


def execute(path: Path, budget: Budget, after_cell=lambda: None) -> Result:
    """Run one notebook in its own folder, as Jupyter would; after_cell() is called when a code cell is through."""
    notebook = nbformat.read(path, as_version=4)
    result = Result(path.stem, title_of(notebook) or path.stem)
    meters = []

    def begin(**_):
        meters.append(MemoryMeter(client.km.provisioner.pid))
        meters[0].start()

    def through(cell, **_):
        if cell.cell_type == "code":
            meters[0].look()
            after_cell()

    client = NotebookClient(
        notebook,
        timeout=LONGEST_CELL,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        store_widget_state=False,
        extra_arguments=[
            "--log-level=ERROR"
        ],  # new kernels warn at every start that their local port is open
        on_notebook_start=begin,
        on_cell_executed=through,
    )
    start = time.perf_counter()
    try:
        client.execute()
    except CellExecutionError as error:
        place = next((i for i, cell in enumerate(notebook.cells, 1) if raised(cell)), 0)
        result.error = f"cell {place}: {error.ename}: {error.evalue}\n\n{plain(error.traceback)}"
    except CellTimeoutError:
        result.error = f"a cell ran for more than {LONGEST_CELL} s and was stopped"
    except DeadKernelError:
        result.error = "the kernel died, which mostly means that memory ran out"
    result.seconds = time.perf_counter() - start
    for meter in meters:
        meter.done.set()
        meter.join()
        result.peak_gb = meter.peak / 1e9
    result.claims = claims_in(notebook)
    result.claims_text = "" if result.claims else marked_text(notebook)
    result.figures = figures_in(notebook)
    result.problems = problems_of(result, budget)
    return result


def problems_of(result: Result, budget: Budget) -> list[str]:
    """Everything that keeps a notebook from passing, one sentence each."""
    problems = [result.error.splitlines()[0]] if result.error else []
    if result.seconds > budget.seconds:
        problems.append(f"took {result.seconds:.1f} s; its budget is {budget.seconds:g} s")
    if result.peak_gb > budget.memory_gb:
        problems.append(f"needed {result.peak_gb:.2f} GB; its budget is {budget.memory_gb:g} GB")
    return problems + [f"no longer true: {row['claim']}" for row in result.claims if not row["ok"]]


def title_of(notebook) -> str:
    """The first heading of the first Markdown cells."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    match = re.search(r"^#\s+(.+)$", text, re.MULTILINE)
    return match.group(1).strip() if match else ""


def raised(cell) -> bool:
    return any(output.output_type == "error" for output in cell.get("outputs", []))


def plain(text: str) -> str:
    """Without the terminal's colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text or "")


def marked_text(notebook) -> str:
    """The plain text below the last cell marked NBVAL_CHECK_OUTPUT: the claims of a notebook without JSON ones."""
    for cell in reversed(notebook.cells):
        if cell.cell_type == "code" and "NBVAL_CHECK_OUTPUT" in cell.source:
            pieces = [out.get("text") or out.get("data", {}).get("text/plain", "") for out in cell.outputs]
            return plain("".join(pieces)).strip()
    return ""


def figures_in(notebook) -> list[dict]:
    """Every picture shown: {"png": base64 text, "alt", "width" in pixels or None}."""
    found = []
    for output in (out for cell in notebook.cells for out in cell.get("outputs", [])):
        if png := output.get("data", {}).get("image/png"):
            about = output.get("metadata", {}).get("image/png", {})
            found.append(
                {"png": png.replace("\n", ""), "alt": about.get("alt", ""), "width": about.get("width")}
            )
    return found


def machine() -> dict:
    """What the times were measured on."""
    from importlib.metadata import version

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "python": platform.python_version(),
        "torch": version("torch"),
    }


def code_cells(path: Path) -> int:
    cells = nbformat.read(path, as_version=4).cells
    return sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in cells)


def run_all(paths: list[Path], budget: Budget) -> dict:
    """Execute the notebooks one after the other with a progress bar; the record that run.json and the report show."""
    cells = [code_cells(path) for path in paths]
    started, begin, results = time.strftime("%Y-%m-%d %H:%M"), time.perf_counter(), []
    with tqdm(total=sum(cells), unit=" cells", ncols=88, file=sys.stdout, disable=None) as bar:
        for index, path in enumerate(paths):
            bar.set_description(path.stem)
            results.append(execute(path, budget, bar.update))
            bar.update(sum(cells[: index + 1]) - bar.n)  # what an error left out
            verdict = "ok" if results[-1].ok else "FAILED: " + "; ".join(results[-1].problems)
            bar.write(
                f"{path.stem:<24} {results[-1].seconds:6.1f} s  {results[-1].peak_gb:5.2f} GB  {verdict}"
            )
    seconds = time.perf_counter() - begin
    late = seconds > budget.total_seconds
    return {
        "started": started,
        "seconds": round(seconds, 1),
        "ok": all(result.ok for result in results) and not late,
        "problems": [f"all together took {seconds:.0f} s of {budget.total_seconds:g} s"] if late else [],
        "budget": asdict(budget),
        "machine": machine(),
        "notebooks": [asdict(result) | {"ok": result.ok} for result in results],
    }


def without_pictures(record: dict) -> dict:
    """The record for run.json: figures counted, numbers rounded."""
    rows = [
        row
        | {
            "figures": len(row["figures"]),
            "seconds": round(row["seconds"], 1),
            "peak_gb": round(row["peak_gb"], 2),
        }
        for row in record["notebooks"]
    ]
    return record | {"notebooks": rows}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("course.py run", description="Execute the notebooks and write a report.")
    parser.add_argument("names", nargs="*", help="beginnings of notebook names, e.g. 00 02; default: all")
    parser.add_argument("--notebooks", type=Path, default=ROOT / "notebooks", help="folder of the notebooks")
    parser.add_argument("--out", type=Path, default=ROOT / "build", help="folder of report.html and run.json")
    parser.add_argument("--seconds", type=float, default=Budget.seconds, help="budget of each notebook")
    parser.add_argument(
        "--memory", type=float, default=Budget.memory_gb, help="budget of each notebook in GB"
    )
    parser.add_argument(
        "--total", type=float, default=Budget.total_seconds, help="budget of all together in seconds"
    )
    options = parser.parse_args(argv)
    try:
        paths = choose(options.notebooks, options.names)
    except UserError as error:
        print(f"course.py run: {error}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(COTLIB_HEADLESS="1", COTLIB_PROGRESS=str(Path(folder) / "progress.json"))
        record = run_all(paths, Budget(options.seconds, options.memory, options.total))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "run.json").write_text(
        json.dumps(without_pictures(record), indent=1) + "\n", encoding="utf-8"
    )
    (options.out / "report.html").write_text(report_html(record), encoding="utf-8")
    for problem in record["problems"]:
        print(problem)
    verdict = "all passed" if record["ok"] else "NOT all passed"
    print(
        f"{len(paths)} notebooks in {record['seconds']:.0f} s, {verdict}; report: {options.out / 'report.html'}"
    )
    return 0 if record["ok"] else 1


def choose(folder: Path, names: list[str]) -> list[Path]:
    """The notebooks whose name starts with one of `names` (all without names); UserError when there is none."""
    known = sorted(folder.glob("*.ipynb"))
    for name in names:
        if not any(path.name.startswith(name) for path in known):
            have = ", ".join(path.stem for path in known) or "none"
            raise UserError(f"no notebook starts with {name!r}; {folder} has: {have}")
    if not known:
        raise UserError(
            f"no notebook in {folder}; expected *.ipynb; build them with python -m cotlib.lab.build"
        )
    return [path for path in known if not names or any(path.name.startswith(name) for name in names)]


if __name__ == "__main__":
    sys.exit(main())
