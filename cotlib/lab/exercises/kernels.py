"""Exercises of notebook 10, GPU kernels. The last one is a Triton kernel, run in a process of its own."""

from __future__ import annotations

import ast
import inspect
import textwrap

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from cotlib.lab.exercises.registry import Exercise, Mistake, Unfinished, call
from cotlib.lab.kernel_lessons import guide_kernel, sortable
from cotlib.lab.kernel_trial import GUARD, run_learner

# --- inverse_cdf: a code from a uniform number


def _draws() -> list[tuple]:
    """(logits [R,V], uniforms [R], temperature): uniforms in the middle of a code's share, away from rounding.

    In the last case codes are ruled out, the first ones among them, and the uniform is 0.
    """
    rng = torch.Generator().manual_seed(10)
    cases = []
    for rows, v, temperature in ((4, 12, 1.0), (3, 40, 0.7), (12, 9, 1.5), (1, 300, 1.0)):
        logits = 2 * torch.randn((rows, v), generator=rng) + 1.5
        p = (logits.double() / temperature).softmax(1)
        codes = torch.multinomial((p > 1e-3).float(), 1, generator=rng)
        middle = p.cumsum(1).gather(1, codes) - p.gather(1, codes) / 2
        cases.append((logits, middle[:, 0].float(), temperature))
    ruled_out = torch.tensor([[float("-inf"), float("-inf"), 0.5, 1.0], [float("-inf"), 2.0, -1.0, 0.0]])
    return [*cases, (ruled_out, torch.zeros(2), 1.0)]


def _draw(
    logits,
    u,
    temperature,
    *,
    draw_at=None,
    said_at=None,
    share=None,
    u_of=None,
    count=None,
    shift=0,
    log=True,
):
    """`inverse_cdf` with one mistake at a time."""
    scaled = logits / (temperature if draw_at is None else draw_at(temperature))
    cumulative = (share or (lambda x: x.softmax(1)))(scaled).cumsum(1)
    mark = (u_of or (lambda u, c: u))(u[:, None], cumulative)
    found = (count or (lambda c, m: c <= m))(cumulative, mark).sum(1, keepdim=True) + shift
    tokens = found.clamp(0, logits.shape[1] - 1)
    said = (
        (logits / (temperature if said_at is None else said_at(temperature))).log_softmax(1).gather(1, tokens)
    )
    return tokens[:, 0], (said if log else said.exp())[:, 0]


INVERSE_CDF = Exercise(
    name="inverse_cdf",
    where="cotlib.kernels.masked_sample:reference",
    inputs=_draws,
    tolerance=1e-4,
    mistakes=(
        Mistake(
            "impossible code",
            "Right in general, but at u = 0 you draw a code without probability. A sum that is *equal* to u is not past it: count the sums "
            "that are <= u, not those that are < u.",
            lambda *a: _draw(*a, count=lambda c, m: c < m),
        ),
        Mistake(
            "one too far",
            "Your code is one too high. The number of running sums that are not past u *is* the code, since codes count from 0.",
            lambda *a: _draw(*a, shift=1),
        ),
        Mistake(
            "one too low",
            "Your code is one too low. The number of running sums that are not past u *is* the code, since codes count from 0.",
            lambda *a: _draw(*a, shift=-1),
        ),
        Mistake(
            "log p at temperature 1",
            "The codes are right. Their log-probabilities are those at temperature 1: take the log-softmax of the divided logits.",
            lambda *a: _draw(*a, said_at=lambda t: 1.0),
        ),
        Mistake(
            "drawn at temperature 1",
            "The temperature does not reach the draw: divide the logits first, then do everything with these.",
            lambda *a: _draw(*a, draw_at=lambda t: 1.0),
        ),
        Mistake(
            "no temperature",
            "The temperature is missing: divide the logits by it first.",
            lambda *a: _draw(*a, draw_at=lambda t: 1.0, said_at=lambda t: 1.0),
        ),
        Mistake(
            "times temperature",
            "You multiply by the temperature. It divides: a high one makes all codes more alike.",
            lambda *a: _draw(*a, draw_at=lambda t: 1 / t, said_at=lambda t: 1 / t),
        ),
        Mistake(
            "not divided by the sum",
            "Your running sums do not end at 1, so u does not fit. Divide by the total, or multiply u by it.",
            lambda *a: _draw(*a, share=lambda x: (x - x.amax(1, keepdim=True)).exp()),
        ),
        Mistake(
            "not divided by the sum",
            "Your running sums do not end at 1, so u does not fit. Divide by the total, or multiply u by it.",
            lambda *a: _draw(*a, share=lambda x: x.exp()),
        ),
        Mistake(
            "from the other end",
            "You count from the other end. That is a fair draw, too, but the course's running sum begins at code 0: same u, same code.",
            lambda *a: _draw(*a, u_of=lambda u, c: 1 - u),
        ),
        Mistake(
            "the most probable code",
            "You take the most probable code. u has no say then.",
            lambda *a: _draw(*a, u_of=lambda u, c: c, count=lambda c, m: _one_hot_count(c)),
        ),
        Mistake(
            "probability",
            "The codes are right, but you return probabilities. Asked for are their logarithms.",
            lambda *a: _draw(*a, log=False),
        ),
        Mistake(
            "softmax over rows",
            "Your softmax runs over the rows. Each row is a place of its own; sum over the codes, dim=1.",
            lambda *a: _draw(*a, share=lambda x: x.softmax(0)),
        ),
    ),
)


