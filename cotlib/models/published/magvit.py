"""MAGVIT-v2 as Show-o uses it (Yu et al., arXiv 2310.05737; showlab/magvitv2): pixels <-> codes, 16 pixels a side each.

A convolutional autoencoder around a quantiser without a look-up: 13 numbers a place, of which only the signs count, are
a 13-bit code, the first number being the highest bit. The names of all parts are those of the published file.

    tokenizer = Magvit.from_pretrained("magvitv2")
    codes = tokenizer.encode(prepare(images, 256))    # [B, 256]
    pictures = tokenizer.decode(codes)                # [B, 3, 256, 256] in 0..1; see pictures.to_pil

Squares are assumed unless the token grid is given. Decoding is exact to rounding on any device; in half precision a
number near 0 may change its sign, so encode in float32.
"""

from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from cotlib.errors import UserError
from cotlib.models.published.chunked import Chunks
from cotlib.models.published.files import (
    Weights,
    checkpoint_folder,
    fill,
    number_format,
    open_weights,
    read_config,
)

GROUPS = 32  # of every group norm; all widths are multiples


@dataclass(frozen=True)
class MagvitConfig:
    """Widths and depths, from high resolution to low; the defaults are the published file's 95.4 M parameters.

    encoder_widths, decoder_widths: channels of each level; encoder_blocks, decoder_blocks: residual blocks of each.
    bits: channels of a code. With one level more the pictures have half the tokens a side.
    """

    encoder_widths: tuple[int, ...] = (128, 256, 256, 512, 512)
    encoder_blocks: tuple[int, ...] = (4, 3, 4, 3, 4)
    decoder_widths: tuple[int, ...] = (128, 128, 256, 256, 512)
    decoder_blocks: tuple[int, ...] = (4, 4, 3, 4, 3)
    stem: int = 128  # channels after the encoder's first convolution
    bits: int = 13

    @classmethod
    def of(cls, weights: Weights) -> Self:
        """Read off the shapes of a file's tensors. With the published widths it is the published model, so that a file
        that lost whole blocks is not taken for a smaller one. UserError for a file without encoder and decoder."""
        shapes = weights.shapes
        try:
            stem, bits = shapes["encoder.conv_in.weight"][0], shapes["encoder.quant_conv.weight"][0]
            encoder, decoder = _levels(shapes, "encoder.down"), _levels(shapes, "decoder.up")
        except (KeyError, IndexError) as error:
            raise UserError(f"the weights in {weights.folder} lack {error}; expected those of MAGVIT-v2, with an encoder and "
                            "a decoder; check that the folder is of this model and whole") from error  # fmt: skip
        published = cls()
        widths = (encoder[0], decoder[0], stem, bits)
        if widths == (published.encoder_widths, published.decoder_widths, published.stem, published.bits):
            return published
        return cls(*encoder, *decoder, stem, bits)


def _levels(shapes: dict[str, tuple[int, ...]], start: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(widths, numbers of blocks) of the levels of one half."""
    names = (name[len(start) + 1 :].split(".") for name in shapes if name.startswith(f"{start}."))
    places = {(int(level), int(more[0])) for level, what, *more in names if what == "block"}
    if not places:
        raise KeyError(f"{start}.0.block.0.conv1.weight")
    count = 1 + max(level for level, _ in places)
    widths = tuple(shapes[f"{start}.{level}.block.0.conv1.weight"][0] for level in range(count))
    return widths, tuple(1 + max(b for i, b in places if i == level) for level in range(count))


# ----- layers ------------------------------------------------------------------------------------------------------


def _norm(channels: int) -> nn.GroupNorm:
    if channels % GROUPS:
        raise UserError(
            f"a layer has {channels} channels; expected a multiple of {GROUPS}, the groups of its norm"
        )
    return nn.GroupNorm(GROUPS, channels, eps=1e-6)


def _swish(x: Tensor) -> Tensor:
    """x sigmoid(x), in this order of operations, so that signs come out as in the published code."""
    return x * torch.sigmoid(x)


class ResidualBlock(nn.Module):
    """Twice norm, swish, 3x3 convolution, around a shortcut that is a 1x1 convolution where the width changes."""

    def __init__(self, inside: int, outside: int):
        super().__init__()
        self.norm1, self.conv1 = _norm(inside), nn.Conv2d(inside, outside, 3, padding=1)
        self.norm2, self.conv2 = _norm(outside), nn.Conv2d(outside, outside, 3, padding=1)
        if inside != outside:
            self.nin_shortcut = nn.Conv2d(inside, outside, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(_swish(self.norm1(x)))
        h = self.conv2(_swish(self.norm2(h)))
        return (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x) + h


class Attention(nn.Module):
    """Every place looks at every other, with one head of all C channels."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = _norm(channels)
        self.q, self.k, self.v = (nn.Conv2d(channels, channels, 1) for _ in range(3))
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2) for layer in (self.q, self.k, self.v))  # [B, C, h*w]
        weights = (torch.bmm(q.transpose(1, 2), k) * q.shape[1] ** -0.5).softmax(dim=2)  # [B, from, to]
        return x + self.proj_out(torch.bmm(v, weights.transpose(1, 2)).view_as(x))


