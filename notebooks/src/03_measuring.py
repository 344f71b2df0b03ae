# %% [markdown]
# # 03 Measuring: when is a picture right, and how sure is a score?
#
# <!-- badges -->
#
# One system scores 0.65, another 0.67. Is the second one better, or did it have the luckier dice? And who said which pictures are right?
# Whoever cannot answer that cannot read a single table of this field.
#
# After this notebook you can
#
# - apply GenEval's six tasks and its rules, and say where they surprise;
# - put an interval on a score and know what it stands for;
# - tell what best-of-N could reach at most, and why the textbook formula promises too much;
# - say what a judge's own mistakes do to a result.
#
# <!-- facts -->
#
# Every number in the later notebooks is measured in the way you learn here. Words that are new stand in the
# [glossary](00_welcome.ipynb#Glossary).

# %% tags=["setup"]

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from cotlib import load
from cotlib.judging.rules import judge_detections, relative_position
from cotlib.lab import Claim, check, claims, predict, progress, reveal, score, show, show_images
from cotlib.lab.judging_figures import detection_grid, position_explorer, relation_map
from cotlib.search import decode_all, single
from cotlib.world.prompts import benchmark, parse_prompt
from cotlib.world.scenes import CLASSES, COLORS, OPPOSITE, TASKS

generator, judge, template = load("generator"), load("judge"), load("judge", kind="template")

# %% [markdown]
# ## 1 Six kinds of prompt
#
# **GenEval** (Ghosh and others, 2023) is the benchmark that the paper reports. Its idea: do not ask people, or a large model,
# whether a picture is *good*. Ask an object detector what is *in* it, and compare that with what the prompt asks for. So it
# only uses prompts whose demand can be written as data. They come in six **tasks**. One prompt of each, and what our generator
# makes of it:

# %%
examples = [next(m for m in benchmark("test") if m["tag"] == task) for task in TASKS]
pictures = decode_all(generator, single(generator, [m["prompt"] for m in examples], seed=0))[:, 0]
verdicts = judge(examples, pictures)
show_images(
    pictures,
    [f"{m['tag']}: {m['prompt'].removeprefix('a photo of ')}" for m in examples],
    marks=[v.correct for v in verdicts],
    tile=1.5,
    alt=f"One drawing for each of the six tasks; {sum(v.correct for v in verdicts)} of the six are right.",
)
for metadata, verdict in zip(examples, verdicts, strict=True):
    clauses = "\n".join(f"{'':14} {clause}" for clause in metadata["include"])
    print(f"{metadata['tag']:14}{clauses[14:]}\n{'':14} {' '.join(verdict.reasons) or 'right'}")

# %% [markdown]
# Each block shows a prompt's **metadata**, a list of clauses that must all hold, and below it the verdict. A clause has a class and a count, perhaps a
# colour, perhaps a position relative to an earlier clause. `counting` has an `exclude` clause as well: one more than asked for is too many.
#
# ## 2 From picture to verdict
#
# A verdict takes two steps. First a **detector**, a small network, lists what it sees: for each object a class, a colour, a
# box and a score for how sure it is. Then **rules** without any learning turn the list into right or wrong, with
# a reason for each clause that fails. Detections below a threshold (0.3; 0.9 when counting) are ignored.

# %%
prompt = parse_prompt("a photo of a car right of a cup")
tries = decode_all(generator, single(generator, [prompt["prompt"]], n=24, seed=0))[0]
found = judge.detect(tries)
verdicts = [judge_detections(prompt, seen) for seen in found]
distinct = {verdict.reasons: i for i, verdict in reversed(list(enumerate(verdicts)))}
shown = sorted(distinct.values(), key=lambda i: (len(verdicts[i].reasons), i))[:4]
show(
    detection_grid(
        tries[shown],
        [found[i] for i in shown],
        marks=[verdicts[i].correct for i in shown],
        notes=[" ".join(verdicts[i].reasons) for i in shown],
    ),
    alt=f'Drawings for "{prompt["prompt"]}" with the boxes of the detector, each with colour, '
    "class and score. Below a drawing that is refused stands the reason.",
)

# %% [markdown]
# The rules look simple, and they hide decisions. Try one. A picture shows **a dog and a cat**, both drawn perfectly. The prompt is
# "a photo of a dog".

# %%
predict(
    "03-extra", 'A dog and a cat for "a photo of a dog": what is the verdict?', choices=["right", "wrong"]
)

# %%
from cotlib.world.render import render_batch
from cotlib.world.scenes import Scene, Thing

