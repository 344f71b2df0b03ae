"""docs/COMPATIBILITY.md is what was measured, and what measures it notices what must not happen."""

import json
import re
import subprocess
import sys
import tomllib
import urllib.request
from collections import Counter
from pathlib import Path

import environments
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

NOTEBOOKS = sorted(environments.ROOT.glob("notebooks/*.ipynb"))
PINS = dict(re.findall(r"^([\w-]+)==([\w.]+)$", environments.PINS.read_text("utf-8"), re.MULTILINE))
SETUP = json.dumps({"cells": [
    {"cell_type": "markdown", "metadata": {}, "source": ["REPOSITORY, TAG = \"a\", \"b\""]},
    {"cell_type": "code", "metadata": {"tags": ["setup"]}, "outputs": [], "source": [
        "REPOSITORY, TAG = \"\", \"\"  # where from\n", "%pip install https://github.com/{REPOSITORY}/archive/{TAG}.zip"]},
]})  # fmt: skip


# ----- the page ------------------------------------------------------------------------------------------------------


def test_the_page_is_what_the_results_say():
    results = json.loads(environments.RESULTS.read_text("utf-8"))
    assert environments.PAGE.read_text("utf-8") == environments.page(results), (
        "run python tests/environments.py --table"
    )
    assert results.keys() <= environments.PYTHON.keys()


@pytest.fixture
def column():
    """A result that is made up."""
    counts = Counter({"passed": 1999, "skipped": 3})
    return environments.verdict(counts, []) | {
        "python": "3.13.0", "date": "2000-01-02", "system": "Linux, x86_64, no GPU", "seconds": 9,
        "packages": dict.fromkeys(environments.SHOWN, "1.2"),
    }  # fmt: skip


def test_a_good_result_reads_so(column):
    said = environments.page({"lowest": column, "colab": column})
    assert "|  | lowest allowed | Colab's |" in said and "newest |" not in said
    assert "| result | 1,999 unit tests passed, 3 skipped | 1,999 cells passed, 3 skipped |" in said
    assert "| packages that the set-up cell changed | – | none |" in said
    assert said.count("2000-01-02, Linux, x86_64, no GPU") == 2 and "failed" not in said


def test_a_bad_result_names_what_failed(column):
    bad = environments.verdict(Counter({"passed": 5, "x::y": 1}), ["02: numpy 1 -> 2"])
    said = environments.page({"colab": column | bad})
    assert (
        "**2 failed**, 5 cells passed |" in said and "| packages that the set-up cell changed | 1 |" in said
    )
    assert "- Colab's: `x::y`\n- Colab's: `02: numpy 1 -> 2`" in said


# ----- counting ------------------------------------------------------------------------------------------------------

TESTS = """
import os, pytest

@pytest.fixture
def broken():
    raise ValueError("at the start")

@pytest.fixture
def breaks():
    yield
    raise ValueError("at the end")

def test_good(): pass
@pytest.mark.parametrize("n", [1, 2])
def test_more(n): pass
def test_wrong(): assert False
def test_error(broken): pass
def test_late_error(breaks): pass
@pytest.mark.skip
def test_skipped(): pass
@pytest.mark.xfail
def test_expected(): assert False
"""


def outcome(folder: Path, text: str, *arguments: str) -> Counter:
    """What comes of a file of tests, by a real pytest."""
    (folder / "test_it.py").write_text(text, "utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n", "utf-8")
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", f"--junit-xml={report}", "test_it.py", *arguments]
    code = subprocess.run(command, cwd=folder, capture_output=True, timeout=100).returncode
    return environments.counted(report.read_text("utf-8") if report.is_file() else "", code)


def test_everything_is_counted_once(tmp_path):
    counts = outcome(tmp_path, TESTS)
    assert counts["passed"] == 3 and counts["skipped"] == 2
    said = environments.verdict(counts, [])
    assert said["broken"] == ["test_it::test_error", "test_it::test_late_error", "test_it::test_wrong"]
    assert (said["passed"], said["skipped"], said["failed"]) == (3, 2, 3)


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("import os\ndef test_good(): pass\ndef test_dies(): os._exit(0)", ()),
        ("import os\ndef test_good(): pass\ndef test_dies(): os._exit(9)", ()),
        ("import nothing_of_that_name", ()),
        ("def test_good(): pass", ("-k", "nothing_of_that_name")),
        ("def test_good(): pass", ("--no-such-option",)),
    ],
    ids=["ends", "dies", "import", "no test", "usage"],
)
def test_a_run_that_did_not_come_to_its_end_failed(tmp_path, text, arguments):
    assert environments.verdict(outcome(tmp_path, text, *arguments), [])["failed"] == 1


# ----- packages ------------------------------------------------------------------------------------------------------

BEFORE = {"numpy": "2.1.3", "torch": "2.11.0"}


def test_the_course_is_the_only_change_that_may_be():
    assert environments.changes(BEFORE, BEFORE | {"cotlib": "0.1.0"}) == []


