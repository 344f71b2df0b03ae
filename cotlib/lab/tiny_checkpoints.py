"""Tiny checkpoints of random weights in the published formats, made on the spot: the files, names, fields and token counts are
those of the real ones, so that shapes and bookkeeping can be looked at without 20 GB of weights. Pictures are noise.

    home = write_all(folder)      folder/show-o, folder/magvitv2, folder/phi-1_5, folder/llava; some seconds, some 40 MB

The loaders take them as they take the published folders. Both text tokenizers know the words of the course's prompts and of
the shipped questions, a token each, and spell everything else, so that texts are about as long as with the real ones.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cotlib.assets import data_dir
from cotlib.models.published.magvit import Magvit, MagvitConfig
from cotlib.models.published.showo_files import save_showo
from cotlib.models.published.showo_layout import ShowoConfig
from cotlib.world.prompts import VOCAB

SMALL = MagvitConfig((32,) * 5, (1,) * 5, (32,) * 5, (1,) * 5, 32)  # five levels, as the published one
END, BLANKS = 50256, 38  # id of Phi-1.5's <|endoftext|>, and how many runs of blanks follow it
ANSWERS = ("yes", "no", "Yes", "No")


def write_all(folder: Path | str) -> Path:
    """All four folders inside `folder`, beside each other, where the loaders look for them; returns it."""
    folder = Path(folder)
    write_showo(folder / "show-o")
    write_magvit(folder / "magvitv2")
    write_phi_words(folder / "phi-1_5")
    write_llava(folder / "llava")
    return folder


def randomised(module: nn.Module, seed: int, spread: float = 1.0) -> nn.Module:
    """The module with weights that make every part matter: matrices of `spread` over the root of their inputs, norms about
    one, small biases and word vectors."""
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            noise = torch.randn(p.shape, generator=chance)
            if p.ndim == 1:
                p.copy_(0.1 * noise + (1.0 if "norm" in name and name.endswith("weight") else 0.0))
            else:
                p.copy_(noise * (0.02 if "embed_tokens" in name else spread / p[0].numel() ** 0.5))
    return module


# ----- Show-o and its image tokenizer ------------------------------------------------------------------------------


def write_showo(folder: Path, width: int = 64, layers: int = 2, heads: int = 2, tokens: int = 256, seed: int = 0) -> Path:  # fmt: skip
    """A Show-o folder with the published vocabulary; returns it. tokens: 256 or 1024, or in a toy 4, 16 or 64."""
    from transformers import PhiConfig, PhiForCausalLM

    config = ShowoConfig(tokens=tokens)
    phi = PhiConfig(vocab_size=config.entries, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
                    num_attention_heads=heads, qk_layernorm=True, bos_token_id=None, eos_token_id=None)  # fmt: skip
    save_showo(folder, config, randomised(PhiForCausalLM(phi), seed, spread=2.0))
    return folder


def write_magvit(folder: Path, config: MagvitConfig = SMALL, seed: int = 1) -> Path:
    """A MAGVIT-v2 folder with 13 bits and 16 pixels a code; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"_class_name": "MAGViTv2", "_diffusers_version": "0.30.1"}')
    state = randomised(Magvit(config), seed).state_dict()
    save_file(
        {name: tensor.contiguous() for name, tensor in state.items()}, folder / "pytorch_model.safetensors"
    )
    return folder


def write_phi_words(folder: Path) -> Path:
    """A tokenizer of the size of Phi-1.5's, with its one mark and its runs of blanks; returns the folder."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    folder.mkdir(parents=True, exist_ok=True)
    vocab, merges = spelled(known_words())
    vocab |= {f"unused{i}": i for i in range(len(vocab), END)} | {"<|endoftext|>": END}
    made = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    blanks = [" " * n for n in range(31, 1, -1)] + ["\t" * n for n in range(9, 1, -1)]
    made.add_tokens(blanks[:BLANKS])
    made.save(str(folder / "tokenizer.json"))
    end = {name: "<|endoftext|>" for name in ("bos_token", "eos_token", "unk_token")}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CodeGenTokenizer", **end}))
    return folder


# ----- LLaVA-OneVision -----------------------------------------------------------------------------------------------

NEXT = (  # transformers' names to those of LLaVA-NeXT, first fit
    ("model.vision_tower.", "model.vision_tower.vision_tower.vision_model."),
    ("model.multi_modal_projector.linear_1.", "model.mm_projector.0."),
    ("model.multi_modal_projector.linear_2.", "model.mm_projector.2."),
    ("model.language_model.", "model."),
)


def next_name(name: str) -> str:
    """The name of a tensor of transformers' model in a LLaVA-NeXT file."""
    return next((new + name.removeprefix(old) for old, new in NEXT if name.startswith(old)), name)


