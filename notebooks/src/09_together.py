# %% [markdown]
# # 09 Together: the whole table, and how to read it
#
# <!-- badges -->
#
# Five methods, a notebook each. Which of them should you use, together with which, and at what price? A table of results seems to answer that at a glance.
# Here you take one apart, the paper's, beside one that you can measure yourself.
#
# After this notebook you can
#
# - put a published table beside one of your own, and say line by line where its order holds, where it does not, and where nobody can tell;
# - compare methods at equal cost, and find those that no other method beats;
# - watch a verifier being fooled by its own search, and say which remedy helps against what;
# - ask ten questions of any claim about text-to-image models, your own included.
#
# <!-- facts -->
#
# It needs nothing from the earlier notebooks but their words: ORM, PRM, PARM and PARM++ are from [04](04_orm.ipynb) to [07](07_parm_plus_plus.ipynb), DPO is
# from [08](08_dpo.ipynb), intervals over prompts from [03](03_measuring.ipynb). Words that are new stand in the [glossary](00_welcome.ipynb#Glossary).

# %% tags=["setup"]

# %%
import textwrap
import time

import numpy as np
import torch

from cotlib import load
from cotlib.devices import on_all_cores
from cotlib.interfaces import FINAL
from cotlib.judging.stats import bootstrap_interval, paired_difference, wilson
from cotlib.lab import Claim, check, claims, predict, progress, reveal, score, show, show_images
from cotlib.lab.together_figures import (
    HOLDS,
    OPEN,
    REVERSED,
    agreement,
    alikeness,
    both_sides,
    compared,
    compute_matched,
    difference_of,
    front_figure,
    judges_figure,
    order_figure,
    paper_table_figure,
    pareto_front,
    published_error,
    row_of,
    seconds_of,
)  # fmt: skip
from cotlib.tables import paper
from cotlib.world.prompts import benchmark
from cotlib.world.scenes import TASKS

judge, template = load("judge"), load("judge", kind="template")


def short(name):
    """A short name for tables: a verifier not called zero-shot is fine-tuned, PARM++ is the local edit."""
    for left_out in ("fine-tuned ", "with reflection ", " (local edit)"):
        name = name.replace(left_out, "")
    return name.replace("iterative", "iter.").replace("self-correction tuned", "self-correction")


def of_each_task(count):
    """The first `count` test prompts of each task."""
    return [m for task in TASKS for m in [p for p in benchmark("test") if p["tag"] == task][:count]]


# %% [markdown]
# ## 1 A table is two lists: generators and searches
#
# The paper's tables have some twenty lines, but only two ideas. A line names a **generator** (as it is, or tuned by DPO in one of several ways) and a **search** (no verifier, or the best
# of 20 by one). Its claim is that both help, that they help together, and that PARM is the best of each kind. In code a line is a pair (`zs`: zero-shot; `silent`: PARM++ without
# reflection; `anew`: the correction is drawn anew, as in the paper, where `parm++` alone is the local edit):

# %%
for generator, searches in paper.SEARCHES.items():
    print(f"{generator:18}{', '.join(searches)}")
print(
    f"{len(paper.SYSTEMS)} systems; the paper has "
    f"{sum(paper.published_row(s) is not None for s in paper.SYSTEMS)} of them"
)

# %% [markdown]
# Measuring all of them on 300 prompts takes about an hour on two cores: `python -m cotlib table`. Here you run the same code on a small part, so that you know what stands behind each
# number: the base and the generator tuned by DPO, all their searches, two prompts of each task, six candidates. (Passes are token passes, calls are pictures shown to the verifier; ORM and PRM are fine-tuned where nothing else is said.)

# %%
SMALL, few, parts = 6, of_each_task(2), {}
for name in ("base", "dpo"):
    who = paper.cast(name)

    def measured(m, who=who, name=name):
        return paper.measure_prompt(who, m, paper.SEARCHES[name], SMALL, 0)

    parts[name] = list(progress(on_all_cores(measured, few), f"{name}: prompts", total=len(few)))
live = paper.summarise(parts, paper.PaperPlan(n=SMALL, generators=("base", "dpo")))
wide = 2 + max(len(short(row["name"])) for row in live["rows"])
print(f"{'for a prompt':{wide}}truth  95 % interval  passes  calls  seconds")
for row in live["rows"]:
    cost, (low, high) = row["cost"], wilson(row["overall"] * len(few), len(few))
    print(f"{short(row['name']):{wide}}{row['overall']:.2f}   {low:.2f} to {high:.2f}"
          f" {cost['token_passes']:8,}  {cost['verifier_calls']:5.0f}  {cost['seconds']:7.2f}")  # fmt: skip

# %% [markdown]
# Look at the intervals. With twelve prompts nearly everything overlaps with nearly everything: this table could be used to "show" almost any order. It is good for one thing, to see that each line can be
# measured by you. (A search hands over one picture a prompt, so its line is twelve tosses, and the interval is Wilson's. "One picture" is the mean of six a prompt; for it the same interval is too wide, and on the safe
# side. The bootstrap of notebook 03 would be far too sure here: a task whose two prompts came out alike leaves it nothing to vary.)
#
# Now the full one. It is a **stored result**, made by the command above; this cell only reads it.

# %%
from cotlib.errors import UserError
from cotlib.tables.search import stored

try:
    table = stored("table")
except UserError:
    table = live
    print("not stored here; `python -m cotlib table` makes it. Until then the small table above stands in.")
first = table["rows"][0]
print(
    f"{len(table['rows'])} systems, {first['prompts']} held-out prompts, N = {first['n']}, seeds "
    f"{first['seeds']}"
)
widest = max(table["rows"], key=lambda row: np.diff(row["ci95"])[0])
print(f"the widest interval: {widest['ci95'][0]:.3f} to {widest['ci95'][1]:.3f} ({widest['name']})")

# %% [markdown]
# ## 2 The whole table, the paper's beside it
#
# Commit yourself before you look.

# %%
names = [row["name"] for row in table["rows"]]
predict(
    "09-best",
    "Take the best search on the base and the best search on a tuned generator. Is the tuned one ahead?",
    choices=["yes, by more than dice", "too close to tell", "no, it is behind"],
)

