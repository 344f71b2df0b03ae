"""The few interfaces that everything plugs into, and the records that travel between them.

Models know no loops, loops know no models, strategies know neither world nor concrete model: they meet here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor


@dataclass(frozen=True)
class Detection:
    """One object seen in a picture: class, box (x0, y0, x1, y1 in pixels, y down), confidence 0..1, colour."""

    cls: str
    box: tuple[float, float, float, float]
    score: float
    color: str | None = None


@dataclass(frozen=True)
class Verdict:
    """A judge's answer: correct or not, and one plain sentence per clause of the prompt that failed."""

    correct: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """What is known after one step of the loop.

    index: step, from 0. codes: long [B, N], the full current guess (every token drawn, kept or not).
    masked: bool [B, N], tokens that will be drawn again. confidence: float [B, N], log-probability of each drawn
    code plus annealed Gumbel noise; infinite where the token was fixed before.
    paths: long [B], the path number of each row, so that rows stay traceable when some paths have stopped.
    """

    index: int
    codes: Tensor
    masked: Tensor
    confidence: Tensor
    paths: Tensor


@dataclass
class Path:
    """One candidate of a search: its number, final codes, scores by question, and the step it stopped at, if any."""

    number: int
    codes: Tensor | None = None
    scores: dict[str, list[float]] = field(default_factory=dict)
    stopped: int | None = None


@dataclass
class Outcome:
    """Result of a strategy for a list of prompts: one chosen picture each, all paths, and the cost.

    images: float [prompts, 3, H, W] in 0..1; chosen: path number per prompt; paths: the paths of each prompt;
    ledger: `cotlib.search.ledger.Ledger`.
    """

    images: Tensor
    chosen: list[int]
    paths: list[list[Path]]
    ledger: Any


class ImageTokenModel(Protocol):
    """Text to image codes to pictures. Shapes: B paths, N image tokens, V codes."""

    @property
    def grid(self) -> tuple[int, int]: ...

    @property
    def codebook_size(self) -> int: ...

    @property
    def mask_id(self) -> int: ...

    def prefix(self, prompts: list[str], guidance: float | None = None) -> Any:
        """Text keys and values, once per prompt, shared by all candidates and steps."""
        ...

    def logits(self, prefix: Any, codes: Tensor, rows: Tensor) -> Tensor:
        """[R, V] at the True places of `rows` [B, N] only, image codes only, guidance already combined."""
        ...

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, N] to pictures [B, 3, H, W] in 0..1."""
        ...


class Judge(Protocol):
    """Metadata in GenEval's form and pictures to verdicts."""

    def __call__(self, metadatas: list[dict], images: Tensor) -> list[Verdict]: ...


class Verifier(Protocol):
    """A learned model that answers a question about a prompt and a picture; deterministic and batched."""

    def ask(self, question: str, prompts: list[str], images: Tensor) -> Tensor:
        """P(yes) [B] for FINAL, STEP, CLARITY or POTENTIAL."""
        ...


class Strategy(Protocol):
    """Many paths to one picture a prompt."""

    def __call__(
        self, model: ImageTokenModel, prompts: list[str], n: int, seed: int, ledger: Any
    ) -> Outcome: ...


StepHook = Callable[[Step], Tensor | None]
"""Called after each step; returns bool [B], which rows go on, or None for all of them."""
