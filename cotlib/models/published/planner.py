"""Tables about the published models: what they weigh, what fits onto which card, how much work a search is.

    python -m cotlib.models.published.planner                              the tables of docs/PUBLISHED_MODELS.md
    python -m cotlib.models.published.planner --gb 12 --verifier 7b-4bit   a plan for a card of your own

The counting is done in `memory` and `work`; `sizes` has the layers.
"""

import argparse
import sys
from dataclasses import replace
from math import prod
from pathlib import Path

from cotlib.models.published.files import open_weights, read_json
from cotlib.models.published.memory import GIB, JUDGE_WEIGHTS, RESERVE, Crew, Plan, advice, plan
from cotlib.models.published.sizes import LLAVA_05B, LLAVA_7B, MAGVIT, SHOWO_256, SHOWO_512, magvit_bytes
from cotlib.models.published.work import CARDS, SHARE, best_of_n, parm

GENERATORS = {"Show-o 256": SHOWO_256, "Show-o 512": SHOWO_512}
VERIFIERS = {"7b": ("7 B, half", LLAVA_7B, False), "7b-4bit": ("7 B, 4 bits", LLAVA_7B, True), "0.5b": ("0.5 B, half", LLAVA_05B, False)}  # fmt: skip
SEARCHES = {
    "one picture": lambda crew: best_of_n(replace(crew, n=1, verifier=None)),
    "best of 20": best_of_n,
    "PARM, clear at 10, half rejected": lambda crew: parm(crew, 10, 0.5),
    "PARM, the same, asked from 7": lambda crew: parm(crew, 10, 0.5, ask_from=7),
    "PARM, the same, nobody stops": lambda crew: parm(crew, 10, 0.5, stop=False),
}


def plan_for(
    generator: Path, verifier: Path | None, gb: float, n: int, *, four_bit: bool = False, judge: bool = False
) -> Plan:  # fmt: skip
    """The plan for n candidates a prompt by a Show-o and a LLaVA-OneVision, whose folders say how large they are, on a card of
    `gb` 10^9 bytes."""
    large = read_json(generator / "config.json").get("num_vq_tokens") == SHOWO_512.layout.tokens
    asked = None
    if verifier is not None:
        asked = LLAVA_7B if sum(map(prod, open_weights(verifier).shapes.values())) > 3e9 else LLAVA_05B
    return plan(Crew(SHOWO_512 if large else SHOWO_256, asked, judge=judge, n=n, four_bit=four_bit), gb)


def weights_table() -> str:
    """Markdown: parameters and GiB of weights."""
    rows = [("Show-o, 256 or 512", SHOWO_256.parameters(), None), ("LLaVA-OneVision 7 B", LLAVA_7B.parameters(), LLAVA_7B),
            ("LLaVA-OneVision 0.5 B", LLAVA_05B.parameters(), LLAVA_05B)]  # fmt: skip
    lines = ["| model | parameters | float32 | half | 4 bits |", "|---|---|---|---|---|"]
    for name, count, verifier in rows:
        packed = f"{verifier.weight_bytes(four_bit=True) / GIB:.1f} GiB" if verifier else "–"
        lines.append(
            f"| {name} | {count / 1e9:.2f} B | {count * 4 / GIB:.1f} GiB | {count * 2 / GIB:.1f} GiB | {packed} |"
        )
    lines.append(f"| MAGVIT-v2 (stays in float32) | {magvit_bytes(MAGVIT) / 4e9:.2f} B | {magvit_bytes(MAGVIT) / GIB:.1f} GiB | – | – |")  # fmt: skip
    lines.append(f"| GenEval's judge (stays in float32) | {JUDGE_WEIGHTS / 4e9:.2f} B | {JUDGE_WEIGHTS / GIB:.1f} GiB | – | – |")  # fmt: skip
    return "\n".join(lines)


