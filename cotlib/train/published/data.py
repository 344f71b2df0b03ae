"""The user's files: questions with answers for LLaVA, pairs of pictures for Show-o, in the formats of the paper's data.

    LLaVA    [{"id": ..., "image": "a/b.png", "conversations": [{"from": "human", "value": "<image> ..."},
             {"from": "gpt", "value": "yes"}]}, ...]     PARM's potential question is a second pair of turns
    Show-o   {"prompt": "a photo of a red dog", "chosen": "a.png", "rejected": "b.png"}, one a line

Either may be a JSON list (.json), JSON lines (.jsonl), or a YAML file that names several with a share of each. Everything
is checked before any model is loaded: a mistake ends in one sentence with file and line (or entry) and costs nothing.
"""

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from PIL import Image

from cotlib.errors import UserError
from cotlib.models.published.files import reason_of
from cotlib.models.published.llava import MARKS

PICTURE = MARKS[0]  # "<image>"
ANSWERS = ("yes", "no", "Yes", "No")
MODES = ("RGB", "RGBA", "L", "LA", "P", "1")  # 8 bits, turned into RGB as the models' own code does


@dataclass(frozen=True)
class Dialogue:
    """A picture, and what is asked about it and answered, turn by turn; where: its place in the user's file."""

    picture: Path
    turns: tuple[tuple[str, str], ...]
    where: str


@dataclass(frozen=True)
class PicturePair:
    """Two pictures of one prompt, the first preferred; where: their place in the user's file."""

    prompt: str
    chosen: Path
    rejected: Path
    where: str


# ----- records -----------------------------------------------------------------------------------------------------


def read_records(file: Path | str, seed: int = 0) -> list[tuple[str, dict]]:
    """(place, JSON object) of all records of a .json, .jsonl or .yaml file, in order.

    The YAML form is LLaVA-NeXT's: {"datasets": [{"json_path": ..., "sampling_strategy": "all" | "first:N" | "end:N" |
    "random:N"}]} with N a number or a share such as 50%; paths are taken from its own folder; seed: of random shares.
    UserError when a file is missing, empty, malformed or not of these kinds.
    """
    file = Path(file)
    readers = {".json": _read_list, ".jsonl": _read_lines}
    if file.suffix in (".yaml", ".yml"):
        records = list(_read_yaml(file, seed))
    elif file.suffix in readers:
        records = list(readers[file.suffix](file))
    else:
        raise UserError(f"{file} ends in \"{file.suffix}\"; expected .json, .jsonl or .yaml")  # fmt: skip
    if not records:
        raise UserError(f"{file} holds no example; expected at least one")
    for where, record in records:
        if not isinstance(record, dict):
            raise UserError(f"{where} is a {type(record).__name__}; expected a JSON object")
    return records


