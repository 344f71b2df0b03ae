# %% [markdown]
# # 05 Process reward models: judge every step?
#
# <!-- badges -->
#
# Best of twenty draws nineteen pictures for the bin, each to its very end, although some were lost after a few rounds. Why not look after *every* round, and spend
# the rest only on what promises to become right? In text reasoning such step-by-step checking won. For pictures the paper reports next to no gain. Here you find out
# why, and the reason decides how the next two notebooks search.
#
# After this notebook you can
#
# - say what a *step* is when a picture is drawn in rounds, and label one by rollouts;
# - run a search that branches, asks and keeps one at every step, and say what it costs;
# - measure a verifier step by step, and tell accuracy over prompts from ranking within a state;
# - explain why asking at every step buys less than its price.
#
# <!-- facts -->
#
# New words stand in the [glossary](00_welcome.ipynb#Glossary). Notebook 04 is about verifiers of finished pictures; here they are asked about
# unfinished ones.

# %% tags=["setup"]

# %%
import json

import numpy as np
import torch

from cotlib import load
from cotlib.assets import data_dir
from cotlib.decoding import run_steps
from cotlib.decoding.noise import path_uniforms
from cotlib.devices import on_all_cores
from cotlib.interfaces import FINAL, STEP
from cotlib.judging.stats import bootstrap_interval, paired_difference
from cotlib.lab import Claim, check, claims, predict, progress, reveal, score, show, step_strip
from cotlib.lab.paper import published
from cotlib.lab.prm_figures import (
    branch_game,
    branch_rows,
    decision_tree,
    difference_figure,
    pass_share_figure,
    rollout_figure,
    spread_figure,
    step_curves,
)
from cotlib.search import Ledger, logprob, orm, prm
from cotlib.search.decisions import decide
from cotlib.train.verifier_rollouts import OTHER_DICE, continue_rounds, roll_out
from cotlib.verifying.steps import accuracy_interval, ranking_interval, spread, step_labels
from cotlib.world.prompts import benchmark
from cotlib.world.scenes import TASKS

generator, judge = load("generator"), load("judge")
zero_shot, tuned, outcome_verifier = (load("verifier", weights=name) for name in ("zero-shot", "prm", "orm"))
S = generator.config.steps  # rounds of a path

# %% [markdown]
# ## 1 An idea from reasoning in text
#
# > *Four boxes hold six pens each. Five pens are lost. How many are left?*
# >
# > 1. Four times six is 24.
# > 2. 24 minus 5 is 20.
# > 3. So 20 pens are left.
#
# An **outcome reward model** (ORM, notebook 04) reads the last line and says *wrong*. A **process reward model** (PRM) reads line by line: 1 is right,
# 2 is wrong. That is worth more. A search can stop at line 2, go back to line 1 and try another line 2. In text reasoning this helps: Lightman and others (2023,
# [arXiv 2305.20050](https://arxiv.org/abs/2305.20050)) had people label 800,000 single lines and found that choosing by lines beats choosing by outcomes.
#
# Can a *drawing* be checked line by line? First we need lines. The generator fills its 64 tokens in masked rounds. In each it guesses all hidden tokens, keeps
# the surest and hides the rest. Decode the full guess after a round, and you have a picture. That picture is the **step** a PRM judges.

# %%
prompt = next(m for m in benchmark("test") if m["tag"] == "two_object")
path = list(run_steps(generator, [prompt["prompt"]], [0], seed=0))
masked_left = [int(step.masked.sum()) for step in path]
show(
    step_strip(path, generator.decode, columns=8),
    alt=f'One path for "{prompt["prompt"]}", step by step. Above, the full guess: a '
    "blur at first, then things take shape and stay. Below, what is fixed: "
    f"{64 - masked_left[0]} of 64 tokens after step 1, {64 - masked_left[3]} after "
    f"step 4, all after step {S}.",
)

# %% [markdown]
# Compare the two kinds of steps, since the idea is borrowed:
#
# | | a line of reasoning | a step of this drawing |
# |---|---|---|
# | what is judged | a sentence that was written | a guess, most of which is thrown away again |
# | stays in the answer? | yes, word for word | only the few tokens fixed by then |
# | can be read by itself? | yes, from the first line on | early ones are blurred |
# | can be *wrong*? | yes: 24 minus 5 is not 20 | hardly; it can only make a right end more or less likely |
#
# The last row is the deepest difference. A false line is false whatever follows. A half-drawn picture is not false, it is *open*. So "is this step right?" has
# no answer here. The paper asks another question: **can it still end well?**
#
# ## 2 The search: branch, ask, keep one
#
# With a verifier of steps, the search is short. At each step $n$ **branches** go out from the one state that was kept. Each branch draws its own codes, from the same
# probabilities, and makes its own choice of tokens to keep. The verifier looks at every branch's full guess. The branch with the highest P(yes) stays, the others
# are dropped. After the last step the branches are finished pictures, and the one kept is the result.
#
# The authors released no code for their PRM, so this is our reading of their section 3.2. How exactly branches differ is not said there.
#
# Here is one search with $n = 4$. The verifier is the **zero-shot** one: it was trained on clean drawings and has never seen an unfinished picture. At every step it is
# asked FINAL, "is this picture what the prompt asks for?", as in the paper.

# %%
decisions = decide(generator, [prompt["prompt"]], n=4, seed=1, verifier=zero_shot, question=FINAL)
guesses = torch.stack([generator.decode(d.step.codes) for d in decisions])  # [S, 4, 3, 64, 64]
kept = [d.kept[0] for d in decisions]
right = judge([prompt], guesses[-1, kept[-1]][None])[0].correct
show(
    decision_tree(guesses, [d.scores for d in decisions], kept, right),
    alt=f'The search for "{prompt["prompt"]}": eight columns of four branches with the '
    "P(yes) of each, without pale haze. The framed one is kept, and all of the next "
    "column come from it. The first columns hold very different pictures, the last "
    "ones nearly the same one four times. The result is "
    f"{'right' if right else 'wrong'}.",
)
outcome = prm(generator, [prompt["prompt"]], n=4, seed=1, verifier=zero_shot, question=FINAL)
same = torch.equal(outcome.paths[0][outcome.chosen[0]].codes, decisions[-1].step.codes[kept[-1]])
print("the same codes as from cotlib.search.prm:", same)

