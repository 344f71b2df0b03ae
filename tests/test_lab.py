"""What notebooks stand on: set-up, figures, predictions, checks, claims, widgets. The exercises have their own file."""

import io
import json
import math

import numpy as np
import pytest
import torch
from IPython.core.inputtransformer2 import TransformerManager
from matplotlib import pyplot as plt
from PIL import Image

from cotlib import lab
from cotlib.errors import UserError
from cotlib.interfaces import Step
from cotlib.lab import environment, figures, predictions, store, token_figures, widgets
from cotlib.lab.build import NOTEBOOKS
from cotlib.lab.claim_table import MIME, Claim, as_html, as_json, as_text, claims_in
from cotlib.lab.repository import Address


@pytest.fixture(autouse=True)
def progress_file(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "progress.json"
    monkeypatch.setenv("COTLIB_PROGRESS", str(path))
    monkeypatch.setenv("COTLIB_HEADLESS", "1")
    monkeypatch.setattr(store, "_memory", {})
    return path


@pytest.fixture
def displayed(monkeypatch):
    """What was displayed: list of (bundle, metadata)."""
    seen = []
    monkeypatch.setattr(
        "IPython.display.display", lambda data, raw=False, metadata=None: seen.append((data, metadata or {}))
    )
    return seen


# --- set-up


def test_setup_prints_one_line_and_seeds(capsys):
    first = (lab.setup(seed=3), torch.rand(2))
    second = (lab.setup(seed=3), torch.rand(2))
    assert torch.equal(first[1], second[1])
    line = capsys.readouterr().out.splitlines()[0]
    for word in ("cotlib", "Python", "torch", "profile quick", "seed 3"):
        assert word in line
    assert plt.rcParams["image.cmap"] == "cividis"


def test_dtype_follows_the_compute_capability():
    gpu = torch.device("cuda")
    assert environment.pick_dtype(gpu, (7, 5)) is torch.float16  # T4
    assert environment.pick_dtype(gpu, (8, 0)) is torch.bfloat16
    assert environment.pick_dtype(gpu, (9, 0)) is torch.bfloat16
    assert environment.pick_dtype(torch.device("cpu")) is torch.float32


class FakeShell:
    def __init__(self):
        self.ran = []

    def run_line_magic(self, name, line, *_, **__):
        self.ran.append((name, line))


def run_setup_cell(source, folder, monkeypatch, installed):
    """Execute the set-up cell as IPython would, in `folder`. Returns (names, magics, sys.path)."""
    path = ["/nowhere"]
    shell = FakeShell()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.path", path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if installed else None)
    names = {"get_ipython": lambda: shell}
    exec(TransformerManager().transform_cell(source), names)
    return names, shell.ran, path


def test_setup_cell_in_a_clone_also_from_the_notebooks_folder(monkeypatch, capsys):
    source = Address().setup_cell(NOTEBOOKS, "04_orm")
    for folder in (NOTEBOOKS, NOTEBOOKS.parent):
        names, magics, path = run_setup_cell(source, folder, monkeypatch, installed=False)
        assert path[0] == str(NOTEBOOKS.parent) and not magics
        assert isinstance(names["env"], lab.Environment)


def test_setup_cell_with_cotlib_installed(tmp_path, monkeypatch, capsys):
    names, magics, path = run_setup_cell(
        Address().setup_cell(NOTEBOOKS, "04_orm"), tmp_path, monkeypatch, True
    )
    assert path == ["/nowhere"] and not magics and "env" in names


def test_setup_cell_asks_for_the_address_in_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(SystemExit) as stop:
        run_setup_cell(Address().setup_cell(NOTEBOOKS, "04_orm"), tmp_path, monkeypatch, installed=False)
    assert "REPOSITORY" in str(stop.value) and "\n" not in str(stop.value)


def test_setup_cell_installs_without_touching_other_packages(tmp_path, monkeypatch, capsys):
    source = Address.parse("me/course@v1").setup_cell(NOTEBOOKS, "04_orm")
    _, magics, _ = run_setup_cell(source, tmp_path, monkeypatch, installed=False)
    [(name, line)] = magics
    assert name == "pip" and "--no-deps" in line and "-e" not in line.split()
    assert 'REPOSITORY, TAG = "me/course", "v1"' in source


def test_address(tmp_path):
    assert Address.parse("me/course") == Address("me/course", "main")
    Address.parse("me/course@v1.2").save(tmp_path)
    assert Address.load(tmp_path) == Address("me/course", "v1.2")
    assert Address().badges("00_x") == "" and "me/course/blob/v1.2" in Address.load(tmp_path).badges("00_x")
    for text in ("me", "me/course/x", "https://github.com/me/course", "me/course@"):
        with pytest.raises(UserError, match="OWNER/NAME"):
            Address.parse(text)
    (tmp_path / "repository.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        Address.load(tmp_path)


# --- figures


def test_show_stores_alt_text_and_caption_and_closes_the_figure(displayed):
    fig, ax = plt.subplots()
    ax.plot([1, 2], [1, 2])
    lab.show(fig, alt="It rises & <never> falls.")
    (picture, about), (caption, _) = displayed
    assert about["image/png"]["alt"] == caption["text/plain"] == "It rises & <never> falls."
    assert "&amp; &lt;never&gt;" in caption["text/html"]
    assert not plt.fignum_exists(fig.number)
    assert about["image/png"]["width"] == pytest.approx(6.4 * 96, abs=2)


def test_even_a_noisy_figure_stays_below_the_limit():
    fig, ax = plt.subplots(figsize=(8, 8))
    ax.imshow(np.random.default_rng(0).random((400, 400)))
    png, width = figures.compact_png(fig)
    plt.close(fig)
    assert len(png) <= figures.MAX_BYTES
    assert Image.open(io.BytesIO(png)).width > 200 and width == 768


def test_grid_keeps_every_pixel_sharp():
    picture = torch.zeros(3, 64, 64)
    picture[:, ::2, ::2] = 1.0  # single white pixels
    fig = figures.image_grid(picture)
    png, _ = figures.compact_png(fig)
    drawn = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
    inside = drawn[30:180, 30:180]
    assert set(np.unique(inside)) <= {0, 255}
    runs = np.diff(np.flatnonzero(np.diff(inside[inside.max(1) > 0][0].astype(int))))
    assert set(runs) == {3}  # each pixel is exactly three stored pixels wide


def test_grid_accepts_tensors_arrays_and_lists():
    tensor = torch.rand(5, 3, 64, 64)
    array = (tensor.permute(0, 2, 3, 1) * 255).round().byte().numpy()
    assert np.array_equal(figures.as_uint8(tensor), array)
    assert np.array_equal(figures.as_uint8(list(tensor)), array)
    assert np.array_equal(figures.as_uint8(array[0]), array[:1])
    for wrong in (torch.rand(5, 64, 64), np.zeros((2, 64, 64, 3)), torch.rand(2, 4, 8, 8)):
        with pytest.raises(ValueError, match="expected"):
            figures.as_uint8(wrong)


def test_show_images(displayed):
    lab.show_images(
        torch.rand(4, 3, 64, 64),
        titles=["a long title that needs to be wrapped over lines"] * 4,
        marks=[True, False, None, True],
        chosen=2,
        alt="Four.",
    )
    assert len(displayed) == 2
    with pytest.raises(ValueError, match="one title for each"):
        lab.show_images(torch.rand(4, 3, 8, 8), titles=["one"], alt="x")


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (6, 6), (7, 4), (12, 6), (20, 5)])
def test_rows_are_even(count, columns):
    assert figures.balanced_columns(count) == columns


