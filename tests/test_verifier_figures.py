"""Choosing by a verifier: the numbers behind the figures are right by brute force, and the figures show them."""

from itertools import combinations

import numpy as np
import pytest
import torch

from cotlib.interfaces import FINAL
from cotlib.judging.stats import bootstrap_interval, coverage
from cotlib.lab import style
from cotlib.lab.figures import MAX_BYTES, compact_png
from cotlib.lab.verifier_figures import (
    best_of,
    best_of_curve,
    best_of_n_figure,
    choice_explorer,
    choice_frame,
    choice_words,
    interval_over,
    picks_of,
    reliability_figure,
    verifier_diagram,
    word_doubts,
)
from cotlib.models.verifier import VerifierConfig
from cotlib.search.paths import pick
from cotlib.verifying import LearnedVerifier
from cotlib.verifying.answers import FilteredVerifier, filtered_p_yes, p_yes
from cotlib.world.render import render_batch
from cotlib.world.scenes import Scene, Thing


@pytest.fixture(scope="module")
def table():
    """Tasks, scores with ties, and verdicts of 12 prompts x 6 candidates."""
    rng = np.random.default_rng(3)
    right = rng.random((12, 6)) < rng.random((12, 1))
    return ["a", "b", "c"] * 4, (right + rng.integers(0, 3, right.shape)) / 4, right.astype(float)


@pytest.fixture(scope="module")
def verifier():
    torch.manual_seed(0)
    made = LearnedVerifier(VerifierConfig(questions=(FINAL,))).eval()
    with torch.no_grad():
        for layer in made.layers:
            layer.out.weight.normal_(std=0.1)
    return made


# --- numbers


@pytest.mark.parametrize("k", [1, 2, 4, 6])
def test_best_of_is_the_mean_over_all_subsets(table, k):
    _, scores, values = table
    for row, mean in zip(range(12), best_of(scores, values, k), strict=True):
        chosen = [s[pick([scores[row, i] for i in s])[0]] for s in combinations(range(6), k)]
        assert mean == pytest.approx(np.mean([values[row, i] for i in chosen]))


def test_the_truth_as_score_gives_coverage(table):
    _, _, right = table
    for k in range(1, 7):
        assert best_of(right, right, k) == pytest.approx(coverage(right.sum(1).astype(int), 6, k))


def test_a_constant_score_takes_the_lowest_path_number():
    values = np.arange(5.0)[None]
    assert best_of(np.ones((1, 5)), values, 5) == pytest.approx([0.0])


@pytest.mark.parametrize(("shape", "k"), [((3,), 1), ((3, 4), 0), ((3, 4), 5)])
def test_best_of_refuses_what_it_cannot_do(shape, k):
    with pytest.raises(ValueError, match="expected the same"):
        best_of(np.zeros(shape), np.zeros(shape), k)


def test_the_curve_holds_its_own_interval(table):
    tasks, scores, right = table
    curve = best_of_curve(tasks, scores, right)
    assert [k for k, *_ in curve] == list(range(1, 7))
    assert all(low <= mean <= high for _, mean, low, high in curve)
    assert best_of_curve(tasks, scores, right, ks=[6])[0] == curve[-1]


def test_intervals_over_prompts_keep_prompts_whole():
    groups = np.repeat(["x", "y", "z"], 4)
    values = np.repeat([0.0, 0.5, 1.0], 4)
    sizes = []

    def mean(column, names):
        sizes.append(np.bincount(names).tolist())
        return column.mean()

    value, low, high = interval_over(mean, groups, values, repeats=200)
    assert value == 0.5 and low == 0.0 and high == 1.0  # single answers would hardly ever give 0 or 1
    assert all(size == [4, 4, 4] for size in sizes)


def test_intervals_over_prompts_agree_with_the_bootstrap(table):
    tasks, _, right = table
    rows = [("one", list(row)) for row in right]
    names = np.repeat(np.arange(12), 6)
    got = interval_over(lambda column, _: column.mean(), names, right.ravel(), repeats=2000)
    assert got == pytest.approx(bootstrap_interval(rows), abs=0.03)


# --- reading an answer


