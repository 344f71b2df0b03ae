"""The seconds of a table's rows, taken again side by side: `python -m cotlib table search --retime 40`.

The rows of a table are measured over hours, beside whatever else the machine does, and some of them later than others.
Scores, token passes and calls do not depend on that; seconds do. So they are taken once more: on some of the prompts, by
one core, all rows of a prompt in turn before the next prompt. Whatever slows the machine down then slows all rows down.
"""

import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from cotlib.devices import on_all_cores
from cotlib.errors import UserError
from cotlib.evaluation import versions
from cotlib.resumable import Watch, measure_all
from cotlib.tables import paper
from cotlib.tables.search import Cast, cost_of, seconds_of_search


def retime(
    out: Path, prompts: list[dict], casts: Callable[[str], Cast] = paper.cast, watch: Watch | None = None
) -> dict:
    """Times all rows of the table in `out` (the search strategies', or the paper's) on `prompts` and returns the table.

    Writes {"timed": {"seconds": of all prompts, without the judge's, "prompts": number}} to each row, which `cost_of` then
    goes by, and to the table what was timed and where. Seed 0; the first prompt is drawn once before, for warmth. A stopped
    run goes on. casts: who takes part in the rows of a generator. UserError when there is no such table.
    """
    if not out.is_file():
        raise UserError(f"{out} is not there; measure the table first, then its seconds")
    table = json.loads(out.read_text(encoding="utf-8"))
    rows = rows_of(table)
    n = next(iter(rows["base"].values()))["n"]

    def work(rest: list[dict]) -> Iterator[dict]:
        everybody = {generator: casts(generator) for generator in rows}

        def line(metadata: dict) -> dict:
            return {g: seconds_of(who, metadata, tuple(rows[g]), n) for g, who in everybody.items()}

        yield from islice(on_all_cores(line, [*rest[:1], *rest], threads=1), 1, None)

    def with_seconds(lines: list[dict]) -> dict:
        for generator, entries in rows.items():
            for name, entry in entries.items():
                seconds = sum(line[generator][name] for line in lines)
                entry["timed"] = {"seconds": round(seconds, 3), "prompts": len(lines)}
                if "cost" in entry:
                    entry["cost"]["seconds"] = round(cost_of(entry, name)["seconds"], 3)
        return table | {"timed": {"prompts": len(prompts), "seeds": [0], "versions": versions()}}

    header = json.dumps(
        ["seconds", n, [m["prompt"] for m in prompts], {g: list(names) for g, names in rows.items()}]
    )
    return measure_all(prompts, work, with_seconds, header, out, watch)


def rows_of(table: dict) -> dict[str, dict[str, dict]]:
    """{generator: {search: row}} of either table; the rows are the table's own, to be written to."""
    if "strategies" in table:
        return {"base": table["strategies"]}
    rows: dict[str, dict[str, dict]] = {}
    for row in table["rows"]:
        rows.setdefault(row["generator"], {})[row["search"]] = row
    return rows


def seconds_of(who: Cast, metadata: dict, names: tuple[str, ...], n: int) -> dict[str, float]:
    """{search: seconds of one prompt}, without the judge's."""
    entries = paper.measure_prompt(who, metadata, names, n, seed=0)["strategies"]
    return {name: seconds_of_search(entry["ledger"]) for name, entry in entries.items()}
