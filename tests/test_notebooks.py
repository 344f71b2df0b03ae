"""The committed notebooks keep the structural rules, the rules catch what they are for, and the build works.

A tiny notebook, built in a temporary folder, stands in for the real ones where something must be broken on purpose.
"""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from cotlib.lab import build
from cotlib.lab.claim_table import MIME
from cotlib.lab.notebook_rules import joined, problems
from cotlib.lab.repository import Address

NOTEBOOKS = build.NOTEBOOKS
BUILT = sorted(NOTEBOOKS.glob("*.ipynb"))

SOURCE = """
# %% [markdown]
# # Tiny
#
# <!-- badges -->
#
# You will be able to run a cell.
#
# <!-- facts -->

# %% tags=["setup"]

# %%
from matplotlib import pyplot as plt

from cotlib.lab import Claim, check, claims, code_editor, predict, reveal, show

predict("00-one", "One?", low=0, high=2)

# %%
fig, ax = plt.subplots()
ax.plot([1, 2])
show(fig, alt="A line goes up.")
reveal("00-one", 1)

# %%
import ipywidgets

ipywidgets.IntSlider()

# %%
check("guide", ...)

# %%
# NBVAL_CHECK_OUTPUT
claims([Claim("one is more than nothing", 1.0, 0.5, 1.5, threshold=0.0)])
""".lstrip()


# --- the committed notebooks


@pytest.mark.parametrize("path", BUILT, ids=lambda path: path.stem)
def test_notebook_keeps_the_rules(path):
    text = path.read_text(encoding="utf-8")
    setup_cell = Address.load(NOTEBOOKS).setup_cell(NOTEBOOKS, path.stem)
    assert problems(json.loads(text), setup_cell, len(text.encode())) == []


@pytest.mark.parametrize("path", BUILT, ids=lambda path: path.stem)
def test_notebook_says_what_its_source_says(path, capsys):
    assert build.check_all(NOTEBOOKS, [path.stem]) == 0, (
        "build it again: python -m cotlib.lab.build " + path.stem
    )


@pytest.mark.parametrize("name", build.names_in(NOTEBOOKS))
def test_source_is_built(name):
    assert (NOTEBOOKS / f"{name}.ipynb").exists()


# --- the build, on a tiny notebook


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Folder of a course with one built notebook."""
    folder = tmp_path_factory.mktemp("notebooks")
    (folder / "src").mkdir()
    (folder / "src" / "00_tiny.py").write_text(SOURCE, encoding="utf-8")
    for name in ("conftest.py", "src/setup_cell.txt"):
        (folder / name).write_text((NOTEBOOKS / name).read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(NOTEBOOKS.parent))
        assert build.main(["--folder", str(folder)]) == 0
    return folder


@pytest.fixture
def course(tiny, tmp_path):
    """A copy of the tiny course that a test may change."""
    for path in tiny.rglob("*"):
        if path.suffix in (".py", ".ipynb", ".txt"):
            target = tmp_path / path.relative_to(tiny)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    return tmp_path


def load(folder: Path):
    return json.loads((folder / "00_tiny.ipynb").read_text(encoding="utf-8"))


def test_build_fills_the_header_in_and_strips_widgets(tiny):
    nb = load(tiny)
    header = joined(nb["cells"][0]["source"])
    assert "<!--" not in header and "seconds and" in header and "CPU cores" in header
    assert "widgets" not in nb["metadata"] and nb["metadata"]["cotlib"]["measured"]["cpu"]["seconds"] > 0
    [widget] = [c for c in nb["cells"] if "IntSlider" in joined(c["source"])]
    assert joined(widget["outputs"][0]["data"]["text/plain"]) == build.WIDGET_NOTE
    assert [cell["id"] for cell in nb["cells"]][:2] == ["00-000", "00-001"]


def test_check_finds_a_changed_source(course, capsys):
    assert build.main(["--folder", str(course), "--check"]) == 0
    source = course / "src" / "00_tiny.py"
    source.write_text(source.read_text().replace("threshold=0.0", "threshold=0.1"))
    assert build.main(["--folder", str(course), "--check"]) == 1
    (course / "00_tiny.ipynb").unlink()
    assert build.main(["--folder", str(course), "--check"]) == 1
    assert "not built" in capsys.readouterr().out


def test_stamping_the_address_keeps_the_outputs(course):
    before = load(course)
    assert build.main(["--folder", str(course), "--repository", "me/course@v1"]) == 0
    after = load(course)
    assert [c.get("outputs") for c in before["cells"]] == [c.get("outputs") for c in after["cells"]]
    assert "colab.research.google.com/github/me/course/blob/v1/notebooks/00_tiny.ipynb" in joined(
        after["cells"][0]["source"]
    )
    assert problems(after, Address("me/course", "v1").setup_cell(course, "00_tiny")) == []
    assert build.main(["--folder", str(course), "--check"]) == 0
    assert build.main(["--folder", str(course), "--repository", ""]) == 0
    assert load(course) == before


def test_no_execute_drops_the_outputs_of_changed_cells_only(course):
    source = course / "src" / "00_tiny.py"
    source.write_text(source.read_text().replace('check("guide", ...)', 'check("guide", None)'))
    assert build.main(["--folder", str(course), "--no-execute"]) == 0
    counts = [cell["execution_count"] for cell in load(course)["cells"] if cell["cell_type"] == "code"]
    assert counts == [1, 2, 3, 4, None, 6]


def test_build_reports_a_failing_cell(course, monkeypatch, capsys):
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOKS.parent))
    source = course / "src" / "00_tiny.py"
    source.write_text(source.read_text().replace('check("guide", ...)', "1 / 0"))
    assert build.main(["--folder", str(course)]) == 1
    assert "cell 6: ZeroDivisionError" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["07_none"], "the sources are 00_tiny"), (["--repository", "x"], "OWNER/NAME")],
)
def test_wrong_arguments_end_in_one_sentence(course, arguments, words, capsys):
    assert build.main(["--folder", str(course), *arguments]) == 2
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1


def test_source_without_set_up_cell_is_refused(course, capsys):
    source = course / "src" / "00_tiny.py"
    source.write_text(source.read_text().replace(' tags=["setup"]', ""))
    assert build.main(["--folder", str(course), "--no-execute"]) == 2
    assert "no set-up cell" in capsys.readouterr().err


def run_nbval(folder: Path) -> int:
    """Exit code of nbval on the tiny course, in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(NOTEBOOKS.parent)}
    options = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout", "120", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-q", *options, str(folder / "00_tiny.ipynb")]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True).returncode


