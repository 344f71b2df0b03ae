"""The published results that the course repeats in miniature: `data/paper_results.csv` as records.

Source of every number: arXiv 2501.13926v2; the column `note` says where the paper's own tables disagree.
"""

import csv

from cotlib.assets import data_dir
from cotlib.world.scenes import TASKS

NUMBERS = (*TASKS, "overall")


def published(group: str | None = None) -> list[dict]:
    """Rows of the table, all or one group's; scores are floats, None where the paper prints none."""
    with (data_dir() / "paper_results.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        row.update({name: float(row[name]) if row[name] else None for name in NUMBERS})
        row["candidates"] = int(row["candidates"])
    return [row for row in rows if group in (None, row["group"])]


def system_name(row: dict) -> str:
    """A row's system in a few words, for example "iterative DPO guided by PARM + PARM"."""
    tuned = row["alignment"] + (f" guided by {row['dpo_guidance']}" if row["dpo_guidance"] else "")
    picked = row["verifier"] + (" with reflection" if row["reflection"] not in ("", "no") else "")
    return " + ".join(part for part in (tuned, picked) if part) or "the generator alone"
