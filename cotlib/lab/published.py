"""What notebook 11 needs around the published models: the real ones from their folders or tiny random ones in the same formats, and a
record of what a search showed to its verifier.

    cast = open_cast(SHOWO, VERIFIER, device="cuda")        both folders or hub ids; none for the tiny ones
    watcher = Watcher(cast.verifier)
    outcome = parm(cast.model, [prompt], 6, verifier=watcher)
    candidates_of(outcome, watcher)
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from cotlib.devices import device_gb, pick_dtype
from cotlib.errors import UserError
from cotlib.interfaces import CLARITY, FINAL, POTENTIAL, Outcome
from cotlib.lab.figures import as_uint8
from cotlib.lab.tiny_checkpoints import write_all
from cotlib.models.published.files import checkpoint_folder
from cotlib.models.published.llava import LlavaVerifier
from cotlib.models.published.memory import advice
from cotlib.models.published.planner import plan_for
from cotlib.models.published.showo import Showo

NOISE = "Random weights: shapes and bookkeeping are real, pictures are noise."


@dataclass(frozen=True)
class Cast:
    """Generator and verifier; real: from published weights; folders: theirs; note: what to say above every picture."""

    model: Showo
    verifier: LlavaVerifier
    real: bool
    folders: tuple[Path, Path]
    _home: object = field(
        default=None, repr=False
    )  # removes the tiny checkpoints when nobody needs them any more

    @property
    def note(self) -> str:
        """What to put before a picture's caption."""
        return "" if self.real else NOISE + " "

    def say(self) -> None:
        """Prints the note, for above a picture."""
        if not self.real:
            print(NOISE)


def open_cast(
    showo: str = "", verifier: str = "", questions: str = "", *, device: torch.device | str = "cpu", four_bit: bool = False
) -> Cast:  # fmt: skip
    """Loads the published models by folder or hub id, or makes tiny random ones when both names are empty.

    On a GPU the numbers of pictures at a time are the planner's for its memory. UserError when only one name is given,
    and whatever loading complains of.
    """
    if bool(showo) != bool(verifier):
        given, missing = ("COTLIB_SHOWO", "COTLIB_VERIFIER") if showo else ("COTLIB_VERIFIER", "COTLIB_SHOWO")
        raise UserError(f"{given} is given and {missing} is not; expected both for the published models, or none for tiny random "
                        "ones")  # fmt: skip
    if not showo:
        home = tempfile.TemporaryDirectory(prefix="cotlib-tiny-", ignore_cleanup_errors=True)
        places = write_all(home.name) / "show-o", Path(home.name) / "llava"
        return Cast(
            Showo.from_pretrained(places[0]), LlavaVerifier.from_pretrained(places[1]), False, places, home
        )
    places = checkpoint_folder(showo), checkpoint_folder(verifier)
    chunks = {"generator": 2, "decoder": 2, "verifier": 1}
    if torch.device(device).type == "cuda":
        chunks = room_for(*places, device_gb(device), four_bit)
    model = Showo.from_pretrained(
        showo, device=device, dtype=pick_dtype(torch.device(device)), chunk=chunks["generator"]
    )
    model.tokenizer.chunks.size = chunks["decoder"]
    asked = LlavaVerifier.from_pretrained(verifier, device, questions=questions or None, four_bit=four_bit,
                                          batch=chunks["verifier"])  # fmt: skip
    return Cast(model, asked, True, places)


def room_for(showo: Path, verifier: Path, gb: float, four_bit: bool = False) -> dict[str, int]:
    """The most pictures at a time for each model on a card of `gb` 10^9 bytes, from what the folders say of their sizes.

    UserError when they do not fit: how many GiB are missing and what to change.
    """
    made = plan_for(showo, verifier, gb, n=6, four_bit=four_bit)
    if not made.fits:
        raise UserError(f"{advice(made, gb)} (four_bit is COTLIB_FOUR_BIT=1 here)")
    return made.chunks


# ----- what a search showed ----------------------------------------------------------------------------------------


class Watcher:
    """A verifier that keeps a small copy of every picture it is shown, `side` pixels wide; all else is the verifier's."""

    def __init__(self, verifier, side: int = 48):
        self.verifier, self.side = verifier, side
        self.shown: list[tuple[str, np.ndarray]] = []

    def __getattr__(self, name: str):
        return getattr(self.verifier, name)

    def ask(self, question: str, prompts: list[str], images: torch.Tensor) -> torch.Tensor:
        """As the verifier's own."""
        small = F.interpolate(images.float().cpu(), (self.side, self.side), mode="area")
        self.shown.append((question, as_uint8(small)))
        return self.verifier.ask(question, prompts, images)


@dataclass
class Candidate:
    """One path of a prompt. guesses: small pictures by step, from 0, where CLARITY was asked; clarity: its answers;
    potential: (step, answer); final: answer; picture: the finished one, where FINAL was asked; stopped: step."""

    number: int
    guesses: dict[int, np.ndarray]
    clarity: dict[int, float]
    potential: tuple[int, float] | None
    final: float | None
    picture: np.ndarray | None
    stopped: int | None
    chosen: bool


def candidates_of(outcome: Outcome, watcher: Watcher) -> list[Candidate]:
    """All paths of PARM's search of one prompt with what was asked about them, from the paths' own records."""
    paths = outcome.paths[0]
    made = []
    for path in paths:
        asked, said = path.asked, path.scores
        potential = (asked[POTENTIAL][0], said[POTENTIAL][0]) if POTENTIAL in said else None
        final = said[FINAL][0] if FINAL in said else None
        clarity = dict(zip(asked.get(CLARITY, []), said.get(CLARITY, []), strict=True))
        made.append(Candidate(path.number, {}, clarity, potential, final, None, path.stopped,
                              path.number == outcome.chosen[0]))  # fmt: skip
    looks = {question: [picture for asked, part in watcher.shown if asked == question for picture in part]
             for question in (CLARITY, FINAL)}  # fmt: skip
    order = [(step, one) for step in sorted({s for one in made for s in one.clarity})
             for one in made if step in one.clarity]  # fmt: skip
    for (step, one), picture in zip(order, looks[CLARITY], strict=True):
        one.guesses[step] = picture
    for one, picture in zip([one for one in made if one.final is not None], looks[FINAL], strict=True):
        one.picture = picture
    return made
