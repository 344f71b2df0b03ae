"""The whole table: its rows beside the paper's, what of the paper's order holds, quality against cost, and two judges.

    result = stored("table")                       # cotlib.tables.search.stored; the dict that cotlib.tables.paper.run returns
    show(paper_table_figure(result), alt="...")
    rows = compared(result)                        # the paper's comparisons, each with what is measured here
    show(order_figure(rows), alt="...")
    show(front_figure(result), alt="...")
    show(judges_figure(result), alt="...")

A difference is *told apart* from none when its 95 % interval leaves 0 out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cotlib.lab import style
from cotlib.lab.search_figures import UNITS
from cotlib.tables.paper import CORRECTOR, TUNING, System, name_of, published_row
from cotlib.world.scenes import TASKS

SHOWN = {  # generator: (colour, marker)
    "base": (style.BLACK, "o"), "dpo": (style.SKY, "v"), "dpo-iter": (style.BLUE, "s"),
    "dpo-guided-orm": (style.ORANGE, "^"), "dpo-guided-parm": (style.VERMILLION, "D"), CORRECTOR: (style.GREEN, "P"),
}  # fmt: skip
PICKED = {"single": "one picture", "orm-zs": "ORM zero-shot", "orm": "ORM", "prm-zs": "PRM zero-shot", "prm": "PRM",
          "parm": "PARM", "parm++ silent": "PARM++, no reflection", "parm++": "PARM++, local edit",
          "parm++ anew": "PARM++, drawn anew"}  # fmt: skip
GENEVAL = {"single_object": 80, "two_object": 99, "counting": 80, "colors": 94, "position": 100, "color_attr": 100}  # fmt: skip
PICTURES = 4  # that the paper draws for each of GenEval's prompts

COMPARISONS: tuple[tuple[str, System, System], ...] = (  # what the paper found, the better system first
    ("a zero-shot ORM helps", ("base", "orm-zs"), ("base", "single")),
    ("a fine-tuned ORM helps more", ("base", "orm"), ("base", "orm-zs")),
    ("a fine-tuned PRM helps a little", ("base", "prm"), ("base", "single")),
    ("PARM beats the ORM", ("base", "parm"), ("base", "orm")),
    ("DPO helps", ("dpo", "single"), ("base", "single")),
    ("a second round of DPO helps more", ("dpo-iter", "single"), ("dpo", "single")),
    ("the ORM's guidance helps", ("dpo-guided-orm", "single"), ("dpo-iter", "single")),
    ("PARM's guidance helps", ("dpo-guided-parm", "single"), ("dpo-iter", "single")),
    ("PARM guides better than the ORM", ("dpo-guided-parm", "single"), ("dpo-guided-orm", "single")),
    ("tuning adds to the zero-shot ORM", ("dpo-iter", "orm-zs"), ("base", "orm-zs")),
    ("tuning adds to the ORM", ("dpo-iter", "orm"), ("base", "orm")),
    ("tuning adds to PARM", ("dpo-iter", "parm"), ("base", "parm")),
    ("PARM beats the ORM after tuning", ("dpo-iter", "parm"), ("dpo-iter", "orm")),
    ("guidance adds to the ORM's choice", ("dpo-guided-orm", "orm"), ("dpo-iter", "orm")),
    ("guidance adds to PARM's choice", ("dpo-guided-parm", "parm"), ("dpo-iter", "parm")),
    ("learning to correct costs a little", ("base", "single"), (CORRECTOR, "single")),
    ("PARM beats the ORM on the corrector", (CORRECTOR, "parm"), (CORRECTOR, "orm")),
    ("reflection in words helps", (CORRECTOR, "parm++ anew"), (CORRECTOR, "parm++ silent")),
)
HOLDS, REVERSED, OPEN = "holds", "the other way round", "cannot be told"

# ----- numbers -----------------------------------------------------------------------------------------------------


class Compared(NamedTuple):
    """One of the paper's comparisons: its difference there and how much of it may be dice, and the difference here with interval.

    paired: the interval here is of differences between the same prompts; else of two separate scores, and too wide.
    """

    text: str
    paper: float
    dice: float
    here: float
    low: float
    high: float
    paired: bool

    @property
    def verdict(self) -> str:
        """What is measured here says of the paper's order: HOLDS, REVERSED or OPEN."""
        return HOLDS if self.low > 0 else REVERSED if self.high < 0 else OPEN


def row_of(result: Mapping, system: System) -> Mapping | None:
    """A system's row of the table, None when it was not measured."""
    return next((row for row in result["rows"] if (row["generator"], row["search"]) == system), None)


