"""Checkpoints: `config.json` + `model.safetensors` (fp16) + `card.json`, never pickles.

The card says how the file was made (command, seed, minutes, date, metrics) and holds the SHA-256 of the weights;
loading compares it, so a truncated or exchanged file is refused before it draws anything wrong.

A tuned model may be kept as a change: only the tensors that differ from its base's, and the base's folder name and
hash on the card. Loading puts both together; the base lies beside it or among the shipped data.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from cotlib.assets import data_dir
from cotlib.errors import UserError

Module = TypeVar("Module", bound=nn.Module)
WEIGHTS = "model.safetensors"


def file_hash(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_checkpoint(
    folder: Path | str, module: nn.Module, config: object, card: dict, base: Path | str | None = None
) -> None:
    """Writes weights (floats as fp16), the configuration dataclass and the card with the weights' hash.

    base: folder of a checkpoint; only tensors that differ from its own are written then.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().cpu() for k, v in module.state_dict().items()}
    state = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in state.items()}
    if base is not None:
        theirs = load_file(Path(base) / WEIGHTS)
        state = {k: v for k, v in state.items() if k not in theirs or not torch.equal(v, theirs[k])}
        card = {**card, "base": {"folder": Path(base).name, "sha256": file_hash(Path(base) / WEIGHTS)}}
    save_file(state, folder / WEIGHTS)
    (folder / "config.json").write_text(json.dumps(asdict(config), indent=1) + "\n", encoding="utf-8")
    facts = {
        "sha256": file_hash(folder / WEIGHTS),
        "date": date.today().isoformat(),
        "torch": torch.__version__,
    }
    parameters = sum(p.numel() for p in module.parameters())
    card = {**facts, "parameters": parameters, **card}
    (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def load_checkpoint(folder: Path | str, build: Callable[[dict], Module], device: str = "cpu") -> Module:
    """Builds the module from `config.json` and loads fp32 weights in eval mode. UserError when anything is off."""
    folder = Path(folder)
    for name in ("config.json", WEIGHTS, "card.json"):
        if not (folder / name).is_file():
            raise UserError(f"{folder} has no {name}; expected a checkpoint folder with config.json, {WEIGHTS} and "
                            "card.json; give another folder or train it with `python -m cotlib train`")  # fmt: skip
    card = read_card(folder)
    found = file_hash(folder / WEIGHTS)
    if found != card.get("sha256"):
        raise UserError(f"{folder / WEIGHTS} has hash {found[:12]}..., its card says {str(card.get('sha256'))[:12]}...; "
                        "the file is truncated or was exchanged; fetch it again")  # fmt: skip
    try:
        module = build(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        state = {**_base_state(folder, card), **load_file(folder / WEIGHTS)}
        module.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    except (TypeError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{folder} does not hold a {build.__qualname__.split('.')[0]}: {reason}; "
                        "expected the checkpoint of that model; give its folder") from error  # fmt: skip
    return module.eval().to(device)


def base_folder(folder: Path | str) -> Path | None:
    """Folder of the checkpoint that this one is a change of; None for a whole one.

    UserError when the base is missing or has other weights.
    """
    base = read_card(folder).get("base")
    return None if base is None else _find_base(Path(folder), base)


def _find_base(folder: Path, base: dict) -> Path:
    places = [Path(folder).resolve().parent / base["folder"], data_dir() / base["folder"]]
    for place in places:
        if (place / WEIGHTS).is_file() and file_hash(place / WEIGHTS) == base["sha256"]:
            return place
    raise UserError(f"{folder} is a change of {base['folder']} with hash {base['sha256'][:12]}..., which is neither beside "
                    f"it nor in {data_dir()}; put that checkpoint there")  # fmt: skip


def _base_state(folder: Path, card: dict) -> dict[str, torch.Tensor]:
    return load_file(_find_base(folder, card["base"]) / WEIGHTS) if "base" in card else {}


def weights_hash(folder: Path | str) -> str:
    """The hash of a checkpoint's weights, from its card; UserError as in `read_card`."""
    return read_card(folder)["sha256"]


def read_card(folder: Path | str) -> dict:
    """The card of a checkpoint folder; UserError when it cannot be read."""
    try:
        return json.loads((Path(folder) / "card.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder}/card.json cannot be read ({error}); expected the checkpoint's card"
        ) from error
