"""Figures of notebook 01: where a rebuilt picture is wrong, how a patch becomes digits, what a code's pixels depend on.

Each function takes measured numbers and returns a matplotlib figure for `show`, or pictures for `show_images`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cotlib.lab import style

LEVEL_NAMES = ("-1", "-1/3", "1/3", "1")


def error_map(images: Tensor, rebuilt: Tensor, full: float = 0.2) -> Tensor:
    """Mean absolute difference over the colours as cividis pictures [B,3,H,W]; `full` and more is bright yellow."""
    from matplotlib import colormaps

    heat = ((rebuilt - images).abs().mean(1) / full).clamp(0, 1).mul(
        31
    ).round() / 31  # few colours: a small file
    colored = torch.from_numpy(colormaps["cividis"](heat.numpy())[..., :3])
    return colored.permute(0, 3, 1, 2).float()


def code_map(codes: Tensor, cell: int = 8) -> Tensor:
    """Codes [B,64] as pictures: each code has a colour of its own, drawn by lot; the most frequent one is paper white."""
    rng = np.random.default_rng(3)
    table = rng.uniform(0.1, 0.9, (1024, 3))
    table[int(codes.flatten().mode().values)] = (0.94, 0.93, 0.90)
    n = round(codes.shape[1] ** 0.5)
    colors = torch.from_numpy(table[codes.numpy()]).float().unflatten(1, (n, n)).permute(0, 3, 1, 2)
    return colors.repeat_interleave(cell, 2).repeat_interleave(cell, 3)


def patch_steps(patch: Tensor, z: Tensor, digits: Tensor, code: int):
    """One patch [3,8,8], its five numbers z [5] on their scales, the levels they are rounded to, the digits, the code."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(7.6, 2.9))
    left = fig.add_axes((0.01, 0.12, 0.26, 0.72))
    left.imshow(patch.permute(1, 2, 0).numpy(), interpolation="nearest")
    left.set_title("8×8 pixels, 192 values")
    left.axis("off")
    ax = fig.add_axes((0.39, 0.12, 0.40, 0.72))
    levels = np.linspace(-1, 1, len(LEVEL_NAMES))
    for row, (value, digit) in enumerate(zip(z.tolist(), digits.tolist(), strict=True)):
        ax.plot(levels, [row] * 4, color=style.FAINT, marker="|", markersize=12, linewidth=1.2)
        if abs(levels[digit] - value) > 0.1:  # else there is no way to show
            ax.annotate("", (levels[digit], row), (value, row),
                        arrowprops=dict(arrowstyle="->", color=style.INK, lw=1.2, shrinkB=6))  # fmt: skip
        ax.plot(levels[digit], row, marker="s", color="white", markeredgecolor=style.VERMILLION, markersize=11,
                markeredgewidth=1.8)  # fmt: skip
        ax.plot(value, row, marker="o", color=style.BLUE, markersize=5.5)
        ax.text(
            1.28,
            row,
            str(digit),
            ha="center",
            va="center",
            fontweight="bold",
            fontsize=12,
            color=style.VERMILLION,
        )
    ax.set(
        xlim=(-1.12, 1.4),
        ylim=(4.6, -0.6),
        yticks=range(5),
        yticklabels=[f"number {i + 1} " for i in range(5)],
    )
    ax.set_xticks(levels, LEVEL_NAMES)
    ax.grid(False)
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.set_title("five numbers (●), rounded (□) to digits")
    fig.text(0.91, 0.875, "code", ha="center", fontweight="bold", fontsize=10.5)
    fig.text(0.91, 0.52, str(code), ha="center", fontsize=24, color=style.VERMILLION)
    fig.text(0.91, 0.42, "".join(map(str, digits.tolist())) + " in base 4", ha="center", fontsize=9)
    return fig


