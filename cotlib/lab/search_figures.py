"""Figures of a search: what one path was asked, the tree of all paths of a prompt, quality against cost.

    show(asked_strip(pictures, clarity, potential, clear=0.5, promising=0.5), alt="...")
    show(path_tree_figure(tree(outcome, 0), steps=8, right=verdicts), alt="...")
    show(cost_chart(stored("search")["strategies"]), alt="...")

`cost_chart` reads the plain dictionaries that `cotlib.tables.search` and `cotlib.evaluation` write, so a run of a notebook, a
stored table and a mixture of both are drawn in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cotlib.lab import style
from cotlib.lab.figures import as_uint8, draw_mark, draw_tile
from cotlib.tables.search import cost_of

GREY = "#8A9099"
LOOKS = {  # name: (label, colour, marker, filled)
    "single": ("one picture", style.BLACK, "o", True),
    "one": ("one picture", style.BLACK, "o", True),
    "logprob": ("log-probability", style.BLACK, "D", False),
    "orm-zs": ("ORM zero-shot", style.BLUE, "s", False),
    "orm": ("ORM", style.BLUE, "s", True),
    "prm-zs": ("PRM zero-shot", style.PINK, "v", False),
    "prm": ("PRM", style.PINK, "v", True),
    "parm final": ("best of N by PARM's FINAL", style.GREEN, "^", False),
    "parm": ("PARM", style.GREEN, "^", True),
    "halving": ("halving, by PARM's verifier", style.ORANGE, "h", True),
    "parm++": ("PARM++", style.VERMILLION, "P", True),
    "oracle": ("the judge picks (bound)", GREY, "*", False),
}
SPARE = (("X", style.ORANGE), ("p", style.ORANGE), ("<", style.SKY), (">", style.SKY), ("h", style.VERMILLION),
         ("d", style.VERMILLION), ("H", style.PINK), ("8", style.BLACK))  # fmt: skip
UNITS = {
    "seconds": "seconds of one core for a picture",
    "passes": "token passes for a picture, thousands",
    "calls": "pictures shown to the verifier",
}


# ----- quality against cost ----------------------------------------------------------------------------------------


def cost_chart(
    results: Mapping[str, Mapping], costs: Sequence[str] = ("passes", "seconds"), *,
    names: Sequence[str] | None = None, curves: Mapping[str, Mapping[str, Sequence]] | None = None,
    log: bool = True,
):  # fmt: skip
    """Truth against cost, a marker with its 95 % interval for every strategy, one panel per kind of cost.

    results  {name: {"overall", "ci95": [low, high], "ledger", "prompts", "seeds", "n"}}, as `cotlib.tables.search` writes them
    costs    panels, each "passes" (of the generator alone), "seconds" (verifier and decoding included) or "calls"
    names    which of the results, in this order; default all
    curves   {name: {kind of cost: [(x, mean, low, high), ...]}}: what the strategy reaches with fewer candidates
    Returns a matplotlib figure. ValueError for an unknown kind of cost.
    """
    from matplotlib import pyplot as plt

    if unknown := [cost for cost in costs if cost not in UNITS]:
        raise ValueError(f"there is no cost {unknown[0]!r}; expected some of {', '.join(UNITS)}")
    names = list(results) if names is None else [name for name in names if name in results]
    looks = looks_of(names)
    beside = len(costs) == 1  # the legend: at the right of one panel, below several
    size = (6.4, 4.5) if beside else (3.6 * len(costs) + 0.5, 3.9 + 0.22 * -(-len(names) // 4))
    fig, axes = plt.subplots(1, len(costs), layout="constrained", figsize=size, sharey=True, squeeze=False)
    for ax, cost in zip(axes[0], costs, strict=True):
        for name, by_cost in (curves or {}).items():
            _curve(ax, by_cost[cost], looks_of([name])[name][1])
        for name in names:
            label, color, marker, filled = looks[name]
            x = cost_of(results[name], name)[cost]
            low, high = results[name]["ci95"]
            ax.plot([x, x], [low, high], color=color, linewidth=3.5, alpha=0.3, marker="")
            ax.plot(x, results[name]["overall"], color=color, marker=marker, markersize=7.5 if filled else 10,
                    markerfacecolor=color if filled else "none", linestyle="", label=label)  # fmt: skip
        ax.set(xlabel=UNITS[cost])
        if log:
            _log_axis(ax)
    axes[0, 0].set_ylabel("share of prompts that are right")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    place = dict(loc="outside right center") if beside else dict(loc="outside lower center", ncols=4)
    fig.legend(handles, labels, fontsize=8.5, **place)
    return fig


def looks_of(names: Sequence[str]) -> dict[str, tuple[str, str, str, bool]]:
    """(label, colour, marker, filled) of each name; names that the course does not know get the spare markers."""
    spare = iter(SPARE * (1 + len(names) // len(SPARE)))
    looks = {}
    for name in names:
        if name in LOOKS:
            looks[name] = LOOKS[name]
        else:
            marker, color = next(spare)
            looks[name] = (name.replace("parm++", "PARM++"), color, marker, False)
    return looks


def _curve(ax, points: Sequence, color: str) -> None:
    x, mean, low, high = np.array(points, float).T
    ax.fill_between(x, low, high, color=color, alpha=0.1, linewidth=0)
    ax.plot(x, mean, color=color, linewidth=1.2, marker="")


def _log_axis(ax) -> None:
    """A logarithmic axis with plain numbers, at least two of them inside the range."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.set_xscale("log")
    low, high = ax.get_xlim()
    wide = high / low > 30
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


