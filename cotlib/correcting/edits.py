"""From a reflection to an edit: which things go, which are to be drawn, and where.

The faults come from the verifier's words, the places from the verifier's eye, and a rule (`verifying.repair`) turns
both into the smallest change. So part of the work, the place and the full name of what is ordered, is the rule's and
not the generator's: this form of reflection says more than "a red dog is missing".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cotlib.models.eye import GRID
from cotlib.verifying.faults import Fault
from cotlib.verifying.repair import repair
from cotlib.world.prompts import colored
from cotlib.world.scenes import PITCH, SPAN, Scene, Thing


@dataclass(frozen=True)
class Edit:
    """gone: things to erase; drawn: things to draw, one after another, each with its place."""

    gone: tuple[Thing, ...]
    drawn: tuple[Thing, ...]


def plan_edit(
    rng: np.random.Generator, metadata: dict, seen: Sequence[Thing], faults: Sequence[Fault]
) -> Edit | None:
    """The edit that puts the faults right in a picture of the things `seen`; None when nothing would change.

    rng chooses among free places, and a colour where the prompt leaves it open.
    """
    after = repair(rng, Scene(tuple(seen)), faults, metadata).things
    gone = tuple(thing for thing in seen if thing not in after)
    drawn = tuple(thing for thing in after if thing not in seen)
    return Edit(gone, drawn) if gone or drawn else None


def cells_of(thing: Thing) -> np.ndarray:
    """The 9 places of a thing's cells in raster order."""
    column, row = thing.x // PITCH, thing.y // PITCH
    return (np.arange(row, row + SPAN)[:, None] * GRID + np.arange(column, column + SPAN)).ravel()


def order_of(thing: Thing) -> str:
    """The order for one place: "a photo of a red dog"."""
    return colored(thing.cls, thing.color)["prompt"]
