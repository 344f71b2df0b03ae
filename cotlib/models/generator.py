"""The pictogram generator: a small transformer over text tokens followed by 64 image tokens.

Two orders, one network. `masked`: every image token sees every other, hidden ones carry a mask token (MaskGIT,
Show-o). `raster`: image tokens are causal, each predicts the next (LlamaGen, Janus). In both, text is causal and
never sees the image; so the text's keys and values are computed once per prompt and shared by all candidates and
all steps. That sharing is exact, not an approximation.

Embeddings of codes are a free vector plus one vector per base-4 digit of the code. Codes that share a digit share
part of their meaning; without this, words and codes bind far more slowly.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cotlib.errors import UserError
from cotlib.models.checkpoint import load_checkpoint, save_checkpoint
from cotlib.models.grid import TokenGrid
from cotlib.models.tokenizer import DIGITS, LEVELS, PictogramTokenizer, unpack
from cotlib.world.prompts import MAX_TEXT, VOCAB, encode


@dataclass(frozen=True)
class GeneratorConfig:
    """Sizes and sampling defaults; the default has 1.3 M parameters."""

    order: str = "masked"  # or "raster"
    width: int = 128
    layers: int = 6
    heads: int = 4
    hidden: int = 384  # width of the feed-forward layer
    grid: int = 8
    codes: int = LEVELS**DIGITS
    steps: int = 8  # rounds of masked decoding (raster order always takes one step per token)
    guidance: float = 1.5

    def __post_init__(self):
        if self.order not in ("masked", "raster"):
            raise ValueError(f'order is {self.order!r}; expected "masked" or "raster"')

    @property
    def tokens(self) -> int:
        """Image tokens N."""
        return self.grid**2


@dataclass(frozen=True)
class Prefix:
    """Text keys and values of P prompts (or paths), and of the empty prompt for guidance.

    keys, values: one [P, heads, T, width/heads] per layer. valid: bool [P, T], None when no prompt is padded.
    null_keys, null_values: the same for the empty prompt, P = 1; None when guidance is 0.
    """

    keys: list[Tensor]
    values: list[Tensor]
    valid: Tensor | None
    guidance: float
    null_keys: list[Tensor] | None = None
    null_values: list[Tensor] | None = None

    def select(self, index: Tensor) -> "Prefix":
        """Prefix of the given rows: expands prompts to paths, or keeps the surviving paths."""
        valid = None if self.valid is None else self.valid[index]
        keys, values = [k[index] for k in self.keys], [v[index] for v in self.values]
        return Prefix(keys, values, valid, self.guidance, self.null_keys, self.null_values)


@dataclass
class Cache:
    """Keys and values of text and of the image tokens drawn so far, for raster order. With guidance the rows of the
    empty prompt follow those of the prompts, so one pass serves both."""

    keys: list[Tensor]  # per layer [B or 2B, heads, T + N, D/heads], filled from the left
    values: list[Tensor]
    valid: Tensor  # bool [B or 2B, T + N]
    text: int
    guidance: float

    def select(self, go_on: Tensor) -> "Cache":
        """Keeps the rows of the surviving paths."""
        rows = go_on.repeat(2) if self.guidance else go_on
        keys, values = [k[rows] for k in self.keys], [v[rows] for v in self.values]
        return Cache(keys, values, self.valid[rows], self.text, self.guidance)


class Block(nn.Module):
    """Pre-norm transformer layer with normalised queries and keys and a squared-ReLU feed-forward layer."""

    def __init__(self, c: GeneratorConfig):
        super().__init__()
        self.heads = c.heads
        self.norm1, self.norm2 = nn.LayerNorm(c.width), nn.LayerNorm(c.width)
        self.qkv = nn.Linear(c.width, 3 * c.width, bias=False)
        self.out = nn.Linear(c.width, c.width, bias=False)
        self.up = nn.Linear(c.width, c.hidden, bias=False)
        self.down = nn.Linear(c.hidden, c.width, bias=False)
        head = c.width // c.heads
        self.q_norm, self.k_norm = nn.LayerNorm(head), nn.LayerNorm(head)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden states [B, L, D] to queries, keys, values [B, heads, L, D/heads]."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).unbind(2)
        return self.q_norm(q).transpose(1, 2), self.k_norm(k).transpose(1, 2), v.transpose(1, 2)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Adds the attention result [B, heads, L, D/heads] and the feed-forward layer to x [B, L, D]."""
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.down(F.relu(self.up(self.norm2(x))).square())


