"""Figures of tokens: a picture growing step by step, and a picture with its grid of codes.

`step_strip(steps, decode)` and `code_grid(image, codes)` are the printed twins of the widgets in `widgets.py`:
GitHub, HTML and paper show no widget, so a notebook shows one of these beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from cotlib.lab import style
from cotlib.lab.figures import as_uint8, draw_tile

MASK_ID = 1024  # the code of a place where nothing is drawn yet: one above the pictogram codes


def step_strip(steps: Sequence, decode: Callable, row: int = 0, columns: int = 6, tile: float = 4 / 3):
    """Rows of pictures over the steps: the model's full guess, and what is fixed by then.

    In raster order nothing is guessed ahead; then there is one row, what is drawn so far.

    steps  the `Step` records of one generation (codes [B,N], masked [B,N], confidence [B,N])
    decode codes [B,N] -> pictures [B,3,H,W] in 0..1, for example `tokenizer.decode`
    row    which picture of the batch
    Returns a matplotlib figure with at most `columns` steps, the first and the last among them.
    """
    from matplotlib.figure import Figure

    picked = _evenly(len(steps), columns)
    codes = torch.stack([steps[i].codes[row] for i in picked])
    ahead = bool((codes[0] != MASK_ID)[steps[picked[0]].masked[row]].any())
    lines = ("full\nguess", "fixed\nso far") if ahead else ("drawn\nso far",)
    guesses = as_uint8(decode(paper_filled(codes)))
    height, width = guesses.shape[1:3]
    side, gap, head = width * 0.62, round(0.1 * width), round(0.34 * width)  # side: room for the row labels
    total_x = side + len(picked) * (width + gap)
    total_y = head + len(lines) * (height + gap)
    fig = Figure(figsize=(total_x * tile / width, total_y * tile / width))
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, total_x), ylim=(total_y, 0))
    ax.axis("off")
    for column, (index, guess) in enumerate(zip(picked, guesses, strict=True)):
        left = side + column * (width + gap)
        masked = as_grid(steps[index].masked[row])
        for line in range(len(lines)):
            shown = guess if ahead and line == 0 else covered(guess, masked)
            draw_tile(ax, shown, left, head + line * (height + gap))
        ax.text(left + width / 2, head - 0.06 * width, f"step {steps[index].index + 1}\n{int(masked.sum())} masked",
                ha="center", va="bottom", fontsize=10.5, linespacing=1.2)  # fmt: skip
    for line, text in enumerate(lines):
        ax.text(
            side - 0.1 * width,
            head + line * (height + gap) + height / 2,
            text,
            ha="right",
            va="center",
            fontsize=10.5,
        )
    return fig


def code_grid(image, codes, tile: float = 4.0, mark: int | None = None):
    """A picture and its codes: the number of each cell written into the cell.

    image  [3,H,W] in 0..1 or uint8 [H,W,3];  codes [N], row by row from the top left
    mark   a cell to frame, counted from 0
    Returns a matplotlib figure: the picture on the left, the numbered cells on the right.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    picture = as_uint8(image)[0]
    height, width = picture.shape[:2]
    numbers = as_grid(codes)
    n = len(numbers)
    cell = width / n
    gap = round(0.08 * width)
    total_x, total_y = 2 * width + 3 * gap, height + 2 * gap
    fig = Figure(figsize=(total_x * tile / width, total_y * tile / width))
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, total_x), ylim=(total_y, 0))
    ax.axis("off")
    right = 2 * gap + width
    draw_tile(ax, picture, gap, gap)
    draw_tile(
        ax, (0.5 * picture + 127).astype(np.uint8), right, gap
    )  # paled, so that the numbers can be read
    background = np.bincount(numbers.ravel()).argmax()
    for y in range(n):
        for x in range(n):
            quiet = numbers[y, x] == background
            ax.add_patch(
                Rectangle(
                    (right + x * cell, gap + y * cell), cell, cell, fill=False, lw=0.5, ec="#AAB0B7", zorder=3
                )
            )
            ax.text(right + (x + 0.5) * cell, gap + (y + 0.5) * cell, str(numbers[y, x]), ha="center", va="center",
                    fontsize=2.05 * tile, zorder=4, color=style.INK, alpha=0.45 if quiet else 1.0,
                    fontweight="normal" if quiet else "bold")  # fmt: skip
    if mark is not None:
        for left in (gap, right):
            corner = (left + mark % n * cell, gap + mark // n * cell)
            ax.add_patch(Rectangle(corner, cell, cell, fill=False, lw=2.4, ec=style.VERMILLION, zorder=5))
    return fig


def covered(picture: np.ndarray, masked: np.ndarray) -> np.ndarray:
    """The picture [H,W,3] with every masked cell [n,n] hidden under grey paper with a darker dot."""
    cell = picture.shape[0] // len(masked)
    hidden = np.kron(masked, np.ones((cell, cell), bool))
    dot = np.zeros((cell, cell), bool)
    dot[cell // 2 - 1 : cell // 2 + 1, cell // 2 - 1 : cell // 2 + 1] = True
    result = picture.copy()
    result[hidden] = as_rgb(style.HIDDEN)
    result[hidden & np.tile(dot, masked.shape)] = as_rgb("#A9AFB6")
    return result


def paper_filled(codes: torch.Tensor) -> torch.Tensor:
    """Codes [B,N] in which places not drawn yet (raster order) hold the most frequent code, which is plain paper."""
    drawn = codes[codes != MASK_ID]
    return codes.masked_fill(codes == MASK_ID, int(drawn.mode().values) if len(drawn) else 0)


def as_grid(row) -> np.ndarray:
    """[N] -> [n,n] numpy."""
    flat = row.detach().cpu().numpy() if hasattr(row, "detach") else np.asarray(row)
    n = round(flat.size**0.5)
    if n * n != flat.size:
        raise ValueError(f"{flat.size} tokens do not fill a square grid")
    return flat.reshape(n, n)


def _evenly(count: int, most: int) -> list[int]:
    """At most `most` of the indices 0..count-1, evenly spread, the first and the last among them."""
    return sorted({round(i * (count - 1) / max(min(most, count) - 1, 1)) for i in range(min(most, count))})


def as_rgb(color: str) -> tuple[int, ...]:
    return tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))
