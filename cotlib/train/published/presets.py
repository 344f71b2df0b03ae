"""What the paper's published models are trained with, as presets, each number with its source.

    llava-orm, llava-parm   scripts/orm_ft.sh and parm.sh of github.com/ZiyuGuo99/Image-Generation-CoT at 1ff33eb (the same
                            but for the data): learning rate 1e-5 and for the vision tower 2e-6, cosine, 3 % warm-up, no
                            weight decay, 1 epoch, anyres_max_9, bfloat16, everything is tuned; 8 examples on each of 8 GPUs,
                            so 64 an update (section 3.2 of the paper says 8); a gradient no longer than 1, the default of
                            the trainer that it uses. Data: half of the ORM's file, or the PARM's file and 70 % of the ORM's;
                            write that into a YAML file (see `data.read_records`), or give a file of which all counts
    showo-dpo               scripts/dpo.yaml there, and section 3.3: beta 0.1, learning rate 1e-5, cosine, 10 % warm-up, weight
                            decay 0.01 (not on biases), 10 pairs an update, 1 epoch, prompts dropped in 10 % of pairs, no limit
                            on the gradient

With LoRA the paper has nothing to follow. Rank 128, alpha 256 and the learning rate 2e-4 are those of LLaVA 1.5's LoRA
script; for Show-o rank and rate are a guess of ours. None of the LoRA presets was tried on the whole models.

Where the released code is not followed by default, a setting goes back to it: `masks="independent"` (each picture of a
pair has its own mask and keeps or loses its prompt on its own), `over="vocabulary"` (log-probabilities over all 58498 ids, and the
picture's two end marks count). Not reproduced: grouping by length, and a loss on the chat's marks and line ends as well as on
the answers, which LLaVA-NeXT's trainer has.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from math import isfinite
from typing import Self, TypeVar

from cotlib.align.dpo import DPOConfig
from cotlib.errors import UserError

FREE = (
    "micro",
    "checkpointing",
    "save_minutes",
    "reference",
)  # may differ in a resumed run: no effect on its result


@dataclass(frozen=True)
class Fit:
    """What all recipes share.

    batch: examples an update, of all processes together; micro: of those, in memory at a time, in each process; warmup:
    share of the updates; clip: longest gradient, 0 for no limit; lora: rank of the adapters, 0 to tune every weight;
    checkpointing: hidden states are computed again on the way back instead of kept; save_minutes: between two states.
    """

    lr: float = 1e-5
    batch: int = 64
    epochs: float = 1.0
    warmup: float = 0.03
    weight_decay: float = 0.0
    clip: float = 1.0
    lora: int = 0
    alpha: int = 256  # the adapters' output is scaled by alpha / rank
    micro: int = 8
    checkpointing: bool = True
    save_minutes: float = 10.0

    def __post_init__(self):
        for name in ("lr", "epochs"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UserError(f"{name} is {getattr(self, name)}; expected a finite number above 0")
        for name in ("weight_decay", "clip", "save_minutes"):
            if not (isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise UserError(f"{name} is {getattr(self, name)}; expected a finite number of at least 0")
        for name, least in (("batch", 1), ("micro", 1), ("lora", 0), ("alpha", 1)):
            if getattr(self, name) < least:
                raise UserError(
                    f"{name} is {getattr(self, name)}; expected a whole number of at least {least}"
                )
        if not 0 <= self.warmup < 1:
            raise UserError(
                f"warmup is {self.warmup}; expected at least 0 and less than 1, a share of the updates"
            )

    def lasting(self) -> dict:
        """The settings that a resumed run must share."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in FREE}

    def updates(self, examples: int) -> int:
        """Updates of a run; what does not fill a last batch is left out, as in the released code."""
        return max(1, int(examples * self.epochs) // self.batch)

    def with_lora(self) -> Self:
        """The same with adapters."""
        return replace(self, lora=128, alpha=256, lr=2e-4)


def _one_of(fit: Fit, name: str, *known: str) -> None:
    if getattr(fit, name) not in known:
        raise UserError(f'{name} is "{getattr(fit, name)}"; expected "{known[0]}" or "{known[1]}"')


@dataclass(frozen=True)
class LlavaFit(Fit):
    """look: "anyres" as the paper trains, or "pad" as its verifiers (and this library's) are asked; vision_lr: of the vision
    tower, which adapters leave as it is."""

    vision_lr: float = 2e-6
    look: str = "anyres"

    def __post_init__(self):
        super().__post_init__()
        _one_of(self, "look", "anyres", "pad")
        if not 0 <= self.vision_lr < float("inf"):
            raise UserError(f"vision_lr is {self.vision_lr}; expected a finite number of at least 0")


@dataclass(frozen=True)
class ShowoFit(Fit):
    """beta, loss, smoothing, scored, dropped_text: as in `cotlib.align.dpo.DPOConfig`. masks: "shared" by the two pictures of a
    pair, or "independent". over: "codes", the 8192 image codes, or the whole "vocabulary". resize: pictures of another size are scaled
    and cut as in the released code, not refused. reference: a frozen "copy" of the model in memory, or "ahead": all its
    log-probabilities are computed before the first update, on the masks to come (`minutes` does not count that), and no copy is
    kept. Adapters need neither."""

    lr: float = 1e-5
    batch: int = 10
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float = 0.0
    micro: int = 2
    beta: float = 0.1
    dropped_text: float = 0.1
    masks: str = "shared"
    over: str = "codes"
    scored: str = "all"
    loss: str = "sigmoid"
    smoothing: float = 0.0
    reference: str = "copy"
    resize: bool = False

    def __post_init__(self):
        super().__post_init__()
        _one_of(self, "masks", "shared", "independent")
        _one_of(self, "over", "codes", "vocabulary")
        _one_of(self, "reference", "copy", "ahead")
        if self.masks == "independent" and self.scored == "differing":
            raise UserError('scored is "differing" and masks "independent"; expected masks "shared" there, since only the places '
                            "where the two pictures differ decide")  # fmt: skip
        self.dpo  # noqa: B018  its own checks

    @property
    def dpo(self) -> DPOConfig:
        """The same for the functions of `cotlib.align`."""
        return DPOConfig(beta=self.beta, sft=0.0, lr=self.lr, batch=self.batch, ema=0.0, smoothing=self.smoothing,
                         dropped_text=self.dropped_text, scored=self.scored, loss=self.loss)  # fmt: skip


STAGES = {"llava-orm": LlavaFit(), "llava-parm": LlavaFit(), "showo-dpo": ShowoFit()}
Kind = TypeVar("Kind", bound=Fit)


def preset(stage: str, lora: bool = False, settings: Iterable[str] = ()) -> Fit:
    """The preset of a stage, with some settings changed, each given as "name=value". UserError for one that is not right."""
    return changed(STAGES[stage].with_lora() if lora else STAGES[stage], settings)


def changed(fit: Kind, settings: Iterable[str]) -> Kind:
    """The same with settings changed, each given as "name=value"."""
    known = {f.name: type(getattr(fit, f.name)) for f in fields(fit)}
    found = {}
    for text in settings:
        name, _, value = text.partition("=")
        if name not in known:
            raise UserError(
                f'there is no setting "{name}"; expected name=value with one of {", ".join(known)}'
            )
        found[name] = _value(name, value, known[name])
    return replace(fit, **found)


def _value(name: str, text: str, kind: type) -> object:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise UserError(f'{name} is "{text}"; expected true or false')
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError as error:
        expected = {int: "a whole number", float: "a number"}[kind]
        raise UserError(f'{name} is "{text}"; expected {expected}') from error