def _text(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read ({reason_of(error)}); expected a file of examples") from error
    if not text.strip():
        raise UserError(f"{file} is empty; expected at least one example")
    return text


def _read_list(file: Path) -> Iterator[tuple[str, object]]:
    try:
        content = json.loads(_text(file))
    except json.JSONDecodeError as error:
        raise UserError(f"{file}, line {error.lineno}, column {error.colno}: {error.msg}; expected a JSON list of "
                        "examples")  from error  # fmt: skip
    if not isinstance(content, list):
        raise UserError(f"{file} holds a {type(content).__name__}; expected a JSON list of examples (one JSON object a line "
                        "goes into a file that ends in .jsonl)")  # fmt: skip
    for number, record in enumerate(content, 1):
        name = f" (id {record['id']})" if isinstance(record, dict) and "id" in record else ""
        yield f"{file}, entry {number}{name}", record


def _read_lines(file: Path) -> Iterator[tuple[str, object]]:
    for number, line in enumerate(_text(file).splitlines(), 1):
        if line.strip():
            try:
                yield f"{file}, line {number}", json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(
                    f"{file}, line {number}, column {error.colno}: {error.msg}; expected one JSON object a line"
                ) from error


def _read_yaml(file: Path, seed: int) -> Iterator[tuple[str, object]]:
    import yaml

    try:
        content = yaml.safe_load(_text(file))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{file}{line} is no YAML; expected a list of datasets") from error
    listed = content.get("datasets") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not all(
        isinstance(part, dict) and part.get("json_path") for part in listed
    ):
        raise UserError(f"{file} names no datasets; expected datasets: with a json_path each")
    for part in listed:
        own = file.parent / part["json_path"]
        if own.suffix not in (".json", ".jsonl"):
            raise UserError(f'{file} names {own}; expected files that end in .json or .jsonl')  # fmt: skip
        records = list(_read_list(own) if own.suffix == ".json" else _read_lines(own))
        yield from _share(records, str(part.get("sampling_strategy", "all")), file, seed)


def _share(records: list, strategy: str, file: Path, seed: int) -> list:
    kind, _, number = strategy.partition(":")
    try:
        if kind == "all":
            return records
        count = ceil(int(number[:-1]) * len(records) / 100) if number.endswith("%") else int(number)
        if kind in ("first", "end", "random") and count > 0:
            if kind == "random":
                records = random.Random(seed).sample(records, len(records))
            return records[-count:] if kind == "end" else records[:count]
    except ValueError:
        pass
    raise UserError(f'{file} has the sampling_strategy "{strategy}"; expected all, first:N, end:N or random:N with N a number '
                    "above 0, or a share such as 50%")  # fmt: skip


# ----- what the recipes take ---------------------------------------------------------------------------------------


def read_dialogues(file: Path | str, images: Path | str | None = None, seed: int = 0) -> list[Dialogue]:
    """The dialogues of a file in LLaVA's format; pictures lie in the folder `images`, by default the file's own.

    The picture's mark may stand anywhere in the first question; it is read first, then a space, then the text, as the
    verifiers are asked. UserError also for an answer that is neither yes nor no, and for a picture that is not there.
    """
    root = Path(file).parent if images is None else Path(images)
    made = [_dialogue(where, record, root) for where, record in read_records(file, seed)]
    require_files((one.picture, one.where) for one in made)
    return made


def _dialogue(where: str, record: dict, root: Path) -> Dialogue:
    said = record.get("conversations")
    if not isinstance(record.get("image"), str):
        raise UserError(f"{where} has the image {record.get('image')!r}; expected the path of one picture")
    turns = said if isinstance(said, list) else []
    roles = [turn.get("from") if isinstance(turn, dict) else None for turn in turns]
    if not turns or roles != ["human", "gpt"] * (len(turns) // 2):
        raise UserError(
            f"{where} has turns from {roles}; expected human and gpt by turns, a question and its answer each"
        )
    values = [turn.get("value") for turn in turns]
    if bad := [
        value for value in values if not isinstance(value, str) or not value.replace(PICTURE, "").strip()
    ]:
        raise UserError(f"{where} says {bad[0]!r}; expected a text in every turn")
    if values[0].count(PICTURE) != 1 or any(PICTURE in value for value in values[1:]):
        raise UserError(f"{where} has {sum(v.count(PICTURE) for v in values)} times {PICTURE}; expected it once, in the "
                        "first question")  # fmt: skip
    if bad := [value for value in values if any(mark in value for mark in MARKS[1:])]:
        raise UserError(
            f"{where} has a mark of the chat in {bad[0]!r}; expected a text without {', '.join(MARKS[1:])}"
        )
    answers = [value.strip() for value in values[1::2]]
    if bad := [answer for answer in answers if answer not in ANSWERS]:
        raise UserError(f'{where} answers "{bad[0]}"; expected yes or no (or Yes or No) and nothing else')
    questions = [value.replace(PICTURE, "").strip() for value in values[::2]]
    return Dialogue(root / record["image"], tuple(zip(questions, answers, strict=True)), where)


def read_pairs(file: Path | str, images: Path | str | None = None, seed: int = 0) -> list[PicturePair]:
    """The pairs of a file; pictures lie in the folder `images`, by default the file's own. UserError for a pair without prompt
    or picture, of one picture with itself, and for a picture that is not there."""
    root = Path(file).parent if images is None else Path(images)
    made = []
    for where, record in read_records(file, seed):
        for name in ("prompt", "chosen", "rejected"):
            if not isinstance(record.get(name), str) or not record[name].strip():
                raise UserError(
                    f"{where} has {record.get(name)!r} as {name}; expected prompt, chosen and rejected, a text each"
                )
        pair = PicturePair(record["prompt"], root / record["chosen"], root / record["rejected"], where)
        if pair.chosen == pair.rejected:
            raise UserError(f"{where} has the same picture as chosen and rejected; expected two")
        made.append(pair)
    require_files((picture, one.where) for one in made for picture in (one.chosen, one.rejected))
    return made


def require_files(pictures: Iterable[tuple[Path, str]]) -> None:
    """UserError for the first of (file, place) whose file is not there."""
    seen: set[Path] = set()
    for path, where in pictures:
        if path not in seen and not path.is_file():
            raise UserError(
                f"{where} names {path}, which is not there; expected a picture; give its folder with --images"
            )
        seen.add(path)


def open_rgb(path: Path, where: str) -> Image.Image:
    """The picture as RGB. Other pictures of 8 bits are converted, as at use; transparency is dropped. UserError for a file
    that is damaged or no picture, and for other kinds (16 bits, CMYK), whose conversion would not be exact."""
    try:
        with Image.open(path) as opened:
            opened.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(
            f"{where}: {path} cannot be read as a picture ({reason_of(error)}); expected PNG or JPEG"
        ) from error
    if opened.mode not in MODES:
        raise UserError(
            f"{where}: {path} is of mode {opened.mode}; expected a picture of 8 bits, RGB or grey; convert it"
        )
    if opened.mode == "P":  # a palette with transparency has no direct way
        return opened.convert("RGBA").convert("RGB")
    return opened.convert("RGB")
