"""Which browser is taken, on made-up machines; what is said when there is none."""

import importlib.util
import sys
from pathlib import Path

import pytest

from cotlib.errors import UserError

from . import __main__ as command
from . import chrome
from .visit import why_not_started


def nothing(name):
    return None


def test_the_named_one_comes_first(tmp_path):
    own = tmp_path / "my-browser"
    own.touch()
    environ = {chrome.VARIABLE: str(own)}
    assert chrome.find_browser("Linux", environ, which=lambda name: "/usr/bin/chromium") == own


def test_a_name_that_leads_nowhere_is_said(tmp_path):
    with pytest.raises(UserError, match="COTLIB_CHROME is .*no file"):
        chrome.find_browser(
            "Linux", {chrome.VARIABLE: str(tmp_path / "gone")}, which=lambda name: "/bin/true"
        )


def test_then_the_path():
    found = chrome.find_browser("Linux", {}, which=lambda name: f"/bin/{name}" if "edge" in name else None)
    assert found == Path("/bin/microsoft-edge")


@pytest.mark.parametrize(
    ("system", "variable", "place"),
    [
        ("Windows", "LocalAppData", ("Google", "Chrome", "Application", "chrome.exe")),
        ("Windows", "ProgramFiles(x86)", ("Microsoft", "Edge", "Application", "msedge.exe")),
        ("Darwin", "HOME", ("Applications", "Chromium.app", "Contents", "MacOS", "Chromium")),
    ],
)
def test_then_the_usual_places(tmp_path, monkeypatch, system, variable, place):
    monkeypatch.setattr(chrome, "ON_WINDOWS", tuple(name.replace("\\", "/") for name in chrome.ON_WINDOWS))
    program = tmp_path.joinpath(*place)
    program.parent.mkdir(parents=True)
    program.touch()
    assert chrome.find_browser(system, {variable: str(tmp_path)}, which=nothing) == program


@pytest.mark.parametrize("system", ["Windows", "Darwin", "Linux"])
def test_none_at_all_is_one_sentence_that_names_what_to_install(system, monkeypatch):
    monkeypatch.setattr(chrome, "usual_places", lambda *_: iter([Path("/not/there")]))
    with pytest.raises(UserError, match="install Chromium, Chrome or Edge") as error:
        chrome.find_browser(system, {}, which=nothing)
    assert "\n" not in str(error.value)


def test_the_command_ends_with_2_when_playwright_is_missing(monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "playwright" else find(name)
    )
    monkeypatch.setattr(command.pytest, "main", lambda *_: pytest.fail("must not start"))
    assert command.main([]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and 'pip install "playwright' in said


def test_a_program_that_is_no_browser_is_said_in_one_sentence(monkeypatch):
    pytest.importorskip("playwright")
    monkeypatch.setenv(chrome.VARIABLE, sys.executable)
    reason = why_not_started()
    assert reason.startswith(f"{sys.executable} does not start: ") and "\n" not in reason


def test_the_command_hands_names_and_options_to_pytest(monkeypatch):
    seen = []
    monkeypatch.setattr(command, "browser_path", lambda: Path(sys.executable))
    monkeypatch.setattr(command.pytest, "main", lambda arguments: seen.extend(arguments) or 0)
    monkeypatch.setenv("COTLIB_BROWSER", "")
    assert command.main(["00", "06_parm", "-x"]) == 0
    assert seen[1:] == ["-k", "00 or 06_parm", "-x"]
