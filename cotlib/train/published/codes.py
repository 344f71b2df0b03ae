"""The user's pictures as MAGVIT-v2's codes, computed once and kept in the run's folder."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cotlib.errors import UserError
from cotlib.models.published.magvit import Magvit, prepare
from cotlib.several import gathered, rank, workers
from cotlib.train.published.data import PicturePair, open_rgb

CACHE = "codes.safetensors"
BLOCK = 512  # pictures, of all processes together, after which the cache is written
AT_ONCE = 16  # pictures that go through the network together


def pair_codes(
    pairs: Sequence[PicturePair], tokenizer: Magvit, side: int, resize: bool, folder: Path, made_by: object
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(chosen, rejected) codes, long [pairs, N] each.

    side: pixels of the model's pictures; others are refused, or with `resize` scaled and cut as Show-o does. made_by: what
    the tokenizer is known by; codes in the folder that another one made are not used. UserError for a picture that is no picture or of
    another size, and for a pair of pictures that are the same to the tokenizer.
    """
    where = {path: one.where for one in pairs for path in (one.rejected, one.chosen)}
    known = encode_all(where, tokenizer, side, resize, folder / CACHE, json.dumps([made_by, side, resize]))
    chosen, rejected = (torch.stack([known[path] for path in paths]).long()
                        for paths in ([one.chosen for one in pairs], [one.rejected for one in pairs]))  # fmt: skip
    same = (chosen == rejected).all(1).nonzero()
    if len(same):
        raise UserError(f"{pairs[int(same[0])].where} has two pictures that are the same to the tokenizer; expected two that differ; "
                        "leave the pair out")  # fmt: skip
    return chosen, rejected


def encode_all(
    where: dict[Path, str], tokenizer: Magvit, side: int, resize: bool, cache: Path, made_by: str
) -> dict[Path, Tensor]:  # fmt: skip
    """Codes, int16 [N], of pictures by path; what the cache has is not computed again, unless the file has changed since.

    where: path to its place in the user's file. With several processes each computes its share.
    """
    names = {path: _name(path) for path in where}
    have = _read(cache, made_by)
    todo = [path for path in where if names[path] not in have]
    for first in range(0, len(todo), BLOCK):
        mine = todo[first : first + BLOCK][rank() :: workers()]
        made = dict(
            zip([names[path] for path in mine], _encode(mine, where, tokenizer, side, resize), strict=True)
        )
        for part in gathered(made):
            have |= part
        if rank() == 0:
            _write(cache, made_by, have)
    return {path: have[name] for path, name in names.items()}


def _encode(
    paths: list[Path], where: dict[Path, str], tokenizer: Magvit, side: int, resize: bool
) -> list[Tensor]:
    codes = []
    for first in range(0, len(paths), AT_ONCE):
        pictures = [open_rgb(path, where[path]) for path in paths[first : first + AT_ONCE]]
        for path, picture in zip(paths[first:], pictures, strict=False):
            if not resize and picture.size != (side, side):
                raise UserError(f"{where[path]}: {path} has {picture.width} x {picture.height} pixels; expected {side} x {side}, as the "
                                "model draws; give pictures of that size, or have them scaled and cut with --set resize=true")  # fmt: skip
        codes += tokenizer.encode(prepare(pictures, side)).to("cpu", torch.int16)
    return codes


def _name(path: Path) -> str:
    """Path, size and time of a file."""
    said = path.stat()
    return f"{path} {said.st_size} {said.st_mtime_ns}"


def _read(cache: Path, made_by: str) -> dict[str, Tensor]:
    """The codes of a cache that the same tokenizer made; nothing where there is none or it is damaged."""
    try:
        with safe_open(cache, framework="pt") as opened:
            said = opened.metadata() or {}
            if said.get("made_by") != made_by:
                return {}
            return dict(zip(json.loads(said["names"]), opened.get_tensor("codes"), strict=True))
    except (OSError, SafetensorError, ValueError, KeyError):
        return {}


def _write(cache: Path, made_by: str, have: dict[str, Tensor]) -> None:
    said = {"made_by": made_by, "names": json.dumps(list(have))}
    save_file({"codes": torch.stack(list(have.values()))}, cache.with_suffix(".tmp"), metadata=said)
    cache.with_suffix(".tmp").replace(cache)
