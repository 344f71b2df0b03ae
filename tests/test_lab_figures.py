"""Figures about judging and the paper: what they show is what the library says, and they survive odd input."""

import numpy as np
import pytest
import torch

from cotlib.interfaces import Detection
from cotlib.judging.pictogram import glyph_box
from cotlib.judging.rules import relative_position
from cotlib.lab.diagrams import idea_diagram
from cotlib.lab.figures import MAX_BYTES, compact_png
from cotlib.lab.judging_figures import (
    FIXED,
    KINDS,
    detection_grid,
    position_explorer,
    position_frame,
    position_words,
    relation_map,
    verdict_matrices,
)
from cotlib.lab.paper import published_figure
from cotlib.tables.published import NUMBERS, published, system_name
from cotlib.world.scenes import Thing


def texts(fig) -> str:
    return "\n".join(t.get_text() for ax in fig.axes for t in ax.texts)


def test_every_detection_is_named_with_its_score():
    found = [[Detection("dog", (2, 2, 20, 20), 0.97, "red"), Detection("cup", (30, 30, 50, 50), 0.5)], []]
    fig = detection_grid(
        torch.ones(2, 3, 64, 64), found, titles=["a", "b"], marks=[True, None], notes=["", "why"]
    )
    assert "red dog 0.97" in texts(fig) and "cup 0.50" in texts(fig) and "why" in texts(fig)
    assert len(compact_png(fig)[0]) <= MAX_BYTES


def test_verdict_matrices_show_the_counts_where_they_belong():
    fig = verdict_matrices({"a": [[1300, 2], [0, 4]], "b": [[1, 0], [0, 1]]}, "truth", "judge")
    numbers = {t.get_position(): t.get_text() for t in fig.axes[0].texts}
    assert numbers == {(0, 0): "1,300", (1, 0): "2", (0, 1): "0", (1, 1): "4"}
    assert [ax.get_title() for ax in fig.axes] == ["a", "b"]


def test_the_map_of_relations_is_the_rule():
    image = relation_map(points=41).axes[0].images[0]
    kinds, (left, right, bottom, top) = np.asarray(image.get_array()), image.get_extent()
    places = np.linspace(left, right, 41)
    assert (left, top) == (-right, -bottom)
    for row, column in ((20, 0), (20, 40), (0, 20), (40, 20), (20, 20), (0, 0)):
        x, y = places[column], places[row]
        box = (float(x - 12), float(y - 12), float(x + 12), float(y + 12))
        relations = relative_position(box, (-12, -12, 12, 12))
        expected = "two at once" if len(relations) > 1 else next(iter(relations), "none")
        assert KINDS[kinds[row, column]] == expected


@pytest.mark.parametrize("corner", [(0, 20), (40, 20), (20, 0), (0, 0), (20, 20)])
def test_the_explorer_says_what_the_rule_says(corner):
    dog = Thing("dog", "blue", *corner)
    relations = relative_position(glyph_box("dog", *corner), glyph_box(FIXED.cls, FIXED.x, FIXED.y))
    words = position_words(dog)
    assert all(r in words for r in relations) and (relations or "no relation" in words)
    assert position_frame(dog).shape == (256, 256, 3)


def test_moving_the_slider_moves_the_dog():
    widget = position_explorer()
    picture, panel = widget.children
    before, words = picture.value, panel.children[2].value
    panel.children[0].value = 40
    assert picture.value != before and panel.children[2].value != words


def test_the_idea_in_one_figure_names_its_parts():
    fig = idea_diagram(
        "a photo of a red dog and a blue cat", torch.rand(6, 3, 64, 64), [True] + [False] * 5, 0
    )
    for word in ("GENERATOR", "VERIFIER", "SEARCH", "JUDGE", "ALIGNMENT"):
        assert word in texts(fig)


def test_the_published_table_is_consistent_with_itself():
    rows = published()
    assert {row["group"] for row in rows} == {"quoted", "show-o", "parm++", "other generators"}
    for row in rows:
        assert row["source"].startswith("arXiv 2501.13926v2, Table")
        assert (row["candidates"] == 20) == bool(row["verifier"])
        if row["single_object"] is None:
            continue
        assert all(0 <= row[name] <= 1 for name in NUMBERS)
        off = row["overall"] - np.mean([row[name] for name in NUMBERS[:6]])
        assert abs(off) < 0.0055 or row["note"], system_name(row)


def test_the_published_headlines():
    scores = {
        system_name(row): row["overall"] for row in published("show-o") if "Table 2," not in row["note"]
    }
    assert scores["the generator alone"] == 0.53 and scores["PARM"] == 0.67
    assert scores["iterative DPO guided by PARM + PARM"] == max(scores.values()) == 0.77


def test_the_published_figure_shows_each_system_once():
    names = [label.get_text() for label in published_figure().axes[0].get_yticklabels()]
    assert len(names) == len(set(names)) == 16 and names[0] == "the generator alone"
