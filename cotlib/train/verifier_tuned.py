"""Recipes: verifiers trained further on the generator's own pictures. Each goes on from another checkpoint.

    orm         FINAL: is the finished picture right? The label is the judge's verdict.
    prm         STEP: did any of four continuations of this state end right? (`verifier_rollouts`)
    parm        goes on from orm: FINAL, CLARITY (does the guess already show the things of the finished picture?) and
                POTENTIAL (the final verdict of the path, asked where it will be asked: mostly at clear rounds)
    parm-plus   the same and REFLECT: words on finished pictures, 80 % wrong ones; right ones are answered "yes"

The targets of REFLECT are made by rule from what the judge detected (`verifying.repair.find_faults`); when the verdict
and the rule disagree the picture is left out. Tasks come evenly, right and wrong as they come, so that P(yes) stays a
probability. In each step some clean drawings with captions are mixed in: without them the verifier forgets what words
mean wherever the generator's pictures do not ask for it.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cotlib.errors import UserError
from cotlib.interfaces import CLARITY, FINAL, POTENTIAL, REFLECT, STEP
from cotlib.models.verifier import MAX_WORDS, QUESTIONS, WORDS, text_batch
from cotlib.several import rank, start_training
from cotlib.train.loop import Budget, Trainer, train
from cotlib.train.verifier import Painter, eye_loss, reading_optimizers, word_loss
from cotlib.train.verifier_captions import Captions, draw_captions
from cotlib.train.verifier_paths import Paths, load_paths, read_header, unpack_things
from cotlib.train.verifier_report import measure_drawings, measure_paths, pictures
from cotlib.verifying.faults import to_words
from cotlib.verifying.reflection import LearnedVerifier
from cotlib.verifying.repair import find_faults
from cotlib.world.prompts import BEGIN, END
from cotlib.world.scenes import TASKS

IGNORED = -1  # target of a place where no word is to be learnt


@dataclass(frozen=True)
class TunedRecipe:
    """Hyperparameters; `minutes` is wall time of two processes on two cores."""

    minutes: float
    questions: dict[str, int] = field(default_factory=dict)  # own pictures a step and process, by question
    drawn: int = 8  # drawings a step and process, with two captions each
    muon_lr: float = 0.006
    adam_lr: float = 8e-4
    eye_lr: float = 3e-4
    decoded: float = 0.5
    paper: float = 0.3
    words: float = 0.5  # weight of "which word is wrong", on drawings
    eye: float = 0.5  # weight of what and where, on drawings
    speech: float = 1.0  # weight of reflections
    ask_when: float = (
        0.05  # CLARITY and POTENTIAL: asked from the first round on in which this share is clear
    )
    clear: float = 0.75  # POTENTIAL: share asked at a clear round, the others at any
    refused: float = 0.8  # REFLECT: share of wrong pictures


STAGES = {
    "orm": TunedRecipe(6, {FINAL: 24}),
    "prm": TunedRecipe(6, {STEP: 24}),
    "parm": TunedRecipe(10, {FINAL: 12, CLARITY: 8, POTENTIAL: 12}),
    "parm-plus": TunedRecipe(
        10, {FINAL: 6, CLARITY: 6, POTENTIAL: 6, REFLECT: 12}, drawn=16, muon_lr=0.01, adam_lr=2e-3
    ),
}


def adopt(verifier: LearnedVerifier, questions: tuple[str, ...], ask_from: int = 0) -> None:
    """Makes the verifier one for these questions. One that it did not know begins as FINAL, or as the first it knew."""
    known = verifier.questions
    like = QUESTIONS.index(FINAL if FINAL in known else known[0])
    with torch.no_grad():
        for index in (QUESTIONS.index(q) for q in questions if q not in known):
            for rows in (verifier.question.weight, verifier.answer_head.weight, verifier.answer_head.bias,
                         verifier.word_weight):  # fmt: skip
                rows[index] = rows[like]
    verifier.config = replace(verifier.config, questions=questions, ask_from=ask_from)


class OwnPictures:
    """Draws rows of own paths for a question: the tasks evenly, right and wrong as they come."""

    def __init__(self, paths: Paths, recipe: TunedRecipe):
        self.paths, self.recipe = paths, recipe
        tags = np.array([paths.metadata(row)["tag"] for row in range(len(paths.path))])
        rolled = (paths.rolled >= 0).all(1)
        self.ask_from = int(np.argmax(paths.clear.mean(0) >= recipe.ask_when))
        self.rows = [np.flatnonzero(tags == task) for task in TASKS if (tags == task).any()]
        self.rolled = [rows[rolled[rows]] for rows in self.rows if rolled[rows].any()]
        self.faults = {}
        if REFLECT in recipe.questions:
            self.faults = {row: self._words(row) for row in range(len(paths.path))}
        told = np.array([self.faults.get(row) is not None for row in range(len(paths.path))])
        self.told = {
            right: [rows[(told & (paths.correct == right))[rows]] for rows in self.rows]
            for right in (True, False)
        }

    def _words(self, row: int) -> tuple[str, ...] | None:
        """Target words of a finished picture; None when verdict and rule disagree."""
        faults = find_faults(self.paths.metadata(row), unpack_things(self.paths.things[row]))
        if self.paths.correct[row]:
            return to_words(())
        return to_words(faults) if faults else None

    def draw(
        self, rng: np.random.Generator, question: str, size: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(rows, rounds, labels), `size` each; of REFLECT the label is whether the picture is right."""
        groups = [self.rolled if question == STEP else self.rows] * size
        if question == REFLECT:
            groups = [self.told[bool(rng.random() >= self.recipe.refused)] for _ in range(size)]
        groups = [[rows for rows in group if len(rows)] for group in groups]
        rows = np.array([rng.choice(group[rng.integers(len(group))]) for group in groups])
        last = self.paths.codes.shape[1] - 1
        rounds = np.full(size, last)
        if question in (STEP, CLARITY):
            rounds = rng.integers(self.ask_from if question == CLARITY else 0, last + 1, size=size)
        elif question == POTENTIAL:
            rounds = np.array([self._clear_round(rng, row) for row in rows])
        labels = {STEP: self.paths.rolled[rows, rounds] > 0, CLARITY: self.paths.clear[rows, rounds]}
        return rows, rounds, labels.get(question, self.paths.correct[rows])

    def _clear_round(self, rng: np.random.Generator, row: int) -> int:
        rounds = np.arange(self.ask_from, self.paths.codes.shape[1])
        clear = self.paths.clear[row, self.ask_from :]  # the last round always is
        return int(rng.choice(rounds[clear] if rng.random() < self.recipe.clear else rounds))