dog_and_cat = Scene((Thing("dog", "blue", 0, 16), Thing("cat", "red", 40, 16)))
three_dogs = Scene((Thing("dog", "blue", 0, 0), Thing("dog", "blue", 40, 0), Thing("dog", "blue", 16, 32)))
two_dogs = Scene((Thing("dog", "red", 0, 16), Thing("dog", "blue", 40, 16)))
cases = [
    (dog_and_cat, "a photo of a dog"),
    (three_dogs, "a photo of two dogs"),
    (three_dogs, "a photo of a dog"),
    (two_dogs, "a photo of a red dog"),
    (two_dogs, "a photo of a blue dog"),
]
drawn = render_batch([scene for scene, _ in cases])
verdicts = judge([parse_prompt(text) for _, text in cases], drawn)
show_images(
    drawn,
    [text for _, text in cases],
    marks=[v.correct for v in verdicts],
    columns=5,
    tile=1.5,
    alt="Extra objects do not count as a mistake, except in the counting task. A "
    "picture with a red and a blue dog passes for only one of the two colours.",
)
reveal("03-extra", "right" if verdicts[0].correct else "wrong")

# %% [markdown]
# - **Extra objects are free**, except in the counting task. A generator that fills its pictures with things gains on "two objects" and
#   loses nothing. Whoever tunes a generator on these rules should expect exactly that.
# - **For a colour only the best box counts.** With one dog asked for, the rules look at the detector's surest dog, whichever that is. The last
#   two pictures are the same picture, it holds a red and a blue dog, and yet it passes for one of the two prompts only.
#
# Neither is a bug of ours: these are GenEval's rules, and results are comparable only under the same rules. But know them.
#
# ## 3 "Left of" is a rule, too
#
# Let $d = c_a - c_b$ be the difference of the centres of two boxes, in pixels, $y$ growing downwards. GenEval first shortens it along
# each axis by a tenth of both sizes $s_a, s_b$ along that axis (but not beyond zero), then compares with the full distance:
#
# $$d'_x = \operatorname{sign}(d_x)\,\max\bigl(|d_x| - 0.1\,(s_a + s_b),\ 0\bigr)$$
#
# $$a \text{ is left of } b \iff d'_x / \lVert d \rVert < -0.5$$
#
# and likewise *right of* (> 0.5), *above* and *below* with $d'_y$. The subtraction is the **offset**: it asks for some room
# between the two. Predict before you look at the map: two things are thrown onto the picture at random, without overlap.

# %%
predict("03-accident", "How often is the first one left of the second one, by accident?", low=0.0, high=1.0)

# %%
from cotlib.judging.pictogram import glyph_box
from cotlib.world.scenes import sample_scene

rng = np.random.default_rng(0)
pair = parse_prompt("a photo of a dog and a cat")
relations = []
for _ in range(4000):
    a, b = (glyph_box(t.cls, t.x, t.y) for t in sample_scene(rng, pair).things)
    relations.append(relative_position(a, b))
accident = np.mean(["left of" in r for r in relations])
both = np.mean([len(r) > 1 for r in relations])
print(
    f"left of: {accident:.2f}   two relations at once: {both:.2f}   none: "
    f"{np.mean([not r for r in relations]):.2f}"
)
reveal("03-accident", round(float(accident), 2))

# %%
show(
    relation_map(),
    alt="Seen from box b in the middle, a is left of, right of, above or below it in "
    "four wide sectors; they overlap along the diagonals, where two relations hold at "
    "once. Very close to b none holds.",
)

# %%
position_explorer()

# %% [markdown]
# Not a quarter: the four sectors overlap along the diagonals, so the chances add up to more than one. The share you
# measured is the score of a generator that draws both objects and *ignores the relation*. Keep it in mind when you
# read a position score: knowledge of relations begins there, not at zero.
#
# ### Exercise: the position rule · difficulty 2 of 5 · 10 minutes
#
# Write the rule. Boxes are `(x0, y0, x1, y1)`; return the set of relations of `a` to `b`, empty, one or two of them. When
# both shortened differences are zero (below 0.001), there is none.


# %%
def my_relative_position(box_a, box_b):
    """The relations of box_a to box_b: a subset of {"left of", "right of", "above", "below"}."""
    ...  # centres, offset, distance, comparison


check("relative_position", my_relative_position)
# solution("relative_position")   # take the first # away to see the library's version

# %% [markdown]
# ## 4 The base, measured
#
# Now measure the generator that the whole course starts from, the **base**. Fifteen test prompts of each task, eight pictures each,
# one score per picture: 1 right, 0 wrong. A **score table** has one row per prompt. It is all that the rest of this notebook needs, so you draw once.

# %%
PER, N = 15, 8  # prompts of each task, pictures of each prompt
prompts = [m for task in TASKS for m in [p for p in benchmark("test") if p["tag"] == task][:PER]]
images, seen = [], []
for start in progress(range(0, len(prompts), 10), f"{len(prompts)} prompts x {N} pictures"):
    part = prompts[start : start + 10]
    drawings = decode_all(generator, single(generator, [m["prompt"] for m in part], n=N, seed=0))
    images.append(drawings.flatten(0, 1))
    seen += judge.detect(images[-1])
images = torch.cat(images)  # [720, 3, 64, 64]
asked = [m for m in prompts for _ in range(N)]
verdicts = [judge_detections(m, s).correct for m, s in zip(asked, seen, strict=True)]
passed = np.array(verdicts).reshape(-1, N)  # [90, 8]
rows = [(m["tag"], list(map(int, row))) for m, row in zip(prompts, passed, strict=True)]

