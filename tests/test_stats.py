"""Statistics against brute force: every subset counted, every draw made one by one."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotlib.judging.rules import overall
from cotlib.judging.stats import bootstrap_interval, coverage, paired_difference, task_means, wilson

ROWS = [
    ("colors", [1, 0, 1, 1]),
    ("colors", [0, 0, 0, 0]),
    ("counting", [1, 1, 1, 1]),
    ("position", [0, 1, 0, 0]),
]


@given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_coverage_counts_the_subsets(case):
    n, correct, k = case
    outcomes = [1] * correct + [0] * (n - correct)
    share = sum(any(subset) for subset in combinations(outcomes, k)) / comb(n, k)
    assert coverage(correct, n, k) == pytest.approx(share, abs=1e-12)


def test_coverage_of_an_array_is_elementwise_and_refuses_nonsense():
    counts = np.array([[0, 3], [19, 20]])
    assert coverage(counts, 20, 4).shape == (2, 2)
    assert coverage(counts, 20, 4)[0, 1] == pytest.approx(1 - comb(17, 4) / comb(20, 4))
    for correct, n, k in ((1, 4, 5), (1, 4, 0), (5, 4, 1), (-1, 4, 1)):
        with pytest.raises(ValueError, match="coverage needs"):
            coverage(correct, n, k)


def test_task_means_and_overall_weigh_tasks_not_prompts():
    assert task_means(ROWS) == {"colors": (0.375, 2), "counting": (1.0, 1), "position": (0.25, 1)}
    assert overall(ROWS) == pytest.approx((0.375 + 1.0 + 0.25) / 3)
    assert bootstrap_interval(ROWS)[0] == pytest.approx(overall(ROWS))


def test_bootstrap_repeats_with_its_seed_and_holds_the_estimate():
    rng = np.random.default_rng(3)
    rows = [(task, rng.integers(0, 2, 4).tolist()) for task in ("a", "b") for _ in range(30)]
    first = bootstrap_interval(rows, seed=5)
    assert (
        first == bootstrap_interval(rows, seed=5) == bootstrap_interval(rows, seed=np.random.default_rng(5))
    )
    assert first != bootstrap_interval(rows, seed=6)
    assert first[1] < first[0] < first[2]


def test_bootstrap_has_the_width_of_the_closed_form():
    """One picture a prompt: the interval is that of a mean of independent tries, stratified by task."""
    rng = np.random.default_rng(0)
    rows = [(task, [int(rng.random() < p)]) for task, p in (("a", 0.3), ("b", 0.7)) for _ in range(400)]
    variances = [mean * (1 - mean) / count for mean, count in task_means(rows).values()]
    half = 1.96 * (sum(variances) / 4) ** 0.5  # two tasks, each with weight 1/2
    middle, low, high = bootstrap_interval(rows, repeats=4000)
    assert (high - low) / 2 == pytest.approx(half, rel=0.08)


def test_more_pictures_of_the_same_prompts_do_not_narrow_the_interval():
    few = [("a", [i % 2]) for i in range(40)]
    many = [("a", scores * 20) for _, scores in few]
    assert bootstrap_interval(few) == pytest.approx(bootstrap_interval(many))


def test_paired_difference_cancels_what_prompts_share():
    rng = np.random.default_rng(1)
    hard = [("a", [int(rng.random() < p) for _ in range(8)]) for p in rng.choice([0.05, 0.95], 60)]
    better = [(task, [1] + scores[1:]) for task, scores in hard]
    difference, low, high = paired_difference(better, hard)
    assert difference == pytest.approx(overall(better) - overall(hard))
    assert 0 < low < difference < high
    single = bootstrap_interval(hard)
    assert high - low < (single[2] - single[1]) / 3
    assert paired_difference(hard, hard) == (0, 0, 0)
    with pytest.raises(ValueError, match="same prompts"):
        paired_difference(hard, hard[1:])


def test_wilson_against_known_values():
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


def test_an_empty_table_is_refused():
    for rows in ([], [("a", [])]):
        with pytest.raises(ValueError, match="at least one"):
            bootstrap_interval(rows)
