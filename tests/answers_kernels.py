"""Right and wrong answers to the exercises of notebook 10, written as a learner would write them; see `test_exercises.py`.

The right kernel of the last exercise runs in a process of its own, some seconds. What wrong ones leave behind is written in
plain torch, and so is the right one where Triton is not installed; `test_kernel_figures.py` runs a wrong kernel, too.
"""

import math

import torch

from cotlib.kernels.launch import tl, triton


def inverse_cdf(logits, uniforms, temperature):
    tokens, said = [], []
    for row, u in zip(logits.double() / temperature, uniforms.tolist(), strict=True):
        weights = [math.exp(x) for x in row.tolist()]
        total, running = sum(weights), 0.0
        code = -1
        while running <= u * total:
            code += 1
            running += weights[code]
        tokens.append(code)
        said.append(math.log(weights[code] / total))
    return torch.tensor(tokens), torch.tensor(said)


def kth_smallest(keys, k, bits):
    found = []
    for row in keys.tolist():
        answer = 0
        for bit in range(bits - 1, -1, -1):
            if sum(key < answer + 2**bit for key in row) < k:
                answer += 2**bit
        found.append(answer)
    return torch.tensor(found)


def streamed_logsumexp(x, block):
    m, s = torch.full((len(x),), -math.inf), torch.zeros(len(x))
    for start in range(0, x.shape[1], block):
        part = x[:, start : start + block]
        new = torch.maximum(m, part.max(dim=1).values)
        shift = torch.where(torch.isinf(new), torch.zeros_like(new), new)
        s = s * torch.exp(m - shift) + torch.exp(part - shift[:, None]).sum(dim=1)
        m = new
    return m + torch.log(s)


if triton:

    def guide_kernel(cond, uncond, out, n, w, BLOCK: tl.constexpr):
        first = tl.program_id(axis=0) * BLOCK
        i = first + tl.arange(0, BLOCK)
        a = tl.load(cond + i, mask=i < n, other=0.0)
        b = tl.load(uncond + i, mask=i < n, other=0.0)
        tl.store(out + i, a + w * (a - b), mask=i < n)

else:

    def guide_kernel(cond, uncond, w, block):
        return left_behind(cond + w * (cond - uncond))


def left_behind(values, behind=float("nan")):
    """An output of a kernel and the 64 numbers behind it."""
    return torch.cat([values, torch.full((64,), behind)])


RIGHT = [inverse_cdf, kth_smallest, streamed_logsumexp, guide_kernel]


def picked(logits, u, temperature, right=True, said=None):
    """Codes by searchsorted, log-probabilities at another temperature if one is said."""
    c = torch.softmax(logits / temperature, -1).cumsum(-1)
    tokens = torch.searchsorted(c, u[:, None], right=right).clamp(max=logits.shape[1] - 1)
    log_p = torch.log_softmax(logits / (said or temperature), -1)
    return tokens.squeeze(1), log_p.gather(1, tokens).squeeze(1)


def ceiling_of_the_sum(logits, u, temperature):
    tokens, _ = picked(logits, u, temperature)
    log_p = torch.log_softmax(logits / temperature, -1)
    tokens = (tokens + 1).clamp(max=logits.shape[1] - 1)
    return tokens, log_p[torch.arange(len(tokens)), tokens]


def greedy(logits, u, temperature):
    log_p = torch.log_softmax(logits / temperature, -1)
    return log_p.argmax(-1), log_p.max(-1).values


def not_normalised(logits, u, temperature):
    scaled = logits / temperature
    tokens = torch.searchsorted(scaled.exp().cumsum(-1), u[:, None], right=True).squeeze(1)
    return tokens, torch.log_softmax(scaled, -1)[torch.arange(len(u)), tokens]


def backwards(logits, u, temperature):
    tokens, log_p = picked(logits, 1 - u, temperature)
    return tokens, log_p


def no_logarithm(logits, u, temperature):
    tokens, log_p = picked(logits, u, temperature)
    return tokens, log_p.exp()


def counted_with_equals(keys, k, bits, at_most=False):
    out = torch.zeros_like(keys[:, 0])
    for b in range(bits - 1, -1, -1):
        t = out | (1 << b)
        below = (keys <= t[:, None]).sum(-1)
        out = torch.where(below < k, t, out)
    return out


def largest_first(keys, k, bits):
    return kth_smallest(keys, keys.shape[1] + 1 - k, bits)


