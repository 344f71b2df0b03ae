# %% [markdown]
# # 10 GPU kernels: count first, then fuse
#
# <!-- badges -->
#
# What a search can afford is decided by how fast it draws. "Write a kernel" is the usual advice, and often the wrong one: most of the time is somewhere else, or need not be spent at all. Here you find out where it goes, how little it
# could be, and which of three remedies helps: leaving work out, doing it together, or fusing it.
#
# After this notebook you can
#
# - measure what your device can do at most, and say of any operation how long it takes *at the least*;
# - read kernels beside plain torch, and check them without owning a GPU;
# - draw, select and normalise in one pass over the data: inverse CDF, selection by bits, online softmax;
# - find what algebra saves before anything is fused, and show that it is exact;
# - decide whether a kernel pays, before writing it.
#
# <!-- facts -->
#
# It needs no GPU. With one, more lines are printed and the same cells measure it. Words that are new stand in the [glossary](00_welcome.ipynb#Glossary); masked rounds and guidance are
# from [02](02_token_generation.ipynb), DPO's margin is from [08](08_dpo.ipynb).

# %% tags=["setup"]

# %%
import inspect

import numpy as np
import torch
import torch.nn.functional as F

from cotlib import load
from cotlib.devices import pick_device, pick_dtype
from cotlib.kernels import lfq_pack, linear_logprob, masked_sample, qknorm_rope_kv, remask_step, vq_assign
from cotlib.kernels.launch import tl
from cotlib.lab import Claim, check, claims, predict, progress, reveal, score, show
from cotlib.lab import kernel_figures as figures
from cotlib.lab import kernel_lessons as lessons
from cotlib.lab.kernel_timing import DRAW, HIDE, NORM, ceiling, race, time_by_part
from cotlib.lab.kernel_trial import trial

DEVICE = pick_device()
DTYPE, GPU = pick_dtype(DEVICE), DEVICE.type == "cuda"
torch.set_num_threads(1)  # all times on a processor are those of one core
generator = load("generator", device=str(DEVICE))
PROMPT, N = "a photo of a dog left of a couch", 20


def source(function):
    """Prints a function of the library, long lines folded; of a Triton kernel, what was written."""
    print(lessons.folded(inspect.getsource(getattr(function, "fn", function))))


# %% [markdown]
# ## 1 How fast could it be at all?
#
# You time an operation: 3 milliseconds. Is that good? A stopwatch cannot say. It tells how long something takes, never how long it *would have to* take. For that you need the device's **ceilings**:
#
# - **bandwidth**: how many bytes a second it can read and write;
# - **peak**: how many operations on numbers it can do a second (**FLOP**: floating-point operations);
# - the **price of a call**: how long it takes to ask for anything, however small. On a GPU it is called a *launch*.
#
# Data sheets promise all three. Measure them, with the simplest thing that needs nothing else: a copy for the first, a large matrix product for the second, a tiny copy for the third. (Each is the fastest of many calls, as a ceiling is what nothing passes. On a processor all times here are those of *one core*:
# cores that share a task wait for each other, and what is compared should not depend on what else your machine does.)

# %%
predict(
    "10-ridge",
    "A device moves bytes and computes at the same time. How many FLOP does it do while it moves "
    "one byte from or to memory?",
    choices=["fewer than 1", "1 to 20", "20 to 100", "more than 100"],
)

# %%
roofs = [ceiling(DEVICE, DTYPE)] + ([ceiling("cpu")] if GPU else [])
home = roofs[0]
show(
    figures.copy_figure(roofs),
    alt="Time of a copy against its size, both on logarithmic scales. Up to some kilobytes the "
    "curve is flat, on the dotted line of a call's price. Then it rises, first well below the "
    "dashed line of the memory's bandwidth, while the cache holds the data, and meets that line at "
    "the largest sizes. "
    + "; ".join(
        f"{r.name}: {1e6 * r.call:.1f} microseconds a call, {r.bandwidth / 1e9:,.0f} GB/s at the end"
        for r in roofs
    )
    + ".",
)
for roof in roofs:
    print(f"{roof.name}: a call {1e6 * roof.call:.1f} us, matrix product {roof.peak / 1e9:,.0f} GFLOP/s,\n"
          f"   memory {roof.bandwidth / 1e9:,.0f} GB/s, cache {roof.cached / 1e9:,.0f} GB/s")  # fmt: skip
print(f"ridge: {home.ridge:.1f} FLOP a byte")
answers = ["fewer than 1", "1 to 20", "20 to 100", "more than 100"]
reveal("10-ridge", answers[int(np.searchsorted([1, 20, 100], home.ridge))])

# %% [markdown]
# Read the curve from left to right.
#
# - **Flat** (the dotted line): a copy of 1 KiB takes as long as one of 4 KiB. You pay for the call, not for the bytes.
# - **Rising, below the dashed line**: the data fits into a **cache**, a small fast memory beside the arithmetic.
# - **On the dashed line**: everything comes from memory. Twice the bytes, twice the time.
#
# The last number printed is the device's **ridge**: the FLOP it does while one byte comes from memory. An operation with fewer FLOP a byte waits for memory, whatever you do to its arithmetic. One with more waits for the arithmetic.
#
# ## 2 Count before you time
#
# How many bytes and FLOP an operation needs is known without any machine, from its shapes. Every kernel of this course carries that count: `cost(...)`. It counts each input once, each output once. Here it is for drawing codes
# from logits, with R rows of V codes and K draws a row:

# %%
source(masked_sample.cost)

