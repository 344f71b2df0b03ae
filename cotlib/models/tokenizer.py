"""Pixels <-> codes: a strictly local encoder, finite scalar quantisation, a convolutional decoder.

Each 8x8 patch becomes one code by itself: the encoder never looks at a neighbour. That is the one decision that
makes the codes learnable for a generator: an encoder with context leaks the neighbours into every token, so that
even plain paper gets many codes; here it gets one. The decoder does look around, so pictures stay crisp.

Quantisation: finite scalar quantisation (Mentzer et al., arXiv 2309.15505). Five numbers in -1..1 are rounded to
4 levels each: 4^5 = 1024 codes. With 2 levels it would be the look-up-free quantisation of MAGVIT-v2.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from cotlib.models.checkpoint import load_checkpoint, save_checkpoint

LEVELS, DIGITS = 4, 5


def quantise(z: Tensor) -> Tensor:
    """Rounds each number in -1..1 to the nearest of -1, -1/3, 1/3, 1; the gradient passes straight through.

    z: float [..., 5], already bounded (tanh). Returns the same shape; d output / d z is taken as 1.
    """
    half = (LEVELS - 1) / 2
    rounded = (torch.round((z.clamp(-1, 1) + 1) * half) / half) - 1
    return z + (rounded - z).detach()


def pack(digits: Tensor) -> Tensor:
    """Base-4 digits [..., 5], most significant first, to codes [...] in 0..1023."""
    codes = torch.zeros_like(digits[..., 0])
    for place in range(DIGITS):
        codes = codes * LEVELS + digits[..., place]
    return codes


def unpack(codes: Tensor) -> Tensor:
    """Codes [...] in 0..1023 to base-4 digits [..., 5], most significant first."""
    places = LEVELS ** torch.arange(DIGITS - 1, -1, -1, device=codes.device)
    return codes[..., None] // places % LEVELS


@dataclass(frozen=True)
class TokenizerConfig:
    """Sizes of the tokenizer; the default has 0.86 M parameters."""

    patch: int = 8  # side of a patch, pixels
    grid: int = 8  # patches per side of a picture
    encoder: int = 160  # width of the patch MLP
    wide: int = 128  # decoder channels at 8x8
    fine: int = 64  # decoder channels at 16x16


def _block(channels: int) -> nn.Module:
    return _Residual(nn.Sequential(
        nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1),
        nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1),
    ))  # fmt: skip


class _Residual(nn.Module):
    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class PictogramTokenizer(nn.Module):
    """64x64 pictures <-> 8x8 codes of 1024. Pictures are float [B, 3, 64, 64] in 0..1, codes long [B, 64]."""

    codebook_size = LEVELS**DIGITS

    def __init__(self, config: TokenizerConfig = TokenizerConfig()):
        super().__init__()
        self.config, c = config, config
        self.encoder = nn.Sequential(
            nn.Linear(3 * c.patch**2, c.encoder), nn.GELU(),
            nn.Linear(c.encoder, c.encoder), nn.GELU(), nn.Linear(c.encoder, DIGITS),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Conv2d(DIGITS, c.wide, 3, padding=1), _block(c.wide), _block(c.wide),
            nn.Conv2d(c.wide, 4 * c.fine, 1), nn.PixelShuffle(2), _block(c.fine),
            nn.Conv2d(c.fine, 3 * (c.patch // 2) ** 2, 3, padding=1), nn.PixelShuffle(c.patch // 2),
        )  # fmt: skip

    def patches(self, images: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] to patch vectors [B, N, 3*8*8] in raster order."""
        p = self.config.patch
        cut = images.unfold(2, p, p).unfold(3, p, p)  # [B, 3, h, w, p, p]
        return cut.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)

    def quantised(self, images: Tensor) -> Tensor:
        """Pictures to quantised vectors [B, N, 5] at the levels -1, -1/3, 1/3, 1, with a gradient."""
        return quantise(torch.tanh(self.encoder(self.patches(images) - 0.5)))

    def encode(self, images: Tensor) -> Tensor:
        """Pictures [B, 3, 64, 64] to codes [B, 64]; each code depends on its own 8x8 pixels only."""
        levels = (self.quantised(images) + 1) * (LEVELS - 1) / 2
        return pack(levels.round().long())

    def vectors(self, codes: Tensor) -> Tensor:
        """Codes [B, N] to their quantised vectors [B, N, 5]."""
        return unpack(codes).float() * 2 / (LEVELS - 1) - 1

    def paint(self, vectors: Tensor) -> Tensor:
        """Quantised vectors [B, N, 5] to pictures [B, 3, 64, 64], not clamped (training)."""
        g = self.config.grid
        return self.decoder(vectors.transpose(1, 2).unflatten(2, (g, g)))

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, 64] to pictures [B, 3, 64, 64] in 0..1."""
        return self.paint(self.vectors(codes)).clamp(0, 1)

    @classmethod
    def from_pretrained(cls, folder: Path | str, device: str = "cpu") -> "PictogramTokenizer":
        """Loads a checkpoint folder; UserError when it is missing, damaged or of another model."""
        return load_checkpoint(folder, cls._build, device)

    @classmethod
    def _build(cls, config: dict) -> "PictogramTokenizer":
        return cls(TokenizerConfig(**config))

    def save_pretrained(self, folder: Path | str, card: dict) -> None:
        """Writes the checkpoint folder (see `cotlib.models.checkpoint`)."""
        save_checkpoint(folder, self, self.config, card)
