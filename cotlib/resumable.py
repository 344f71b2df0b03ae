"""A measurement over many items that can be stopped at any time and shared by several processes.

Finished items stand as JSON lines in files beside the result, one file a process:

    OUT.partial.jsonl, OUT.partial.1.jsonl, ...     a header that says what is measured, then [index, line] a line

The same call goes on from there, with any number of processes; another one begins anew. What is lost when a process is
killed is the item it was working on.
"""

import glob
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from cotlib.files import append, write_whole, writing
from cotlib.several import meet, rank, workers

Watch = Callable[[Iterator[dict], int, int], Iterator[dict]]
"""Wraps the iterator of lines (lines, done, of) to show progress; of: those done and this process's share."""


def measure_all(
    items: list, work: Callable[[list], Iterator[dict]], summarise: Callable[[list[dict]], dict], header: str,
    out: Path | str, watch: Watch | None = None,
) -> dict:  # fmt: skip
    """Writes summarise(one line for each item) to `out` as JSON and returns it.

    work: the items that are left to this process to their lines, in order; called once `out` is known to be writable.
    summarise: called in the main process, with the lines in the order of the items. Raises UserError when nothing can be
    written; finished items are kept then.
    """
    out = Path(out)
    if rank() == 0:
        with writing(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            collect(out, header)
    meet()
    done = finished(part(out, 0), header)
    mine = [index for index in range(len(items)) if index not in done][rank() :: workers()]
    with writing(out):
        stream = part(out, rank()).open("ab", buffering=0)  # no half line waits to be written once more
    with stream:
        if rank():
            append(stream, header, out)
        fresh = work([items[index] for index in mine])
        lines = watch(fresh, len(done), len(done) + len(mine)) if watch else fresh
        for line, index in zip(lines, mine, strict=True):
            append(stream, json.dumps([index, line]), out)
    meet()
    if rank() == 0:
        for file in parts(out):
            done |= finished(file, header)
        result = summarise([done[index] for index in range(len(items))])
        write_whole(out, json.dumps(result, indent=1) + "\n")
        for file in parts(out):
            file.unlink()
    meet()
    return result if rank() == 0 else json.loads(out.read_text(encoding="utf-8"))


def fingerprint(path: Path) -> str:
    """A hash that tells a file or a folder of weights from another: each file's name and size, its first and last MiB."""
    path, digest = Path(path), hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        size = file.stat().st_size
        digest.update(json.dumps([file.relative_to(path).as_posix(), size]).encode())
        with file.open("rb") as stream:
            digest.update(stream.read(2**20))
            stream.seek(max(0, size - 2**20))
            digest.update(stream.read())
    return digest.hexdigest()


def part(out: Path, number: int) -> Path:
    """The file of finished items of process `number`."""
    return out.with_suffix(f".partial.{number}.jsonl" if number else ".partial.jsonl")


def parts(out: Path) -> list[Path]:
    """The files of all processes that there are."""
    mine = part(out, 0)
    return [mine] * mine.is_file() + sorted(mine.parent.glob(f"{glob.escape(out.stem)}.partial.*.jsonl"))


def collect(out: Path, header: str) -> None:
    """Brings what an earlier, stopped call with the same header has finished into the file of process 0. The others'
    files go, and so does what another call or half a line left behind."""
    done: dict[int, dict] = {}
    for file in parts(out):
        done |= finished(file, header)
    text = [header, *(json.dumps([index, done[index]]) for index in sorted(done))]
    write_whole(part(out, 0), "".join(line + "\n" for line in text))
    for file in parts(out):
        if file != part(out, 0):
            file.unlink()


def finished(file: Path, header: str) -> dict[int, dict]:
    """{index: line} of a file with this header; a half-written last line is left out."""
    if not file.is_file():
        return {}
    first, *rest = file.read_text(encoding="utf-8").splitlines() or [""]
    lines = {}
    for text in rest if first == header else []:
        try:
            index, line = json.loads(text)
        except ValueError:
            break
        lines[index] = line
    return lines
