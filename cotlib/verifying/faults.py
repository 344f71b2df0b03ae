"""Faults and their words: the small language in which a reflection speaks.

    missing cat            missing two cat            missing red cat
    wrong dog should cat   wrong blue dog should red   wrong blue dog should red cat   wrong three dog should cat
    extra one bird         extra two bird              extra blue dog
    move cup left of clock

Nouns stay singular, a number is only said above one (but always with "extra", where no colour is). Several faults
follow each other without a word between. At most 14 words are said; the rest waits for the next round.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cotlib.models.verifier import ACCEPT, MAX_WORDS
from cotlib.world.prompts import NUMBERS
from cotlib.world.scenes import CLASSES, COLORS, RELATIONS

_NUMBER = {"one": 1, **NUMBERS}
_WORD = {number: word for word, number in _NUMBER.items()}
KINDS = ("missing", "wrong", "extra", "move")


@dataclass(frozen=True)
class Fault:
    """One thing to change. kind: "missing", "wrong", "extra" or "move".

    cls, color, count: the things concerned: those to add (missing), those seen (wrong, extra), the one to move.
    to_cls, to_color: what a wrong thing should be (at least one of them). relation, target: where to move to.
    """

    kind: str
    cls: str
    color: str | None = None
    count: int = 1
    to_cls: str | None = None
    to_color: str | None = None
    relation: str | None = None
    target: str | None = None

    def words(self) -> tuple[str, ...]:
        """The fault in words; `parse_words` reads them back."""
        number = [_WORD[self.count]] if self.count > 1 or (self.kind == "extra" and not self.color) else []
        named = [*number, *([self.color] if self.color else []), self.cls]
        match self.kind:
            case "wrong":
                named += ["should", *(word for word in (self.to_color, self.to_cls) if word)]
            case "move":
                named += [*self.relation.split(), self.target]
        return (self.kind, *named)


def to_words(faults: Sequence[Fault]) -> tuple[str, ...]:
    """The words of a refusal: as many whole faults, in order, as fit into 14 words. ("yes",) when there are none."""
    words: tuple[str, ...] = ()
    for fault in faults:
        if len(words) + len(fault.words()) > MAX_WORDS:
            break
        words += fault.words()
    return words if faults else (ACCEPT,)


def parse_words(words: Sequence[str]) -> tuple[tuple[Fault, ...], tuple[str, ...]]:
    """(faults, rest): the faults read from the left, and the words from the first one on that makes no sense."""
    faults, rest = [], tuple(words)
    while rest:
        fault, used = _one(rest)
        if fault is None:
            break
        faults.append(fault)
        rest = rest[used:]
    return tuple(faults), rest


class _Reader:
    """Takes words from the left, each only if it is of the kind asked for."""

    def __init__(self, words: Sequence[str]):
        self.words, self.used = words, 0

    def take(self, among: Sequence[str]) -> str | None:
        if self.used < len(self.words) and self.words[self.used] in among:
            self.used += 1
            return self.words[self.used - 1]
        return None

    def relation(self) -> str | None:
        """One of the four relations, of one word or of two."""
        for name in RELATIONS:
            parts = name.split()
            if list(self.words[self.used : self.used + len(parts)]) == parts:
                self.used += len(parts)
                return name
        return None


def _one(words: Sequence[str]) -> tuple[Fault | None, int]:
    """The first fault of the words and how many words it took; (None, 0) when they begin with none."""
    reader = _Reader(words)
    kind = reader.take(KINDS)
    number = reader.take(tuple(_NUMBER)) if kind != "move" else None
    color = reader.take(COLORS) if kind != "move" else None
    cls = reader.take(CLASSES)
    if kind is None or cls is None:
        return None, 0
    fault = Fault(kind, cls, color, _NUMBER[number or "one"])
    if kind == "wrong":
        said = reader.take(("should",))
        to_color, to_cls = reader.take(COLORS), reader.take(CLASSES)
        if said is None or (to_color is None and to_cls is None):
            return None, 0
        fault = Fault(kind, cls, color, fault.count, to_cls, to_color)
    if kind == "move":
        relation, target = reader.relation(), reader.take(CLASSES)
        if relation is None or target is None:
            return None, 0
        fault = Fault(kind, cls, relation=relation, target=target)
    return fault, reader.used
