"""Will the published models fit onto a card, and with how many pictures at a time?

    made = plan(Crew(SHOWO_256, LLAVA_7B, four_bit=True), gb=16)
    made.fits, made.chunks, made.peak / GIB            advice(made, 16) says it in a sentence

Everything is counted, from the sizes of the layers and from what the code holds at the same time: weights, keys and
values of the text, activations of the pictures that run together, logits, the decoder's widest layer, and what the
verifier remembers. So peaks are peaks of tensors; the work space of libraries is covered by `RESERVE`, which is an
assumption. The tests compare them with what runs of the real code hold. Rounds recorded as CUDA graphs, and prompts of
very different length beside each other, need more than is counted here.

The surprising fact: of a search by PARM the generator is the small part. The verifier's weights are five times as large, and
the decoder in float32 needs more room a picture than the transformer that drew it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import isqrt

from cotlib.interfaces import CLARITY, FINAL, POTENTIAL
from cotlib.models.published.magvit import MagvitConfig
from cotlib.models.published.sizes import (
    FULL,
    HALF,
    LLAVA_05B,
    LLAVA_7B,
    MAGVIT,
    SHOWO_256,
    LlavaSizes,
    ShowoSizes,
    decode_numbers,
    magvit_bytes,
)

GIB = 2**30
RESERVE = GIB  # assumed: CUDA's own memory, work space of libraries, and what the allocator leaves unused
EMPTY = 3  # tokens of the empty prompt
PLAIN, FUSED = (
    20,
    25,
)  # activations of a token at the widest place of a Show-o layer, in widths: GELU's four of 4, and beside
# them what transformers' layer (`PLAIN`) or the one around our kernel (`FUSED`) still holds
TEXT = 20  # tokens of a prompt like "a photo of a red dog left of a couch", with its marks
ASKED = {
    FINAL: 75,
    CLARITY: 190,
    POTENTIAL: 60,
}  # text tokens of the released wording; of POTENTIAL its own turn
JUDGE_WEIGHTS = (68_741_083 + 427_616_513) * FULL  # Mask2Former with Swin-S, CLIP ViT-L/14, both in float32
JUDGE_PICTURE = 725_000_000  # bytes of activations of a picture of 800 pixels in Mask2Former; measured


@dataclass(frozen=True)
class Crew:
    """The models of a run and how they are used.

    n: candidates a prompt; prompts: at the same time; text: tokens of the longest prompt; number: bytes a number in generator
    and verifier (the image tokenizer and the judge stay in float32); four_bit: the verifier's matrices packed; in_turn: one
    model is loaded after the other, which best-of-N can do and PARM, asking after every step, cannot; remember: as in
    `LlavaVerifier`; form: "kernels", cotlib's own, as on a GPU
    by default (a layer keeps keys and values where attention reads them); "plain", torch alone on a GPU (the draw copies
    the logits twice); or "cpu".
    """

    generator: ShowoSizes = SHOWO_256
    verifier: LlavaSizes | None = LLAVA_7B
    magvit: MagvitConfig = MAGVIT
    judge: bool = False
    n: int = 20
    prompts: int = 1
    text: int = TEXT
    asked: int = ASKED[CLARITY]
    number: int = HALF
    four_bit: bool = False
    in_turn: bool = False
    remember: int = 32
    form: str = "kernels"

    @property
    def paths(self) -> int:
        """Rows that are drawn together."""
        return self.n * self.prompts

    def weights(self) -> dict[str, int]:
        """Bytes of each model's weights."""
        own = {
            "generator": self.generator.parameters() * self.number,
            "image tokenizer": magvit_bytes(self.magvit),
        }
        if self.verifier:
            own["verifier"] = self.verifier.weight_bytes(self.number, self.four_bit)
        return own | ({"judge": JUDGE_WEIGHTS} if self.judge else {})


def loop_bytes(crew: Crew) -> int:
    """What stays through all steps, beside weights: the text's keys and values (once a prompt, and a copy for each path), the
    random numbers, the logits of the first step."""
    g, layout, paths = crew.generator, crew.generator.layout, crew.paths
    text = ((crew.prompts + paths) * crew.text + EMPTY) * g.text_numbers() * crew.number
    chance = paths * layout.steps * 3 * layout.tokens * FULL
    return text + chance + crew.prompts * layout.tokens * layout.codes * FULL


def drawing(crew: Crew, chunk: int) -> dict[str, int]:
    """Bytes at the three tops of a step, beside what stays: the network on `chunk` pictures, beside the states of those that
    are through; the head, on all of them; the draw."""
    g, layout, paths = crew.generator, crew.generator.layout, crew.paths
    guided = layout.guidance > 0
    states, logits = layout.tokens * g.width * FULL, paths * layout.tokens * layout.codes * FULL
    text = crew.text * g.text_numbers() if guided else 0  # copied once more, with the empty prompt's below
    layer = g.width * (FUSED * g.run + 2 * crew.text if crew.form == "kernels" else PLAIN * g.run)
    network = chunk * (1 + guided) * (text + layer) * crew.number + (paths - chunk) * states
    cast = layout.codes * g.width * FULL if crew.number < FULL else 0  # the head's weights in float32
    return {
        "network": network,
        "head": logits + paths * states + cast,
        "draw": logits * (3 if crew.form == "plain" else 1),
    }


def picture_bytes(crew: Crew) -> int:
    """Bytes of a decoded picture."""
    side = isqrt(crew.generator.layout.tokens) * 2 ** (len(crew.magvit.decoder_widths) - 1)
    return 3 * side**2 * FULL