# %%
best = max(table["rows"], key=lambda row: row["overall"])
show(
    paper_table_figure(table),
    alt=f"All {len(names)} systems in blocks by generator: left the paper's overall score, in the "
    "middle ours with interval, right the seconds a prompt costs. Ours are highest for "
    f"{best['name']} ({best['overall']:.2f}), and {first['overall']:.2f} for one picture of the "
    "base.",
)
kinds = {
    "one picture, base": lambda row: row["search"] == "single" and row["generator"] == "base",
    "one picture, tuned": lambda row: row["search"] == "single" and row["generator"] != "base",
    "a search on the base": lambda row: row["search"] != "single" and row["generator"] == "base",
    "a search on a tuned one": lambda row: row["search"] != "single" and row["generator"] != "base",
}
print("the best of each kind:")
top = {}
for kind, fits in kinds.items():
    row = max(filter(fits, table["rows"]), key=lambda row: row["overall"])
    top[kind] = row["generator"], row["search"]
    print(
        f"{kind:24}{row['overall']:.3f} ({row['ci95'][0]:.3f} to {row['ci95'][1]:.3f})  {short(row['name'])}"
    )
ahead, low, high, _ = difference_of(table, top["a search on a tuned one"], top["a search on the base"])
print(f"the last minus the one before: {ahead:+.3f} ({low:+.3f} to {high:+.3f})")
reveal(
    "09-best",
    "yes, by more than dice" if low > 0 else "no, it is behind" if high < 0 else "too close to tell",
)

# %% [markdown]
# One picture of a tuned generator is right more often than one of the base. Under a search that lead is gone: whoever reads only the highest line of a table reads dice. Section 3 asks why.
#
# The shaded ends on the left are not from the paper, which gives no intervals. They come from arithmetic: six tasks, 553 prompts, four pictures each, and the error that independent coin tosses of that number would
# have. It is the *least* that it can be, since four pictures of one prompt are no independent tosses.
#
# ### One number for two orders
#
# Two worlds, two scales: the paper's verifiers judge photographs of anything, ours a few pictograms, and almost perfectly. So do not compare heights. Compare **order**. One number for that is
# **Kendall's tau**: of all pairs of systems, the share in the same order minus the share in the other. 1 is the same order, -1 the reverse, and 0 says that the one order tells nothing about the other. How far from 0 is far? Shuffle
# one of the two lists, two thousand times.

# %%
theirs, ours = both_sides(table)
rank, dice = agreement(theirs, ours), np.random.default_rng(0)
shuffled = [agreement(dice.permutation(theirs), ours) for _ in range(2000)]
least, most = np.quantile(shuffled, (0.025, 0.975))
print(
    f"{len(ours)} published systems, tau {rank:+.2f}; 95 of 100 shuffled lists: {least:+.2f} to {most:+.2f}"
)

# %% [markdown]
# If tau lies within what shuffled lists reach, the two orders as wholes are not told apart from unrelated ones. That is no contradiction to "DPO helps" in both worlds: one number for twenty systems mixes what holds with what does not.
#
# ## 3 Where the paper's order holds, and where not
#
# So take the order apart. The paper makes single statements: *a verifier helps*, *DPO helps*, *PARM beats ORM*. Each is a difference between two lines, and each can be put to the test. It **holds** here if our
# interval lies above 0, it is **the other way round** if the interval lies below, and otherwise it **cannot be told**.

# %%
rows = compared(table)
predict(
    "09-order",
    f"How many of the paper's {len(rows)} comparisons hold here, interval and all?",
    low=0,
    high=len(rows),
)

# %%
verdicts = [row.verdict for row in rows]
count = {v: verdicts.count(v) for v in (HOLDS, REVERSED, OPEN)}
show(
    order_figure(rows),
    alt="The paper's comparisons, one a line: its difference as a hollow disc, always right of 0, "
    f"with what may be dice; below it ours with its interval. Of ours {count[HOLDS]} lie right of "
    f"0 as well, {count[REVERSED]} left of it, and {count[OPEN]} across it.",
)
print(f"{'':38}the paper       here   95 % interval")
for row in rows:
    print(
        f"{row.text:38}{row.paper:+.2f} ±{row.dice:.2f}   {row.here:+.3f}   {row.low:+.3f} to {row.high:+.3f}"
    )
reveal("09-order", count[HOLDS])

# %% [markdown]
# Now the plain answer, computed from these lines and from nothing else:

# %%
for verdict, words in (
    (HOLDS, "The paper's order holds here"),
    (REVERSED, "Here it is the other way round"),
    (OPEN, "Cannot be told from these prompts"),
):
    print(f"{words} ({count[verdict]} of {len(rows)}):")
    for row in rows:
        if row.verdict == verdict:
            print(f"    {row.text}: {row.here:+.3f}")
beyond = [row for row in rows if row.paper > row.dice]
print(
    f"Of the paper's {len(rows)} differences {len(beyond)} are larger than dice; "
    f"{sum(r.verdict == HOLDS for r in beyond)} of those hold here."
)

# %% [markdown]
# Before you explain a line that did not come out, go through three possible reasons, in this order.
#
# 1. **Dice.** Is the difference larger than its interval, here *and there*? Nobody has to explain noise. And mind how many questions were asked: of eighteen intervals of 95 % one is expected to miss the truth. Those that only just miss 0 are the
#    candidates.
# 2. **No room.** A search can only pick what was drawn. The bound is **coverage**: some of the twenty is right. A method cannot improve on another one that has nearly reached it.
# 3. **Another world.** What is easy to judge here is hard there. In this course three cases are known and measured: stops cannot improve a choice by a verifier that is nearly always right
#    ([06](06_parm.ipynb)); with branches of one state there is little to choose from, there as here ([05](05_prm.ipynb)); and our generator learns *facts* while it learns to correct ([07](07_parm_plus_plus.ipynb)), where the paper's loses a little.
#
# The second reason can be measured. Of the way from one picture (`one`) to the coverage of twenty (`bound`), how far does each search get?

# %%
columns = ("orm-zs", "orm", "prm-zs", "prm", "parm", "parm++ silent", "parm++ anew", "parm++")
heads = {name: f"{name.removeprefix('parm++ '):>5}" for name in columns}
print(f"{'':15}{'one':>5}{'bound':>6}" + "".join(f" {head}" for head in heads.values()))
for name in dict.fromkeys(row["generator"] for row in table["rows"]):
    one = row_of(table, (name, "single"))
    bound = one["coverage"].get("20") or max(one["coverage"].values())
    others = [row for row in table["rows"] if row["generator"] == name and row["search"] != "single"]
    ways = {row["search"]: (row["overall"] - one["overall"]) / (bound - one["overall"]) for row in others}
    cells = (f" {f'{ways[c]:.0%}' if c in ways else '':>{len(head)}}" for c, head in heads.items())
    print(f"{name:15}{one['overall']:5.2f}{bound:6.2f}" + "".join(cells))

