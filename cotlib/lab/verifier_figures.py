"""Figures of choosing by a verifier: calibration, score against N or against cost, and what a verifier is made of.

answers = {"zero-shot": (p_yes, right), "fine-tuned": (p_yes, right)}
show(reliability_figure(answers), alt="...")

curves = {"ORM": best_of_curve(tasks, scores, right), "log-probability": best_of_curve(tasks, log_p, right)}
show(best_of_n_figure(curves, bound=best_of_curve(tasks, right, right)), alt="...")

show(verifier_diagram(verifier, image, [prompt, another]), alt="...")
choice_explorer(prompts, images, {"ORM": scores}, right)        # a widget: who hands over which candidate?

`best_of` wastes no picture: with 20 candidates drawn, the score at N = 5 is the mean over all ways to take five of the
twenty, as coverage is in `cotlib.judging.stats`. Coverage is the special case in which the truth itself is the score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import comb

import numpy as np
import torch
from torch import Tensor

from cotlib.interfaces import FINAL
from cotlib.judging.stats import LEVELS, bootstrap_interval, wilson
from cotlib.lab import style
from cotlib.lab.figures import as_uint8, draw_tile
from cotlib.lab.widgets import picture_widget, png_bytes
from cotlib.models.eye import GRID
from cotlib.models.verifier import QUESTIONS, text_batch
from cotlib.verifying.calibration import BINS, calibration_error, reliability
from cotlib.world.render import PALETTE
from cotlib.world.scenes import COLORS, PITCH

Curve = Sequence[tuple[float, float, float, float]]  # (x, mean, low, high) at each point

# ----- numbers -----------------------------------------------------------------------------------------------------


def best_of(scores, values, k: int) -> np.ndarray:
    """Mean value of the chosen picture when k of the N candidates are drawn and the highest score wins, [P].

    scores, values: [P, N], one row a prompt, columns in the order of path numbers. Of equal scores the lowest path
    number wins. values: the truth as 0 or 1 for the score, P(yes) for what the verifier believes of its choice.

    Sorted best first, the candidate at place j (from 0) wins if it is among the k and none of the j before it is:
    C(N-1-j, k-1) of C(N, k) ways. Raises ValueError unless 1 <= k <= N and both arrays have the same shape.
    """
    scores, values = np.asarray(scores, float), np.asarray(values, float)
    if scores.ndim != 2 or scores.shape != values.shape or not 1 <= k <= scores.shape[1]:
        raise ValueError(
            f"scores {scores.shape}, values {values.shape}, k {k}; expected the same [P, N] twice and 1 <= k <= N"
        )
    n = scores.shape[1]
    weights = np.array([comb(n - 1 - j, k - 1) / comb(n, k) for j in range(n)])
    order = np.argsort(-scores, axis=1, kind="stable")  # stable: ties stay in the order of path numbers
    return np.take_along_axis(values, order, axis=1) @ weights


def best_of_curve(tasks: Sequence[str], scores, values, ks: Sequence[int] | None = None) -> list[tuple]:
    """[(k, mean, low, high)] of `best_of` for each k (default 1..N): mean of the task means, 95 % over prompts.

    tasks: the task of each of the P prompts. With `values` as `scores` it is the coverage bound.
    """
    ks = range(1, np.shape(scores)[1] + 1) if ks is None else ks
    return [(k, *bootstrap_interval([(t, [v]) for t, v in zip(tasks, best_of(scores, values, k), strict=True)]))
            for k in ks]  # fmt: skip


def interval_over(
    measure: Callable, groups: Sequence, *columns: Sequence, repeats: int = 300, seed: int = 0
) -> tuple:
    """(value, low, high): `measure(*columns, groups)` on all answers, and its 95 % interval over groups.

    For measures that are no mean over prompts, such as balanced accuracy or ranking. Each repeat draws whole groups
    (prompts) with replacement; a group that is drawn twice becomes two. groups: the prompt of each answer.
    Repeats in which the measure is NaN are left out.
    """
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    columns = [np.asarray(column) for column in columns]
    members = [np.flatnonzero(group == g) for g in range(group.max() + 1)]
    rng, values = np.random.default_rng(seed), []
    for _ in range(repeats):
        picks = [members[g] for g in rng.integers(len(members), size=len(members))]
        rows, names = np.concatenate(picks), np.repeat(np.arange(len(picks)), [len(p) for p in picks])
        values.append(measure(*(column[rows] for column in columns), names))
    low, high = np.nanpercentile(values, LEVELS)
    return float(measure(*columns, group)), float(low), float(high)


# ----- figures -----------------------------------------------------------------------------------------------------


def reliability_figure(answers: Mapping[str, tuple[Sequence[float], Sequence[bool]]],
                       looks: Sequence[int] | None = None):  # fmt: skip
    """Share of right pictures against P(yes), one panel per entry; below, how many answers. A matplotlib figure.

    answers   {title: (P(yes) [M], truth [M])}. Bars are Wilson's 95 % intervals; they take the answers as independent,
              so with several pictures of one prompt they are somewhat too short. Titles get the calibration error.
    looks     number of the colour and marker of each panel; by default 0, 1, 2, ...
    """
    from matplotlib import pyplot as plt

    fig, axes = plt.subplots(2, len(answers), layout="constrained", figsize=(3.1 * len(answers) + 0.3, 3.9),
                             sharex=True, sharey="row", squeeze=False, height_ratios=(3, 1))  # fmt: skip
    for column, (title, (p, truth)) in enumerate(answers.items()):
        top, bottom = axes[:, column]
        look = (column if looks is None else looks[column]) % len(style.CYCLE)
        color, marker = style.CYCLE[look], style.MARKERS[look]
        top.plot([0, 1], [0, 1], color=style.BLACK, linestyle=":", linewidth=1.2, marker="")
        points = reliability(p, truth)
        for mean, share, count in points:
            low, high = wilson(round(share * count), count)
            top.plot([mean, mean], [low, high], color=color, linewidth=4, alpha=0.3, marker="")
        top.plot([m for m, _, _ in points], [s for _, s, _ in points], color=color, marker=marker)
        top.set(ylim=(-0.03, 1.03), xlim=(-0.02, 1.02), xticks=np.linspace(0, 1, 5))
        top.set_title(
            f"{title}\ncalibration error {calibration_error(p, truth):.2f}", fontsize=9.5, loc="left"
        )
        bottom.hist(p, bins=np.linspace(0, 1, BINS + 1), color=color, edgecolor="white")
        bottom.set(xlabel="P(yes)")
    axes[0, 0].set_ylabel("share that is right")
    axes[1, 0].set_ylabel("answers")
    return fig


def best_of_n_figure(curves: Mapping[str, Curve], *, bound: Curve | None = None,
                     single: tuple[float, float, float] | None = None, believed: Mapping[str, Curve] | None = None,
                     xlabel: str = "candidates N", log: bool = False):  # fmt: skip
    """Score against N, or against any other cost. Returns a matplotlib figure.

    curves    {name: [(x, mean, low, high), ...]}, as from `best_of_curve`; one point draws a marker with its interval
    bound     the coverage bound in the same form, drawn grey: the judge picks
    single    (mean, low, high) of one picture without choice, a dashed line
    believed  {name of a curve: the same curve with P(yes) as value}: a second panel shows what the verifier believes
              of its choice (hollow, dashed) beside what is true (filled)
    log       x axis in powers, for costs
    """
    from matplotlib import pyplot as plt
    from matplotlib.ticker import MaxNLocator

    panels = 2 if believed else 1
    fig, axes = plt.subplots(1, panels, layout="constrained", figsize=(6.6 if panels == 1 else 9.2, 4.1),
                             squeeze=False, sharey=True)  # fmt: skip
    ax = axes[0, 0]
    if bound is not None:
        _line(ax, bound, "#8A9099", "", "coverage: the judge picks", linestyle="-.")
    looks = {name: (style.CYCLE[i % len(style.CYCLE)], style.MARKERS[i % len(style.MARKERS)])
             for i, name in enumerate(curves)}  # fmt: skip
    for name, curve in curves.items():
        _line(ax, curve, *looks[name], name)
    if single is not None:
        ax.axhline(
            single[0], color=style.BLACK, linestyle="--", linewidth=1.2, label="one picture, no choice"
        )
    ax.set(xlabel=xlabel, ylabel="share of prompts that are right")
    for name, curve in (believed or {}).items():
        color, marker = looks[name]
        _line(axes[0, 1], curves[name], color, marker, f"{name}: true", band=False)
        _line(
            axes[0, 1],
            curve,
            color,
            marker,
            f"{name}: believed",
            band=False,
            linestyle="--",
            fillstyle="none",
        )
    if believed:
        ax.set_title("What is true of the choice")
        axes[0, 1].set(xlabel=xlabel, title="What the verifier believes of it")
    for panel in axes[0]:
        left, right = panel.get_xlim()
        if log and 0 < 3 * left < right:
            panel.set_xscale("log")
        elif log:
            panel.set_xlim(0, 1.1 * right)  # too narrow a range for decades
        else:
            panel.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), fontsize=8.5, ncols=2)
    return fig


def by_task_figure(values: Mapping[tuple[str, str], tuple[float, float, float]], label: str, *, low: float = -0.02,
                   chance: float | None = None, looks: Sequence[int] | None = None):  # fmt: skip
    """One point with its interval for each of {(name, task): (mean, low, high)}, tasks side by side, names by color and marker.

    low: where the axis begins; chance: drawn as a dotted line; looks: as in `reliability_figure`, for each name.
    """
    names, tasks = (list(dict.fromkeys(key[i] for key in values)) for i in (0, 1))
    from matplotlib import pyplot as plt

    fig, ax = plt.subplots(layout="constrained", figsize=(7.6, 3.3))
    places = (np.arange(len(names)) - (len(names) - 1) / 2) * min(0.24, 0.64 / len(names))
    for number, (name, shift) in enumerate(zip(names, places, strict=True)):
        look = number if looks is None else looks[number]
        color, marker = style.CYCLE[look], style.MARKERS[look]
        ends = np.array([values[name, task] for task in tasks])
        x = np.arange(len(tasks)) + shift
        ax.vlines(x, ends[:, 1], ends[:, 2], color=color, linewidth=5, alpha=0.3)
        ax.plot(x, ends[:, 0], color=color, marker=marker, linestyle="", markersize=8, label=name)
    if chance is not None:
        ax.axhline(chance, color="C6", linestyle=":", linewidth=1, marker="")
    ax.set(
        xticks=range(len(tasks)),
        xticklabels=[task.replace("_", "\n") for task in tasks],
        ylim=(low, 1.04),
        ylabel=label,
    )
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=len(names), fontsize=8.5)
    return fig


def _line(ax, curve: Curve, color: str, marker: str, label: str, band: bool = True, **look) -> None:
    """One curve with its interval as a band, or as a bar where it has one point."""
    x, mean, low, high = np.array(curve, float).T
    if band and len(x) > 1:
        ax.fill_between(x, low, high, color=color, alpha=0.14, linewidth=0)
    elif band:
        ax.plot([x[0], x[0]], [low[0], high[0]], color=color, linewidth=4, alpha=0.3, marker="")
    ax.plot(x, mean, color=color, marker=marker, label=label, markersize=4.5, **look)


# ----- inside the verifier -----------------------------------------------------------------------------------------


@torch.no_grad()
def word_doubts(
    verifier, prompts: Sequence[str], image: Tensor
) -> list[tuple[list[str], list[float], float]]:
    """For each prompt about one picture [3, 64, 64]: (its words, P(this word is wrong) of each, margin of FINAL)."""
    ids, valid = text_batch(list(prompts), verifier.device)
    asked = torch.full((len(prompts),), QUESTIONS.index(FINAL), device=verifier.device)
    view = verifier.views(image[None]).select(torch.zeros(len(prompts), dtype=torch.long))
    margins, wrong = verifier.answer(verifier.read(asked, ids, valid, view), asked, valid)
    rows = zip(prompts, wrong.sigmoid().tolist(), margins.tolist(), strict=True)
    return [(p.split(), doubts[1 : 1 + len(p.split())], margin) for p, doubts, margin in rows]


def verifier_diagram(verifier, image: Tensor, prompts: Sequence[str]):
    """Picture, what the eye makes of it, and per prompt the words with their doubts and P(yes). A matplotlib figure.

    image  [3, 64, 64] in 0..1;  prompts  one to three texts about it. All numbers come from the verifier itself.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    doubts_of = word_doubts(verifier, prompts, image)
    foot = max(80 + 19 * max(len(words) for words, _, _ in doubts_of) + 18, 230)  # where P(yes) stands
    fig = Figure(figsize=(9.4, (foot + 50) / 100))
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 940), ylim=(foot + 50, 0))
    ax.axis("off")
    head = dict(ha="center", va="bottom", fontweight="bold", fontsize=9)
    note = dict(ha="center", va="top", fontsize=8.5, linespacing=1.3)
    draw_tile(ax, as_uint8(image)[0].repeat(2, 0).repeat(2, 1), 20, 90)
    ax.text(84, 80, "PICTURE", **head)
    ax.text(84, 228, "64 x 64 pixels", **note)
    _arrow(ax, (156, 154), (226, 154))
    ax.text(190, 144, "EYE", **head)
    ax.text(190, 164, "convolutional\nnetwork", **note)
    _draw_sight(ax, verifier, image, 234, 90, 16)
    ax.text(298, 80, "64 WORD VECTORS", **head)
    ax.text(298, 228, "class + colour + place of each cell,\nin the vectors of the words", **note)
    _arrow(ax, (374, 154), (468, 154))
    ax.text(420, 144, "TEXT READS", **head)
    ax.text(420, 164, "3 layers of\nattention", **note)
    wide = (938 - 476) / len(prompts)
    for column, (words, doubts, margin) in enumerate(doubts_of):
        left, room = 476 + column * wide, wide - 14
        ax.add_patch(Rectangle((left, 30), room, foot - 4, fill=False, edgecolor=style.FAINT, linewidth=1))
        ax.text(left + 70, 56, "word", ha="right", va="center", fontsize=8.5, fontweight="bold")
        ax.text(left + 80, 56, "is it wrong?", ha="left", va="center", fontsize=8.5, fontweight="bold")
        for line, (word, doubt) in enumerate(zip(words, doubts, strict=True)):
            y = 80 + 19 * line
            color = style.VERMILLION if doubt > 0.5 else style.SKY
            ax.add_patch(Rectangle((left + 80, y - 6), (room - 120) * doubt, 12, color=color))
            ax.text(left + 70, y, word, ha="right", va="center", fontsize=9)
            ax.text(left + 84 + (room - 120) * doubt, y, f"{doubt:.2f}", ha="left", va="center", fontsize=8)
        p = 1 / (1 + np.exp(-margin))
        ax.text(left + room / 2, foot, f"margin {margin:+.1f}   P(yes) {p:.2f}", ha="center", va="center", fontsize=9.5,
                fontweight="bold")  # fmt: skip
    return fig


