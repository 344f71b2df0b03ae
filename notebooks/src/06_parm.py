# %% [markdown]
# # 06 PARM: wait until it is clear, stop what cannot end well
#
# <!-- badges -->
#
# Twenty pictures are drawn to their ends, and one is kept. Most of the others could be seen to fail before they were finished. Stop them then, and you save the rounds they had left. That is PARM, the
# paper's own search and its best one. The idea takes one sentence. The questions take this notebook: *when* can you tell, what does asking cost, and what would the same money have bought elsewhere?
#
# After this notebook you can
#
# - say why a verifier should look neither only at the end (ORM) nor at every step (PRM);
# - write PARM's three tasks as one loop: clarity, potential, final choice;
# - stop paths without changing a single token of those that go on, and say what that saves in passes and in seconds;
# - compare searches at equal compute, and choose thresholds without touching the test prompts.
#
# <!-- facts -->
#
# It needs nothing from the earlier notebooks but their words: best-of-N and P(yes) are from
# [04](04_orm.ipynb), branches and step labels from [05](05_prm.ipynb), intervals over prompts from [03](03_measuring.ipynb).

# %% tags=["setup"]

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from cotlib import load
from cotlib.lab import Claim, check, claims, predict, progress, reveal, score, show, show_images
from cotlib.lab.search_figures import asked_strip, cost_chart, path_tree_figure, sweep_figure
from cotlib.search import Ledger, orm, parm, tree
from cotlib.world.prompts import benchmark, parse_prompt
from cotlib.world.scenes import TASKS

generator, judge = load("generator"), load("judge")
verifier, outcome_verifier = load("verifier", weights="parm"), load("verifier", weights="orm")
STEPS, N, SEED = generator.config.steps, 20, 0
clear, promising = verifier.thresholds
print(f"it answers {', '.join(verifier.questions)};")
print(f"clear from P(yes) {clear}, promising from {promising}")

# %% [markdown]
# ## 1 Neither at the end only, nor at every step
#
# You have two verifiers behind you.
#
# - **ORM** looks at the finished picture. Its answer is as good as a verifier's answer gets. But by then everything is paid for: of twenty
#   pictures nineteen are thrown away, each drawn to its end.
# - **PRM** looks at every step and keeps one branch. It can stop early, but its first answers are about blurs, and its last ones
#   about pictures that hardly differ any more. And where one branch is left, there is nothing to choose from at the end.
#
# The paper's own figures for both, and for what this notebook is about (Show-o, best of 20):

# %%
from cotlib.lab.paper import published, system_name

for row in published("show-o"):
    if not row["alignment"]:
        print(f"{system_name(row):24} {row['overall']:.2f}")

# %% [markdown]
# **PARM**, the *potential assessment reward model*, asks three different questions, each where it can be answered:
#
# 1. **CLARITY**, of every path after each step until the first yes: *can this unfinished picture be judged yet?*
# 2. **POTENTIAL**, once for each path, at that first clear step: *can this path still end well?* No: the path stops. Yes: it goes on, and nobody
#    asks again until it is finished.
# 3. **FINAL**, of the finished pictures of the paths that are left: *is it right?* The surest yes is handed over. It is the paper's *best of N'*,
#    with N' paths left of N.
#
# One network answers all three, each with a P(yes). For CLARITY and POTENTIAL a **threshold** turns it into yes or no; the two numbers are printed under the first cell, and section 9 says where they come
# from. What each question means in this world, in the words of the code:

# %%
from textwrap import fill

from cotlib.verifying.questions import MEANING

for question in verifier.questions:
    print(fill(f"{question:10} {MEANING[question]}", 74, subsequent_indent=" " * 11))

# %% [markdown]
# ### One path, asked everything
#
# Before the loop, look at the answers. Below are two paths of one prompt. For once the verifier is asked both questions after *every* step, also
# where PARM would not. After each step the generator has a guess for all 64 tokens, kept or not; that full guess is decoded and shown to the verifier.

# %%
from cotlib.decoding import run_steps
from cotlib.interfaces import CLARITY, FINAL, POTENTIAL


def asked_everywhere(prompt, path):
    """One path drawn to its end:
    (pictures [S, 3, 64, 64], clarity [S], potential [S], final, right)."""
    steps = list(run_steps(generator, [prompt["prompt"]], [path], SEED))
    pictures = generator.decode(torch.cat([step.codes for step in steps]))
    texts = [prompt["prompt"]] * len(pictures)
    clarity, potential = (verifier.ask(q, texts, pictures).tolist() for q in (CLARITY, POTENTIAL))
    final = verifier.ask(FINAL, texts[:1], pictures[-1:]).item()
    return pictures, clarity, potential, final, judge([prompt], pictures[-1:])[0].correct


example = parse_prompt("a photo of a dog left of a couch")
for path in (0, 1):
    pictures, clarity, potential, final, right = asked_everywhere(example, path)
    show(
        asked_strip(pictures, clarity, potential, clear=clear, promising=promising, final=final, right=right),
        alt=f'Path {path + 1} of "{example["prompt"]}": clarity goes from {clarity[0]:.2f} to '
        f"{clarity[-1]:.2f} over the {STEPS} steps, potential from {potential[0]:.2f} to "
        f"{potential[-1]:.2f}; it ends {'right' if right else 'wrong'}. Blue fields count as yes; "
        "the first clear guess is framed.",
    )

# %% [markdown]
# Read the two rows of numbers against the pictures. Clarity speaks of the *picture*: does it show what it will show at the end? Potential
# speaks of the *path*: where will it end? A smeared picture may well have potential, and a crisp picture of the wrong thing is perfectly clear.
# PARM would ask for the potential once, under the framed picture. And look at the last column: a finished picture is clear by definition, but for path 1 CLARITY does not say so. It can be
# wrong, too.
#
# ## 2 All answers about 60 prompts
#
# Everything that follows needs the same material: 60 test prompts, twenty paths each, drawn to their ends, with all three questions asked at all
# steps. So draw it once. A search would never ask that much; for studying it is worth it, as you will see in section 3: from these records *every* PARM, with
# any thresholds, can be played through without drawing again.

# %%
from dataclasses import dataclass

from cotlib.devices import on_all_cores
from cotlib.search.paths import Drawn, candidates, decode, run_paths


@dataclass
class Record:
    """All about the N paths of one prompt, S steps: codes [N, S, 64]; P(yes) [N, S] of
    each question, FINAL asked of unfinished pictures as well; ORM's P(yes) [N] and the
    judge's verdicts [N] for the finished ones."""

    prompt: dict
    codes: torch.Tensor
    clarity: np.ndarray
    potential: np.ndarray
    final: np.ndarray
    orm: np.ndarray
    right: np.ndarray
    drawn: Drawn


@torch.no_grad()
def look(prompt):
    """Draws N paths to their ends and asks everything of every guess."""
    ledger, guesses, log_p = Ledger(), [], torch.zeros(N)
    paths, rows = candidates([prompt["prompt"]], N)

    def watch(step, _):
        guesses.append(step.codes)
        log_p.add_(step.log_p.masked_fill(step.masked, 0.0).sum(1))

    last = run_paths(generator, rows, SEED, ledger, watch)
    codes = torch.stack(guesses, dim=1)  # [N, S, 64]
    pictures = decode(generator, codes.flatten(0, 1), Ledger())
    view, texts = verifier.views(pictures), [prompt["prompt"]] * len(pictures)
    clarity, potential, final = (
        verifier.ask(q, texts, view).view(N, STEPS).numpy() for q in (CLARITY, POTENTIAL, FINAL)
    )
    finished = pictures[last::STEPS]
    by_orm = outcome_verifier.ask(FINAL, texts[:N], finished).numpy()
    right = np.array([verdict.correct for verdict in judge([prompt] * N, finished)])
    drawn = Drawn([prompt["prompt"]], paths, last, log_p.tolist(), ledger)
    return Record(prompt, codes, clarity, potential, final, by_orm, right, drawn)