def fit_table() -> str:
    """Markdown: every pair of generator and verifier on every card, with PARM (all loaded) and best-of-N in turn."""
    heads = [f"{card.name}, {card.gb:g} GB" for card in CARDS]
    lines = ["| generator | verifier | loaded | " + " | ".join(heads) + " |", "|---" * (3 + len(CARDS)) + "|"]
    for name, generator in GENERATORS.items():
        for label, verifier, packed in VERIFIERS.values():
            for in_turn in (False, True):
                crew = Crew(generator, verifier, four_bit=packed, in_turn=in_turn)
                cells = [_cell(plan(crew, card.gb)) for card in CARDS]
                lines.append(
                    " | ".join(
                        ["| " + name, label, "in turn" if in_turn else "together", *cells, ""]
                    ).rstrip()
                )
    return "\n".join(lines)


def _cell(made: Plan) -> str:
    if not made.fits:
        return f"no: {made.peak / GIB:.1f} of {made.room / GIB:.1f} GiB"
    return f"{made.peak / GIB:.1f} GiB ({', '.join(str(c) for c in made.chunks.values())})"


def work_table() -> str:
    """Markdown: operations of a prompt by part, and seconds at the assumed speed."""
    heads = [f"{card.name}" for card in CARDS]
    lines = ["| Show-o 256, 7 B verifier | generator | decoder | verifier | " + " | ".join(heads) + " |",
             "|---" * (4 + len(CARDS)) + "|"]  # fmt: skip
    for name, search in SEARCHES.items():
        work = search(Crew())
        parts = [f"{part / 1e12:,.0f}" for part in (work.generator, work.decoder, work.verifier)]
        lines.append(f"| {name} | " + " | ".join([*parts, *(f"{work.seconds(card):.1f} s" for card in CARDS)]) + " |")  # fmt: skip
    return "\n".join(lines)


def markdown() -> str:
    """All tables with what they assume."""
    speeds = ", ".join(f"{card.name} {card.half:g} and {card.full:g}" for card in CARDS)
    return "\n".join([
        "Weights:\n", weights_table(),
        "\nTwenty candidates of one prompt: the highest peak of tensors in GiB, and in brackets the most pictures at a time for "
        "generator, decoder and verifier. *Together* is PARM, which asks after every step; *in turn* is best-of-N, one model after "
        f"the other. {RESERVE / GIB:g} GiB of each card is set aside (an assumption) for what is not counted:\n", fit_table(),
        "\nWork of one prompt in TFLOP, counted, and what it would take at "
        f"{SHARE:.0%} of the data sheets' dense TFLOP/s in half precision and in float32 ({speeds}). The share is an **assumption**, "
        "so the seconds are a rule of thumb and no measurement:\n", work_table(),
    ])  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m cotlib.models.published.planner", description=__doc__.splitlines()[0])  # fmt: skip
    parser.add_argument(
        "--gb", type=float, help="a card's memory in 10^9 bytes; without it all tables are printed"
    )
    parser.add_argument(
        "--size", type=int, default=256, choices=(256, 512), help="Show-o's pictures, in pixels"
    )
    parser.add_argument("--verifier", default="7b", choices=(*VERIFIERS, "none"))
    parser.add_argument("-n", type=int, default=20, help="candidates a prompt")
    parser.add_argument("--in-turn", action="store_true", help="one model after the other (best-of-N only)")
    parser.add_argument("--judge", action="store_true", help="with GenEval's judge")
    options = parser.parse_args(arguments)
    if options.gb is None:
        print(markdown())
        return 0
    _, verifier, packed = VERIFIERS.get(options.verifier, ("", None, False))
    crew = Crew(GENERATORS[f"Show-o {options.size}"], verifier, four_bit=packed, judge=options.judge,
                in_turn=options.in_turn, n=options.n)  # fmt: skip
    made = plan(crew, options.gb)
    print(advice(made, options.gb))
    return 0 if made.fits else 1


if __name__ == "__main__":
    sys.exit(main())
