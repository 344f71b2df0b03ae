"""Figures of reflection: what was said of a picture and what became of it, and what a round fixes and breaks.

told = stories(generator, prompts, outcome, judge)        # one Story per prompt, from `correct_chosen`
show(transcripts(told[:4]), alt="...")
show(fixed_broken_chart({"redraw": rounds_of(told)}), alt="...")
reflector(...)                                            # widget: say a reflection yourself
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cotlib.interfaces import REFLECT, Judge, Outcome, Reflection, Round
from cotlib.lab import style
from cotlib.lab.figures import as_uint8, draw_mark, draw_tile
from cotlib.lab.widgets import picture_widget, png_bytes
from cotlib.models.verifier import MAX_WORDS, QUESTIONS, WORDS, text_batch
from cotlib.world.prompts import BEGIN, END, parse_prompt
from cotlib.world.scenes import CELL, SIZE, TASKS, Thing

KEPT = "refused, but its eye sees no fault: kept"
UNASKED = "last picture, nobody is asked"


@dataclass(frozen=True)
class Story:
    """One prompt's pictures, first to last: pictures [K, 3, H, W], what was said of each, and the judge's verdicts."""

    prompt: str
    pictures: Tensor
    rounds: tuple[Round, ...]
    right: tuple[bool, ...]

    def said(self, unasked: str = UNASKED) -> tuple[str, ...]:
        """One short text per picture; `unasked` where nobody was asked any more."""
        return tuple(_said(r, unasked) for r in self.rounds)


def _said(entry: Round, unasked: str) -> str:
    if entry.reflection is None:
        return unasked
    words = f'"{entry.reflection.words}"'
    return f"{words} {KEPT}" if entry.spared else words


@torch.no_grad()
def stories(model, prompts: Sequence[str], outcome: Outcome, judge: Judge) -> list[Story]:
    """The rounds of an outcome with their pictures and the judge's verdicts, one story per prompt."""
    counts = [len(rounds) for rounds in outcome.rounds]
    codes = torch.stack([r.codes for rounds in outcome.rounds for r in rounds])
    pictures = torch.cat([model.decode(part) for part in codes.split(64)])
    metadatas = [parse_prompt(p) for p, count in zip(prompts, counts, strict=True) for _ in range(count)]
    right = iter([v.correct for v in judge(metadatas, pictures)])
    return [Story(p, own, tuple(rounds), tuple(next(right) for _ in rounds))
            for p, own, rounds in zip(prompts, pictures.split(counts), outcome.rounds, strict=True)]  # fmt: skip


def transcripts(
    told: Sequence[Story], tile: float = 1.3, across: int = 1, unasked: str | Sequence[str] = UNASKED
):
    """Each story's pictures from left to right, below each what the verifier said. Returns a matplotlib figure.

    The tick or cross on a picture is the judge's, which the verifier never sees. across: stories side by side.
    unasked: text below a picture that nobody was asked about, for all stories or one for each.
    """
    from matplotlib.figure import Figure

    columns = max(len(s.rounds) for s in told)
    unit = SIZE / tile  # drawing units in an inch
    side, gap, line = 1.14 * unit, 0.38 * unit, 0.16 * unit
    wide, rows = side + columns * (SIZE + gap), [told[i : i + across] for i in range(0, len(told), across)]
    after = [unasked] * len(told) if isinstance(unasked, str) else unasked
    texts = {
        id(s): [textwrap.fill(t, round(13 * (tile + 0.3))) for t in s.said(last)]
        for s, last in zip(told, after, strict=True)
    }
    feet = [line * (0.9 + max(t.count("\n") + 1 for s in row for t in texts[id(s)])) for row in rows]
    total_x, total_y = wide * min(across, len(told)), sum(SIZE + foot + 0.1 * unit for foot in feet)
    fig = Figure(figsize=(total_x / unit, total_y / unit))
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, total_x), ylim=(total_y, 0))
    ax.axis("off")
    top = 0.06 * unit
    for row, foot in zip(rows, feet, strict=True):
        for place, story in enumerate(row):
            left = place * wide
            name = textwrap.fill(story.prompt.removeprefix("a photo of "), 13)
            ax.text(left + 0.06 * unit, top + SIZE / 2, name, ha="left", va="center", fontsize=9)
            _pictures_in_a_row(ax, story, texts[id(story)], left + side, top, gap, line)
        top += SIZE + foot + 0.1 * unit
    return fig


