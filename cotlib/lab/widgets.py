"""Two things to play with: scrub through the steps of a generation; edit the codes of a picture cell by cell.

    step_scrubber(steps, tokenizer.decode)      code_editor(tokenizer, codes)

Plain ipywidgets that behave the same in versions 7.7 (Colab) and 8: sliders, buttons and one Image, no Output
areas. What a widget shows comes from a pure function (`step_frame`, `edit_code`), which the tests call.
In print use the twins in `token_figures.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from cotlib.lab import style
from cotlib.lab.figures import as_uint8, palette_png
from cotlib.lab.token_figures import as_grid, as_rgb, covered, paper_filled

ZOOM = 4  # shown pixels for each pixel of a picture
PICKED, PLAIN = "◎", "\u00a0"  # labels of a cell; never empty, since front ends do not redraw an empty label


def step_scrubber(steps: Sequence, decode: Callable, row: int = 0):
    """Slider over the steps: the full guess, what is fixed, and how sure the model is of each cell. Returns the widget.

    Arguments as in `step_strip`.
    """
    import ipywidgets as w

    frames: dict[int, bytes] = {}

    def frame(index: int) -> bytes:
        if index not in frames:
            frames[index] = png_bytes(step_frame(steps[index], decode, row))
        return frames[index]

    slider = w.IntSlider(value=1, min=1, max=len(steps), description="step", continuous_update=True)
    play = w.Play(value=1, min=1, max=len(steps), interval=600)
    picture, words = picture_widget(value=frame(0)), w.HTML(step_words(steps[0], row))

    def moved(change) -> None:
        picture.value = frame(change["new"] - 1)
        words.value = step_words(steps[change["new"] - 1], row)

    slider.observe(moved, names="value")
    w.jslink((play, "value"), (slider, "value"))
    return w.VBox([w.HBox([play, slider]), picture, words])


def step_frame(step, decode: Callable, row: int = 0) -> np.ndarray:
    """uint8 [H,W,3]: the full guess, the fixed part, and exp(confidence) of each cell, its noise included."""
    from matplotlib import colormaps

    guess = as_uint8(decode(paper_filled(step.codes[row : row + 1])))[0]
    masked, sure = as_grid(step.masked[row]), as_grid(step.confidence[row].float().exp().clamp(0, 1))
    cell = guess.shape[0] // len(masked)
    heat = (colormaps["cividis"](sure)[..., :3] * 255).astype(np.uint8)
    panels = [guess, covered(guess, masked), np.kron(heat, np.ones((cell, cell, 1), np.uint8))]
    return _side_by_side([_enlarged(panel) for panel in panels])


def step_words(step, row: int = 0) -> str:
    """One line under the pictures."""
    left, total = int(step.masked[row].sum()), step.masked.shape[1]
    return f"After step {step.index + 1}: full guess | fixed, {left} of {total} cells masked | confidence (yellow = sure)"


def code_editor(tokenizer, codes: Tensor):
    """The grid of a picture's codes: pick a cell, turn its five digits, see the picture change. Returns the widget.

    tokenizer  has `decode(codes [B,N]) -> pictures [B,3,H,W]`
    codes      long [N]: the picture to start from (it is not changed)
    The widget's attribute `codes` holds the edited codes.
    """
    import ipywidgets as w

    from cotlib.models.tokenizer import DIGITS, LEVELS

    state = {"codes": codes.clone(), "cell": 0, "busy": False}
    n = round(codes.numel() ** 0.5)
    cells = [
        w.Button(layout={"width": "34px", "height": "30px", "margin": "1px", "padding": "0"}) for _ in codes
    ]
    digits = [
        w.IntSlider(min=0, max=LEVELS - 1, description=f"digit {i + 1}", layout={"width": "240px"})
        for i in range(DIGITS)
    ]
    number = w.BoundedIntText(min=0, max=LEVELS**DIGITS - 1, description="code")
    picture, again = picture_widget(), w.Button(description="Start again")

    def redraw() -> None:
        shown = as_uint8(tokenizer.decode(state["codes"][None]))[0]
        picture.value = png_bytes(_enlarged(_framed(shown, state["cell"], n), 5))
        side = shown.shape[0] // n
        means = shown.reshape(n, side, n, side, 3).mean((1, 3)).reshape(-1, 3)
        for index, button in enumerate(cells):
            color = "#" + bytes(means[index].astype(np.uint8)).hex()
            if button.style.button_color != color:
                button.style.button_color = color
                button.style.text_color = style.INK if means[index].mean() > 127 else "white"
            picked = index == state["cell"]
            button.description = PICKED if picked else PLAIN
            button.layout.border = f"3px solid {style.VERMILLION}" if picked else None  # as in the picture
        code = int(state["codes"][state["cell"]])
        state["busy"] = True  # the sliders move by program, not by hand
        number.value = code
        for slider, digit in zip(digits, code_digits(code), strict=True):
            slider.value = digit
        state["busy"] = False

    def write(code: int) -> None:
        state["codes"] = edit_code(state["codes"], state["cell"], code)
        box.codes = state["codes"]
        redraw()

    def pick(index: int) -> None:
        state["cell"] = index
        redraw()

    def start_again(_) -> None:
        state["codes"] = box.codes = codes.clone()
        redraw()

    for index, button in enumerate(cells):
        button.on_click(lambda _, index=index: pick(index))
    for slider in digits:
        slider.observe(
            lambda _: state["busy"] or write(digits_code([s.value for s in digits])), names="value"
        )
    number.observe(lambda change: state["busy"] or write(change["new"]), names="value")
    again.on_click(start_again)
    grid = w.VBox([w.HBox(cells[i : i + n]) for i in range(0, len(cells), n)])
    box = w.VBox([w.HTML("Pick a cell, then turn its digits."), w.HBox([grid, picture]),
                  w.HBox([w.VBox([number, again]), w.VBox(digits)])])  # fmt: skip
    box.codes = state["codes"]
    redraw()
    return box


def edit_code(codes: Tensor, cell: int, code: int) -> Tensor:
    """A copy of codes [N] with another code in one cell."""
    edited = codes.clone()
    edited[cell] = code
    return edited


def code_digits(code: int) -> list[int]:
    """The five digits of a code, most significant first."""
    from cotlib.models.tokenizer import unpack

    return unpack(torch.tensor(code)).tolist()


def digits_code(digits: list[int]) -> int:
    """The code of five digits, most significant first."""
    from cotlib.models.tokenizer import pack

    return int(pack(torch.tensor(digits)))


def picture_widget(**about):
    """An ipywidgets Image that keeps the size of its pictures, on a narrow page less; a box alone would stretch them."""
    import ipywidgets as w

    return w.Image(format="png", layout={"align_self": "flex-start", "max_width": "100%"}, **about)


def png_bytes(picture: np.ndarray) -> bytes:
    """uint8 [H,W,3] -> PNG."""
    from PIL import Image

    return palette_png(Image.fromarray(np.ascontiguousarray(picture)))


def _enlarged(picture: np.ndarray, zoom: int = ZOOM) -> np.ndarray:
    return picture.repeat(zoom, 0).repeat(zoom, 1)


def _side_by_side(panels: list[np.ndarray], gap: int = 12) -> np.ndarray:
    white = np.full((panels[0].shape[0], gap, 3), 255, np.uint8)
    framed = []
    for panel in panels:
        panel = panel.copy()
        panel[[0, -1]] = panel[:, [0, -1]] = as_rgb(style.FAINT)
        framed += [panel, white]
    return np.concatenate(framed[:-1], axis=1)


def _framed(picture: np.ndarray, cell: int, n: int) -> np.ndarray:
    """The picture with a one-pixel frame around a cell."""
    side = picture.shape[0] // n
    top, left = cell // n * side, cell % n * side
    result = picture.copy()
    part = result[top : top + side, left : left + side]
    part[[0, -1]] = part[:, [0, -1]] = as_rgb(style.VERMILLION)
    return result
