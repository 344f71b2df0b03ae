"""Many rows through a big model in pieces that fit.

Without a size all rows go at once. When the device runs out of memory, the piece is halved, said so, and kept small.
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from cotlib.errors import UserError


class Chunks:
    """How many rows a model takes at once; `size` None is no limit. It shrinks when memory runs out."""

    def __init__(self, size: int | None = None):
        if size is not None and (not isinstance(size, int) or size < 1):
            raise UserError(
                f"the chunk is {size}; expected a whole number above 0, or None for all rows at once"
            )
        self.size = size

    def run(self, work: Callable[[slice], Tensor], rows: int, what: str) -> Tensor:
        """`work` on slices of `rows` rows, its results joined along their first axis.

        what: the rows' name in the message. UserError when not even one row fits.
        """
        parts, start = [], 0
        while start < rows:
            piece = min(self.size or rows, rows - start)
            try:
                parts.append(work(slice(start, start + piece)))
            except torch.OutOfMemoryError as error:
                if piece == 1:
                    raise UserError(f"not even one of {rows} {what} fits into the device's memory; use half precision "
                                    "or a smaller model") from error  # fmt: skip
                self.size = piece // 2
            else:
                start += piece
                continue
            # outside the handler, so that the failed piece's tensors are no longer held by the error's traceback
            warnings.warn(f"{piece} {what} at once do not fit into the device's memory; going on with {self.size}",
                          stacklevel=2)  # fmt: skip
            torch.cuda.empty_cache()
        return parts[0] if len(parts) == 1 else torch.cat(parts)
