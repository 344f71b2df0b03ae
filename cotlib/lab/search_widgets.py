"""Two things to play with: look into the tree of paths of a search; be the verifier yourself.

    tree_explorer(explored)          explored: one `Explored` for each prompt
    be_the_verifier(contest)         contest: a `Contest`; afterwards print(contest.report())

Plain ipywidgets that behave the same in versions 7.7 (Colab) and 8. What they show comes from pure functions and from
`Contest`, which the tests call. In print use `path_tree_figure` and `contest_figure`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

from cotlib.lab import style
from cotlib.lab.figures import as_uint8, compact_png, draw_mark, draw_tile
from cotlib.lab.search_figures import LOOKS, path_tree_figure
from cotlib.lab.token_figures import as_rgb
from cotlib.lab.widgets import picture_widget, png_bytes

ZOOM, GAP = 2, 8  # shown pixels for each pixel of a picture; pixels between pictures
DROPPED = "all dropped paths"
YOU = ("you", style.VERMILLION, "P", True)


# ----- the tree of paths -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Explored:
    """One prompt's search: `entries` from `cotlib.search.tree`; guesses uint8 [n,S,H,W,3], all paths drawn to their
    ends, the stopped ones too; right [n], the judge's verdict on each at its end."""

    prompt: str
    entries: Sequence[Mapping]
    guesses: np.ndarray
    right: Sequence[bool]


def tree_explorer(explored: Sequence[Explored]):
    """Dropdowns of prompts and paths; the tree, and below it the path's guesses or the dropped pictures. Returns the widget."""
    import ipywidgets as w

    which = w.Dropdown(options=[(one.prompt, i) for i, one in enumerate(explored)], value=0, description="prompt",
                       layout={"width": "420px"})  # fmt: skip
    path = w.Dropdown(options=path_options(explored[0]), value=-1, description="path")
    tree, strip, words = picture_widget(), picture_widget(), w.HTML()

    def redraw(_=None) -> None:
        one = explored[which.value]
        lifted = None if path.value < 0 else path.value
        figure = path_tree_figure(one.entries, one.guesses.shape[1], right=one.right, path=lifted)
        tree.value, shown_width = compact_png(figure)
        tree.width = str(shown_width)
        nothing = lifted is None and all(entry["stopped"] is None for entry in one.entries)
        strip.layout.display = "none" if nothing else None
        strip.value = png_bytes(dropped_frame(one) if lifted is None else path_frame(one, lifted))
        words.value = escape(tree_words(one) if lifted is None else path_words(one, lifted))

    which.observe(redraw, names="value")
    path.observe(redraw, names="value")
    redraw()
    return w.VBox([w.HBox([which, path], layout={"flex_flow": "row wrap"}), tree, words, strip])


def path_options(one: Explored) -> list[tuple[str, int]]:
    """What the second dropdown offers; -1 stands for all dropped paths."""
    return [(DROPPED, -1)] + [(f"path {entry['path'] + 1}", i) for i, entry in enumerate(one.entries)]


def path_frame(one: Explored, path: int) -> np.ndarray:
    """uint8 [H,W,3]: the path's guesses in a row; those after its stop, which were never drawn, are pale."""
    stop = one.entries[path]["stopped"]
    pictures = [_pale(p) if stop is not None and s > stop else p for s, p in enumerate(one.guesses[path])]
    return _rows([pictures])


def dropped_frame(one: Explored, columns: int = 8) -> np.ndarray:
    """uint8 [H,W,3]: every stopped path's picture at the step it stopped at; one white picture if there is none."""
    stops = [(i, entry["stopped"]) for i, entry in enumerate(one.entries) if entry["stopped"] is not None]
    pictures = [one.guesses[i][s] for i, s in stops] or [np.full_like(one.guesses[0, 0], 255)]
    return _rows([pictures[i : i + columns] for i in range(0, len(pictures), columns)])


