# %% [markdown]
# # 00 Welcome: draw twenty, keep one
#
# <!-- badges -->
#
# Ask an image generator for a dog left of a couch. You may get just that, or the couch on the left, or no couch at all. What makes it
# right more often, without a larger network? Here is the whole idea, on one prompt.
#
# After this notebook you can
#
# - draw pictures from a sentence with a token generator, on a laptop, and have them judged;
# - tell which part of such a system is a *model* and which is a *search*;
# - read a result as this course reports it: a rate, its interval, and what it cost;
# - find your way through the other notebooks.
#
# <!-- facts -->
#
# It needs nothing: no account, no download of weights, no graphics card. Words that are new to you stand in
# the [glossary](#Glossary) at the end.

# %% tags=["setup"]

# %%
from cotlib import load
from cotlib.lab import show_images
from cotlib.search import decode_all, single
from cotlib.world import parse_prompt

generator, judge = load("generator"), load("judge")
prompt = parse_prompt("a photo of a dog left of a couch")
text = prompt["prompt"]
outcome = single(generator, [text], n=20, seed=0)
pictures = decode_all(generator, outcome)[0]  # [20, 3, 64, 64]
right = [verdict.correct for verdict in judge([prompt] * 20, pictures)]
ticks = sum(right)
show_images(
    pictures,
    marks=right,
    columns=10,
    tile=8 / 9,
    alt=f'Twenty drawings of "{text}": {ticks} have a tick, {20 - ticks} a cross.',
)

# %% [markdown]
# You have just run a text-to-image model. Look at the twenty drawings.
#
# - All answer the **same prompt**, and all come from the **same network**. No prompt in its training named these two objects
#   together.
# - They differ only in their dice. A generator draws at random from the probabilities that it computes, so each
#   run goes its own way. One such run is called a **path**, and the picture it ends in a **candidate**.
# - The ticks and crosses come from a **judge**: a small detector looks at the picture, and fixed rules compare what
#   it sees with the prompt. The generator never learns the verdict.
# - Some are smeared, among the right ones too. Others are drawn well and have the right things in the wrong place. A judge of
#   *beauty* would not mind those. What counts here is that the picture *does what the prompt says*.
#
# This course is about that last point: given a generator that is right only sometimes, how do you get a right
# picture every time?

# %% [markdown]
# ## How often is it right?
#
# The **pass rate** of a prompt is the share of its pictures that the judge accepts. Twenty pictures are a small sample
# of it. Before you go on, commit yourself: if you draw 200 new pictures of the same prompt, what share will
# be right?
#
# A `predict` cell takes your number and keeps it. The cell after it shows what is measured.

# %%
from cotlib.lab import predict, reveal, score, show

predict(
    "00-pass-rate",
    f'200 more drawings of "{text}": what percentage is right?',
    low=0,
    high=100,
    unit="%",
)

# %%
import matplotlib.pyplot as plt

from cotlib.judging.stats import wilson

outcome = single(generator, [text], n=200, seed=1)
more = decode_all(generator, outcome)[0]
hits = sum(verdict.correct for verdict in judge([prompt] * 200, more))
reveal("00-pass-rate", 100 * hits / 200)

fig, ax = plt.subplots(layout="constrained", figsize=(6.4, 1.6))
for height, (k, n) in enumerate([(ticks, 20), (hits, 200)]):
    color = f"C{height}"
    ax.plot(wilson(k, n), [height] * 2, color=color, linewidth=5, alpha=0.35, marker="")
    ax.plot(k / n, height, color=color, marker="os"[height], markersize=8)
ax.set(
    yticks=[0, 1],
    yticklabels=["first 20", "next 200"],
    ylim=(-0.6, 1.6),
    xlim=(0, 1),
    xlabel="pass rate, 95 % interval",
)
show(
    fig,
    alt=f"From 20 pictures the pass rate is {ticks / 20:.2f} with a wide "
    f"interval; from 200 it is {hits / 200:.2f} with an interval about a third as "
    "long.",
)

