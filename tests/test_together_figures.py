"""Figures and numbers of the whole table, on a table of made-up verdicts that went through the table's own summary."""

from itertools import combinations

import numpy as np
import pytest

from cotlib.judging.stats import bootstrap_interval, paired_difference
from cotlib.lab.figures import MAX_BYTES, compact_png
from cotlib.lab.together_figures import (
    COMPARISONS,
    HOLDS,
    OPEN,
    REVERSED,
    Compared,
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
)
from cotlib.tables import paper
from cotlib.world.prompts import benchmark
from cotlib.world.scenes import TASKS

PLAN = paper.PaperPlan(n=20, seeds=(0,))


def made_up(prompts, truth, seed=0, generators=paper.GENERATORS):
    """Lines as `paper.measure_prompt` writes them; truth: system -> chance of a right picture."""
    rng, parts = np.random.default_rng(seed), {}
    for generator in generators:
        parts[generator] = []
        for m in prompts:
            entries = {}
            for number, name in enumerate(paper.SEARCHES[generator]):
                p, count = truth((generator, name)), 20 if name == "single" else 1
                ledger = {"generator_token_passes": 18_000 - 900 * number, "verifier_calls": {} if name == "single" else {"FINAL": 20},
                          "decodes": 20, "seconds": 0.9 + 0.02 * number, "seconds_by": {}}  # fmt: skip
                entries[name] = {"scores": (rng.random(count) < p).astype(int).tolist(),
                                 "second": (rng.random(min(count, 4)) < p - 0.02).astype(int).tolist(), "ledger": ledger}  # fmt: skip
            parts[generator].append({"prompt": m["prompt"], "task": m["tag"], "strategies": entries})
    return parts


def as_published(system):
    row = paper.published_row(system)
    return row["overall"] if row else 0.6


@pytest.fixture(scope="module")
def parts():
    return made_up(benchmark("test"), as_published)


@pytest.fixture(scope="module")
def result(parts):
    return paper.summarise(parts, PLAN)


# ----- numbers -------------------------------------------------------------------------------------------------------


def test_every_comparison_is_published_and_the_paper_says_so():
    for text, a, b in COMPARISONS:
        assert a in paper.SYSTEMS and b in paper.SYSTEMS, text
        assert paper.published_row(a)["overall"] > paper.published_row(b)["overall"], text
    assert len({text for text, *_ in COMPARISONS}) == len(COMPARISONS)


def test_a_stored_difference_is_taken_either_way_round(result, parts):
    a, b = ("dpo", "single"), ("base", "single")
    here = difference_of(result, a, b)
    rows = [[(line["task"], [np.mean(line["strategies"]["single"]["scores"])]) for line in parts[g]] for g in ("dpo", "base")]  # fmt: skip
    assert here[:3] == pytest.approx(paired_difference(*rows), abs=1e-4) and here[3] is True
    assert difference_of(result, b, a) == (-here[0], -here[2], -here[1], True)


def test_a_difference_that_is_not_stored_is_as_wide_as_two_independent_scores(result, parts):
    a, b = (paper.CORRECTOR, "parm++ anew"), (paper.CORRECTOR, "parm++ silent")
    mean, low, high, paired = difference_of(result | {"differences": {}}, a, b)
    assert not paired and mean == pytest.approx(row_of(result, a)["overall"] - row_of(result, b)["overall"])
    rng, tables = np.random.default_rng(1), []
    for name in (a[1], b[1]):
        tables.append([(line["task"], line["strategies"][name]["scores"]) for line in parts[paper.CORRECTOR]])
    ends = [bootstrap_interval(table, repeats=4000, seed=rng)[1:] for table in tables]
    half = np.hypot(*[(high - low) / 2 for low, high in ends])
    assert (high - low) / 2 == pytest.approx(half, rel=0.1)


def test_verdicts_follow_the_interval():
    assert Compared("x", 0.1, 0, 0.02, 0.01, 0.03, True).verdict == HOLDS
    assert Compared("x", 0.1, 0, 0.02, -0.01, 0.05, True).verdict == OPEN
    assert Compared("x", 0.1, 0, -0.02, -0.03, -0.01, True).verdict == REVERSED


def test_where_truth_is_the_papers_no_order_is_reversed_and_large_gaps_hold(result):
    rows = compared(result)
    assert [row.text for row in rows] == [text for text, *_ in COMPARISONS]
    assert all(row.verdict != REVERSED for row in rows)
    assert {row.text: row.verdict for row in rows}[
        "DPO helps"
    ] == HOLDS  # .62 - .53, twenty pictures a prompt on both sides
    assert agreement(*both_sides(result)) > 0.5


def test_systems_that_were_not_measured_are_left_out(parts):
    few = paper.summarise({name: parts[name] for name in ("base", "dpo")}, PLAN)
    texts = [row.text for row in compared(few)]
    assert "DPO helps" in texts and "PARM beats the ORM" in texts and "tuning adds to PARM" not in texts


def test_the_papers_dice_by_simulation():
    row = paper.published_row(("base", "single"))
    rng = np.random.default_rng(0)
    counts = dict(zip(TASKS, (80, 99, 80, 94, 100, 100), strict=True))
    draws = np.mean([rng.binomial(4 * counts[t], row[t], 20_000) / (4 * counts[t]) for t in TASKS], axis=0)
    assert published_error(row) == pytest.approx(1.96 * draws.std(), rel=0.03)
    # with pictures of a prompt all alike, as if there were one each
    assert published_error(row, alike=1.0) == pytest.approx(2 * published_error(row))


