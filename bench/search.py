"""Seconds that best-of-20 and PARM take: as the released code runs them, as cotlib does, and every step between.

    python bench/search.py [--rounds 3]        appends rows to bench/results/search.csv

The models have the published shapes and random weights, as weights do not change the speed: on a GPU the published sizes,
on a CPU smaller ones in which every part keeps its share (see bench/_published.py; the shares are printed). All forms run
in turn, `--rounds` times over, and each takes in one saving more than the one before; the released loop is described in
bench/_naive.py. The generator runs in float32 as released, and from the second form on in the format that suits the device.
The verifier has that format in all forms, also as released. A row's peak is what the form needs beside the weights.

All forms search alike. Which path is clear when and which ones are refused stands in a script that every form gets its
verdicts from, after the verifier has done its work (bench/_script.py); the share of refused paths is that of the course's own
PARM, measured here first. At the end it is checked that all forms asked the same questions equally often. One last form
does not: it asks CLARITY only from the step on at which the paper sees the first clear pictures. Its verdicts are the same.

Beside that: PARM and best-of-20 on the course's pictograms, with trained weights and their own verdicts.
"""

import argparse
import copy
import gc
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from _measure import RESULTS, append, facts, format_name
from _naive import ReleasedVerifier, Wasteful, released_orm, released_parm
from _published import (
    PROMPT,
    PUBLISHED,
    REDUCED,
    SMALLER,
    Sizes,
    as_cotlib,
    in_format,
    llava_words,
    one_gelu,
    random_llava,
    random_showo,
    shares,
)
from _script import FIRST_CLEAR, Script, ScriptedVerifier
from transformers import logging

from cotlib import load
from cotlib.devices import pick_device, pick_dtype
from cotlib.evaluation import Plan, helpers, staff
from cotlib.interfaces import POTENTIAL, Outcome
from cotlib.models.published.chunked import Chunks
from cotlib.models.published.llava import read_questions
from cotlib.models.published.llava_files import Loaded
from cotlib.models.published.showo import Showo
from cotlib.search import STRATEGIES, Ledger, orm, parm
from cotlib.world import benchmark

N = 20
SIZES = {"published": PUBLISHED, "smaller": SMALLER, "reduced": REDUCED}
ROOM = 32e9  # bytes that both models of the published size and their work take
CACHED = 4  # candidates that a CPU takes at once; with more, what one operation leaves is gone from its cache before the next


@dataclass
class Models:
    """What is measured, with random weights. released: Show-o in float32; half: the same in the device's format, on a CPU the
    same object; lean: the same weights as cotlib's Showo. together: candidates at once, None for all."""

    sizes: Sizes
    released: Showo
    half: Showo
    lean: Showo
    loaded: Loaded
    refused: float
    folder: Path
    together: int | None

    @classmethod
    def random(cls, sizes: Sizes, device: torch.device, refused: float, folder: Path) -> "Models":
        """refused: see `Script`. folder: for pictures."""
        torch.manual_seed(0)
        dtype, together = pick_dtype(device), None if device.type == "cuda" else CACHED
        loaded = random_llava(sizes, device, dtype)
        released = random_showo(sizes, device, torch.float32)
        half = released if dtype == torch.float32 else in_format(copy.deepcopy(released), dtype)
        half.chunks = Chunks(together)
        return cls(sizes, released, half, as_cotlib(half, together), loaded, refused, folder, together)

    def fast(self, script: Script, **options) -> ScriptedVerifier:
        """The verifier in cotlib's way."""
        verifier = ScriptedVerifier(self.loaded, llava_words(self.sizes), read_questions(), **options)
        verifier.script = script
        return verifier

    def slow(self, script: Script) -> ReleasedVerifier:
        """The verifier in the released code's way."""
        return ReleasedVerifier(self.fast(script), script, self.folder)


@dataclass(frozen=True)
class Form:
    """One way to search: `run(n)` gives what it cost and how often each question was asked."""

    name: str
    run: Callable[[int], tuple[Ledger, Counter]]
    dtype: torch.dtype
    slow: bool = False  # one candidate at a time
    same: bool = True  # asks what all others ask


