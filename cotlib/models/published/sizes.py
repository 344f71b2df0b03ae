"""What the published models weigh and what they compute, counted from the sizes of their layers; nothing is loaded.

    SHOWO_256.parameters()             1,448,176,770
    LLAVA_7B.flops(805) / 1e12         one question about one picture, TFLOP

A multiplication and an addition are two FLOP; norms, softmax, activations and the rotary turn are left out (below 1 %).
Attention counts every pair of row and column, also those that a causal mask hides: kernels differ in what they skip.
`of` reads the sizes of a model that is loaded, so that a plan can be made for any checkpoint. Letters: D width, I inner
width, V codes, N image tokens, T text tokens.
"""

from dataclasses import dataclass, field
from math import isqrt

from cotlib.models.published.magvit import MagvitConfig
from cotlib.models.published.showo_layout import ShowoConfig

EDGES = 2  # <|soi|> and <|eoi|>, which run beside the image tokens
HALF, FULL = 2, 4  # bytes a number
FOUR_BIT = (
    0.5 + 1 / 64 + 4 / (64 * 256)
)  # bytes a weight: 4 bits, a scale of 8 bits for 64, one of 32 bits for 256 of those


@dataclass(frozen=True)
class ShowoSizes:
    """Show-o's transformer; the defaults are Phi-1.5's, which all published ones share."""

    layout: ShowoConfig = field(default_factory=ShowoConfig)
    width: int = 2048
    layers: int = 24
    heads: int = 32
    inner: int = 8192

    @property
    def run(self) -> int:
        """Tokens that run in a step: the image's and its two edges."""
        return self.layout.tokens + EDGES

    def parameters(self) -> int:
        """Numbers in the file."""
        d, head = self.width, self.width // self.heads
        layer = 4 * (d * d + d) + 2 * d * self.inner + self.inner + d + 2 * d + 4 * head
        return 2 * self.layout.entries * d + self.layout.entries + 2 * d + self.layers * layer

    def text_numbers(self) -> int:
        """Keys and values of a text token in all layers."""
        return 2 * self.layers * self.width

    def token_flops(self, keys: int) -> int:
        """FLOP of one token that sees `keys` tokens, without the head."""
        linear = 2 * (4 * self.width**2 + 2 * self.width * self.inner)
        return self.layers * (linear + 4 * self.width * keys)

    def step_flops(self, text: int, masked: float, guided: bool = True) -> float:
        """FLOP of one path in one step: its tokens over `text` text tokens, twice with guidance, and the head at the masked
        places, where guidance is combined already."""
        rows = (2 if guided else 1) * self.run
        return rows * self.token_flops(text + self.run) + masked * 2 * self.width * self.layout.codes

    def released_step_flops(self, guided: bool = True) -> float:
        """The same as the released code runs it: 129 places of text with the picture in every step, all ids in the head."""
        length = 129 + self.run
        row = self.token_flops(length) + 2 * self.width * self.layout.entries
        return (2 if guided else 1) * length * row

    @classmethod
    def of(cls, model) -> "ShowoSizes":
        """The sizes of a loaded `Showo`."""
        c = model.phi.config
        return cls(
            model.config, c.hidden_size, c.num_hidden_layers, c.num_attention_heads, c.intermediate_size
        )


