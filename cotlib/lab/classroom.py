"""One page for the teacher from a folder of progress files: who is where, who is stuck, what people expected.

    python course.py class FOLDER [--out class.html]

Learners hand in their file (.cotlib/progress.json in their home folder), in any way you like; its name does not matter.
The page is one HTML file without scripts, for your eyes: it names people.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import Counter
from html import escape
from pathlib import Path

from cotlib.errors import UserError
from cotlib.lab.exercises import BY_NOTEBOOK, NOTEBOOK, REGISTRY
from cotlib.lab.learners import Learner, read_folder
from cotlib.lab.report import STYLE

STUCK_AFTER = 3  # failed attempts without a pass, or
STUCK_MINUTES = 20  # minutes

EXTRA = """
td.cell { text-align: center; padding: .35rem .4rem; white-space: nowrap; border-left: 1px solid var(--line) }
th.cell { text-align: center } thead th { position: sticky; top: 0; background: var(--card) } td.name, th.name { white-space: nowrap; padding-right: 1.2rem }
td.cell small { display: block; color: var(--soft); font-size: .72rem }
td.done { background: color-mix(in srgb, var(--good) 22%, transparent) }
td.part { background: color-mix(in srgb, var(--bar) 16%, transparent) }
td.stuck { background: color-mix(in srgb, var(--bad) 24%, transparent) }
h2 { margin-bottom: .4rem } .nobr { white-space: nowrap } td b { padding-right: .6rem } svg { display: block; overflow: visible } svg text { font-size: 11px; fill: var(--soft) }
.strip line { stroke: var(--line) } .strip circle { fill: var(--bar); fill-opacity: .55 }
.strip .truth { stroke: var(--bad); stroke-width: 2 } .bars { display: grid; gap: .15rem .7rem; align-items: center;
  grid-template-columns: minmax(8rem, max-content) 8rem 2rem; font-size: .9rem } .bars i { display: block; height: .7rem;
  background: var(--bar); border-radius: 3px } .bars .right { font-weight: 600 }
"""


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser("course.py class", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with the learners' progress files")
    parser.add_argument(
        "--out", type=Path, default=Path("build/class.html"), help="default: build/class.html"
    )
    options = parser.parse_args(arguments)
    try:
        learners, skipped = read_folder(options.folder)
        if not learners:
            reasons = "".join(f"\n  {name}: {why}" for name, why in skipped.items())
            raise UserError(f"{options.folder} holds no progress file of this course{reasons}")
        try:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(class_html(learners, skipped), encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"{options.out} cannot be written ({error.strerror}); give another --out"
            ) from error
    except UserError as error:
        print(f"course.py class: {error}", file=sys.stderr)
        return 2
    for name, why in skipped.items():
        print(f"left out: {name}: {why}")
    print(f"{len(learners)} learners, {len(skipped)} files left out: {options.out}")
    return 0


def class_html(learners: list[Learner], skipped: dict[str, str]) -> str:
    """The teacher's page."""
    left_out = "".join(f"<li>{escape(name)}: {escape(why)}</li>" for name, why in skipped.items())
    left_out = f"<section><h2>Files left out</h2><ul>{left_out}</ul></section>" if left_out else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>The class</title><style>{STYLE}{EXTRA}</style></head><body><main>