# %%
best_of_step = [max(d.scores) for d in decisions]
fall = max(range(S - 1), key=lambda t: best_of_step[t] - best_of_step[t + 1])
fixed = 64 - int(decisions[fall].step.masked[0].sum())
print(f"deepest fall: the branch kept in step {fall + 1} has P(yes) {best_of_step[fall]:.2f};")
print(f"of the four branches that go out from it the best has {best_of_step[fall + 1]:.2f}")
print(f"({fixed} of 64 tokens are fixed by then)")

# %% [markdown]
# Three things to look for:
#
# - In the **first columns** the four guesses differ in everything. But hardly a token is fixed, so what the verifier compares is mostly thrown away in the next round.
# - So a score **does not last**. The verifier may be sure of a branch, and a step later none of its own branches is any good.
# - In the **last columns** the four look alike. Whatever is wrong by then is wrong in all of them.
#
# Sections 4 and 5 measure this. First, who pays?

# %%
predict(
    "05-cost",
    "PRM with n = 20 sends how many times as many image tokens through the generator as ONE picture needs?",
    low=1,
    high=20,
    unit="times",
)

# %%
bills = {}
for name, run in {
    "one picture": lambda ledger: logprob(generator, [prompt["prompt"]], 1, 0, ledger),
    "best of 20": lambda ledger: orm(generator, [prompt["prompt"]], 20, 0, ledger, verifier=outcome_verifier),
    "PRM, n = 20": lambda ledger: prm(generator, [prompt["prompt"]], 20, 0, ledger, verifier=tuned),
}.items():
    bills[name] = Ledger()
    run(bills[name])
print(f"{'':14}{'token passes':>14}{'pictures decoded':>18}{'verifier calls':>16}")
for name, bill in bills.items():
    calls = sum(bill.verifier_calls.values())
    print(f"{name:14}{bill.generator_token_passes:14,}{bill.decodes:18}{calls:16}")
passes = {name: bill.generator_token_passes for name, bill in bills.items()}
calls_ratio = sum(bills["PRM, n = 20"].verifier_calls.values()) / sum(
    bills["best of 20"].verifier_calls.values()
)
reveal("05-cost", round(passes["PRM, n = 20"] / passes["one picture"], 1))

# %% [markdown]
# All branches of a step start from the same state. The network computes the probabilities **once**, and twenty branches are twenty draws from them. So PRM is the
# cheapest search of all for the generator, and the dearest for the verifier: it is asked at every step, eight times as often as in best-of-20. Which of
# the two matters depends on their size. In the paper the verifier is the larger network.
#
# ### Exercise: which branch goes on · difficulty 1 of 5 · 5 minutes
#
# `history` holds one list of scores for each step so far, the current one last; each list has the `n` branches of the first prompt, then those of the
# second, and so on. Return the branch number, 0 to `n - 1`, that each prompt goes on from. Of equal scores the lowest number wins.


# %%
def my_keep_branches(history, n):
    """The kept branch of each prompt: a list with one number for each."""
    ...  # which scores count?


check("keep_branches", my_keep_branches)
# solution("keep_branches")

# %% [markdown]
# ## 3 Labels by rollouts
#
# A tuned PRM needs examples: a state, and whether it is a good one. For text, people wrote those labels. Math-Shepherd (Wang and others, 2023,
# [arXiv 2312.08935](https://arxiv.org/abs/2312.08935)) replaced the people: **roll out** several continuations from the state to their ends, with other dice each
# time, and judge the ends. The paper does this with four continuations. A step gets the label *yes* if **any** of the four ends right.
#
# `continue_rounds` goes on from a state. What is fixed stays; what is masked is drawn anew.


# %%
def rolled_out(metadatas, codes, masked, done, k, first=0):
    """Codes [B, k, N] and verdicts [B, k] of k continuations of each state after `done` rounds.

    codes, masked: [B, N], one state for each metadata
    first: the number of the first dice, so that none comes twice
    """
    owners = [m for m in metadatas for _ in range(k)]
    texts = [m["prompt"] for m in owners]
    dice = path_uniforms(
        0, texts, list(range(OTHER_DICE + first, OTHER_DICE + first + len(texts))), (S, 2, codes.shape[1])
    )
    ends = continue_rounds(
        generator, texts, codes.repeat_interleave(k, 0), masked.repeat_interleave(k, 0), done, dice
    )
    verdicts = [v.correct for v in judge(owners, generator.decode(ends))]
    return ends.unflatten(0, (-1, k)), torch.tensor(verdicts).view(-1, k)


# %%
example = next(m for m in benchmark("test") if m["tag"] == "position")
path = list(run_steps(generator, [example["prompt"]], [1], seed=0))
own = judge([example], generator.decode(path[-1].codes))[0].correct
ends, verdicts = zip(
    *(rolled_out([example], path[s].codes, path[s].masked, s + 1, 4, 10 * s) for s in range(S - 1)),
    strict=True,
)
labels = step_labels(torch.cat(verdicts), own)
shown = [0, 2, 4, 6]
show(
    rollout_figure(
        generator.decode(torch.cat([path[s].codes for s in shown])),
        torch.cat([path[s].masked for s in shown]),
        torch.stack([generator.decode(ends[s][0]) for s in shown]),
        torch.cat(verdicts)[shown],
        shown,
        labels[shown],
    ),
    alt=f'States of one path for "{example["prompt"]}" and four continuations of each. '
    "After step 1 the four ends differ in places, colours and things. After step 7 "
    "they share places and shapes, and differ in patches. Ticks and crosses are the "
    "judge's; a single tick makes the label yes.",
)

# %% [markdown]
# ### Exercise: the label of a step · difficulty 2 of 5 · 5 minutes
#
# `right` holds the verdicts of the continuations, `[S - 1, 4]`: one row for the state after each step but the last. `own` is the verdict on the path's own
# picture. After the last step nothing is left to draw, so `own` is the last label. Return bool `[S]`.


# %%
def my_step_labels(right, own):
    """Whether the state after each of S steps is good, bool [S]."""
    ...  # when is a state good?


check("step_labels", my_step_labels)
# solution("step_labels")

# %% [markdown]
# Now roll out whole paths: one of each of 12 prompts, two a task, four continuations after each step. After step 1 only two of 64 tokens are fixed. Before
# you look:

# %%
predict(
    "05-label", "What percentage of the states after step 1 gets the label yes?", low=0, high=100, unit="%"
)


