"""Pictures a second on this machine: drawing, tokenizer, judges, and the generator in both orders.

    python bench/generation.py [--seconds 8]

The generator row is what the course waits for: N = 20 candidates a prompt, guided, default rounds, decoded; one prompt
per core at a time, as `cotlib evaluate` does it. Appends rows to bench/results/generation.csv.
"""

import argparse
import os
import time
from collections.abc import Callable

import numpy as np
import torch
from _measure import RESULTS, append, facts

from cotlib import load
from cotlib.devices import pick_device
from cotlib.evaluation import Plan, measure
from cotlib.world import benchmark, render, render_batch, sample_scene

FILE = RESULTS / "generation.csv"


def rate(work: Callable[[], int], seconds: float) -> float:
    """Items a second: `work` does one round and says how many items it made; one round is not counted."""
    work()
    items, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        items += work()
    return items / (time.perf_counter() - begin)


class NoJudge:
    """Accepts everything at no cost, so that the generator alone is timed."""

    def __call__(self, metadatas, images):
        from cotlib.interfaces import Verdict

        return [Verdict(True)] * len(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="time for each row")
    options = parser.parse_args()
    device = pick_device()
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng) for _ in range(64)]
    images = render_batch(scenes)
    prompts = benchmark("test")
    cores = os.cpu_count() or 1
    tokenizer = load("tokenizer", device=str(device))
    codes = tokenizer.encode(images.to(device))

    def drawing() -> int:
        return len([render(s) for s in scenes])

    def judging(kind: str) -> Callable[[], int]:
        judge, metadatas = load("judge", kind=kind), prompts[:64]
        return lambda: len(judge(metadatas, images))

    def generating(order: str) -> Callable[[], int]:
        model = load("generator", order=order, device=str(device))
        part = prompts[:: len(prompts) // (2 * cores)][: 2 * cores]
        return lambda: sum(len(r.scores) for r in measure(model, NoJudge(), part, Plan(n=20), cores))

    with torch.no_grad():
        works = {
            "drawing a scene (one core)": drawing,
            "tokenizer, decoding": lambda: len(tokenizer.decode(codes)),
            "judge (detector)": judging("detector"),
            "judge (template)": judging("template"),
            "generator, masked rounds, guided, N = 20": generating("masked"),
            "generator, raster order, guided, N = 20": generating("raster"),
        }
        rows = [
            {"what": what, "pictures_per_second": f"{rate(work, options.seconds):.1f}"}
            for what, work in works.items()
        ]
    append(FILE, rows, facts(device))
    for row in rows:
        print(f"{float(row['pictures_per_second']):10,.1f} pictures a second   {row['what']}")


if __name__ == "__main__":
    main()