def best_of(m: Models) -> list[Form]:
    """Best-of-N with the outcome verifier, from the released loop to cotlib's."""

    def released(model: Showo, **options) -> Callable:
        def run(n: int) -> tuple[Ledger, Counter]:
            script = Script(n, m.refused)
            found = released_orm(model, m.slow(script), PROMPT, n, m.sizes.slots, **options)
            return found.ledger, script.asked

        return run

    def ours(model, slow: bool = True) -> Callable:
        def run(n: int) -> tuple[Ledger, Counter]:
            script = Script(n, m.refused)
            verifier = m.slow(script) if slow else m.fast(script)
            return orm(model, [PROMPT], n, verifier=verifier).ledger, script.asked

        return run

    plain, lean, slots = torch.float32, m.half.phi.dtype, m.sizes.slots
    forms = [Form("as released", released(m.released), plain, slow=True)]
    if lean != plain:
        forms.append(Form("+ half precision", released(m.half), lean, slow=True))
    few = Wasteful(m.half, slots, few=True, chunk=m.together)
    early = Wasteful(m.half, slots, few=True, early=True, chunk=m.together)
    forms += [
        Form("+ decoded and written once", released(m.half, every_step=False), lean, slow=True),
        Form("+ drawn by the inverse CDF", released(m.half, every_step=False, seed=0), lean, slow=True),
        Form("+ first round once for all", ours(Wasteful(m.half, slots, chunk=1)), lean, slow=True),
        Form(
            f"+ {m.together or 'all'} candidates at once",
            ours(Wasteful(m.half, slots, chunk=m.together)),
            lean,
        ),
        Form("+ head on hidden rows and image codes", ours(few), lean),
        Form("+ guidance before the head", ours(early), lean),
        Form("+ no pads, text once", ours(m.half), lean),
    ]
    if one_gelu(m.lean):
        forms.append(Form("+ activation in one operation", ours(m.lean), lean))
    return [*forms, Form("+ verifier in batches: cotlib", ours(m.lean, slow=False), lean)]


def parms(m: Models) -> list[Form]:
    """PARM, from the released loop to cotlib's."""

    def released(model: Showo) -> Callable:
        def run(n: int) -> tuple[Ledger, Counter]:
            script = Script(n, m.refused, [[k] for k in range(n)])
            return released_parm(model, m.slow(script), PROMPT, n, m.sizes.slots).ledger, script.asked

        return run

    def ours(stop: bool, slow: bool = False, remember: int = 0, ask_from: int = 0) -> Callable:
        def run(n: int) -> tuple[Ledger, Counter]:
            # the released rules draw path 0 before all others
            script = Script(n, m.refused, None if stop else [[0], range(1, n)], ask_from)
            verifier = m.slow(script) if slow else m.fast(script, remember=remember)
            rules = {"ask_from": ask_from} if stop else {"paper_compatible": True}
            return parm(m.lean, [PROMPT], n, verifier=verifier, **rules).ledger, script.asked

        return run

    plain, lean, clear = torch.float32, m.half.phi.dtype, FIRST_CLEAR + 1
    forms = [Form("as released", released(m.released), plain, slow=True)]
    if lean != plain:
        forms.append(Form("+ half precision", released(m.half), lean, slow=True))
    return forms + [
        Form("+ generator and decoding as in best-of-20", ours(stop=False, slow=True), lean),
        Form("+ verifier in batches", ours(stop=False), lean),
        Form("+ refused paths stop", ours(stop=True), lean),
        Form("+ second question on the first one's keys: cotlib", ours(stop=True, remember=32), lean),
        Form(f"+ asked from step {clear} of {m.sizes.showo.steps} on",
             ours(stop=True, remember=32, ask_from=FIRST_CLEAR), lean, same=False),
    ]  # fmt: skip


# ----- measuring -----------------------------------------------------------------------------------------------------


@dataclass
class Times:
    """What was measured of one form: seconds of each run, those of them the verifier took, most memory in MB."""

    seconds: list[float]
    verifier: list[float]
    peak: float | None = None

    def row(self, first: "Times") -> dict:
        """The numbers of a row; `first` is what its speed is compared with."""
        middle, parts = statistics.median(self.seconds), statistics.median(self.verifier)
        low = high = middle
        if len(self.seconds) > 1:
            low, *_, high = statistics.quantiles(self.seconds, n=5, method="inclusive")
        return {"seconds": f"{middle:.4g}", "seconds_20": f"{low:.4g}", "seconds_80": f"{high:.4g}",
                "times_as_fast": f"{statistics.median(first.seconds) / middle:.2f}", "verifier_s": f"{parts:.4g}",
                "peak_mb": "" if self.peak is None else f"{self.peak:.0f}"}  # fmt: skip


def once(work: Callable, gpu: bool) -> tuple[float, float | None, object]:
    """(seconds, MB at most beside what was there before, result) of one call; MB only on a GPU."""
    gc.collect()
    if gpu:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    begin = time.perf_counter()
    result = work()
    if gpu:
        torch.cuda.synchronize()
    spent = time.perf_counter() - begin
    return spent, (torch.cuda.max_memory_allocated() - before) / 1e6 if gpu else None, result