# %% [markdown]
# (100 % and more are no mistake: PARM++ draws again after the twenty.) Where a fine-tuned ORM has gone nine tenths of the way, the paper's "PARM on top of ORM" and "tuning on top of search" are asked to show
# themselves in what is left. An order can be true and invisible.
#
# Room has a second side. Tuning and search may do *the same work*: tuning makes frequent what a search of twenty finds anyway. Then the two do not add up. Coverage at k candidates shows it, for every k from the same pictures. How far is each
# generator ahead of the base, when the judge picks among k? And since a lead must shrink where the base has little left to lose: what share of the prompts that the base misses does it take over?

# %%
plain = row_of(table, ("base", "single"))
print("coverage, k =   " + "".join(f"{k:>8}" for k in plain["coverage"]))
print(f"{'base':16}" + "".join(f"{value:8.3f}" for value in plain["coverage"].values()))
for row in table["rows"]:
    if row["search"] == "single" and row["generator"] != "base":
        lead = {k: row["coverage"][k] - value for k, value in plain["coverage"].items()}
        print(f"{row['generator']:16}" + "".join(f"{value:+8.3f}" for value in lead.values()))
        shares = (value / (1 - plain["coverage"][k]) for k, value in lead.items())
        print(f"{'   of what is left':16}" + "".join(f"{share:8.0%}" for share in shares)[2:])
most_k = max(plain["coverage"], key=int)
print(
    f"at k = {most_k} the base misses {1 - plain['coverage'][most_k]:.1%} of the prompts, about "
    f"{(1 - plain['coverage'][most_k]) * plain['prompts']:.0f} of {plain['prompts']}"
)

# %% [markdown]
# Read the first line of each pair from left to right. The lead melts as k grows: with twenty candidates and a perfect choice it hardly matters any more who drew them. *This* is what a search of twenty leaves for tuning to add, and it is less than the
# intervals of the table can show. Then read the second line. As a share of what is left the lead does not melt. So a tuned generator can also draw what the base never draws; there are just few such prompts, and the last columns rest on a handful of them. In a world with
# more room the two might add up, as in the paper.
#
# ## 4 What does it cost?
#
# A table sorted by quality alone recommends the dearest line. Put the cost beside it, and one question remains: *is there another system that costs no more, is right no less often, and is better in one of the two?* The systems for which there is none form
# the **Pareto front**.
#
# ### Exercise: the Pareto front · difficulty 2 of 5 · 10 minutes


# %%
def my_pareto_front(costs, truths):
    """Places in the lists of the systems that no other one beats, cheapest first; of two equals both stay."""
    ...  # look at every pair


check("pareto_front", my_pareto_front)
# solution("pareto_front")

# %%
predict(
    "09-front",
    "How many of our systems are on the front, cost counted in seconds?",
    low=1,
    high=len(names),
)

# %%
try:
    by_n = {int(k): v[0] for k, v in stored("search")["by_n"]["orm"].items()}
except UserError:
    by_n = None
spent = seconds_of(table)
front = pareto_front(spent, [row["overall"] for row in table["rows"]])
reveal("09-front", len(front))
show(
    front_figure(table, fewer=by_n),
    alt="Truth against cost, left in token passes of the generator, right in seconds with verifier "
    "and decoding. Single pictures stand at the lower left, searches crowd at the upper right; "
    "process reward models cost much in seconds and are right little more often. The stepped line "
    "joins the systems that no other beats; in seconds they are " + ", ".join(names[i] for i in front) + ".",
)
for number, i in enumerate(front, 1):
    row = table["rows"][i]
    print(f"{number}  {spent[i]:5.2f} s  {row['overall']:.3f}  {row['name']}")
same_work = {row["generator"]: row["cost"]["seconds"] for row in table["rows"] if row["search"] == "orm"}
quick, slow = (pick(same_work, key=same_work.get) for pick in (min, max))
print(f"the ORM's search: {same_work[quick]:.2f} s ({quick}) to {same_work[slow]:.2f} s ({slow})")

# %% [markdown]
# The stepped line is the front, and its systems are numbered. Four cautions. It is drawn through *estimates*; a system a hair below it is not worse in any sense that these prompts could show. Seconds depend on what else the machine does; so
# all systems were timed in turn, prompt by prompt, and the ORM's search, the same work for every generator, says how far to trust that (last line). They are those of a small generator with a small verifier on a processor. In the paper the verifier is five times as large as the
# generator: every method that asks often moves far to the right there. Last, "one picture" is charged its share of a batch of twenty; drawn alone it costs more
# (section 6 measures that).
#
# ### The same money
#
# The grey line is the rival that a table with one N for all never shows: the *same* ORM with **fewer candidates**. Notebook 06 brought it in for PARM. Ask it of every line: how many candidates of plain best-of-N does this line's bill buy, and how right are those?
# (Of the numbers of candidates that were measured the largest that the bill pays for. Both columns have intervals of about two points to each side.)

# %%
whole = names.index(row_of(table, ("base", "orm"))["name"])
if by_n:
    wide = 1 + max(len(short(name)) for name in names)
    print(f"{'':{wide}}right   ORM, same bill    ahead by")
    for row, seconds in zip(table["rows"], spent, strict=True):
        tuned_single = row["search"] == "single" and row["generator"] != "base"
        if tuned_single or row["search"] in ("prm", "parm", "parm++", "parm++ anew"):
            afford = seconds / spent[whole] * table["rows"][whole]["n"]
            n = max((k for k in by_n if k <= afford), default=min(by_n))
            print(
                f"{short(row['name']):{wide}}{row['overall']:.3f}   best of {n:2}: {by_n[n]:.3f}   "
                f"{row['overall'] - by_n[n]:+.3f}"
            )

# %% [markdown]
# PARM alone comes out behind its rival on every generator, PARM++ ahead of it; single lines among them are within dice. Then read the lines of single pictures: whoever hands over *one* picture of a tuned generator pays no more than for one of the base, so all of the gain is free at use. It was paid for before.
#
# ### What was paid before
#
# Tuning costs once, search costs every time. So there is a number of prompts from which on tuning is the cheaper way. The card of the weights says how many pictures were drawn for the pairs and how many updates were made. An update looks at 32 pairs; forward
# and backward for the tuned network and forward for the frozen one are about four passes a picture, where *drawing* one takes sixteen (eight rounds, twice for guidance).

# %%
from cotlib.loading import generator_folder
from cotlib.models.checkpoint import read_card

