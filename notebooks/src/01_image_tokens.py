# %% [markdown]
# # 01 Image tokens: from pixels to codes and back
#
# <!-- badges -->
#
# The generator of this course never sees a pixel. It chooses 64 whole numbers, and what these can say decides what it can learn to draw,
# and what anybody can make out in a picture that is half drawn.
#
# After this notebook you can
#
# - turn a picture into 64 whole numbers and back, and say what is lost and where;
# - explain finite scalar quantisation, pack digits into a code, and send a gradient through a rounding;
# - count how many bits a token really carries, and edit a picture by editing its tokens;
# - train a small tokenizer, and show why one that looks around too much makes a generator's life hard.
#
# <!-- facts -->
#
# It needs nothing from the other notebooks. Words that are new stand in the [glossary](00_welcome.ipynb#Glossary).

# %% tags=["setup"]

# %%
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from cotlib import load
from cotlib.judging.stats import wilson
from cotlib.lab import Claim, check, claims, code_editor, code_grid, predict, reveal, score, show, show_images
from cotlib.lab import tokenizer_figures as figures
from cotlib.models.tokenizer import PictogramTokenizer, TokenizerConfig, pack, quantise, unpack
from cotlib.train.loop import Budget, Trainer, train
from cotlib.train.tokenizer import TokenizerRecipe, batch_of_drawings
from cotlib.world.render import render_batch
from cotlib.world.scenes import CLASSES, COLORS, SPOTS, TINTS, Scene, Thing

SEED = 0  # every random number of this notebook starts from here
tokenizer = load("tokenizer")

# %% [markdown]
# ## 1 Why tokens
#
# The generators of this course are transformers: networks that read a sequence and predict its items. A transformer compares
# every item with every other one, so its work grows with the square of the sequence's length. Our pictures are small, and still
# too long a sequence if each colour value of each pixel were an item.
#
# So a picture is first cut into **patches** of 8×8 pixels. An **encoder**, a small network, turns each patch
# into one whole number between 0 and 1,023: its **code**. A **decoder**, another network, paints the picture
# from the codes. Encoder and decoder together are the **tokenizer**, and a **token** is one place of the sequence: here one
# of the 8×8 = 64 cells, filled with a code.
#
# Here are five drawings of the course's little world, and under each the picture that the decoder paints from nothing but 64 codes.

# %%
scenes = [
    Scene((Thing("dog", "red", 16, 24),), tint=0),
    Scene((Thing("bicycle", "blue", 0, 8), Thing("banana", "yellow", 40, 32)), tint=1),
    Scene((Thing("bird", "green", 0, 0), Thing("bird", "green", 32, 8),
           Thing("bird", "green", 16, 40)), tint=2),
    Scene((Thing("cat", "orange", 0, 0), Thing("clock", "purple", 40, 0),
           Thing("elephant", "pink", 0, 40),
           Thing("umbrella", "black", 32, 32)), tint=3),
    Scene((Thing("giraffe", "orange", 8, 16), Thing("boat", "blue", 40, 40)), tint=4),
]  # fmt: skip
drawings = render_batch(scenes)  # [5, 3, 64, 64], values in 0..1


@torch.no_grad()
def rebuild(images):
    """Pictures to codes and back."""
    return tokenizer.decode(tokenizer.encode(images))


values, tokens = 64 * 64 * 3, 64
for name, items in (("as colour values:", values), ("as tokens:", tokens)):
    print(f"{name:17} {items:6,} items, {items**2:11,} pairs to compare")
print(f"{values**2 // tokens**2:,} times fewer")
show_images(
    torch.cat([drawings, rebuild(drawings)]),
    ["drawing"] * 5 + ["from 64 codes"] * 5,
    columns=5,
    alt="Five drawings, and below each the same picture painted from its 64 codes. "
    "The things are hard to tell apart; the rebuilt paper is faintly speckled.",
)

# %% [markdown]
# The next figure shows all that the decoder gets to see of the fourth one. Look at the pale cells. They are *paper*, and they all
# hold the same code. The paper is not the same everywhere, though: it comes in five faint tints, each slightly darker towards the
# bottom. Before you look at more of it, make a **prediction**. It is kept, and compared with the measurement.

# %%
codes = tokenizer.encode(drawings)  # [5, 64], whole numbers
show(
    code_grid(drawings[3], codes[3], tile=3.6),
    alt="Left, a drawing of four things. Right, the code of each of its 64 cells: "
    "paper cells all hold the same number.",
)
predict(
    "01-paper",
    "Blank paper in all five tints, 320 patches: how many different codes?",
    answer=None,
    low=1,
    high=320,
)

# %%
blank = render_batch([Scene((), tint) for tint in range(TINTS)])
paper_codes = tokenizer.encode(blank).unique()
PAPER = int(paper_codes[0])
print(f"codes of blank paper: {paper_codes.tolist()}")
reveal("01-paper", len(paper_codes))

# %% [markdown]
# One code for all of them, on purpose: during training the target is the drawing *without* its tint. The tokenizer throws
# the tint away. Section 9 shows what goes wrong without such discipline.
#
# ## 2 What is lost
#
# The usual measure of a reconstruction is the **peak signal-to-noise ratio**, in decibels (dB):
#
# $$\mathrm{PSNR} = -10 \log_{10} \mathrm{MSE}, \qquad \mathrm{MSE} = \frac{1}{M}\sum_{i=1}^{M} (\hat{x}_i - x_i)^2 .$$
#
# $x_i$ is a colour value of the drawing (0 to 1), $\hat{x}_i$ the same value of the rebuilt picture, $M$ = 12,288 the number of values,
# MSE the mean squared error. At 20 dB the typical error is a tenth of the whole brightness range, at 40 dB a hundredth.
#
# You measure it on 256 drawings that no training has seen. First commit yourself: the error is not spread evenly. Is it
# largest on the paper, along the outlines of things, or inside them?

# %%
predict(
    "01-where",
    "In which zone is the typical error of a pixel largest?",
    answer=None,
    choices=["paper", "outline", "inside"],
)

