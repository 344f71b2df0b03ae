"""Writes the measured parts of README.md from files that commands wrote; no number in them is typed by hand.

python -m cotlib.lab.readme             results, times and the course list, between their markers
python -m cotlib.lab.readme --picture   docs/hero.png as well, drawn by the shipped generator
python -m cotlib.lab.readme --run build/run.json    takes the times that `python course.py run` measured
python -m cotlib.lab.readme --check     exit 1 when README.md is not what this would write
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from pathlib import Path

from cotlib.lab.repository import Address
from cotlib.tables import paper
from cotlib.tables.search import about_seconds, cost_of
from cotlib.world.scenes import TASKS

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "data" / "results"
HERO_PROMPT = "a photo of a red dog and a blue boat"


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m cotlib.lab.readme", description=__doc__.splitlines()[0])
    parser.add_argument("--picture", action="store_true", help="draw docs/hero.png too")
    parser.add_argument("--run", type=Path, help="keep this run's times in data/results/course_run.json")
    parser.add_argument("--check", action="store_true", help="only compare")
    options = parser.parse_args(arguments)
    if options.picture:
        draw_hero(ROOT / "docs" / "hero.png")
    if options.run:
        keep_run(options.run, RESULTS / "course_run.json")
    path = ROOT / "README.md"
    before = path.read_text(encoding="utf-8")
    after = filled(before)
    if options.check:
        return int(after != before)
    path.write_text(after, encoding="utf-8")
    return 0


def filled(text: str) -> str:
    """The README with each marked part written anew."""
    parts = {
        "results": results_table,
        "search": search_table,
        "systems": systems_table,
        "quality": quality_lines,
        "bench": bench_tables,
        "course": course_table,
    }
    return with_parts(text, {name: part() for name, part in parts.items()})


def with_parts(text: str, parts: dict[str, str]) -> str:
    """A Markdown text with what stands between `<!-- name:begin -->` and `<!-- name:end -->` replaced, for each name."""
    for name, part in parts.items():
        text = re.sub(f"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", lambda m, p=part: f"{m[1]}{p}\n{m[2]}",
                      text, flags=re.DOTALL)  # fmt: skip
    return text


def read_json(path: Path) -> dict:
    """A JSON file of the repository."""
    return json.loads(path.read_text(encoding="utf-8"))


def keep_run(source: Path, target: Path) -> None:
    """The times and memory of a run of all notebooks, without its claims."""
    run = read_json(source)
    rows = [{key: row[key] for key in ("name", "title", "seconds", "peak_gb")} for row in run["notebooks"]]
    kept = {
        "started": run["started"],
        "seconds": run["seconds"],
        "machine": run["machine"],
        "notebooks": rows,
    }
    target.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def results_table() -> str:
    """Six tasks, overall with its interval, and the coverage bound, for each generator that was measured."""
    names = {"base": "masked rounds", "raster": "raster order", "clean": "masked, before careless captions"}
    bounds = ("4", "20")
    heads = [
        "generator",
        *(t.replace("_", " ") for t in TASKS),
        "overall (95 %)",
        *(f"best of {k}" for k in bounds),
        "pictures",
    ]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for key, name in names.items():
        result = read_json(RESULTS / f"{key}.json")
        low, high = result["ci95"]
        cells = [name, *(f"{result['tasks'][t]['score']:.2f}" for t in TASKS)]
        cells.append(f"**{result['overall']:.3f}** ({low:.3f} to {high:.3f})")
        cells += [f"{result['coverage'][k]:.2f}" if k in result["coverage"] else "–" for k in bounds]
        lines.append("| " + " | ".join([*cells, f"{result['prompts'] * result['n']:,}"]) + " |")
    lines.append(f"\n{result['prompts']} held-out prompts a row; interval: bootstrap over prompts; best of k: the judge picks, so it is "
                 "a bound, not a method.")  # fmt: skip
    return "\n".join(lines)


NAMES = {
    "single": "one picture", "logprob": "generator's own confidence", "orm-zs": "ORM, zero-shot", "orm": "ORM, fine-tuned",
    "prm-zs": "PRM, zero-shot", "prm": "PRM, fine-tuned", "parm": "PARM", "halving": "PARM's verifier, successive halving",
    "parm++": "PARM++, local edit",
    "parm++ redraw if faulty": "PARM++, plain re-drawing", "parm++ anew": "PARM++, drawn anew as in the paper",
    "parm++ upper bound": "PARM++, the judge reflects (bound)", "oracle": "the judge picks (bound)",
}  # fmt: skip


def search_table() -> str:
    """Truth by task and cost of every strategy, from `python -m cotlib table search`."""
    rows = read_json(RESULTS / "search.json")["strategies"]
    heads = [
        "strategy",
        *(t.replace("_", " ") for t in TASKS),
        "overall (95 %)",
        "token passes",
        "verifier calls",
        "seconds",
    ]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for key, name in NAMES.items():
        if key not in rows:
            continue
        entry = rows[key]
        spent, (low, high) = cost_of(entry, key), entry["ci95"]
        cells = [name, *(f"{entry['tasks'][t]['score']:.2f}" for t in TASKS), f"**{entry['overall']:.3f}** ({low:.3f} to {high:.3f})",
                 f"{1000 * spent['passes']:,.0f}", f"{spent['calls']:.0f}", f"{spent['seconds']:.2f}"]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    lines.append(f"\n{entry['prompts']} held-out prompts, {len(entry['seeds'])} seed{'s' * (len(entry['seeds']) > 1)}, N = {entry['n']}; costs a prompt; {about_seconds(rows.values())}; "
                 "bounds know the answer and are no methods.")  # fmt: skip
    return "\n".join(lines)


def systems_table() -> str:
    """The paper's systems beside its own figures, from `python -m cotlib table`; those without a published row but PARM++'s
    are left to the file."""
    rows = read_json(RESULTS / "table.json")["rows"]
    shown = [row for row in rows if row["published"] or row["search"] == "parm++"]
    return paper.markdown({"rows": shown}) + "\nAll rows: [table.md](data/results/table.md)."


def quality_lines() -> str:
    """Tokenizer, judges and speed."""
    card = read_json(ROOT / "data" / "tokenizer" / "card.json")["metrics"]
    judges = read_json(RESULTS / "judge_confusion.json")["judges"]
    lines = [
        f"- Tokenizer: {card['psnr_db']:.1f} dB on held-out drawings, {card['bits_per_token']:.1f} bits a token."
    ]
    for name, entry in judges.items():
        agreement = {kind: part["agreement"]["overall"] for kind, part in entry.items()}
        lines.append(f"- Judge ({name}): agrees with the exact truth on {100 * agreement['drawings']:.2f} % of held-out "
                     f"drawings and {100 * agreement['reconstructions']:.2f} % of reconstructions.")  # fmt: skip
    latest = {row["what"]: row for row in bench_rows("generation")}
    lines.append(strategy_line())
    lines.append(probe_line(read_json(RESULTS / "preference_probe.json")))
    for row in latest.values():
        lines.append(
            f"- {row['what']}: {float(row['pictures_per_second']):,.0f} pictures a second ({row['device']})."
        )
    return "\n".join(lines)


def bench_rows(name: str) -> list[dict]:
    """The rows of a file in bench/results; none where it is not there."""
    path = ROOT / "bench" / "results" / f"{name}.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def bench_tables() -> str:
    """The search as released against ours, then every kernel's forms; one pair of tables for each device."""
    searches, kernels = bench_rows("search"), bench_rows("kernels")
    devices = list(dict.fromkeys(row["device"] for row in (*searches, *kernels)))
    parts = []
    for device in devices:
        parts.append(f"**{device}**\n")
        latest = {(r["case"], r["models"], r["form"]): r for r in searches if r["device"] == device}
        if latest:
            parts.append(search_speed(list(latest.values())) + "\n")
        latest = {(r["kernel"], r["case"], r["form"]): r for r in kernels if r["device"] == device}
        if latest:
            parts.append(kernel_speed(list(latest.values())) + "\n")
    if not any("CPU" not in device for device in devices):
        parts.append("No GPU has been measured yet; on one, `python course.py bench` adds its rows.")
    return "\n".join(parts).rstrip()


