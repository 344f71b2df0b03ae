"""Figures of token generation: who may look at whom, likely codes, places on the grid, and sweeps over a setting.

show(attention_figure([sees_masked, sees_raster], words, titles), alt="...")
show(code_bars(model, probabilities, titles), alt="...")
show(heat_maps(maps, titles), alt="...")
show(sweep_figure(settings, rows, label), alt="...")
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cotlib.lab import style
from cotlib.lab.figures import as_uint8

TEXT_CELL = 4.5  # side of a word's cell in the attention figure; an image token's cell has side 1


def attention_figure(masks: Sequence[Tensor], words: Sequence[str], titles: Sequence[str]):
    """Who sees whom: one panel for each mask, text first, then image tokens. Returns a matplotlib figure.

    masks  bool [T + N, T + N] each: does row i (what is computed) depend on column j (what it looks at)?
    words  the T text tokens
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    count, text = len(masks), len(words)
    image = len(masks[0]) - text
    edges = np.cumsum([0] + [TEXT_CELL] * text + [1.0] * image)
    border, total = edges[text], edges[-1]
    colors = ListedColormap(["#EEF0F2", style.BLUE, style.ORANGE, style.GREEN])
    fig = Figure(figsize=(3.55 * count + 0.5, 4.35))
    for index, (mask, title) in enumerate(zip(masks, titles, strict=True)):
        ax = fig.add_axes(
            ((0.5 + 3.55 * index) / fig.get_figwidth(), 0.03, 3.35 / fig.get_figwidth(), 3.35 / 4.35)
        )
        kind = mask.numpy().astype(int)
        kind[text:, :text] *= 2
        kind[text:, text:] *= 3
        ax.pcolormesh(edges, edges, kind, cmap=colors, vmin=0, vmax=3)
        across = round(image**0.5)  # a line after every word, then after every row of image tokens
        for at in (*edges[1 : text + 1], *edges[text + across :: across]):
            ax.axhline(at, color="white", linewidth=0.7, marker="")
            ax.axvline(at, color="white", linewidth=0.7, marker="")
        ax.set(xlim=(0, total), ylim=(total, 0), aspect="equal")
        ax.grid(False)
        for side in ("top", "right", "left", "bottom"):
            ax.spines[side].set_visible(False)
        middles = (edges[:text] + edges[1 : text + 1]) / 2
        ax.xaxis.tick_top()
        ax.set_xticks([*middles, (border + total) / 2], [*words, f"{image} image tokens"], fontsize=7)
        for label in ax.get_xticklabels()[:text]:
            label.set(rotation=90)
        ax.set_yticks(middles if index == 0 else [], words if index == 0 else [], fontsize=7)
        if index == 0:
            ax.text(
                -1.5,
                (border + total) / 2,
                f"{image} image tokens",
                rotation=90,
                ha="right",
                va="center",
                fontsize=7,
            )
        ahead = bool(mask[text:, text:].triu(1).any())  # does an image token see those after it?
        share, seen = (0.5, "image sees image") if ahead else (0.3, "image sees\nwhat is before")
        for x, y, label in ((border / 2, (border + total) / 2, "image\nsees text"),
                            (border + share * (total - border), total - share * (total - border), seen),
                            ((border + total) / 2, border / 2, "text never\nsees the image")):  # fmt: skip
            box = dict(facecolor="white", edgecolor="none", alpha=0.85, pad=1.5)
            ax.text(x, y, label, ha="center", va="center", fontsize=7.5, bbox=box)
        ax.set_title(title, fontsize=9.5, pad=6)
    return fig


