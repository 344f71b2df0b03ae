# %% [markdown]
# # 11 Published models: the same search on real weights
#
# <!-- badges -->
#
# Ten notebooks of pictograms: does any of it carry over to models that draw photographs? The code does, unchanged, and that is worth seeing. What is new at that size are three ways to lose an evening: a checkpoint that is read wrongly, an answer
# that is read wrongly, and a run that does not fit or takes ten times as long as you thought.
#
# After this notebook you can
#
# - open a published checkpoint and say what lies in it, under which names, and what a loader has to refuse;
# - lay out Show-o's sequence, draw its mask, and say which savings are exact;
# - turn a picture into codes of 13 bits and back;
# - read P(yes) from a language model in two ways, and say what the released one throws away;
# - run PARM on a prompt of your own, and know beforehand whether it fits your card and who takes the time.
#
# <!-- facts -->
#
# It needs nothing from the earlier notebooks but their words; PARM is from [06](06_parm.ipynb), masked rounds are from [02](02_token_generation.ipynb); the rest is in the [glossary](00_welcome.ipynb#Glossary). With the
# published weights and a GPU it runs on them. Without, the same cells run on **tiny random checkpoints in the same formats**, made on the spot; where it matters, a line above the figure says so.

# %% tags=["setup"]

# %%
import json
import os
import textwrap

import numpy as np
import torch

from cotlib.devices import pick_device
from cotlib.errors import UserError
from cotlib.interfaces import CLARITY, FINAL, POTENTIAL
from cotlib.lab import Claim, check, claims, predict, reveal, score, show
from cotlib.lab.published import Watcher, candidates_of, open_cast
from cotlib.lab.published_figures import (
    bits_figure,
    board_figure,
    mask_figure,
    memory_figure,
    readings_figure,
    sequence_figure,
    work_figure,
)
from cotlib.lab.published_widgets import planner_slider
from cotlib.models.published.memory import Crew, advice, phases, plan
from cotlib.models.published.sizes import LLAVA_7B, SHOWO_256, SHOWO_512
from cotlib.search import Ledger, orm, parm

SHOWO = os.environ.get("COTLIB_SHOWO", "")  # @param {type:"string"}
VERIFIER = os.environ.get("COTLIB_VERIFIER", "")  # @param {type:"string"}
QUESTIONS = os.environ.get("COTLIB_QUESTIONS", "")  # @param {type:"string"}
FOUR_BIT = bool(os.environ.get("COTLIB_FOUR_BIT", ""))  # @param {type:"boolean"}
PROMPT = "a photo of a red dog left of a couch"  # @param {type:"string"}
SEED, DEVICE = 0, pick_device()

cast = open_cast(SHOWO, VERIFIER, QUESTIONS, device=DEVICE, four_bit=FOUR_BIT)
model, verifier, note = cast.model, cast.verifier, cast.note
print(note.strip() or "Published weights.")
print(f"generator {cast.folders[0].name}, verifier {cast.folders[1].name}")


def say(text, begin=""):
    """Prints a long line folded, with `begin` before it."""
    whole = {"break_long_words": False, "break_on_hyphens": False}
    print(textwrap.fill(text, 78, initial_indent=begin, subsequent_indent=len(begin) * " ", **whole))


# %% [markdown]
# Four names at the top decide what you look at: a folder or hub id of Show-o, one of LLaVA-OneVision, a file with the verifier's questions, and whether the verifier
# is packed into four bits. Set them as environment variables before Jupyter starts, or write them into the cell. Left empty, both models are made here: the right
# files, names, fields and token counts, some 8 million random numbers instead of 9.5 billion. What such a model draws is noise, and what it answers means
# nothing. What you can learn from it is everything else.
#
# ## 1 What changes, and what does not
#
# This course has two **interfaces** that matter, lists of what a part can be asked, whatever is inside: an `ImageTokenModel` turns a prompt and codes into logits over codes, and codes into a picture; a `Verifier` turns a question,
# a prompt and a picture into P(yes). Everything you have met works on these two, the loop over steps, best-of-N, PARM, the ledger. So nothing of it is written again here:

# %%
from cotlib import load
from cotlib.world.prompts import VOCAB

ours, our_verifier = load("generator"), load("verifier", weights="parm")


def numbers(module):
    return sum(p.numel() for p in module.parameters())


million = 1e6
rows = [
    ("tokens a picture", ours.grid[0] * ours.grid[1], model.tokens),
    ("codes", ours.codebook_size, model.codebook_size),
    ("pixels", "64 x 64", "{0} x {0}".format(model.grid[0] * 16)),
    ("steps by default", ours.config.steps, model.config.steps),
    ("guidance by default", ours.config.guidance, model.config.guidance),
    ("words it can read", f"{len(VOCAB):,}", f"{len(model.words):,}"),
    ("generator, parameters", f"{(numbers(ours) - numbers(ours.tokenizer)) / million:.1f} M",
     f"{SHOWO_256.parameters() / million:,.0f} M"),
    ("verifier, parameters", f"{numbers(our_verifier) / million:.1f} M",
     f"{LLAVA_7B.parameters() / million:,.0f} M"),
]  # fmt: skip
print(f"{'':24}{'pictograms':>14}{'published':>14}")
for what, small, large in rows:
    print(f"{what:24}{small!s:>14}{large!s:>14}")