def upwards(keys, k, bits):
    out = torch.zeros_like(keys[:, 0])
    for b in range(bits):
        out = torch.where((keys < (out + 2**b)[:, None]).sum(1) < k, out + 2**b, out)
    return out


def first_row_decides(keys, k, bits):
    out = 0
    for b in reversed(range(bits)):
        if (keys[0] < out + 2**b).sum() < k:
            out += 2**b
    return torch.full((len(keys),), out)


def overflowing(x, block):
    total = 0
    for part in x.split(block, dim=1):
        total = total + torch.exp(part).sum(1)
    return torch.log(total)


def forgotten(x, block, up=False, guard=True):
    """The old sum is left as it is, or scaled up; without the guard for -inf it is scaled rightly."""
    m, s = torch.full((len(x),), -math.inf), torch.zeros(len(x))
    for part in torch.split(x, block, 1):
        new = torch.maximum(m, part.amax(1))
        shift = torch.where(torch.isinf(new), torch.zeros_like(new), new) if guard else new
        factor = torch.exp(shift - m) if up else torch.exp(m - shift) if not guard else 1
        s = s * factor + torch.exp(part - shift[:, None]).sum(1)
        m = new
    return m + s.log()


def whole_blocks_only(x, block):
    return streamed_logsumexp(x[:, : x.shape[1] // block * block], block)


def added(x, block):
    return sum(part.logsumexp(1) for part in x.split(block, 1))


def first_block_only(cond, uncond, w, block):
    values = cond + w * (cond - uncond)
    values[block:] = math.nan
    return left_behind(values)


def last_one_missing(cond, uncond, w, block):
    values = cond + w * (cond - uncond)
    values[-1] = math.nan
    return left_behind(values)


WRONG = [
    ("inverse_cdf", lambda x, u, t: picked(x, u, t, right=False), "at u = 0"),
    ("inverse_cdf", ceiling_of_the_sum, "one too high"),
    ("inverse_cdf", greedy, "most probable"),
    ("inverse_cdf", not_normalised, "do not end at 1"),
    ("inverse_cdf", backwards, "other end"),
    ("inverse_cdf", no_logarithm, "return probabilities"),
    ("inverse_cdf", lambda x, u, t: picked(x, u, t, said=1.0), "those at temperature 1"),
    ("inverse_cdf", lambda x, u, t: picked(x, u, 1.0), "temperature is missing"),
    ("inverse_cdf", lambda x, u, t: picked(x, u, 1 / t), "multiply by the temperature"),
    ("kth_smallest", lambda x, k, b: kth_smallest(x, k + 1, b), "next larger"),
    ("kth_smallest", lambda x, k, b: kth_smallest(x, k - 1, b), "next smaller"),
    ("kth_smallest", counted_with_equals, "compare with <"),
    ("kth_smallest", largest_first, "k-th *largest*"),
    ("kth_smallest", upwards, "highest decides"),
    ("kth_smallest", first_row_decides, "row by row"),
    ("kth_smallest", lambda x, k, b: kth_smallest(x, k, b) // 2 * 2, "last bit is number 0"),
    ("kth_smallest", lambda x, k, b: x.sort(1).values[:, k - 1], "only comparing and counting"),
    ("streamed_logsumexp", overflowing, "overflows"),
    ("streamed_logsumexp", forgotten, "belongs to the old maximum"),
    ("streamed_logsumexp", lambda x, b: forgotten(x, b, up=True), "scale the old sum *up*"),
    ("streamed_logsumexp", lambda x, b: forgotten(x, b, guard=False), "is NaN"),
    ("streamed_logsumexp", whole_blocks_only, "last block"),
    ("streamed_logsumexp", added, "logarithms do not"),
    ("streamed_logsumexp", lambda x, b: x.amax(1), "Add the logarithm"),
    ("guide_kernel", lambda c, u, w, b: left_behind((1 + w) * u - w * c), "changed places"),
    ("guide_kernel", lambda c, u, w, b: left_behind(c - w * u + c * w + 2 * w * u), "is subtracted"),
    ("guide_kernel", lambda c, u, w, b: left_behind(w * (c - u)), "1 + w"),
    ("guide_kernel", last_one_missing, "place < n - 1"),
    ("guide_kernel", first_block_only, "tl.program_id(0) * BLOCK"),
]
