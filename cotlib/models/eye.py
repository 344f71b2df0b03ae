"""The verifier's eye: a small convolutional network that says what is where, on the grid of image tokens.

It is trained first, on drawings, to name class and colour of every cell and the centre cells of things: the stand-in
for a vision encoder that knows what it looks at before any question is asked.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cotlib.interfaces import Detection
from cotlib.world.scenes import CELL, CLASSES, COLORS, PITCH, SIZE

GRID = SIZE // PITCH


@dataclass(frozen=True)
class Sight:
    """What the eye sees in each of the N = 64 cells: features [B, N, C], logits of the class [B, N, 1 + 20] and of
    the colour [B, N, 1 + 8] (0 is paper), and logits of being the centre of a thing [B, N]."""

    features: Tensor
    classes: Tensor
    colors: Tensor
    centres: Tensor

    def select(self, index: Tensor | slice) -> "Sight":
        """The sight of the given pictures."""
        return Sight(self.features[index], self.classes[index], self.colors[index], self.centres[index])

    def things(self) -> list[list[Detection]]:
        """The things in each picture, best first: peaks among the centres, with boxes of 24x24 pixels."""
        centres = self.centres.sigmoid().unflatten(1, (GRID, GRID))
        peaks = (centres > 0.5) & (centres == F.max_pool2d(centres, 3, 1, 1))  # centres lie 3 cells apart
        share, kind = self.classes.softmax(-1)[..., 1:].max(-1)
        color = self.colors[..., 1:].argmax(-1)
        found: list[list[Detection]] = [[] for _ in centres]
        for b, y, x in peaks.nonzero().tolist():
            cell, left, top = y * GRID + x, float((x - 1) * PITCH), float((y - 1) * PITCH)
            box = (left, top, left + CELL, top + CELL)
            score = float(centres[b, y, x] * share[b, cell])
            found[b].append(Detection(CLASSES[kind[b, cell]], box, score, COLORS[color[b, cell]]))
        return [sorted(things, key=lambda d: -d.score) for things in found]


def _norm(channels: int) -> nn.Module:
    return nn.GroupNorm(8, channels)


class _Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), _norm(channels), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), _norm(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))


class Eye(nn.Module):
    """Pictures to features and to what and where: a cell looks at 64x64 pixels around it."""

    def __init__(self, channels: tuple[int, int]):
        super().__init__()
        quarter, eighth = channels
        self.body = nn.Sequential(
            nn.Conv2d(3, quarter, 8, 4, 2, bias=False), _norm(quarter), nn.ReLU(), _Residual(quarter),
            nn.Conv2d(quarter, eighth, 3, 2, 1, bias=False), _norm(eighth), nn.ReLU(), _Residual(eighth),
        )  # fmt: skip
        self.head = nn.Linear(eighth, 1 + len(CLASSES) + 1 + len(COLORS) + 1)

    def forward(self, images: Tensor) -> Sight:
        """Pictures float [B, 3, 64, 64] in 0..1."""
        maps = self.body((images - 0.5).contiguous(memory_format=torch.channels_last))  # [B, C, 8, 8]
        features = maps.flatten(2).transpose(1, 2)  # [B, N, C]
        classes, colors, centres = self.head(features).split([1 + len(CLASSES), 1 + len(COLORS), 1], dim=2)
        return Sight(features, classes, colors, centres.squeeze(2))


def place_features() -> Tensor:
    """Where each of the 64 cells is, [N, 10]: x, y in -1..1, and sine and cosine of one and two half-turns of each.
    The plain coordinates make "left of" a difference."""
    line = (torch.arange(GRID) + 0.5) * 2 / GRID - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    waves = [f(k * torch.pi * t / 2) for t in (x, y) for k in (1, 2) for f in (torch.sin, torch.cos)]
    return torch.stack([x, y, *waves], dim=-1).flatten(0, 1)
