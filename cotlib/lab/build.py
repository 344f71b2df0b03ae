"""notebooks/src/NN_name.py (percent format) -> executed notebooks/NN_name.ipynb.

    python -m cotlib.lab.build                          every notebook, executed
    python -m cotlib.lab.build 02_token_generation      one
    python -m cotlib.lab.build --no-execute             sources only; outputs of unchanged cells are kept
    python -m cotlib.lab.build --check                  exit 1 when a notebook and its source differ
    python -m cotlib.lab.build --repository OWNER/NAME@TAG    stamp the published address into badges and set-up cells

People edit the sources; the .ipynb are generated. In a source, a cell tagged "setup" becomes the common set-up cell
with the notebook's number, and in the header the lines `<!-- badges -->` and `<!-- facts -->` become the badges and what the run measured.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from cotlib.errors import UserError
from cotlib.lab.notebook_rules import problems
from cotlib.lab.repository import Address
from cotlib.lab.runner import Run, run_notebook

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"
WIDGET_NOTE = "Interactive: run this notebook to use it. The figure beside it shows one setting."


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m cotlib.lab.build", description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="*", help="notebooks to build, for example 01_image_tokens; default all"
    )
    parser.add_argument(
        "--no-execute", action="store_true", help="convert without running; keep stored outputs"
    )
    parser.add_argument("--check", action="store_true", help="only compare sources with notebooks")
    parser.add_argument(
        "--repository", metavar="OWNER/NAME[@TAG]", help="published address; '' takes it away"
    )
    parser.add_argument("--folder", type=Path, default=NOTEBOOKS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        names = options.names or names_in(options.folder)
        for name in names:
            if not (options.folder / "src" / f"{name}.py").is_file():
                raise UserError(f"no source {name}.py; the sources are {', '.join(names_in(options.folder))}")
        if options.repository is not None:
            Address.parse(options.repository).save(options.folder)
        if options.check:
            return check_all(options.folder, names)
        execute = not options.no_execute and options.repository is None
        return max([build(options.folder, name, execute) for name in names], default=0)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


def names_in(folder: Path) -> list[str]:
    """Names of all sources, in the order of the course."""
    return sorted(path.stem for path in (folder / "src").glob("[0-9][0-9]_*.py"))


def build(folder: Path, name: str, execute: bool = True) -> int:
    """Make one notebook. Returns 0, or 1 when a cell fails or a rule is broken (the notebook is written all the same)."""
    import nbformat

    path = folder / f"{name}.ipynb"
    old = nbformat.read(path, as_version=4) if path.exists() else None
    facts = measured(old)
    nb = convert(folder, name, facts)
    run = Run()
    if execute:
        print(f"{name}: running ...", flush=True)
        run = run_notebook(nb, folder)
        if not run.error:
            facts = facts | {"cpu": facts_of(run)}
            nb = with_outputs(convert(folder, name, facts), nb)
    elif old is not None:
        nb = with_outputs(nb, old)
    clean_outputs(nb)
    nbformat.validate(nb)
    text = nbformat.writes(nb) + "\n"
    path.write_text(text, encoding="utf-8", newline="\n")
    broken = [run.error] if run.error else []
    if execute and not run.error:
        broken = problems(nb, Address.load(folder).setup_cell(folder, name), len(text.encode()))
    how = (
        f"{run.seconds:.0f} s, {run.peak_gb:.1f} GB, {len(text) / 1000:.0f} KB" if execute else "not executed"
    )
    print(f"{name}: {how}" + "".join(f"\n  {text}" for text in broken))
    return int(bool(broken))


def convert(folder: Path, name: str, facts: dict | None = None):
    """The notebook of a source, without outputs: set-up cell, badges and facts filled in, fixed ids and metadata."""
    import jupytext

    address = Address.load(folder)
    nb = jupytext.read(folder / "src" / f"{name}.py", fmt="py:percent")
    if not any("setup" in cell.metadata.get("tags", []) for cell in nb.cells):
        raise UserError(
            f'{name}.py has no set-up cell; expected a cell `# %% tags=["setup"]` after the header'
        )
    for index, cell in enumerate(nb.cells):
        cell.id = f"{name[:2]}-{index:03d}"
        tags = cell.metadata.get("tags", [])
        cell.metadata = {"tags": tags} if tags else {}
        if "setup" in tags:
            cell.source = address.setup_cell(folder, name)
        if index == 0:
            cell.source = filled_header(cell.source, address.badges(name), facts or {})
    nb.metadata = {
        "cotlib": {"generated_from": f"notebooks/src/{name}.py"} | ({"measured": facts} if facts else {}),
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nb.nbformat, nb.nbformat_minor = 4, 5
    return nb


def filled_header(source: str, badges: str, facts: dict) -> str:
    """Replace the two placeholder lines; an empty replacement takes its line and one blank line away."""
    for mark, text in (("<!-- badges -->", badges), ("<!-- facts -->", facts_text(facts))):
        source = source.replace(mark, text) if text else re.sub(re.escape(mark) + r"\n?\n?", "", source)
    return source


def facts_text(facts: dict) -> str:
    """The header's line about time and memory, from measured runs only."""
    if "cpu" not in facts:
        return ""
    cpu = facts["cpu"]
    text = f"**Time and memory:** {minutes(cpu['seconds'])} and {cpu['peak_gb']:.1f} GB on {cpu['cores']} CPU cores"
    if gpu := facts.get("gpu"):
        text += f"; {minutes(gpu['seconds'])} with a GPU ({gpu['device']})"
    return text + f" (measured {cpu['date']}, torch {cpu['torch']})."


