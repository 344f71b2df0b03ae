"""Show-o tuned on pairs of pictures by direct preference optimisation (arXiv 2501.13926, section 3.3).

    python -m cotlib train showo-dpo --init show-o --data pairs.jsonl --images pictures --out my-dpo

A picture's log-probability is estimated on a random mask, as in `cotlib.align.dpo`, whose loss and masks are used: the sum of
log p(code | visible codes, prompt) over the masked places, with the softmax over the 8192 image codes that the sampler
draws from. The two pictures of a pair share the mask and keep or lose their prompt together. `--set masks=independent
--set over=vocabulary` is as released. The reference is the model begun from: a frozen copy, or with `--set reference=ahead` no
second model but its log-probabilities on all masks to come, computed before the first update; adapters are switched off instead.

For a second round (iterative DPO) begin from the first one's folder, with pairs of pictures that it has drawn.
"""

import copy
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from cotlib.align.dpo import dpo_loss, draw_batch
from cotlib.align.pairs import Pairs
from cotlib.errors import UserError
from cotlib.files import writable_folder
from cotlib.kernels.linear_logprob import linear_logprob
from cotlib.models.published.files import beside, checkpoint_folder, read_config
from cotlib.models.published.showo import Showo
from cotlib.models.published.showo_files import words_of
from cotlib.models.published.showo_layout import TEXT
from cotlib.resumable import fingerprint
from cotlib.several import join_training, rank, wait, workers
from cotlib.train.published import adapters, presets
from cotlib.train.published.codes import pair_codes
from cotlib.train.published.data import read_pairs
from cotlib.train.published.loop import (
    Run,
    Watch,
    close,
    dice,
    finished,
    key_of,
    mixed,
    picks,
    recompute,
    require_memory,
    require_share,
    tune,
)
from cotlib.train.published.presets import ShowoFit

LORA = r"model\.layers\.\d+\.(self_attn\.(q_proj|k_proj|v_proj|dense)|mlp\.(fc1|fc2))"
AHEAD = "reference"  # stem of the file with the reference's log-probabilities


# ----- log-probabilities -----------------------------------------------------------------------------------------------


def log_probability(
    model: Showo, prompts: list[str], codes: Tensor, rows: Tensor, over: str = "codes"
) -> Tensor:
    """Sum over the masked places of log p(code | visible codes, prompt) in nats, float32 [B], with gradients.

    codes: long [B, N]; rows: bool [B, N], the masked places; over: "codes", softmax over the 8192 image codes; "vocabulary",
    over all 58498 ids, and the two marks around the picture count as well, as in the released code (both are seen, so
    that they add next to nothing).
    """
    text, _ = model.text_batch(prompts)
    ids = torch.cat([text, model.picture_ids(codes.masked_fill(rows, model.mask_id))], dim=1)
    places = torch.arange(TEXT - text.shape[1], TEXT + codes.shape[1] + 2, device=ids.device)
    with mixed(ids.device):
        out = model.phi.model(
            input_ids=ids, attention_mask=model.full_mask(ids), position_ids=places[None], use_cache=False
        )
    hidden, target = out.last_hidden_state[:, text.shape[1] :], model.picture_ids(codes)  # from soi to eoi
    start, head = model.config.offset, model.phi.lm_head
    window = (start, start + model.codebook_size) if over == "codes" else None
    scored = F.pad(rows, (1, 1), value=over == "vocabulary")
    wide = torch.promote_types(hidden.dtype, torch.float32)
    log_p = linear_logprob(
        hidden[scored].to(wide), head.weight.to(wide), target[scored], head.bias.to(wide), window
    )
    return torch.zeros_like(scored, dtype=log_p.dtype).masked_scatter(scored, log_p).sum(1)


# ----- what an update draws --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draw:
    """B pairs, first the B chosen pictures, then the B rejected ones: prompts, codes long [2B, N], rows bool [2B, N]."""

    prompts: list[str]
    codes: Tensor
    rows: Tensor

    def part(self, which: slice) -> "Draw":
        """Some of the pairs."""
        count = len(self.prompts) // 2
        pick = [*range(count)[which], *range(count, 2 * count)[which]]
        return Draw([self.prompts[i] for i in pick], self.codes[pick], self.rows[pick])