<h1>The class</h1>
<p class="soft">{len(learners)} learners. Minutes are counted from the cells they ran; a pause counts for ten minutes at most.</p>
<section><h2>Who is where</h2>{overview(learners)}</section>
<section><h2>Who is stuck</h2>{stuck_list(learners)}</section>
<section><h2>Exercises</h2>{exercise_table(learners)}</section>
<section><h2>Predictions</h2>{predictions(learners)}</section>
{left_out}
</main></body></html>
"""


def is_stuck(entry: dict) -> bool:
    """Whether a learner has failed a check often, or long, without passing it."""
    return entry["state"] == "failed" and (
        entry["attempts"] >= STUCK_AFTER or entry.get("minutes", 0) >= STUCK_MINUTES
    )


def overview(learners: list[Learner]) -> str:
    """A row for each learner, a column for each notebook: exercises passed and minutes."""
    head = '<th class="name">learner</th>' + "".join(f'<th class="cell">{n}</th>' for n in BY_NOTEBOOK)
    rows = "".join(
        f'<tr><td class="name">{escape(who.name)}</td>{"".join(place(who, n) for n in BY_NOTEBOOK)}'
        f'<td class="cell">{mean_points(who)}</td></tr>'
        for who in learners
    )
    legend = "<p class=soft>passed / exercises, minutes. Green: all passed. Orange: stuck. Points: mean of the predictions.</p>"
    return f'{legend}<table><thead><tr>{head}<th class="cell">points</th></tr></thead><tbody>{rows}</tbody></table>'


def place(who: Learner, number: str) -> str:
    """One learner's cell for one notebook."""
    names = BY_NOTEBOOK[number]
    entries = [who.checks[name] for name in names if name in who.checks]
    passed = sum(entry["state"] == "passed" for entry in entries)
    tried = any(entry["attempts"] for entry in entries)
    minutes = who.minutes.get(number, 0)
    if not tried and not minutes:
        return '<td class="cell"></td>'
    if any(map(is_stuck, entries)):
        kind, sign = "stuck", "! "
    else:
        kind, sign = ("done", "✓ ") if names and passed == len(names) else ("part", "")
    text = f"{sign}{passed}/{len(names)}" if names else "read"
    return f'<td class="cell {kind}">{text}<small>{minutes:.0f} min</small></td>'


def mean_points(who: Learner) -> str:
    points = [entry["points"] for entry in who.predictions.values() if "points" in entry]
    return f"{statistics.mean(points):.2f}" if points else "–"


def stuck_list(learners: list[Learner]) -> str:
    """Exercises that somebody is stuck at, the most people first, with the misconception that was recognised."""
    found: dict[str, list[tuple[str, dict]]] = {}
    for who in learners:
        for name, entry in who.checks.items():
            if name in REGISTRY and is_stuck(entry):
                found.setdefault(name, []).append((who.name, entry))
    if not found:
        return f"<p>Nobody: no check failed {STUCK_AFTER} times or for {STUCK_MINUTES} minutes without a pass.</p>"
    rows = ""
    for name, people in sorted(found.items(), key=lambda item: -len(item[1])):
        who = ", ".join(
            f"<span class=nobr>{escape(n)} ({e['attempts']}×, {e.get('minutes', 0):.0f} min)</span>"
            for n, e in people
        )
        rows += f"<tr><td>{NOTEBOOK[name]}</td><td><b>{escape(name)}</b></td><td>{who}</td><td>{likely(name, [e for _, e in people])}</td></tr>"
    head = "<th></th><th>exercise</th><th>who</th><th>what their answers look like</th>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def likely(name: str, entries: list[dict]) -> str:
    """The hint that the check gave most often last, with how many got it."""
    hints = {mistake.name: mistake.hint for mistake in REGISTRY[name].mistakes}
    seen = Counter(entry["hint"] for entry in entries if entry.get("hint") in hints)
    if not seen:
        return '<span class="soft">no known mistake</span>'
    hint, count = seen.most_common(1)[0]
    return f"{count} of {len(entries)}: {escape(hints[hint])}"


def exercise_table(learners: list[Learner]) -> str:
    """A row for each exercise that somebody tried."""
    rows = ""
    for name, number in NOTEBOOK.items():
        tried = [who.checks[name] for who in learners if who.checks.get(name, {}).get("attempts")]
        if not tried:
            continue
        passed = [entry for entry in tried if entry["state"] == "passed"]
        attempts = [entry["attempts"] for entry in passed]
        times = [entry["minutes"] for entry in passed if entry.get("minutes")]
        failed = [entry for entry in tried if entry["state"] != "passed"]
        rows += (
            f"<tr><td>{number}</td><td>{escape(name)}</td><td class=number>{len(tried)}</td>"
            f"<td class=number>{len(passed)}</td><td class=number>{middle(attempts, '{:.0f}')}</td>"
            f"<td class=number>{middle(times, '{:.0f} min')}</td><td>{likely(name, failed) if failed else ''}</td></tr>"
        )
    if not rows:
        return "<p>Nobody has tried one yet.</p>"
    head = "<th></th><th>exercise</th><th>tried</th><th>passed</th><th>attempts to pass</th><th>time to pass</th><th>open: usual mistake</th>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def middle(values: list[float], form: str) -> str:
    """Median, with the smallest and the largest."""
    if not values:
        return "–"
    text = form.format(statistics.median(values))
    return text if len(values) == 1 else f"{text} ({min(values):.0f} to {max(values):.0f})"


