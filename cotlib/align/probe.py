"""Is there anything to bring forward? A few minutes of preference tuning, with a control, before the base is frozen.

    python -m cotlib.align.probe            writes data/results/preference_probe.json (about 20 minutes on two cores)

Pairs come from the base's own pictures of training prompts. Each training seed tunes twice: on the true labels and
on the same pairs with labels exchanged at random. Truth is measured on held-out prompts, the same pictures' seeds
for all; differences to the base are paired by prompt.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from cotlib import load
from cotlib.align.dpo import DPOConfig
from cotlib.align.pairs import draw_pairs
from cotlib.align.tuning import tune
from cotlib.assets import data_dir
from cotlib.evaluation import Plan, measure, versions
from cotlib.judging.stats import bootstrap_interval, paired_difference, task_means
from cotlib.world import benchmark


def scores(model, judge, prompts: list[dict], n: int) -> list[tuple[str, list[int]]]:
    """(task, 0/1 per picture) for each prompt."""
    return [(r.task, r.scores) for r in measure(model, judge, prompts, Plan(n=n, seeds=(100,)))]


def entry(rows, base_rows=None) -> dict:
    """Overall, interval and tasks of one model; with base rows also the paired difference to the base."""
    overall, low, high = bootstrap_interval(rows)
    result = {"overall": round(overall, 4), "ci95": [round(low, 4), round(high, 4)],
              "tasks": {t: round(m, 4) for t, (m, _) in task_means(rows).items()}}  # fmt: skip
    if base_rows is not None:
        difference, low, high = paired_difference(rows, base_rows)
        result |= {"difference": round(difference, 4), "difference_ci95": [round(low, 4), round(high, 4)]}
    return result


def probe(
    weights: str, out: Path, config: DPOConfig, seeds: int, prompts: int, each: int, n: int, limit: int
) -> dict:
    """Runs the probe and writes it to `out` after every model, so that a stopped run leaves what it had."""
    base, judge = load("generator", weights=weights), load("judge")
    test = benchmark("test")
    test = test[:: max(1, len(test) // limit)]
    begin = time.perf_counter()
    pairs = draw_pairs(base, judge, prompts, each, seed=1000)
    drawn = time.perf_counter() - begin
    base_rows = scores(base, judge, test, n)
    result = {"pairs": pairs.counts, "seconds_drawing": round(drawn), "config": vars(config), "test_prompts": len(test),
              "pictures_a_prompt": n, "base": entry(base_rows), "tuned": [], "shuffled": [], "versions": versions()}  # fmt: skip
    print(json.dumps(result), flush=True)
    pooled = {"tuned": [], "shuffled": []}
    for seed in range(seeds):
        for kind in ("tuned", "shuffled"):
            begin = time.perf_counter()
            data = pairs if kind == "tuned" else pairs.shuffled(np.random.default_rng(seed))
            last = {}
            model = tune(
                base, data, config, seed, lambda update, curves, last=last: last.update(curves)
            ).model
            seconds = time.perf_counter() - begin
            rows = scores(model, judge, test, n)
            pooled[kind].append(rows)
            result[kind].append({"seed": seed, "seconds": round(seconds), **entry(rows, base_rows),
                                 "last": {k: round(v, 3) for k, v in last.items()}})  # fmt: skip
            print(kind, json.dumps(result[kind][-1]), flush=True)
            out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for kind, tables in pooled.items():
        together = [
            (rows[0][0], sum((scores for _, scores in rows), [])) for rows in zip(*tables, strict=True)
        ]
        result[f"{kind}_pooled"] = entry(together, base_rows)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="base")
    parser.add_argument("--out", type=Path, default=data_dir() / "results" / "preference_probe.json")
    parser.add_argument("--seeds", type=int, default=3, help="training seeds, each with its control")
    parser.add_argument("--prompts", type=int, default=400)
    parser.add_argument("--each", type=int, default=8)
    parser.add_argument("-n", type=int, default=4, help="pictures a test prompt")
    parser.add_argument("--limit", type=int, default=300, help="test prompts")
    defaults = DPOConfig()
    for name, value in vars(defaults).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    o = parser.parse_args()
    config = DPOConfig(**{name: getattr(o, name) for name in vars(defaults)})
    probe(o.weights, o.out, config, o.seeds, o.prompts, o.each, o.n, o.limit)


if __name__ == "__main__":
    main()
