"""Measuring a strategy on a list of prompts: truth by the judge, an interval over prompts, and the cost.

`evaluate` can be stopped at any time: finished prompts stand in a file beside the result, and the same call goes on
from there. Small models on a CPU work on several prompts at once, by threads with one core each, which is faster than
several cores on one prompt; others take one prompt after the other. Several processes share the prompts (`cotlib.several`). Results do
not depend on any of it, because every path owns its randomness.
"""

import json
import platform
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from cotlib.devices import device_gb, enough_memory, on_all_cores
from cotlib.errors import UserError
from cotlib.interfaces import Outcome, Verifier
from cotlib.judging.geneval_files import judged_by, keep, room_for, write_results
from cotlib.judging.stats import bootstrap_interval, coverage, task_means
from cotlib.loading import load, load_generator, load_verifier
from cotlib.models.published.files import checkpoint_folder
from cotlib.models.published.llava import LlavaVerifier
from cotlib.models.published.memory import advice
from cotlib.models.published.planner import plan_for
from cotlib.models.published.showo import Showo
from cotlib.resumable import Watch, fingerprint, measure_all
from cotlib.search import STRATEGIES, Ledger, decode_all
from cotlib.search.parm_plus_plus import Correct
from cotlib.search.released import RELEASED
from cotlib.several import rank, workers
from cotlib.verifying import LearnedVerifier
from cotlib.verifying.answers import FilteredVerifier

PICTOGRAM = "pictogram"
OF_PICTOGRAMS = ("detector", "template")  # judges that know pictograms only


@dataclass(frozen=True)
class Plan:
    """What is measured; its text form tells whether a half-finished result belongs to the same call.

    model: "pictogram", or the folder or hub id of a published one. verifier: None for the strategy's own, which only
    pictograms have; questions: JSON file with its wording. judge: None for nobody. paper_compatible: the released code's
    rules, see `cotlib.search.released`. four_bit: LLaVA-OneVision's matrices packed.
    """

    strategy: str = "single"
    n: int = 1  # pictures a prompt and seed
    seeds: tuple[int, ...] = (0,)
    steps: int | None = None
    guidance: float | None = None
    model: str = PICTOGRAM
    weights: str | None = "base"
    order: str | None = "masked"
    judge: str | None = "detector"
    verifier: str | None = None
    questions: str | None = None
    paper_compatible: bool = False
    four_bit: bool = False

    def __post_init__(self):
        name = self.strategy
        if name not in STRATEGIES:
            raise UserError(f'there is no strategy "{name}"; expected one of {", ".join(STRATEGIES)}')
        if self.n < 1:
            raise UserError(f"n is {self.n}; expected a whole number of at least 1")
        if self.paper_compatible and name not in RELEASED:
            raise UserError(f"{name} is not in the paper's released code; with --paper-compatible expected one of "
                            f"{', '.join(RELEASED)}")  # fmt: skip
        if STRATEGIES[name].judge and self.judge is None:
            raise UserError(f"{name} asks the judge, and there is none; give its folder with --judge")
        if self.four_bit and self.verifier is None:
            raise UserError(
                "there is no verifier to pack into four bits; give LLaVA-OneVision's folder with --verifier"
            )
        if not self.published:
            return
        if STRATEGIES[name].corrects:
            raise UserError(
                f"{name} corrects pictures, which no published model here can; use parm, or the model pictogram"
            )
        if STRATEGIES[name].verifier and self.verifier is None:
            raise UserError(
                f"{name} asks a verifier, and there is none; give LLaVA-OneVision's folder with --verifier"
            )
        if self.judge in OF_PICTOGRAMS:
            raise UserError(f'the judge "{self.judge}" knows pictograms only; give the folder of GenEval\'s judge, which holds '
                            "a Mask2Former and a CLIP")  # fmt: skip

    @property
    def published(self) -> bool:
        """Whether the model is a published one."""
        return self.model != PICTOGRAM


@dataclass
class Row:
    """One prompt's result: task, 0/1 for each judged picture (all seeds), what it cost, and where pictures are kept the
    lines of GenEval's results.jsonl."""

    prompt: str
    task: str
    scores: list[int]
    ledger: dict
    results: list[dict] = field(default_factory=list)


@dataclass(frozen=True)
class Staff:
    """Who a strategy may ask besides the judge; None where it asks nobody (`staff` knows what each needs)."""

    verifier: Verifier | None = None
    correction: Correct | None = None


NOBODY = Staff()


# ----- who takes part -----------------------------------------------------------------------------------------------