# %%
def some(per):
    """The first `per` test prompts of each task."""
    return [m for task in TASKS for m in [p for p in benchmark("test") if p["tag"] == task][:per]]


def counts_of(metadatas):
    """Right continuations [P, S] of each prompt's path 0, and verdicts [P] on its own picture."""
    steps = list(run_steps(generator, [m["prompt"] for m in metadatas], [0] * len(metadatas), seed=0))
    codes, masked = (torch.stack([getattr(s, what) for s in steps], dim=1) for what in ("codes", "masked"))
    own = np.array([v.correct for v in judge(metadatas, generator.decode(codes[:, -1]))])
    return roll_out(generator, judge, [(m, 0) for m in metadatas], codes, masked, own, seed=0), own


few = some(2)
rolled = progress(
    on_all_cores(counts_of, [few[i : i + 3] for i in range(0, 12, 3)]), "12 paths x 28 continuations", total=4
)
counts, own_ends = (np.concatenate(part) for part in zip(*rolled, strict=True))  # [12, S], [12]
(yes_first, share_first), (yes_last, share_last) = (
    (float((counts[:, s] > 0).mean()), float(counts[:, s].mean() / 4)) for s in (0, -2)
)
reveal("05-label", round(100 * yes_first))
show(
    pass_share_figure(counts, own_ends),
    alt="Left: continuations of paths that will end right are mostly right from step 1 "
    "on, those of paths that will end wrong are mostly wrong; single lines jump up and "
    "down in the first steps and settle. Right: the share of all continuations goes "
    f"from {share_first:.2f} after step 1 to {share_last:.2f} after step 7, the label "
    f"yes from {yes_first:.2f} to {yes_last:.2f}.",
)

# %% [markdown]
# Three things are worth reading slowly.
#
# - **Right panel, diamonds: this line should be level.** Nobody chooses anything here, and drawing on does not change the average of where drawing leads. Over 12 paths it drifts by chance; section 5 repeats this with more.
# - **Left panel: discs and squares are far apart from the first step on.** That is hardly knowledge about the *state*. After step 1 two tokens are fixed, and continuations share little but the
#   prompt. Easy prompts end right again and again, hard ones do not.
# - **Right panel, triangles: the label starts far above the diamonds.** After step 1 nearly everything is open, so four continuations are just four pictures of the prompt. The label says
#   whether *one of four pictures* is right: that is coverage (notebook 03) at four. It is a fact about the **prompt**, not about the state.
#
# So a verifier that learns these labels learns two things at once: at late steps, whether this picture is right; at early steps, whether this is an easy prompt. The second
# makes its answers accurate. It does not help to choose between branches of one prompt, since they all share it.
#
# ### How the training data are made
#
# The tuned verifier went on from the zero-shot one, on the generator's own paths over *training* prompts; no pair of things or colours in a test prompt occurs in them. The
# recipes are `cotlib/train/verifier_paths.py` (which paths) and `cotlib/train/verifier_rollouts.py` (their rollouts). On the way it also saw clean drawings, so that it does not forget what words mean. What the
# plan and the verifier's card say:

# %%
from textwrap import fill

from cotlib.train.verifier_paths import PathsPlan

plan = PathsPlan()
card = json.loads((data_dir() / "verifier-prm" / "card.json").read_text(encoding="utf-8"))
dev = card["metrics"]["own_pictures"][STEP]
print(
    f"{plan.jobs:,} x {plan.each} paths; of every {plan.rolled_every}rd prompt "
    f"{plan.rolled_paths} paths are rolled out from all {S - 1} states"
)
print(f"{card['metrics']['steps']} steps of training, {card['minutes']} minutes on two cores:")
print(fill(card["command"], 78, break_on_hyphens=False))
print(
    f"{dev['answers']} states of development prompts, {dev['right']:.0%} labelled yes: "
    f"balanced accuracy {dev['balanced_accuracy']:.2f}"
)

# %% [markdown]
# That looks like a good verifier. Keep the number in mind, and see what it is made of.
#
# ## 4 Early: can the end be seen yet?
#
# Now a measurement that is cheap here: the end of every path is known, and judged by rule. Take 48 test prompts, eight a task, and draw eight paths of each.
# Keep every step of the first five. Then ask three parties about each unfinished picture whether its path ends right:
#
# - the **zero-shot** verifier, by FINAL: it takes the blur for a finished picture;
# - the **tuned** verifier, by STEP: it has learnt what becomes of blur;
# - the **judge**, which also takes it for finished. It has the exact rules and nearly no errors on clean pictures, so where *it* cannot tell, the picture hardly shows it yet.

# %%
from cotlib.search.paths import Drawn, candidates, run_paths

N, SEED, LOOKED = 8, 0, 5  # paths of a prompt; seed; paths whose steps are looked at
prompts = some(8)
parts = [prompts[i : i + 4] for i in range(0, len(prompts), 4)]


def draw_part(metadatas):
    """(finished paths for all strategies, codes [P, N, S, tokens] of all their steps)."""
    texts, ledger, seen = [m["prompt"] for m in metadatas], Ledger(), []
    paths, rows = candidates(texts, N)
    last = run_paths(generator, rows, SEED, ledger, lambda step, _: seen.append(step))
    log_p = sum(step.log_p.masked_fill(step.masked, 0.0).sum(1) for step in seen)
    codes = torch.stack([step.codes for step in seen], dim=1).unflatten(0, (-1, N))
    return Drawn(texts, paths, last, log_p.tolist(), ledger), codes


drawn = list(
    progress(on_all_cores(draw_part, parts), f"{len(prompts)} prompts x {N} paths", total=len(parts))
)


# %%
def verdicts_of(metadatas, codes):
    """The judge's verdicts [P, ...] on codes [P, ..., tokens]; one metadata for each prompt."""
    each = codes[0].numel() // codes.shape[-1]
    owners = [m for m in metadatas for _ in range(each)]
    flat = codes.flatten(0, -2)
    images = torch.cat([generator.decode(part) for part in flat.split(64)])
    return np.array([v.correct for v in judge(owners, images)]).reshape(codes.shape[:-1])


