"""The table of all search strategies on the same prompts: `python -m cotlib table search`.

Everything that can be shared is drawn once: the strategies that choose among finished paths choose among the same
ones, and the forms of PARM++ go on from the same choice of PARM. Each pays for what it would have needed alone, so
ledgers and seconds are those of separate runs. Differences are between paired prompts.

A stopped run goes on where it was: finished prompts stand in a file beside the result. `--only` measures some rows and
leaves the others of the result as they are, if they were measured on the same prompts and seeds.
"""

import copy
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch

from cotlib.assets import data_dir
from cotlib.correcting import ExactReflections
from cotlib.devices import on_all_cores
from cotlib.errors import UserError
from cotlib.evaluation import Row, coverage_curve, total, versions
from cotlib.interfaces import FINAL, Outcome
from cotlib.judging.stats import bootstrap_interval, paired_difference, task_means
from cotlib.loading import load
from cotlib.resumable import Watch, measure_all
from cotlib.search import (
    Ledger,
    correct_chosen,
    decode_all,
    halving,
    logprob,
    oracle,
    orm,
    parm,
    prm,
    redraw,
    single,
)
from cotlib.search.logprob import LOG_P
from cotlib.search.oracle import shown_to_verifier
from cotlib.search.paths import draw, pick

VERIFIERS = ("zero-shot", "orm", "prm", "parm", "parm++")
COUNTS = (1, 2, 4, 8, 12, 16, 20)  # N of the curves
CURVES = {
    "logprob": LOG_P,
    "orm-zs": FINAL,
    "orm": FINAL,
}  # strategies that have one: the score they choose by
REFLECTING = {  # name: (correction, further arguments of `correct_chosen`)
    "parm++": ("local-edit", {"spare": True}),
    "parm++ no second opinion": ("local-edit", {}),
    "parm++ no words": ("local-edit", {"words": False}),
    "parm++ redraw": ("redraw", {}),
    "parm++ redraw if faulty": ("redraw", {"spare": True}),
    "parm++ tuned redraw": ("tuned-redraw", {"spare": True}),
    "parm++ anew": ("anew", {"spare": True}),
    "parm++ anew no words": ("anew", {"spare": True, "words": False}),
    "parm++ upper bound": ("local-edit", {"exact": True}),
}
CORRECTED = {  # the same for a single picture, where there is more to correct
    "one + local edit": ("local-edit", {"spare": True}),
    "one + redraw": ("redraw", {}),
    "one + redraw if faulty": ("redraw", {"spare": True}),
    "one + tuned redraw": ("tuned-redraw", {"spare": True}),
    "one + anew": ("anew", {"spare": True}),
    "one + anew no words": ("anew", {"spare": True, "words": False}),
    "one + upper bound": ("local-edit", {"exact": True}),
}
NAMES = ("single", "logprob", "orm-zs", "orm", "oracle", "prm-zs", "prm", "parm", "halving", "parm by parm++", *REFLECTING,
         "one", *CORRECTED)  # fmt: skip
DIFFERENCES = (
    ("orm-zs", "single"), ("orm-zs", "logprob"), ("logprob", "single"), ("orm", "orm-zs"), ("prm-zs", "single"),
    ("prm", "single"), ("prm", "orm"), ("parm", "orm"), ("halving", "orm"), ("halving", "parm"), ("parm++", "parm"), ("parm++", "parm++ no words"),
    ("parm++", "parm++ no second opinion"), ("parm++", "parm++ redraw"), ("parm++", "parm++ redraw if faulty"),
    ("parm++", "parm++ anew"), ("parm++", "parm++ tuned redraw"), ("parm++ anew", "parm++ redraw if faulty"), ("parm++ anew", "parm++ anew no words"),
    ("one + local edit", "one + redraw"), ("one + local edit", "one + redraw if faulty"), ("one + local edit", "one + anew"),
    ("one + local edit", "one + tuned redraw"), ("one + anew", "one + tuned redraw"),
    ("one + tuned redraw", "one + redraw if faulty"), ("one + anew", "one + redraw if faulty"), ("one + anew", "one + anew no words"),
)  # fmt: skip


@dataclass(frozen=True)
class TablePlan:
    """What is measured: candidates a prompt, seeds, and which strategies (all of them if None)."""

    n: int = 20
    seeds: tuple[int, ...] = (0, 1, 2)
    only: tuple[str, ...] | None = None

    def __post_init__(self):
        for name in self.only or ():
            if name not in NAMES:
                raise UserError(f'there is no "{name}" in the table; expected {", ".join(NAMES)}')


@dataclass
class Cast:
    """Everybody who takes part."""

    model: object
    judge: object
    second: object  # an independent judge
    verifiers: dict
    corrections: dict