card = read_card(generator_folder("masked", "dpo"))
drawn, updates = card["pairs"]["pictures"], card["dpo"]["updates"]
once = drawn + updates * card["dpo"]["batch"] * 2 * 4 / 16
tuned = row_of(table, ("dpo", "single"))
rival = next((n for n, truth in sorted(by_n.items()) if truth >= tuned["overall"]), None) if by_n else None
print(f"DPO: {drawn:,} pictures drawn, {updates} updates; together as dear as {once:,.0f} pictures")
print(f"one picture: base {plain['overall']:.3f}, DPO {tuned['overall']:.3f}")
if rival and rival > 1:
    print(f"the ORM on the base reaches that with {rival} candidates, {rival - 1} more for each prompt:")
    print(f"tuning pays from {once / (rival - 1):,.0f} prompts on")

# %% [markdown]
# An estimate, good to a factor of two: it leaves the verifier out (small here) and the labels (free here, since a judge gives them; elsewhere the dearest part).
#
# ### Exercise: a compute-matched comparison · difficulty 3 of 5 · 15 minutes
#
# Write the comparison itself. A method has its truth for each prompt and a budget a prompt. Its rival is best-of-n with as many of its N candidates, in the order drawn, as the budget buys in full: at least 1, at most N. It hands over the highest score, of equals the first. The check knows ten ways to be unfair.


# %%
def my_compute_matched(truth, budget, scores, right, price):
    """(n, difference): the rival's n, and the method's truth [P] minus the rival's, as a mean.

    scores, right [P, N]: of the rival's candidates; price: of one of them.
    """
    ...  # n from budget and price; the rival's choice among its first n; the mean difference


check("compute_matched", my_compute_matched)
# solution("compute_matched")

# %% [markdown]
# You will use it in section 6.
#
# ## 5 Goodhart: when searching harder makes it worse
#
# Every search so far got better with N, or at least not worse. That is no law. Best-of-N looks for the picture that the verifier likes best. If the verifier has a **blind spot**, a kind of picture that it likes for no good reason, then the search looks
# for *that*, the harder the larger N.
#
# Our verifiers are too good to show it. So plant one. Imagine that the right pictures of the training set came from a source that stamps the lower right corner. A verifier would learn: *ink in the corner means right*. `BlindSpot` wraps the
# fine-tuned ORM so that it answers 1 whenever the last of the 64 tokens shows ink; everything else it answers as before. No prompt asks for anything in the corner, but now and then the generator puts something there.

# %%
from cotlib.search import Ledger
from cotlib.search.paths import decode, draw
from cotlib.verifying.hedging import BlindSpot, good_enough, inked_corner, looked_at

generator = load("generator")
verifiers = {name: load("verifier", weights=name) for name in ("orm", "zero-shot", "parm")}
N, PER = 24, 8
prompts = of_each_task(PER)
tasks, index = [m["tag"] for m in prompts], np.arange(len(prompts))


@torch.no_grad()
def look(m, model=generator, n=N):
    """One prompt: pictures [n, 3, 64, 64], verdicts of both judges, P(yes) of each verifier [n],
    seconds for drawing and for one verifier."""
    ledger, begin = Ledger(), time.perf_counter()
    paths = draw(model, [m["prompt"]], n, seed=0).paths[0]
    images = decode(model, torch.stack([path.codes for path in paths]), ledger)
    ready = time.perf_counter()
    p = {name: v.ask(FINAL, [m["prompt"]] * n, images).numpy() for name, v in verifiers.items()}
    asked = time.perf_counter()
    right, second = ([v.correct for v in who([m] * n, images)] for who in (judge, template))
    return images, right, second, p, ready - begin, (asked - ready) / len(verifiers)


def gather(records):
    """The same as arrays, one row a prompt."""
    images, right, second, p, *seconds = zip(*records, strict=True)
    tables = {name: np.stack([own[name] for own in p]) for name in verifiers}
    return (
        torch.stack(images),
        np.array(right, float),
        np.array(second, float),
        tables,
        [sum(s) for s in seconds],
    )


records = progress(on_all_cores(look, prompts), f"{len(prompts)} prompts x {N} pictures", total=len(prompts))
images, right, second, p, seconds = gather(records)
inked = inked_corner(images.flatten(0, 1)).view(len(prompts), N).numpy()
print(
    f"{right.size:,} pictures, {right.mean():.2f} right; ink in the corner: {inked.mean():.3f}, of "
    f"these {right[inked].mean():.2f} right"
)

# %%
blind = BlindSpot(verifiers["orm"])
p_blind = np.where(inked, 1.0, p["orm"])
again = blind.ask(FINAL, [prompts[0]["prompt"]] * N, images[0]).numpy()
assert np.allclose(again, p_blind[0])  # the wrapped verifier gives the numbers of this table
row = int(np.argmax((inked & (right < 0.5)).sum(1)))
order = np.argsort(-p_blind[row], kind="stable")[:12]
show_images(
    images[row][order],
    [f"{p_blind[row][i]:.2f}, before {p['orm'][row][i]:.2f}" for i in order],
    marks=[bool(right[row][i]) for i in order],
    chosen=0,
    columns=6,
    tile=1.1,
    alt=f'The twelve pictures of "{prompts[row]["prompt"]}" that the verifier with the blind spot likes '
    "best. Those with ink in the lower right corner come first, right or wrong; the framed one is "
    "handed over.",
)

# %% [markdown]
# How bad is it? For a *single* picture hardly anything changes: the share with ink, printed above, gets a yes without a look, and many of those are right anyway. In a validation set you would see a verifier of slightly lower accuracy. Now let it search. Truth first rises, since the verifier knows a lot; and then?

# %%
predict(
    "09-peak",
    f"With how many candidates, of 1 to {N}, is the blind verifier right most often?",
    low=1,
    high=N,
)

# %%
from cotlib.lab.verifier_figures import best_of, best_of_curve, best_of_n_figure

ks = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, N)
tables = {"ORM": p["orm"], "ORM with blind spot": p_blind}
curves = {name: best_of_curve(tasks, s, right, ks) for name, s in tables.items()}
beliefs = {name: best_of_curve(tasks, s, s, ks) for name, s in tables.items()}
e, q = inked.mean(), right[inked].mean()
toy = [(k, *[(1 - e) ** k * h + (1 - (1 - e) ** k) * q] * 3) for k, h, *_ in curves["ORM"]]
at = ks[int(np.argmax([mean for _, mean, *_ in curves["ORM with blind spot"]]))]
show(
    best_of_n_figure(
        curves | {"predicted from e and q": toy},
        bound=best_of_curve(tasks, right, right, ks),
        believed=beliefs,
    ),
    alt=f"Left: truth of the honest ORM rises to {curves['ORM'][-1][1]:.2f}; with the blind spot "
    f"it peaks at N = {at} and falls to {curves['ORM with blind spot'][-1][1]:.2f} at N = {N}. "
    "Right: what it believes of its choice only rises, to "
    f"{beliefs['ORM with blind spot'][-1][1]:.2f}.",
)


