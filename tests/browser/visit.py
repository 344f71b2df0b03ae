"""Visit many notebooks: one server, two browsers at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from .chrome import browser_path
from .lab_page import FLAGS, NotebookPage, open_page
from .server import Server, jupyterlab

AT_ONCE = 2  # on two cores a third one gains nothing


def why_not_started() -> str:
    """Start the browser and end it again; in a sentence why that failed, "" when it did not."""
    from playwright.sync_api import Error, sync_playwright

    try:
        with sync_playwright() as playwright:
            playwright.chromium.launch(executable_path=browser_path(), args=FLAGS).close()
    except Error as error:
        return f"{browser_path()} does not start: {str(error).splitlines()[0]}"
    return ""


@contextmanager
def visits(notebooks: Sequence[Path]) -> Iterator[tuple[Server, dict[str, Future]]]:
    """Start to visit the notebooks, in this order; yields the server and a future NotebookPage for each name."""
    threads = max(1, (os.cpu_count() or 1) // AT_ONCE)
    with jupyterlab(notebooks, threads=threads) as server, ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            yield server, {path.stem: pool.submit(visit, server, path.stem) for path in notebooks}
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def visit(server: Server, name: str) -> NotebookPage:
    """Run one notebook to its end; what was found is in the result."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, open_page(playwright, server, name) as notebook:
        notebook.run_all()
    return notebook