def answers_of(asked, metadatas, codes):
    """P(yes) about codes [P, ..., tokens]: one array [P, ...] for each (verifier, question)."""
    each = codes[0].numel() // codes.shape[-1]
    texts = [m["prompt"] for m in metadatas for _ in range(each)]
    flat, found = codes.flatten(0, -2), [[] for _ in asked]
    for start in range(0, len(flat), 64):
        images = generator.decode(flat[start : start + 64])
        for answers, (verifier, question) in zip(found, asked, strict=True):
            answers += verifier.ask(question, texts[start : start + 64], images).tolist()
    return [np.array(answers).reshape(codes.shape[:-1]) for answers in found]


JURY = [(zero_shot, FINAL), (tuned, STEP)]


def look(part):
    """Of one part: verdicts on finished pictures and on steps, and the verifiers' answers."""
    metadatas, (_, codes) = part
    steps = codes[:, :LOOKED]  # [P, LOOKED, S, tokens]
    return (
        verdicts_of(metadatas, codes[:, :, -1]),
        verdicts_of(metadatas, steps),
        *answers_of(JURY, metadatas, steps),
    )


looks = progress(
    on_all_cores(look, zip(parts, drawn, strict=True)), "looking at every step", total=len(parts)
)
ends_right, judged, said_zs, said_step = (np.concatenate(x) for x in zip(*looks, strict=True))
truth = ends_right[:, :LOOKED]  # [P, LOOKED]
print(
    f"{ends_right.mean():.2f} of {ends_right.size} paths end right; looked at "
    f"{judged.size} unfinished and finished pictures"
)

# %% [markdown]
# The measure is **balanced accuracy**: the mean of the share of good states accepted and the share of bad ones refused, so that a verifier that always says yes gets
# one half, chance.

# %%
predict("05-early", "Balanced accuracy of the zero-shot verifier after step 2 of 8?", low=0.4, high=1.0)

# %%
PARTIES = {
    "judge, as if finished": judged.astype(float),
    "zero-shot (FINAL)": said_zs,
    "tuned (STEP)": said_step,
}
accuracy = {name: [accuracy_interval(p[:, :, s], truth) for s in range(S)] for name, p in PARTIES.items()}
order = {
    name: [ranking_interval(p[:, None, :, s], truth[:, None]) for s in range(S)]
    for name, p in PARTIES.items()
}
reveal("05-early", round(accuracy["zero-shot (FINAL)"][1][0], 2))
show(
    step_curves(
        {"Accuracy over all prompts": accuracy, "Ranking of paths of one prompt": order},
        lines={"chance": 0.5},
        ylabel="share",
    ),
    alt="Left: balanced accuracy by step. "
    + "; ".join(
        f"{name} {v[0][0]:.2f} after step 1, {v[3][0]:.2f} after step 4, {v[-1][0]:.2f} at the end"
        for name, v in accuracy.items()
    )
    + ". Right: how often the better of two paths of the same prompt scores higher. "
    + "; ".join(f"{name} {v[0][0]:.2f}, {v[3][0]:.2f}, {v[-1][0]:.2f}" for name, v in order.items())
    + ".",
)

# %% [markdown]
# - **Early blur is real, and it is not the verifier's fault.** Within a prompt (right), all three are at chance after step 1, the judge included. The picture does not
#   show yet where it leads, and training cannot read what is not there.
# - **The two panels begin differently.** Over all prompts the verifiers are above chance after step 1 already, within a prompt they are not. The difference is knowledge about the *prompt*: which
#   ones are easy. Accuracy counts it. A search over one prompt cannot use it.
# - **Then it clears up steadily**, round by round; there is no step at which the light goes on. (Some pictures are clear early, some late: notebook 06 makes a method of that.)
# - **Tuning helps little, if at all.** The verifier that has seen blur in training and the one that has not have overlapping intervals at nearly every step; 48 prompts show no more than that.
#
# ## 5 Late: is there anything left to choose?
#
# The right panel compared *independent* paths. PRM has no such thing: it chooses between branches of **one** state. So take states as they come, from paths along which
# nobody ever chose, at four of the eight steps, six branches each. Finish every branch twice, with two sets of dice.

# %%
B, R, AT = 6, 2, (0, 3, 6, 7)  # branches, continuations of each, steps (from 0) that branch
branching = some(5)
chunks = [branching[i : i + 3] for i in range(0, len(branching), 3)]


def branch_part(metadatas):
    """Codes [P, AT, B, tokens] of the branches, [P, AT, B, R, tokens] of their ends, and verdicts."""
    texts, found = [m["prompt"] for m in metadatas], []
    walk = decide(generator, texts, B, seed=2, first=S)  # first = S: branch 0 is kept, nobody is asked
    owners = [m for m in metadatas for _ in range(B)]
    for s in AT:
        step = walk[s].step
        if s < S - 1:
            ends, right = rolled_out(owners, step.codes, step.masked, s + 1, R, 1000 * s)
        else:  # nothing is left to draw
            ends = step.codes[:, None].expand(-1, R, -1)
            right = (
                torch.from_numpy(verdicts_of(metadatas, step.codes.unflatten(0, (-1, B))))
                .flatten()[:, None]
                .expand(-1, R)
            )
        shape = (len(texts), B)
        found.append((step.codes.unflatten(0, shape), ends.unflatten(0, shape), right.unflatten(0, shape)))
    return [torch.stack(x, dim=1) for x in zip(*found, strict=True)]


made = progress(
    on_all_cores(branch_part, chunks),
    f"{len(branching)} states x {len(AT)} steps x {B} branches",
    total=len(chunks),
)
states, finals, ends_of = (torch.cat(x) for x in zip(*made, strict=True))  # [P, AT, B, (R,) ...]
print(f"{len(branching) * len(AT)} states, {ends_of.numel()} ends")
print("right (level but for dice, since nobody chose):")
print("  ".join(f"step {a + 1}: {ends_of[:, c].double().mean():.2f}" for c, a in enumerate(AT)))


# %%
def varied(pictures):
    """How much six pictures differ: mean absolute difference to their mean."""
    return float((pictures - pictures.mean(0)).abs().mean())