def rows_of(values):
    """The score table of one number a prompt."""
    return [(task, [value]) for task, value in zip(tasks, values, strict=True)]


def gain(a, b):
    """(difference, low, high) of two tables of one number a prompt."""
    return paired_difference(rows_of(a), rows_of(b))


few_blind, all_blind = best_of(p_blind, right, 4), best_of(p_blind, right, N)
rise, fall = gain(few_blind, right.mean(1)), gain(few_blind, all_blind)
print("from 1 to 4 candidates  {:+.2f}   ({:+.2f} to {:+.2f})".format(*rise))
print(f"from 4 to {N} candidates " + f"{-fall[0]:+.2f}   ({-fall[2]:+.2f} to {-fall[1]:+.2f})")
natural = [best_of(p["zero-shot"], right, k) for k in (12, N)]
print(
    f"zero-shot verifier, nothing planted, from 12 to {N}: "
    + "{:+.2f}   ({:+.2f} to {:+.2f})".format(*gain(*natural[::-1]))
)
reveal("09-peak", at)

# %% [markdown]
# This is **Goodhart's law** in its strong form. Notebook 04 showed the mild one, where only the *report* is too rosy. Here the thing itself gets worse, and the report better: belief goes to 1. (The curves use all ways to take k of the pictures. The
# number 4 in the printed lines was fixed on other prompts, so as not to choose the peak by luck.) The last printed line asks the same of the zero-shot verifier as it is. It was never shown this generator's smudges, so it has
# blind spots that nobody planted; with so few prompts you may or may not see them outweigh what more candidates bring.
#
# The curve *predicted from e and q* needs almost no knowledge. Let $e$ be the share of stamped pictures, $q$ the share of right ones among them and $h(N)$ the honest curve. With chance $(1-e)^N$ nobody among the N is stamped and the verifier is honest; otherwise a stamped picture wins:
#
# $$\text{truth}(N) \approx (1-e)^N\, h(N) + \bigl(1 - (1-e)^N\bigr)\, q$$
#
# At $N = 1/e$ a stamped picture decides in nearly two of three searches, and in the end truth is $q$. That is the dangerous part: **the rarer the blind spot, the better the verifier looks in a small test, and the later it bites.** One picture in a thousand is invisible in a test of some hundreds and rules a search
# over 2,000. The formula takes $e$ as the same for all prompts; it is not, so it is only roughly right. That rise and fall come for a wide class of searches is shown in [arXiv 2506.19248](https://arxiv.org/abs/2506.19248).
#
# ## 6 What helps
#
# Three remedies, all in `cotlib.verifying.hedging`:
#
# - **lowest of three**: ask ORM (blind), the zero-shot verifier and PARM's FINAL, and believe the most critical one. A picture must convince all;
# - **mean of three**: average their P(yes);
# - **good enough**: no second verifier. Do not look for the best at all; take the *first* candidate with P(yes) of at least one half, and stop drawing. Only if none passes take the highest.
#
# And one test of the remedy itself: what if the others have *the same* blind spot?

# %%
predict(
    "09-shared",
    f"Lowest of three at N = {N}, all three with the same blind spot. Against the blind ORM alone it is ...",
    choices=["much better", "a little better", "about the same"],
)

# %%
seen = {name: np.where(inked, 1.0, own) for name, own in p.items()}
three = {
    "blind ORM": p_blind,
    "good enough (blind ORM)": good_enough(p_blind),
    "mean of three, one blind": np.mean([seen["orm"], p["zero-shot"], p["parm"]], 0),
    "lowest of three, one blind": np.min([seen["orm"], p["zero-shot"], p["parm"]], 0),
    "lowest of three, two blind": np.min([seen["orm"], p["zero-shot"], seen["parm"]], 0),
    "lowest of three, all blind": np.min([seen[name] for name in p], 0),
    "honest ORM": p["orm"],
    "lowest of three, none blind": np.min(list(p.values()), 0),
}
truth = {name: best_of(s, right, N) for name, s in three.items()}
drawn_by = dict.fromkeys(three, N) | {"good enough (blind ORM)": looked_at(p_blind).mean()}
print(f"{'N = ' + str(N):23}right  95 %          over the blind ORM     drawn asked")
repair = {}
for name, values in truth.items():
    mean, low, high = bootstrap_interval(rows_of(values))
    repair[name] = gain(values, truth["blind ORM"])
    asked = drawn_by[name] * (3 if "three" in name else 1)
    over = "{:+.2f} ({:+.2f} to {:+.2f})".format(*repair[name])
    shown = name.replace(" of three", "")
    print(f"{shown:23}{mean:5.2f}  {low:.2f} to {high:.2f}  {over}{drawn_by[name]:6.1f}{asked:6.1f}")
gap = repair["lowest of three, all blind"][0]
reveal("09-shared", "much better" if gap > 0.1 else "a little better" if gap > 0.03 else "about the same")

# %%
shown = (
    "blind ORM",
    "good enough (blind ORM)",
    "mean of three, one blind",
    "lowest of three, one blind",
    "lowest of three, all blind",
)
show(
    best_of_n_figure(
        {name: best_of_curve(tasks, three[name], right, ks) for name in shown},
        bound=best_of_curve(tasks, right, right, ks),
    ),
    alt=f"Truth against N for the blind ORM and its remedies. At {N}: "
    + ", ".join(f"{name} {truth[name].mean():.2f}" for name in shown)
    + " (mean over prompts).",
)

# %% [markdown]
# - **Several verifiers** repair it as far as one of them does not share the blind spot. One honest member is enough for the lowest opinion. Here the mean does as well, because opinions end at 1: nobody can shout. (An average of *margins*, which have no end, is ruled by the loudest.)
# - **A shared blind spot is not repaired at all**: its line lies on that of the blind ORM. Verifiers trained on the same labels by the same recipe tend to share. An ensemble is as good as its members are *different*.
# - **Good enough** loses far less than the blind search, asks nobody else, and draws a small part of the pictures. It is not immune: an undeserved yes ends its search, too. But it never *prefers* it. It falls with N a little for the prompts in which honest candidates hardly ever pass.
#
# ### Equal money again
#
# "Draws a small part" calls for your compute-matched comparison. Give each method its bill, first in pictures, then in seconds, and let plain best-of-n spend the same. One thing must not be forgotten: who stops at the first good one draws *one after the other*, and a
# picture alone costs more than one of a batch. So measure what a search of a single candidate takes, too. The difference is a price for every start.


