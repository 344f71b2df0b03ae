"""The pictogram verifier: a picture, a prompt and a question to one number, and a reflection in words.

The picture is looked at once by a small convolutional network and becomes 64 tokens, one per 8x8 pixels. What it
takes a cell for (class, colour, centre of a thing) is written in the *same word vectors* that the text uses, as
vision encoders aligned with text do: the word "dog" finds a dog's cells by plain similarity from the first step on.
Only text moves through the layers; it reads the picture and never writes to it, so a picture's keys and values
serve every question, every caption and every word of a reflection.

Two things make facts bind. Each word sees its neighbours (a convolution over words), so "dog" knows that it is a
red dog and "left" knows of what; and each word says whether it is wrong, which the answer sums up:

    margin = w . h(question) - s(question) log(1 + sum over words of exp(z))        P(yes) = sigmoid(margin)
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cotlib.errors import UserError
from cotlib.interfaces import CLARITY, FINAL, POTENTIAL, REFLECT, STEP, Detection
from cotlib.models.checkpoint import load_checkpoint, save_checkpoint
from cotlib.models.eye import Eye, Sight, place_features
from cotlib.world.prompts import BEGIN, END, MAX_TEXT, VOCAB, encode, plural
from cotlib.world.scenes import CLASSES, COLORS, RELATIONS, SIZE

QUESTIONS = (FINAL, STEP, CLARITY, POTENTIAL, REFLECT)
ACCEPT = "yes"
WORDS = (*VOCAB, ACCEPT, "one", "missing", "wrong", "extra", "move", "should")
MAX_WORDS = 14  # of a reflection
WORLD = (
    "pictograms-" + hashlib.sha256(" ".join((*CLASSES, *COLORS, *RELATIONS, *WORDS)).encode()).hexdigest()[:8]
)
_IDS = {word: i for i, word in enumerate(WORDS)}


@dataclass(frozen=True)
class VerifierConfig:
    """Sizes, the questions it was trained for, and the world it knows; the default has 0.9 M parameters."""

    questions: tuple[str, ...] = ()
    world: str = WORLD
    ask_from: int = 0  # step, from 0, before which hardly any picture is clear
    clear: float = 0.5  # P(yes) to CLARITY and to POTENTIAL that counts as yes in PARM,
    promising: float = 0.5  # chosen on development prompts (`train.verifier_thresholds`)
    width: int = 128
    layers: int = 3
    heads: int = 4
    hidden: int = 384  # width of the feed-forward layer
    channels: tuple[int, int] = (48, 96)  # at a quarter and an eighth of the resolution
    reach: int = 3  # neighbours on each side that a word sees


@dataclass(frozen=True)
class View:
    """Pictures as the text reads them: each layer's keys and values, [B, heads, N, D/heads]."""

    keys: list[Tensor]
    values: list[Tensor]

    def select(self, index: Tensor | slice) -> "View":
        """The view of the given rows."""
        return View([k[index] for k in self.keys], [v[index] for v in self.values])


class Layer(nn.Module):
    """Text reads text and picture in one attention, then a squared-ReLU feed-forward layer; pre-norm.

    Queries and keys begin as the same orthogonal map, so that attention begins as similarity of words.
    """

    def __init__(self, c: VerifierConfig):
        super().__init__()
        self.heads = c.heads
        self.norm1, self.norm2 = nn.LayerNorm(c.width), nn.LayerNorm(c.width)
        self.qkv = nn.Linear(c.width, 3 * c.width, bias=False)
        self.out = nn.Linear(c.width, c.width, bias=False)
        self.up = nn.Linear(c.width, c.hidden, bias=False)
        self.down = nn.Linear(c.hidden, c.width, bias=False)
        head = c.width // c.heads
        self.q_norm, self.k_norm = nn.LayerNorm(head), nn.LayerNorm(head)
        alike = nn.init.orthogonal_(torch.empty(c.width, c.width))
        with torch.no_grad():
            self.qkv.weight[: 2 * c.width] = alike.repeat(2, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.down.weight)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised vectors [B, L, D] to keys and values [B, heads, L, D/heads]."""
        width = x.shape[-1]
        k, v = F.linear(x, self.qkv.weight[width:]).unflatten(-1, (2, self.heads, -1)).unbind(2)
        return self.k_norm(k).transpose(1, 2), v.transpose(1, 2)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Text x [R, L, D] over itself and the pictures' keys and values; mask: bool [R, 1, L, L + N]."""
        normed = self.norm1(x)
        own_k, own_v = self.keys_values(normed)
        q = self.q_norm(F.linear(normed, self.qkv.weight[: x.shape[-1]]).unflatten(-1, (self.heads, -1)))
        k, v = torch.cat([own_k, keys], dim=2), torch.cat([own_v, values], dim=2)
        attended = F.scaled_dot_product_attention(q.transpose(1, 2), k, v, attn_mask=mask)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.down(F.relu(self.up(self.norm2(x))).square())


