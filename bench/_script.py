"""Verdicts written down beforehand, so that two forms of one search stop the same paths at the same steps.

Random weights answer anything. So each form asks the verifier, which costs what it costs, and what is then taken for its
answer stands in a table: each path's first clear step, whether it is kept, and its score in the end. First clear steps
are spread evenly over steps 8 to 12 of 18, where arXiv 2501.13926 (section 4) has them; how many are refused is up to
the caller.
"""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from cotlib.interfaces import CLARITY, FINAL, POTENTIAL
from cotlib.models.published.llava import LlavaVerifier

FIRST_CLEAR, LAST_CLEAR = 7, 11  # steps, from 0


class Script:
    """The table of one prompt's n paths, and a reading of it in the order in which a search asks.

    refused: share of the paths that are refused. runs: path numbers that are drawn together, one list after the other; all
    n at once unless given. ask_from: step, from 0, at which CLARITY is first asked. `asked` counts pictures by question.
    """

    def __init__(
        self, n: int, refused: float, runs: Sequence[Sequence[int]] | None = None, ask_from: int = 0
    ):
        steps, count = LAST_CLEAR - FIRST_CLEAR + 1, round(refused * n)
        self.clear = [FIRST_CLEAR + k * steps // n for k in range(n)]
        self.kept = [(k + 1) * count // n == k * count // n for k in range(n)]
        self.score = [(7 * k + 3) % n / n for k in range(n)]
        self.ask_from, self.asked = ask_from, Counter()
        self._runs = [list(run) for run in runs or [range(n)]]
        self._waiting: list[int] = []
        self._seen: list[int] = []
        self._shown: list[int] = list(range(n))  # FINAL sees them, in this order

    def verdicts(self, question: str, rows: int) -> list[float]:
        """P(yes) for the pictures that are shown now. ValueError when another number of them was due."""
        answers = {CLARITY: self._clarity, POTENTIAL: self._potential, FINAL: self._final}[question](rows)
        if len(answers) != rows:
            raise ValueError(f"{rows} pictures are shown with {question}; {len(answers)} were due")
        self.asked[question] += rows
        return answers

    def _clarity(self, _: int) -> list[float]:
        if not self._waiting:
            self._waiting, self._step = self._runs.pop(0), self.ask_from
        odds = [float(self.clear[k] <= self._step) for k in self._waiting]
        self._seen = [k for k, p in zip(self._waiting, odds, strict=True) if p]
        self._waiting = [k for k, p in zip(self._waiting, odds, strict=True) if not p]
        self._step += 1
        return odds

    def _potential(self, _: int) -> list[float]:
        if POTENTIAL not in self.asked:
            self._shown = [k for k, kept in enumerate(self.kept) if kept]
        return [float(self.kept[k]) for k in self._seen]

    def _final(self, rows: int) -> list[float]:
        mine, self._shown = self._shown[:rows], self._shown[rows:]
        return [self.score[k] for k in mine]


class ScriptedVerifier(LlavaVerifier):
    """LLaVA-OneVision that computes its answer and gives the script's."""

    script: Script

    def ask(self, question: str, prompts: list[str], images) -> Tensor:
        """P(yes) [B] by the script; see `LlavaVerifier.ask`."""
        self._odds, self._at = self.script.verdicts(question, len(prompts)), 0
        return super().ask(question, prompts, images)

    def read(self, question: str, logits: Tensor) -> Tensor:
        """The next rows of the script: with CLARITY these are read twice, to see what is worth remembering and for the
        answer."""
        start, self._at = self._at, (self._at + len(logits)) % len(self._odds)
        return torch.tensor(self._odds[start : start + len(logits)], device=logits.device)
