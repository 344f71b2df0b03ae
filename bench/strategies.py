"""Seconds of the search strategies on this machine: one prompt alone, and a whole evaluation.

    python bench/strategies.py [--prompts 100]

N = 20. "one prompt" is what somebody waits for at a notebook: all cores work on that prompt, models are loaded; the
median of seven prompts. "prompts of an evaluation" is `cotlib evaluate`, one prompt per core at a time. Appends rows to
bench/results/strategies.csv.
"""

import argparse
import statistics
import time

from _measure import RESULTS, append, facts

from cotlib import load
from cotlib.devices import pick_device
from cotlib.evaluation import Plan, helpers, measure, staff
from cotlib.search import STRATEGIES
from cotlib.world import benchmark

FILE = RESULTS / "strategies.csv"
NAMES = ("orm", "prm", "parm", "halving", "parm++")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=100, help="prompts of the evaluation")
    options = parser.parse_args()
    device = pick_device()
    model, judge, prompts = load("generator", device=str(device)), load("judge"), benchmark("test")
    part = prompts[:: max(1, len(prompts) // options.prompts)][: options.prompts]
    rows = []
    for name in NAMES:
        plan, who, waits = Plan(name, 20), staff(name, str(device)), []
        for metadata in prompts[:: len(prompts) // 8][:8]:
            begin = time.perf_counter()
            STRATEGIES[name](model, [metadata["prompt"]], 20, 0, **helpers(plan, who, judge, [metadata]))
            waits.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        count = len(list(measure(model, judge, part, plan, who=who)))
        spent = time.perf_counter() - begin
        rows.append({"strategy": name, "one_prompt_s": f"{statistics.median(waits[1:]):.2f}",
                     "prompts": count, "evaluation_s": f"{spent:.0f}"})  # fmt: skip
        print(f"{name:8s} one prompt {rows[-1]['one_prompt_s']} s   {count} prompts {spent:.0f} s")
    append(FILE, rows, facts(device))


if __name__ == "__main__":
    main()
