"""Turns a monochrome emoji font into the compact glyph sheet that the renderer uses.

    python -m cotlib.train.glyphs FOLDER_WITH_WOFF2      (needs fonttools and brotli)

The font is line art: its silhouette is everything a flood fill from outside does not reach. The sheet
`data/glyphs/glyphs.png` holds, per class, the silhouette (top row) and the inner lines (bottom row) at 24x24.
Font: Noto Emoji (weight 700), SIL Open Font License 1.1, kept beside the sheet.
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cotlib.assets import data_dir
from cotlib.world.scenes import CELL, CLASSES

EMOJI = {
    "cat": "🐈", "dog": "🐕", "horse": "🐎", "elephant": "🐘", "bus": "🚌", "train": "🚂", "boat": "⛵",
    "airplane": "✈", "car": "🚗", "bicycle": "🚲", "chair": "🪑", "couch": "🛋", "cup": "☕", "clock": "⏰",
    "banana": "🍌", "pizza": "🍕", "bird": "🐦", "giraffe": "🦒", "book": "📖", "umbrella": "☂",
}  # fmt: skip
INNER = 22  # side of the drawn glyph inside its 24-pixel box


def load_fonts(folder: Path) -> list[tuple[set[int], bytes]]:
    """(code points, TrueType bytes) of each 700-weight woff2 part in the folder."""
    from fontTools.ttLib import TTFont

    fonts = []
    for path in sorted(folder.glob("*-700-normal.woff2")):
        font = TTFont(path)
        font.flavor = None
        buffer = io.BytesIO()
        font.save(buffer)
        fonts.append((set(font.getBestCmap()), buffer.getvalue()))
    return fonts


def layers(character: str, fonts: list[tuple[set[int], bytes]]) -> tuple[np.ndarray, np.ndarray]:
    """Silhouette and inner lines of one emoji as float [24, 24] in 0..1."""
    for points, data in fonts:
        if ord(character) not in points:
            continue
        big = Image.new("L", (384, 384), 0)
        ImageDraw.Draw(big).text(
            (96, 96), character, font=ImageFont.truetype(io.BytesIO(data), 192), fill=255
        )
        if big.getbbox():
            break
    else:
        raise SystemExit(f"no font part holds {character!r}")
    glyph = big.crop(big.getbbox())
    side, pad = max(glyph.size), 6
    square = Image.new("L", (side + 2 * pad,) * 2, 0)
    square.paste(glyph, (pad + (side - glyph.width) // 2, pad + (side - glyph.height) // 2))
    hard = square.point(lambda v: 255 if v > 100 else 0)
    ImageDraw.floodfill(hard, (0, 0), 128)
    silhouette = np.array(hard) != 128
    return tuple(
        _shrink(layer) for layer in (silhouette.astype(float), silhouette * np.array(square) / 255.0)
    )


def _shrink(layer: np.ndarray) -> np.ndarray:
    small = Image.fromarray((layer * 255).astype(np.uint8)).resize((INNER, INNER), Image.LANCZOS)
    return np.pad(np.array(small) / 255.0, (CELL - INNER) // 2)


def main(folder: str) -> None:
    fonts = load_fonts(Path(folder))
    columns = [np.vstack(layers(EMOJI[name], fonts)) for name in CLASSES]
    sheet = Image.fromarray((np.hstack(columns) * 255).round().astype(np.uint8))
    sheet.save(data_dir() / "glyphs" / "glyphs.png", optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
