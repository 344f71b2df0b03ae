"""Minutes, the learner's page and the teacher's page."""

import json
import random
import re
from html.parser import HTMLParser

import pytest

from cotlib.errors import UserError
from cotlib.lab import clock, learners, progress_page, store
from cotlib.lab.checks import check
from cotlib.lab.classroom import class_html, is_stuck, main, strip
from cotlib.lab.exercises import NOTEBOOK, REGISTRY
from cotlib.lab.predictions import predict, reveal


@pytest.fixture(autouse=True)
def progress_file(tmp_path, monkeypatch):
    path = tmp_path / "mine" / "progress.json"
    monkeypatch.setenv("COTLIB_PROGRESS", str(path))
    return path


class Seconds:
    """A clock that a test moves."""

    def __init__(self):
        self.value = 0.0

    def __call__(self):
        return self.value


# --- minutes


def test_minutes_are_pauses_and_running_time_and_long_pauses_are_breaks():
    now = Seconds()
    watch = clock.Clock("04", now)
    for pause, runs in ((0, 6), (120, 60), (3 * 3600, 30)):
        now.value += pause
        watch.before_cell()
        now.value += runs
        watch.after_cell()
    assert store.get("notebooks", "04")["minutes"] == pytest.approx(0.1 + 3 + clock.PAUSE + 0.5)


def test_minutes_of_an_exercise_are_those_of_the_cells_that_check_it(monkeypatch, capsys):
    now = Seconds()
    watch = clock.Clock("03", now)
    monkeypatch.setattr(clock, "_running", watch)
    tries = [None, lambda n, c, k: 0.0, REGISTRY["coverage"].reference(), lambda n, c, k: 0.0]
    for fn in tries:  # untouched, wrong, right; what is tried after a pass costs no time
        now.value += 240
        watch.before_cell()
        check("coverage", fn)
        watch.after_cell()
    entry = store.get("checks", "coverage")
    assert entry["minutes"] == pytest.approx(12) and entry["state"] == "passed" and entry["attempts"] == 3
    assert store.get("notebooks", "03")["minutes"] == pytest.approx(16)


def test_a_kernel_counts_cells_once_even_when_set_up_twice(monkeypatch):
    registered = []

    class Events:
        def register(self, name, function):
            registered.append((name, function))

        def unregister(self, name, function):
            registered.remove((name, function))

    shell = type("Shell", (), {"events": Events()})()
    monkeypatch.delenv("COTLIB_HEADLESS", raising=False)
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    monkeypatch.setattr(clock, "headless", lambda: False)
    monkeypatch.setattr(clock, "_running", None)
    clock.start("02")
    clock.start("02")
    assert sorted(name for name, _ in registered) == ["post_run_cell", "pre_run_cell"]
    monkeypatch.setattr(clock, "headless", lambda: True)
    monkeypatch.setattr(clock, "_running", None)
    clock.start("03")
    assert clock._running is None and len(registered) == 2


# --- reading files


def written(folder, name, record):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(record if isinstance(record, str) else json.dumps(record), encoding="utf-8")
    return path


GOOD = {
    "version": 1, "name": "Ada", "notebooks": {"02": {"minutes": 12.5}},
    "predictions": {"02-rounds": {"question": "How many?", "answer": 3, "low": 0, "high": 9, "value": 5, "points": 0.7}},
    "checks": {"guide": {"state": "failed", "attempts": 4, "hint": "", "minutes": 9.0}},
}  # fmt: skip

FOREIGN = {
    "no JSON": '{"version": 1, ',
    "no progress file": [1, 2],
    "no progress file of": {"version": 1, "cells": []},
    "notebooks": GOOD | {"notebooks": {"02": {"minutes": "long"}}},
    "checks, 'guide'": GOOD | {"checks": {"guide": {"state": "great", "attempts": 1}}},
    "predictions, 'k'": GOOD | {"predictions": {"k": {"question": "q", "answer": "<b>", "low": 0, "high": 1}}},
    "predictions": GOOD | {"predictions": ["k"]},
    "larger than": " " * 1_000_001,
}  # fmt: skip


