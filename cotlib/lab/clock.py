"""Minutes a learner spends on a notebook and on each exercise, counted from the cells they run.

A cell's time is the pause since the last cell ended, at most `PAUSE`, and the time it ran. Nothing else is watched, and
where nobody sits at the screen (build, tests) nothing is counted.
"""

from __future__ import annotations

import time

from cotlib.lab import store
from cotlib.lab.environment import headless

PAUSE = 10.0  # minutes; a longer pause is a break, not work


class Clock:
    """Counts for one notebook; the methods are IPython's events before and after a cell."""

    def __init__(self, notebook: str, now=time.monotonic):
        self.notebook, self.now = notebook, now
        self.pause, self.began = 0.0, now()
        self.ended = self.began

    def before_cell(self, info=None) -> None:
        self.began = self.now()
        self.pause = min((self.began - self.ended) / 60, PAUSE)

    def after_cell(self, result=None) -> None:
        store.spend(self.notebook, self.of_this_cell())
        self.ended = self.now()

    def of_this_cell(self) -> float:
        """Minutes of the cell that runs now, the pause before it included."""
        return self.pause + (self.now() - self.began) / 60


_running: Clock | None = None


def start(notebook: str) -> None:
    """Counts this kernel's cells for the notebook, by its number such as "04"; a second call begins anew."""
    global _running
    if headless() or not notebook:
        return
    from IPython import get_ipython

    events = get_ipython().events
    if _running:
        events.unregister("pre_run_cell", _running.before_cell)
        events.unregister("post_run_cell", _running.after_cell)
    _running = Clock(notebook)
    events.register("pre_run_cell", _running.before_cell)
    events.register("post_run_cell", _running.after_cell)


def of_this_cell() -> float:
    """Minutes of the cell that runs now; 0 where nothing is counted."""
    return _running.of_this_cell() if _running else 0.0
