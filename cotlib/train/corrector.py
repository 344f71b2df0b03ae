"""Recipe: the generator that corrects, tuned from the base on three kinds of examples at once.

    local   one thing's nine cells are masked in a picture, the text orders that thing: "a photo of a red dog"
    anew    failed picture, prompt and reflection come first, the repaired picture is drawn (the paper's form)
    plain   the base's own training, so that it does not forget how to draw

Failed pictures are of two kinds: pasted from codes in a way that breaks the prompt, and the base's own failures over
training prompts, as the judge saw them. The repaired picture is the failed one with the smallest change that makes
the prompt hold (`verifying.repair`); cells that need no change keep their codes.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cotlib.assets import data_dir
from cotlib.correcting import Anew, ExactReflections, LocalEdit
from cotlib.correcting.edits import cells_of, order_of
from cotlib.errors import UserError
from cotlib.loading import load
from cotlib.models.corrector import PictogramCorrector
from cotlib.models.generator import PictogramGenerator
from cotlib.models.tokenizer import PictogramTokenizer
from cotlib.search.ledger import Ledger
from cotlib.search.parm_plus_plus import redraw
from cotlib.several import rank, start_training
from cotlib.train.generator import STAGES, CodeTable, draw_batch, masked_states, optimizers
from cotlib.train.loop import Budget, Trainer, train
from cotlib.train.verifier_paths import Paths, load_paths, read_header, unpack_things
from cotlib.verifying.faults import Fault, to_words
from cotlib.verifying.repair import find_faults, repair
from cotlib.world.prompts import MAX_TEXT, Carelessness, corrupt, encode, sample_metadata
from cotlib.world.scenes import CLASSES, COLORS, TASKS, Scene, Thing, sample_scene

MEASURED = 240  # failed development pictures that a card's metrics correct


@dataclass(frozen=True)
class CorrectorRecipe:
    """Hyperparameters; `minutes` is wall time of two processes on two cores."""

    minutes: float = 12.0
    local: int = 14  # examples a step and process, by kind
    anew: int = 10
    plain: int = 8
    own: float = 0.4  # share of failed pictures that are the base's own
    muon_lr: float = 0.007
    adam_lr: float = 1e-3
    dropped_text: float = 0.1
    background: float = 0.4


@dataclass(frozen=True)
class Failure:
    """A failed picture and what it should have been: codes [64] each; the things that the right one has and the
    failed one does not; the faults between them."""

    metadata: dict
    failed: np.ndarray
    right: np.ndarray
    after: tuple[Thing, ...]
    new: tuple[Thing, ...]
    faults: tuple[Fault, ...]


class Failures:
    """Failed pictures with their repair: pasted ones, and the base's own."""

    def __init__(self, table: CodeTable, paths: Paths):
        self.table, self.paths = table, paths
        tags = np.array([paths.metadata(row)["tag"] for row in range(len(paths.path))])
        wrong = [np.flatnonzero(~paths.correct & (tags == task)) for task in TASKS]
        self.wrong = [rows for rows in wrong if len(rows)]

    def draw(self, rng: np.random.Generator, own: float) -> Failure:
        """One failure; the tasks come evenly."""
        while True:
            if self.wrong and rng.random() < own:
                row = int(rng.choice(self.wrong[rng.integers(len(self.wrong))]))
                metadata, codes = self.paths.metadata(row), self.paths.codes[row, -1].astype(np.int64)
                things = unpack_things(self.paths.things[row])
            else:
                metadata = sample_metadata(rng, "train", str(rng.choice(TASKS)))
                things = spoiled(rng, metadata)
                codes = self.table.paste(Scene(things))[0]
            if faults := find_faults(metadata, things):
                return self._repaired(rng, metadata, codes, things, faults)

    def _repaired(self, rng: np.random.Generator, metadata: dict, codes: np.ndarray, things: tuple[Thing, ...],
                  faults: tuple[Fault, ...]) -> Failure:  # fmt: skip
        after = repair(rng, Scene(things), faults, metadata).things
        right = codes.copy()
        for thing in (t for t in things if t not in after):
            right[cells_of(thing)] = self.table.paper
        new = tuple(t for t in after if t not in things)
        for thing in new:
            right[cells_of(thing)] = self.table.block(thing).ravel()
        return Failure(metadata, codes, right, tuple(after), new, faults)