def difference_of(result: Mapping, a: System, b: System) -> tuple[float, float, float, bool]:
    """(a - b in truth, low, high, paired): the table's paired difference where it has one, either way round.

    Else from the two rows' own intervals, half widths added as independent errors are. Both are over the same prompts, whose
    difficulty then does not cancel, so that interval is too wide.
    """
    stored = result["differences"]
    if (name := f"{name_of(a)} - {name_of(b)}") in stored:
        return (*stored[name], True)
    if (name := f"{name_of(b)} - {name_of(a)}") in stored:
        mean, low, high = stored[name]
        return -mean, -high, -low, True
    first, second = row_of(result, a), row_of(result, b)
    mean = first["overall"] - second["overall"]
    down = np.hypot(first["overall"] - first["ci95"][0], second["ci95"][1] - second["overall"])
    up = np.hypot(first["ci95"][1] - first["overall"], second["overall"] - second["ci95"][0])
    return mean, mean - float(down), mean + float(up), False


def compared(result: Mapping) -> list[Compared]:
    """The paper's comparisons of which both systems were measured here."""
    rows = []
    for text, a, b in COMPARISONS:
        if row_of(result, a) and row_of(result, b):
            theirs = published_row(a), published_row(b)
            dice = float(np.hypot(*map(published_error, theirs)))
            rows.append(
                Compared(
                    text, theirs[0]["overall"] - theirs[1]["overall"], dice, *difference_of(result, a, b)
                )
            )
    return rows


def published_error(row: Mapping, alike: float = 0.0) -> float:
    """Half the width of a 95 % interval of a published overall score, by arithmetic: the paper gives none.

    The mean of six task means, each of 4 pictures for its GenEval prompts, with p the task's score:
    1.96 sqrt(sum over tasks of p (1 - p) (1 + 3 alike) / (4 prompts)) / 6. alike: correlation of the pictures of one prompt; 0,
    as if all were independent, gives the least that it can be.
    """
    grown = 1 + (PICTURES - 1) * alike
    parts = [row[t] * (1 - row[t]) * grown / (PICTURES * GENEVAL[t]) for t in TASKS]
    return 1.96 * float(np.sqrt(sum(parts))) / len(TASKS)


def alikeness(right) -> float:
    """Correlation of two pictures of the same prompt in being right, from 0 or 1 in [P, N] (analysis of variance).

    Prompts of several tasks together; 0 when prompts do not differ, 1 when a prompt's pictures are all right or all wrong.
    """
    right = np.asarray(right, float)
    n = right.shape[1]
    between = n * right.mean(1).var(ddof=1)
    within = right.var(1, ddof=1).mean()
    return float((between - within) / (between + (n - 1) * within))


def agreement(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """Kendall's tau b of two orders: 1 the same, 0 unrelated, -1 reversed; pairs that are equal on one side count for neither."""
    a, b = (np.sign(np.subtract.outer(x, x))[np.triu_indices(len(x), 1)] for x in (theirs, ours))
    untied = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / untied) if untied else float("nan")


def both_sides(result: Mapping) -> tuple[list[float], list[float]]:
    """(published, measured) overall scores of all rows that the paper has."""
    rows = [row for row in result["rows"] if row["published"]]
    return [row["published"]["overall"] for row in rows], [row["overall"] for row in rows]


def seconds_of(result: Mapping) -> list[float]:
    """Seconds of one core a prompt, one for each row, to 10 ms: two runs of the same work differ by about that."""
    return [round(row["cost"]["seconds"], 2) for row in result["rows"]]


def pareto_front(costs: Sequence[float], truths: Sequence[float]) -> list[int]:
    """Places of the systems that no other one beats, cheapest first.

    Beaten is who finds another that costs no more and is right no less often, and is better in at least one of the two. So of
    two equals both stay.
    """
    pairs = list(zip(costs, truths, strict=True))

    def beaten(cost: float, truth: float) -> bool:
        return any(c <= cost and t >= truth and (c < cost or t > truth) for c, t in pairs)

    return sorted((i for i, pair in enumerate(pairs) if not beaten(*pair)), key=lambda i: (pairs[i], i))


def compute_matched(truth, budget: float, scores, right, price: float) -> tuple[int, float]:
    """(n, difference): a method against best-of-n for the same money, in truth.

    truth [P]: of the method, a prompt; budget: what it cost a prompt. scores, right [P, N]: the rival's candidates in the order in
    which they were drawn; price: of one of them, choosing included. n: as many as the budget buys in full, at least 1 and at
    most N. The rival takes the highest of its first n scores, of equals the first.
    """
    scores, right = np.asarray(scores, float), np.asarray(right, float)
    n = int(min(max(np.floor(budget / price), 1), scores.shape[1]))
    rival = right[np.arange(len(right)), scores[:, :n].argmax(1)]
    return n, float(np.mean(np.asarray(truth, float) - rival))


