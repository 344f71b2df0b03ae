"""Does the course work on other versions than those it was made with? Makes the environments, tests them, keeps a table.

    python tests/environments.py              all of them; about 12 GB of disk and an hour
    python tests/environments.py colab        one
    python tests/environments.py --table      only write docs/COMPATIBILITY.md from the results that are there

    colab    Colab's versions: each notebook alone in an empty folder, its set-up cell installs the course from an archive
    lowest   the lowest versions that pyproject.toml allows: unit tests
    newest   the newest versions that install today, nothing pinned: unit tests

Needs uv (pip install uv) and, for Colab's, Python 3.13. Environments lie in build/env and are made anew each time. Results
go to docs/compatibility.json, the table to docs/COMPATIBILITY.md.
"""

import argparse
import functools
import http.server
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = ROOT / "build" / "env"
RESULTS = ROOT / "docs" / "compatibility.json"
PAGE = ROOT / "docs" / "COMPATIBILITY.md"
SHOWN = ("torch", "transformers", "numpy", "matplotlib", "pillow", "ipywidgets", "ipython", "ipykernel")
PYTHON = {"colab": ("3.13",), "lowest": ("3.11",), "newest": ("3.14", "3.13", "3.12", "3.11")}
TITLES = {"colab": "Colab's versions", "lowest": "lowest allowed", "newest": "newest"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*PYTHON, []], help="which; default all")
    parser.add_argument("--table", action="store_true", help="only write the table")
    parser.add_argument("--keep", action="store_true", help="use an environment that is there")
    options = parser.parse_args()
    failed = 0
    for name in [] if options.table else options.names or PYTHON:
        row = measured(name, options.keep)
        failed += row["failed"]
        results = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
        RESULTS.write_text(json.dumps(results | {name: row}, indent=1, sort_keys=True) + "\n", "utf-8")
    PAGE.write_text(page(json.loads(RESULTS.read_text("utf-8"))), "utf-8")
    return min(failed, 1)


def measured(name: str, keep: bool = False) -> dict:
    """Makes the environment, tests it and returns the table's row."""
    place = ENVIRONMENTS / name
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (keep and python.is_file()):
        make(name, place, python)
    before = packages(python)
    begin = time.time()
    said, changed = colab(python) if name == "colab" else (unit_tests(python), [])
    counts = {word: sum(map(int, re.findall(rf"(\d+) {word}", said))) for word in ("passed", "failed", "error", "skipped")}  # fmt: skip
    counts["failed"] += counts.pop("error") + len(changed) + ("passed" not in said)
    print(f"{name}: {counts}, {time.time() - begin:.0f} s", *changed, sep="\n   ")
    return counts | {
        "python": run(python, "-c", "import platform; print(platform.python_version())").strip(),
        "packages": {key: before[key] for key in SHOWN}, "date": date.today().isoformat(),
        "seconds": round(time.time() - begin), "system": f"{platform.system()}, {platform.machine()}",
        "changed": changed,
    }  # fmt: skip


def make(name: str, place: Path, python: Path) -> None:
    """A fresh environment with the versions that the name stands for, and the course (not on Colab)."""
    shutil.rmtree(place, ignore_errors=True)
    base = next((found for version in PYTHON[name] if (found := interpreter(version))), None)
    if base is None:
        sys.exit(f"{name} needs Python {' or '.join(PYTHON[name])}, which is not here")
    run("uv", "venv", "--quiet", "--seed", "--no-python-downloads", "--python", base, place)
    install = ["uv", "pip", "install", "--quiet", "--python", python]
    if name == "colab":
        run(*install, "-r", ROOT / "tests" / "colab_pins.txt", "nbval>=0.11", "psutil", "safetensors")
        return
    lowest = ["--resolution", "lowest-direct"] if name == "lowest" else []
    run(*install, *lowest, "-e", f"{ROOT}[lab,test,published]")


def interpreter(version: str) -> str | None:
    """A Python of that version: on the path, or one of pyenv's."""
    folders = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin"))
    for found in (shutil.which(f"python{version}", path=str(folder)) for folder in [*folders, *os.get_exec_path()]):  # fmt: skip
        if found and subprocess.run([found, "-c", "pass"], capture_output=True).returncode == 0:
            return found
    return None


def unit_tests(python: Path) -> str:
    """Pytest's closing line over tests/, without the notebooks."""
    return closing_line(python, ["-m", "pytest", "-q", "-x" if os.environ.get("CI") else "-q", "tests"], ROOT)


