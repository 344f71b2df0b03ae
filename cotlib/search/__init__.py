"""Many paths to one picture: strategies, and the ledger of what they cost."""

from cotlib.search.ledger import Ledger
from cotlib.search.single import decode_all, single

STRATEGIES = {"single": single}

__all__ = ["STRATEGIES", "Ledger", "decode_all", "single"]
