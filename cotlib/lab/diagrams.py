"""Schematic figures of the course: what is a network, what is a search, what only measures.

show(idea_diagram(prompt, images, right, chosen), alt="...")
"""

from __future__ import annotations

from collections.abc import Sequence

from cotlib.lab import style
from cotlib.lab.figures import as_uint8, draw_mark, draw_tile

PICTURE = 64  # side of a candidate in the drawing, in its own units


def idea_diagram(prompt: str, images, right: Sequence[bool], chosen: int):
    """Prompt, generator, candidates, verifier, one picture; below them the judge. Returns a matplotlib figure.

    images  [6,3,64,64] in 0..1: six candidates to stand for all;  right  the judge's verdict on each
    chosen  index of the candidate that is handed over
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch

    pictures = as_uint8(images)
    fig = Figure(figsize=(9.2, 3.9))
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 920), ylim=(390, 0))
    ax.axis("off")

    def box(x, y, w, h, text, color, dashed=False, fill="white", **more):
        look = dict(boxstyle="round,pad=0,rounding_size=10", edgecolor=color, facecolor=fill, linewidth=2.2)
        ax.add_patch(FancyBboxPatch((x, y), w, h, linestyle="--" if dashed else "-", zorder=1, **look))
        ax.text(x + w / 2, y + h / 2, text, ha="center", va="center", zorder=4, linespacing=1.35, **more)

    def arrow(start, end, color=style.INK, bend=0.0, dashed=False):
        how = dict(arrowstyle="-|>", color=color, linewidth=1.8, shrinkA=0, shrinkB=0, mutation_scale=14,
                   connectionstyle=f"arc3,rad={bend}", linestyle="--" if dashed else "-")  # fmt: skip
        ax.annotate("", xy=end, xytext=start, arrowprops=how, zorder=3)

    box(330, 36, 458, 212, "", style.ORANGE, dashed=True, fill="#FFF8EA")
    ax.text(559, 24, "SEARCH: plain code. How many, when to look, which to keep", ha="center",
            va="center", color="#8A5A00", fontweight="bold", fontsize=9)  # fmt: skip
    box(14, 116, 128, 66, "\n".join(_halves(prompt)), "#8A9099", fontsize=9, style="italic")
    ax.text(78, 104, "PROMPT", ha="center", fontweight="bold", fontsize=9)
    box(180, 104, 122, 90, "GENERATOR\n(network)\ndraws tokens", style.BLUE, fill="#E8F2FA", fontsize=9)
    box(640, 104, 122, 90, "VERIFIER\n(network)\ngives scores", style.BLUE, fill="#E8F2FA", fontsize=9)
    for index, picture in enumerate(pictures[:6]):
        x, y = 348 + index % 3 * (PICTURE + 12), 66 + index // 3 * (PICTURE + 14)
        draw_tile(ax, picture, x, y, picked=index == chosen)
        draw_mark(ax, bool(right[index]), x + PICTURE, y + PICTURE, 8)
    ax.text(458, 228, "candidates (six of twenty)", ha="center", va="center", fontsize=8.5)
    draw_tile(ax, pictures[chosen], 838, 117, picked=True)
    ax.text(870, 104, "PICTURE", ha="center", fontweight="bold", fontsize=9)
    box(324, 300, 270, 60, "JUDGE (measures, takes no part)\ndetector + GenEval's rules: tick or cross", style.GREEN,
        fill="#E6F5F0", fontsize=8.5)  # fmt: skip
    arrow((144, 149), (178, 149))
    arrow((304, 149), (342, 149))
    arrow((582, 149), (638, 149))
    arrow((764, 149), (834, 149))
    arrow((459, 298), (459, 250), style.GREEN)
    arrow((322, 330), (241, 198), style.VERMILLION, bend=-0.35, dashed=True)
    ax.text(96, 330, "ALIGNMENT (later):\nright and wrong pictures\nchange the weights", fontsize=8.5, color=style.VERMILLION,
            va="center", linespacing=1.35)  # fmt: skip
    return fig


def _halves(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 18)
