"""The paper's tables in miniature: `python -m cotlib table`.

Every system of Table 3 of arXiv 2501.13926v2 (a generator, tuned or not, under a verifier), those of its PARM++ table, and
PARM++ on the tuned generators, on the same held-out prompts and seeds. Rows stand beside the published ones, by name; the
worlds differ, so it is the order that can be compared.

One generator's systems are measured together, seed by seed and prompt by prompt. What is finished stays in a folder beside the
result, under the hashes of all weights concerned: a stopped run goes on, a further seed is added to those measured, and a
generator that was trained anew is measured anew, alone.
"""

import copy
import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cotlib.assets import data_dir
from cotlib.devices import on_all_cores
from cotlib.errors import UserError
from cotlib.evaluation import added, versions
from cotlib.judging.stats import paired_difference
from cotlib.loading import TUNED, VERIFIERS, generator_folder, load
from cotlib.models.checkpoint import weights_hash
from cotlib.resumable import Watch, measure_all
from cotlib.tables import search
from cotlib.tables.published import NUMBERS, published, system_name
from cotlib.tables.search import Cast, about_seconds, close, cost_of, score, strategies, summary

CORRECTOR = "self-correction"  # the generator that was tuned to correct, drawing from the prompt alone
GENERATORS = ("base", *TUNED, CORRECTOR)
CHOSEN_BY = ("single", "orm-zs", "orm", "parm")
SEARCHES = {
    "base": ("single", "orm-zs", "orm", "prm-zs", "prm", "parm", "parm++ silent", "parm++"),
    **dict.fromkeys(TUNED, (*CHOSEN_BY, "parm++")),
    CORRECTOR: ("single", "orm", "parm", "parm++ silent", "parm++ anew", "parm++"),
}
STRATEGY = {"parm++ silent": "parm by parm++"}  # names that differ from those of `tables.search.strategies`
SECOND_LOOKS = 4  # pictures of "single" that the independent judge sees too, a prompt and seed
TUNING = {"base": "", "dpo": "DPO", "dpo-iter": "iterative DPO", "dpo-guided-orm": "iterative DPO guided by ORM",
          "dpo-guided-parm": "iterative DPO guided by PARM", CORRECTOR: "self-correction tuned"}  # fmt: skip
PICKING = {"single": "", "orm-zs": "zero-shot ORM", "orm": "fine-tuned ORM", "prm-zs": "zero-shot PRM", "prm": "fine-tuned PRM",
           "parm": "PARM", "parm++ silent": "PARM++ without reflection", "parm++": "PARM++ with reflection (local edit)",
           "parm++ anew": "PARM++ with reflection (drawn anew)"}  # fmt: skip
PUBLISHED = {  # (generator, search) of the rows that the paper has under another name
    ("base", "parm++ silent"): None, ("base", "parm++"): None, (CORRECTOR, "parm++"): None,
    (CORRECTOR, "parm++ anew"): "PARM++ with reflection", (CORRECTOR, "parm++ silent"): "PARM++",
    (CORRECTOR, "single"): "the generator alone", (CORRECTOR, "orm"): "fine-tuned ORM", (CORRECTOR, "parm"): "PARM",
}  # fmt: skip

System = tuple[str, str]  # (generator, search)
SYSTEMS: tuple[System, ...] = tuple((g, s) for g in GENERATORS for s in SEARCHES[g])


def name_of(system: System) -> str:
    """For example "iterative DPO + PARM"."""
    return (
        " + ".join(part for part in (TUNING[system[0]], PICKING[system[1]]) if part) or "the generator alone"
    )


def published_row(system: System) -> dict | None:
    """The published row of a system (`tables.published`), None where the paper has none.

    Of the two rows that the paper prints for one system, the one that its text agrees with.
    """
    group = "parm++" if system[0] == CORRECTOR else "show-o"
    wanted = PUBLISHED.get(system, name_of(system).replace("guided by ORM", "guided by fine-tuned ORM"))
    rows = [row for row in published(group) if "disagrees with Table 2" not in row["note"]]
    return next((row for row in rows if system_name(row) == wanted), None)


DIFFERENCES: tuple[tuple[System, System], ...] = (
    *(((g, "single"), ("base", "single")) for g in (*TUNED, CORRECTOR)),
    (("dpo-iter", "single"), ("dpo", "single")),
    *(((g, "single"), ("dpo-iter", "single")) for g in ("dpo-guided-orm", "dpo-guided-parm")),
    (("dpo-guided-parm", "single"), ("dpo-guided-orm", "single")),
    (("base", "orm"), ("base", "orm-zs")),
    *(((g, "parm"), (g, "orm")) for g in GENERATORS),
    *(((g, s), ("base", s)) for g in TUNED for s in ("orm-zs", "orm", "parm")),
    (("dpo-guided-orm", "orm"), ("dpo-iter", "orm")),
    (("dpo-guided-parm", "parm"), ("dpo-iter", "parm")),
    *(((g, "parm++"), (g, "parm")) for g in GENERATORS),
    *(((g, "parm++"), (g, "parm++ silent")) for g in ("base", CORRECTOR)),
    ((CORRECTOR, "parm++ anew"), (CORRECTOR, "parm++ silent")),
    ((CORRECTOR, "parm++ anew"), (CORRECTOR, "parm")),
    *(((g, s), ("base", "single")) for g in GENERATORS for s in SEARCHES[g] if s != "single"),
)  # fmt: skip