def minutes(seconds: float) -> str:
    """Seconds in words, rounded up to a figure one can plan with."""
    if seconds <= 90:
        return f"{max(10, -(-round(seconds) // 10) * 10)} seconds"
    return f"{-(-round(seconds) // 60)} minutes"


def facts_of(run: Run) -> dict:
    """What the metadata keep of a run on this machine's CPU."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "seconds": run.seconds,
        "peak_gb": run.peak_gb,
        "cores": cores,
        "torch": torch.__version__.split("+")[0],
        "date": datetime.now(UTC).date().isoformat(),
    }


def measured(nb) -> dict:
    """The facts stored in a notebook's metadata; empty when there are none."""
    return dict(nb.metadata.get("cotlib", {}).get("measured", {})) if nb is not None else {}


def with_outputs(nb, old):
    """Copy outputs and counts from `old` to the cells of `nb` that have the same source (or are the set-up cell)."""
    stored = {_key(cell): cell for cell in old.cells if cell.cell_type == "code"}
    for cell in nb.cells:
        if cell.cell_type == "code" and (match := stored.get(_key(cell))):
            cell.outputs, cell.execution_count = match.outputs, match.execution_count
    return nb


def clean_outputs(nb) -> None:
    """Put a sentence in the place of each widget: its state is not stored, so a reader would see an error."""
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            if output.output_type in ("display_data", "execute_result") and output.data.pop(WIDGET, None):
                output.data = {"text/plain": WIDGET_NOTE}


def check_all(folder: Path, names: list[str]) -> int:
    """Compare every notebook with its source; print what differs; 1 when anything does."""
    import nbformat

    differing = 0
    for name in names:
        path = folder / f"{name}.ipynb"
        nb = nbformat.read(path, as_version=4) if path.exists() else None
        same = nb is not None and _sources(nb) == _sources(convert(folder, name, measured(nb)))
        print(f"{name}: {'same' if same else 'differs from its source' if nb else 'not built'}")
        differing += not same
    return int(differing > 0)


def _sources(nb) -> list[tuple]:
    return [(cell.cell_type, cell.source, tuple(cell.metadata.get("tags", []))) for cell in nb.cells]


def _key(cell) -> str:
    return "setup" if "setup" in cell.metadata.get("tags", []) else cell.source


if __name__ == "__main__":
    sys.exit(main())
