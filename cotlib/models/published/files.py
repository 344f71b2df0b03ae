"""Checkpoint folders made by others: found, checked and read one tensor at a time.

A model is built without memory (torch's meta device), its names are compared with those of the files, and only then
is each tensor read, cast and put in its place. So a wrong folder is refused in a second, and loading never holds more
than the model and one tensor. `.safetensors` and its shards are read as they are; `.bin` is a pickle, of which only
plain tensors are accepted (`weights_only=True`), because anything else in it can run code.
"""

import json
import pickle
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from cotlib.errors import UserError

STEMS = ("pytorch_model", "model", "diffusion_pytorch_model")  # Show-o and MAGVIT-v2, transformers, diffusers
ENDINGS = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json")  # safetensors first
PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle")
HUB_ID = re.compile(r"([\w.-]+/[\w.-]+)(?:/([\w./-]+))?")  # owner/name, or owner/name/subfolder
WANTED = ("*.json", "*.safetensors", "*.bin", "*.txt", "*.yaml")
DTYPES = {
    "float32": torch.float32, "fp32": torch.float32, "bfloat16": torch.bfloat16, "bf16": torch.bfloat16,
    "float16": torch.float16, "fp16": torch.float16,
}  # fmt: skip


def reason_of(error: Exception) -> str:
    """The first line of what an error says, else its kind."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


# ----- folders and their small files -------------------------------------------------------------------------------


def checkpoint_folder(name: Path | str) -> Path:
    """A local folder as it is, or the folder that a hub id ("owner/name" or "owner/name/subfolder") is fetched to.

    UserError when it is neither, or when fetching fails.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    found = HUB_ID.fullmatch(str(name))
    if found is None or folder.exists():
        raise UserError(f"{name} is no folder; expected a checkpoint folder or a hub id like owner/name")
    repo, inside = found.groups()
    try:
        from huggingface_hub import snapshot_download

        root = snapshot_download(repo, allow_patterns=[f"{inside}/{p}" for p in WANTED] if inside else WANTED)
    except Exception as error:  # the hub's errors share no base class
        raise UserError(f"{name} is no folder here, and the hub did not give it ({reason_of(error)}); expected a checkpoint "
                        "folder; download it and give its path") from error  # fmt: skip
    folder = Path(root) / inside if inside else Path(root)
    if not folder.is_dir():
        raise UserError(f"{repo} has no folder {inside}; expected one of its folders")
    return folder


def beside(folder: Path, name: str) -> Path | None:
    """The folder `name` inside a checkpoint folder, next to it or next to its parent; None when there is none."""
    folder = folder.resolve()
    places = (folder / name, folder.parent / name, folder.parent.parent / name)
    return next((place for place in places if place.is_dir()), None)


def read_json(path: Path) -> dict:
    """The JSON object in a file; UserError when it is missing or is none."""
    if not path.is_file():
        raise UserError(f"{path.parent} has no {path.name}; expected a checkpoint folder that has one")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); expected a JSON object; fetch it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}; expected a JSON object")
    return content


def said_classes(config: dict) -> list[str]:
    """The model that a config.json says it is of, in `_class_name` (Show-o's files), or in `architectures` and
    `model_type` (transformers'); empty when it says nothing."""
    said = [config.get("_class_name"), *(config.get("architectures") or []), config.get("model_type")]
    return [str(name) for name in said if name]


def read_config(folder: Path, *classes: str) -> dict:
    """`config.json` of a checkpoint of one of the classes, spelled in any case (see `said_classes`). A file that says
    nothing is taken as it is. UserError when it is of another model."""
    config = read_json(folder / "config.json")
    said = said_classes(config)
    if said and not {name.lower() for name in said} & {name.lower() for name in classes}:
        raise UserError(f"{folder / 'config.json'} is of the model {said[0]}; expected {' or '.join(classes)}; give that "
                        "model's folder")  # fmt: skip
    return config


def whole_number(config: dict, name: str, where: Path, default: int | None = None) -> int:
    """A positive whole number of a configuration; UserError when it is missing without default, or is none."""
    value = config.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"{where / 'config.json'} gives {name} as {value!r}; expected a whole number above 0")
    return value


def load_words(source: object, entries: int):
    """The text tokenizer, with exactly `entries` entries, and a token each for the beginning and the end of a text.

    source: folder or hub id, read by transformers' AutoTokenizer; or a ready tokenizer: `len(it)` entries,
    `bos_token_id`, `eos_token_id`, and `it([text])["input_ids"]` without any token added. UserError otherwise.
    """
    if isinstance(source, str | Path):
        from transformers import AutoTokenizer

        try:
            words = AutoTokenizer.from_pretrained(str(source))
        except Exception as error:  # OSError, ValueError, KeyError and others, by the kind of damage
            raise UserError(f"{source} holds no tokenizer that can be read ({reason_of(error)}); expected the one of "
                            "microsoft/phi-1_5; give its folder as words=...") from error  # fmt: skip
    else:
        words = source
    if len(words) != entries:
        raise UserError(f"the tokenizer has a base vocabulary of {len(words)} entries; expected {entries}, as in "
                        "microsoft/phi-1_5 before Show-o's own tokens are added; give that one")  # fmt: skip
    if words.bos_token_id is None or words.eos_token_id is None:
        raise UserError(
            "the tokenizer has no token for the beginning or the end of a text; expected <|endoftext|> as both"
        )
    return words


def number_format(dtype: torch.dtype | str) -> torch.dtype:
    """float32, bfloat16 or float16, by its name too ("bf16", "fp16", "fp32"). UserError for anything else."""
    chosen = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if chosen not in DTYPES.values():
        raise UserError(f"dtype is {dtype}; expected float32, bfloat16 or float16")
    return chosen