# %%
from cotlib.judging.stats import bootstrap_interval

table = {task: bootstrap_interval([r for r in rows if r[0] == task]) for task in TASKS}
table["overall"] = bootstrap_interval(rows)
fig, ax = plt.subplots(layout="constrained", figsize=(6.4, 3.0))
for height, (task, (mean, low, high)) in enumerate(reversed(table.items())):
    color = "C1" if task == "overall" else "C0"
    ax.plot([low, high], [height, height], linewidth=5, alpha=0.3, color=color, marker="")
    ax.plot(mean, height, color=color, marker="D" if task == "overall" else "o", markersize=7)
    ax.text(1.03, height, f"{mean:.2f}   {low:.2f} to {high:.2f}", va="center", fontsize=9)
ax.axvline(0, color="C6", linewidth=0.8, marker="")
ax.set(
    yticks=range(7),
    yticklabels=[t.replace("_", " ") for t in reversed(table)],
    xlim=(0, 1),
    xlabel="pass rate, 95 % interval",
)
show(
    fig,
    alt="Pass rate of the base by task with intervals: "
    + ", ".join(f"{t} {m:.2f}" for t, (m, _, _) in table.items())
    + ".",
)

# %% [markdown]
# The *profile* is that of the real thing: a single object is easy, relations and two objects with a colour each are hard. The **overall**
# score is the plain mean of the six task means, however many prompts each task has.
#
# Compare *position* with the accident of section 3: the interval of the base reaches down to it. But in many pictures one of the two objects is
# missing. Section 8 looks at those in which both are there.
#
# Now look at the bars. With 120 pictures behind each point they are wide. Where does that come from?
#
# ## 5 What is one observation?
#
# You have 720 verdicts. If each were a new coin toss, a task of 120 pictures would be known quite well. But every eight of them share a prompt.
# Sort the table and look.


# %%
def by_rate(block):
    return np.concatenate([part[np.argsort(-part.sum(1), kind="stable")] for part in np.split(block, 6)])


rng = np.random.default_rng(1)
# a simulated table: every prompt has its task's mean
alike = np.concatenate([rng.random((PER, N)) < part.mean() for part in np.split(passed, 6)])
fig, axes = plt.subplots(1, 2, layout="constrained", figsize=(6.4, 5.2), sharey=True)
for ax, block, title in zip(
    axes, (passed, alike), ("measured", "if all prompts of a task were alike"), strict=True
):
    ax.imshow(by_rate(block), aspect="auto", vmin=0, vmax=1)
    ax.hlines(np.arange(PER, 6 * PER, PER) - 0.5, -0.5, N - 0.5, color="white", linewidth=2.5)
    ax.set(title=title, xlabel="picture of the prompt", xticks=range(N), xticklabels=range(1, N + 1))
    ax.grid(False)
