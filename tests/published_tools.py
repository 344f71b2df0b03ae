"""Tiny random checkpoints of the verifier and the judge, in the layouts they are published in: LLaVA-OneVision in the LLaVA-NeXT
format, Mask2Former and CLIP in that of transformers. Show-o's own are in `published_showo_tools`.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, pre_tokenizers
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Qwen2Tokenizer,
    SwinConfig,
)
from transformers.models.mask2former import modeling_mask2former

# ----- LLaVA-OneVision ----------------------------------------------------------------------------------------------

SIDE, PATCH = 28, 14  # a tile of 2 x 2 patches
GRID = [[28, 28], [28, 56], [56, 28], [56, 56], [56, 84], [84, 56], [84, 84]]
EOS = "<|endoftext|>"


def tokenizer() -> Qwen2Tokenizer:
    """Qwen2's kind, with bytes for its alphabet and the four answers as its only longer words."""
    vocab = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = [("y", "e"), ("ye", "s"), ("n", "o"), ("Y", "e"), ("Ye", "s"), ("N", "o")]
    for pair in merges:
        vocab["".join(pair)] = len(vocab)
    words = Qwen2Tokenizer(vocab=vocab | {EOS: len(vocab)}, merges=merges)
    words.add_tokens([AddedToken(t, special=True) for t in ("<|im_start|>", "<|im_end|>")])
    return words


def tiny_model(tied: bool, rows: int) -> LlavaOnevisionForConditionalGeneration:
    text = {"model_type": "qwen2", "vocab_size": rows, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "rope_theta": 1e6, "tie_word_embeddings": tied}  # fmt: skip
    vision = {"model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2,
              "num_attention_heads": 16, "image_size": SIDE, "patch_size": PATCH, "vision_use_head": False}  # fmt: skip
    config = LlavaOnevisionConfig(text_config=text, vision_config=vision, image_grid_pinpoints=GRID,
                                  tie_word_embeddings=tied, image_token_index=1, video_token_index=2)  # fmt: skip
    torch.manual_seed(3)
    model = LlavaOnevisionForConditionalGeneration(config).eval()
    with torch.no_grad():
        for p in model.parameters():  # larger than at the start, so that answers differ
            p.normal_(0, 0.3 if p.ndim > 1 else 0.1)
    return model


def next_name(name: str) -> str:
    """The name of a tensor in a LLaVA-NeXT file, written down from the published list and not from the code."""
    for ours, theirs in {
        "model.vision_tower.": "model.vision_tower.vision_tower.vision_model.",
        "model.multi_modal_projector.linear_1": "model.mm_projector.0",
        "model.multi_modal_projector.linear_2": "model.mm_projector.2",
        "model.language_model.": "model.",
    }.items():
        if name.startswith(ours):
            return theirs + name[len(ours) :]
    return name


def write_next(folder, model, words, tied: bool, **changes):
    """The LLaVA-NeXT format: its config, and two shards."""
    folder.mkdir()
    t = model.config.text_config
    config = {
        "architectures": ["LlavaQwenForCausalLM"], "model_type": "llava", "hidden_size": t.hidden_size, "hidden_act": "silu",
        "intermediate_size": t.intermediate_size, "num_hidden_layers": t.num_hidden_layers, "rope_theta": 1e6,
        "num_attention_heads": t.num_attention_heads, "num_key_value_heads": t.num_key_value_heads, "rms_norm_eps": 1e-6,
        "max_position_embeddings": 32768, "vocab_size": t.vocab_size, "tie_word_embeddings": tied, "use_sliding_window": False,
        "mm_vision_tower": "google/siglip-so400m-patch14-384", "mm_projector_type": "mlp2x_gelu", "mm_hidden_size": 1152,
        "mm_patch_merge_type": "spatial_unpad", "image_aspect_ratio": "anyres_max_9", "mm_vision_select_layer": -2,
        "image_grid_pinpoints": [[w, h] for h, w in GRID], "torch_dtype": "bfloat16",
    } | changes  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    state = {
        next_name(k): v.contiguous()
        for k, v in model.state_dict().items()
        if not (tied and k == "lm_head.weight")
    }
    names = sorted(state)
    shards = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for file, own in shards.items():
        save_file({n: state[n] for n in own}, folder / file, metadata={"format": "pt"})
    places = {n: file for file, own in shards.items() for n in own}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    words.save_pretrained(folder)
    return folder


def write_llava(folder: Path, tied: bool = False) -> Path:
    """A whole verifier: tiny model, tokenizer and all, in the LLaVA-NeXT format."""
    words = tokenizer()
    return write_next(folder, tiny_model(tied, len(words)), words, tied)


# ----- GenEval's judge ----------------------------------------------------------------------------------------------


def tiny_mask2former() -> Mask2FormerForUniversalSegmentation:
    """transformers' class with the head, which asks for scipy; only its training loss needs it."""
    swin = SwinConfig(embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4,
                      out_features=["stage1", "stage2", "stage3", "stage4"])  # fmt: skip
    config = Mask2FormerConfig(backbone_config=swin.to_dict(), feature_size=32, mask_feature_size=32, hidden_dim=32,
                               encoder_feedforward_dim=32, encoder_layers=1, decoder_layers=3, num_attention_heads=4,
                               dim_feedforward=32, num_queries=9, num_labels=80)  # fmt: skip
    torch.manual_seed(5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modeling_mask2former, "requires_backends", lambda *_: None)
        model = Mask2FormerForUniversalSegmentation(config).eval()
    with torch.no_grad():
        model.class_predictor.weight.normal_(0, 2.0)
    return model


def clip_tokenizer() -> CLIPTokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*letters, *(f"{c}</w>" for c in letters)])}
    marks = {"<|startoftext|>": len(vocab), "<|endoftext|>": len(vocab) + 1}
    return CLIPTokenizer(vocab=vocab | marks, merges=[])


def write_judge(root: Path, detector: Mask2FormerForUniversalSegmentation | None = None) -> Path:
    """A judge's folder: one Mask2Former as published, without the norm that transformers 5 added, and one CLIP."""
    (detector or tiny_mask2former()).save_pretrained(root / "segmenter")
    file = root / "segmenter" / "model.safetensors"
    state = load_file(file)
    assert {"criterion.empty_weight", "class_predictor.bias", "model.transformer_module.queries_features.weight",
            "model.pixel_level_module.encoder.encoder.layers.0.blocks.0.attention.self.query.weight"} <= set(state)  # fmt: skip
    save_file(
        {k: v for k, v in state.items() if ".swin.layernorm." not in k}, file, metadata={"format": "pt"}
    )
    words = clip_tokenizer()
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(6)
    clip = CLIPModel(CLIPConfig(
        text_config=shape | {"vocab_size": len(words), "eos_token_id": words.eos_token_id, "max_position_embeddings": 77},
        vision_config=shape | {"image_size": 32, "patch_size": 8}, projection_dim=16,
    ))  # fmt: skip
    with torch.no_grad():
        for p in clip.parameters():
            if p.ndim > 1:
                p.normal_(0, 0.3)
    clip.save_pretrained(root / "names")
    words.save_pretrained(root / "names")
    return root
