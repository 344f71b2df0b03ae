"""What notebook 11 shows: the record of a search, figures by what is drawn in them, the planner's widget."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from cotlib.errors import UserError
from cotlib.interfaces import CLARITY, FINAL, POTENTIAL
from cotlib.lab import published_widgets as widgets
from cotlib.lab.figures import MAX_BYTES, compact_png
from cotlib.lab.published import NOISE, Candidate, Watcher, candidates_of, open_cast, room_for
from cotlib.lab.published_figures import (
    bits_figure,
    board_figure,
    columns_of,
    mask_figure,
    memory_figure,
    readings_figure,
    sequence_figure,
    work_figure,
)
from cotlib.models.published.memory import GIB, Crew, plan
from cotlib.models.published.showo_layout import ShowoConfig, omni_mask
from cotlib.models.published.work import best_of_n
from cotlib.models.published.work import parm as parm_work
from cotlib.search import parm

PROMPT = "a photo of a red dog"


@pytest.fixture(scope="module")
def cast():
    return open_cast()


def texts(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts if text.get_text()]


def drawn(figure):
    """The figure as stored, small enough, not empty."""
    png, _ = compact_png(figure)
    assert len(png) <= MAX_BYTES
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
    assert picture.std() > 5
    return picture


# ----- the cast ------------------------------------------------------------------------------------------------------


def test_without_folders_the_cast_is_tiny_and_says_so(cast):
    assert (
        not cast.real and cast.note == NOISE + " " and [f.name for f in cast.folders] == ["show-o", "llava"]
    )
    assert cast.model.tokens == 256 and cast.verifier.questions == (FINAL, "STEP", CLARITY, POTENTIAL)


def test_with_folders_the_same_loaders_read_them(cast):
    again = open_cast(*map(str, cast.folders))
    assert again.real and again.note == ""
    assert (again.model.chunks.size, again.verifier.chunks.size) == (
        2,
        1,
    )  # no card, so as little as possible
    assert torch.equal(again.model.phi.lm_head.weight, cast.model.phi.lm_head.weight)


def test_one_folder_alone_is_refused(cast):
    with pytest.raises(UserError, match="COTLIB_SHOWO is given and COTLIB_VERIFIER is not"):
        open_cast(str(cast.folders[0]))
    with pytest.raises(UserError, match="COTLIB_VERIFIER is given"):
        open_cast("", str(cast.folders[1]))


def test_room_is_planned_from_the_folders(cast, tmp_path):
    assert room_for(*cast.folders, 16) == {"generator": 6, "decoder": 6, "verifier": 6}  # a small verifier
    with pytest.raises(UserError, match=r"does not fit: .* GiB are needed .*COTLIB_FOUR_BIT"):
        room_for(*cast.folders, 4)
    large = tmp_path / "large"
    large.mkdir()
    (large / "config.json").write_text('{"num_vq_tokens": 1024}')
    assert room_for(large, cast.folders[1], 8)["decoder"] < room_for(*cast.folders, 8)["decoder"]


def test_the_note_stands_above_pictures_of_random_weights(cast, capsys):
    cast.say()
    assert capsys.readouterr().out == NOISE + "\n"


# ----- the record ----------------------------------------------------------------------------------------------------


class Recall:
    """Answers from the picture's mean; remembers what it was shown."""

    questions = (CLARITY, POTENTIAL, FINAL)
    thresholds = (0.4, 0.4)

    def __init__(self):
        self.seen = []

    def ask(self, question, prompts, images):
        means = images.flatten(1).mean(1)
        self.seen += [(question, m) for m in means.tolist()]
        return ((means - 0.43) * 30).sigmoid()


