"""A measurement over many items that can be stopped at any time.

Finished items stand as JSON lines in a file beside the result, under a header that says what is measured; the same
call goes on from there, another one begins anew.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from cotlib.errors import UserError

Watch = Callable[[Iterator[dict], int, int], Iterator[dict]]
"""Wraps the iterator of lines (lines, done, of) to show progress."""


def measure_all(
    items: list, work: Callable[[list], Iterator[dict]], summarise: Callable[[list[dict]], dict], header: str,
    out: Path | str, watch: Watch | None = None,
) -> dict:  # fmt: skip
    """Writes summarise(one line for each item) to `out` as JSON and returns it.

    work: the items that are left to their lines, in order; called once `out` is known to be writable. Raises UserError
    when it is not.
    """
    out = Path(out)
    partial = out.with_suffix(".partial.jsonl")
    lines = finished(partial, header)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        stream = partial.open("a", encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{out} cannot be written ({error.strerror}); give a file in a folder of yours"
        ) from error
    with stream:
        stream.truncate(0)  # what another call or half a line left behind
        for text in (header, *map(json.dumps, lines)):
            stream.write(text + "\n")
        stream.flush()
        fresh = work(items[len(lines) :])
        for line in watch(fresh, len(lines), len(items)) if watch else fresh:
            lines.append(line)
            stream.write(json.dumps(line) + "\n")
            stream.flush()
    result = summarise(lines)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    partial.unlink()
    return result


def finished(partial: Path, header: str) -> list[dict]:
    """Lines of an earlier, stopped call with the same header; a half-written last one is left out."""
    if not partial.is_file():
        return []
    first, *rest = partial.read_text(encoding="utf-8").splitlines() or [""]
    lines = []
    for text in rest if first == header else []:
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines
