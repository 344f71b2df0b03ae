"""A readable copy of the course: a static web site with figures, formulas and a search, built without network.

    python course.py site                 writes build/site/index.html
    python -m cotlib.lab.site --out DIR

The notebooks are shown with the outputs they are stored with; nothing is executed. Formulas are set by a MathJax that is
copied along, so that the site can be read from a folder or a memory stick. Made with Sphinx, MyST-NB and Furo.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path

from cotlib.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
NEEDS = ("sphinx", "myst_nb", "furo", "sphinx-mathjax-offline")  # modules
IMAGE = re.compile(r"!\[[^\]]*\]\(([^)\s:]+)\)")

CONF = """
project = "Image generation, step by step"
author = "The cotlib contributors"
copyright = author
extensions = ["myst_nb", "sphinx.ext.mathjax", "sphinx-mathjax-offline"]
html_theme = "furo"
html_title = project
html_show_sphinx = False
html_copy_source = False
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
myst_dmath_double_inline = True
mathjax3_config = {"options": {"enableMenu": False}}
html_static_path = ["_static"]
html_css_files = ["course.css"]
suppress_warnings = ["mystnb.unknown_mime_type", "misc.highlighting_failure"]
"""

CSS = """
/* as wide as lines of code, where the window is; the sidebars take 15em each */
@media (min-width: 67em) and (max-width: 82em) { .content { width: min(56em, calc(100vw - 22em)) } }
@media (min-width: 82em) { .content { width: min(56em, calc(100vw - 37em)) } }
.cell_output img { background: #fff; border-radius: 6px; max-width: 100% }
.cell_output pre { font-size: .82rem }
div.cell_output table { font-variant-numeric: tabular-nums }
.sidebar-tree .toctree-l1 > .reference { font-size: .92rem }
"""


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser("course.py site", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "site", help="folder; default build/site"
    )
    options = parser.parse_args(arguments)
    try:
        pages = build(options.out)
    except UserError as error:
        print(f"course.py site: {error}", file=sys.stderr)
        return 2
    print(f"{pages} pages: {options.out / 'index.html'}")
    return 0


def build(out: Path, root: Path = ROOT) -> int:
    """Builds the site into `out` (emptied first, if it is a site) and returns the number of its pages.

    UserError when packages are missing, `out` holds something else, or Sphinx has anything to complain about.
    """
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{', '.join(missing)} not installed; expected: pip install -e '.[site]'")
    if out.is_dir() and any(out.iterdir()) and not (out / "searchindex.js").is_file():
        raise UserError(f"{out} holds other files; give an empty folder with --out")
    shutil.rmtree(out, ignore_errors=True)
    source = out.parent / f"{out.name}-source"
    shutil.rmtree(source, ignore_errors=True)
    write_source(source, root)
    from sphinx.cmd.build import build_main

    if build_main(
        ["-q", "-W", "--keep-going", "-b", "html", "-d", str(source / ".trees"), str(source), str(out)]
    ):
        raise UserError(f"Sphinx has complaints (above) about {source}")
    shutil.rmtree(source)
    return len(list(out.rglob("*.html")))


def write_source(source: Path, root: Path) -> None:
    """The folder that Sphinx reads: notebooks, docs, a front page from the README, settings."""
    (source / "_static").mkdir(parents=True)
    (source / "conf.py").write_text(CONF, encoding="utf-8")
    (source / "_static" / "course.css").write_text(CSS, encoding="utf-8")
    notebooks = sorted(root.glob("notebooks/*.ipynb"))
    for page in notebooks:
        (source / page.name).write_text(
            json.dumps(readable(json.loads(page.read_text("utf-8")))), encoding="utf-8"
        )
    documents = [path for path in sorted(root.glob("docs/*.md"))]
    known = {path.stem for path in (*notebooks, *documents)}
    for path in documents:
        (source / path.name).write_text(linked(path.read_text("utf-8"), known), encoding="utf-8")
    readme = (root / "README.md").read_text("utf-8")
    for picture in [*root.glob("docs/*.png"), *(root / name for name in IMAGE.findall(readme))]:
        shutil.copy(picture, source / picture.name)
    front = linked(readme, known)
    lists = toctree("The course", [path.stem for path in notebooks]) + toctree(
        "More", [path.stem for path in documents]
    )
    (source / "index.md").write_text(f"{front}\n{lists}", encoding="utf-8")


def toctree(caption: str, names: list[str]) -> str:
    lines = "\n".join(names)
    return f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{lines}\n```\n"


def readable(nb: dict) -> dict:
    """A notebook for reading: no set-up cell, a picture's caption once, only kinds of output that a page can show."""
    cells = []
    for cell in nb["cells"]:
        if "setup" in cell["metadata"].get("tags", []):
            continue
        for output in cell.get("outputs", []):
            for kind in [
                kind for kind in output.get("data", {}) if kind.startswith("application/vnd.cotlib")
            ]:
                del output["data"][kind]
        if cell["cell_type"] == "markdown":
            cell = cell | {"source": linked("".join(cell["source"]), None)}
        cells.append(cell)
    return nb | {"cells": cells}


def linked(text: str, known: set[str] | None) -> str:
    """Markdown whose links suit the site: to notebooks and documents as pages, to anything else in the repository as words.

    known: names of the pages; None when only links between notebooks are to be kept as they are.
    """

    def replaced(match: re.Match) -> str:
        words, target = match[1], match[2]
        if target.startswith("#"):  # Jupyter keeps capitals in the names of headings, the site does not
            return f"[{words}]({target.lower()})"
        if re.match(r"[a-z]+:", target):
            return match[0]
        name, _, anchor = target.partition("#")
        path = Path(name)
        if path.suffix in (".ipynb", ".md") and (known is None or path.stem in known):
            return f"[{words}]({path.name}{'#' + anchor.lower() if anchor else ''})"
        if match[0].startswith("!"):
            return f"![{words}]({path.name})"
        return words

    return re.sub(r"!?\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)", replaced, text)


if __name__ == "__main__":
    sys.exit(main())
