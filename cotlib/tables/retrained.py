"""What re-training the verifiers on a tuned generator's own paths changes: `python -m cotlib table retrained`.

The shipped verifiers learned from pictures of the base. A generator that was tuned on preferences draws other pictures, so its
table rows have verifiers that are strangers to it. Here they learn further from its own paths, and old and new choose among the
same candidates:

    python -m cotlib train verifier-paths --out build/verifier-paths-dpo --init data/generator-dpo
    python -m cotlib train verifier-orm --out build/verifier-orm-dpo --init data/verifier-orm --data build/verifier-paths-dpo
    python -m cotlib table retrained --generators dpo --verifiers orm=build/verifier-orm-dpo

PARM keeps its thresholds.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cotlib.devices import on_all_cores
from cotlib.errors import UserError
from cotlib.evaluation import versions
from cotlib.judging.stats import paired_difference
from cotlib.loading import generator_folder, load, verifier_folder
from cotlib.models.checkpoint import read_card, weights_hash
from cotlib.resumable import Watch, measure_all
from cotlib.search import orm, parm
from cotlib.search.paths import draw
from cotlib.tables.search import Cast, TablePlan, close, score, summary

SEARCHES = {"orm": orm, "parm": parm}
AGAIN = " re-trained"  # after the search's name


@dataclass(frozen=True)
class Retrained:
    """generator: name of tuned weights; folders: {"orm" or "parm": checkpoint of the verifier that learned from its paths}."""

    generator: str
    folders: Mapping[str, Path]

    def __post_init__(self):
        if not self.folders or not set(self.folders) <= set(SEARCHES):
            raise UserError(f"the verifiers are {', '.join(self.folders) or 'none'}; expected orm, parm or both, each with "
                            "its folder: --verifiers orm=FOLDER,parm=FOLDER")  # fmt: skip


def cast(pair: Retrained) -> Cast:
    """The tuned generator, both judges, and each verifier as shipped and re-trained."""
    verifiers = {name: load("verifier", weights=name) for name in pair.folders}
    verifiers |= {
        name + AGAIN: load("verifier", weights=str(folder)) for name, folder in pair.folders.items()
    }
    model = load("generator", weights=pair.generator)
    return Cast(model, load("judge"), load("judge", kind="template"), verifiers, {})


def measure_prompt(who: Cast, metadata: dict, plan: TablePlan) -> dict:
    """One prompt's line: 0/1 scores by seed and ledger of each search with each verifier, all from the same dice."""
    entries: dict = {}
    for seed in plan.seeds:
        drawn = draw(who.model, [metadata["prompt"]], plan.n, seed)
        for name, verifier in who.verifiers.items():
            search = name.removesuffix(AGAIN)
            shared = {"drawn": drawn} if search == "orm" else {}
            outcome = SEARCHES[search](
                who.model, [metadata["prompt"]], plan.n, seed, verifier=verifier, **shared
            )
            score(entries, name, outcome, who, metadata)
    close(entries)
    return {"prompt": metadata["prompt"], "task": metadata["tag"], "strategies": entries}


def run(prompts: list[dict], pair: Retrained, plan: TablePlan, out: Path, watch: Watch | None = None,
        who: Cast | None = None) -> dict:  # fmt: skip
    """Measures all prompts, writes rows and paired differences to `out` (JSON) and returns them; goes on with a stopped run.

    who: loaded from the folders unless given.
    """
    folders = {
        name: (verifier_folder(name), verifier_folder(str(folder))) for name, folder in pair.folders.items()
    }
    weights = {"generator": weights_hash(generator_folder("masked", pair.generator))}
    weights |= {name: [weights_hash(folder) for folder in both] for name, both in folders.items()}
    header = json.dumps([weights, plan.n, list(plan.seeds), [m["prompt"] for m in prompts]])

    def work(rest: list[dict]) -> Iterator[dict]:
        everybody = who or cast(pair)
        return on_all_cores(lambda m: measure_prompt(everybody, m, plan), rest)

    def summarise(lines: list[dict]) -> dict:
        names = list(lines[0]["strategies"])
        scores = {
            name: [(line["task"], line["strategies"][name]["scores"]) for line in lines] for name in names
        }
        return {
            "generator": pair.generator,
            "strategies": {name: summary(lines, name, plan) for name in names},
            "differences": {f"{name + AGAIN} - {name}": [round(v, 4) for v in paired_difference(scores[name + AGAIN], scores[name])]
                            for name in pair.folders},
            "cards": {name: read_card(both[1]) for name, both in folders.items()},
            "versions": versions(),
        }  # fmt: skip

    return measure_all(prompts, work, summarise, header, out, watch)


def text(result: dict) -> str:
    """Rows and differences in plain text."""
    lines = [f"on {result['generator']}"]
    for name, entry in result["strategies"].items():
        low, high = entry["ci95"]
        lines.append(f"{name:18s} {entry['overall']:.3f}  ({low:.3f} to {high:.3f})")
    for name, (d, low, high) in result["differences"].items():
        lines.append(f"{name:28s} {d:+.3f}  ({low:+.3f} to {high:+.3f})")
    return "\n".join(lines)