def grouped(rows: list[dict], *columns: str) -> dict[tuple, list[dict]]:
    """The rows by their entries in some columns, in order of appearance."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault(tuple(row[column] for column in columns), []).append(row)
    return groups


def search_speed(rows: list[dict]) -> str:
    """First and last form of each case, with the ratio."""
    lines = ["| search | models | as released | cotlib | times as fast |", "|---|---|---|---|---|"]
    for (case, models), forms in grouped(rows, "case", "models").items():
        ours = next((k for k, row in enumerate(forms) if "cotlib" in row["form"]), None)
        if ours is None:  # the pictogram rows compare two strategies, which the lines above have
            continue
        for row in forms[ours:]:
            what = case if row is forms[ours] else f"{case}, {row['form'].removeprefix('+ ')}"
            lines.append(f"| {what} | random weights, {models} | {float(forms[0]['seconds']):.1f} s | {float(row['seconds']):.1f} s "
                         f"| {float(row['times_as_fast']):.1f} |")  # fmt: skip
    return "\n".join(lines)


def kernel_speed(rows: list[dict]) -> str:
    """Milliseconds of every form of each kernel, and the least time that the bytes and FLOPs leave."""
    lines = ["| kernel | case | milliseconds | floor |", "|---|---|---|---|"]
    for (kernel, case), forms in grouped(rows, "kernel", "case").items():
        times = ", ".join(f"{row['form']} {float(row['ms']):.3g}" for row in forms)
        lines.append(f"| `{kernel}` | {case} | {times} | {float(forms[0]['floor_ms']):.2g} |")
    return "\n".join(lines)


def strategy_line() -> str:
    """What somebody waits for: one prompt alone on all cores, and an evaluation, by strategy."""
    latest = {row["strategy"]: row for row in bench_rows("strategies")}
    short = {"orm": "ORM", "prm": "PRM", "parm": "PARM", "halving": "successive halving", "parm++": "PARM++"}
    times = "; ".join(
        f"{short[name]} {row['one_prompt_s']} s / {row['evaluation_s']} s" for name, row in latest.items()
    )
    row = next(iter(latest.values()))
    return f"- Twenty candidates, one prompt / {row['prompts']} prompts: {times} ({row['device']})."


def probe_line(probe: dict) -> str:
    """What preference tuning moved, beside its control."""

    def gain(kind: str) -> str:
        low, high = probe[kind]["difference_ci95"]
        return f"{probe[kind]['difference']:+.3f} ({low:+.3f} to {high:+.3f})"

    runs = probe["tuned"]
    seconds = sum(run["seconds"] for run in runs) / len(runs)
    return (f"- Preference tuning, a first try: {probe['pairs']['pairs']:,} judged pairs and {seconds:.0f} s of training move the base by "
            f"{gain('tuned_pooled')}, shuffled labels by {gain('shuffled_pooled')}; {len(runs)} trainings each.")  # fmt: skip


def course_table() -> str:
    """Notebooks in order, with title, measured time and memory (a dash where none is on record), and badges once the
    address is set."""
    record = read_json(RESULTS / "course_run.json")
    run = {row["name"]: row for row in record["notebooks"]}
    address = Address.load(ROOT / "notebooks")
    lines, paths = (
        ["| notebook | | time | memory |", "|---|---|---|---|"],
        sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")),
    )
    for path in paths:
        link = f"[`{path.stem}`](notebooks/{path.name}) {address.badges(path.stem)}".strip()
        row = run.get(path.stem)
        cost = f"{row['seconds']:.0f} s | {row['peak_gb']:.1f} GB" if row else "– | –"
        lines.append(f"| {link} | {title_of(path)} | {cost} |")
    machine = f"{record['machine']['cores']} CPU cores, {record['started'][:10]}"
    measured = [run[path.stem]["seconds"] for path in paths if path.stem in run]
    which = "All of them" if len(measured) == len(paths) else f"The {len(measured)} that were timed"
    lines.append(f"\n{which}: {sum(measured) / 60:.1f} minutes on {machine}.")
    return "\n".join(lines)


def title_of(notebook: Path) -> str:
    """A notebook's first heading."""
    first = read_json(notebook)["cells"][0]["source"]
    return "".join(first).splitlines()[0].removeprefix("# ")


