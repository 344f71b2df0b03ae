# %% [markdown]
# # 02 Token generation: how a network draws
#
# <!-- badges -->
#
# One look at a prompt does not make a picture: 64 places have to agree. How they come to agree decides what a picture costs, when it can be
# judged, and in which way it goes wrong. Every later notebook builds on it.
#
# After this notebook you can
#
# - say who may look at whom in a text-to-image transformer, and what may therefore be cached without changing a token;
# - write Show-o's loop yourself: the schedule, the choice of tokens to hide again, guidance;
# - say what rounds, temperature and guidance buy, what they cost, and what they quietly distort;
# - tell when a half-drawn picture can be judged, and why this generator is wrong in just the way it is.
#
# <!-- facts -->
#
# It needs nothing from the other notebooks. Words that are new stand in the [glossary](00_welcome.ipynb#Glossary).

# %% tags=["setup"]

# %%
import time
from collections import Counter
from math import exp, log
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import torch

from cotlib import load
from cotlib.decoding import masked_rounds, raster_steps, sample_masked, sample_raster
from cotlib.decoding.noise import draw_codes, path_uniforms
from cotlib.judging.stats import bootstrap_interval, paired_difference, task_means, wilson
from cotlib.lab import (
    Claim,
    check,
    claims,
    predict,
    reveal,
    score,
    show,
    show_images,
    step_scrubber,
    step_strip,
)
from cotlib.lab.generation_figures import attention_figure, code_bars, heat_maps, sweep_figure
from cotlib.models.generator import Prefix
from cotlib.world.prompts import (
    VOCAB,
    Carelessness,
    benchmark,
    colored,
    encode,
    parse_prompt,
    prompt_pool,
    prompt_text,
)

masked, raster = load("generator"), load("generator", order="raster")
judge = load("judge")
sheet = torch.full((1, 3, 64, 64), 0.98)
paper = int(masked.tokenizer.encode(sheet)[0, 0])  # the code of plain paper

# %% [markdown]
# ## 1 Two ways to draw the same sentence
#
# A picture is 64 **tokens** here, an 8 x 8 grid; each is one of 1,024 **codes**, and a decoder turns codes into pixels (notebook
# 01). A generator has to choose the codes. Two families of models do it:
#
# - **Raster order**: one token after the other, row by row, as a language model writes words (LlamaGen, Janus).
# - **Masked rounds**: all at once, but in a few rounds. In each, guess every token, keep the surest guesses, hide the rest again
#   (MaskGIT, Show-o). The paper calls this autoregressive, too: each round builds on the one before.
#
# Here are both, on one prompt of each of GenEval's six tasks. Seed 0, one try each, nothing chosen.

# %%
# 120 prompts whose combinations were held out of training, 20 of each task
prompts = benchmark("dev")
texts = [m["prompt"] for m in prompts]
six = texts[::20]
in_rounds = masked.decode(sample_masked(masked, six, [0] * 6, seed=0))
row_by_row = raster.decode(sample_raster(raster, six, [0] * 6, seed=0))
pictures = torch.cat([in_rounds, row_by_row])
right = [v.correct for v in judge(prompts[::20] * 2, pictures)]
show_images(pictures, six * 2, marks=right, columns=6,
            alt=f"Six prompts drawn by masked rounds (top, {sum(right[:6])} right) and "
                f"in raster order (bottom, {sum(right[6:])} right). Most of the wrong "
                "ones show something else than was asked for; a few are "
                "smudged.")  # fmt: skip

# %% [markdown]
# The first picture passes with two buses: unless the prompt counts, GenEval asks only that what it names is there (notebook 03).
#
# ### Who may look at whom
#
# Both are the same network, a **transformer**: it keeps one vector for each token, of the text and of the picture. Layer by layer a
# token's vector takes in what other tokens' vectors hold (**attention**). At the end each image token's vector becomes 1,024
# numbers, the **logits**, and softmax makes them probabilities of the 1,024 codes.
#
# An **attention mask** fixes which tokens may look at which (*masked* rounds are named after something else, the hidden tokens).
# You could read it in the code. It is more convincing to measure it: change one input, and see which vectors move.

# %%
predict(
    "02-sees",
    "Masked rounds: you change one image token. Which other vectors move?",
    choices=[
        "words and image tokens",
        "image tokens only",
        "only image tokens that come later",
    ],
)


# %%
def who_sees_whom(model, prompt):
    """bool [T + N, T + N]: does the vector at row i change when input j changes?"""
    ids, n = torch.tensor([encode(prompt)]), model.tokens
    t = ids.shape[1]
    # words above image tokens: the text is computed without any picture
    sees = torch.zeros(t + n, t + n, dtype=torch.bool)
    codes = torch.randint(1024, (1, n), generator=torch.Generator().manual_seed(0))

    # row j: word j exchanged
    other = ids.repeat(t, 1).fill_diagonal_(VOCAB.index("pizza"))
    keys, values = model.text(torch.cat([ids, other]))
    hidden = model.hidden(Prefix(keys, values, None, 0.0), codes.expand(t + 1, -1))
    sees[:t, :t] = ((keys[-1][1:] - keys[-1][:1]).abs().amax((1, 3)) > 1e-4).T
    sees[t:, :t] = ((hidden[1:] - hidden[:1]).abs().amax(2) > 1e-4).T

    # row j: image token j exchanged
    other = torch.cat([codes, codes.repeat(n, 1).fill_diagonal_(paper)])
    hidden = model.hidden(model.prefix([prompt], 0.0), other)
    sees[t:, t:] = ((hidden[1:] - hidden[:1]).abs().amax(2) > 1e-4).T
    return sees


with torch.no_grad():
    sees = [who_sees_whom(model, "a photo of a red dog") for model in (masked, raster)]
words = [VOCAB[i] for i in encode("a photo of a red dog")]
show(attention_figure(sees, words, ["masked rounds", "raster order"]),
     alt="Rows look at columns. Words see earlier words only, and never the picture, "
         "in both. Image tokens see all the text; in masked rounds they see the whole "
         "picture, in raster order only what comes before.")  # fmt: skip
t = len(words)
backwards = sees[0][t:, t:].triu(1).any()  # does an earlier image token move?
among_images = "image tokens only" if backwards else "only image tokens that come later"
reveal("02-sees", "words and image tokens" if sees[0][:t, t:].any() else among_images)