class PictogramGenerator(TokenGrid, nn.Module):
    """Text and image codes to logits over image codes. Implements `ImageTokenModel` (see `cotlib.interfaces`)."""

    max_text = MAX_TEXT

    def __init__(self, config: GeneratorConfig = GeneratorConfig()):
        super().__init__()
        self.config, c = config, config
        self.words = nn.Embedding(len(VOCAB), c.width)
        self.word_places = nn.Parameter(torch.zeros(MAX_TEXT, c.width))
        self.code_in = nn.Embedding(c.codes + 1, c.width)  # the last row is the mask (or start) token
        self.digit_in = nn.Parameter(torch.zeros(DIGITS, LEVELS, c.width))
        self.code_out = nn.Parameter(torch.zeros(c.codes, c.width))
        self.digit_out = nn.Parameter(torch.zeros(DIGITS, LEVELS, c.width))
        self.rows, self.columns = (
            nn.Parameter(torch.zeros(c.grid, c.width)),
            nn.Parameter(torch.zeros(c.grid, c.width)),
        )
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.width)
        self.register_buffer("digits", unpack(torch.arange(c.codes)), persistent=False)
        self.tokenizer: PictogramTokenizer | None = None  # set by `cotlib.load`; only `decode` needs it
        for p in (self.word_places, self.rows, self.columns, self.words.weight, self.code_in.weight):
            nn.init.normal_(p, std=0.02)
        for block in self.blocks:
            nn.init.zeros_(block.out.weight)
            nn.init.zeros_(block.down.weight)

    # ----- sizes -----------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.rows.device

    # ----- pieces ----------------------------------------------------------------------------------------------------

    def embed_codes(self, codes: Tensor) -> Tensor:
        """Codes [B, L] (mask_id allowed) to vectors [B, L, D], without position."""
        shared = self.digit_in[torch.arange(DIGITS, device=codes.device), self.digits].sum(1)  # [V, D]
        table = self.code_in.weight + F.pad(shared, (0, 0, 0, 1))
        return F.embedding(codes, table)

    def places(self) -> Tensor:
        """Position vectors of the N image tokens in raster order, [N, D]."""
        return (self.rows[:, None] + self.columns[None]).flatten(0, 1)

    def head_weight(self) -> Tensor:
        """The head's row for each code, [V, D]."""
        return self.code_out + self.digit_out[torch.arange(DIGITS, device=self.device), self.digits].sum(1)

    def head(self, hidden: Tensor) -> Tensor:
        """Final hidden states [..., D] to logits over the V image codes. Linear, so guidance may come before it."""
        return hidden @ self.head_weight().T

    def text(self, ids: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Token ids [P, T] to each layer's keys and values [P, heads, T, D/heads]; causal, right padding harmless."""
        return self.keys_values(self.words(ids) + self.word_places[: ids.shape[1]])

    def keys_values(self, x: Tensor, valid: Tensor | None = None) -> tuple[list[Tensor], list[Tensor]]:
        """Embedded prefix tokens [P, T, D] to each layer's keys and values, causally, as in `text`.

        valid: bool [P, T], tokens that later ones may see; the first must be among them. All of them unless given.
        """
        keys, values, mask = [], [], None
        if valid is not None:
            mask = (
                torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
                & valid[:, None, None]
            )
        for i, block in enumerate(self.blocks):
            q, k, v = block.project(x)
            keys.append(k)
            values.append(v)
            if i + 1 < len(self.blocks):
                attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
                x = block.finish(x, attended)
        return keys, values

    def image(
        self, x: Tensor, keys: list[Tensor], values: list[Tensor], valid: Tensor | None,
        layers: list[Tensor] | None = None, rows: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Image inputs [B, N, D] over text keys and values to final hidden states [B, N, D].

        layers: each layer's output is appended to it. rows: long [B, R], the only places whose final states are
        wanted, in masked order; the last layer then runs for these alone and [B, R, D] is returned.
        """
        mask = self._mask(x.shape[1], keys[0].shape[2], valid)
        for block, text_k, text_v in zip(self.blocks, keys, values, strict=True):
            q, k, v = block.project(x)
            k = torch.cat([text_k.expand(len(x), -1, -1, -1), k], dim=2)
            v = torch.cat([text_v.expand(len(x), -1, -1, -1), v], dim=2)
            if rows is not None and block is self.blocks[-1]:
                x = x.gather(1, rows[:, :, None].expand(-1, -1, x.shape[2]))
                q = q.gather(2, rows[:, None, :, None].expand(-1, q.shape[1], -1, q.shape[3]))
                mask = None if mask is None else mask[:, :, : rows.shape[1]]  # alike for every query
            x = block.finish(x, F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
            if layers is not None:
                layers.append(x)
        return self.norm(x)

    def _mask(self, n: int, t: int, valid: Tensor | None) -> Tensor | None:
        """What image rows may see: valid text, then every image token (masked) or the earlier ones (raster)."""
        if self.config.order == "masked" and valid is None:
            return None
        seen = torch.ones(n, n, dtype=torch.bool, device=self.device)
        seen = seen.tril() if self.config.order == "raster" else seen
        if valid is None:
            return F.pad(seen, (t, 0), value=True)
        rows = len(valid)
        return torch.cat([valid[:, None, None].expand(rows, 1, n, t), seen.expand(rows, 1, n, n)], dim=3)

    def inputs(self, codes: Tensor) -> Tensor:
        """Codes [B, N] to image inputs [B, N, D]; raster order shifts them right behind a start token."""
        if self.config.order == "raster":
            codes = F.pad(codes[:, :-1], (1, 0), value=self.mask_id)
        return self.embed_codes(codes) + self.places()

    # ----- ImageTokenModel -------------------------------------------------------------------------------------------

    @torch.no_grad()
    def prefix(self, prompts: list[str], guidance: float | None = None) -> Prefix:
        """Text keys and values of the prompts, computed once. UserError for a word the world does not know."""
        guidance = self.config.guidance if guidance is None else float(guidance)
        if not torch.isfinite(torch.tensor(guidance)) or guidance < 0:
            raise UserError(f"guidance is {guidance}; expected a finite number of at least 0")
        ids = [encode(p) for p in prompts]
        longest = max(map(len, ids))
        padded = torch.tensor([row + [row[-1]] * (longest - len(row)) for row in ids], device=self.device)
        lengths = torch.tensor([len(row) for row in ids], device=self.device)
        valid = torch.arange(longest, device=self.device) < lengths[:, None]
        keys, values = self.text(padded)
        null = self.text(torch.tensor([encode("")], device=self.device)) if guidance else (None, None)
        return Prefix(keys, values, None if bool(valid.all()) else valid, guidance, *null)

    @torch.no_grad()
    def hidden(self, prefix: Prefix, codes: Tensor, rows: Tensor | None = None) -> Tensor:
        """Final hidden states [B, N, D] of the current codes (mask_id = not drawn), guidance already combined; `rows`
        as in `image`."""
        x = self.inputs(codes)
        h = self.image(x, prefix.keys, prefix.values, prefix.valid, rows=rows)
        if prefix.guidance:
            empty = self.image(x, prefix.null_keys, prefix.null_values, None, rows=rows)
            h = (1 + prefix.guidance) * h - prefix.guidance * empty
        return h

    @torch.no_grad()
    def logits(self, prefix: Prefix, codes: Tensor, rows: Tensor) -> Tensor:
        """Logits [R, V] at the True places of `rows` (bool [B, N]), in row-major order."""
        counts = rows.sum(1)
        if self.config.order == "masked" and bool((counts == counts[0]).all()):
            places = rows.nonzero()[:, 1].view(len(rows), -1)  # as many in each row, as masked rounds ask for
            return self.head(self.hidden(prefix, codes, places).flatten(0, 1))
        return self.head(self.hidden(prefix, codes)[rows])

    def start_cache(self, prefix: Prefix, rows: int) -> Cache:
        """Room for the keys and values of `rows` paths in raster order, with the text's already in it."""
        c, text = self.config, prefix.keys[0].shape[2]
        branches = 2 if prefix.guidance else 1
        valid = torch.zeros(branches * rows, text + self.tokens, dtype=torch.bool, device=self.device)
        valid[:rows, :text] = True if prefix.valid is None else prefix.valid
        shape = (branches * rows, c.heads, text + self.tokens, c.width // c.heads)
        cache = Cache([], [], valid, text, prefix.guidance)
        for store, own, null in ((cache.keys, prefix.keys, prefix.null_keys),
                                 (cache.values, prefix.values, prefix.null_values)):  # fmt: skip
            for layer in range(c.layers):
                room = torch.zeros(shape, device=self.device)
                room[:rows, :, :text] = own[layer]
                if null is not None:
                    room[rows:, :, : null[layer].shape[2]] = null[layer]
                    valid[rows:, : null[layer].shape[2]] = True
                store.append(room)
        return cache

    @torch.no_grad()
    def next_logits(self, cache: Cache, before: Tensor, place: int) -> Tensor:
        """Logits [B, V] of token `place` after the code `before` [B] (mask_id at the start); extends the cache."""
        x = self.embed_codes(before[:, None]) + self.places()[place]
        x = x.repeat(2, 1, 1) if cache.guidance else x
        end = cache.text + place + 1
        cache.valid[:, end - 1] = True
        mask = None if bool(cache.valid[:, :end].all()) else cache.valid[:, None, None, :end]
        for i, block in enumerate(self.blocks):
            q, k, v = block.project(x)
            cache.keys[i][:, :, end - 1 : end], cache.values[i][:, :, end - 1 : end] = k, v
            attended = F.scaled_dot_product_attention(
                q, cache.keys[i][:, :, :end], cache.values[i][:, :, :end], mask
            )
            x = block.finish(x, attended)
        h = self.norm(x)[:, 0]
        if cache.guidance:
            own, empty = h.chunk(2)
            h = (1 + cache.guidance) * own - cache.guidance * empty
        return self.head(h)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, N] to pictures [B, 3, 64, 64] in 0..1."""
        if self.tokenizer is None:
            raise UserError("this generator has no tokenizer; load both with cotlib.load('generator')")
        return self.tokenizer.decode(codes)

    # ----- training --------------------------------------------------------------------------------------------------

    def train_hidden(
        self, ids: Tensor, valid: Tensor, codes: Tensor, layers: list[Tensor] | None = None
    ) -> Tensor:
        """Final hidden states [B, N, D] with gradients, from token ids [B, T], their validity and visible codes;
        `layers` as in `image`."""
        keys, values = self.text(ids)
        return self.image(self.inputs(codes), keys, values, valid, layers)

    @classmethod
    def from_pretrained(cls, folder: Path | str, device: str = "cpu") -> Self:
        """Loads a checkpoint folder; UserError when it is missing, damaged or of another model."""
        return load_checkpoint(folder, cls._build, device)

    @classmethod
    def _build(cls, config: dict) -> Self:
        return cls(GeneratorConfig(**config))

    def save_pretrained(self, folder: Path | str, card: dict, base: Path | str | None = None) -> None:
        """Writes the checkpoint folder, or its change against a base's (see `cotlib.models.checkpoint`); the tokenizer
        has its own."""
        tokenizer, self.tokenizer = self.tokenizer, None
        try:
            save_checkpoint(folder, self, self.config, card, base)
        finally:
            self.tokenizer = tokenizer
