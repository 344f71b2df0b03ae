"""Replays are the search itself; figures and widgets of a search show what the records say."""

import numpy as np
import pytest
import torch
from test_search import PROMPTS, STEPS, N, StubModel, StubVerifier

from cotlib.interfaces import CLARITY, FINAL, POTENTIAL, Row
from cotlib.interfaces import Path as Candidate
from cotlib.lab.figures import MAX_BYTES, compact_png
from cotlib.lab.search_figures import (
    asked_strip,
    cost_chart,
    first_clear,
    looks_of,
    path_tree_figure,
    sweep_figure,
)
from cotlib.lab.search_widgets import (
    Contest,
    Explored,
    be_the_verifier,
    contest_figure,
    dropped_frame,
    path_frame,
    path_options,
    path_words,
    tree_explorer,
    tree_words,
)
from cotlib.search import Ledger, halving, orm, parm, tree
from cotlib.search.paths import run_paths
from cotlib.search.replay import NEVER, best_of_n_bill, halved, halving_bill, parm_bill, three_tasks
from cotlib.tables.search import cost_of


def texts(fig) -> str:
    return "\n".join(t.get_text() for ax in fig.axes for t in ax.texts)


# ----- replay --------------------------------------------------------------------------------------------------------


def written_down(prompt, n, seed):
    """(clarity [n, S], potential [n, S], final [n]) of all paths, drawn to their ends."""
    model, verifier, guesses = StubModel(), StubVerifier(), []
    rows = [Row(prompt, Candidate(k)) for k in range(n)]
    run_paths(model, rows, seed, Ledger(), lambda step, _: guesses.append(model.decode(step.codes)))
    asked = [[verifier.ask(q, [prompt] * n, g) for g in guesses] for q in (CLARITY, POTENTIAL)]
    clarity, potential = (torch.stack(part, 1).numpy() for part in asked)
    return clarity, potential, verifier.ask(FINAL, [prompt] * n, guesses[-1]).numpy()


@pytest.mark.parametrize("ask_from", [0, 2, STEPS - 1])
@pytest.mark.parametrize(
    ("clear", "promising"), [(0.5, 0.5), (0.3, 0.8), (0.8, 0.2), (0.2, 1.1), (1.1, 0.5), (0.0, 0.9)]
)
def test_a_replay_is_the_search_choice_stops_and_costs(clear, promising, ask_from):
    for seed in range(4):
        for prompt in PROMPTS:
            outcome = parm(StubModel(), [prompt], 6, seed, verifier=StubVerifier(), clear=clear, promising=promising,
                           ask_from=ask_from)  # fmt: skip
            clarity, potential, final = written_down(prompt, 6, seed)
            chosen, stopped = three_tasks(clarity, potential, final, clear, promising, ask_from)
            assert chosen == outcome.chosen[0]
            assert stopped.tolist() == [NEVER if p.stopped is None else p.stopped for p in outcome.paths[0]]
            bill, ledger = parm_bill(clarity, clear, ask_from, chosen, stopped), outcome.ledger
            calls = ledger.verifier_calls
            assert (bill.clarity, bill.potential, bill.final) == (
                calls[CLARITY],
                calls[POTENTIAL],
                calls[FINAL],
            )
            assert 2 * N * bill.rows == ledger.generator_token_passes and bill.decodes == ledger.decodes


@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_a_replay_of_halving_is_the_search_and_its_bill_the_ledger(n):
    for seed in range(3):
        for prompt in PROMPTS:
            outcome = halving(StubModel(), [prompt], n, seed, verifier=StubVerifier())
            _, potential, final = written_down(prompt, n, seed)
            chosen, stopped = halved(potential, final)
            assert chosen == outcome.chosen[0]
            assert stopped.tolist() == [NEVER if p.stopped is None else p.stopped for p in outcome.paths[0]]
            bill, ledger = halving_bill(n, STEPS), outcome.ledger
            assert 2 * N * bill.rows == ledger.generator_token_passes and bill.decodes == ledger.decodes
            assert (bill.potential, bill.final) == (
                ledger.verifier_calls[POTENTIAL],
                ledger.verifier_calls[FINAL],
            )


def test_the_bill_of_best_of_n_is_its_ledger():
    bill, ledger = best_of_n_bill(6, STEPS), orm(StubModel(), ["x"], 6, verifier=StubVerifier()).ledger
    assert 2 * N * bill.rows == ledger.generator_token_passes and bill.decodes == ledger.decodes
    assert bill.calls == sum(ledger.verifier_calls.values())


# ----- quality against cost ------------------------------------------------------------------------------------------


def table_entry(overall, passes, seconds, calls=0, n=20, seeds=(0, 1)):
    ledger = {"generator_token_passes": passes, "verifier_calls": {FINAL: calls, "JUDGE": 70}, "decodes": 1,
              "seconds": seconds, "seconds_by": {"judge": 1.0, "generator": seconds - 1}}  # fmt: skip
    return {"overall": overall, "ci95": [overall - 0.1, overall + 0.1], "ledger": ledger, "prompts": 5, "n": n,
            "seeds": list(seeds)}  # fmt: skip


