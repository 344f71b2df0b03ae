"""Show-o (Xie et al., arXiv 2408.12528): one transformer, Phi-1.5 with normalised queries and keys, over text and image
tokens; 256 or 512 pixels, and the paper's three preference-tuned checkpoints of the 256 model.

A sequence is `[PAD]* <|t2i|> bos text eos | <|soi|> image <|eoi|>`: 129 places for the text, filled from the right,
then the picture in raster order. Text is causal and never sees the picture; the picture's places see all text, each
other, and no pad. So the text's keys and values are computed once per prompt, pads can be cut away (positions stay as
if they were there), guidance is combined before the head, and the head knows only the 8192 image codes. All of that is
exact; `full_logits` is the plain way for comparison.

    model = Showo.from_pretrained("show-o", words="phi-1_5", device="cuda", dtype="bf16")

`mask_id` is 8192 here, one past the last code: codes plus an offset are then Show-o's own ids, the mask included.
On a GPU the picture's layers run with cotlib's kernel for norm, rotation and cache (`showo_body`), unless `kernel` is False.
"""

import copy
from math import isfinite
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cotlib.errors import UserError
from cotlib.models.generator import Prefix
from cotlib.models.grid import TokenGrid
from cotlib.models.published.chunked import Chunks
from cotlib.models.published.files import beside, checkpoint_folder, load_words, number_format, read_config
from cotlib.models.published.magvit import Magvit
from cotlib.models.published.showo_body import picture_states, suits
from cotlib.models.published.showo_files import load_phi, save_showo, words_of
from cotlib.models.published.showo_layout import TEXT, ShowoConfig, omni_mask


class TextRecord:
    """Stands in for transformers' cache while text runs: notes each layer's keys and values [P, heads, T, D/heads]."""

    def __init__(self):
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def get_seq_length(self, *_) -> int:
        """Tokens seen before."""
        return 0

    def update(self, keys: Tensor, values: Tensor, layer: int, *_, **__) -> tuple[Tensor, Tensor]:
        """What layer `layer` attends to."""
        self.keys.append(keys)
        self.values.append(values)
        return keys, values


class TextBefore(TextRecord):
    """The same while a picture runs: puts the text's keys and values before the picture's, and keeps nothing, so that
    nothing has to be cropped between steps."""

    def __init__(self, keys: list[Tensor], values: list[Tensor]):
        self.keys, self.values = keys, values

    def get_seq_length(self, *_) -> int:
        """Text tokens."""
        return self.keys[0].shape[2]

    def update(self, keys: Tensor, values: Tensor, layer: int, *_, **__) -> tuple[Tensor, Tensor]:
        """Keys and values [B, heads, T + L, D/heads]."""
        return torch.cat([self.keys[layer], keys], 2), torch.cat([self.values[layer], values], 2)


