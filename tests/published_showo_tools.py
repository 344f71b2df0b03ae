"""Tiny random checkpoints in the layouts of showlab/show-o, showlab/magvitv2 and microsoft/phi-1_5's tokenizer.

Names, shapes and fields are written out here by hand, not by asking the models under test.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from cotlib.decoding.ratios import mask_ratio

TEXT, NEW, CODES = 50295, 10, 8192
WIDTH, LAYERS, HEADS, INNER = 32, 3, 2, 48
END = 50256  # <|endoftext|>, both bos and eos


def write_tokenizer(folder: Path, entries: int = TEXT) -> Path:
    """A byte-level tokenizer with the size and the ends of Phi-1.5's: 50257 entries and 38 runs of blanks."""
    folder.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("c", "a"), ("ca", "t"), ("d", "o"), ("do", "g"), ("r", "e"), ("re", "d"), ("Ġ", "a")]
    vocab = {token: i for i, token in enumerate(alphabet)}
    for pair in merges:
        vocab["".join(pair)] = len(vocab)
    while len(vocab) < END:
        vocab[f"filler{len(vocab)}"] = len(vocab)
    vocab["<|endoftext|>"] = END
    made = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken("<|endoftext|>", special=True, normalized=True)])
    blanks = [" " * n for n in range(31, 1, -1)] + ["\t" * n for n in range(9, 1, -1)]
    made.add_tokens([AddedToken(blank, normalized=True) for blank in blanks][: entries - END - 1])
    made.save(str(folder / "tokenizer.json"))
    end = "<|endoftext|>"
    said = {"tokenizer_class": "CodeGenTokenizer", "bos_token": end, "eos_token": end, "unk_token": end,
            "add_prefix_space": False, "model_max_length": 2048}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    return folder


class Letters:
    """A text tokenizer to stand in for Phi-1.5's: one entry a letter, `size` entries."""

    bos_token_id = eos_token_id = 0

    def __init__(self, size: int):
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __call__(self, texts: list[str]) -> dict:
        return {"input_ids": [[1 + ord(letter) % (self.size - 1) for letter in text] for text in texts]}


