"""Step by step: labels, accuracy, ranking and spread against plain counting; PRM on record; the figures and the game."""

import numpy as np
import pytest
import torch

from cotlib.errors import UserError
from cotlib.interfaces import STEP
from cotlib.lab import prm_figures as figures
from cotlib.lab.figures import MAX_BYTES, compact_png
from cotlib.models.generator import GeneratorConfig, PictogramGenerator
from cotlib.models.tokenizer import PictogramTokenizer
from cotlib.search import Ledger, prm, single
from cotlib.search.decisions import decide, keep_branches
from cotlib.verifying.calibration import balanced_accuracy, ranking
from cotlib.verifying.steps import Spread, accuracy_interval, ranking_interval, spread, step_labels

# --- numbers


def test_a_step_is_good_when_any_continuation_is():
    right = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1]]).bool()
    assert step_labels(right, False).tolist() == [False, True, True, False]
    assert step_labels(right, True).tolist() == [False, True, True, True]


def answers(prompts=12, m=30, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.random((prompts, m)) < rng.random((prompts, 1))
    return np.clip(0.3 * truth + 0.7 * rng.random((prompts, m)), 0, 1).round(2), truth


def test_accuracy_is_that_of_calibration_and_lies_in_its_interval():
    p, truth = answers()
    value, low, high = accuracy_interval(p, truth)
    assert value == pytest.approx(balanced_accuracy(p.ravel(), truth.ravel()))
    assert low < value < high
    assert accuracy_interval(truth.astype(float), truth) == (1, 1, 1)


def test_ranking_counts_pairs_of_the_same_group_only():
    p, truth = answers(m=24)
    groups = [f"{i}-{g}" for i in range(12) for g in range(4) for _ in range(6)]
    value, low, high = ranking_interval(p.reshape(12, 4, 6), truth.reshape(12, 4, 6))
    assert value == pytest.approx(ranking(p.ravel(), truth.ravel(), groups))
    assert low < value < high
    assert np.isnan(ranking_interval(p[:, None], np.ones_like(truth)[:, None])[0])
    assert ranking_interval(np.ones((12, 4, 6)), truth.reshape(12, 4, 6))[0] == 0.5  # ties count half


def test_spread_finds_the_variances_it_was_made_of():
    rng = np.random.default_rng(1)
    state = rng.choice([0.2, 0.8], size=(4000, 1))  # variance .09
    branch = state + rng.choice([-0.15, 0.15], size=(4000, 5))  # variance .0225
    right = rng.random((4000, 5, 2)) < branch[..., None]
    found = spread(right)
    assert found.prompts == pytest.approx(0.09, abs=0.006)
    assert found.branches == pytest.approx(0.0225, abs=0.005)
    assert found.dice == pytest.approx(np.mean(branch * (1 - branch)), abs=0.006)
    assert found.branches_interval[0] < found.branches < found.branches_interval[1]


def test_spread_of_finished_branches_has_no_dice():
    right = np.random.default_rng(2).random((40, 6, 1)) < 0.5
    found = spread(np.repeat(right, 2, axis=2))
    assert found.dice == pytest.approx(0)
    v = right[..., 0].mean()
    assert found.prompts + found.branches + found.dice == pytest.approx(v * (1 - v), abs=0.01)


def test_spread_refuses_what_it_cannot_split():
    for shape in ((4, 3, 1), (1, 3, 2), (4, 1, 2), (4, 3)):
        with pytest.raises(ValueError, match="at least two of each"):
            spread(np.ones(shape))


# --- PRM on record


class Taste:
    """Likes pictures by the mean of one channel: arbitrary, but the same for the same picture."""

    questions = (STEP,)

    def __init__(self):
        self.asked = []

    def ask(self, question, prompts, images):
        self.asked.append(len(images))
        return images[:, 0].mean((1, 2)).sigmoid()


PROMPTS = ["a photo of a dog", "a photo of two cats"]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    tiny = PictogramGenerator(GeneratorConfig(width=32, layers=1, heads=2, hidden=32, steps=5)).eval()
    tiny.tokenizer = PictogramTokenizer().eval()
    return tiny


def test_decide_is_prm(model):
    ledger, mine = Ledger(), Ledger()
    outcome = prm(model, PROMPTS, 4, 3, ledger, verifier=Taste())
    decisions = decide(model, PROMPTS, 4, 3, ledger=mine, verifier=Taste())
    assert decisions[-1].kept == outcome.chosen
    for prompt, paths in enumerate(outcome.paths):
        for path in paths:
            assert torch.equal(decisions[-1].step.codes[4 * prompt + path.number], path.codes)
            assert [d.scores[4 * prompt + path.number] for d in decisions] == path.scores[STEP]
            assert [s for s, d in enumerate(decisions) if d.kept[prompt] == path.number] == path.kept
    assert (mine.generator_token_passes, mine.verifier_calls, mine.decodes) == (
        ledger.generator_token_passes, ledger.verifier_calls, ledger.decodes)  # fmt: skip


def test_who_never_decides_gets_path_0_for_nothing(model):
    ledger = Ledger()
    decisions = decide(model, PROMPTS, 3, 0, ledger=ledger, first=5)
    alone = single(model, PROMPTS, n=3, seed=0)
    for prompt in range(2):
        assert torch.equal(decisions[-1].step.codes[3 * prompt], alone.paths[prompt][0].codes)
    assert (
        ledger.decodes == len(PROMPTS)
        and not ledger.verifier_calls
        and [d.kept for d in decisions] == [[0, 0]] * 5
    )


def test_who_decides_late_asks_late(model):
    taste, ledger = Taste(), Ledger()
    decisions = decide(model, PROMPTS, 3, 0, ledger=ledger, verifier=taste, first=3)
    assert [d.kept for d in decisions[:3]] == [[0, 0]] * 3 and len(taste.asked) == 2
    assert ledger.verifier_calls[STEP] == 12
    with pytest.raises(UserError, match="verifier"):
        decide(model, PROMPTS, 3, first=4)


def test_ties_keep_the_lowest_branch():
    assert keep_branches([[9, 9, 9, 9], [0.2, 0.2, 0.1, 0.3]], 2) == [0, 1]


# --- figures


def texts(fig) -> list[str]:
    return [t.get_text() for ax in fig.axes for t in ax.texts]


def small_enough(fig) -> bool:
    return len(compact_png(fig)[0]) <= MAX_BYTES


def test_the_tree_shows_every_score_and_frames_the_kept():
    scores = np.arange(12).reshape(3, 4) / 20 + 0.01
    fig = figures.decision_tree(torch.rand(3, 4, 3, 64, 64), scores, [3, 3, 3], right=True)
    assert [f"{s:.2f}" for s in scores.ravel()] == [t for t in texts(fig) if "." in t]
    assert "<.01" in texts(figures.decision_tree(torch.rand(1, 1, 3, 64, 64), [[0.001]], [0]))
    assert sum(t.get_fontweight() == "bold" for ax in fig.axes for t in ax.texts) == 3
    lines = [line for line in fig.axes[0].lines if len(line.get_xdata()) == 2]
    assert len(lines) == 2 * 4 and small_enough(fig)


def test_rollouts_name_step_masked_tokens_and_label():
    masked = torch.zeros(2, 64, dtype=torch.bool)
    masked[0, :20] = True
    right = [[True, False], [False, False]]
    fig = figures.rollout_figure(
        torch.rand(2, 3, 64, 64), masked, torch.rand(2, 2, 3, 64, 64), right, [0, 6], [True, False]
    )
    assert {"step 1\n20\nmasked", "step 7\n0\nmasked", "yes", "no"} <= set(texts(fig)) and small_enough(fig)


def test_branches_stand_above_their_ends():
    pictures = torch.zeros(2, 3, 3, 64, 64)
    fig = figures.branch_rows(pictures, pictures + 1, np.eye(2, 3), ["early", "late"])
    tops = [(im.get_extent()[3], im.get_array().mean()) for im in fig.axes[0].images]
    assert len(tops) == 12 and {"early", "late"} <= set(texts(fig))
    for row in (0, 1):
        now, end = tops[6 * row], tops[6 * row + 1]
        assert now[0] < end[0] and (now[1], end[1]) == (0, 255)


def test_curves_draw_every_point_with_its_interval():
    points = [(0.5, 0.4, 0.6), (0.6, 0.5, 0.8), (0.7, 0.6, 0.9)]
    fig = figures.step_curves(
        {"a": {"x": points, "y": points}, "b": {"x": points}}, steps=[1, 5, 8], lines={"chance": 0.5}
    )
    assert [label.get_text() for label in fig.axes[0].get_xticklabels()] == ["1", "5", "8"]
    assert [list(line.get_ydata()) for line in fig.axes[0].lines[:2]] == [[0.5, 0.6, 0.7]] * 2
    assert small_enough(fig)


def test_pass_shares_and_labels_are_those_of_the_counts():
    counts = np.array([[4, 3, 4], [1, 0, 0], [2, 1, 0], [0, 0, 0]])
    fig = figures.pass_share_figure(counts, [True, False, False, False])
    labels, mean = fig.axes[1].lines[:2]
    assert list(labels.get_ydata()) == [0.75, 0.5, 0.25]
    assert list(mean.get_ydata()) == [7 / 16, 0.25, 0.25]
    assert figures.pass_share_figure(counts, [True] * 4) is not None  # one kind may be absent


def test_spread_bars_add_up():
    found = [Spread(0.1, 0.05, 0.09, (0.02, 0.08)), Spread(0.15, -0.01, 0.0, (-0.02, 0.0))]
    fig = figures.spread_figure([0, 7], found, [(5.5, 5, 6), (1.2, 1, 1.5)], 6)
    tops = [bar.get_y() + bar.get_height() for bar in fig.axes[0].patches]
    assert tops[4] == pytest.approx(0.24) and tops[5] == pytest.approx(0.15)  # below zero is drawn as zero


def test_differences_tell_clear_ones_by_shape():
    fig = figures.difference_figure({"a - b": (0.1, 0.05, 0.2), "c - d": (0.01, -0.1, 0.1)})
    assert [t.get_text() for t in fig.axes[0].get_yticklabels()] == ["c - d", "a - b"]
    markers = [line.get_marker() for line in fig.axes[0].lines if len(line.get_xdata()) == 1]
    assert markers == ["s", "o"] and any("+0.10" in t for t in texts(fig))


# --- the game


def case():
    return {"prompt": "a photo of a dog", "step": 2, "pictures": torch.rand(3, 3, 64, 64),
            "scores": [0.2, 0.9, 0.9], "share": [1.0, 0.5, 0.0]}  # fmt: skip


def test_the_game_reveals_only_after_a_pick():
    hidden, shown = figures.game_frame(case()), figures.game_frame(case(), 1)
    assert hidden.shape == shown.shape
    assert (hidden[-10] == 255).all() and not (shown[-10] == 255).all()
    words = figures.game_words(case(), 0)
    assert "branch 1: 100%" in words and "keeps 2: 50%" in words  # the first of equal scores


def test_the_game_can_be_played():
    other = case() | {"step": 6, "prompt": "a photo of a cat"}
    widget = figures.branch_game([case(), other])
    which, picture, buttons, said = widget.children
    before = picture.value
    buttons.children[2].click()
    assert picture.value != before and "branch 3: 0%" in said.value
    which.value = 1
    assert "Which" in said.value
    assert figures.branch_game([]) is None
