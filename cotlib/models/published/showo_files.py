"""Show-o's files: its transformer from the weights, its text tokenizer, and the published folder written again."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from cotlib.errors import UserError
from cotlib.models.published.files import HUB_ID, Rename, Weights, beside, fill, open_weights, read_config
from cotlib.models.published.showo_layout import ShowoConfig

LANGUAGE_MODEL = "microsoft/phi-1_5"
SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")  # fmt: skip
HEARD = (*SIZES, "hidden_act", "layer_norm_eps", "max_position_embeddings", "partial_rotary_factor", "rope_parameters",
         "rope_theta")  # fmt: skip
PUBLISHED = {"hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 32}  # Phi-1.5


def load_phi(
    folder: Path, said: dict, config: ShowoConfig, dtype: torch.dtype, device: torch.device | str, attention: str
) -> nn.Module:  # fmt: skip
    """The transformer of a Show-o folder whose config.json says `said`; attention: "sdpa" or "eager"."""
    if attention not in ("sdpa", "eager"):
        raise UserError(f'attention is "{attention}"; expected "sdpa" or "eager"')
    weights, rename = open_weights(folder), _rename(bool(said.get("w_clip_vit")))
    phi = _empty(config, weights, rename, _language_model(folder, said), attention)
    fill(phi, weights, dtype, device, rename)
    phi.model.rotary_emb = type(phi.model.rotary_emb)(phi.config).to(device)  # it has no tensors in the files
    return phi


def save_showo(folder: Path | str, config: ShowoConfig, phi: nn.Module) -> None:
    """Writes config.json and pytorch_model.safetensors as the published folders have them."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    said = {"_class_name": "Showo", "codebook_size": config.codes, "llm_model_path": LANGUAGE_MODEL,
            "llm_vocab_size": config.text_codes, "mask_token_id": config.entries - 1, "num_vq_tokens": config.tokens,
            "vocab_size": config.entries, "w_clip_vit": False}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    state = {f"showo.{name}": tensor.detach().cpu().contiguous() for name, tensor in phi.state_dict().items()}
    save_file(state, folder / "pytorch_model.safetensors", metadata={"format": "pt"})


def words_of(folder: Path, said: dict) -> Path | str:
    """Where the text tokenizer is: in the folder, in phi-1_5 beside it, in the language model's folder if that is here,
    or under its name on the hub."""
    path = str(said.get("llm_model_path") or LANGUAGE_MODEL)
    for place in (folder, beside(folder, "phi-1_5"), folder / path, Path(path)):
        if place is not None and any((place / name).is_file() for name in ("tokenizer.json", "vocab.json")):
            return place
    return path if HUB_ID.fullmatch(path) else LANGUAGE_MODEL


def _rename(with_projector: bool) -> Rename:
    """The files' names to PhiForCausalLM's; the projector of the CLIP variants has no part in text to image."""

    def rename(name: str) -> str | None:
        if with_projector and name.startswith("mm_projector."):
            return None
        return name.removeprefix("showo.")

    return rename


def _language_model(folder: Path, said: dict) -> dict:
    """What the language model's configuration says, if the path that Show-o's names is a folder here. Otherwise nothing:
    what cannot be read off the weights is then as in Phi-1.5, which transformers has as defaults."""
    path = str(said.get("llm_model_path") or "")
    for place in (folder / path, Path(path)):
        if path and (place / "config.json").is_file():
            config = read_config(place, "PhiForCausalLM", "phi")
            return {name: config[name] for name in HEARD if config.get(name) is not None}
    return {}


def _empty(config: ShowoConfig, weights: Weights, rename: Rename, said: dict, attention: str) -> nn.Module:
    """PhiForCausalLM of the weights' sizes on the meta device."""
    from transformers import PhiConfig, PhiForCausalLM

    shapes = {rename(name): shape for name, shape in weights.shapes.items()}
    try:
        width = shapes["model.embed_tokens.weight"][1]
        head = shapes["model.layers.0.self_attn.q_layernorm.weight"][0]
        inner = shapes["model.layers.0.mlp.fc1.weight"][0]
        key_heads = shapes["model.layers.0.self_attn.k_proj.weight"][0] // head
    except (KeyError, IndexError) as error:
        raise UserError(f"the weights in {weights.folder} lack {error}; expected those of Show-o, whose names begin with "
                        "showo.; check that the folder is of this model and whole") from error  # fmt: skip
    layers = 1 + max(int(name.split(".")[2]) for name in shapes if name and name.startswith("model.layers."))
    sizes = dict(zip(SIZES, (width, inner, layers, width // head, key_heads), strict=True))
    expected = said or (PUBLISHED if width == PUBLISHED["hidden_size"] else {})
    for name in SIZES:
        if expected.get(name, sizes[name]) != sizes[name]:
            raise UserError(f"the weights in {weights.folder} have {name} {sizes[name]}; expected {expected[name]}, as their "
                            "language model; the folder is not whole, or its llm_model_path is of another model")  # fmt: skip
    phi = PhiConfig(**{**said, **sizes}, vocab_size=config.entries, qk_layernorm=True, use_cache=False,
                    bos_token_id=None, eos_token_id=None, pad_token_id=None)  # fmt: skip
    with torch.device("meta"):
        return PhiForCausalLM._from_config(phi, attn_implementation=attention)