@dataclass(frozen=True)
class PaperPlan:
    """What is measured: candidates a prompt, seeds, and the generators (with all their systems)."""

    n: int = 20
    seeds: tuple[int, ...] = (0,)
    generators: tuple[str, ...] = GENERATORS

    def __post_init__(self):
        for name in self.generators:
            if name not in GENERATORS:
                raise UserError(
                    f'there is no generator "{name}" in the table; expected {", ".join(GENERATORS)}'
                )


def cast(generator: str, device: str = "cpu") -> Cast:
    """Everybody who takes part in the systems of one generator, as shipped."""
    who = search.cast(device)
    if generator == CORRECTOR:
        return replace(who, model=who.corrections["anew"].corrector)
    return replace(who, model=load("generator", weights=generator, device=device))


def measure_prompt(who: Cast, metadata: dict, searches: tuple[str, ...], n: int, seed: int) -> dict:
    """One prompt's line: for each search the 0/1 scores, those of the second judge, and the ledger."""
    entries: dict = {}
    names = {STRATEGY.get(name, name): name for name in searches}
    for strategy, outcome in strategies(who, metadata, n, seed, tuple(names)):
        score(entries, names[strategy], outcome, who, metadata, SECOND_LOOKS)
    close(entries)
    return {"prompt": metadata["prompt"], "task": metadata["tag"], "strategies": entries}


# ----- all generators ----------------------------------------------------------------------------------------------


def run(prompts: list[dict], plan: PaperPlan, out: Path, watch: Watch | None = None, casts=cast) -> dict:
    """Measures all systems, writes the table to `out` (JSON; beside it CSV and Markdown) and returns it.

    watch: wraps the iterator of lines (lines, done, of) to show progress, once a generator and seed. casts: who takes part in the
    systems of a generator.
    """
    seeds: dict[str, list[list[dict]]] = {generator: [] for generator in plan.generators}
    for seed in plan.seeds:
        for generator in plan.generators:
            part = out.with_suffix("") / f"{generator}-seed{seed}.json"
            header = json.dumps(
                [plan.n, seed, [m["prompt"] for m in prompts], SEARCHES[generator], weights_of(generator)]
            )
            done = _finished(part, header)
            seeds[generator].append(
                done or _measure(part, generator, prompts, plan.n, seed, header, watch, casts)
            )
    parts = {generator: joined(lines) for generator, lines in seeds.items()}
    result = summarise(parts, plan)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    write_forms(result, out)
    return result


def _measure(
    part: Path, generator: str, prompts: list[dict], n: int, seed: int, header: str, watch, casts
) -> list[dict]:
    def work(rest: list[dict]) -> Iterator[dict]:
        who = casts(generator)
        return on_all_cores(lambda m: measure_prompt(who, m, SEARCHES[generator], n, seed), rest)

    return measure_all(prompts, work, lambda lines: {"header": header, "lines": lines}, header, part, watch)[
        "lines"
    ]


def joined(seeds: list[list[dict]]) -> list[dict]:
    """The lines of several seeds as one a prompt: scores one after the other, costs summed."""
    first, *others = copy.deepcopy(seeds)
    for lines in others:
        for line, more in zip(first, lines, strict=True):
            for name, entry in line["strategies"].items():
                further = more["strategies"][name]
                entry["scores"] += further["scores"]
                entry["second"] += further["second"]
                entry["ledger"] = added([entry["ledger"], further["ledger"]])
    return first


def _finished(part: Path, header: str) -> list[dict] | None:
    """Lines of a part that was measured to its end in the same way."""
    if not part.is_file():
        return None
    stored = json.loads(part.read_text(encoding="utf-8"))
    return stored["lines"] if stored["header"] == header else None


def weights_of(generator: str) -> list[str]:
    """Hashes of everything that the systems of a generator depend on."""
    own = data_dir() / "corrector" if generator == CORRECTOR else generator_folder("masked", generator)
    folders = [own, *(data_dir() / name for name in (*VERIFIERS.values(), "corrector", "detector"))]
    return [weights_hash(folder) for folder in folders]