@dataclass(frozen=True)
class LlavaSizes:
    """LLaVA-OneVision with pictures in one tile; the defaults are the 7 B one: Qwen2-7B behind SigLIP so400m."""

    width: int = 3584
    layers: int = 28
    heads: int = 28
    kv_heads: int = 4
    inner: int = 18944
    words: int = 152064
    tied: bool = False
    eye: int = 1152  # width of the vision tower
    eye_layers: int = 26
    eye_inner: int = 4304
    side: int = 384  # pixels
    patch: int = 14

    @property
    def patches(self) -> int:
        """Features of a picture; the language model reads them and a newline."""
        return (self.side // self.patch) ** 2

    def cache_numbers(self) -> int:
        """Keys and values of a token in all layers."""
        return 2 * self.layers * self.kv_heads * (self.width // self.heads)

    def layer_weights(self) -> int:
        """Numbers in the matrices of all layers of the language model, which four_bit packs."""
        kv = self.kv_heads * (self.width // self.heads)
        return self.layers * (2 * self.width**2 + 2 * self.width * kv + 3 * self.width * self.inner)

    def parameters(self) -> int:
        """Numbers in the model."""
        d, e = self.width, self.eye
        kv = self.kv_heads * (d // self.heads)
        rest = (1 if self.tied else 2) * self.words * d + d + self.layers * (d + 2 * kv + 2 * d)
        projector = e * d + d + d * d + d + d
        eye_layer = 4 * (e * e + e) + 2 * e * self.eye_inner + self.eye_inner + e + 4 * e
        tower = 3 * self.patch**2 * e + e + self.patches * e + self.eye_layers * eye_layer + 2 * e
        return self.layer_weights() + rest + projector + tower

    def weight_bytes(self, number: int = HALF, four_bit: bool = False) -> int:
        """Bytes of the weights; four_bit: the language model's matrices packed, all else `number` bytes each."""
        packed = self.layer_weights() if four_bit else 0
        return round((self.parameters() - packed) * number + packed * FOUR_BIT)

    def eye_flops(self) -> int:
        """FLOP of seeing one picture: vision tower and projector."""
        e, d, p = self.eye, self.width, self.patches
        layer = 2 * (4 * e * e + 2 * e * self.eye_inner) + 4 * e * p
        return p * (self.eye_layers * layer + 2 * (e * d + d * d)) + 2 * 3 * self.patch**2 * e * p

    def flops(self, tokens: int, before: int = 0) -> int:
        """FLOP of one question: `tokens` read (picture and text), after `before` whose keys and values are kept. The picture
        is seen anew unless something is kept; the head runs at the last place."""
        row = 2 * self.layer_weights() + self.layers * 4 * self.width * (before + tokens)
        return tokens * row + 2 * self.width * self.words + (0 if before else self.eye_flops())

    @classmethod
    def of(cls, model) -> "LlavaSizes":
        """The sizes of a loaded `LlavaOnevisionForConditionalGeneration`."""
        t, v = model.config.text_config, model.config.vision_config
        return cls(t.hidden_size, t.num_hidden_layers, t.num_attention_heads, t.num_key_value_heads, t.intermediate_size,
                   model.lm_head.out_features, bool(model.config.tie_word_embeddings), v.hidden_size, v.num_hidden_layers,
                   v.intermediate_size, v.image_size, v.patch_size)  # fmt: skip


# ----- the image tokenizer -----------------------------------------------------------------------------------------


def _convolutions(c: MagvitConfig, encoder: bool) -> list[tuple[int, int, int, int]]:
    """(channels in, out, kernel, halvings of the picture's side) of every convolution of one half."""
    widths, blocks = (c.encoder_widths, c.encoder_blocks) if encoder else (c.decoder_widths, c.decoder_blocks)
    deep = len(widths) - 1
    found, now = [], c.stem if encoder else widths[-1]

    def block(inside: int, outside: int, depth: int) -> None:
        found.extend([(inside, outside, 3, depth), (outside, outside, 3, depth)])
        found.extend([(inside, outside, 1, depth)] * (inside != outside))

    def middle(width: int) -> None:
        block(width, width, deep)
        found.extend([(width, width, 1, deep)] * 4)
        block(width, width, deep)

    if encoder:
        found.append((3, now, 3, 0))
    else:
        found.extend([(c.bits, c.bits, 1, deep), (c.bits, now, 3, deep)])
        middle(now)
    for level in range(deep + 1) if encoder else range(deep, -1, -1):
        for _ in range(blocks[level]):
            block(now, widths[level], level)
            now = widths[level]
        if encoder and level < deep:
            found.append((now, now, 3, level + 1))
        if not encoder and level:
            found.append((now, now, 3, level - 1))
    if encoder:
        middle(now)
        return [*found, (now, c.bits, 3, deep), (c.bits, c.bits, 1, deep)]
    return [*found, (now, 3, 3, 0)]


def magvit_parameters(c: MagvitConfig) -> int:
    """Numbers in encoder and decoder, without the quantiser's tables."""
    convolutions = [*_convolutions(c, True), *_convolutions(c, False)]
    numbers = sum(i * o * k * k + o for i, o, k, _ in convolutions)
    # a norm before each 3x3 convolution of a block and before the last one, and one before each attention
    norms = 0
    for widths, blocks, now in (
        (c.encoder_widths, c.encoder_blocks, c.stem),
        (c.decoder_widths[::-1], c.decoder_blocks[::-1], c.decoder_widths[-1]),
    ):
        deep = widths[-1] if widths is c.encoder_widths else now
        norms += 5 * deep  # two blocks of the middle and its attention
        for width, count in zip(widths, blocks, strict=True):
            for _ in range(count):
                norms += now + width
                now = width
        norms += now
    return numbers + 2 * norms


def magvit_bytes(c: MagvitConfig, number: int = FULL) -> int:
    """Bytes of encoder, decoder and the quantiser's two tables."""
    return magvit_parameters(c) * number + 2**c.bits * c.bits * number + 8 * c.bits


def magvit_flops(c: MagvitConfig, tokens: int, encoder: bool = False) -> int:
    """FLOP of decoding (or encoding) one picture of `tokens` tokens, a square."""
    deep = len(c.decoder_widths) - 1
    side = isqrt(tokens) * 2**deep
    total = sum(2 * i * o * k * k * (side >> depth) ** 2 for i, o, k, depth in _convolutions(c, encoder))
    width = (c.encoder_widths if encoder else c.decoder_widths)[-1]
    return total + 4 * width * tokens**2


def decode_numbers(c: MagvitConfig, tokens: int) -> int:
    """Numbers held at most while one picture is decoded. A residual block from i to o channels holds its input and, before
    the first convolution, norm, sigmoid and product (4 i); before the second also the first one's result (i + 4 o)."""
    deep, side, now, most = len(c.decoder_widths) - 1, isqrt(tokens), c.decoder_widths[-1], 0
    for level in range(deep, -1, -1):
        width, pixels = c.decoder_widths[level], (side << (deep - level)) ** 2
        most = max(most, 5 * width * pixels, max(4 * now, now + 4 * width) * pixels)
        now = width
    return most


SHOWO_256 = ShowoSizes()
SHOWO_512 = ShowoSizes(ShowoConfig(tokens=1024, steps=50, guidance=5.0))
LLAVA_7B = LlavaSizes()
LLAVA_05B = LlavaSizes(width=896, layers=24, heads=14, kv_heads=2, inner=4864, words=151936, tied=True)
MAGVIT = MagvitConfig()
