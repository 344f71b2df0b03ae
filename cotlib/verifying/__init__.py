"""Learned verifiers in use: what each question means, reflections in words and what they ask for, and how far the
answers can be trusted."""

from cotlib.verifying.calibration import reliability, report
from cotlib.verifying.faults import Fault, parse_words, to_words
from cotlib.verifying.questions import MEANING, step_question
from cotlib.verifying.reflection import LearnedVerifier, Reflection, understand
from cotlib.verifying.repair import find_faults, repair, things_of

__all__ = [
    "MEANING", "Fault", "LearnedVerifier", "Reflection", "find_faults", "parse_words", "reliability", "repair", "report",
    "step_question", "things_of", "to_words", "understand",
]  # fmt: skip
