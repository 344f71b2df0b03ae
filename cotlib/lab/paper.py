"""The published results that the course repeats in miniature, as a figure.

rows = published("show-o")            # groups: quoted, show-o, parm++, other generators
show(published_figure(), alt="...")
"""

from __future__ import annotations

from cotlib.lab import style
from cotlib.tables.published import published, system_name
from cotlib.world.scenes import TASKS


def published_figure():
    """Left: overall score of every Show-o system. Right: the six tasks of four of them. Returns a matplotlib figure."""
    from matplotlib.figure import Figure

    rows = [row for row in published("show-o") if "disagrees with Table 2" not in row["note"]]
    rows += [row for row in published("parm++") if row["reflection"] not in ("", "no")]
    rows.sort(key=lambda row: row["overall"])
    looks = {(False, False): (style.BLACK, "o", "neither"), (True, False): (style.BLUE, "s", "search"),
             (False, True): (style.ORANGE, "^", "tuning"), (True, True): (style.GREEN, "D", "both")}  # fmt: skip
    fig = Figure(figsize=(10.4, 4.6))
    left, right = fig.add_axes((0.35, 0.13, 0.26, 0.76)), fig.add_axes((0.69, 0.13, 0.3, 0.76))
    for height, row in enumerate(rows):
        color, marker, _ = looks[bool(row["verifier"]), bool(row["alignment"] or _tuned_for(row))]
        left.hlines(height, 0.5, row["overall"], color=style.FAINT, linewidth=1.2)
        left.plot(row["overall"], height, color=color, marker=marker, markersize=7)
        left.text(row["overall"] + 0.012, height, f"{row['overall']:.2f}", va="center", fontsize=8.5)
    left.set(yticks=range(len(rows)), yticklabels=[_label(row) for row in rows], xlim=(0.5, 0.82),
             xlabel="overall; verifiers pick the best of 20", title="What helps, and by how much")  # fmt: skip
    left.tick_params(axis="y", labelsize=8.5)
    left.grid(axis="y", visible=False)
    for color, marker, label in looks.values():
        left.plot([], [], color=color, marker=marker, linestyle="", label=label)
    left.legend(loc="lower right", fontsize=8.5)
    by_name = {system_name(row): row for row in rows}
    shown = {"alone": "the generator alone", "PARM": "PARM", "iterative DPO": "iterative DPO",
             "guided DPO + PARM": "iterative DPO guided by PARM + PARM"}  # fmt: skip
    for (label, name), (color, marker, _) in zip(shown.items(), looks.values(), strict=True):
        scores = [by_name[name][task] for task in TASKS]
        right.plot(scores, color=color, marker=marker, label=label, linewidth=1.3)
    right.set(xticks=range(6), xticklabels=[task.replace("_", "\n") for task in TASKS], ylim=(0, 1.03),
              title="Where it helps")  # fmt: skip
    right.tick_params(axis="x", labelsize=8.5)
    right.legend(loc="lower left", fontsize=8.5)
    return fig


def _tuned_for(row: dict) -> str:
    """What a row's generator was tuned for apart from preferences; the table says it behind the generator's name."""
    return row["generator"].partition(", ")[2]


def _label(row: dict) -> str:
    return " + ".join(part for part in (_tuned_for(row), system_name(row)) if part)