def test_p_yes_is_a_softmax_over_the_two_words():
    logits = torch.randn(7, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.allclose(p_yes(logits, 2, 5), logits[:, [2, 5]].softmax(-1)[:, 0])


def filtered_by_hand(row: list[float], yes: int, top_k: int, top_p: float) -> float:
    """Words taken from the likeliest down until they hold top_p."""
    p = np.exp(row - np.logaddexp.reduce(row))
    order = sorted(range(len(row)), key=lambda i: -p[i])[:top_k]
    total, kept = p[order].sum(), []
    for word in order:
        kept.append(word)
        if p[kept].sum() / total >= top_p:
            break
    return p[yes] / p[kept].sum() if yes in kept else 0.0


@pytest.mark.parametrize(("top_k", "top_p"), [(20, 0.8), (3, 0.95), (1, 0.8), (20, 1.0)])
def test_filters_do_what_sampling_does(top_k, top_p):
    logits = 2 * torch.randn(30, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    got = filtered_p_yes(logits, 4, top_k, top_p)
    assert got.numpy() == pytest.approx([filtered_by_hand(row.numpy(), 4, top_k, top_p) for row in logits])


def test_two_words_saturate_at_one_fifth_and_four_fifths(verifier):
    p = torch.tensor([0.05, 0.199, 0.21, 0.5, 0.79, 0.801, 0.99], dtype=torch.float64)
    logits = torch.stack([p.logit(), torch.zeros_like(p)], dim=1)
    assert filtered_p_yes(logits, 0).tolist() == pytest.approx([0, 0, 0.21, 0.5, 0.79, 1, 1])


def test_the_filtered_verifier_only_reads_differently(verifier):
    images, prompts = torch.rand(6, 3, 64, 64), ["a photo of a dog"] * 6
    plain = verifier.ask(FINAL, prompts, images)
    filtered = FilteredVerifier(verifier).ask(FINAL, prompts, images)
    assert FilteredVerifier(verifier).questions == (FINAL,)
    between = (plain > 0.2) & (plain < 0.8)
    assert torch.allclose(filtered[between], plain[between], atol=1e-5)
    assert ((filtered == 0) | (filtered == 1))[~between].all()


# --- figures


def test_the_reliability_figure_shows_the_bins(table):
    _, scores, right = table
    p = scores.ravel().clip(0, 1)
    fig = reliability_figure({"one": (p, right.ravel()), "two": (p**2, right.ravel())})
    assert len(fig.axes) == 4 and "calibration error" in fig.axes[0].get_title("left")
    points = fig.axes[0].lines[-1]
    assert len(points.get_xdata()) == len(set(np.minimum((p * 10).astype(int), 9)))
    assert len(compact_png(fig)[0]) <= MAX_BYTES


def test_the_curves_are_drawn_as_given(table):
    tasks, scores, right = table
    curve, belief = best_of_curve(tasks, scores, right), best_of_curve(tasks, scores, scores)
    fig = best_of_n_figure({"ORM": curve}, bound=best_of_curve(tasks, right, right), single=curve[0][1:],
                           believed={"ORM": belief})  # fmt: skip
    left, second = fig.axes
    labels = [line.get_label() for line in left.lines]
    assert "ORM" in labels and "coverage: the judge picks" in labels and "one picture, no choice" in labels
    drawn = left.lines[labels.index("ORM")].get_ydata()
    assert list(drawn) == [mean for _, mean, _, _ in curve]
    assert list(second.lines[1].get_ydata()) == [mean for _, mean, _, _ in belief]
    assert len(compact_png(fig)[0]) <= MAX_BYTES


def test_single_points_and_a_logarithmic_axis_are_allowed():
    fig = best_of_n_figure(
        {"A": [(100, 0.6, 0.5, 0.7)], "B": [(2000, 0.8, 0.7, 0.9)]}, xlabel="cost", log=True
    )
    assert len(fig.axes) == 1 and fig.axes[0].get_xscale() == "log"


def test_the_diagram_says_what_the_verifier_says(verifier):
    image = render_batch([Scene((Thing("dog", "red", 0, 16), Thing("cat", "blue", 40, 24)))])[0]
    prompts = ["a photo of a red dog and a blue cat", "a photo of a dog"]
    for prompt, (words, doubts, margin) in zip(prompts, word_doubts(verifier, prompts, image), strict=True):
        assert words == prompt.split() and len(doubts) == len(words) and all(0 <= d <= 1 for d in doubts)
        assert margin == pytest.approx(verifier.margin(FINAL, [prompt], image[None]).item(), abs=1e-4)
    fig = verifier_diagram(verifier, image, prompts)
    said = "\n".join(text.get_text() for text in fig.axes[0].texts)
    assert said.count("P(yes)") == 2 and "umbrella" not in said and "EYE" in said
    assert len(compact_png(fig)[0]) <= MAX_BYTES


def test_the_explorer_follows_its_slider(table):
    _, scores, right = table
    images = torch.rand(12, 6, 3, 64, 64)
    widget = choice_explorer([f"prompt {i}" for i in range(12)], images, {"A": scores, "B": -scores}, right)
    menu, slider, picture, words = widget.children
    before, said = picture.value, words.value
    slider.value = 2
    assert picture.value != before
    menu.value = 3
    assert words.value != said and words.value == choice_words({"A": scores, "B": -scores}, 3, 2, right)


def test_choosers_look_at_the_first_k_only():
    scores = {"A": np.array([[0.1, 0.5, 0.5, 0.9]])}
    assert picks_of(scores, 0, 3) == {"A": 1} and picks_of(scores, 0, 4) == {"A": 3}
    frame = choice_frame(torch.zeros(4, 3, 64, 64), 3, [1, 1])
    assert frame.shape[2] == 3 and frame.max() == 255
    colors = {tuple(color) for color in frame.reshape(-1, 3)[::1].tolist()}
    assert {tuple(bytes.fromhex(style.CYCLE[i][1:])) for i in (0, 1)} <= colors