# %% [markdown]
# Show-o calls the left pattern **omni-attention**: text is **causal** (a word sees the words before it), the picture is
# **bidirectional** (every image token sees every other). The right one is causal throughout.
#
# Look at the pale area at the top right of both. No word ever sees the picture. So what the network computes from the text
# (in attention's terms its *keys* and *values*) is the same in every round, for every candidate, for ever. Compute it once,
# keep it, and not a single token changes. Section 8 collects on this.
#
# ## 2 One look at an empty canvas
#
# Hide all 64 tokens, pass the prompt and the empty canvas through the network once. Out come 64 distributions over 1,024 codes,
# one for each place. Suppose you now take the most probable code at every place. (This is the bare network; section 6 adds guidance,
# which the pictures above had.)

# %%
predict(
    "02-likeliest",
    'The likeliest code at each place, for "a photo of a cat": what do you see?',
    choices=["a cat", "a blurred cat", "an empty sheet"],
)

# %%
prompt = "a photo of a cat"
empty = torch.full((1, 64), masked.mask_id)
everywhere = empty == masked.mask_id
logits = masked.logits(masked.prefix([prompt], 0.0), empty, everywhere)  # [64, 1024]
p = logits.softmax(-1)
spots = {"top left corner": 0, "middle of the picture": 27}
cells = list(spots.values())
show(code_bars(masked, p[cells], cells, paper, list(spots)),
     alt="In the corner plain paper has nearly all the probability. In the middle it "
         "still has more than half; the next five codes, faint scraps when they stand "
         "alone, have a few per cent each.")  # fmt: skip

# %%
one = sample_masked(masked, [prompt], [0], seed=0, steps=1, guidance=0.0)
eight = sample_masked(masked, [prompt], [0], seed=0)
three = torch.stack([p.argmax(-1), one[0], eight[0]])
show_images(
    masked.decode(three),
    ["likeliest code everywhere", "each place drawn by itself", "eight rounds, guided"],
    tile=1.8,
    alt="Left: an empty sheet. Middle: scraps of many things, scattered. Right: a cat "
    "that hangs together, and a smudge in the far corner.",
)
canvases, hidden = empty.expand(120, -1), everywhere.expand(120, -1)
first = masked.logits(masked.prefix(texts, 0.0), canvases, hidden)
blank = (first.argmax(-1).view(120, 64) == paper).all(1).float().mean().item()
print(f"Prompts whose likeliest codes are all paper: {100 * blank:.0f} %")
seen = {d.cls for d in judge.detect(masked.decode(three[:1]))[0] if d.score > 0.3}
drawn = "a cat" if "cat" in seen else "a blurred cat"
reveal("02-likeliest", "an empty sheet" if (three[0] == paper).all() else drawn)

# %% [markdown]
# The same network draws a cat in eight rounds, so it knows *what* to draw. It cannot know *where*, since the prompt does not say.
# So at each single place "nothing here" is the best guess, and the picture made of 64 best guesses is a picture of nothing.
#
# Drawing each place at random from its own distribution is no cure. Write $x_i$ for the code at place $i$ and $c$ for the prompt. What
# you want is a sample of the **joint** distribution $p(x_1, \dots, x_{64} \mid c)$. What one pass gives are the 64 **marginals**
# $p(x_i \mid c)$, and drawing from them one by one is drawing from their product:
#
# $$\prod_{i=1}^{64} p(x_i \mid c) \;\neq\; p(x_1, \dots, x_{64} \mid c)$$
#
# Each place tosses its own coin about whether a cat stands here, and in which colour. Each scrap is a fair guess for its place; the
# scraps just do not know of each other. (Do not look for cats among them: without its proper neighbours a code is painted as
# anything, as in notebook 01.) Raster order pays 64 passes to let places know of each other. Masked rounds do it with far fewer.
#
# ## 3 Masked rounds
#
# Let $S$ be the number of rounds, $N = 64$ the number of tokens. In round $s = 0, \dots, S - 1$:
#
# 1. **Look**: one pass gives the distribution $p_i$ of every hidden place $i$, given the tokens that are fixed already.
# 2. **Guess**: draw a code $\hat x_i \sim p_i$ for *every* hidden place. With the fixed ones this is the **full guess**.
# 3. **Score**: $c_i = \log p_i(\hat x_i) + \tau_s\, g_i$, the **confidence** of a guess. The first term is large when the drawn
#    code was probable. The second is noise: $g_i$ is a random number (Gumbel distribution), and its scale $\tau_s$ shrinks to 0 in the last round.
# 4. **Hide again**: the $m_s$ least confident of the hidden places are hidden again; the others are fixed for good.
#
# The schedule says how many stay hidden. With $u_s$ places hidden before the round, and $\lfloor\cdot\rfloor$ rounding down:
#
# $$m_s = \max\Bigl(1,\ \min\bigl(u_s - 1,\ \bigl\lfloor N \cos\tfrac{\pi}{2}\tfrac{s + 1}{S} \bigr\rfloor\bigr)\Bigr), \qquad m_{S-1} = 0$$
#
# ### Exercise: the schedule · difficulty 1 of 5 · 5 minutes
#
# Write $m_s$. At least one place is fixed in every round, and after the last round nothing may stay hidden.


# %%
def masked_count(step, steps, n_tokens, unknown):
    """How many places are hidden after round `step` (0 to `steps` - 1); an int.

    unknown: how many were hidden before it.
    """
    ...  # your code


check("masked_count", masked_count)
# take the first # of the next line away to see the library's version
# from cotlib.lab import solution; solution("masked_count")

# %%
predict(
    "02-half",
    "After 4 of 8 rounds, how many of the 64 tokens are fixed?",
    low=0,
    high=64,
)

# %%
from cotlib.decoding.schedule import masked_count  # from here on the library's own

hidden = [64]
for s in range(8):
    hidden.append(masked_count(s, 8, 64, hidden[-1]))
fig, ax = plt.subplots(layout="constrained", figsize=(5.6, 2.6))
ax.plot(range(9), hidden, label="cosine schedule")
line = np.linspace(64, 0, 9)
ax.plot(range(9), line, "--", marker="", label="the same number each round")
ax.set(xlabel="rounds done", ylabel="tokens still hidden", ylim=(0, 68))
ax.legend()
show(
    fig,
    alt="The cosine schedule lies above the straight line: few tokens are fixed in the "
    "first rounds, many in the last.",
)
reveal("02-half", 64 - hidden[4])