@pytest.mark.parametrize(
    ("after", "told"),
    [
        (BEFORE, "the course was not installed"),
        (BEFORE | {"numpy": "2.2.0", "cotlib": "0.1.0"}, "numpy 2.1.3 -> 2.2.0"),
        (BEFORE | {"extra": "1", "cotlib": "0.1.0"}, "extra was absent -> 1"),
        ({"numpy": "2.1.3", "cotlib": "0.1.0"}, "torch 2.11.0 -> is absent"),
    ],
)
def test_a_package_that_changed_is_a_failure(after, told):
    assert environments.changes(BEFORE, after) == [told]
    said = environments.verdict(Counter({"passed": 10}), [told])
    assert said["failed"] == 1 and said["changed"] == said["broken"] == [told] and said["passed"] == 10


def test_colabs_versions_are_ones_that_pyproject_allows():
    project = tomllib.loads((environments.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert {"torch", "numpy", "ipywidgets", "ipython"} <= PINS.keys()
    for line in project["dependencies"]:
        wanted = Requirement(line)
        if canonicalize_name(wanted.name) in PINS:
            assert PINS[canonicalize_name(wanted.name)] in wanted.specifier, line


# ----- as on Colab ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_set_up_cell_of_every_notebook_is_known(notebook):
    before = json.loads(notebook.read_text("utf-8"))
    after = json.loads(environments.directed(notebook.read_text("utf-8"), "http://127.0.0.1:8"))
    pairs = [pair for pair in zip(before["cells"], after["cells"], strict=True) if pair[0] != pair[1]]
    assert len(pairs) == 1 and pairs[0][0]["metadata"]["tags"] == ["setup"]
    text = pairs[0][1]["source"]
    assert 'REPOSITORY, TAG = "me/course", "main"' in text and "github.com" not in text
    assert "%pip install -q --no-deps http://127.0.0.1:8/{REPOSITORY}/archive/{TAG}.zip" in text
    assert not re.search(r"pip.* (-e|--editable)\b", text)


@pytest.mark.parametrize(
    "said", ['REPOSITORY, TAG = \\"\\", \\"\\"', "https://github.com/{REPOSITORY}", '"setup"']
)
def test_another_set_up_cell_is_refused(said):
    assert SETUP.count(said) == 1 and environments.directed(SETUP, "http://x")
    with pytest.raises(ValueError, match="set-up cell"):
        environments.directed(SETUP.replace(said, '"other"' if said == '"setup"' else "other"), "http://x")


def test_a_cell_with_a_real_address_is_directed_too():
    named = SETUP.replace('\\"\\", \\"\\"', '\\"owner/name\\", \\"v1.0\\"')
    assert named != SETUP and environments.directed(named, "http://x") == environments.directed(
        SETUP, "http://x"
    )


def test_notebooks_run_alone_and_what_their_set_up_changes_is_a_failure(tmp_path, monkeypatch, capsys):
    """The course as it is, but for pip, git and pytest, which are made up: one notebook's set-up replaces numpy."""
    bad, installed, folders = NOTEBOOKS[1].name, dict(BEFORE), []

    def tested(python, arguments, folder):
        folders.append((folder, sorted(path.name for path in folder.iterdir()), arguments[-1]))
        installed.update({"cotlib": "0.1.0"} | ({"numpy": "2.2.0"} if arguments[-1] == bad else {}))
        return Counter(passed=4)

    def run(*command, cwd=None):
        words = [str(word) for word in command]
        if "uninstall" in words:
            installed.pop("cotlib", None)
        elif "git" in words:
            Path(words[words.index("-o") + 1]).write_text("zip", "utf-8")
        return "3.13.0"

    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path)
    monkeypatch.setattr(environments, "SHOWN", ("torch", "numpy"))
    monkeypatch.setattr(environments, "make", lambda *_: None)
    monkeypatch.setattr(environments, "packages", lambda _: dict(installed))
    monkeypatch.setattr(environments, "tested", tested)
    monkeypatch.setattr(environments, "run", run)
    column = environments.measured("colab")
    assert column["changed"] == [f"{NOTEBOOKS[1].stem}: numpy 2.1.3 -> 2.2.0"] and column["failed"] == 1
    assert column["passed"] == 4 * len(NOTEBOOKS) and column["packages"]["numpy"] == "2.1.3"
    assert [name for *_, name in folders] == [path.name for path in NOTEBOOKS]
    for folder, files, name in folders:
        assert files == sorted([name, "conftest.py"]) and environments.ROOT not in folder.parents
    assert "numpy 2.1.3 -> 2.2.0" in capsys.readouterr().out


def test_an_archive_is_served(tmp_path):
    (tmp_path / "main.zip").write_bytes(b"PK")
    with environments.served(tmp_path) as address:
        with urllib.request.urlopen(f"{address}/main.zip") as answer:
            assert answer.read() == b"PK"