def showo_shapes(
    width=WIDTH, layers=LAYERS, heads=HEADS, inner=INNER, entries=TEXT + NEW + CODES + 1
) -> dict[str, list[int]]:
    """The tensors of pytorch_model.safetensors and their shapes."""
    shapes = {"model.embed_tokens.weight": [entries, width], "model.final_layernorm.weight": [width],
              "model.final_layernorm.bias": [width], "lm_head.weight": [entries, width], "lm_head.bias": [entries]}  # fmt: skip
    for layer in range(layers):
        for name, shape in {
            "self_attn.q_proj": [width, width], "self_attn.k_proj": [width, width], "self_attn.v_proj": [width, width],
            "self_attn.dense": [width, width], "self_attn.q_layernorm": [width // heads],
            "self_attn.k_layernorm": [width // heads], "mlp.fc1": [inner, width], "mlp.fc2": [width, inner],
            "input_layernorm": [width],
        }.items():  # fmt: skip
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
            shapes[f"model.layers.{layer}.{name}.bias"] = shape[:1]
    return {f"showo.{name}": shape for name, shape in shapes.items()}


def random_tensors(shapes: dict[str, list[int]], seed: int = 0) -> dict[str, Tensor]:
    """Weights that make every part matter: nothing zero, norms around one, attention far from even, and embeddings so
    small that what a norm adds to the variance counts."""
    chance = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in sorted(shapes.items()):
        noise = torch.randn(shape, generator=chance)
        if "norm" in name:
            made[name] = noise * 0.2 + (1.0 if name.endswith("weight") else 0.0)
        elif len(shape) == 1:
            made[name] = noise * 0.2
        else:
            made[name] = noise * (0.01 if "embed" in name else 1.5 / shape[1] ** 0.5)
    return made


def showo_config(tokens: int, **changes) -> dict:
    """config.json as in showlab/show-o."""
    said = {"_class_name": "Showo", "_diffusers_version": "0.30.1", "codebook_size": CODES,
            "llm_model_path": "microsoft/phi-1_5", "llm_vocab_size": TEXT, "mask_token_id": TEXT + NEW + CODES,
            "num_vq_tokens": tokens, "vocab_size": TEXT + NEW + CODES + 1, "w_clip_vit": False}  # fmt: skip
    return {name: value for name, value in {**said, **changes}.items() if value is not None}


def write_showo(folder: Path, tokens: int = 16, **changes) -> dict[str, Tensor]:
    """A Show-o folder; returns its tensors. changes: of config.json, None removes a field."""
    folder.mkdir(parents=True, exist_ok=True)
    said = showo_config(tokens, **changes)
    (folder / "config.json").write_text(json.dumps(said))
    entries = said["llm_vocab_size"] + NEW + said.get("codebook_size", CODES) + 1
    tensors = random_tensors(showo_shapes(entries=entries))
    save_file(tensors, folder / "pytorch_model.safetensors", metadata={"format": "pt"})
    return tensors


def magvit_shapes(
    stem=32,
    encoder=(32, 64, 64),
    decoder=(32, 32, 64),
    encoder_blocks=(2, 1, 1),
    decoder_blocks=(1, 2, 1),
    bits=4,
):
    """The tensors of MAGVIT-v2's file and their shapes; small by default, three levels instead of five."""
    shapes: dict[str, list[int]] = {}

    def conv(name: str, inside: int, outside: int, kernel: int = 3) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = [outside, inside, kernel, kernel], [outside]

    def norm(name: str, channels: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = [channels], [channels]

    def block(name: str, inside: int, outside: int) -> None:
        norm(f"{name}.norm1", inside)
        conv(f"{name}.conv1", inside, outside)
        norm(f"{name}.norm2", outside)
        conv(f"{name}.conv2", outside, outside)
        if inside != outside:
            conv(f"{name}.nin_shortcut", inside, outside, 1)

    def middle(name: str, channels: int) -> None:
        block(f"{name}.block_1", channels, channels)
        block(f"{name}.block_2", channels, channels)
        norm(f"{name}.attn_1.norm", channels)
        for part in ("q", "k", "v", "proj_out"):
            conv(f"{name}.attn_1.{part}", channels, channels, 1)

    conv("encoder.conv_in", 3, stem)
    now = stem
    for level, (width, count) in enumerate(zip(encoder, encoder_blocks, strict=True)):
        for i in range(count):
            block(f"encoder.down.{level}.block.{i}", now, width)
            now = width
        if level < len(encoder) - 1:
            conv(f"encoder.down.{level}.downsample.conv", now, now)
    middle("encoder.mid", now)
    norm("encoder.norm_out", now)
    conv("encoder.conv_out", now, bits)
    conv("encoder.quant_conv", bits, bits, 1)
    now = decoder[-1]
    conv("decoder.post_quant_conv", bits, bits, 1)
    conv("decoder.conv_in", bits, now)
    middle("decoder.mid", now)
    for level in reversed(range(len(decoder))):
        for i in range(decoder_blocks[level]):
            block(f"decoder.up.{level}.block.{i}", now, decoder[level])
            now = decoder[level]
        if level:
            conv(f"decoder.up.{level}.upsample.conv", now, now)
    norm("decoder.norm_out", now)
    conv("decoder.conv_out", now, 3)
    return shapes


def magvit_tensors(bits: int = 4, seed: int = 1, **sizes) -> dict[str, Tensor]:
    """Random weights, and the quantiser's two tables written out. The first convolutions are so small that what the
    norm behind them adds to the variance counts."""
    chance = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in sorted(magvit_shapes(bits=bits, **sizes).items()):
        noise = torch.randn(shape, generator=chance)
        if "norm" in name:
            made[name] = noise * 0.2 + (1.0 if name.endswith("weight") else 0.0)
        else:
            made[name] = noise * (0.2 if len(shape) == 1 else 1 / (shape[1] * shape[2] * shape[3]) ** 0.5)
            made[name] *= 0.002 if "conv_in" in name else 1
    made["quantize.embedding"] = torch.tensor(
        [[1.0 if bit == "1" else -1.0 for bit in f"{code:0{bits}b}"] for code in range(2**bits)]
    )
    made["quantize.power_vals"] = torch.tensor([2 ** (bits - 1 - place) for place in range(bits)])
    return made


def write_magvit(folder: Path, bits: int = 4, **sizes) -> dict[str, Tensor]:
    """A MAGVIT-v2 folder; returns its tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"_class_name": "MAGViTv2", "_diffusers_version": "0.30.1"}')
    tensors = magvit_tensors(bits, **sizes)
    save_file(tensors, folder / "pytorch_model.safetensors", metadata={"format": "pt"})
    return tensors


def header_bytes(shapes: dict[str, list[int]], dtypes: dict[str, str] | None = None) -> tuple[int, int]:
    """(bytes of all tensors, bytes of the safetensors file that holds them): 8 bytes, a header in JSON, the tensors."""
    size = {"F32": 4, "I64": 8}
    dtypes = {name: (dtypes or {}).get(name, "F32") for name in shapes}
    said: dict[str, dict] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name in sorted(shapes, key=lambda n: (-size[dtypes[n]], n)):
        count = size[dtypes[name]]
        for side in shapes[name]:
            count *= side
        said[name] = {
            "dtype": dtypes[name],
            "shape": list(shapes[name]),
            "data_offsets": [start, start + count],
        }
        start += count
    header = len(json.dumps(said, separators=(",", ":")))
    return start, 8 + header + -header % 8 + start


def masked_after(tokens: int, steps: int, schedule: str = "cosine") -> list[int]:
    """How many of `tokens` Show-o's loop leaves masked after each step, at most one less than before and at least one.

    The last entry is 1 as in its code, though the loop returns the full draw of that step and nothing stays masked.
    """
    left = [tokens]
    for step in range(steps):
        asked = int((tokens * mask_ratio((step + 1) / steps, schedule)).floor())
        left.append(max(1, min(left[-1] - 1, asked)))
    return left[1:]
