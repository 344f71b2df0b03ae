"""The few interfaces that everything plugs into, and the records that travel between them.

Models know no loops, loops know no models, strategies know neither world nor concrete model: they meet here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from torch import Tensor

# The questions a verifier answers: is the picture right (ORM); is this state a good one (PRM); can the picture be
# judged yet, and can it still turn out right (PARM); what is wrong with it (PARM++).
FINAL, STEP, CLARITY, POTENTIAL, REFLECT = "FINAL", "STEP", "CLARITY", "POTENTIAL", "REFLECT"


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
    log_p: float [B, N], the plain log-probability of each code drawn in this step, 0 elsewhere.
    """

    index: int
    codes: Tensor
    masked: Tensor
    confidence: Tensor
    paths: Tensor
    log_p: Tensor | None = None


@dataclass
class Path:
    """One candidate of a search: its number, codes, scores by question, and the step it stopped at, if any.

    codes: long [N], final, or the full guess at the step it stopped. asked: the step of each score, from 0. kept:
    steps after which all others were dropped in its favour (PRM). A stopped path that had to be drawn to its end
    after all keeps its `stopped`.
    """

    number: int
    codes: Tensor | None = None
    scores: dict[str, list[float]] = field(default_factory=dict)
    stopped: int | None = None
    asked: dict[str, list[int]] = field(default_factory=dict)
    kept: list[int] = field(default_factory=list)

    def note(self, question: str, step: int, score: float) -> None:
        """Writes down one score and the step it was given at."""
        self.scores.setdefault(question, []).append(score)
        self.asked.setdefault(question, []).append(step)


class Row(NamedTuple):
    """One row of a running batch: a path and the prompt it belongs to."""

    prompt: str
    path: Path


@dataclass(frozen=True)
class Reflection:
    """What a verifier says about a picture: accepted or not, why not in words, and the faults in whatever form
    verifier and correction agree on."""

    accepted: bool
    words: str = ""
    faults: Any = ()


@dataclass(frozen=True)
class Round:
    """One picture of PARM++: its codes [N], and what was said of it.

    reflection: None when nobody was asked any more. spared: refused, but the second opinion found no fault, so it
    was kept.
    """

    codes: Tensor
    reflection: Reflection | None = None
    spared: bool = False


@dataclass
class Outcome:
    """Result of a strategy for a list of prompts: one chosen picture each, all paths, and the cost.

    images: float [prompts, 3, H, W] in 0..1; chosen: path number per prompt; paths: the paths of each prompt;
    ledger: `cotlib.search.ledger.Ledger`. ties: how many paths shared the best score, per prompt (1 is no tie).
    rounds: the chosen picture and its corrections, per prompt (PARM++).
    """

    images: Tensor
    chosen: list[int]
    paths: list[list[Path]]
    ledger: Any
    ties: list[int] = field(default_factory=list)
    rounds: list[list[Round]] = field(default_factory=list)


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
    """A learned model that answers questions about a prompt and a picture; deterministic and batched."""

    @property
    def questions(self) -> tuple[str, ...]:
        """The questions it was made for. It may also have `ask_from`, the first step at which CLARITY is worth
        asking, `thresholds`, the P(yes) of CLARITY and POTENTIAL that PARM takes for yes, and `reflect` when REFLECT
        is among its questions."""
        ...

    def ask(self, question: str, prompts: list[str], images: Tensor) -> Tensor:
        """P(yes) [B] for FINAL, STEP, CLARITY or POTENTIAL."""
        ...

    def reflect(self, prompts: list[str], images: Tensor) -> list[Reflection]:
        """What is wrong with each picture, if anything."""
        ...


class Strategy(Protocol):
    """Many paths to one picture a prompt."""

    def __call__(
        self, model: ImageTokenModel, prompts: list[str], n: int, seed: int, ledger: Any
    ) -> Outcome: ...


StepHook = Callable[[Step, list[Row]], Tensor | None]
"""Called after each step with the rows that took it; returns bool [B], which of them go on, or None for all."""
