"""The learner's own page inside a notebook: minutes, exercises and predictions, notebook by notebook."""

from __future__ import annotations

from html import escape

from cotlib.errors import UserError
from cotlib.lab import store
from cotlib.lab.exercises import BY_NOTEBOOK
from cotlib.lab.learners import Learner, understood


def my_progress(name: str | None = None) -> None:
    """Show what the progress file holds, and say where it is, for whoever wants to hand it in.

    name: keeps this name in the file, any that you like; "" takes it away; None leaves it as it is.
    """
    from IPython.display import HTML, display

    if name is not None:
        store.call_me(name)
    try:
        who = understood(store.load())
    except UserError as error:
        print(f"Your progress file: {error}. Delete it to begin anew.")
        return
    display({"text/html": HTML(progress_html(who)).data, "text/plain": progress_text(who)}, raw=True)
    if who.name:
        print(f"The name in the file: {who.name}.")
    else:
        print('No name in the file; my_progress("any name") writes one, if a teacher asks.')
    print("Where it is:")
    print("   from cotlib.lab.store import progress_path; print(progress_path())")


def rows(who: Learner) -> list[tuple[str, float, int, int, int, int, float | None]]:
    """(notebook, minutes, exercises passed, exercises, attempts at them, predictions revealed, their mean points) of each notebook."""
    table = []
    for number, names in BY_NOTEBOOK.items():
        entries = [who.checks.get(name, {}) for name in names]
        passed = sum(entry.get("state") == "passed" for entry in entries)
        tries = sum(entry.get("attempts", 0) for entry in entries)
        points = [e["points"] for k, e in who.predictions.items() if k.startswith(number) and "points" in e]
        mean = sum(points) / len(points) if points else None
        table.append((number, who.minutes.get(number, 0.0), passed, len(names), tries, len(points), mean))
    return table


def progress_text(who: Learner) -> str:
    """The table in plain text."""
    lines = [
        f"{'notebook':>8}  {'minutes':>7}  {'exercises':>9}  {'attempts':>8}  {'predictions':>11}  {'points':>6}"
    ]
    for number, minutes, passed, of, tries, made, mean in rows(who):
        points = "–" if mean is None else f"{mean:.2f}"
        lines.append(
            f"{number:>8}  {minutes:7.0f}  {f'{passed} of {of}':>9}  {tries:8}  {made:11}  {points:>6}"
        )
    return "\n".join(lines)


def progress_html(who: Learner) -> str:
    """The same with a bar for the exercises; colours of the page around it, so that it suits a dark theme too."""
    body = ""
    for number, minutes, passed, of, tries, made, mean in rows(who):
        share = 100 * passed / of if of else 0
        bar = (
            '<span style="display:inline-block;width:7em;height:.6em;border:1px solid currentColor;border-radius:3px">'
            f'<span style="display:block;width:{share:.0f}%;height:100%;background:#0072b2"></span></span>'
        )
        cells = (
            number,
            f"{minutes:.0f} min" if minutes else "–",
            f"{bar} {passed} of {of}{f', {tries} attempts' if tries else ''}" if of else "–",
            f"{made}" if made else "–",
            "–" if mean is None else f"{mean:.2f}",
        )
        body += "<tr>" + "".join(f'<td style="text-align:left">{cell}</td>' for cell in cells) + "</tr>"
    heads = ("notebook", "time", "exercises passed", "predictions", "mean points")
    head = "".join(f'<th style="text-align:left">{text}</th>' for text in heads)
    title = f"<p><b>{escape(who.name)}</b></p>" if who.name else ""
    return f"{title}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