def test_what_the_course_writes_can_be_read(progress_file, capsys):
    predict("02-rounds", "How many?", 3, low=0, high=9)
    predict("02-which", "Which?", "a", choices=["one", "two"])
    reveal("02-rounds", 5)
    check("guide", None)
    store.spend("02", 1.5)
    store.call_me("  Ada\n Lovelace ")
    who = learners.read(progress_file)
    assert who.name == "Ada Lovelace" and who.minutes == {"02": 1.5}
    assert who.predictions["02-which"]["answer"] == "one" and set(who.checks) == {"guide"}


@pytest.mark.parametrize("words", FOREIGN)
def test_foreign_and_damaged_files_are_named_and_left_out(words, tmp_path, capsys):
    folder = tmp_path / "class"
    written(folder, "b/good.json", GOOD | {"name": ""})
    written(folder, "a.json", FOREIGN[words])
    found, skipped = learners.read_folder(folder)
    assert [who.name for who in found] == ["good"]
    assert list(skipped) == ["a.json"] and words in skipped["a.json"]
    assert main([str(folder), "--out", str(tmp_path / "page.html")]) == 0
    assert "left out: a.json" in capsys.readouterr().out and "a.json" in (tmp_path / "page.html").read_text()


def test_the_name_of_a_file_does_not_matter(tmp_path):
    nameless = GOOD | {"name": ""}
    written(tmp_path, "Zoe/.cotlib/progress.json", GOOD | {"name": "Zoe"})
    written(tmp_path, "Bo/progress.json", nameless)
    written(tmp_path, "cai.json.txt", GOOD | {"name": "Änne"})
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    found, skipped = learners.read_folder(tmp_path)
    assert [who.name for who in found] == ["Änne", "Bo", "Zoe"]
    assert list(skipped) == ["photo.jpg"] and "no JSON" in skipped["photo.jpg"]


def test_an_old_file_without_minutes_is_read():
    old = {
        "version": 1,
        "predictions": {},
        "checks": {"guide": {"state": "passed", "attempts": 1, "hint": ""}},
    }
    assert learners.understood(old, "x").name == "x"


# --- the teacher's page


