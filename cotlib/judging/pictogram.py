"""Two independent judges of the pictogram world: a trained detector, and exact comparison with the sprites.

Both give detections in the same form and leave the decision to GenEval's rules.  The template judge has no training
and no weights, so it cannot share the detector's mistakes: choose with the one, report with the other.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cotlib.assets import data_dir
from cotlib.interfaces import Detection, Verdict
from cotlib.judging.rules import judge_detections
from cotlib.models.detector import PictogramDetector
from cotlib.world.render import background, sprite
from cotlib.world.scenes import CELL, CLASSES, COLORS, PITCH, SIZE

LOWEST = 0.1  # weaker matches are not reported


@cache
def _glyph_extent(cls: str) -> tuple[int, int, int, int]:
    rows, columns = np.where(sprite(cls, COLORS[0])[1] > 0.5)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def glyph_box(cls: str, x: float, y: float) -> tuple[float, float, float, float]:
    """Tight box, pixels, of a thing whose 24x24 cell starts at (x, y): where its sprite is over half opaque."""
    x0, y0, x1, y1 = _glyph_extent(cls)
    return float(x + x0), float(y + y0), float(x + x1), float(y + y1)


class _Judge:
    """Batches detections and applies the rules; subclasses supply `_detect` for one batch."""

    batch = 64  # pictures at a time, few enough for the caches

    def __call__(self, metadatas: list[dict], images: Tensor) -> list[Verdict]:
        """One verdict per picture; images float [B, 3, 64, 64] in 0..1, one metadata for each."""
        if len(metadatas) != len(images):
            raise ValueError(
                f"{len(metadatas)} prompts for {len(images)} pictures; expected one prompt for each"
            )
        return [judge_detections(m, found) for m, found in zip(metadatas, self.detect(images), strict=True)]

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[list[Detection]]:
        """The things in each picture, best first."""
        if images.ndim != 4 or images.shape[1:] != (3, SIZE, SIZE):
            raise ValueError(
                f"pictures of shape {tuple(images.shape)}; expected [B, 3, {SIZE}, {SIZE}] in 0..1"
            )
        return [found for part in images.split(self.batch) for found in self._detect(part)]

    def _detect(self, images: Tensor) -> list[list[Detection]]:
        raise NotImplementedError


class DetectorJudge(_Judge):
    """GenEval's rules over the trained detector; the shipped one unless another is given."""

    def __init__(self, detector: PictogramDetector | None = None, device: str = "cpu"):
        self.detector = detector or PictogramDetector.from_pretrained(data_dir() / "detector")
        self.detector.eval().to(device)
        self.device = device

    def _detect(self, images: Tensor) -> list[list[Detection]]:
        return self.detector.detect(images.to(self.device))


class TemplateJudge(_Judge):
    """GenEval's rules over exact comparison with all 160 sprites at the 36 places where a thing can be.

    With u the picture minus its background (median colour), t a sprite minus paper, both under the sprite's mask
    grown by 2 pixels, the share of the picture that the sprite explains is

        R = 1 - |u - t|^2 / |u|^2          1: the same;  0: no better than nothing;  half a thing: about 0

    and the score is 1 / (1 + exp(-20 (R - 0.7))): .998 at R = 1, .9 at R = .81, .3 at R = .66.  Of a thing on paper
    those are 84 and 75 percent of its ink.  Matches are taken greedily, best first; two of them lie at least
    16 pixels apart along an axis.
    """

    slope, middle, apart = 20.0, 0.7, 16

    def __init__(self, device: str = "cpu"):
        names = [(cls, color) for cls in CLASSES for color in COLORS]
        paper = background(None)[0, 0]
        layers = [sprite(*name) for name in names]
        sprites = np.stack([alpha[..., None] * (rgb - paper) for rgb, alpha in layers])  # [160, 24, 24, 3]
        masks = torch.from_numpy(np.stack([sprite(cls, COLORS[0])[1] > 0 for cls in CLASSES])).float()
        masks = F.max_pool2d(masks[:, None], 5, 1, 2).flatten(1)  # [20, 576]
        self.names, self.device = names, device
        self.templates = torch.from_numpy(sprites).permute(0, 3, 1, 2).flatten(1).to(device)  # [160, 1728]
        self.energy = self.templates.square().sum(1)[:, None]  # [160, 1]
        self.masks = masks.to(device)
        starts = torch.arange(0, SIZE - CELL + 1, PITCH, device=device)
        self.corners = torch.cartesian_prod(starts, starts).flip(1)  # [P, 2] as x, y in the order of F.unfold

    def _detect(self, images: Tensor) -> list[list[Detection]]:
        scores, kinds = self._compare(images.to(self.device))  # [B, P] each
        found: list[list[Detection]] = [[] for _ in images]
        while (scores > LOWEST).any():
            best, place = scores.max(dim=1)  # [B]
            corner = self.corners[place]  # [B, 2]
            kind = kinds.gather(1, place[:, None])[:, 0]
            rows = zip(best.tolist(), kind.tolist(), corner.tolist(), strict=True)
            for picture, (score, which, (x, y)) in enumerate(rows):
                if score > LOWEST:
                    cls, color = self.names[which]
                    found[picture].append(Detection(cls, glyph_box(cls, x, y), score, color))
            near = ((self.corners - corner[:, None]).abs() < self.apart).all(dim=2)  # [B, P]
            scores = scores.masked_fill(near, 0.0)
        return found

    def _compare(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Score of the best sprite at every place [B, P], and which it is [B, P]."""
        u = images - images.flatten(2).median(dim=2).values[:, :, None, None]
        patches = F.unfold(u, CELL, stride=PITCH)  # [B, 3*24*24, P]
        power = patches.square().unflatten(1, (3, CELL * CELL)).sum(1)  # [B, 576, P]
        present = (self.masks @ power).repeat_interleave(len(COLORS), dim=1)  # |u|^2, [B, 160, P]
        gain = 2 * (self.templates @ patches) - self.energy  # |u|^2 - |u - t|^2
        explained, kinds = (gain / present.clamp(min=1e-6)).max(dim=1)
        return torch.sigmoid(self.slope * (explained - self.middle)), kinds