# ----- weights -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Weights:
    """The tensors of a checkpoint folder: shape and file of each. Nothing is read before `tensors`."""

    folder: Path
    shapes: dict[str, tuple[int, ...]]
    files: dict[str, Path]

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor), one after the other, each with memory of its own."""
        for file in dict.fromkeys(self.files.values()):
            names = [name for name, place in self.files.items() if place == file]
            if file.suffix == ".bin":
                state = _read_bin(file, "cpu")
                yield from ((name, state.pop(name).clone()) for name in names)
                continue
            for name in names:  # opened anew each time: pages of the file that were read can be let go
                with safe_open(file, framework="pt") as opened:
                    tensor = opened.get_tensor(name).clone()
                yield name, tensor


def open_weights(folder: Path) -> Weights:
    """The weights of a folder: one file or the shards that an index lists, safetensors before `.bin`.

    UserError when there are none, when a shard is missing, or when a file is damaged or is a pickle with more than
    tensors in it.
    """
    names = [stem + ending for ending in ENDINGS for stem in STEMS]
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES)
        which = f" but {pickles[0]}, a pickle, which can run code," if pickles else ""
        raise UserError(f"{folder} has no weights{which}; expected {names[0]}, its shards with {names[3]}, or "
                        f"{names[6]}; fetch the checkpoint again")  # fmt: skip
    files = _shards(found) if found.suffix == ".json" else [found]
    shapes, places = {}, {}
    for file in files:
        for name, shape in _shapes(file).items():
            if name in shapes:
                raise UserError(f"{file} and {places[name]} both hold the tensor {name}; expected it once")
            shapes[name], places[name] = shape, file
    return Weights(folder, shapes, places)


def _shards(index: Path) -> list[Path]:
    """The files that an index lists; UserError when it lists none or one is missing."""
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise UserError(f"{index} lists no shards; expected a weight_map of tensor names and files")
    names = sorted(set(map(str, listed.values())))
    missing = [name for name in names if Path(name).name != name or not (index.parent / name).is_file()]
    if missing:
        raise UserError(f"{index.parent} lacks the shard {missing[0]} ({len(missing)} of {len(names)} that {index.name} "
                        "lists); expected all of them; fetch the checkpoint again")  # fmt: skip
    return [index.parent / name for name in names]


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    if file.suffix == ".bin":
        return {name: tuple(tensor.shape) for name, tensor in _read_bin(file, "meta").items()}
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{file} is damaged or truncated ({reason_of(error)}); expected a safetensors file; fetch it again"
        ) from error


def _read_bin(file: Path, device: str) -> dict[str, Tensor]:
    """Tensors of a `.bin` file by name; on "meta" their shapes alone. Mapped, not read, where the file allows it."""
    try:
        try:
            state = torch.load(file, map_location=device, weights_only=True, mmap=True)
        except RuntimeError:  # written before torch 1.6, cannot be mapped; a damaged one fails here again
            state = torch.load(file, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{file} is a pickle with more than tensors in it, or is damaged, and was not opened; expected a dict "
                        "of names and tensors; use the safetensors file") from error  # fmt: skip
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise UserError(
            f"{file} is damaged or truncated ({reason_of(error)}); expected a whole file; fetch it again"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise UserError(f"{file} holds more than a dict of names and tensors; expected nothing else")
    return state


Rename = Callable[[str], str | None]


def by_prefix(*rules: tuple[str, str]) -> Rename:
    """A key map: the first rule (prefix there, prefix here) that fits renames; a name without a rule stays."""

    def rename(name: str) -> str:
        return next((ours + name[len(theirs) :] for theirs, ours in rules if name.startswith(theirs)), name)

    return rename


def fill(
    module: nn.Module, weights: Weights, dtype: torch.dtype, device: torch.device | str = "cpu",
    rename: Rename = str,
) -> None:  # fmt: skip
    """Puts the tensors of a checkpoint into a module whose own are on the meta device.

    rename: name in the files to name in the module, None for a tensor to leave out. Floats become `dtype`. Names and
    shapes are all compared first: UserError when one is missing, left over or of another shape.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    _check_names(weights, expected, rename)
    for name, tensor in weights.tensors():
        goal = rename(name)
        if goal is None:
            continue
        tensor = tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)
        path, _, leaf = goal.rpartition(".")
        owner = module.get_submodule(path)
        if leaf in owner._parameters:
            owner._parameters[leaf] = nn.Parameter(tensor)
        else:
            owner._buffers[leaf] = tensor


def _check_names(weights: Weights, expected: dict[str, tuple[int, ...]], rename: Rename) -> None:
    theirs: dict[str, str] = {}
    extra = []
    for name in weights.shapes:
        goal = rename(name)
        if goal is None:
            continue
        if goal not in expected or goal in theirs:
            extra.append(name)
        theirs.setdefault(goal, name)
    missing = [name for name in expected if name not in theirs]
    if missing or extra:
        parts = [_named(missing, "missing")] * bool(missing) + [_named(extra, "left over")] * bool(extra)
        raise UserError(f"the weights in {weights.folder} have {' and '.join(parts)}; expected exactly the "
                        f"{len(expected)} tensors of this model; check that the folder is of this model and whole")  # fmt: skip
    for goal, name in theirs.items():
        if weights.shapes[name] != expected[goal]:
            raise UserError(f"{name} in {weights.folder} has shape {list(weights.shapes[name])}; expected "
                            f"{list(expected[goal])}; config.json and weights are of different models")  # fmt: skip


def _named(names: list[str], what: str) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} tensor{'s' * (len(names) > 1)} {what} ({', '.join(names[:3])}{more})"