# ----- one path ----------------------------------------------------------------------------------------------------


def asked_strip(pictures, clarity: Sequence[float | None], potential: Sequence[float | None], *, clear: float,
                promising: float, final: float | None = None, right: bool | None = None, tile: float = 0.94):  # fmt: skip
    """The guesses of one path, with what the verifier says of each: a line of clarity, a line of potential.

    pictures   [S,3,H,W], the full guess after each step
    clarity    P(yes) for each step, None where it is not asked; the same for potential
    clear, promising: what counts as yes; such numbers stand on a dark field; the first clear guess is framed
    final      P(yes) for the finished picture; right: the judge's verdict on it
    Returns a matplotlib figure.
    """
    from matplotlib.figure import Figure

    tiles = as_uint8(pictures)
    count, height, width = tiles.shape[:3]
    side, gap, head, line = 0.9 * width, 0.1 * width, 0.28 * width, 0.3 * width
    total_x, total_y = side + count * (width + gap), head + height + 0.1 * width + 3 * line
    fig = Figure(figsize=(total_x * tile / width, total_y * tile / width))
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, total_x), ylim=(total_y, 0))
    ax.axis("off")
    first = first_clear(clarity, clear)
    rows = [("CLARITY", clarity, clear), ("POTENTIAL", potential, promising),
            ("FINAL", [None] * (count - 1) + [final], None)]  # fmt: skip
    for column, picture in enumerate(tiles):
        left = side + column * (width + gap)
        draw_tile(ax, picture, left, head, picked=column == first)
        ax.text(
            left + width / 2,
            head - 0.07 * width,
            f"step {column + 1}",
            ha="center",
            va="bottom",
            fontsize=8.5,
        )
        for number, (_, values, bar) in enumerate(rows):
            if values[column] is not None:
                y = head + height + 0.1 * width + (number + 0.5) * line
                yes = None if bar is None else values[column] >= bar
                _number(ax, left + width / 2, y, width, 0.82 * line, values[column], yes)
    for number, (name, _, _) in enumerate(rows):
        ax.text(side - 0.1 * width, head + height + 0.1 * width + (number + 0.5) * line, name, ha="right", va="center",
                fontsize=8)  # fmt: skip
    if right is not None:
        edge = side + (count - 1) * (width + gap) + width
        draw_mark(ax, right, edge - 0.015 * width, head + height - 0.015 * width, 0.1 * width)
    return fig


def first_clear(clarity: Sequence[float | None], clear: float) -> int | None:
    """The first step, from 0, whose clarity counts as yes; None if there is none."""
    return next((step for step, p in enumerate(clarity) if p is not None and p >= clear), None)


def _number(ax, x: float, y: float, width: float, height: float, value: float, yes: bool | None) -> None:
    """A probability in a field: dark for yes, light for no, framed where it is compared with nothing."""
    from matplotlib.patches import Rectangle

    color = "white" if yes is None else style.BLUE if yes else "#EEF0F2"
    edge = dict(edgecolor=style.BLUE, linewidth=1.2) if yes is None else dict(edgecolor="none")
    ax.add_patch(Rectangle((x - width / 2, y - height / 2), width, height, facecolor=color, **edge))
    ax.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=8.5, color="white" if yes else style.INK)


# ----- all paths of a prompt ---------------------------------------------------------------------------------------


