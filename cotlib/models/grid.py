"""The sizes that every image-token model has."""

from math import isqrt


class TokenGrid:
    """Sizes of a model whose `config` has `tokens` (N, on a square grid) and `codes` (V); see `cotlib.interfaces.ImageTokenModel`."""

    @property
    def grid(self) -> tuple[int, int]:
        """Token grid (h, w)."""
        side = isqrt(self.config.tokens)
        return (side, side)

    @property
    def tokens(self) -> int:
        """Image tokens N."""
        return self.config.tokens

    @property
    def codebook_size(self) -> int:
        """Codes V."""
        return self.config.codes

    @property
    def mask_id(self) -> int:
        """The id that stands for "not drawn yet", one past the last code."""
        return self.config.codes