def test_nbval_compares_verdicts_but_not_digits(course):
    nb = load(course)
    [output] = nb["cells"][-1]["outputs"]
    output["data"]["text/html"] = ["another third digit"]
    output["data"][MIME][0]["estimate"] = 0.999
    (course / "00_tiny.ipynb").write_text(json.dumps(nb))
    assert run_nbval(course) == 0
    output["data"]["text/plain"] = ["DOES NOT HOLD  (>= 0)  one is more than nothing"]
    (course / "00_tiny.ipynb").write_text(json.dumps(nb))
    assert run_nbval(course) == 1


# --- each rule catches what it is for


def broken(change):
    """The tiny notebook after `change(nb, code_cells)`."""

    def apply(nb):
        nb = copy.deepcopy(nb)
        change(nb, [cell for cell in nb["cells"] if cell["cell_type"] == "code"])
        return nb

    return apply


def picture_cell(code):
    return next(cell for cell in code if "show(fig" in joined(cell["source"]))


RULES = {
    "1, 2, 3": lambda nb, code: code[1].update(execution_count=7),
    "not python3": lambda nb, code: nb["metadata"]["kernelspec"].update(name="conda-env"),
    "metadata.widgets": lambda nb, code: nb["metadata"].update(widgets={}),
    "generated from": lambda nb, code: nb["metadata"].pop("cotlib"),
    "not the set-up cell": lambda nb, code: code[0].update(source="env = 1"),
    "not a claims table": lambda nb, code: nb["cells"].pop(),
    "begins with a title": lambda nb, code: nb["cells"][0].update(source="Tiny"),
    "without stored output": lambda nb, code: code[-1].update(outputs=[]),
    "lines; at most": lambda nb, code: code[1].update(source="x = 1\n" * 70),
    "characters; at most": lambda nb, code: code[1].update(source=f"x = {111 * chr(49)}"),
    "stored error": lambda nb, code: code[1]["outputs"].append(
        {"output_type": "error", "ename": "ValueError", "evalue": "", "traceback": []}
    ),
    "on stderr": lambda nb, code: code[1]["outputs"].append(
        {"output_type": "stream", "name": "stderr", "text": "Warning"}
    ),
    "a widget is stored": lambda nb, code: code[1]["outputs"].append(
        {"output_type": "display_data", "metadata": {}, "data": {build.WIDGET: {}}}
    ),
    "folder of this machine": lambda nb, code: code[1]["outputs"].append(
        {"output_type": "stream", "name": "stdout", "text": "saved to /home/ann/course"}
    ),
    "without alt text": lambda nb, code: picture_cell(code)["outputs"][0].update(metadata={}),
    "without its caption": lambda nb, code: picture_cell(code)["outputs"].pop(1),
    "a picture of": lambda nb, code: picture_cell(code)["outputs"][0]["data"].update(
        {"image/png": "AAAA" * 30_000}
    ),
}


@pytest.mark.parametrize("words", RULES)
def test_rule_catches(words, tiny):
    nb = load(tiny)
    setup_cell = Address().setup_cell(tiny, "00_tiny")
    assert problems(nb, setup_cell) == []
    found = problems(broken(RULES[words])(nb), setup_cell)
    assert any(words in text for text in found), found


def test_size_limit(tiny):
    assert any(
        "bytes; at most" in text
        for text in problems(load(tiny), Address().setup_cell(tiny, "00_tiny"), 2_000_000)
    )


def test_tiny_notebook_is_valid(tiny):
    nbformat.validate(nbformat.read(tiny / "00_tiny.ipynb", as_version=4))