# the first prompt with right and wrong ends at step 4
chosen_prompt = next(i for i in range(len(branching)) if 0 < ends_of[i, 1].sum() < B * R)
columns = [0, 1, 3]  # of AT
look_at = [generator.decode(states[chosen_prompt, c]) for c in columns]
ends_at = [generator.decode(finals[chosen_prompt, c, :, 0]) for c in columns]
show(
    branch_rows(
        torch.stack(look_at),
        torch.stack(ends_at),
        ends_of[chosen_prompt, columns, :, 0],
        [
            f'"{branching[chosen_prompt]["prompt"]}", six branches of one state, step {AT[c] + 1}'
            for c in columns
        ],
    ),
    alt="Six branches of a state at steps 1, 4 and 8, each above the picture it ends "
    "in. At step 1 all twelve pictures differ. At step 8 the six branches show the "
    "same blot at the same place, in other colours and patches, and each is its own "
    "end. Mean difference between the six: "
    f"{', '.join(f'{varied(p):.3f}' for p in look_at)}.",
)

# %% [markdown]
# How many *different* ends are among the six? Two ends count as the same when the judge's detector sees the same things in them: the same classes and colours at the
# same places.

# %%
predict(
    "05-late",
    "How many different ends do six branches have that part in the last step, on average?",
    low=1.0,
    high=6.0,
)

# %%
from cotlib.train.verifier_paths import set_of
from cotlib.verifying.repair import things_of


def ends_of_state(metadata, codes):
    """Number of different ends among codes [B, tokens]."""
    seen = [set_of(things_of(found, metadata["tag"])) for found in judge.detect(generator.decode(codes))]
    return len({repr(things) for things in seen})


def different(i):
    return [ends_of_state(branching[i], finals[i, c, :, 0]) for c in range(len(AT))]


ends_seen = np.array(list(on_all_cores(different, range(len(branching)))))  # [P, AT]
tasks_of = [m["tag"] for m in branching]
distinct = [
    bootstrap_interval([(t, [x]) for t, x in zip(tasks_of, column, strict=True)]) for column in ends_seen.T
]
spreads = [spread(ends_of[:, c].numpy()) for c in range(len(AT))]
reveal("05-late", round(distinct[-1][0], 1))
alike = [
    bootstrap_interval(
        [
            (t, [float(len(set(row)) == 1)])
            for t, row in zip(tasks_of, ends_of[:, c, :, 0].tolist(), strict=True)
        ]
    )
    for c in range(len(AT))
]
show(
    spread_figure(AT, spreads, distinct, B),
    alt="Left: the variance of a verdict, split. The part between branches of one state is "
    + ", ".join(f"{s.branches:.3f} at step {a + 1}" for s, a in zip(spreads, AT, strict=True))
    + ". Right: different ends among six branches fall from "
    + f"{distinct[0][0]:.1f} at step 1 to {distinct[-1][0]:.1f} at step 8.",
)

# %% [markdown]
# Read the left panel as a budget. A verdict varies for three reasons. The **light blue** part, at the bottom, was settled before: by the prompt, and by what is fixed already. The **grey** part, on top, is
# dice that are still to come, whatever you choose now. Only the **dark, hatched** part between them lies between the branches of one state, so only that can be *chosen*.
#
# - **The dark part is small at every step.** Early it is small because a branch fixes next to nothing: the six guesses differ in everything, but hardly any of it stays. Late it is small because
#   nearly everything was fixed before, and the branches share it.
# - **Different ends become few.** And not every difference matters: six pictures may show a thing in different colours, where no colour was asked for. How often do all six get the *same*
#   verdict, so that there is nothing to choose, for any verifier in the world?

# %%
for a, (mean, low, high) in zip(AT, alike, strict=True):
    print(f"step {a + 1}: in {mean:.0%} of the states all six get the same verdict ({low:.0%} to {high:.0%})")

# %% [markdown]
# ### What one decision is worth
#
# Put the two together. In each of these states, let a verifier keep one of the six branches. The **worth** of the decision is the share of right ends of the kept branch, minus the
# mean of all six. Beside the two verifiers stands what could be won if each branch's chance of ending right were *known*. In the last step it is: nothing is left to draw, so the chance is the verdict, and the number is exact.
# Before that it takes a rule of thumb. The best of six draws from a normal distribution lies 1.27 standard deviations above the mean, and the standard deviation between branches is the root of the
# dark part. Chances are not normal, so read these points as a size, not as a measurement.

# %%
predict(
    "05-worth",
    "The tuned verifier keeps one of six branches in step 4. How many more right ends "
    "in 100 does this decision win?",
    low=-10,
    high=30,
)


# %%
def ask_branches(i):
    return answers_of(JURY, branching[i : i + 1], states[i : i + 1])


said = [
    np.concatenate(x) for x in zip(*on_all_cores(ask_branches, range(len(branching))), strict=True)
]  # 2 x [P, AT, B]
share = ends_of.double().mean(-1).numpy()  # [P, AT, B], of the two ends of each branch


def worth(scores, paid):
    """[(mean, low, high)] by step: what the kept branch is paid above the mean of its state."""
    picked = np.take_along_axis(paid, scores.argmax(-1)[..., None], -1)[..., 0] - paid.mean(-1)  # [P, AT]
    return [
        bootstrap_interval([(t, [x]) for t, x in zip(tasks_of, column, strict=True)]) for column in picked.T
    ]


known = [tuple(1.27 * max(v, 0) ** 0.5 for v in (s.branches, *s.branches_interval)) for s in spreads]
known[-1] = worth(share, share)[-1]  # after the last step a branch's chance is its verdict
worths = {
    "if chances were known": known,
    "zero-shot (FINAL)": worth(said[0], share),
    "tuned (STEP)": worth(said[1], share),
}
branch_order = {
    name: [
        ranking_interval(np.repeat(p[:, c], R, -1)[:, None], ends_of[:, c].flatten(1).numpy()[:, None])
        for c in range(len(AT))
    ]
    for name, p in (("zero-shot (FINAL)", said[0]), ("tuned (STEP)", said[1]))
}
reveal("05-worth", round(100 * worths["tuned (STEP)"][1][0], 1))
show(
    step_curves(
        {"": worths},
        steps=[a + 1 for a in AT],
        lines={"no choice": 0.0},
        ylabel="right ends won by one decision",
    ),
    alt="What one decision among six branches wins, by step. "
    + "; ".join(f"{name}: {', '.join(f'{w[0]:+.2f}' for w in v)}" for name, v in worths.items())
    + ".",
)
# how many states have right and wrong ends
differ = [sum(0 < x < 1 for x in share[:, c].mean(1)) for c in range(len(AT))]
print("two branches of one state ranked rightly (one half is chance);")
print("in brackets, how many states have right and wrong ends")
for c, a in enumerate(AT):
    found = zip(("zero-shot", "tuned"), (points[c] for points in branch_order.values()), strict=True)
    row = (f"{name} {v:.2f} ({lo:.2f} to {hi:.2f})" for name, (v, lo, hi) in found)
    print(f"step {a + 1}:", "  ".join(row), f" ({differ[c]} states)")

