"""Find an installed browser of the Chromium family. Nothing is downloaded; what is missing is said in one sentence."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from cotlib.errors import UserError

VARIABLE = "COTLIB_CHROME"  # the program of a browser at an unusual place
COMMANDS = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome",
    "microsoft-edge", "microsoft-edge-stable", "msedge",
)  # fmt: skip
ON_WINDOWS = (r"Google\Chrome\Application\chrome.exe", r"Chromium\Application\chrome.exe",
              r"Microsoft\Edge\Application\msedge.exe")  # fmt: skip
ON_MAC = ("Google Chrome", "Chromium", "Microsoft Edge")
ON_LINUX = ("/usr/lib/chromium/chromium", "/snap/bin/chromium", "/opt/google/chrome/chrome",
            "/opt/microsoft/msedge/msedge")  # fmt: skip


def browser_path() -> Path:
    """The browser's program. UserError, in one sentence, when it or the package playwright is missing."""
    if importlib.util.find_spec("playwright") is None:
        raise UserError(
            'the package playwright is missing; install it with  python -m pip install "playwright>=1.49"'
        )
    return find_browser(platform.system(), os.environ)


def find_browser(system: str, environ: Mapping[str, str], which: Callable = shutil.which) -> Path:
    """The first of: the one named in COTLIB_CHROME, those on the PATH, those at the system's usual places.

    system: as platform.system() says it, "Windows", "Darwin" or "Linux". Raises UserError when there is none.
    """
    if named := environ.get(VARIABLE):
        if not Path(named).is_file():
            raise UserError(f"{VARIABLE} is {named!r}, which is no file; set it to a browser's program")
        return Path(named)
    for command in COMMANDS:
        if found := which(command):
            return Path(found)
    for place in usual_places(system, environ):
        if place.is_file():
            return place
    raise UserError(
        "no browser found: install Chromium, Chrome or Edge (Debian and Ubuntu: apt install chromium), "
        f"or set {VARIABLE} to the program of one"
    )


def usual_places(system: str, environ: Mapping[str, str]) -> Iterator[Path]:
    """Where installers put browsers."""
    if system == "Windows":
        folders = [environ.get(name) for name in ("ProgramFiles", "ProgramFiles(x86)", "LocalAppData")]
        yield from (Path(folder, name) for folder in folders if folder for name in ON_WINDOWS)
    elif system == "Darwin":
        folders = [Path("/Applications"), Path(environ.get("HOME", "/"), "Applications")]
        yield from (folder / f"{name}.app/Contents/MacOS/{name}" for folder in folders for name in ON_MAC)
    else:
        yield from map(Path, ON_LINUX)


if __name__ == "__main__":  # for course.py: exit code 0 where there is a browser
    try:
        print(find_browser(platform.system(), os.environ))
    except UserError as error:
        raise SystemExit(str(error)) from None