def colab(python: Path) -> tuple[str, list[str]]:
    """(pytest's closing lines, packages that the set-up changed) of all notebooks, run as on Colab.

    An archive of the last commit is served here in GitHub's place. Every notebook runs in an empty folder, so that its
    set-up cell finds no clone; the course is taken away again after each.
    """
    lines, changed = [], set()
    with tempfile.TemporaryDirectory() as folder:
        archives = Path(folder) / "served" / "me" / "course" / "archive"
        archives.mkdir(parents=True)
        run(
            "git",
            "archive",
            "--format=zip",
            "--prefix=course-main/",
            "-o",
            archives / "main.zip",
            "HEAD",
            cwd=ROOT,
        )
        with served(Path(folder) / "served") as address:
            before = packages(python)
            for page in sorted(ROOT.glob("notebooks/*.ipynb")):
                content = Path(folder) / page.stem
                content.mkdir()
                text = page.read_text("utf-8").replace(
                    "https://github.com/{REPOSITORY}", f"{address}/{{REPOSITORY}}"
                )
                text = text.replace(
                    r"REPOSITORY, TAG = \"\", \"\"", r"REPOSITORY, TAG = \"me/course\", \"main\""
                )
                assert text.count("me/course") == 1 and address in text, (
                    "the set-up cell is not the one known here"
                )
                (content / page.name).write_text(text, "utf-8")
                shutil.copy(ROOT / "notebooks" / "conftest.py", content)
                options = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout", "600"]
                lines.append(closing_line(python, ["-m", "pytest", "-q", *options, page.name], content))
                print(f"   {page.stem}: {lines[-1]}", flush=True)
                after = packages(python)
                if "cotlib" not in after:
                    changed.add(f"{page.stem}: the set-up cell did not install the course")
                after.pop("cotlib", None)
                changed |= {
                    f"{page.stem}: {key}"
                    for key in before.keys() | after
                    if before.get(key) != after.get(key)
                }
                run(python, "-m", "pip", "uninstall", "-q", "-y", "cotlib")
    return "\n".join(lines), sorted(changed)


class served:
    """A folder at a local web address, for as long as the `with` lasts."""

    def __init__(self, folder: Path):
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
        handler.func.log_message = lambda *_: None
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self) -> str:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def __exit__(self, *_):
        self.server.shutdown()


def packages(python: Path) -> dict[str, str]:
    """{name: version} of what an environment holds."""
    listed = json.loads(run(python, "-m", "pip", "list", "--format=json", "--disable-pip-version-check"))
    return {entry["name"].lower(): entry["version"] for entry in listed}


def closing_line(python: Path, arguments: list, folder: Path) -> str:
    """Pytest's last line; its whole output goes to build/env/<environment>.log."""
    environ = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")}
    environ["PATH"] = f"{python.parent}{os.pathsep}{environ.get('PATH', '')}"
    done = subprocess.run([str(python), *arguments], cwd=folder, env=environ, capture_output=True, text=True)
    with (ENVIRONMENTS / f"{python.parents[1].name}.log").open("a", encoding="utf-8") as log:
        log.write(done.stdout + done.stderr)
    return (done.stdout.strip().splitlines() or ["nothing was printed"])[-1]


def run(*command, cwd: Path | None = None) -> str:
    """What a command prints; ends this script with its words when it fails."""
    environ = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")}
    try:
        done = subprocess.run(
            [str(part) for part in command], cwd=cwd, env=environ, capture_output=True, text=True
        )
    except FileNotFoundError:
        sys.exit(f"{command[0]} is not here: pip install {command[0]}")
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr.strip()[-2000:]}")
    return done.stdout


def page(results: dict) -> str:
    """docs/COMPATIBILITY.md."""
    names = [name for name in PYTHON if name in results]
    head = "| | " + " | ".join(TITLES[name] for name in names) + " |\n|---|" + "---|" * len(names)
    rows = ["| Python | " + " | ".join(results[name]["python"] for name in names) + " |"]
    rows += [f"| {key} | " + " | ".join(results[n]["packages"][key] for n in names) + " |" for key in SHOWN]
    what = {"colab": "cells of all notebooks", "lowest": "unit tests", "newest": "unit tests"}
    verdicts = []
    for name in names:
        row = results[name]
        failed = f"**{row['failed']} failed**, " if row["failed"] else ""
        skipped = f", {row['skipped']} skipped" if row["skipped"] else ""
        verdicts.append(f"{failed}{row['passed']:,} {what[name]} passed{skipped}")
    rows += ["| result | " + " | ".join(verdicts) + " |"]
    rows += [
        "| tested | " + " | ".join(f"{results[n]['date']}, {results[n]['system']}" for n in names) + " |"
    ]
    table = "\n".join([head, *rows])
    return f"""# Versions the course was tested with

Written by `python tests/environments.py`. Every change is tested with the versions of [constraints.txt](../constraints.txt), unit tests and
notebooks; this table shows what else was tried, and when.

{table}

Colab's versions: every notebook runs alone in an empty folder, its set-up cell fetches an archive of the course and installs it without
dependencies; a package that changes by it counts as a failure. Lowest: pyproject.toml's lower bounds (uv's `lowest-direct`). Newest: nothing
pinned.
"""


if __name__ == "__main__":
    sys.exit(main())