def _one_hot_count(cumulative: Tensor) -> Tensor:
    """As many True in each row as its most probable code says."""
    p = cumulative.diff(dim=1, prepend=torch.zeros_like(cumulative[:, :1]))
    return torch.arange(p.shape[1])[None] < p.argmax(1, keepdim=True)


# --- kth_smallest: selection without a sort


class _Sorted(Exception):
    pass


class _NoSorting(TorchFunctionMode):
    """Refuses torch's sorting functions, so that the exercise stays one."""

    names = ("sort", "argsort", "msort", "topk", "kthvalue", "median", "nanmedian", "quantile", "unique")

    def __torch_function__(self, function, types, arguments=(), options=None):
        name = getattr(function, "__name__", "")
        if name in self.names:
            raise _Sorted
        return function(*arguments, **(options or {}))


def _without_sorting(fn, *args):
    """What the function returns, or one word when it sorts."""
    try:
        with _NoSorting():
            return call(fn, *args)
    except _Sorted:
        return "sorted"


def _keys() -> list[tuple]:
    """(keys int64 [B,N], k, bits): small ones with ties, k at both ends, the largest number among them, floats as integers."""
    rng = torch.Generator().manual_seed(11)

    def random(rows, n, bits):
        return torch.randint(0, 2**bits, (rows, n), generator=rng)

    ends = torch.tensor([[0, 7, 7, 3, 0], [7, 7, 7, 7, 7], [1, 2, 3, 4, 5]])
    floats = sortable(torch.randn((3, 20), generator=rng))
    return [(random(3, 10, 4), 4, 4), (random(2, 30, 3), 11, 3), (ends, 1, 3), (ends, 5, 3), (random(5, 1, 6), 1, 6),
            (random(4, 64, 10), 33, 10), (floats, 7, 32), (ends, 2, 3)]  # fmt: skip


def _kth(keys, k, bits, *, order=reversed, below=None, wanted=0, last=0, rows=None, largest=False):
    """`kth_smallest` with one mistake at a time."""
    answer = torch.zeros(len(keys), dtype=torch.long)
    for bit in order(range(last, bits)):
        trial = answer + (1 << bit)
        count = (below or (lambda x, t: x < t))(keys, trial[:, None]).sum(1)
        count = count if rows is None else rows(count)
        goal = keys.shape[1] - k + 1 if largest else k
        answer = torch.where(count < goal + wanted, trial, answer)
    return answer