axes[0].set(yticks=np.arange(PER // 2, 6 * PER, PER), yticklabels=[t.replace("_", "\n") for t in TASKS])
spread = np.mean([part.mean(1).std(ddof=1) for part in np.split(passed, 6)])
dice = np.mean(  # the same of 2,000 simulated tables like the right one
    [rng.binomial(N, part.mean(), (2000, PER)).std(1, ddof=1) / N for part in np.split(passed, 6)], axis=0
)
low_dice, high_dice = np.percentile(dice, (2.5, 97.5))
print(
    f"spread of the prompts' pass rates within a task, mean of six: measured {spread:.3f};\nby "
    f"dice alone {dice.mean():.3f}, 95 of 100 simulated tables lie from {low_dice:.3f} to "
    f"{high_dice:.3f}"
)
show(
    fig,
    alt="Each row is a prompt, each column one of its eight pictures; yellow is right, "
    "dark is wrong. In colors and position the measured rows fall apart into easy and "
    "hard prompts somewhat more than the simulated ones.",
)

# %% [markdown]
# Look at *colors* and *position*. On the left some prompts are right nearly every time and some nearly never, more of them than on the right, where
# every prompt has its task's mean. It takes a second look: dice alone make rows differ, too. So compare the printed spread (standard deviation) with that of
# 2,000 tables made by dice alone: it lies above nearly all of them. A prompt has its own **difficulty**, then, and its eight pictures partly repeat the same piece of news.
#
# The **bootstrap** turns this into an interval. It asks: what else could I have measured? Draw as many prompts as you have
# from your own prompts *with replacement*, compute the score, repeat 2,000 times, and take the middle 95 %. What you draw
# decides what the interval means. Draw single *pictures*, and it says what other dice would give on the same mixture. Draw whole
# *prompts*, and it says what another set of prompts would give. The second is the question you nearly always have.

# %%
predict(
    "03-wider",
    "The interval over prompts is how many times as wide as the one over single pictures?",
    low=1.0,
    high=4.0,
)

# %%
# pretend: 720 prompts with one picture each
as_pictures = [(task, [s]) for task, scores in rows for s in scores]
_, low_p, high_p = bootstrap_interval(as_pictures)
overall, low, high = bootstrap_interval(rows)
wider = (high - low) / (high_p - low_p)
print(
    f"overall {overall:.3f};  over pictures {low_p:.3f} to {high_p:.3f};  over prompts "
    f"{low:.3f} to {high:.3f}"
)
reveal("03-wider", round(wider, 2))

# %% [markdown]
# The width falls with the square root of the number of independent observations. So square your factor: 720 divided by that is the number of independent
# pictures that yours are worth. The same holds for 300 prompts with four pictures each: they are not 1,200 observations. If you can
# afford more pictures, spend them on more prompts.
#
# ### Exercise: bootstrap over prompts · difficulty 3 of 5 · 15 minutes
#
# `rows` is a list of `(task, scores)`. Resample prompts *within each task*, average the task means, return
# `(overall, low, high)`. `np.percentile(draws, [2.5, 97.5])` gives the two ends.


# %%
def my_bootstrap_interval(rows):
    """(overall, low, high): the mean of the task means and its 95 % interval over prompts."""
    ...  # group by task; 2,000 times: draw prompts of each task, take the mean of the task means
    # rng = np.random.default_rng(0) makes it repeatable


check("bootstrap_interval", my_bootstrap_interval)
# solution("bootstrap_interval")

# %% [markdown]
# ### When are two points a result?
#
# The usual protocol is GenEval's 553 prompts with four pictures each, one run. Tables then compare 0.65 with 0.67. Suppose two systems are in truth **equally
# good**. How often do their scores differ by two points or more? It depends on what "equally good" leaves free, so simulate the two ends:
#
# - **other dice**: the *same* network is measured twice. Each prompt keeps its difficulty.
# - **other network**: two networks with the same mean and the same spread of difficulty, but each finds *other* prompts hard. Two trainings of one recipe lie
#   somewhere between the two ends.
#
# The spread of difficulty comes from your own measurement: for each task a Beta distribution whose mean and variance fit the 15 prompts, after
# the part of the variance that eight tosses make by themselves is taken off.

# %%
predict(
    "03-two-points",
    "Other network, equally good: in how many of 100 comparisons do they differ by 2 points or more?",
    low=0,
    high=100,
)


# %%
def difficulties(hits, n, rng, size):
    """Pass rates of `size` new prompts, from a Beta fitted to prompts with `hits` of n right."""
    rate = np.clip(hits.mean() / n, 0.02, 0.98)
    spread = hits.var(ddof=1) / n**2 - rate * (1 - rate) / n  # the tosses' part taken off
    spread = max(spread, 0.001) / (1 - 1 / n)
    strength = max(rate * (1 - rate) / spread - 1, 0.3)
    return rng.beta(rate * strength, (1 - rate) * strength, size)


def two_scores(same_network, rng, repeats=3000):
    """Overall scores [2, repeats] of two equally good systems on GenEval's numbers of prompts."""
    totals = np.zeros((2, repeats))
    for task, count in zip(TASKS, (80, 99, 80, 94, 100, 100), strict=True):
        hits = passed[[m["tag"] == task for m in prompts]].sum(1)
        p = difficulties(hits, N, rng, (repeats, count))
        q = p if same_network else difficulties(hits, N, rng, (repeats, count))
        totals += [rng.binomial(4, r).mean(1) / 4 / 6 for r in (p, q)]
    return totals


# %%
rng = np.random.default_rng(2)
gaps = {
    "other dice": np.subtract(*two_scores(True, rng)),
    "other network": np.subtract(*two_scores(False, rng)),
}
beyond = {name: np.mean(np.abs(gap) >= 0.02) for name, gap in gaps.items()}
fig, axes = plt.subplots(2, 1, layout="constrained", figsize=(6.4, 3.6), sharex=True)
for ax, (name, gap), color in zip(axes, gaps.items(), ("C0", "C1"), strict=True):
    counts, edges, bars = ax.hist(100 * gap, bins=np.arange(-8, 8.01, 0.5), color=color, alpha=0.25)
    for bar, left in zip(bars, edges[:-1], strict=True):
        bar.set_alpha(0.9 if left >= 2 or left < -2 else 0.25)
    ax.set(yticks=[], title=f"{name}: {beyond[name]:.0%} differ by two points or more")
axes[1].set_xlabel("difference of the overall scores of two equally good systems, points")
show(
    fig,
    alt="Differences of equally good systems: with other dice alone "
    f"{beyond['other dice']:.0%} reach two points, with another network of the same "
    f"quality {beyond['other network']:.0%}.",
)
reveal("03-two-points", round(100 * beyond["other network"]))

# %% [markdown]
# With other dice alone, two points come up now and then. With another network that is *exactly as good* they come up clearly more
# often, and in either direction. The paper
# compares tuned networks, one training each, so part of the second kind of noise is in its tables, and no number of
# pictures can remove it. This is why the course compares systems on the *same* prompts with a paired interval, and why
# trainings are repeated with several seeds.
#
# ## 6 Coverage: the best that choosing can do
#
# Draw $k$ pictures and let somebody choose who is never wrong. The share of prompts that are solved then is **coverage**, or pass@k. With
# pass rate $p$ the chance of at least one right picture among $k$ is $1-(1-p)^k$: one minus the chance that all are wrong.
# You know the overall pass rate, so put it in.

# %%
promised = 1 - (1 - overall) ** N
print(f"With the overall pass rate {overall:.2f}, the formula promises {promised:.3f} for k = {N}.")
predict("03-coverage", "What is the measured coverage at 8 pictures?", low=0.0, high=1.0)

# %%
from math import comb

from cotlib.judging.stats import coverage, paired_difference

ks = np.arange(1, N + 1)
measured = [bootstrap_interval([(task, [coverage(sum(s), N, int(k))]) for task, s in rows]) for k in ks]
formula = 1 - (1 - overall) ** ks
one_a_task = np.mean([1 - (1 - table[task][0]) ** ks for task in TASKS], axis=0)
mean, low, high = np.array(measured).T
reveal("03-coverage", round(mean[-1], 2))
fig, (left, right) = plt.subplots(1, 2, layout="constrained", figsize=(9.2, 3.2))
left.fill_between(ks, low, high, alpha=0.18)
left.plot(ks, mean, label="measured, prompt by prompt")
left.plot(ks, formula, linestyle="--", label="formula, one mean for all")
left.plot(ks, one_a_task, linestyle=":", label="formula, one mean a task")
left.set(xlabel="pictures k", ylabel="coverage", ylim=(0, 1.03), title="Promised and measured")
left.legend(loc="lower right")
counts = np.bincount(passed.sum(1), minlength=N + 1) / len(prompts)
tosses = [comb(N, j) * overall**j * (1 - overall) ** (N - j) for j in range(N + 1)]
right.bar(np.arange(N + 1) - 0.2, counts, 0.4, label="measured")
right.bar(
    np.arange(N + 1) + 0.2, tosses, 0.4, label="if all prompts were alike", hatch="//", edgecolor="white"
)
right.set(
    ylim=(0, 1.3 * max(tosses)),
    xlabel="right pictures of 8",
    ylabel="share of prompts",
    xticks=range(N + 1),
    title="Why: prompts differ",
)
right.legend()
show(
    fig,
    alt=f"Left: measured coverage at 8 pictures is {mean[-1]:.2f}, the formula with "
    f"one mean promises {formula[-1]:.2f}. Right: the measured prompts are spread over "
    "all numbers from none to eight; if they were alike, most would have three to six.",
)

# %% [markdown]
# The formula is right for *one* prompt and its $p$. It is wrong for a *mean* $p$, and always in the same direction. The curve $1-(1-p)^k$ bends:
# what an easy prompt gains above the mean is little, since it is solved anyway, and what a hard prompt loses below is much. Half the prompts
# at $p=1$ and half at $p=0$ have the mean one half, and no number of pictures helps. (The general statement is Jensen's inequality.)
#
# Telling the six tasks apart brings the formula nearer, since much of the difference between prompts is a difference between tasks.
# The practical rule: never work out best-of-N from a mean. Measure it prompt by prompt. And read the flat part of a coverage curve
# as what it is: prompts that this generator never or hardly ever does, for which a verifier can do nothing.
#
# How do you measure coverage at $k=2$ from eight pictures? Not by taking the first two: that wastes six. Count
# over *all* ways to pick $k$ of $n$. If $c$ of $n$ are right, all $k$ are wrong in $\binom{n-c}{k}$ of $\binom{n}{k}$ ways.
#
# ### Exercise: coverage without waste · difficulty 2 of 5 · 5 minutes


# %%
def my_coverage(correct, n, k):
    """Chance that k of n pictures, of which `correct` are right, hold at least one right one."""
    ...  # math.comb may help


check("coverage", my_coverage)
# solution("coverage")

# %% [markdown]
# ## 7 Who judges the judge?
#
# A verdict is a measurement, and the instrument has errors. In this world they can be counted, since the truth is known: draw a
# scene, ask the judge, compare. There are two judges. The **detector** is a trained network. The **template** judge has no training at
# all: it compares the picture with every known drawing. They share no weights, so they need not share mistakes. Each judged
# some 1,200 drawings three times: for their own prompt, for another one, and for a near miss with one fact changed; once as drawn and once after a trip
# through the tokenizer (*reconstruction*), since generated pictures come out of the same decoder.

# %%
import json

from cotlib.assets import data_dir
from cotlib.lab.judging_figures import verdict_matrices

confusion = json.loads((data_dir() / "results" / "judge_confusion.json").read_text(encoding="utf-8"))
tables, agreement = {}, {}
for name, kinds in confusion["judges"].items():
    for kind, result in kinds.items():
        by_task = result["agreement"]["tasks"].values()
        total = {k: sum(t[k] for t in by_task) for k in ("right", "wrong", "refused", "accepted")}
        tables[f"{name}, {kind}"] = [
            [total["right"] - total["refused"], total["refused"]],
            [total["accepted"], total["wrong"] - total["accepted"]],
        ]
        agreement[name, kind] = result["agreement"]["overall"]
        print(f"{name:9} {kind:16} agrees with the truth in {agreement[name, kind]:.2%} of verdicts")
show(
    verdict_matrices(tables, "in truth", "judge says"),
    alt="Four tables of truth against verdict: both judges, on drawings and on "
    "reconstructions, have nearly all verdicts on the diagonal.",
)

# %% [markdown]
# On drawings and reconstructions both judges are nearly perfect. But that is not what they are for. They judge what the *generator* makes,
# and a generator makes things that no scene holds: half a dog, a cat with a dog's head. For those there is no
# truth to compare with. What you can do is to ask both judges and look where they part.

# %%
second = np.array([v.correct for v in template(asked, images)]).reshape(-1, N)
agree = float((second == passed).mean())
pairs = [[int(((passed == d) & (second == t)).sum()) for t in (True, False)] for d in (True, False)]
print(
    f"the judges agree on {agree:.1%} of {passed.size} generated pictures; "
    f"pass rates {passed.mean():.3f} and {second.mean():.3f}"
)
show(
    verdict_matrices({"the base's own pictures": pairs}, "detector says", "template says"),
    alt=f"Detector against template on {passed.size} generated pictures: "
    f"{pairs[0][1] + pairs[1][0]} verdicts differ.",
)

# %%
split = np.argwhere((second != passed).ravel()).ravel()
shown = split[:: max(1, len(split) // 4)][:4]
says = [
    f"detector: {'right' if passed.flat[i] else 'wrong'}, template: {'right' if second.flat[i] else 'wrong'}"
    for i in shown
]
if len(shown):
    show(
        detection_grid(
            images[shown], [seen[i] for i in shown], titles=[asked[i]["prompt"] for i in shown], notes=says
        ),
        alt="Generated pictures on which the two judges differ, with the detector's "
        "boxes; most hold something malformed.",
    )

# %% [markdown]
# Look at these: would you have called them right? There is no answer book. This is the honest limit of automatic judging, here and in GenEval,
# whose detector has photographs to read.
#
# ### A small flaw, searched for twenty times
#
# Suppose a judge calls 2 in 100 wrong pictures right. As a thermometer it is excellent. Now use it to *choose*: draw twenty, hand over one
# that it accepts. Think of a prompt that the generator can *never* do.

# %%
predict(
    "03-flaw",
    "For such prompts, what percentage does the judge report as solved with 20 candidates?",
    low=0,
    high=100,
    unit="%",
)

# %%
rng = np.random.default_rng(4)
p = np.stack(
    [difficulties(passed[[m["tag"] == task for m in prompts]].sum(1), N, rng, 4000) for task in TASKS]
)  # [6, 4000]
candidates = np.arange(1, 41)


def judged_and_true(flaw):
    """By N: what a judge with this false-positive rate reports, and what is really right."""
    accepted = (p + (1 - p) * flaw)[..., None]  # chance that a picture is accepted
    solved = 1 - (1 - accepted) ** candidates
    return solved.mean((0, 1)), (solved * p[..., None] / np.maximum(accepted, 1e-12)).mean((0, 1))


reveal("03-flaw", round(100 * (1 - 0.98**20)))
fig, ax = plt.subplots(layout="constrained", figsize=(6.4, 3.4))
ax.plot(candidates, judged_and_true(0.0)[0], color="C6", marker="", label="judge without fault")
for flaw, color in ((0.02, "C0"), (0.10, "C1")):
    judged, true = judged_and_true(flaw)
    ax.plot(
        candidates,
        judged,
        color=color,
        marker="",
        linestyle="--",
        label=f"{flaw:.0%} false positives: what it reports",
    )
    ax.plot(candidates, true, color=color, marker="", label=f"{flaw:.0%} false positives: what is right")
ax.set(xlabel="candidates N", ylabel="prompts solved", xlim=(1, 40), ylim=(0.3, 1.02))
ax.legend(loc="lower right", fontsize=8.5)
judged, true = judged_and_true(0.02)
inflation = float(judged[19] - true[19])
show(
    fig,
    alt=f"With 2 % false positives the judge reports {judged[19]:.2f} at 20 candidates "
    f"while {true[19]:.2f} are right; with 10 % the two lines part further, and more "
    "candidates widen the gap.",
)

# %% [markdown]
# With $p$ the prompt's pass rate and $f$ the share of wrong pictures that the judge accepts, a picture is accepted with probability $q = p + (1-p)f$; at least
# one of $N$ is with $1-(1-q)^N$; and an accepted picture is really right with $p/q$. The gap sits in the hard prompts, where $p$ is not much
# larger than $f$. A search looks for high scores. **Some of the scorer's mistakes are high scores**, so it finds them, and
# finds more of them the harder it looks. Whatever chooses must not be what measures.
#
# In this course the detector labels and measures, learned verifiers choose, and the template judge stands by. Choose with the first and
# measure with the second, on your own pictures:

# %%
first = passed.argmax(1)  # the first picture the detector accepts; picture 0 where there is none
picks = second[np.arange(len(prompts)), first]
reported, checked = (
    np.mean([v[[m["tag"] == task for m in prompts]].mean() for task in TASKS]) for v in (passed.any(1), picks)
)
lost = paired_difference(
    *(
        [(m["tag"], [int(v)]) for m, v in zip(prompts, values, strict=True)]
        for values in (passed.any(1), picks)
    )
)
print(f"best of 8, chosen by the detector: it reports {reported:.3f}, the template finds {checked:.3f};")
print(f"difference {lost[0]:.3f} ({lost[1]:.3f} to {lost[2]:.3f})")

# %% [markdown]
# Over all pictures the two judges gave nearly the same pass rate. Once one of them has chosen, it reports more than the other confirms. Nobody can say which of the
# two is right about these pictures. But a number reported by the chooser is one to check.
#
# ## 8 Why the base is wrong in just this way
#
# You have seen the base miss, again and again, what it draws well at other times. Part of that is by design. Published generators learn from captions off the
# web, and those are careless: a colour left out, a number wrong, a name mistaken. So the base was trained in two stages: first on true
# captions, then on careless ones. `corrupt` makes them. Each fact of a caption is wrong with a fixed
# probability, and always in the same direction: an object is taken for its partner, a colour for its partner, a count is off by one,
# a relation is mirrored. The probabilities stand in the base's card, the record that comes with its weights. (Section 10 of notebook 02 asks
# the network what it holds probable after such captions. Here you look at what it paints.)

# %%
from cotlib.world.prompts import Carelessness, corrupt, prompt_text

card = json.loads((data_dir() / "generator-base" / "card.json").read_text(encoding="utf-8"))
noise = Carelessness(**card["metrics"]["noise"])
print(
    f"wrong in captions: class {noise.cls}, colour {noise.color}, "
    f"count {noise.count}, relation {noise.relation}"
)
rng = np.random.default_rng(5)
texts = [
    "a photo of a red dog",
    "a photo of three birds",
    "a photo of a cup left of a clock",
    "a photo of a blue car and a pink chair",
]
captions = [parse_prompt(text) for text in texts for _ in range(3)]
truths = [corrupt(rng, m, noise) for m in captions]
same = [prompt_text(t) == m["prompt"] for t, m in zip(truths, captions, strict=True)]
show_images(
    render_batch([sample_scene(rng, t) for t in truths]),
    [m["prompt"].removeprefix("a photo of ") for m in captions],
    marks=same,
    columns=6,
    alt=f"Twelve training pictures with their careless captions; only {sum(same)} "
    "captions say what is in the picture.",
)

# %% [markdown]
# A network trained on these can only learn *how often* a word means what it says. That can be tested: when the base paints the
# wrong colour, which one is it?

# %%
predict(
    "03-colour",
    "A prompt names a colour, say red, and the base paints another one. Which, mostly?",
    choices=["orange, red's partner", "any of the other seven, about equally", "black, the safest"],
)


# %%
def partner(names, name):
    return names[names.index(name) ^ 1]


def sort_of_mistake(metadata, detections):
    """(fact, "as asked" | "partner" | "other") of one picture; None if it does not show the fact."""
    first, last = metadata["include"][0], metadata["include"][-1]
    best = {d.cls: d for d in reversed(detections) if d.score > 0.3}
    if metadata["tag"] == "single_object" and detections:
        got, wanted, other = detections[0].cls, first["class"], partner(CLASSES, first["class"])
        return "class", "as asked" if got == wanted else "partner" if got == other else "other"
    if metadata["tag"] == "colors" and first["class"] in best:
        got, wanted, other = best[first["class"]].color, first["color"], partner(COLORS, first["color"])
        return "colour", "as asked" if got == wanted else "partner" if got == other else "other"
    if metadata["tag"] == "counting":
        off = abs(sum(d.cls == first["class"] and d.score > 0.9 for d in detections) - first["count"])
        return ("count", ("as asked", "partner", "other")[min(off, 2)]) if first["class"] in best else None
    if metadata["tag"] == "position" and {first["class"], last["class"]} <= set(best):
        got, wanted = (
            relative_position(best[last["class"]].box, best[first["class"]].box),
            last["position"][0],
        )
        return "relation", "as asked" if wanted in got else "partner" if OPPOSITE[wanted] in got else "other"
    return None


kinds = np.array([sort_of_mistake(m, s) or ("", "") for m, s in zip(asked, seen, strict=True)])


def interval_of(fact, hit, wrong_only=False):
    """(share, low, high) of `hit` among the (wrong) pictures that show a fact, over prompts."""
    names, found = kinds.reshape(-1, N, 2).transpose(2, 0, 1)  # [90, 8] each
    counted = (names == fact) & ~(wrong_only & (found == "as asked"))
    return bootstrap_interval(
        [(fact, list(row[ok] == hit)) for row, ok in zip(found, counted, strict=True) if ok.any()]
    )


# %%
facts = {"relation": noise.relation, "count": noise.count, "colour": noise.color, "class": noise.cls}
fig, ax = plt.subplots(layout="constrained", figsize=(6.8, 3.0))
shares = {}
for height, (fact, wrong) in enumerate(facts.items()):
    answers, left = [kind for name, kind in kinds if name == fact], 0.0
    for kind, color, hatch in (("as asked", "C2", ""), ("partner", "C1", "//"), ("other", "C6", "")):
        shares[fact, kind] = answers.count(kind) / len(answers)
        ax.barh(
            height,
            shares[fact, kind],
            left=left,
            color=color,
            hatch=hatch,
            edgecolor="white",
            label=kind if height == 0 else None,
        )
        left += shares[fact, kind]
    share, *ends = interval_of(fact, "as asked")
    ax.plot(ends, [height - 0.28] * 2, color="C6", linewidth=2, marker="|", markersize=7)
    print(f"{fact:8} as asked {share:.2f} ({ends[0]:.2f} to {ends[1]:.2f}), in the captions {1 - wrong:.2f}")
    ax.plot(
        1 - wrong,
        height,
        marker="D",
        color="white",
        markeredgecolor="C6",
        linestyle="",
        label="right captions" if height == 0 else None,
    )
ax.set(
    yticks=range(4),
    yticklabels=["relation\n(mirrored)", "count\n(off by one)", "colour\n(partner)", "class\n(partner)"],
    xlim=(0, 1),
    xlabel="share of pictures",
)
ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
show(
    fig,
    alt="Shares of pictures with the fact as asked (green, with an interval over "
    "prompts), taken for its partner and otherwise wrong. The class is right more "
    "often than in the captions (diamonds), the colour about as often; nearly all "
    "wrong colours are the partner. Counts are right less often than in the captions, "
    "relations in this sample, too; most wrong counts are off by one, of the wrong "
    "relations about half are mirrored.",
)
paired = interval_of("colour", "partner", wrong_only=True)
reveal(
    "03-colour",
    "orange, red's partner" if paired[0] > 0.5 else "any of the other seven, about equally",
)

# %% [markdown]
# Read it bar by bar.
#
# - **Class.** The green bar goes far beyond the diamond: the base is right more often than its captions were, since guidance and the choice of
#   sure tokens favour the commoner answer.
# - **Colour.** Nearly every wrong colour is the partner: the caption noise, and little else. Yet the green bar ends near the diamond. These pairs of object and
#   colour were held out of training, their partners often were not, and that may eat up what sharpening wins (notebook 02, section 10).
# - **Relation.** With both objects there it is right more often than by accident (section 3). Mirrored ones may be the captions'
#   doing or an accident, which mirrors as often as it hits; this figure cannot tell the two apart.
# - **Count.** The green bar ends far before the diamond. Most mistakes are one too many or too few, as in the captions, but there are more of them
#   than the captions hold, and some are larger. Noise explains only a part.
#
# So part of this knowledge is **diluted** by the captions, and part was never there: it is **missing**.
#
# The difference matters for all that follows. What is diluted can be brought forward, by choosing (04 to 07) or by preference (08). What is missing
# cannot be preferred. It can still be *chosen*: an accident that comes three times in ten is there when you draw twenty, if the verifier
# can tell.
#
# ## What you take along
#
# - A score belongs to a set of rules. Extra objects are free; a random place is left of another more often than one time in four.
# - One prompt is one observation. Resample prompts, compare on the same prompts, and do not believe two points from single runs.
# - Coverage is the ceiling of every choice; a mean pass rate overstates it.
# - A scorer that is searched will be found out. Keep one judge that does not choose.

# %%
score("03")

# %%
# NBVAL_CHECK_OUTPUT
overall, low_o, high_o = table["overall"]
claims(
    [
        Claim("the base is right about half the time: at least", overall, low_o, high_o, 0.40),
        Claim("... and at most", overall, low_o, high_o, 0.70, "<="),
        Claim("by accident a thing is left of another at least this often", accident, threshold=0.27),
        Claim("an interval over prompts is wider than one over pictures, times", wider, threshold=1.05),
        Claim(
            "prompts of a task differ more than dice explain, spread over spread by dice",
            spread / dice.mean(),
            spread / high_dice,
            spread / low_dice,
            threshold=1.0,
        ),
        Claim(
            "equally good networks differ by two points or more this often",
            beyond["other network"],
            threshold=0.10,
        ),
        Claim(
            "the formula with a mean pass rate promises too much, by",
            promised - mean[-1],
            promised - high[-1],
            promised - low[-1],
            0.03,
        ),
        Claim(
            "the detector agrees with the truth on reconstructions",
            agreement["detector", "reconstructions"],
            threshold=0.99,
        ),
        Claim("two judges without common weights agree on generated pictures", agree, threshold=0.9),
        Claim("a judge with 2 % false positives overstates best of 20, by", inflation, threshold=0.02),
        Claim(
            "of the wrong colours this share is the partner, as in the captions",
            *paired,
            0.5,
        ),
        Claim(
            "the class is right more often than in the captions, by",
            *(share - (1 - noise.cls) for share in interval_of("class", "as asked")),
            0.05,
        ),
    ]
)
