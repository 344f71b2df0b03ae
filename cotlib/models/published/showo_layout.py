"""How Show-o lays out a sequence: which id stands for what, and who sees whom.

Show-o's own tokens follow the text tokenizer's, in the order below (its configuration's comments list them in another).
"""

from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from cotlib.errors import UserError
from cotlib.models.published.files import whole_number

TEXT = 129  # places before the picture: <|t2i|> and 128 for bos, text and eos
NEW_TOKENS = ("[PAD]", "<|soi|>", "<|eoi|>", "<|sov|>", "<|eov|>", "<|t2i|>", "<|mmu|>", "<|t2v|>", "<|v2v|>",
              "<|lvg|>")  # fmt: skip
OWN = {256: (18, 1.75), 1024: (50, 5.0)}  # image tokens: steps and guidance of the released scripts


@dataclass(frozen=True)
class ShowoConfig:
    """Ids and sampling defaults; the transformer's sizes are read from the weights. The defaults are Show-o 256."""

    tokens: int = 256  # image tokens N, a square
    codes: int = 8192  # image codes V
    text_codes: int = 50295  # entries of the text tokenizer
    steps: int = 18
    guidance: float = 1.75
    order: str = "masked"

    @property
    def offset(self) -> int:
        """Id of image code 0."""
        return self.text_codes + len(NEW_TOKENS)

    @property
    def entries(self) -> int:
        """Rows of the embedding: text, new tokens, image codes, the mask."""
        return self.offset + self.codes + 1

    def id_of(self, token: str) -> int:
        """Id of one of the tokens that Show-o adds to the text tokenizer's."""
        return self.text_codes + NEW_TOKENS.index(token)

    @classmethod
    def of(cls, said: dict, folder: Path) -> Self:
        """From what config.json says, with or without its optional fields. UserError when the numbers do not fit."""
        text_codes = whole_number(said, "llm_vocab_size", folder, cls.text_codes)
        codes = whole_number(said, "codebook_size", folder, cls.codes)
        tokens = whole_number(said, "num_vq_tokens", folder, cls.tokens)
        side, published = isqrt(tokens), (text_codes, codes) == (cls.text_codes, cls.codes)
        if side**2 != tokens or side & (side - 1) or (published and tokens > 256 and tokens not in OWN):
            raise UserError(f"{folder / 'config.json'} gives num_vq_tokens as {tokens}; expected 256 (pictures of 256 "
                            "pixels) or 1024 (512 pixels), or in a toy the square of 2, 4 or 8")  # fmt: skip
        steps, guidance = OWN.get(tokens, (min(18, tokens), 1.75))
        made = cls(tokens, codes, text_codes, steps, guidance)
        for name, expected in (("vocab_size", made.entries), ("mask_token_id", made.entries - 1)):
            if said.get(name, expected) != expected:
                raise UserError(f"{folder / 'config.json'} gives {name} as {said[name]}; expected {expected}: {text_codes} "
                                f"text tokens, {len(NEW_TOKENS)} new ones, {codes} image codes and the mask")  # fmt: skip
        return made


def omni_mask(ids: Tensor, pad: int, soi: int) -> Tensor:
    """Who sees whom: ids [B, L] to bool [B, 1, L, L], True where the row's token may see the column's.

    Before `soi` a token sees itself and earlier ones, but no pad (a pad sees earlier pads); from `soi` on every token
    that is no pad, in both directions. One picture a row, at its end.
    """
    place = torch.arange(ids.shape[1], device=ids.device)
    empty = ids == pad
    picture = (ids == soi).cumsum(1) > 0  # [B, L], from soi to the end
    may = (place[:, None] >= place) | picture[:, :, None]
    real = ~empty[:, None, :] | (empty & ~picture)[:, :, None]
    return (may & real)[:, None]
