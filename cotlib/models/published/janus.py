"""Janus-Pro (Chen et al., arXiv 2501.17811), 1B and 7B: a Llama that reads the prompt and then writes the 576 image codes of
a 384-pixel picture, one after the other in raster order.

    model = Janus.from_pretrained("deepseek-community/Janus-Pro-1B", device="cuda", dtype="bf16")
    codes = sample_raster(model, ["a photo of a red dog"] * 4, [0, 1, 2, 3], seed=0)
    images = model.decode(codes)

A sequence is `bos <|User|>: prompt, empty line, <|Assistant|>: <begin_of_image>` and then the picture: `<begin_of_image>`
predicts the first code, each code the next. Codes come in through an embedding and an aligner of their own and go out
through a head of their own, two layers with a GELU between them.

Guidance. Janus draws from uncond + w (cond - uncond) with w = 5. Everywhere here guidance is (1 + g) cond - g uncond, so
g = w - 1 and 4 by default. The unconditional prompt is the same prompt with every token but bos and `<begin_of_image>`
replaced by the pad token; it is as long as the prompt, and its pads are seen. Because of the GELU the head is not linear:
guidance before it, which saves half of the head in other models, would give other pictures. So both branches go through
the head, and it, like the combination, stays in float32: a weight of 5 stretches what half precision rounds away.

Followed are github.com/deepseek-ai/Janus (generation_inference.py: all codes may be drawn, temperature 1) and transformers'
JanusForConditionalGeneration. The latter's sampling keeps the 50 likeliest codes unless told otherwise (top_k); this does not.
"""

from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from cotlib.devices import pick_dtype
from cotlib.errors import UserError
from cotlib.models.grid import TokenGrid
from cotlib.models.published.chunked import Chunks
from cotlib.models.published.files import checkpoint_folder, number_format
from cotlib.models.published.janus_files import BOI, BOS, MARKS, PAD, JanusParts, load_parts, load_words


@dataclass
class JanusCache:
    """Keys and values of text, and of the image codes read so far; stands in for transformers' cache.

    Rows R: B paths and, with guidance, the same B without the prompt below them. keys, values: per layer [R, heads,
    places, D/heads], filled from the left. valid: bool [R, places], False at the pads on the left of a short prompt;
    pads: long [R, 1], how many. used: places filled. last: [R, D], the final hidden state at the last of them.
    """

    keys: list[Tensor]
    values: list[Tensor]
    valid: Tensor
    pads: Tensor
    guidance: float
    used: int = 0
    last: Tensor | None = None

    @property
    def paths(self) -> int:
        """B."""
        return len(self.valid) // 2 if self.guidance else len(self.valid)

    def select(self, index: Tensor | slice) -> "JanusCache":
        """Copies of the given paths, of both branches: expands prompts to paths, or keeps the surviving paths."""
        rows = torch.arange(self.paths)[index.cpu() if isinstance(index, Tensor) else index]
        rows = (torch.cat([rows, rows + self.paths]) if self.guidance else rows).to(self.valid.device)
        return replace(self, keys=[k[rows] for k in self.keys], values=[v[rows] for v in self.values],
                       valid=self.valid[rows], pads=self.pads[rows], last=self.last[rows])  # fmt: skip

    def with_room(self, room: int) -> "JanusCache":
        """A copy with `room` more places."""

        def wider(layer: Tensor) -> Tensor:
            rows, heads, _, size = layer.shape
            copy = layer.new_empty(rows, heads, self.used + room, size)
            copy[:, :, : self.used] = layer[:, :, : self.used]
            return copy

        valid = nn.functional.pad(self.valid[:, : self.used], (0, room), value=True)
        return replace(
            self, keys=[wider(k) for k in self.keys], values=[wider(v) for v in self.values], valid=valid
        )

    def get_seq_length(self, *_) -> int:
        """Places filled; transformers asks."""
        return self.used

    def update(self, keys: Tensor, values: Tensor, layer: int, *_, **__) -> tuple[Tensor, Tensor]:
        """Stores keys and values [R, heads, L, D/heads] of new tokens; returns those of all tokens so far."""
        end = self.used + keys.shape[2]
        self.keys[layer][:, :, self.used : end], self.values[layer][:, :, self.used : end] = keys, values
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def seen(self, new: int) -> Tensor:
        """Who sees whom: bool [R, 1, new, used + new] for the next tokens. Causal and no pads, but each sees itself."""
        key = torch.arange(self.used + new, device=self.valid.device)
        query = key[self.used :, None]
        return (((key <= query) & self.valid[:, None, : len(key)]) | (key == query))[:, None]