# --- predictions and the progress file


def test_predict_then_reveal(capsys, progress_file):
    lab.predict("00-n", "How many?", answer=12, low=0, high=20)
    lab.reveal("00-n", 9)
    out = capsys.readouterr().out
    assert "12" in out and "Measured: 9" in out and "0.85 points" in out
    lab.score("00")
    assert "0.85" in capsys.readouterr().out
    assert json.loads(progress_file.read_text())["predictions"]["00-n"]["points"] == 0.85


def test_a_prediction_cannot_be_changed_after_the_reveal(capsys):
    lab.predict("k", "?", answer=1, low=0, high=10)
    lab.predict("k", "?", answer=2, low=0, high=10)  # before the reveal it may
    lab.reveal("k", 8)
    lab.predict("k", "?", answer=8, low=0, high=10)
    assert "2, stays" in capsys.readouterr().out
    assert store.get("predictions", "k")["answer"] == 2


def test_run_all_without_answers_goes_on_and_does_not_lock(capsys):
    lab.predict("k", "Which?", choices=["raster", "masked"])
    lab.reveal("k", "masked")
    lab.score()
    out = capsys.readouterr().out
    assert "No prediction made" in out and "no prediction made" in out and "No predictions made yet" in out
    lab.predict("k", "Which?", answer="b", choices=["raster", "masked"])
    lab.reveal("k", "masked")
    assert "1.00 points. Right." in capsys.readouterr().out


@pytest.mark.parametrize("answer", [21, -1, "many", float("nan"), [3]])
def test_an_answer_out_of_range_is_refused_in_one_sentence(answer, capsys):
    lab.predict("k", "How many?", answer=answer, low=0, high=20)
    assert "Nothing was kept" in capsys.readouterr().out
    assert store.get("predictions", "k") == {}


