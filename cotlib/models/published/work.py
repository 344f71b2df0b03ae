"""How many operations a search of the published models takes, by part, and what they would take on a card at an *assumed* speed.

    parm(Crew(SHOWO_256, LLAVA_7B), first_clear=10, rejected=0.5).verifier / 1e12      TFLOP of one prompt

Operations are counted, seconds are counted operations over an assumption: a share of what a card's data sheet promises. They
are a rule of thumb and no measurement.
"""

from dataclasses import dataclass

from cotlib.decoding.ratios import masked_left
from cotlib.errors import UserError
from cotlib.interfaces import CLARITY, FINAL, POTENTIAL
from cotlib.models.published.memory import ASKED, Crew
from cotlib.models.published.sizes import magvit_flops

SHARE = 0.35  # assumed: part of a card's data sheet speed that matrix products reach over a whole run


@dataclass(frozen=True)
class Card:
    """A GPU by NVIDIA's data sheet (A100 and H200: the SXM forms). gb: 10^9 bytes; half: TFLOP/s of its tensor cores in half
    precision, without sparsity; full: TFLOP/s in float32, without tensor cores."""

    name: str
    gb: float
    half: float
    full: float


CARDS = (Card("T4", 16, 65, 8.1), Card("L4", 24, 121, 30.3), Card("A100", 80, 312, 19.5), Card("H200", 141, 989, 67))  # fmt: skip


@dataclass(frozen=True)
class Work:
    """FLOP of one prompt by part, and how often something is asked or decoded."""

    generator: float
    decoder: float
    verifier: float
    asked: dict[str, float]
    decodes: float

    @property
    def total(self) -> float:
        """FLOP of all parts."""
        return self.generator + self.decoder + self.verifier

    def seconds(self, card: Card, share: float = SHARE) -> float:
        """Seconds at an *assumed* share of the card's data sheet speed; the decoder in float32."""
        return ((self.generator + self.verifier) / card.half + self.decoder / card.full) / (share * 1e12)


def best_of_n(crew: Crew) -> Work:
    """n paths to their ends, FINAL asked of each; the first step runs once for all."""
    return parm(crew, crew.generator.layout.steps, 0.0, questions=False)


def parm(crew: Crew, first_clear: int, rejected: float, ask_from: int = 1, questions: bool = True, stop: bool = True) -> Work:  # fmt: skip
    """PARM when all paths are clear for the first time after step `first_clear` (from 1) and a share `rejected` of them is not
    promising.

    ask_from: the first step after which CLARITY is asked. stop: rejected paths stop; otherwise they are drawn on, as in the
    released code. UserError for steps or a share that cannot be.
    """
    g, v, n = crew.generator, crew.verifier, crew.n
    steps = g.layout.steps
    if not 1 <= ask_from <= first_clear <= steps or not 0 <= rejected <= 1:
        raise UserError(f"asked from step {ask_from}, clear at {first_clear}, rejected {rejected}; expected 1 <= asked from <= "
                        f"clear <= {steps} and a share from 0 to 1")  # fmt: skip
    left = n * (1 - rejected)
    masked = [g.layout.tokens]
    for step in range(steps - 1):
        masked.append(masked_left(step, steps, g.layout.tokens, masked[-1]))
    alive = [1.0] + [float(n)] * (first_clear - 1) + [left if stop else float(n)] * (steps - first_clear)
    guided = g.layout.guidance > 0
    drawn = sum(
        rows * g.step_flops(crew.text, hidden, guided) for rows, hidden in zip(alive, masked, strict=True)
    )
    asked = {CLARITY: n * (first_clear - ask_from + 1.0), POTENTIAL: float(n), FINAL: left} if questions else {FINAL: left}  # fmt: skip
    decodes = asked.get(CLARITY, 0.0) + left
    seen = v.patches + 1 if v else 0
    cost = {} if v is None else {
        FINAL: v.flops(seen + ASKED[FINAL]), CLARITY: v.flops(seen + ASKED[CLARITY]),
        POTENTIAL: v.flops(ASKED[POTENTIAL], before=seen + ASKED[CLARITY]),
    }  # fmt: skip
    judged = sum(times * cost[question] for question, times in asked.items()) if v else 0.0
    return Work(drawn, decodes * magvit_flops(crew.magvit, g.layout.tokens), judged, asked, decodes)
