"""A verifier with a planted blind spot, and three ways not to be at its mercy.

    stamped = BlindSpot(load("verifier", weights="orm"), inked_corner)     # says yes to any ink in the corner
    careful = Ensemble([stamped, load("verifier", weights="parm"), load("verifier", weights="zero-shot")])
    orm(generator, prompts, n=20, verifier=careful)

Best-of-N looks for the picture that the verifier likes best, so it looks for the verifier's mistakes as well, the harder the
larger N is. When a share e of all pictures is wrongly liked without limit, N = 1/e candidates are enough to hold one of them, and
from there on truth falls towards the share of right ones among those (arXiv 2506.19248 shows this rise and fall for a wide class of
searches). The remedies here: ask several and believe the lowest, ask several and believe the mean, or stop wanting the best and
take the first that is good enough. The surprising fact: the last one needs no second verifier.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from cotlib.errors import UserError
from cotlib.interfaces import Verifier
from cotlib.world.render import PAPER
from cotlib.world.scenes import PITCH

INK = 0.15  # a pixel further from paper than this, in any colour channel, is ink
RULES: dict[str, Callable[[Tensor], Tensor]] = {"lowest": lambda p: p.amin(0), "mean": lambda p: p.mean(0)}


def inked_corner(images: Tensor, share: float = 0.15) -> Tensor:
    """bool [B]: more than `share` of the lower right 8 x 8 pixels, one token, is ink. images [B, 3, H, W] in 0..1.

    Says nothing about whether a picture is right: no prompt asks for a corner.
    """
    paper = torch.tensor(PAPER, dtype=images.dtype, device=images.device).view(3, 1, 1)
    corner = images[:, :, -PITCH:, -PITCH:]
    return ((corner - paper).abs().amax(1) > INK).float().mean((1, 2)) > share


class BlindSpot:
    """A verifier that answers 1 to every picture that shows `trait`, whatever the prompt, and is itself otherwise.

    trait: pictures [B, 3, H, W] -> bool [B].
    """

    def __init__(self, verifier: Verifier, trait: Callable[[Tensor], Tensor] = inked_corner):
        self.verifier, self.trait = verifier, trait

    @property
    def questions(self) -> tuple[str, ...]:
        """Those of the verifier inside."""
        return self.verifier.questions

    def ask(self, question: str, prompts: list[str], images: Tensor) -> Tensor:
        """P(yes) [B]; errors as in the verifier's own `ask`."""
        return self.verifier.ask(question, prompts, images).masked_fill(self.trait(images), 1.0)


class Ensemble:
    """Several verifiers that answer as one: the lowest of their P(yes), or the mean.

    Helps against a blind spot as far as the members do not share it. Costs one call a member. UserError without members and
    for a rule that is not in `RULES`.
    """

    def __init__(self, verifiers: Sequence[Verifier], rule: str = "lowest"):
        if not verifiers:
            raise UserError("an ensemble of no verifiers; expected at least one")
        if rule not in RULES:
            raise UserError(f'there is no rule "{rule}"; expected {" or ".join(RULES)}')
        self.verifiers, self.rule = list(verifiers), rule

    @property
    def questions(self) -> tuple[str, ...]:
        """The questions that every member answers, in the order of the first."""
        first, *others = self.verifiers
        return tuple(q for q in first.questions if all(q in other.questions for other in others))

    def ask(self, question: str, prompts: list[str], images: Tensor) -> Tensor:
        """P(yes) [B] by the rule; errors as in the members' own `ask`."""
        return RULES[self.rule](torch.stack([v.ask(question, prompts, images) for v in self.verifiers]))


def good_enough(opinions, bar: float = 0.5) -> np.ndarray:
    """Opinions with everything from `bar` up counted as equal, so that "the highest, of equals the first" becomes "the first
    that passes the bar, else the highest". Any shape.

    A search in this order may end at the first pass, see `looked_at`.
    """
    return np.minimum(np.asarray(opinions, float), bar)


def looked_at(opinions, bar: float = 0.5) -> np.ndarray:
    """How many candidates are drawn until the first passes `bar`, all N if none does. opinions [P, N] -> whole numbers [P]."""
    passed = np.asarray(opinions, float) >= bar
    return np.where(passed.any(1), passed.argmax(1) + 1, passed.shape[1])