def cast(device: str = "cpu") -> Cast:
    """The shipped models."""
    corrections = {
        kind: load("correction", weights=kind, device=device)
        for kind in ("local-edit", "anew", "tuned-redraw")
    }
    verifiers = {name: load("verifier", weights=name, device=device) for name in VERIFIERS}
    return Cast(load("generator", device=device), load("judge"), load("judge", kind="template"), verifiers,
                corrections | {"redraw": redraw})  # fmt: skip


def measure_prompt(who: Cast, metadata: dict, plan: TablePlan) -> dict:
    """One prompt's line: for each strategy the 0/1 scores by seed, those of the second judge, and the ledger; for the
    strategies that choose among finished paths also the scores by N."""
    line: dict = {
        "prompt": metadata["prompt"],
        "task": metadata["tag"],
        "strategies": {},
        "by_n": {},
        "rounds": {},
    }
    for seed in plan.seeds:
        truth = None  # of all drawn pictures, known where "single" is measured
        for name, outcome in strategies(who, metadata, plan.n, seed, plan.only):
            right = score(line["strategies"], name, outcome, who, metadata)
            if name == "single":
                truth = right
            if name in CURVES and truth is not None:
                scores = [path.scores[CURVES[name]][0] for path in outcome.paths[0]]
                curve = line["by_n"].setdefault(name, {str(k): [] for k in COUNTS if k <= plan.n})
                for k in curve:
                    curve[k].append(truth[pick(scores[: int(k)])[0]])
            if outcome.rounds:
                _note_rounds(line["rounds"].setdefault(name, []), who, metadata, outcome)
    close(line["strategies"])
    return line


def score(
    entries: dict, name: str, outcome: Outcome, who: Cast, metadata: dict, second: int = 0
) -> list[int]:
    """Adds 0/1 scores and cost of an outcome to the entry of its strategy, and returns the scores.

    Of "single" all drawn pictures are scored, by the second judge the first `second` of them; of the others the chosen one.
    """
    images, few = outcome.images, None
    if name == "single":
        images, few = decode_all(who.model, outcome)[0], second
    entry = entries.setdefault(name, {"scores": [], "second": [], "ledger": Ledger()})
    right = [int(v.correct) for v in who.judge([metadata] * len(images), images)]
    entry["scores"] += right
    entry["second"] += [int(v.correct) for v in who.second([metadata] * len(images[:few]), images[:few])]
    entry["ledger"].add(outcome.ledger)
    return right


def close(entries: dict) -> None:
    """Ledgers to their plain form, for JSON."""
    for entry in entries.values():
        entry["ledger"] = entry["ledger"].as_dict()


def _note_rounds(histories: list, who: Cast, metadata: dict, outcome: Outcome) -> None:
    """Appends whether the chosen picture and each of its corrections is right, by the judge."""
    codes = torch.stack([r.codes for r in outcome.rounds[0]])
    verdicts = who.judge([metadata] * len(codes), who.model.decode(codes))
    histories.append([int(v.correct) for v in verdicts])


def strategies(
    who: Cast, metadata: dict, n: int, seed: int, only: tuple[str, ...] | None = None
) -> Iterator[tuple[str, Outcome]]:
    """(name, outcome) of every strategy for one prompt, or of those named; see the module about what they share."""
    model, prompts, verifiers = who.model, [metadata["prompt"]], who.verifiers

    def wanted(*names: str) -> bool:
        return only is None or not set(names).isdisjoint(only)

    shared = {
        "single": single,
        "logprob": logprob,
        "orm-zs": partial(orm, verifier=verifiers["zero-shot"]),
        "orm": partial(orm, verifier=verifiers["orm"]),
        "oracle": partial(oracle, judge=who.judge, metadatas=[metadata]),
    }
    if wanted(*shared):
        drawn = draw(model, prompts, n, seed)
        for name in filter(wanted, shared):
            yield name, shared[name](model, prompts, n, seed, drawn=drawn)
    alone = {
        "prm-zs": partial(prm, n=n, verifier=verifiers["zero-shot"], question=FINAL),
        "prm": partial(prm, n=n, verifier=verifiers["prm"]),
        "parm": partial(parm, n=n, verifier=verifiers["parm"]),
        "halving": partial(halving, n=n, verifier=verifiers["parm"]),
        "parm by parm++": partial(parm, n=n, verifier=verifiers["parm++"]),
        "one": partial(single, n=1),
    }
    forms = {"parm by parm++": REFLECTING, "one": CORRECTED}
    for name, strategy in alone.items():
        after = forms.get(name, {})
        if not wanted(name, *after):
            continue
        outcome = strategy(model, prompts, seed=seed)
        if wanted(name):
            yield name, outcome
        for form, (correction, options) in after.items():
            if wanted(form):
                start = replace(outcome, ledger=copy.deepcopy(outcome.ledger))
                yield form, reflect_on(who, prompts, start, seed, correction, **options)