def draw(pairs: Pairs, update: int, fit: ShowoFit, seed: int) -> Draw:
    """What an update sees, drawn from seed and number of the update alone."""
    picked, chance = picks(update, len(pairs.prompts), fit.batch, seed), dice(seed, "masks", update)
    chosen = draw_batch(pairs, picked, fit.dpo, "masked", chance)
    rejected = chosen if fit.masks == "shared" else draw_batch(pairs, picked, fit.dpo, "masked", chance)
    return Draw(chosen.prompts + rejected.prompts, torch.cat([chosen.chosen, rejected.rejected]),
                torch.cat([chosen.rows, rejected.rows]))  # fmt: skip


# ----- the reference ---------------------------------------------------------------------------------------------------

Reference = Callable[[int, int, Draw], Tensor]
"""Log-probabilities [2B] of the pictures of a part, (update, number of the part, part)."""


def reference_of(
    model: Showo, pairs: Pairs, fit: ShowoFit, seed: int, updates: int, out: Path, key: str
) -> Reference:
    """The model as it is now, for later: see `ShowoFit.reference`; with adapters it is the model without them."""

    def now(net: Showo, part: Draw) -> Tensor:
        with torch.no_grad():
            return log_probability(
                net, part.prompts, part.codes.to(net.device), part.rows.to(net.device), fit.over
            )

    if fit.lora:

        def without_adapters(update: int, number: int, part: Draw) -> Tensor:
            with adapters.switched_off(model.phi):
                return now(model, part)

        return without_adapters
    if fit.reference == "copy":
        frozen = Showo(model.config, copy.deepcopy(model.phi).requires_grad_(False), model.words).eval()
        return lambda update, number, part: now(frozen, part)

    def compute() -> Tensor:
        return torch.stack([torch.cat([now(model, part) for part in parts(draw(pairs, update, fit, seed), fit)]).cpu()
                            for update in range(updates)])  # fmt: skip

    table = _kept(out / f"{AHEAD}-{rank() + 1}-of-{workers()}.pt", f"{key} {fit.micro}", compute)
    return lambda update, number, part: table[update, 2 * fit.micro * number :][: len(part.prompts)].to(
        model.device
    )


def _kept(file: Path, key: str, compute: Callable[[], Tensor]) -> Tensor:
    """The tensor in a file if it was written under the same key, else computed and written."""
    if file.is_file():
        try:
            state = torch.load(file, weights_only=True)
            if state["key"] == key:
                return state["table"]
        except Exception:  # noqa: BLE001, S110  torch raises many kinds for a damaged file; it is made anew
            pass
    table = compute()
    torch.save({"key": key, "table": table}, file)
    return table