def test_wrong_choice_and_tensor_values(capsys):
    lab.predict("k", "Which?", answer="spiral", choices=["raster", "masked"])
    assert "not one of the choices" in capsys.readouterr().out
    lab.predict("x", "Share?", answer=0.5, low=0, high=1)
    lab.reveal("x", torch.tensor(0.25))
    assert "0.75 points" in capsys.readouterr().out
    lab.reveal("never asked", 12345.6)
    assert "12,346" in capsys.readouterr().out


def test_progress_file_damaged_or_unwritable(progress_file, tmp_path, monkeypatch, capsys):
    progress_file.parent.mkdir()
    progress_file.write_text("{damaged")
    lab.predict("k", "?", answer=3, low=0, high=4)
    assert store.get("predictions", "k")["answer"] == 3
    assert progress_file.with_name("progress.json.damaged").read_text() == "{damaged"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COTLIB_PROGRESS", str(tmp_path / "file" / "progress.json"))  # its folder is a file
    lab.predict("k", "?", answer=2, low=0, high=4)
    lab.reveal("k", 2)
    assert store.get("predictions", "k")["points"] == 1.0


def test_a_widgets_thread_and_a_cell_lose_nothing_of_each_other():
    from threading import Thread

    def answer(who):
        for turn in range(30):
            store.put("predictions", f"{who} {turn}", {"answer": turn})
            store.spend("04", 0.5)

    threads = [Thread(target=answer, args=(who,)) for who in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    record = store.load()
    assert len(record["predictions"]) == 60 and record["notebooks"]["04"]["minutes"] == 30.0


def test_the_form_keeps_a_prediction(monkeypatch):
    shown = []
    monkeypatch.setattr(predictions, "headless", lambda: False)
    monkeypatch.setattr("IPython.display.display", lambda widget: shown.append(widget))
    lab.predict("k", "How many?", low=0, high=20)
    slider, line = shown[0].children
    slider.value = 7
    line.children[0].click()
    assert store.get("predictions", "k")["answer"] == 7 and "Kept" in line.children[1].value


# --- checks


def test_check_prints_and_remembers(capsys):
    lab.check("guide", None)
    lab.check("guide", lambda c, u, w: c + w * (c + u))
    lab.check("guide", lambda c, u, w: c - w * u)
    lab.check("guide", lambda c, u, w: c + w * (c - u))
    lines = capsys.readouterr().out
    assert "not attempted yet" in lines and "✗ guide" in lines and "✓ guide: right on all" in lines
    assert 'solution("guide")' in lines
    assert store.get("checks", "guide")["state"] == "passed" and store.get("checks", "guide")["attempts"] == 3


def test_check_never_raises(capsys, monkeypatch):
    lab.check("no such exercise", lambda: 1)
    assert "masked_count" in capsys.readouterr().out
    monkeypatch.setattr("cotlib.lab.checks.examine", lambda *_: 1 / 0)
    lab.check("guide", lambda c, u, w: c)
    assert "ZeroDivisionError" in capsys.readouterr().out


def test_solution_shows_the_library(capsys):
    lab.solution("guide")
    assert "def guide(" in capsys.readouterr().out
    lab.solution("nothing")
    assert "There is no exercise" in capsys.readouterr().out


# --- claims


def test_verdicts():
    assert Claim("a", 0.6, 0.5, 0.7, threshold=0.5).ok
    assert Claim("a", 0.6, 0.5, 0.7, threshold=0.5).clear
    assert Claim("a", 0.6, 0.4, 0.8, threshold=0.5).ok and not Claim("a", 0.6, 0.4, 0.8, threshold=0.5).clear
    assert not Claim("a", 0.4, 0.3, 0.5, threshold=0.5).ok
    assert Claim("a", 1e-7, threshold=1e-5, direction="<=").clear
    assert not Claim("a", math.nan, threshold=0.0).ok and not Claim("a", math.nan, direction="<=").ok
    with pytest.raises(ValueError, match="direction"):
        Claim("a", 1.0, direction=">")


def test_the_compared_text_holds_no_measured_number():
    one = [Claim("better than chance", 0.61, 0.55, 0.67, threshold=0.5)]
    two = [Claim("better than chance", 0.609, 0.551, 0.669, threshold=0.5)]
    false = [Claim("better than chance", 0.49, 0.43, 0.55, threshold=0.5)]
    assert as_text(one) == as_text(two) != as_text(false)
    assert "0.61" in as_html(one) and "0.55 to 0.67" in as_html(one)


def test_claims_bundle(displayed):
    rows = [Claim("a < b", torch.tensor(0.7), 0.6, math.inf, threshold=0.5), Claim("equal", 0)]
    lab.claims(rows)
    [(bundle, _)] = displayed
    assert json.loads(json.dumps(bundle[MIME])) == as_json(rows)
    assert bundle[MIME][0]["high"] is None and bundle[MIME][0]["ok"] is True
    assert "a &lt; b" in bundle["text/html"]
    notebook = {"cells": [{"outputs": [{"data": bundle}]}, {"source": "markdown"}]}
    assert claims_in(notebook) == bundle[MIME]


# --- widgets and token figures


def fake_decode(codes):
    """Every code becomes a flat patch of its own grey. codes [B,N] -> [B,3,64,64]"""
    n = round(codes.shape[1] ** 0.5)
    grey = (codes.float() / 1023).view(-1, 1, n, n)
    return grey.repeat_interleave(64 // n, 2).repeat_interleave(64 // n, 3).expand(-1, 3, -1, -1)


class FakeTokenizer:
    decode = staticmethod(fake_decode)


@pytest.fixture
def steps():
    codes = torch.arange(128).view(2, 64) * 7 % 1024
    return [
        Step(i, codes, torch.arange(64).expand(2, 64) >= 16 * (i + 1), -torch.rand(2, 64), torch.arange(2))
        for i in range(4)
    ]


def test_step_frame_hides_what_is_masked(steps):
    frame = widgets.step_frame(steps[0], fake_decode, row=1)
    assert frame.shape == (256, 3 * 256 + 24, 3)
    guess, fixed = frame[1:255, 1:255], frame[1:255, 269:523]
    assert np.array_equal(guess[:60], fixed[:60])  # the first 16 tokens are the two upper rows
    assert not np.array_equal(guess[64:], fixed[64:])
    assert "48 of 64" in widgets.step_words(steps[0])


def test_scrubber_follows_its_slider(steps):
    box = lab.step_scrubber(steps, fake_decode)
    controls, picture, words = box.children
    before = picture.value
    controls.children[1].value = 4
    assert picture.value != before and "After step 4" in words.value and "0 of 64" in words.value
    controls.children[1].value = 1
    assert picture.value == before


def test_editor_changes_one_cell_and_not_the_original():
    codes = torch.full((64,), 682)
    editor = lab.code_editor(FakeTokenizer, codes)
    _, (grid, picture), (left, digits) = (
        editor.children[0],
        editor.children[1].children,
        editor.children[2].children,
    )
    before = picture.value
    grid.children[1].children[2].click()  # row 1, column 2: cell 10
    digits.children[0].value = 3
    expected = codes.clone()
    expected[10] = 682 + 256
    assert torch.equal(editor.codes, expected) and torch.equal(codes, torch.full((64,), 682))
    labels = [button.description for line in grid.children for button in line.children]
    assert labels.index(widgets.PICKED) == 10 and labels.count(widgets.PLAIN) == 63
    assert picture.value != before and left.children[0].value == 938
    left.children[0].value = 5
    assert [slider.value for slider in digits.children] == [0, 0, 0, 1, 1]
    left.children[1].click()
    assert torch.equal(editor.codes, codes) and left.children[0].value == 682


def test_step_strip_and_code_grid_draw(steps):
    fig = lab.step_strip(steps, fake_decode, columns=3)
    assert [text.get_text() for text in fig.axes[0].texts][:3] == [
        "step 1\n48 masked",
        "step 3\n16 masked",
        "step 4\n0 masked",
    ]
    raster = [
        Step(i, s.codes.masked_fill(s.masked, 1024), s.masked, s.confidence, s.paths)
        for i, s in enumerate(steps)
    ]
    assert (
        lab.step_strip(raster, fake_decode).get_figheight()
        < lab.step_strip(steps, fake_decode).get_figheight()
    )
    grid = lab.code_grid(fake_decode(steps[0].codes)[0], steps[0].codes[0], mark=5)
    assert [text.get_text() for text in grid.axes[0].texts] == [str(c) for c in steps[0].codes[0].tolist()]


def test_places_not_drawn_yet_become_paper():
    codes = torch.tensor([[7, 7, 3, 1024]])
    assert token_figures.paper_filled(codes).tolist() == [[7, 7, 3, 7]]
    assert token_figures.paper_filled(torch.full((1, 4), 1024)).tolist() == [[0, 0, 0, 0]]


def test_progress_is_one_line_when_nobody_watches(capsys):
    assert list(lab.progress(range(3), "pictures")) == [0, 1, 2]
    assert capsys.readouterr().out == "pictures: 3 done\n"


def test_the_readme_says_what_the_result_files_say():
    from cotlib.lab import readme

    text = (readme.ROOT / "README.md").read_text("utf-8")
    assert readme.filled(text) == text, "run python -m cotlib.lab.readme"
    assert (readme.ROOT / "docs" / "hero.png").is_file() and "docs/hero.png" in text
