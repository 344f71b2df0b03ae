"""LLaVA-OneVision as verifier: the zero-shot one, and the paper's own ORM and PARM, by the same questions.

    verifier = LlavaVerifier.from_pretrained("lmms-lab/llava-onevision-qwen2-7b-ov", device="cuda")
    verifier.ask("FINAL", ["a photo of a red dog"], images)

One question is one pass over picture and text. The answer is the model's first word, and of that only two logits count:

    P(yes) = sigmoid(margin),    margin = logsumexp(l_yes, l_Yes) - logsumexp(l_no, l_No)

POTENTIAL continues the chat in which CLARITY was just answered with yes, so its keys and values are kept and only the
second turn (some 60 tokens after some 900) is read. The chat is the one the models were tuned with: ChatML with the
default system line, the picture, a space, the question. Followed are selector.py of
github.com/ZiyuGuo99/Image-Generation-CoT at 1ff33eb and github.com/LLaVA-VL/LLaVA-NeXT.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from cotlib.assets import data_dir
from cotlib.devices import pick_dtype
from cotlib.errors import UserError
from cotlib.interfaces import CLARITY, FINAL, POTENTIAL, STEP
from cotlib.models.published.chunked import Chunks
from cotlib.models.published.files import checkpoint_folder, number_format, read_json
from cotlib.models.published.llava_files import Loaded, load_llava
from cotlib.models.published.pictures import to_pil
from cotlib.verifying.answers import TOP_K, TOP_P, filtered_p_yes

ASKED = (FINAL, STEP, CLARITY, POTENTIAL)
BEFORE = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"  # then comes the picture
)
TURN = "<|im_end|>\n<|im_start|>assistant\n"
NEXT = "yes<|im_end|>\n<|im_start|>user\n"  # CLARITY's answer and the second turn
MARKS = ("<image>", "<|im_start|>", "<|im_end|>")  # would be read as something else than text
Pictures = Tensor | Sequence[Image.Image]


def read_questions(source: Path | str | Mapping | None = None) -> dict[str, str]:
    """The questions and their wording, {prompt} standing for the prompt; source: a JSON file or a dict.

    None gives the shipped `data/questions.json`. What is asked comes after the picture and a space. POTENTIAL is the second
    turn after CLARITY, without picture. UserError when the file is damaged, when a question is unknown, not a text,
    or POTENTIAL comes without CLARITY.
    """
    where = data_dir() / "questions.json" if source is None else source
    found = dict(where) if isinstance(where, Mapping) else read_json(Path(where))
    name = "the questions given" if isinstance(where, Mapping) else where
    unknown = [key for key in found if key not in ASKED]
    if unknown or not found:
        what = f'ask "{unknown[0]}"' if unknown else "are empty"
        raise UserError(f"{name} {what}; expected some of {', '.join(ASKED)}")
    for key, text in found.items():
        if not isinstance(text, str) or not text.strip() or any(mark in text for mark in MARKS):
            raise UserError(f"{name} gives {key} as {text!r}; expected a text without {', '.join(MARKS)}")
    if POTENTIAL in found and CLARITY not in found:
        raise UserError(f"{name} lacks {CLARITY}; expected it beside {POTENTIAL}, which continues its chat")
    return found


@dataclass(frozen=True)
class Remembered:
    """Keys and values of pictures that CLARITY was asked about. keys: what each row is of; seen: bool [R, L], not padding."""

    keys: list[bytes]
    layers: list[tuple[Tensor, Tensor]]
    seen: Tensor


class LlavaVerifier:
    """Prompt, picture and question to P(yes). Implements `cotlib.interfaces.Verifier`.

    loaded: model and look, see `load_llava`. words: the model's tokenizer. questions: see `read_questions`. batch: pictures
    at a time; halved by itself when memory runs out. paper_compatible: answers are read as the released code reads
    them, see `read`. filters: top_k and top_p of that reading; the checkpoint's own unless given, else those of its
    family. remember: how many clear pictures POTENTIAL may find again (each takes some 50 MB with the 7 B model in half
    precision); the others it reads anew, with the same answer.
    """

    ask_from = 0  # step, from 0, at which CLARITY is first worth asking
    thresholds = (0.5, 0.5)  # P(yes) of CLARITY and POTENTIAL that counts as yes

    def __init__(
        self, loaded: Loaded, words, questions: dict[str, str], *, batch: int = 8, paper_compatible: bool = False,
        filters: dict | None = None, remember: int = 32,
    ):  # fmt: skip
        self.model, self.look, self.words = loaded.model, loaded.look, words
        self.wording, self.paper_compatible, self.remember = questions, paper_compatible, remember
        self.filters = {"top_k": TOP_K, "top_p": TOP_P} | loaded.filters | (filters or {})
        self.chunks = Chunks(batch)
        self.yes, self.no = answer_ids(words)
        self._remembered: list[Remembered] = []

    @property
    def questions(self) -> tuple[str, ...]:
        """The questions it has a wording for."""
        return tuple(self.wording)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.lm_head.weight.device

    # ----- asking ----------------------------------------------------------------------------------------------------

    def ask(self, question: str, prompts: list[str], images: Pictures) -> Tensor:
        """P(yes) [B]; images: [B, 3, H, W] in 0..1, or PIL pictures. Errors as in `logits`."""
        return self.read(question, self.logits(question, prompts, images))

    def margin(self, question: str, prompts: list[str], images: Pictures) -> Tensor:
        """log P(yes) / P(no) [B], whatever `paper_compatible` is. Errors as in `logits`."""
        return self._margin(self.logits(question, prompts, images))

    @torch.no_grad()
    def logits(self, question: str, prompts: list[str], images: Pictures) -> Tensor:
        """Logits of the answer's first word, float32 [B, V].

        UserError for a question without wording, for pictures that are not RGB, and for a prompt with a mark of the chat.
        """
        if question not in self.wording:
            known = ", ".join(self.questions)
            raise UserError(
                f'there is no wording for the question "{question}" but for {known}; add it to the questions file'
            )
        if bad := [p for p in prompts if any(mark in p for mark in MARKS)]:
            raise UserError(
                f'the prompt "{bad[0]}" has a mark of the chat; expected a text without {", ".join(MARKS)}'
            )
        pictures = to_pil(images)
        if len(pictures) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts for {len(pictures)} pictures; expected one for each")
        logits = torch.zeros(len(prompts), self.model.lm_head.out_features, device=self.device)
        todo = list(range(len(prompts)))
        if question == POTENTIAL:
            todo = self._from_memory(prompts, pictures, logits)
        if todo:
            rows = [(prompts[b], pictures[b]) for b in todo]
            logits[todo] = self.chunks.run(
                lambda part: self._anew(question, rows[part]), len(rows), "pictures"
            )
        return logits

    def read(self, question: str, logits: Tensor) -> Tensor:
        """P(yes) [B] from the logits of the first word [B, V].

        paper_compatible: after the sampling filters, over the words of the tokenizer, for "yes" and "no" in small letters
        only; NaN where the likeliest word is neither in any spelling. (There the word is drawn, here it is the likeliest.)
        CLARITY gives 1 or 0, as only the word counts; POTENTIAL gives 1 - P(no), on the side of one half that the word is on.
        """
        if not self.paper_compatible:
            return answer_p_yes(logits, self.yes, self.no)
        logits = logits[:, : self._known_words()]
        said = [word.lower() for word in self.words.convert_ids_to_tokens(logits.argmax(-1).tolist())]
        yes = torch.tensor([word == "yes" for word in said], device=logits.device)
        neither = torch.tensor([word not in ("yes", "no") for word in said], device=logits.device)
        if question == CLARITY:
            p = yes.float()
        elif question == POTENTIAL:
            p = 1 - filtered_p_yes(logits, self.no[0], **self.filters)
            p = torch.where(yes, p.clamp(min=0.5), p.clamp(max=0.5 - 1e-6))
        else:
            p = filtered_p_yes(logits, self.yes[0], **self.filters)
        return p.masked_fill(neither, float("nan"))

    def _margin(self, logits: Tensor) -> Tensor:
        return answer_margin(logits, self.yes, self.no)

    # ----- one pass --------------------------------------------------------------------------------------------------

    def text(self, question: str, prompt: str) -> list[str]:
        """What is read after the picture, in pieces that are read one after the other: one for all but POTENTIAL."""
        first = CLARITY if question == POTENTIAL else question
        turns = [" " + self.wording[first].replace("{prompt}", prompt) + TURN]
        return [*turns, self._second_turn(prompt)] if question == POTENTIAL else turns

    def _second_turn(self, prompt: str) -> str:
        return NEXT + self.wording[POTENTIAL].replace("{prompt}", prompt) + TURN

    def visual_tokens(self, pictures: Sequence[Image.Image]) -> list[Tensor]:
        """Each RGB picture as the language model reads it: [T, D], D its width."""
        cut = [self.look.cut(picture) for picture in pictures]
        pixels = torch.cat([self.look.pixels(tiles) for tiles, _ in cut])
        inner = self.model.model
        tower = getattr(inner.vision_tower, "vision_model", inner.vision_tower)
        seen = tower.embeddings(pixels.to(self.device, inner.image_newline.dtype))
        # of the last layer, before the norm that comes after it
        features = inner.multi_modal_projector(tower.encoder(inputs_embeds=seen).last_hidden_state)
        each = features.split([len(tiles) for tiles, _ in cut])
        return [self.look.pack(own, inner.image_newline, picture.size, grid)
                for own, picture, (_, grid) in zip(each, pictures, cut, strict=True)]  # fmt: skip

    def _anew(self, question: str, rows: list[tuple[str, Image.Image]]) -> Tensor:
        """Logits [R, V] of a question, everything read; what POTENTIAL may need is remembered."""
        start = self._embed(BEFORE)
        visual = self.visual_tokens([picture for _, picture in rows])
        asked = [self._embed(*self.text(question, prompt)) for prompt, _ in rows]
        inputs = [torch.cat([start, own, text]) for own, text in zip(visual, asked, strict=True)]
        keep = question == CLARITY and POTENTIAL in self.wording and self.remember > 0
        logits, seen, cache = self._run(inputs, keep=keep)
        if keep:
            self._keep(rows, logits, seen, cache)
        return logits

    def _run(self, inputs: list[Tensor], past: Remembered | None = None, keep: bool = False):
        """(logits [R, V], seen [R, L], cache) after texts [L, D] padded on the left, each continuing its row of `past`."""
        longest = max(map(len, inputs))
        x = torch.stack([nn.functional.pad(row, (0, 0, longest - len(row), 0)) for row in inputs])
        own = torch.stack([torch.arange(longest) >= longest - len(row) for row in inputs]).to(self.device)
        seen = own if past is None else torch.cat([past.seen, own], dim=1)
        places = (seen.cumsum(1) - 1).clamp(min=0)[:, -longest:]
        cache = None
        if past is not None or keep:
            from transformers import DynamicCache

            cache = DynamicCache()
            for layer, (keys, values) in enumerate(past.layers if past else ()):
                cache.update(keys, values, layer)
        mask = None if bool(seen.all()) else seen.long()
        out = self.model.model.language_model(  # the cache by place: its name changed in transformers 5.24
            None, mask, places, cache, inputs_embeds=x, use_cache=cache is not None
        )
        return self.model.lm_head(out.last_hidden_state[:, -1]).float(), seen, cache

    def _embed(self, *texts: str) -> Tensor:
        """Word vectors [L, D] of texts that are split into tokens one by one."""
        ids = torch.tensor(
            [token for text in texts for token in tokens(self.words, text)], device=self.device
        )
        return self.model.model.language_model.embed_tokens(ids)

    # ----- POTENTIAL after CLARITY -----------------------------------------------------------------------------------

    def _keep(self, rows: list[tuple[str, Image.Image]], logits: Tensor, seen: Tensor, cache) -> None:
        """Remembers the rows that are not plainly unclear; the oldest make room."""
        clear = (~(self.read(CLARITY, logits) < self.thresholds[0])).nonzero()[-self.remember :, 0]
        if not len(clear):
            return
        layers = [(layer.keys[clear], layer.values[clear]) for layer in cache.layers]
        keys = [_key(*rows[b]) for b in clear.tolist()]
        self._remembered.append(Remembered(keys, layers, seen[clear]))
        while sum(len(part.keys) for part in self._remembered) > self.remember:
            self._remembered.pop(0)

    def _from_memory(self, prompts: list[str], pictures: list[Image.Image], logits: Tensor) -> list[int]:
        """Fills the rows of `logits` [B, V] whose CLARITY is remembered; returns the others."""
        wanted = {b: _key(prompts[b], pictures[b]) for b in range(len(prompts))} if self._remembered else {}
        done: set[int] = set()
        for part in self._remembered:
            places = {key: row for row, key in enumerate(part.keys)}
            mine = [b for b, key in wanted.items() if key in places and b not in done]
            if mine:
                rows = torch.tensor([places[wanted[b]] for b in mine], device=self.device)
                logits[mine] = self.chunks.run(
                    lambda piece, part=part, rows=rows, mine=mine: self._continued(part, rows[piece],
                                                                                   [prompts[b] for b in mine[piece]]),
                    len(mine), "pictures",
                )  # fmt: skip
                done.update(mine)
        return [b for b in range(len(prompts)) if b not in done]

    def _continued(self, part: Remembered, rows: Tensor, prompts: list[str]) -> Tensor:
        """Logits [R, V] of the second turn after the given rows of a remembered part."""
        past = Remembered([], [(keys[rows], values[rows]) for keys, values in part.layers], part.seen[rows])
        return self._run([self._embed(self._second_turn(prompt)) for prompt in prompts], past)[0]

    def forget(self) -> None:
        """Frees what was remembered for POTENTIAL."""
        self._remembered.clear()

    # ----- words -----------------------------------------------------------------------------------------------------

    def _known_words(self) -> int:
        """Rows of the head that stand for words: the released code cuts the rest, and what transformers added, off."""
        rows = min(len(self.words), self.model.lm_head.out_features)
        added = self.words.get_added_vocab()
        for mark in ("<video>", "<image>"):
            rows -= added.get(mark) == rows - 1
        return rows

    # ----- files -----------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls, name: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype | str | None = None, *,
        questions: Path | str | Mapping | None = None, words: Path | str | None = None, mode: str = "pad",
        attention: str = "sdpa", four_bit: bool = False, **options,
    ) -> "LlavaVerifier":  # fmt: skip
        """Loads a folder or hub id in the LLaVA-NeXT or the transformers format.

        dtype: by default what suits the device. words: where the tokenizer is, unless in the same folder. mode: "pad" as the
        released code asks, or "anyres" as it trains. attention: transformers' name of the attention to use. four_bit: the
        language model's matrices packed by bitsandbytes, a third of the memory of the 7 B model. options: as in the class. UserError when anything is off, before any weights are read.
        """
        wording, folder, device = read_questions(questions), checkpoint_folder(name), torch.device(device)
        dtype = pick_dtype(device) if dtype is None else number_format(dtype)
        tokenizer = load_tokenizer(folder if words is None else checkpoint_folder(words))
        loaded = load_llava(folder, mode, dtype, device, attention, four_bit)
        return cls(loaded, tokenizer, wording, **options)


def answer_margin(logits: Tensor, yes: Sequence[int], no: Sequence[int]) -> Tensor:
    """log P(yes) / P(no) [B] from the logits of the first word [B, V]; yes, no: ids of all their spellings, whose
    probabilities are added."""
    return logits[:, yes].logsumexp(-1) - logits[:, no].logsumexp(-1)


def answer_p_yes(logits: Tensor, yes: Sequence[int], no: Sequence[int]) -> Tensor:
    """P(yes) [B], yes and no in all their spellings and no other word: the sigmoid of `answer_margin`."""
    return answer_margin(logits, yes, no).sigmoid()


def tokens(words, text: str) -> list[int]:
    """Ids of a text, nothing added."""
    return words(text, add_special_tokens=False)["input_ids"]


def answer_ids(words) -> tuple[list[int], list[int]]:
    """Ids of yes and of no, each in small letters and, where that is a token too, with a capital.

    UserError when the tokenizer splits yes, no or a mark of the chat.
    """
    found = []
    for word in ("yes", "no", *MARKS[1:]):
        spelled = [tokens(words, w) for w in dict.fromkeys((word, word.capitalize()))]
        if len(spelled[0]) != 1:
            raise UserError(f'the tokenizer makes {len(spelled[0])} tokens of "{word}"; expected Qwen2\'s, where it is one; '
                            "give the folder that has it as words=...")  # fmt: skip
        found.append([ids[0] for ids in spelled if len(ids) == 1])
    return found[0], found[1]


def load_tokenizer(folder: Path):
    """The tokenizer of a LLaVA-OneVision folder; UserError when there is none that fits."""
    from transformers import AutoTokenizer, Qwen2Config

    try:  # with Qwen2's configuration, so that nobody looks for the folder's own, which LLaVA-NeXT writes in its own way
        words = AutoTokenizer.from_pretrained(folder, config=Qwen2Config())
    except Exception as error:  # OSError, ValueError, KeyError and others, by the kind of damage
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{folder} holds no tokenizer that can be read ({reason}); expected Qwen2's; give the folder that has "
                        "it as words=...") from error  # fmt: skip
    answer_ids(words)
    return words


def _key(prompt: str, picture: Image.Image) -> bytes:
    """Equal for the same prompt and picture, and else different."""
    told = json.dumps([prompt, picture.size]).encode()
    return hashlib.sha256(told + picture.tobytes()).digest()