# %%
# near is 1 on and beside things, plain the drawings without tint
images, plain, near = batch_of_drawings(np.random.default_rng([SEED, 1]), 256)
codes = tokenizer.encode(images)
rebuilt = rebuild(images)
squared = (rebuilt - images).square()
inner = -F.max_pool2d(-near, 5, 1, 2)  # near, shrunk by two pixels on each side
zones = {"paper": 1 - near, "outline": near - inner, "inside": inner}
error = {}
for name, zone in zones.items():
    mse = (squared.mean(1, keepdim=True) * zone).sum() / zone.sum()
    error[name] = float(mse.sqrt())
    area = f"{name:8} {100 * zone.mean():2.0f} % of the area"
    print(f"{area}, typical error {100 * error[name]:.1f} % of the brightness range")
reveal("01-where", max(error, key=error.get))

per_picture = squared.mean((1, 2, 3))  # [256]
dice = torch.Generator().manual_seed(0)
draws = per_picture[torch.randint(256, (500, 256), generator=dice)].mean(1)
psnr = (-10 * per_picture.mean().log10()).item()
psnr_low, psnr_high = np.percentile(-10 * draws.log10(), (2.5, 97.5))
print(f"PSNR {psnr:.1f} dB, 95 % interval {psnr_low:.1f} to {psnr_high:.1f}")
show_images(
    figures.error_map(drawings, rebuild(drawings), full=0.08),
    [f"error of drawing {i}" for i in range(1, 6)],
    columns=5,
    alt="Maps of the error for the five drawings above: bright yellow is 8 % of the "
    "brightness range or more. The error is largest on the things and fades with the "
    "distance from them; among several things no paper is free of it.",
)

# %% [markdown]
# The edges of things, where one expects trouble, are not the worst place. A likely reason: a class has one outline for all its colours, so the
# tokenizer has seen it often. Inside, 10 bits must name one of many similar patches with thin lines and shades.
#
# ## 3 From a patch to a code
#
# The encoder is a small network that sees one patch, 8×8×3 = 192 values, and nothing else. It returns five numbers between
# -1 and 1. Then comes the step that makes tokens possible: **quantisation**, rounding to a few allowed values.
#
# $$ q(z) = \frac{2}{L-1}\,\mathrm{round}\!\left(\frac{(z+1)(L-1)}{2}\right) - 1, \qquad
#    \text{code} = \sum_{i=1}^{D} d_i\, L^{D-i} . $$
#
# $z$ is one of the numbers, $L$ = 4 the number of **levels**, so $q(z)$ is one of -1, -1/3, 1/3, 1. The **digit** $d_i$, from 0
# to $L-1$, says which level number $i$ takes, and $D$ = 5 digits side by side, read in base 4, are the code: 4⁵ = 1,024
# codes. This is **finite scalar quantisation** (FSQ; Mentzer and others, [arXiv 2309.15505](https://arxiv.org/abs/2309.15505)).
#
# Watch it happen to one patch of the orange cat:

# %%
cell = 9  # cells are counted from 0, row by row
with torch.no_grad():
    patch = tokenizer.patches(drawings[3:4])[0, cell]  # [192]
    z = torch.tanh(tokenizer.encoder(patch - 0.5))  # [5]
    digits = ((quantise(z) + 1) * 1.5).round().long()
show(
    figures.patch_steps(patch.reshape(3, 8, 8), z, digits, int(pack(digits))),
    alt="A patch of a cat, its five numbers on scales from -1 to 1, each moved to the "
    "nearest of four levels, and the code.",
)

# %% [markdown]
# ### Exercise: pack the digits · difficulty 1 of 5 · 5 minutes
#
# Write the sum above. The first digit counts most. The result is a whole number (`long`), one for each row of five digits, whatever
# the leading shape.


# %%
def pack_digits(digits):
    """digits [..., 5] in 0..3, most significant first -> codes [...] in 0..1023."""
    ...  # your code


check("pack_digits", pack_digits)
# take the first # of the next line away to see the library's version
# from cotlib.lab import solution; solution("pack_digits")

# %% [markdown]
# **Relatives.** The older way, *vector quantisation* (VQ), keeps a learned table of vectors, the **codebook**, and takes the
# nearest one. That needs extra losses, and parts of the table tend to die unused. FSQ has no table: its codebook is the grid of all digit
# combinations. With $L$ = 2 levels each digit is a bit, and you have **look-up-free quantisation** (LFQ), from MAGVIT-v2
# ([arXiv 2310.05737](https://arxiv.org/abs/2310.05737)). Show-o, the model of the paper that this course follows,
# uses that, with 13 bits: a bit is 1 where the number is positive, and the first one counts most.

# %%
# 13 numbers of an encoder
numbers = [0.7, -0.2, 0.1, -0.9, -0.3, 0.4, -0.1, -0.8, 0.2, 0.6, -0.5, 0.3, -0.4]
bits = (torch.tensor(numbers) > 0).long()
code = int((bits * 2 ** torch.arange(12, -1, -1)).sum())
print(f"bits {''.join(map(str, bits.tolist()))} = code {code} of {2**13:,}")

# %% [markdown]
# ## 4 A gradient through a rounding
#
# Training lowers a **loss**, here the reconstruction error, by small steps against its derivative with respect to all weights, the
# **gradient**. Between the loss and the encoder's weights stands the rounding, and a staircase is flat: its derivative is 0
# everywhere, except at the jumps, where it has none. No gradient reaches the encoder.
#
# The way out is a polite lie, the **straight-through** gradient (Bengio and others, [arXiv 1308.3432](https://arxiv.org/abs/1308.3432)):
#
# $$ z_q = z + \mathrm{sg}\big(q(z) - z\big) . $$
#
# sg, *stop gradient*, is `.detach()` in PyTorch: it keeps the value and has derivative 0. Going forward, $z$ cancels and $z_q = q(z)$.
# Going backward, only the first $z$ counts, so the derivative of $z_q$ with respect to $z$ is 1, as if nothing had been rounded.
#
# ### Exercise: straight through · difficulty 2 of 5 · 10 minutes
#
# Round each number to the nearest of -1, -1/3, 1/3, 1, and let the gradient pass.


