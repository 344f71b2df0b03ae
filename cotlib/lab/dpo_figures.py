"""Figures and numbers of preference tuning: the pairs, what their log-probabilities do, and what variety is lost.

    show(pairs_figure(prompts, generator.decode(chosen), generator.decode(rejected), chosen != rejected), alt="...")
    show(curves_figure({"DPO": card["curves"]}, kept={"DPO": 300}), alt="...")
    variety(metadatas, images, judge.detect(images.flatten(0, 1)), right)

`curves_figure` reads the lists of `cotlib.train.dpo.thinned`, which stand on the cards of the tuned generators, so a run
of the notebook and a stored run are drawn in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from torch import Tensor

from cotlib.interfaces import Detection
from cotlib.lab import style
from cotlib.lab.figures import as_uint8, draw_mark, draw_tile, wrapped
from cotlib.verifying.repair import things_of

# ----- pairs ---------------------------------------------------------------------------------------------------------


def pairs_figure(prompts: Sequence[str], chosen, rejected, differing: Tensor, tile: float = 1.12):
    """Pairs as columns: the chosen picture, the rejected one, and at which places their codes differ.

    prompts    one for each pair;  chosen, rejected  [B,3,H,W] in 0..1;  differing  bool [B,N], dark where the codes differ
    Returns a matplotlib figure.
    """
    from matplotlib.figure import Figure

    rows = as_uint8(chosen), as_uint8(rejected)
    count, height, width = rows[0].shape[:3]
    grid = round(differing.shape[1] ** 0.5)
    side, gap = 0.72 * width, 0.1 * width
    labels = wrapped([text.removeprefix("a photo of ") for text in prompts], count, tile)
    head = 0.2 * width * max(label.count("\n") + 1 for label in labels) + gap
    total_x, total_y = side + count * (width + gap), head + 3 * (height + gap) + 0.16 * width
    fig = Figure(figsize=(total_x * tile / width, total_y * tile / width))
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, total_x), ylim=(total_y, 0))
    ax.axis("off")
    maps = np.where(differing.numpy().reshape(count, grid, grid, 1), (70, 80, 95), (233, 235, 238))
    maps = maps.repeat(height // grid, 1).repeat(width // grid, 2).astype(np.uint8)
    for row, (name, tiles) in enumerate(
        zip(("chosen", "rejected", "codes that\ndiffer"), (*rows, maps), strict=True)
    ):
        top = head + row * (height + gap)
        ax.text(side - gap, top + height / 2, name, ha="right", va="center", fontsize=8.5)
        for column in range(count):
            left = side + column * (width + gap)
            draw_tile(ax, tiles[column], left, top)
            if row < 2:
                draw_mark(ax, row == 0, left + 0.985 * width, top + 0.985 * height, 0.085 * width)
            else:
                share = f"{int(differing[column].sum())} of {grid * grid}"
                ax.text(left + width / 2, top + height + 0.2 * width, share, ha="center", va="bottom", fontsize=7.5)  # fmt: skip
    for column, label in enumerate(labels):
        ax.text(side + column * (width + gap) + width / 2, head - 0.06 * width, label, ha="center", va="bottom",
                fontsize=8, linespacing=1.15)  # fmt: skip
    return fig


# ----- curves --------------------------------------------------------------------------------------------------------


def curves_figure(curves: Mapping[str, Mapping[str, Sequence]], kept: Mapping[str, int] | None = None):
    """What tuning does, a column for each run: changes of both log-probabilities above, truth below where it was measured.

    curves  {title: lists "update", "chosen", "rejected" (nats a picture, against the reference) and, perhaps, "truth" as
            pairs (updates, truth)}
    kept    {title: update of the weights that were kept}, marked by a star
    Returns a matplotlib figure; the band between the lines is the margin.
    """
    from matplotlib import pyplot as plt

    watched = any(run.get("truth") for run in curves.values())
    fig, axes = plt.subplots(1 + watched, len(curves), layout="constrained", sharex="col", sharey="row", squeeze=False,
                             figsize=(max(5.4, 2.55 * len(curves) + 1.4), 4.6 if watched else 3.0))  # fmt: skip
    for column, (title, run) in enumerate(curves.items()):
        ax = axes[0, column]
        ax.axhline(0, color=style.INK, linewidth=0.8, marker="")
        ax.fill_between(run["update"], run["rejected"], run["chosen"], color=style.SKY, alpha=0.25, linewidth=0,
                        label="margin")  # fmt: skip
        ax.plot(run["update"], run["chosen"], color=style.BLUE, markersize=3.5, marker="o", label="chosen")
        ax.plot(run["update"], run["rejected"], color=style.VERMILLION, markersize=3.5, marker="s", label="rejected")  # fmt: skip
        ax.set_title(title)
        if not watched:
            ax.set_xlabel("update")
            continue
        below = axes[1, column]
        if run.get("truth"):
            at, truth = zip(*run["truth"], strict=True)
            below.plot(at, truth, color=style.GREEN, marker="D")
            if kept and title in kept:
                below.plot(
                    kept[title], dict(run["truth"])[kept[title]], color=style.BLACK, marker="*", markersize=13
                )
        below.set_xlabel("update")
    axes[0, 0].set_ylabel("change of log p, nats")
    if watched:
        axes[1, 0].set_ylabel("truth")
    axes[0, 0].legend(loc="lower left", fontsize=8.5)
    return fig


def knob_figure(w: Sequence[float], lines: Mapping[str, Sequence[float]], truth: Sequence[float],
                stops: Mapping[str, tuple[float, str]]):  # fmt: skip
    """A policy with one knob, turned from left to right. Above: log-probabilities against the reference; below: truth.

    w  settings of the knob;  lines  {name: a number for each setting}, in nats, the first of them shown in full, with a dot
       where it turns;  truth  a number for each setting
    stops  {name: (setting, marker)}: where a loss has its least value
    Returns a matplotlib figure.
    """
    from matplotlib import pyplot as plt

    fig, (top, below) = plt.subplots(2, 1, layout="constrained", sharex=True, figsize=(6.8, 4.8), height_ratios=(1.3, 1))  # fmt: skip
    looks = ((style.BLUE, "-"), (style.VERMILLION, "--"), (style.PINK, ":"))
    top.axhline(0, color=style.INK, linewidth=0.8, marker="")
    for (name, values), (color, dash) in zip(lines.items(), looks, strict=False):
        top.plot(w, values, color=color, linestyle=dash, marker="", label=name)
    first = np.asarray(next(iter(lines.values())))
    turn = int(first.argmax())
    top.plot(w[turn], first[turn], color=style.BLUE, marker="o", markersize=6)
    if (low := first.min()) < 0:
        top.set_ylim(1.15 * low, max(-0.75 * low, 1.15 * first.max()))
    below.plot(w, truth, color=style.GREEN, marker="")
    for (name, (setting, marker)), color in zip(
        stops.items(), (style.BLACK, style.ORANGE, style.PINK, style.SKY), strict=False
    ):
        below.axvline(setting, color=color, linewidth=0.8, linestyle=":", marker="")
        below.plot(
            setting,
            np.interp(setting, w, truth),
            color=color,
            marker=marker,
            markersize=8,
            linestyle="",
            label=name,
        )
    top.set_ylabel("change, nats")
    below.set(ylabel="truth", xlabel="the knob w", ylim=(-0.03, 1.0))
    top.legend(loc="lower left", fontsize=8.5)
    below.legend(loc="upper center", bbox_to_anchor=(0.56, 1.02), fontsize=8.5)
    return fig


# ----- variety -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variety:
    """How much the right pictures of one prompt differ: means over all pairs of them.

    distance: root mean square over pixels and channels, 0..1. moved: pixels from a thing's place to the place of the thing
    of the same class in the other picture. recolored: share of such things with different colours, None where the prompt
    names them. pairs: how many pairs; with none the other numbers are NaN.
    """

    distance: float
    moved: float
    recolored: float | None
    pairs: int


def variety(
    metadata: dict, images: Tensor, seen: Sequence[Sequence[Detection]], right: Sequence[bool]
) -> Variety:
    """Variety of the right ones among K pictures [K,3,H,W] of one prompt; seen: what the judge detected in each.

    Of several things of a class the surest is compared.
    """
    kept = [k for k in range(len(images)) if right[k]]
    things = {k: {t.cls: t for t in reversed(things_of(seen[k], metadata["tag"]))} for k in kept}
    asked = [clause["class"] for clause in metadata["include"]]
    distance, moved, recolored = [], [], []
    for a, b in combinations(kept, 2):
        distance.append(float((images[a] - images[b]).square().mean().sqrt()))
        for cls in asked:
            if cls in things[a] and cls in things[b]:
                one, other = things[a][cls], things[b][cls]
                moved.append(float(np.hypot(one.x - other.x, one.y - other.y)))
                recolored.append(one.color != other.color)
    named = any("color" in clause for clause in metadata["include"])
    recolor = None if named else _mean(recolored)
    return Variety(_mean(distance), _mean(moved), recolor, len(distance))


def _mean(values: list) -> float:
    return float(np.mean(values)) if values else float("nan")


def variety_figure(values: Mapping[str, Mapping[str, tuple[float, float, float]]]):
    """A panel for each measure, a line for each generator: the mean with its interval.

    values  {measure: {generator: (mean, low, high)}}, the generators alike in all measures. Returns a matplotlib figure.
    """
    from matplotlib import pyplot as plt

    names = list(next(iter(values.values())))
    fig, axes = plt.subplots(1, len(values), layout="constrained", sharey=True, squeeze=False,
                             figsize=(2.5 * len(values) + 1.4, 0.36 * len(names) + 1.2))  # fmt: skip
    for ax, (measure, row) in zip(axes[0], values.items(), strict=True):
        for y, name in enumerate(names):
            mean, low, high = row[name]
            color = style.CYCLE[y % len(style.CYCLE)]
            ax.plot([low, high], [y, y], color=color, linewidth=3.5, alpha=0.3, marker="")
            ax.plot(mean, y, color=color, marker=style.MARKERS[y % len(style.MARKERS)], markersize=7)
        ax.axvline(row[names[0]][0], color=style.INK, linewidth=0.8, linestyle=":", marker="")
        ax.set_title(measure, fontsize=9.5)
    axes[0, 0].set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    fig.get_layout_engine().set(wspace=0.06)  # the numbers below neighbouring panels stay apart
    return fig
