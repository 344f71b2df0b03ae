"""An upper bound, not a method: reflections from the exact judge, who knows the answer.

It shows what a correction could do if verdict, words and places were never wrong.
"""

from torch import Tensor

from cotlib.interfaces import REFLECT, Verifier
from cotlib.judging.pictogram import DetectorJudge
from cotlib.judging.rules import judge_detections
from cotlib.verifying.faults import to_words
from cotlib.verifying.reflection import Reflection
from cotlib.verifying.repair import find_faults, things_of
from cotlib.world.prompts import parse_prompt


class ExactReflections:
    """The reflections of a judge; all other questions are answered by `verifier`, where one is given."""

    def __init__(self, judge: DetectorJudge, verifier: Verifier | None = None):
        self.judge, self.verifier = judge, verifier
        self.questions = (REFLECT,) if verifier is None else verifier.questions
        self.ask_from = getattr(verifier, "ask_from", 0)
        self.thresholds = getattr(verifier, "thresholds", (0.5, 0.5))

    def ask(self, question: str, prompts: list[str], images: Tensor) -> Tensor:
        """P(yes) [B] of the verifier itself."""
        return self.verifier.ask(question, prompts, images)

    def reflect(self, prompts: list[str], images: Tensor) -> list[Reflection]:
        """The judge's verdict on each picture, and its faults by the rule of `verifying.repair`."""
        return [
            self._about(parse_prompt(p), found)
            for p, found in zip(prompts, self.judge.detect(images), strict=True)
        ]

    def _about(self, metadata: dict, found: list) -> Reflection:
        things = things_of(found, metadata["tag"])
        if judge_detections(metadata, found).correct:
            return Reflection(True, " ".join(to_words(())), seen=things)
        faults = find_faults(metadata, things)
        return Reflection(False, " ".join(to_words(faults)) if faults else "", faults, seen=things)