class Janus(TokenGrid, nn.Module):
    """Text and image codes to logits over image codes. Implements `ImageTokenModel` (see `cotlib.interfaces`), and what
    raster order asks for besides: `start_cache`, `next_logits` and, to go on from drawn codes, `fill_cache`.

    parts: see `load_parts`. words: the text tokenizer. chunk: paths that are drawn at once by `sample_raster`, None for all;
    it is halved when their keys and values do not fit on the device. placeholder: the code that `decode` puts where
    none is drawn yet.
    """

    def __init__(self, parts: JanusParts, words, chunk: int | None = None, placeholder: int = 0):
        super().__init__()
        self.config, self.network, self.ends, self.words = parts.config, parts.network, parts.ends, words
        self.groups, self.pictures = Chunks(chunk), Chunks(8)
        if not 0 <= placeholder < self.config.codes:
            raise UserError(
                f"placeholder is {placeholder}; expected a code from 0 to {self.config.codes - 1}"
            )
        self.placeholder = placeholder
        self.bos, self.pad, self.boi = (words.token_to_id(token) for token in (BOS, PAD, BOI))

    # ----- sizes -----------------------------------------------------------------------------------------------------

    @property
    def max_text(self) -> int:
        """Tokens before the picture, bos and `<begin_of_image>` included."""
        return self.config.longest - self.config.tokens

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.llama.norm.weight.device

    @property
    def llama(self) -> nn.Module:
        """The language model."""
        return self.network["language_model"]

    # ----- text ------------------------------------------------------------------------------------------------------

    def text_ids(self, prompt: str) -> list[int]:
        """Ids before the picture: bos, the prompt as the user's only turn, the assistant's mark, `<begin_of_image>`.

        Blanks around the prompt are dropped, as the published chat template does. UserError for a mark of the chat in it, and
        for a prompt that is too long.
        """
        if any(mark in prompt for mark in MARKS):
            raise UserError(
                f'the prompt "{prompt}" has a mark of the chat; expected a text without {", ".join(MARKS)}'
            )
        turn = f"<|User|>: {prompt.strip()}\n\n<|Assistant|>:"
        ids = [self.bos, *self.words.encode(turn, add_special_tokens=False).ids, self.boi]
        if len(ids) > self.max_text:
            raise UserError(
                f'the prompt "{prompt[:40]}..." has {len(ids)} tokens; expected at most {self.max_text}'
            )
        return ids

    def text_batch(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """(ids [P, T] padded on the left, number of pads [P, 1])."""
        rows = [self.text_ids(prompt) for prompt in prompts]
        width = max(map(len, rows))
        ids = torch.tensor([[self.pad] * (width - len(row)) + row for row in rows], device=self.device)
        return ids, torch.tensor([[width - len(row)] for row in rows], device=self.device)

    def without_prompt(self, ids: Tensor) -> Tensor:
        """Prompts' ids to those of the unconditional branch: all but bos and `<begin_of_image>` become the pad token."""
        return ids.masked_fill((ids != self.bos) & (ids != self.boi), self.pad)

    # ----- pieces ----------------------------------------------------------------------------------------------------

    def read(self, cache: JanusCache, x: Tensor) -> Tensor:
        """Reads embedded tokens [R, L, D] after those in the cache, which they extend; final hidden states [R, L, D].

        Positions count from a row's own first token, so that a row does not depend on the others' lengths.
        """
        new = x.shape[1]
        places = torch.arange(cache.used, cache.used + new, device=self.device) - cache.pads
        # the cache by place: its name changed in transformers 5.24
        out = self.llama(None, cache.seen(new), places.clamp(min=0), cache, inputs_embeds=x, use_cache=True)
        cache.used += new
        cache.last = out.last_hidden_state[:, -1]
        return out.last_hidden_state

    def read_codes(self, cache: JanusCache, codes: Tensor) -> Tensor:
        """`read` for image codes [B, L], the same in both branches."""
        x = self.network["generation_aligner"](self.network["generation_embeddings"](codes))
        return self.read(cache, x.repeat(2, 1, 1) if cache.guidance else x)

    def head(self, hidden: Tensor) -> Tensor:
        """Hidden states [..., D] to logits over the image codes [..., V], float32. Not linear: guidance comes after it."""
        return self.ends["generation_head"](hidden.float())

    def guided(self, hidden: Tensor, guidance: float) -> Tensor:
        """Hidden states of all rows, with guidance [2B, ..., D], to the combined logits [B, ..., V]."""
        logits = self.head(hidden)
        if not guidance:
            return logits
        own, empty = logits.chunk(2)
        return empty + (1 + guidance) * (own - empty)

    # ----- ImageTokenModel -------------------------------------------------------------------------------------------

    @torch.no_grad()
    def prefix(self, prompts: list[str], guidance: float | None = None) -> JanusCache:
        """Text keys and values of the prompts, and of their unconditional twins for guidance, computed once."""
        guidance = self.config.guidance if guidance is None else float(guidance)
        if not isfinite(guidance) or guidance < 0:
            raise UserError(f"guidance is {guidance}; expected a finite number of at least 0")
        ids, pads = self.text_batch(prompts)
        valid = torch.arange(ids.shape[1], device=self.device) >= pads
        if guidance:
            ids, pads, valid = (
                torch.cat([ids, self.without_prompt(ids)]),
                pads.repeat(2, 1),
                valid.repeat(2, 1),
            )
        x = self.llama.embed_tokens(ids)
        keys, values = ([self._room(x) for _ in self.llama.layers] for _ in range(2))
        cache = JanusCache(keys, values, valid, pads, guidance)
        self.read(cache, x)
        return cache

    def _room(self, x: Tensor) -> Tensor:
        """Place for one layer's keys, or values, of tokens [R, L, D]."""
        said = self.llama.config
        size = getattr(said, "head_dim", None) or said.hidden_size // said.num_attention_heads
        return x.new_empty(len(x), said.num_key_value_heads, x.shape[1], size)

    @torch.no_grad()
    def logits(self, prefix: JanusCache, codes: Tensor, rows: Tensor) -> Tensor:
        """Logits [R, V] at the True places of `rows` (bool [B, N]), in row-major order, each after the codes before it.

        All places in one pass; for drawing, `next_logits` reads each code once. The prefix has a row for each path, or a
        single one for all. UserError when a code before a True place is not drawn.
        """
        needed = rows.flip(1).cumsum(1).flip(1) > rows  # places before a True one
        if bool(((codes == self.mask_id) & needed).any()):
            raise UserError(
                "a place was asked for before those in front of it are drawn; raster order draws them first"
            )
        cache = self.start_cache(prefix, len(codes))
        hidden = [cache.last[:, None]]
        if self.tokens > 1:
            hidden.append(self.read_codes(cache, codes[:, :-1].clamp(max=self.codebook_size - 1)))
        places = rows.repeat(2, 1) if prefix.guidance else rows
        return self.guided(torch.cat(hidden, 1)[places], prefix.guidance)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, N] to pictures [B, 3, H, W] in 0..1, in float32.

        The tokenizer takes whole pictures only, so places not drawn yet (mask_id) get the placeholder. In such a picture the
        part below the last code is no guess of the model's, and the part above is not final: the decoder's norms and its
        attention look at the whole picture, so it shifts a little with every code that is still to come.
        """
        codes = codes.masked_fill(codes == self.mask_id, self.placeholder)
        vq = self.ends["vqmodel"]
        return self.pictures.run(
            lambda mine: (vq.decode(codes[mine]) / 2 + 0.5).clamp(0, 1), len(codes), "pictures"
        )

    # ----- raster order ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def start_cache(self, prefix: JanusCache, rows: int) -> JanusCache:
        """Room for the keys and values of `rows` paths, with the text's already in it; all of it is taken at once.

        torch.OutOfMemoryError, with the size, when the device has not got it.
        """
        if prefix.paths == 1 < rows:
            prefix = prefix.select(torch.zeros(rows, dtype=torch.long))
        try:
            return prefix.with_room(self.tokens - 1)
        except torch.OutOfMemoryError as error:
            each = prefix.keys[0][0, :, 0].numel() * prefix.keys[0].element_size()
            size = 2 * len(prefix.keys) * len(prefix.valid) * (prefix.used + self.tokens - 1) * each / 2**30
            raise torch.OutOfMemoryError(f"keys and values of {rows} paths need {size:.1f} GiB, which the device has not got "
                                         "left; draw fewer paths at once (chunk)") from error  # fmt: skip

    @torch.no_grad()
    def fill_cache(self, cache: JanusCache, codes: Tensor) -> None:
        """Reads the first codes [B, L] of a picture in one pass, as if they had been drawn."""
        self.read_codes(cache, codes)

    @torch.no_grad()
    def next_logits(self, cache: JanusCache, before: Tensor, place: int) -> Tensor:
        """Logits [B, V] of token `place` after the code `before` [B] (ignored at place 0); extends the cache."""
        if place:
            self.read_codes(cache, before[:, None])
        return self.guided(cache.last, cache.guidance)

    # ----- files -----------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls, folder: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype | str | None = None, *,
        chunk: int | None = None, placeholder: int = 0,
    ) -> Self:  # fmt: skip
        """Loads a Janus-Pro folder or hub id in transformers' format, in evaluation mode.

        dtype: of the language model, by default what suits the device; head and picture decoder are float32. chunk,
        placeholder: as in the class. UserError when a file is not right.
        """
        folder, device = checkpoint_folder(folder), torch.device(device)
        parts = load_parts(folder, pick_dtype(device) if dtype is None else number_format(dtype), device)
        words = load_words(folder, parts.network["language_model"].embed_tokens.num_embeddings)
        return cls(parts, words, chunk, placeholder).eval()
