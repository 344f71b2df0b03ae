"""LLaVA-OneVision tuned to answer yes or no: the paper's ORM and PARM (arXiv 2501.13926, sections 3.2 and 4).

    python -m cotlib train llava-orm --init llava-onevision-qwen2-7b-ov --data orm.json --images pictures --out my-orm --lora

The loss is -log p of the answers' tokens alone, the word and the mark that ends it, averaged over all of them in a batch:

    <|im_start|>system ... <|im_start|>user [picture] question<|im_end|> <|im_start|>assistant yes<|im_end|> ...
                                                                                           ^^^ ^^^^^^^^^^ counted

A second pair of turns is PARM's potential question, read as its verifier reads it. The folder written has the format and the
names of the one begun from, so `load("verifier", weights=FOLDER, questions=...)` reads it, and so does the code it came from;
give the questions in the wording of the data. The paper trains with tiles (anyres) and asks without (pad); `--set look=pad`
trains as is asked.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from cotlib.errors import UserError
from cotlib.files import writable_folder
from cotlib.kernels.linear_logprob import linear_logprob
from cotlib.models.published.files import checkpoint_folder, open_weights
from cotlib.models.published.llava import BEFORE, TURN, LlavaVerifier, load_tokenizer, read_questions, tokens
from cotlib.models.published.llava_files import HEADS, load_llava, names_of
from cotlib.resumable import fingerprint
from cotlib.several import join_training, rank, wait, workers
from cotlib.train.published import adapters, presets
from cotlib.train.published.data import Dialogue, open_rgb, read_dialogues
from cotlib.train.published.loop import (
    Run,
    Watch,
    close,
    finished,
    frozen_dtype,
    key_of,
    mixed,
    picks,
    recompute,
    require_memory,
    require_share,
    tune,
)
from cotlib.train.published.presets import LlavaFit

END = "<|im_end|>"
LORA = r".*language_model\.layers\.\d+\.(self_attn|mlp)\.(q|k|v|o|gate|up|down)_proj"
SHARD = 5 * 10**9  # bytes of one file
COPIED = (".json", ".txt", ".jinja", ".model")  # beside the weights


# ----- what is read and what counts ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lesson:
    """ids: tokens after the picture; answered: places in ids that the loss counts; first: those that begin an answer."""

    ids: list[int]
    answered: list[int]
    first: list[int]


def lesson(words, turns: Sequence[tuple[str, str]]) -> Lesson:
    """The turns of a dialogue as tokens; each is read as the verifier reads it (`LlavaVerifier.text`)."""
    ids, answered, first = [], [], []
    before = " "  # after the picture; later after the end of an answer
    for question, answer in turns:
        ids += tokens(words, before + question + TURN)
        first.append(len(ids))
        said = tokens(words, answer) + tokens(words, END)
        answered += range(len(ids), len(ids) + len(said))
        ids += said
        before = "\n<|im_start|>user\n"
    return Lesson(ids, answered, first)


@dataclass
class Student:
    """A LLaVA-OneVision that learns. reader: the verifier around it, for what it sees of a picture."""

    reader: LlavaVerifier

    @property
    def model(self) -> nn.Module:
        """The network."""
        return self.reader.model

    def answers(self, dialogues: Sequence[Dialogue]) -> tuple[Tensor, int]:
        """(log p of every token of the answers [R], how many of the answers have the right word above the wrong one).

        Gradients flow into whatever requires them.
        """
        model, words = self.model, self.reader.words
        lessons = [lesson(words, one.turns) for one in dialogues]
        pictures = [open_rgb(one.picture, one.where) for one in dialogues]
        embed, device = model.model.language_model.embed_tokens, self.reader.device
        with mixed(device):
            start = embed(torch.tensor(tokens(words, BEFORE), device=device))
            rows = [torch.cat([start, seen.to(start.dtype), embed(torch.tensor(own.ids, device=device))])
                    for seen, own in zip(self.reader.visual_tokens(pictures), lessons, strict=True)]  # fmt: skip
            hidden = self._read(rows)
        # the token at place i is foretold at place i - 1
        begin = [len(row) - len(own.ids) - 1 for row, own in zip(rows, lessons, strict=True)]
        at = [
            (b, begin[b] + i, own.ids[i], i in own.first)
            for b, own in enumerate(lessons)
            for i in own.answered
        ]
        row, place, target, opens = (torch.tensor(column, device=device) for column in zip(*at, strict=True))
        head = model.lm_head.weight
        told = hidden[row, place].to(head.dtype)
        log_p = linear_logprob(told, head, target)
        return log_p, self._right(told[opens].detach(), target[opens])

    def _read(self, rows: list[Tensor]) -> Tensor:
        """Final hidden states [B, L, D] of rows [l, D] of different length, padded on the right."""
        longest = max(map(len, rows))
        inputs = torch.stack([F.pad(row, (0, 0, 0, longest - len(row))) for row in rows])
        lengths = torch.tensor([len(row) for row in rows], device=inputs.device)
        seen = (torch.arange(longest, device=inputs.device) < lengths[:, None]).long()
        out = self.model.model.language_model(
            inputs_embeds=inputs, attention_mask=None if bool(seen.all()) else seen, use_cache=False
        )
        return out.last_hidden_state

    @torch.no_grad()
    def _right(self, told: Tensor, target: Tensor) -> int:
        """How many hidden states [R, D] before an answer favour its word, in any spelling, over the other one."""
        head = self.model.lm_head.weight
        yes, no = ((told @ head[ids].T).float().logsumexp(-1) for ids in (self.reader.yes, self.reader.no))
        is_yes = torch.isin(target, torch.tensor(self.reader.yes, device=target.device))
        return int(((yes > no) == is_yes).sum())


# ----- the recipe ------------------------------------------------------------------------------------------------------


def run(
    out: Path, stage: str = "llava-orm", seed: int = 0, minutes: float | None = None, resume: bool = False,
    start: Path | None = None, data: Path | None = None, images: Path | None = None, lora: bool = False,
    settings: Iterable[str] = (), fit: LlavaFit | None = None, watch: Watch | None = None,
) -> dict:  # fmt: skip
    """Tunes a LLaVA-OneVision into the folder `out`; returns the metrics, means over the last ten updates.

    start: its folder or hub id; data, images: see `data.read_dialogues`; lora: adapters, added to the weights in the end;
    settings: changes of the preset, "name=value" each, or fit: another one. minutes: no update is begun after this time; the weights so far are
    written and `resume` goes on. UserError when anything is off, before any weights are read wherever possible.
    """
    device, out = join_training(), writable_folder(out)
    fit = fit or presets.preset(stage, lora, settings)
    if start is None or data is None:
        raise UserError(f"{stage} tunes a LLaVA-OneVision on questions with answers; give its folder with --init and the file with "
                        "--data")  # fmt: skip
    dialogues, start = read_dialogues(data, images, seed), checkpoint_folder(start)
    if start.resolve() == out.resolve():
        raise UserError(f"{out} is the folder of the weights to begin from; give another one with --out")
    require_share(fit.batch)
    words = load_tokenizer(start)
    said = [[str(one.picture), *map(list, one.turns)] for one in dialogues]
    key = key_of("llava", fit.lasting(), seed, fingerprint(start), said)
    if resume and (metrics := finished(out, key)):
        return metrics
    dtype = frozen_dtype(device) if fit.lora else torch.float32
    require_memory(start, fit, device, dtype)
    loaded = load_llava(start, fit.look, dtype, device)
    student = Student(LlavaVerifier(loaded, words, read_questions()))
    optimizer = torch.optim.AdamW(prepare(student.model, fit, seed), weight_decay=fit.weight_decay)
    updates = fit.updates(len(dialogues))
    state = Run(student.model, optimizer, fit, updates, out, key)
    complete = tune(
        state, teacher(student, dialogues, fit, seed), resume=resume, minutes=minutes, watch=watch
    )
    card = {"stage": stage, "start": str(start), "data": str(data), "examples": len(dialogues), "seed": seed,
            "fit": asdict(fit)}  # fmt: skip
    if rank() == 0:
        write_llava(start, out, student.model)
    wait()
    return close(state, complete, card)


def prepare(model: nn.Module, fit: LlavaFit, seed: int) -> list[dict]:
    """Makes the parameters that are tuned require gradients, and groups them by learning rate."""
    if fit.checkpointing:
        recompute(model)
    if fit.lora:
        adapters.add_adapters(model, LORA, fit, seed)
        return [{"params": [p for p in model.parameters() if p.requires_grad], "lr": fit.lr}]
    model.requires_grad_(True)
    tower = list(model.model.vision_tower.parameters())
    mine = {id(p) for p in tower}
    rest = [p for p in model.parameters() if id(p) not in mine]
    return [{"params": rest, "lr": fit.lr}, {"params": tower, "lr": fit.vision_lr}]


def teacher(student: Student, dialogues: list[Dialogue], fit: LlavaFit, seed: int):
    """The step of the loop. Its curves: loss in nats a token of the answers, and the share of answers told right."""

    def step(update: int) -> dict[str, float]:
        batch = [dialogues[i] for i in picks(update, len(dialogues), fit.batch, seed)]
        counted = sum(len(lesson(student.reader.words, one.turns).answered) for one in batch)
        asked = sum(len(one.turns) for one in batch)
        mine = batch[rank() :: workers()]
        loss, right = 0.0, 0
        for first in range(0, len(mine), fit.micro):
            log_p, good = student.answers(mine[first : first + fit.micro])
            part = -log_p.sum() * workers() / counted
            part.backward()
            loss, right = loss + part.item(), right + good
        return {"loss": loss, "accuracy": right * workers() / asked}

    return step


# ----- the folder ------------------------------------------------------------------------------------------------------


def write_llava(start: Path, out: Path, model: nn.Module) -> None:
    """The tuned weights in the names and number formats of the folder `start`, in files of 5 GB, and its small files beside them.

    Adapters are added to the weights of that folder, so that whatever they leave as it is stays so to the bit.
    """
    weights = open_weights(start)
    for file in start.iterdir():
        small = file.suffix in COPIED and not file.name.endswith(".index.json")
        if small and file.is_file() and file not in weights.files.values():
            shutil.copyfile(file, out / file.name)
    for stale in out.glob("model*.safetensors*"):  # of another run: other files might be found first
        stale.unlink()
    now, stream, places = tuned(model), weights.tensors(), {}
    parts = list(_parts(weights.shapes, next(weights.tensors())[1].itemsize))
    for number, names in enumerate(parts, 1):
        file = (
            "model.safetensors" if len(parts) == 1 else f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        )
        own = {name: now(name, tensor).contiguous() for name, tensor in islice(stream, len(names))}
        save_file(own, out / file, metadata={"format": "pt"})
        places |= dict.fromkeys(own, file)
    if len(parts) > 1:
        index = {"metadata": {}, "weight_map": places}
        (out / "model.safetensors.index.json").write_text(
            json.dumps(index, indent=1) + "\n", encoding="utf-8"
        )


def tuned(model: nn.Module) -> Callable[[str, Tensor], Tensor]:
    """What becomes of a tensor of the files: (name there, tensor) -> tensor in the same number format."""
    rename, changes = names_of(model), adapters.changes(model.model)
    own = {} if changes else model.model.state_dict()

    def now(name: str, tensor: Tensor) -> Tensor:
        goal = rename(name)  # None for the head, and for what is computed
        if changes:
            return (
                (tensor.float() + changes[goal]().to("cpu")).to(tensor.dtype) if goal in changes else tensor
            )
        found = model.lm_head.weight if name in HEADS else own.get(goal)
        return tensor if found is None else found.detach().to("cpu", tensor.dtype)

    return now


def _parts(shapes: dict[str, tuple[int, ...]], itemsize: int) -> Iterator[list[str]]:
    """Names in parts of at most SHARD bytes, or of one tensor."""
    part, size = [], 0
    for name, shape in shapes.items():
        own = itemsize * torch.Size(shape).numel()
        if part and size + own > SHARD:
            yield part
            part, size = [], 0
        part.append(name)
        size += own
    if part:
        yield part