# %% [markdown]
# Discs are what is there, squares and triangles what is taken. Before the last step there may be something to win, and neither verifier finds it: on the guesses of one state they rank like a coin. In
# the last step they rank well, the tuned one in every pair. But by then few states are left in which the branches differ (the number in brackets; with so few the last interval is too short),
# so there is little to take. This is the paper's explanation of why PRM gains so little, **blur early, sameness late**, in numbers: where one could win, nobody sees;
# where one can see, there is little to win. Look at the intervals, too: with 30 states a single decision that wins two or three points cannot be told from none.
#
# Now be the verifier yourself. Pick a state and keep a branch; then see how many of its two ends are right, in green.

# %%
mixed = [(i, c) for c in (0, 1, 2) for i in range(len(branching)) if 0.2 < share[i, c].mean() < 0.8][::5][:8]
game = [
    {
        "prompt": branching[i]["prompt"],
        "step": AT[c],
        "pictures": generator.decode(states[i, c]),
        "scores": said[0][i, c],
        "share": share[i, c],
    }
    for i, c in mixed
]
branch_game(game)

# %% [markdown]
# ## 6 The result
#
# Now the whole search, on the 48 prompts of section 4. PRM with $n = 8$ branches, zero-shot and tuned, against everything that chooses among the eight finished paths: the generator's own
# log-probability, ORM zero-shot and tuned (notebook 04), and the judge as the bound. In tables and figures `ORM` and `PRM` alone are the tuned ones. Published, for Show-o and 20 candidates:

# %%
for row in published("show-o"):
    if not row["alignment"] and row["verifier"] != "PARM":
        print(f"{row['verifier'] or 'one picture':17} {row['overall']:.2f}")
predict(
    "05-result",
    "Where does the tuned PRM land here?",
    choices=[
        "near one picture, as in the paper",
        "clearly above one picture, below the tuned ORM",
        "level with the tuned ORM or above",
    ],
)


# %%
def run(name, strategy):
    """(truth by prompt, P(yes) of what was chosen, ledger) of strategy(part number) -> Outcome."""
    table, believed, ledger = [], [], Ledger()
    outcomes = progress(on_all_cores(strategy, range(len(parts))), name, total=len(parts))
    for metadatas, outcome in zip(parts, outcomes, strict=True):
        verdicts = judge(metadatas, outcome.images)
        table += [(m["tag"], [float(v.correct)]) for m, v in zip(metadatas, verdicts, strict=True)]
        asked = [
            path.scores
            for own, k in zip(outcome.paths, outcome.chosen, strict=True)
            for path in own
            if path.number == k
        ]
        believed += [scores[q][-1] for scores in asked for q in (FINAL, STEP) if q in scores]
        ledger.add(outcome.ledger)
    return table, believed, ledger


def texts_of(i):
    return [m["prompt"] for m in parts[i]]


def among_paths(strategy, **options):
    return lambda i: strategy(generator, texts_of(i), N, SEED, drawn=drawn[i][0], **options)


strategies = {
    "log-probability": among_paths(logprob),
    "ORM zero-shot": among_paths(orm, verifier=zero_shot),
    "ORM": among_paths(orm, verifier=outcome_verifier),
    "PRM zero-shot": lambda i: prm(generator, texts_of(i), N, SEED, verifier=zero_shot, question=FINAL),
    "PRM": lambda i: prm(generator, texts_of(i), N, SEED, verifier=tuned),
}
results = {name: run(name, strategy) for name, strategy in strategies.items()}
first_path = run("one picture", lambda i: logprob(generator, texts_of(i), 1, SEED))  # for its ledger
bound = [(m["tag"], [float(any(row))]) for m, row in zip(prompts, ends_right, strict=True)]
alone = [(m["tag"], list(map(float, row))) for m, row in zip(prompts, ends_right, strict=True)]

# %%
scores = {"one picture": bootstrap_interval(alone)} | {
    n: bootstrap_interval(t) for n, (t, _, _) in results.items()
}
scores["the judge picks"] = bootstrap_interval(bound)
print("costs are for one prompt: token passes, verifier calls, seconds of one core")
print(f"{'':15}{'truth':>6}{'95 % interval':>15}{'believed':>10}{'passes':>8}{'calls':>7}{'seconds':>9}")
for name, (mean, low, high) in scores.items():
    line = f"{name:15}{mean:6.2f}{f'{low:.2f} to {high:.2f}':>15}"
    if name in results or name == "one picture":
        _, believed, ledger = results.get(name, first_path)
        told = f"{np.mean(believed):.2f}" if believed else "-"
        calls = sum(ledger.verifier_calls.values()) / len(prompts)
        line += f"{told:>10}{ledger.generator_token_passes / len(prompts):8,.0f}{calls:7.0f}"
        line += f"{ledger.seconds / len(prompts):9.2f}"
    print(line)

# %%
tables = {"one picture": alone} | {name: table for name, (table, _, _) in results.items()}
PAIRS = [
    ("PRM zero-shot", "one picture"),
    ("PRM", "one picture"),
    ("PRM", "PRM zero-shot"),
    ("PRM zero-shot", "ORM zero-shot"),
    ("PRM", "ORM"),
]
differences = {f"{a} - {b}": paired_difference(tables[a], tables[b]) for a, b in PAIRS}
gain, against_orm = differences["PRM - one picture"], differences["PRM - ORM"]
reveal(
    "05-result",
    "near one picture, as in the paper"
    if gain[1] <= 0
    else "clearly above one picture, below the tuned ORM"
    if against_orm[2] < 0
    else "level with the tuned ORM or above",
)
show(
    difference_figure(differences),
    alt="Paired differences on the same prompts: "
    + "; ".join(
        f"{name} {d:+.2f} ({low:+.2f} to {high:+.2f})" for name, (d, low, high) in differences.items()
    )
    + ".",
)