def path_words(one: Explored, path: int) -> str:
    """The path's story in a sentence or two. Steps count from 1, as in the figure."""
    entry, ending = one.entries[path], "right" if one.right[path] else "wrong"
    if not entry["potential"]:
        told = (
            f"Path {entry['path'] + 1} was never clear, so nobody asked for its potential. It ends {ending}."
        )
    else:
        [(step, odds)] = entry["potential"].items()
        told = f"Path {entry['path'] + 1} is clear at step {step + 1}, with potential {odds:.2f}"
        if entry["stopped"] is None:
            told += f": it goes on and ends {ending}."
        else:
            told += f": stopped. The pale pictures were never drawn; they would have ended {ending}."
    final = f" FINAL gives {entry['final']:.2f}." if entry["final"] is not None else ""
    return told + final + (" It is the one handed over." if entry["chosen"] else "")


def tree_words(one: Explored) -> str:
    """How many paths were dropped, and how many of these rightly."""
    dropped = [i for i, entry in enumerate(one.entries) if entry["stopped"] is not None]
    good = sum(bool(one.right[i]) for i in dropped)
    if not dropped:
        return "No path was dropped."
    return (f"{len(dropped)} of {len(one.entries)} paths were dropped, at these pictures. Drawn to their ends, "
            f"{good} of them would have been right.")  # fmt: skip


# ----- be the verifier yourself --------------------------------------------------------------------------------------


@dataclass
class Contest:
    """You against learned verifiers on the same candidates.

    prompts: P texts; pictures: uint8 [P,n,H,W,3]; right: bool [P,n], the judge's verdicts; choices: {name of a
    verifier: its pick for each prompt, 0..n-1}. picks: yours, filled in by `pick`.
    """

    prompts: Sequence[str]
    pictures: np.ndarray
    right: np.ndarray
    choices: Mapping[str, Sequence[int]]
    picks: dict[int, int] = field(default_factory=dict)

    @property
    def candidates(self) -> int:
        """Pictures to choose from, for each prompt."""
        return self.pictures.shape[1]

    @property
    def next(self) -> int | None:
        """The first prompt without a pick of yours; None when all have one."""
        return next((i for i in range(len(self.prompts)) if i not in self.picks), None)

    def pick(self, prompt: int, picture: int) -> None:
        """Keeps your choice; the first one for a prompt counts. ValueError for a picture or prompt that is not there."""
        if not 0 <= prompt < len(self.prompts) or not 0 <= picture < self.candidates:
            raise ValueError(f"picture {picture} of prompt {prompt}; expected 0 to {self.candidates - 1} "
                             f"of 0 to {len(self.prompts) - 1}")  # fmt: skip
        self.picks.setdefault(prompt, picture)

    def scores(self) -> dict[str, float]:
        """Right picks of everybody over the prompts you answered (all of them if you answered none), and what picking
        blindly would give on average."""
        asked = sorted(self.picks) or list(range(len(self.prompts)))
        hits = {
            name: float(sum(self.right[i][picks[i]] for i in asked)) for name, picks in self.choices.items()
        }
        if self.picks:
            hits = {"you": float(sum(self.right[i][self.picks[i]] for i in asked))} | hits
        return hits | {"blind choice": float(sum(np.mean(self.right[i]) for i in asked))}

    def report(self) -> str:
        """The result in plain text; "not attempted" as long as you picked nothing."""
        asked = len(self.picks) or len(self.prompts)
        begin = f"You answered {len(self.picks)} of {len(self.prompts)} prompts." if self.picks else (
            "Not attempted: nobody picked. The verifiers did:")  # fmt: skip
        lines = [f"{name:14} {hits:4.1f} of {asked} right" for name, hits in self.scores().items()]
        return "\n".join([begin, *lines])