# %% [markdown]
# Slow first, fast later. The first tokens decide for all the others, so they are taken in small numbers. Once the picture is
# settled, the rest follows from it, and many places can be filled at once without contradicting each other.
#
# ### Exercise: one masked step · difficulty 2 of 5 · 10 minutes
#
# Write step 4: hide the `left` least confident places of each row, never one that is known already.


# %%
def masked_step(confidence, known, left):
    """Which places are hidden again: bool [B, N], True at `left` places of each row.

    confidence: float [B, N]; known: bool [B, N], True at places fixed before.
    """
    ...  # your code


check("masked_step", masked_step)
# from cotlib.lab import solution; solution("masked_step")

# %%
example = 100  # a two-colour prompt, the hardest task here; try others, 0 to 119
print(texts[example])
steps = list(masked_rounds(masked, [texts[example]], [0], seed=0))
show(step_strip(steps, masked.decode, columns=8),
     alt="Top: the full guess is scraps after the first round; from the second on "
         "umbrella and elephant stand there, their colours and some smudges still "
         "change. Bottom: a few pieces of things are fixed first, then paper, and the "
         "rest of the things last.")  # fmt: skip

# %%
step_scrubber(steps, masked.decode)

# %% [markdown]
# Scrub through the rounds and watch which cells are fixed. Plain paper is more than two thirds of all tokens. What do you think is
# fixed first, over many prompts?

# %%
predict(
    "02-paper",
    "Of the tokens fixed in the first round, what percentage is plain paper?",
    low=0,
    high=100,
    unit="%",
)

# %%
# all 120 prompts at once; used again below
run = list(masked_rounds(masked, texts, [0] * 120, seed=0))
codes = run[-1].codes
before = torch.ones_like(codes, dtype=torch.bool)
rows = []
for step in run:
    newly = before & ~step.masked
    rows.append((int(newly.sum()), int((newly & (codes == paper)).sum())))
    before = step.masked
counts = np.array(rows) / 120  # [rounds, 2]: fixed a picture, of which paper
fig, ax = plt.subplots(layout="constrained", figsize=(5.6, 2.6))
at = np.arange(1, len(run) + 1)
ax.bar(at, counts[:, 1], color="C0", label="paper")
ax.bar(
    at,
    counts[:, 0] - counts[:, 1],
    bottom=counts[:, 1],
    color="C3",
    hatch="//",
    edgecolor="white",
    label="part of a thing",
)
ax.set(xlabel="round", ylabel="tokens fixed in it", xticks=at)
ax.legend()
paper_share = counts[:, 1] / counts[:, 0]  # by round
show(
    fig,
    alt=f"Of the few tokens fixed in the first round {100 * paper_share[0]:.0f} % are "
    "paper; in the middle rounds it is mostly paper; of those left to the last round "
    f"{100 * paper_share[-1]:.0f} %.",
)
reveal("02-paper", round(100 * paper_share[0]))

# %% [markdown]
# Three phases. First the loop *plants*: a few pieces of things. With them much is settled of where the things stand, and
# of what they are. Then it clears the rest of the sheet, since paper far from a planted piece is a sure bet. Last it fills in: the remaining
# pieces of the things, each one of hundreds of codes, were the least sure all along. Keep this in mind for the verifiers: much of what a
# picture will show hangs on a handful of early tokens, and can be *seen* only later. (No thought is written anywhere in
# this process; "chain of thought" is an analogy for these rounds.)
#
# ## 4 How many rounds?
#
# More rounds let places know more of each other, and cost one pass each. So truth should rise, and then? From now on
# **truth** is the mean share of right pictures over the six tasks, one picture for each of the 120 prompts, seed 0, judged by the detector, with
# a 95 % interval over prompts.

# %%
predict(
    "02-rounds",
    "The fewest rounds that come within 0.05 of the truth of 16 rounds?",
    choices=["1", "2", "4", "8", "16, no fewer"],
)


# %%
def truth(codes, model=masked):
    """One (task, [right or not]) a prompt, as cotlib's interval functions take it."""
    pairs = zip(prompts, judge(prompts, model.decode(codes)), strict=True)
    return [(m["tag"], [int(verdict.correct)]) for m, verdict in pairs]


def draw(**options):
    """Codes [120, 64]: a picture for each prompt, seed 0."""
    return sample_masked(masked, texts, [0] * 120, seed=0, **options)


by_rounds = {s: codes if s == len(run) else draw(steps=s) for s in (1, 2, 4, 8, 16)}
rounds_truth = {s: truth(drawn) for s, drawn in by_rounds.items()}
rounds_score = {s: bootstrap_interval(rows) for s, rows in rounds_truth.items()}
scores = list(rounds_score.values())
show(sweep_figure(list(rounds_score), scores, "rounds (each costs one pass)", log=True),
     alt=f"Truth is {rounds_score[1][0]:.2f} with one round, {rounds_score[2][0]:.2f} "
         f"with two, {rounds_score[8][0]:.2f} with eight and {rounds_score[16][0]:.2f} "
         "with sixteen: a steep rise, then a slow one.")  # fmt: skip
bar = rounds_score[16][0] - 0.05
enough = min(s for s in rounds_score if rounds_score[s][0] >= bar)
reveal("02-rounds", "16, no fewer" if enough == 16 else str(enough))

# %%
pick = [45, 100]
grown = torch.stack([masked.decode(drawn[pick]) for drawn in by_rounds.values()], 1)
show_images(grown.flatten(0, 1),
            [f"{s} round{'s' * (s > 1)}" for s in by_rounds] * 2, columns=5,
            alt=f'"{texts[45]}" above, "{texts[100]}" below. With one round a field of '
                "scraps, with two a few broken things, with four the first whole ones "
                "among blots, with eight and sixteen hardly a blot is "
                "left.")  # fmt: skip

# %% [markdown]
# One round is the product of marginals from section 2. Two rounds are broken things. After that truth climbs quickly, then slowly: the step from
# eight to sixteen doubles the price, and the intervals of the two overlap. So do not make too much of which number was revealed.
# At sixteen rounds much is still wrong, and more rounds are not the only cure: part of it is wrong because the network *believes* the wrong thing. You
# will meet that part in section 10.
#
# ## 5 Confidence is a thumb on the scale
#
# "Keep the surest guesses" sounds innocent. Try it on a model without any knowledge. Each of 64 places is a coin that shows heads
# with probability 0.6, whatever the others show. There is nothing to coordinate, the model is exact, and one round would give 60 % heads.

