"""Does the course work with other versions than those it was made with? Makes the environments, tests them, keeps a table.

    python tests/environments.py              all of them; 17 GB of disk, 35 minutes on one core
    python tests/environments.py colab        one
    python tests/environments.py --table      only write docs/COMPATIBILITY.md from the results that are there

    newest   the newest versions that install today, nothing pinned: unit tests
    lowest   the lowest versions that pyproject.toml allows: unit tests
    colab    Colab's versions: each notebook alone in an empty folder, its set-up cell installs the course from an archive

Needs uv (pip install uv) and, for Colab's, Python 3.13. Environments lie in build/env and are made anew each time, what pytest
says in build/env/<name>.log. Results go to docs/compatibility.json, the table to docs/COMPATIBILITY.md.
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
from collections import Counter
from datetime import date
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = ROOT / "build" / "env"
RESULTS = ROOT / "docs" / "compatibility.json"
PAGE = ROOT / "docs" / "COMPATIBILITY.md"
PINS = ROOT / "tests" / "colab_pins.txt"
SHOWN = (
    "torch",
    "transformers",
    "numpy",
    "matplotlib",
    "pillow",
    "ipywidgets",
    "ipython",
    "ipykernel",
    "pytest",
)
PYTHON = {"newest": ("3.14", "3.13", "3.12", "3.11"), "lowest": ("3.11",), "colab": ("3.13",)}
TITLES = {"newest": "newest", "lowest": "lowest allowed", "colab": "Colab's"}
WHAT = {"newest": "unit tests", "lowest": "unit tests", "colab": "cells"}
EXTRAS = "lab,test,gpu,published,site"
ADDRESS = re.compile(r'^REPOSITORY, TAG = "[^"]*", "[^"]*"', re.MULTILINE)
GITHUB = "https://github.com/{REPOSITORY}"
CARD = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU')"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"which of {', '.join(PYTHON)}; default: all")
    parser.add_argument("--table", action="store_true", help="only write the table")
    parser.add_argument("--keep", action="store_true", help="use an environment that is there")
    options = parser.parse_args()
    if unknown := set(options.names) - set(PYTHON):
        parser.error(f"no environment {', '.join(sorted(unknown))}; there are {', '.join(PYTHON)}")
    failed = 0
    for name in [] if options.table else options.names or PYTHON:
        row = measured(name, options.keep)
        failed += row["failed"]
        results = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
        RESULTS.write_text(json.dumps(results | {name: row}, indent=1, sort_keys=True) + "\n", "utf-8")
    PAGE.write_text(page(json.loads(RESULTS.read_text("utf-8"))), "utf-8")
    return min(failed, 1)


def measured(name: str, keep: bool = False) -> dict:
    """Makes the environment, tests it and returns the table's column. A package that changed counts as a failure."""
    place = ENVIRONMENTS / name
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (keep and python.is_file()):
        make(name, place, python)
    place.with_suffix(".log").unlink(missing_ok=True)
    before, begin = packages(python), time.time()
    counts, changed = colab(python) if name == "colab" else (unit_tests(python), [])
    seconds = round(time.time() - begin)
    column = verdict(counts, changed) | {
        "python": run(python, "-c", "import platform; print(platform.python_version())").strip(),
        "packages": {key: before[key] for key in SHOWN},
        "date": date.today().isoformat(),
        "seconds": seconds,
        "system": f"{platform.system()}, {platform.machine()}, {run(python, '-c', CARD).strip()}",
    }
    print(f"{name}: {column['passed']} passed, {column['failed']} failed, {column['skipped']} skipped, {seconds} s",
          *column["broken"], sep="\n   ", flush=True)  # fmt: skip
    return column


def verdict(counts: Counter, changed: list[str]) -> dict:
    """What a column says of the tests: numbers, and the names of what failed. `counts` is that of `counted`."""
    broken = sorted(key for key in counts if key not in ("passed", "skipped")) + changed
    return {
        "passed": counts["passed"],
        "skipped": counts["skipped"],
        "failed": sum(counts[key] for key in counts if key not in ("passed", "skipped")) + len(changed),
        "broken": broken,
        "changed": changed,
    }


# ----- environments --------------------------------------------------------------------------------------------------