# ----- figures -----------------------------------------------------------------------------------------------------


def paper_table_figure(result: Mapping):
    """All rows, one block a generator: left the paper's overall score, in the middle ours with its 95 % interval, right what
    a prompt costs (`seconds_of`). Rows that the paper has not are empty on the left. Returns a matplotlib figure.

    The band of the paper's scores is the least that dice can do to them (`published_error`).
    """
    from matplotlib.figure import Figure

    rows, heights, y = result["rows"], [], 0.0
    for before, row in zip([None, *rows], rows, strict=False):
        y += 1.0 if before is None or before["generator"] == row["generator"] else 2.1
        heights.append(y)
    fig = Figure(figsize=(9.6, 0.19 * y + 1.15), layout="constrained")
    theirs, ours, cost = fig.subplots(1, 3, sharey=True, width_ratios=(1, 1.6, 1))
    for place, row, seconds in zip(heights, rows, seconds_of(result), strict=True):
        color, marker = SHOWN[row["generator"]]
        look = dict(color=color, marker=marker, markersize=5.5, linestyle="")
        if paper := row["published"]:
            half = published_error(paper)
            theirs.hlines(
                place, paper["overall"] - half, paper["overall"] + half, color=color, linewidth=4, alpha=0.3
            )
            theirs.plot(paper["overall"], place, **look)
        ours.hlines(place, *row["ci95"], color=color, linewidth=4, alpha=0.3)
        ours.plot(row["overall"], place, **look)
        cost.plot(seconds, place, **look)
    for place, row, before in zip(heights, rows, [None, *rows], strict=False):
        if before is None or before["generator"] != row["generator"]:
            name = TUNING[row["generator"]] or "the generator as it is"
            theirs.text(-0.02, place - 0.9, name, transform=theirs.get_yaxis_transform(), ha="right", va="center",
                        fontsize=8.5, fontweight="bold", color=SHOWN[row["generator"]][0])  # fmt: skip
    measured = rows[0]
    theirs.set(yticks=heights, yticklabels=[PICKED.get(row["search"], row["search"]) for row in rows], ylim=(y + 0.8, -0.6),
               xlabel="overall, GenEval")  # fmt: skip
    theirs.set_title("the paper (Show-o)")
    ours.set(xlabel=f"overall (95 %), {measured['prompts']} prompts, N = {measured['n']}")
    ours.set_title("here (pictograms)")
    cost.set(xlabel="seconds of one core", xscale="log")
    cost.set_title("a prompt costs")
    _plain_log(cost.xaxis)
    for ax in (theirs, ours, cost):
        ax.grid(axis="y", visible=False)
        ax.tick_params(axis="y", labelsize=8)
    return fig


def order_figure(rows: Sequence[Compared]):
    """The paper's comparisons: its difference, hollow with what may be dice, and ours with its 95 % interval. A matplotlib figure.

    Filled disc: the order holds; square: it is the other way round; small grey diamond: the interval holds 0.
    """
    from matplotlib import pyplot as plt

    looks = {HOLDS: (style.GREEN, "o"), REVERSED: (style.VERMILLION, "s"), OPEN: ("#8A9099", "D")}
    fig, ax = plt.subplots(layout="constrained", figsize=(8.6, 0.33 * len(rows) + 1.2))
    ax.axvline(0, color=style.BLACK, linewidth=1, marker="")
    for y, row in enumerate(rows):
        color, marker = looks[row.verdict]
        ax.hlines(y + 0.17, row.low, row.high, color=color, linewidth=4, alpha=0.35)
        ax.plot(row.here, y + 0.17, color=color, marker=marker, markersize=6.5, linestyle="")
        ax.hlines(y - 0.2, row.paper - row.dice, row.paper + row.dice, color=style.FAINT, linewidth=3)
        ax.plot(
            row.paper,
            y - 0.2,
            color=style.INK,
            marker="o",
            markersize=5,
            markerfacecolor="white",
            linestyle="",
        )
    ax.set(yticks=range(len(rows)), yticklabels=[row.text for row in rows], ylim=(len(rows) - 0.4, -0.6),
           xlabel="difference in truth")  # fmt: skip
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", labelsize=8.5)
    ax.plot([], [], color=style.INK, marker="o", markerfacecolor="white", linestyle="", label="the paper")
    for verdict, (color, marker) in looks.items():
        ax.plot([], [], color=color, marker=marker, linestyle="", label=f"here: {verdict}")
    ax.legend(loc="upper center", bbox_to_anchor=(0.4, -0.09), ncols=4, fontsize=8.5)
    return fig