# %%
def alone(m):
    """Seconds for one candidate and no other: drawn, decoded, and the ORM asked."""
    begin = time.perf_counter()
    path = draw(generator, [m["prompt"]], 1, seed=1).paths[0][0]
    verifiers["orm"].ask(FINAL, [m["prompt"]], decode(generator, path.codes[None], Ledger()))
    return time.perf_counter() - begin


first_one, batch = np.mean(list(on_all_cores(alone, prompts))), sum(seconds) / len(prompts)
asking = seconds[1] / right.size
further = (batch - first_one) / (N - 1)  # a further candidate of the same batch
start = max(first_one - further, 0.0)
for what, took in {
    "a candidate alone": first_one,
    f"{N} in one batch": batch,
    "so the start": start,
    "and each candidate": further,
    "of it asking": asking,
}.items():
    print(f"{what:20}{1000 * took:7.1f} ms")
matched = {}
for title, scores in (("honest", p["orm"]), ("blind", p_blind)):
    looked, half = looked_at(scores).mean(), N // 2
    trio = np.min([scores, p["zero-shot"], p["parm"]], 0)[:, :half]
    methods = {
        "good enough": (good_enough(scores), looked, looked * (start + further)),
        "lowest of three, half as many": (trio, half, start + half * (further + 2 * asking)),
    }
    for name, (table_of, drawn, bill) in methods.items():
        mine = right[index, table_of.argmax(1)]
        print(f"{title} ORM, {name}: {np.mean(mine):.2f}")
        for unit, budget, price in (("pictures", drawn, 1.0), ("seconds", bill - start, further)):
            n, _ = compute_matched(mine, budget, scores, right, price)
            theirs = right[index, scores[:, :n].argmax(1)]
            matched[title, name, unit] = (n, *gain(mine, theirs))
            print(f"   against best of {n:2} for the same {unit:8}  {theirs.mean():.2f}   "
                  + "{:+.2f} ({:+.2f} to {:+.2f})".format(*matched[title, name, unit][1:]))  # fmt: skip

# %% [markdown]
# Look at the first method. **Picture for picture, stopping early wins**: it spends its candidates where they are needed, one for an easy prompt, many for a hard one. It needs a verifier whose one half means something, which is calibration. **In seconds the answer is your machine's.** Every candidate
# pays a start of its own, and what that costs beside a further picture of a batch decides how many candidates the rival may draw, and so who wins: the lab book has runs of this cell with either end. On a GPU, where a batch of twenty takes little longer than one picture, stopping early would
# buy less still. So a bill needs its unit. (48 prompts are few. An interval without width says only that both handed over equally right pictures for all of them, not that they always will.)
#
# ## 7 A verifier on a generator that it was not trained on
#
# The ORM was fine-tuned on pictures of the *base*. In the table it also chooses among pictures of tuned generators. Are its answers still worth what they say? There are two kinds of strangers: `dpo` was tuned on the judge's labels, without the ORM. `dpo-guided-orm` was tuned to **please this very
# verifier**. If training found a blind spot, here is where to look for it: pictures that the ORM likes and that are wrong.

# %%
predict(
    "09-guided",
    "Of the wrong pictures of the generator that was guided by the ORM, the ORM accepts ... than "
    "of the base's",
    choices=["a smaller share", "a share that cannot be told apart", "a larger share"],
)

# %%
from cotlib.lab.verifier_figures import interval_over, reliability_figure
from cotlib.verifying.calibration import balanced_accuracy, calibration_error, false_positive_rate, ranking

FEW = 8
who = {"base": (right[:, :FEW], p["orm"][:, :FEW], second[:, :FEW], images[:, :FEW])}
for name in ("dpo", "dpo-guided-orm"):
    model = load("generator", weights=name)
    records = on_all_cores(lambda m, model=model: look(m, model, FEW), prompts)
    pictures, good, by_template, opinions, _ = gather(
        progress(records, f"{name}: prompts", total=len(prompts))
    )
    who[name] = (good, opinions["orm"], by_template, pictures)
group = np.repeat(index, FEW)
quality, below = {}, [f"{'':16}{'balanced accuracy':>17}{'wrong accepted':>24}{'ranking':>10}"]
print(f"{'ORM on':16}{'right':>7}{'believed':>10}{'too sure by':>26}")
for name, (good, says, *_) in who.items():
    t, s = good.ravel() > 0.5, says.ravel()
    sure = bootstrap_interval(rows_of((says - good).mean(1)))
    wrong = interval_over(lambda a, b, _: false_positive_rate(a, b), group, s, t)
    quality[name] = {
        "sure": sure,
        "wrong": wrong,
        "accuracy": interval_over(lambda a, b, _: balanced_accuracy(a, b), group, s, t),
    }
    print(f"{name:16}{good.mean():7.2f}{says.mean():10.2f}{'{:+.3f} ({:+.2f} to {:+.2f})'.format(*sure):>26}")
    told = "{:.2f} ({:.2f} to {:.2f})".format(*wrong)
    below.append(f"{name:16}{quality[name]['accuracy'][0]:17.2f}{told:>24}{ranking(s, t, group):10.2f}")
print("", *below, sep="\n")
ends = [
    column.ravel() for name in ("dpo-guided-orm", "base") for column in (who[name][1], who[name][0] > 0.5)
]
change = interval_over(
    lambda p1, t1, p2, t2, _: false_positive_rate(p1, t1) - false_positive_rate(p2, t2), group, *ends
)
print("wrong accepted, guided minus base: {:+.3f} ({:+.3f} to {:+.3f})".format(*change))
told = "a larger share" if change[1] > 0 else "a smaller share" if change[2] < 0 else None
reveal("09-guided", told or "a share that cannot be told apart")

