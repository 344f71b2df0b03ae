"""What LLaVA-OneVision sees of a picture: one tile (pad), or a small whole and a grid of tiles (anyres).

Both end in a row of visual tokens. With tiles of 384 pixels and patches of 14:

    pad       pad to a square with grey, one tile, 27 x 27 = 729 features and one newline vector: 730 tokens
    anyres    the whole picture squeezed into one tile (729), then the picture scaled into a grid of tiles, whose features
              are put together, freed of the padding and ended by a newline vector row by row; a picture of 256 x 256 takes
              729 + 27 x 28 = 1,485 tokens, one of 512 x 512 takes 729 + 54 x 55 = 3,699

The released verifiers were tuned with anyres and are asked with pad. Followed are `llava/mm_utils.py` and
`llava/model/llava_arch.py` of github.com/LLaVA-VL/LLaVA-NeXT; unlike there, sizes are always (width, height).
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from cotlib.errors import UserError

GREY = (127, 127, 127)  # int(255 * mean), of the padding
MEAN = STD = 0.5
SHRINK = 1.1  # a grid of features is scaled down when it is this many times too long and wide
Size = tuple[int, int]  # width, height


@dataclass(frozen=True)
class Look:
    """How pictures are cut. side: pixels of a tile. grids: the sizes anyres may scale to, empty for pad.

    max_tiles: features of a grid beyond this many tiles are scaled down; None for never.
    """

    side: int = 384
    grids: tuple[Size, ...] = ()
    max_tiles: int | None = 9

    def cut(self, picture: Image.Image) -> tuple[list[Image.Image], Size]:
        """The tiles of an RGB picture and the grid (columns, rows) of all but the first; (0, 0) with pad."""
        if not self.grids:
            return [padded_square(picture)], (0, 0)
        size = best_grid(picture.size, self.grids)
        scaled = fitted(picture, size)
        step = self.side
        tiles = [
            scaled.crop((x, y, x + step, y + step))
            for y in range(0, size[1], step)
            for x in range(0, size[0], step)
        ]
        return [picture.resize((step, step), Image.Resampling.BICUBIC), *tiles], (
            size[0] // step,
            size[1] // step,
        )

    def pixels(self, tiles: Sequence[Image.Image]) -> Tensor:
        """Tiles to float32 [n, 3, side, side] in -1..1."""
        size = (self.side, self.side)
        levels = np.stack([np.asarray(tile.resize(size, Image.Resampling.BICUBIC)) for tile in tiles])
        scaled = (levels * (1 / 255)).astype(np.float32)
        return torch.from_numpy((scaled - np.float32(MEAN)) / np.float32(STD)).permute(0, 3, 1, 2)

    def pack(self, features: Tensor, newline: Tensor, size: Size, grid: Size) -> Tensor:
        """Visual tokens [T, D] of one picture of `size` from its tiles' features [n, P, D] and the newline [D]."""
        if grid == (0, 0):
            return torch.cat([features[0], newline[None]])
        columns, rows = grid
        patches = math.isqrt(features.shape[1])
        plane = features[1:].unflatten(1, (patches, patches)).unflatten(0, (rows, columns))
        plane = (
            plane.permute(4, 0, 2, 1, 3).flatten(1, 2).flatten(2, 3)
        )  # [D, rows * patches, columns * patches]
        plane = unpadded(plane, size)
        height, width = plane.shape[1:]
        excess = math.sqrt(height * width / (self.max_tiles * patches**2)) if self.max_tiles else 0.0
        if excess > SHRINK:
            shrunk = [int(height // excess), int(width // excess)]
            plane = F.interpolate(plane[None], shrunk, mode="bilinear")[0]
        ends = newline[:, None, None].expand(*plane.shape[:-1], 1)
        return torch.cat([features[0], torch.cat([plane, ends], dim=2).flatten(1).T])


def padded_square(picture: Image.Image) -> Image.Image:
    """The picture in the middle of a grey square as long as its longer side."""
    width, height = picture.size
    if width == height:
        return picture
    side = max(width, height)
    square = Image.new("RGB", (side, side), GREY)
    square.paste(picture, ((side - width) // 2, (side - height) // 2))
    return square


def best_grid(size: Size, grids: Sequence[Size]) -> Size:
    """The grid that keeps most of the picture's pixels, and of those the one with least unused; the first of equals."""

    def merit(grid: Size) -> tuple[int, int]:
        scale = min(grid[0] / size[0], grid[1] / size[1])
        kept = min(int(size[0] * scale) * int(size[1] * scale), size[0] * size[1])
        return kept, kept - grid[0] * grid[1]

    return max(grids, key=merit)


def fitted(picture: Image.Image, size: Size) -> Image.Image:
    """The picture scaled to fit `size`, in the middle of black."""
    width, height = picture.size
    across, down = size[0] / width, size[1] / height
    if across < down:
        new = size[0], min(math.ceil(height * across), size[1])
    else:
        new = min(math.ceil(width * down), size[0]), size[1]
    canvas = Image.new("RGB", size)
    canvas.paste(
        picture.resize(new, Image.Resampling.BICUBIC), ((size[0] - new[0]) // 2, (size[1] - new[1]) // 2)
    )
    return canvas


def unpadded(plane: Tensor, size: Size) -> Tensor:
    """Features [D, H, W] of a picture of `size` without the rows or columns that hold only black."""
    height, width = plane.shape[1:]
    if size[0] / size[1] > width / height:
        edge = (height - int(size[1] * (width / size[0]))) // 2
        return plane[:, edge : height - edge]
    edge = (width - int(size[0] * (height / size[1]))) // 2
    return plane[:, :, edge : width - edge]


def read_grids(found: object, side: int, height_first: bool) -> tuple[Size, ...]:
    """`image_grid_pinpoints` of a config as (width, height) in pixels; None gives the 6 x 6 grid of tiles.

    LLaVA-NeXT writes pairs (width, height), or a text like "(1x1),...,(6x6)" in tiles; transformers writes pairs
    (height, width). UserError for anything else, and for sizes that are no whole number of tiles.
    """
    if isinstance(found, str):
        pairs = [(int(a), int(b)) for a, b in re.findall(r"\((\d+)\s*x\s*(\d+)\)", found)]
        if "..." in found and len(pairs) == 2:
            (a, b), (c, d) = pairs
            pairs = [(w, h) for w in range(a, c + 1) for h in range(b, d + 1)]
        found = [(w * side, h * side) for w, h in pairs]
    elif found is None:
        found = [(w * side, h * side) for w in range(1, 7) for h in range(1, 7)]
    pairs = [tuple(pair) for pair in found] if isinstance(found, list) else []
    if not pairs or any(
        len(p) != 2 or any(not isinstance(n, int) or n < 1 or n % side for n in p) for p in pairs
    ):
        raise UserError(
            f"image_grid_pinpoints is {found!r}; expected pairs of sizes that are multiples of {side} pixels"
        )
    return tuple((b, a) if height_first else (a, b) for a, b in pairs)