def spoiled(rng: np.random.Generator, metadata: dict) -> tuple[Thing, ...]:
    """Things that miss the prompt in a way generators do: a fact mistaken, a thing lost or too many, colours exchanged.

    Now and then nothing is spoiled after all; the caller looks.
    """
    way = rng.integers(4)
    if way == 0:
        return sample_scene(rng, corrupt(rng, metadata, Carelessness(0.4, 0.4, 0.6, 0.6))).things
    things = list(sample_scene(rng, metadata).things)
    which = int(rng.integers(len(things)))
    if way == 1:
        things.pop(which)
    elif way == 2:
        cls, color = str(rng.choice(CLASSES)), str(rng.choice(COLORS))
        keep = rng.random() < 0.5
        things[which] = replace(things[which], cls=things[which].cls if keep else cls, color=color)
    elif len(things) > 1:
        other = (which + 1) % len(things)
        colors = things[other].color, things[which].color
        things[which], things[other] = (
            replace(things[i], color=c) for i, c in zip((which, other), colors, strict=True)
        )
    return tuple(things)


@dataclass
class Examples:
    """Visible codes [B, N] with their targets; rows: bool [B, N], the cells to predict."""

    codes: Tensor
    visible: Tensor
    rows: Tensor


def local_examples(model: PictogramCorrector, failures: Failures, recipe: CorrectorRecipe, rng: np.random.Generator
                   ) -> tuple[Examples, Tensor, Tensor]:  # fmt: skip
    """(examples, token ids [B, T], valid): one thing of the repaired picture is masked, in part or whole.

    Things that come after it in the same edit are not there yet: their cells are paper.
    """
    codes = np.zeros((recipe.local, model.tokens), dtype=np.int64)
    rows = np.zeros_like(codes, dtype=bool)
    ids, valid = (
        np.zeros((recipe.local, MAX_TEXT), dtype=np.int64),
        np.zeros((recipe.local, MAX_TEXT), dtype=bool),
    )
    for b in range(recipe.local):
        failure = failures.draw(rng, recipe.own)
        while not failure.after:
            failure = failures.draw(rng, recipe.own)
        picture = failure.right.copy()
        order = list(failure.new or failure.after)
        turn = int(rng.integers(len(order)))
        thing = order[turn]
        for later in order[turn + 1 :] if failure.new else ():
            picture[cells_of(later)] = failures.table.paper
        cells = cells_of(thing)
        picture[cells] = failure.right[cells]
        rows[b, rng.permutation(cells)[: int(np.ceil(np.cos(rng.random() * np.pi / 2) * len(cells)))]] = True
        codes[b] = picture
        tokens = encode("" if rng.random() < recipe.dropped_text else order_of(thing))
        ids[b, : len(tokens)], valid[b, : len(tokens)] = tokens, True
    target, masked = torch.from_numpy(codes), torch.from_numpy(rows)
    return (
        Examples(target, target.masked_fill(masked, model.mask_id), masked),
        torch.from_numpy(ids),
        torch.from_numpy(valid),
    )


def anew_examples(model: PictogramCorrector, failures: Failures, recipe: CorrectorRecipe, rng: np.random.Generator
                  ) -> tuple[Examples, Tensor, Tensor]:  # fmt: skip
    """(examples, embedded prefix [B, L, D], its validity): the repaired picture, a cosine share of it masked.

    In a quarter of the examples nothing is said, so that it can also draw from the failed picture alone.
    """
    drawn = [failures.draw(rng, recipe.own) for _ in range(recipe.anew)]
    texts = ["" if rng.random() < recipe.dropped_text else f.metadata["prompt"] for f in drawn]
    words = [
        () if not text or rng.random() < 0.25 else to_words(f.faults)
        for text, f in zip(texts, drawn, strict=True)
    ]
    target = torch.from_numpy(np.stack([f.right for f in drawn]))
    share = np.cos(rng.random((len(drawn), 1)) * np.pi / 2)
    places = rng.random(target.shape).argsort(1).argsort(1)
    masked = torch.from_numpy(places < np.ceil(share * target.shape[1]))
    x, valid = model.history(texts, torch.from_numpy(np.stack([f.failed for f in drawn])), words)
    return Examples(target, target.masked_fill(masked, model.mask_id), masked), x, valid


def corrector_loss(model: PictogramCorrector, failures: Failures, recipe: CorrectorRecipe, rng: np.random.Generator,
                   chance: torch.Generator) -> tuple[Tensor, list[float]]:  # fmt: skip
    """The loss of one step and its three parts (local, anew, plain): cross entropy of the masked cells."""
    local, ids, valid = local_examples(model, failures, recipe, rng)
    h_local = model.train_hidden(ids, valid, local.visible)[local.rows]
    anew, x, seen = anew_examples(model, failures, recipe, rng)
    h_anew = model.image(model.inputs(anew.visible), *model.keys_values(x, seen), seen)[anew.rows]
    batch = draw_batch(failures.table, rng, replace(STAGES["base"], batch=recipe.plain))
    h_plain, _, rows = masked_states(model, batch, chance)
    targets = [local.codes[local.rows], anew.codes[anew.rows], batch.codes[rows]]
    logits = model.head(torch.cat([h_local, h_anew, h_plain])).split([len(t) for t in targets])
    total, parts = 0.0, []
    for scores, target in zip(logits, targets, strict=True):
        weight = torch.where(target == failures.table.paper, recipe.background, 1.0)
        part = (weight * F.cross_entropy(scores, target, reduction="none")).sum() / weight.sum()
        total, parts = total + part, [*parts, part.item()]
    return total, parts


