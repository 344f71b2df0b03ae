"""Figures in notebooks: one way to show them, and grids of small pictures.

    fig, ax = plt.subplots(); ax.plot(...)
    show(fig, alt="Accuracy rises from 0.5 to 0.9 as N grows from 1 to 20.")
    show_images(images, titles=prompts, marks=verdicts, alt="Twelve drawings, nine of them right.")

`show` stores the alt text twice: in the output's metadata, for tools that read it, and as a visible caption, because
GitHub and nbconvert drop the metadata. It draws at 1.5 times the shown size and reduces the palette until the
PNG is below 60 KB, so a notebook with twenty figures stays below a megabyte.
"""

from __future__ import annotations

import html
import io
import textwrap

import numpy as np
import torch

from cotlib.lab import style

MAX_BYTES = 60_000
SHARPNESS = 1.5  # stored pixels per shown pixel
SHOWN_DPI = 96
TILE = 4 / 3  # inches: each of 64 pixels becomes 2 shown, 3 stored pixels, so all keep the same size


def show(fig, alt: str) -> None:
    """Display a matplotlib figure with its alt text as caption, then close it.

    alt: one or two sentences that say what a reader should see in the figure, not what it is made of.
    """
    from matplotlib import pyplot as plt

    png, width = compact_png(fig)
    plt.close(fig)
    display_png(png, alt, width)


def show_images(images, titles=None, *, alt: str, columns: int | None = None, marks=None, chosen=(),
                tile: float = TILE) -> None:  # fmt: skip
    """Display small pictures in a grid, enlarged without blur. Arguments as in `image_grid`."""
    show(image_grid(images, titles, columns=columns, marks=marks, chosen=chosen, tile=tile), alt=alt)