# %% [markdown]
# The point is the estimate, the bar is its **95 % interval**: bars made like this hold the true rate in about 95 of 100 cases.
#
# Ten times the pictures make the bar about three times shorter, since its length falls with the square root of their
# number. So twenty pictures cannot tell a good generator from a middling one. Published tables
# of this kind usually rest on four pictures a prompt; notebook 03 shows what can and what cannot be read from them.
#
# ## What is a model here, and what is a search?

# %%
from cotlib.lab.diagrams import idea_diagram

picked = (
    [right.index(True)] + [i for i in range(20) if i != right.index(True)][:5]
    if any(right)
    else list(range(6))
)
show(
    idea_diagram(text, pictures[picked], [right[i] for i in picked], chosen=0),
    alt="A prompt goes to the generator, a network, which draws candidates; the "
    "verifier, a second network, scores them; the search around candidates and "
    "verifier is plain code, and one picture leaves it. The judge stands outside and "
    "measures; a dashed arrow leads from it to the generator: alignment, later, by "
    "right and wrong pictures.",
)

# %% [markdown]
# | part | what it is | learned? | changes the picture? |
# |---|---|---|---|
# | **generator** | a network from prompt to picture, by way of 64 image tokens | yes | draws it |
# | **verifier** | a network from prompt and picture to a score: how likely is this right? | yes | only by what is kept |
# | **search** | a loop: how many paths, when to look at them, which to stop, which to hand over | no | only by what is kept |
# | **alignment** | training on pairs of right and wrong pictures | changes the generator | afterwards, on every path |
# | **judge** | detector and rules that decide what counts as right | its detector | never itself; its verdicts label pictures for training |
#
# Keep the last line in mind. A verifier may be used to *choose*. The judge is there to *measure*. When one and the same thing does
# both, the result is worth little, as you will see in notebook 03.
#
# ## How much could a perfect verifier win?
#
# Give the job of choosing to the judge itself, for once. It picks a right picture wherever there is one. No
# verifier can beat that, so this is a **ceiling**, not a method: it cheats by looking at the answer. The ceiling
# for N candidates is the share of prompts for which at least one of N is right, called **coverage**.
#
# Take 30 prompts, five of each of six kinds, and 20 pictures for each.

# %%
predict(
    "00-coverage",
    "For what percentage of prompts is at least one of 20 candidates right?",
    low=0,
    high=100,
    unit="%",
)

# %%
from cotlib.evaluation import Plan, measure
from cotlib.lab import progress
from cotlib.world.prompts import benchmark
from cotlib.world.scenes import TASKS

prompts = []
for task in TASKS:
    prompts += [m for m in benchmark("test") if m["tag"] == task][:5]
results = measure(generator, judge, prompts, Plan(n=20))
rows = list(progress(results, "30 prompts x 20 pictures", total=len(prompts)))

# %%
from cotlib.judging.stats import bootstrap_interval, coverage, paired_difference


def ceiling(k):
    """One (task, [coverage with k candidates]) for each prompt."""
    return [(row.task, [coverage(sum(row.scores), 20, k)]) for row in rows]


ks = range(1, 21)
mean, low, high = zip(*(bootstrap_interval(ceiling(k)) for k in ks), strict=True)
reveal("00-coverage", 100 * mean[-1])

fig, ax = plt.subplots(layout="constrained", figsize=(6.4, 3.2))
ax.fill_between(ks, low, high, alpha=0.18)
ax.plot(ks, mean, label="the judge picks (ceiling)")
ax.axhline(mean[0], color="C1", linestyle="--", label="one picture, no choice")
ax.set(
    xlabel="candidates N",
    ylabel="prompts solved",
    ylim=(0, 1.02),
    xlim=(0.5, 20.5),
    xticks=[1, 5, 10, 15, 20],
)
ax.legend(loc="lower right")
show(
    fig,
    alt=f"One picture solves {mean[0]:.2f} of the prompts; with the judge choosing "
    f"among twenty it is {mean[-1]:.2f}. Most of the gain comes with the first few "
    "candidates.",
)