RESULTS = {"single": table_entry(0.5, 2_000_000, 21.0), "parm": table_entry(0.8, 1_000_000, 31.0, calls=90),
           "parm++ redraw": table_entry(0.7, 1_500_000, 41.0, seeds=(0,)), "oracle": table_entry(0.9, 1e6, 6.0)}  # fmt: skip


def test_costs_are_those_of_one_picture_without_the_judge():
    assert cost_of(RESULTS["parm"], "parm") == {"seconds": 3.0, "passes": 100.0, "calls": 9.0}
    assert cost_of(RESULTS["single"], "single") == {"seconds": 0.1, "passes": 10.0, "calls": 0.0}
    assert cost_of(RESULTS["parm++ redraw"], "parm++ redraw")["seconds"] == 8.0  # one seed
    once = RESULTS["parm"] | {
        "seeds": 2,
        "ledger": {"generator_token_passes": 10_000, "verifier_calls": {}, "seconds": 1},
    }
    assert cost_of(once) == {
        "seconds": 0.1,
        "passes": 1.0,
        "calls": 0.0,
    }  # as a ledger without questions is written


def test_the_chart_marks_every_strategy_at_its_cost():
    curve = {"parm": {cost: [(1, 0.5, 0.4, 0.6), (2, 0.6, 0.5, 0.7)] for cost in ("passes", "seconds")}}
    fig = cost_chart(RESULTS, curves=curve)
    assert len(fig.axes) == 2 and len(compact_png(fig)[0]) <= MAX_BYTES
    for ax, cost in zip(fig.axes, ("passes", "seconds"), strict=True):
        points = {line.get_label(): (line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines
                  if not line.get_label().startswith("_")}  # fmt: skip
        assert points["PARM"] == (cost_of(RESULTS["parm"])[cost], 0.8) and len(points) == 4
    assert len(cost_chart(RESULTS, ("seconds",), names=["parm", "absent"], log=False).legends[0].texts) == 1
    with pytest.raises(ValueError, match="there is no cost 'euros'"):
        cost_chart(RESULTS, ("euros",))


def test_every_strategy_of_a_table_has_a_look_of_its_own():
    names = ["single", "logprob", "orm-zs", "orm", "prm-zs", "prm", "parm", "oracle", "parm++", "parm++ anew",
             "parm++ redraw", "parm++ redraw if faulty", "parm++ upper bound", "parm++ no words", "parm by parm++"]  # fmt: skip
    looks = looks_of(names)
    assert list(looks) == names and len({look[1:] for look in looks.values()}) == len(names)
    assert len({look[0] for look in looks.values()}) == len(names)


# ----- one path, all paths -------------------------------------------------------------------------------------------


def test_the_strip_frames_the_first_clear_step_and_prints_every_answer():
    assert first_clear([0.1, None, 0.6, 0.9], 0.6) == 2 and first_clear([0.1, 0.2], 0.6) is None
    fig = asked_strip(torch.rand(3, 3, 64, 64), [None, 0.31, 0.92], [None, None, 0.44], clear=0.5, promising=0.5,
                      final=0.73, right=True)  # fmt: skip
    shown = texts(fig)
    assert all(number in shown for number in ("0.31", "0.92", "0.44", "0.73", "step 3", "POTENTIAL"))
    assert len(compact_png(fig)[0]) <= MAX_BYTES


def entry(path, clarity, potential, stopped=None, final=None, chosen=False):
    return {"path": path, "clarity": clarity, "potential": potential, "step": {}, "kept": [], "stopped": stopped,
            "final": final, "chosen": chosen}  # fmt: skip


ENTRIES = [
    entry(0, {1: 0.2, 2: 0.7}, {2: 0.15}, stopped=2),
    entry(1, {1: 0.9}, {1: 0.85}, final=0.65, chosen=True),
    entry(2, {1: 0.1, 2: 0.2, 3: 0.3}, {}),
]


def test_the_tree_figure_tells_stops_potentials_and_the_choice():
    fig = path_tree_figure(ENTRIES, 4, right=[True, False, True], path=1)
    assert "0.15" in texts(fig) and "0.85" in texts(fig)
    lines, bars = fig.axes
    ends = [line.get_xdata()[-1] for line in lines.lines if len(line.get_xdata()) == 2]
    assert ends == [3, 4, 4]  # the stopped path ends at its third step
    assert [bar.get_width() for bar in bars.patches if bar.get_height() == pytest.approx(0.62)] == [0.65]
    assert len(compact_png(fig)[0]) <= MAX_BYTES


@pytest.mark.parametrize("promising", [0.5, 1.1])
def test_the_tree_figure_draws_what_a_search_leaves(promising):
    outcome = parm(StubModel(), ["x"], 6, verifier=StubVerifier(), promising=promising)
    assert path_tree_figure(tree(outcome, 0), STEPS).axes


def test_the_sweep_rings_the_chosen_pair_in_every_panel():
    rows = [
        {"clear": c, "promising": p, "truth": 0.9 - p * c, "passes": 1 - p / 2}
        for c in (0.3, 0.5)
        for p in (0.0, 0.4)
    ]
    fig = sweep_figure({"dev": rows, "test": rows}, chosen={"clear": 0.5, "promising": 0.4}, limit=0.9,
                       curves={"test": [(0.5, 0.7, 0.6, 0.8), (1.0, 0.9, 0.8, 1.0)]})  # fmt: skip
    rings = [
        [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines if line.get_markersize() == 15]
        for ax in fig.axes
    ]
    assert rings == [[(0.8, pytest.approx(0.7))]] * 2
    assert [text.get_text() for text in fig.legends[0].texts] == ["best of fewer", "clear 0.3", "clear 0.5"]


# ----- widgets -------------------------------------------------------------------------------------------------------


@pytest.fixture
def explored():
    guesses = np.random.default_rng(0).integers(0, 255, (3, 4, 64, 64, 3), dtype=np.uint8)
    return Explored("a photo of a dog", ENTRIES, guesses, [True, False, True])


def test_a_paths_story(explored):
    assert "clear at step 3" in path_words(explored, 0) and "would have ended right" in path_words(
        explored, 0
    )
    assert "goes on and ends wrong" in path_words(explored, 1) and "handed over" in path_words(explored, 1)
    assert "never clear" in path_words(explored, 2)
    assert tree_words(explored).startswith("1 of 3 paths were dropped") and "1 of them" in tree_words(
        explored
    )
    assert [value for _, value in path_options(explored)] == [-1, 0, 1, 2]


def test_pictures_after_the_stop_are_pale(explored):
    frame = path_frame(explored, 0)
    width = frame.shape[1] // 4
    spread = [frame[2:120, i * width + 2 : i * width + 120].std() for i in range(4)]
    assert spread[3] < 0.5 * min(spread[:3])
    dropped = dropped_frame(explored)[1:127, 1:127]
    assert np.array_equal(dropped[1::2, 1::2], explored.guesses[0, 2, 1:64, 1:64])


def test_the_explorer_redraws_for_path_and_prompt(explored):
    other = Explored("a photo of a cat", ENTRIES[1:], explored.guesses[1:], [False, True])
    widget = tree_explorer([explored, other])
    (which, path), tree_image, words, strip = widget.children[0].children, *widget.children[1:]
    before = tree_image.value, words.value, strip.value
    path.value = 1
    after = tree_image.value, words.value, strip.value
    assert all(a != b for a, b in zip(before, after, strict=True))
    which.value = 1
    assert words.value != after[1]
    path.value = -1
    assert "No path was dropped" in words.value


def test_the_explorer_keeps_away_from_pyplot(explored, monkeypatch):
    # JupyterLab's kernel answers widgets in a thread: a cell that ends meanwhile would draw and close a pyplot figure
    monkeypatch.setattr(
        "matplotlib.pyplot.figure", lambda *_, **__: pytest.fail("pyplot was asked for a figure")
    )
    widget = tree_explorer([explored])
    before = widget.children[1].value
    widget.children[0].children[1].value = 1
    assert widget.children[1].value != before


@pytest.fixture
def contest():
    pictures = np.random.default_rng(1).integers(0, 255, (3, 4, 64, 64, 3), dtype=np.uint8)
    right = np.array([[1, 0, 0, 0], [0, 0, 1, 1], [0, 1, 0, 0]], dtype=bool)
    return Contest(["a", "b", "c"], pictures, right, {"orm": [0, 0, 1], "parm": [0, 2, 0]})


def test_without_a_pick_the_contest_says_not_attempted(contest):
    assert contest.report().startswith("Not attempted") and "you" not in contest.scores()
    assert contest.scores() == {"orm": 2.0, "parm": 2.0, "blind choice": 1.0}
    assert len(compact_png(contest_figure(contest))[0]) <= MAX_BYTES


def test_everybody_is_scored_on_the_prompts_you_answered_and_first_picks_stay(contest):
    contest.pick(1, 2)
    contest.pick(1, 0)
    assert contest.picks == {1: 2} and contest.next == 0
    assert contest.scores() == {"you": 1.0, "orm": 0.0, "parm": 1.0, "blind choice": 0.5}
    assert "1 of 3 prompts" in contest.report()
    for wrong in ((0, 4), (3, 0), (0, -1)):
        with pytest.raises(ValueError, match="expected 0 to 3 of 0 to 2"):
            contest.pick(*wrong)
    assert contest_figure(contest).axes[0].get_legend().texts[-1].get_text() == "you"


def test_the_widget_asks_every_prompt_once_and_shows_the_result(contest):
    text, _, buttons = be_the_verifier(contest).children
    assert "<b>a</b>" in text.value and len(buttons.children) == 4
    for k in (0, 2, 1):
        buttons.children[k].click()
    assert contest.picks == {0: 0, 1: 2, 2: 1} and "3.0 of 3 right" in text.value
    assert all(button.disabled for button in buttons.children)
    buttons.children[0].click()  # nothing happens any more
