"""Figures of the published models: Show-o's sequence and mask, the bits of a code, two readings of P(yes), PARM's board, work and memory.

show(sequence_figure(model, prompt), alt="...")
show(board_figure(candidates_of(outcome, watcher), steps=18, clear=0.5), alt="...")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from cotlib.lab import style
from cotlib.lab.figures import as_uint8
from cotlib.lab.published import Candidate
from cotlib.models.published.memory import GIB, RESERVE, Crew, phases, plan
from cotlib.models.published.showo_layout import TEXT
from cotlib.models.published.work import CARDS, Work

GREY, QUIET = "#8A9099", "#5C636B"  # lines; small print, dark enough to read
PADS, WORDS, MARKS, PICTURE = "#EEF0F2", style.SKY, style.ORANGE, style.BLUE


# ----- the sequence ------------------------------------------------------------------------------------------------


def sequence_figure(model, prompt: str):
    """Show-o's places for a prompt and its picture: all of them as a bar, and the text's end in large. Returns a figure."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    text = model.text_ids(prompt)
    pads, total = TEXT - len(text), TEXT + model.tokens + 2
    fig = Figure(figsize=(9.6, 2.9))
    ax = fig.add_axes((0.01, 0.03, 0.98, 0.94))
    ax.set(xlim=(0, 960), ylim=(290, 0))
    ax.axis("off")
    unit = 930 / total
    for start, count, color, label in ((0, pads, PADS, f"{pads} pads"), (pads, len(text), WORDS, f"text, {len(text)}"),
                                       (TEXT, model.tokens + 2, PICTURE, f"picture: soi, {model.tokens} image tokens, eoi")):  # fmt: skip
        ax.add_patch(Rectangle((15 + start * unit, 40), count * unit, 42, facecolor=color, edgecolor="white"))
        inside = count * unit > 90
        ax.text(15 + (start + count / 2) * unit, 61 if inside else 28, label, ha="center", va="center", fontsize=9,
                color="white" if color == PICTURE else style.INK)  # fmt: skip
    for place in (0, TEXT, total):
        ax.text(15 + place * unit, 98, str(place), ha="center", va="center", fontsize=8, color=QUIET)
    ends = {0: "t2i", 1: "bos", len(text) - 1: "eos"}
    shown = [("[PAD]", PADS)]
    shown += [
        (ends.get(i) or _word(model, token), MARKS if i in ends else WORDS) for i, token in enumerate(text)
    ]
    shown += [("soi", MARKS), ("?", PICTURE), ("?", PICTURE), ("...", PICTURE), ("eoi", MARKS)]
    ids = [model.config.id_of("[PAD]"), *text, model.config.id_of("<|soi|>"), *[model.config.entries - 1] * 2, None,
           model.config.id_of("<|eoi|>")]  # fmt: skip
    width = min(66, 930 / len(shown))
    for i, ((label, color), number) in enumerate(zip(shown, ids, strict=True)):
        left = 15 + i * width
        ax.add_patch(Rectangle((left, 175), width - 3, 40, facecolor=color, edgecolor="white"))
        ax.text(left + width / 2 - 1.5, 195, label, ha="center", va="center", fontsize=8 if width > 52 else 6.8,
                color="white" if color == PICTURE else style.INK)  # fmt: skip
        ax.text(left + width / 2 - 1.5, 232, "" if number is None else str(number), ha="center", va="center", fontsize=7.2,
                color=QUIET)  # fmt: skip
    edge = 15 + (pads - 1) * unit
    for x, y in ((edge, 15), (15 + (TEXT + 4) * unit, 15 + len(shown) * width - 3)):
        ax.plot([x, y], [84, 172], color=style.FAINT, linewidth=0.9, marker="")
    ax.text(
        15,
        262,
        "in the lean form the text runs once for each prompt, the picture (dark blue) in every step, and the pads never",
        fontsize=8.5,
        color=QUIET,
    )
    return fig


def _word(model, token: int) -> str:
    """A text token in a few letters, a dot for the blank before it."""
    return model.words.convert_ids_to_tokens([token])[0].replace("Ġ", "·")[:8]