# %%
answers = {f"ORM on {name}": (says.ravel(), good.ravel() > 0.5) for name, (good, says, *_) in who.items()}
ends = np.concatenate([says for says, _ in answers.values()])
surest = np.mean((ends < 0.1) | (ends >= 0.9))
show(
    reliability_figure(answers),
    alt="Reliability of the ORM on pictures of three generators: share right against P(yes), with "
    f"the counts below. {surest:.0%} of the answers stand in the first and the last bin, near the "
    "diagonal; between them the lines jump, with bars over half the height. The calibration error "
    "is "
    + ", ".join(f"{calibration_error(*columns):.2f} for {name}" for name, columns in answers.items())
    + ".",
)
apart = gain(
    (who["dpo-guided-orm"][1] - who["dpo-guided-orm"][0]).mean(1), (who["base"][1] - who["base"][0]).mean(1)
)
print("too sure, guided minus base: {:+.3f} ({:+.3f} to {:+.3f})".format(*apart))

# %% [markdown]
# Look at the counts first. Nearly all answers are a sure yes or a sure no; the zigzag between them rests on a few pictures a point, as the long bars say. So the figure shows no gross change, and cannot show a fine one. For that there are the lines above.
#
# Two measures, and they may differ. *Wrong accepted* looks at wrong pictures only. If it is larger for the guided generator, compare it with `dpo`, which never met the ORM: tuning removes the plain mistakes first, and those that are left are harder to see for anybody. Only what the
# guided one has beyond that speaks of a blind spot found. *Too sure*, the last line, looks at all pictures: belief minus truth, what a report by the ORM alone would overstate. If its interval holds 0, nothing of the kind happened, or it is too small for these prompts. The same check works for
# any reward: *score the tuned generator's pictures with the reward and with a judge who had no part in it, and compare the two gains*.
#
# ### Can the verifier catch up?
#
# A verifier can learn from the new pictures, too. Here ORM and PARM went on learning for three minutes, from paths that `dpo-guided-orm` itself drew for *training* prompts, labelled by the judge. Old and new then chose among the same candidates of all test prompts.
# A **stored result**; the commands stand at the head of `cotlib/tables/retrained.py`.

# %%
try:
    again = stored("retrained")
except UserError:
    again = None
    print("not stored here; `python -m cotlib table retrained` makes it")
if again:
    counted = again["strategies"]["orm"]
    print(f"{again['generator']}, {counted['prompts']} prompts, N = {counted['n']}, seeds {counted['seeds']}")
    heads = "".join(f"{head:>7}" for head in ("single", "two", "count", "color", "place", "attr."))
    print(f"{'':16}{'right  95 %':20}{heads}")
    for name, row in again["strategies"].items():
        by_task = "".join(f"{row['tasks'][task]['score']:7.2f}" for task in TASKS)
        print(f"{name:16}{row['overall']:.3f} ({row['ci95'][0]:.2f} to {row['ci95'][1]:.2f}){by_task}")
    for name, difference in again["differences"].items():
        print(f"{name:24}" + "{:+.3f} ({:+.3f} to {:+.3f})".format(*difference))

# %% [markdown]
# Look at counting. In the table the ORM on this generator loses most of its points there, although a right picture is nearly always among the twenty: it is the *choice* that got worse, not the drawing. Where the re-trained line is higher, that was the stranger's
# mistake. (Or three more minutes would have helped on any pictures; that control was not run.) So whoever tunes a generator should tune its verifier again before concluding that "search adds nothing".
#
# ## 8 A judge who had no part in it
#
# One circle is left. The detector judge gave the labels for ORM, for PARM and for all DPO pairs, and then it measured. The **template judge** has no training and gave nothing. In the full table it looked at the same pictures (of "one picture" at the first four of each prompt).

# %%
predict(
    "09-judges",
    "Of all live pictures above, on how many per cent do the two judges agree?",
    low=50,
    high=100,
    unit="%",
)

# %%
show(
    judges_figure(table),
    alt="Every system by both judges: across the detector, up the template. On the dotted line "
    "both say the same, and all systems lie close to it, single pictures and the PRM's searches at "
    "the lower left, all other searches at the upper right.",
)
agree = np.mean([np.mean(good == by_template) for good, _, by_template, _ in who.values()])
by_both = agreement([row["overall"] for row in table["rows"]], [row["second_judge"] for row in table["rows"]])
reveal("09-judges", round(100 * float(agree)))
print(f"the orders of all systems by the two judges agree with tau {by_both:+.2f}")
print(f"{'gain over one picture of the base':42}{'by the detector':>16}{'by the template':>16}")
gains = {}
for system in (("dpo", "single"), ("base", "orm"), ("dpo", "orm"), ("base", "parm")):
    gains[system] = [row_of(table, system)[key] - plain[key] for key in ("overall", "second_judge")]
    print(f"{paper.name_of(system):42}{gains[system][0]:16.3f}{gains[system][1]:16.3f}")
both_gain = [gain(who["dpo"][k].mean(1), who["base"][k].mean(1)) for k in (0, 2)]
print("live: DPO minus base {:+.2f} ({:+.2f} to {:+.2f}) by the detector,".format(*both_gain[0]))
print("                     {:+.2f} ({:+.2f} to {:+.2f}) by the template".format(*both_gain[1]))