def test_every_picture_in_the_record_is_the_one_the_answer_is_about(cast):
    watcher = Watcher(Recall(), side=16)
    outcome = parm(cast.model, [PROMPT], 5, 0, verifier=watcher, steps=6, clear=0.6, promising=0.55)
    made = candidates_of(outcome, watcher)
    assert [one.number for one in made] == list(range(5))
    assert [one.chosen for one in made].count(True) == 1 and made[outcome.chosen[0]].chosen
    asked = 0
    for one, path in zip(made, outcome.paths[0], strict=True):
        assert one.guesses.keys() == one.clarity.keys() == set(path.asked[CLARITY])
        for step, picture in one.guesses.items():
            assert picture.shape == (16, 16, 3)
            mean = picture.mean() / 255
            assert 1 / (1 + np.exp(-(mean - 0.43) * 30)) == pytest.approx(one.clarity[step], abs=0.02)
            asked += 1
        if one.final is not None:
            assert 1 / (1 + np.exp(-(one.picture.mean() / 255 - 0.43) * 30)) == pytest.approx(one.final, abs=0.02)  # fmt: skip
        assert one.stopped == path.stopped
    assert asked == sum(question == CLARITY for question, _ in watcher.seen)
    assert watcher.thresholds == (0.4, 0.4)


def test_a_watched_search_chooses_what_an_unwatched_one_chooses(cast):
    watched, plain = (parm(cast.model, [PROMPT], 3, 0, verifier=v, steps=4)
                      for v in (Watcher(cast.verifier), cast.verifier))  # fmt: skip
    assert watched.chosen == plain.chosen and torch.equal(watched.images, plain.images)


# ----- figures -------------------------------------------------------------------------------------------------------


def test_sequence_names_its_parts(cast):
    figure = sequence_figure(cast.model, "a photo of a red dog left of a couch")
    said = texts(figure)
    assert {"116 pads", "text, 13", "t2i", "bos", "eos", "·dog", "58497", "50300", "129", "387"} <= set(said)
    drawn(figure)


def test_mask_is_drawn_as_it_is():
    ids = torch.tensor([[50295] * 3 + [50300, 7, 8, 9] + [50296] + [1] * 6 + [50297]])
    mask = omni_mask(ids, 50295, 50296)[0, 0]
    figure = mask_figure(mask, text=7, pads=3, around=4)
    whole, near = (ax.images[0].get_array() for ax in figure.axes)
    assert np.array_equal(whole, mask.numpy()) and np.array_equal(near, mask[3:11, 3:11].numpy())
    titles = [figure.axes[0].get_title(loc) for loc in ("left", "center")]
    assert "all 15 places" in titles
    drawn(figure)


def test_bits_are_those_of_the_code():
    codes = torch.tensor([0, 8191, 4096, 1])
    figure = bits_figure(torch.zeros(3, 32, 32), codes, 13, torch.ones(3, 32, 32))
    planes = [ax.images[0].get_array() for ax in figure.axes[1:-1]]
    assert len(planes) == 13
    assert np.array_equal(planes[0], [[0, 1], [1, 0]]) and np.array_equal(planes[12], [[0, 1], [0, 1]])
    assert np.array_equal(planes[5], [[0, 1], [0, 0]])
    drawn(figure)


def test_readings_are_lines():
    figure = readings_figure([-1.0, 0.0, 1.0], {"a": [0, 0.5, 1], "b": [0, 0, 1]}, marks=[0.2])
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    assert list(lines["a"]) == [0, 0.5, 1] and list(lines["b"]) == [0, 0, 1] and len(figure.axes[0].lines) == 3  # fmt: skip
    drawn(figure)


def candidate(number, clarity, potential=None, final=None, stopped=None, chosen=False):
    grey = np.full((8, 8, 3), (100 + 10 * number) % 256, np.uint8)
    return Candidate(number, dict.fromkeys(clarity, grey), clarity, potential, final,
                     None if final is None else grey, stopped, chosen)  # fmt: skip