def _arrow(ax, start: tuple[float, float], end: tuple[float, float]) -> None:
    how = dict(arrowstyle="-|>", color=style.INK, linewidth=1.8, shrinkA=0, shrinkB=0, mutation_scale=14)
    ax.annotate("", xy=end, xytext=start, arrowprops=how)


def _draw_sight(ax, verifier, image: Tensor, left: float, top: float, side: float) -> None:
    """The 64 cells: filled with the colour seen, the surer the fuller; the class is named at the centre of each thing."""
    from matplotlib.patches import Rectangle

    classes, colors = verifier.grid(image[None])
    there = 1 - classes[0].softmax(-1)[:, 0]
    shade = colors[0, :, 1:].argmax(-1)
    for cell in range(GRID * GRID):
        y, x = divmod(cell, GRID)
        fill = (*(v / 255 for v in PALETTE[COLORS[shade[cell]]]), float(there[cell]))
        ax.add_patch(Rectangle((left + x * side, top + y * side), side, side, facecolor=fill, edgecolor=style.FAINT,
                               linewidth=0.6))  # fmt: skip
    for seen in verifier.see(image[None])[0]:
        x, y = (
            left + side / PITCH * (seen.box[0] + seen.box[2]) / 2,
            top + side / PITCH * (seen.box[1] + seen.box[3]) / 2,
        )
        ax.text(x, y, seen.cls, ha="center", va="center", fontsize=8, zorder=5,
                bbox=dict(facecolor="white", alpha=0.8, edgecolor="none", pad=1))  # fmt: skip


