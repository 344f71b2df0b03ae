"""Many paths to one picture: strategies, and the ledger of what they cost."""

from cotlib.search.halving import halving
from cotlib.search.ledger import Ledger
from cotlib.search.logprob import logprob
from cotlib.search.oracle import oracle
from cotlib.search.orm import orm
from cotlib.search.parm import parm
from cotlib.search.parm_plus_plus import correct_chosen, parm_plus_plus, redraw
from cotlib.search.prm import prm
from cotlib.search.registry import STRATEGIES, Entry
from cotlib.search.single import decode_all, single
from cotlib.search.tree import tree

__all__ = [
    "STRATEGIES",
    "Entry",
    "Ledger",
    "correct_chosen",
    "decode_all",
    "halving",
    "logprob",
    "oracle",
    "orm",
    "parm",
    "parm_plus_plus",
    "prm",
    "redraw",
    "single",
    "tree",
]
