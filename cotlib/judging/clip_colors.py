"""The colour of a detected thing, by CLIP, as GenEval's judge names it.

    colors = ClipColors.from_pretrained("openai/clip-vit-large-patch14", device="cuda")
    colors(picture, instances, "dog")        -> ["red", "black"]

Everything outside the thing's mask is made grey, its box is cut out, and that picture is compared with ten colours. A colour
is the mean of three sentences' directions, the last of which does not say what the thing is.

    e(c) = normalised mean over sentences s of E(s(c)) / |E(s(c))|,   colour = argmax over c of E(picture) . e(c)

Source: evaluate_images.py of github.com/djghosh13/geneval, and open_clip's way of preparing pictures.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from cotlib.errors import UserError
from cotlib.judging.mask2former import Instance
from cotlib.models.published.files import checkpoint_folder, number_format, read_config
from cotlib.models.published.pretrained import load_whole

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
SENTENCES = (
    "a photo of a {color} {name}",
    "a photo of a {color}-colored {name}",
    "a photo of a {color} object",
)
BACKGROUND = "#999999"
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP, levels 0..1
LONGEST = 77  # tokens of a sentence
BATCH = 16  # pictures at a time


def cut_out(picture: Image.Image, instance: Instance) -> Image.Image:
    """The thing alone: its box, everything outside its mask grey."""
    if instance.mask is not None:
        grey = Image.new("RGB", picture.size, BACKGROUND)
        picture = Image.composite(picture, grey, Image.fromarray(instance.mask))
    return picture.crop(instance.box)


def clip_pixels(picture: Image.Image, side: int = 224) -> Tensor:
    """A picture as CLIP sees it, float32 [3, side, side]: shorter side scaled to `side`, middle cut out, normalised."""
    width, height = picture.size
    short, long = min(width, height), max(width, height)
    longer = int(side * long / short)
    picture = picture.resize((side, longer) if width <= height else (longer, side), Image.Resampling.BICUBIC)
    left, top = (
        round((length - side) / 2) for length in picture.size
    )  # halves to the even number, as torchvision
    levels = np.asarray(picture.crop((left, top, left + side, top + side)), dtype=np.float32) / np.float32(
        255
    )
    return torch.from_numpy((levels - np.float32(MEAN)) / np.float32(STD)).permute(2, 0, 1)


class ClipColors:
    """Names colours of instances. model: transformers' CLIPModel; words: its tokenizer."""

    def __init__(self, model: nn.Module, words):
        self.model, self.words = model, words
        self._known: dict[str, Tensor] = {}

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.logit_scale.device

    @torch.no_grad()
    def directions(self, name: str) -> Tensor:
        """e(c) of the ten colours for a class, [10, D], each of length 1."""
        if name not in self._known:
            said = [sentence.format(color=color, name=name) for color in COLORS for sentence in SENTENCES]
            tokens = self.words(said, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
            each = _features(self.model.get_text_features(**tokens.to(self.device)))
            mean = F.normalize(each, dim=-1).unflatten(0, (len(COLORS), len(SENTENCES))).mean(1)
            self._known[name] = F.normalize(mean, dim=-1)
        return self._known[name]

    @torch.no_grad()
    def similarities(self, picture: Image.Image, things: Sequence[Instance], name: str) -> Tensor:
        """Cosine of each thing's picture and each colour, [R, 10]; picture: RGB."""
        side = self.model.config.vision_config.image_size
        pixels = torch.stack([clip_pixels(cut_out(picture, thing), side) for thing in things])
        rows = [_features(self.model.get_image_features(part.to(self.device, self.model.dtype)))
                for part in pixels.split(BATCH)]  # fmt: skip
        return F.normalize(torch.cat(rows), dim=-1) @ self.directions(name).T

    def __call__(self, picture: Image.Image, things: Sequence[Instance], name: str) -> list[str]:
        """The colour of each thing of the class `name` in an RGB picture."""
        if not things:
            return []
        return [COLORS[best] for best in self.similarities(picture, things, name).argmax(1).tolist()]

    @classmethod
    def from_pretrained(
        cls, name: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype | str = "float32"
    ) -> "ClipColors":
        """Loads a folder or hub id of a CLIPModel with its tokenizer; UserError when anything is off."""
        from transformers import CLIPModel, CLIPTokenizer

        folder = checkpoint_folder(name)
        read_config(folder, "CLIPModel", "clip")
        try:
            words = CLIPTokenizer.from_pretrained(folder)
            begin, *inside, end = words("photo")["input_ids"]
        except Exception as error:  # OSError, ValueError, KeyError and others, by the kind of damage
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UserError(
                f"{folder} holds no tokenizer that can be read ({reason}); expected CLIP's"
            ) from error
        model = load_whole(CLIPModel, folder, number_format(dtype), device)
        rows = model.config.text_config.vocab_size
        marked = (
            begin == words.bos_token_id and end == words.eos_token_id not in inside
        )  # the end stands for what is unknown
        if not marked or not inside or len(words) > rows:
            raise UserError(f"the tokenizer in {folder} has {len(words)} entries for a text model of {rows}, or does not know "
                            "photo as a text with beginning and end; expected CLIP's own")  # fmt: skip
        return cls(model, words)


def _features(out: object) -> Tensor:
    """The projected vectors; transformers 5 wraps them."""
    return out if isinstance(out, Tensor) else out.pooler_output