def front_figure(result: Mapping, costs: Sequence[str] = ("token_passes", "seconds"), *,
                 fewer: Mapping[int, float] | None = None):  # fmt: skip
    """Truth against cost of every system, one panel per cost, with the line of those that no other beats. A matplotlib figure.

    costs: of "token_passes", "verifier_calls" and "seconds" (`seconds_of`). Colour and marker name the generator; the systems on the line are
    numbered from the cheapest on. fewer: {n: truth} of best of n by the ORM on the base, the rival at equal cost, a grey line; n
    candidates are taken to cost n / N of what the table's row with N costs.
    """
    from matplotlib import pyplot as plt

    words = {"token_passes": UNITS["passes"].replace(", thousands", ""), "verifier_calls": UNITS["calls"],
             "seconds": UNITS["seconds"]}  # fmt: skip
    rows = result["rows"]
    fig, axes = plt.subplots(1, len(costs), layout="constrained", figsize=(4.7 * len(costs) + 0.4, 4.4), sharey=True,
                             squeeze=False)  # fmt: skip
    truths = [row["overall"] for row in rows]
    for ax, cost in zip(axes[0], costs, strict=True):
        spent = seconds_of(result) if cost == "seconds" else [row["cost"][cost] for row in rows]
        for row, x in zip(rows, spent, strict=True):
            color, marker = SHOWN[row["generator"]]
            ax.vlines(x, *row["ci95"], color=color, linewidth=2, alpha=0.25)
            ax.plot(x, row["overall"], color=color, marker=marker, markersize=6, linestyle="")
        if fewer:
            whole = rows.index(row_of(result, ("base", "orm")))
            ax.plot([spent[whole] * n / rows[whole]["n"] for n in fewer], list(fewer.values()), color="#8A9099",
                    linestyle="-.", linewidth=1.2, marker="", label="ORM, fewer candidates")  # fmt: skip
        front = pareto_front(spent, truths)
        ax.plot([spent[i] for i in front], [truths[i] for i in front], color=style.PINK, linewidth=1.4, marker="",
                drawstyle="steps-post", zorder=0, label="nobody beats these" if ax is axes[0, 0] else None)  # fmt: skip
        for number, i in enumerate(front):
            ax.annotate(str(number + 1), (spent[i], truths[i]), textcoords="offset points", xytext=(-5, 5 + 9 * (number % 2)), fontsize=8.5,
                        ha="right", fontweight="bold")  # fmt: skip
        ax.set(xlabel=words[cost], xscale="log")
        _plain_log(ax.xaxis)
    axes[0, 0].set_ylabel("share of prompts that are right")
    for name in dict.fromkeys(row["generator"] for row in rows):
        color, marker = SHOWN[name]
        axes[0, 0].plot([], [], color=color, marker=marker, linestyle="", label=TUNING[name] or "base")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8.5)
    return fig


def judges_figure(result: Mapping):
    """Every system by both judges: across, the one that labelled and measured; up, the independent one. A matplotlib figure."""
    from matplotlib import pyplot as plt

    rows = [row for row in result["rows"] if row["second_judge"] is not None]
    fig, ax = plt.subplots(layout="constrained", figsize=(6.6, 4.2))
    ends = [f(row[key] for row in rows for key in ("overall", "second_judge")) for f in (min, max)]
    ax.plot(ends, ends, color=style.BLACK, linestyle=":", linewidth=1.2, marker="")
    for name in dict.fromkeys(row["generator"] for row in rows):
        color, marker = SHOWN[name]
        mine = [row for row in rows if row["generator"] == name]
        for row in mine:
            ax.hlines(row["second_judge"], *row["ci95"], color=color, linewidth=2, alpha=0.25)
        ax.plot([row["overall"] for row in mine], [row["second_judge"] for row in mine], color=color, marker=marker,
                linestyle="", label=TUNING[name] or "base")  # fmt: skip
    ax.set(xlabel="detector judge (labels, measures), 95 % interval", ylabel="template judge (no training)")
    ax.legend(loc="lower right", fontsize=8.5)
    return fig


def _plain_log(axis) -> None:
    """Plain numbers at 1, 2 and 5 of each decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())
