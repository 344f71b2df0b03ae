"""From logits to pictures: one step, and the loops over steps."""

from collections.abc import Generator

from torch import Tensor

from cotlib.decoding.graphs import Graphs
from cotlib.decoding.masked import masked_rounds, sample_masked
from cotlib.decoding.raster import raster_steps, sample_raster
from cotlib.errors import UserError
from cotlib.interfaces import Step

__all__ = ["Graphs", "masked_rounds", "raster_steps", "run_steps", "sample_masked", "sample_raster"]


def run_steps(
    model, prompts: list[str], paths: list[int], seed: int, **options
) -> Generator[Step, Tensor | None, None]:
    """The loop of the model's own order. `steps` has no meaning in raster order and is ignored there; `graphs` are refused."""
    if model.config.order == "raster":
        options.pop("steps", None)
        if options.pop("graphs", None) is not None:
            raise UserError(
                "raster order has no rounds to record; expected masked order; leave the graphs out"
            )
        return raster_steps(model, prompts, paths, seed, **options)
    return masked_rounds(model, prompts, paths, seed, **options)
