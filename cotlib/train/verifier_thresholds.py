"""Choosing PARM's thresholds: on development prompts, once, after training.

    python -m cotlib train verifier-thresholds --out data/verifier-parm

All paths are drawn to their ends and asked everything at every step; then PARM is played through on the records for
each pair of thresholds. The rule, fixed beforehand: of the pairs that spend at most `MOST_PASSES` of best-of-N's token
passes, the one whose choices are right most often; of equal ones the cheapest. The whole table goes onto the card.
"""

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch

from cotlib.devices import on_all_cores
from cotlib.errors import UserError
from cotlib.interfaces import CLARITY, FINAL, POTENTIAL, Row
from cotlib.interfaces import Path as Candidate
from cotlib.judging.stats import task_means
from cotlib.loading import load
from cotlib.models.checkpoint import read_card
from cotlib.search.ledger import Ledger
from cotlib.search.paths import run_paths
from cotlib.search.replay import best_of_n_bill, parm_bill, three_tasks
from cotlib.verifying.reflection import LearnedVerifier
from cotlib.world.prompts import benchmark

CLEAR = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
PROMISING = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MOST_PASSES = 0.65


@dataclass(frozen=True)
class Record:
    """All answers about the n paths of one prompt: clarity and potential [n, S], final [n], right: bool [n]."""

    task: str
    clarity: np.ndarray
    potential: np.ndarray
    final: np.ndarray
    right: np.ndarray


@torch.no_grad()
def record(model, judge, verifier: LearnedVerifier, metadata: dict, n: int, seed: int) -> Record:
    """Draws n paths of one prompt and asks everything about each step."""
    rows, guesses = [Row(metadata["prompt"], Candidate(k)) for k in range(n)], []
    run_paths(model, rows, seed, Ledger(), lambda step, _: guesses.append(step.codes))
    images = model.decode(torch.cat(guesses))  # [S * n, 3, H, W]
    view, prompts = verifier.views(images), [metadata["prompt"]] * len(images)
    clarity, potential = (verifier.ask(q, prompts, view).view(-1, n).T.numpy() for q in (CLARITY, POTENTIAL))
    last = slice(len(images) - n, None)
    final = verifier.ask(FINAL, prompts[last], view.select(last)).numpy()
    right = np.array([v.correct for v in judge([metadata] * n, images[last])])
    return Record(metadata["tag"], clarity, potential, final, right)


def play(r: Record, clear: float, promising: float, ask_from: int) -> tuple[bool, float]:
    """(whether PARM's choice is right, its token passes as a share of best-of-N's) with these thresholds."""
    chosen, stopped = three_tasks(r.clarity, r.potential, r.final, clear, promising, ask_from)
    bill = parm_bill(r.clarity, clear, ask_from, chosen, stopped)
    return bool(r.right[chosen]), bill.rows / best_of_n_bill(*r.clarity.shape).rows


def table(records: list[Record], ask_from: int) -> list[dict]:
    """Truth (mean of the task means) and share of best-of-N's token passes for every pair of thresholds."""
    rows = []
    for clear, promising in product(CLEAR, PROMISING):
        played = [play(r, clear, promising, ask_from) for r in records]
        means = task_means([(r.task, [right]) for r, (right, _) in zip(records, played, strict=True)])
        rows.append({"clear": clear, "promising": promising,
                     "truth": round(float(np.mean([mean for mean, _ in means.values()])), 4),
                     "passes": round(float(np.mean([spent for _, spent in played])), 4)})  # fmt: skip
    return rows


def best(rows: list[dict]) -> dict:
    """The row that the rule takes; the cheapest of all when none is cheap enough."""
    cheap = [row for row in rows if row["passes"] <= MOST_PASSES] or [
        min(rows, key=lambda row: row["passes"])
    ]
    return max(cheap, key=lambda row: (row["truth"], -row["passes"]))


def run(out: Path, seed: int = 0, minutes: float | None = None, resume: bool = False, n: int = 20,
        prompts: list[dict] | None = None) -> dict:  # fmt: skip
    """Chooses thresholds for the verifier in `out` and writes them into its configuration and card.

    prompts: the development prompts unless given. UserError when the verifier does not answer PARM's questions.
    """
    verifier = LearnedVerifier.from_pretrained(out)
    if missing := [q for q in (CLARITY, POTENTIAL, FINAL) if q not in verifier.questions]:
        raise UserError(
            f"the verifier in {out} does not answer {', '.join(missing)}; thresholds are for PARM's verifiers"
        )
    model, judge = load("generator"), load("judge")
    prompts = benchmark("dev") if prompts is None else prompts
    records = list(on_all_cores(lambda m: record(model, judge, verifier, m, n, seed), prompts))
    rows = table(records, verifier.ask_from)
    chosen = best(rows)
    verifier.config = replace(verifier.config, clear=chosen["clear"], promising=chosen["promising"])
    card = read_card(out)
    card["metrics"]["thresholds"] = {
        "prompts": len(records),
        "n": n,
        "seed": seed,
        "chosen": chosen,
        "table": rows,
    }
    verifier.save_pretrained(out, card)
    return {"prompts": len(records), "n": n, **chosen}
