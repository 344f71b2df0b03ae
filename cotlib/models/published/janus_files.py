"""Janus-Pro's files in transformers' format: the parts that draw, their sizes, and the text tokenizer.

A checkpoint holds more than drawing needs: the eye that looks at pictures (SigLIP and its aligner), the head that writes
text, the encoder of the image tokenizer. They are not read, and may be missing.

The tokenizer is read from tokenizer.json itself. Its tokenizer_config.json names LlamaTokenizerFast, and several versions of
transformers 5 then take away the byte-level splitting that tokenizer.json asks for, and with it every space of a prompt
(github.com/huggingface/transformers/issues/45488).
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from cotlib.errors import UserError
from cotlib.models.published.files import (
    Weights,
    fill,
    open_weights,
    read_config,
    read_json,
    reason_of,
    said_classes,
)

CLASSES = ("JanusForConditionalGeneration", "janus")  # in config.json
ORIGINAL = ("MultiModalityCausalLM", "multi_modality")  # deepseek-ai's own format
PARTS = ("text_config", "vision_config", "vq_config")
UNUSED = ("lm_head.", "model.vision_model.", "model.aligner.", "model.vqmodel.encoder.", "model.vqmodel.quant_conv.")  # fmt: skip
ENDS = ("model.generation_head.", "model.vqmodel.")  # stay in float32
BOS, PAD, BOI = "<｜begin▁of▁sentence｜>", "<｜▁pad▁｜>", "<begin_of_image>"
MARKS = (
    BOS,
    "<｜end▁of▁sentence｜>",
    PAD,
    BOI,
    "<end_of_image>",
    "<image_placeholder>",
    "<|User|>",
    "<|Assistant|>",
)


@dataclass(frozen=True)
class JanusConfig:
    """Sizes and sampling defaults; the defaults are those of both Janus-Pro models.

    guidance: as everywhere here, (1 + g) cond - g uncond; Janus's own weight is g + 1, and 5 by default.
    """

    tokens: int = 576  # image tokens N, a square
    codes: int = 16384  # image codes V
    longest: int = 16384  # places of text and picture together
    guidance: float = 4.0
    order: str = "raster"

    @property
    def steps(self) -> int:
        """One step per token."""
        return self.tokens


@dataclass(frozen=True)
class JanusParts:
    """What a folder was read into. network: language_model, generation_embeddings and generation_aligner of transformers'
    JanusModel, in the number format that was asked for. ends: its generation_head and vqmodel, in float32."""

    config: JanusConfig
    network: nn.ModuleDict
    ends: nn.ModuleDict


def load_parts(folder: Path, dtype: torch.dtype, device: torch.device | str) -> JanusParts:
    """The parts of a Janus-Pro folder that draw, in eval mode; UserError when it is of another model or not whole."""
    from transformers import JanusModel

    described = _described(folder)
    config = sizes_of(folder, described)
    weights = open_weights(folder)
    described.text_config._attn_implementation = "sdpa"
    with torch.device("meta"):
        model = JanusModel(described)
    del model.vqmodel.encoder, model.vqmodel.quant_conv
    network = {name: getattr(model, name) for name in ("language_model", "generation_embeddings", "generation_aligner")}  # fmt: skip
    ends = {name: getattr(model, name) for name in ("generation_head", "vqmodel")}
    parts = JanusParts(config, nn.ModuleDict(network).eval(), nn.ModuleDict(ends).eval())
    used = [name for name in weights.shapes if not name.startswith(UNUSED)]
    _fill(parts.ends, weights, [name for name in used if name.startswith(ENDS)], torch.float32, device)
    _fill(parts.network, weights, [name for name in used if not name.startswith(ENDS)], dtype, device)
    llama = parts.network["language_model"]
    llama.rotary_emb = type(llama.rotary_emb)(described.text_config).to(device)  # has no tensors in the files
    return parts


def load_words(folder: Path, entries: int):
    """The text tokenizer, a `tokenizers.Tokenizer` of at most `entries` entries; UserError when it is not Janus's."""
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise UserError(f"{folder} has no tokenizer.json; expected Janus-Pro's; fetch the checkpoint again")
    try:
        words = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises plain Exception
        raise UserError(f"{file} cannot be read ({reason_of(error)}); fetch it again") from error
    missing = [token for token in (BOS, PAD, BOI) if words.token_to_id(token) is None]
    if missing:
        raise UserError(
            f"{file} has no token {missing[0]}; expected the tokenizer of Janus-Pro; give that model's folder"
        )
    if words.get_vocab_size() > entries:
        raise UserError(f"{file} has {words.get_vocab_size()} entries; expected at most {entries}, the words the model knows; "
                        "give that model's own tokenizer")  # fmt: skip
    return words


def _described(folder: Path):
    """transformers' JanusConfig of a folder; UserError when config.json is of another model or does not describe one."""
    from transformers import JanusConfig as Described

    file = folder / "config.json"
    if not set(said_classes(read_json(file))).isdisjoint(ORIGINAL):
        raise UserError(f"{file} is in the format of Janus's own code; expected transformers'; give the folder or hub id of "
                        "deepseek-community/Janus-Pro-1B or Janus-Pro-7B")  # fmt: skip
    said = read_config(folder, *CLASSES)
    if missing := [name for name in PARTS if not isinstance(said.get(name), dict)]:
        raise UserError(f"{file} has no {missing[0]}; expected {', '.join(PARTS)}, as in deepseek-community/Janus-Pro-1B; "
                        "fetch it again")  # fmt: skip
    try:
        return Described.from_dict(said)
    except Exception as error:  # transformers has many kinds for a value that does not fit
        raise UserError(
            f"{file} does not describe a Janus-Pro ({reason_of(error)}); fetch it again"
        ) from error


def sizes_of(folder: Path, described) -> JanusConfig:
    """Our configuration; UserError when the sizes of the parts do not fit each other."""
    file, words, vq = folder / "config.json", described.text_config, described.vq_config
    tokens, side = described.vision_config.num_image_tokens, vq.num_patches
    if side**2 != tokens:
        raise UserError(f"{file} gives num_image_tokens as {tokens}; expected {side**2}: image_size / patch_size is {side}, "
                        "and the picture is a square")  # fmt: skip
    for name in ("image_token_embed_dim", "projection_dim"):
        if getattr(vq, name) != words.hidden_size:
            raise UserError(f"{file} gives {name} of vq_config as {getattr(vq, name)}; expected {words.hidden_size}, the "
                            "hidden_size of text_config")  # fmt: skip
    return JanusConfig(tokens, vq.num_embeddings, words.max_position_embeddings)


def _fill(
    module: nn.Module, weights: Weights, names: list[str], dtype: torch.dtype, device: torch.device | str
):
    """Puts the named tensors of a checkpoint into a module on the meta device."""
    own = Weights(weights.folder, {n: weights.shapes[n] for n in names}, {n: weights.files[n] for n in names})
    fill(module, own, dtype, device, lambda name: name.removeprefix("model."))