def mask_figure(mask, text: int = TEXT, pads: int = 0, around: int = 14):
    """Who sees whom: bool [L, L], rows look at columns. Left all, right the border of text and picture. Returns a figure.

    text: places before the picture; pads: how many of them are empty; around: places shown on either side of the border.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    seen = np.asarray(mask.cpu() if isinstance(mask, torch.Tensor) else mask).astype(bool)
    colors = ListedColormap(["#F4F5F6", style.BLUE])
    fig = Figure(figsize=(9.2, 4.3))
    whole, near = fig.add_axes((0.07, 0.09, 0.4, 0.82)), fig.add_axes((0.57, 0.09, 0.4, 0.82))
    whole.imshow(seen, cmap=colors, vmin=0, vmax=1, interpolation="nearest")
    whole.set(
        title=f"all {len(seen)} places", xlabel="... may see this one", ylabel="this place ...", anchor="N"
    )
    for edge in (pads, text):
        for line in (whole.axvline, whole.axhline):
            line(edge - 0.5, color=style.VERMILLION, linewidth=0.8, marker="")
    whole.set(
        xticks=[pads / 2, (pads + text) / 2, (text + len(seen)) / 2], xticklabels=["pads", "text", "picture"]
    )
    whole.set(
        yticks=[pads / 2, (pads + text) / 2, (text + len(seen)) / 2], yticklabels=["pads", "text", "picture"]
    )
    low = text - around
    near.imshow(seen[low : text + around, low : text + around], cmap=colors, vmin=0, vmax=1, interpolation="nearest",
                extent=(low - 0.5, text + around - 0.5, text + around - 0.5, low - 0.5))  # fmt: skip
    near.set(title="around the border", anchor="N")
    for line in (near.axvline, near.axhline):
        line(text - 0.5, color=style.VERMILLION, linewidth=1.2, marker="")
    for ax in (whole, near):
        ax.grid(visible=False)
        ax.tick_params(labelsize=8.5)
    return fig


# ----- bits of a picture -------------------------------------------------------------------------------------------


def bits_figure(image, codes, bits: int, painted=None):
    """A picture, the sign of each of its code's bits at each place, highest first, and what the decoder makes of them.

    image: [3, H, W] in 0..1; codes: long [N], a square; painted: [3, H, W] or None. Returns a figure.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    side = round(len(codes) ** 0.5)
    planes = (codes.cpu()[:, None] >> torch.arange(bits - 1, -1, -1)) & 1
    planes = planes.T.reshape(bits, side, side).numpy()
    columns, ends = -(-bits // 2), 2 if painted is not None else 1
    fig = Figure(figsize=(9.4, 2.45))
    wide = 0.98 / (columns + 2 * ends + 0.3)
    colors = ListedColormap(["#E8EBEE", style.INK])

    def panel(x: float, y: float, size: float, title: str):
        ax = fig.add_axes((x, y, size * 0.93, size * 0.93 * 9.4 / 2.45))
        ax.set(xticks=[], yticks=[])
        ax.set_title(title, fontsize=8, loc="center", pad=3, fontweight="normal")
        return ax

    panel(0.01, 0.06, 2 * wide, "picture").imshow(as_uint8(image)[0])
    for bit, plane in enumerate(planes):
        x = 0.01 + 2 * wide + 0.012 + (bit % columns) * wide
        panel(x, 0.51 - 0.48 * (bit // columns), wide, f"bit {bit}: {2 ** (bits - 1 - bit)}").imshow(
            plane, cmap=colors, vmin=0, vmax=1
        )
    if painted is not None:
        panel(0.01 + (2 + columns) * wide + 0.03, 0.06, 2 * wide, "decoded").imshow(as_uint8(painted)[0])
    return fig


# ----- P(yes) ------------------------------------------------------------------------------------------------------


def readings_figure(
    margins: Sequence[float], readings: Mapping[str, Sequence[float]], marks: Sequence[float] = ()
):
    """P(yes) against the margin log P(yes)/P(no), a line for each reading; marks: margins of real answers, as ticks below."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(7.2, 3.3), layout="constrained")
    ax = fig.add_subplot()
    for (name, values), dash, color in zip(
        readings.items(), ("-", "--", ":"), (style.BLUE, style.VERMILLION, style.GREEN), strict=False
    ):
        ax.plot(margins, values, dash, color=color, label=name, marker="")
    for mark in marks:
        ax.plot([mark, mark], [-0.13, -0.06], color=style.INK, linewidth=1.2, marker="")
    ax.set(xlabel="margin: log P(yes) / P(no)", ylabel="what is read as P(yes)", ylim=(-0.15, 1.06))
    ax.legend(loc="upper left", fontsize=8.5)
    return fig


# ----- PARM's board ------------------------------------------------------------------------------------------------


def columns_of(candidates: Sequence[Candidate], most: int = 9) -> list[int]:
    """The steps to draw: all at which something was asked, or, when they are too many, those at which a path was first clear
    and others between."""
    asked = sorted({step for one in candidates for step in one.guesses})
    if len(asked) <= most:
        return asked
    needed = sorted({one.potential[0] for one in candidates if one.potential})
    if len(needed) >= most:
        return [needed[i * len(needed) // most] for i in range(most)]
    others = [step for step in asked if step not in needed]
    spare = most - len(needed)
    return sorted([*needed, *(others[i * len(others) // spare] for i in range(spare))])


def board_figure(
    candidates: Sequence[Candidate], clear: float, promising: float, title: str = "", most: int = 9
):
    """PARM on one prompt, as the paper draws it: a row for each path, its guesses from left to right with CLARITY below each,
    POTENTIAL at the first clear one, a cross where it stopped, and at the end the finished picture with FINAL.

    Returns a figure. most: columns of guesses.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    steps = columns_of(candidates, most)
    side, gap, line, head, name = 80, 9, 16, 44, 52
    row = side + 2 * line + 8
    wide = name + (len(steps) + 1) * (side + gap) + 36
    high = head + len(candidates) * row
    scale = min(10.0, wide / 96) / wide
    fig = Figure(figsize=(wide * scale, high * scale))
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, wide), ylim=(high, 0))
    ax.axis("off")
    if title:
        ax.text(4, 9, title, va="center", fontsize=8.5, fontweight="bold")
    small = 7.4

    def field(x: float, y: float, text: str, color: str, ink: str) -> None:
        ax.add_patch(Rectangle((x, y), side, line - 2, facecolor=color, edgecolor="none"))
        ax.text(
            x + side / 2, y + (line - 2) / 2, text, ha="center", va="center", fontsize=small - 0.6, color=ink
        )

    for column, step in enumerate(steps):
        ax.text(name + column * (side + gap) + side / 2, 34, f"step {step + 1}", ha="center", va="center", fontsize=small)  # fmt: skip
    last = name + len(steps) * (side + gap) + 16
    ax.text(last + side / 2, 34, "finished", ha="center", va="center", fontsize=small)
    for number, one in enumerate(candidates):
        top = head + number * row
        ax.text(name - 8, top + side / 2, f"path {one.number + 1}", ha="right", va="center", fontsize=small)
        for column, step in enumerate(steps):
            if step not in one.guesses:
                continue
            left = name + column * (side + gap)
            yes = one.clarity[step] >= clear
            _tile(ax, one.guesses[step], left, top, side, picked=yes)
            field(left, top + side + 2, f"clear {one.clarity[step]:.3f}", style.BLUE if yes else "#EEF0F2", "white" if yes else style.INK)  # fmt: skip
            if one.potential and one.potential[0] == step:
                good = one.potential[1] >= promising
                field(left, top + side + 2 + line, f"potential {one.potential[1]:.3f}", style.GREEN if good else style.VERMILLION, "white")  # fmt: skip
        if one.picture is not None:
            _tile(ax, one.picture, last, top, side, picked=one.chosen)
            field(last, top + side + 2, f"final {one.final:.3f}", style.BLUE if one.chosen else "#EEF0F2", "white" if one.chosen else style.INK)  # fmt: skip
        elif one.stopped is not None:
            words = "stopped, but\nthe best left" if one.chosen else "stopped"
            ax.text(last + side / 2, top + side / 2, words, ha="center", va="center", fontsize=small, color=style.VERMILLION)  # fmt: skip
        if one.chosen:
            ax.plot(last + side + 12, top + side / 2, marker="*", markersize=11, color=style.BLUE)
    return fig


