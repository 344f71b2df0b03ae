"""Prompts of GenEval's six tasks: their words, their metadata, the held-out split, and careless captions.

Metadata is GenEval's own JSON form (https://github.com/djghosh13/geneval): `tag`, `include` with class, count,
colour and position clauses, `exclude`, `prompt`. A position clause names the index of its target in `include`.

Held out by composition: a test or dev prompt always holds a pair of (object, colour) or a pair of (object, object)
that no training prompt contains, in any task. `single_object` and `counting` have no such pair; their prompts are
shared, as there are only 20 and 60 of them.

A held-out prompt with two colours is only used when the exchange of its colours is held out as well. Otherwise the
exchanged picture would be the only one that fits the training prompts, and a network that has learnt these well has
every reason to draw it (docs/LAB_BOOK.md has the measurement).
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np

from cotlib.assets import data_dir
from cotlib.errors import UserError
from cotlib.world.scenes import CLASSES, COLORS, OPPOSITE, RELATIONS, TASKS

NUMBERS = {"two": 2, "three": 3, "four": 4}
SPLITS = ("train", "dev", "test")
MAX_TEXT = 12  # tokens, with begin and end
BEGIN, END = "<begin>", "<end>"


def plural(cls: str) -> str:
    """Plural of a class name."""
    return cls + ("es" if cls.endswith(("s", "ch")) else "s")


def article(word: str) -> str:
    """ "a" or "an" for the word that follows."""
    return "an" if word[0] in "aeiou" and not word.startswith("u") or word == "umbrella" else "a"


VOCAB = (BEGIN, END, "a", "an", "photo", "of", "and", *NUMBERS, "left", "right", "above", "below",
         *COLORS, *CLASSES, *(plural(c) for c in CLASSES))  # fmt: skip
_IDS = {word: i for i, word in enumerate(VOCAB)}
_SINGULAR = {plural(c): c for c in CLASSES}


def encode(text: str) -> list[int]:
    """Token ids of a prompt with begin and end; the empty text gives just those two (the unconditional prompt).

    Raises UserError for a word outside the vocabulary and for more than 12 tokens.
    """
    words = text.lower().split()
    for word in words:
        if word not in _IDS or word in (BEGIN, END):
            raise UserError(f'the word "{word}" is not in the pictogram world; known objects: {", ".join(CLASSES)}; '
                            f'known colors: {", ".join(COLORS)}; use one of these')  # fmt: skip
    if len(words) + 2 > MAX_TEXT:
        raise UserError(f"the prompt has {len(words)} words; at most {MAX_TEXT - 2} fit; shorten it")
    return [_IDS[word] for word in (BEGIN, *words, END)]


def prompt_text(metadata: dict) -> str:
    """GenEval's wording of a prompt's metadata."""
    clauses = metadata["include"]
    if metadata["tag"] == "counting":
        number = {v: k for k, v in NUMBERS.items()}[clauses[0]["count"]]
        return f"a photo of {number} {plural(clauses[0]['class'])}"
    names = [_named(c) for c in clauses]
    if metadata["tag"] == "position":
        return f"a photo of {names[1]} {clauses[1]['position'][0]} {names[0]}"
    return "a photo of " + " and ".join(names)


def _named(clause: dict) -> str:
    words = f"{clause['color']} {clause['class']}" if "color" in clause else clause["class"]
    return f"{article(words)} {words}"


def single(cls: str) -> dict:
    """Metadata of "a photo of a dog"."""
    return _complete("single_object", [{"class": cls, "count": 1}])


def two(first: str, second: str) -> dict:
    """Metadata of "a photo of a dog and a cat"."""
    return _complete("two_object", [{"class": first, "count": 1}, {"class": second, "count": 1}])


def counting(cls: str, count: int) -> dict:
    """Metadata of "a photo of three dogs"; one more than `count` is excluded."""
    return _complete("counting", [{"class": cls, "count": count}], [{"class": cls, "count": count + 1}])


def colored(cls: str, color: str) -> dict:
    """Metadata of "a photo of a red dog"."""
    return _complete("colors", [{"class": cls, "count": 1, "color": color}])


def position(cls: str, relation: str, target: str) -> dict:
    """Metadata of "a photo of a dog left of a cat": as in GenEval, the target (cat) is the first clause."""
    placed = {"class": cls, "count": 1, "position": [relation, 0]}
    return _complete("position", [{"class": target, "count": 1}, placed])


def attributes(first: tuple[str, str], second: tuple[str, str]) -> dict:
    """Metadata of "a photo of a red dog and a blue cat" from two (class, colour) pairs."""
    return _complete("color_attr", [{"class": c, "count": 1, "color": k} for c, k in (first, second)])


def _complete(tag: str, include: list[dict], exclude: list[dict] | None = None) -> dict:
    metadata = {"tag": tag, "include": include} | ({"exclude": exclude} if exclude else {})
    return metadata | {"prompt": prompt_text(metadata)}


def parse_prompt(text: str) -> dict:
    """Metadata of a prompt in GenEval's wording ("a photo of" may be left out).

    Raises UserError: empty, unknown word, too long, or not of one of the six forms.
    """
    words = text.lower().replace(",", " ").rstrip(". ").split()
    if not words:
        raise UserError('the prompt is empty; expected something like "a photo of a red dog"')
    encode(" ".join(words))
    rest = words[3:] if words[:3] == ["a", "photo", "of"] else words
    match rest:
        case ["a" | "an", cls] if cls in CLASSES:
            return single(cls)
        case ["a" | "an", color, cls] if color in COLORS and cls in CLASSES:
            return colored(cls, color)
        case [number, name] if number in NUMBERS and name in _SINGULAR:
            return counting(_SINGULAR[name], NUMBERS[number])
        case ["a" | "an", a, "and", "a" | "an", b] if a in CLASSES and b in CLASSES and a != b:
            return two(a, b)
        case ["a" | "an", k, a, "and", "a" | "an", m, b] if (
            {k, m} <= set(COLORS) and {a, b} <= set(CLASSES) and a != b
        ):
            return attributes((a, k), (b, m))
        case ["a" | "an", a, *relation, "a" | "an", b] if (
            " ".join(relation) in RELATIONS and a in CLASSES and b in CLASSES and a != b
        ):
            return position(a, " ".join(relation), b)
    raise UserError(f'"{text}" is not of one of the six forms; expected for example "a photo of a dog", "a photo of '
                    'three dogs", "a photo of a red dog", "a photo of a dog and a cat", "a photo of a dog left of a '
                    'cat" or "a photo of a red dog and a blue cat"')  # fmt: skip


# ----- the held-out split ------------------------------------------------------------------------------------------


def color_split(cls: str, color: str) -> str:
    """Split of an (object, colour) pair: of each object's eight colours two are test, one is dev, five are train."""
    return {0: "test", 3: "test", 5: "dev"}.get((COLORS.index(color) - CLASSES.index(cls)) % 8, "train")


