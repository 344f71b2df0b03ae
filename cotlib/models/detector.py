"""A small detector of pictograms: where, which class, which color, how sure.

In the manner of CenterNet (Zhou et al., arXiv 1904.07850): a thing is the peak of a heat map at its centre, and
the colour and the box are read off at that peak.  One place holds one thing: peaks are taken over all classes
together, so a blurred animal is a cat or a dog, never both.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cotlib.interfaces import Detection
from cotlib.models.checkpoint import load_checkpoint, save_checkpoint
from cotlib.world.scenes import CELL, CLASSES, COLORS

STRIDE = 4  # pixels per cell of the heat map; cell i looks at pixel 4 i
LOWEST = 0.1  # weaker peaks are not reported
BOX_SCALE = CELL / 2  # pixels; the distances from the centre to the box's sides come in this unit


@dataclass(frozen=True)
class DetectorConfig:
    """Sizes of the detector; the default has 0.19 M parameters."""

    stem: int = 24  # channels at half the resolution
    width: int = 56  # channels at a quarter of it
    dilations: tuple[int, ...] = (1, 2, 2)  # one residual block each


class _Block(nn.Module):
    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False),
            nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))


class PictogramDetector(nn.Module):
    """Pictures float [B, 3, 64, 64] in 0..1 -> heat maps, colours and boxes on a 16x16 grid."""

    def __init__(self, config: DetectorConfig = DetectorConfig()):
        super().__init__()
        self.config, c = config, config
        self.stem = nn.Sequential(
            nn.Conv2d(3, c.stem, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(c.stem), nn.ReLU(),
            nn.Conv2d(c.stem, c.width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(c.width), nn.ReLU(),
        )  # fmt: skip
        self.blocks = nn.Sequential(*[_Block(c.width, d) for d in c.dilations])
        self.head = nn.Conv2d(c.width, len(CLASSES) + len(COLORS) + 4, 1)
        nn.init.constant_(self.head.bias[: len(CLASSES)], -4.0)  # things are rare: start from a low score

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of classes [B, 20, 16, 16] and of colours [B, 8, 16, 16]; distances [B, 4, 16, 16] from the
        cell's pixel to the left, top, right and bottom of the box, in units of 12 pixels."""
        maps = self.head(self.blocks(self.stem(images - 0.5)))
        return maps.split([len(CLASSES), len(COLORS), 4], dim=1)

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[list[Detection]]:
        """Things in each picture, best first.  Boxes are tight around the glyph, in pixels."""
        heat, colors, sides = self(images.contiguous(memory_format=torch.channels_last))
        scores, classes = heat.sigmoid().max(dim=1)  # [B, 16, 16] each
        peaks = scores == F.max_pool2d(scores[:, None], 5, 1, 2)[:, 0]  # centres are at least 6 cells apart
        b, y, x = torch.nonzero(peaks & (scores > LOWEST), as_tuple=True)  # one row per thing
        centre = torch.stack([x, y, x, y], dim=1) * float(STRIDE)
        outward = torch.tensor([-1.0, -1.0, 1.0, 1.0], device=images.device) * BOX_SCALE
        boxes = centre + outward * sides[b, :, y, x]
        table = zip(b.tolist(), classes[b, y, x].tolist(), scores[b, y, x].tolist(), boxes.tolist(),
                    colors[b, :, y, x].argmax(dim=1).tolist(), strict=True)  # fmt: skip
        found: list[list[Detection]] = [[] for _ in range(len(images))]
        for picture, cls, score, box, color in table:
            found[picture].append(Detection(CLASSES[cls], tuple(box), score, COLORS[color]))
        return [sorted(things, key=lambda d: -d.score) for things in found]

    @classmethod
    def from_pretrained(cls, folder: Path | str, device: str = "cpu") -> PictogramDetector:
        """Loads a checkpoint folder; UserError when it is missing, damaged or of another model."""
        return load_checkpoint(folder, cls._build, device)

    @classmethod
    def _build(cls, config: dict) -> PictogramDetector:
        return cls(DetectorConfig(**{**config, "dilations": tuple(config["dilations"])}))

    def save_pretrained(self, folder: Path | str, card: dict) -> None:
        """Writes the checkpoint folder (see `cotlib.models.checkpoint`)."""
        save_checkpoint(folder, self, self.config, card)