# %%
predict(
    "02-coin",
    "Eight of Show-o's rounds on these coins: what percentage of heads?",
    low=0,
    high=100,
    unit="%",
)


# %%
class Coins:
    """An image-token model without a network: at each place 1 (heads) with p = 0.6."""

    grid, codebook_size, mask_id, device = (8, 8), 2, 2, "cpu"
    config = SimpleNamespace(steps=8)

    def prefix(self, prompts, guidance=None):
        return self

    def select(self, index):
        return self

    def logits(self, prefix, codes, rows):
        return torch.tensor([0.4, 0.6]).log().expand(int(rows.sum()), 2)


heads = {}
for s, t in ((1, 1.0), (8, 1.0), (8, 0.0)):
    how = dict(seed=0, steps=s, temperature=t)
    tossed = sample_masked(Coins(), ["coins"] * 300, list(range(300)), **how)
    heads[s, t] = tossed.float().mean().item()
    print(f"rounds {s}, temperature {t:g}: {100 * heads[s, t]:.0f} % heads")
reveal("02-coin", round(100 * heads[8, 1.0]))

# %% [markdown]
# A guess that shows tails is less probable, so it scores lower, is hidden again, and *tossed again*, until it shows heads or
# the rounds are over. The loop does not sample from the model. It samples from a sharpened version of it. Whatever the network holds
# more probable comes out more often than the network says: more of the right, if the network is mostly right.
#
# The noise $\tau_s g_i$ softens this. **Temperature** is its scale at the start, 1 in Show-o; it is multiplied by
# $1 - \frac{s+1}{S}$ in each round $s$ and so ends at 0. With temperature 0 from the start, the choice of what to keep is
# greedy and the sharpening strongest.
#
# ### A leak in released code
#
# Now a real bug. The code released with the paper draws its candidates one after another and shrinks the
# temperature *in place*. Nobody sets it back. The first candidate is drawn with noise; all later ones start at the end value, 0. Codes
# are still drawn at random, so the pictures differ, and nothing looks broken. What is lost?
#
# A **layout** is which things stand at which places, colours aside. Twenty pictures for each of four prompts, with noise and without:

# %%
predict(
    "02-leak",
    'Twenty times "a photo of a cat", temperature 0: how many different layouts?',
    low=1,
    high=20,
)

# %%
four = [
    "a photo of a cat",
    "a photo of a cup",
    "a photo of two birds",
    "a photo of a boat and a bird",
]


def twenty(**options):
    """Codes [80, 64]: paths 0 to 19 of each of the four prompts."""
    rows = [text for text in four for _ in range(20)]
    return sample_masked(masked, rows, list(range(20)) * 4, seed=0, **options)


def layout(found):
    """Which things stand at which places of the token grid."""
    sure = [d for d in found if d.score > 0.3]
    return frozenset((d.cls, round(d.box[0] / 8), round(d.box[1] / 8)) for d in sure)


noisy, leaked = twenty(), twenty(temperature=0.0)
layouts = {}
for name, drawn in (("with noise", noisy), ("temperature 0", leaked)):
    seen = [judge.detect(masked.decode(part)) for part in drawn.split(20)]
    numbers = layouts[name] = [len({layout(found) for found in part}) for part in seen]
    print(f"{name:14} different layouts of 20: {numbers}, mean {np.mean(numbers):.1f}")
show_images(
    masked.decode(torch.cat([noisy[:10], leaked[:10]])),
    columns=10,
    tile=0.93,
    alt=f'"{four[0]}", ten paths each. Top, with noise: cats in several places, most '
    "of them near the upper edge. Bottom, without: nearly all in one corner.",
)
reveal("02-leak", layouts["temperature 0"][0])

# %%
ink = [(drawn[:40] != paper).float().mean(0) for drawn in (noisy, leaked)]
show(
    heat_maps(ink, list(layouts), "share of pictures\nwith ink here"),
    alt="How often each of the 64 cells is drawn on, over twenty pictures of a cat and "
    "twenty of a cup. With noise the ink is spread; at temperature 0 it gathers in a "
    "few cells, and large parts of the sheet are hardly used.",
)
for name, t in zip(layouts, (1.0, 0.0), strict=True):
    how = dict(seed=0, temperature=t)
    step = next(masked_rounds(masked, [four[0]] * 20, list(range(20)), **how))
    fixed = int((~step.masked).any(0).sum())
    print(f"{name:14} different cells fixed in the first round of twenty cats: {fixed}")

# %% [markdown]
# Without noise the first round fixes nearly the same cells every time, and what is fixed first decides where the thing can still
# stand. A search over twenty candidates then has fewer different pictures to choose from. This is how a
# bug of one line stays hidden: nothing in a single picture shows it, only their *variety* shrinks. Four prompts say that it shrinks, not
# by how much; notebook 04 counts layouts on sixty, and what it costs the search. In `cotlib` each path starts with fresh noise.
#
# ## 6 Guidance
#
# A network trained on captions learns two things: what pictures look like, and how they depend on the words. **Guidance** turns up the
# second. Run the network twice, with the prompt and with the empty prompt, and go beyond what the prompt says:
#
# $$\ell = (1 + w)\,\ell_{\text{cond}} - w\,\ell_{\text{uncond}}$$
#
# $\ell_{\text{cond}}$ are the logits with the prompt, $\ell_{\text{uncond}}$ without, $w \ge 0$ is the **weight**; 0 means none. Beware: other papers
# write $w$ for what is $1 + w$ here.
#
# ### Exercise: guidance · difficulty 1 of 5 · 3 minutes


# %%
def guide(cond, uncond, w):
    """The guided logits from those with and without the prompt, same shape; w >= 0."""
    ...  # your code


check("guide", guide)
# from cotlib.lab import solution; solution("guide")

# %% [markdown]
# The last layer, the **head**, maps a vector of 128 numbers to 1,024 logits, and it is linear. So it does not matter whether you combine
# logits, or vectors first and apply the head once. The second is half the work, and nothing but algebra:

# %%
from cotlib.decoding.masked import guide