def summarise(parts: dict[str, list[dict]], plan: PaperPlan) -> dict:
    """The table: per system truth with interval, tasks, second judge, cost and the published figures; differences."""
    systems = [system for system in SYSTEMS if system[0] in parts]
    rows = []
    for system in systems:
        entry = summary(parts[system[0]], system[1], plan)
        spent = cost_of(entry, system[1])
        paper = published_row(system)
        rows.append({"generator": system[0], "search": system[1], "name": name_of(system), **entry,
                     "cost": {"token_passes": round(1000 * spent["passes"]), "verifier_calls": round(spent["calls"], 1),
                              "seconds": round(spent["seconds"], 3)},
                     "published": paper and {name: paper[name] for name in NUMBERS}})  # fmt: skip
    differences = {f"{name_of(a)} - {name_of(b)}": [round(v, 4) for v in difference(parts, a, b)]
                   for a, b in DIFFERENCES if a in systems and b in systems}  # fmt: skip
    return {"rows": rows, "differences": differences, "versions": versions()}


def difference(parts: dict[str, list[dict]], a: System, b: System) -> tuple[float, float, float]:
    """(mean, low, high) of the difference in truth between two systems, paired by prompt."""
    means = [[(line["task"], [_mean(line["strategies"][name]["scores"])]) for line in parts[generator]]
             for generator, name in (a, b)]  # fmt: skip
    return paired_difference(*means)


def _mean(scores: list[int]) -> float:
    return sum(scores) / len(scores)


# ----- files -------------------------------------------------------------------------------------------------------

HEADS = ("system", "single object", "two objects", "counting", "colors", "position", "attribution", "overall", "95 %",
         "token passes", "verifier calls", "seconds", "paper")  # fmt: skip


def cells(row: dict) -> list[str]:
    """One row of the table as texts, in the order of `HEADS`."""
    low, high = row["ci95"]
    tasks = [f"{row['tasks'][task]['score']:.2f}" if task in row["tasks"] else "" for task in NUMBERS[:-1]]
    paper = f"{row['published']['overall']:.2f}" if row["published"] else ""
    spent = row["cost"]
    return [row["name"], *tasks, f"{row['overall']:.3f}", f"{low:.3f} to {high:.3f}", f"{spent['token_passes']:,}",
            f"{spent['verifier_calls']:.0f}", f"{spent['seconds']:.2f}", paper]  # fmt: skip


def markdown(result: dict) -> str:
    """The table in Markdown with one line on how it was measured."""
    lines = ["| " + " | ".join(HEADS) + " |", "|---" * len(HEADS) + "|"]
    lines += ["| " + " | ".join(cells(row)) + " |" for row in result["rows"]]
    row = result["rows"][0]
    seeds = len(row["seeds"])
    lines.append(f"\n{row['prompts']} held-out prompts, {seeds} seed{'s' * (seeds > 1)}, N = {row['n']}; interval: bootstrap over prompts; "
                 f"costs a prompt, {about_seconds(result['rows'])}; paper: the published overall score of Show-o's system of that name.")  # fmt: skip
    return "\n".join(lines)


def write_forms(result: dict, out: Path) -> None:
    """The table as CSV and as Markdown, beside the JSON file `out`."""
    write_csv(result, out.with_suffix(".csv"))
    out.with_suffix(".md").write_text(markdown(result) + "\n", encoding="utf-8")


def write_csv(result: dict, file: Path) -> None:
    """All rows with numbers of full length, and the published scores beside them."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["generator", "search", "system", *NUMBERS, "low", "high", "second_judge", "prompts", "seeds", "n",
                         "token_passes", "verifier_calls", "seconds", *(f"paper_{name}" for name in NUMBERS)])  # fmt: skip
        for row in result["rows"]:
            paper = row["published"] or {}
            tasks = [row["tasks"][task]["score"] if task in row["tasks"] else "" for task in NUMBERS[:-1]]
            writer.writerow([row["generator"], row["search"], row["name"], *tasks, row["overall"], *row["ci95"], row["second_judge"],
                             row["prompts"], len(row["seeds"]), row["n"], *row["cost"].values(),
                             *(paper.get(name, "") for name in NUMBERS)])  # fmt: skip


def text(result: dict) -> str:
    """The table in plain text, then the differences."""
    lines = [f"{'system':62s} truth  95 % interval   token passes  verifier calls  seconds  paper"]
    for row in result["rows"]:
        name, *_, overall, interval, passes, calls, seconds, paper = cells(row)
        lines.append(
            f"{name:62s} {overall}  {interval}  {passes:>12s}  {calls:>14s}  {seconds:>7s}  {paper:>5s}"
        )
    for name, (d, low, high) in result["differences"].items():
        lines.append(f"{name:110s} {d:+.3f}  ({low:+.3f} to {high:+.3f})")
    return "\n".join(lines)
