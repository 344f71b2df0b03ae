"""One JupyterLab over a copy of the course in a temporary folder, with settings of its own and a secret token."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[2]
START = 60  # seconds


@dataclass(frozen=True)
class Server:
    """A running JupyterLab: address without trailing slash, token, the folder with the copy, the server's log."""

    address: str
    token: str
    folder: Path
    log: Path

    def page(self, notebook: str) -> str:
        """Address of a notebook of the copy; in a workspace of its own, so that no other tab is opened again."""
        return f"{self.address}/doc/workspaces/{notebook}/tree/notebooks/{notebook}.ipynb?token={self.token}"

    def tracebacks(self) -> list[str]:
        """Exceptions that the server or a kernel wrote to the log, the last line of each."""
        found, inside = [], False
        for line in self.log.read_text("utf-8", errors="replace").splitlines():
            if line.strip().startswith("Traceback (most recent call last)"):
                inside = True
            elif inside and line and not line.startswith(" "):
                found.append(line)
                inside = False
        return found


@contextmanager
def jupyterlab(
    notebooks: Sequence[Path], theme: str = "light", threads: int | None = None
) -> Iterator[Server]:
    """Serve copies of `notebooks`, without outputs, beside copies of cotlib, data and bench/results.

    threads: cores that a kernel may use; None for all.
    """
    with tempfile.TemporaryDirectory(prefix="cotlib-browser-", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        copy_course(notebooks, folder / "course")
        environ = os.environ | own_places(folder)
        if threads:
            environ |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        for name in ("COTLIB_HEADLESS", "MPLBACKEND"):  # here somebody presses buttons
            environ.pop(name, None)
        token, log = secrets.token_hex(16), folder / "server.log"
        environ["JUPYTER_TOKEN"] = token
        with open(log, "wb") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", *options(folder / "course")],
                cwd=folder / "course", env=environ, stdout=sink, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            yield Server(wait_for(process, folder / "runtime", token, log), token, folder / "course", log)
        finally:
            stop(process)


def copy_course(notebooks: Sequence[Path], folder: Path) -> None:
    """What a clone holds and a notebook needs. Outputs are left out: whatever is there later, the run has made."""
    for name in ("cotlib", "data", "bench/results"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "notebooks").mkdir(parents=True)
    for path in notebooks:
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, folder / "notebooks" / path.name)


def own_places(folder: Path) -> dict[str, str]:
    """Environment variables that keep the user's Jupyter settings out, and write ours."""
    settings = {
        "docmanager-extension/plugin": {"autosave": False},
        # all cells are in the page, so that widgets can be found and pages be photographed
        "notebook-extension/tracker": {"windowingMode": "none"},
    }
    for name, values in settings.items():
        path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), "utf-8")
    names = {
        "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython",
    }  # fmt: skip
    for name in names.values():
        (folder / name).mkdir(exist_ok=True)
    return {variable: str(folder / name) for variable, name in names.items()} | {
        "COTLIB_PROGRESS": str(folder / "progress.json"),
        "JUPYTER_CONFIG_PATH": str(ROOT / "cotlib" / "lab" / "jupyter"),  # as python course.py lab
    }


def options(folder: Path) -> list[str]:
    is_root = getattr(os, "geteuid", lambda: 1)() == 0  # as in containers, where Jupyter refuses to start
    return [
        f"--ServerApp.root_dir={folder}",
        "--no-browser",
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port=8900",
        "--ServerApp.port_retries=200",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.extension_manager=readonly",
        *(["--allow-root"] if is_root else []),
    ]


def wait_for(process: subprocess.Popen, runtime: Path, token: str, log: Path) -> str:
    """The server's address, once it answers. RuntimeError with the log's end when it does not."""
    until = time.monotonic() + START
    while time.monotonic() < until and process.poll() is None:
        for file in runtime.glob("jpserver-*.json"):
            try:
                address = json.loads(file.read_text("utf-8"))["url"].rstrip("/")
                with urllib.request.urlopen(f"{address}/api/status?token={token}", timeout=5):
                    return address
            except (OSError, ValueError, KeyError, urllib.error.URLError):
                pass  # not yet
        time.sleep(0.1)
    end = log.read_text("utf-8", errors="replace")[-1500:]
    raise RuntimeError(f"JupyterLab did not start within {START} s; the end of its log:\n{end}")


def stop(process: subprocess.Popen) -> None:
    """End the server, which ends its kernels."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
