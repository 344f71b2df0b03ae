"""The paper's form of correction: prompt, failed picture and reflection go in, and everything is drawn anew."""

from torch import Tensor

from cotlib.decoding import masked_rounds
from cotlib.interfaces import ImageTokenModel, Reflection
from cotlib.models.corrector import PictogramCorrector
from cotlib.search.ledger import Ledger
from cotlib.search.paths import advance, branches


class Anew:
    """A `Correct` for PARM++ after arXiv 2501.13926, section 5; see `load("correction")`.

    A reflection without words leaves it the prompt and the failed picture.
    """

    def __init__(self, corrector: PictogramCorrector):
        self.corrector = corrector

    def __call__(
        self, model: ImageTokenModel, prompts: list[str], codes: Tensor, reflections: list[Reflection],
        seed: int, round: int, *, ledger: Ledger, steps: int | None = None, guidance: float | None = None,
    ) -> Tensor:  # fmt: skip
        """Codes [B, N] of refused pictures to new ones. The failed picture's tokens count as one pass."""
        with ledger.timed("generator"):
            prefix = self.corrector.correction_prefix(
                prompts, codes, [r.words.split() for r in reflections], guidance
            )
        ledger.generator_token_passes += codes.numel()
        loop = masked_rounds(
            self.corrector, prompts, [-round] * len(prompts), seed, steps, guidance, prefix=prefix
        )
        while (step := advance(loop, None, ledger)) is not None:
            ledger.generator_token_passes += branches(self.corrector, guidance) * codes.numel()
            last = step
        return last.codes