def run(out: Path, seed: int = 0, minutes: float | None = None, resume: bool = False, start: Path | None = None,
        data: Path | None = None) -> dict:  # fmt: skip
    """Trains the corrector into the folder `out`; returns the metrics on its card.

    start: the base generator's folder; data: a folder of `verifier-paths`. UserError when one is missing or unusable.
    """
    start_training()
    recipe = CorrectorRecipe() if minutes is None else CorrectorRecipe(minutes=minutes)
    if start is None or data is None:
        raise UserError("corrector goes on from a generator and needs its own failures; give the folders of "
                        "generator-base with --init and of verifier-paths with --data")  # fmt: skip
    torch.manual_seed(seed)
    base = PictogramGenerator.from_pretrained(start)
    model = PictogramCorrector(base.config)
    model.load_state_dict(base.state_dict(), strict=False)
    tokenizer = PictogramTokenizer.from_pretrained(data_dir() / "tokenizer")
    failures = Failures(CodeTable(tokenizer), load_paths(data, "train"))
    chance = torch.Generator().manual_seed(seed * 1000 + rank())
    trainer = Trainer(
        model,
        optimizers(model, recipe.muon_lr, recipe.adam_lr),
        Budget(recipe.minutes, ema=0.997),
        Path(out),
        chance,
    )
    if resume:
        trainer.resume()

    def step(trainer: Trainer) -> Tensor:
        rng = np.random.default_rng([seed, rank(), 3, trainer.steps])
        loss, parts = corrector_loss(model, failures, recipe, rng, chance)
        trainer.log.append(parts)
        return loss

    def report(trainer: Trainer, loss: float) -> None:
        local, anew, plain = np.mean(trainer.log[-100:], axis=0)
        print(f"{trainer.used / 60:5.1f} min  step {trainer.steps:5d}  loss {loss:.4f}  local {local:.3f}  "
              f"anew {anew:.3f}  plain {plain:.3f}", flush=True)  # fmt: skip

    train(trainer, step, report)
    metrics: dict = {"steps": trainer.steps}
    if rank() == 0:
        model.tokenizer = tokenizer
        metrics["fixed_in_one_round"] = fixed_shares(model, data)
        header = read_header(data)
        model.save_pretrained(out, {"model": "corrector", "seed": seed, "minutes": recipe.minutes,
                                    "command": command_line(), "metrics": metrics,
                                    "paths": {"generator": header["generator"], "judge": header["judge"],
                                              "train": len(failures.paths.path)}})  # fmt: skip
        (Path(out) / "resume.pt").unlink(missing_ok=True)
    return metrics


def fixed_shares(model: PictogramCorrector, data: Path) -> dict[str, float] | None:
    """Share of failed development pictures that the judge accepts after one correction, with the judge's own words and
    places (an upper bound): local edit, the paper's form, and plain re-drawing with the base. None without such paths."""
    if not any(Path(data).glob("dev_*.npz")):
        return None
    base, judge, paths = load("generator"), load("judge"), load_paths(data, "dev")
    rows = np.flatnonzero(~paths.correct)
    rows = rows[:: max(1, len(rows) // MEASURED)]
    metadatas = [paths.metadata(row) for row in rows]
    prompts, codes = (
        [m["prompt"] for m in metadatas],
        torch.from_numpy(paths.codes[rows, -1].astype(np.int64)),
    )
    told = ExactReflections(judge).reflect(prompts, base.decode(codes))
    ways = {"local edit": LocalEdit(model), "anew": Anew(model), "redraw": redraw}
    shares: dict[str, float] = {"pictures": len(rows)}
    for name, correct in ways.items():
        new = correct(base, prompts, codes, told, 1, 1, ledger=Ledger(), steps=None, guidance=None)
        verdicts = judge(metadatas, base.decode(new))
        shares[name] = round(sum(v.correct for v in verdicts) / len(rows), 4)
    return shares


def command_line() -> str:
    """The command that makes the shipped checkpoint."""
    return ("torchrun --nproc_per_node 2 -m cotlib train corrector --out data/corrector "
            "--init data/generator-base --data build/verifier-paths")  # fmt: skip