def be_the_verifier(contest: Contest):
    """The widget: a prompt, its candidates, one button for each; your result at the end. Returns the widget."""
    import ipywidgets as w

    text, picture = w.HTML(), picture_widget()
    width = f"{contest.pictures.shape[3] * ZOOM + GAP - 4}px"
    buttons = [w.Button(description=f"this one ({k + 1})", layout={"width": width, "margin": "2px"})
               for k in range(contest.candidates)]  # fmt: skip

    def redraw() -> None:
        at = contest.next
        if at is None:
            text.value = f"<pre>{escape(contest.report())}</pre>"
            for button in buttons:
                button.disabled = True
            return
        text.value = f"{at + 1} of {len(contest.prompts)}: <b>{escape(contest.prompts[at])}</b>. Which picture does it?"
        picture.value = png_bytes(_rows([list(contest.pictures[at])]))

    def chosen(k: int) -> None:
        contest.pick(contest.next, k)
        redraw()

    for k, button in enumerate(buttons):
        button.on_click(lambda _, k=k: chosen(k))
    redraw()
    return w.VBox([text, picture, w.HBox(buttons)])


def contest_figure(contest: Contest, tile: float = 0.72):
    """All candidates of a contest, two prompts a row, with the judge's marks and everybody's picks. A matplotlib figure."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    prompts, count = contest.prompts, contest.candidates
    height, width = contest.pictures.shape[2:4]
    gap, head, foot = 0.08 * width, 0.4 * width, 0.24 * width
    block = count * (width + gap) + 0.35 * width
    rows = -(-len(prompts) // 2)
    total_x, total_y = 2 * block, rows * (head + height + foot) + 0.4 * width
    fig = Figure(figsize=(total_x * tile / width, total_y * tile / width))
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, total_x), ylim=(total_y, 0))
    ax.axis("off")
    pickers = [(LOOKS.get(name, (name, *YOU[1:])), picks) for name, picks in contest.choices.items()]
    if contest.picks:
        pickers.append((YOU, [contest.picks.get(i) for i in range(len(prompts))]))
    for i, prompt in enumerate(prompts):
        left, top = i % 2 * block + gap, i // 2 * (head + height + foot) + head
        ax.text(
            left, top - 0.06 * width, prompt.removeprefix("a photo of "), ha="left", va="bottom", fontsize=8.5
        )
        for k in range(count):
            x = left + k * (width + gap)
            draw_tile(ax, contest.pictures[i, k], x, top)
            draw_mark(ax, bool(contest.right[i][k]), x + 0.97 * width, top + 0.97 * height, 0.11 * width)
        for place, ((_, color, marker, filled), picks) in enumerate(pickers):
            if picks[i] is not None:
                x = left + picks[i] * (width + gap) + (0.5 + 0.26 * (place - (len(pickers) - 1) / 2)) * width
                ax.plot(x, top + height + 0.12 * width, marker=marker, color=color, markersize=6.5,
                        markerfacecolor=color if filled else "white")  # fmt: skip
    handles = [Line2D([], [], linestyle="", marker=m, color=c, markerfacecolor=c if filled else "white", label=name)
               for (name, c, m, filled), _ in pickers]  # fmt: skip
    ax.legend(handles=handles, loc="lower center", ncols=len(handles), fontsize=8.5, frameon=False,
              bbox_to_anchor=(0.5, 0.0), borderaxespad=0.0)  # fmt: skip
    return fig


# ----- pixels --------------------------------------------------------------------------------------------------------


def _pale(picture: np.ndarray) -> np.ndarray:
    return (0.3 * picture + 0.7 * np.array(as_rgb(style.HIDDEN))).astype(np.uint8)


def _rows(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Rows of pictures [H,W,3], enlarged, framed, as one picture on white."""
    lines = []
    for row in rows:
        tiles = []
        for picture in row:
            big = as_uint8(picture)[0].repeat(ZOOM, 0).repeat(ZOOM, 1)
            big[[0, -1]] = big[:, [0, -1]] = as_rgb(style.FAINT)
            tiles.append(np.pad(big, ((0, GAP), (0, GAP), (0, 0)), constant_values=255))
        lines.append(np.concatenate(tiles, axis=1))
    wide = max(line.shape[1] for line in lines)
    return np.concatenate(
        [np.pad(line, ((0, 0), (0, wide - line.shape[1]), (0, 0)), constant_values=255) for line in lines]
    )
