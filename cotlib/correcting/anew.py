"""The paper's form of correction: prompt, failed picture and reflection go in, and everything is drawn anew. And its
control: the same network draws anew from the prompt alone."""

from torch import Tensor

from cotlib.decoding import masked_rounds
from cotlib.interfaces import ImageTokenModel, Reflection
from cotlib.models.corrector import PictogramCorrector
from cotlib.models.generator import PictogramGenerator
from cotlib.search.ledger import Ledger
from cotlib.search.parm_plus_plus import redraw
from cotlib.search.paths import run_to_end


class Anew:
    """A `Correct` for PARM++ after arXiv 2501.13926, section 5; see `load("correction")`.

    A reflection without words leaves it the prompt and the failed picture.
    """

    def __init__(self, corrector: PictogramCorrector):
        self.corrector = corrector

    def __call__(
        self, model: ImageTokenModel, prompts: list[str], codes: Tensor, reflections: list[Reflection],
        seed: int, round: int, *, ledger: Ledger, steps: int | None = None, guidance: float | None = None,
        kernel: bool = True,
    ) -> Tensor:  # fmt: skip
        """Codes [B, N] of refused pictures to new ones. The failed picture's tokens count as one pass."""
        with ledger.timed("generator"):
            prefix = self.corrector.correction_prefix(
                prompts, codes, [r.words.split() for r in reflections], guidance
            )
        ledger.generator_token_passes += codes.numel()
        loop = masked_rounds(
            self.corrector,
            prompts,
            [-round] * len(prompts),
            seed,
            steps,
            guidance,
            prefix=prefix,
            kernel=kernel,
        )
        return run_to_end(self.corrector, loop, ledger, guidance)


class TunedRedraw:
    """Plain re-drawing with the corrector's weights: what its training gains without any reflection.

    The control for every correction by tuned weights. Beside it, `search.redraw` draws with the search's own generator.
    """

    def __init__(self, corrector: PictogramGenerator):
        self.corrector = corrector

    def __call__(
        self, model: ImageTokenModel, prompts: list[str], codes: Tensor, reflections: list[Reflection],
        seed: int, round: int, *, ledger: Ledger, steps: int | None = None, guidance: float | None = None,
        kernel: bool = True,
    ) -> Tensor:  # fmt: skip
        """Codes [B, N] of refused pictures to new ones."""
        return redraw(self.corrector, prompts, codes, reflections, seed, round, ledger=ledger, steps=steps,
                      guidance=guidance, kernel=kernel)  # fmt: skip
