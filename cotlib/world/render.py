"""Scenes to pixels: coloured pictograms on a light, faintly tinted background.

A picture is drawn by pasting pre-coloured sprites, so one takes well under half a millisecond.
"""

from functools import cache, lru_cache

import numpy as np
import torch
from PIL import Image

from cotlib.assets import data_dir
from cotlib.world.scenes import CELL, CLASSES, SIZE, Scene

PALETTE = {
    "red": (214, 39, 40), "orange": (255, 140, 26), "yellow": (242, 200, 20), "green": (44, 150, 60),
    "blue": (40, 110, 210), "purple": (130, 70, 180), "pink": (245, 130, 180), "black": (40, 40, 45),
}  # fmt: skip
PAPER = np.array([250, 248, 244]) / 255.0  # background without tint
LINE = 0.45  # inner lines: the fill colour times this
# Five tints, at most 3/255 from the paper, and a vertical shade of 1/255: visible as warmth, not as an object.
_TINTS = np.array([[0, 0, 0], [2, 0, -3], [-3, 0, 2], [-2, 1, -2], [1, -2, 1]]) / 255.0


@lru_cache(maxsize=1)
def _glyphs() -> np.ndarray:
    """Glyph layers, float [classes, 2, 24, 24]: silhouette and inner lines."""
    with Image.open(data_dir() / "glyphs" / "glyphs.png") as sheet:
        array = np.asarray(sheet, dtype=np.float64) / 255.0
    return array.reshape(2, CELL, len(CLASSES), CELL).transpose(2, 0, 1, 3)


@cache
def sprite(cls: str, color: str) -> tuple[np.ndarray, np.ndarray]:
    """Colour (float32 [24, 24, 3]) and opacity (float32 [24, 24]) of one thing, both in 0..1."""
    alpha, lines = _glyphs()[CLASSES.index(cls)]
    fill = np.array(PALETTE[color]) / 255.0
    rgb = fill * (1 - lines[..., None]) + LINE * fill * lines[..., None]
    return rgb.astype(np.float32), alpha.astype(np.float32)


@cache
def background(tint: int | None) -> np.ndarray:
    """Empty picture, float32 [64, 64, 3]; tint None is the plain paper the tokenizer reconstructs."""
    if tint is None:
        return np.broadcast_to(PAPER, (SIZE, SIZE, 3)).astype(np.float32)
    shade = np.linspace(0.5, -0.5, SIZE)[:, None, None] / 255.0
    rows = (PAPER + _TINTS[tint] + shade).clip(0, 1)
    return np.repeat(rows, SIZE, axis=1).astype(np.float32)


def draw(scene: Scene, plain: bool = False) -> np.ndarray:
    """The scene as float32 [64, 64, 3] in 0..1; `plain` leaves out the background tint."""
    picture = background(None if plain else scene.tint).copy()
    for thing in scene.things:
        rgb, alpha = sprite(thing.cls, thing.color)
        box = picture[thing.y : thing.y + CELL, thing.x : thing.x + CELL]
        box += alpha[..., None] * (rgb - box)
    return picture


def render(scene: Scene) -> np.ndarray:
    """The scene as uint8 [64, 64, 3]."""
    return (draw(scene) * 255 + 0.5).astype(np.uint8)


def render_batch(scenes: list[Scene], plain: bool = False) -> torch.Tensor:
    """The scenes as float32 [B, 3, 64, 64] in 0..1."""
    return torch.from_numpy(np.stack([draw(s, plain) for s in scenes])).permute(0, 3, 1, 2).contiguous()


def coverage_mask(scene: Scene) -> np.ndarray:
    """Where a scene's things are opaque: bool [64, 64]."""
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    for thing in scene.things:
        mask[thing.y : thing.y + CELL, thing.x : thing.x + CELL] |= sprite(thing.cls, thing.color)[1] > 0
    return mask
