"""Figures of judging: what a detector saw in a picture, and which relation a place stands in.

show(detection_grid(images, judge.detect(images), titles=prompts, marks=right), alt="...")
show(relation_map(), alt="...")
position_explorer()        # the widget twin: move one thing around another
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cotlib.interfaces import Detection
from cotlib.judging.pictogram import glyph_box
from cotlib.judging.rules import relative_position
from cotlib.lab import style
from cotlib.lab.figures import as_uint8, draw_mark, draw_tile, wrapped
from cotlib.lab.widgets import picture_widget, png_bytes
from cotlib.world.render import render
from cotlib.world.scenes import CELL, SIZE, Scene, Thing

BOX_COLORS = (style.BLUE, style.VERMILLION, style.GREEN, style.PINK)
BOX_LINES = ("-", "--", "-.", ":")
KINDS = ("none", "left of", "right of", "above", "below", "two at once")
KIND_COLORS = ("#E3E5E8", style.BLUE, style.ORANGE, style.GREEN, style.PINK, style.BLACK)
FIXED = Thing("cat", "orange", 20, 20)  # the thing in the middle of the explorer


def detection_grid(images, found: Sequence[Sequence[Detection]], titles=None, *, marks=None, notes=None,
                   columns: int | None = None, tile: float = 16 / 9):  # fmt: skip
    """Pictures with their detections: a box each, with class, colour and score. Returns a matplotlib figure.

    images  [B,3,64,64] in 0..1;  found  the detections of each picture, as `judge.detect` gives them
    titles  text above each picture;  notes  text below each;  marks  True, False or None for each, a tick or a cross
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    pictures = as_uint8(images)
    count, height, width = pictures.shape[:3]
    columns = columns or min(count, 4)
    rows = -(-count // columns)
    above, below = wrapped(titles, count, 1.15 * tile), wrapped(notes, count, 1.3 * tile)
    line = 0.14 * width / tile  # height of a line of text, in picture pixels
    lines = [max((t.count("\n") + 1 for t in texts if t), default=0) for texts in (above, below)]
    gap, head = round(0.08 * width), round((lines[0] + 1.6) * line)  # whole pixels keep pictures sharp
    foot = round((lines[1] + 0.6) * line) if lines[1] else 0
    total_x = columns * (width + gap) + gap
    total_y = rows * (head + height + foot + gap)
    fig = Figure(figsize=(total_x * tile / width, total_y * tile / width))
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, total_x), ylim=(total_y, 0))
    ax.axis("off")
    for index, picture in enumerate(pictures):
        left = gap + index % columns * (width + gap)
        top = index // columns * (head + height + foot + gap) + head
        draw_tile(ax, picture, left, top)
        for number, seen in enumerate(found[index]):
            color, dash = BOX_COLORS[number % 4], BOX_LINES[number % 4]
            x0, y0, x1, y1 = seen.box
            frame = dict(fill=False, edgecolor=color, linewidth=1.6, linestyle=dash, zorder=3)
            ax.add_patch(Rectangle((left + x0, top + y0), x1 - x0, y1 - y0, **frame))
            words = (
                f"{seen.color} {seen.cls} {seen.score:.2f}" if seen.color else f"{seen.cls} {seen.score:.2f}"
            )
            ax.text(left + min(x0, width - 0.4 * len(words) * line), top + y0 - 0.15 * line, words, ha="left", va="bottom",
                    fontsize=7.2, color="white", zorder=4, bbox=dict(facecolor=color, edgecolor="none", pad=1.0))  # fmt: skip
        if above[index]:
            ax.text(left + width / 2, top - 1.3 * line, above[index], ha="center", va="bottom", fontsize=8)
        if below[index]:
            ax.text(
                left + width / 2, top + height + 0.3 * line, below[index], ha="center", va="top", fontsize=7.5
            )
        if marks is not None and marks[index] is not None:
            draw_mark(ax, bool(marks[index]), left + 0.99 * width, top + 0.99 * height, 0.055 * width)
    return fig


def verdict_matrices(tables: dict[str, list[list[int]]], rows: str, columns: str):
    """Small tables of right and wrong against right and wrong, one per entry. Returns a matplotlib figure.

    tables   {title: [[right-right, right-wrong], [wrong-right, wrong-wrong]]}, counts; the first word of each is the row
    rows, columns   who says right or wrong in the rows, and who in the columns
    """
    from matplotlib.figure import Figure

    fig = Figure(figsize=(2.35 * len(tables) + 0.35, 2.3), layout="constrained")
    axes = fig.subplots(1, len(tables), squeeze=False)[0]
    for ax, (title, table) in zip(axes, tables.items(), strict=True):
        counts = np.asarray(table, float)
        off = ~np.eye(2, dtype=bool)
        shade = np.where(off, np.where(counts > 0, 0.7, 0.0), 0.35)
        ax.imshow(shade, cmap="Blues", vmin=0, vmax=1.4)
        for row, column in np.ndindex(2, 2):
            ax.text(column, row, f"{int(counts[row, column]):,}", ha="center", va="center", fontsize=12,
                    fontweight="bold" if row != column and counts[row, column] else "normal")  # fmt: skip
        ax.set(xticks=(0, 1), yticks=(0, 1), xticklabels=("right", "wrong"), yticklabels=("right", "wrong"))
        ax.set_xlabel(columns)
        ax.set_title(title, fontsize=8.5, loc="center")
        ax.grid(False)
    axes[0].set_ylabel(rows)
    return fig


