"""The strategies by their names on the command line, and what each needs besides a generator."""

from dataclasses import dataclass
from functools import partial

from cotlib.interfaces import FINAL, Outcome, Strategy
from cotlib.search.halving import halving
from cotlib.search.logprob import logprob
from cotlib.search.oracle import oracle
from cotlib.search.orm import orm
from cotlib.search.parm import parm
from cotlib.search.parm_plus_plus import parm_plus_plus
from cotlib.search.prm import prm
from cotlib.search.single import single


@dataclass(frozen=True)
class Entry:
    """A strategy, to be called like the function itself.

    verifier: which weights to pass as `verifier`, None when it asks nobody. judge: whether it needs `judge` and
    `metadatas`. corrects: whether it needs a correction.
    """

    run: Strategy
    verifier: str | None = None
    judge: bool = False
    corrects: bool = False

    def __call__(self, *arguments, **options) -> Outcome:
        return self.run(*arguments, **options)


STRATEGIES = {
    "single": Entry(single),
    "logprob": Entry(logprob),
    "orm-zs": Entry(orm, "zero-shot"),
    "orm": Entry(orm, "orm"),
    "prm-zs": Entry(partial(prm, question=FINAL), "zero-shot"),
    "prm": Entry(prm, "prm"),
    "parm": Entry(parm, "parm"),
    "halving": Entry(halving, "parm"),
    "parm++": Entry(parm_plus_plus, "parm++", corrects=True),
    "oracle": Entry(oracle, judge=True),
}
