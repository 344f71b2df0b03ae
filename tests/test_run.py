"""`course.py run` on tiny notebooks: budgets, claims, errors, the report; and that it writes no notebook."""

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat.v4 as v4
import pytest

from cotlib.errors import UserError
from cotlib.lab import run

ROOT = Path(__file__).resolve().parents[1]


def claim_cell(text: str, ok: bool) -> str:
    claim = {"claim": text, "estimate": 0.2, "low": 0.1, "high": 0.3, "threshold": 0.1, "ok": ok}
    return f"display({{'application/vnd.cotlib.claims+json': {[claim]}}}, raw=True)"


DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PAGES = {
    "00_fine": [
        f"display({{'image/png': '{DOT}'}}, metadata={{'image/png': {{'alt': 'one <dot>'}}}}, raw=True)",
        claim_cell("water is wet", True),
    ],
    "01_raises": ["1 / 0"],
    "02_too_big": ["block = bytearray(b'1' * 300_000_000)", "# NBVAL_CHECK_OUTPUT\nprint('a plain table')"],
    "03_untrue": [claim_cell("pigs fly", False)],
}


def notebook(title: str, cells: list[str]) -> dict:
    return v4.new_notebook(cells=[v4.new_markdown_cell(f"# {title}"), *map(v4.new_code_cell, cells)])


def execute_all(*options) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "course.py", "--no-setup", "run", *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """`course.py run` on four tiny notebooks with a budget of 0.25 GB: (finished process, run.json, report)."""
    folder = tmp_path_factory.mktemp("notebooks")
    for name, cells in PAGES.items():
        (folder / f"{name}.ipynb").write_text(json.dumps(notebook(name, cells)), "utf-8")
    before = {path: path.read_bytes() for path in folder.glob("*.ipynb")}
    done = execute_all("--notebooks", folder, "--out", folder / "out", "--memory", "0.25")
    assert before == {path: path.read_bytes() for path in folder.glob("*.ipynb")}
    record = json.loads((folder / "out" / "run.json").read_text("utf-8"))
    return done, record, (folder / "out" / "report.html").read_text("utf-8")


def test_a_run_fails_when_a_notebook_does(executed):
    done, record, _ = executed
    assert done.returncode == 1 and record["ok"] is False
    fine, raises, too_big, untrue = record["notebooks"]
    assert fine["ok"] and fine["problems"] == [] and fine["figures"] == 1 and 0.02 < fine["peak_gb"] < 0.25
    assert raises["problems"] == ["cell 2: ZeroDivisionError: division by zero"]
    assert too_big["peak_gb"] > 0.3 and "its budget is 0.25 GB" in too_big["problems"][0]
    assert untrue["problems"] == ["no longer true: pigs fly"]
    for row in record["notebooks"]:
        assert row["name"] in done.stdout


def test_the_report_shows_claims_figures_and_errors_in_one_file(executed):
    _, record, page = executed
    for text in (
        "1 of 4 notebooks pass",
        "water is wet",
        "0.1 to 0.3",
        DOT,
        "one &lt;dot&gt;",
        "a plain table",
    ):
        assert text in page
    assert "ZeroDivisionError" in page and "no longer true: pigs fly" in page
    outside = re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']*""", page)
    assert outside == [] and "<script" not in page


def test_time_budgets_are_held(tmp_path):
    (tmp_path / "00_slow.ipynb").write_text(
        json.dumps(notebook("00_slow", ["import time; time.sleep(1)"])), "utf-8"
    )
    done = execute_all("--notebooks", tmp_path, "--out", tmp_path, "--seconds", "0.5", "--total", "0.6")
    assert (
        done.returncode == 1 and "its budget is 0.5 s" in done.stdout and "all together took" in done.stdout
    )


def test_a_hanging_cell_is_stopped(tmp_path, monkeypatch):
    (tmp_path / "00_hangs.ipynb").write_text(
        json.dumps(notebook("", ["import time; time.sleep(99)"])), "utf-8"
    )
    monkeypatch.setattr(run, "LONGEST_CELL", 1)
    result = run.execute(tmp_path / "00_hangs.ipynb", run.Budget())
    assert "was stopped" in result.error and result.seconds < 30


def test_notebooks_are_chosen_by_the_beginning_of_their_name(tmp_path):
    with pytest.raises(UserError, match="no notebook in"):
        run.choose(tmp_path, [])
    for name in ("00_a", "01_b", "02_c"):
        (tmp_path / f"{name}.ipynb").write_text("{}")
    assert [path.stem for path in run.choose(tmp_path, [])] == ["00_a", "01_b", "02_c"]
    assert [path.stem for path in run.choose(tmp_path, ["02", "00"])] == ["00_a", "02_c"]
    with pytest.raises(UserError, match="no notebook starts with '07'; .* has: 00_a, 01_b, 02_c"):
        run.choose(tmp_path, ["07"])