# %% [markdown]
# Six kernels belong to the course. The first two are steps of tokenizers, here as small examples; searches and DPO run the other four:
#
# | kernel | what it does |
# |---|---|
# | `lfq_pack` | signs of a vector to a code: the tokenizer of [01](01_image_tokens.ipynb), with two levels instead of four |
# | `vq_assign` | the nearest entry of a codebook |
# | `masked_sample` | logits to drawn codes and their log-probabilities |
# | `remask_step` | end of a masked round: hide the least sure tokens again |
# | `qknorm_rope_kv` | from a layer's projection to its attention: normalise queries and keys, turn them, store keys and values beside the text's |
# | `linear_logprob` | log-probabilities of given codes straight from hidden states, with gradients: what DPO needs |
#
# With the course's own sizes (on a GPU those of Show-o), twenty candidates, and two thirds of the tokens hidden, about the mean over the rounds. Before you look: which of them are held up by arithmetic?

# %%
TOKENS, CODES, WIDTH, HEADS, HEAD = (1024, 8192, 2048, 32, 64) if GPU else (64, 1024, 128, 4, 32)
ROWS, SIZE = int(N * TOKENS * 0.66), torch.empty((), dtype=DTYPE).itemsize
counted = {
    "lfq_pack": lfq_pack.cost(N * TOKENS, 13),
    "vq_assign": vq_assign.cost(N * TOKENS, 64, CODES, SIZE),
    "masked_sample": masked_sample.cost(ROWS, CODES, 1, SIZE),
    "remask_step": remask_step.cost(N, TOKENS),
    "qknorm_rope_kv": qknorm_rope_kv.cost(2 * N, TOKENS, HEADS, HEAD, HEAD // 4, SIZE),
    "linear_logprob": linear_logprob.cost(ROWS, WIDTH, CODES, backward=True, itemsize=SIZE),
}
predict(
    "10-arithmetic",
    "For how many of the six does the arithmetic decide, not the bytes and not the call?",
    low=0,
    high=6,
)

# %%
print(f"{'':14}{'MB':>9}{'MFLOP':>11}{'FLOP/byte':>11}{'ms to move':>11}{'to compute':>11} decided by")
for name, cost in counted.items():
    moving, computing = cost.bytes / home.bandwidth, cost.flops / home.peak
    print(f"{name:14}{cost.bytes / 1e6:9.3f}{cost.flops / 1e6:11.1f}{cost.intensity:11.1f}"
          f"{1e3 * moving:11.4f}{1e3 * computing:11.4f} {home.limit(cost)}")  # fmt: skip
reveal("10-arithmetic", sum(home.limit(cost) == "arithmetic" for cost in counted.values()))
show(
    figures.roofline_figure(roofs, {name: (cost, {}) for name, cost in counted.items()}),
    alt=f"The roofline of {home.name}: a slope where memory decides, dashed where the cache does, "
    f"and a flat roof of {home.peak / 1e9:,.0f} GFLOP/s. The hollow marks stand where each kernel "
    "could be at best: "
    + ", ".join(f"{name} at {cost.intensity:.1f} FLOP a byte" for name, cost in counted.items())
    + ".",
)

# %% [markdown]
# This is a **roofline** (Williams, Waterman and Patterson, 2009). Left of the ridge the roof is a slope, right of it flat. A hollow mark is the best that any program for that task could do here. Two things follow without timing anything:
#
# - `masked_sample` does five FLOP for each logit it reads. All there is to win is *reading the logits once instead of many times*. That is what **fusing** means: several steps in one
#   kernel, with what lies between them kept in registers (the few numbers right at the arithmetic) instead of memory.
# - `remask_step` moves next to nothing. There the calls are everything: one instead of a dozen.
#
# (Two cautions. Small data may stay in the cache, so that its roof is the dashed one. And the peak is that of a matrix product; exponentials and comparisons never reach it.)
#
# ## 3 Kernels beside plain torch
#
# ### First: are they right?
#
# A kernel that is fast and wrong is worse than none. Every kernel here has a **reference**: the same function in plain torch. Without a GPU a Triton kernel cannot run as such, but Triton has an **interpreter**, which plays
# it through number by number. It must be switched on before Triton is imported, so it gets a process of its own. There all six kernels run now, on ragged shapes and with ties, against float64 or plain Python.

# %%
tried = trial()
print(tried.where or tried.excuse)
if tried.rows:
    print(
        f"{len(tried.rows)} comparisons of {len({row['kernel'] for row in tried.rows})} kernels, "
        f"{tried.wrong} of them off by more than rounding"
    )

# %% [markdown]
# The interpreter checks numbers. About speed it says nothing: it is slower than anything else here. So without a GPU you will see timings of *plain torch* only, as usually written and rewritten. They show how far from the floor plain code is.
#
# ### 3.1 The smallest one: signs to a code
#
# Thirteen numbers, each positive or not, make a code of 13 bits. First in torch, then as a kernel (`@jit` hands the function to Triton's compiler):

# %%
source(lfq_pack.reference)
source(lfq_pack._pack_kernel)
print(tried.text("lfq_pack"))

# %% [markdown]
# A Triton kernel is written for one **program** of many. Read it in four steps; all others are built alike.
#
# 1. *Which part is mine?* `tl.program_id(0)` is this program's number; it takes `ROWS` rows from there.
# 2. *Load* a block, with a **mask** for what lies outside: a block is a power of two, the data is not.
# 3. *Compute* in registers. `tl.sum(..., axis=1)` is a reduction along the row.
# 4. *Store*, with a mask again.
#
# What takes three steps and two temporary tensors in torch is one read and one write. At the end of section 3 you write one yourself.

# %% [markdown]
# ### 3.2 Drawing codes
#
# In each round every hidden token of every candidate draws a code. As the released loops have it: softmax, `torch.multinomial`, then the logarithm of what was drawn. The probabilities are written to memory, read, and read again.
#
# There is a better way to draw, and it needs *one* random number for each row. Add the probabilities up, code after code. The running sum climbs from 0 to 1. Take a uniform number u between 0 and 1 and see on which stair it falls.

# %%
shown = torch.tensor([0.05, 0.22, 0.10, 0.31, 0.04, 0.18, 0.10])
show(
    figures.staircase_figure(shown.tolist(), 0.58),
    alt="Seven codes as stairs, each as high as its probability. A horizontal arrow at u = 0.58 "
    "meets the stair of code 3, which is drawn.",
)

# %% [markdown]
# A code is met as often as its stair is high. This is the **inverse CDF** (the inverse of the cumulative distribution function). And u is *passed in*: same u, same code, on every device. That makes search exact under stopping ([06](06_parm.ipynb)), and a kernel testable.
#
# ### Exercise: draw by inverse CDF · difficulty 2 of 5 · 10 minutes
#
# Input: `logits` [R, V], `uniforms` [R] from 0 up to, but without, 1, and a number `temperature`. Output: the codes [R] and their log-probabilities [R], both after the logits were divided by the temperature. A code with probability 0 must never be drawn, not even
# at u = 0.


# %%
def my_inverse_cdf(logits, uniforms, temperature):
    """(codes int64 [R], log-probabilities [R])"""
    ...  # divide, softmax, running sum, how many sums are not past u


check("inverse_cdf", my_inverse_cdf)
# solution("inverse_cdf")

# %%
predict(
    "10-draw",
    "On a processor: how many times as fast is the inverse CDF, in plain torch, as softmax and multinomial?",
    low=0,
    high=30,
)

# %%
source(masked_sample._kernel)
print(tried.text("masked_sample"))

# %% [markdown]
# Look for the four steps. The row is loaded once, into registers: maximum, exponentials, running sum, search, and the log-probability on top, all from there.
#
# Now the times: always on the processor, and on your GPU if there is one. "Least" is what section 2 counted.


# %%
def as_released(logits, uniforms):
    p = logits.float().softmax(-1)
    tokens = torch.multinomial(p, 1)
    return tokens[:, 0], p.gather(1, tokens)[:, 0].log()


measured = {}


def compare(kernel, cost, plain, gpu, arguments, device=DEVICE, roof=home):
    """Times the forms by turns, prints them beside the least time, keeps them for the figure."""
    forms = plain | (gpu if torch.device(device).type == "cuda" and tried.where else {})
    times = race({name: lambda f=f: f(*arguments) for name, f in forms.items()}, device, 0.5)
    print(f"{kernel} on {roof.name}: least {1e3 * roof.least(cost):.4f} ms ({roof.limit(cost)})")
    for name, timing in times.items():
        print(f"   {timing}{timing.median / roof.least(cost):7.1f} times the least  {name}")
    if torch.device(device).type == DEVICE.type:
        measured[kernel] = cost, times
    return times


plain = {"as released": as_released, "reference": masked_sample.reference}
drawn_from = 3 * torch.randn(844, 1024), torch.rand(844)
on_cpu = compare(
    "masked_sample", masked_sample.cost(844, 1024, 1, 4), plain, {}, drawn_from, "cpu", roofs[-1]
)
if GPU:
    rows = (
        (3 * torch.randn(ROWS, CODES, device=DEVICE)).to(DTYPE),
        torch.rand(ROWS, device=DEVICE),
    )
    compare("masked_sample", counted["masked_sample"], plain, {"kernel": masked_sample.launch}, rows)
faster = on_cpu["as released"].median / on_cpu["reference"].median
reveal("10-draw", round(faster, 1))

# %% [markdown]
# No kernel was written for that factor, only another *formula*: `multinomial` does not know that you want one draw from each row. And still the rewritten form is far from the floor: it reads and writes the whole table several times over. What is left is what a kernel can win.
#
# ### 3.3 The least sure ones: selection without a sort
#
# At the end of a round the k least sure tokens of each row are hidden again. Released code *sorts* each row to read one value of it. For one value you need no order. You need a **threshold**: the k-th smallest number.
#
# Think of whole numbers of 4 bits, 0 to 15. Is the answer below 8? Count how many numbers are. If fewer than k, it is not, and its highest bit is 1. Then the next bit, with 4. Four counts, and the answer is known.
#
# ### Exercise: the k-th smallest, bit by bit · difficulty 3 of 5 · 15 minutes
#
# Input: `keys`, whole numbers [B, N] from 0 to 2^bits - 1, equal ones among them; `k`, one number for all rows, counted from 1. Output: the k-th smallest key of each row [B], found by comparing and counting alone.


# %%
def my_kth_smallest(keys, k, bits):
    """int64 [B]"""
    ...  # for bit from the highest to 0: how many keys are smaller than answer + 2**bit?


check("kth_smallest", my_kth_smallest)
# solution("kth_smallest")

# %%
floats = torch.tensor([[-1.5, 0.25, -0.1, 3.0, -7.0, 0.2, 1.1]])
keys, answer = lessons.sortable(floats), 0
for bit in reversed(range(32)):
    below = int((keys < answer + 2**bit).sum())
    answer += 2**bit if below < 4 else 0
    if bit > 25 or bit == 0:
        print(f"bit {bit:2}: {below} of 7 lie below, so it is {int(below < 4)};  so far {answer:032b}")
print(f"4th smallest: {floats[keys == answer].item():.2f};  by sorting: {floats.sort().values[0, 3]:.2f}")

# %% [markdown]
# But confidences are *floats*. That is no obstacle: the bits of a float, read as a whole number, already sort, because the exponent stands before the mantissa. Only negative numbers run backwards, so theirs are turned over (`lessons.sortable`, three lines). 32 counts settle a
# row of any length. In the kernel the place in the row is appended to the key, so no two are equal and *exactly* k tokens are hidden:

# %%
source(remask_step._kernel)
print(tried.text("remask_step"))


# %%
def by_sorting(log_p, tokens, known, k, noise, temperature, mask_id):
    confidence = torch.where(known, torch.inf, log_p + temperature * noise)
    cut = confidence.sort(dim=1).values.gather(1, k[:, None])
    hidden = confidence < cut
    return torch.where(hidden, mask_id, tokens), ~hidden, confidence


shape = (N, TOKENS)
known = torch.zeros(shape, dtype=torch.bool, device=DEVICE)
known[:, : TOKENS // 3] = True
log_p, codes = -8 * torch.rand(shape, device=DEVICE), torch.randint(0, CODES, shape, device=DEVICE)
least_sure, noise = torch.full((N,), TOKENS // 2, device=DEVICE), torch.randn(shape, device=DEVICE)
step = (log_p, codes, known, least_sure, noise, 0.5, CODES)
plain = {"as released, by sorting": by_sorting, "reference": remask_step.reference}
compare("remask_step", counted["remask_step"], plain, {"kernel": remask_step.launch}, step)
for name, form in plain.items():
    print(f"   {lessons.operations(lambda form=form: form(*step)):3} operations of torch: {name}")
print("     1 launch: kernel")

# %% [markdown]
# On a processor the sort is no bad idea: the row is tiny, and our exact reference does *more*, since it also settles ties. Measured against the least time both look hopeless, and it does not matter at all: microseconds in a round of tens of milliseconds. Section 7 makes that an argument. On a GPU each operation
# is a launch, and there the count in the last lines is what is paid.
#
# ### 3.4 Between projection and attention
#
# In each layer queries and keys are normalised. In Show-o half of each head's numbers are then turned, in pairs, by an angle that depends on the token's place (*rotary positions*; our generator has its places elsewhere and turns none). Then keys and values are joined with those of the text. As usually written that is a chain of small steps, each
# a pass over everything, and `torch.cat` copies the text's keys for every candidate, in every layer, in every round. The kernel does it in one pass and writes its results *where they are needed*: into a buffer that already holds the text.


# %%
def turned(x, cos, sin):
    half = cos.shape[-1]
    a, b, rest = x.split([half, half, x.shape[-1] - 2 * half], dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], dim=-1)


def separate_steps(q, k, v, q_norm, k_norm, rotary, k_cache, v_cache, start):
    cos, sin = (part.to(q.dtype) for part in rotary)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    q, k = (turned(F.layer_norm(x, x.shape[-1:], *norm), cos, sin) for x, norm in ((q, q_norm), (k, k_norm)))
    return q, torch.cat([k_cache[:, :, :start], k], dim=2), torch.cat([v_cache[:, :, :start], v], dim=2)


print(tried.text("qknorm_rope_kv"))
options = {"device": DEVICE, "dtype": DTYPE}
q, k, v = torch.randn(2 * N, TOKENS, 3, HEADS, HEAD, **options).unbind(2)
norm = torch.ones(HEAD, **options), torch.zeros(HEAD, **options)
angle = torch.rand(TOKENS, HEAD // 4, device=DEVICE)
buffers = [torch.zeros(2 * N, HEADS, 12 + TOKENS, HEAD, **options) for _ in range(2)]
layer = (q, k, v, norm, norm, (angle.cos(), angle.sin()), *buffers, 12)
plain = {"separate steps": separate_steps, "reference": qknorm_rope_kv.reference}
compare("qknorm_rope_kv", counted["qknorm_rope_kv"], plain, {"kernel": qknorm_rope_kv.launch}, layer)
for name, form in plain.items():
    print(f"   {lessons.operations(lambda form=form: form(*layer)):3} operations of torch: {name}")
print("     1 launch: kernel")

# %% [markdown]
# In plain torch nothing is won by the buffer: the text is short here, twelve tokens beside 64, and the number of passes is the same. Only fusing brings them down to one.
#
# ### 3.5 Log-probabilities without the logits
#
# DPO needs $\log p$ of given codes: hidden states times the head's weights, then a log-softmax, of which *one* number a row is kept. In Show-o the logits of twenty pictures against all 58,498 entries of its vocabulary are gigabytes. All for one number a row:
#
# $$\log p_t = z_t-\log\sum_v e^{z_v}$$
#
# The sum can be collected while the logits pass by, a block at a time. The one difficulty: $e^{z}$ overflows, so the largest $z$ must be subtracted first, and it is not known before the end. **Online softmax** keeps the largest so far, $m$, and the sum $s=\sum e^{z-m}$. When a block brings a larger one, $m'$, the old sum is
# corrected: $s\,e^{m-m'}$.
#
# ### Exercise: log-sum-exp in one pass · difficulty 3 of 5 · 15 minutes
#
# Input: `x` [R, V], and `block`, how many numbers to read at a time; the last block may be shorter. Rows can begin with `-inf` (codes that are ruled out). Output: log-sum-exp of each row [R].


# %%
def my_streamed_logsumexp(x, block):
    """log sum exp of each row, [R], with every number looked at once"""
    ...  # top = -inf, total = 0; for part in x.split(block, dim=1): ...


check("streamed_logsumexp", my_streamed_logsumexp)
# solution("streamed_logsumexp")

# %%
source(linear_logprob._forward_kernel)
print(tried.text("linear_logprob"))

# %% [markdown]
# The matrix product is *not* in the kernel. It stays with the vendor's library, in chunks of rows, because nobody beats it easily, and on older GPUs (T4) Triton gets no tensor cores at all. Only what comes after it is fused. Going back, the logits of a chunk are computed a second time and turned into the gradient where they lie: more
# arithmetic for much less memory.


# %%
def all_logits(hidden, weight, targets):
    logits = F.linear(hidden, weight)
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return wide.log_softmax(-1).gather(1, targets[:, None])[:, 0]


def both_ways(form):
    def work(hidden, weight, targets):
        leaves = hidden.detach().requires_grad_(), weight.detach().requires_grad_()
        return torch.autograd.grad(form(*leaves, targets).float().sum(), leaves)

    return work


inputs = (torch.randn(ROWS, WIDTH, **options), torch.randn(CODES, WIDTH, **options) / WIDTH**0.5,
          torch.randint(0, CODES, (ROWS,), device=DEVICE))  # fmt: skip
plain = {"as released": both_ways(all_logits), "reference": both_ways(linear_logprob.reference)}
compare(
    "linear_logprob", counted["linear_logprob"], plain, {"kernel": both_ways(linear_logprob.launch)}, inputs
)
for name, rows, codes in (("here", ROWS, CODES), ("Show-o 512, 20 pictures", 20 * 1024 * 2 // 3, 58498)):
    chunk = min(rows, max(1, linear_logprob.CHUNK_BYTES // (4 * codes)))
    print(
        f"{name}: all logits in float32 {4e-6 * rows * codes:,.0f} MB, a chunk {4e-6 * chunk * codes:,.0f} MB"
    )

# %% [markdown]
# No time is to be won here: matrix products are all of it, and they are at the roof already. (A little less than 1.0 only says how well the roof was measured.) This kernel is for *memory*, and for *precision*, which is section 5. All
# logits at once are held three times over: themselves, their softmax and the gradient.
#
# ### 3.6 All of them under the roof


# %%
def usual_distances(x, codebook):
    return (x.square().sum(1, keepdim=True) - 2 * x @ codebook.T + codebook.square().sum(1)).argmin(1)


vectors = torch.randn(N * TOKENS, 64, **options), torch.randn(CODES, 64, **options)
print(tried.text("vq_assign"))
plain = {"as usually written": usual_distances, "reference": vq_assign.reference}
compare("vq_assign", counted["vq_assign"], plain, {"kernel": vq_assign.launch}, vectors)
signs = (torch.randn(N * TOKENS, 13, device=DEVICE),)
compare(
    "lfq_pack", counted["lfq_pack"], {"reference": lfq_pack.reference}, {"kernel": lfq_pack.launch}, signs
)
measured = {name: measured[name] for name in counted}
reached = {
    name: home.least(cost) / min(t.median for t in times.values()) for name, (cost, times) in measured.items()
}
show(
    figures.roofline_figure(roofs, measured),
    alt="The same roofline with what was measured: below each hollow mark the filled ones of its "
    "forms, the small one for the first. Matrix products stand at the roof or closely below; the "
    "others hang far below it. The best form reaches of the possible: "
    + ", ".join(f"{name} {share:.0%}" for name, share in reached.items())
    + ".",
)

# %% [markdown]
# Two groups. What consists of matrix products is at its roof, or within a factor of about two, without any effort: others have done the work. What consists of many small steps hangs far below. *That* is where kernels can win, as a factor. Whether the factor matters is another question, and it comes last.
#
# ### Exercise, optional: a kernel of your own · difficulty 4 of 5 · 20 minutes
#
# You have read four kernels. Now write one: guidance, `out = (1 + w) * cond - w * uncond`, over n numbers. Each program does `BLOCK` of them. `cond`, `uncond` and `out` are pointers: `cond + place` points to number `place`. The check runs it in the interpreter (on a GPU, compiled) with
# several n, and looks behind the end of `out`, too. Triton reads the source of your function, so leave its arguments as they are.


# %%
def my_guide(cond, uncond, out, n, w, BLOCK: tl.constexpr):
    """One program: BLOCK of the n numbers."""
    ...  # place = ...; tl.load(pointer, mask=...); tl.store(pointer, value, mask=...)


check("guide_kernel", my_guide)
# solution("guide_kernel")

# %% [markdown]
# ## 4 Algebra beats fusion
#
# Before you make a step faster, ask whether it has to be done at all. The cheapest kernel is the one that is never launched.
#
# ### 4.1 Guidance before the head
#
# Guidance (notebook 02) runs the network twice, with the prompt (hidden state $h_c$) and without ($h_u$), and combines the *logits*: $(1+w)\,z_c-w\,z_u$. The head is a matrix, $z=Wh$, and matrices are linear:
#
# $$(1+w)\,W h_c-w\,W h_u \;=\; W\big[(1+w)\,h_c-w\,h_u\big]$$
#
# The right side runs the head **once**, and combines vectors of 128 numbers instead of 1,024. Same numbers? And how long do they take?

# %%
predict(
    "10-guidance",
    "Head and guidance together: the new order takes what percentage of the old one's time?",
    low=0,
    high=150,
    unit="%",
)

# %%
with torch.no_grad():
    prefix = generator.prefix([PROMPT]).select(torch.zeros(N, dtype=torch.long))
    canvas = lessons.draw(generator, PROMPT, N, 0, len(lessons.RUNGS) - 1)
    hide = torch.rand(canvas.shape, generator=torch.Generator().manual_seed(0)).to(DEVICE) < 0.66
    x = generator.inputs(canvas.masked_fill(hide, generator.mask_id))
    own = generator.image(x, prefix.keys, prefix.values, prefix.valid)[hide]
    empty = generator.image(x, prefix.null_keys, prefix.null_values, None)[hide]
    weight, w = generator.head_weight(), prefix.guidance


def after_head(own, empty, weight):
    return (1 + w) * (own @ weight.T) - w * (empty @ weight.T)


def before_head(own, empty, weight):
    return ((1 + w) * own - w * empty) @ weight.T


exact = [t.double() for t in (own, empty, weight)]
same_logits = (after_head(*exact) - before_head(*exact)).abs().max().item()
print(
    f"in float64 they differ by at most {same_logits:.0e}, with logits of about "
    f"{after_head(*exact).abs().mean():.0f}"
)
for dtype in (torch.float32, torch.bfloat16):
    given = [t.to(dtype) for t in (own, empty, weight)]
    truth = after_head(*[t.double() for t in given])
    off = {
        f.__name__: (f(*given).double() - truth).square().mean().sqrt().item()
        for f in (after_head, before_head)
    }
    print(
        f"{str(dtype)[6:]:9} typical error: after the head {off['after_head']:.1e}, before it "
        f"{off['before_head']:.1e}"
    )
times = race({f.__name__: lambda f=f: f(own, empty, weight) for f in (after_head, before_head)}, DEVICE)
print(*(f"{timing}   {name}" for name, timing in times.items()), sep="\n")
reveal("10-guidance", round(100 * times["before_head"].median / times["after_head"].median))

# %% [markdown]
# Half the head, no pass over the logits, and *less* rounding error on top: the logits are rounded once instead of twice and then stretched. The kernel of the last exercise is not needed by anybody. It was a good exercise.
#
# ### 4.2 The ladder
#
# The same question, step by step, for the whole loop. The lowest rung is the loop as released, on our generator: candidates one after the other, text and all in every round, logits for every token, guidance on logits, `multinomial`. Each rung adds one change; all are exact. Ten candidates.

# %%
source(lessons.rounds)
predict("10-ladder", "How many times as fast is the last rung as the first?", low=1, high=40 if GPU else 10)

# %%
FEW, rungs, drawn = 10, range(len(lessons.RUNGS)), {}


def climb(rung):
    """Draws ten candidates with all changes up to this rung, and keeps their codes."""
    drawn[rung] = lessons.draw(generator, PROMPT, FEW, 0, rung)


ladder = race({name: lambda r=r: climb(r) for r, name in enumerate(lessons.RUNGS)}, DEVICE, 0.1, least=3)
same_codes = min((drawn[rung] == drawn[rungs[-1]]).float().mean().item() for rung in rungs[1:])
print(f"codes that agree with the last rung's, from the second rung on: {same_codes:.1%}")
print("(the first rung has dice of its own)")
climbed = ladder[lessons.RUNGS[0]].median / ladder[lessons.RUNGS[-1]].median
reveal("10-ladder", round(climbed, 1))
show(
    figures.ladder_figure(ladder),
    alt="Seconds for ten candidates of one prompt after each exact change: "
    + ", ".join(f"{name} {t.median:.2f}" for name, t in ladder.items())
    + f". The last is {climbed:.1f} times as fast as the first.",
)
# %% [markdown]
# Not one kernel in it, and from the second rung on not one code changed. Where does each gain come from? (Inverse CDF: 3.2. Guidance before the head: 4.1.)
#
# - **One batch**: ten small problems become one large one. A matrix product needs size to reach its peak, and every call is paid once instead of ten times.
# - **Text once**: the text never sees the image ([02](02_token_generation.ipynb)), so its keys and values are the same in every round and for every candidate.
# - **Hidden tokens only**: nobody reads the logits of a token that is known.
# - **First round once**: all candidates start from the same empty canvas, so one row of logits serves all draws. That saves nearly one round of eight.
#
# In the paper's setting two more belong here: half precision, and not decoding a picture at every step ([section 6](#6-Other-devices)).
#
# ### 4.3 Attention in two parts
#
# The last piece of algebra. An image token attends to [text | image]. Softmax seems to tie the two together: every weight is divided by the sum over *both*. Can the parts be computed apart, and joined exactly?
#
# They can, if each part hands over two things: its own attention, $o$, and the logarithm of its own sum, $\ell=\log\sum e^{\text{score}}$. Then
#
# $$o=\frac{e^{\ell_1}o_1+e^{\ell_2}o_2}{e^{\ell_1}+e^{\ell_2}}$$
#
# a weighted mean. It is the online softmax of 3.5 once more, over keys instead of codes.

# %%
source(lessons.attend)
source(lessons.merge)
q, k, v = (torch.randn(N, HEADS, 64, HEAD, dtype=torch.float64) for _ in range(3))
text_k, text_v = (torch.randn(1, HEADS, 12, HEAD, dtype=torch.float64) for _ in range(2))
whole = F.scaled_dot_product_attention(
    q, *(torch.cat([t.expand(N, -1, -1, -1), x], 2) for t, x in ((text_k, k), (text_v, v)))
)
joined = lessons.merge(lessons.attend(q, text_k, text_v), lessons.attend(q, k, v))
split_off = (whole - joined).abs().max().item()
print(f"in one piece and in two: largest difference {split_off:.0e}")

# %% [markdown]
# The text's keys have *one* row here, for all twenty candidates: nothing is copied, and all their queries meet the prefix in a single product. With long prompts and one token at a time, as in chat models, this is worth a lot (Hydragen, [arXiv 2402.05099](https://arxiv.org/abs/2402.05099)). Here the prefix is twelve tokens of 76. So the course keeps the idea
# and leaves the kernel.
#
# ## 5 What precision costs
#
# Half precision (bfloat16) is often the largest single gain on a GPU. But a bfloat16 has 8 bits for its digits: a logit of 20 is known to about 0.06. DPO subtracts log-probabilities of two pictures, and again those of the reference. What is left of a margin?
#
# Take the base as reference, and as policy a point on the way to the generator tuned by DPO: 2 %, 10 % and 100 % of the change in its weights. Hidden states and head are rounded to bfloat16 for *all* forms, so that nothing but the logits differs: kept in bfloat16 and summed in float32 afterwards (as usually
# written), or computed in float32 (as `linear_logprob` does), against float64. A margin here is that of [08](08_dpo.ipynb): log p of one picture minus that of the other, minus the same difference of the reference.

# %%
import copy

from cotlib.align.dpo import text_batch
from cotlib.world.prompts import benchmark

tuned = load("generator", weights="dpo", device=str(DEVICE))
prompts = [m["prompt"] for m in benchmark("test") if m["tag"] == "position"][:32]
pictures = torch.stack(
    [lessons.draw(generator, p, 2, 0, len(rungs) - 1) for p in progress(prompts, "prompts x 2 pictures")], 1
)
text = text_batch(prompts, DEVICE)
hide = (torch.rand(len(prompts), 64, generator=torch.Generator().manual_seed(1)) < 0.64).to(DEVICE)


def on_the_way(share):
    """The base with this share of the change that tuning made to each weight."""
    model = copy.deepcopy(generator)
    with torch.no_grad():
        for mine, other in zip(model.parameters(), tuned.parameters(), strict=True):
            mine.lerp_(other, share)
    return model


def in_float64(hidden, weight, targets):
    return all_logits(hidden.double(), weight.double(), targets)


FORMS = {"float64": in_float64, "bfloat16 logits": all_logits, "float32 logits": linear_logprob.reference}


@torch.no_grad()
def log_probabilities(model):
    """{form: log p of the pictures [2, 32]}; both of a prompt are scored at the same hidden places."""
    found = {form: [] for form in FORMS}
    for codes in pictures:
        hidden = model.train_hidden(*text, codes.masked_fill(hide, model.mask_id))[hide].bfloat16()
        for form, work in FORMS.items():
            said = work(hidden, model.head_weight().bfloat16(), codes[hide]).double()
            found[form].append(torch.zeros_like(hide, dtype=torch.double).masked_scatter(hide, said).sum(1))
    return {form: torch.stack(values).cpu() for form, values in found.items()}


predict(
    "10-precision",
    "log p of a picture, summed over some 40 hidden tokens: how many nats is it off with bfloat16 "
    "logits, on average?",
    low=0.0,
    high=1.0,
    unit="nats",
)

# %%
STAGES = {"2 % of the way": 0.02, "10 % of the way": 0.1, "tuned": 1.0}
reference = log_probabilities(generator)
off = {form: (values - reference["float64"]).abs().mean().item() for form, values in reference.items()}
print(
    "one picture off by: "
    + ", ".join(f"{form} {value:.1e} nats" for form, value in off.items() if form != "float64")
)
reveal("10-precision", round(off["bfloat16 logits"], 3))
margins = {form: {} for form in FORMS}
print(f"{'':16}{'margin':>8}{'bfloat16 off':>14}{'float32 off':>13}{'wrong sign':>12}{'pull off':>10}")
for stage, share in STAGES.items():
    policy = log_probabilities(on_the_way(share))
    for form in FORMS:
        chosen, rejected = policy[form] - reference[form]
        margins[form][stage] = (chosen - rejected).numpy()
    exact, half = margins["float64"][stage], margins["bfloat16 logits"][stage]
    pull = [1 / (1 + np.exp(0.1 * m)) for m in (exact, half)]
    wrong = f"{np.sum(np.sign(half) != np.sign(exact))} of {len(exact)}"
    print(f"{stage:16}{np.sqrt(np.mean(exact**2)):8.2f}{np.sqrt(np.mean((half - exact) ** 2)):14.2f}"
          f"{np.abs(margins['float32 logits'][stage] - exact).max():13.0e}{wrong:>12}"
          f"{np.abs(pull[1] / pull[0] - 1).mean():10.1%}")  # fmt: skip
show(
    figures.margins_figure(margins["float64"], margins["bfloat16 logits"]),
    alt="The margin of each pair from bfloat16 logits against the exact one, at three points of "
    "the way; crosses have the wrong sign. "
    + ", ".join(
        f"{stage}: {np.sum(np.sign(margins['bfloat16 logits'][stage]) != np.sign(exact))} of "
        f"{len(exact)} wrong"
        for stage, exact in margins["float64"].items()
    )
    + ".",
)

# %% [markdown]
# (The first three columns are in nats: typical sizes, for float32 the largest.) Mind the scales of the figure: the error is about the same on all three panels, the margin is not. In the first updates the error is as large as the margin itself: the share of pairs "in the right order" and the margin that you watch are mostly rounding. Later nobody notices.
#
# Does it ruin DPO? The last column says no: what a pair pulls with, $\sigma(-\beta m)$ at $\beta=0.1$, hardly feels an error of a fraction of a nat. It ruins what you *read*, and whatever takes the exponential of a difference of log-probabilities, as policy gradients do. And the error grows with the number of tokens and of codes. Here are random numbers in Show-o's sizes,
# 650 hidden tokens and 8,192 codes, as `bench/linear_logprob.py` measured them, with torch's own fused function beside:

# %%
for row in figures.stored_rows("linear_logprob_error.csv"):
    print(f"{float(row['nats_off']):9.1e} nats a picture: {row['form']} ({row['device']})")

# %% [markdown]
# Float32 logits cost little as long as they are never held all at once. So there is no reason to bear it.
#
# ## 6 Other devices
#
# Your device is one point. `python course.py bench` runs every script in `bench/` and appends rows, with device, versions and date, to files. This cell reads the rows that came with your copy. What nobody measured is not there.

# %%
stored = figures.stored_rows("kernels.csv")
missing = (
    ""
    if any(map(figures.is_gpu, stored))
    else "No GPU row has been measured yet; python course.py bench adds yours."
)
if stored:
    devices = figures.devices_of(stored)
    words = "; ".join(
        f"{name}: {b / 1e9:,.0f} GB/s, {f / 1e12:,.2f} TFLOP/s" for name, (b, f) in devices.items()
    )
    show(
        figures.stored_figure(stored),
        alt="How many times the least possible each form takes; the line at 1 is the floor. "
        f"Measured on {words}. {missing}",
    )
    show(
        figures.roofline_figure(roofs, measured, stored=devices),
        alt=f"Your device's roofline, with the roofs of the stored devices in grey: {words}.",
    )
else:
    print("No kernel has been measured in this copy yet; python course.py bench adds rows for your device.")

# %% [markdown]
# In the first figure everything right of the line is time that neither bytes nor arithmetic explain; the scale is logarithmic. A mark *left* of it is no mistake: that floor is the memory's, and the data of a small case stays in the cache (section 1).
#
# The second file is about whole searches, best of 20 and PARM: on the course's own models, and, with random weights, in the shapes of Show-o and LLaVA-OneVision (smaller ones on a processor). There each line keeps the changes of the lines above and adds one, from the released loop to ours. All of them ask the
# same questions and find the same paths; only the last line of PARM is no exact change, since it asks later.

# %%
searches = figures.stored_rows("search.csv")
for head in dict.fromkeys((row["case"], row["models"], row["device"]) for row in searches):
    print("{}, {} ({})".format(*head))
    for row in searches:
        if (row["case"], row["models"], row["device"]) == head:
            print(
                f"{float(row['seconds']):7.2f} s{float(row['times_as_fast']):5.1f} times as fast  "
                f"{row['form']}"
            )
if not searches:
    print("No search has been measured in this copy yet; python bench/search.py does it.")
elif not any(map(figures.is_gpu, searches)):
    print("No GPU row has been measured yet; python course.py bench adds yours.")

# %% [markdown]
# ## 7 When does a kernel pay?
#
# You can now make some steps several times as fast. Should you? **Amdahl's law** answers. If a part takes the share $s$ of the time and becomes $f$ times as fast, the whole becomes
#
# $$\frac{1}{1-s+s/f}\ \text{ times as fast, and never more than }\ \frac{1}{1-s}.$$
#
# So measure the shares. A clock is put around the parts of the generator's loop: twenty candidates, all rounds.

# %%
predict(
    "10-share",
    "Drawing codes and hiding the unsure again, together: what percentage of the time?",
    low=0,
    high=60,
    unit="%",
)

# %%
parts = time_by_part(generator, PROMPT, N, 0)
shares = figures.shares_of(parts)
fused = shares[DRAW] + shares[HIDE]
reveal("10-share", round(100 * fused, 1))
show(
    figures.shares_figure(parts),
    alt="Shares of the time: "
    + ", ".join(f"{part} {share:.0%}" for part, share in sorted(shares.items(), key=lambda item: -item[1]))
    + ". Orange: parts with a kernel in this course.",
)
print(
    f"all three kernels infinitely fast: {figures.speed_up(fused + shares[NORM]):.2f} times as "
    f"fast\nthe ladder of section 4, without any kernel: {climbed:.1f} times as fast"
)
figures.amdahl_explorer(parts)

# %% [markdown]
# Choose a part and how many times as fast it becomes. That is the plain answer for this model on this device: most of the time goes into matrix products and attention, which others have tuned for years. In a larger model their share is larger still: matrix products
# grow with the square of the width, the small steps with the width.
#
# ### The other case: nothing but calls
#
# In one situation kernels change a lot: a small model on a fast GPU. There the arithmetic of a round is done in less time than it takes to *ask* for it. Count both, for your device:

# %%
ROUNDS = generator.config.steps
asked = lessons.operations(lambda: lessons.draw(generator, PROMPT, N, 0, rungs[-1])) / ROUNDS
products = (
    2 * sum(p.numel() for p in generator.blocks.parameters()) * 2 * N * generator.tokens
)  # FLOP of a round
print(
    f"a round asks for {asked:.0f} operations: {1e3 * asked * home.call:.2f} ms of calls, at "
    f"{1e6 * home.call:.1f} us each"
)
print(
    f"its matrix products, {products / 1e9:.1f} GFLOP, take {1e3 * products / home.peak:.2f} ms at the peak"
)
steps = {
    "masked_sample": lambda: masked_sample.reference(*drawn_from),
    "remask_step": lambda: remask_step.reference(*step),
}
saved = sum(lessons.operations(form) - 1 for form in steps.values())
print(f"one launch each for drawing and hiding would save {saved} of the {asked:.0f}")

# %% [markdown]
# On a processor a call costs next to nothing, and the arithmetic is all. On a large GPU the same count gives the opposite: the products of this small round are done in a fraction of a millisecond, while hundreds of launches wait in line. There fusing should pay, and recording the whole round once and asking for it in a single call, as a **CUDA graph**, should pay
# more; rows of a GPU in section 6 say whether they do. A recorded round must never wait for the processor that asks for it. That is one more reason to pass the uniforms in, and to take k from the schedule.
#
# So before writing a kernel, ask in this order:
#
# 1. Must it be done at all? (Algebra.)
# 2. Must it be done so often, and for each of them? (Batch, cache, hidden tokens only, first round once.)
# 3. What is its share? (Amdahl.)
# 4. How far is it from its floor, and which floor? (Count.)
# 5. Then fuse, with the reference beside it.
#
# ## What you take along
#
# - Bytes and FLOPs are counted from shapes, ceilings are measured. A time means something only beside its floor.
# - Left of the ridge only fewer bytes help; that is what fusing is. Tiny operations pay for calls, and need fewer of them.
# - One uniform a row draws a code; bits select the k-th smallest; a running maximum makes softmax one pass. All three are exact and read their data once.
# - A kernel is a pure function beside its reference. Then an interpreter can check it where no GPU is.
# - Guidance moves before the head, attention can be split and merged, text and first round are shared: exact, and worth more here than all kernels together.
# - Sums of log-probabilities want float32.
# - Amdahl before Triton.

# %%
score("10")

# %%
# NBVAL_CHECK_OUTPUT
claims(
    [
        Claim(
            "comparisons of kernels that ran here and are off by more than rounding",
            tried.wrong,
            threshold=0,
            direction="<=",
        ),
        Claim(
            "guidance before the head: largest difference of the logits in float64",
            same_logits,
            threshold=1e-9,
            direction="<=",
        ),
        Claim(
            "attention in two parts: largest difference in float64",
            split_off,
            threshold=1e-12,
            direction="<=",
        ),
        Claim("all rungs with the same dice draw the same codes, a share of", same_codes, threshold=0.99),
        Claim("algebra and batching make the search faster, times", climbed, threshold=1.3),
        Claim("on the processor the inverse CDF is faster than multinomial, times", faster, threshold=1.5),
        Claim("log p from bfloat16 logits is off by, nats a picture", off["bfloat16 logits"], threshold=0.01),
        Claim("... from float32 logits by", off["float32 logits"], threshold=0.001, direction="<="),
        Claim(
            "drawing and hiding take less than half of a search's time", fused, threshold=0.5, direction="<="
        ),
    ]
)
