"""Writing results: whole or not at all, and what goes wrong is said in one sentence."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cotlib.errors import UserError


def writable_folder(folder: Path | str) -> Path:
    """The folder, made if needed; UserError when nothing can be written there."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # a name of its own, as other processes try it too
            pass
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}); give a folder of yours") from error
    return folder


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Turns what goes wrong with files into a UserError that names `out`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror or error}); finished work is kept; give a file in a folder "
                        "of yours with room for it") from error  # fmt: skip


def append(stream, line: str, out: Path) -> None:
    """Adds a line to an unbuffered binary stream."""
    rest = memoryview(line.encode() + b"\n")
    with writing(out):
        while rest:
            rest = rest[stream.write(rest) :]


def write_whole(out: Path, text: str) -> None:
    """Writes a file that is there whole or not at all."""
    new = out.with_name(out.name + ".new")
    with writing(out):
        try:
            new.write_text(text, encoding="utf-8")
            new.replace(out)
        except OSError:
            new.unlink(missing_ok=True)
            raise