# %%
good, _, by_template, pictures = who["dpo"]
where = np.argwhere(good != by_template)
picks = where[:: max(1, len(where) // 6)][:6]
show_images(
    torch.stack([pictures[i, k] for i, k in picks]),
    [
        f"{prompts[i]['prompt'].removeprefix('a photo of ')}: detector "
        f"{'yes' if good[i, k] else 'no'}, template {'yes' if by_template[i, k] else 'no'}"
        for i, k in picks
    ],
    columns=6,
    tile=1.5,
    alt=f"Some of the {len(where)} of {good.size} pictures of the tuned generator on which the two "
    "judges disagree. Most hold a smudge or a pale thing that may be counted or not.",
)

# %% [markdown]
# A gain that the second judge confirms is a gain in pictures. One that only the first judge sees is a gain in *agreeing with the first judge*. And where the judges part, look for yourself: most of these pictures have no plain answer.
#
# ## 9 How to read a text-to-image claim
#
# Ten questions. Print this page.
#
# 1. **How many prompts, how many pictures, how many runs?** Without an interval compute one: for a share p of n *prompts* it is about ±2√(p(1−p)/n). Pictures of one prompt are no new prompts.
# 2. **Is the difference larger than its own dice?** Not: is each score precise. On the same prompts a paired difference can be far surer than two scores.
# 3. **Which aggregate?** Mean over tasks or over pictures; one picture, best of four, or any of four right. They differ by tens of points.
# 4. **What did it cost?** N, passes, verifier calls, seconds, and what was paid once. *As good at half the cost*: and what else does half the cost buy?
# 5. **Against which baselines?** One picture; best-of-N by the generator's own confidence; *best-of-fewer for the same money*; the coverage bound. And tuned weights used without the new method.
# 6. **Who labelled, who chose, who measured?** If it is the same detector, ask for a second judge.
# 7. **Were the test prompts new?** Six templates and eighty nouns are easily learnt. Held out by word, by pair, or not at all?
# 8. **Where were thresholds, seeds and checkpoints chosen?** On the prompts that are reported, the best of many tries is reported with its luck.
# 9. **Does truth follow the score?** The score of the search always rises with N. Ask for truth against N, up to the N that is used, and for the verifier's mistakes on *this* generator's pictures.
# 10. **Is the judge still good enough?** A judge that was fine for last year's models may be the limit now: for current ones GenEval's differs from people by up to 17.7 points ([arXiv 2512.16853](https://arxiv.org/abs/2512.16853)). Differences below its error say nothing.
#
# Now apply it. First question 1, to the paper: how sure are its scores? By arithmetic, with independent pictures (the least), and with pictures of a prompt as alike as ours are.

# %%
alike = alikeness(right)
print(f"correlation of two pictures of one prompt, here: {alike:.2f}")
print(f"{'the paper':34}score   independent   as alike as here")
for system in (
    ("base", "single"),
    ("dpo-iter", "single"),
    ("dpo-guided-orm", "single"),
    ("dpo-guided-parm", "parm"),
):
    line = paper.published_row(system)
    print(
        f"{short(paper.name_of(system)):34}{line['overall']:5.2f}       ± "
        f"{published_error(line):.3f}            ± {published_error(line, alike):.3f}"
    )
weak = [row for row in rows if row.paper <= row.dice]
print("not beyond dice in the paper itself:")
for row in weak:
    print(f"    {row.text} ({row.paper:+.2f})")

# %% [markdown]
# Those differences may well be real. The paper just does not show them: single runs without intervals. Then our own table, with the same questions. What it cannot answer well is said as well.

# %%
sheet = {
    "1 prompts, pictures, runs": f"{first['prompts']} prompts, N = {first['n']}, seeds {first['seeds']}; "
    "tuned weights: one training each",
    "2 larger than dice": f"{count[HOLDS] + count[REVERSED]} of {len(rows)} comparisons; "
    f"{sum(row.paired for row in rows)} of them paired by prompt",
    "3 aggregate": "mean of six task means; one picture handed over a prompt",
    "4 cost": "token passes, verifier calls, seconds of one core; tuning estimated once, above",
    "5 baselines": "one picture, fewer candidates, coverage; log-probability in notebook 04",
    "6 who judges": "the detector labels and measures; the template agrees on the order with tau "
    f"{by_both:.2f}",
    "7 new prompts": "held out by composition, except single objects and numbers, which hold no pair",
    "8 where chosen": "thresholds and settings on development or training prompts",
    "9 truth against N": "shown in 04 and above; ORM on tuned generators in section 7",
    "10 the judge": "drawings are judged nearly without error, smudges are not (03)",
}
for question, answer in sheet.items():
    print(textwrap.fill(answer, 78, initial_indent=f"{question:28}", subsequent_indent=28 * " "))

# %% [markdown]
# The weakest spot is in the first line: **one training each**. The intervals say what other *prompts* would do, not what another training run would. A difference between two tuned generators, such as ORM-guided against PARM-guided, would need several of each. Nobody, here or in the paper, has made them.
#
# ## What you take along
#
# - Compare orders, not heights, between worlds; and single statements, not whole orders. Three verdicts: holds, the other way round, cannot be told.
# - Tuning and search add up only where a search leaves something to add. Coverage at k tells how much that is.
# - Before explaining a difference, ask for dice, then for room, then for the world.
# - Quality without cost recommends the dearest. The rival is what the same money buys.
# - A verifier with a blind spot makes search *worse* from some N on, while it believes ever more. The rarer the spot, the later.
# - Several verifiers help as far as they differ. Being content with good enough helps without a second one, and saves most of the drawing.
# - Who was tuned to please a verifier must be judged by somebody else.

# %%
score("09")

# %%
# NBVAL_CHECK_OUTPUT
full_orm = table["differences"]["fine-tuned ORM - the generator alone"]
dpo_gain = table["differences"]["DPO - the generator alone"]
parm_gain = table["differences"]["PARM - fine-tuned ORM"]
lowest, all_three = repair["lowest of three, one blind"], repair["lowest of three, all blind"]
belief = gain(best_of(p_blind, p_blind, N), all_blind)
honest_fall = gain(best_of(p["orm"], right, 4), best_of(p["orm"], right, N))
agreed = bootstrap_interval(rows_of(np.mean([(g == b).mean(1) for g, _, b, _ in who.values()], axis=0)))
claims(
    [
        Claim("full table: the fine-tuned ORM gains over one picture of the base", *full_orm, 0.1),
        Claim("... confirmed by the template judge", gains["base", "orm"][1], threshold=0.1),
        Claim("one picture of the generator tuned by DPO gains over one of the base", *dpo_gain, 0.0),
        Claim("PARM is not ahead of the fine-tuned ORM on the base; at most", *parm_gain, 0.03, "<="),
        Claim(
            "as wholes the two orders are not told apart from shuffled ones: tau at most",
            rank,
            threshold=round(float(most), 2),
            direction="<=",
        ),
        Claim("both judges order the systems alike: tau", by_both, threshold=0.5),
        Claim("blind spot: truth rises from 1 to 4 candidates, by", *rise, 0.05),
        Claim(f"... and falls from 4 to {N}, by", *fall, 0.05),
        Claim("... while the verifier believes too much of its choice, by", *belief, 0.2),
        Claim(f"without it nothing falls from 4 to {N}, at most", *honest_fall, 0.02, "<="),
        Claim("the lowest of three, one of them blind, repairs it, by", *lowest, 0.1),
        Claim("... three that share the blind spot do not; at most", *all_three, 0.1, "<="),
        Claim("good enough loses less than the blind search, by", *repair["good enough (blind ORM)"], 0.05),
        Claim(
            "... for this share of the pictures",
            drawn_by["good enough (blind ORM)"] / N,
            threshold=0.25,
            direction="<=",
        ),
        Claim(
            "good enough beats best-of-n with as many pictures (honest ORM), by",
            *matched["honest", "good enough", "pictures"][1:],
            0.0,
        ),
        Claim(
            "the ORM stays accurate on pictures of DPO: balanced accuracy", *quality["dpo"]["accuracy"], 0.8
        ),
        Claim("the two judges agree on this share of the live pictures", *agreed, 0.85),
    ]
)