def in_turn(forms: list[Form], n: int, rounds: int, gpu: bool) -> list[Times]:
    """Runs all forms with n candidates one after the other, `rounds` times over, after a first time that does not count: with two candidates
    where they go one by one. RuntimeError when two of them asked differently."""
    measured, asked = [Times([], []) for _ in forms], {}
    for turn in range(rounds + 1):
        for form, times in zip(forms, measured, strict=True):
            if not turn:
                form.run(n if gpu and not form.slow else 2)
                continue
            spent, peak, (ledger, counts) = once(lambda run=form.run: run(n), gpu)
            times.seconds.append(spent)
            times.verifier.append(ledger.seconds_by["verifier"])
            times.peak = peak if times.peak is None else max(times.peak, peak)
            asked[form.name] = counts
    told = {name: counts for name, counts in asked.items() if any(f.same and f.name == name for f in forms)}
    if any(counts != asked[forms[0].name] for counts in told.values()):
        raise RuntimeError(f"the forms did not search alike: {told}")
    return measured


def table(case: str, models: str, forms: list[Form], measured: list[Times]) -> list[dict]:
    """The rows of a case, printed too."""
    rows = []
    print(f"{case}, {models}", flush=True)
    for form, times in zip(forms, measured, strict=True):
        numbers = times.row(measured[0])
        rows.append(
            {"case": case, "models": models, "form": form.name, **numbers, "dtype": format_name(form.dtype)}
        )
        print(f"   {float(numbers['seconds']):8.2f} s ({numbers['seconds_20']} .. {numbers['seconds_80']}), verifier "
              f"{numbers['verifier_s']:>6} s  {numbers['times_as_fast']:>6} x  {form.name}", flush=True)  # fmt: skip
    return rows


def pictograms(count: int, device: torch.device) -> tuple[list[dict], float]:
    """(rows of best-of-20 and PARM on the course's own models, share of the judged paths that PARM refused).

    Seconds of one prompt; median and 20/80 % are over `count` held-out prompts.
    """
    model, judge, prompts = load("generator", device=str(device)), load("judge"), benchmark("test")
    measured, who = {}, {name: staff(name, str(device)) for name in ("orm", "parm")}
    judged = refused = 0

    def search(name: str, metadata: dict) -> Outcome:
        told = helpers(Plan(name, N), who[name], judge, [metadata])
        return STRATEGIES[name](model, [metadata["prompt"]], N, 0, **told)

    for place, metadata in enumerate([prompts[0], *prompts[:: len(prompts) // count][:count]]):
        for name in who:
            spent, peak, outcome = once(lambda name=name, m=metadata: search(name, m), device.type == "cuda")
            if not place:
                continue
            times = measured.setdefault(name, Times([], [], peak))
            times.seconds.append(spent)
            times.verifier.append(outcome.ledger.seconds_by["verifier"])
            times.peak = peak and max(times.peak, peak)
            if name == "parm":
                asked = [path for path in outcome.paths[0] if POTENTIAL in path.scores]
                judged += len(asked)
                refused += sum(path.stopped is not None for path in asked)
    dtype = next(model.parameters()).dtype
    forms = [Form(f"best-of-{N}", search, dtype), Form("PARM", search, dtype)]
    rows = table("one prompt", "the course's pictogram models", forms, [measured["orm"], measured["parm"]])
    return rows, refused / judged


def pick_sizes(device: torch.device, name: str | None) -> Sizes:
    """The sizes named, or those that suit the device and its free memory."""
    if name:
        return SIZES[name]
    if device.type != "cuda":
        return REDUCED
    return PUBLISHED if torch.cuda.mem_get_info()[0] > ROOM else SMALLER


def print_shares(sizes: Sizes) -> None:
    """What the savings are made of, beside the published size."""
    print(f"shares of a step: {sizes.name} (published)")
    published, own = shares(PUBLISHED), shares(sizes)
    for name, share in own.items():
        print(f"   {share:6.3f} ({published[name]:.3f})  {name}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="times that every form runs")
    parser.add_argument("--prompts", type=int, default=20, help="prompts of the pictogram rows")
    parser.add_argument("--size", choices=SIZES, help="unless given, what suits the device")
    parser.add_argument("--csv", type=Path, default=RESULTS / "search.csv", help="file the rows go to")
    options = parser.parse_args()
    logging.set_verbosity_error()
    device = pick_device()
    sizes, gpu = pick_sizes(device, options.size), device.type == "cuda"
    rows, refused = pictograms(options.prompts, device)
    print(f"PARM refused {100 * refused:.0f} % of the pictogram paths it judged; so it does below")
    if sizes not in (PUBLISHED, SMALLER):
        print_shares(sizes)
    with tempfile.TemporaryDirectory() as folder:
        models = Models.random(sizes, device, refused, Path(folder))
        for case, forms in ((f"best-of-{N}", best_of(models)), ("PARM", parms(models))):
            rows += table(case, sizes.name, forms, in_turn(forms, N, options.rounds, gpu))
    append(options.csv, rows, facts(device))


if __name__ == "__main__":
    main()
