"""Photograph the executed notebooks, so that a person can look at them: one tall picture for each.

    python -m tests.browser.pages --out build/pages [00 06] [--theme light dark] [--width 1280 800] [--slice 1400]
        [--hide-code]

JupyterLab as a reader sees it after Run All, prediction forms open and sliders at their first position. Each notebook
runs once; each theme and width gets a folder, light-1280 and so on. --slice cuts the pictures into pieces of so many
pixels, --hide-code leaves words and outputs only. Printed beside: which cells are wider than the page.
"""

from __future__ import annotations

import argparse
import io
import sys
from itertools import product
from pathlib import Path

from PIL import Image

from cotlib.errors import UserError
from cotlib.lab.run import choose

from .chrome import browser_path
from .lab_page import NotebookPage, open_page
from .server import ROOT, jupyterlab

SCROLLER = ".jp-WindowedPanel-outer"
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
HEIGHT = 1400  # of the window; a page is put together from windows


def photograph(notebook: NotebookPage, theme: str, width: int) -> Image.Image:
    """The whole notebook, from its first to its last cell."""
    page, scroller = notebook.page, notebook.page.locator(SCROLLER).first
    page.set_viewport_size({"width": width, "height": HEIGHT})
    page.mouse.move(0, 0)
    notebook.call("dress", THEMES[theme])
    box = scroller.bounding_box()
    step = scroller.evaluate("(node) => node.clientHeight")
    full = notebook.call("height")
    picture = Image.new("RGB", (round(box["width"]), full))
    for top in range(0, full, step):
        at = scroller.evaluate("(node, top) => { node.scrollTop = top; return node.scrollTop }", top)
        notebook.call("painted")
        window = Image.open(io.BytesIO(page.screenshot(clip={**box, "height": step})))
        picture.paste(window.convert("RGB"), (0, round(at)))
    return picture


def save(picture: Image.Image, path: Path, height: int) -> None:
    """As one PNG, or in slices name-01.png, name-02.png, ... of at most `height` pixels."""
    if not height:
        return picture.save(path)
    for number, top in enumerate(range(0, picture.height, height), 1):
        piece = picture.crop((0, top, picture.width, min(top + height, picture.height)))
        piece.save(path.with_stem(f"{path.stem}-{number:02}"))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.browser.pages", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="beginnings of notebook names, e.g. 00 02; default: all")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--theme", nargs="+", choices=THEMES, default=["light"])
    parser.add_argument("--width", nargs="+", type=int, default=[1280], help="of the window, in pixels")
    parser.add_argument("--slice", type=int, default=0, help="height of the pieces; 0: one picture")
    parser.add_argument("--hide-code", action="store_true", help="only words and outputs")
    options = parser.parse_args(argv)
    try:
        browser_path()
        notebooks = choose(ROOT / "notebooks", options.names)
    except UserError as error:
        print(f"pages: {error}", file=sys.stderr)
        return 2
    from playwright.sync_api import sync_playwright

    problems = []
    with jupyterlab(notebooks) as server, sync_playwright() as playwright:
        for path in notebooks:
            with open_page(playwright, server, path.stem, options.width[0], HEIGHT) as notebook:
                notebook.run_all(use=False)
                print(path.stem, *notebook.problems, sep="\n   ", flush=True)
                problems += notebook.problems
                if options.hide_code:
                    notebook.page.add_style_tag(
                        content=".jp-CodeCell .jp-Cell-inputWrapper { display: none }"
                    )
                for theme, width in product(options.theme, options.width):
                    folder = options.out / f"{theme}-{width}"
                    folder.mkdir(parents=True, exist_ok=True)
                    save(photograph(notebook, theme, width), folder / f"{path.stem}.png", options.slice)
                    for wide in notebook.call("too_wide"):
                        print(f"   {folder.name}, {wide}", flush=True)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