def _pictures_in_a_row(ax, story: Story, texts: Sequence[str], x: float, y: float, gap: float, line: float):
    for k, (picture, text) in enumerate(zip(as_uint8(story.pictures), texts, strict=True)):
        left = x + k * (SIZE + gap)
        draw_tile(ax, picture, left, y)
        draw_mark(ax, story.right[k], left + 0.98 * SIZE, y + 0.98 * SIZE, 0.075 * SIZE)
        color = "#6B7178" if story.rounds[k].reflection is None else style.INK
        ax.text(left + SIZE / 2, y + SIZE + 0.5 * line, text, ha="center", va="top", fontsize=8.5, color=color,
                linespacing=1.15)  # fmt: skip
        if k:
            _arrow(ax, left - gap + 4, left - 4, y + SIZE / 2)


def _arrow(ax, start: float, end: float, y: float) -> None:
    look = dict(arrowstyle="-|>", color=style.INK, linewidth=1.4, shrinkA=0, shrinkB=0, mutation_scale=11)
    ax.annotate("", xy=(end, y), xytext=(start, y), arrowprops=look)


# --- what a round fixes and breaks


@dataclass(frozen=True)
class Tally:
    """One round over all prompts: pictures corrected in it, wrong ones made right, right ones made wrong."""

    corrected: int
    fixed: int
    broken: int


def rounds_of(told: Sequence[Story], rounds: int = 3) -> list[Tally]:
    """A tally for each round, from the judge's verdicts on the picture before and the picture after it."""
    tallies = []
    for k in range(rounds):
        pairs = [s.right[k : k + 2] for s in told if len(s.right) > k + 1]
        fixed, broken = (sum(pair == way for pair in pairs) for way in ((False, True), (True, False)))
        tallies.append(Tally(len(pairs), fixed, broken))
    return tallies


def after_round(told: Sequence[Story], k: int) -> list[tuple[str, list[int]]]:
    """Score table after k rounds: (task, [1 if the picture handed over then is right, else 0]) for each prompt."""
    return [(parse_prompt(s.prompt)["tag"], [int(s.right[min(k, len(s.right) - 1)])]) for s in told]


def fixed_broken_chart(tallies: dict[str, Sequence[Tally]]):
    """For each way of correcting a panel, for each round a bar up (fixed) and a bar down (broken). Returns a figure."""
    from matplotlib import pyplot as plt

    fig, axes = plt.subplots(1, len(tallies), layout="constrained", sharey=True, squeeze=False,
                             figsize=(max(1.75 * len(tallies), 4) + 0.6, 3.0))  # fmt: skip
    top = max(t.fixed for rounds in tallies.values() for t in rounds)
    low = max(t.broken for rounds in tallies.values() for t in rounds)
    for ax, (name, rounds) in zip(axes[0], tallies.items(), strict=True):
        x = np.arange(1, len(rounds) + 1)
        ax.bar(x, [t.fixed for t in rounds], 0.62, color=style.GREEN, label="fixed")
        ax.bar(x, [-t.broken for t in rounds], 0.62, color=style.VERMILLION, hatch="///", edgecolor="white",
               label="broken")  # fmt: skip
        for place, t in zip(x, rounds, strict=True):
            ax.text(place, t.fixed + 0.02 * top, f"+{t.fixed}", ha="center", va="bottom", fontsize=8.5)
            ax.text(
                place,
                -t.broken - 0.02 * top,
                f"-{t.broken}" if t.broken else "0",
                ha="center",
                va="top",
                fontsize=8.5,
            )
        ax.axhline(0, color=style.INK, linewidth=0.8, marker="")
        ax.set_title(textwrap.fill(name, 16), fontsize=9, loc="center")
        ax.set(xticks=x, xticklabels=[f"{k}\n({t.corrected})" for k, t in zip(x, rounds, strict=True)],
               ylim=(-max(low + 0.2 * top, 0.2 * top + 1), 1.18 * top + 1))  # fmt: skip
        ax.grid(axis="x", visible=False)
    axes[0, 0].set_ylabel("pictures")
    axes[0, 0].legend(fontsize=8, loc="upper right")
    fig.supxlabel("round (pictures corrected in it)", fontsize=9)
    return fig


# --- the local edit, step by step


