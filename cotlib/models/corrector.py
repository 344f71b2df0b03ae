"""The pictogram generator with a memory of a failed picture and of what was said of it.

The paper's PARM++ (arXiv 2501.13926, section 5) gives the generator prompt, failed picture and reflection in one
sequence and lets it draw anew. Here these come first, as a longer prefix that the new picture's tokens see:

    prompt | reflection in words | failed picture (64 tokens) | new picture

The prefix is causal, so like a prompt's it is computed once and kept for all rounds. Without the failed picture
everything is as in the plain generator, which is how local edits are drawn (`cotlib.correcting`).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cotlib.models.generator import GeneratorConfig, PictogramGenerator, Prefix
from cotlib.models.verifier import MAX_WORDS, WORDS
from cotlib.world.prompts import END, MAX_TEXT, VOCAB, encode


class PictogramCorrector(PictogramGenerator):
    """A masked-order generator that can also read a failed picture and a reflection."""

    def __init__(self, config: GeneratorConfig | None = None):
        config = config or GeneratorConfig()
        super().__init__(config)
        if config.order != "masked":
            raise ValueError(f"order is {config.order}; a corrector draws in masked order")
        self.said = nn.Embedding(len(WORDS) - len(VOCAB), config.width)  # words that no prompt has
        self.said_places = nn.Parameter(torch.zeros(MAX_WORDS + 1, config.width))
        self.failed = nn.Parameter(torch.zeros(config.width))  # marks the tokens of the failed picture
        nn.init.normal_(self.said.weight, std=0.02)
        nn.init.normal_(self.said_places, std=0.02)

    def history(
        self, prompts: Sequence[str], codes: Tensor, words: Sequence[Sequence[str]]
    ) -> tuple[Tensor, Tensor]:
        """Embedded prefix [B, T + 64, D] and its validity, bool [B, T + 64].

        codes: long [B, 64], the failed pictures; words: up to 14 words said of each, () for a reflection without
        words. An empty prompt stands for nothing at all: its picture is hidden as well.
        """
        lines = [_line(prompt, said) for prompt, said in zip(prompts, words, strict=True)]
        longest = max(len(line) for line in lines)
        ids = torch.zeros(len(lines), longest, 2, dtype=torch.long)
        valid = torch.zeros(len(lines), longest, dtype=torch.bool)
        for row, line in enumerate(lines):
            ids[row, : len(line)] = torch.tensor(line)
            valid[row, : len(line)] = True
        ids, valid = ids.to(self.device), valid.to(self.device)
        vocabulary = torch.cat([self.words.weight, self.said.weight])
        places = torch.cat([self.word_places, self.said_places])
        text = F.embedding(ids[:, :, 0], vocabulary) + F.embedding(ids[:, :, 1], places)
        picture = self.embed_codes(codes) + self.places() + self.failed
        asked = torch.tensor([bool(prompt) for prompt in prompts], device=self.device)
        seen = asked[:, None].expand(-1, codes.shape[1])
        return torch.cat([text, picture], dim=1), torch.cat([valid, seen], dim=1)

    @torch.no_grad()
    def correction_prefix(
        self, prompts: Sequence[str], codes: Tensor, words: Sequence[Sequence[str]],
        guidance: float | None = None,
    ) -> Prefix:  # fmt: skip
        """The prefix of one correction a row, for `decoding.masked_rounds`; arguments as in `history`."""
        plain = self.prefix([""], guidance)
        x, valid = self.history(prompts, codes, words)
        keys, values = self.keys_values(x, valid)
        return Prefix(keys, values, valid, plain.guidance, plain.null_keys, plain.null_values)


def _line(prompt: str, words: Sequence[str]) -> list[tuple[int, int]]:
    """(word, place) of a prompt and the words said of its picture; the second part has places of its own."""
    line = [(word, place) for place, word in enumerate(encode(prompt))]
    said = [*words[:MAX_WORDS], END] if words else []
    return line + [(WORDS.index(word), MAX_TEXT + place) for place, word in enumerate(said)]