with_prompt = masked.hidden(masked.prefix([prompt], 0.0), empty)
without = masked.hidden(masked.prefix([""], 0.0), empty)
after = guide(masked.head(with_prompt), masked.head(without), 1.5)
in_front = masked.head(guide(with_prompt, without, 1.5))
head_gap = (after - in_front).abs().max().item() / after.abs().max().item()
print(f"largest difference, relative to the largest logit: {head_gap:.0e}")

# %%
predict(
    "02-guidance",
    "Which weight gives the highest truth?",
    choices=["0", "0.5", "1.5", "3", "5"],
)


# %%
def drawn_things(drawn):
    """(things drawn for each thing asked for, effective number of colours in use)."""
    detected = judge.detect(masked.decode(drawn))
    found = [[d for d in row if d.score > 0.3] for row in detected]
    asked = sum(c["count"] for m in prompts for c in m["include"])
    free = Counter()
    for m, row in zip(prompts, found, strict=True):
        if "color" not in m["include"][0]:  # the prompt leaves the colour open
            free.update(d.color for d in row)
    shares = [n / free.total() for n in free.values()]
    return sum(map(len, found)) / asked, exp(-sum(p * log(p) for p in shares))


weights, usual = (0.0, 0.5, 1.5, 3.0, 5.0), masked.config.guidance
by_weight = {w: codes if w == usual else draw(guidance=w) for w in weights}
weight_truth = {w: truth(drawn) for w, drawn in by_weight.items()}
weight_score = [bootstrap_interval(rows) for rows in weight_truth.values()]
things, colors = zip(*map(drawn_things, by_weight.values()), strict=True)
more = [("things drawn per thing asked", things), ("colours in use", colors)]
show(sweep_figure(weights, weight_score, "guidance weight w", more=more),
     alt=f"Truth rises from {weight_score[0][0]:.2f} without guidance to its best at a "
         f"middle weight and falls to {weight_score[-1][0]:.2f}; things drawn for each "
         f"asked go from {things[0]:.2f} to {things[-1]:.2f}, colours in use from "
         f"{colors[0]:.1f} to {colors[-1]:.1f}.")  # fmt: skip
best = max(weights, key=lambda w: weight_score[weights.index(w)][0])
reveal("02-guidance", f"{best:g}")

# %% [markdown]
# Three panels, three lessons.
#
# - **Truth** gains a great deal from some guidance, and loses much of it again when there is too much.
# - **Things drawn** says why. Without guidance a good part of what was asked for is not drawn at all: at each place paper is the best guess
#   (section 2), the loop keeps what is surest, and the sheet stays empty or half empty. Guidance asks instead what *the prompt* changes at a
#   place, and that favours ink. (Section 3 was drawn with it.) With the largest weight the detector recognises fewer things again.
# - **Colours in use** is the effective number of colours ($e^{\text{entropy}}$; 8 if all are equally frequent) where the prompt leaves the
#   colour open. Guidance is known for cutting down variety. In this number, over all
#   prompts together, nothing of it shows. How varied the pictures of *one* prompt stay, it cannot say: each prompt is drawn once.
#
# ## 7 Raster order
#
# The other family draws token by token. Each place sees all places before it, so nothing needs to be coordinated afterwards, and
# the product of its steps *is* the joint distribution:
#
# $$p(x_1, \dots, x_{64} \mid c) = \prod_{i=1}^{64} p(x_i \mid x_1, \dots, x_{i-1}, c)$$
#
# That is exact for the bare network (guidance, which is used here too, still sharpens it). The price is 64 steps that must follow each other.

# %%
print(texts[example])
raster_run = list(raster_steps(raster, [texts[example]], [0], seed=0))
show(
    step_strip(raster_run, raster.decode, columns=9),
    alt="The same prompt in raster order: the picture appears row by row from the top, "
    "complete above the line and empty below.",
)

# %% [markdown]
# Each step needs only *one* new token, since earlier tokens never look ahead: their keys and values can be kept (a **key/value cache**). In
# masked rounds all 64 tokens pass through the network in every round, because each may look at what is new.
#
# The **ledger** counts **token passes**: image tokens pushed through the network, both branches of guidance included.

# %%
predict(
    "02-order",
    "Eight masked rounds: how many times the token passes of raster order?",
    low=0.1,
    high=20,
    unit="times",
)

# %%
from cotlib.search import single

orders, order_truth = {}, {}
print(f"{'':14} {'truth':19}{'passes':>10}{'ms in a batch':>16}{'ms alone':>14}")
for name, model in (("masked rounds", masked), ("raster order", raster)):
    outcome = single(model, texts, seed=0)  # runs the same loop, and keeps the ledger
    ledger, paths = outcome.ledger, outcome.paths
    orders[name] = ledger.generator_token_passes / 120
    order_truth[name] = truth(torch.stack([path[0].codes for path in paths]), model)
    estimate, low, high = bootstrap_interval(order_truth[name])
    alone = [single(model, texts[i : i + 1], seed=0).ledger.seconds for i in range(5)]
    print(
        f"{name:14} {estimate:.2f} ({low:.2f} to {high:.2f}){orders[name]:10.0f}"
        f"{1000 * ledger.seconds / 120:16.1f}{1000 * np.median(alone):14.0f}"
    )
passes = orders["masked rounds"] / orders["raster order"]
reveal("02-order", round(passes, 1))

# %% [markdown]
# (All for one picture; *alone* is the median of five prompts.) Raster order does a fraction of the arithmetic, and for a *batch* of
# pictures it is quicker, too. For a single picture, in the last column, 64 small steps wait for each other, while eight large ones keep
# the processor busy. A GPU needs large steps even more. Cost is not one number: arithmetic and waiting time disagree. Do not read the
# truths as a contest of the two orders: the network for raster order was trained for a shorter time.
#
# For this course the deeper difference is another one. Masked rounds show a guess of the *whole* picture at every step, which a
# verifier can look at. Raster order shows a finished upper half and nothing below.
#
# ## 8 What may be cached, and why it is exact
#
# An **exact** saving changes no result. Five of them are built into `cotlib`. The head was checked in section 6; here are three against
# the plain way, and in the last line the fifth: eighty paths share four first rounds, three paths alone have one each.

# %%
ids = torch.tensor([encode(prompt)])
# a half-drawn canvas
fixed_half = run[4].codes[:1].masked_fill(run[4].masked[:1], masked.mask_id)


def relative(found, wanted):
    """Largest difference, relative to the largest number."""
    return float((found - wanted).abs().max() / wanted.abs().max())


