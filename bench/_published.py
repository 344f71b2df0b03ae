"""Models in the shapes of the published ones with random weights: speed does not depend on what the weights are.

PUBLISHED is Show-o at 256 pixels, its image tokenizer, and LLaVA-OneVision of 7 B parameters, number by number.
REDUCED is for a CPU, where one search of that size would take hours. It is not smaller in one place more than in another:
every length (image tokens, places of the text, visual tokens, words) is about a seventh, widths and numbers of heads about
a sixth, depths about an eighth, and vocabularies a 64th, so that what a search saves in the one it saves in the other.
`shares` counts that: the parts of a step that the savings are made of, in both sizes.
"""

import copy
import re
import zlib
from dataclasses import dataclass, replace
from math import isqrt

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PhiConfig,
    PhiForCausalLM,
)
from transformers.activations import NewGELUActivation

from cotlib.interfaces import FINAL
from cotlib.models.published.llava import BEFORE, read_questions, tokens
from cotlib.models.published.llava_files import Loaded
from cotlib.models.published.llava_images import Look
from cotlib.models.published.magvit import Magvit, MagvitConfig
from cotlib.models.published.showo import Showo
from cotlib.models.published.showo_layout import TEXT, ShowoConfig

PROMPT = "a photo of two red apples and a blue cup"


@dataclass(frozen=True)
class Llava:
    """Sizes of a LLaVA-OneVision: language model (Qwen2), vision tower (SigLIP), pixels of a tile and of a patch."""

    width: int = 3584
    inner: int = 18944
    layers: int = 28
    heads: int = 28
    key_heads: int = 4
    entries: int = 152064
    tower_width: int = 1152
    tower_inner: int = 4304
    tower_layers: int = 26
    tower_heads: int = 16
    tile: int = 384  # pixels
    patch: int = 14


@dataclass(frozen=True)
class Sizes:
    """Sizes of all three models. slots: places of the text in the released loop, pads included. words: words that make
    one token of text."""

    name: str = "Show-o's size, verifier of 7 B"
    showo: ShowoConfig = ShowoConfig()
    width: int = 2048
    layers: int = 24
    heads: int = 32
    slots: int = TEXT
    words: int = 1
    magvit: MagvitConfig = MagvitConfig()
    llava: Llava = Llava()


PUBLISHED = Sizes()
# for cards with less memory: the same with LLaVA-OneVision of 0.5 B
SMALLER = replace(PUBLISHED, name="Show-o's size, verifier of 0.5 B",
                  llava=Llava(width=896, inner=4864, layers=24, heads=14, key_heads=2, entries=152000))  # fmt: skip
REDUCED = Sizes(
    "reduced size", ShowoConfig(tokens=36, codes=128, text_codes=786), width=320, layers=3, heads=5, slots=18, words=7,
    magvit=MagvitConfig((32, 32, 32), (1, 1, 1), (32, 32, 64), (2, 1, 1), 32, bits=7),
    llava=Llava(width=512, inner=2706, layers=4, heads=4, key_heads=1, entries=2376, tower_width=180, tower_inner=672,
                tower_layers=3, tower_heads=3, tile=140),
)  # fmt: skip


class Words:
    """A text tokenizer to stand in for those of both language models: every `group` words are one token.

    Marks of the chat and the four answers are tokens of their own. entries: of the vocabulary.
    """

    own = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "yes", "no", "Yes", "No")
    bos_token_id = eos_token_id = 0

    def __init__(self, entries: int, group: int = 1):
        self.entries, self.group = entries, group

    def __len__(self) -> int:
        return self.entries

    def get_added_vocab(self) -> dict:
        """None beyond the vocabulary."""
        return {}

    def __call__(self, texts: list[str] | str, **_) -> dict:
        if isinstance(texts, str):
            return {"input_ids": self._ids(texts)}
        return {"input_ids": [self._ids(text) for text in texts]}

    def _ids(self, text: str) -> list[int]:
        ids = []
        for part in re.split(r"(<\|im_start\|>|<\|im_end\|>)", text):
            words = re.findall(r"\w+|[^\w\s]|\n", part) if part not in self.own else [part]
            groups = [" ".join(words[i : i + self.group]) for i in range(0, len(words), self.group)]
            ids += [self._id(group) for group in groups]
        return ids

    def _id(self, piece: str) -> int:
        if piece in self.own:
            return self.own.index(piece)
        return len(self.own) + zlib.crc32(piece.encode()) % (self.entries - len(self.own))


# ----- the models ------------------------------------------------------------------------------------------------