class Down(nn.Module):
    """Half the resolution: one zero at the right and the bottom, then a 3x3 convolution of stride 2."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Up(nn.Module):
    """Twice the resolution: every pixel four times, then a 3x3 convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def _level(inside: int, outside: int, blocks: int) -> nn.Module:
    level = nn.Module()
    level.block = nn.ModuleList(ResidualBlock(outside if i else inside, outside) for i in range(blocks))
    return level


def _middle(channels: int) -> nn.Module:
    middle = nn.Module()
    middle.block_1, middle.attn_1 = ResidualBlock(channels, channels), Attention(channels)
    middle.block_2 = ResidualBlock(channels, channels)
    return middle


def _through(middle: nn.Module, h: Tensor) -> Tensor:
    return middle.block_2(middle.attn_1(middle.block_1(h)))


class Encoder(nn.Module):
    """Pictures [B, 3, H, W] in -1..1 to numbers [B, bits, h, w] whose signs are the code."""

    def __init__(self, c: MagvitConfig):
        super().__init__()
        self.conv_in = nn.Conv2d(3, c.stem, 3, padding=1)
        self.down = nn.ModuleList()
        inside = c.stem
        for width, blocks in zip(c.encoder_widths, c.encoder_blocks, strict=True):
            self.down.append(_level(inside, width, blocks))
            inside = width
        for level in self.down[:-1]:
            level.downsample = Down(level.block[-1].conv2.out_channels)
        self.mid = _middle(inside)
        self.norm_out, self.conv_out = _norm(inside), nn.Conv2d(inside, c.bits, 3, padding=1)
        self.quant_conv = nn.Conv2d(c.bits, c.bits, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for level in self.down:
            for block in level.block:
                h = block(h)
            h = level.downsample(h) if hasattr(level, "downsample") else h
        return self.quant_conv(self.conv_out(_swish(self.norm_out(_through(self.mid, h)))))


class Decoder(nn.Module):
    """Code vectors [B, bits, h, w] of -1 and 1 to pictures [B, 3, H, W], about -1..1. Level 0 is the last to run."""

    def __init__(self, c: MagvitConfig):
        super().__init__()
        inside = c.decoder_widths[-1]
        self.post_quant_conv = nn.Conv2d(c.bits, c.bits, 1)
        self.conv_in = nn.Conv2d(c.bits, inside, 3, padding=1)
        self.mid = _middle(inside)
        levels = []
        for width, blocks in zip(reversed(c.decoder_widths), reversed(c.decoder_blocks), strict=True):
            levels.append(_level(inside, width, blocks))
            inside = width
        self.up = nn.ModuleList(reversed(levels))
        for level in self.up[1:]:
            level.upsample = Up(level.block[-1].conv2.out_channels)
        self.norm_out, self.conv_out = _norm(inside), nn.Conv2d(inside, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = _through(self.mid, self.conv_in(self.post_quant_conv(z)))
        for level in reversed(self.up):
            for block in level.block:
                h = block(h)
            h = level.upsample(h) if hasattr(level, "upsample") else h
        return self.conv_out(_swish(self.norm_out(h)))


class SignQuantizer(nn.Module):
    """Look-up-free: bit c of a code is set where channel c is above 0; channel 0 is the highest bit.

    The table of code vectors is in the published file and is used as it is there; it is all combinations of -1 and 1.
    """

    def __init__(self, bits: int):
        super().__init__()
        powers = 2 ** torch.arange(bits - 1, -1, -1)
        set_bits = torch.arange(2**bits)[:, None] // powers % 2
        self.register_buffer("embedding", set_bits.float() * 2 - 1)  # [V, bits]
        self.register_buffer("power_vals", powers)

    def codes(self, z: Tensor) -> Tensor:
        """Numbers [B, bits, h, w] to codes [B, h*w] in raster order."""
        return ((z > 0) * self.power_vals[:, None, None]).sum(1).flatten(1)

    def vectors(self, codes: Tensor, grid: tuple[int, int]) -> Tensor:
        """Codes [B, h*w] to code vectors [B, bits, h, w]."""
        return self.embedding[codes].transpose(1, 2).unflatten(2, grid)


# ----- the tokenizer -----------------------------------------------------------------------------------------------


class Magvit(nn.Module):
    """Pictures <-> codes. Pictures are float [B, 3, H, W] in 0..1, codes long [B, N] in raster order.

    chunk: pictures that go through at once, None for all; it is halved when the device runs out of memory.
    """

    def __init__(self, config: MagvitConfig = MagvitConfig(), chunk: int | None = None):
        super().__init__()
        self.config = config
        self.encoder, self.decoder, self.quantize = (
            Encoder(config),
            Decoder(config),
            SignQuantizer(config.bits),
        )
        self.chunks = Chunks(chunk)

    @property
    def codebook_size(self) -> int:
        """Codes V."""
        return 2**self.config.bits

    @property
    def patch(self) -> int:
        """Pixels a side of one code."""
        return 2 ** (len(self.config.encoder_widths) - 1)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in 0..1 to codes [B, H/16 * W/16]. UserError unless both sides are multiples of 16."""
        if (
            images.ndim != 4
            or images.shape[1] != 3
            or images.shape[2] % self.patch
            or images.shape[3] % self.patch
        ):
            raise UserError(f"pictures of shape {list(images.shape)}; expected [B, 3, H, W] with H and W multiples of "
                            f"{self.patch}; see prepare")  # fmt: skip
        weight = self.encoder.conv_in.weight

        def part(mine: slice) -> Tensor:
            x = images[mine].to(weight.device, torch.float32)
            return self.quantize.codes(self.encoder(((x - 0.5) / 0.5).to(weight.dtype)))

        return self.chunks.run(part, len(images), "pictures")

    @torch.no_grad()
    def paint(self, codes: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Codes [B, N] to the decoder's own output [B, 3, H, W], about -1..1, not clamped. grid: (h, w), a square unless
        given. UserError when the codes do not fill it."""
        side = isqrt(codes.shape[1])
        grid = grid or (side, side)
        if grid[0] * grid[1] != codes.shape[1]:
            raise UserError(f"{codes.shape[1]} codes a picture do not fill a grid of {grid[0]} by {grid[1]}; expected a "
                            "square number, or the grid (h, w)")  # fmt: skip
        codes = codes.to(self.quantize.embedding.device)
        return self.chunks.run(
            lambda mine: self.decoder(self.quantize.vectors(codes[mine], grid)), len(codes), "pictures"
        )

    def decode(self, codes: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Codes [B, N] to pictures [B, 3, H, W] in 0..1, float32; grid as in `paint`."""
        return ((self.paint(codes, grid).float() + 1) / 2).clamp(0, 1)

    @classmethod
    def from_pretrained(
        cls, folder: Path | str, *, device: torch.device | str = "cpu", dtype: torch.dtype | str = "float32",
        chunk: int | None = None,
    ) -> Self:  # fmt: skip
        """Loads a published MAGVIT-v2 folder or hub id, in evaluation mode. UserError when a file is not right."""
        folder = checkpoint_folder(folder)
        read_config(folder, "MAGViTv2")
        weights = open_weights(folder)
        config = MagvitConfig.of(weights)
        with torch.device("meta"):
            made = cls(config, chunk)
        fill(made, weights, number_format(dtype), device)
        return made.eval()


# ----- pictures in and out -----------------------------------------------------------------------------------------


def prepare(images: list[Image.Image], size: int) -> Tensor:
    """Pictures of any size and mode to [B, 3, size, size] in 0..1, as Show-o prepares them: RGB, shorter side to `size`
    (bicubic), the middle cut out."""
    return torch.stack([_square(image.convert("RGB"), size) for image in images])


def _square(image: Image.Image, size: int) -> Tensor:
    short, long = sorted(image.size)
    if short != size:
        other = int(size * long / short)
        wide = image.width > image.height
        image = image.resize((other, size) if wide else (size, other), Image.Resampling.BICUBIC)
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    image = image.crop((left, top, left + size, top + size))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
