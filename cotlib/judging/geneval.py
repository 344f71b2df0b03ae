"""GenEval's judge of photos: Mask2Former finds things, CLIP names their colours, the shared rules decide.

    judge = GenEvalJudge.from_pretrained("judge", device="cuda")         a folder that holds both models' folders
    judge([metadata], images)                                             -> [Verdict(correct, reasons)]

The rules are those the pictogram judges use (`cotlib.judging.rules`). A colour is asked for only where a clause speaks of
one and enough things were found, and only of as many as the clause counts.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from cotlib.errors import UserError
from cotlib.interfaces import Verdict
from cotlib.judging.clip_colors import ClipColors
from cotlib.judging.mask2former import Instance, Mask2FormerDetector
from cotlib.judging.rules import Box, group_detections, judge_detections
from cotlib.models.published.files import checkpoint_folder, read_json
from cotlib.models.published.pictures import to_pil


class Judged(NamedTuple):
    """A verdict and the detections it was made from, best first in each class."""

    verdict: Verdict
    found: dict[str, list[Instance]]


class GenEvalJudge:
    """Implements `cotlib.interfaces.Judge`. max_overlap: of two things of a class whose boxes share at least this much (see
    `overlap`) only the surer one counts; 1 is off, as in GenEval."""

    def __init__(self, detector: Mask2FormerDetector, colors: ClipColors, max_overlap: float = 1.0):
        self.detector, self.colors, self.max_overlap = detector, colors, max_overlap

    def __call__(self, metadatas: list[dict], images: Tensor | Sequence[Image.Image]) -> list[Verdict]:
        """One verdict per picture; images: [B, 3, H, W] in 0..1, or PIL pictures; one metadata for each."""
        return [judged.verdict for judged in self.judge(metadatas, images)]

    def judge(self, metadatas: list[dict], images: Tensor | Sequence[Image.Image]) -> list[Judged]:
        """As calling it, with what was found."""
        pictures = to_pil(images)
        if len(metadatas) != len(pictures):
            raise ValueError(
                f"{len(metadatas)} prompts for {len(pictures)} pictures; expected one prompt for each"
            )
        found = self.detector.detect(pictures)
        return [self.decide(*row) for row in zip(metadatas, pictures, found, strict=True)]

    def decide(self, metadata: dict, picture: Image.Image, found: list[Instance]) -> Judged:
        """The verdict on one RGB picture from what was detected in it."""
        groups = group_detections(found, metadata.get("tag"))
        groups = {name: apart(things, self.max_overlap) for name, things in groups.items()}
        for clause in metadata.get("include", []):
            name, count = clause["class"], clause["count"]
            best = groups.get(name, [])[:count]
            if "color" in clause and len(best) == count:
                named = self.colors(picture, best, name)
                groups[name][:count] = [replace(d, color=c) for d, c in zip(best, named, strict=True)]
        return Judged(judge_detections(metadata, [d for things in groups.values() for d in things]), groups)

    @classmethod
    def from_pretrained(
        cls, folder: Path | str | None = None, device: torch.device | str = "cpu",
        dtype: torch.dtype | str = "float32", *, detector: Path | str | None = None, colors: Path | str | None = None,
        batch: int = 4, max_overlap: float = 1.0,
    ) -> "GenEvalJudge":  # fmt: skip
        """Loads both models.

        folder: holds a folder of a Mask2Former and one of a CLIP, under any names; or give them, or their hub ids, as
        detector and colors. UserError when one is missing or wrong.
        """
        places = {"mask2former": detector, "clip": colors}
        for kind in (kind for kind, place in places.items() if place is None):
            places[kind] = _folder_of(kind, folder)
        found = Mask2FormerDetector.from_pretrained(places["mask2former"], device, dtype, batch)
        return cls(found, ClipColors.from_pretrained(places["clip"], device, dtype), max_overlap)


def _folder_of(kind: str, folder: Path | str | None) -> Path:
    """The one folder inside `folder` whose config.json is of the model type `kind`."""
    if folder is None:
        raise UserError(
            f"there is no folder of a {kind} model; give the judge's folder, or detector and colors"
        )
    inside = sorted(path.parent for path in checkpoint_folder(folder).glob("*/config.json"))
    found = [place for place in inside if read_json(place / "config.json").get("model_type") == kind]
    if len(found) != 1:
        raise UserError(f"{folder} holds {len(found)} folders of a {kind} model; expected one of mask2former and one of clip, "
                        "each with its config.json")  # fmt: skip
    return found[0]


def overlap(a: Box, b: Box) -> float:
    """Shared area of two boxes over the area of both together, sides counted one pixel longer, as in GenEval."""

    def area(box: Sequence[float]) -> float:
        return max(box[2] - box[0] + 1, 0) * max(box[3] - box[1] + 1, 0)

    shared = area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    together = area(a) + area(b) - shared
    return shared / together if together else 0.0


def apart(things: list[Instance], max_overlap: float) -> list[Instance]:
    """Things, best first, without those that overlap a better one by `max_overlap` or more; 1 keeps all."""
    kept: list[Instance] = []
    for thing in things:
        if max_overlap == 1 or all(overlap(thing.box, better.box) < max_overlap for better in kept):
            kept.append(thing)
    return kept