def draw_hero(path: Path) -> None:
    """The README's picture: eight rounds of one path, and twenty finished paths with the judge's verdicts."""
    import torch
    from matplotlib.figure import Figure

    from cotlib import load
    from cotlib.decoding import run_steps
    from cotlib.world import parse_prompt

    model, judge, metadata = load("generator"), load("judge"), parse_prompt(HERO_PROMPT)
    steps = list(run_steps(model, [HERO_PROMPT] * 20, list(range(20)), 0))
    finals = model.decode(steps[-1].codes)
    correct = [v.correct for v in judge([metadata] * 20, finals)]
    shown = correct.index(True) if any(correct) else 0
    strip = model.decode(torch.cat([s.codes[shown : shown + 1] for s in steps]))
    figure = Figure(figsize=(10, 4.3), facecolor="white")
    figure.text(0.5, 0.965, f"“{HERO_PROMPT}”", ha="center", va="top", fontsize=15, color="#1c2530")

    def cell(image, x: float, y: float, width: float, mark: str, color: str) -> None:
        axes = figure.add_axes((x, y, width, width * 10 / 4.3))
        axes.imshow(image.permute(1, 2, 0), interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(color=color, linewidth=1.6 if mark else 0.8)
        axes.set_xlabel(mark, color=color, fontsize=9, labelpad=1.5)

    for i, image in enumerate(strip):
        cell(image, 0.012 + i * 0.1225, 0.575, 0.115, f"round {i + 1}", "#5d6b7a")
    for i, image in enumerate(finals):
        good = correct[i]
        cell(image, 0.012 + (i % 10) * 0.098, 0.31 - (i // 10) * 0.255, 0.09, "✓ right" if good else "✗ wrong",
             "#00795a" if good else "#b84300")  # fmt: skip
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    sys.exit(main())