# %% [markdown]
# Read the gap between the two lines (the band is the 95 % interval over prompts). The generator *can* draw most of what is asked of
# it; it just does not do so each time. A right picture is among its candidates, and the search has to find it.
#
# Everything between the dashed line and the curve can be won. How much of it a *learned* verifier gets, which has never seen
# the answer, is the question of the notebooks from 04 on. There you will also see searches that make the
# result *worse* the more candidates they look at (notebook 09).
#
# ## What does it cost?
#
# Quality without cost is half a result: drawing twenty is always better than drawing one, if somebody else
# pays. So every search in this course fills in a **ledger**. Its main entry counts **token passes**: image tokens
# pushed through the network, summed over all rounds and all paths. A picture's 64 tokens
# are drawn in eight rounds, and pass through the network twice in each, with the prompt and without it (notebook 02).

# %%
predict(
    "00-cost",
    "Twenty candidates cost how many times the token passes of one?",
    low=1,
    high=40,
    unit="times",
)

# %%
from cotlib.search import Ledger

costs = {}
for n in (1, 20):
    costs[n] = Ledger()
    outcome = single(generator, [text], n=n, seed=2, ledger=costs[n])
    decode_all(generator, outcome)
ratio = costs[20].generator_token_passes / costs[1].generator_token_passes
print(f"{'':24}{'one':>10}{'twenty':>10}{'ratio':>8}")
entries = {
    "token passes": [costs[n].generator_token_passes for n in (1, 20)],
    "decodes": [costs[n].decodes for n in (1, 20)],
    "milliseconds": [1000 * costs[n].seconds for n in (1, 20)],
}
for name, (one, twenty) in entries.items():
    print(f"{name:24}{one:10,.0f}{twenty:10,.0f}{twenty / one:8.1f}")
reveal("00-cost", round(ratio, 1))

# %% [markdown]
# Less than twenty times, and no trick is involved: in the first round all paths of a prompt look at the same empty canvas,
# so the network runs once for all of them. In seconds the saving is larger still, because a processor
# is better used by twenty pictures at a time than by one. Savings of this kind are **exact**: they change not a single token. Notebook 02
# lists them all.
#
# (A *decode* turns tokens into pixels. `single` decodes the picture it hands over and `decode_all` all of them, hence one more
# than there are candidates.)
#
# ## Half-drawn pictures, and what "chain of thought" means here
#
# The generator fills its canvas in rounds. In each it guesses *all* hidden tokens, keeps those it is surest
# of, and hides the rest again. So there is a complete picture to look at after every round: the current guess.

# %%
from cotlib.decoding import run_steps
from cotlib.lab import step_scrubber, step_strip

path = picked[0]
steps = list(run_steps(generator, [text], [path], seed=0))
show(
    step_strip(steps, generator.decode, columns=8),
    alt="Top: the complete guess after each round, a blur of possibilities at first; "
    "the couch stands from the third round on, the dog from the sixth, and a last "
    "smudge goes only at the end. Bottom: the tokens that are fixed by then, few in "
    "the first rounds and many in the last.",
)

# %%
step_scrubber(steps, generator.decode)