KTH_SMALLEST = Exercise(
    name="kth_smallest",
    where="cotlib.lab.kernel_lessons:kth_smallest",
    inputs=_keys,
    observe=_without_sorting,
    mistakes=(
        Mistake(
            "sorted",
            "You put the row in order. That works, and is what the kernel avoids: here only comparing and counting are allowed.",
            lambda keys, k, bits: keys.sort(1).values[:, k - 1],
        ),
        Mistake(
            "k from 0",
            "You return the next larger key: k counts from 1 here, so a bit is 1 while *fewer than k* keys lie below, not while at most k do.",
            lambda *a: _kth(*a, wanted=1),
        ),
        Mistake(
            "k - 1",
            "You return the next smaller key: a bit is 1 while fewer than k keys lie below; k - 1 of them are still fewer.",
            lambda *a: _kth(*a, wanted=-1),
        ),
        Mistake(
            "equal counted",
            "You count keys that are *equal* to the trial number as below it. With them among the k, the answer never reaches a key: compare with <.",
            lambda *a: _kth(*a, below=lambda x, t: x <= t),
        ),
        Mistake(
            "from the lowest bit",
            "You begin at the lowest bit. The highest decides most and has to be settled first.",
            lambda *a: _kth(*a, order=list),
        ),
        Mistake(
            "lowest bit missing",
            "Your lowest bit is never looked at: the last bit is number 0.",
            lambda *a: _kth(*a, last=1),
        ),
        Mistake(
            "k-th largest",
            "You find the k-th *largest*. Fewer than k keys below the trial number: the bit is 1.",
            lambda *a: _kth(*a, largest=True),
        ),
        Mistake(
            "one threshold for all",
            "You count over the whole batch. Each row has its own answer: sum(1), and keep the axis.",
            lambda *a: _kth(*a, rows=lambda count: count.sum().expand(len(count))),
        ),
        Mistake(
            "mean of all rows",
            "You settle a bit for all rows by the first one. Each row has its own answer: torch.where, row by row.",
            lambda *a: _kth(*a, rows=lambda count: count[:1].expand(len(count))),
        ),
    ),
)

# --- streamed_logsumexp: online softmax


def _rows() -> list[tuple]:
    """(x float [R,V], block): ragged, growing and falling rows, far from 0 on both sides, codes that are ruled out."""
    rng = torch.Generator().manual_seed(12)

    def random(rows, v, scale=2.0):
        return scale * torch.randn((rows, v), generator=rng)

    rising = torch.arange(12.0)[None] * torch.tensor([[1.0], [-1.0]])
    late = random(2, 10)
    late[:, :4] = float("-inf")
    return [(random(3, 16), 4), (random(2, 13), 5), (rising, 3), (random(2, 20) + 200, 8), (random(2, 20) - 200, 8),
            (random(4, 7), 100), (late, 4)]  # fmt: skip


def _streamed(x, block, *, scale=None, first=float("-inf"), whole=True, guard=True):
    """`streamed_logsumexp` with one mistake at a time."""
    top, total = torch.full_like(x[:, 0], first), torch.zeros_like(x[:, 0])
    parts = x.split(block, 1) if whole else [p for p in x.split(block, 1) if p.shape[1] == block]
    for part in parts:
        above = torch.maximum(top, part.amax(1))
        base = above.masked_fill(above == float("-inf"), 0.0) if guard else above
        total = total * (scale or (lambda old, new: (old - new).exp()))(top, base) + (
            part - base[:, None]
        ).exp().sum(1)
        top = above
    return top + total.log()


def _means(x, block):
    """log-sum-exp of each block, added up."""
    return torch.stack([part.logsumexp(1) for part in x.split(block, 1)]).sum(0)


def _largest(x, block):
    return torch.stack([part.logsumexp(1) for part in x.split(block, 1)]).amax(0)


STREAMED_LOGSUMEXP = Exercise(
    name="streamed_logsumexp",
    where="cotlib.lab.kernel_lessons:streamed_logsumexp",
    inputs=_rows,
    mistakes=(
        Mistake(
            "old sum not scaled",
            "The old sum belongs to the old maximum. When a larger one comes, the old sum has to be multiplied by exp(old - new).",
            lambda *a: _streamed(*a, scale=lambda old, new: torch.ones_like(old)),
        ),
        Mistake(
            "scaled the wrong way",
            "You scale the old sum *up* when the maximum grows: the factor is exp(old - new), at most 1.",
            lambda *a: _streamed(*a, scale=lambda old, new: (new - old).exp()),
        ),
        Mistake(
            "no maximum",
            "Without a maximum to subtract, exp overflows at 89 and vanishes at -104. Subtract the largest number so far.",
            lambda x, block: sum(part.exp().sum(1) for part in x.split(block, 1)).log(),
        ),
        Mistake(
            "maximum from 0",
            "Your maximum begins at 0, so far below 0 every exp vanishes. Let it begin at -inf.",
            lambda *a: _streamed(*a, first=0.0),
        ),
        Mistake(
            "-inf minus -inf",
            "Right, but for rows that begin with a block of codes that are ruled out: -inf - (-inf) is NaN. As long as the largest number is -inf, subtract 0.",
            lambda *a: _streamed(*a, guard=False),
        ),
        Mistake(
            "ragged end",
            "Where the row's length is no multiple of the block, you leave the last block out.",
            lambda *a: _streamed(*a, whole=False),
        ),
        Mistake(
            "added up",
            "You add up the log-sum-exps of the blocks. Sums of exp add up, their logarithms do not.",
            _means,
        ),
        Mistake(
            "largest block",
            "You return the largest block's log-sum-exp; the other blocks' sums belong to it.",
            _largest,
        ),
        Mistake(
            "maximum only",
            "You return the largest number. Add the logarithm of the sum of exp(x - largest).",
            lambda x, block: x.amax(1),
        ),
    ),
)

