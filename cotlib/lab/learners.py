"""Reading progress files: the learner's own, or those that a class handed in.

A file that comes from somebody else is checked field by field before anything of it is shown; what is no progress file
is named and left out.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cotlib.errors import UserError

LARGEST = 1_000_000  # bytes; a real file has a few thousand
STATES = ("passed", "failed", "not attempted")


@dataclass(frozen=True)
class Learner:
    """One progress file. minutes: by notebook number; predictions, checks: as `cotlib.lab.store` keeps them."""

    name: str
    minutes: dict[str, float]
    predictions: dict[str, dict]
    checks: dict[str, dict]


def read(path: Path) -> Learner:
    """The learner of a file; one without a chosen name is called as the file, or as its folder where the file still has
    the name that the course gave it. UserError for anything else."""
    try:
        large = path.stat().st_size > LARGEST
        record = None if large else json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError("no JSON, perhaps cut short") from error
    if large:
        raise UserError(f"larger than {LARGEST / 1e6:g} MB")
    return understood(record, path.parent.name if path.name == "progress.json" else path.stem)


def understood(record: object, fallback: str = "") -> Learner:
    """The learner of a record; UserError when a part has another form than `cotlib.lab.store` writes."""
    if not isinstance(record, dict) or record.get("version") != 1 or "checks" not in record:
        raise UserError("no progress file of this course")
    parts = {part: record.get(part, {}) for part in ("notebooks", "predictions", "checks")}
    for part, entries in parts.items():
        wrong = not isinstance(entries, dict) or [k for k, e in entries.items() if not FITS[part](e)]
        if wrong:
            where = f"{part}, {wrong[0]!r}" if isinstance(wrong, list) else part
            raise UserError(f"damaged: {where} has not the form that the course writes")
    name = record.get("name", "")
    name = name if isinstance(name, str) and name.strip() else fallback
    minutes = {number: entry["minutes"] for number, entry in parts["notebooks"].items()}
    return Learner(" ".join(name.split())[:40], minutes, parts["predictions"], parts["checks"])


def read_folder(folder: Path) -> tuple[list[Learner], dict[str, str]]:
    """(learners by name, {file: why it was left out}) of all files below a folder, but for hidden ones. UserError when it
    is no folder."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; give the one with your learners' progress files")
    learners, skipped = [], {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name.startswith("."):
            continue
        try:
            learners.append(read(path))
        except UserError as error:
            skipped[str(path.relative_to(folder))] = str(error)
    return sorted(learners, key=_place_of_name), skipped


def _place_of_name(learner: Learner) -> str:
    """Without accents, so that Ärni stands beside Arno."""
    return "".join(
        c for c in unicodedata.normalize("NFKD", learner.name.casefold()) if not unicodedata.combining(c)
    )


def _number(value: object, low: float = float("-inf"), high: float = float("inf")) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _is_time(entry: object) -> bool:
    return isinstance(entry, dict) and _number(entry.get("minutes"), 0, 1e6)


def _is_check(entry: object) -> bool:
    return (
        isinstance(entry, dict) and entry.get("state") in STATES and _number(entry.get("attempts"), 0, 1e6)
        and isinstance(entry.get("hint", ""), str) and _number(entry.get("minutes", 0), 0, 1e6)
    )  # fmt: skip


def _is_prediction(entry: object) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("question"), str):
        return False
    choices, answer = entry.get("choices"), entry.get("answer")
    if choices is not None:
        fits = isinstance(choices, list) and all(isinstance(c, str) for c in choices) and answer in choices
    else:
        ends = [entry.get("low"), entry.get("high")]
        fits = _number(answer) and all(end is None or _number(end) for end in ends)
    points = "points" not in entry or (_number(entry["points"], 0, 1) and "value" in entry)
    return fits and points


FITS: dict[str, Callable[[object], bool]] = {
    "notebooks": _is_time, "predictions": _is_prediction, "checks": _is_check,
}  # fmt: skip