def path_tree_figure(entries: Sequence[Mapping], steps: int, *, right: Sequence[bool] | None = None, title: str = "",
                     path: int | None = None):  # fmt: skip
    """Every path of a prompt as a line through the steps, from `cotlib.search.tree`. Returns a matplotlib figure.

    A disc where CLARITY was asked in vain, the darker the clearer; a diamond with its number where POTENTIAL was asked; a red
    square with a cross where the path stopped; then nothing. At the right P(yes) to FINAL as a bar, a star for the chosen path.

    steps  how many there are;  right  the judge's verdict for each path, drawn to its end (None: not shown)
    path   a path to lift out
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    shades = colormaps["cividis"].reversed()
    fig = Figure(layout="constrained", figsize=(8.0, 0.235 * len(entries) + 1.1))
    ax, bars = fig.subplots(1, 2, width_ratios=(4.2, 1), sharey=True)
    for y, entry in enumerate(entries):
        stop = entry["stopped"]
        if entry["path"] == path:
            for panel in (ax, bars):
                panel.axhspan(y - 0.5, y + 0.5, color=style.YELLOW, alpha=0.25, linewidth=0)
        ax.plot(
            [0.3, (steps if stop is None else stop + 1)],
            [y, y],
            color=style.FAINT,
            linewidth=1.6,
            marker="",
            zorder=1,
        )
        for step, p in entry["clarity"].items():
            ax.plot(step + 1, y, marker="o", markersize=8.5, color=shades(p or 0.0), markeredgecolor=style.INK,
                    markeredgewidth=0.5, zorder=2)  # fmt: skip
        for step, p in entry["potential"].items():
            color = style.VERMILLION if stop is not None else style.GREEN
            ax.plot(
                step + 1, y, marker="s" if stop is not None else "D", markersize=10, color=color, zorder=3
            )
            ax.text(step + 1.22, y, f"{p or 0.0:.2f}", va="center", fontsize=8.5, color=color, zorder=4,
                    bbox=dict(facecolor="white", edgecolor="none", pad=0.8))  # fmt: skip
            if stop is not None:
                ax.plot(step + 1, y, marker="x", markersize=5, color="white", zorder=4)
        if entry["final"] is not None:
            bars.barh(y, entry["final"], height=0.62, color=style.BLUE if entry["chosen"] else style.SKY)
        if entry["chosen"]:
            bars.plot(1.1, y, marker="*", markersize=11, color=style.BLUE, clip_on=False)
        if right is not None:
            bars.plot(1.28, y, marker="o" if right[y] else "X", markersize=6.5, clip_on=False,
                      color=style.GREEN if right[y] else style.VERMILLION)  # fmt: skip
    ax.set(yticks=range(len(entries)), yticklabels=[entry["path"] + 1 for entry in entries], ylabel="path",
           xticks=range(1, steps + 1), xlim=(0.3, steps + 0.75), ylim=(len(entries) - 0.4, -0.6), xlabel="step")  # fmt: skip
    ax.set_title(title or "CLARITY (discs) until the first yes, then POTENTIAL once", fontsize=9.5)
    bars.set(xlim=(0, 1.36), xticks=(0, 0.5, 1), xlabel="P(yes) to FINAL")
    bars.set_title("chosen ★  right ●" if right is not None else "chosen ★", fontsize=9.5, loc="right")
    for panel in (ax, bars):
        panel.grid(axis="y", visible=False)
    return fig


# ----- thresholds ----------------------------------------------------------------------------------------------------


def sweep_figure(panels: Mapping[str, Sequence[Mapping]], *, chosen: Mapping, limit: float | None = None,
                 curves: Mapping[str, Sequence] | None = None):  # fmt: skip
    """Truth against token passes for pairs of thresholds, one panel per set of prompts. Returns a matplotlib figure.

    panels  {title: rows with "clear", "promising", "truth" and "passes" (share of best-of-N's)}; each value of clear is a
            line along which promising grows from right to left
    chosen  "clear" and "promising" of the pair to ring;  limit  a share of passes to mark
    curves  {title: [(passes, mean, low, high), ...]}: best-of-N with fewer candidates, grey
    """
    from matplotlib import colormaps
    from matplotlib import pyplot as plt

    fig, axes = plt.subplots(1, len(panels), layout="constrained", figsize=(3.9 * len(panels) + 0.3, 4.2), sharey=True,
                             sharex=True, squeeze=False)  # fmt: skip
    values = sorted({row["clear"] for rows in panels.values() for row in rows})
    shades = colormaps["cividis"](np.linspace(0, 0.92, len(values)))
    for ax, (title, rows) in zip(axes[0], panels.items(), strict=True):
        if curve := (curves or {}).get(title):
            x, mean, low, high = np.array(curve, float).T
            ax.fill_between(x, low, high, color=GREY, alpha=0.15, linewidth=0)
            ax.plot(x, mean, color=GREY, linestyle="-.", marker="", label="best of fewer")
        for number, value in enumerate(values):
            mine = sorted((row for row in rows if row["clear"] == value), key=lambda row: row["promising"])
            ax.plot([row["passes"] for row in mine], [row["truth"] for row in mine], color=shades[number], linewidth=1.0,
                    marker=style.MARKERS[number % len(style.MARKERS)], markersize=4.5, label=f"clear {value:g}")  # fmt: skip
        for row in rows:
            if all(row[key] == chosen[key] for key in ("clear", "promising")):
                ax.plot(row["passes"], row["truth"], marker="o", markersize=15, markerfacecolor="none",
                        color=style.VERMILLION, linestyle="", markeredgewidth=1.8)  # fmt: skip
        if limit is not None:
            ax.axvline(limit, color=style.BLACK, linestyle=":", linewidth=1.2, marker="")
        ax.set(xlabel="share of best-of-N's token passes", title=title)
    axes[0, 0].set_ylabel("share of prompts that are right")
    handles, labels = axes[0, -1].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8.5)
    return fig