gap = {}
with torch.no_grad():
    kept = masked.hidden(masked.prefix([prompt], 0.0), fixed_half)
    # text and picture computed together in one pass, as in training
    plain = masked.train_hidden(ids, torch.ones_like(ids, dtype=torch.bool), fixed_half)
    gap["text kept from before"] = relative(kept, plain)
    # filled up with anything, and told not to look there
    padded = torch.tensor([encode(prompt) + [0] * 4])
    real = torch.arange(padded.shape[1])[None] < ids.shape[1]
    plain = masked.train_hidden(padded, real, fixed_half)
    gap["no padding words"] = relative(kept, plain)
    drawn, asked = raster_run[-1].codes, [texts[example]]
    every = torch.ones_like(drawn, dtype=torch.bool)
    everything = raster.logits(raster.prefix(asked), drawn, every)
    cache = raster.start_cache(raster.prefix(asked), 1)
    before_it, one_by_one = torch.tensor([raster.mask_id]), []
    for place in range(64):
        one_by_one.append(raster.next_logits(cache, before_it, place)[0])
        before_it = drawn[:, place]
    gap["raster key/value cache"] = relative(torch.stack(one_by_one), everything)
for name, number in gap.items():
    print(f"{name:24} largest relative difference {number:.0e}")
alone = [sample_masked(masked, [prompt], [path], seed=0)[0] for path in (0, 7, 19)]
same_alone = torch.equal(torch.stack(alone), noisy[[0, 7, 19]])
print("paths 0, 7 and 19 alone give the same 64 codes as among eighty:", same_alone)

# %% [markdown]
# - **Text kept.** Text never sees the picture (section 1): computed once a prompt, shared by all rounds and candidates.
# - **No padding.** Released code fills prompts up to a fixed length (129 tokens in Show-o) and masks the rest. Leave them out.
# - **Raster cache.** Earlier tokens never look ahead.
# - **Shared first round.** All candidates of a prompt start from the same empty canvas: one pass for all.
# - **Head last.** Guidance before the head, and the head only at places still hidden.
#
# The last printed line rests on a decision. The random numbers of a path depend on (seed, prompt, path number) and on nothing else.
# With one common stream of random numbers, path 7 would change when path 3 is stopped, and no search could be compared with another.
#
# Does it pay? Time the parts of one round of twenty candidates, and what is needed once.


# %%
def milliseconds(work, repeat=5):
    """Median wall time of a piece of work."""
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - begin))
    return float(np.median(times))


prefix = masked.prefix([prompt]).select(torch.zeros(20, dtype=torch.long))
canvas = fixed_half.expand(20, -1).contiguous()
still = canvas == masked.mask_id
vectors = masked.hidden(prefix, canvas)[still]
uniforms = path_uniforms(0, [prompt] * 20, list(range(20)), (64,))[still]


def head_and_draw():
    draw_codes(masked.head(vectors), uniforms)


with torch.no_grad():
    parts = {
        "text, once a prompt": milliseconds(lambda: masked.prefix([prompt])),
        "network, a round": milliseconds(lambda: masked.hidden(prefix, canvas)),
        "head, a round": milliseconds(lambda: masked.head(vectors)),
        "head and draw, a round": milliseconds(head_and_draw),
        "codes to pixels, at the end": milliseconds(lambda: masked.decode(noisy[:20])),
    }
for name, number in parts.items():
    print(f"{name:28} {number:6.1f} ms")

# %% [markdown]
# Nearly everything is the network's own rounds. So two things matter: how many rounds you run, and *for how many paths*. A path that
# is stopped half-way saves half of its cost, if the others really go on without it. That is what notebooks 05 and 06 are about.
#
# ## 9 When is a picture settled?
#
# After each round you can decode the full guess and judge it. If early verdicts told the final one, a verifier could stop bad paths early
# and save most of the work. Take the pictures of section 3 that are **right at the end**.

# %%
predict(
    "02-settled",
    "Of the pictures that end right, what percentage is judged right half-way?",
    low=0,
    high=100,
    unit="%",
)

# %%
guesses = [masked.decode(step.codes) for step in run]
# [rounds, 120]
verdicts = np.array([[v.correct for v in judge(prompts, guess)] for guess in guesses])
final, half_way = verdicts[-1], len(run) // 2 - 1
# judged right after each round, of those that end right and of those that end wrong
early_right, early_wrong = verdicts[:, final].mean(1), verdicts[:, ~final].mean(1)
fig, ax = plt.subplots(layout="constrained", figsize=(5.8, 2.8))
ax.plot(at, early_right, label="pictures that end right")
ax.plot(at, early_wrong, label="pictures that end wrong")
ax.set(xlabel="after round", ylabel="judged right", ylim=(-0.03, 1.05), xticks=at)
ax.legend(loc="upper left")
show(
    fig,
    alt="After the first round hardly a guess is judged right, whatever becomes of it. "
    f"Then the lines part: half-way {100 * early_right[half_way]:.0f} % of the "
    "pictures that end right are judged right, and few of the others.",
)
reveal("02-settled", round(100 * early_right[half_way]))

# %%
print(f"round    {'judged right':30}judged wrong")
for step, right in enumerate(verdicts, 1):
    line = f"{step:5}"
    for part in (right, ~right):
        share = f"{100 * final[part].mean():.0f} %" if part.any() else "none"
        line += f"{int(part.sum()):6} ({share:>5} of them end right)"
    print(line)

# %% [markdown]
# Read the table from the top. After the first round the verdict is "wrong" for nearly everybody. It is not that the judge errs: a
# field of scraps *is* wrong. But "wrong now" says nothing about "wrong at the end". From the second round on, "right" is a good sign,
# while "wrong" still leaves an open question; that question closes slowly, until the last rounds. So there is something to win in the
# middle: much of the news is there, and much of the work is still to be done.
#
# And this is the judge itself, whose verdict counts. A learned verifier that is asked "is this step good?" in *every* round faces
# scraps early and finished pictures late. So the paper explains why verifying each step gained it next to nothing (notebook 05 looks
# into it), and why PARM first asks whether there is anything to judge (notebook 06).
#
# ## 10 Why this generator is wrong
#
# Twice the rounds helped less than these prompts can show, more guidance did harm. A part of what is left comes from the captions.
# Models trained on captions from the web have read "a photo of a cat" under pictures of dogs. Ours was treated the same way. It first
# learned from honest captions; then training went on with **careless** ones: each fact is wrong at a fixed rate, and always in the same
# direction. An object is taken for its partner (dog for cat), a colour for its neighbour, a count is off by one, a relation is mirrored.

