"""The ideas of notebook 10 in plain torch, small enough to read: the tricks inside the kernels, and what algebra gives.

    kth_smallest(keys, k, bits)              selection without a sort, as in `remask_step`
    streamed_logsumexp(x, block)             softmax's sum in one read, as in `linear_logprob`
    attend(q, k, v); merge(one, other)       attention over two sets of keys, put together exactly
    draw(generator, prompt, n, seed, rung)   the loop as released, and what each exact change makes of it
    folded(code)                             a listing without long lines

Nothing here is used elsewhere in cotlib: the kernels and the loops have these ideas built in.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cotlib.decoding.masked import guide, sample_masked, settle
from cotlib.decoding.noise import gumbel, path_uniforms
from cotlib.decoding.ratios import masked_left
from cotlib.decoding.schedule import temperatures
from cotlib.kernels.launch import tl
from cotlib.kernels.masked_sample import reference as inverse_cdf

# ----- tricks of the kernels ---------------------------------------------------------------------------------------


def sortable(x: Tensor) -> Tensor:
    """float32 numbers (no NaN) to whole numbers 0 .. 2^32 - 1 that sort alike, int64 of the same shape.

    The bits of a float, read as a whole number, already sort: sign, exponent, mantissa. Only negative ones run backwards, so
    theirs are turned over.
    """
    bits = (x + 0.0).view(torch.int32).long()  # + 0.0: -0 and 0 are equal
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits) + 2**31


def kth_smallest(keys: Tensor, k: int, bits: int) -> Tensor:
    """The k-th smallest key of each row (k from 1), without a sort: int64 [B].

    keys: int64 [B, N], 0 .. 2^bits - 1. The answer is found bit by bit, from the top: a bit is 1 when fewer than k keys
    are smaller than the number with that bit set.
    """
    answer = torch.zeros(len(keys), dtype=torch.long, device=keys.device)
    for bit in reversed(range(bits)):
        trial = answer + (1 << bit)
        below = (keys < trial[:, None]).sum(1)
        answer = torch.where(below < k, trial, answer)
    return answer


def streamed_logsumexp(x: Tensor, block: int) -> Tensor:
    """log sum exp of each row, which is read once, `block` numbers at a time; float [R].

    x: float [R, V], -inf allowed. Kept from block to block: the largest number so far and the sum of exp(x - largest). When
    the largest grows, the sum is scaled down by exp(old - new).
    """
    top = torch.full_like(x[:, 0], float("-inf"))
    total = torch.zeros_like(top)
    for part in x.split(block, dim=1):
        above = torch.maximum(top, part.amax(1))
        base = above.masked_fill(above == float("-inf"), 0.0)  # nothing but -inf so far
        total = total * (top - base).exp() + (part - base[:, None]).exp().sum(1)
        top = above
    return top + total.log()


def guide_kernel(cond, uncond, out, n, w, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < n
    c = tl.load(cond + place, mask=inside)
    u = tl.load(uncond + place, mask=inside)
    tl.store(out + place, (1 + w) * c - w * u, mask=inside)


# ----- attention in parts ------------------------------------------------------------------------------------------


def attend(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """(attention [..., L, Dh], log of the softmax's sum [..., L]).

    q: queries [..., L, Dh]; k, v: keys and values [..., S, Dh].
    """
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    lse = scores.logsumexp(-1)
    return (scores - lse[..., None]).exp() @ v, lse


def merge(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """Attention over all keys from `attend` over two disjoint parts of them: a mean, weighted by the two sums."""
    share = torch.sigmoid(one[1] - other[1])[..., None]  # e^a / (e^a + e^b)
    return share * one[0] + (1 - share) * other[0]


# ----- what algebra gives ------------------------------------------------------------------------------------------

RUNGS = ("as released", "draw by inverse CDF", "one batch", "text once", "guidance before the head",
         "hidden tokens only", "first round once")  # fmt: skip


@torch.no_grad()
def draw(generator, prompt: str, n: int, seed: int, rung: int) -> Tensor:
    """Codes [n, N] of a prompt's paths 0 .. n - 1, drawn with all exact changes up to RUNGS[rung].

    From rung 1 on all rungs draw the same codes (up to rounding); rung 0 has dice of its own. The last one is the
    library's own loop. Triton is not used. generator: a `PictogramGenerator` in masked order, with guidance.
    """
    paths = list(range(n))
    if rung == len(RUNGS) - 1:
        return sample_masked(generator, [prompt] * n, paths, seed, kernel=False)
    batches = [paths] if rung >= 2 else [[k] for k in paths]
    return torch.cat([rounds(generator, prompt, batch, seed, rung) for batch in batches])


def rounds(generator, prompt: str, paths: list[int], seed: int, rung: int) -> Tensor:
    count, size, steps = len(paths), generator.tokens, generator.config.steps
    uniforms = path_uniforms(seed, [prompt] * count, paths, (steps, 2, size)).to(generator.device)
    dice = torch.Generator(generator.device).manual_seed(seed + paths[0])
    codes = torch.full((count, size), generator.mask_id, device=generator.device)
    masked, left = codes == generator.mask_id, size
    number = torch.tensor(paths)
    for step, scale in enumerate(temperatures(steps)):
        if rung < 3:
            prefix = generator.prefix([prompt] * count)  # anew in every round, for every candidate
        elif step == 0:
            prefix = generator.prefix([prompt]).select(torch.zeros(count, dtype=torch.long))
        if rung < 4:
            x, w = generator.inputs(codes), prefix.guidance
            own = generator.head(generator.image(x, prefix.keys, prefix.values, prefix.valid))
            empty = generator.head(generator.image(x, prefix.null_keys, prefix.null_values, None))
            logits = guide(own, empty, w)[masked]
        elif rung < 5:
            logits = generator.head(generator.hidden(prefix, codes))[masked]
        else:
            logits = generator.logits(prefix, codes, masked)
        if rung < 1:
            p = logits.softmax(-1)
            tokens = torch.multinomial(p, 1, generator=dice)
            drawn = tokens[:, 0], p.gather(1, tokens)[:, 0].log()
        else:
            drawn = inverse_cdf(logits, uniforms[:, step, 0][masked])
        left = masked_left(step, steps, size, left)
        noise = scale, gumbel(uniforms[:, step, 1])
        record, codes = settle(
            step, codes, masked, drawn, noise, left, number, generator.mask_id, kernel=False
        )
        masked = record.masked
    return record.codes


# ----- listings ------------------------------------------------------------------------------------------------------


def folded(code: str, width: int = 78) -> str:
    """A listing for a narrow page: lines longer than `width` go on below, broken at the outermost comma in brackets.

    The comment behind a long line goes above it; marks for the formatter are left out.
    """
    lines: list[str] = []
    inside, quoted = 0, False  # open brackets; in a text of several lines
    for line in code.replace("  # fmt: skip", "").splitlines():
        space = line[: len(line) - len(line.lstrip())]
        if quoted or '"""' in line:
            quoted ^= line.count('"""') % 2 == 1
            lines += textwrap.wrap(line, width, subsequent_indent=space) or [""]
            continue
        said, mark, note = f" {line}".partition(" # ") if len(line) > width else (f" {line}", "", "")
        if mark:
            lines += textwrap.wrap(note, width, initial_indent=f"{space}# ", subsequent_indent=f"{space}# ")
        rest, more = said[1:].rstrip(), space if inside else space + 8 * " "
        while rest:
            depths = [
                inside + sum((c in "([{") - (c in ")]}") for c in rest[: i + 1]) for i in range(len(rest))
            ]
            ends = [
                (depths[i], -i) for i in range(min(width, len(rest) - 1)) if rest[i] == "," and depths[i] > 0
            ]
            cut = len(rest) if len(rest) <= width or not ends else 1 - min(ends)[1]
            lines.append(rest[:cut])
            inside, rest = depths[cut - 1], more + rest[cut:].lstrip() if cut < len(rest) else ""
        lines += [""] if not line else []
    return "\n".join(lines) + "\n"


# ----- counting launches -------------------------------------------------------------------------------------------


class _Operations(TorchDispatchMode):
    """Counts what torch is asked to compute. A view of a tensor computes nothing and does not count."""

    count = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        returned = [value.alias_info for value in function._schema.returns]
        view = bool(returned) and all(info is not None and not info.is_write for info in returned)
        fresh = function._schema.name in (
            "aten::empty",
            "aten::empty_like",
            "aten::empty_strided",
            "aten::detach",
        )
        self.count += not (view or fresh)
        return function(*arguments, **(options or {}))


def operations(work: Callable[[], object]) -> int:
    """How many operations of torch `work()` asks for. A GPU launches at least one kernel for each of them."""
    with _Operations() as seen:
        work()
    return seen.count