def decoding(crew: Crew, chunk: int) -> int:
    """Bytes while all paths are decoded, `chunk` at a time."""
    numbers = decode_numbers(crew.magvit, crew.generator.layout.tokens)
    return chunk * numbers * FULL + (crew.paths - chunk) * picture_bytes(crew)


def asking(crew: Crew, chunk: int) -> int:
    """Bytes while the verifier reads `chunk` pictures, beside what it remembers of others.

    The widest place of its language model is the feed-forward layer: three of inner width, and six of the width around it.
    """
    v = crew.verifier
    tokens = v.patches + 1 + crew.asked
    kept = 0 if crew.in_turn else v.cache_numbers()
    return chunk * tokens * (3 * v.inner + 6 * v.width + kept) * crew.number + 2 * crew.paths * v.words * FULL


def remembered(crew: Crew, besides: int = 0) -> int:
    """Bytes of CLARITY's keys and values that wait for POTENTIAL, at most; `besides`: pictures not among them."""
    if crew.verifier is None or crew.in_turn:
        return 0
    tokens = crew.verifier.patches + 1 + crew.asked
    pictures = max(0, min(crew.remember, crew.paths - besides))
    return pictures * tokens * crew.verifier.cache_numbers() * crew.number


def phases(crew: Crew) -> dict[str, tuple[str, Callable[[int], int]]]:
    """The tops of a run: name to (whose chunk counts, bytes in all by that chunk)."""
    weights, loop, kept, images = (
        crew.weights(),
        loop_bytes(crew),
        remembered(crew),
        crew.paths * picture_bytes(crew),
    )
    drawers, everything = weights["generator"] + weights["image tokenizer"], sum(weights.values())
    running = (drawers if crew.in_turn else everything + kept) + loop
    found = {name: ("generator", lambda c, name=name: running + drawing(crew, c)[name]) for name in ("network", "head", "draw")}  # fmt: skip
    found["decoder"] = ("decoder", lambda c: running + decoding(crew, c))
    if crew.verifier and crew.in_turn:
        found["verifier"] = ("verifier", lambda c: weights["verifier"] + images + asking(crew, c))
    elif crew.verifier:  # PARM asks between two steps
        found["verifier"] = ("verifier", lambda c: everything + loop + images + remembered(crew, c) + asking(crew, c))  # fmt: skip
    if crew.judge:
        before = weights["judge"] if crew.in_turn else everything + kept
        found["judge"] = ("judge", lambda c: before + images + c * JUDGE_PICTURE)
    return found


@dataclass(frozen=True)
class Plan:
    """chunks: the most pictures at a time, by model, that fit (0: not even one); peaks: bytes of each phase with them (with one
    picture where none fits); room: bytes that may be used."""

    crew: Crew
    room: int
    chunks: dict[str, int]
    peaks: dict[str, int]

    @property
    def fits(self) -> bool:
        """Whether every model has room for at least one picture."""
        return min(self.chunks.values()) > 0

    @property
    def peak(self) -> int:
        """Bytes of tensors at the highest of all tops."""
        return max(self.peaks.values())


def plan(crew: Crew, gb: float, reserve: int = RESERVE, most: Mapping[str, int] | None = None) -> Plan:
    """The largest chunks for a card of `gb` 10^9 bytes. most: upper limits by model, otherwise all paths, and four pictures
    for the judge."""
    room = round(gb * 1e9) - reserve
    tops = phases(crew)
    chunks: dict[str, int] = {}
    for model in dict.fromkeys(model for model, _ in tops.values()):
        limit = (most or {}).get(model) or (4 if model == "judge" else crew.paths)
        need = [bytes_of for owner, bytes_of in tops.values() if owner == model]
        chunks[model] = next((c for c in range(limit, 0, -1) if all(b(c) <= room for b in need)), 0)
    peaks = {name: bytes_of(max(1, chunks[model])) for name, (model, bytes_of) in tops.items()}
    return Plan(crew, room, chunks, peaks)


def advice(made: Plan, gb: float, reserve: int = RESERVE) -> str:
    """One sentence: what fits and how, or how many GiB are missing and what to change."""
    crew, room = made.crew, made.room / GIB
    if made.fits:
        how = ", ".join(f"{model} {chunk}" for model, chunk in made.chunks.items())
        return (f"It fits: at most {made.peak / GIB:.1f} of {room:.1f} GiB, with as many pictures at a time as {how} "
                f"of {crew.paths}.")  # fmt: skip
    changes = {"draw 4 candidates at a time": replace(crew, n=4, prompts=1), "take half precision": replace(crew, number=HALF)}  # fmt: skip
    if crew.verifier:
        changes = {
            "load the verifier in 4 bits (four_bit=True)": replace(crew, four_bit=True),
            "take the verifier of 0.5 B": replace(crew, verifier=LLAVA_05B, four_bit=False),
            "load the models in turn (best-of-N only; PARM needs them together)": replace(crew, in_turn=True),
            "load in turn, the verifier in 4 bits (best-of-N only)": replace(
                crew, in_turn=True, four_bit=True
            ),
        } | changes
    useful = [what for what, other in changes.items() if plan(other, gb, reserve).fits]
    doing = {"decoder": "decoding", "verifier": "asking", "judge": "judging"}.get(max(made.peaks, key=made.peaks.get), "drawing")  # fmt: skip
    do = f"; {', or '.join(useful[:2])}" if useful else "; a larger card is needed"
    return (f"It does not fit: even with one picture at a time {made.peak / GIB:.1f} GiB are needed ({doing}), {room:.1f} GiB of "
            f"{gb:g} GB can be used{do}.")  # fmt: skip
