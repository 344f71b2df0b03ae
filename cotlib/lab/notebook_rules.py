"""What must be true of every committed notebook. `problems` returns sentences; an empty list means all is well.

Notebooks are committed with their outputs, because readers on GitHub must see the figures; these rules keep that
honest: everything ran once, from top to bottom, nothing failed, and every picture can be read aloud.
"""

from __future__ import annotations

import re
from base64 import b64decode

from cotlib.lab.claim_table import claims_in

MAX_LINES = 60
MAX_COLUMNS = 110  # what JupyterLab shows in a window of 1280 pixels beside its file browser
MAX_BYTES = 1_000_000
MAX_PICTURE_BYTES = 60_000
CHECKED = "# NBVAL_CHECK_OUTPUT"
MACHINE_PATH = re.compile(r"(?<![\w.])(/(home|Users|tmp|root|work|mnt|var|opt)/\w|[A-Z]:\\\\?Users)")


def problems(nb: dict, setup_cell: str, size: int = 0) -> list[str]:
    """All broken rules of one executed notebook (its parsed JSON, text joined); size in bytes as stored."""
    code = [cell for cell in nb["cells"] if cell["cell_type"] == "code"]
    found = [*_whole(nb, code, setup_cell, size)]
    for number, cell in enumerate(nb["cells"], 1):
        if cell["cell_type"] == "code":
            found += [f"cell {number}: {text}" for text in _cell_problems(cell)]
    return found


def _whole(nb: dict, code: list[dict], setup_cell: str, size: int):
    if nb["metadata"].get("kernelspec", {}).get("name") != "python3":
        yield "the kernelspec is not python3"
    if "widgets" in nb["metadata"]:
        yield "metadata.widgets is stored; GitHub refuses such notebooks"
    if nb["metadata"].get("cotlib", {}).get("generated_from") is None:
        yield "the metadata do not name the source the notebook was generated from"
    if [cell["execution_count"] for cell in code] != list(range(1, len(code) + 1)):
        yield "the execution counts are not 1, 2, 3, ...: run it from top to bottom"
    if not code or joined(code[0]["source"]) != setup_cell:
        yield "the first code cell is not the set-up cell"
    if not code or CHECKED not in joined(code[-1]["source"]) or not claims_in({"cells": code[-1:]}):
        yield f"the last code cell is not a claims table marked {CHECKED}"
    if size > MAX_BYTES:
        yield f"{size} bytes; at most {MAX_BYTES}"
    first = joined(nb["cells"][0]["source"]) if nb["cells"] else ""
    if not first.startswith("# "):
        yield "the first cell is not a header that begins with a title"


def _cell_problems(cell: dict):
    source, outputs = joined(cell["source"]), cell["outputs"]
    lines = source.count("\n") + 1
    if lines > MAX_LINES:
        yield f"{lines} lines; at most {MAX_LINES}"
    if (columns := max(map(len, source.split("\n")))) > MAX_COLUMNS:
        yield f"a line of {columns} characters; at most {MAX_COLUMNS}"
    if "NBVAL_CHECK_OUTPUT" in source and not outputs:
        yield "marked for comparison but without stored output"
    for index, output in enumerate(outputs):
        if output["output_type"] == "error":
            yield f"stored error {output['ename']}"
        if output.get("name") == "stderr":
            yield f"output on stderr: {joined(output['text'])[:80]!r}"
        data = output.get("data", {})
        if "application/vnd.jupyter.widget-view+json" in data:
            yield "a widget is stored as output"
        if match := MACHINE_PATH.search(_text(output)):
            yield f"the output names a folder of this machine ({match[0]}...)"
        if "image/png" in data or "image/jpeg" in data or "image/svg+xml" in data:
            yield from _picture_problems(output, outputs[index + 1 : index + 2])


def _picture_problems(output: dict, following: list[dict]):
    png = joined(output["data"].get("image/png", ""))
    alt = output.get("metadata", {}).get("image/png", {}).get("alt", "")
    if not png or not alt:
        yield "a picture without alt text; use show(fig, alt=...)"
    elif not following or joined(following[0].get("data", {}).get("text/plain", "")) != alt:
        yield "a picture without its caption; use show(fig, alt=...)"
    if (size := len(b64decode(png))) > MAX_PICTURE_BYTES:
        yield f"a picture of {size} bytes; at most {MAX_PICTURE_BYTES}"


def joined(text) -> str:
    """Notebook text is a string or a list of lines."""
    return text if isinstance(text, str) else "".join(text)


def _text(output: dict) -> str:
    parts = [joined(output.get("text", ""))]
    parts += [joined(text) for kind, text in output.get("data", {}).items() if kind.startswith("text/")]
    return "\n".join(parts)