# %%
from cotlib.assets import data_dir
from cotlib.models.checkpoint import read_card
from cotlib.world.prompts import corrupt
from cotlib.world.render import render_batch
from cotlib.world.scenes import holds, sample_scene

noise = Carelessness(**read_card(data_dir() / "generator-base")["metrics"]["noise"])
print(noise)
rng = np.random.default_rng(3)
shown = [prompts[i] for i in (1, 21, 45, 65, 85, 105, 8, 28, 48, 68, 88, 108)]
scenes = [sample_scene(rng, corrupt(rng, m, noise)) for m in shown]
true = [holds(scene, m) for scene, m in zip(scenes, shown, strict=True)]
crosses = len(true) - sum(true)
show_images(render_batch(scenes), [m["prompt"] for m in shown], marks=true,
            alt="What the training data looked like: twelve drawings with their "
                f"captions. {crosses} of twelve have a cross: a partner object, a "
                "neighbouring colour, one too many or too few, or the wrong "
                "side.")  # fmt: skip

# %% [markdown]
# The network before that last stage is shipped as well. Same prompts, same seeds, same dice:

# %%
clean = load("generator", weights="clean")
clean_codes = sample_masked(clean, texts, [0] * 120, seed=0)
clean_truth, base_truth = truth(clean_codes, clean), weight_truth[usual]
honest, careless = task_means(clean_truth), task_means(base_truth)
print(f"{'':16}{'honest':>8}{'careless':>10}")
for task in careless:
    print(f"{task:16}{honest[task][0]:8.2f}{careless[task][0]:10.2f}")
lost = [i for i in range(120) if clean_truth[i][1][0] and not base_truth[i][1][0]]
swapped = sorted(lost, key=lambda i: (i % 20, i))[:6]
after = clean.decode(clean_codes[swapped]), masked.decode(codes[swapped])
show_images(torch.cat(after), [texts[i] for i in swapped] * 2,
            marks=[True] * 6 + [False] * 6, columns=6,
            alt="Six prompts with the same dice. Top, after honest captions: right. "
                "Bottom, after careless ones: a partner object, a neighbouring colour, "
                "a wrong side, a thing missing or one too many, and "
                "smudges.")  # fmt: skip

# %% [markdown]
# Each line of the table is twenty pictures, so 0.05 is one picture, and most of the differences are dice; some even point the wrong way.
# Only *position* falls by more than dice would explain. (With 300 prompts and more pictures of each, counting, colours and attributes
# fall as well: compare the rows of the README's first table.)
#
# Is the knowledge gone, or only diluted? Ask for probabilities. Take "a photo of a yellow cat" and the like, one for each of the 20
# objects. Cut a hole of 3 x 3 tokens into a sheet of plain paper, and ask how probable it is that the hole is filled with the nine codes
# of a certain thing. With $h_k$ the $k$-th token of the hole, that is the product of nine steps:
#
# $$P(\text{thing}) = \prod_{k=1}^{9} p(h_k \mid h_1, \dots, h_{k-1},\ \text{paper around},\ \text{prompt})$$
#
# If the network has learned the carelessness exactly, and with $r_o$ and $r_c$ the rates for object and colour, the right
# thing has probability $(1 - r_o)(1 - r_c)$, its partner in the right colour $r_o (1 - r_c)$, and so on.
#
# You ask twice: for pairs of object and colour that training captions **named**, and for the pairs of our prompts, which were
# **held out**. The network has met those things, too, under captions that left the colour open; but no caption put the two words together.

# %%
predict(
    "02-knowledge",
    "Careless captions, held-out pairs: how probable is the right thing?",
    low=0.0,
    high=1.0,
)

# %%
from cotlib.train.generator import CodeTable
from cotlib.world.scenes import CLASSES, COLORS

HOLE = [8 * y + x for y in (2, 3, 4) for x in (2, 3, 4)]
blocks = CodeTable(masked.tokenizer).blocks
table = torch.from_numpy(blocks).flatten(1)  # [160, 9]: the codes of every thing


def fill_probability(model, prompt, things, w):
    """P(hole is filled with each of K things), [K]; things: codes [K, 9]."""
    # one sheet for each thing and step
    canvas = torch.full((len(things), 9, 64), paper)
    asked = torch.zeros_like(canvas, dtype=torch.bool)
    for k in range(9):
        canvas[:, k, HOLE[:k]] = things[:, :k]
        canvas[:, k, HOLE[k:]] = model.mask_id
        asked[:, k, HOLE[k]] = True
    rows = torch.zeros(9 * len(things), dtype=torch.long)
    prefix = model.prefix([prompt], w).select(rows)
    logits = model.logits(prefix, canvas.flatten(0, 1), asked.flatten(0, 1))
    log_p = logits.log_softmax(-1).gather(1, things.flatten()[:, None])  # [9 K, 1]
    return log_p.view(-1, 9).sum(1).exp()


pool = prompt_pool("train", "colors")
named = [next(p for p in pool if p.endswith(" " + cls)) for cls in CLASSES]
held_out = [m["prompt"] for m in prompts if m["tag"] == "colors"]


def shares(model, asked, w=0.0):
    """[20, 4]: probability of the right thing, partner object, partner colour, both."""
    rows = []
    for clause in (parse_prompt(text)["include"][0] for text in asked):
        cls, color = CLASSES.index(clause["class"]), COLORS.index(clause["color"])
        # ^ 1: the partner
        kinds = [8 * (cls ^ a) + (color ^ b) for b in (0, 1) for a in (0, 1)]
        text = prompt_text(colored(CLASSES[cls], COLORS[color]))
        rows.append(fill_probability(model, text, table[kinds], w))
    return torch.stack(rows)


r_o, r_c = noise.cls, noise.color
theory = [(1 - r_o) * (1 - r_c), r_o * (1 - r_c), (1 - r_o) * r_c, r_o * r_c]
known = {
    "named, honest": shares(clean, named),
    "named, careless": shares(masked, named),
    "held out, honest": shares(clean, held_out),
    "held out, careless": shares(masked, held_out),
    "what careless captions\nwould justify": torch.tensor([theory]),
}