class Page(HTMLParser):
    """Text, tags and addresses of a page; fails on tags that do not close in order."""

    def __init__(self, html):
        super().__init__()
        self.open, self.text, self.links, self.tags = [], "", [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src")]
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def a_class(size=12, seed=1):
    """Learners made by dice: each comes so far, fails with known mistakes, predicts with some error."""
    dice = random.Random(seed)
    everybody = []
    for index in range(size):
        reach = dice.randint(2, 9)
        checks, predictions = {}, {}
        for name, number in NOTEBOOK.items():
            if int(number) > reach:
                continue
            passed = dice.random() < 0.8
            attempts = dice.randint(1, 6)
            hint = dice.choice([m.name for m in REGISTRY[name].mistakes]) if not passed else ""
            checks[name] = {"state": "passed" if passed else "failed", "attempts": attempts, "hint": hint,
                            "minutes": round(dice.uniform(2, 25), 1)}  # fmt: skip
        for k in range(reach):
            answer = min(20, max(0, round(dice.gauss(12, 4))))
            predictions[f"{k:02d}-pass"] = {"question": f"How many of 20 in notebook {k}?", "answer": answer, "low": 0,
                                            "high": 20, "value": 11, "points": round(1 - abs(answer - 11) / 20, 3)}  # fmt: skip
        choice = dice.choice(["grows", "shrinks", "stays"])
        predictions["04-belief"] = {"question": "The gap …", "answer": choice, "choices": ["grows", "shrinks", "stays"],
                                    "value": "grows", "points": float(choice == "grows")}  # fmt: skip
        minutes = {f"{k:02d}": dice.uniform(5, 60) for k in range(reach + 1)}
        everybody.append(learners.Learner(f"Learner {index + 1}", minutes, predictions, checks))
    return everybody


def test_the_page_is_sound_html_and_asks_nothing_of_the_network():
    page = Page(class_html(a_class(), {"x.json": "no JSON"}))
    assert page.links == [] and "script" not in page.tags
    for heading in ("Who is where", "Who is stuck", "Exercises", "Predictions", "Files left out"):
        assert heading in page.text


def test_the_page_counts_right():
    people = a_class(20)
    html = class_html(people, {})
    for name in ("masked_count", "pick_each"):
        tried = [who.checks[name] for who in people if name in who.checks]
        passed = [entry for entry in tried if entry["state"] == "passed"]
        assert f"<td>{name}</td><td class=number>{len(tried)}</td><td class=number>{len(passed)}</td>" in html
    stuck = {
        name
        for who in people
        for name, entry in who.checks.items()
        if entry["state"] == "failed" and (entry["attempts"] >= 3 or entry["minutes"] >= 20)
    }
    section = html.split("Who is stuck")[1].split("<section>")[0]
    assert set(re.findall(r"<b>(\w+)</b>", section)) == stuck and stuck
    assert html.count('<td class="name">') == 20


def test_the_usual_mistake_is_told_to_the_teacher():
    mistake = REGISTRY["guide"].mistakes[0]
    entry = {"state": "failed", "attempts": 5, "hint": mistake.name, "minutes": 8.0}
    page = Page(class_html([learners.Learner("Bo", {}, {}, {"guide": entry})], {}))
    assert mistake.hint in page.text and "1 of 1" in page.text and "Bo (5×, 8 min)" in page.text


@pytest.mark.parametrize(
    ("attempts", "minutes", "state", "stuck"),
    [
        (2, 1, "failed", False),
        (3, 1, "failed", True),
        (1, 20, "failed", True),
        (9, 90, "passed", False),
        (0, 90, "not attempted", False),
    ],
)
def test_when_somebody_is_stuck(attempts, minutes, state, stuck):
    assert is_stuck({"state": state, "attempts": attempts, "minutes": minutes}) is stuck


def test_names_and_questions_cannot_inject_anything():
    evil = "<script>alert(1)</script>"
    prediction = {"question": evil, "answer": evil, "choices": [evil, "b"]}
    who = learners.Learner(evil, {"02": 1.0}, {evil: prediction}, {evil: GOOD["checks"]["guide"]})
    page = Page(class_html([who], {evil: evil}))
    assert "script" not in page.tags and evil in page.text
    assert "script" not in Page(progress_page.progress_html(who)).tags


def test_strip_marks_answers_outside_and_a_single_value():
    entries = [{"answer": 5, "low": None, "high": None, "value": 7.0}, {"answer": 5, "value": 9.0}]
    svg = strip(entries)
    assert svg.count("<circle") == 2 and 'class="truth"' in svg and "median 5; measured 8" in svg
    assert strip([{"answer": 1}]).count("<circle") == 1


def test_wrong_folders(tmp_path, capsys):
    assert main([str(tmp_path / "none")]) == 2
    assert "is no folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty")]) == 2
    assert "no progress file" in capsys.readouterr().err
    written(tmp_path / "class", "a.json", GOOD)
    (tmp_path / "file").write_text("")
    assert main([str(tmp_path / "class"), "--out", str(tmp_path / "file" / "page.html")]) == 2
    assert "cannot be written" in capsys.readouterr().err


# --- the learner's page


def test_the_learners_page_shows_what_was_done(monkeypatch, capsys):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw=False: shown.append(data))
    predict("04-best", "?", 0.9, low=0.0, high=1.0)
    reveal("04-best", 0.9)
    for answer in (lambda *_: 0.0, REGISTRY["ranking"].reference()):  # wrong, right: two attempts
        check("ranking", answer)
    store.spend("04", 7)
    progress_page.my_progress("Ada")
    [data] = shown
    line = next(
        text for text in data["text/plain"].splitlines() if text.split() and text.split()[0] == "04"
    ).split()
    of = sum(number == "04" for number in NOTEBOOK.values())
    assert line == ["04", "7", "1", "of", str(of), "2", "1", "1.00"]
    assert "2 attempts" in data["text/html"]
    assert "Ada" in Page(data["text/html"]).text and "Ada" in capsys.readouterr().out


def test_a_damaged_own_file_is_said(progress_file, capsys):
    written(progress_file.parent, progress_file.name, GOOD | {"checks": {"guide": 3}})
    progress_page.my_progress()
    assert "Delete it to begin anew" in capsys.readouterr().out


def test_reading_refuses_what_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        learners.read(tmp_path / "none.json")