# %% [markdown]
# In a language model a **chain of thought** is text that the model writes before its answer: steps in words, which a
# reader or a second model can check one by one. The paper this course follows carries the phrase into image
# generation, and you should know how far it carries:
#
# - **What is alike:** an answer is built up in steps; a step can be scored before the answer is finished; bad paths can be
#   stopped and good ones preferred.
# - **What is only an analogy:** no thought is written in these models. What is verified step by step are half-drawn
#   pictures. They explain nothing; early ones are too blurred to judge, late ones are nearly finished.
# - **Where words do appear:** in one method, PARM++, the *verifier* says in words what is wrong with a finished picture, and the
#   generator draws it again. Those are a critic's notes, not the painter's thoughts.
#
# So read "chain of thought" in this course as *checking along the way*.
#
# ## The paper
#
# *Can We Generate Images with CoT? Let's Verify and Reinforce Image Generation Step by Step*,
# [arXiv 2501.13926](https://arxiv.org/abs/2501.13926), CVPR 2025. It takes Show-o, a published generator of the kind you have just
# run (256 tokens a picture instead of 64, about a thousand times as many weights), and asks how far verifying and preference
# tuning bring it on **GenEval**, a benchmark of 553 prompts of six kinds. You meet its rules in notebook 03. The published numbers
# ship with the course, in `data/paper_results.csv`.

# %%
from cotlib.lab.paper import published, published_figure

paper = published("show-o")
show(
    published_figure(),
    alt="Left: published overall scores of Show-o rise from 0.53 alone to 0.77 with "
    "guided tuning and PARM best of 20. Right: the gain is large for two objects, "
    "position and attributes, small for single objects and colours.",
)

# %% [markdown]
# The names in short; each gets its notebook. **ORM**, outcome reward model: a verifier that scores finished pictures. **PRM**,
# process reward model: one that scores every round. **PARM**, potential assessment reward model: it first asks whether a half-drawn picture is
# clear enough to judge, then whether it can still turn out right, and stops it if not. **PARM++** adds reflection in words, on a
# generator tuned to correct its pictures by them. **DPO**, direct preference optimisation: tuning on pairs, one right, one wrong;
# *iterative* means a second time on new pictures, *guided* that a verifier's score joins the loss. *Zero-shot* verifiers are used as
# they come, *fine-tuned* ones were trained on this generator's pictures.
#
# Three things to notice, and to keep in mind whenever you see such a figure:
#
# 1. Verifying *every* step (PRM) gained next to nothing. Of the searches on the untuned generator,
#    verifying at the *right* step (PARM) gained most. Notebooks 05 and 06 find out why.
# 2. These are single runs without intervals. Some neighbours differ by no more than the dice would explain.
# 3. The paper's tables disagree in places, which the next cell prints. Copying a number without its source would hide that.

# %%
from textwrap import fill

from cotlib.lab.paper import system_name

for row in published():
    if row["note"].startswith(("disagrees", "printed")):
        system = f"{row['generator']}, {system_name(row)}"
        line = f"{system}: {row['overall']:.2f}, {row['note']}"
        print(fill(line, 78, subsequent_indent="    "))

# %% [markdown]
# The pictogram world of this course keeps the whole procedure and shrinks the rest: twenty kinds of object in eight colours
# instead of photographs, networks of about a million weights instead of billions. In return the truth is known exactly, and a
# result takes seconds. Expect the *order* of the methods to come back where it is real, not the figures. Where it
# does not come back, the notebook says so.
#
# ## The course

# %% [markdown]
# | notebook | what it answers | in the paper |
# |---|---|---|
# | **00 welcome** | what is a model, what is a search | the idea |
# | [01 image tokens](01_image_tokens.ipynb) | how does a picture become 64 numbers and back? | tokenizer |
# | [02 token generation](02_token_generation.ipynb) | how does a network draw, round by round or row by row? | Show-o's loop |
# | [03 measuring](03_measuring.ipynb) | when is a picture right, and how sure is a score? | GenEval |
# | [04 outcome verifiers](04_orm.ipynb) | can a network tell right from wrong? | ORM |
# | [05 process verifiers](05_prm.ipynb) | does it help to check every step? | PRM |
# | [06 clear, then promising](06_parm.ipynb) | when to look, and whom to stop | PARM |
# | [07 reflection](07_parm_plus_plus.ipynb) | can it correct itself? | PARM++ |
# | [08 preference tuning](08_dpo.ipynb) | can the generator learn from verdicts? | DPO |
# | [09 together](09_together.ipynb) | the whole table in miniature, with intervals and costs | main result |
# | [10 GPU kernels](10_gpu_kernels.ipynb) | what makes it fast, beyond the algebra? | not in the paper |
# | [11 published models](11_published_models.ipynb) | the same code with Show-o and GenEval's own judge | the real thing |
#
# Each notebook starts alone: it needs `cotlib`, `data/` and nothing from the others. Time and memory of each, as last measured,
# and the speed of the machine you are on:

