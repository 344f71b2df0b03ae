"""What a result cost. Quality is never shown without it."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Ledger:
    """Counts of one or many runs.

    generator_token_passes: image tokens pushed through the network, summed over steps, paths and the two branches
    of guidance (text is counted nowhere: it is computed once per prompt). verifier_calls: pictures shown, by
    question. decodes: pictures decoded from codes. seconds: wall time inside `timed`; seconds_by: the same time by
    part (generator, decode, verifier, judge).
    """

    generator_token_passes: int = 0
    verifier_calls: Counter = field(default_factory=Counter)
    decodes: int = 0
    seconds: float = 0.0
    seconds_by: Counter = field(default_factory=Counter)

    @contextmanager
    def timed(self, part: str | None = None) -> Iterator[None]:
        """Adds the wall time of the block to `seconds`, and to the part's own if one is named. Never nest two."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - begin
            self.seconds += spent
            if part is not None:
                self.seconds_by[part] += spent

    def add(self, other: "Ledger") -> None:
        """Adds another ledger's counts to this one."""
        self.generator_token_passes += other.generator_token_passes
        self.verifier_calls.update(other.verifier_calls)
        self.decodes += other.decodes
        self.seconds += other.seconds
        self.seconds_by.update(other.seconds_by)

    def as_dict(self) -> dict:
        """Plain form for JSON. The seconds are split only where somebody was asked: otherwise nothing is to weigh."""
        plain = {"generator_token_passes": self.generator_token_passes, "verifier_calls": dict(self.verifier_calls),
                 "decodes": self.decodes, "seconds": round(self.seconds, 3)}  # fmt: skip
        if self.verifier_calls:
            plain["seconds_by"] = {part: round(spent, 3) for part, spent in self.seconds_by.items()}
        return plain
