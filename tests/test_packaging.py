"""The wheel works outside the clone; dependency lists, environment.yml and the small print agree with each other."""

import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from cotlib.lab.kernel_figures import stored_rows

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def checked(*command, cwd, env=None) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=cwd, env=env, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    checked(*pip, "--wheel-dir", folder, ROOT, cwd=folder)
    (path,) = folder.glob("cotlib-*.whl")
    return path


@pytest.fixture(scope="module")
def elsewhere(wheel, tmp_path_factory):
    """An empty environment with the wheel in it: its Python, and an environment that hides the clone.

    The other packages are borrowed from this environment: a .pth file shows the new Python their folder, after its
    own. Such a folder's own .pth files, and so an editable install of the clone, are not followed.
    """
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    checked(*pip, wheel, cwd=folder)
    (own,) = (folder / "env").rglob("site-packages")
    borrowed = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (own / "borrowed.pth").write_text("\n".join(borrowed) + "\n", "utf-8")
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return python, environ


def test_the_wheel_holds_package_and_data_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"cotlib", f"cotlib-{PROJECT['version']}.dist-info"}
    files = {
        path.relative_to(ROOT / "data").as_posix() for path in (ROOT / "data").rglob("*") if path.is_file()
    }
    unfinished = ("results/table/", ".partial.jsonl")  # what a table under way leaves, ignored by git
    shipped = {
        name for name in files if not name.startswith(unfinished[0]) and not name.endswith(unfinished[1])
    }
    assert {f"cotlib/_data/{name}" for name in shipped} == {n for n in names if n.startswith("cotlib/_data/")}
    rows = {f"cotlib/_bench/{path.name}" for path in (ROOT / "bench" / "results").iterdir()}
    assert rows == {name for name in names if name.startswith("cotlib/_bench/")}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if "__pycache__" in name or name.endswith(".ipynb")]


def test_the_installed_wheel_draws_a_picture(elsewhere, tmp_path):
    python, environ = elsewhere
    where = "import cotlib, cotlib.assets as a; print(cotlib.__file__); print(a.data_dir())"
    for place in checked(python, "-c", where, cwd=tmp_path, env=environ).split():
        assert Path(place).is_relative_to(python.parents[1].resolve())
    command = [python, "-m", "cotlib", "generate", "a photo of a red dog", "--out", tmp_path / "pictures"]
    checked(*command, cwd=tmp_path, env=environ)
    assert (tmp_path / "pictures" / "result.json").is_file()
    pictures = sorted((tmp_path / "pictures").rglob("*.png"))
    assert pictures and all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    script = python.parent / ("cotlib.exe" if os.name == "nt" else "cotlib")
    assert "generate" in checked(script, "--help", cwd=tmp_path, env=environ)


def test_the_installed_wheel_finds_the_stored_rows(elsewhere, tmp_path):
    """Notebook 10 shows them also where there is no clone."""
    python, environ = elsewhere
    count = "from cotlib.lab.kernel_figures import stored_rows; print(len(stored_rows('kernels.csv')))"
    found = int(checked(python, "-c", count, cwd=tmp_path, env=environ))
    assert found == len(stored_rows("kernels.csv", ROOT / "bench" / "results")) > 0


def test_dependencies_have_lower_bounds_only():
    for line in [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]:
        assert {spec.operator for spec in Requirement(line).specifier} <= {">="}, line


def test_constraints_are_exact_and_satisfy_what_is_asked_for():
    lines = [
        line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if line and line[0] != "#"
    ]
    pins = {}
    for line in lines:
        match = re.fullmatch(r"([\w.-]+)==([\w.]+)", line)
        assert match, line
        pins[canonicalize_name(match[1])] = Version(match[2])
    assert len(pins) == len(lines)
    for line in [*PROJECT["dependencies"], *chain(*EXTRAS.values())]:
        wanted = Requirement(line)
        assert pins[canonicalize_name(wanted.name)] in wanted.specifier, line


def test_environment_yml_names_python_and_leaves_the_rest_to_pyproject():
    text = (ROOT / "environment.yml").read_text("utf-8")
    environment = yaml.safe_load(text)
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    *conda, last = environment["dependencies"]
    extras = re.fullmatch(r"-e \.\[([\w,]+)\]", last["pip"][0])[1]
    assert f'".[{extras}]"' in (ROOT / "course.py").read_text("utf-8")
    assert set(extras.split(",")) <= EXTRAS.keys()
    assert [spec.split()[0] for spec in conda] == ["python", "pip"]
    offered = SpecifierSet(conda[0].split()[1])
    needed = SpecifierSet(PROJECT["requires-python"])
    versions = [Version(f"3.{minor}") for minor in range(8, 30)]
    assert any(version in offered for version in versions)
    assert all(version in needed for version in versions if version in offered)


def test_condas_own_matcher_reads_the_specs():
    rattler = pytest.importorskip("rattler", reason="py-rattler is not installed")
    for spec in yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]:
        if isinstance(spec, str):
            rattler.MatchSpec(spec)


def test_the_small_print_agrees():
    assert "MIT License" in (ROOT / "LICENSE").read_text("utf-8")
    assert "creativecommons.org/licenses/by/4.0" in (ROOT / "LICENSE-docs").read_text("utf-8")
    for name in PROJECT["license-files"]:
        assert (ROOT / name).is_file(), name
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()


def test_continuous_integration_runs_the_test_command():
    script = ROOT / ".ci" / "run"
    assert "course.py test" in script.read_text("utf-8")
    if os.name != "nt":
        assert os.access(script, os.X_OK)