# ----- who chooses what --------------------------------------------------------------------------------------------


def choice_explorer(
    prompts: Sequence[str], images: Tensor, scores: Mapping[str, np.ndarray], right: np.ndarray
):
    """Pick a prompt and a number of candidates; see whom each chooser hands over. Returns the widget.

    images  [P, N, 3, 64, 64] in 0..1;  scores  {chooser: [P, N]};  right  bool [P, N]
    """
    import ipywidgets as w

    n = images.shape[1]
    menu = w.Dropdown(options=[(text, i) for i, text in enumerate(prompts)], description="prompt",
                      layout={"width": "480px"})  # fmt: skip
    slider = w.IntSlider(value=n, min=1, max=n, description="candidates")
    picture, words = picture_widget(), w.HTML()

    def moved(_=None) -> None:
        row, k = menu.value, slider.value
        picks = picks_of(scores, row, k)
        picture.value = png_bytes(choice_frame(images[row], k, list(picks.values())))
        words.value = choice_words(scores, row, k, right)

    menu.observe(moved, names="value")
    slider.observe(moved, names="value")
    moved()
    return w.VBox([menu, slider, picture, words])


def picks_of(scores: Mapping[str, np.ndarray], row: int, k: int) -> dict[str, int]:
    """The path that each chooser takes among the first k of a prompt; of equal scores the lowest number."""
    return {name: int(np.argmax(np.asarray(table)[row][:k])) for name, table in scores.items()}