def predictions(learners: list[Learner]) -> str:
    """What people expected of each question, beside what they then measured."""
    keys = sorted({key for who in learners for key in who.predictions})
    rows = ""
    for key in keys:
        entries = [who.predictions[key] for who in learners if key in who.predictions]
        entries = [e for e in entries if ("choices" in e) == ("choices" in entries[0])]
        points = [e["points"] for e in entries if "points" in e]
        picture = bars(entries) if "choices" in entries[0] else strip(entries)
        mean = f"{statistics.mean(points):.2f}" if points else "–"
        rows += (
            f"<tr><td>{escape(key[:2])}</td><td>{escape(entries[0]['question'])}</td><td>{picture}</td>"
            f"<td class=number>{len(entries)}</td><td class=number>{mean}</td></tr>"
        )
    if not rows:
        return "<p>Nobody has predicted anything yet.</p>"
    legend = "<p class=soft>A dot is one learner; the bar is the median of what they measured afterwards.</p>"
    head = "<th></th><th>question</th><th>answers</th><th>learners</th><th>mean points</th>"
    return f"{legend}<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def strip(entries: list[dict], width: int = 260) -> str:
    """Numbers on a line from low to high, equal ones piled up."""
    answers = sorted(entry["answer"] for entry in entries)
    measured = [e["value"] for e in entries if isinstance(e.get("value"), int | float)]
    truth = statistics.median(measured) if measured else None
    inside = [*answers, *([] if truth is None else [truth])]
    low = min([*inside, *(e["low"] for e in entries if e.get("low") is not None)])
    high = max([*inside, *(e["high"] for e in entries if e.get("high") is not None)])
    scale = (width - 12) / ((high - low) or 1)
    piles: Counter = Counter()
    dots = ""
    for answer in answers:
        column = round(6 + (answer - low) * scale)
        dots += f'<circle cx="{column}" cy="{30 - 7 * min(piles[column // 6], 3)}" r="4"/>'
        piles[column // 6] += 1
    line = f'<line x1="6" y1="36" x2="{width - 6}" y2="36"/>'
    if truth is not None:
        x = 6 + (truth - low) * scale
        line += f'<line class="truth" x1="{x:.0f}" y1="2" x2="{x:.0f}" y2="40"/>'
    ends = f'<text x="6" y="49">{low:g}</text><text x="{width - 6}" y="49" text-anchor="end">{high:g}</text>'
    said = f"{len(answers)} answers from {answers[0]:g} to {answers[-1]:g}, median {statistics.median(answers):g}"
    said += "" if truth is None else f"; measured {truth:g}"
    return f'<svg class="strip" role="img" aria-label="{said}" width="{width}" height="52">{line}{dots}{ends}</svg>'


def bars(entries: list[dict]) -> str:
    """Choices with how many took each; the right one is bold."""
    counts = Counter(entry["answer"] for entry in entries)
    right = Counter(str(entry["value"]).lower() for entry in entries if "value" in entry).most_common(1)
    rows = ""
    for choice in entries[0]["choices"]:
        is_right = bool(right) and choice.lower() == right[0][0]
        sign = ' class="right"' if is_right else ""
        rows += (
            f"<span{sign}>{escape(choice)}{' ✓' if is_right else ''}</span>"
            f'<i style="width:{100 * counts[choice] / len(entries):.0f}%"></i><span>{counts[choice]}</span>'
        )
    return f'<div class="bars">{rows}</div>'


if __name__ == "__main__":
    sys.exit(main())
