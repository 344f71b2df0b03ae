"""Measuring a strategy on a list of prompts: truth by the judge, an interval over prompts, and the cost.

`evaluate` can be stopped at any time: finished prompts stand in a file beside the result, and the same call goes on
from there. Prompts are worked on by several threads with one core each, which on small models is faster than several cores
on one prompt; results do not depend on it, because every path owns its randomness.
"""

import json
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from cotlib.devices import on_all_cores
from cotlib.errors import UserError
from cotlib.interfaces import Verifier
from cotlib.judging.stats import bootstrap_interval, coverage, task_means
from cotlib.loading import load
from cotlib.resumable import Watch, measure_all
from cotlib.search import STRATEGIES, Ledger, decode_all
from cotlib.search.parm_plus_plus import Correct


@dataclass(frozen=True)
class Plan:
    """What is measured; its text form tells whether a half-finished result belongs to the same call."""

    strategy: str = "single"
    n: int = 1  # pictures a prompt and seed
    seeds: tuple[int, ...] = (0,)
    steps: int | None = None
    guidance: float | None = None
    model: str = "pictogram"
    weights: str = "base"
    order: str = "masked"
    judge: str = "detector"

    def __post_init__(self):
        if self.strategy not in STRATEGIES:
            raise UserError(
                f'there is no strategy "{self.strategy}"; expected one of {", ".join(STRATEGIES)}'
            )
        if self.n < 1:
            raise UserError(f"n is {self.n}; expected a whole number of at least 1")


@dataclass
class Row:
    """One prompt's result: task, 0/1 for each judged picture (all seeds), and what it cost."""

    prompt: str
    task: str
    scores: list[int]
    ledger: dict


@dataclass(frozen=True)
class Staff:
    """Who a strategy may ask besides the judge; None where it asks nobody (`staff` knows what each needs)."""

    verifier: Verifier | None = None
    correction: Correct | None = None


NOBODY = Staff()


def staff(strategy: str, device: str = "cpu") -> Staff:
    """The shipped models that a strategy needs."""
    entry = STRATEGIES[strategy]
    return Staff(entry.verifier and load("verifier", weights=entry.verifier, device=device),
                 load("correction", weights="local-edit", device=device) if entry.corrects else None)  # fmt: skip


def helpers(plan: Plan, who: Staff, judge, metadatas: list[dict]) -> dict:
    """The keyword arguments that the plan's strategy takes."""
    entry = STRATEGIES[plan.strategy]
    options = {"steps": plan.steps, "guidance": plan.guidance}
    if entry.verifier:
        options["verifier"] = who.verifier
    if entry.corrects:
        options |= {"correct": who.correction, "also_faulty": who.verifier.faulty}
    if entry.judge:
        options |= {"judge": judge, "metadatas": metadatas}
    return options


def measure_prompt(model, judge, metadata: dict, plan: Plan, who: Staff = NOBODY) -> Row:
    """Runs the strategy once per seed. With `single` every drawn picture is judged, else the chosen ones."""
    ledger, scores = Ledger(), []
    options = helpers(plan, who, judge, [metadata])
    for seed in plan.seeds:
        outcome = STRATEGIES[plan.strategy](model, [metadata["prompt"]], plan.n, seed, ledger, **options)
        images = decode_all(model, outcome)[0] if plan.strategy == "single" else outcome.images
        scores += [int(v.correct) for v in judge([metadata] * len(images), images)]
    return Row(metadata["prompt"], metadata["tag"], scores, ledger.as_dict())


def measure(
    model, judge, prompts: list[dict], plan: Plan, threads: int | None = None, who: Staff = NOBODY
) -> Iterator[Row]:
    """Yields a `Row` per prompt, in order; `threads` prompts are worked on at once (default: one per core)."""
    return on_all_cores(lambda metadata: measure_prompt(model, judge, metadata, plan, who), prompts, threads)


def summarise(rows: list[Row], plan: Plan) -> dict:
    """The result as one JSON object: overall, 95 % interval, tasks, coverage, ledger, versions."""
    table = [(r.task, r.scores) for r in rows]
    overall, low, high = bootstrap_interval(table)
    result = {
        "overall": round(overall, 4),
        "ci95": [round(low, 4), round(high, 4)],
        "tasks": {t: {"score": round(mean, 4), "count": count} for t, (mean, count) in task_means(table).items()},
        "strategy": plan.strategy, "n": plan.n, "prompts": len(rows), "seeds": list(plan.seeds),
        "model": plan.model, "weights": plan.weights, "order": plan.order, "judge": plan.judge,
        "steps": plan.steps, "guidance": plan.guidance,
        "ledger": total(rows), "versions": versions(),
    }  # fmt: skip
    if plan.strategy == "single":
        result["coverage"] = coverage_curve(rows)
    return result


def coverage_curve(rows: list[Row], ks: tuple[int, ...] = (1, 2, 4, 8, 16, 20)) -> dict[str, float]:
    """Mean over the tasks of the chance that k pictures hold a right one, for each k up to the pictures drawn."""
    n = min(len(r.scores) for r in rows)
    curve = {}
    for k in (k for k in ks if k <= n):
        table = [(r.task, [coverage(sum(r.scores), len(r.scores), k)]) for r in rows]
        means = task_means(table)
        curve[str(k)] = round(sum(m for m, _ in means.values()) / len(means), 4)
    return curve


def total(rows: list[Row]) -> dict:
    """Sum of the rows' ledgers. Seconds are summed over threads, so they are seconds of one core."""
    return added([row.ledger for row in rows])


def added(ledgers: list[dict]) -> dict:
    """Sum of ledgers in their plain form (`Ledger.as_dict`)."""
    ledger = Ledger()
    for plain in ledgers:
        ledger.add(Ledger(**plain))
    return ledger.as_dict()


def evaluate(model, judge, prompts: list[dict], plan: Plan, out: Path | str,
             watch: Watch | None = None, who: Staff = NOBODY) -> dict:  # fmt: skip
    """Measures all prompts, writes the JSON object to `out` and returns it; resumes a call that was stopped.

    watch: wraps the iterator of rows in plain form (rows, done, of) to show progress. Raises UserError when `out`
    cannot be written.
    """
    header = json.dumps(
        {"plan": vars(plan) | {"seeds": list(plan.seeds)}, "prompts": [m["prompt"] for m in prompts]}
    )
    return measure_all(
        prompts,
        lambda rest: map(vars, measure(model, judge, rest, plan, who=who)),
        lambda lines: summarise([Row(**line) for line in lines], plan),
        header,
        out,
        watch,
    )


def versions() -> dict[str, str]:
    """Versions a result depends on."""
    from cotlib import __version__

    return {"cotlib": __version__, "python": platform.python_version(), "torch": torch.__version__}