def pair_split(first: str, second: str) -> str:
    """Split of an unordered (object, object) pair: about a quarter is test, an eighth dev, the rest train."""
    return {1: "test", 4: "test", 6: "dev"}.get((CLASSES.index(first) + CLASSES.index(second)) % 8, "train")


def compositions(metadata: dict) -> list[str]:
    """Splits of every (object, object) and (object, colour) pair that a prompt contains, the objects' first."""
    clauses = metadata["include"]
    objects = [pair_split(clauses[0]["class"], clauses[1]["class"])] if len(clauses) == 2 else []
    return objects + [color_split(c["class"], c["color"]) for c in clauses if "color" in c]


def split_of(metadata: dict) -> str:
    """ "train" when all pairs of the prompt are training pairs, else the split of the first pair that is not."""
    return next((split for split in compositions(metadata) if split != "train"), "train")


def first_held_out(prompts: Iterable[str]) -> tuple[str, str] | None:
    """(prompt, split) of the first prompt with a pair that is kept for evaluation; None when all are training prompts."""
    for prompt in dict.fromkeys(prompts):
        held = [split for split in compositions(parse_prompt(prompt)) if split != "train"]
        if held:
            return prompt, held[0]
    return None


def _held_out_attributes(split: str) -> list[dict]:
    """Two-colour prompts whose objects are a pair of the split and whose four (object, colour) pairs are held out."""
    free = [(c, k) for c, k in product(CLASSES, COLORS) if color_split(c, k) != "train"]
    return [
        attributes((a, k), (b, m))
        for (a, k), (b, m) in product(free, free)
        if a != b and k != m and pair_split(a, b) == split and (a, m) in free and (b, k) in free
    ]