def test_board_says_what_was_asked():
    made = [
        candidate(0, {0: 0.2, 1: 0.9}, (1, 0.1), stopped=1),
        candidate(1, {0: 0.7}, (0, 0.8), final=0.6, chosen=True),
        candidate(2, {0: 0.1, 1: 0.2}, final=0.5),
    ]
    figure = board_figure(made, clear=0.5, promising=0.5, title="two steps")
    said = texts(figure)
    assert said.count("stopped") == 1 and "potential 0.100" in said and "final 0.600" in said and "two steps" in said  # fmt: skip
    assert [text for text in said if text.startswith("step")] == ["step 1", "step 2"]
    assert len(figure.axes[0].images) == 5 + 2
    stars = [line for line in figure.axes[0].lines if line.get_marker() == "*"]
    assert len(stars) == 1
    drawn(figure)


def test_board_of_a_path_that_was_chosen_though_it_stopped():
    figure = board_figure([candidate(0, {0: 0.9}, (0, 0.3), stopped=0, chosen=True)], 0.5, 0.5)
    assert any("best left" in text for text in texts(figure))


def test_columns_keep_the_steps_that_matter():
    few = [candidate(0, {step: 0.1 for step in range(6)})]
    assert columns_of(few) == list(range(6))
    many = [candidate(i, {step: 0.1 for step in range(18)}, (first, 0.5)) for i, first in enumerate((3, 11, 17))]  # fmt: skip
    columns = columns_of(many)
    assert len(columns) == 9 and {3, 11, 17} <= set(columns) and columns == sorted(set(columns)) and columns[0] == 0  # fmt: skip
    crowd = [candidate(i, {step: 0.1 for step in range(18)}, (i, 0.5)) for i in range(18)]
    assert len(columns_of(crowd)) == 9


def test_work_is_stacked_by_part():
    rows = {"best of 20": best_of_n(Crew()), "PARM": parm_work(Crew(), 10, 0.5)}
    figure = work_figure(rows)
    bars = [bar for bar in figure.axes[0].patches if bar.get_width() > 0]
    widths = [bar.get_width() for bar in bars[:6]]
    for i, work in enumerate(rows.values()):
        assert widths[3 * i : 3 * i + 3] == pytest.approx([work.generator / 1e12, work.decoder / 1e12, work.verifier / 1e12])  # fmt: skip
    assert any("verifier 87%" in text for text in texts(figure))
    drawn(figure)


@pytest.mark.parametrize("crew", [Crew(), Crew(in_turn=True, judge=True, four_bit=True), Crew(verifier=None)])
def test_memory_bars_end_at_the_planners_peaks(crew):
    figure = memory_figure(crew, 24)
    made = plan(crew, 24)
    ends = {}
    for bar in figure.axes[0].patches:
        y = round(bar.get_y() + bar.get_height() / 2)
        ends[y] = max(ends.get(y, 0), bar.get_x() + bar.get_width())
    assert [ends[y] for y in range(len(made.peaks))] == pytest.approx([peak / GIB for peak in made.peaks.values()])  # fmt: skip
    assert "24 GB" in texts(figure)
    drawn(figure)


# ----- the widget ----------------------------------------------------------------------------------------------------


def test_planner_view_is_advice_and_a_picture():
    said, png = widgets.planner_view(16)
    assert "does not fit" in said and png[:4] == b"\x89PNG"
    assert "It fits" in widgets.planner_view(16, verifier="7b-4bit")[0]
    assert "judge" in widgets.planner_view(80, judge=True)[0]


def test_the_controls_move_the_view():
    box = widgets.planner_slider(gb=16)
    controls, words, picture = box.children
    card, _, who = controls.children[0].children
    assert "does not fit" in words.value
    before = picture.value
    who.value = "0.5b"
    assert "It fits" in words.value and picture.value != before
    card.value = 5
    assert "does not fit" in words.value


def test_toy_sizes_have_their_own_sequence(cast):
    toy = SimpleNamespace(
        text_ids=lambda prompt: [210 + 5, 1, 9, 1],
        tokens=16,
        config=ShowoConfig(tokens=16, codes=4, text_codes=210),
        words=SimpleNamespace(convert_ids_to_tokens=lambda ids: ["Ġcat"]),
    )
    assert {"125 pads", "text, 4", "·cat", "147"} <= set(texts(sequence_figure(toy, "cat")))