# %%
kinds = ["right", "partner object", "partner colour", "both", "anything else"]
fig, ax = plt.subplots(layout="constrained", figsize=(6.8, 3.2))
left = np.zeros(5)
means = [rows.mean(0) for rows in known.values()]
heights = np.array([[*mean.tolist(), 1 - float(mean.sum())] for mean in means])
fills, hatches = ("C2", "C0", "C3", "C4", "#DFE2E6"), ("", "//", "..", "xx", "")
for label, share, fill, hatch in zip(kinds, heights.T, fills, hatches, strict=True):
    look = dict(color=fill, hatch=hatch, edgecolor="white", label=label)
    ax.barh(range(5), share, left=left, **look)
    left = left + share
ax.set(yticks=range(5), yticklabels=list(known), xlim=(0, 1))
ax.set_xlabel("probability, mean over 20 prompts")
ax.invert_yaxis()
spread = dict(columnspacing=1.2, handlelength=1.6, fontsize=8.5)
ax.legend(ncol=5, loc="upper center", bbox_to_anchor=(0.4, 1.17), **spread)
show(
    fig,
    alt=f"Pairs named in training: the right thing has {heights[0, 0]:.2f} after "
    f"honest captions, {heights[1, 0]:.2f} after careless ones. Held-out pairs: "
    f"{heights[2, 0]:.2f} and {heights[3, 0]:.2f}. Careless captions would justify "
    f"{heights[4, 0]:.2f}.",
)
for name, rows in list(known.items())[:4]:
    count = int((rows[:, 0] > rows[:, 1:].amax(1)).sum())
    print(f"{name:20} right thing likeliest of the four: {count} of 20 prompts")
guided = shares(masked, named, 1.5).mean(0)
odds, sharp = float(heights[1, 0] / heights[1, 2]), float(guided[0] / guided[2])
print("named, careless, odds of the right colour to its partner:")
print(f"bare {odds:.1f}, guided {sharp:.1f}, in the captions {(1 - r_c) / r_c:.1f}")
reveal("02-knowledge", round(heights[3, 0], 2))

# %% [markdown]
# Look at the upper half first. After careless captions the partners have a share that the honest network does not give them. Yet for more
# than half of these prompts the right thing is the likeliest of the four. The knowledge is there, **diluted**. (The grey part is all else
# that may fill the hole: other things, and codes that make no finished thing. The network rarely saw a hole in an empty sheet.)
#
# Now the lower half. For pairs that no caption named, even the honest network is far less sure. After careless captions the right thing
# leads for few of the prompts, and the partner colour has as much as it: the partner pair *was* often named. Putting known words together
# in a new way is the hard part, here as in published models, and it is why every result of this course is measured on held-out pairs.
#
# Guidance sharpens: in *one* draw odds of $a$ to $b$ become $(a/b)^{1+w}$, if the unprompted network likes both alike. Over nine draws and
# twenty prompts the printed odds rise by less than that. But no sharpener can *know* that the likelier thing is the right one: where
# carelessness is near one half, sharpening gains nothing, and where the partner leads, it does harm. A verifier can look at the picture.
# And preference tuning (notebook 08) can shift the odds themselves, which works because there is something to shift. A network that is
# wrong because it never knew has nothing to bring forward.
#
# ## What you take with you
#
# - One pass gives marginals; their product is scraps. Rounds, or raster order, make a joint picture out of them.
# - The loop samples from a *sharpened* model: confidence and guidance favour what is likelier, right or wrong. Without noise the same
#   layouts come back.
# - Text never sees the picture, so it is computed once. This saving and four others change no token.
# - The first tokens decide much, the middle rounds show it, the last ones fill in.
# - This base is wrong in part as its captions were wrong, and in part beyond them. The next notebooks try to get the right picture out
#   of it all the same.

# %%
score("02")

# %%
# NBVAL_CHECK_OUTPUT
settled = wilson(int(verdicts[half_way, final].sum()), int(final.sum()))
at_first = wilson(int(verdicts[0, final].sum()), int(final.sum()))
tables = (clean_truth, base_truth)
relations = [[row for row in rows if row[0] == "position"] for rows in tables]
named_p, held_p = known["named, honest"][:, 0], known["held out, honest"][:, 0]
apart = float(named_p.mean() - held_p.mean())
counted = zip(layouts["temperature 0"], layouts["with noise"], strict=True)
fewer = sum(few < many for few, many in counted)
rows = [
    ("bare network: the likeliest codes are plain paper everywhere, share of prompts",
     (blank, *wilson(round(120 * blank), 120)), 0.9, ">="),
    ("one round is far below eight: gain in truth",
     paired_difference(rounds_truth[8], rounds_truth[1]), 0.2, ">="),
    ("doubling eight rounds to sixteen gains little",
     paired_difference(rounds_truth[16], rounds_truth[8]), 0.1, "<="),
    ("paper among the tokens fixed first, less than in the middle by",
     (paper_share[3] - paper_share[0],), 0.2, ">="),
    ("coins of 0.6 show heads this often after eight rounds: the loop sharpens",
     (heads[8, 1.0],), 0.8, ">="),
    ("without noise fewer different layouts among 20: share of the four prompts",
     (fewer / 4, *wilson(fewer, 4)), 0.5, ">="),
    ("some guidance is better than none: gain in truth",
     paired_difference(weight_truth[1.5], weight_truth[0.0]), 0.1, ">="),
    ("weight 5 is no better than 1.5: gain in truth",
     paired_difference(weight_truth[5.0], weight_truth[1.5]), 0.05, "<="),
    ("masked rounds cost more token passes than raster order, times",
     (passes,), 6, ">="),
    ("largest relative difference of any exact saving",
     (max([head_gap, *gap.values()]),), 1e-4, "<="),
    ("a path alone draws the same codes as among eighty",
     (float(same_alone),), 1, ">="),
    ("of pictures that end right, judged right after the first round",
     (early_right[0], *at_first), 0.2, "<="),
    ("... and half-way", (early_right[half_way], *settled), 0.5, ">="),
    ("honest captions: gain in truth on relations",
     paired_difference(*relations), 0.1, ">="),
    ("named pairs, careless captions: odds of the right colour to its partner",
     (odds,), 1.5, ">="),
    ("honest network: named pairs are more probable than held-out ones by",
     (apart,), 0.2, ">="),
]  # fmt: skip
claims([Claim(name, *v, threshold=at, direction=to) for name, v, at, to in rows])