# %%
def straight_through(z):
    """z [..., 5], each in -1..1 -> the nearest levels [..., 5]; d output / d z = 1."""
    ...  # your code


check("straight_through", straight_through)
# from cotlib.lab import solution; solution("straight_through")

# %% [markdown]
# What difference does it make? The next cell computes the gradient of the same reconstruction error twice.


# %%
def gradient_sizes(rounding):
    """Length of the gradient by the encoder's and by the decoder's weights."""
    tokenizer.zero_grad()
    z = torch.tanh(tokenizer.encoder(tokenizer.patches(images[:16]) - 0.5))
    difference = tokenizer.paint(rounding(z)) - plain[:16]
    difference.square().sum((1, 2, 3)).mean().backward()
    return [math.sqrt(sum(float(p.grad.square().sum()) for p in part.parameters()))
            for part in (tokenizer.encoder, tokenizer.decoder)]  # fmt: skip


flat = gradient_sizes(lambda z: torch.round((z + 1) * 1.5) / 1.5 - 1)
through = gradient_sizes(quantise)
print(f"rounding alone:    encoder {flat[0]:6.2f}   decoder {flat[1]:6.2f}")
print(f"straight through:  encoder {through[0]:6.2f}   decoder {through[1]:6.2f}")

# %% [markdown]
# With rounding alone the decoder would learn to paint from the codes of an encoder that never changes. But is the lie a good one? Take
# one picture and move one of its 320 numbers from -1 to 1. You can watch the loss in both worlds.

# %%
base = tokenizer.quantised(drawings[3:4]).detach()
target = render_batch(scenes[3:4], plain=True)
place, number = 9, 2  # the cat's cell from above, its third number


def loss_at(values):
    """Summed squared error of the picture for each value [n] of the chosen number."""
    vectors = base.repeat(len(values), 1, 1)
    vectors[:, place, number] = values
    return (tokenizer.paint(vectors) - target).square().sum((1, 2, 3))


x = torch.linspace(-1, 1, 49)
levels = torch.tensor([-1, -1 / 3, 1 / 3, 1], requires_grad=True)
with torch.no_grad():
    smooth = loss_at(x)
at = loss_at(levels)
(slope,) = torch.autograd.grad(at.sum(), levels)
show(
    figures.slopes(x, smooth, levels.detach(), at.detach(), slope),
    alt="The loss along one number. With rounding it has only four values, flat steps; "
    "without rounding a smooth curve runs through them. The straight-through slope is "
    "the slope of the smooth curve at a level.",
)

# %% [markdown]
# The straight-through gradient is the slope of the *smooth* curve, taken at the level where the rounding has put you. It tells where
# the loss would go in a world without rounding. The real loss only knows four levels. So the lie is useful when the slope points
# to the better of the two neighbouring levels. Test it on 160 random numbers of random pictures, each put on an inner level. How
# often is the slope right?

# %%
predict(
    "01-straight",
    "How often does the slope point to the better neighbouring level?",
    answer=None,
    low=0,
    high=100,
    unit="%",
)

# %%
rng = torch.Generator().manual_seed(SEED)
tests = 160
rows = torch.arange(tests)
inked = (codes[:tests] != PAPER).float()
cells = torch.multinomial(inked, 1, generator=rng)[:, 0]  # a cell that is not paper
numbers = torch.randint(5, (tests,), generator=rng)
# -1/3 or 1/3: a neighbour on each side
inner_level = torch.randint(1, 3, (tests,), generator=rng) * 2 / 3 - 1


def slopes_right(model):
    """How often the slope points to the better neighbour, and going there pays."""
    vectors = model.quantised(images[:tests]).detach()

    def losses(shift):
        moved = vectors.clone()
        moved[rows, cells, numbers] = inner_level + shift
        return (model.paint(moved) - plain[:tests]).square().sum((1, 2, 3))

    shift = torch.zeros(tests, requires_grad=True)
    here = losses(shift)
    (slope,) = torch.autograd.grad(here.sum(), shift)
    with torch.no_grad():
        up, down = losses(2 / 3), losses(-2 / 3)
    better = torch.where(slope > 0, down, up) < here.detach()
    return int(((slope > 0) == (up > down)).sum()), int(better.sum())


# a smaller tokenizer, not trained at all; you train it in section 8
small = TokenizerConfig(encoder=64, wide=32, fine=24)
torch.manual_seed(SEED)
untrained = PictogramTokenizer(small)
for name, model in (("untrained:", untrained), ("shipped:", tokenizer)):
    hits, gains = slopes_right(model)
    right, pays = 100 * hits / tests, 100 * gains / tests
    print(f"{name:10} the slope is right {right:.0f} %, going there pays {pays:.0f} %")
reveal("01-straight", round(100 * hits / tests))

# %% [markdown]
# The lie is hardly one. The decoder is a smooth network, so between two levels nothing wild happens, and the slope of the smooth world is
# a good guide in the real one. Where going there does not pay, staying is best: then the number sits on its best level already.
#
# ## 5 How much do 64 codes say?
#
# A code has room for $\log_2 1024 = 10$ bits. How much of that room is used? The **entropy** of the codes is the number of
# bits that an ideal short-hand needs on average for one token:
#
# $$ H = -\sum_c p_c \log_2 p_c , $$
#
# where $p_c$ is the share of tokens that hold code $c$. If all 1,024 were equally common, $H$ would be 10; if only one
# were ever used, 0.

# %%
predict(
    "01-bits",
    "How many bits does one token carry on average?",
    answer=None,
    low=0.0,
    high=10.0,
    unit="bits",
)


# %%
def bits_per_token(codes):
    """Entropy of the codes in a tensor, in bits."""
    share = torch.bincount(codes.flatten(), minlength=1024).double() / codes.numel()
    return max(0.0, float(-(share[share > 0] * share[share > 0].log2()).sum()))