def encode_words(words: list[tuple[str, ...]]) -> tuple[Tensor, Tensor]:
    """(said, targets), long [R, 1 + 14] each: begin + words, and words + end, the rest ignored."""
    said = torch.full((len(words), 1 + MAX_WORDS), WORDS.index(END))
    targets = torch.full_like(said, IGNORED)
    for row, line in enumerate(words):
        ids = [WORDS.index(word) for word in (BEGIN, *line, END)]
        said[row, : len(ids) - 1], targets[row, : len(ids) - 1] = (
            torch.tensor(ids[:-1]),
            torch.tensor(ids[1:]),
        )
    return said, targets


def speech_loss(verifier: LearnedVerifier, view, prompts: list[str], words: list[tuple[str, ...]]) -> Tensor:
    """Cross entropy of the words of reflections, mean over words; `view` of one picture for each."""
    ids, valid = text_batch(prompts)
    said, targets = encode_words(words)
    asked = torch.full((len(prompts),), QUESTIONS.index(REFLECT))
    states = verifier.read(asked, ids, valid, view, said)[:, 1 + ids.shape[1] :]
    return F.cross_entropy(verifier.speak(states).flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


def words_of_captions(
    rng: np.random.Generator, captions: Captions, refused: float
) -> tuple[list[int], list[tuple]]:
    """One caption of each drawing and the words on it: a false one in the share `refused` of the cases."""
    rows = [2 * scene + int(rng.random() < refused) for scene in range(len(captions.scenes))]
    return rows, [to_words(find_faults(captions.metadatas[r], captions.scenes[r // 2].things)) for r in rows]


def tuned_loss(verifier: LearnedVerifier, painter: Painter, own: OwnPictures, recipe: TunedRecipe,
               rng: np.random.Generator) -> tuple[Tensor, list[float]]:  # fmt: skip
    """The loss of one step, and its parts: answers on own pictures, on drawings, and (PARM++) words."""
    drawn = {q: own.draw(rng, q, size) for q, size in recipe.questions.items()}
    rows, rounds, labels = (np.concatenate(part) for part in zip(*drawn.values(), strict=True))
    questions = np.repeat([QUESTIONS.index(q) for q in drawn], [len(d[0]) for d in drawn.values()])
    prompts = [own.paths.metadata(row)["prompt"] for row in rows]
    captions = draw_captions(rng, recipe.drawn)
    images = torch.cat([pictures(painter.tokenizer, own.paths.codes[rows, rounds]),
                        painter.paint(captions.scenes, recipe.decoded)])  # fmt: skip
    sight = verifier.eye(images)
    view = verifier.view(verifier.tokens(sight))
    plain = torch.from_numpy(np.flatnonzero(questions != QUESTIONS.index(REFLECT)))  # asked for yes or no
    first = QUESTIONS.index(FINAL if FINAL in recipe.questions else STEP)  # the question about drawings
    asked = torch.cat([torch.from_numpy(questions)[plain], torch.full((len(captions.ids),), first)])
    ids, valid = text_batch([*(prompts[i] for i in plain), *(m["prompt"] for m in captions.metadatas)])
    owner = torch.cat([plain, len(rows) + captions.owner])
    margin, wrong = verifier.answer(verifier.read(asked, ids, valid, view.select(owner)), asked, valid)
    truth = torch.from_numpy(labels[plain].astype(np.float32))
    answers = F.binary_cross_entropy_with_logits(margin[: len(plain)], truth)
    again = F.binary_cross_entropy_with_logits(margin[len(plain) :], captions.right)
    wrong = wrong[len(plain) :, : captions.ids.shape[1]]
    what = eye_loss(sight.select(slice(len(rows), None)), painter.labels(captions.scenes), recipe.paper)
    loss = answers + again + recipe.words * word_loss(wrong, captions) + recipe.eye * what
    parts = [answers.item(), again.item()]
    if REFLECT in recipe.questions:
        spoken = np.flatnonzero(questions == QUESTIONS.index(REFLECT))
        more, lines = words_of_captions(rng, captions, recipe.refused)
        pictured = torch.tensor([*spoken, *(len(rows) + row // 2 for row in more)])
        speech = speech_loss(verifier, view.select(pictured),
                             [*(prompts[i] for i in spoken), *(captions.metadatas[r]["prompt"] for r in more)],
                             [*(own.faults[rows[i]] for i in spoken), *lines])  # fmt: skip
        loss = loss + recipe.speech * speech
        parts.append(speech.item())
    return loss, parts


def run(out: Path, stage: str, seed: int = 0, minutes: float | None = None, resume: bool = False,
        start: Path | None = None, data: Path | None = None) -> dict:  # fmt: skip
    """Trains one stage ("orm", "prm", "parm" or "parm-plus") into the folder `out`; returns the metrics on its card.

    start: the verifier to go on from; data: folder of own paths. UserError when one is missing or not usable.
    """
    start_training()
    recipe = STAGES[stage] if minutes is None else replace(STAGES[stage], minutes=minutes)
    if start is None or data is None:
        raise UserError(f"verifier-{stage} goes on from a verifier and needs the generator's own paths; give the folders "
                        "of verifier-zs with --init and of verifier-paths with --data")  # fmt: skip
    verifier, painter = LearnedVerifier.from_pretrained(start), Painter()
    own = OwnPictures(load_paths(data, "train"), recipe)
    header = read_header(data)
    drawn = {"generator": header["generator"], "judge": header["judge"], "train": len(own.paths.path)}
    if STEP in recipe.questions and not own.rolled:
        raise UserError(f"{data} holds no rollouts; draw them with verifier-paths")
    torch.manual_seed(seed)
    adopt(verifier, tuple(recipe.questions), own.ask_from if CLARITY in recipe.questions else 0)
    optimizers = [*reading_optimizers(verifier, recipe.muon_lr, recipe.adam_lr),
                  torch.optim.AdamW(verifier.eye.parameters(), recipe.eye_lr, weight_decay=1e-4)]  # fmt: skip
    chance = torch.Generator().manual_seed(seed)
    trainer = Trainer(verifier, optimizers, Budget(recipe.minutes, ema=0.998), Path(out), chance)
    if resume:
        trainer.resume()

    def step(trainer: Trainer) -> Tensor:
        rng = np.random.default_rng([seed, rank(), 2, trainer.steps])
        loss, parts = tuned_loss(verifier, painter, own, recipe, rng)
        trainer.log.append(parts)
        return loss

    def report(trainer: Trainer, loss: float) -> None:
        names = ("own", "drawings", "words")
        recent = np.mean(trainer.log[-100:], axis=0)
        parts = "  ".join(f"{name} {value:.3f}" for name, value in zip(names, recent, strict=False))
        print(f"{trainer.used / 60:5.1f} min  step {trainer.steps:5d}  loss {loss:.4f}  {parts}", flush=True)

    train(trainer, step, report)
    metrics: dict = {"steps": trainer.steps}
    if rank() == 0:
        metrics["drawings"] = measure_drawings(verifier, painter)
        if any(Path(data).glob("dev_*.npz")):
            metrics["own_pictures"] = measure_paths(verifier, painter.tokenizer, data)
        verifier.save_pretrained(out, {"model": "verifier", "stage": stage, "seed": seed, "minutes": recipe.minutes,
                                       "command": command_line(stage), "paths": drawn, "metrics": metrics})  # fmt: skip
        (Path(out) / "resume.pt").unlink(missing_ok=True)
    return metrics


def command_line(stage: str) -> str:
    """The command that makes the shipped checkpoint of a stage."""
    before = {"parm": "orm", "parm-plus": "parm"}.get(stage, "zs")
    return (f"torchrun --nproc_per_node 2 -m cotlib train verifier-{stage} --out data/verifier-{stage} "
            f"--init data/verifier-{before} --data build/verifier-paths")  # fmt: skip