def test_alikeness_of_pictures_of_one_prompt():
    rng = np.random.default_rng(0)
    assert alikeness(rng.integers(0, 2, (2000, 6))) == pytest.approx(0, abs=0.03)
    assert alikeness(np.repeat(rng.integers(0, 2, (50, 1)), 6, axis=1)) == pytest.approx(1)
    p = rng.beta(1, 1, (4000, 1))  # a prompt's own chance, uniform: correlation 1 / (1 + 1 + 1)
    assert alikeness(rng.random((4000, 8)) < p) == pytest.approx(1 / 3, abs=0.03)


def test_agreement_counts_pairs():
    theirs, ours = [0.5, 0.6, 0.6, 0.9, 0.7], [1.0, 2.0, 3.0, 2.5, 2.0]
    same = other = ties_a = ties_b = 0
    for i, j in combinations(range(5), 2):
        a, b = theirs[i] - theirs[j], ours[i] - ours[j]
        same, other, ties_a, ties_b = (
            same + (a * b > 0),
            other + (a * b < 0),
            ties_a + (a == 0),
            ties_b + (b == 0),
        )
    assert agreement(theirs, ours) == pytest.approx((same - other) / np.sqrt((10 - ties_a) * (10 - ties_b)))
    assert agreement([1, 2, 3], [4, 5, 9]) == 1 and agreement([1, 2, 3], [9, 5, 4]) == -1
    assert np.isnan(agreement([1, 1], [1, 2]))


def test_nobody_on_the_front_is_beaten_and_everybody_else_is():
    rng = np.random.default_rng(0)
    for _ in range(50):
        costs, truths = rng.integers(1, 6, 8).tolist(), rng.integers(1, 6, 8).tolist()
        front, best, wanted = pareto_front(costs, truths), -1, []
        for i in sorted(range(8), key=lambda i: (costs[i], -truths[i])):  # a sweep from the cheapest on
            if truths[i] > best or (wanted and (costs[i], truths[i]) == (costs[wanted[-1]], best)):
                wanted.append(i)
                best = truths[i]
        assert sorted(front) == sorted(wanted)
        assert [costs[i] for i in front] == sorted(costs[i] for i in front)


def test_seconds_are_those_of_the_table_to_ten_milliseconds(result):
    assert seconds_of(result) == pytest.approx([row["cost"]["seconds"] for row in result["rows"]], abs=0.0051)
    assert seconds_of({"rows": [{"cost": {"seconds": 0.1234}}]}) == [0.12]


def test_the_rival_gets_as_many_as_the_budget_buys():
    scores, right = [[0.1, 0.9, 0.5, 1.0], [0.6, 0.6, 0.2, 0.1]], [[1, 0, 1, 1], [1, 0, 0, 0]]
    assert compute_matched([1, 1], 2.9, scores, right, 1.0) == (2, 0.5)
    assert compute_matched([1, 0], 0.5, scores, right, 1.0) == (1, -0.5)
    assert compute_matched([1, 1], 400, scores, right, 1.0) == (4, 0.0)


# ----- figures -------------------------------------------------------------------------------------------------------


def test_the_table_figure_has_a_row_for_every_system_and_the_papers_where_it_has_one(result):
    fig = paper_table_figure(result)
    theirs, ours, cost = fig.axes
    points = [[line.get_xdata()[0] for line in ax.lines] for ax in (theirs, ours, cost)]
    assert points[1] == [row["overall"] for row in result["rows"]]
    assert points[2] == seconds_of(result)
    assert points[0] == [row["published"]["overall"] for row in result["rows"] if row["published"]]
    heights = [line.get_ydata()[0] for line in ours.lines]
    assert heights == sorted(set(heights)) and len(theirs.get_yticklabels()) == len(paper.SYSTEMS)
    assert len(theirs.texts) == len(paper.GENERATORS)
    assert len(compact_png(fig)[0]) <= MAX_BYTES


def test_the_order_figure_draws_both_differences_of_each_comparison(result):
    rows = compared(result)
    fig = order_figure(rows)
    xs = [line.get_xdata()[0] for line in fig.axes[0].lines if len(line.get_xdata()) == 1]
    assert xs == [x for row in rows for x in (row.here, row.paper)]
    assert len(compact_png(fig)[0]) <= MAX_BYTES


def test_the_front_is_drawn_and_numbered_in_every_panel(result):
    fig = front_figure(result)
    passes = [row["cost"]["token_passes"] for row in result["rows"]]
    for ax, spent in zip(fig.axes, (passes, seconds_of(result)), strict=True):
        front = pareto_front(spent, [row["overall"] for row in result["rows"]])
        assert [text.get_text() for text in ax.texts] == [str(i + 1) for i in range(len(front))]
        line = next(line for line in ax.lines if line.get_drawstyle() == "steps-post")
        assert list(line.get_ydata()) == [result["rows"][i]["overall"] for i in front]
    assert len(compact_png(fig)[0]) <= MAX_BYTES


def test_both_judges_of_every_system(result):
    ax = judges_figure(result).axes[0]
    points = {
        (x, y) for line in ax.lines[1:] for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }
    assert points == {(row["overall"], row["second_judge"]) for row in result["rows"]}
