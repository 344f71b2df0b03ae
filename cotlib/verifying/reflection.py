"""A reflection: what a verifier says about a finished picture, and what of it can be acted on.

The words come from the network alone, so they can be wrong in form or in fact. The rule for that, in one place:

1. What cannot be read as a fault is dropped, with everything after it.
2. A fault must ask for something the prompt asks for, and speak of a thing that is in the prompt or was seen by the
   verifier's own eye (`PictogramVerifier.see`); other faults are dropped.
3. Each thing dropped leaves one plain sentence in `flags`. A refusal without any fault left is a plain "no": draw
   again, there is nothing to repair.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

from cotlib import interfaces
from cotlib.interfaces import Detection
from cotlib.models.verifier import ACCEPT, PictogramVerifier
from cotlib.verifying.faults import Fault, parse_words
from cotlib.verifying.repair import find_faults, things_of
from cotlib.world.prompts import parse_prompt
from cotlib.world.scenes import Thing


@dataclass(frozen=True)
class Reflection(interfaces.Reflection):
    """accepted: nothing is to be changed. words: as said. faults: what can be acted on. flags: what was dropped.
    seen: the things in the picture, as the verifier's eye sees them, on the grid of places."""

    faults: tuple[Fault, ...] = ()
    flags: tuple[str, ...] = ()
    seen: tuple[Thing, ...] = ()


class LearnedVerifier(PictogramVerifier):
    """The network together with the meaning of its words: everything that a strategy asks of a verifier."""

    def reflect(self, prompts: list[str], images: Tensor) -> list[Reflection]:
        """The reflection on each picture [B, 3, 64, 64]; UserError when it was not trained for REFLECT."""
        spoken = self.say(prompts, images)
        rows = zip(spoken, prompts, self.see(images), strict=True)
        return [understand(words, parse_prompt(prompt), seen) for words, prompt, seen in rows]

    def faulty(self, prompts: list[str], images: Tensor) -> list[bool]:
        """The second opinion of its eye: whether what it sees in each picture has a fault, by the rule of
        `verifying.repair` and without any word or P(yes)."""
        metadatas = [parse_prompt(prompt) for prompt in prompts]
        return [bool(find_faults(m, things_of(seen, m["tag"])))
                for m, seen in zip(metadatas, self.see(images), strict=True)]  # fmt: skip


def understand(words: Sequence[str], metadata: dict, seen: Iterable[Detection]) -> Reflection:
    """Words about a picture of the prompt in which `seen` was seen, read by the rule above."""
    words, text, seen = tuple(words), " ".join(words), list(seen)
    things = things_of(seen, metadata["tag"])
    if words == (ACCEPT,):
        return Reflection(True, text, seen=things)
    faults, rest = parse_words(words)
    flags = [f'"{" ".join(rest)}" cannot be read as a fault.'] if rest or not words else []
    wanted = {clause["class"]: clause for clause in metadata["include"]}
    there = {d.cls for d in seen} | set(wanted)
    kept = []
    for fault in faults:
        problem = _problem(fault, wanted, there)
        if problem:
            flags.append(f'"{" ".join(fault.words())}": {problem}.')
        else:
            kept.append(fault)
    return Reflection(False, text, tuple(kept), tuple(flags), things)


def _problem(fault: Fault, wanted: dict[str, dict], there: set[str]) -> str | None:
    """Why a fault cannot be acted on, or None. wanted: the prompt's clauses by class; there: classes seen or wanted."""
    if fault.cls not in there:
        return f"no {fault.cls} was seen and none was asked for"
    if fault.kind == "extra":
        return None
    goal, color = fault.cls, fault.color
    if fault.kind == "wrong":
        goal, color = fault.to_cls or fault.cls, fault.to_color
    if goal not in wanted:
        return f"nobody asked for a {goal}"
    if color is not None and wanted[goal].get("color") != color:
        return f"nobody asked for a {color} {goal}"
    if fault.kind == "move" and fault.relation not in _relations(fault, wanted):
        return f"nobody asked for a {fault.cls} {fault.relation} a {fault.target}"
    return None


def _relations(fault: Fault, wanted: dict[str, dict]) -> set[str]:
    """The relations that the prompt asks for between the classes a fault names."""
    clause = wanted[fault.cls]
    if "position" not in clause or list(wanted)[clause["position"][1]] != fault.target:
        return set()
    return {clause["position"][0]}
