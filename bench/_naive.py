"""Best-of-N and PARM as the released code runs them, and the steps from there to cotlib's own.

Read from github.com/ZiyuGuo99/Image-Generation-CoT (orm.py, parm.py, selector.py): one candidate at a time; in each step
the whole sequence, pads included, with and without the prompt; logits of all places over all 58498 ids in float32; guidance
on these, cut to the image afterwards; softmax and `multinomial` for every place, drawn before or not; the tokens to hide
by a full sort. A picture is decoded and written as PNG after every step, for PARM twice while it is not clear. The verifier
reads the file and answers with `generate`, one picture and one question at a time, PARM's second question with picture and
first question over again. Refused paths are drawn to their ends.

Two of its traits are left out, as neither changes the work: the annealed temperature that is carried over from one candidate
to the next, and that an answer's word is drawn, not taken for what it is likeliest to be.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from cotlib.decoding.masked import guide
from cotlib.decoding.noise import gumbel, path_uniforms
from cotlib.decoding.ratios import masked_left
from cotlib.interfaces import CLARITY, FINAL, POTENTIAL
from cotlib.models.published.chunked import Chunks
from cotlib.models.published.llava import BEFORE, LlavaVerifier, tokens
from cotlib.models.published.pictures import to_pil
from cotlib.models.published.showo import Showo
from cotlib.search import Ledger
from cotlib.verifying.answers import TOP_K, TOP_P

QUESTIONS = (CLARITY, POTENTIAL, FINAL)
ANSWER = 2  # tokens: the word and the end of the turn


# ----- the generator -----------------------------------------------------------------------------------------------


def additive(model: Showo, ids: Tensor) -> Tensor:
    """Show-o's attention mask of whole sequences [B, L] as the released code has it: 0 or a very low number, added."""
    seen = model.full_mask(ids)
    dtype = model.phi.lm_head.weight.dtype
    return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)


@torch.no_grad()
def released_steps(model: Showo, prompt: str, slots: int, uniforms: Tensor | None = None) -> Iterator[Tensor]:
    """One candidate: its full guess, long [N], after each step.

    slots: places of the text. uniforms: [S, 2, N] in [0, 1), for the codes and for the noise, drawn by the inverse of the
    cumulative distribution then; as released, chance is torch's own.
    """
    c, steps = model.config, model.config.steps
    text = model.text_batch([prompt, ""], slots)[0]  # [2, slots]
    codes = torch.full((c.tokens,), model.mask_id, device=model.device)
    whole = torch.cat([text, model.picture_ids(codes.expand(2, -1))], dim=1)
    mask, left, scale = additive(model, whole), c.tokens, 1.0
    for step in range(steps):
        whole = torch.cat([text, model.picture_ids(codes.expand(2, -1))], dim=1)
        cond, uncond = model.full_logits(whole, mask).float().chunk(2)
        logits = guide(cond, uncond, c.guidance)
        p = logits[0, -(c.tokens + 1) : -1, c.offset : c.offset + c.codes].softmax(-1)
        if uniforms is None:
            drawn, noise = torch.multinomial(p, 1)[:, 0], gumbel(torch.rand(c.tokens, device=model.device))
        else:
            cumulative, target = p.cumsum(-1), uniforms[step, 0, :, None]
            drawn = (cumulative <= target * cumulative[:, -1:]).sum(-1).clamp(max=c.codes - 1)
            noise = gumbel(uniforms[step, 1])
        unknown = codes == model.mask_id
        guess = torch.where(unknown, drawn, codes)
        sure = torch.where(unknown, p.gather(-1, guess[:, None])[:, 0], torch.finfo(p.dtype).max)
        scale *= 1 - (step + 1) / steps
        left = masked_left(step, steps, c.tokens, left)
        confidence = sure.log() + scale * noise
        codes = torch.where(confidence < confidence.sort().values[left], model.mask_id, guess)
        yield guess


def save(model: Showo, codes: Tensor, file: Path, ledger: Ledger) -> Path:
    """Decodes codes [N] and writes the picture as PNG."""
    ledger.decodes += 1
    with ledger.timed("decode"):
        to_pil(model.decode(codes[None]))[0].save(file)
    return file


# ----- the verifier ------------------------------------------------------------------------------------------------


class ReleasedVerifier:
    """The released code's way to ask: a file, one question, `generate`. The verdict is the script's.

    As `Verifier` it can also be put into cotlib's own strategies; each picture is then written first.
    """

    questions, thresholds, ask_from = QUESTIONS, (0.5, 0.5), 0

    def __init__(self, verifier: LlavaVerifier, script, folder: Path):
        self.verifier, self.script, self.folder = verifier, script, folder

    def ask(self, question: str, prompts: list[str], images: Tensor) -> Tensor:
        """P(yes) [B] by the script."""
        odds = self.script.verdicts(question, len(prompts))
        for prompt, picture in zip(prompts, to_pil(images), strict=True):
            picture.save(self.folder / "asked.png")
            self.answer(question, prompt, self.folder / "asked.png")
        return torch.tensor(odds)

    def ask_file(self, question: str, prompt: str, file: Path) -> float:
        """P(yes) of one written picture by the script."""
        odds = self.script.verdicts(question, 1)[0]
        self.answer(question, prompt, file)
        return odds

    @torch.no_grad()
    def answer(self, question: str, prompt: str, file: Path) -> tuple[float, Tensor]:
        """(P(yes) after the sampling filters, logits [V] of the first word); nothing is kept from one question to the next."""
        own, inner = self.verifier, self.verifier.model.model
        seen = own.visual_tokens([Image.open(file).convert("RGB")])[0]
        first, last = (
            torch.tensor([t for text in texts for t in tokens(own.words, text)], device=own.device)
            for texts in ([BEFORE], own.text(question, prompt))
        )
        words = inner.language_model.embed_tokens
        inputs = torch.cat([words(first), seen, words(last)])[None]
        out = own.model.generate(
            inputs_embeds=inputs, attention_mask=torch.ones(inputs.shape[:2], dtype=torch.long, device=own.device),
            min_new_tokens=ANSWER, max_new_tokens=ANSWER, do_sample=True, temperature=1.0, top_k=TOP_K, top_p=TOP_P,
            eos_token_id=own.words.eos_token_id, pad_token_id=own.words.eos_token_id,
            return_dict_in_generate=True, output_scores=True, output_logits=True,
        )  # fmt: skip
        return out.scores[0][0].softmax(-1)[own.yes[0]].item(), out.logits[0][0]