def png_bits(image):
    """Size of a picture as a PNG file, in bits."""
    file, pixels = io.BytesIO(), (image * 255).round().byte().permute(1, 2, 0)
    Image.fromarray(pixels.numpy()).save(file, "PNG", optimize=True)
    return 8 * file.tell()


bits = bits_per_token(codes)
share = torch.bincount(codes.flatten(), minlength=1024) / codes.numel()
used, most = int((share > 0).sum()), 100 * share.max()
print(f"{used} codes are used; {most:.0f} % of all tokens are paper")
reveal("01-bits", round(bits, 2))

things = 2.5  # on average: one to four, equally often
thing_bits = math.log2(len(CLASSES) * len(COLORS) * len(SPOTS))
scene_bits = 2 + things * thing_bits + math.log2(TINTS)  # an upper bound
ladder = [
    ("raw pixels", 8 * values),
    ("PNG file", np.mean([png_bits(i) for i in images[:32]])),
    ("64 codes", 64 * 10),
    ("in short-hand", 64 * bits),
    ("the scene", scene_bits),
]
show(
    figures.usage(share, ladder),
    alt="Left: the share of a code against its rank falls steeply after plain paper. "
    "Right: bits per picture, from raw pixels over a PNG file, 64 codes and their "
    "short-hand down to the scene itself.",
)

# %% [markdown]
# The right half writes down the same picture in five ways. The last is the scene itself: which things, in which colours, at which of the
# 36 places, on which tint. Tokens stand in the middle, far below pixels and well above meaning.
#
# The short-hand counts each token as if it were alone. But who sees the left half of a cat knows much about the right half. The
# distance between the last two bars is what a generator has to learn: **which codes go together**.
#
# ### Too few codes, on purpose
#
# Are 1,024 codes enough? Every thing covers 3×3 cells, so 20 classes in 8 colours make 20·8·9 patches.

# %%


def at_place(x, y):
    """Scenes with one thing alone at (x, y): all 160 things."""
    return [Scene((Thing(cls, color, x, y),)) for cls in CLASSES for color in COLORS]


def in_patches(images):
    """The 3x3 patches of the things at (16, 16), [1440, 192]."""
    cut = images[:, :, 16:40, 16:40].unfold(2, 8, 8).unfold(3, 8, 8)
    return cut.permute(0, 2, 3, 1, 4, 5).reshape(-1, 192)


sprites = at_place(16, 16)
sheets = render_batch(sprites)  # [160, 3, 64, 64]
patches = in_patches(sheets)
distinct = len(torch.unique((patches * 255).round(), dim=0))
sprite_codes = tokenizer.encode(sheets).view(-1, 8, 8)[:, 2:5, 2:5].reshape(-1, 9)
in_use, unlike = len(sprite_codes.unique()), len(torch.unique(sprite_codes, dim=0))
needed = math.log2(distinct)
print(f"{distinct} patches (log2 = {needed:.1f} bits) share {in_use} codes;")
print(f"{unlike} of {len(sprites)} things differ in their nine codes from all others")
for name, levels_of in {
    "2 levels, 5 digits": [2] * 5,
    "4 levels, 3 digits": [4] * 3,
    "4 levels, 5 digits (ours)": [4] * 5,
    "8, 5, 5, 5 (FSQ paper)": [8, 5, 5, 5],
    "2 levels, 13 digits (Show-o)": [2] * 13,
}.items():
    size = math.prod(levels_of)
    room = f"{name:30} {size:5,} codes {math.log2(size):5.1f} bits"
    print(f"{room} {distinct / size:6.1f} patches a code")

# %% [markdown]
# Several different patches share each code that is in use. And yet the pictures come back. How? Suppose the decoder were
# a plain table: for each code one fixed 8×8 picture, the mean of all patches that have this code. That is how
# codebooks worked before neural networks. What would its PSNR be?

# %%
predict(
    "01-table",
    "PSNR of a table with one fixed patch for each code?",
    answer=None,
    low=15,
    high=35,
    unit="dB",
)

# %%
more, _, _ = batch_of_drawings(np.random.default_rng([SEED, 2]), 512)
known, cut = tokenizer.encode(more).flatten(), tokenizer.patches(more).flatten(0, 1)
count = torch.bincount(known, minlength=1024).clamp(min=1)[:, None]
# the mean patch of each code
table = torch.zeros(1024, 192).index_add_(0, known, cut) / count


def paste(codes):
    """Pictures from codes by the table alone."""
    tiles = table[codes].view(-1, 8, 8, 3, 8, 8)  # [B, row, column, colour, y, x]
    return tiles.permute(0, 3, 1, 4, 2, 5).reshape(-1, 3, 64, 64)


table_psnr = float(-10 * (paste(codes) - images).square().mean().log10())
some = drawings[[0, 3, 4]]
both = torch.stack([paste(tokenizer.encode(some)), rebuild(some)], dim=1)
show_images(
    both.flatten(0, 1),
    ["table", "decoder"] * 3,
    columns=6,
    alt="Three pictures painted by the table and by the decoder from the same codes. "
    "The table mixes in pieces of other things.",
)
reveal("01-table", round(table_psnr, 1))
print(f"The decoder: {psnr:.1f} dB from the same codes.")

# %% [markdown]
# The codes are the same; the decoder is what differs. It looks at the **neighbours**. Here is the code that the most patches share,
# in eight of its places. The table can only show their mean.