# %%
import json
import os
import time

from cotlib.assets import data_dir

begin = time.perf_counter()
outcome = single(generator, [m["prompt"] for m in prompts[:5]], n=20, seed=3)
decode_all(generator, outcome)
speed = 100 / (time.perf_counter() - begin)
print(f"this machine: {os.cpu_count()} cores, {speed:.0f} pictures a second;")
print(f"300 prompts x 20 candidates would take {6000 / speed / 60:.1f} minutes")
stored = data_dir() / "results" / "course_run.json"
run = json.loads(stored.read_text(encoding="utf-8")) if stored.exists() else {}
for row in run.get("notebooks", []):
    print(f"{row['name']:22}{row['seconds']:6.0f} s{row['peak_gb']:7.1f} GB")

# %% [markdown]
# Every notebook up to 09 is made for two CPU cores without a graphics card, and held to 90 seconds and 2 GB there. The pictogram
# networks are so small that none of them asks for a GPU; notebooks 10 and 11 measure more where there is one.
#
# ## How to work with it
#
# - **Predict, then run.** A `predict` cell asks for a number or a choice. Fill in `answer=...`, or use the form that
#   appears, and only then run the next cell. A wrong guess that you committed yourself to teaches more than a right one that you read.
#   `score()` at the end adds up your points.
# - **Exercises** are functions with an empty body. `check("name", fn)` compares yours with the library's on many inputs. If it
#   knows your mistake it says which one it is. Nothing stops if you skip one: the lesson goes on with the library's function.
#   `solution("name")` prints that function.
# - **Claims.** The last cell of each notebook lists what the notebook claims, with measured number, interval and threshold. A test runs
#   the same cells and fails when a claim stops being true.
# - **Change things.** Seeds, prompts and numbers of candidates are there to be changed. Same seed, same picture; another
#   prompt is one line. Known objects and colours are listed when you ask for an unknown one.
#
# ## Glossary
#
# The words that come up most, in one line each. [All words](../docs/GLOSSARY.md) have a page of their own.
#
# | word | meaning here |
# |---|---|
# | advantage | how much better a picture's reward is than the mean of the other pictures of its prompt |
# | alignment, preference tuning | training that makes right pictures likelier than wrong ones |
# | attention | the step of a transformer in which each token takes in what others hold |
# | balanced accuracy | mean of the shares of right pictures accepted and wrong ones refused; one half is chance |
# | best-of-N | draw N candidates, hand over the one that a verifier likes best |
# | bootstrap | an interval found by drawing whole prompts again and again, with replacement |
# | branch | one of several draws from the same half-drawn picture |
# | calibrated | P(yes) means what it says: of the pictures with 0.7, seven in ten are right |
# | candidate | one finished picture among several for the same prompt |
# | clarity | PARM's first question: does the guess already show what it will show at the end? |
# | code | number of an image token, 0 to 1023; stands for an 8 x 8 patch of the picture |
# | confidence | how sure the generator is of a token that it guessed, plus some noise; decides which tokens stay |
# | coverage, pass@N | share of prompts with at least one right picture among N |
# | decode | turn codes into pixels |
# | distribution shift | a network is used on inputs of another kind than it learned from |
# | DPO | direct preference optimisation: tuning on pairs of a right and a wrong picture, without a reward model |
# | fault | one thing to change in a picture: missing, wrong, extra, or to be moved |
# | fine-tuned verifier | trained on this generator's own pictures as well; a zero-shot one has never seen them |
# | Goodhart | a score that pictures are chosen by stops meaning what it meant |
# | guidance | pushing the generator away from what it would draw without the prompt |
# | hard negative | a false example that differs from a true one in a single fact |
# | interval | range of values that the measurement is compatible with; here always 95 % |
# | judge | detector and rules that decide whether a picture is right; measures, never chooses |
# | ledger | what a result cost: token passes, verifier calls, decodes, seconds |
# | local edit | correction that keeps what is right and draws only the cells concerned |
# | logits | a network's numbers for all possible answers; softmax makes them probabilities |
# | margin | log p of the chosen picture minus that of the rejected one, minus the same difference of the reference |
# | mask | mark of a token that is not drawn yet; in attention, who may look at whom |
# | ORM, PRM | verifiers of finished pictures, and of every step |
# | over-optimisation | the loss still improves while what is wanted gets worse |
# | P(yes) | a verifier's number: how likely the answer yes is |
# | PARM, PARM++ | asks when a picture is clear and stops what cannot end well; ++ also says what is wrong and corrects it |
# | Pareto front | the systems that no other one beats: none is right as often for less, or more often for as much |
# | pass rate | share of a prompt's pictures that are right |
# | path | one run of the generator, with its own dice |
# | policy, reference | the generator while it is tuned, and the fixed one it is compared with |
# | potential | PARM's second question: will this path end in a right picture? |
# | prompt | the sentence that says what to draw |
# | ranking | share of pairs of a right and a wrong picture of one prompt that a verifier orders rightly |
# | raster order | drawing tokens one by one, row by row |
# | reflection | what a verifier says about a picture: yes, or what is wrong, in words |
# | reward model | the paper's word for verifier |
# | rollout | a continuation of a half-drawn picture to its end |
# | round, step | one pass over the canvas: guess all, keep the surest, hide the rest |
# | search | the loop around the networks: how many paths, which to stop, which to keep |
# | SFT term | minus the log-probability of the chosen pictures, added to the DPO loss; it holds their level |
# | temperature | how much noise there is in the choice of the tokens that stay; with 0 always the surest |
# | token | one of the 64 pieces of a picture, or one word of a prompt |
# | tokenizer | two networks: an encoder from pixels to codes, a decoder from codes to pixels |
# | truth | what a drawn scene really holds; known exactly for scenes we draw ourselves |
# | verifier | network that scores a prompt and a picture; may choose |