def parts(drawn: Draw, fit: ShowoFit) -> list[Draw]:
    """This process's share, in parts that go through together."""
    mine = drawn.part(slice(rank(), None, workers()))
    return [
        mine.part(slice(first, first + fit.micro)) for first in range(0, len(mine.prompts) // 2, fit.micro)
    ]


# ----- the recipe ------------------------------------------------------------------------------------------------------


def run(
    out: Path, stage: str = "showo-dpo", seed: int = 0, minutes: float | None = None, resume: bool = False,
    start: Path | None = None, data: Path | None = None, images: Path | None = None, lora: bool = False,
    settings: Iterable[str] = (), fit: ShowoFit | None = None, watch: Watch | None = None, words: object = None,
    tokenizer: Path | None = None,
) -> dict:  # fmt: skip
    """Tunes a Show-o into the folder `out`; returns the metrics, means over the last ten updates.

    start: its folder or hub id; data, images: see `data.read_pairs`; words, tokenizer: see `Showo.from_pretrained`; the others as
    in `llava.run`. UserError when anything is off, before any update.
    """
    device, out = join_training(), writable_folder(out)
    fit = fit or presets.preset(stage, lora, settings)
    if start is None or data is None:
        raise UserError(
            f"{stage} tunes a Show-o on pairs of pictures; give its folder with --init and the file with --data"
        )
    found, folder = read_pairs(data, images, seed), checkpoint_folder(start)
    if folder.resolve() == out.resolve():
        raise UserError(f"{out} is the folder of the weights to begin from; give another one with --out")
    read_config(folder, "Showo")
    require_share(fit.batch)
    require_memory(folder, fit, device, torch.float32, copies=int(fit.reference == "copy"))
    magvit = tokenizer_folder(start, folder, tokenizer)
    model = Showo.from_pretrained(
        start, words=words, tokenizer=magvit, device=device
    )  # in float32, and written so
    side = model.grid[0] * model.tokenizer.patch
    chosen, rejected = pair_codes(found, model.tokenizer, side, fit.resize, out, fingerprint(magvit))
    model.tokenizer = None  # its work is done
    pairs = Pairs([one.prompt for one in found], chosen, rejected, {"pairs": len(found)})
    key = key_of("showo", fit.lasting(), seed, fingerprint(folder), pairs.prompts, chosen, rejected)
    if resume and (metrics := finished(out, key)):
        return metrics
    groups, updates = prepare(model, fit, seed), fit.updates(len(found))
    reference = reference_of(model, pairs, fit, seed, updates, out, key)
    state = Run(model.phi, torch.optim.AdamW(groups), fit, updates, out, key)
    complete = tune(
        state, teacher(model, reference, pairs, fit, seed), resume=resume, minutes=minutes, watch=watch
    )
    adapters.merge(model.phi)
    card = {"stage": stage, "start": str(start), "data": str(data), "examples": len(found), "seed": seed,
            "fit": asdict(fit)}  # fmt: skip
    if rank() == 0:
        write_showo(model, out, magvit)
        for file in out.glob(f"{AHEAD}-*.pt") if complete else ():
            file.unlink()
    wait()
    return close(state, complete, card)


def prepare(model: Showo, fit: ShowoFit, seed: int) -> list[dict]:
    """Makes the parameters that are tuned require gradients; biases do not decay."""
    if fit.checkpointing:
        recompute(model.phi)
    model.requires_grad_(False)
    if fit.lora:
        adapters.add_adapters(model.phi, LORA, fit, seed)
    else:
        model.phi.requires_grad_(True)
    own = [(name, p) for name, p in model.phi.named_parameters() if p.requires_grad]
    return [{"params": [p for name, p in own if "bias" not in name], "lr": fit.lr, "weight_decay": fit.weight_decay},
            {"params": [p for name, p in own if "bias" in name], "lr": fit.lr, "weight_decay": 0.0}]  # fmt: skip


def teacher(model: Showo, reference: Reference, pairs: Pairs, fit: ShowoFit, seed: int):
    """The step of the loop. Its curves: the loss, and margin, accuracy and changes of both log-probabilities against the reference,
    in nats a picture."""

    def step(update: int) -> dict[str, float]:
        mine = parts(draw(pairs, update, fit, seed), fit)
        share = fit.batch // workers()
        total = dict.fromkeys(("loss", "margin", "accuracy", "chosen", "rejected"), 0.0)
        for number, part in enumerate(mine):
            before = reference(update, number, part)
            now = log_probability(
                model, part.prompts, part.codes.to(model.device), part.rows.to(model.device), fit.over
            )
            (ref_chosen, ref_rejected), (chosen, rejected) = before.chunk(2), now.chunk(2)
            loss, margin = dpo_loss(
                chosen, rejected, ref_chosen, ref_rejected, fit.beta, fit.smoothing, fit.loss
            )
            weight = len(margin) / share
            (loss * weight).backward()
            for name, value in {"loss": loss, "margin": margin, "accuracy": margin > 0, "chosen": chosen - ref_chosen,
                                "rejected": rejected - ref_rejected}.items():  # fmt: skip
                total[name] += weight * value.detach().float().mean().item()
        return total

    return step


# ----- folders ---------------------------------------------------------------------------------------------------------


def tokenizer_folder(start: Path | str, folder: Path, given: Path | str | None) -> Path:
    """The folder of MAGVIT-v2: the one given, the one in or beside Show-o's, or the hub's for a Show-o of the hub."""
    found = given or beside(folder, "magvitv2") or (None if Path(start).is_dir() else "showlab/magvitv2")
    if found is None:
        raise UserError(
            f"{start} has no image tokenizer in or beside it; expected the folder of showlab/magvitv2 there, as magvitv2"
        )
    return checkpoint_folder(found)


def write_showo(model: Showo, out: Path, magvit: Path) -> None:
    """The published layout; the two tokenizers go into it unless they are found beside it."""
    model.save_pretrained(out)
    if not isinstance(words_of(out, {}), Path):
        model.words.save_pretrained(out / "phi-1_5")
    if beside(out, "magvitv2") is None:
        shutil.copytree(magvit, out / "magvitv2")
