"""A progress bar made of text: no widget state in the saved notebook, one calm line where nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from cotlib.lab.environment import headless


def progress(iterable: Iterable, label: str = "", total: int | None = None) -> Iterator:
    """Yield the items while a bar advances on standard output; in a build or test run only "label: 300 done" at the end.

    total: number of items, needed only for iterables without a length.
    """
    from tqdm import tqdm

    quiet = headless() and not sys.stdout.isatty()
    count = 0
    with tqdm(
        iterable, desc=label, total=total, disable=quiet, file=sys.stdout, mininterval=0.3, ncols=78
    ) as bar:
        for item in bar:
            yield item
            count += 1
    if quiet:
        print(f"{label or 'items'}: {count} done")