def write_llava(
    folder: Path, width: int = 64, layers: int = 2, eye: int = 32, shards: int = 2, seed: int = 3, inner: int = 128
) -> Path:  # fmt: skip
    """A LLaVA-OneVision folder in the LLaVA-NeXT format, with the published tiles (384 pixels, 729 features); returns it.

    width, layers, inner: of the language model, which has 4 heads; eye: width of the vision tower, of two layers.
    """
    from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

    words = qwen_words()
    text = {"vocab_size": len(words), "hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers,
            "num_attention_heads": 4, "num_key_value_heads": 2, "rope_theta": 1e6, "rms_norm_eps": 1e-6,
            "max_position_embeddings": 32768, "tie_word_embeddings": False}  # fmt: skip
    vision = {"hidden_size": eye, "intermediate_size": 2 * eye, "num_hidden_layers": 2, "num_attention_heads": 2,
              "image_size": 384, "patch_size": 14, "vision_use_head": False}  # fmt: skip
    config = LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", **text}, vision_config={"model_type": "siglip_vision_model", **vision},
        image_token_index=1, video_token_index=2, tie_word_embeddings=False,
    )  # fmt: skip
    model = randomised(LlavaOnevisionForConditionalGeneration(config), seed, spread=2.0)
    said = text | {
        "architectures": ["LlavaQwenForCausalLM"], "model_type": "llava", "hidden_act": "silu", "use_sliding_window": False,
        "mm_vision_tower": "google/siglip-so400m-patch14-384", "mm_projector_type": "mlp2x_gelu",
        "mm_patch_merge_type": "spatial_unpad", "image_aspect_ratio": "anyres_max_9",
        "image_grid_pinpoints": "(1x1),...,(6x6)", "vision_config": vision,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(said, indent=1))
    save_shards(folder, {next_name(name): tensor for name, tensor in model.state_dict().items()}, shards)
    words.save_pretrained(folder)
    return folder


def save_shards(folder: Path, state: dict[str, Tensor], count: int) -> None:
    """Writes tensors as `count` safetensors files of about the same size and the index that lists them."""
    total = sum(tensor.nbytes for tensor in state.values())
    files: list[dict[str, Tensor]] = [{} for _ in range(count)]
    done = 0
    for name, tensor in state.items():
        files[min(count - 1, done * count // total)][name] = tensor.contiguous()
        done += tensor.nbytes
    places = {}
    for i, own in enumerate(files, 1):
        file = f"model-{i:05d}-of-{count:05d}.safetensors"
        save_file(own, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(own, file)
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def qwen_words():
    """A tokenizer of Qwen2's kind with the marks of the chat and a token for each answer."""
    from tokenizers import AddedToken
    from transformers import Qwen2Tokenizer

    vocab, merges = spelled([*ANSWERS, *known_words()])
    words = Qwen2Tokenizer(vocab=vocab | {"<|endoftext|>": len(vocab)}, merges=merges)
    words.add_tokens([AddedToken(mark, special=True) for mark in ("<|im_start|>", "<|im_end|>")])
    return words


# ----- words -------------------------------------------------------------------------------------------------------


def known_words() -> list[str]:
    """The words of the course's prompts and of the shipped questions, as they stand inside a text: after a blank."""
    questions = json.loads((data_dir() / "questions.json").read_text(encoding="utf-8"))
    found = re.findall(r"[A-Za-z]+", " ".join([*VOCAB, *questions.values()]))
    return [f"Ġ{word}" for word in dict.fromkeys(found)]


def spelled(words: Iterable[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """(vocabulary, merges) of a byte-pair encoding: all bytes, and each word put together letter by letter."""
    from tokenizers import pre_tokenizers

    vocab = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = []
    for word in words:
        for end in range(2, len(word) + 1):
            if word[:end] not in vocab:
                vocab[word[:end]] = len(vocab)
                merges.append((word[: end - 1], word[end - 1]))
    return vocab, merges