def make(name: str, place: Path, python: Path) -> None:
    """A fresh environment with the versions that the name stands for, and the course (not on Colab)."""
    shutil.rmtree(place, ignore_errors=True)
    base = next((found for version in PYTHON[name] if (found := interpreter(version))), None)
    if base is None:
        sys.exit(f"{name} needs Python {' or '.join(PYTHON[name])}, which is not here")
    run("uv", "venv", "--quiet", "--seed", "--no-python-downloads", "--python", base, place)
    install = ["uv", "pip", "install", "--quiet", "--python", python]
    if name == "colab":
        run(*install, "-r", PINS, "nbval>=0.11")
        return
    lowest = ["--resolution", "lowest-direct"] if name == "lowest" else []
    run(*install, *lowest, "-e", f"{ROOT}[{EXTRAS}]")


def interpreter(version: str) -> str | None:
    """A Python of that version: one of pyenv's, or on the path."""
    folders = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin"))
    for folder in [*map(str, folders), *os.get_exec_path()]:
        found = shutil.which(f"python{version}", path=folder)
        if found and subprocess.run([found, "-c", "pass"], capture_output=True).returncode == 0:
            return found
    return None


def packages(python: Path) -> dict[str, str]:
    """{name: version} of what an environment holds."""
    listed = json.loads(run(python, "-m", "pip", "list", "--format=json", "--disable-pip-version-check"))
    return {entry["name"].lower(): entry["version"] for entry in listed}


def changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """What the set-up did that it must not: packages added, removed or replaced, the course itself left out."""
    told = [] if "cotlib" in after else ["the course was not installed"]
    for name in sorted((before.keys() | after.keys()) - {"cotlib"}):
        if before.get(name) != after.get(name):
            told.append(f"{name} {before.get(name, 'was absent')} -> {after.get(name, 'is absent')}")
    return told


# ----- tests ---------------------------------------------------------------------------------------------------------


def unit_tests(python: Path) -> Counter:
    """What came of tests/, as `counted`."""
    return tested(python, ["tests"], ROOT)


def colab(python: Path) -> tuple[Counter, list[str]]:
    """(what came of the cells of all notebooks, as `counted`; packages that the set-up changed), run as on Colab.

    An archive of the last commit is served here in GitHub's place. Every notebook runs in an empty folder, so that its
    set-up cell finds no clone; the course is taken away again after each.
    """
    total, changed = Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        archives = Path(folder) / "served" / "me" / "course" / "archive"
        archives.mkdir(parents=True)
        zipped = [
            "git",
            "archive",
            "--format=zip",
            "--prefix=course-main/",
            "-o",
            archives / "main.zip",
            "HEAD",
        ]
        run(*zipped, cwd=ROOT)
        with served(Path(folder) / "served") as address:
            for notebook in sorted(ROOT.glob("notebooks/*.ipynb")):
                alone = Path(folder) / notebook.stem
                alone.mkdir()
                (alone / notebook.name).write_text(directed(notebook.read_text("utf-8"), address), "utf-8")
                shutil.copy(ROOT / "notebooks" / "conftest.py", alone)
                options = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout", "600", notebook.name]
                run(python, "-m", "pip", "uninstall", "-q", "-y", "cotlib")
                before = packages(python)
                counts = tested(python, options, alone)
                told = changes(before, packages(python))
                print(f"   {notebook.stem}: {dict(counts)}", *told, sep="\n      ", flush=True)
                total += counts
                changed += [f"{notebook.stem}: {line}" for line in told]
    run(python, "-m", "pip", "uninstall", "-q", "-y", "cotlib")
    return total, changed


def directed(notebook: str, address: str) -> str:
    """A notebook's JSON text whose set-up cell gets the course from `address`; all else is as it was."""
    content = json.loads(notebook)
    found = 0
    for cell in content["cells"]:
        if "setup" not in cell["metadata"].get("tags", []):
            continue
        text, names = ADDRESS.subn('REPOSITORY, TAG = "me/course", "main"', "".join(cell["source"]))
        found += names * text.count(GITHUB)
        cell["source"] = text.replace(GITHUB, f"{address}/{{REPOSITORY}}")
    if found != 1:
        raise ValueError(
            "the set-up cell is not the one known here: one line REPOSITORY, TAG and one address of GitHub"
        )
    return json.dumps(content)