def relation_map(size: float = CELL, reach: float = 44.0, points: int = 177):
    """Where must a thing stand to be left of, above, ... another of the same size? Returns a matplotlib figure.

    Each place is coloured by the relations of a box centred there to the box in the middle.
    size   side of both boxes, pixels;  reach  half the side of the map, pixels
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch, Rectangle

    places = np.linspace(-reach, reach, points).tolist()
    kinds = np.array([[_kind(relative_position(_centred(x, y, size), _centred(0, 0, size))) for x in places]
                      for y in places])  # fmt: skip
    fig = Figure(figsize=(6.6, 4.0))
    ax = fig.add_axes((0.09, 0.12, 0.53, 0.84))
    ax.imshow(kinds, cmap=ListedColormap(KIND_COLORS), vmin=-0.5, vmax=5.5, extent=(-reach, reach, reach, -reach),
              alpha=0.85)  # fmt: skip
    ax.add_patch(Rectangle((-size / 2, -size / 2), size, size, fill=False, edgecolor=style.INK, linewidth=2))
    ax.add_patch(
        Rectangle(
            (-size, -size), 2 * size, 2 * size, fill=False, edgecolor="white", linestyle=":", linewidth=1.4
        )
    )
    for text, x, y, color in (
        ("left of", -34, 0, "white"),
        ("right of", 34, 0, style.BLACK),
        ("above", 0, -34, style.BLACK),
        ("below", 0, 34, style.BLACK),
    ):
        ax.text(x, y, text, color=color, ha="center", va="center", fontweight="bold")
    for x in (-36, 36):
        for y in (-34, 34):
            ax.text(x, y, "two", color="white", ha="center", va="center", fontsize=9)
    ax.set(xlabel="centre of a minus centre of b, pixels", ylabel="the same, y growing downwards")
    ax.grid(False)
    handles = [Patch(facecolor=c, label=k, alpha=0.85) for k, c in zip(KINDS, KIND_COLORS, strict=True)]
    fig.legend(
        handles=handles, loc="center left", bbox_to_anchor=(0.64, 0.62), title="a is ... b", alignment="left"
    )
    fig.text(0.655, 0.21, "solid: box b\ndotted: inside it the boxes overlap", fontsize=8.5, va="center")
    return fig


def position_explorer():
    """Move a dog around a cat; see the rule's numbers and its verdict. Returns the widget."""
    import ipywidgets as w

    x = w.IntSlider(value=0, min=0, max=SIZE - CELL, description="dog x")
    y = w.IntSlider(value=2, min=0, max=SIZE - CELL, description="dog y")
    picture, words = picture_widget(), w.HTML()

    def moved(_=None) -> None:
        dog = Thing("dog", "blue", x.value, y.value)
        picture.value = png_bytes(position_frame(dog))
        words.value = position_words(dog)

    x.observe(moved, names="value")
    y.observe(moved, names="value")
    moved()
    return w.HBox([picture, w.VBox([x, y, words])])


def position_frame(dog: Thing, zoom: int = 4) -> np.ndarray:
    """uint8 [H,W,3]: the dog, the cat in the middle, their boxes and the line between the centres."""
    from PIL import Image, ImageDraw

    big = render(Scene((FIXED, dog))).repeat(zoom, 0).repeat(zoom, 1)
    image = Image.fromarray(big)
    pen = ImageDraw.Draw(image)
    centres = []
    for thing, color in ((FIXED, style.VERMILLION), (dog, style.BLUE)):
        x0, y0, x1, y1 = (zoom * v for v in glyph_box(thing.cls, thing.x, thing.y))
        pen.rectangle((x0, y0, x1 - 1, y1 - 1), outline=color, width=2)
        centres.append(((x0 + x1) / 2, (y0 + y1) / 2))
    pen.line(centres, fill=style.INK, width=2)
    return np.asarray(image)


def position_words(dog: Thing) -> str:
    """The rule's numbers for the dog seen from the cat, as one short text."""
    a, b = (glyph_box(t.cls, t.x, t.y) for t in (dog, FIXED))
    shift = [(a[i] + a[i + 2] - b[i] - b[i + 2]) / 2 for i in (0, 1)]
    found = sorted(relative_position(a, b))
    return (f"centre of dog minus centre of cat: {shift[0]:+.1f} across, {shift[1]:+.1f} down<br>"
            f"the dog is <b>{' and '.join(found) if found else 'in no relation to'}</b> the cat")  # fmt: skip


def _centred(x: float, y: float, size: float) -> tuple[float, float, float, float]:
    return (x - size / 2, y - size / 2, x + size / 2, y + size / 2)


def _kind(relations) -> int:
    """Index into KINDS."""
    return 5 if len(relations) > 1 else KINDS.index(next(iter(relations), "none"))
