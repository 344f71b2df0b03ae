"""The detector of GenEval's judge: Mask2Former with a Swin-S backbone, trained on the 80 classes of COCO.

    detector = Mask2FormerDetector.from_pretrained("facebook/mask2former-swin-small-coco-instance", device="cuda")

The network is transformers'; everything around it is done as mmdetection does it, which GenEval was made with, because the
differences move detections across the thresholds: pictures are scaled to 800 pixels by OpenCV's rounding (not squeezed to
384 x 384), and masks are scaled up, cut and thresholded as mmdetection's `MaskFormerFusionHead` does. Classes are told by
their number, as the published files name some of them otherwise. Source: github.com/open-mmlab/mmdetection, 2.x.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from cotlib.errors import UserError
from cotlib.interfaces import Detection
from cotlib.judging.rules import THRESHOLD
from cotlib.models.published.chunked import Chunks
from cotlib.models.published.files import (
    Weights,
    checkpoint_folder,
    fill,
    number_format,
    open_weights,
    read_config,
)
from cotlib.models.published.pictures import to_pil
from cotlib.models.published.pretrained import load_whole

# The 80 classes of COCO in their order, by GenEval's names (its object_names.txt).
CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light", "fire hydrant",
    "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra",
    "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle", "wine glass", "cup", "fork",
    "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut",
    "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "computer mouse",
    "tv remote", "computer keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book",
    "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
SHORT, LONG, DIVISOR = 800, 1333, 32  # pixels: sides after scaling, and what padded sides are multiples of
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # RGB, of levels 0..255
FILL = 128  # level of the padding, before levels are normalised
UNUSED = r"\.swin\.layernorm\."  # transformers 5 has this norm in Swin, the published file does not, nothing reads it
MOST = 100  # detections of a picture
Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Instance(Detection):
    """A detection with its pixels. mask: bool [H, W] of the picture."""

    mask: np.ndarray | None = field(default=None, compare=False, repr=False)


# ----- picture to network -------------------------------------------------------------------------------------------


def scaled_size(size: Size) -> Size:
    """As large as fits with the shorter side at most 800 and the longer at most 1,333 pixels."""
    scale = min(LONG / max(size), SHORT / min(size))
    return int(size[0] * scale + 0.5), int(size[1] * scale + 0.5)


def resized(levels: np.ndarray, size: Size) -> np.ndarray:
    """Levels uint8 [H, W, C] scaled to `size` by two-by-two interpolation without smoothing, to the last bit as OpenCV.

    OpenCV rounds the shares of neighbours to 1/2048 and cuts sums off twice: x >> 4 after the rows, x >> 16 after the
    columns, and adds a half before the last two bits go.
    """

    def taps(old: int, new: int) -> tuple[np.ndarray, ...]:
        place = ((np.arange(new) + 0.5) * (old / new) - 0.5).astype(np.float32)
        first = np.floor(place)
        share = place - first
        near, far = (
            np.rint(part * np.float32(2048)).astype(np.int32) for part in (np.float32(1) - share, share)
        )
        first = first.astype(int)
        return first.clip(0, old - 1), (first + 1).clip(0, old - 1), near, far

    top, bottom, above, below = taps(levels.shape[0], size[0])
    left, right, before, after = taps(levels.shape[1], size[1])
    wide = levels.astype(np.int32)
    rows = (wide[:, left] * before[:, None] + wide[:, right] * after[:, None]) >> 4
    both = (rows[top] * above[:, None, None] >> 16) + (rows[bottom] * below[:, None, None] >> 16)
    return ((both + 2) >> 2).clip(0, 255).astype(np.uint8)


def network_input(picture: Image.Image) -> tuple[Tensor, Size]:
    """(float32 [3, H, W] with sides that are multiples of 32, size of the picture's part of it)."""
    levels = np.asarray(picture)
    size = scaled_size(levels.shape[:2])
    height, width = (-(-side // DIVISOR) * DIVISOR for side in size)
    canvas = np.full((height, width, 3), FILL, dtype=np.uint8)
    canvas[: size[0], : size[1]] = resized(levels, size)
    normal = (canvas.astype(np.float32) - np.float32(MEAN)) * (1 / np.array(STD)).astype(np.float32)
    return torch.from_numpy(normal).permute(2, 0, 1), size


# ----- network to instances -----------------------------------------------------------------------------------------


def instances(
    classes: Tensor, masks: Tensor, padded: Size, scaled: Size, size: Size, lowest: float = 0.0
) -> list[Instance]:
    """The detections of one picture with a score above `lowest`, in no order.

    classes: logits [Q, C + 1], "nothing" last; masks: logits [Q, h, w] of the padded picture. padded, scaled: sizes of the
    network's input and of the picture in it; size: of the picture itself. The 100 best pairs of query and class:

        score = P(class) mean(sigmoid(logit) over the mask),   mask = logit > 0,   box = the mask's rows and columns
    """
    count = classes.shape[1] - 1
    odds = classes.float().softmax(-1)[:, :-1].flatten()
    best, pairs = odds.topk(min(MOST, len(odds)))
    pairs, best = pairs[best > lowest], best[best > lowest]  # a score is never above P(class)
    if not len(pairs):
        return []
    queries, row = (pairs // count).unique(return_inverse=True)
    logits = F.interpolate(masks[queries].float()[:, None], padded, mode="bilinear", align_corners=False)
    logits = logits[..., : scaled[0], : scaled[1]]
    logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)[:, 0]  # [queries, H, W]
    inside = logits > 0
    area = inside.flatten(1).float().sum(1)
    sure = (logits.sigmoid() * inside).flatten(1).sum(1) / (area + 1e-6)
    scores = (best * sure[row]).tolist()
    boxes, pixels = [_box(mask) for mask in inside], inside.cpu().numpy()
    return [Instance(CLASSES[pair % count], boxes[r], score, mask=pixels[r])
            for pair, r, score in zip(pairs.tolist(), row.tolist(), scores, strict=True) if score > lowest]  # fmt: skip


def _box(mask: Tensor) -> tuple[float, float, float, float]:
    """(x0, y0, x1, y1), the last two one beyond; zeros for an empty mask."""
    columns, rows = (mask.any(axis).nonzero()[:, 0].tolist() for axis in (0, 1))
    if not columns:
        return 0.0, 0.0, 0.0, 0.0
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


class Mask2FormerDetector:
    """Pictures to instances. model: transformers' Mask2FormerModel; head: its states to 81 logits; batch: pictures at a
    time, halved by itself when memory runs out."""

    def __init__(self, model: nn.Module, head: nn.Module, batch: int = 4):
        self.model, self.head, self.chunks = model, head, Chunks(batch)

    @torch.no_grad()
    def logits(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(class logits [B, Q, 81], mask logits [B, Q, H/4, W/4]) of pixels [B, 3, H, W]."""
        pixels = pixels.to(self.head.weight.device, self.head.weight.dtype)
        out = self.model(pixel_values=pixels, output_hidden_states=True)  # else the states are not kept
        states = out.transformer_decoder_intermediate_states[-1].transpose(0, 1)  # [B, Q, D]
        return self.head(states), out.masks_queries_logits[-1]

    def detect(
        self, images: Tensor | Sequence[Image.Image], lowest: float = THRESHOLD
    ) -> list[list[Instance]]:
        """The things in each picture with a score above `lowest`; images: [B, 3, H, W] in 0..1, or PIL pictures."""
        pictures, found = to_pil(images), []

        def part(mine: slice) -> Tensor:
            found.extend(self._detect(pictures[mine], lowest))
            return torch.zeros(0)

        if pictures:
            self.chunks.run(part, len(pictures), "pictures")
        return found

    def _detect(self, pictures: list[Image.Image], lowest: float) -> list[list[Instance]]:
        found = []
        for size, alike in groupby(pictures, key=lambda picture: picture.size):
            inputs = [network_input(picture) for picture in alike]
            pixels, (_, scaled) = torch.stack([x for x, _ in inputs]), inputs[0]
            padded = tuple(pixels.shape[2:])
            for classes, masks in zip(*self.logits(pixels), strict=True):
                found.append(instances(classes, masks, padded, scaled, size[::-1], lowest))
        return found

    @classmethod
    def from_pretrained(
        cls, name: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype | str = "float32",
        batch: int = 4,
    ) -> "Mask2FormerDetector":  # fmt: skip
        """Loads a folder or hub id; UserError unless it is a Mask2Former of 80 classes.

        transformers' class with the head asks for scipy, which only its training loss needs; so the parts are loaded here.
        """
        from transformers import Mask2FormerModel

        folder, dtype = checkpoint_folder(name), number_format(dtype)
        read_config(folder, "Mask2FormerForUniversalSegmentation", "mask2former")
        weights = open_weights(folder)
        outputs = weights.shapes.get("class_predictor.weight", (0, 0))[0]
        if outputs != len(CLASSES) + 1:
            raise UserError(f"{folder} tells {max(outputs - 1, 0)} classes apart; expected the {len(CLASSES)} of COCO, as in "
                            "facebook/mask2former-swin-small-coco-instance")  # fmt: skip
        model = load_whole(Mask2FormerModel, folder, dtype, device, spare=UNUSED)
        with torch.device("meta"):
            head = nn.Linear(model.config.hidden_dim, outputs)
        names = [
            f"class_predictor.{part}"
            for part in ("weight", "bias")
            if f"class_predictor.{part}" in weights.shapes
        ]
        own = Weights(folder, {n: weights.shapes[n] for n in names}, {n: weights.files[n] for n in names})
        fill(head, own, dtype, device, lambda n: n.removeprefix("class_predictor."))
        return cls(model, head.eval(), batch)