# %% [markdown]
# **PRM lands near one picture**, as in the paper, and far below best-of-N by an ORM. It asks eight times as many questions and hands over fewer right pictures. The intervals of both gains over one picture
# hold zero, or nearly.
#
# - *Believed* is the verifier's own P(yes) of what it handed over. The tuned PRM means something else by it ("can still end well"), but of a finished picture both questions are the same. Where belief lies
#   above truth, the search has found the verifier's mistakes.
# - The log-probability is a weak verifier, too: the picture the generator is surest of is not much more often right than any other.
# - PRM zero-shot and tuned cannot be told apart here. In the paper they differ a little, without an interval.

# %%
from cotlib.lab.search_figures import cost_chart

HOUSE = {
    "log-probability": "logprob",
    "ORM zero-shot": "orm-zs",
    "ORM": "orm",
    "PRM zero-shot": "prm-zs",
    "PRM": "prm",
}  # names of the stored table and of the figure
HOUSE |= {"one picture": "single", "the judge picks": "oracle"}
bills_of = {name: ledger for name, (_, _, ledger) in results.items()}
bills_of |= {"one picture": first_path[2], "the judge picks": bills_of["log-probability"]}
entries = {
    house: {
        "overall": scores[name][0],
        "ci95": scores[name][1:],
        "ledger": bills_of[name].as_dict(),
        "prompts": len(prompts),
        "seeds": 1,
        "n": 1 if name == "one picture" else N,
    }
    for name, house in HOUSE.items()
}
one = scores["one picture"]
fig = cost_chart(entries, log=False)
for ax in fig.axes:
    ax.set_xlim(left=0)
show(
    fig,
    alt="Share of right prompts against what the generator is paid, left, and against "
    "all seconds, right. Left, PRM stands above one picture, at the same price; best "
    "of 8 far to the right and, chosen by an ORM, far above. Right, PRM takes "
    f"{bills_of['PRM'].seconds / bills_of['ORM'].seconds:.0%} of ORM's seconds. "
    + "; ".join(
        f"{name} {scores[name][0]:.2f} for "
        f"{bills_of[name].generator_token_passes / len(prompts) / 1000:.1f} thousand "
        "passes"
        for name in ("one picture", *results)
    )
    + ".",
)
for name in ("ORM", "PRM"):
    by = results[name][2].seconds_by
    print(
        f"{name:4} seconds for a prompt:",
        ", ".join(f"{part} {by[part] / len(prompts):.2f}" for part in ("generator", "decode", "verifier")),
    )
token_share, second_share = (
    getattr(bills_of["PRM"], unit) / getattr(bills_of["ORM"], unit)
    for unit in ("generator_token_passes", "seconds")
)
print(f"PRM pays {token_share:.0%} of ORM's token passes and {second_share:.0%} of its seconds")

# %% [markdown]
# For the generator PRM is by far the cheapest search. In seconds much of the advantage is gone, as the last line shows: what the network saves, decoding and asking eat up, and this although our verifier is smaller than our
# generator. In the paper the verifier is about five times as large as the generator. There PRM must be the dearest of all.
#
# A run of the same comparison with more prompts and more branches is stored with the course. It is made by `python -m cotlib table search`. (`oracle` is the judge's pick.)

# %%
from cotlib.tables.search import stored

long_run = stored("search")
kind = long_run["strategies"]["prm"]
print(f"stored run: {kind['prompts']} test prompts, N = {kind['n']}, {len(kind['seeds'])} seed(s)")
for name in ("single", "logprob", "orm-zs", "orm", "prm-zs", "prm", "oracle"):
    entry = long_run["strategies"][name]
    print(f"{name:8} {entry['overall']:.2f}  ({entry['ci95'][0]:.2f} to {entry['ci95'][1]:.2f})")
for name in ("prm-zs - single", "prm - single", "prm - orm"):
    d, low, high = long_run["differences"][name]
    print(f"{name:16} {d:+.2f}  ({low:+.2f} to {high:+.2f})")

# %% [markdown]
# The same picture with twenty branches: PRM near one picture, best-of-N far above. More prompts and three seeds make the intervals narrow enough to see a gain of PRM over one picture: a few points.
# Best-of-N by a verifier gains about ten times that from as many candidates.
#
# ## 7 Is it the verifier, or the search?
#
# Two experiments. First, leave the blind decisions out: keep branch 0 unseen until step $k$, and decide only from $k$ on. $k = 1$ is PRM. $k = 8$ decides once, in the last step: that is an
# ORM over the branches of one nearly finished picture.

# %%
predict(
    "05-first",
    "The tuned PRM decides only from step k on. What happens to truth as k grows from 1 to 8?",
    choices=[
        "it rises: blind decisions do harm",
        "it hardly moves: they do nothing",
        "it falls: every decision counts",
    ],
)

# %%
FIRST = (3, 7)  # steps from 0 at which deciding begins


def late(i):
    """Codes [P, tokens] of part i for each first step."""
    found = []
    for first in FIRST:
        last = decide(generator, texts_of(i), N, SEED, verifier=tuned, first=first)[-1]
        found.append(torch.stack([last.step.codes[j * N + k] for j, k in enumerate(last.kept)]))
    return torch.stack(found, dim=1)


decided = progress(on_all_cores(late, range(len(parts))), "deciding later", total=len(parts))
begun = np.concatenate([verdicts_of(m, codes) for m, codes in zip(parts, decided, strict=True)])  # [P, FIRST]
late_tables = {0: results["PRM"][0]} | {
    f: [(m["tag"], [float(x)]) for m, x in zip(prompts, column, strict=True)]
    for f, column in zip(FIRST, begun.T, strict=True)
}
by_first = {f: bootstrap_interval(t) for f, t in late_tables.items()}
lost = {f: paired_difference(late_tables[0], t) for f, t in late_tables.items() if f}
drop, drop_low, drop_high = lost[7]
reveal(
    "05-first",
    "it falls: every decision counts"
    if drop_low > 0
    else "it rises: blind decisions do harm"
    if drop_high < 0
    else "it hardly moves: they do nothing",
)
show(
    step_curves(
        {"": {"PRM, tuned": list(by_first.values())}},
        steps=[f + 1 for f in by_first],
        lines={"one picture": one[0], "ORM": scores["ORM"][0]},
        xlabel="first step at which it decides",
        ylabel="share of prompts that are right",
    ),
    alt="Truth by the first step at which PRM decides: "
    + ", ".join(f"{v[0]:.2f} from step {f + 1} on" for f, v in by_first.items())
    + f". One picture {one[0]:.2f}, ORM {scores['ORM'][0]:.2f}.",
)
for f, (d, low, high) in lost.items():
    print(f"deciding from step 1 instead of step {f + 1}: {d:+.2f} ({low:+.2f} to {high:+.2f})")