class PictogramVerifier(nn.Module):
    """Prompt, picture and question to P(yes); prompt and picture to a reflection. Implements `Verifier`."""

    batch = 32  # pictures at a time, few enough for the caches

    def __init__(self, config: VerifierConfig = VerifierConfig()):
        super().__init__()
        unknown = [q for q in config.questions if q not in QUESTIONS]
        if unknown:
            raise ValueError(f'there is no question "{unknown[0]}"; expected some of {", ".join(QUESTIONS)}')
        if config.world != WORLD:
            raise ValueError(f"it was trained in the world {config.world}, this one is {WORLD}")
        self.config, c = config, config
        self.eye = Eye(c.channels)
        self.words = nn.Embedding(len(WORDS), c.width)  # a plural's row is what differs from its singular
        self.question = nn.Embedding(len(QUESTIONS), c.width)
        self.word_places = nn.Parameter(0.1 * torch.randn(MAX_TEXT, c.width))
        self.said_places = nn.Parameter(0.1 * torch.randn(1 + MAX_WORDS, c.width))
        self.neighbours = nn.Conv1d(c.width, c.width, 2 * c.reach + 1, padding=c.reach, bias=False)
        self.paper, self.centre = nn.Parameter(torch.randn(c.width)), nn.Parameter(torch.randn(c.width))
        self.place = nn.Linear(place_features().shape[1], c.width, bias=False)
        self.feature = nn.Linear(c.channels[1], c.width, bias=False)
        self.image_norm, self.norm = nn.LayerNorm(c.width), nn.LayerNorm(c.width)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.layers))
        self.answer_head, self.word_head = nn.Linear(c.width, len(QUESTIONS)), nn.Linear(c.width, 1)
        self.word_weight = nn.Parameter(torch.ones(len(QUESTIONS)))  # s(question)
        self.speech = nn.Linear(c.width, c.width)
        self.register_buffer("places", place_features(), persistent=False)
        base = [_IDS[singular] for singular in _singulars()]
        self.register_buffer("base", torch.tensor(base), persistent=False)
        nn.init.eye_(self.speech.weight)  # what a state holds the vector of is the word it begins to say
        nn.init.zeros_(self.feature.weight)
        nn.init.constant_(self.word_head.bias, -2.0)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.places.device

    @property
    def questions(self) -> tuple[str, ...]:
        """The questions it was trained for."""
        return self.config.questions

    @property
    def ask_from(self) -> int:
        """The first step, from 0, at which CLARITY is worth asking."""
        return self.config.ask_from

    @property
    def thresholds(self) -> tuple[float, float]:
        """P(yes) from which on PARM takes CLARITY and POTENTIAL for answered with yes."""
        return self.config.clear, self.config.promising

    # ----- pieces, with gradients ------------------------------------------------------------------------------------

    def vectors(self) -> Tensor:
        """Vectors of all words [W, D]; a plural is its singular plus its own row, so that both find the same cells."""
        rows = self.words.weight
        own = self.base == torch.arange(len(WORDS), device=self.device)
        return torch.where(own[:, None], rows, rows[self.base] + 0.3 * rows)

    def tokens(self, sight: Sight) -> Tensor:
        """What was seen as word vectors, [B, N, D]: expected class + expected colour + centre + place + features."""
        vectors = self.vectors()
        names = torch.stack([vectors[_IDS[name]] for name in CLASSES])
        colors = torch.stack([vectors[_IDS[name]] for name in COLORS])
        x = sight.classes.softmax(-1) @ torch.cat([self.paper[None], names])
        x = x + sight.colors.softmax(-1) @ F.pad(colors, (0, 0, 1, 0))
        x = x + sight.centres.sigmoid()[..., None] * self.centre
        return self.image_norm(x + self.place(self.places) + self.feature(sight.features))

    def view(self, tokens: Tensor) -> View:
        """Image tokens [B, N, D] to each layer's keys and values."""
        pairs = [layer.keys_values(tokens) for layer in self.layers]
        return View([k for k, _ in pairs], [v for _, v in pairs])

    def read(
        self, question: Tensor, ids: Tensor, valid: Tensor, view: View, said: Tensor | None = None,
        layers: list[Tensor] | None = None,
    ) -> Tensor:  # fmt: skip
        """Final hidden states [R, 1 + T + S, D] of the question, the prompt and the words said so far.

        question: long [R]; ids: long [R, T] with bool `valid`; view: of R pictures; said: long [R, S] or None.
        Question and prompt see each other and the picture; a said word sees those and the words before it. Each
        layer's output is appended to `layers` when that is given.
        """
        vectors = self.vectors()
        text = F.embedding(ids, vectors) * valid[..., None]
        near = self.neighbours(text.transpose(1, 2)).transpose(1, 2)
        x = torch.cat(
            [self.question(question)[:, None], text + near + self.word_places[: ids.shape[1]]], dim=1
        )
        rows, length = len(ids), x.shape[1]
        seen = F.pad(valid, (1, 0), value=True)[:, None, :].expand(rows, length, length)
        if said is not None:
            later = said.shape[1]
            x = torch.cat([x, F.embedding(said, vectors) + self.said_places[:later]], dim=1)
            earlier = torch.ones(later, later, dtype=torch.bool, device=x.device).tril()
            below = torch.cat([seen[:, :1].expand(rows, later, length), earlier.expand(rows, -1, -1)], dim=2)
            seen = torch.cat([F.pad(seen, (0, later)), below], dim=1)
        mask = F.pad(seen, (0, self.places.shape[0]), value=True)[:, None]  # [R, 1, L, L + N]
        for layer, keys, values in zip(self.layers, view.keys, view.values, strict=True):
            x = layer(x, keys, values, mask)
            if layers is not None:
                layers.append(x)
        return self.norm(x)

    def answer(self, states: Tensor, question: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """(margin [R], logit [R, T] of each word being wrong; minus infinity at padding)."""
        wrong = self.word_head(states[:, 1 : 1 + valid.shape[1]]).squeeze(2)
        wrong = wrong.masked_fill(~valid, float("-inf"))
        base = self.answer_head(states[:, 0]).gather(1, question[:, None]).squeeze(1)
        return base - self.word_weight[question] * F.pad(wrong, (1, 0)).logsumexp(1), wrong

    def speak(self, states: Tensor) -> Tensor:
        """States [R, S, D] of said words to logits of the next word [R, S, W]."""
        return self.speech(states) @ self.vectors().T / self.config.width**0.5

    # ----- asking ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def grid(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What is where: logits of the class [B, 64, 21] and of the colour [B, 64, 9] of each cell; 0 is paper."""
        sights = [self.eye(part) for part in self._pictures(images).split(self.batch)]
        return torch.cat([s.classes for s in sights]), torch.cat([s.colors for s in sights])

    @torch.no_grad()
    def see(self, images: Tensor) -> list[list[Detection]]:
        """The things in each picture, best first: peaks among the centres, with boxes of 24x24 pixels."""
        parts = self._pictures(images).split(self.batch)
        return [things for part in parts for things in self.eye(part).things()]

    @torch.no_grad()
    def views(self, images: Tensor) -> View:
        """The view of pictures [B, 3, 64, 64]: compute it once to ask several questions about them."""
        parts = [self.view(self.tokens(self.eye(p))) for p in self._pictures(images).split(self.batch)]
        return View(*([torch.cat(layer) for layer in zip(*side, strict=True)]
                      for side in ([p.keys for p in parts], [p.values for p in parts])))  # fmt: skip

    @torch.no_grad()
    def margin(self, question: str, prompts: list[str], images: Tensor | View) -> Tensor:
        """log P(yes) / P(no) of a question, [B], one prompt per picture; `images` may be their `views`.

        Raises UserError for a question it was not trained for and for a prompt of another world.
        """
        self._check(question)
        ids, valid = text_batch(prompts, self.device)
        count = len(images.keys[0]) if isinstance(images, View) else len(images)
        if count != len(prompts):
            raise ValueError(f"{len(prompts)} prompts for {count} pictures; expected one for each")
        asked = torch.full((len(prompts),), QUESTIONS.index(question), device=self.device)
        margins = []
        for start in range(0, len(prompts), self.batch):
            part = slice(start, start + self.batch)
            view = images.select(part) if isinstance(images, View) else self.views(images[part])
            states = self.read(asked[part], ids[part], valid[part], view)
            margins.append(self.answer(states, asked[part], valid[part])[0])
        return torch.cat(margins) if margins else torch.zeros(0, device=self.device)

    def ask(self, question: str, prompts: list[str], images: Tensor | View) -> Tensor:
        """P(yes) [B] in 0..1; errors as in `margin`."""
        return self.margin(question, prompts, images).sigmoid()

    @torch.no_grad()
    def say(self, prompts: list[str], images: Tensor) -> list[tuple[str, ...]]:
        """A reflection on each picture: ("yes",), or up to 14 words on what is wrong. Greedy, word by word."""
        self._check(REFLECT)
        ids, valid = text_batch(prompts, self.device)
        spoken: list[tuple[str, ...]] = []
        for start in range(0, len(prompts), self.batch):
            part = slice(start, start + self.batch)
            view = self.views(images[part])
            asked = torch.full((len(ids[part]),), QUESTIONS.index(REFLECT), device=self.device)
            said = torch.full((len(asked), 1), _IDS[BEGIN], device=self.device)
            while said.shape[1] <= MAX_WORDS and not bool((said == _IDS[END]).any(1).all()):
                states = self.read(asked, ids[part], valid[part], view, said)
                said = torch.cat([said, self.speak(states[:, -1:]).argmax(-1)], dim=1)
            lines = [[WORDS[i] for i in row[1:]] for row in said.tolist()]
            spoken += [tuple(line[: line.index(END)] if END in line else line) for line in lines]
        return spoken

    def _check(self, question: str) -> None:
        if question not in self.questions:
            known = ", ".join(self.questions) or "none"
            raise UserError(f'this verifier was not trained for the question "{question}" but for: {known}; ask one of '
                            "these or load another verifier")  # fmt: skip

    def _pictures(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1:] != (3, SIZE, SIZE):
            raise ValueError(
                f"pictures of shape {tuple(images.shape)}; expected [B, 3, {SIZE}, {SIZE}] in 0..1"
            )
        return images.to(self.device)

    # ----- files -----------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, folder: Path | str, device: str = "cpu") -> "PictogramVerifier":
        """Loads a checkpoint folder; UserError when it is missing, damaged, of another model or another world."""
        return load_checkpoint(folder, cls._build, device)

    @classmethod
    def _build(cls, config: dict) -> "PictogramVerifier":
        lists = {key: tuple(config[key]) for key in ("questions", "channels")}
        return cls(VerifierConfig(**{**config, **lists}))

    def save_pretrained(self, folder: Path | str, card: dict) -> None:
        """Writes the checkpoint folder (see `cotlib.models.checkpoint`)."""
        save_checkpoint(folder, self, self.config, card)


def _singulars() -> list[str]:
    """Each word's singular: itself unless it is a class's plural."""
    singular = {plural(name): name for name in CLASSES}
    return [singular.get(word, word) for word in WORDS]


def text_batch(prompts: list[str], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Token ids [R, T] padded on the right, and their validity [R, T]. UserError for a word the world lacks."""
    rows = [encode(prompt) for prompt in prompts]
    longest = max(map(len, rows), default=1)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    valid = torch.zeros(len(rows), longest, dtype=torch.bool)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)], valid[row, : len(tokens)] = torch.tensor(tokens), True
    return ids.to(device), valid.to(device)