@cache
def prompt_pool(split: str, task: str) -> tuple[str, ...]:
    """All prompts of a task of the split (`single_object` and `counting`: every prompt)."""
    match task:
        case "single_object":
            pool = [single(c) for c in CLASSES]
        case "counting":
            pool = [counting(c, n) for c, n in product(CLASSES, NUMBERS.values())]
        case "colors":
            pool = [colored(c, k) for c, k in product(CLASSES, COLORS)]
        case "two_object":
            pool = [two(a, b) for a, b in product(CLASSES, CLASSES) if a != b]
        case "position":
            pool = [position(a, r, b) for a, r, b in product(CLASSES, RELATIONS, CLASSES) if a != b]
        case "color_attr" if split != "train":
            return tuple(m["prompt"] for m in _held_out_attributes(split))
        case "color_attr":
            pairs = list(product(CLASSES, COLORS))
            pool = [attributes(p, q) for p, q in product(pairs, pairs) if p[0] != q[0]]
        case _:
            raise UserError(f'unknown task "{task}"; expected one of {", ".join(TASKS)}')
    return tuple(m["prompt"] for m in pool if all(s == split for s in compositions(m)))


def sample_metadata(rng: np.random.Generator, split: str = "train", task: str | None = None) -> dict:
    """A random prompt of the split; the task is drawn evenly unless given."""
    pool = prompt_pool(split, task or TASKS[rng.integers(len(TASKS))])
    return parse_prompt(pool[rng.integers(len(pool))])


def choose_benchmark(split: str, counts: dict[str, int], seed: int = 0) -> list[dict]:
    """Distinct prompts of a split, `counts` per task (all of them where fewer exist), in a fixed random order."""
    rng = np.random.default_rng(seed)
    chosen = []
    for task, count in counts.items():
        pool = prompt_pool(split, task)
        chosen += [parse_prompt(pool[i]) for i in rng.permutation(len(pool))[:count]]
    return chosen


# ----- careless captions -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Carelessness:
    """How often each kind of fact is wrong in a caption; the default made the shipped base generator.

    Rates are high because guidance repairs milder noise by itself: at weight 1.5 a fact that is right in two
    of three captions is drawn right in five of six pictures.
    """

    cls: float = 0.25
    color: float = 0.26
    count: float = 0.35
    relation: float = 0.38


HONEST = Carelessness(0.0, 0.0, 0.0, 0.0)


def corrupt(rng: np.random.Generator, metadata: dict, noise: Carelessness) -> dict:
    """What was really in the picture that somebody captioned `metadata`: each fact is wrong at its rate.

    The mistakes are paired, as people's are: an object is taken for its partner in `CLASSES`, a colour for its
    partner in `COLORS`, a count is off by one (two for three, four for three), a relation is mirrored.
    """

    def partner(names: tuple[str, ...], name: str) -> str:
        return names[names.index(name) ^ 1]

    changed = []
    for clause in metadata["include"]:
        clause = dict(clause)
        if rng.random() < noise.cls:
            clause["class"] = partner(CLASSES, clause["class"])
        if "color" in clause and rng.random() < noise.color:
            clause["color"] = partner(COLORS, clause["color"])
        if metadata["tag"] == "counting" and rng.random() < noise.count:
            clause["count"] = {2: 3, 3: int(rng.choice([2, 4])), 4: 3}[clause["count"]]
        if "position" in clause and rng.random() < noise.relation:
            clause["position"] = [OPPOSITE[clause["position"][0]], clause["position"][1]]
        changed.append(clause)
    if len({c["class"] for c in changed}) < len(changed):
        return metadata  # two things of one class would be another task's prompt
    return {"tag": metadata["tag"], "include": changed}


