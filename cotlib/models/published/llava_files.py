"""LLaVA-OneVision from the files it was given out in, as one `LlavaOnevisionForConditionalGeneration` of transformers.

Two formats hold the same tensors under other names:

    LLaVA-NeXT      lmms-lab's checkpoints and the paper's own `orm_ft` and `parm`; `config.json` describes the language
                    model and only names the vision tower, whose sizes are read off its tensors
    transformers    llava-hf's checkpoints, in the names of any version of transformers

AutoConfig does not know the first, so the configuration is built here, and both go through one table of names.
"""

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from cotlib.errors import UserError
from cotlib.models.published.files import (
    Rename,
    Weights,
    by_prefix,
    fill,
    open_weights,
    read_config,
    read_json,
    whole_number,
)
from cotlib.models.published.four_bit import fill_packed, need_bitsandbytes
from cotlib.models.published.llava_images import Look, read_grids

TOWER = "model.vision_tower.vision_tower.vision_model."  # of a LLaVA-NeXT file
TEXT_FIELDS = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "hidden_act",
    "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", "use_sliding_window", "sliding_window",
    "max_window_layers",
)  # fmt: skip
HEADS = ("lm_head.weight", "language_model.lm_head.weight")
CLASSES = (
    "LlavaQwenForCausalLM",
    "llava_qwen",
    "LlavaOnevisionForConditionalGeneration",
    "llava_onevision",
)  # in config.json
MODES = ("pad", "anyres")


@dataclass(frozen=True)
class Loaded:
    """The model in eval mode, how it sees pictures, and what its files call its sampling filters."""

    model: nn.Module
    look: Look
    filters: dict


def load_llava(
    folder: Path, mode: str, dtype: torch.dtype, device: torch.device | str, attention: str = "sdpa",
    four_bit: bool = False,
) -> Loaded:  # fmt: skip
    """Reads either format. mode: "pad" or "anyres". four_bit: the language model's matrices packed (see `four_bit`).
    UserError when the folder is of another model or not whole."""
    from transformers import LlavaOnevisionForConditionalGeneration

    if four_bit:
        need_bitsandbytes()

    if mode not in MODES:
        raise UserError(f'mode is "{mode}"; expected {" or ".join(MODES)}')
    raw = read_config(folder, *CLASSES)
    weights = open_weights(folder)
    original = "vision_config" not in raw or "mm_vision_tower" in raw
    try:
        config = config_of_next(folder, raw, weights) if original else config_of_transformers(folder, raw)
        config._attn_implementation = attention
        with torch.device("meta"):
            model = LlavaOnevisionForConditionalGeneration(config)
    except UserError:
        raise
    except Exception as error:  # transformers has many kinds for a value that does not fit
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{folder / 'config.json'} does not describe a LLaVA-OneVision ({reason}); fetch it again"
        ) from error
    ratio = raw.get("image_aspect_ratio" if original else "vision_aspect_ratio") or ""
    side = config.vision_config.image_size
    grids = ()
    if mode == "anyres":
        grids = read_grids(raw.get("image_grid_pinpoints"), side, height_first=not original)
    _fill(model, weights, dtype, device, four_bit)
    return Loaded(model.eval(), Look(side, grids, _most_tiles(ratio)), _filters(folder))


# ----- configuration -----------------------------------------------------------------------------------------------


def config_of_next(folder: Path, raw: dict, weights: Weights):
    """The `LlavaOnevisionConfig` that fits a LLaVA-NeXT folder."""
    from transformers import LlavaOnevisionConfig, Qwen2Config

    for name, expected in (("mm_projector_type", "mlp2x_gelu"), ("mm_patch_merge_type", "spatial_unpad")):
        if raw.get(name, expected) != expected:
            raise UserError(f"{folder / 'config.json'} gives {name} as {raw[name]!r}; expected {expected!r}, as LLaVA-OneVision "
                            "has it")  # fmt: skip
    for name in TEXT_FIELDS[:5]:
        whole_number(raw, name, folder)
    rows, _ = _shape(weights, "model.embed_tokens.weight")
    tied = raw.get("tie_word_embeddings", HEADS[0] not in weights.shapes)
    text = Qwen2Config(vocab_size=rows, tie_word_embeddings=tied,
                       **{name: raw[name] for name in TEXT_FIELDS if raw.get(name) is not None})  # fmt: skip
    vision = _tower_sizes(raw, weights) | (raw.get("vision_config") or {})
    if vision["hidden_size"] % vision["num_attention_heads"]:
        raise UserError(f"the vision tower in {folder} is {vision['hidden_size']} wide, which {vision['num_attention_heads']} heads "
                        'do not share evenly; put {"vision_config": {"num_attention_heads": ...}} into its config.json')  # fmt: skip
    return LlavaOnevisionConfig(text_config=text.to_dict(), vision_config=vision, tie_word_embeddings=tied)


def config_of_transformers(folder: Path, raw: dict):
    """The `LlavaOnevisionConfig` of a transformers folder; UserError when it uses what no published one does."""
    from transformers import LlavaOnevisionConfig

    config = LlavaOnevisionConfig.from_dict(raw)
    used = config.vision_feature_layer, config.vision_feature_select_strategy
    if used != (-1, "full"):
        raise UserError(f"{folder / 'config.json'} takes features of layer {used[0]} ({used[1]}); expected layer -1 (full), as "
                        "LLaVA-OneVision has it")  # fmt: skip
    return config