# ----- the searches ------------------------------------------------------------------------------------------------


@dataclass
class Found:
    """What a search ended with: the chosen path's number, all paths' codes [n, N], and the cost."""

    chosen: int
    codes: Tensor
    ledger: Ledger


def released_orm(
    model: Showo, verifier: ReleasedVerifier, prompt: str, n: int, slots: int, seed: int | None = None,
    every_step: bool = True,
) -> Found:  # fmt: skip
    """Best-of-n. seed: draw what cotlib's paths draw with it, instead of torch's own numbers. every_step: False to decode
    and write at the end only."""
    ledger, files, ends = Ledger(), [], []
    for k in range(n):
        for step, codes in enumerate(released_steps(model, prompt, slots, _chance(model, prompt, k, seed))):
            if every_step:
                save(model, codes, verifier.folder / f"{k:05d}_step{step}.png", ledger)
        ends.append(codes)
        files.append(save(model, codes, verifier.folder / f"{k:05d}.png", ledger))
    with ledger.timed("verifier"):
        scores = [verifier.ask_file(FINAL, prompt, file) for file in files]
    return Found(scores.index(max(scores)), torch.stack(ends), ledger)


def released_parm(
    model: Showo, verifier: ReleasedVerifier, prompt: str, n: int, slots: int, seed: int | None = None
) -> Found:
    """PARM. seed: as in `released_orm`."""
    ledger, files, ends, kept = Ledger(), [], [], []
    for k in range(n):
        clear = False
        for step, codes in enumerate(released_steps(model, prompt, slots, _chance(model, prompt, k, seed))):
            if not clear:
                file = save(model, codes, verifier.folder / "waiting.png", ledger)
                with ledger.timed("verifier"):
                    clear = verifier.ask_file(CLARITY, prompt, file) >= 0.5
                    if clear and verifier.ask_file(POTENTIAL, prompt, file) >= 0.5:
                        kept.append(k)
            save(model, codes, verifier.folder / f"{k:05d}_step{step}.png", ledger)
        ends.append(codes)
        files.append(save(model, codes, verifier.folder / f"{k:05d}.png", ledger))
    with ledger.timed("verifier"):
        scores = [verifier.ask_file(FINAL, prompt, files[k]) for k in kept]
    return Found(kept[scores.index(max(scores))], torch.stack(ends), ledger)


def _chance(model: Showo, prompt: str, k: int, seed: int | None) -> Tensor | None:
    if seed is None:
        return None
    return path_uniforms(seed, [prompt], [k], (model.config.steps, 2, model.tokens))[0].to(model.device)


# ----- from there to cotlib ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Whole:
    """What `Wasteful` keeps of the prompts: ids [P, slots], pads included; of the empty prompt [1, slots]."""

    ids: Tensor
    null: Tensor

    def select(self, index: Tensor) -> "Whole":
        """The rows of the given paths."""
        return Whole(self.ids[index.to(self.ids.device)], self.null)


class Wasteful:
    """Show-o for cotlib's loops (`ImageTokenModel`), with the whole sequence in every step.

    few: the head only for hidden image tokens and image codes. early: guidance before the head, not after; with `few`.
    chunk: candidates at once, None for all.
    """

    def __init__(
        self, model: Showo, slots: int, few: bool = False, early: bool = False, chunk: int | None = None
    ):
        self.model, self.slots, self.few, self.early, self.chunks = model, slots, few, early, Chunks(chunk)

    def __getattr__(self, name: str):
        return getattr(self.model, name)  # sizes, device, decode

    def prefix(self, prompts: list[str], guidance: float | None = None) -> Whole:
        """Text ids; nothing is computed."""
        ids = self.model.text_batch([*prompts, ""], self.slots)[0]
        return Whole(ids[:-1], ids[-1:])

    @torch.no_grad()
    def logits(self, prefix: Whole, codes: Tensor, rows: Tensor) -> Tensor:
        """Guided logits [R, V] at the True places of `rows` [B, N]."""
        return self.chunks.run(
            lambda mine: self._part(prefix.ids[mine], prefix.null, codes[mine], rows[mine]), len(codes), "candidates"
        )  # fmt: skip

    def _part(self, own: Tensor, null: Tensor, codes: Tensor, rows: Tensor) -> Tensor:
        model, c = self.model, self.model.config
        text = torch.cat([own, null.expand_as(own)])
        ids = torch.cat([text, model.picture_ids(codes.repeat(2, 1))], dim=1)
        mask, image = additive(model, ids), slice(-(c.tokens + 1), -1)
        if not self.few:
            logits = guide(*model.full_logits(ids, mask).float().chunk(2), c.guidance)
            return logits[:, image, c.offset : c.offset + c.codes][rows]
        hidden = model.phi.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        cond, uncond = (part[rows].float() for part in hidden[:, image].chunk(2))
        if self.early:
            return model.head(guide(cond, uncond, c.guidance))
        return guide(model.head(cond), model.head(uncond), c.guidance)