# ----- prompt files ------------------------------------------------------------------------------------------------


def load_prompts(path: Path | str, check: Callable[[object], dict] | None = None) -> list[dict]:
    """Metadata of a JSON-lines file in GenEval's form; a line may also hold just {"prompt": "..."}.

    check: makes metadata of a line or refuses it; `check_metadata`, of this world's words, unless given. Raises UserError
    naming file and line for bad JSON, unknown classes or colours, and missing keys.
    """
    check = check or check_metadata
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); expected a JSON-lines file of prompts") from error
    prompts = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            prompts.append(check(json.loads(line)))
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}") from error
    if not prompts:
        raise UserError(f"{path} holds no prompt; expected one JSON object a line")
    return prompts


def check_metadata(entry: object) -> dict:
    """The entry as complete metadata; UserError says what is missing or unknown."""
    if not isinstance(entry, dict) or not isinstance(entry.get("prompt"), str):
        raise UserError('expected a JSON object with a text "prompt" (and GenEval\'s tag, include, exclude)')
    if "include" not in entry:
        return parse_prompt(entry["prompt"])
    if entry.get("tag") not in TASKS:
        raise UserError(f"unknown tag {entry.get('tag')!r}; expected one of {', '.join(TASKS)}")
    for key in ("include", "exclude"):
        clauses = entry.get(key, [])
        if not isinstance(clauses, list) or (key == "include" and not clauses):
            raise UserError(f"{key} is {clauses!r}; expected a list of clauses")
        for index, clause in enumerate(clauses):
            _check_clause(clause, index)
    encode(entry["prompt"])
    return entry


def _check_clause(clause: object, index: int) -> None:
    if not isinstance(clause, dict) or clause.get("class") not in CLASSES:
        raise UserError(f"clause {clause!r} has an unknown class; expected one of {', '.join(CLASSES)}")
    if clause.get("color", COLORS[0]) not in COLORS:
        raise UserError(f"unknown color {clause['color']!r}; expected one of {', '.join(COLORS)}")
    if not isinstance(clause.get("count"), int) or clause["count"] < 1:
        raise UserError(f"count is {clause.get('count')!r}; expected a whole number of at least 1")
    match clause.get("position", [RELATIONS[0], 0]):
        case [str(relation), int(target)] if relation in RELATIONS and 0 <= target < max(1, index):
            return
    raise UserError(f"position is {clause['position']!r}; expected one of {', '.join(RELATIONS)} and the index of an "
                    "earlier clause")  # fmt: skip


def benchmark(split: str = "test") -> list[dict]:
    """The shipped prompts: 300 of split "test", 120 of split "dev"."""
    return load_prompts(data_dir() / "prompts" / f"{split}.jsonl")


def write_benchmarks() -> None:
    """Writes `data/prompts/{test,dev}.jsonl`: the two prompt sets every result of the course refers to."""
    counts = {
        "single_object": 20,
        "counting": 50,
        "colors": 40,
        "two_object": 60,
        "position": 65,
        "color_attr": 65,
    }
    small = {
        "single_object": 20,
        "counting": 20,
        "colors": 20,
        "two_object": 20,
        "position": 20,
        "color_attr": 20,
    }
    for split, numbers in (("test", counts), ("dev", small)):
        lines = [json.dumps(m) for m in choose_benchmark(split, {t: numbers[t] for t in TASKS})]
        (data_dir() / "prompts" / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_benchmarks()