def _tower_sizes(raw: dict, weights: Weights) -> dict:
    """SigLIP's sizes from its tensors. Heads cannot be seen there: 16 as in the released code, unless config.json has a
    "vision_config" that says otherwise."""
    width, _, patch, _ = _shape(weights, TOWER + "embeddings.patch_embedding.weight")
    places = _shape(weights, TOWER + "embeddings.position_embedding.weight")[0]
    start = TOWER + "encoder.layers."
    layers = {name[len(start) :].split(".")[0] for name in weights.shapes if name.startswith(start)}
    across = round(places**0.5)
    named = re.search(r"patch\d+-(\d+)", str(raw.get("mm_vision_tower")))
    side = int(named[1]) if named and int(named[1]) // patch == across else across * patch
    return {
        "model_type": "siglip_vision_model", "hidden_size": width, "patch_size": patch, "image_size": side,
        "intermediate_size": _shape(weights, TOWER + "encoder.layers.0.mlp.fc1.weight")[0],
        "num_hidden_layers": len(layers), "num_attention_heads": 16, "vision_use_head": False,
    }  # fmt: skip


def _shape(weights: Weights, name: str) -> tuple[int, ...]:
    if name not in weights.shapes:
        raise UserError(f"the weights in {weights.folder} lack {name}; expected a whole LLaVA-OneVision checkpoint in the "
                        "LLaVA-NeXT format")  # fmt: skip
    return weights.shapes[name]


def _most_tiles(ratio: str) -> int | None:
    """9 of "anyres_max_9"; None of "anyres", which never scales down; 9 where the config speaks of no anyres."""
    limit = re.match(r"anyres_max_(\d+)", ratio)
    return int(limit[1]) if limit else None if ratio == "anyres" else 9


def _filters(folder: Path) -> dict:
    """top_k and top_p as far as `generation_config.json` gives them."""
    path = folder / "generation_config.json"
    said = read_json(path) if path.is_file() else {}
    return {name: said[name] for name in ("top_k", "top_p") if said.get(name)}


# ----- weights -----------------------------------------------------------------------------------------------------


def inner_name(name: str, tower: str = "vision_tower.") -> str | None:
    """The name inside `model.model` of a tensor of either format; None for the head, which is not there, and for what is
    computed. tower: where the vision tower's tensors are."""
    if name in HEADS or name.endswith((".rotary_emb.inv_freq", ".embeddings.position_ids")):
        return None  # the last two are written by some versions all the same
    projector = "multi_modal_projector."
    table = by_prefix(
        (TOWER, tower),  # LLaVA-NeXT
        ("model.mm_projector.0.", projector + "linear_1."),
        ("model.mm_projector.2.", projector + "linear_2."),
        ("model.embed_tokens.", "language_model.embed_tokens."),
        ("model.layers.", "language_model.layers."),
        ("model.norm.", "language_model.norm."),
        ("model.vision_tower.vision_model.", tower),  # transformers, newer
        ("model.vision_tower.", tower),
        ("model.language_model.", "language_model."),
        ("model.", ""),
        ("language_model.model.", "language_model."),  # transformers, older
        ("vision_tower.vision_model.", tower),
    )
    return table(name)


def names_of(model: nn.Module) -> Rename:
    """The table of names for this model: those of either format to those inside `model.model`."""
    level = hasattr(model.model.vision_tower, "vision_model")  # gone from transformers 5 on
    return partial(inner_name, tower="vision_tower." + "vision_model." * level)


def transformers_name(name: str) -> str:
    """What a tensor of a LLaVA-NeXT file is called in `LlavaOnevisionForConditionalGeneration` of transformers 5."""
    inside = inner_name(name)
    return name if inside is None else f"model.{inside}"


def _fill(
    model: nn.Module, weights: Weights, dtype: torch.dtype, device: torch.device | str, four_bit: bool
) -> None:
    """Puts weights and computed buffers into a model that was built on the meta device."""
    tied = model.config.tie_word_embeddings
    head = next((name for name in HEADS if name in weights.shapes), None)
    if head is None and not tied:
        raise UserError(f"the weights in {weights.folder} lack {HEADS[0]}, and config.json does not tie it to the words; expected "
                        "a whole LLaVA-OneVision checkpoint")  # fmt: skip
    words = model.model.language_model
    if four_bit:
        fill_packed(model.model, "language_model.layers", weights, dtype, device, names_of(model))
    else:
        fill(model.model, weights, dtype, device, names_of(model))
    if tied:
        model.lm_head.weight = words.embed_tokens.weight
    else:
        own = Weights(weights.folder, {head: weights.shapes[head]}, {head: weights.files[head]})
        fill(model.lm_head, own, dtype, device, lambda _: "weight")
    words.rotary_emb = type(words.rotary_emb)(model.config.text_config).to(device)
    tower = getattr(model.model.vision_tower, "vision_model", model.model.vision_tower)
    places = torch.arange(tower.embeddings.num_positions, device=device)
    tower.embeddings.position_ids = places.expand(1, -1)
