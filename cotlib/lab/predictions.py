"""Commit to an answer before the cell reveals it.

    predict("00-pass-rate", "How many of the 20 pictures are right?", answer=None, low=0, high=20)
    reveal("00-pass-rate", value)
    score("00")

The learner replaces None by a number (or by one of the choices) and runs the cell; with Jupyter a small form does the
same. What counts is the first answer given before the reveal. Points: 1 for the right choice; for a number
1 - |answer - value| / (high - low), never below 0. Without an answer the notebook goes on.
"""

from __future__ import annotations

import textwrap

from cotlib.lab import store
from cotlib.lab.environment import headless

WIDTH = 78  # letters a line of output holds in a narrow notebook; a longer line would break inside a word


def predict(
    key: str, question: str, answer=None, *, low=None, high=None, choices=None, unit: str = ""
) -> None:
    """Ask for a prediction and keep it. Give either the range low..high of a number, or a list of choices.

    key: the same in `reveal`; starts with the notebook's number, for example "02-rounds".
    """
    old = store.get("predictions", key)
    _say(f"Predict: {question}{_range_text(low, high, choices, unit)}")
    if answer is None:
        if "answer" in old:
            print(f"Your prediction: {_said(old['answer'], unit)}.")
        elif headless():
            print("No prediction made.")
        else:
            print("Give your answer below, or write it as answer=... and run this cell again.")
            _show_form(key, question, low, high, choices, unit)
        return
    _say(commit(key, question, answer, low=low, high=high, choices=choices, unit=unit))


def commit(key: str, question: str, answer, *, low=None, high=None, choices=None, unit: str = "") -> str:
    """Keep an answer unless one was revealed already. Returns the sentence for the learner; never raises."""
    old = store.get("predictions", key)
    if "value" in old:
        return f"Already revealed: your first prediction, {_said(old['answer'], unit)}, stays."
    answer, problem = _understood(answer, low, high, choices)
    if problem:
        return problem
    scale = {"choices": list(choices)} if choices else {"low": low, "high": high}
    store.put("predictions", key, {"question": question, "answer": answer, "unit": unit} | scale)
    return f"Your prediction: {_said(answer, unit)}. Kept."


def reveal(key: str, value) -> None:
    """Say what was measured, compare it with the prediction, keep the points."""
    value = value.item() if hasattr(value, "item") else value
    entry = store.get("predictions", key)
    unit = entry.get("unit", "")
    if "answer" not in entry:
        print(f"Measured: {_said(value)} (no prediction made).")
        return
    points = entry["points"] if "points" in entry else _points(entry, value)
    if "points" not in entry:
        store.put("predictions", key, entry | {"value": value, "points": round(points, 3)})
    verdict = "Right." if points >= 0.995 else "Close." if points >= 0.85 else "A surprise: find out why."
    _say(
        f"Measured: {_said(value, unit)}. You said {_said(entry['answer'], unit)}: {points:.2f} points. {verdict}"
    )


def score(prefix: str = "") -> None:
    """Print the table of predictions whose key starts with `prefix`, and the mean of the points."""
    entries = {
        k: e for k, e in sorted(store.load()["predictions"].items()) if k.startswith(prefix) and "value" in e
    }
    if not entries:
        _say(
            "No predictions made yet: fill in answer=... in a predict(...) cell, then run the cells below it."
        )
        return
    lines = [("prediction", "you said", "measured", "points")]
    for key, entry in entries.items():
        said, was = (
            textwrap.shorten(_said(entry[part]), 26, placeholder=" …") for part in ("answer", "value")
        )
        lines.append((key, said, was, f"{entry['points']:.2f}"))
    mean = sum(entry["points"] for entry in entries.values()) / len(entries)
    lines.append(("mean", "", "", f"{mean:.2f}"))
    wide = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for key, said, was, points in lines:
        print(f"{key:<{wide[0]}}  {said:>{wide[1]}}  {was:>{wide[2]}}  {points:>6}")


def _say(text: str) -> None:
    """Print, with lines that break between words; those of choices go on below their first word."""
    for line in text.split("\n"):
        more = 6 * " " if line.startswith(" ") else ""
        print(textwrap.fill(line, WIDTH, subsequent_indent=more, break_on_hyphens=False))


def _understood(answer, low, high, choices):
    """(answer, "") when it can be used, else (None, one sentence that says what is expected)."""
    if choices:
        for index, choice in enumerate(choices):
            if str(answer).strip().lower() in (str(choice).lower(), chr(ord("a") + index)):
                return choice, ""
        letters = ", ".join(f"{chr(ord('a') + i)} = {choice!r}" for i, choice in enumerate(choices))
        return None, f"{answer!r} is not one of the choices: {letters}. Nothing was kept."
    try:
        number = float(answer)
    except (TypeError, ValueError):
        return None, f"{answer!r} is not a number. Nothing was kept."
    if not (low is None or number >= low) or not (high is None or number <= high) or number != number:
        return None, f"{_said(number)} lies outside {_said(low)} to {_said(high)}. Nothing was kept."
    return (int(number) if number == int(number) else number), ""


def _points(entry: dict, value) -> float:
    if "choices" in entry:
        return float(str(entry["answer"]).lower() == str(value).lower())
    low, high = entry.get("low"), entry.get("high")
    span = (high - low) if low is not None and high is not None else max(abs(value), 1e-9)
    return max(0.0, 1.0 - abs(entry["answer"] - value) / span)


def _range_text(low, high, choices, unit) -> str:
    if choices:
        return "".join(f"\n  ({chr(ord('a') + i)}) {choice}" for i, choice in enumerate(choices))
    if low is None and high is None:
        return f" ({unit})" if unit else ""
    return f" ({_said(low)} to {_said(high)}{' ' + unit if unit else ''})"


def _said(value, unit: str = "") -> str:
    text = str(value)
    if isinstance(value, float):
        text = f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"
    return f"{text} {unit}".strip() if not isinstance(value, str) else text


def _show_form(key, question, low, high, choices, unit) -> None:
    """A slider or a list with a button, for front ends that show widgets; silent where there are none."""
    try:
        import ipywidgets as w
        from IPython.display import display
    except ImportError:
        return
    if choices:
        field = w.RadioButtons(options=list(choices), value=None, layout={"width": "max-content"})
    elif low is not None and high is not None:
        whole = isinstance(low, int) and isinstance(high, int)
        kind, step = (w.IntSlider, 1) if whole else (w.FloatSlider, (high - low) / 100)
        field = kind(value=low, min=low, max=high, step=step)
    else:
        field = w.FloatText(value=0.0)
    button, said = w.Button(description="Keep my prediction"), w.HTML()

    def keep(_):
        if field.value is None:
            said.value = "Choose one of the answers first."
            return
        scale = dict(low=low, high=high, choices=choices, unit=unit)
        words = commit(key, question, field.value, **scale)
        said.value = words + (" Now run the cells below." if words.endswith("Kept.") else "")

    button.on_click(keep)
    display(w.VBox([field, w.HBox([button, said])]))