def random_showo(sizes: Sizes, device: torch.device | str, dtype: torch.dtype) -> Showo:
    """Show-o with its image tokenizer, in evaluation mode, initialised as its classes do; the network is the released one."""
    c = sizes.showo
    config = PhiConfig(
        hidden_size=sizes.width, intermediate_size=4 * sizes.width, num_hidden_layers=sizes.layers, num_attention_heads=sizes.heads,
        vocab_size=c.entries, qk_layernorm=True, use_cache=False, bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    with torch.device(device):
        phi = PhiForCausalLM._from_config(config, attn_implementation="sdpa")
        magvit = Magvit(sizes.magvit)
    model = Showo(c, phi, Words(c.text_codes, sizes.words), magvit)
    for layer in phi.model.layers:
        layer.mlp.activation_fn = NewGELUActivation()  # eight operations
    return in_format(model, dtype)


def in_format(model: Showo, dtype: torch.dtype) -> Showo:
    """The same model with its weights in another number format; what rotates queries and keys stays in float32."""
    model.to(dtype)
    phi = model.phi
    phi.model.rotary_emb = type(phi.model.rotary_emb)(phi.config).to(model.device)
    return model.eval().requires_grad_(False)


def as_cotlib(model: Showo, chunk: int | None = None) -> Showo:
    """The same weights in a network that is set up as cotlib's own; chunk: candidates at once."""
    same = {id(p): p for p in model.parameters()}
    return Showo(model.config, copy.deepcopy(model.phi, same), model.words, model.tokenizer, chunk).eval()


def one_gelu(model: Showo) -> bool:
    """Whether the network's activation is one operation."""
    return not isinstance(model.phi.model.layers[0].mlp.activation_fn, NewGELUActivation)


def random_llava(sizes: Sizes, device: torch.device | str, dtype: torch.dtype) -> Loaded:
    """LLaVA-OneVision in evaluation mode, initialised as its classes do."""
    v = sizes.llava
    text = {"model_type": "qwen2", "vocab_size": v.entries, "hidden_size": v.width, "intermediate_size": v.inner,
            "num_hidden_layers": v.layers, "num_attention_heads": v.heads, "num_key_value_heads": v.key_heads,
            "rope_theta": 1e6, "tie_word_embeddings": False}  # fmt: skip
    vision = {"model_type": "siglip_vision_model", "hidden_size": v.tower_width, "intermediate_size": v.tower_inner,
              "num_hidden_layers": v.tower_layers, "num_attention_heads": v.tower_heads, "image_size": v.tile,
              "patch_size": v.patch, "vision_use_head": False}  # fmt: skip
    config = LlavaOnevisionConfig(text_config=text, vision_config=vision, tie_word_embeddings=False,
                                  image_token_index=1, video_token_index=2)  # fmt: skip
    config._attn_implementation = "sdpa"
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = LlavaOnevisionForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)
    return Loaded(model.eval().requires_grad_(False), Look(v.tile), {})


def llava_words(sizes: Sizes) -> Words:
    """The tokenizer that goes with `random_llava`."""
    return Words(sizes.llava.entries, sizes.words)


# ----- what the sizes are chosen by ------------------------------------------------------------------------------


def shares(sizes: Sizes) -> dict[str, float]:
    """What the savings are made of, as parts of one guided step of the released loop; counted, nothing is computed.

    pads: of the sequence, without the prompt's own tokens. attention and head: of the step's FLOPs. codes: image codes of
    the vocabulary. decoding a picture, asking a question: FLOPs in steps. tower: of a question.
    """
    model = random_showo(sizes, "meta", torch.float32)
    llava = random_llava(sizes, "meta", torch.float32).model
    length = sizes.slots + model.tokens + 2
    text = len(model.text_ids(PROMPT))
    ids = torch.zeros(2, length, dtype=torch.long, device="meta")
    mask = torch.zeros(2, 1, length, length, device="meta")
    step, head = flops(lambda: model.full_logits(ids, mask)), 4 * length * sizes.width * model.config.entries
    dense = sum(p.numel() for p in model.phi.model.layers.parameters() if p.ndim == 2) * 4 * length
    codes = torch.zeros(1, model.tokens, dtype=torch.long, device="meta")
    grid = (isqrt(model.tokens),) * 2
    decoding = flops(lambda: model.tokenizer.decoder(model.tokenizer.quantize.vectors(codes, grid)))
    tile = torch.zeros(1, 3, sizes.llava.tile, sizes.llava.tile, device="meta")
    tower = flops(lambda: _tower(llava, tile))
    asked = (sizes.llava.tile // sizes.llava.patch) ** 2 + 1 + _question(sizes)
    words = torch.zeros(1, asked, sizes.llava.width, device="meta")
    reading = flops(lambda: llava.model.language_model(inputs_embeds=words))
    return {
        "pads": (sizes.slots - text) / length, "attention": 1 - (dense + head) / step, "head": head / step,
        "codes": model.codebook_size / model.config.entries, "decoding a picture": decoding / step,
        "asking a question": (tower + reading) / step, "tower": tower / (tower + reading),
    }  # fmt: skip


def _tower(llava: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    tower = getattr(llava.model.vision_tower, "vision_model", llava.model.vision_tower)
    seen = tower.encoder(inputs_embeds=tower.embeddings(pixels)).last_hidden_state
    return llava.model.multi_modal_projector(seen)


def _question(sizes: Sizes) -> int:
    """Tokens of text around the picture."""
    said = read_questions()[FINAL].replace("{prompt}", PROMPT)
    words = llava_words(sizes)
    return len(tokens(words, BEFORE)) + len(tokens(words, f"{said}<|im_end|>\n<|im_start|>assistant\n"))


@torch.no_grad()
def flops(work) -> int:
    """FLOPs of what `work()` does."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()