class Showo(TokenGrid, nn.Module):
    """Text and image codes to logits over image codes. Implements `ImageTokenModel` (see `cotlib.interfaces`).

    phi: transformers' PhiForCausalLM. words: the text tokenizer (see `files.load_words`). tokenizer: the image
    tokenizer; only `decode` needs it. chunk: pictures that go through the network at once, None for all; it is halved
    when the device runs out of memory. kernel: False for plain torch on a GPU too.
    """

    max_text = TEXT - 3  # <|t2i|>, bos and eos take a place each; longer texts are cut

    def __init__(
        self, config: ShowoConfig, phi: nn.Module, words, tokenizer: Magvit | None = None, chunk: int | None = None,
        kernel: bool = True,
    ):  # fmt: skip
        super().__init__()
        self.config, self.phi, self.words, self.tokenizer = config, phi, words, tokenizer
        self.chunks, self.kernel = Chunks(chunk), kernel
        if tokenizer is not None and tokenizer.codebook_size != config.codes:
            raise UserError(f"the image tokenizer has {tokenizer.codebook_size} codes, Show-o {config.codes}; expected the "
                            "same; give the folder of showlab/magvitv2")  # fmt: skip

    def without_kernels(self) -> Self:
        """The same model, sharing its weights, with plain torch on a GPU too."""
        plain = copy.copy(self)
        plain.kernel = False
        return plain

    # ----- sizes -----------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.phi.lm_head.weight.device

    # ----- text and sequence -----------------------------------------------------------------------------------------

    def text_ids(self, prompt: str) -> list[int]:
        """Ids of a prompt before the picture, without pads: <|t2i|>, bos, at most 126 text tokens, eos. An empty prompt
        is <|t2i|>, bos, eos, which guidance steers away from."""
        start, end = self.words.bos_token_id, self.words.eos_token_id
        text = list(self.words([prompt])["input_ids"][0])
        text = text if text[:1] == [start] else [start, *text]
        ids = [self.config.id_of("<|t2i|>"), *text, end]
        return ids if len(ids) <= TEXT else [*ids[: TEXT - 1], end]

    def text_batch(self, prompts: list[str], width: int = 0) -> tuple[Tensor, Tensor]:
        """(ids [P, T], bool [P, T]: no pad), padded on the left to the longest prompt, or to `width` when that is more."""
        rows = [self.text_ids(prompt) for prompt in prompts]
        width = max(width, *map(len, rows))
        pad = self.config.id_of("[PAD]")
        ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows], device=self.device)
        return ids, ids != pad

    def picture_ids(self, codes: Tensor) -> Tensor:
        """Codes [B, N] (mask_id allowed) to the picture's part of the sequence [B, N + 2]: soi, image tokens, eoi."""
        ids = F.pad(codes + self.config.offset, (1, 0), value=self.config.id_of("<|soi|>"))
        return F.pad(ids, (0, 1), value=self.config.id_of("<|eoi|>"))

    def sequence(self, prompts: list[str], codes: Tensor) -> Tensor:
        """The whole sequence of each prompt and its codes [B, N], pads included: ids [B, 129 + N + 2]."""
        return torch.cat([self.text_batch(prompts, TEXT)[0], self.picture_ids(codes)], dim=1)

    def full_mask(self, ids: Tensor) -> Tensor:
        """Show-o's attention mask of whole sequences [B, L], bool [B, 1, L, L] (see `omni_mask`)."""
        return omni_mask(ids, self.config.id_of("[PAD]"), self.config.id_of("<|soi|>"))

    def full_logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The plain way: whole sequences through the whole network, with gradients, nothing cut, cached or combined.

        ids: long [B, L]. mask: bool [B, L, L] or [B, 1, L, L], True where the row may see the column; or float, added to
        the scores.
        Returns logits [B, L, all 58498 ids]. UserError for a bool mask with eager attention, which would add it as 0 and 1.
        """
        if mask.dtype == torch.bool and self._eager:
            raise UserError("the mask is boolean and the attention eager, which would add it as 0 and 1; expected a float "
                            'mask of 0 and -inf there; load with attention="sdpa", or give such a mask')  # fmt: skip
        mask = mask[:, None] if mask.ndim == 3 else mask
        return self.phi(input_ids=ids, attention_mask=mask, use_cache=False).logits

    # ----- pieces ----------------------------------------------------------------------------------------------------

    @property
    def _eager(self) -> bool:
        return self.phi.config._attn_implementation == "eager"

    def _attention_mask(self, seen: Tensor) -> Tensor:
        """A bool mask in the form that the network's attention takes."""
        if not self._eager:
            return seen
        dtype = self.phi.lm_head.weight.dtype
        return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)

    def keys_values(self, ids: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Text ids [P, T], padded on the left, to each layer's keys and values [P, heads, T, D/heads].

        Positions are those of the full sequence, where the text ends at place 128, whatever T is.
        """
        record, places = TextRecord(), torch.arange(TEXT - ids.shape[1], TEXT, device=self.device)
        mask = self._attention_mask(self.full_mask(ids))
        self.phi.model(ids, mask, places[None], record)  # by place: the name changed in transformers 5.24
        return record.keys, record.values

    def image(self, codes: Tensor, keys: list[Tensor], values: list[Tensor], valid: Tensor | None) -> Tensor:
        """Codes [B, N] over text keys and values to final hidden states [B, N, D]."""
        ids = self.picture_ids(codes)
        text, places = keys[0].shape[2], torch.arange(TEXT, TEXT + ids.shape[1], device=self.device)
        if valid is None:  # everything is seen; without a mask Phi would be causal
            seen = torch.ones(1, 1, 1, text + ids.shape[1], dtype=torch.bool, device=self.device)
        else:
            seen = F.pad(valid, (0, ids.shape[1]), value=True)[:, None, None]
        if self._fused(ids):
            seen = None if valid is None else seen
            return picture_states(self.phi, ids, places, keys, values, seen)[:, 1:-1]
        out = self.phi.model(ids, self._attention_mask(seen), places[None], TextBefore(keys, values))
        return out.last_hidden_state[:, 1:-1]

    def _fused(self, ids: Tensor) -> bool:
        """Whether a picture's layers run with the kernel."""
        return self.kernel and ids.is_cuda and not torch.is_grad_enabled() and suits(self.phi)

    def head(self, hidden: Tensor) -> Tensor:
        """Hidden states [..., D] to logits over the image codes [..., V], always in float32: guidance stretches
        differences that half precision would round away."""
        codes, full = slice(self.config.offset, self.config.offset + self.config.codes), self.phi.lm_head
        return F.linear(hidden.float(), full.weight[codes].float(), full.bias[codes].float())

    def train_hidden(self, ids: Tensor, valid: Tensor, codes: Tensor) -> Tensor:
        """Final hidden states [B, N, D] with gradients, from `text_batch` and visible codes [B, N]; for `head`."""
        return self.image(codes, *self.keys_values(ids), valid)

    # ----- ImageTokenModel -------------------------------------------------------------------------------------------

    @torch.no_grad()
    def prefix(self, prompts: list[str], guidance: float | None = None) -> Prefix:
        """Text keys and values of the prompts, and of the empty one for guidance, computed once."""
        guidance = self.config.guidance if guidance is None else float(guidance)
        if not isfinite(guidance) or guidance < 0:
            raise UserError(f"guidance is {guidance}; expected a finite number of at least 0")
        ids, valid = self.text_batch(prompts)
        null = self.keys_values(self.text_batch([""])[0]) if guidance else (None, None)
        return Prefix(*self.keys_values(ids), None if bool(valid.all()) else valid, guidance, *null)

    @torch.no_grad()
    def hidden(self, prefix: Prefix, codes: Tensor, rows: Tensor) -> Tensor:
        """Final hidden states [R, D] at the True places of `rows` (bool [B, N]), guidance already combined, float32 then.

        The prefix has a row for each path, or a single one for all. rows may also be the places themselves, long [B, M]; then
        [B, M, D] is returned, and there is nothing for the host to wait for.
        """
        if len(prefix.keys[0]) == 1 < len(codes):
            prefix = prefix.select(torch.zeros(len(codes), dtype=torch.long, device=codes.device))

        def part(mine: slice) -> Tensor:
            if not prefix.guidance:
                text = prefix.select(mine)
                return _at(self.image(codes[mine], text.keys, text.values, text.valid), rows[mine])
            own, empty = self.image(codes[mine].repeat(2, 1), *self._with_null(prefix.select(mine))).chunk(2)
            own, empty = _at(own, rows[mine]).float(), _at(empty, rows[mine]).float()
            return (1 + prefix.guidance) * own - prefix.guidance * empty

        return self.chunks.run(part, len(codes), "pictures")

    def _with_null(self, prefix: Prefix) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Keys, values and validity of a prefix's P rows and, below them, P times those of the empty prompt."""
        count, _, text, _ = prefix.keys[0].shape
        short = text - prefix.null_keys[0].shape[2]

        def joined(own: list[Tensor], null: list[Tensor]) -> list[Tensor]:
            padded = (F.pad(n, (0, 0, short, 0)).expand(count, -1, -1, -1) for n in null)
            return [torch.cat(pair) for pair in zip(own, padded, strict=True)]

        valid = torch.ones(2 * count, text, dtype=torch.bool, device=self.device)
        valid[count:, :short] = False
        if prefix.valid is not None:
            valid[:count] = prefix.valid
        return joined(prefix.keys, prefix.null_keys), joined(prefix.values, prefix.null_values), valid

    @torch.no_grad()
    def logits(self, prefix: Prefix, codes: Tensor, rows: Tensor) -> Tensor:
        """Logits [R, V] at the True places of `rows` (bool [B, N]), in row-major order; float32."""
        return self.head(self.hidden(prefix, codes, rows))

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, N] to pictures [B, 3, H, W] in 0..1; the mask counts as the last code."""
        if self.tokenizer is None:
            raise UserError("this Show-o has no image tokenizer; expected the folder of showlab/magvitv2 in its own or "
                            "beside it, as magvitv2; or give it as tokenizer=...")  # fmt: skip
        return self.tokenizer.decode(codes.clamp(0, self.codebook_size - 1))

    # ----- files -----------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls, folder: Path | str, *, words: object = None, tokenizer: Magvit | Path | str | None = None,
        device: torch.device | str = "cpu", dtype: torch.dtype | str = "float32", attention: str = "sdpa",
        chunk: int | None = None, kernel: bool = True,
    ) -> Self:  # fmt: skip
        """Loads a published Show-o folder or hub id, in evaluation mode.

        words: the text tokenizer or its folder; looked for in the folder, in `phi-1_5` inside or beside it, and under the
        name in its config.json. tokenizer: the image tokenizer or its folder; looked for in `magvitv2` inside or beside
        the folder, and on the hub for a hub id. dtype: of the network. attention: "sdpa" or "eager". chunk, kernel: as in the
        class. UserError when a file is not right.
        """
        on_hub = not Path(folder).is_dir()
        folder = checkpoint_folder(folder)
        said = read_config(folder, "Showo")
        config = ShowoConfig.of(said, folder)
        words = load_words(words_of(folder, said) if words is None else words, config.text_codes)
        phi = load_phi(folder, said, config, number_format(dtype), device, attention)
        if tokenizer is None:
            tokenizer = beside(folder, "magvitv2") or ("showlab/magvitv2" if on_hub else None)
        if isinstance(tokenizer, str | Path):
            tokenizer = Magvit.from_pretrained(tokenizer, device=device)
        return cls(config, phi, words, tokenizer, chunk, kernel).eval()

    def save_pretrained(self, folder: Path | str) -> None:
        """Writes the network as a published folder has it, in its own number format; the tokenizers stay where they are."""
        save_showo(folder, self.config, self.phi)


def _at(hidden: Tensor, rows: Tensor) -> Tensor:
    """Of hidden [B, N, D] the True places of bool [B, N], [R, D], or the places long [B, M], [B, M, D]."""
    if rows.dtype == torch.bool:
        return hidden[rows]
    return hidden.gather(1, rows[:, :, None].expand(-1, -1, hidden.shape[2]))