def choice_frame(images: Tensor, k: int, picks: Sequence[int], columns: int = 10) -> np.ndarray:
    """uint8 [H, W, 3]: the candidates [N, 3, 64, 64] in rows of ten, those beyond the first k pale, a frame and the
    chooser's number (1, 2, ...) for each pick."""
    from PIL import Image, ImageDraw

    pictures = as_uint8(images)
    gap, side = 14, pictures.shape[1]
    rows = -(-len(pictures) // columns)
    canvas = Image.new("RGB", (columns * (side + gap) + gap, rows * (side + gap) + gap), "white")
    pen = ImageDraw.Draw(canvas)
    for index, tile in enumerate(pictures):
        x, y = gap + index % columns * (side + gap), gap + index // columns * (side + gap)
        if index >= k:
            tile = (255 - (255 - tile.astype(int)) // 5).astype(np.uint8)
        canvas.paste(Image.fromarray(tile), (x, y))
        pen.rectangle((x - 1, y - 1, x + side, y + side), outline=style.FAINT)
        for number in [i for i, pick in enumerate(picks) if pick == index]:
            far = 2 + 2 * number
            pen.rectangle(
                (x - far, y - far, x + side + far - 1, y + side + far - 1),
                outline=style.CYCLE[number],
                width=2,
            )
            pen.text((x + 2 + 9 * number, y + 1), str(number + 1), fill=style.CYCLE[number])
    return np.asarray(canvas)


def choice_words(scores: Mapping[str, np.ndarray], row: int, k: int, right: np.ndarray) -> str:
    """One line for each chooser: its number in the picture, the path it takes, its score, and the verdict."""
    lines = []
    for number, (name, path) in enumerate(picks_of(scores, row, k).items()):
        verdict = "right" if right[row][path] else "wrong"
        badge = (
            f"color:white;background:{style.CYCLE[number]};padding:0 .4em"  # on light and dark pages alike
        )
        lines.append(f"<b style='{badge}'>{number + 1} {name}</b> path {path}, score "
                     f"{float(np.asarray(scores[name])[row][path]):.3f}, {verdict}")  # fmt: skip
    there = int(np.sum(right[row][:k]))
    return "<br>".join([*lines, f"right among the first {k}: {there}"])