prompts = [m for task in TASKS for m in [p for p in benchmark("test") if p["tag"] == task][:10]]
records = list(
    progress(on_all_cores(look, prompts), f"{len(prompts)} prompts x {N} paths", total=len(prompts))
)

# %% [markdown]
# ### When is a picture clear?
#
# That has a truth, too: a guess is **clear** when the judge's detector sees the same things in it, at the same places, as in the finished picture.
# These are the labels that CLARITY was trained on. (The paper uses a fixed rule instead: pictures after step 11 of 18 count as clear, those before
# step 10 as unclear.)

# %%
predict(
    "06-clear",
    f"Which of the {STEPS} steps is the first after which at least half of all guesses are clear in truth?",
    low=1,
    high=STEPS,
)

# %%
from cotlib.train.verifier_paths import set_of
from cotlib.verifying.repair import things_of

EVERY = 4  # every fourth path is enough here


@torch.no_grad()
def look_again(record):
    """Of every fourth path: bool [N / EVERY, S], whether a guess shows the things of the
    finished picture, by the judge's detector; ORM's FINAL of each guess (for section 8)."""
    guesses = generator.decode(record.codes[::EVERY].flatten(0, 1))
    things = [set_of(things_of(seen, record.prompt["tag"])) for seen in judge.detect(guesses)]
    same = [t == things[i // STEPS * STEPS + STEPS - 1] for i, t in enumerate(things)]
    by_orm = outcome_verifier.ask(FINAL, [record.prompt["prompt"]] * len(guesses), guesses)
    return np.array(same).reshape(-1, STEPS), by_orm.view(-1, STEPS).numpy()


seen_clear, orm_early = (np.stack(part) for part in zip(*on_all_cores(look_again, records), strict=True))
said_clear = np.stack([r.clarity[::EVERY] for r in records])  # all [60, 5, S]
share = seen_clear.mean((0, 1))
half = int(np.argmax(share >= 0.5)) + 1
reveal("06-clear", half)
fig, ax = plt.subplots(layout="constrained", figsize=(6.4, 3.2))
steps = np.arange(1, STEPS + 1)
ax.plot(steps, share, label="clear in truth")
ax.plot(
    steps, (said_clear >= clear).mean((0, 1)), linestyle="--", label=f"verifier says so (P(yes) ≥ {clear})"
)
first = np.maximum.accumulate(said_clear >= clear, axis=2).mean((0, 1))
ax.plot(steps, first, linestyle=":", label="paths called clear by then")
ax.axvspan(0.5, verifier.ask_from + 0.5, color="C6", alpha=0.08)
ax.set(xlabel="step", ylabel="share", ylim=(-0.02, 1.04), xlim=(0.5, STEPS + 0.5), xticks=steps)
ax.legend(loc="lower right")
show(
    fig,
    alt=f"Solid line: hardly any guess is clear in truth after step 1 ({share[0]:.2f}), "
    f"{share[half - 1]:.2f} are at step {half}, {share[-2]:.2f} one step before the end. The "
    "dashed line, what the verifier calls clear, lies far above it: "
    f"{(said_clear >= clear).mean((0, 1))[2]:.2f} at step 3; so does the dotted one, paths that "
    "were called clear at least once. The grey band marks the steps at which CLARITY is not "
    "asked.",
)

# %% [markdown]
# Three things to read.
#
# - **Clarity comes late.** One step before the end many of the guesses still show something else than the finished picture will. The tokens
#   that are fixed last are the ones the generator was least sure of, and they may still decide on a colour or a second object.
# - **The verifier says "clear" much earlier than it is true.** Not because it does not know: section 8 shows that its P(yes) means what it says. It is the threshold.
#   A low one settles for a small chance of being clear. Why anybody would choose it so low is the subject of section 9.
# - **The question is about the future.** "Will this still change?" is not written in the picture. No verifier can answer it perfectly, and this one is far from it.
#
# ## 3 Three tasks, one loop
#
# With the answers written down, PARM is a small piece of code that needs no network at all. Think of a table with a row for each path
# and a column for each step.
#
# ### Exercise: the three tasks · difficulty 3 of 5 · 20 minutes
#
# Input: `clarity` and `potential`, P(yes) [n, S]; `final`, P(yes) [n] (what FINAL would say of each path, were it finished); the two thresholds. Output:
# the number of the chosen path, and for each path the step it stops at, -1 if it does not. Steps and paths count from 0.
#
# - A probability equal to its threshold counts as yes.
# - FINAL picks among the paths that were found promising. A path that was never clear is not among them.
# - **Fallback:** if no promising path is left, the stopped path is taken whose potential was highest at the step it stopped (and it is drawn to its end after all). If
#   no path was ever clear, FINAL picks among all.
# - Of equal scores the lowest path number wins.


# %%
def my_three_tasks(clarity, potential, final, clear, promising):
    """(chosen path, stopped [n]): the step at which each path stops, or -1."""
    ...  # first clear step of each path; potential there; who is left; final


check("three_tasks", my_three_tasks)
# solution("three_tasks")

# %% [markdown]
# The library's version is `cotlib.search.replay.three_tasks`. Play it through on a record, and count what the search would have spent:

# %%
from cotlib.search.replay import NEVER, Bill, best_of_n_bill, first_clear, parm_bill, three_tasks


def replay(record, clear=clear, promising=promising, ask_from=verifier.ask_from, paths=N):
    """(chosen path, stopped [paths], Bill) of PARM on a record's first `paths` paths."""
    clarity, potential, final = (a[:paths] for a in (record.clarity, record.potential, record.final[:, -1]))
    chosen, stopped = three_tasks(clarity, potential, final, clear, promising, ask_from)
    return chosen, stopped, parm_bill(clarity, clear, ask_from, chosen, stopped)


played = [replay(record) for record in records]
print(f"{f'{N} paths each':32}{'stopped':>9}{'chosen':>8}{'rows':>12}{'questions':>11}")
for record, (chosen, stopped, bill) in list(zip(records, played, strict=True))[::12]:
    name = record.prompt["prompt"].removeprefix("a photo of ")
    paid = f"{bill.rows} of {best_of_n_bill(N, STEPS).rows}"
    print(f"{name:32.32}{int((stopped != NEVER).sum()):9d}{chosen + 1:8d}{paid:>12}{bill.calls:11d}")

# %% [markdown]
# A **row** is one path through one step of the generator; times 64 tokens, times two for guidance, it gives token passes. Is such a replay allowed to
# stand for the real thing? Only if a path that is stopped would have drawn, until then, exactly what it draws anyway. That is the next section.
#
# ## 4 Stopping without changing the rest
#
# Now the real search. `parm` draws all paths of a prompt as one batch. After each step a **hook** decodes the guesses, asks, and says which rows go
# on. The others are taken out of the batch: the batch is **compacted**. From then on they cost nothing.

# %%
real = records[::10]  # one prompt of each task


def search(record, **options):
    """(outcome, ledger) of `parm` on the record's prompt."""
    ledger, text = Ledger(), [record.prompt["prompt"]]
    return parm(generator, text, N, SEED, ledger, verifier=verifier, **options), ledger


def both(record):
    """(PARM's outcome, its ledger, best-of-N's), one after the other, as both are timed."""
    whole = Ledger()
    orm(generator, [record.prompt["prompt"]], N, SEED, whole, verifier=verifier)
    return *search(record), whole


searched = list(progress(on_all_cores(both, real), f"PARM and best of {N}, prompts", total=len(real)))

# %%
drop_counts = [sum(path.stopped is not None for path in outcome.paths[0]) for outcome, _, _ in searched]
# the most even split makes the best picture
mixed = min(range(len(real)), key=lambda i: abs(drop_counts[i] - N // 2))
record, outcome = real[mixed], searched[mixed][0]
entries = tree(outcome, 0)
dropped = [e for e in entries if e["stopped"] is not None]
good = sum(bool(record.right[e["path"]]) for e in dropped)
show(
    path_tree_figure(entries, STEPS, right=record.right, title=record.prompt["prompt"]),
    alt=f"Twenty lines, one a path, run from left to right; {len(dropped)} end early in a red "
    f"square where POTENTIAL said no, and {good} of these would have ended right. The others go "
    f"on, and FINAL picks path {outcome.chosen[0] + 1}, which is "
    f"{'right' if record.right[outcome.chosen[0]] else 'wrong'}.",
)

# %% [markdown]
# (Of the six prompts this is the one with the most even split.) Each line is a path. A yellow disc says that CLARITY was asked there and said no. A diamond or a square says that it said yes, and POTENTIAL was asked, with
# its number: a green diamond goes on, a red square stops. What is empty to the right of a red square is saved. The marks at the right edge (disc right, cross wrong)
# come from the judge, for all paths drawn to their ends; the search does not see them.
#
# And these are the pictures at which the paths were dropped:

# %%
if dropped:
    show_images(
        torch.cat([generator.decode(record.codes[e["path"], e["stopped"]][None]) for e in dropped]),
        [
            f"path {e['path'] + 1}\nstep {e['stopped'] + 1}: {next(iter(e['potential'].values())):.2f}"
            for e in dropped
        ],
        marks=[bool(record.right[e["path"]]) for e in dropped],
        columns=min(10, len(dropped)),
        tile=0.9,
        alt=f"The {len(dropped)} pictures at which paths were dropped, most of them still smeared, "
        f"each with its potential; the mark says how the path would have ended: {good} right, "
        f"{len(dropped) - good} wrong.",
    )

# %%
from cotlib.lab.search_widgets import Explored, tree_explorer


def explored(record, outcome):
    """What the widget shows of one prompt."""
    pictures = generator.decode(record.codes.flatten(0, 1)).clamp(0, 1).mul(255).byte()
    guesses = pictures.permute(0, 2, 3, 1).numpy().reshape(N, STEPS, 64, 64, 3)
    return Explored(record.prompt["prompt"], tree(outcome, 0), guesses, record.right)


# the prompt of the figure first
in_turn = sorted(range(len(real)), key=lambda i: i != mixed)
tree_explorer([explored(real[i], searched[i][0]) for i in in_turn])

# %% [markdown]
# Choose a prompt and a path; pale pictures were never drawn by the search. (Without a running notebook, the figure above stands for it.)
#
# ### Is it exact?
#
# The promise: those that go on draw the same codes as if nobody had stopped. It is not obvious. A batch usually shares one stream of random numbers, and
# when a row leaves, every later draw shifts to another row. Here each path has its own numbers, made from seed, prompt and path number
# alone. So compare every code with best-of-N's:

# %%
same_ends = same_stops = same_choice = ends = stops = 0
for record, (outcome, _, _) in zip(real, searched, strict=True):
    for path in outcome.paths[0]:
        step = STEPS - 1 if path.stopped is None or path.number == outcome.chosen[0] else path.stopped
        equal = torch.equal(path.codes, record.codes[path.number, step])
        if path.stopped is None:
            ends, same_ends = ends + 1, same_ends + equal
        else:
            stops, same_stops = stops + 1, same_stops + equal
    same_choice += outcome.chosen[0] == replay(record)[0]
print(f"paths that went on: {same_ends} of {ends} have best-of-N's codes, all 64 of them")
print(f"paths that stopped: {same_stops} of {stops} have best-of-N's guess at that step")
print(f"the replay chooses the same path for {same_choice} of {len(real)} prompts")

# %% [markdown]
# (Sums in another order round differently, and a batch of another size adds in another order. So on some other machine a code may change, very rarely,
# where a random number falls exactly between two codes.) A replay on records *is* the search, and stopping acts on the result through the choice alone.
#
# ### Exercise: compaction · difficulty 2 of 5 · 5 minutes
#
# Write the step that takes rows out of a running batch. `go_on` is a bool for each row. Besides codes and mask a batch carries the random numbers of
# all steps, one block a row, and each row's text.


# %%
def my_keep_rows(go_on, codes, masked, uniforms, text):
    """(codes, masked, uniforms, text) of the rows that go on.
    Shapes [B, N], [B, N], [B, S, N], [B, T, D]."""
    ...


check("keep_rows", my_keep_rows)
# solution("keep_rows")

# %% [markdown]
# ### What does it save?
#
# Compare with best-of-N on the same prompts: all twenty paths drawn to their ends, FINAL asked of each, by the same verifier. First the generator
# alone.

# %%
predict(
    "06-passes",
    "PARM's token passes, as a percentage of best-of-20's?",
    low=0,
    high=100,
    unit="%",
)
predict(
    "06-seconds",
    "And its seconds, verifier and decoding included, as a percentage of best-of-20's?",
    low=0,
    high=200,
    unit="%",
)

# %%
few = real[::2]
whole, stopping, released = Ledger(), Ledger(), Ledger()
for _, mine, full in searched:
    stopping.add(mine)
    whole.add(full)
for _, ledger in on_all_cores(lambda record: search(record, paper_compatible=True), few):
    released.add(ledger)


def line(name, ledger, prompts):
    parts = "".join(
        f"{1000 * ledger.seconds_by[p] / prompts:{width}.0f}"
        for p, width in (("generator", 10), ("decode", 7), ("verifier", 9))
    )
    calls = sum(ledger.verifier_calls.values()) / prompts
    passes, decodes = (count / prompts for count in (ledger.generator_token_passes, ledger.decodes))
    return f"{name:20}{passes:8,.0f}{calls:6.0f}{decodes:8.0f}{parts}{1000 * ledger.seconds / prompts:6.0f}"


print(f"for one prompt{'milliseconds of one core':>59}")
print(
    f"{'':20}{'passes':>8}{'asked':>6}{'decodes':>8}{'generator':>10}{'decode':>7}{'verifier':>9}{'all':>6}"
)
print(line("best of 20", whole, len(real)))
print(line("PARM, stopping", stopping, len(real)))
print(line("PARM, released rules", released, len(few)))
passes_share = stopping.generator_token_passes / whole.generator_token_passes
seconds_share = stopping.seconds / whole.seconds
all_drawn = released.generator_token_passes / len(few) / (whole.generator_token_passes / len(real))
reveal("06-passes", round(100 * passes_share))
reveal("06-seconds", round(100 * seconds_share))

# %% [markdown]
# The generator has about a third less to do. Of the *time* less is saved, or nothing: every question about clarity costs a decode and a look, for every path, at every step until the first yes. Here a
# question with its decode costs a good part of what a step of a path costs (section 7 prints the prices), and a path that stops at step 4 has been asked up to four times.
#
# So a saving in passes is not a saving in time. It depends on how dear the verifier is beside the generator. In the paper the
# verifier is about five times as large as the generator it watches. Whoever reports passes of the generator alone leaves out the larger part of the bill.
#
# The third line (three of the prompts) is the paper's released code, whose rules `parm(..., paper_compatible=True)` follows. It *refuses* paths in the same way, but **draws them to
# their ends all the same** and merely leaves them out of the choice. Read the token passes: nothing is saved, and the questions come on top. Its other
# rules, kept there for comparison:
#
# - the noise in the choice of tokens is annealed away with the first path and never set back, so all others are drawn with less of it (hence
#   other pictures);
# - a clarity answer counts as yes unless it is a plain "no", also when it is no answer at all;
# - with no path kept, the smallest stored probability of "no" wins, FINAL is not asked, and ties go to the first.
#
# ## 5 Where asking is worth it
#
# CLARITY is asked of every path after every step until the first yes. At step 1 hardly any guess is clear, so almost all of these questions are answered with
# no. `ask_from` leaves them out: the first step, from 0, at which the question is put at all. The verifier's own value was set when it was trained: the first
# step at which at least 5 % of the training paths were clear.

# %%
predict(
    "06-ask",
    f"Asked from step 1 on instead of step {verifier.ask_from + 1}: for how many of {len(prompts)} "
    "prompts is another path chosen?",
    low=0,
    high=len(prompts),
)

# %%
early = [replay(record, ask_from=0) for record in records]
other_choice = [a[0] != b[0] for a, b in zip(played, early, strict=True)]
calls = {
    name: np.array([bill.calls for _, _, bill in runs])
    for name, runs in (("default", played), ("from step 1", early))
}
rows = {
    name: np.array([bill.rows for _, _, bill in runs])
    for name, runs in (("default", played), ("from step 1", early))
}
for name in calls:
    print(f"{name:12} {calls[name].mean():6.1f} questions and {rows[name].mean():6.1f} rows a prompt")
reveal("06-ask", sum(other_choice))

runs = [search(record, ask_from=0) for record in few]
agree = sum(o.chosen[0] == replay(r, ask_from=0)[0] for r, (o, _) in zip(few, runs, strict=True))
asked = [sum(ledger.verifier_calls.values()) for _, ledger in runs]
told = [replay(record, ask_from=0)[2].calls for record in few]
print(f"really run from step 1 on {len(few)} prompts: {asked} questions,")
print(f"the replay counts {told}; same choice {agree} times")
for name, runs in (("default", played), ("from step 1", early)):
    print(
        f"{name:12} right in "
        f"{sum(bool(r.right[k]) for r, (k, _, _) in zip(records, runs, strict=True))} of "
        f"{len(records)} prompts"
    )

# %% [markdown]
# A good part of the questions is saved, for nearly the same passes. The choice changes in a few prompts, those in which the verifier did say "clear" of a blur after step 1. The last two lines
# say whether that was for better or worse; a difference of one or two prompts is dice.
#
# ## 6 Is the choice any better?
#
# Now the truth. Six ways to hand over one picture a prompt, all from the *same* 60 times twenty paths:
#
# - **one picture** (`single`): the mean over all twenty, no choice;
# - **log-probability** (`logprob`): the generator's own confidence;
# - **ORM:** the fine-tuned outcome verifier of notebook 04;
# - **best of N by PARM's FINAL** (`parm final`): no path stops, the same network as PARM's third task chooses. This is the control: it separates *what stopping does* from
#   *who chooses*;
# - **PARM**;
# - **the judge picks** (`oracle`): the bound.

# %%
predict(
    "06-truth",
    "PARM against best of 20 by the same verifier's FINAL, in truth?",
    choices=["better by three points or more", "within three points", "worse by three points or more"],
)

# %%
from cotlib.judging.stats import bootstrap_interval, paired_difference, wilson
from cotlib.lab.verifier_figures import best_of, best_of_curve

tasks = [r.prompt["tag"] for r in records]
right = np.stack([r.right for r in records]).astype(float)  # [60, 20]
scores = {
    "logprob": np.array([r.drawn.log_p for r in records]),
    "orm": np.stack([r.orm for r in records]),
    "parm final": np.stack([r.final[:, -1] for r in records]),
    "oracle": right,
}
chosen = {name: values.argmax(1) for name, values in scores.items()}
chosen["parm"] = np.array([choice for choice, _, _ in played])
truth = {"single": right.mean(1)} | {name: right[np.arange(len(records)), k] for name, k in chosen.items()}


def as_rows(values):
    """The score table of one number a prompt."""
    return [(task, [value]) for task, value in zip(tasks, values, strict=True)]


table = {name: bootstrap_interval(as_rows(values)) for name, values in truth.items()}
believed = {
    "orm": scores["orm"].max(1).mean(),
    "parm final": scores["parm final"].max(1).mean(),
    "parm": np.mean([scores["parm final"][i, k] for i, k in enumerate(chosen["parm"])]),
}
for name in ("single", "logprob", "orm", "parm final", "parm", "oracle"):
    mean, low, high = table[name]
    says = f"   P(yes) of its choice {believed[name]:.2f}" if name in believed else ""
    print(f"{name:12} {mean:.3f}   {low:.3f} to {high:.3f}{says}")
stop_effect = paired_difference(as_rows(truth["parm"]), as_rows(truth["parm final"]))
against_orm = paired_difference(as_rows(truth["parm"]), as_rows(truth["orm"]))
against_one = paired_difference(as_rows(truth["parm"]), as_rows(truth["single"]))
for name, (d, low, high) in (
    ("its own FINAL", stop_effect),
    ("ORM", against_orm),
    ("one picture", against_one),
):
    print(f"PARM minus {name:14} {d:+.3f}   {low:+.3f} to {high:+.3f}")
d = stop_effect[0]
reveal(
    "06-truth",
    "better by three points or more"
    if d >= 0.03
    else "within three points"
    if d > -0.03
    else "worse by three points or more",
)

# %% [markdown]
# Any choice by a verifier is worth far more than the generator's own confidence. But **PARM is not better than best of 20 by its own FINAL.** The estimate is even below
# zero, and the interval leaves room for a clear loss as well as for none. In the paper PARM is four points ahead of the fine-tuned ORM (section 1). Why not here?
#
# Compare the last line of the table with the two best-of-N lines. There is nearly nothing left to gain: FINAL finds a right picture in nearly every prompt that has
# one. An outcome verifier that is nearly always right can only lose when paths are taken from it. In the paper the outcome verifier is far from that (section 1), and a
# second, earlier opinion may have something to add.
#
# The numbers on the right are what the verifiers *believe* of their choice. They are close to the truth here, so there is no sign that they are being fooled by the search.
#
# ### What was dropped?
#
# Every stopped path has an ending in your records. So you can see for each stop whether it was justified, and whether the guess, when it was stopped, was clear in truth.

# %%
predict(
    "06-clear-stop",
    "Of the paths that were stopped at a guess that was clear in truth, what percentage would have "
    "ended right?",
    low=0,
    high=100,
    unit="%",
)

# %%
stopped_all = np.stack([stopped for _, stopped, _ in played])  # [60, 20], -1: not stopped
first_all = np.stack([first_clear(r.clarity, clear, verifier.ask_from) for r in records])
gone, is_right = stopped_all != NEVER, right.astype(bool)
print(f"{gone.sum()} of {gone.size} paths were stopped")
print(
    f"of the wrong paths {gone[~is_right].mean():.0%} were stopped, of the right ones "
    f"{gone[is_right].mean():.0%}"
)
print(f"of the stopped ones {(~is_right)[gone].mean():.0%} would have ended wrong")
lost = [
    r.right.any() and not r.right[st == NEVER].any() for r, (_, st, _) in zip(records, played, strict=True)
]
print(f"in {sum(map(bool, lost))} of {len(records)} prompts all right paths were stopped")
rng = np.random.default_rng(0)
draws = [rng.integers(len(records), size=len(records)) for _ in range(2000)]
gap = gone[~is_right].mean() - gone[is_right].mean()
gaps = [gone[d][~is_right[d]].mean() - gone[d][is_right[d]].mean() for d in draws]
gap_low, gap_high = np.percentile(gaps, [2.5, 97.5])
some = np.s_[:, ::EVERY]  # the paths whose clarity is known in truth
at = np.maximum(first_all[some], 0)[..., None]
really = np.take_along_axis(seen_clear, at, 2)[..., 0]
mistaken = {}
for name, kind in (("clear in truth", really), ("not clear in truth", ~really)):
    mine = kind & gone[some]
    mistaken[name] = is_right[some][mine].mean() if mine.any() else float("nan")
    print(
        f"stops at a guess {name:18}: {mine.sum():3d}, of which {mistaken[name]:3.0%} would have ended right"
    )
reveal("06-clear-stop", round(100 * float(mistaken["clear in truth"])))
pairs = [[(is_right[some][d][kind[d] & gone[some][d]]) for kind in (~really, really)] for d in draws]
blur = [unclear.mean() - seen.mean() for unclear, seen in pairs if len(unclear) and len(seen)]
blur_low, blur_high = np.percentile(blur, [2.5, 97.5])

# %% [markdown]
# This is the heart of the matter. Where the guess was clear, POTENTIAL is hardly ever wrong: what is there stays there. (There are few such stops; the claim at the end gives the interval of the difference.) Where it was not, the answer is about something that will
# still change, and a good part of the stopped paths would have ended right. So the *principle* is sound: wait until it is clear, then ask. What fails is knowing when that is.
#
# How good would PARM be if CLARITY knew the future? Put the truth in the place of its answers, for the five paths a prompt whose clarity you know:

# %%
five = {"best of 5, FINAL": [], "PARM, its own CLARITY": [], "PARM, CLARITY knows": []}
spent = {name: [] for name in five}
for record, known in zip(records, seen_clear, strict=True):
    clarity, potential, final = (a[::EVERY] for a in (record.clarity, record.potential, record.final[:, -1]))
    outcomes = {"best of 5, FINAL": (int(final.argmax()), None, None)}
    for name, answers in (("PARM, its own CLARITY", clarity), ("PARM, CLARITY knows", known.astype(float))):
        outcomes[name] = (
            *three_tasks(answers, potential, final, clear, promising, verifier.ask_from),
            answers,
        )
    for name, (choice, stopped, answers) in outcomes.items():
        five[name].append(float(record.right[::EVERY][choice]))
        bill = parm_bill(answers, clear, verifier.ask_from, choice, stopped) if answers is not None else None
        spent[name].append(bill.rows if bill else best_of_n_bill(N // EVERY, STEPS).rows)
for name, values in five.items():
    mean, low, high = bootstrap_interval(as_rows(values))
    print(f"{name:24} {mean:.3f}   {low:.3f} to {high:.3f}   {np.mean(spent[name]):5.1f} rows a prompt")
ideal = paired_difference(as_rows(five["PARM, CLARITY knows"]), as_rows(five["best of 5, FINAL"]))
print("PARM, CLARITY knows, minus best of 5: {:+.3f}   {:+.3f} to {:+.3f}".format(*ideal))

# %% [markdown]
# With perfect clarity, stopping is nearly free of mistakes, and it saves less, because it waits longer. Even then nothing is *gained* in truth over FINAL on the same paths:
# a faultless stop takes away only what FINAL would not have chosen anyway. (An interval from 0 to 0 says that both are right on the very same prompts. Drawing these prompts again shows no spread then; that is no proof that
# other prompts would show none.)
#
# One more guess should be put to the test. Perhaps stopping helps where the *chooser* is weak. Keep PARM's stops and let the zero-shot verifier of notebook 04 choose among those that are left:


# %%
zero_shot = load("verifier", weights="zero-shot")


def by_zero_shot(record):
    """P(yes) [N] of the zero-shot verifier to FINAL, for the finished pictures."""
    return zero_shot.ask(FINAL, [record.prompt["prompt"]] * N, generator.decode(record.codes[:, -1])).numpy()


weak = np.stack(list(on_all_cores(by_zero_shot, records)))
kept_only = [
    three_tasks(r.clarity, r.potential, w, clear, promising, verifier.ask_from)[0]
    for r, w in zip(records, weak, strict=True)
]
index = np.arange(len(records))
truth["weak"], truth["weak, stopped"] = right[index, weak.argmax(1)], right[index, kept_only]
for name in ("weak", "weak, stopped"):
    mean, low, high = bootstrap_interval(as_rows(truth[name]))
    print(
        f"{'zero-shot FINAL' if name == 'weak' else '... among the promising':24} {mean:.3f}   "
        f"{low:.3f} to {high:.3f}"
    )
weak_gain = paired_difference(as_rows(truth["weak, stopped"]), as_rows(truth["weak"]))
print("difference               {:+.3f}   {:+.3f} to {:+.3f}".format(*weak_gain))

# %% [markdown]
# No gain to be seen, but the interval is wide. (It might have been otherwise: the stops come from a fine-tuned network that knows this generator's faults, the choice from one that does not.)
#
# ## 7 Quality against compute
#
# A search that asks more questions and draws fewer tokens can only be compared in a common currency. The currency is **seconds of one core**. Your real runs
# give the prices: seconds for a row of the generator, for a decode, and for a question. Replays give exact counts. Count times price is a cost.

# %%
price = {
    "row": whole.seconds_by["generator"] / (len(real) * best_of_n_bill(N, STEPS).rows),
    "decode": (whole.seconds_by["decode"] + stopping.seconds_by["decode"])
    / (whole.decodes + stopping.decodes),
    "call": (whole.seconds_by["verifier"] + stopping.seconds_by["verifier"])
    / (sum(whole.verifier_calls.values()) + sum(stopping.verifier_calls.values())),
}
print("milliseconds: " + ", ".join(f"{name} {1000 * value:.2f}" for name, value in price.items()))
print(f"a question with its decode costs {(price['decode'] + price['call']) / price['row']:.0%} of a row")


def costs(bill):
    """(token passes in thousands, seconds) of a bill."""
    seconds = bill.rows * price["row"] + bill.decodes * price["decode"] + bill.calls * price["call"]
    return bill.rows * 2 * 64 / 1000, seconds


def entry(name, bills):
    """A strategy's entry as tables store it, from truth and bills."""
    total = sum(costs(bill)[1] for bill in bills)
    calls = {"all questions": sum(bill.calls for bill in bills)}
    ledger = {
        "generator_token_passes": sum(b.rows for b in bills) * 2 * 64,
        "verifier_calls": calls,
        "seconds": total,
    }
    mean, low, high = table[name]
    return {"overall": mean, "ci95": [low, high], "ledger": ledger, "prompts": len(bills), "seeds": 1}


everything = [best_of_n_bill(N, STEPS)] * len(records)
unasked = [Bill(best_of_n_bill(N, STEPS).rows, decodes=1)] * len(records)
bills = {
    "single": [Bill(STEPS, decodes=1)] * len(records),
    "logprob": unasked,
    "orm": everything,
    "parm final": everything,
    "parm": [bill for _, _, bill in played],
    "oracle": [Bill(best_of_n_bill(N, STEPS).rows, decodes=N)] * len(records),
}
results = {name: entry(name, mine) for name, mine in bills.items()}
ks = (1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 18, 20)
curves = {}
for name in ("orm", "parm final"):
    points = best_of_curve(tasks, scores[name], right, ks)
    curves[name] = {
        cost: [(costs(best_of_n_bill(k, STEPS))[i], *rest) for k, *rest in points]
        for i, cost in enumerate(("passes", "seconds"))
    }
show(
    cost_chart(results, curves=curves),
    alt="Truth against cost, left in token passes, right in seconds of a core. On the left PARM "
    "needs fewer passes than the three that draw all paths, and stands a little below the curves, "
    f"which show best of N with fewer candidates. Right: PARM {table['parm'][0]:.2f}, best of 20 "
    f"by its FINAL {table['parm final'][0]:.2f}, ORM {table['orm'][0]:.2f}, one picture "
    f"{table['single'][0]:.2f}, the bound {table['oracle'][0]:.2f}.",
)

# %% [markdown]
# The curves are best-of-N with 1 to 20 candidates. This is the comparison that counts: not PARM at 20 against ORM at 20, but PARM against
# **what the same price buys**. How many candidates is that?

# %%
equal = {}
for i, cost in enumerate(("token passes", "seconds")):
    budget = np.mean([costs(bill)[i] for bill in bills["parm"]])
    k = max(k for k in range(1, 41) if k == 1 or costs(best_of_n_bill(k, STEPS))[i] <= budget)
    k = min(k, N)
    rival = best_of(scores["parm final"], right, k)
    equal[cost] = (k, *paired_difference(as_rows(truth["parm"]), as_rows(rival)))
    k, d, low, high = equal[cost]
    print(f"equal {cost:12}: best of {k:2d}; PARM minus that {d:+.3f}   {low:+.3f} to {high:+.3f}")

# %% [markdown]
# The curve explains it. The first few candidates bring most of the gain, and from ten on it is nearly flat. Whoever wants to save a third of the passes can draw a third fewer
# candidates, ask nothing on the way, and loses little. **Stopping has to beat that**, and on these prompts it does not. Keep this rival in mind whenever you read "as
# good at half the compute": as good as *what* would be at half the compute?
#
# ### Ranks instead of a threshold
#
# One thing in PARM has not been questioned yet: the *threshold*. A path of a hard prompt may have POTENTIAL 0.2 and still be the best of its twenty; the threshold stops it,
# and all its siblings with it. A path of an easy prompt has 0.9 and goes on, although the nineteen others are as good. What FINAL needs is not paths above a bar. It
# needs the *best* paths of each prompt.
#
# So let the paths of one prompt compete with each other. After half of the rounds the half with the lower POTENTIAL stops; after three quarters, again half of those left.
# That is **successive halving**, an old idea from elsewhere ([arXiv 1502.07943](https://arxiv.org/abs/1502.07943)). It is not in the paper. CLARITY is not asked at all, and the
# price is fixed beforehand. Your records hold all that is needed to play it through.

# %%
from cotlib.search.halving import halvings
from cotlib.search.replay import halved, halving_bill

played_half = [halved(r.potential, r.final[:, -1]) for r in records]
truth["halving"] = right[np.arange(len(records)), [choice for choice, _ in played_half]]
half = halving_bill(N, STEPS)
table["halving"] = bootstrap_interval(as_rows(truth["halving"]))
whole_bill = best_of_n_bill(N, STEPS)
print(f"stops after the steps {[step + 1 for step in halvings(STEPS)]} of {STEPS};")
print(f"{half.rows / whole_bill.rows:.0%} of best of {N}'s passes, {half.calls} questions a prompt")
for name, bill in (("best of 20, its FINAL", whole_bill), ("PARM", None), ("halving", half)):
    key = {"best of 20, its FINAL": "parm final", "PARM": "parm", "halving": "halving"}[name]
    seconds = np.mean([costs(b)[1] for b in (bills["parm"] if bill is None else [bill])])
    mean, low, high = table[key]
    print(f"{name:22} {mean:.3f}   {low:.3f} to {high:.3f}   {seconds:.2f} s")
half_effect = paired_difference(as_rows(truth["halving"]), as_rows(truth["parm final"]))
half_over_parm = paired_difference(as_rows(truth["halving"]), as_rows(truth["parm"]))
print("halving minus best of 20 {:+.3f}   {:+.3f} to {:+.3f}".format(*half_effect))
print("halving minus PARM       {:+.3f}   {:+.3f} to {:+.3f}".format(*half_over_parm))
gone_half = np.stack([stopped for _, stopped in played_half]) != NEVER
lost_half = sum(
    bool(r.right.any() and not r.right[~g].any()) for r, g in zip(records, gone_half, strict=True)
)
print(f"in {lost_half} of {len(records)} prompts all right paths were stopped")

# %% [markdown]
# The same verifier, the same question, about the same share of the passes. (Again an interval from 0 to 0; the stored run below has a real one.) What differs is only whom a path is compared with. POTENTIAL *ranks* the paths of a prompt well even where
# its level is off, as you saw FINAL do in notebook 04. (The two moments were fixed on development prompts, not on these.)
#
# ### All strategies
#
# Some strategies are missing here, PRM above all. The next cell reads a **stored result**: all strategies on the same test prompts, in a run of its own, made by `python -m cotlib table search`.

# %%
from cotlib.errors import UserError
from cotlib.tables.search import cost_of, stored

try:
    long = stored("search")
except UserError:
    long = None
    print("not stored here; `python -m cotlib table search` makes it")
if long:
    about = long["strategies"]["parm"]
    print(f"stored: {about['prompts']} test prompts, N = {about['n']}, seeds {about['seeds']}")
    shown = ("single", "logprob", "orm-zs", "orm", "prm-zs", "prm", "parm", "halving", "oracle")
    for name in shown:
        item, cost = long["strategies"][name], cost_of(long["strategies"][name], name)
        print(
            f"{name:8} {item['overall']:.3f}   {item['ci95'][0]:.3f} to {item['ci95'][1]:.3f}   "
            f"{cost['passes']:5.1f} k passes {cost['calls']:6.1f} asked {cost['seconds']:6.2f} s"
        )
    for name in ("parm - orm", "halving - orm", "halving - parm", "prm - orm", "orm - orm-zs"):
        print("{:14} {:+.3f}   {:+.3f} to {:+.3f}".format(name, *long["differences"][name]))
    for k in ("8", "12", "16", "20"):
        print("ORM with {:>2} candidates   {:.3f}   {:.3f} to {:.3f}".format(k, *long["by_n"]["orm"][k]))
    prm_cost, orm_cost = (cost_of(long["strategies"][name], name) for name in ("prm", "orm"))
    show(
        cost_chart(long["strategies"], names=shown),
        alt="Stored result, truth against cost. PRM takes "
        f"{prm_cost['passes'] / orm_cost['passes']:.0%} of ORM's passes and "
        f"{prm_cost['seconds'] / orm_cost['seconds']:.0%} of its seconds, and is close to one "
        "picture; PARM and halving stand to the left of the ORM, halving as high, PARM below: "
        + ", ".join(f"{name} {long['strategies'][name]['overall']:.2f}" for name in shown)
        + ".",
    )

# %% [markdown]
# Read it like your own run. On the left PRM looks like a bargain: hardly more passes than one picture. On
# the right much of that is gone: its bill is the verifier's and the decoder's. PARM moves the same way, less far. Among the printed lines, compare PARM with ORM at fewer candidates: twelve of them cost about
# what PARM's passes cost.
#
# ## 8 Do the answers mean what they say?
#
# A verifier is **calibrated** when of the pictures to which it gives P(yes) = 0.7 about 70 % are right. For FINAL that hardly matters: only the order
# counts. For CLARITY and POTENTIAL it does, since a fixed number decides.

# %%
from cotlib.lab.verifier_figures import interval_over, reliability_figure
from cotlib.verifying.calibration import balanced_accuracy, calibration_error, ranking

asked_from = slice(verifier.ask_from, None)
at_first = first_all != NEVER
potential_all = np.stack([r.potential for r in records])  # [60, 20, S]
first_odds = np.take_along_axis(potential_all, np.maximum(first_all, 0)[..., None], 2)[..., 0]
answers = {
    "CLARITY, all steps asked": (said_clear[..., asked_from].ravel(), seen_clear[..., asked_from].ravel()),
    "POTENTIAL, first clear step": (first_odds[at_first], is_right[at_first]),
    "FINAL": (scores["parm final"].ravel(), is_right.ravel()),
}
errors = {name: calibration_error(*pair) for name, pair in answers.items()}
show(
    reliability_figure(answers),
    alt="Share of yes in truth against P(yes) for the three questions. CLARITY follows the "
    "diagonal, POTENTIAL lies above it where P(yes) is small, FINAL jumps about where it has few "
    "answers; the counts below show that POTENTIAL and FINAL mostly say nearly 0 or nearly 1. "
    "Calibration errors: " + ", ".join(f"{name} {value:.2f}" for name, value in errors.items()) + ".",
)
for name, pair in answers.items():
    print(f"{name:28} balanced accuracy {balanced_accuracy(*pair):.2f}")

# %% [markdown]
# - **CLARITY** lies on the diagonal: it means what it says. And yet it is of limited use, as its balanced accuracy shows (the mean of the shares of clear and unclear guesses recognised; one
#   half is chance). Calibrated is not the same as sharp: it often says one half, honestly.
# - **POTENTIAL**, at the first step that is *called* clear, is too sure of its no. Of the paths to which it gives next to nothing a fair share ends right all the same. These are the paths that
#   were stopped too early.
# - **FINAL** hardly ever hesitates, and is hardly ever wrong. In the middle there are too few answers to say anything.
#
# ### A question asked where it was not trained
#
# Why is POTENTIAL too sure? Most of its training pictures (`clear` in `cotlib/train/verifier_tuned.py`) were clear *in truth*, where the ending is no longer in doubt. It is asked where CLARITY *says* clear. Training and use
# differ, and section 6 showed what comes of it.
#
# The paper has the same flaw in a larger form: its training pictures come from steps *after* 11 of 18, but the first clear step, where the question is asked, is reported at 8 to 12. So it is often put
# about pictures earlier than any it has learnt from.
#
# What such a mismatch does you can see in its extreme, without training anything. ORM's FINAL was trained on finished pictures only. Ask *it* about unfinished ones. How
# often does it rank a right path above a wrong one of the same prompt (one half is chance), and how far is its mean answer from the share that ends right?

# %%
predict(
    "06-untrained",
    "ORM's FINAL of the guesses after step 2: what is its mean P(yes)? (POTENTIAL's is about the "
    "share that ends right.)",
    low=0.0,
    high=1.0,
)

# %%
some_right, p, o = is_right[some], "POTENTIAL", "FINAL of ORM"
lines = {p: potential_all[some], o: orm_early}  # [60, 5, S] each
count = some_right.sum(1) * (~some_right).sum(1)  # pairs (right, wrong) of each prompt
one = [0] * (N // EVERY)
won = {}  # [60, S]: in how many of its pairs the right path is above the wrong one
for name, values in lines.items():
    shares = [[ranking(v, r, one) for v in mine.T] for mine, r in zip(values, some_right, strict=True)]
    won[name] = count[:, None] * np.nan_to_num(shares)
ranks = {name: hits.sum(0) / count.sum() for name, hits in won.items()}
means = {name: values.mean((0, 1)) for name, values in lines.items()}
fig, (left_ax, right_ax) = plt.subplots(1, 2, layout="constrained", figsize=(8.2, 3.2))
for name, dash in ((p, "-"), (o, "--")):
    left_ax.plot(steps, ranks[name], linestyle=dash, label=name)
    right_ax.plot(steps, means[name], linestyle=dash, label=f"{name}, mean P(yes)")
left_ax.axhline(0.5, color="C6", linewidth=0.8, marker="", label="chance")
left_ax.set(xlabel="step", xticks=steps, ylim=(0.1, 1.02), title="right ranked above wrong")
right_ax.axhline(some_right.mean(), color="C6", linestyle=":", marker="", label="share that ends right")
right_ax.set(xlabel="step", xticks=steps, ylim=(0, 1), title="mean answer, every fourth path")
for ax in (left_ax, right_ax):
    ax.legend(loc="lower right")
show(
    fig,
    alt=f"Left: both rank better towards the end, and alike from step 4 on: from {ranks[p][1]:.2f} "
    f"and {ranks[o][1]:.2f} at step 2 to {ranks[p][-1]:.2f} and {ranks[o][-1]:.2f} at the end. "
    f"Right: at step 2 the mean answer of POTENTIAL is {means[p][1]:.2f}, of ORM's FINAL "
    f"{means[o][1]:.2f}; {some_right.mean():.2f} end right.",
)
print(f"right above wrong, {p} minus {o} ({count.sum()} pairs, 95 % over prompts)")
for s in range(STEPS):
    difference = interval_over(
        lambda a, b, n, _: (a - b).sum() / n.sum(), range(len(records)), won[p][:, s], won[o][:, s], count
    )
    print("   step {}   {:+.2f}   {:+.2f} to {:+.2f}".format(s + 1, *difference))
for name, values in lines.items():
    print(
        f"of all guesses of step 2, {name} gives {(values[..., 1] < promising).mean():.0%} less "
        f"than {promising}"
    )
reveal("06-untrained", round(float(means[o][1]), 2))

# %% [markdown]
# Its *order* is hardly worse than POTENTIAL's: somewhat behind at steps 2 and 3, level from step 4 on, and each interval of the difference holds zero. Its *level* is far off at first: it takes a smear for a mistake. Choosing the best of several would not mind; a
# threshold does, as the printed shares show. What POTENTIAL has learnt beyond FINAL is chiefly this: that an unfinished picture may still be saved.
#
# ## 9 What the thresholds trade
#
# Two numbers steer PARM. `clear`: the higher, the later paths are asked, and the better the answer. `promising`: the higher, the more paths stop. Where do the
# shipped values come from? **Not from the test prompts.** If you try fifty pairs and keep the best one *on the prompts you report*, you report the luck
# of the best of fifty. So the pairs were tried on the 120 **development prompts**, once, by a rule fixed beforehand: of all pairs that need at most a given share of
# best-of-N's token passes (the dotted line), take the one that is right most often; of equal ones the cheapest. The table is stored on the verifier's card. On the right the same pairs on your test prompts: for looking at,
# not for choosing.

# %%
from cotlib.loading import verifier_folder
from cotlib.models.checkpoint import read_card
from cotlib.train.verifier_thresholds import MOST_PASSES

sweep = read_card(verifier_folder("parm"))["metrics"]["thresholds"]
picked, whole_rows = sweep["chosen"], best_of_n_bill(N, STEPS).rows


def sweep_row(pair):
    """The same row as on the card, from the records of the test prompts."""
    runs = [replay(record, pair["clear"], pair["promising"]) for record in records]
    hits = [record.right[choice] for record, (choice, _, _) in zip(records, runs, strict=True)]
    passes = np.mean([bill.rows for _, _, bill in runs]) / whole_rows
    return {**pair, "truth": bootstrap_interval(as_rows(hits), repeats=1)[0], "passes": passes}


here = [sweep_row(row) for row in sweep["table"]]
dev, test = f"{sweep['prompts']} development prompts (stored)", f"your {len(records)} test prompts"
fewer = [
    (best_of_n_bill(k, STEPS).rows / whole_rows, *rest)
    for k, *rest in best_of_curve(tasks, scores["parm final"], right)
]
start = min(row["passes"] for row in sweep["table"]) - 0.1
show(
    sweep_figure(
        {dev: sweep["table"], test: here},
        chosen=picked,
        limit=MOST_PASSES,
        curves={test: [f for f in fewer if f[0] > start]},
    ),
    alt="Each line is one value of clear; along it promising grows from right to left, and most "
    "lines fall to the left. The two highest values of clear lie apart, at the lower right. The "
    f"ringed pair, clear {picked['clear']} and promising {picked['promising']}, is right in "
    f"{picked['truth']:.2f} of the development prompts. On the test prompts the grey curve shows "
    "best-of-N with fewer candidates at the same passes; most pairs lie at or below it.",
)
above = max(
    row["truth"] - np.interp(row["passes"], [f[0] for f in fewer], [f[1] for f in fewer]) for row in here
)
print(
    f"chosen: clear {picked['clear']}, promising {picked['promising']}; right in "
    f"{picked['truth']:.3f} of the development prompts"
)
print(f"for {picked['passes']:.0%} of the passes, and in {table['parm'][0]:.3f} of these test prompts")
print(f"the luckiest of {len(here)} pairs lies {above:+.3f} above best-of-fewer on these")

# %% [markdown]
# - **Down to the left:** who stops more gets less. On the development prompts no pair saves a third for nothing. On the test prompts some seem to; there, one prompt more or less moves a point by
#   nearly two hundredths.
# - **Low values of clear** (dark) save early and stop blindly. **High ones** (light) hardly save anything, and lose even where nothing is stopped: a path that is never called clear is not shown
#   to FINAL, so waiting for certainty throws finished pictures away. It is part of the paper's rules; a gentler rule would let FINAL see them.
# - **The grey curve** is best-of-N with fewer candidates, the rival of section 7. Most pairs lie at or below it.
# - **The luck of the best:** the last line says by how much the luckiest pair beats the grey curve on the test prompts. Had you chosen there, you would now report that number as a success.
#
# ## 10 Be the verifier yourself
#
# Ten prompts, six candidates each, of which one to three are right (picked by the judge: with six right ones there is nothing to do). Pick one picture a prompt. You are asked what FINAL is asked, and you compete with ORM
# and with PARM on the same six. The first click counts.

# %%
from cotlib.lab.search_widgets import Contest, be_the_verifier, contest_figure

SIX = 6
mixed_ones = [r for r in records if 0 < r.right[:SIX].sum() <= SIX // 2]
ten = mixed_ones[:: max(1, len(mixed_ones) // 10)][:10]
pictures = torch.stack([generator.decode(r.codes[:SIX, -1]) for r in ten]).clamp(0, 1).mul(255).byte()
contest = Contest(
    [r.prompt["prompt"] for r in ten],
    pictures.permute(0, 1, 3, 4, 2).numpy(),
    np.stack([r.right[:SIX] for r in ten]),
    {"orm": [int(r.orm[:SIX].argmax()) for r in ten], "parm": [replay(r, paths=SIX)[0] for r in ten]},
)
be_the_verifier(contest)

# %% [markdown]
# When you have picked, run the next two cells again.

# %%
print(contest.report())

# %%
show(
    contest_figure(contest),
    alt="Ten prompts with six candidates each, ticks for right and crosses for wrong ones; below "
    "the pictures who picked what: "
    + ", ".join(
        f"{name} {hits:.0f} right" for name, hits in contest.scores().items() if name != "blind choice"
    )
    + f"; a blind choice has {contest.scores()['blind choice']:.1f} on average.",
)

# %% [markdown]
# Which ones did you get wrong, and were they the verifiers' mistakes, too? With so small a number of prompts a difference of one or two means nothing; you know from notebook 03 what to do about
# that.
#
# ## What you take along
#
# - PARM asks three questions where each can be answered: clarity of every step, potential once, final at the end.
# - Stopping is exact: those that go on draw what they would have drawn. A search can be replayed on written answers, with any thresholds, for nothing.
# - Passes are not seconds. What stopping saves at the generator, asking spends at the verifier.
# - Where a guess is clear, its potential is nearly certain. Knowing *when* it is clear is the hard part, since that is a question about the future.
# - Compare the paths of a prompt with each other rather than with a threshold: successive halving is right as often as best of 20, for about two thirds of its passes. It is not PARM any more, and needs no CLARITY.
# - With an outcome verifier that is nearly always right, stopping cannot improve the choice. The rival is not best of 20 but best of as many as the same compute buys. The paper's gain of PARM over ORM does *not*
#   come back in this world.
# - Train a question where it will be asked; choose thresholds on development prompts.

# %%
score("06")

# %%
# NBVAL_CHECK_OUTPUT
saved = [1 - bill.rows / whole_rows for _, _, bill in played]
unasked = 1 - calls["default"].mean() / calls["from step 1"].mean()
changed = sum(other_choice)
sharper = balanced_accuracy(*answers["FINAL"]) - balanced_accuracy(*answers["CLARITY, all steps asked"])
_, d, low, high = equal["token passes"]
claims(
    [
        Claim("paths that go on have best-of-N's codes", same_ends / ends, threshold=0.99),
        Claim(
            "paths that stopped have best-of-N's guess at that step",
            same_stops / max(stops, 1),
            threshold=0.99,
        ),
        Claim(
            "a replay on written answers chooses what the search chooses",
            same_choice / len(real),
            threshold=0.9,
        ),
        Claim("stopping saves token passes, a share of", *bootstrap_interval(as_rows(saved)), 0.15),
        Claim(
            "of the seconds it leaves a larger share than of the passes, by",
            seconds_share - passes_share,
            threshold=0.0,
        ),
        Claim(
            "the released rules draw everything, as a share of best-of-N's passes", all_drawn, threshold=0.99
        ),
        Claim("asking one step later spares questions, a share of", unasked, threshold=0.1),
        Claim(
            "... and changes this share of choices",
            changed / len(records),
            *wilson(changed, len(records)),
            0.2,
            "<=",
        ),
        Claim("PARM is right more often than one picture, by", *against_one, 0.10),
        Claim("PARM is not better than best of 20 by its own FINAL; at most", *stop_effect, 0.03, "<="),
        Claim("nor than best of what its token passes buy; at most", d, low, high, 0.03, "<="),
        Claim("halving is right as often as best of 20 by its FINAL, but for", *half_effect, -0.03),
        Claim(
            "... for this share of the passes", half.rows / whole_bill.rows, threshold=0.65, direction="<="
        ),
        Claim("wrong paths are stopped more often than right ones, by", gap, gap_low, gap_high, 0.3),
        Claim(
            "stops at unclear guesses are mistaken more often than at clear ones, by",
            mistaken["not clear in truth"] - mistaken["clear in truth"],
            blur_low,
            blur_high,
            0.1,
        ),
        Claim("CLARITY is the blunt question: balanced accuracy below FINAL's by", sharper, threshold=0.1),
        Claim(
            "ORM underrates the guesses of step 2, mean P(yes) below POTENTIAL's by",
            float(means[p][1] - means[o][1]),
            threshold=0.1,
        ),
    ]
)