# %%
flat_codes = sprite_codes.flatten()
inked = (flat_codes != PAPER) & (patches.std(1) > 0.05)
often = torch.bincount(flat_codes[inked], minlength=1024).argmax()
where = (flat_codes == often).nonzero()[:, 0]
where = where[torch.linspace(0, len(where) - 1, 8).long()]
here = [sprites[i // 9].things[0] for i in where.tolist()]
names = [f"{thing.color} {thing.cls}" for thing in here]
painted = in_patches(rebuild(sheets))
trio = torch.cat([patches[where], painted[where], table[often].expand(len(where), -1)])
show_images(
    trio.view(-1, 3, 8, 8),
    names + ["decoder"] * len(where) + ["table"] * len(where),
    columns=len(where),
    tile=0.93,
    alt=f"One code, {int(often)}, in {len(where)} places. Above the true patches, in "
    "the middle what the decoder paints there, which differs from place to place, "
    "below the table's mean.",
)

# %% [markdown]
# Colour and kind of thing are not in this code alone, and of the shape only this: ink on the left, paper on the right. The meaning
# sits in the *constellation*. Keep that in mind for later notebooks: a half-drawn picture is blurred not only because codes are
# missing. The codes that are there also lack the neighbours that explain them.
#
# ## 6 Edit a picture by hand
#
# The encoder is **strictly local**: a code depends on its own 8×8 pixels and on nothing else. Test it: paint one patch
# blue, in each of the 64 cells in turn, and count the other cells whose code changes.

# %%
leaks = 0
for cell in range(64):
    y, x = cell // 8 * 8, cell % 8 * 8
    changed = images[:8].clone()
    changed[:, :, y : y + 8, x : x + 8] = torch.tensor([0.1, 0.3, 0.9]).view(3, 1, 1)
    different = tokenizer.encode(changed) != codes[:8]
    different[:, cell] = False
    leaks += int(different.sum())
print(f"other codes that changed, in {64 * 8} tests of 63 cells each: {leaks}")

# %% [markdown]
# That makes pictures editable like text. A thing is a 3×3 block of codes. Copy the red dog's block to another place, put paper where it was,
# and decode. Then draw the same dog at the new place and encode that. How many of the nine codes agree?

# %%
predict(
    "01-moved",
    "Copied codes and codes of a dog drawn there: how many of the nine agree?",
    answer=None,
    low=0,
    high=9,
)

# %%
cup, dog, moved_dog = (
    Thing("cup", "blue", 40, 0),
    Thing("dog", "red", 0, 8),
    Thing("dog", "red", 24, 40),
)
start, goal = render_batch([Scene((dog, cup)), Scene((moved_dog, cup))])
grid = tokenizer.encode(start[None]).view(8, 8)
moved = grid.clone()
moved[1:4, 0:3] = PAPER
moved[5:8, 3:6] = grid[1:4, 0:3]
truth = tokenizer.encode(goal[None]).view(8, 8)
with torch.no_grad():
    show_images(
        torch.cat([start[None], tokenizer.decode(moved.view(1, 64)), goal[None]]),
        ["drawing", "its codes, moved", "drawn there"],
        tile=1.6,
        alt="A red dog and a blue cup; the dog's nine codes moved to the lower right, "
        "decoded; the same dog drawn there.",
    )
reveal("01-moved", int((moved == truth)[5:8, 3:6].sum()))


def block(x, y):
    """Codes [160, 9] of every thing at one place."""
    grids = tokenizer.encode(render_batch(at_place(x, y))).view(-1, 8, 8)
    return grids[:, y // 8 : y // 8 + 3, x // 8 : x // 8 + 3].flatten(1)


portable = float((block(0, 0) == block(40, 40)).float().mean())
agree = f"{100 * portable:.1f} % of the codes agree"
print(f"all 160 things, top left against bottom right: {agree}")

# %% [markdown]
# Why not all? The paper is a trace darker at the bottom, and a number that lies close to the border between two
# levels can tip over. Apart from that, a thing's place is gone from its codes. For a generator, a red dog in one corner is the same word
# as a red dog in any other.
#
# Now smaller surgery. Take an orange cat, and take single codes from a *blue* cat at the same place. If you give it only the blue
# cat's ear, does the ear turn blue? More generally: where is the colour of a cell stored, in its own code or in those around it?

# %%
predict(
    "01-ear",
    "Where is most of a cell's colour stored?",
    answer=None,
    choices=["in its own code", "in its neighbours"],
)

# %%
cats = [Scene((Thing("cat", color, 16, 16),)) for color in ("orange", "blue")]
orange, blue = tokenizer.encode(render_batch(cats))
ear, belly = 2 * 8 + 3, 3 * 8 + 3
edits = torch.stack([orange, orange, orange, blue, blue])
edits[1, ear], edits[2, belly], edits[3, ear] = blue[ear], blue[belly], orange[ear]
with torch.no_grad():
    show_images(
        tokenizer.decode(edits)[:, :, 8:48, 8:48],
        [
            "orange cat",
            f"ear {orange[ear]} → {blue[ear]}",
            f"belly {orange[belly]} → {blue[belly]}",
            f"blue cat, ear {orange[ear]}",
            "blue cat",
        ],
        tile=1.5,
        columns=5,
        alt="An orange cat; with a blue cat's ear code, which turns the head pink and "
        "not blue; with a blue cat's belly code, which turns nearly all of it purple; "
        "a blue cat with the orange cat's ear code, whose head turns darker and not "
        "orange; a blue cat.",
    )

every = tokenizer.encode(sheets).view(len(CLASSES), len(COLORS), 64)
n = 120
kind = torch.randint(len(CLASSES), (n,), generator=rng)
first = torch.randint(len(COLORS), (n,), generator=rng)
second = (first + torch.randint(1, len(COLORS), (n,), generator=rng)) % len(COLORS)
a, b, rows = every[kind, first], every[kind, second], torch.arange(n)
cells = torch.multinomial((a != PAPER).float(), 1, generator=rng)[:, 0]
own, others = a.clone(), b.clone()
own[rows, cells] = b[rows, cells]  # only this cell changes
others[rows, cells] = a[rows, cells]  # all but this cell change


def pixels(codes):
    """The pixels [n, 3, 8, 8] that are painted for the chosen cell of each picture."""
    with torch.no_grad():
        tiles = tokenizer.decode(codes).unfold(2, 8, 8).unfold(3, 8, 8)
    return tiles.flatten(2, 3)[rows, :, cells]  # of [n, 3, 64, 8, 8]


way, far = pixels(b) - pixels(a), {}
for name, edited in (("in its own code", own), ("in its neighbours", others)):
    gone = pixels(edited) - pixels(a)
    far[name] = float((gone * way).sum() / way.square().sum())
    part = f"{100 * far[name]:.0f} %"
    print(f"change {name:17}: the cell goes {part} of the way to the other colour")
reveal("01-ear", max(far, key=far.get))

# %% [markdown]
# The ear's colour is stored mostly outside the ear. One code among nine is outvoted, and some, like the belly's, speak for the whole
# thing. Nobody designed that. One reading: eight colours of an ear would cost eight codes, while the decoder can read the colour next
# door, so training spends the ear's code on something else.
#
# The other side of it: a code's effect is not confined to its cell. Replace one code by that of another
# thing and look at *all* pixels that change.

# %%
predict(
    "01-spread",
    "What share of the change (squared) lies inside the code's own 8×8 pixels?",
    answer=None,
    low=0,
    high=100,
    unit="%",
)

# %%
rows = torch.arange(256)
cells = torch.randint(64, (256,), generator=rng)
pool = codes[codes != PAPER]
edited = codes.clone()
edited[rows, cells] = pool[torch.randint(len(pool), (256,), generator=rng)]
with torch.no_grad():
    squares = (tokenizer.decode(edited) - rebuilt).square().sum(1)
change = squares.view(256, 8, 8, 8, 8).sum((2, 4))  # [256, 8, 8]: by cell
steps = torch.arange(8)
dy = (steps[None, :] - cells[:, None] // 8).abs()[:, :, None]
dx = (steps[None, :] - cells[:, None] % 8).abs()[:, None, :]
ring = torch.maximum(dy, dx)  # [256, 8, 8]: distance in cells
by_ring = torch.stack([change[ring == r].sum() for r in range(8)]) / change.sum()
show(
    figures.rings(by_ring),
    alt="Share of the change by distance: less than half lies in the changed cell, "
    "most of the rest within two cells of it.",
)
reveal("01-spread", round(100 * float(by_ring[0])))

# %% [markdown]
# Local in, wide out: the encoder looks at one patch, the decoder at all codes around.
#
# Try it. The figure shows the codes to start from, the widget below lets you change them: pick a cell, turn its five digits.
# Can you give the cat a second tail? A green one?

# %%
show(
    code_grid(tokenizer.decode(orange[None])[0], orange, mark=belly, tile=3.2),
    alt="The orange cat, and its codes; the cell of the belly is framed. All cells "
    "outside its 3 by 3 block are paper.",
)
code_editor(tokenizer, orange)

# %% [markdown]
# ## 7 What a digit means
#
# You may have seen in the editor that a digit does something similar in every cell. Here you turn one digit at a time, in all cells of
# the cat that are not paper.

# %%
cells = (orange != PAPER).nonzero()[:, 0]
turned = []
for digit in range(5):
    for level in range(4):
        digits = unpack(orange.clone())
        digits[cells, digit] = level
        turned.append(pack(digits))
with torch.no_grad():
    sheet = tokenizer.decode(torch.stack(turned))[:, :, 12:44, 12:44]
order = [digit * 4 + level for level in range(4) for digit in range(5)]
show_images(
    sheet[order],
    [f"digit {i % 5 + 1} = {i // 5}" for i in range(20)],
    columns=5,
    tile=1.15,
    alt="Twenty versions of the cat: each column turns one of the five digits through "
    "its four levels, in all cells.",
)

# %% [markdown]
# Each digit turns the colour in a direction of its own, and most eat at the shape when they go too far. No digit is "the colour", and none is "the
# shape"; nobody told the encoder to sort them. But do related patches at least *share* digits?
# Compare the same cell of two things, and count the digits that differ, in three kinds of pairs: same class in two
# colours; same colour, two classes; both different.

# %%
predict(
    "01-digits",
    "Which pairs share more digits?",
    answer=None,
    choices=["same class, other colour", "same colour, other class"],
)

# %%
digits = unpack(sprite_codes).view(len(CLASSES), len(COLORS), 9, 5)
# [class, class, color, color, digit]: share of the nine cells in which the digit differs
differ = (digits[:, None, :, None] != digits[None, :, None, :]).float().mean(4)
one_class, one_color = torch.eye(len(CLASSES)).bool(), torch.eye(len(COLORS)).bool()
groups = {
    "same class, other colour": differ[one_class][:, ~one_color].mean((0, 1)),
    "same colour, other class": differ[~one_class][:, one_color].mean((0, 1)),
    "both differ": differ[~one_class][:, ~one_color].mean((0, 1)),
}
show(
    figures.digit_differences(groups),
    alt="For each of the five digits, how often it differs: least in pairs of the same "
    "class, more in pairs of the same colour, most in pairs that share neither. Digit "
    "4 is the exception: it differs least in pairs of the same colour. Digits drawn "
    "blindly would differ in 75 % of the pairs.",
)
reveal("01-digits", min(list(groups)[:2], key=lambda name: float(groups[name].sum())))

# %% [markdown]
# Related patches share digits, although no term of the loss asks for it: a smooth network maps similar patches to similar numbers. The third bar
# is the fair comparison. It is below 75 % because all pairs compare the same cell of the box, and corners are often
# paper in both. One digit goes its own way, the fourth: it changes with the colour a little more often than with the class.
#
# The generator of the next notebook uses this. The vector that stands for a code is the sum of a vector of its own and one
# for each of its five digits. What it learns about "digit 2 is 3" then serves all 256 codes with that digit.
#
# ## 8 Train one yourself
#
# Enough of the finished one. You train a small tokenizer from nothing, with the same loss as the shipped one:
#
# $$ \ell = \frac{1}{M}\sum_{i=1}^{M} w_i \left(|\hat{x}_i - x_i| + (\hat{x}_i - x_i)^2\right), $$
#
# where $x_i$ now is the drawing *without tint*, and the weight $w_i$ is eleven times as large on and beside things as on paper. Without
# the weight the network would spend its first minutes on getting empty paper right.
#
# `train` is the loop that made all models of this course: it takes the average of the weights over the last steps, and
# lowers the learning rate towards the end. It usually stops by the clock. Here it counts steps, so that your
# result does not depend on your machine.


# %%
@dataclass
class CountedTrainer(Trainer):
    """A trainer whose budget is a number of steps instead of minutes."""

    total: int = 600

    @property
    def share(self):
        return self.steps / self.total


recipe = TokenizerRecipe()
pool = batch_of_drawings(np.random.default_rng([SEED, 3]), 768)


def fit(tokenizer, batch=16, lr=6e-3):
    """Trains a tokenizer on a pool of drawings; returns the loss of each step."""
    optimizer = torch.optim.AdamW(tokenizer.parameters(), lr, weight_decay=1e-4)
    budget = Budget(minutes=1, ema=0.98, save_every=math.inf)
    dice = torch.Generator().manual_seed(SEED)
    trainer = CountedTrainer(tokenizer, [optimizer], budget, Path("unused"), dice)

    def step(trainer):
        pick = torch.randint(len(pool[0]), (batch,), generator=trainer.generator)
        images, plain, near = (part[pick] for part in pool)
        weight = recipe.background + (recipe.foreground - recipe.background) * near
        difference = tokenizer.paint(tokenizer.quantised(images)) - plain
        loss = (weight * (difference.abs() + difference.square())).mean()
        trainer.log.append({"loss": loss.item()})
        return loss

    train(trainer, step, report=lambda trainer, loss: None)
    return [entry["loss"] for entry in trainer.log]


# %%
torch.manual_seed(SEED)
local = PictogramTokenizer(small)
with torch.no_grad():
    before = local.decode(local.encode(drawings))
local_losses = fit(local)  # some seconds
parameters = sum(p.numel() for p in local.parameters())
print(f"{parameters:,} parameters, {len(local_losses)} steps of 16 drawings")


@torch.no_grad()
def psnr_of(model, codes):
    """PSNR of the pictures that a model paints from its codes of `images`."""
    return float(-10 * (model.decode(codes) - images).square().mean().log10())


with torch.no_grad():
    after = local.decode(local.encode(drawings))
    local_codes = local.encode(images)
local_psnr = psnr_of(local, local_codes)
show(
    figures.loss_curve(local_losses),
    alt="The loss falls steeply in the first hundred steps, with a bump on the way, "
    "and slowly afterwards; logarithmic scale.",
)
show_images(
    before,
    "before",
    columns=5,
    alt="Before training: the decoder paints nearly the same dark noise five times.",
)
show_images(
    after,
    "after",
    columns=5,
    alt="After training: things of the right colours at the right places. Umbrella, "
    "boat and banana can be named; bicycle and elephant are blots.",
)
print(f"PSNR after some seconds of training: {local_psnr:.1f} dB")
print(f"the shipped tokenizer, after minutes: {psnr:.1f} dB")

# %% [markdown]
# ## 9 Why the encoder must not look around
#
# The textbook encoder for pictures is a stack of convolutions, whose outputs see far beyond their own patch. That seems wise: more
# context, better codes. So give your tokenizer the same advantage. The new class changes one thing: before the rounding, two 3×3 convolutions
# mix each patch with its neighbours, so that a code sees 5×5 patches.


# %%
class ContextTokenizer(PictogramTokenizer):
    """A PictogramTokenizer whose encoder looks at 5x5 patches instead of one."""

    def __init__(self, config):
        super().__init__(config)
        width = config.encoder
        self.mix = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, 5, 3, padding=1),
        )

    def quantised(self, images):
        """Pictures [B, 3, 64, 64] to quantised vectors [B, 64, 5]."""
        # [B, 64, width]: each patch by itself, as before
        hidden = self.encoder[:-1](self.patches(images) - 0.5)
        # [B, 5, 8, 8]: now with its neighbours
        mixed = self.mix(hidden.transpose(1, 2).unflatten(2, (8, 8)))
        return quantise(torch.tanh(mixed.flatten(2).transpose(1, 2)))


torch.manual_seed(SEED)
context = ContextTokenizer(small)
fit(context)
with torch.no_grad():
    context_codes = context.encode(images)
context_psnr = psnr_of(context, context_codes)
print(f"PSNR without context {local_psnr:.1f} dB, with context {context_psnr:.1f} dB")

# %% [markdown]
# Same steps, same drawings, about the same quality. If reconstruction were the goal, either would do.
#
# Now look only at cells that hold *nothing but paper*: no pixel of a thing in them. The local encoder can tell no
# more there than one shade of paper from another. How many bits does the one with context spend on a cell of empty paper?

# %%
predict(
    "01-background",
    "Bits per empty paper cell, encoder with context?",
    answer=None,
    low=0.0,
    high=10.0,
    unit="bits",
)

# %%
# [256, 64]: no thing in or beside the cell
empty = F.max_pool2d(near, 8)[:, 0].flatten(1) == 0
spent = {}
print(f"{'':8}  codes for empty paper  bits a cell  bits a picture")
for name, found in (("local", local_codes), ("context", context_codes)):
    spent[name] = bits_per_token(found[empty])
    whole, kinds = 64 * bits_per_token(found), len(found[empty].unique())
    print(f"{name:8}  {kinds:21}  {spent[name]:11.1f}  {whole:14.0f}")
reveal("01-background", round(spent["context"], 1))
three = drawings[[0, 2, 4]]
maps = [figures.code_map(model.encode(three)) for model in (local, context)]
show_images(
    torch.cat([three, *maps]),
    ["drawing"] * 3 + ["local codes"] * 3 + ["codes with context"] * 3,
    columns=3,
    tile=1.5,
    alt="Three drawings and their codes, each code in a colour of its own. Local: one "
    "or two colours for all paper. With context: a patchwork of colours around every "
    "thing, far out into the empty paper.",
)

# %% [markdown]
# Empty paper has become a patchwork. Every thing casts a shadow of codes on the paper around it: the encoder writes down what stands *next
# door*, because nothing in the loss forbids it and the decoder can use it. Even the border of the picture
# leaves stripes: there the convolutions see zeros instead of neighbours. Reconstruction does not mind any of this. Generation
# pays for it.
#
# The same leak spoils the things. Put a bus next to each of the 160 things, without touching its pixels. Which share of its nine
# codes stays as it was?

# %%
bus = Thing("bus", "red", 40, 16)
beside = render_batch([Scene((*scene.things, bus)) for scene in sprites])
stays = {}
print(f"{'codes that stay, %':20} {'left':>6} {'middle':>7}  right, beside the bus")
for name, model in (("local", local), ("context", context)):
    same = (model.encode(sheets) == model.encode(beside)).view(-1, 8, 8)
    stays[name] = same[:, 2:5, 2:5].float().mean((0, 1))  # [3]: by column
    left, middle, right = 100 * stays[name]
    print(f"{name:20} {left:6.0f} {middle:7.0f} {right:22.0f}")

# %% [markdown]
# With a local encoder a red dog is the same nine codes in every picture: a word that the generator can learn once. With context it is a
# different word in every sentence. The generator has to learn each thing again for every neighbourhood, and one wrong guess makes the codes of
# all neighbours inconsistent with it. The first tokenizer of this course had context, and its generator hardly learned. That is an
# anecdote, since other things changed as well; the bits above are the measurement.
#
# The rule behind it: **what a tokenizer hides in its codes, the generator has to guess.** Judge a tokenizer by how well
# its codes can be predicted, not by PSNR alone.
#
# ## 10 The published ones
#
# How do these numbers compare with tokenizers of published generators? Sizes are from the papers and their code; the last two numbers are computed:
# the bits that a picture's codes have room for, and the colour values that share one bit. A number as source is arXiv's.

# %%
published = [  # name, picture side, cells per side, codes, kind, source
    ("this notebook", 64, 8, 1024, "FSQ, 5 digits", "cotlib"),
    ("Show-o 256 px", 256, 16, 2**13, "LFQ, 13 bits", "2408.12528"),
    ("Show-o 512 px", 512, 32, 2**13, "LFQ, 13 bits", "2408.12528"),
    ("LlamaGen 256 px", 256, 16, 2**14, "VQ, vectors of 8", "2406.06525"),
    ("Janus-Pro 384 px", 384, 24, 2**14, "VQ, vectors of 8", "2501.17811"),
]
print(f"{'':16} tokens  codes  {'kind':16}   bits values/bit  source")
for name, side, across, size, kind, source in published:
    room = across**2 * math.log2(size)
    codes_of = f"{name:16} {across**2:6,} {size:6,}  {kind:16} {room:6,.0f}"
    print(f"{codes_of} {3 * side**2 / room:10.0f}  {source}")

# %% [markdown]
# Mind two differences. The published ones compress about three times harder, and they do it to photographs. Their encoders **do** look
# around: deep convolutional networks, with attention at the coarsest scale. Photographs leave little choice, since hardly any patch ever
# repeats; and their generators have hundreds of millions to billions of parameters, and millions of pictures, to learn such codes. A
# strictly local encoder is a privilege of a small world, and one reason why all this trains on a laptop.
#
# Also, the FSQ paper recommends at least five levels per digit. Four were chosen here because a digit then is
# exactly two bits, which is easy to read and to share; nothing in this notebook shows that four is better.
#
# ## 11 What to take along
#
# - A tokenizer turns a picture into a short sequence over a fixed set of codes. Quantisation is just rounding; the straight-through gradient
#   makes it trainable.
# - Most of a code's 10 bits are not used. Paper takes most of the cells, and the rest is for a generator to learn.
# - The decoder reads constellations: a table with the same codes is far worse. A code's pixels depend on its neighbours.
# - The encoder must not do the same. Context in the codes bought no quality here, and made them much harder to predict.
#
# **To go on:** halve `encoder` or `wide` in `small` (section 4) and watch PSNR and bits. Or weigh paper like things
# (`TokenizerRecipe(background=3.3)`) and look at the pictures after 100 steps. The next notebook draws pictures from these tokens.

# %%
score("01")

# %%
# NBVAL_CHECK_OUTPUT
gap = groups["both differ"].sum() - groups["same class, other colour"].sum()
hit_low, hit_high = wilson(hits, tests)
picks = torch.randint(256, (100, 256), generator=rng)
resampled = [bits_per_token(codes[pick]) for pick in picks]
bits_low, bits_high = np.percentile(resampled, (2.5, 97.5))
rows = [
    ("held-out drawings come back at 34 dB or better",
     (psnr, psnr_low, psnr_high), 34, ">="),
    ("codes that blank paper uses in five tints", (len(paper_codes),), 1, "<="),
    ("encoder gradient when rounding is not passed through", (flat[0],), 0, "<="),
    ("share of tests in which the straight-through slope is right",
     (hits / tests, hit_low, hit_high), 0.8, ">="),
    ("bits that a token carries, of its 10", (bits, bits_low, bits_high), 4, "<="),
    ("different patches for each code in use", (distinct / in_use,), 3, ">="),
    ("dB that a decoder with context gains over a table of patches",
     (psnr - table_psnr,), 8, ">="),
    ("codes that change outside a changed patch", (leaks,), 0, "<="),
    ("share of codes that agree when a thing is drawn elsewhere",
     (portable,), 0.95, ">="),
    ("how far the codes around a cell take its colour, own code kept",
     (far["in its neighbours"],), 0.5, ">="),
    ("share of a code's effect inside its own pixels", (float(by_ring[0]),), 0.7, "<="),
    ("digits that two colours of a thing share beyond unrelated things",
     (float(gap),), 0.7, ">="),
    ("PSNR in dB of the tokenizer trained here", (local_psnr,), 20, ">="),
    ("bits that context adds to a cell of empty paper",
     (spent["context"] - spent["local"],), 1.5, ">="),
    ("share of codes beside the bus that stay, local encoder",
     (float(stays["local"][2]),), 1, ">="),
    ("the same with context in the encoder", (float(stays["context"][2]),), 0.7, "<="),
]  # fmt: skip
claims([Claim(name, *v, threshold=at, direction=to) for name, v, at, to in rows])