def reflect_on(
    who: Cast, prompts: list[str], outcome: Outcome, seed: int, correction: str, spare: bool = False,
    exact: bool = False, words: bool = True,
) -> Outcome:  # fmt: skip
    """Reflection from an outcome on. spare: the verifier's eye must find a fault too; exact: the judge reflects."""
    verifier = who.verifiers["parm++"]
    speaker = ExactReflections(who.judge, verifier) if exact else verifier
    return correct_chosen(who.model, prompts, outcome, seed, verifier=speaker, correct=who.corrections[correction],
                          words=words, also_faulty=verifier.faulty if spare else None)  # fmt: skip


def by_turns(prompts: list[dict]) -> list[dict]:
    """The same prompts with the tasks mixed evenly, so that the beginning of a run is a fair sample of all of it."""
    total, turn, places = Counter(m["tag"] for m in prompts), Counter(), []
    for index, metadata in enumerate(prompts):
        turn[metadata["tag"]] += 1
        places.append((turn[metadata["tag"]] / total[metadata["tag"]], index))
    return [prompts[index] for _, index in sorted(places)]


# ----- all prompts -------------------------------------------------------------------------------------------------


def run(prompts: list[dict], plan: TablePlan, out: Path, who: Cast | None = None,
        watch: Watch | None = None) -> dict:  # fmt: skip
    """Measures all prompts, writes the table to `out` (JSON) and returns it; goes on with a run that was stopped.

    who: the shipped models unless given. watch: wraps the iterator of lines (lines, done, of) to show progress. Where only
    some rows are measured, the others that `out` holds stay. UserError when those belong to other prompts or seeds.
    """
    before = _kept(out, prompts, plan)
    header = json.dumps({"plan": asdict(plan) | {"seeds": list(plan.seeds)}, "prompts": [m["prompt"] for m in prompts],
                         "strategies": NAMES})  # fmt: skip

    def work(rest: list[dict]) -> Iterator[dict]:
        everybody = who or cast()
        return on_all_cores(lambda m: measure_prompt(everybody, m, plan), rest)

    return measure_all(
        prompts, work, lambda lines: merged(before, summarise(lines, plan)), header, out, watch
    )


def _kept(out: Path, prompts: list[dict], plan: TablePlan) -> dict | None:
    """The table in `out` whose other rows are kept, None where all rows are measured or none is there."""
    if plan.only is None or not out.is_file():
        return None
    before = json.loads(out.read_text(encoding="utf-8"))
    row = next(iter(before["strategies"].values()))
    found, wanted = (row["prompts"], row["n"], row["seeds"]), (len(prompts), plan.n, list(plan.seeds))
    if found != wanted:
        raise UserError(f"{out} holds rows of {found[0]} prompts, N = {found[1]}, seeds {found[2]}; the new rows would have {wanted[0]}, "
                        f"{wanted[1]}, {wanted[2]}; measure the same, or give another file")  # fmt: skip
    return before


def merged(before: dict | None, new: dict) -> dict:
    """A table with the new rows, curves and differences in the place of the old ones, in the order of `NAMES`."""
    if before is None:
        return new
    rows = before["strategies"] | new["strategies"]
    wanted = [f"{a} - {b}" for a, b in DIFFERENCES]
    differences = before["differences"] | new["differences"]
    return {
        "strategies": {name: rows[name] for name in NAMES if name in rows},
        "differences": {name: differences[name] for name in wanted if name in differences},
        **{key: before[key] | new[key] for key in ("by_n", "rounds")},
        "versions": new["versions"],
    }


def summarise(lines: list[dict], plan: TablePlan) -> dict:
    """The table: per strategy truth with interval, tasks, the second judge, ledger; curves by N; paired differences."""
    names = list(lines[0]["strategies"])
    scores = {name: [(line["task"], line["strategies"][name]["scores"]) for line in lines] for name in names}
    table = {}
    for name in names:
        table[name] = summary(lines, name, plan)
    curves = {}
    for name in lines[0]["by_n"]:
        curves[name] = {}
        for k in lines[0]["by_n"][name]:
            values = bootstrap_interval([(line["task"], line["by_n"][name][k]) for line in lines])
            curves[name][k] = [round(v, 4) for v in values]
    differences = {f"{a} - {b}": [round(v, 4) for v in paired_difference(scores[a], _as_many(scores[b], scores[a]))]
                   for a, b in DIFFERENCES if a in names and b in names}  # fmt: skip
    return {"strategies": table, "differences": differences, "by_n": curves, "rounds": rounds_of(lines),
            "versions": versions()}  # fmt: skip


