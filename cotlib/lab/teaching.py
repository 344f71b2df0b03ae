"""Writes the generated parts of docs/TEACHING.md: what each notebook takes, and the mistakes that its checks know.

python -m cotlib.lab.teaching            both tables, between their markers
python -m cotlib.lab.teaching --check    exit 1 when docs/TEACHING.md is not what this would write

Seconds and memory are those of the last run of the whole course, minutes of exercises are those of their headings, and
mistakes are those of `cotlib.lab.exercises`. Times for reading, looking and thinking are plain arithmetic with the three numbers
below; nobody has timed learners.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from cotlib.lab.exercises import NOTEBOOK, REGISTRY
from cotlib.lab.readme import RESULTS, ROOT, read_json, title_of, with_parts

PAGE = ROOT / "docs" / "TEACHING.md"
WORDS_A_MINUTE = 120  # assumed for text with formulas
LOOKING = 0.5  # minutes assumed for a figure
THINKING = 1.0  # minutes assumed for a prediction
CLASS = 40  # learners on one machine

HEADING = re.compile(r"^### Exercise[^:\n]*: (.+?) · difficulty (\d) of 5 · (\d+) minutes$", re.MULTILINE)
CHECK = re.compile(r'^check\("(\w+)"', re.MULTILINE)
PREDICT = re.compile(r"^predict\(", re.MULTILINE)

# The mistake of each exercise that is worth a word with everybody: a wrong idea rather than a slip. An exercise that is not
# listed shows its first one.
TALK = {
    "pack_digits": "plain sum", "straight_through": "no gradient", "masked_count": "linear",
    "masked_step": "most confident masked", "guide": "interpolation", "relative_position": "one axis only",
    "bootstrap_interval": "pictures resampled", "coverage": "with replacement", "p_yes": "whole vocabulary",
    "pick_each": "last of equals", "ranking": "across prompts", "keep_branches": "sum of past scores",
    "step_labels": "own verdict", "three_tasks": "potential before clear", "keep_rows": "first random numbers",
    "understand": "silence accepts", "until_accepted": "best score of all rounds", "pair_up": "across prompts",
    "dpo_loss": "no reference", "advantages": "mean of all prompts", "compute_matched": "best affordable n",
    "pareto_front": "truth by cost", "inverse_cdf": "impossible code", "kth_smallest": "equal counted",
    "streamed_logsumexp": "old sum not scaled", "guide_kernel": "no mask",
    "transformers_name": "all occurrences", "omni_mask": "pads are seen", "answer_p_yes": "whole vocabulary",
}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """An exercise as a notebook presents it; difficulty 1 to 5, minutes as its heading estimates them."""

    name: str
    title: str
    difficulty: int
    minutes: int


@dataclass(frozen=True)
class Lesson:
    """A notebook; seconds and gb (memory) as last measured, None where they are not."""

    path: Path
    words: int
    figures: int
    predictions: int
    tasks: tuple[Task, ...]
    seconds: float | None = None
    gb: float | None = None

    @property
    def reading(self) -> float:
        """Minutes for text and figures."""
        return self.words / WORDS_A_MINUTE + self.figures * LOOKING

    @property
    def alone(self) -> float:
        """Minutes for somebody who reads, predicts, runs and solves everything."""
        spent = [self.reading, self.predictions * THINKING, (self.seconds or 0) / 60]
        return sum(spent) + sum(task.minutes for task in self.tasks)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m cotlib.lab.teaching", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--check", action="store_true", help="only compare")
    options = parser.parse_args(arguments)
    before = PAGE.read_text(encoding="utf-8")
    after = filled(before)
    if options.check:
        return int(after != before)
    PAGE.write_text(after, encoding="utf-8")
    return 0


def filled(text: str) -> str:
    """The guide with each marked part written anew."""
    found = lessons()
    return with_parts(text, {"times": times_table(found), "mistakes": mistakes_table(found)})


def lessons() -> list[Lesson]:
    """All built notebooks in the order of the course."""
    measured = {row["name"]: row for row in read_json(RESULTS / "course_run.json")["notebooks"]}
    return [
        lesson(path, measured.get(path.stem, {}))
        for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    ]


def lesson(path: Path, measured: dict) -> Lesson:
    """One notebook: its words, predictions and exercises. measured: its row of the last run, or empty."""
    words, figures, predictions, tasks, heading = 0, 0, 0, [], None
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            words += len(source.split())
            heading = next(iter(HEADING.findall(source)), heading)
            continue
        figures += sum("image/png" in output.get("data", {}) for output in cell["outputs"])
        predictions += len(PREDICT.findall(source))
        for name in CHECK.findall(source):
            title, difficulty, minutes = heading
            tasks.append(Task(name, title, int(difficulty), int(minutes)))
    return Lesson(
        path, words, figures, predictions, tuple(tasks), measured.get("seconds"), measured.get("peak_gb")
    )


def times_table(found: list[Lesson]) -> str:
    """A row for each notebook: run, memory, memory of a class, predictions, exercises, reading, everything."""
    lines = [
        f"| notebook | running it | memory | {CLASS} at once | reading | predictions | exercises | alone, all of it |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        run = "–" if one.seconds is None else f"{one.seconds:.0f} s"
        memory = "–" if one.gb is None else f"{one.gb:.1f} GB"
        room = "–" if one.gb is None else f"{math.ceil(CLASS * one.gb)} GB"
        tasks = f"{len(one.tasks)}: {sum(task.minutes for task in one.tasks)} min" if one.tasks else "–"
        name = f"[{title_of(one.path)}](../notebooks/{one.path.name})"
        lines.append(
            f"| {name} | {run} | {memory} | {room} | {to_five(one.reading)} min | {one.predictions} | {tasks} | "
            f"{to_five(one.alone)} min |"
        )
    hours = sum(one.alone for one in found) / 60
    lines.append(f"\nAll of it, alone: about {hours:.0f} hours. Assumed, and rounded to five minutes: {WORDS_A_MINUTE} words a minute, "
                 f"{LOOKING:g} minutes a figure (both under reading), {THINKING:g} minute a prediction.")  # fmt: skip
    return "\n".join(lines)


def to_five(minutes: float) -> int:
    """Rounded to whole five minutes, at least five."""
    return max(5, 5 * round(minutes / 5))


def mistakes_table(found: list[Lesson]) -> str:
    """A row for each exercise: difficulty, minutes, what it writes again, all known mistakes, and one hint in full."""
    lines = [
        "| | exercise | difficulty, minutes | the library's | the check knows | worth a word with everybody |",
        "|---|---|---|---|---|---|",
    ]
    total = 0
    for task in (task for one in found for task in one.tasks):
        exercise = REGISTRY[task.name]
        names = list(dict.fromkeys(mistake.name for mistake in exercise.mistakes))
        total += len(names)
        hints = {mistake.name: mistake.hint for mistake in exercise.mistakes}
        hint = hints[TALK.get(task.name, names[0])]
        cells = [
            NOTEBOOK[task.name],
            f"{task.title}: `{task.name}`",
            f"{task.difficulty}, {task.minutes} min",
            f"`{exercise.where.replace(':', '.').removeprefix('cotlib.')}`",
            "; ".join(names),
            hint,
        ]
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    lines.append(f"\n{total} mistakes of {len(lines) - 2} exercises.")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