# %%
score("00")

# %%
# NBVAL_CHECK_OUTPUT
from cotlib.lab import Claim, claims

low_rate, high_rate = wilson(hits, 200)
gain = paired_difference(ceiling(20), ceiling(1))
# near 30 of 30 a bootstrap is too short; Wilson's interval is not
solved = sum(any(row.scores) for row in rows)
best_paper = max(row["overall"] for row in paper)
claims(
    [
        Claim(
            "the same prompt passes sometimes: more than one picture in ten is right",
            hits / 200,
            low_rate,
            high_rate,
            0.1,
        ),
        Claim(
            "... and fails sometimes: at most nine in ten are",
            hits / 200,
            low_rate,
            high_rate,
            0.9,
            "<=",
        ),
        Claim(
            "a right picture is among 20 for most prompts",
            mean[-1],
            *wilson(solved, len(rows)),
            0.75,
        ),
        Claim(
            "choosing among 20 is worth a lot: gain of the ceiling over one picture",
            *gain,
            0.15,
        ),
        Claim(
            "20 candidates cost less than 18 times the token passes of one",
            ratio,
            threshold=18,
            direction="<=",
        ),
        Claim(
            "the paper's best Show-o system gains over the generator alone",
            best_paper - paper[0]["overall"],
            threshold=0.2,
        ),
    ]
)