def image_grid(images, titles=None, *, columns: int | None = None, marks=None, chosen=(), tile: float = TILE):
    """Draw a grid of pictures as one matplotlib figure.

    images  tensor [B,3,H,W] in 0..1, or numpy uint8 [B,H,W,3], or a list of single pictures of either kind
    titles  one short text for each picture; long ones are wrapped
    columns pictures in a row; by default at most six, rows as even as possible
    marks   one of True (green tick in a disc), False (red cross in a square) or None (nothing) for each picture
    chosen  index, or indices, of pictures to frame in blue with a star
    tile    width of a picture in inches
    """
    from matplotlib.figure import Figure

    pictures = as_uint8(images)
    count, height, width = pictures.shape[:3]
    columns = columns or balanced_columns(count)
    rows = -(-count // columns)
    labels = wrapped(titles, count, tile)
    lines = max((label.count("\n") + 1 for label in labels if label), default=0)
    chosen = {chosen} if isinstance(chosen, int) else set(chosen)

    gap = round(0.1 * width)
    head = round(
        lines * 0.155 * width / tile + (0.04 * width if lines else 0)
    )  # room for the titles, in pixels
    step_x, step_y = width + gap, height + gap + head
    total_x, total_y = columns * step_x + gap, rows * step_y + gap
    inches = tile / width
    fig = Figure(figsize=(total_x * inches, total_y * inches))
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, total_x), ylim=(total_y, 0))
    ax.axis("off")
    for index, picture in enumerate(pictures):
        left = gap + (index % columns) * step_x
        top = gap + (index // columns) * step_y + head
        draw_tile(ax, picture, left, top, picked=index in chosen)
        if labels[index]:
            ax.text(left + width / 2, top - 0.05 * width, labels[index], ha="center", va="bottom", fontsize=8,
                    linespacing=1.15)  # fmt: skip
        if marks is not None and marks[index] is not None:
            draw_mark(
                ax, bool(marks[index]), left + 0.985 * width, top + height - 0.015 * width, 0.085 * width
            )
        if index in chosen:
            _draw_star(ax, left + 0.11 * width, top + 0.11 * width)
    return fig


def compact_png(fig, limit: int = MAX_BYTES) -> tuple[bytes, int]:
    """Render a figure to a PNG of at most `limit` bytes. Returns (bytes, width in pixels at which to show it)."""
    from PIL import Image

    for scale in (SHARPNESS, 1.25, 1.0, 0.8, 0.65, 0.5):
        raw = io.BytesIO()
        fig.savefig(raw, format="png", dpi=SHOWN_DPI * scale)
        picture = Image.open(raw).convert("RGB")
        for colors in (256, 128, 64, 48, 32):
            if len(data := palette_png(picture, colors)) <= limit:
                return data, round(picture.width / scale)
    return data, round(picture.width / scale)


def palette_png(picture, colors: int = 256) -> bytes:
    """PIL picture -> PNG bytes with a palette of at most `colors` colours (exact when the picture has no more).

    The palette is an octree's, plus the white of the page and the greys of text and frames: the usual median cut spends
    it on the many near-whites of paper and turns a small blue thing green.
    """
    from PIL import Image

    if picture.getcolors(colors):
        reduced = picture.quantize(colors, dither=0)
    else:
        own = [value for name in ("#FFFFFF", style.INK, style.FAINT) for value in bytes.fromhex(name[1:])]
        count = colors - len(own) // 3
        tree = picture.quantize(count, method=Image.Quantize.FASTOCTREE, dither=0)
        palette = Image.new("P", (1, 1))
        palette.putpalette(own + tree.getpalette()[: 3 * count])
        numbers = np.array(picture.quantize(palette=palette, dither=0))
        numbers[(np.asarray(picture) == 255).all(-1)] = (
            0  # Pillow's search is coarse: it finds a near-white for white
        )
        reduced = Image.fromarray(numbers)
        reduced.putpalette(palette.getpalette())
    buffer = io.BytesIO()
    reduced.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def display_png(png: bytes, alt: str, width: int | None = None) -> None:
    """Display PNG bytes with the alt text in the metadata and as a visible caption underneath."""
    from base64 import b64encode

    from IPython.display import display

    about = {"alt": alt} | ({"width": width} if width else {})
    display(
        {"image/png": b64encode(png).decode("ascii"), "text/plain": "<figure>"},
        raw=True,
        metadata={"image/png": about},
    )
    display({"text/html": caption_html(alt), "text/plain": alt}, raw=True)


def caption_html(alt: str) -> str:
    """The caption as HTML; the colour follows the reader's theme, light or dark."""
    words = "margin:0 0 1em 0; max-width:52em; font-size:90%; opacity:0.8"
    return f'<p style="{words}"><em>{html.escape(alt, quote=False)}</em></p>'


def as_uint8(images) -> np.ndarray:
    """Pictures of any accepted kind -> uint8 [B,H,W,3]."""
    if isinstance(images, (list, tuple)):
        return np.concatenate([as_uint8(image) for image in images])
    if isinstance(images, torch.Tensor):
        batch = images.detach().float().cpu()
        batch = batch[None] if batch.ndim == 3 else batch
        if batch.ndim != 4 or batch.shape[1] != 3:
            raise ValueError(f"pictures of shape {tuple(images.shape)}; expected a tensor [B,3,H,W] in 0..1")
        return (batch.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    array = np.asarray(images)
    array = array[None] if array.ndim == 3 else array
    if array.ndim != 4 or array.shape[3] != 3 or array.dtype != np.uint8:
        raise ValueError(f"pictures of shape {array.shape}, {array.dtype}; expected numpy uint8 [B,H,W,3]")
    return array


def balanced_columns(count: int, most: int = 6) -> int:
    """Columns for `count` pictures: as few rows as `most` columns allow, rows as even as possible."""
    rows = -(-count // most)
    return max(1, -(-count // max(rows, 1)))


def wrapped(titles, count: int, tile: float) -> list[str]:
    """One text for each of `count` pictures, broken into lines that fit a width of `tile` inches; "" for none."""
    if titles is None:
        return [""] * count
    titles = [titles] * count if isinstance(titles, str) else list(titles)
    if len(titles) != count:
        raise ValueError(f"{len(titles)} titles for {count} pictures; give one title for each picture")
    letters = max(8, int(tile * 14))
    return ["\n".join(textwrap.wrap(str(title), letters) if "\n" not in str(title) else [str(title)])
            for title in titles]  # fmt: skip


def draw_tile(ax, picture: np.ndarray, left: float, top: float, picked: bool = False) -> None:
    """Put a picture with a thin frame at (left, top) of axes measured in pixels, y downwards."""
    from matplotlib.patches import Rectangle

    height, width = picture.shape[:2]
    ax.imshow(picture, extent=(left, left + width, top + height, top), interpolation="nearest", zorder=1)
    frame = (
        dict(edgecolor=style.BLUE, linewidth=2.6) if picked else dict(edgecolor=style.FAINT, linewidth=0.8)
    )
    ax.add_patch(Rectangle((left, top), width, height, fill=False, zorder=2, **frame))


def draw_mark(ax, right: bool, x: float, y: float, r: float) -> None:
    """A tick in a disc or a cross in a square around (x, y), told apart by shape as well as by colour."""
    from matplotlib.patches import Circle, Rectangle

    line = dict(color="white", linewidth=1.5, solid_capstyle="round", zorder=5, marker="")
    if right:
        ax.add_patch(Circle((x, y), r, facecolor=style.GREEN, edgecolor="white", linewidth=0.8, zorder=4))
        ax.plot([x - 0.42 * r, x - 0.1 * r, x + 0.48 * r], [y + 0.02 * r, y + 0.36 * r, y - 0.36 * r], **line)
    else:
        side = dict(facecolor=style.VERMILLION, edgecolor="white", linewidth=0.8, zorder=4)
        ax.add_patch(Rectangle((x - 0.9 * r, y - 0.9 * r), 1.8 * r, 1.8 * r, **side))
        for sign in (1, -1):
            ax.plot([x - 0.4 * r, x + 0.4 * r], [y - sign * 0.4 * r, y + sign * 0.4 * r], **line)


def _draw_star(ax, x: float, y: float) -> None:
    ax.plot(
        [x],
        [y],
        marker="*",
        markersize=11,
        color=style.BLUE,
        markeredgecolor="white",
        markeredgewidth=0.8,
        zorder=5,
    )