def tested(python: Path, arguments: list[str], folder: Path) -> Counter:
    """Runs pytest in `folder`; what came of it, as `counted`. All it says goes to build/env/<environment>.log."""
    environ = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")}
    environ["PATH"] = f"{python.parent}{os.pathsep}{environ.get('PATH', '')}"
    environ["NO_PROXY"] = environ["no_proxy"] = "127.0.0.1"
    place = python.parents[1]
    report = place / "report.xml"
    report.unlink(missing_ok=True)
    command = [str(python), "-m", "pytest", "-q", f"--junit-xml={report}", *arguments]
    with place.with_suffix(".log").open("a", encoding="utf-8") as log:
        code = subprocess.run(command, cwd=folder, env=environ, stdout=log, stderr=log).returncode
    return counted(report.read_text("utf-8") if report.is_file() else "", code)


def counted(report: str, code: int) -> Counter:
    """How many passed and were skipped, and each test that failed by its name, from pytest's XML and its exit code.

    A run that came to no end, or had nothing to test, is itself a failure: its report is missing or tells of nothing bad.
    """
    counts = Counter()
    for case in ElementTree.fromstring(report).iter("testcase") if report else ():
        worst = {child.tag for child in case} & {"failure", "error", "skipped"}
        name = f"{case.get('classname')}::{case.get('name')}"
        key = name if worst & {"failure", "error"} else "skipped" if worst else "passed"
        counts[key] = 1 if key == name else counts[key] + 1
    if not report or (code and not set(counts) - {"passed", "skipped"}):
        counts[f"pytest ended with code {code}"] = 1
    return counts


class served:
    """A folder at a local web address, for as long as the `with` lasts."""

    def __init__(self, folder: Path):
        class Quiet(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_):
                pass

        handler = functools.partial(Quiet, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self) -> str:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def run(*command, cwd: Path | None = None) -> str:
    """What a command prints; ends this script with its words when it fails."""
    environ = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")}
    command = [str(part) for part in command]
    try:
        done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True)
    except FileNotFoundError:
        sys.exit(f"{command[0]} is not here; uv comes with  pip install uv")
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr.strip()[-2000:]}")
    return done.stdout


# ----- the page ------------------------------------------------------------------------------------------------------


def page(results: dict) -> str:
    """docs/COMPATIBILITY.md."""
    names = [name for name in PYTHON if name in results]
    columns = [results[name] for name in names]

    def row(title: str, cells) -> str:
        return f"| {title} | " + " | ".join(cells) + " |"

    def tests(name: str) -> str:
        column = results[name]
        bad = f"**{column['failed']} failed**, " if column["failed"] else ""
        skipped = f", {column['skipped']} skipped" if column["skipped"] else ""
        return f"{bad}{column['passed']:,} {WHAT[name]} passed{skipped}"

    rows = [
        row("", (TITLES[name] for name in names)),
        "|---|" + "---|" * len(names),
        row("Python", (column["python"] for column in columns)),
        *(row(key, (column["packages"][key] for column in columns)) for key in SHOWN),
        row("result", map(tests, names)),
        row("packages that the set-up cell changed",
            (str(len(results[name]["changed"]) or "none") if name == "colab" else "–" for name in names)),
        row("tested on", (f"{column['date']}, {column['system']}" for column in columns)),
    ]  # fmt: skip
    broken = [f"- {TITLES[name]}: `{line}`" for name in names for line in results[name]["broken"]]
    failures = ["", "What failed:", "", *broken] if broken else []
    pins = re.search(r"on (\d{4}-\d\d-\d\d)", PINS.read_text("utf-8"))[1]
    return "\n".join([
        "# Versions the course was tested with",
        "",
        "Written by `python tests/environments.py`. `python course.py test` goes by [constraints.txt](../constraints.txt), unit tests and",
        "notebooks; this table shows what else was tried, and when.",
        "",
        *rows,
        *failures,
        "",
        "**Newest**: what installs when nothing is pinned. **Lowest**: the lower bounds of pyproject.toml (uv's `lowest-direct`; what",
        f"these packages need themselves is the newest that suits them). **Colab's**: what Colab had on {pins}, as far as the course",
        "touches it ([the list](../tests/colab_pins.txt)). There every notebook runs alone in an empty folder; its set-up cell fetches an",
        "archive of the course and installs it without its dependencies, not editable, as on Colab. A package that is added, removed or",
        "replaced by that counts as a failure. Cells are compared with the stored output where they ask for it.",
        "",
    ])  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
