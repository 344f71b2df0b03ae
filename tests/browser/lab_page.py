"""A notebook open in JupyterLab: run its cells one after the other as a reader does, and note all that goes wrong.

    with sync_playwright() as playwright, open_page(playwright, server, "00_welcome") as page:
        page.run_all()
        page.problems            # [] when all is well

What counts as wrong: an error or a warning in a cell's output, an exception in a widget's callback, a message that
the page writes to the browser's console as an error, an exception in the page, a picture or formula that cannot be
shown, a request to any other host, a control that does nothing, a message or question of JupyterLab itself.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from .chrome import browser_path
from .hands import use_widgets
from .server import Server

SCRIPT = Path(__file__).with_name("page.js")
LONGEST_CELL = 300  # seconds; as in cotlib.lab.run
FLAGS = ["--no-first-run", "--disable-component-update", "--disable-gpu"]
FLAGS += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]  # other hosts cannot be reached

# Errors on the console that are none of ours: pattern, and why.
ALLOWED_ON_CONSOLE: dict[str, str] = {}


class NotebookPage:
    """One notebook in one tab. problems: sentences; done: what was used, by kind; spent: seconds on what."""

    def __init__(self, page, server: Server, name: str):
        self.page, self.server, self.name = page, server, name
        self.problems: list[str] = []
        kinds = ("cells", "sliders", "lists", "numbers", "boxes", "players", "buttons", "predictions")
        self.done = dict.fromkeys(kinds, 0)
        self.progress = server.folder / f"progress-{name}.json"  # of this notebook alone: two run at once
        self.spent = dict.fromkeys(("opening", "cells", "widgets"), 0.0)  # seconds
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(f"exception in the page: {error}"))
        page.on("request", lambda request: self._request(request.url))
        page.on("websocket", lambda socket: self._request(socket.url))

    def call(self, function: str, *arguments):
        """A function of page.js."""
        return self.page.evaluate(f"([...given]) => window.course.{function}(...given)", list(arguments))

    def open(self) -> None:
        """Load the page, wait for the kernel."""
        self.page.goto(self.server.page(self.name), wait_until="domcontentloaded")
        self.page.wait_for_function("window.course.ready()", polling=100, timeout=90_000)
        place = json.dumps(str(self.progress))
        self.call("tell", f"import os; os.environ['COTLIB_PROGRESS'] = {place}")

    def run_all(self, use=True) -> None:
        """Every code cell in order; where one shows widgets, use them before going on, unless `use` is False.

        Stops at the first cell with an error, as its followers would only fail too.
        """
        self._timed("opening", self.open)
        said = []
        sources = self.call("sources")
        for index, source in enumerate(sources):
            if not (source or "").strip():
                continue
            if not self._timed("cells", self._run, index):
                break
            said += self.call("messages")
            if use and self.call("widgets", index):
                self._timed("widgets", self._use, index)
        else:
            self._check_predictions()
        self.problems += [f"JupyterLab says: {message}" for message in dict.fromkeys(said)]
        for index, source in enumerate(sources):
            if source is None:  # words last: formulas are set a while after the page is there
                self._note(index, self.call("misprints", index))

    def _timed(self, what: str, act, *arguments):
        start = time.perf_counter()
        try:
            return act(*arguments)
        finally:
            self.spent[what] += time.perf_counter() - start

    def _run(self, index: int) -> bool:
        """Run a cell and note what is wrong with it; whether the notebook can go on."""
        from playwright.sync_api import TimeoutError as Late

        self.call("run", index)
        try:
            end = self.page.wait_for_function(
                "(index) => window.course.finished(index)", arg=index, polling=50, timeout=1000 * LONGEST_CELL
            ).json_value()
        except Late:
            self._note(index, [f"still running after {LONGEST_CELL} s, or its widget is not shown"])
            return False
        self._note(index, self.call("faults", index))
        if end == "done":
            self.done["cells"] += 1
        elif end != "raised":
            self._note(index, [f"JupyterLab asks: {end}"])
        return end == "done"

    def _use(self, index: int) -> None:
        cell = self.page.locator(".jp-Notebook .jp-Cell").nth(index)
        cell.scroll_into_view_if_needed()
        problems = use_widgets(self, cell, index)
        heard = self.page.evaluate("window.course.outside.splice(0)")
        problems += [f"exception in a widget's callback: {error}" for error in heard]
        self._note(index, problems)

    def _check_predictions(self) -> None:
        """Each answer given in a form must come back where the lesson reveals what was measured."""
        record = json.loads(self.progress.read_text("utf-8")) if self.progress.exists() else {}
        kept = record.get("predictions", {}).values()
        if len(kept) != self.done["predictions"]:
            self.problems.append(f"{self.done['predictions']} predictions given, {len(kept)} kept")
        self.problems += [f"never revealed: {e['question']}" for e in kept if "points" not in e]

    def _note(self, index: int, problems: Sequence[str]) -> None:
        self.problems += [f"cell {index + 1}: {problem}" for problem in problems]

    def _console(self, message) -> None:
        if message.type == "error" and not any(re.search(p, message.text) for p in ALLOWED_ON_CONSOLE):
            self.problems.append(f"console error: {message.text[:300]}")

    def _request(self, url: str) -> None:
        """Note an address that does not belong to this machine."""
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob", "about") and parts.hostname != "127.0.0.1":
            self.problems.append(f"request to another host: {url[:200]}")


@contextmanager
def open_page(
    playwright, server: Server, name: str, width: int = 1280, height: int = 900
) -> Iterator[NotebookPage]:
    """A browser of its own with one tab, which cannot reach other hosts."""
    browser = playwright.chromium.launch(executable_path=browser_path(), args=FLAGS)
    try:
        context = browser.new_context(viewport={"width": width, "height": height})
        context.add_init_script(path=SCRIPT)
        notebook = NotebookPage(context.new_page(), server, name)
        yield notebook
        notebook.call("leave")
    finally:
        browser.close()