def _tile(ax, picture: np.ndarray, left: float, top: float, side: float, picked: bool) -> None:
    from matplotlib.patches import Rectangle

    ax.imshow(picture, extent=(left, left + side, top + side, top), interpolation="nearest", zorder=1)
    edge = dict(edgecolor=style.BLUE, linewidth=2.2) if picked else dict(edgecolor=style.FAINT, linewidth=0.8)
    ax.add_patch(Rectangle((left, top), side, side, fill=False, zorder=2, **edge))


# ----- work and memory -----------------------------------------------------------------------------------------------

PARTS = (("generator", style.BLUE, ""), ("decoder", style.ORANGE, "//"), ("verifier", style.GREEN, ".."))


def work_figure(rows: Mapping[str, Work]):
    """TFLOP of a prompt by part, a bar for each search. Returns a figure."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(8.8, 0.44 * len(rows) + 1.15), layout="constrained")
    ax = fig.add_subplot()
    for y, work in enumerate(rows.values()):
        left = 0.0
        for part, color, hatch in PARTS:
            value = getattr(work, part) / 1e12
            ax.barh(
                y, value, left=left, color=color, hatch=hatch, edgecolor="white", linewidth=0.6, height=0.62
            )
            left += value
        ax.text(
            left, y, f"  {left:,.0f}, verifier {work.verifier / work.total:.0%}", va="center", fontsize=8.5
        )
    for part, color, hatch in PARTS:
        ax.barh(0, 0, color=color, hatch=hatch, edgecolor="white", label=part)
    most = max(work.total for work in rows.values()) / 1e12
    ax.set(yticks=range(len(rows)), yticklabels=list(rows), ylim=(len(rows) - 0.4, -0.6), xlim=(0, 1.24 * most),
           xlabel="TFLOP for one prompt, counted")  # fmt: skip
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.grid(axis="y", visible=False)
    fig.legend(loc="outside lower center", ncol=3, fontsize=8.5)
    return fig


def memory_figure(crew: Crew, gb: float, reserve: int = RESERVE):
    """What a run holds at each of its tops, with the largest chunks that fit a card of `gb` 10^9 bytes; dotted lines are what
    known cards leave, the solid one this card. Returns a figure."""
    from matplotlib.figure import Figure

    made, names = plan(crew, gb, reserve), {"network": "drawing: network", "head": "drawing: head", "draw": "drawing: draw",
                                            "decoder": "decoding", "verifier": "asking", "judge": "judging"}  # fmt: skip
    owners = {name: owner for name, (owner, _) in phases(crew).items()}
    weights = crew.weights()
    drawers = weights["generator"] + weights["image tokenizer"]
    fig = Figure(figsize=(8.8, 0.44 * len(made.peaks) + 1.3), layout="constrained")
    ax = fig.add_subplot()
    for y, (name, peak) in enumerate(made.peaks.items()):
        parts = [drawers, weights.get("verifier", 0), weights.get("judge", 0)]
        if crew.in_turn:
            parts = [0, parts[1], 0] if name == "verifier" else [0, 0, parts[2]] if name == "judge" else [drawers, 0, 0]  # fmt: skip
        left = 0.0
        for value, color, hatch in zip([*parts, peak - sum(parts)], (style.BLUE, style.GREEN, style.PINK, style.ORANGE),
                                       ("", "..", "xx", "//"), strict=True):  # fmt: skip
            ax.barh(y, value / GIB, left=left, color=color, hatch=hatch, edgecolor="white", linewidth=0.6, height=0.62)  # fmt: skip
            left += value / GIB
        chunk = made.chunks[owners[name]]
        ax.text(left, y, f"  {left:.1f} GiB, {chunk or 'not even 1'} at a time", va="center", fontsize=8.5,
                bbox=dict(facecolor="white", edgecolor="none", pad=0.8), zorder=5)  # fmt: skip
    looks = [("weights: generator", style.BLUE, ""), ("weights: verifier", style.GREEN, ".."),
             *[("weights: judge", style.PINK, "xx")] * crew.judge, ("all else", style.ORANGE, "//")]  # fmt: skip
    for label, color, hatch in looks:
        ax.barh(0, 0, color=color, hatch=hatch, edgecolor="white", label=label)
    top = max(made.peak / GIB, made.room / GIB)
    for card in CARDS:
        left = (card.gb * 1e9 - reserve) / GIB
        if left < 1.3 * top and abs(card.gb - gb) > 0.01:
            ax.axvline(left, color=GREY, linestyle=":", linewidth=1.2, marker="")
            ax.text(left, -0.62, card.name, ha="center", va="bottom", fontsize=8, color=QUIET)
    ax.axvline(made.room / GIB, color=style.VERMILLION, linewidth=1.6, marker="")
    ax.text(
        made.room / GIB, -0.62, f"{gb:g} GB", ha="center", va="bottom", fontsize=8.5, color=style.VERMILLION
    )
    ax.set(yticks=range(len(made.peaks)), yticklabels=[names[name] for name in made.peaks], xlim=(0, 1.3 * top),
           ylim=(len(made.peaks) - 0.4, -0.6), xlabel="GiB of tensors, counted")  # fmt: skip
    ax.grid(axis="y", visible=False)
    fig.legend(loc="outside lower center", ncol=4, fontsize=8.5)
    return fig