def slopes(x: Tensor, smooth: Tensor, levels: Tensor, at: Tensor, slope: Tensor):
    """The loss along one number: without rounding (smooth at x), with it (at the four levels), straight-through slopes."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(6.8, 3.4), layout="constrained")
    ax = fig.subplots()
    ax.plot(x.numpy(), smooth.numpy(), marker="", color=style.SKY, label="without rounding")
    edges = [-1, -2 / 3, 0, 2 / 3, 1]  # a number between two edges is rounded to the level between them
    for i, (place, value, rise) in enumerate(zip(levels.tolist(), at.tolist(), slope.tolist(), strict=True)):
        near = np.array([-0.17, 0.17])
        ax.hlines(value, edges[i], edges[i + 1], color=style.INK, linewidth=2.6,
                  label=None if i else "with rounding: the real loss")  # fmt: skip
        ax.plot(place + near, value + rise * near, marker="", linestyle="--", linewidth=2.2, color=style.VERMILLION,
                label=None if i else "straight-through slope")  # fmt: skip
        ax.plot(place, value, marker="s", color=style.VERMILLION, markersize=7)
    ax.set_xticks(levels.tolist(), LEVEL_NAMES)
    low, high = float(smooth.min()), float(smooth.max())
    ax.set(xlabel="one of the 320 numbers of a picture, all others fixed", ylabel="summed squared error",
           ylim=(low - 0.15 * (high - low), high + 0.35 * (high - low)))  # fmt: skip
    ax.legend(loc="upper left", ncols=3, fontsize=8.5, columnspacing=1.2)
    return fig


def usage(shares: Tensor, ladder: Sequence[tuple[str, float]]):
    """Left: the share of each used code, most frequent first. Right: bits per picture in several descriptions."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(8.4, 3.2), layout="constrained")
    left, right = fig.subplots(1, 2, width_ratios=(1, 1.1))
    ordered = shares[shares > 0].sort(descending=True).values.numpy()
    left.loglog(range(1, len(ordered) + 1), 100 * ordered, marker="", color=style.BLUE)
    left.plot(1, 100 * ordered[0], marker="s", color=style.VERMILLION)
    left.annotate("plain paper", (1, 100 * ordered[0]), (2.0, 100 * ordered[0]), va="center", color=style.VERMILLION,
                  arrowprops=dict(arrowstyle="-", color=style.VERMILLION))  # fmt: skip
    left.set_yticks([0.01, 0.1, 1, 10, 100], ["0.01", "0.1", "1", "10", "100"])
    left.set_xticks([1, 10, 100], ["1", "10", "100"])
    left.minorticks_off()
    left.set(
        xlabel="rank of the code", ylabel="share of all tokens, %", title="A few codes do most of the work"
    )
    names, bits = zip(*ladder, strict=True)
    colors = [style.FAINT, style.FAINT, style.SKY, style.BLUE, style.GREEN]
    right.barh(names, bits, color=colors, height=0.62)
    right.invert_yaxis()
    right.set_xscale("log")
    right.set(
        xlim=(10, 6e5),
        xlabel="bits per picture (each line is ten times more)",
        title="The same picture in bits",
    )
    right.set_xticks([10, 100, 1000, 10_000, 100_000], ["10", "100", "1,000", "10,000", "100,000"])
    right.minorticks_off()
    right.grid(False, axis="y")
    for y, value in enumerate(bits):
        right.text(value * 1.15, y, f"{value:,.0f}", va="center", fontsize=9)
    return fig


def rings(shares: Tensor):
    """Share of a change that falls into each ring of cells around the changed one; shares [8], adding up to 1."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(6.4, 2.8), layout="constrained")
    ax = fig.subplots()
    names = ["itself", "1 cell\naway", *(f"{i}" for i in range(2, len(shares)))]
    bars = ax.bar(
        names, (100 * shares).tolist(), color=[style.BLUE] + [style.SKY] * (len(shares) - 1), width=0.7
    )
    ax.bar_label(
        bars, [f"{100 * s:.0f} %" if s >= 0.005 else "< 1 %" for s in shares.tolist()], fontsize=9, padding=2
    )
    ax.set(
        ylabel="share of the change, %",
        xlabel="distance from the changed cell",
        ylim=(0, 115 * float(shares.max())),
    )
    ax.grid(False, axis="x")
    return fig


def digit_differences(rows: dict[str, Tensor]):
    """For each group of pairs, how often each of the five digits differs; rows: name -> [5] in 0..1."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(7.2, 3.1), layout="constrained")
    ax = fig.subplots()
    colors, hatches = (style.BLUE, style.ORANGE, style.FAINT), ("", "//", "")
    for i, ((name, values), color, hatch) in enumerate(zip(rows.items(), colors, hatches, strict=True)):
        ax.bar(np.arange(5) + 0.27 * (i - 1), (100 * values).numpy(), width=0.25, color=color, hatch=hatch, edgecolor="white",
               label=f"{name}: {float(values.sum()):.1f} of 5 differ")  # fmt: skip
    ax.axhline(75, color=style.INK, linewidth=1, linestyle=":", marker="")
    ax.text(4.44, 74, "digits drawn blindly", ha="right", va="top", fontsize=8.5)
    ax.set_xticks(range(5), [f"digit {i}" for i in range(1, 6)])
    ax.set(ylabel="differs in % of the pairs", ylim=(0, 118), yticks=(0, 25, 50, 75))
    ax.grid(False, axis="x")
    ax.legend(loc="upper left", ncols=1, fontsize=8.5)
    return fig


def loss_curve(losses: Sequence[float], window: int = 25):
    """Training loss of each step and, bold, its mean over `window` steps, on a logarithmic scale."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(6.4, 3.0), layout="constrained")
    ax = fig.subplots()
    values = np.asarray(losses)
    smooth = np.convolve(values, np.ones(window) / window, "valid")
    ax.plot(values, marker="", linewidth=0.6, alpha=0.4, color=style.SKY)
    ax.plot(np.arange(len(smooth)) + window / 2, smooth, marker="", color=style.BLUE)
    ax.set(yscale="log", xlabel="training step", ylabel="weighted error")
    ax.set_yticks([0.1, 0.2, 0.5, 1.0], ["0.1", "0.2", "0.5", "1"])
    ax.minorticks_off()
    return fig