def summary(lines: list[dict], name: str, plan: TablePlan) -> dict:
    """One strategy over all prompts: truth with interval, tasks, the second judge, ledger; of "single" the coverage too."""
    scores = [(line["task"], line["strategies"][name]["scores"]) for line in lines]
    second = [(line["task"], line["strategies"][name]["second"]) for line in lines]
    rows = [Row(line["prompt"], line["task"], line["strategies"][name]["scores"], line["strategies"][name]["ledger"])
            for line in lines]  # fmt: skip
    overall, low, high = bootstrap_interval(scores)
    entry = {
        "overall": round(overall, 4), "ci95": [round(low, 4), round(high, 4)],
        "tasks": {t: {"score": round(m, 4), "count": c} for t, (m, c) in task_means(scores).items()},
        "second_judge": round(bootstrap_interval(second, repeats=1)[0], 4) if second[0][1] else None,
        "prompts": len(lines), "n": plan.n, "seeds": list(plan.seeds), "ledger": total(rows),
    }  # fmt: skip
    return entry | ({"coverage": coverage_curve(rows)} if name == "single" else {})


def cost_of(entry: Mapping, name: str = "") -> dict[str, float]:
    """{"seconds", "passes", "calls"} for one picture handed over, from a strategy's entry in a table.

    entry: {"ledger": as `Ledger.as_dict`, "prompts": int, "seeds": int or list, "n": int}; the seconds of "timed" where
    `tables.timing` has taken them. Seconds are those of one core, without the judge's; passes are thousands. Of "single"
    all n pictures are handed over, so the cost is shared by n (they also share the first round, a picture alone is a
    little dearer).
    """
    ledger, seeds = entry["ledger"], entry["seeds"]
    handed_over = entry.get("n", 1) if name == "single" else 1
    drawn = entry["prompts"] * (seeds if isinstance(seeds, int) else len(seeds))
    timed = entry.get("timed") or {"seconds": seconds_of_search(ledger), "prompts": drawn}
    return {"seconds": timed["seconds"] / timed["prompts"] / handed_over,
            "passes": ledger["generator_token_passes"] / drawn / handed_over / 1000,
            "calls": shown_to_verifier(ledger["verifier_calls"]) / drawn / handed_over}  # fmt: skip


def seconds_of_search(ledger: Mapping) -> float:
    """Seconds of a ledger in its plain form without the judge's: it scores, and takes no part in a search."""
    return ledger["seconds"] - ledger.get("seconds_by", {}).get("judge", 0.0)


def about_seconds(rows: Iterable[Mapping]) -> str:
    """How the seconds of a table's rows were taken, for the line below it."""
    timed = {row["timed"]["prompts"] if "timed" in row else None for row in rows}
    if len(timed) > 1 or None in timed:
        return "seconds of one core"
    return f"seconds of one core, all rows side by side on {timed.pop()} of the prompts"


def _as_many(rows: list, like: list) -> list:
    """Rows reduced to their means where the other table has fewer pictures a prompt (single: all n are judged)."""
    return [(task, [sum(s) / len(s)] * len(other)) for (task, s), (_, other) in zip(rows, like, strict=True)]


def rounds_of(lines: list[dict]) -> dict[str, list[dict]]:
    """For each form of PARM++ and each round: pictures corrected, of these wrong ones fixed and right ones broken."""
    result = {}
    for name in lines[0]["rounds"]:
        histories = [history for line in lines for history in line["rounds"][name]]
        steps = []
        for r in range(1, max(map(len, histories))):
            pairs = [(h[r - 1], h[r]) for h in histories if len(h) > r]
            steps.append({"corrected": len(pairs), "fixed": sum(a < b for a, b in pairs),
                          "broken": sum(a > b for a, b in pairs)})  # fmt: skip
        result[name] = steps
    return result


def text(result: dict) -> str:
    """The table in plain text: truth with its interval, token passes, verifier calls and seconds a prompt; differences."""
    lines = [f"{'strategy':26s} truth  95 % interval   token passes  verifier calls  seconds   (a prompt)"]
    for name, entry in result["strategies"].items():
        spent, (low, high) = cost_of(entry, name), entry["ci95"]
        lines.append(
            f"{name:26s} {entry['overall']:.3f}  {low:.3f} to {high:.3f}  {1000 * spent['passes']:12,.0f}  {spent['calls']:14.1f}  {spent['seconds']:7.3f}"
        )
    for name, (d, low, high) in result["differences"].items():
        lines.append(f"{name:50s} {d:+.3f}  ({low:+.3f} to {high:+.3f})")
    return "\n".join(lines)


def stored(name: str = "search") -> dict:
    """A table that ships in `data/results`; UserError when it does not."""
    file = data_dir() / "results" / f"{name}.json"
    command = " search" if name == "search" else ""
    if not file.is_file():
        raise UserError(f"{file} is not there; make it with `python -m cotlib table{command} --json {file}`")
    return json.loads(file.read_text(encoding="utf-8"))
