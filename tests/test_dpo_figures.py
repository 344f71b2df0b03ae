"""Figures of preference tuning show what the numbers say, and variety is what a reader would count by hand."""

import math

import numpy as np
import pytest
import torch

from cotlib.interfaces import Detection
from cotlib.lab import dpo_figures as figures
from cotlib.lab.figures import MAX_BYTES, compact_png
from cotlib.world.prompts import attributes, position

# ----- variety -------------------------------------------------------------------------------------------------------


def seen_at(cls, x, y, color="red", score=0.9):
    """A detection whose 24-pixel cell starts at (x, y)."""
    return Detection(cls, (x, y, x + 24, y + 24), score, color)


def test_variety_counts_pairs_of_right_pictures_only():
    images = torch.zeros(4, 3, 64, 64)
    images[1] += 0.3
    images[3] += 0.9  # wrong, and far from the others
    cat = seen_at("cat", 40, 0, "green")
    seen = [
        [seen_at("dog", 0, 0), cat],
        [seen_at("dog", 24, 32, "blue"), cat],
        [seen_at("dog", 0, 0), cat],
        [cat],
    ]
    found = figures.variety(position("dog", "left of", "cat"), images, seen, [True, True, True, False])
    assert found.pairs == 3
    assert found.distance == pytest.approx((0.3 + 0 + 0.3) / 3)
    assert found.moved == pytest.approx((40 + 0 + 40) / 6)  # of six things two have moved, 24 and 32 pixels
    assert found.recolored == pytest.approx(2 / 6)


def test_variety_leaves_colours_out_where_the_prompt_names_them_and_is_nan_without_a_pair():
    images, cells = torch.zeros(3, 3, 64, 64), [[seen_at("dog", 0, 0), seen_at("cat", 40, 0)]] * 3
    named = attributes(("dog", "red"), ("cat", "red"))
    assert figures.variety(named, images, cells, [True] * 3).recolored is None
    alone = figures.variety(position("dog", "above", "cat"), images, cells, [False, True, False])
    assert alone.pairs == 0 and math.isnan(alone.distance) and math.isnan(alone.recolored)


def test_variety_compares_the_surest_thing_of_a_class():
    sure, doubtful = seen_at("dog", 0, 0), seen_at("dog", 40, 40, score=0.5)
    cells = [[sure, doubtful, seen_at("cat", 40, 0)], [sure, seen_at("cat", 40, 0)]]
    found = figures.variety(position("dog", "left of", "cat"), torch.zeros(2, 3, 64, 64), cells, [True, True])
    assert found.moved == 0


# ----- figures -------------------------------------------------------------------------------------------------------


def texts(fig) -> str:
    return "\n".join(t.get_text() for ax in fig.axes for t in ax.texts)


def test_pairs_show_prompts_and_how_many_codes_differ():
    chance = torch.Generator().manual_seed(0)
    pictures = torch.rand((2, 3, 3, 64, 64), generator=chance)
    differing = torch.zeros(3, 64, dtype=torch.bool)
    differing[0, :5] = differing[1, :] = True
    fig = figures.pairs_figure(["a photo of a dog left of a cat"] * 3, *pictures, differing)
    words = texts(fig)
    assert "5 of 64" in words and "64 of 64" in words and "0 of 64" in words
    assert "a photo of" not in words and "chosen" in words and "rejected" in words
    maps = fig.axes[0].images[-3:]  # the last row of tiles
    dark = [float((np.asarray(m.get_array())[..., 0] < 128).mean()) for m in maps]
    assert dark == pytest.approx([5 / 64, 1, 0])


CURVES = {"update": [10, 20], "chosen": [0.5, 1.0], "rejected": [-1.0, -3.0], "truth": [[0, 0.5], [20, 0.7]]}


def test_curves_draw_both_log_probabilities_truth_and_the_kept_weights():
    fig = figures.curves_figure({"one": CURVES, "two": {**CURVES, "truth": []}}, kept={"one": 20})
    above, below = fig.axes[0], fig.axes[2]
    drawn = {line.get_label(): list(line.get_ydata()) for line in above.lines}
    assert drawn["chosen"] == [0.5, 1.0] and drawn["rejected"] == [-1.0, -3.0]
    assert list(below.lines[0].get_ydata()) == [0.5, 0.7]
    assert below.lines[1].get_xydata().tolist() == [[20, 0.7]]
    assert not fig.axes[3].lines  # truth was not measured there


def test_curves_without_truth_have_one_row():
    run = {name: values for name, values in CURVES.items() if name != "truth"}
    assert len(figures.curves_figure({"live": run}).axes) == 1


def test_the_knob_marks_stops_on_the_line_of_truth():
    w = [0.0, 1.0, 2.0]
    fig = figures.knob_figure(w, {"chosen": [0, 1, 0]}, [0.4, 0.8, 0.2], {"here": (1.5, "o")})
    marked = [line for line in fig.axes[1].lines if line.get_label() == "here"]
    assert marked[0].get_xydata().tolist() == [[1.5, 0.5]]


def test_variety_figure_has_a_line_for_each_generator():
    rows = {"base": (1.0, 0.5, 1.5), "tuned": (0.8, 0.6, 0.9)}
    fig = figures.variety_figure({"distance": rows, "moved": rows})
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == ["base", "tuned"]
    assert list(fig.axes[1].lines[1].get_xdata()) == [1.0]
    assert len(compact_png(fig)[0]) <= MAX_BYTES
