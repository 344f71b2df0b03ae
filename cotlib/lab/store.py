"""One learner's progress: a small JSON file with predictions, check results and minutes. It never stops a lesson.

Place: the environment variable COTLIB_PROGRESS, else .cotlib/progress.json in the home folder. Where the file cannot
be written, progress lives in memory until the kernel stops; a damaged file is kept aside and a new one begun.

    {"version": 1, "name": "Ada",
     "notebooks": {"02": {"minutes": 31.5, "when"}},
     "predictions": {"00-pass-rate": {"question", "answer", "low", "high" | "choices", "value", "points", "when"}},
     "checks": {"masked_count": {"state": "passed", "attempts": 3, "hint", "minutes": 8.2, "when"}}}
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path

_alone = threading.RLock()  # JupyterLab's kernel answers a widget in one thread while a cell runs in another
_memory: dict[str, dict] = {}  # by path: what could not be written


def progress_path() -> Path:
    """Where the progress file is, or would be."""
    if place := os.environ.get("COTLIB_PROGRESS"):
        return Path(place)
    try:
        return Path.home() / ".cotlib" / "progress.json"
    except RuntimeError:  # no home folder
        return Path(tempfile.gettempdir()) / "cotlib-progress.json"


def load() -> dict:
    """The whole record; empty when there is none yet."""
    path = progress_path()
    if str(path) in _memory:
        return _memory[str(path)]
    record = _read(path)
    empty = {"version": 1, "name": "", "notebooks": {}, "predictions": {}, "checks": {}}
    return empty | (record if isinstance(record, dict) else {})


def put(part: str, key: str, entry: dict) -> None:
    """Store `entry` under record[part][key], with the time (UTC, to the second)."""
    with _alone:
        record = load()
        record[part][key] = entry | {"when": datetime.now(UTC).isoformat(timespec="seconds")}
        _write(record)


def spend(notebook: str, minutes: float) -> None:
    """Adds minutes to a notebook, named by its number."""
    with _alone:
        before = get("notebooks", notebook).get("minutes", 0.0)
        put("notebooks", notebook, {"minutes": round(before + minutes, 3)})


def call_me(name: str) -> None:
    """Keeps the name that a learner chose, on one line and at most 40 characters; "" takes it away."""
    with _alone:
        _write(load() | {"name": " ".join(name.split())[:40]})


def _write(record: dict) -> None:
    path = progress_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f"{path.name}.{os.getpid()}")
        beside.write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8")
        os.replace(beside, path)
        _memory.pop(str(path), None)
    except OSError:
        _memory[str(path)] = record


def get(part: str, key: str) -> dict:
    """The entry, or an empty dictionary."""
    return dict(load()[part].get(key, {}))


def _read(path: Path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError:
        return {}
    except ValueError:
        try:
            os.replace(path, path.with_name(path.name + ".damaged"))
        except OSError:
            pass
        return {}