def crew(plan: Plan, device: str = "cpu"):
    """(generator, judge or None, staff) that a plan names, loaded."""
    judge = plan.judge
    if judge is not None:
        later = "draw first (evaluate --geneval-out without --judge), judge later (python -m cotlib judge)"
        with enough_memory(lambda: f"GenEval's judge in {plan.judge}", later):
            judge = load("judge", kind=plan.judge, device=device)
    if not plan.published:
        model = load("generator", order=plan.order, weights=plan.weights, device=device)
        return (
            model,
            judge,
            staff(plan.strategy, device, plan.verifier, plan.questions, plan.paper_compatible, plan.four_bit),
        )
    model, verifier = load_generator(plan.model, device), None
    if getattr(model, "tokenizer", ()) is None:
        model.decode(torch.zeros(1, 1, dtype=torch.long))  # says what is missing, before anything is drawn
    if STRATEGIES[plan.strategy].verifier:
        verifier = load_verifier(plan.verifier, device, plan.questions, plan.paper_compatible, plan.four_bit)
    gb = device_gb(model.device)
    if gb is not None and isinstance(model, Showo):
        fit(model, verifier, plan, gb)
    return model, judge, Staff(verifier)


def fit(model: Showo, verifier: LlavaVerifier | None, plan: Plan, gb: float) -> None:
    """Has the models take as many pictures at a time as the planner finds room for on a card of `gb` 10^9 bytes.

    Warns when it finds none; as some of what it counts is assumed, the run is tried all the same.
    """
    asked = None if verifier is None else checkpoint_folder(plan.verifier)
    made = plan_for(checkpoint_folder(plan.model), asked, gb, plan.n, four_bit=plan.four_bit, judge=plan.judge is not None)  # fmt: skip
    if not made.fits:
        warnings.warn(f"{advice(made, gb)}; going on with one picture at a time", stacklevel=2)
    chunks = {name: max(1, chunk) for name, chunk in made.chunks.items()}
    model.chunks.size, model.tokenizer.chunks.size = chunks["generator"], chunks["decoder"]
    if verifier is not None:
        verifier.chunks.size = min(chunks["verifier"], verifier.chunks.size)


def staff(
    strategy: str, device: str = "cpu", verifier: str | None = None, questions: str | None = None,
    paper_compatible: bool = False, four_bit: bool = False,
) -> Staff:  # fmt: skip
    """The shipped models that a strategy needs; verifier, questions, paper_compatible, four_bit: as in `Plan`."""
    entry, asked = STRATEGIES[strategy], None
    if entry.verifier:
        asked = load("verifier", weights=verifier or entry.verifier, device=device, questions=questions,
                     paper_compatible=paper_compatible, four_bit=four_bit)  # fmt: skip
        if paper_compatible and isinstance(asked, LearnedVerifier):  # LLaVA-OneVision reads so by itself
            asked = FilteredVerifier(asked)
    return Staff(asked, load("correction", weights="local-edit", device=device) if entry.corrects else None)


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


# ----- one prompt ---------------------------------------------------------------------------------------------------


def search(
    model, judge, metadata: dict, plan: Plan, seed: int, who: Staff = NOBODY, ledger: Ledger | None = None
) -> tuple[Outcome, torch.Tensor]:
    """(outcome of the plan's strategy for one prompt and seed, pictures [B, 3, H, W]): every drawn picture with `single`,
    else the chosen one."""
    options = helpers(plan, who, judge, [metadata])
    if plan.paper_compatible:
        options["fresh"] = seed == plan.seeds[0]
    run = RELEASED[plan.strategy] if plan.paper_compatible else STRATEGIES[plan.strategy]
    with enough_memory(lambda: f"{plan.n} candidates of one prompt", "lower -n, or use a larger device"):
        outcome = run(model, [metadata["prompt"]], plan.n, seed, ledger, **options)
        return outcome, decode_all(model, outcome)[0] if plan.strategy == "single" else outcome.images


def measure_prompt(
    model, judge, metadata: dict, plan: Plan, who: Staff = NOBODY, place: tuple[Path, int] | None = None
) -> Row:
    """Runs the strategy once per seed. With `single` every drawn picture is judged, else the chosen ones.

    place: folder in GenEval's layout and the prompt's number in it, where the pictures are kept.
    """
    ledger, judged, drawn = Ledger(), [], []
    for seed in plan.seeds:
        _, images = search(model, judge, metadata, plan, seed, who, ledger)
        judged += [] if judge is None else judged_by(judge, metadata, images)
        drawn += [images.cpu()] if place else []
    row = Row(
        metadata["prompt"], metadata["tag"], [int(one.verdict.correct) for one in judged], ledger.as_dict()
    )
    if place:
        row.results = keep(*place, metadata, torch.cat(drawn), judged)
    return row