print(f"\nthe verifier's questions: {', '.join(verifier.questions)}")
print(f"clear from P(yes) {verifier.thresholds[0]} on, promising from {verifier.thresholds[1]} on")

# %% [markdown]
# The right column is of the published models, also where the tiny ones stand in. What changes is the scale, a thousandfold and more, and with it *where the difficulty is*: the search is the same, but a wrong mask or
# a misread answer no longer shows in a picture at once. So the rest of this notebook is about **formats, readings, costs**.
#
# ## 2 A folder of weights
#
# A checkpoint is a folder: a `config.json` with sizes, and tensors with names. Look at the two.

# %%
from cotlib.models.published.files import open_weights

for folder in cast.folders:
    weights, said = open_weights(folder), json.loads((folder / "config.json").read_text())
    print(f"{folder.name}: {', '.join(sorted({file.name for file in weights.files.values()}))}")
    keys = ("_class_name", "architectures", "num_vq_tokens", "vocab_size", "mask_token_id",
            "mm_projector_type", "mm_vision_tower", "hidden_size")  # fmt: skip
    say(", ".join(f"{key} {said[key]}" for key in keys if key in said), "config.json: ")
    names = sorted(weights.shapes)
    print(f"{len(names)} tensors, for example")
    for name in [*names[1 :: max(1, len(names) // 5)]][:5]:
        say(f"{name}  {list(weights.shapes[name])}", " ")

# %% [markdown]
# Three habits of the loaders in `cotlib.models.published`, all of which you would want in your own:
#
# - **No pickles.** A `.bin` file can run code when it is opened. Safetensors are read as they are; of a `.bin` only plain tensors are accepted.
# - **Names first.** The model is built without memory, its names and shapes are compared with the files', and only then is anything read. A wrong folder is refused in a second.
# - **One tensor at a time.** So loading needs the model and one tensor, not the model and the files.
#
# A refusal is one sentence: what was found, what was expected, what to do. Two mistakes that happen:

# %%
from cotlib.models.published.magvit import Magvit
from cotlib.models.published.showo import Showo


def refused(load_it):
    """Prints why a folder is not taken."""
    try:
        load_it()
    except UserError as error:
        say(str(error).replace(f"{cast.folders[0].parent}{os.sep}", ""), "- ")


refused(lambda: Showo.from_pretrained(cast.folders[1]))
refused(lambda: Magvit.from_pretrained(cast.folders[0]))

# %% [markdown]
# ### The same tensors under other names
#
# Show-o's transformer *is* Phi-1.5 with normalised queries and keys: without the prefix `showo.` its names are those of transformers' `PhiForCausalLM`, and so are its numbers. The image tokenizer keeps its own names. The verifier is the
# interesting case. The paper's verifiers are saved in the format of LLaVA-NeXT, the code they were trained with. The model that computes here is `LlavaOnevisionForConditionalGeneration` of transformers 5. Both hold the
# same tensors, and a name in the file becomes a name in the model by five rules:
#
# - `model.embed_tokens.*`, `model.layers.*`, `model.norm.*` → `model.language_model.` and the same;
# - `model.mm_projector.0.*` → `model.multi_modal_projector.linear_1.*`;
# - `model.mm_projector.2.*` → `model.multi_modal_projector.linear_2.*`;
# - `model.vision_tower.vision_tower.vision_model.*` → `model.vision_tower.*`;
# - `model.image_newline`, `lm_head.weight` → the same.
#
# ### Exercise: map a name · difficulty 1 of 5 · 5 minutes


# %%
def my_transformers_name(name):
    """The name that a tensor of a LLaVA-NeXT file has in transformers 5."""
    ...  # which rule fits the beginning of the name?


check("transformers_name", my_transformers_name)
# solution("transformers_name")

# %% [markdown]
# Does it fit? Every name of the file, mapped, must be a name of the model, and no two may meet.

# %%
from cotlib.models.published.llava_files import transformers_name

mapped = {transformers_name(name) for name in open_weights(cast.folders[1]).shapes}
wanted = set(verifier.model.state_dict())
both = len(mapped & wanted)
print(f"{len(mapped)} names in the files, {len(wanted)} in the model, {both} in both")

# %% [markdown]
# ## 3 The sequence
#
# One row of numbers goes into Show-o: text first, then the picture.

# %%
text = model.text_ids(PROMPT)
print("text:", text)
show(
    sequence_figure(model, PROMPT),
    alt=f"A bar of {129 + model.tokens + 2} places. The first 129 are for the text and filled from "
    f"the right: {129 - len(text)} pads, then {len(text)} tokens of text with their marks; then "
    f"soi, {model.tokens} image tokens, here all masked, and eoi. Below, enlarged, the tokens "
    "around the border with their ids; a dot stands for the blank before a word.",
)

# %% [markdown]
# - **Pads on the left.** All prompts end just before place 129, so the picture always begins there.
# - **One vocabulary.** Text takes ids 0 to 50,294, Show-o's ten own marks follow, then 8,192 image codes from 50,305 on, and the mask is the last, 58,497. Predicting an image token *is* predicting a word.
# - **The marks**: `soi` and `eoi`, start and end of the image, frame the picture; `t2i`, text to image, says what is asked for; `bos` and `eos`, beginning and end of the text, are one and the same token in Phi.
#
# ### Who sees whom
#
# Text is **causal**: each token sees itself and what comes before, as in any language model. The picture's places see everything that is no pad, in both directions; else a masked token could not be guessed from its right neighbour. Show-o calls it
# *omni-attention*.

# %%
predict(
    "11-mask",
    "Of all pairs of places in the whole sequence of this prompt, pads included: in how many per "
    "cent may the first look at the second?",
    low=0,
    high=100,
    unit="%",
)

# %%
codes = torch.full((1, model.tokens), model.mask_id, device=model.device)
ids = model.sequence([PROMPT], codes)
mask = model.full_mask(ids)[0, 0]
pads = 129 - len(text)
show(
    mask_figure(mask, pads=pads),
    alt=f"Rows look at columns, blue means may see. The {len(text)} rows of text form a small "
    "triangle; the picture's rows are one full block over text and picture; nobody but a pad sees "
    "a pad. Right: the border in large, a staircase above, a full block below.",
)
reveal("11-mask", round(100 * mask.float().mean().item()))

# %% [markdown]
# ### Exercise: the omni mask · difficulty 3 of 5 · 15 minutes
#
# Input: ids [B, L], the ids of pad and soi. Output: bool [B, 1, L, L], True where the row's place may see the column's. Before soi: itself and what comes earlier, but no pad; a pad sees earlier pads and
# itself (a row without anything to see would make the softmax 0/0). From soi on: every place that is no pad.


# %%
def my_omni_mask(ids, pad, soi):
    """Who sees whom: bool [B, 1, L, L]."""
    ...  # compare places, find the picture, leave out pads


check("omni_mask", my_omni_mask)
# solution("omni_mask")

# %% [markdown]
# ### What the mask allows to leave out
#
# Read it again, now as somebody who pays. **Text never sees the picture.** So its keys and values are the same in every step and for every candidate: computed once, kept. **Nobody but a pad sees a pad.** So pads need not be there at all, if positions are counted as if they were.
# **Only image codes may come out**, and only where a token is still masked. So the head, a matrix with 58,498 rows, runs with 8,192 of them, at the masked places.
#
# All of it is exact. Check: the plain way (everything runs, pads, both prompts, the whole head) against the lean one, guidance included.

# %%
known = torch.arange(0, model.tokens, 3, device=model.device)  # every third token
some = codes.clone()
some[:, known] = known * 31 % model.codebook_size
rows_masked = some == model.mask_id
lean = model.logits(model.prefix([PROMPT]), some, rows_masked)
w, offset = model.config.guidance, model.config.offset
plain = []
for prompt in (PROMPT, ""):
    ids = model.sequence([prompt], some)
    with torch.no_grad():
        logits = model.full_logits(ids, model.full_mask(ids)).float()
    plain.append(logits[:, 130:-1, offset : offset + model.codebook_size][rows_masked])
guided = (1 + w) * plain[0] - w * plain[1]
gap = ((lean - guided).abs().max() / guided.std()).item()
print(f"largest difference of {lean.numel():,} logits: {gap:.1e} of their standard deviation")
print("\nTFLOP of one path in one step, counted:   plain   without pads   lean")
for name, size in (("Show-o 256", SHOWO_256), ("Show-o 512", SHOWO_512)):
    length = 20 + size.run  # text and picture
    no_pads = 2 * length * (size.token_flops(length) + 2 * size.width * size.layout.entries)
    lean_step = size.step_flops(20, size.layout.tokens / 2)  # half of the tokens masked
    print(f"{name:40}{size.released_step_flops() / 1e12:8.2f}{no_pads / 1e12:15.2f}{lean_step / 1e12:7.2f}")
released, step = SHOWO_256.released_step_flops(), SHOWO_256.step_flops(20, 128)

# %% [markdown]
# The difference is rounding (with half precision more of it). The saving is not dramatic, since a picture is far longer than its prompt: what costs most, the picture's own places, cannot be left out. Most of what is saved at 256 pixels are the pads; the famous cache, the text's keys and values kept, adds little here. The larger
# the picture, the smaller both.
#
# ## 4 Image tokens: thirteen signs
#
# The tokenizer of notebook 01 rounds five numbers to four levels each. MAGVIT-v2 is even simpler: an encoder makes **13 numbers** for each patch of 16 x 16 pixels, and of each only the *sign* is kept. Thirteen signs are a number between 0 and 8,191: the code.
# There is no codebook to look anything up in, hence **look-up-free quantisation**.
#
# $$\text{code}=\sum_{c=0}^{12}\,[z_c>0]\;2^{12-c}$$
#
# $z_c$ is the encoder's number $c$ at that place; $[\dots]$ is 1 where the condition holds and 0 elsewhere.
#
# Let it encode a drawing of ours, a dog on paper, seen from near:

# %%
from cotlib.models.published.magvit import prepare
from cotlib.models.published.pictures import to_pil
from cotlib.world import parse_prompt, render_batch, sample_scene

scene = sample_scene(np.random.default_rng(1), parse_prompt("a photo of a red dog"))
left, top = (min(max(place - 4, 0), 32) for place in (scene.things[0].x, scene.things[0].y))
close = render_batch([scene])[:, :, top : top + 32, left : left + 32]
drawing = prepare(to_pil(close), model.grid[0] * 16)
tokenizer = model.tokenizer
coded = tokenizer.encode(drawing)
painted = tokenizer.decode(coded)
cast.say()
show(
    bits_figure(drawing[0], coded[0], tokenizer.config.bits, painted[0]),
    alt=f"{note}A drawing, the sign of each of 13 bits at each of {len(coded[0])} places, and what "
    "the decoder paints from them. "
    + (
        "Even a random encoder reacts to what it sees: in several bits the dog stands out from the paper."
        if note
        else "The decoder's picture is close to the drawing."
    ),
)
print(
    f"place 0: code {coded[0, 0].item()} = {coded[0, 0].item():013b}; {len(coded[0].unique())} "
    "different codes in all"
)

# %% [markdown]
# With random weights the decoded picture is noise, and yet the bits are instructive: several are crude maps of the picture, since a sign depends on what is in and around its patch. A trained encoder chooses *which* maps, so that a decoder can paint from them.
#
# Two things can go wrong here without any error: reading the bits from the wrong end (a permutation of the codes, and the generator's words mean something else), and encoding in half precision, where a number near 0 may change its sign. Is the table of the file the one the formula says?

# %%
bits = tokenizer.config.bits
every = torch.arange(2**bits)
signs = torch.stack([(every >> (bits - 1 - c)) & 1 for c in range(bits)], dim=1).float() * 2 - 1  # [8192, 13]
same_table = bool(torch.equal(signs, tokenizer.quantize.embedding.float().cpu()))
whole = tokenizer.quantize.codes(signs.view(1, 64, 128, bits).permute(0, 3, 1, 2).to(model.device)).cpu()[0]
round_trip = (whole == every).float().mean().item()
print(f"the file's table is the formula: {same_table}; codes that come back from signs: {round_trip:.0%}")

# %% [markdown]
# ## 5 Reading P(yes)
#
# The verifier is a language model that sees. The picture becomes 729 vectors (27 x 27 patches of 14 pixels) and a newline; they stand in the middle of a chat:

# %%
from cotlib.models.published.llava import BEFORE, tokens

for line in (BEFORE + "[picture]" + verifier.text(CLARITY, PROMPT)[0]).strip().splitlines():
    say(line)
with torch.no_grad():
    visual = verifier.visual_tokens(to_pil(drawing))[0]
asked = sum(len(tokens(verifier.words, part)) for part in (BEFORE, *verifier.text(CLARITY, PROMPT)))
print(f"\n{len(visual)} visual tokens, {asked} text tokens; yes is id {verifier.yes}, no is id {verifier.no}")

# %% [markdown]
# The wording is ours; it stands in `data/questions.json`. A model that was fine-tuned on other words must be asked in those: write them into a file of the same form and give it as `questions=...` (the paper's are in its sections 3 and 4, the released code's in its file `selector.py`).
#
# The answer is one word. The model need not *write* it; the logits of the first word are enough. And of those only the spellings of yes and no matter:
#
# $$P(\text{yes})=\sigma(m),\qquad m=\log\sum_{i\,\in\,\{\text{yes, Yes}\}}e^{z_i}-\log\sum_{i\,\in\,\{\text{no, No}\}}e^{z_i}$$
#
# $z_i$ are the logits, $m$ is the margin of [04](04_orm.ipynb), and $\sigma(m)=1/(1+e^{-m})$.
#
# ### Exercise: P(yes) from all spellings · difficulty 2 of 5 · 10 minutes


# %%
def my_answer_p_yes(logits, yes, no):
    """P(yes) [B] from logits [B, V]; yes, no: lists of ids, one for each spelling."""
    ...  # pool the spellings, subtract, squash


check("answer_p_yes", my_answer_p_yes)
# solution("answer_p_yes")

# %% [markdown]
# ### The released reading
#
# The paper's code reads something else. It lets the model *sample* its answer and takes the probability after the **sampling filters**: only the likeliest words that together hold 0.8 are kept, the others get 0, and the kept ones are scaled up until they add up to 1. It also looks at small letters only. What comes of it?

# %%
predict(
    "11-saturated",
    "Many right pictures have a P(yes) between 0.81 and 0.99. How many different scores does the "
    "released reading give them?",
    low=0,
    high=100,
)

# %%
margins = torch.linspace(-5, 5, 101)
made = torch.full((len(margins), len(verifier.words)), -30.0, device=verifier.device)
made[:, verifier.yes[0]] = (margins / 2).to(made)  # two words share everything
made[:, verifier.no[0]] = (-margins / 2).to(made)


def read_as(released):
    """The verifier's reading of these logits, ours or the released code's."""
    usual, verifier.paper_compatible = verifier.paper_compatible, released
    said = verifier.read(FINAL, made).cpu()
    verifier.paper_compatible = usual
    return said


plain_read, their_read = read_as(False), read_as(True)
high = (plain_read > 0.81) & (plain_read < 0.99)
distinct = len(their_read[high].unique())
reveal("11-saturated", distinct)
show(
    readings_figure(
        margins.tolist(), {"from the margin": plain_read.tolist(), "released code": their_read.tolist()}
    ),
    alt="The reading from the margin rises smoothly. The released one is 0 below P(yes) 0.2 and 1 "
    f"above 0.8: {distinct} value for everything from 0.81 to 0.99. In between the two lines are "
    "one.",
)

# %% [markdown]
# A verifier that is good is *sure*, so most right pictures lie where the released reading is exactly 1. Then the first of them wins: best of 20 becomes "the first that is good enough" ([notebook 09](09_together.ipynb) has shown that this is no bad rule, but nobody chose it).
# For comparisons with the paper's numbers there is a switch, `paper_compatible=True`; everywhere else the margin is read.
#
# ## 6 PARM on your prompt
#
# Now the search, line for line the one of notebook 06. `Watcher` only keeps a small copy of each picture that the verifier is shown.
#
# A random verifier has no opinion, and its answers crowd in a narrow range. So that all branches of the search are seen, thresholds for it are taken from its own answers about other paths: one answer in seven counts as clear, one in two as promising. With published weights the verifier's own thresholds, one half, are used.

# %%
N = 6
thresholds = dict(zip(("clear", "promising"), verifier.thresholds, strict=True))
if not cast.real:
    # at 2 nothing is clear, so CLARITY is asked at every step
    never = parm(model, [PROMPT], 2, SEED + 1, verifier=verifier, clear=2.0)
    said = torch.tensor([path.scores[CLARITY] for path in never.paths[0]]).flatten()
    clear = said.quantile(0.85).item()
    nobody_stops = parm(model, [PROMPT], 4, SEED + 1, verifier=verifier, clear=clear, promising=0.0)
    said = [path.scores[POTENTIAL][0] for path in nobody_stops.paths[0] if POTENTIAL in path.scores]
    thresholds = {"clear": clear, "promising": float(np.median(said))}
    verifier.forget()
ledger, watcher = Ledger(), Watcher(verifier, side=96 if cast.real else 32)
outcome = parm(model, [PROMPT], N, SEED, ledger, verifier=watcher, **thresholds)
board = candidates_of(outcome, watcher)
stopped = [one for one in board if one.stopped is not None]
cast.say()
show(
    board_figure(board, **thresholds, title=f'"{PROMPT}": PARM, {N} paths'),
    alt=f"{note}A row for each of {N} paths, some of their guesses from left to right with the "
    "answer to CLARITY below each; blue means clear. There POTENTIAL is asked once: green goes "
    f"on, red stops. {len(stopped)} paths stopped; path {outcome.chosen[0] + 1} has the star.",
)
print(f"{ledger.generator_token_passes:,} token passes, {ledger.decodes} decoded; asked: "
      + ", ".join(f"{question} {times}" for question, times in ledger.verifier_calls.items()))  # fmt: skip

# %% [markdown]
# Read a row: a guess of the whole picture after each step; CLARITY is asked until the first yes; there POTENTIAL decides, once; what is left is asked FINAL, and the surest yes is handed over. It is drawn as in the paper's figure of PARM, but from this run. (Where many steps were asked, some columns are left out.)
#
# As in the pictogram world, stopping changes nothing for the others. Each path has its own dice, so best-of-N draws the same codes:

# %%
whole_ledger = Ledger()
whole = orm(model, [PROMPT], N, SEED, whole_ledger, verifier=verifier)
survivors = [one.number for one in board if one.stopped is None]
equal = [torch.equal(outcome.paths[0][k].codes, whole.paths[0][k].codes) for k in survivors]
saved = 1 - ledger.generator_token_passes / whole_ledger.generator_token_passes
print(f"{sum(equal)} of {len(equal)} surviving paths have the codes of best-of-{N}")
questions = [sum(each.verifier_calls.values()) for each in (ledger, whole_ledger)]
print(f"token passes saved: {saved:.0%}; questions: {questions[0]} instead of {questions[1]}")

# %% [markdown]
# ## 7 Who takes the time
#
# Already in notebook 06 asking ate part of what stopping saved. Here the verifier is more than five times as large as the generator, and reads some 920 tokens for each question: 730 of the picture and, in the released wording of CLARITY, about 190 of text. What that means can be **counted** before anything is run: a matrix product with m numbers takes 2 m operations a token, attention 4 D a pair of tokens and layer, with D the width.
#
# Take PARM with twenty candidates, all of them clear for the first time after step 10 (the paper reports 8 to 12 of 18), and let half of them be rejected there.

# %%
predict(
    "11-share",
    "Of all operations of this PARM, at the published sizes: what share is the verifier's?",
    low=0,
    high=100,
    unit="%",
)

# %%
from cotlib.models.published.work import CARDS, SHARE, best_of_n
from cotlib.models.published.work import parm as parm_work

crew = Crew(SHOWO_256, LLAVA_7B, n=20)
searches = {
    "best of 20": best_of_n(crew),
    "PARM, asked from step 1": parm_work(crew, 10, 0.5),
    "the same, nobody stops": parm_work(crew, 10, 0.5, stop=False),
    "PARM, asked from step 7": parm_work(crew, 10, 0.5, ask_from=7),
}
search = searches["PARM, asked from step 1"]
share = search.verifier / search.total
reveal("11-share", round(100 * share))
show(
    work_figure(searches),
    alt="Operations for one prompt, counted at the published sizes, by generator, decoder and "
    "verifier. In every PARM the verifier's part is by far the longest. "
    + "; ".join(
        f"{name}: {work.total / 1e12:,.0f} TFLOP, {work.verifier / work.total:.0%} of it the verifier's"
        for name, work in searches.items()
    )
    + ".",
)

# %% [markdown]
# - **Judging outweighs generating.** Twenty paths through ten CLARITY questions each cost several times what all drawing costs.
# - **Stopping saves what is cheap.** It spares nearly a quarter of the drawing and next to nothing of the asking: a stopped path is only not asked FINAL. Compare the second and the third bar: hardly a difference.
# - **Asking later saves what is dear.** In the paper nothing is clear in the first steps; who asks from step 7 on spares six questions of ten. It is the largest saving in the figure, and needs no new idea: `ask_from`.
#
# What would be right at *equal* cost? For the price of this PARM, how many candidates could best-of-N draw and ask?

# %%
one_more = (best_of_n(Crew(n=21)).total - best_of_n(crew).total) / 1e12
afford = int(20 + (search.total / 1e12 - searches["best of 20"].total / 1e12) / one_more)
print(f"a further candidate of best-of-N: {one_more:.1f} TFLOP; for PARM's price: best of {afford}")
asked_late = searches["PARM, asked from step 7"]
print(
    "asked from step 7: best of "
    f"{int(20 + (asked_late.total - searches['best of 20'].total) / 1e12 / one_more)}"
)

# %% [markdown]
# The paper compares PARM with ORM (outcome reward model: best-of-N, each finished picture asked once) at the same *number* of candidates, 20. By operations the fair rival is the one printed above. The paper does not show it; [notebook 09](09_together.ipynb) made it in our world.
#
# Seconds are another matter. An operation takes as long as the card, the kernels and the batch let it. The following lines divide the count by an **assumed** speed, a fixed share of what each data sheet promises; they are a rule of thumb and no measurement.

# %%
print(f"one prompt, at {SHARE:.0%} of the data sheets' TFLOP/s (an assumption)")
print(f"{'':26}" + "".join(f"{card.name:>9}" for card in CARDS))
for name, work in searches.items():
    print(f"{name:26}" + "".join(f"{work.seconds(card):8.1f}s" for card in CARDS))
hours = {card.name: 553 * 4 * best_of_n(crew).seconds(card) / 3600 for card in CARDS}
print("GenEval, 553 prompts x 4, best of 20: " + ", ".join(f"{name} {h:.0f} h" for name, h in hours.items()))

# %% [markdown]
# ## 8 Will it fit?
#
# The other question before a run. Weights are easy: parameters times bytes. The rest is what is *alive at the same time*: text keys and values, the activations of all pictures that run together, logits of all paths, the decoder's widest layer, what the verifier remembers. The planner counts all of it,
# phase by phase, and finds the largest number of pictures at a time (the *chunk*) for each model.

# %%
GB = torch.cuda.get_device_properties(DEVICE).total_memory / 1e9 if DEVICE.type == "cuda" else 24
show(
    memory_figure(crew, round(GB)),
    alt="What PARM with Show-o 256 and the verifier of 7 B holds in each phase on a card of "
    f"{round(GB)} GB, counted: weights of generator and verifier, and all else with the largest "
    "chunks that fit. Dotted lines are other cards.",
)
for gb, other in ((16, crew), (16, Crew(four_bit=True)), (24, crew), (16, Crew(SHOWO_512, four_bit=True))):
    size = "512" if other.generator is SHOWO_512 else "256"
    print(f"{gb} GB, Show-o {size}, verifier {'in 4 bits' if other.four_bit else 'in half precision'}:")
    say(advice(plan(other, gb), gb), "   ")

# %%
planner_slider(gb=round(GB))

# %% [markdown]
# Move the card's memory and watch which phase is first in the way. Mostly it is the verifier's weights. With them packed, decoding comes next: the image tokenizer stays in float32, and decoding holds 0.6 GiB for each picture of 512 pixels.
#
# Should you believe a planner? Test it on what can be run here: follow every tensor of a search on *this* checkpoint from birth to death, and compare the highest sum with the plan for the same sizes.

# %%
from cotlib.models.published.peak import Peak
from cotlib.models.published.sizes import LlavaSizes, ShowoSizes

few, part = 4, 2
verifier.forget()
sizes_here = Crew(
    ShowoSizes.of(model),
    LlavaSizes.of(verifier.model),
    tokenizer.config,
    n=few,
    text=len(text),
    asked=asked,
    number=model.phi.lm_head.weight.element_size(),
    form="kernels" if DEVICE.type == "cuda" else "cpu",
)
kept = model.chunks.size, tokenizer.chunks.size, verifier.chunks.size
model.chunks.size = tokenizer.chunks.size = verifier.chunks.size = part
with Peak(model, verifier.model) as peak:
    parm(model, [PROMPT], few, SEED, verifier=verifier, clear=0.0, promising=0.0)
model.chunks.size, tokenizer.chunks.size, verifier.chunks.size = kept
planned = {name: bytes_of(part) for name, (_, bytes_of) in phases(sizes_here).items()}
highest = max(planned, key=planned.get)
off = planned[highest] / peak.bytes - 1
print(f"planned {planned[highest] / 1e6:,.0f} MB ({highest}), held {peak.bytes / 1e6:,.0f} MB: {off:+.1%}")

# %% [markdown]
# ## 9 What the paper measured
#
# The weights behind most of these numbers can be loaded by this notebook (section 10 lists them), and the numbers are the paper's (Show-o 256 on GenEval, 553 prompts with four pictures each; arXiv 2501.13926v2, Tables 1 to 3). This course has not repeated them: that needs the weights, GenEval's judge and the hours above. (ORM and PRM are fine-tuned where nothing else is said.)

# %%
from cotlib.lab.paper import published, system_name
from cotlib.world.scenes import TASKS

heads = ("single", "two", "count", "color", "place", "attr.", "overall")
print(f"{'':34}" + "".join(f"{head:>6}" for head in heads[:-1]) + f"{heads[-1]:>9}")
for row in published("show-o"):
    if "disagrees" not in row["note"]:
        values = "".join(f"{row[task]:6.2f}" for task in TASKS) + f"{row['overall']:9.2f}"
        print(f"{system_name(row).replace('iterative', 'iter.').replace('fine-tuned ', ''):34}{values}")

# %% [markdown]
# With weights on disk, a line of this table is one command. Prompts are GenEval's own file, read as it is; the judge is a folder with a Mask2Former and a CLIP. It can be stopped and goes on where it was:
#
# ```
# python -m cotlib evaluate --model show-o --verifier parm \
#     --questions my_questions.json --strategy parm -n 20 \
#     --judge judge --prompts evaluation_metadata.jsonl \
#     --seeds 0,1,2,3 --paper-compatible --json parm.json
# ```
#
# `--paper-compatible` follows the released loop with its quirks (temperature carried over from path to path, the saturated reading); leave it out for the corrected one. Differences to expect even then: another training run of the detector, other libraries, sampled answers there and the likeliest word here.
#
# ## 10 Getting the weights, and what you may do with them

# %%
from cotlib.models.published.sources import SOURCES

for source in SOURCES:
    print(f"{source.hub:46} about {source.gb:5.2g} GB  {source.licence.strip('*')}")
    say(source.basis, "      ")

# %% [markdown]
# **The paper's own checkpoints carry no licence that could be found.** Without one you have no permission beyond what the law gives you anyway; ask the authors before you publish anything made with them. Show-o, its tokenizer and LLaVA-OneVision carry free licences, by their tags.
#
# How to fetch them, which folder goes to which option, how to write a questions file, and what has been verified here and what has not: [docs/PUBLISHED_MODELS.md](../docs/PUBLISHED_MODELS.md).
#
# ## What you take along
#
# - A search that knows two interfaces does not notice that the models behind them became a thousand times larger.
# - Loading is comparing names. Refuse early, in one sentence.
# - The mask tells what may be computed once: text never sees the picture, nobody but a pad sees a pad.
# - A code is thirteen signs; reading them from the wrong end raises no error and spoils everything.
# - Read P(yes) from the margin. After sampling filters a sure verifier cannot tell its candidates apart.
# - Count before you run. With a verifier five times as large as the generator, *when to ask* matters more than *whom to stop*.
# - A counted peak can be trusted if it was compared with a measured one; a counted second cannot.

# %%
score("11")

# %% [markdown]
# ## The end of the course
#
# You began with twenty drawings of a dog and a couch, some right and some wrong. Here is what the course made of that, on the 300 test prompts, read from the stored results; on the left the notebook that tells how. Passes are token passes for a prompt, asked are the verifier's answers. (The rows of 08 and 09 rest on two seeds, the others on three; so the table of notebook 09 differs from them in the third digit.)

# %%
from cotlib.lab.kernel_figures import stored_rows
from cotlib.tables.search import cost_of, stored

try:
    kept = stored()["strategies"]
    systems = {row["search"]: row for row in stored("table")["rows"] if row["generator"] == "dpo"}
except UserError as error:
    kept, systems = {}, {}
    print(error)
STORY = {
    "single": ("00", "one picture"),
    "oracle": ("03", "a perfect choice among 20 (a bound)"),
    "logprob": ("04", "best of 20: own log-probability"),
    "orm": ("04", "best of 20: fine-tuned ORM"),
    "prm": ("05", "ask at every step: PRM"),
    "parm": ("06", "clear, then promising: PARM"),
    "halving": ("06", "PARM's questions, half stop each time"),
    "parm++": ("07", "words and a correction on top: PARM++"),
    "dpo single": ("08", "one picture, tuned by DPO"),
    "dpo orm": ("09", "best of 20: DPO and fine-tuned ORM"),
}
print(f"{'':45}right  95 %          passes asked")
for name, (number, words) in STORY.items():
    row = kept.get(name) or systems.get(name.removeprefix("dpo "))
    if row:
        spent = row.get("cost") or {
            "token_passes": 1000 * cost_of(row, name)["passes"],
            "verifier_calls": cost_of(row, name)["calls"],
        }
        low, high = row["ci95"]
        print(
            f"{number}  {words:41}{row['overall']:.3f}  {low:.2f} to "
            f"{high:.2f}{spent['token_passes']:8,.0f}{spent['verifier_calls']:6.0f}"
        )
fastest = {
    (row["case"], row["models"], row["device"]): row
    for row in stored_rows("search.csv")
    if "cotlib" in row["form"]
}
for (case, models, device), row in fastest.items():
    print(f"10  {case}, {models}, {device}:")
    print(
        f"      {float(row['times_as_fast']):.1f} times as fast as the released loop, the same "
        "questions asked"
    )

# %% [markdown]
# If you keep four things of it, keep these.
#
# - **A right picture was there all along.** Choosing gains more here than anything that was done to the generator, and the bound on choosing is known before you begin.
# - **Where to ask matters as much as whom.** The same kind of verifier gains almost nothing step by step, and nearly everything on whole paths.
# - **An order of methods belongs to a world.** The paper's PARM is ahead of its ORM; ours is not, and you know why: there is hardly room above a verifier that is nearly always right. Neither result is the other's refutation.
# - **A number without an interval, a cost and a rival is half a number.** That holds for this course as well: one training of each network, two or three seeds, one small world.
#
# ### Where to go from here
#
# - **Real weights.** Everything above runs on them; [docs/PUBLISHED_MODELS.md](../docs/PUBLISHED_MODELS.md) says how. Whether PARM beats best-of-N at equal *cost* there is a question that the paper leaves open, and this course too.
# - **Another world.** Every file in `data/` has a card with the command that made it, and `python -m cotlib train` makes others. The [lab book](../docs/LAB_BOOK.md) says what was tried and failed. A world with a weaker verifier leaves the room that ours lacks.
# - **Your machine.** `python course.py bench` adds its rows to notebook 10; rows of a GPU are the ones most wanted.
# - **Somebody's claim.** Take the next paper that you read, and the ten questions of [notebook 09](09_together.ipynb).
#
# ### What you did
#
# The last page is yours. It is read from your own progress file, a small text file on your machine that holds predictions, checks, minutes and, if you choose one, a name; nobody else sees it. (The stored copy of this notebook shows an empty one.)

# %%
from cotlib.lab import my_progress

my_progress()

# %%
# NBVAL_CHECK_OUTPUT
exact = 1e-3 if model.phi.lm_head.weight.dtype == torch.float32 else 0.1
text_rows = mask[pads:129, 129:].float().mean().item()
claims(
    [
        Claim(
            "every name of the verifier's files is one of the model's, a share of",
            both / len(mapped),
            threshold=1.0,
        ),
        Claim("... and the model has no others", both / len(wanted), threshold=1.0),
        Claim("text that may see the picture, a share of", text_rows, threshold=0.0, direction="<="),
        Claim(
            "lean and plain logits differ by at most (in standard deviations)",
            gap,
            threshold=exact,
            direction="<=",
        ),
        Claim(
            "the lean step of Show-o 256 takes this share of the plain one's operations",
            step / released,
            threshold=0.65,
            direction="<=",
        ),
        Claim("codes that come back from their own signs, a share of", round_trip, threshold=1.0),
        Claim(
            "different released scores for P(yes) from 0.81 to 0.99", distinct, threshold=1, direction="<="
        ),
        Claim(
            "surviving paths have best-of-N's codes, a share of",
            sum(equal) / max(len(equal), 1),
            threshold=1.0,
        ),
        Claim("of PARM's operations the verifier takes a share of at least", share, threshold=0.8),
        Claim(
            "asking from step 7 on instead of step 1 spares a share of all",
            1 - asked_late.total / search.total,
            threshold=0.4,
        ),
        Claim(
            "... stopping half of the paths at step 10 spares less",
            1 - search.total / searches["the same, nobody stops"].total,
            threshold=0.1,
            direction="<=",
        ),
        Claim(
            "the planned peak is off the one that was held by at most",
            abs(off),
            threshold=0.1,
            direction="<=",
        ),
    ]
)