def edit_anatomy(
    before: Tensor, reflection: Reflection, edit, orders: Sequence[str], after: Tensor, tile: float = 1.9
):
    """A refused picture as the verifier's eye sees it, the plan of the edit, and the result. Returns a matplotlib figure.

    before, after: [3, H, W]; reflection.seen: the things seen; edit: `correcting.Edit`; orders: one text per drawn thing.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    unit, gap, foot = SIZE / tile, 16, 26
    titles = ("1 what its eye sees", "2 what goes, what is ordered", "3 drawn")
    fig = Figure(figsize=((3 * SIZE + 4 * gap) / unit, (SIZE + foot + 14) / unit))
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 3 * SIZE + 4 * gap), ylim=(SIZE + foot, -14))
    ax.axis("off")
    lefts = [gap + k * (SIZE + gap) for k in range(3)]
    for left, title, picture in zip(lefts, titles, (before, before, after), strict=True):
        draw_tile(ax, as_uint8(picture)[0], left, 0)
        ax.text(left + SIZE / 2, -3, title, ha="center", va="bottom", fontsize=9, fontweight="bold")
        if left > gap:
            _arrow(ax, left - gap + 2, left - 2, SIZE / 2)

    def frame(left: float, thing: Thing, **look) -> None:
        ax.add_patch(Rectangle((left + thing.x, thing.y), CELL, CELL, zorder=3, linewidth=1.8, **look))

    for thing in reflection.seen:
        frame(lefts[0], thing, fill=False, edgecolor=style.BLUE)
        high = thing.y >= 8  # room for the label above the frame
        ax.text(lefts[0] + thing.x + 1, thing.y + (-1 if high else 1), f"{thing.color} {thing.cls}", fontsize=7,
                va="bottom" if high else "top", color="white", zorder=4,
                bbox=dict(facecolor=style.BLUE, edgecolor="none", pad=1))  # fmt: skip
    for thing in edit.gone:
        frame(lefts[1], thing, facecolor="white", edgecolor=style.VERMILLION, hatch="xx", linestyle="--")
    for number, thing in enumerate(edit.drawn, 1):
        frame(lefts[1], thing, facecolor=style.HIDDEN, edgecolor=style.GREEN)
        ax.text(lefts[1] + thing.x + CELL / 2, thing.y + CELL / 2, str(number), ha="center", va="center", fontsize=13,
                fontweight="bold", zorder=4)  # fmt: skip
    wish = [f'{number}: "{order}"' for number, order in enumerate(orders, 1)] or ["nothing, only erased"]
    for left, text in zip(lefts, (f'says: "{reflection.words}"', "\n".join(wish), ""), strict=True):
        text = "\n".join(textwrap.fill(part, 28) for part in text.split("\n"))
        ax.text(left + SIZE / 2, SIZE + 3, text, ha="center", va="top", fontsize=8, linespacing=1.2)
    return fig


# --- how the words come about, and how often they are right


@torch.no_grad()
def word_steps(
    verifier, prompt: str, image: Tensor, most: int = 4
) -> list[tuple[str, list[tuple[str, float]]]]:
    """The words said of a picture [3, H, W] one by one: (word, the `most` likeliest words with their probabilities)."""
    ids, valid = text_batch([prompt])
    view = verifier.views(image[None])
    asked = torch.tensor([QUESTIONS.index(REFLECT)])
    said, steps = [WORDS.index(BEGIN)], []
    while len(steps) < MAX_WORDS:
        states = verifier.read(asked, ids, valid, view, torch.tensor([said]))
        odds = verifier.speak(states[:, -1:])[0, 0].softmax(-1)
        p, words = odds.topk(most)
        steps.append((WORDS[int(odds.argmax())],
                      [(_plain(WORDS[w]), float(q)) for w, q in zip(words.tolist(), p.tolist(), strict=True)]))  # fmt: skip
        said.append(int(odds.argmax()))
        if WORDS[said[-1]] == END:
            break
    return [(_plain(word), likely) for word, likely in steps]


def _plain(word: str) -> str:
    return "(end)" if word == END else word.strip("<>")


def word_steps_chart(steps: Sequence[tuple[str, Sequence[tuple[str, float]]]]):
    """One column for each word that was said: the likeliest words and their probabilities. Returns a matplotlib figure."""
    from matplotlib import pyplot as plt

    fig, axes = plt.subplots(1, len(steps), layout="constrained", sharex=True, squeeze=False,
                             figsize=(max(1.45 * len(steps), 3.2), 2.0))  # fmt: skip
    for number, (ax, (word, likely)) in enumerate(zip(axes[0], steps, strict=True), 1):
        heights = np.arange(len(likely))[::-1]
        ax.barh(heights, [p for _, p in likely], 0.8, color=[style.BLUE] + [style.SKY] * (len(likely) - 1))
        for height, (other, p) in zip(heights, likely, strict=True):
            ax.text(0.03, height, f"{other}  {p:.2f}", va="center", fontsize=8.5,
                    color="white" if p > 0.75 else style.INK)  # fmt: skip
        ax.set(xlim=(0, 1), xticks=(0, 1), yticks=[])
        ax.set_title(f"{number}  {word}", fontsize=9.5)
        ax.grid(False)
    fig.supxlabel("probability of the next word", fontsize=9)
    return fig


KINDS = ("all faults named, no others", "at least one true fault named", "no true fault named", "accepted")
_LOOKS = ((style.GREEN, ""), (style.SKY, ""), (style.ORANGE, "//"), (style.VERMILLION, "xx"))


def kind_of(reflection: Reflection, faults: Sequence) -> str:
    """Which of `KINDS` a reflection on a wrong picture with these faults is; order and number of words play no part."""
    if reflection.accepted:
        return KINDS[3]
    said, true = set(reflection.faults), set(faults)
    return KINDS[0] if said == true else KINDS[1] if said & true else KINDS[2]


def words_chart(kinds: dict[str, Sequence[str]]):
    """For each task a bar: what was said of its wrong pictures, in shares of `KINDS`. Returns a matplotlib figure.

    kinds: the kind of every reflection on a wrong picture, by task; tasks without any are left out.
    """
    from matplotlib import pyplot as plt
    from matplotlib.patches import Patch

    rows = {task: list(kinds[task]) for task in reversed(TASKS) if kinds.get(task)}
    rows["all"] = [kind for row in rows.values() for kind in row]
    fig, ax = plt.subplots(layout="constrained", figsize=(7.2, 0.34 * len(rows) + 1.2))
    for height, row in enumerate(rows.values()):
        left = 0.0
        for kind, (color, hatch) in zip(KINDS, _LOOKS, strict=True):
            share = row.count(kind) / len(row)
            ax.barh(height, share, 0.75, left=left, color=color, hatch=hatch, edgecolor="white")
            if share >= 0.07:
                ax.text(left + share / 2, height, f"{share:.2f}", ha="center", va="center", fontsize=8,
                        bbox=dict(facecolor="white", edgecolor="none", alpha=0.75, pad=1))  # fmt: skip
            left += share
    names = [f"{task.replace('_', ' ')} ({len(row)})" for task, row in rows.items()]
    ax.set(yticks=range(len(rows)), yticklabels=names, xlim=(0, 1),
           xlabel="share of the wrong pictures (how many there are: in brackets)")  # fmt: skip
    ax.grid(axis="y", visible=False)
    handles = [Patch(facecolor=color, hatch=hatch, edgecolor="white", label=kind)
               for kind, (color, hatch) in zip(KINDS, _LOOKS, strict=True)]  # fmt: skip
    ax.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=2, fontsize=8.5)
    return fig


# --- the widget: be the reflector


def answer_to(words: str, prompt: str, codes: Tensor, seen: Sequence, model, correct: Callable, seed: int = 0
              ) -> tuple[Reflection, Tensor]:  # fmt: skip
    """(reflection, codes [N] of the correction): what a learner's own words do to a picture with these codes [N].

    seen: the detections of the verifier's eye; correct: a `Correct`, for example `load("correction", ...)`. An accepted
    picture stays as it is.
    """
    from cotlib.search import Ledger
    from cotlib.verifying import understand

    reflection = understand(words.lower().split(), parse_prompt(prompt), seen)
    if reflection.accepted:
        return reflection, codes
    new = correct(
        model, [prompt], codes[None], [reflection], seed, 1, ledger=Ledger(), steps=None, guidance=None
    )
    return reflection, new[0]


def reflector(model, prompts: Sequence[str], codes: Tensor, seen: Sequence[Sequence], first: Sequence[str],
              correct: Callable, judge: Judge):  # fmt: skip
    """Say a reflection yourself and see what the correction makes of it. Returns the widget.

    prompts; codes: long [B, N], the pictures; seen: what the verifier's eye saw in each; first: the verifier's own words.
    """
    import ipywidgets as w

    which = w.Dropdown(options=[(p, i) for i, p in enumerate(prompts)], description="picture",
                       layout={"width": "420px"})  # fmt: skip
    words, again = w.Text(description="you say"), w.Button(description="Correct it")
    before, after, note = picture_widget(), picture_widget(), w.HTML()

    def picture(own: Tensor) -> tuple[bytes, bool]:
        image = model.decode(own[None])
        enlarged = as_uint8(image)[0].repeat(3, 0).repeat(3, 1)
        return png_bytes(enlarged), judge([parse_prompt(prompts[which.value])], image)[0].correct

    def chosen(_=None) -> None:
        words.value = first[which.value]
        before.value, right = picture(codes[which.value])
        after.value = before.value
        note.value = (
            f"The judge says: {'right' if right else 'wrong'}. Change the words, then press the button."
        )

    def said(_=None) -> None:
        i = which.value
        reflection, new = answer_to(words.value, prompts[i], codes[i], seen[i], model, correct)
        after.value, right = picture(new)
        parts = [f"{len(reflection.faults)} fault(s) understood", *reflection.flags]
        verdict = f"The judge says of the new picture: {'right' if right else 'wrong'}."
        note.value = "<br>".join(["Accepted: nothing is changed." if reflection.accepted else "; ".join(parts), verdict])  # fmt: skip

    which.observe(chosen, names="value")
    again.on_click(said)
    chosen()
    top = w.HBox([which, words, again], layout={"flex_flow": "row wrap"})
    return w.VBox([top, w.HBox([before, after]), note])
