"""Figures of step-by-step verification: the tree of a search, rollouts, curves over the steps, and a game.

    show(decision_tree(pictures, scores, kept), alt="...")              every branch of one prompt's search
    show(rollout_figure(guesses, masked, ends, right, steps), alt="...")
    show(branch_rows(guesses, ends, right, titles), alt="...")
    show(step_curves({"accuracy": {"judge": [(mean, low, high), ...]}}), alt="...")
    show(spread_figure(steps, spreads, distinct, n), alt="...")
    show(difference_figure({"PRM - single": (d, low, high)}), alt="...")
    branch_game(cases)                                                  be the step verifier yourself

Everywhere S steps, B branches or continuations, N tokens; steps are counted from 1 in what is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cotlib.lab import style
from cotlib.lab.figures import as_uint8, draw_mark, draw_tile
from cotlib.lab.token_figures import as_grid, covered

GREY = "#8A9099"
Point = tuple[float, float, float]  # (mean, low, high)

# ----- pictures ----------------------------------------------------------------------------------------------------


def decision_tree(pictures, scores, kept: Sequence[int], right: bool | None = None, tile: float = 8 / 9):
    """Every branch of every step, with its score; the kept one is framed, and all of the next column come from it.

    pictures  [S, B, 3, H, W];  scores  [S, B];  kept  the kept branch of each step
    right     the judge's verdict on the last kept picture, drawn on it
    The pale haze of unfinished pictures is left out. Returns a matplotlib figure with one column a step.
    """
    from matplotlib.figure import Figure

    scores = np.asarray(scores, float)
    steps, count = scores.shape
    tiles = _without_haze(as_uint8(pictures.flatten(0, 1)))
    height, width = tiles.shape[1:3]
    step_x, step_y, head = round(1.36 * width), round(1.28 * height), round(0.36 * height)
    total_x, total_y = steps * step_x - round(0.18 * width), head + count * step_y
    fig = Figure(figsize=(total_x * tile / width, total_y * tile / width))
    ax = _canvas(fig, total_x, total_y)
    for s in range(steps):
        left = s * step_x + round(0.02 * width)
        ax.text(left + width / 2, 0.2 * height, f"step {s + 1}", ha="center", va="center", fontsize=8.5)
        for b in range(count):
            top, best = head + b * step_y, b == kept[s]
            draw_tile(ax, tiles[s * count + b], left, top, picked=best)
            ax.text(left + width / 2, top + 1.12 * height, _odds(scores[s, b]), ha="center", va="center", fontsize=7.5,
                    color=style.BLUE if best else style.INK, fontweight="bold" if best else "normal")  # fmt: skip
            if s:
                ax.plot([left - 0.32 * width, left - 0.02 * width],
                        [head + kept[s - 1] * step_y + height / 2, top + height / 2],
                        color=style.BLUE, linewidth=1.1 if best else 0.5, marker="", zorder=0)  # fmt: skip
    if right is not None:
        draw_mark(ax, right, (steps - 1) * step_x + width, head + kept[-1] * step_y + height, 0.12 * width)
    return fig


def rollout_figure(
    guesses, masked, ends, right, steps: Sequence[int], labels: Sequence[bool], tile: float = 1.1
):
    """States of one path, one row each: the full guess, what of it is fixed, and where continuations end.

    guesses  [K, 3, H, W], the guess at each of K states;  masked  bool [K, N];  ends  [K, R, 3, H, W]
    right    [K, R], the judge's verdicts on the ends;  steps  the step of each state, from 0;  labels  [K]
    Returns a matplotlib figure.
    """
    from matplotlib.figure import Figure

    tops, right = as_uint8(guesses), np.asarray(right, bool)
    rows, count = right.shape
    finals = as_uint8(ends.flatten(0, 1))
    height, width = tops.shape[1:3]
    step_x, step_y, head, side = round(1.1 * width), round(1.1 * height), round(0.3 * height), 0.55 * width
    arrow = round(0.45 * width)
    total_x, total_y = side + 2 * step_x + arrow + count * step_x + 0.75 * width, head + rows * step_y
    total_y += 0.06 * height  # for the marks of the last row
    fig = Figure(figsize=(total_x * tile / width, total_y * tile / width))
    ax = _canvas(fig, total_x, total_y)
    begin = side + 2 * step_x + arrow
    for x, text in ((side + width / 2, "full guess"), (side + step_x + width / 2, "fixed so far"),
                    (begin + count * step_x / 2, f"{count} continuations, to their ends"),
                    (begin + (count + 0.33) * step_x, "label")):  # fmt: skip
        ax.text(x, head / 2, text, ha="center", va="center", fontsize=8.5)
    for row in range(rows):
        top, left_masked = head + row * step_y, as_grid(masked[row])
        ax.text(side - 0.08 * width, top + height / 2, f"step {steps[row] + 1}\n{int(left_masked.sum())}\nmasked",
                ha="right", va="center", fontsize=8.5)  # fmt: skip
        draw_tile(ax, tops[row], side, top)
        draw_tile(ax, covered(tops[row], left_masked), side + step_x, top)
        ax.annotate("", (begin - 0.06 * width, top + height / 2), (begin - arrow + 0.02 * width, top + height / 2),
                    arrowprops=dict(arrowstyle="->", color=GREY))  # fmt: skip
        for k in range(count):
            left = begin + k * step_x
            draw_tile(ax, finals[row * count + k], left, top)
            draw_mark(ax, bool(right[row, k]), left + width, top + height, 0.12 * width)
        ax.text(
            begin + (count + 0.33) * step_x,
            top + height / 2,
            "yes" if labels[row] else "no",
            ha="center",
            va="center",
            fontsize=10,
            fontweight="bold",
            color=style.GREEN if labels[row] else style.VERMILLION,
        )
    return fig


def branch_rows(guesses, ends, right, titles: Sequence[str], tile: float = 8 / 9):
    """The branches of some states: above, each one's guess; below, the picture it ends in, with the judge's verdict.

    guesses, ends  [K, B, 3, H, W];  right  [K, B];  titles  one for each state
    Returns a matplotlib figure.
    """
    from matplotlib.figure import Figure

    right = np.asarray(right, bool)
    rows, count = right.shape
    upper, lower = as_uint8(guesses.flatten(0, 1)), as_uint8(ends.flatten(0, 1))
    height, width = upper.shape[1:3]
    step_x, small, side = round(1.1 * width), round(1.08 * height), round(0.7 * width)
    block, head = round(2.75 * height), round(0.36 * height)
    total_x, total_y = side + count * step_x + round(0.06 * width), rows * block - round(0.12 * height)
    fig = Figure(figsize=(total_x * tile / width, total_y * tile / width))
    ax = _canvas(fig, total_x, total_y)
    for row in range(rows):
        top = row * block + head
        ax.text(side, row * block + 0.2 * height, titles[row], fontsize=9.5, fontweight="bold", va="center")
        for line, text in enumerate(("branch\nnow", "its\nend")):
            ax.text(
                side - 0.08 * width,
                top + line * small + height / 2,
                text,
                ha="right",
                va="center",
                fontsize=8.5,
            )
        for b in range(count):
            left = side + b * step_x
            draw_tile(ax, upper[row * count + b], left, top)
            draw_tile(ax, lower[row * count + b], left, top + small)
            draw_mark(ax, bool(right[row, b]), left + width, top + small + height, 0.12 * width)
    return fig


def _without_haze(tiles: np.ndarray) -> np.ndarray:
    """Pictures in few colours, pale pixels as paper: with all their noise so many are too large a PNG to stay sharp."""
    calm = np.clip((tiles.astype(int) + 16) // 32 * 32, 0, 255)
    calm[tiles.min(-1) >= 190] = (244, 242, 237)
    return calm.astype(np.uint8)


def _odds(p: float) -> str:
    """P(yes) in two digits, without calling a small chance none."""
    return "<.01" if p < 0.005 else f"{p:.2f}"


def _canvas(fig, total_x: float, total_y: float):
    """Axes over the whole figure, measured in pixels, y downwards."""
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, total_x), ylim=(total_y, 0))
    ax.axis("off")
    return ax


# ----- curves ------------------------------------------------------------------------------------------------------


def step_curves(panels: Mapping[str, Mapping[str, Sequence[Point]]], *, steps: Sequence[int] | None = None,
                lines: Mapping[str, float] | None = None, ylabel: str = "", xlabel: str = "step",
                looks: Mapping[str, tuple[str, str]] | None = None):  # fmt: skip
    """Values with intervals over the steps, one panel beside the other on one scale. Returns a matplotlib figure.

    panels  {title: {name: [(mean, low, high) of each step]}};  steps  what to write at the points, default 1..S
    lines   {name: value}, dashed levels in every panel;  looks  {name: (colour, marker)}, default the house cycle
    """
    from matplotlib import pyplot as plt

    fig, axes = plt.subplots(1, len(panels), layout="constrained", figsize=(3.6 * len(panels) + 2.0, 3.4),
                             sharey=True, squeeze=False)  # fmt: skip
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    cycle = {name: (style.CYCLE[i % 7], style.MARKERS[i % 7]) for i, name in enumerate(names)} | dict(
        looks or {}
    )
    for ax, (title, curves) in zip(axes[0], panels.items(), strict=True):
        for place, (name, points) in enumerate(curves.items()):
            color, marker = cycle[name]
            x = np.arange(len(points)) + 0.09 * (place - (len(curves) - 1) / 2)
            mean, low, high = np.array(points, float).T
            ax.vlines(x, low, high, color=color, linewidth=3.5, alpha=0.3)
            ax.plot(x, mean, color=color, marker=marker, label=name)
            shown = range(1, len(points) + 1) if steps is None else steps
            ax.set_xticks(range(len(points)), [str(s) for s in shown])
        for number, (name, value) in enumerate((lines or {}).items()):
            ax.axhline(value, color=GREY, linestyle=("--", ":", "-.")[number % 3], linewidth=1.3, label=name)
        ax.set(title=title if len(panels) > 1 or title else "", xlabel=xlabel)
    axes[0, 0].set_ylabel(ylabel)
    axes[0, -1].legend(fontsize=8.5, loc="center left", bbox_to_anchor=(1.01, 0.5))  # clear of every curve
    return fig


def pass_share_figure(counts, right, total: int = 4):
    """Rollouts of many paths over the steps. Returns a matplotlib figure.

    counts  [R, S], how many of `total` continuations end right from the state after each step;  right  bool [R]
    Left: mean share by the path's own end; the line of all is flat but for chance. Right: labels and their source.
    """
    from matplotlib import pyplot as plt

    share, right = np.asarray(counts) / total, np.asarray(right, bool)
    x = np.arange(1, share.shape[1] + 1)
    fig, (left, other) = plt.subplots(
        1, 2, layout="constrained", figsize=(8.8, 3.3), sharex=True, sharey=True
    )
    shift = np.random.default_rng(0).uniform(-0.02, 0.02, len(share))[:, None]
    left.plot(x, (share + shift)[right].T, color=style.GREEN, alpha=0.25, linewidth=0.9, marker="")
    left.plot(x, (share + shift)[~right].T, color=style.VERMILLION, alpha=0.25, linewidth=0.9, marker="")
    for mask, color, marker, name in ((right, style.GREEN, "o", f"{right.sum()} paths that end right"),
                                      (~right, style.VERMILLION, "s", f"{(~right).sum()} paths that end wrong")):  # fmt: skip
        if mask.any():
            left.plot(x, share[mask].mean(0), color=color, marker=marker, label=name)
    left.set(xlabel="step", ylabel="share of continuations that end right", xticks=x,
             title="How open the end still is")  # fmt: skip
    left.legend(fontsize=8.5, loc="center right")
    other.plot(
        x,
        (share > 0).mean(0),
        color=style.BLUE,
        marker="^",
        label=f"label yes: any of {total} continuations right",
    )
    other.plot(
        x, share.mean(0), color=style.ORANGE, marker="D", label="share of all continuations that are right"
    )
    other.set(xlabel="step", ylim=(-0.05, 1.05), title="What the label makes of it")
    other.legend(fontsize=8.5, loc="lower left")
    return fig


def spread_figure(steps: Sequence[int], spreads: Sequence, distinct: Sequence[Point], n: int):
    """Where the variance of truth arises at each step, and how many different ends n branches have. A matplotlib figure.

    steps  from 0;  spreads  a `cotlib.verifying.steps.Spread` for each;  distinct  (mean, low, high) for each
    """
    from matplotlib import pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, layout="constrained", figsize=(9.2, 3.4))
    x, floor = np.arange(len(steps)), np.zeros(len(steps))
    for name, values, color, hatch in (
        ("prompts and states before", [s.prompts for s in spreads], style.SKY, ""),
        ("branches of one state", [s.branches for s in spreads], style.BLUE, "//"),
        ("dice still to come", [s.dice for s in spreads], style.FAINT, ""),
    ):
        height = np.maximum(values, 0)
        left.bar(x, height, 0.66, bottom=floor, color=color, hatch=hatch, edgecolor="white", label=name)
        floor = floor + height
    left.set(ylim=(0, 1.35 * floor.max()), ylabel="variance of the verdict", title="Where truth varies")
    left.legend(fontsize=8.5, loc="upper left", ncols=2)
    mean, low, high = np.array(distinct, float).T
    right.vlines(x, low, high, color=style.BLUE, linewidth=4, alpha=0.3)
    right.plot(x, mean, color=style.BLUE, marker="o")
    right.set(ylim=(0.8, n + 0.2), ylabel="different ends", title=f"Different ends among {n} branches")
    for ax in (left, right):
        ax.set_xticks(x, [str(s + 1) for s in steps])
        ax.set_xlabel("step at which they branch")
    return fig


def difference_figure(differences: Mapping[str, Point]):
    """Paired differences with their intervals, one line each, beside a line at no difference. A matplotlib figure."""
    from matplotlib import pyplot as plt

    fig, ax = plt.subplots(layout="constrained", figsize=(7.4, 0.36 * len(differences) + 0.9))
    for height, (mean, low, high) in enumerate(reversed(differences.values())):
        clear = low > 0 or high < 0
        color = style.BLUE if clear else GREY
        ax.plot([low, high], [height, height], color=color, linewidth=5, alpha=0.35, marker="")
        ax.plot(mean, height, color=color, marker="o" if clear else "s", markersize=6.5)
        ax.text(1.02, height, f"{mean:+.2f}   {low:+.2f} to {high:+.2f}", transform=ax.get_yaxis_transform(),
                va="center", fontsize=9)  # fmt: skip
    ax.axvline(0, color=style.INK, linewidth=0.9)
    ax.set(
        yticks=range(len(differences)), yticklabels=list(reversed(differences)), xlabel="difference of truth"
    )
    ax.set_ylim(-0.6, len(differences) - 0.4)
    return fig


# ----- the game ----------------------------------------------------------------------------------------------------


def branch_game(cases: Sequence[Mapping]):
    """Be the step verifier: pick a branch, then see which branches end right. Returns the widget (None if no cases).

    cases  each a dict: prompt (text), step (from 0), pictures [B, 3, H, W], scores [B], share [B] (how many of a
           branch's continuations end right, 0..1). All with the same B.
    """
    import ipywidgets as w

    from cotlib.lab.widgets import picture_widget, png_bytes

    if not cases:
        return None
    count = len(cases[0]["scores"])
    which = w.Dropdown(options=[(f'step {c["step"] + 1}: "{c["prompt"]}"', i) for i, c in enumerate(cases)],
                       description="state", layout={"width": "460px"})  # fmt: skip
    picture, said = picture_widget(), w.HTML()
    buttons = [
        w.Button(description=f"keep {b + 1}", layout={"width": "128px", "margin": "0 6px 0 0"})
        for b in range(count)
    ]

    def redraw(_=None) -> None:
        picture.value = png_bytes(game_frame(cases[which.value]))
        said.value = "Which of these branches would you keep?"

    def pick(branch: int) -> None:
        picture.value = png_bytes(game_frame(cases[which.value], branch))
        said.value = game_words(cases[which.value], branch)

    for b, button in enumerate(buttons):
        button.on_click(lambda _, b=b: pick(b))
    which.observe(redraw, names="value")
    redraw()
    return w.VBox([which, picture, w.HBox(buttons), said])


def game_frame(case: Mapping, picked: int | None = None, zoom: int = 2, gap: int = 6) -> np.ndarray:
    """uint8 [H, W, 3]: the branches side by side; after a pick, green or red bars for the share that ends right."""
    tiles = as_uint8(case["pictures"]).repeat(zoom, 1).repeat(zoom, 2)
    side, bar = tiles.shape[1], 14
    frame = np.full((side + 2 * gap + bar, len(tiles) * (side + gap), 3), 255, np.uint8)
    for b, tile in enumerate(tiles):
        left = b * (side + gap)
        color = _rgb(style.BLUE) if b == picked else _rgb(style.FAINT)
        tile = tile.copy()
        tile[[0, 1, -2, -1]] = tile[:, [0, 1, -2, -1]] = color
        frame[:side, left : left + side] = tile
        if picked is not None:
            green = round(side * float(case["share"][b]))
            frame[side + gap : side + gap + bar, left : left + green] = _rgb(style.GREEN)
            frame[side + gap : side + gap + bar, left + green : left + side] = _rgb(style.VERMILLION)
    return frame


def game_words(case: Mapping, picked: int) -> str:
    """What came of the pick, and what the verifier would have kept."""
    share, scores = [float(s) for s in case["share"]], [float(s) for s in case["scores"]]
    theirs = scores.index(max(scores))
    return (f"Your branch {picked + 1}: {share[picked]:.0%} of its continuations end right. The verifier keeps "
            f"{theirs + 1}: {share[theirs]:.0%}. All branches: {sum(share) / len(share):.0%}. "
            "Green: ends right.")  # fmt: skip


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))