# %% [markdown]
# Nothing moves that could be told from dice. As far as these prompts can show, a PRM that decides once does as well as one that decides eight times, for an eighth of the questions.
#
# Second, keep the verifier and change the search. Take the five **whole paths** of section 4, which never branched from one another, and choose one of them by its P(yes) after step $s$: the same
# verifiers, the same unfinished pictures. Only the candidates differ.

# %%
predict(
    "05-whole",
    "The tuned step verifier chooses one of five whole paths by its LAST step. What share is right?",
    low=0.0,
    high=1.0,
)


# %%
def by_step(p):
    """A score table for each step: the truth of the path with the highest P(yes) after it."""
    picked = p.argmax(1)  # [P, S], of LOOKED paths
    return [
        [(m["tag"], [float(truth[i, k])]) for i, (m, k) in enumerate(zip(prompts, picked[:, s], strict=True))]
        for s in range(S)
    ]


whole_tables = {"zero-shot (FINAL)": by_step(said_zs), "tuned (STEP)": by_step(said_step)}
whole = {name: [bootstrap_interval(t) for t in tables] for name, tables in whole_tables.items()}
of_five = bootstrap_interval([(m["tag"], [float(any(row))]) for m, row in zip(prompts, truth, strict=True)])
same_verifier = paired_difference(whole_tables["tuned (STEP)"][-1], results["PRM"][0])
reveal("05-whole", round(whole["tuned (STEP)"][-1][0], 2))
show(
    step_curves(
        {"": whole},
        lines={
            "one picture": one[0],
            f"PRM, tuned, n = {N}": scores["PRM"][0],
            "judge, best of 5": of_five[0],
        },
        xlabel="step after which one of five whole paths is chosen",
        ylabel="share of prompts that are right",
    ),
    alt="Choosing one of five whole paths. "
    + "; ".join(
        f"{name}: {', '.join(f'{v[0]:.2f}' for v in values)} by steps 1 to 8"
        for name, values in whole.items()
    )
    + f". PRM with eight branches reaches {scores['PRM'][0]:.2f}, the judge's choice "
    f"of five {of_five[0]:.2f}.",
)
d, low, high = same_verifier
print(f"same verifier, whole paths by the last step - PRM: {d:+.2f} ({low:+.2f} to {high:+.2f})")

# %% [markdown]
# So it is the **search**. The verifier that PRM asks is a good one: given finished whole paths, it picks nearly as well as the judge, and that from five candidates where PRM had eight. PRM spends it on a bad question. It takes its candidates
# from one state, so they differ in what is not fixed yet when it cannot see, and in nothing that matters when it can. Whole paths have parted in the first step and stay different to the end.
#
# And look at the rise of the curve: the later one waits, the better the choice, and some of the gain is there before the end. Whoever keeps whole paths, waits until a picture can be judged, and stops the bad ones *then*, would have
# both: candidates that differ, and rounds saved. That is PARM, in [notebook 06](06_parm.ipynb).
#
# ### A word of fairness
#
# - In text, a line that is written stays, and a wrong one spoils the rest. There step verifiers work. What fails here is not the idea of verifying steps, but a *kind* of step.
# - Our branches draw both codes and the choice of tokens anew. The paper does not say how its branches differ; with other branches the figures of section 5 would differ.
# - One training of each verifier, one seed, 48 prompts; the stored run has more prompts and seeds. What the intervals leave open stays open.
#
# ## What you take along
#
# - A step can be judged only by *where it leads*. Rollouts measure that; the label "any of four" says at early steps how easy the prompt is.
# - Accuracy over prompts is not what a search needs. It needs ranking within a state, and branches that differ in truth.
# - Early, branches differ and nobody can see which is the better one. Late, it can be seen and there is little left to choose. PRM gains a few points at most.
# - The same verifier on whole paths does very well. Search and verifier must fit.

# %%
score("05")

# %%
# NBVAL_CHECK_OUTPUT
label_excess = bootstrap_interval(
    [(m["tag"], [float(c[0] > 0) - c[0] / 4]) for m, c in zip(some(2), counts, strict=True)]
)
total = [s.prompts + s.branches + s.dice for s in spreads]
most = int(np.argmax([s.branches / t for s, t in zip(spreads, total, strict=True)]))
part, part_low, part_high = (
    v / total[most] for v in (spreads[most].branches, *spreads[most].branches_interval)
)
claims(
    [
        Claim(
            "PRM with 20 branches costs the generator this many pictures",
            passes["PRM, n = 20"] / passes["one picture"],
            threshold=1,
            direction="<=",
        ),
        Claim("... and asks the verifier this many times as often as best of 20", calls_ratio, threshold=8),
        Claim("after step 1 the label yes exceeds the share of right continuations by", *label_excess, 0.05),
        Claim(
            "early blur: zero-shot accuracy after step 1 is at most",
            *accuracy["zero-shot (FINAL)"][0],
            0.65,
            "<=",
        ),
        Claim("... and at the end at least", *accuracy["zero-shot (FINAL)"][-1], 0.80),
        Claim(
            "tuned, it ranks paths of one prompt after step 1 no better than",
            *order["tuned (STEP)"][0],
            0.65,
            "<=",
        ),
        Claim(
            "of the variance of truth the branches of one state hold at most, at any step",
            part,
            part_low,
            part_high,
            0.25,
            "<=",
        ),
        Claim(
            "late sameness: different ends of six branches of the last step, at most", *distinct[-1], 3, "<="
        ),
        Claim("... which all get the same verdict in this share of states", *alike[-1], 0.70),
        Claim("PRM is right more often than one picture by at most", *gain, 0.15, "<="),
        Claim(
            "PRM is right less often than ORM with as many candidates, by",
            *(-against_orm[i] for i in (0, 2, 1)),
            0.10,
        ),
        Claim("eight decisions win over the last one alone at most", *lost[7], 0.10, "<="),
        Claim("the same verifier on five whole paths is right more often than PRM, by", *same_verifier, 0.10),
    ]
)