# --- guide_kernel: the first kernel of one's own


def _guided() -> list[tuple]:
    """One case of several launches (cond, uncond, w, BLOCK): a full block, ragged ones, several, less than one."""
    rng = torch.Generator().manual_seed(13)
    sizes = ((64, 64, 1.5), (100, 64, 1.5), (3, 16, 0.5), (200, 32, 3.0))
    return [
        ([(torch.randn(n, generator=rng), torch.randn(n, generator=rng), w, block) for n, block, w in sizes],)
    ]


def _launched(fn, launches) -> list[Tensor]:
    """What the kernel leaves in `out` and in the 64 numbers behind it. A known mistake is plain torch, (cond, uncond, w, BLOCK) -> out."""
    if fn is guide_kernel:
        fn = _kernel_of(lambda place, n: place < n)
    if "out" not in inspect.signature(fn).parameters:
        return [call(fn, *one) for one in launches]
    body = ast.parse(textwrap.dedent(inspect.getsource(fn))).body[0].body
    if all(
        isinstance(line, ast.Pass) or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
        for line in body
    ):
        raise Unfinished
    return run_learner(fn, launches)


def _kernel_of(inside, value=lambda c, u, w: (1 + w) * c - w * u, one_program=False):
    """What a kernel leaves behind that stores `value` at the places which are `inside`."""

    def run(cond, uncond, w, block):
        n = len(cond)
        out = torch.full((n + GUARD,), float("nan"))
        ends = block if one_program else -(-n // block) * block
        place = torch.arange(min(ends, n + GUARD))
        seen = [torch.cat([x, torch.full((block + GUARD,), 1e6)])[: len(place)] for x in (cond, uncond)]
        stored = inside(place, n)
        out[: len(place)] = torch.where(stored, value(*seen, w), out[: len(place)])
        return out

    return run


def _all_of_it(place, n):
    return torch.ones_like(place, dtype=torch.bool)


def _inside(place, n):
    return place < n


GUIDE_KERNEL = Exercise(
    name="guide_kernel",
    where="cotlib.lab.kernel_lessons:guide_kernel",
    inputs=_guided,
    observe=_launched,
    mistakes=(
        Mistake(
            "no mask",
            "The last block writes past the end: numbers behind the output have changed. Give load and store the mask place < n.",
            _kernel_of(_all_of_it),
        ),
        Mistake(
            "first block only",
            "Only the first BLOCK numbers are written. Each program has its own block: begin at tl.program_id(0) * BLOCK.",
            _kernel_of(_inside, one_program=True),
        ),
        Mistake("nothing written", "Nothing was written: end with tl.store(out + place, ...).", _kernel_of(lambda p, n: p < 0)),
        Mistake(
            "last number missing",
            "The last number is not written: the mask is place < n, not place < n - 1.",
            _kernel_of(lambda p, n: p < n - 1),
        ),
        Mistake(
            "swapped",
            "cond and uncond changed places: (1 + w) cond - w uncond.",
            _kernel_of(_inside, lambda c, u, w: (1 + w) * u - w * c),
        ),
        Mistake("sign", "uncond is subtracted: (1 + w) cond - w uncond.", _kernel_of(_inside, lambda c, u, w: (1 + w) * c + w * u)),
        Mistake("no 1 +", "The weight of cond is 1 + w.", _kernel_of(_inside, lambda c, u, w: w * c - w * u)),
        Mistake("other convention", "w cond + (1 - w) uncond is the other convention; here w = 0 means no guidance.",
                _kernel_of(_inside, lambda c, u, w: w * c + (1 - w) * u)),
    ),
)  # fmt: skip

EXERCISES = (INVERSE_CDF, KTH_SMALLEST, STREAMED_LOGSUMEXP, GUIDE_KERNEL)