def code_bars(
    model, probabilities: Tensor, cells: Sequence[int], paper: int, titles: Sequence[str], most: int = 6
):
    """The likeliest codes at some places, with what each looks like. Returns a matplotlib figure.

    probabilities  [places, V];  cells  the place of each row, 0..N-1;  paper  the code of plain paper
    """
    from matplotlib.figure import Figure
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    fig = Figure(figsize=(7.2, 2.7))
    axes = fig.subplots(1, len(cells), sharex=True)
    for ax, row, cell, title in zip(np.atleast_1d(axes), probabilities, cells, titles, strict=True):
        p, codes = row.topk(most)
        swatches = _swatches(model, codes, cell, paper)
        colors = [style.BLUE if int(code) == paper else style.ORANGE for code in codes]
        ax.barh(range(most), p, color=colors, height=0.62)
        for line in range(most):
            ax.text(float(p[line]) + 0.015, line, f"{float(p[line]):.3f}", va="center", fontsize=8)
            picture = OffsetImage(swatches[line], zoom=2.1, interpolation="nearest")
            ax.add_artist(AnnotationBbox(picture, (0, line), xybox=(-43, 0), boxcoords="offset points", frameon=True, pad=0.1,
                                         bboxprops=dict(edgecolor=style.FAINT, linewidth=0.7)))  # fmt: skip
        ax.set_yticks(range(most), ["paper" if int(c) == paper else str(int(c)) for c in codes], fontsize=7.5)
        ax.set(xlim=(0, 1.12), ylim=(most - 0.4, -0.6), xticks=[0, 0.5, 1])
        ax.set_xlabel("probability", fontsize=8)
        ax.set_title(title, fontsize=9)
    fig.subplots_adjust(left=0.11, right=0.99, top=0.88, bottom=0.17, wspace=0.5)
    return fig


def heat_maps(maps: Sequence, titles: Sequence[str], label: str, top: float | None = None):
    """Numbers on the token grid, one panel each, on one scale. Returns a matplotlib figure.

    maps  [N] or [n, n] each;  label  of the colour bar;  top  end of the scale, by default the largest number
    """
    from matplotlib.figure import Figure

    grids = [np.asarray(m, dtype=float).reshape(round(np.asarray(m).size ** 0.5), -1) for m in maps]
    top = max(float(g.max()) for g in grids) if top is None else top
    width = 1.75 * len(grids) + 1.1
    fig = Figure(figsize=(width, 2.15))
    for index, (grid, title) in enumerate(zip(grids, titles, strict=True)):
        ax = fig.add_axes(((0.1 + 1.75 * index) / width, 0.04, 1.6 / width, 1.6 / 2.15))
        shown = ax.imshow(grid, vmin=0, vmax=top)
        ax.set(xticks=[], yticks=[])
        ax.set_title(title, fontsize=8.5, pad=5)
    bar = fig.colorbar(
        shown, cax=fig.add_axes(((0.2 + 1.75 * len(grids)) / width, 0.04, 0.12 / width, 1.6 / 2.15))
    )
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7.5)
    bar.outline.set_visible(False)
    return fig


def sweep_figure(settings: Sequence[float], results: Sequence[tuple[float, float, float]], label: str,
                 more: Sequence[tuple[str, Sequence[float]]] = (), log: bool = False):  # fmt: skip
    """Truth with its 95 % interval over one setting, and other quantities in panels beside it. Returns a matplotlib figure.

    results  (estimate, low, high) for each setting;  more  (label, value for each setting);  log  settings in doublings
    """
    from matplotlib.figure import Figure

    fig = Figure(figsize=(5.2 if not more else 2.6 * (1 + len(more)), 2.6))
    axes = np.atleast_1d(fig.subplots(1, 1 + len(more)))
    estimate, low, high = (np.array(column) for column in zip(*results, strict=True))
    axes[0].errorbar(
        settings, estimate, [estimate - low, high - estimate], capsize=3, color=style.BLUE, marker="o"
    )
    axes[0].set(ylim=(0, max(0.72, high.max() + 0.04)))
    axes[0].set_title("right pictures, share", fontsize=9)
    extras = zip(axes[1:], more, (style.VERMILLION, style.GREEN, style.PINK), "s^D", strict=False)
    for ax, (name, values), color, marker in extras:
        ax.plot(settings, values, color=color, marker=marker)
        ax.set(ylim=(0, 1.15 * max(values)))
        ax.set_title(name, fontsize=9)
    for ax in axes:
        ax.set_xlabel(label)
        if log:
            ax.set_xscale("log", base=2)
        ax.set_xticks(settings, [f"{s:g}" for s in settings])
        ax.minorticks_off()
    fig.tight_layout()
    return fig


def _swatches(model, codes: Tensor, cell: int, paper: int) -> np.ndarray:
    """What each code looks like at a place of an otherwise empty sheet, uint8 [K, h, w, 3]."""
    n = model.grid[1]
    sheets = torch.full((len(codes), model.grid[0] * n), paper)
    sheets[:, cell] = codes.cpu()
    pictures = as_uint8(model.decode(sheets.to(model.device)))
    side = pictures.shape[1] // n
    top, left = cell // n * side, cell % n * side
    return pictures[:, top : top + side, left : left + side]