# ----- all prompts --------------------------------------------------------------------------------------------------


def measure(
    model, judge, prompts: list[dict], plan: Plan, threads: int | None = None, who: Staff = NOBODY
) -> Iterator[Row]:
    """Yields a `Row` per prompt, in order; `threads` prompts are worked on at once (default: one per core)."""
    return on_all_cores(lambda metadata: measure_prompt(model, judge, metadata, plan, who), prompts, threads)


def evaluate(
    model, judge, prompts: list[dict], plan: Plan, out: Path | str, watch: Watch | None = None, who: Staff = NOBODY,
    *, geneval_out: Path | str | None = None, numbers: list[int] | None = None,
) -> dict:  # fmt: skip
    """Measures all prompts, writes the JSON object to `out` and returns it; resumes a call that was stopped.

    watch: wraps the iterator of rows in plain form (rows, done, of) to show progress. geneval_out: folder to keep all judged
    pictures in, in GenEval's layout; numbers: the prompts' numbers there, 0, 1, 2, ... unless given. Raises UserError when
    `out` cannot be written, or `geneval_out` holds pictures of other prompts.
    """
    numbers = list(range(len(prompts))) if numbers is None else numbers
    if geneval_out is not None and rank() == 0:
        room_for(geneval_out, dict(zip(numbers, prompts, strict=True)))
    said = {"plan": vars(plan) | {"seeds": list(plan.seeds)}, "prompts": prompts, "numbers": numbers,
            "geneval_out": None if geneval_out is None else str(geneval_out), "files": fingerprints(plan)}  # fmt: skip

    def one(item: tuple[int, dict]) -> dict:
        place = () if geneval_out is None else ((Path(geneval_out), item[0]),)
        return vars(measure_prompt(model, judge, item[1], plan, who, *place))

    def work(rest: list[tuple[int, dict]]) -> Iterator[dict]:
        small = not plan.published and model.device.type == "cpu"
        if small and workers() == 1:
            return on_all_cores(one, rest)
        if small:
            torch.set_num_threads(1)  # as each thread above has: the same numbers to the last bit
        return map(one, rest)

    def close(lines: list[dict]) -> dict:
        rows = [Row(**line) for line in lines]
        if geneval_out is not None:
            write_results(geneval_out, [result for row in rows for result in row.results])
        return summarise(rows, plan)

    return measure_all(list(zip(numbers, prompts, strict=True)), work, close, json.dumps(said), out, watch)


def fingerprints(plan: Plan) -> dict[str, str]:
    """What tells the user's own files of a plan, weights and wording, from those that lay there at another time."""
    given = [plan.weights, plan.judge, plan.verifier, plan.questions]
    if plan.published:
        given += [checkpoint_folder(plan.model), plan.verifier and checkpoint_folder(plan.verifier)]
    found = {Path(path) for path in given if path and Path(path).exists()}
    return {str(path): fingerprint(path) for path in sorted(found)}


# ----- the result ---------------------------------------------------------------------------------------------------


def summarise(rows: list[Row], plan: Plan) -> dict:
    """The result as one JSON object: overall, 95 % interval, tasks, coverage, ledger, versions.

    Without a judge there is no truth: overall, interval and scores are left out. All that depends on the machine stands in
    the ledger's `seconds` and `seconds_by` and in `versions`.
    """
    truth, table = {}, [(r.task, r.scores) for r in rows]
    if plan.judge is not None:
        overall, low, high = bootstrap_interval(table)
        truth = {
            "overall": round(overall, 4),
            "ci95": [round(low, 4), round(high, 4)],
            "tasks": {t: {"score": round(mean, 4), "count": count} for t, (mean, count) in task_means(table).items()},
        }  # fmt: skip
    result = truth | {
        "strategy": plan.strategy, "n": plan.n, "prompts": len(rows), "seeds": list(plan.seeds),
        "model": plan.model, "weights": plan.weights, "order": plan.order, "judge": plan.judge,
        "steps": plan.steps, "guidance": plan.guidance, "verifier": plan.verifier, "questions": plan.questions,
        "paper_compatible": plan.paper_compatible, "four_bit": plan.four_bit, "ledger": total(rows), "versions": versions(),
    }  # fmt: skip
    if plan.strategy == "single" and truth:
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


def versions() -> dict[str, str]:
    """Versions a result depends on."""
    from cotlib import __version__

    return {"cotlib": __version__, "python": platform.python_version(), "torch": torch.__version__}
