"""Figures of notebook 10: ceilings, the roofline with measured points, the ladder of exact changes, shares, stored rows.

    show(copy_figure([roof]), alt="...")                    what a copy takes, against its size
    show(roofline_figure([roof], points), alt="...")        points: {name: (Cost, {form: Timing})}
    rows = stored_rows("kernels.csv")                       what `python course.py bench` wrote, newest row of each form
    show(stored_figure(rows), alt="...")

Measured numbers come from `cotlib.lab.kernel_timing` or from bench/results; nothing is typed here.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cotlib.kernels.cost import Cost
from cotlib.lab import style
from cotlib.lab.kernel_timing import PARTS, Ceiling, Timing

GREY = "#8A9099"
LOOKS = {  # a form's name begins with: (colour, marker, label)
    "as ": (style.VERMILLION, "s", "as usually written"), "separate": (style.VERMILLION, "s", "as usually written"),
    "reference": (style.BLUE, "o", "plain torch, rewritten"), "torch.compile": (style.GREEN, "^", "torch.compile"),
    "kernel in a": (style.ORANGE, "P", "kernel in a CUDA graph"), "kernel": (style.BLACK, "D", "Triton kernel"),
    "": (style.PINK, "v", "a library"),
}  # fmt: skip
KERNELS = ("lfq_pack", "vq_assign", "masked_sample", "remask_step", "qknorm_rope_kv", "linear_logprob")


def look(form: str) -> tuple[str, str, str]:
    """(colour, marker, label) of a form, by how its name begins."""
    return next(value for start, value in LOOKS.items() if form.startswith(start))


# ----- ceilings ----------------------------------------------------------------------------------------------------


def copy_figure(roofs: Sequence[Ceiling]):
    """Time of a copy against its bytes, log scales, with two lines: a call's own time, and the bandwidth. A matplotlib figure."""
    from matplotlib import pyplot as plt

    fig, ax = plt.subplots(layout="constrained", figsize=(6.8, 3.6))
    for roof, color, marker in zip(roofs, style.CYCLE, style.MARKERS, strict=False):
        sizes, times = (np.array(column) for column in zip(*roof.curve, strict=True))
        ax.plot(sizes, 1e6 * times, color=color, marker=marker, markersize=4, label=roof.name)
        ax.axhline(1e6 * roof.call, color=color, linestyle=":", linewidth=1.2, marker="")
        line = sizes[2 * sizes / roof.bandwidth > roof.call]
        ax.plot(line, 2e6 * line / roof.bandwidth, color=color, linestyle="--", linewidth=1.2, marker="")
        middle = line[len(line) // 2]
        ax.annotate(f"memory {roof.bandwidth / 1e9:,.0f} GB/s", (middle, 2e6 * middle / roof.bandwidth), color=color,
                    textcoords="offset points", xytext=(-6, 5), ha="right", fontsize=9)  # fmt: skip
        best = int(np.argmax(sizes / times))
        ax.annotate(f"cache {roof.cached / 1e9:,.0f} GB/s", (sizes[best], 1e6 * times[best]), color=color,
                    textcoords="offset points", xytext=(6, -14), ha="left", fontsize=9)  # fmt: skip
        ax.annotate("a call", (sizes[-1], 1e6 * roof.call), color=color, textcoords="offset points", xytext=(0, 3),
                    ha="right", fontsize=9)  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel="bytes copied", ylabel="microseconds")
    _byte_ticks(ax.xaxis)
    _plain(ax.yaxis)
    ax.legend(loc="upper left")
    return fig


def roofline_figure(
    roofs: Sequence[Ceiling], points: Mapping[str, tuple[Cost, Mapping[str, Timing]]],
    stored: Mapping[str, tuple[float, float]] | None = None,
):  # fmt: skip
    """FLOP a second against FLOP a byte, with the roof of each device; dashed, that of its cache. A matplotlib figure.

    points: kernel: (its cost, what its forms took on the first device); a hollow marker on the roof where nothing was timed.
    stored: name of a device: (bytes a second, FLOP a second), measured elsewhere; thin grey roofs.
    """
    from matplotlib import pyplot as plt

    fig, ax = plt.subplots(layout="constrained", figsize=(7.6, 4.4))
    x = np.logspace(-1.2, 4, 300)
    dashes = ("-", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
    for dash, (name, (bandwidth, peak)) in zip(dashes, (stored or {}).items(), strict=False):
        roof = np.minimum(x * bandwidth, peak) / 1e9
        ax.plot(x, roof, color=GREY, linewidth=1.2, linestyle=dash, marker="", label=f"{name} (stored)")
    for roof, color in zip(roofs, style.CYCLE, strict=False):
        ax.plot(
            x,
            np.minimum(x * roof.bandwidth, roof.peak) / 1e9,
            color=color,
            linewidth=2.2,
            marker="",
            label=roof.name,
        )
        ax.plot(x, np.minimum(x * roof.cached, roof.peak) / 1e9, color=color, linewidth=1.3, linestyle="--", marker="",
                label="... from its cache")  # fmt: skip
    home = roofs[0]
    for (name, (cost, times)), color, marker in zip(points.items(), _shades(), style.MARKERS, strict=False):
        best = cost.flops / home.least(cost) / 1e9
        ax.plot(cost.intensity, best, color=color, marker=marker, markersize=8, markerfacecolor="white", linestyle="",
                label=name)  # fmt: skip
        for number, timing in enumerate(times.values()):
            reached = cost.flops / timing.median / 1e9
            ax.plot([cost.intensity] * 2, [reached, best], color=color, linewidth=1, linestyle=":", marker="")
            ax.plot(
                cost.intensity,
                reached,
                color=color,
                marker=marker,
                markersize=7 - 2 * (number == 0),
                linestyle="",
            )
    ax.set(xscale="log", yscale="log", xlabel="FLOP for each byte that has to move", ylabel="GFLOP a second")
    _plain(ax.xaxis)
    _plain(ax.yaxis)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5)
    return fig


# ----- inverse CDF ---------------------------------------------------------------------------------------------------


def staircase_figure(p: Sequence[float], u: float):
    """The running sum of probabilities as a staircase, and how a number u between 0 and 1 finds its code. A matplotlib figure."""
    from matplotlib import pyplot as plt

    p = np.asarray(p, float)
    ends = p.cumsum() / p.sum()
    code = int(np.searchsorted(ends, u, side="right"))
    fig, ax = plt.subplots(layout="constrained", figsize=(5.8, 2.9))
    places = np.arange(len(p))
    ax.bar(places, p / p.sum(), bottom=ends - p / p.sum(), width=0.86,
           color=[style.ORANGE if i == code else style.SKY for i in places],
           hatch=["//" if i == code else "" for i in places], edgecolor="white")  # fmt: skip
    ax.step(
        np.r_[places - 0.5, places[-1] + 0.5],
        np.r_[0, ends],
        where="pre",
        color=style.INK,
        linewidth=1.2,
        marker="",
    )
    ax.annotate(
        "",
        xy=(code - 0.43, u),
        xytext=(-0.5, u),
        arrowprops=dict(arrowstyle="-|>", color=style.BLACK, linewidth=1.6),
    )
    ax.annotate("", xy=(code, 0), xytext=(code, ends[code] - p[code] / p.sum()),
                arrowprops=dict(arrowstyle="-|>", color=style.BLACK, linewidth=1.6))  # fmt: skip
    ax.text(-0.45, u, f" u = {u:.2f}", va="bottom", fontweight="bold")
    ax.set(xticks=places, xlabel="code", ylabel="running sum", ylim=(0, 1.03), xlim=(-0.5, len(p) - 0.5))
    ax.grid(axis="x", visible=False)
    return fig


# ----- the ladder, the shares ----------------------------------------------------------------------------------------


def ladder_figure(times: Mapping[str, Timing]):
    """Seconds of a search after each exact change, bars from the first to the last, with the factor reached. A matplotlib figure."""
    from matplotlib import pyplot as plt

    names, first = list(times), next(iter(times.values())).median
    fig, ax = plt.subplots(layout="constrained", figsize=(7.4, 0.36 * len(names) + 0.9))
    for y, (name, timing) in enumerate(times.items()):
        last = y == len(names) - 1
        ax.barh(y, timing.median, height=0.66, color=style.ORANGE if last else style.SKY, hatch="//" if last else "",
                edgecolor="white")  # fmt: skip
        ax.hlines(y, timing.low, timing.high, color=style.INK, linewidth=1.6)
        word = "" if y == 0 else f"  {first / timing.median:.1f} times as fast"
        ax.text(
            max(timing.median, timing.high), y, f" {timing.median:.2f} s{word}", va="center", fontsize=8.5
        )
        ax.set_label(name)
    ax.set(yticks=range(len(names)), yticklabels=[names[0], *(f"+ {name}" for name in names[1:])], ylim=(len(names) - 0.4, -0.6),
           xlabel="seconds for one prompt's candidates", xlim=(0, 1.32 * max(t.high for t in times.values())))  # fmt: skip
    ax.grid(axis="y", visible=False)
    return fig


def speed_up(share: float, factor: float = float("inf")) -> float:
    """Amdahl's law: how many times as fast the whole becomes when a part with this share of the time becomes `factor` times as fast."""
    return 1 / (1 - share + share / factor)


def shares_of(parts: Mapping[str, Timing]) -> dict[str, float]:
    """Each part's share of the sum of medians."""
    whole = sum(timing.median for timing in parts.values())
    return {name: timing.median / whole for name, timing in parts.items()}


def shares_figure(parts: Mapping[str, Timing]):
    """Share of each part of a search; orange and hatched where a kernel of the course does it, with the most it could bring.
    A matplotlib figure. parts: of `time_by_part`."""
    from matplotlib import pyplot as plt

    shares = shares_of(parts)
    order = sorted(shares, key=shares.get, reverse=True)
    fig, ax = plt.subplots(layout="constrained", figsize=(7.4, 3.2))
    for y, part in enumerate(order):
        kernel, share = PARTS.get(part), shares[part]
        ax.barh(
            y,
            share,
            height=0.66,
            color=style.ORANGE if kernel else style.FAINT,
            hatch="//" if kernel else "",
            edgecolor="white",
        )
        word = f"   {kernel}: whole search at most {speed_up(share):.2f} times as fast" if kernel else ""
        ax.text(share, y, f" {share:.1%}{word}", va="center", fontsize=8.5)
    ax.set(yticks=range(len(order)), yticklabels=order, ylim=(len(order) - 0.4, -0.6), xlabel="share of a search's time",
           xlim=(0, 1.25 * max(shares.values()) + 0.05))  # fmt: skip
    ax.grid(axis="y", visible=False)
    return fig


# ----- precision -----------------------------------------------------------------------------------------------------


def margins_figure(exact: Mapping[str, Sequence[float]], seen: Mapping[str, Sequence[float]]):
    """A panel for each stage of tuning: what half-precision logits make of each pair's margin, against the exact one.

    exact, seen: {stage: margins of all pairs, in nats}. On the diagonal nothing is lost. A matplotlib figure.
    """
    from matplotlib import pyplot as plt

    fig, axes = plt.subplots(
        1, len(exact), layout="constrained", figsize=(2.9 * len(exact), 2.9), squeeze=False
    )
    for ax, (stage, true) in zip(axes[0], exact.items(), strict=True):
        true, said = np.asarray(true, float), np.asarray(seen[stage], float)
        reach = 1.1 * max(np.abs(true).max(), np.abs(said).max(), 1e-9)
        ax.plot([-reach, reach], [-reach, reach], color=style.BLACK, linestyle=":", linewidth=1.2, marker="")
        wrong = np.sign(true) != np.sign(said)
        ax.plot(true[~wrong], said[~wrong], color=style.BLUE, linestyle="", marker="o", markersize=4.5)
        ax.plot(true[wrong], said[wrong], color=style.VERMILLION, linestyle="", marker="X", markersize=6)
        ax.set(xlim=(-reach, reach), ylim=(-reach, reach), xlabel="exact margin, nats", aspect="equal")
        ax.set_title(stage)
        ax.axhline(0, color=style.INK, linewidth=0.6, marker="")
        ax.axvline(0, color=style.INK, linewidth=0.6, marker="")
    axes[0, 0].set_ylabel("margin from bfloat16 logits")
    return fig


# ----- stored rows ---------------------------------------------------------------------------------------------------


def bench_folder() -> Path | None:
    """Where the stored rows of bench/ are: in the package of an installed wheel, or beside the package in a clone."""
    package = Path(__file__).resolve().parents[1]
    folders = package / "_bench", package.parent / "bench" / "results"
    return next((folder for folder in folders if folder.is_dir()), None)


def stored_rows(file: str, folder: Path | None = None) -> list[dict[str, str]]:
    """Rows of a CSV file of bench/results, all values as text; of several rows for the same thing on the same device the last.

    Empty when there is no such file. "The same thing" is everything that stands before the first number.
    """
    folder = folder or bench_folder()
    if folder is None or not (folder / file).is_file():
        return []
    with (folder / file).open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    named = [
        name for name in ("kernel", "case", "models", "form", "dtype", "device") if rows and name in rows[0]
    ]
    return list({tuple(row[name] for name in named): row for row in rows}.values())


def devices_of(rows: Sequence[Mapping[str, str]]) -> dict[str, tuple[float, float]]:
    """{device: (bytes a second, FLOP a second)}, the ceilings that stand in the rows of kernels.csv; the highest of each."""
    found: dict[str, tuple[float, float]] = {}
    for row in rows:
        copy, peak = number(row, "copy_gb_s"), number(row, "product_tflop_s")
        if copy and peak:
            before = found.get(row["device"], (0.0, 0.0))
            found[row["device"]] = max(before[0], 1e9 * copy), max(before[1], 1e12 * peak)
    return found


def is_gpu(row: Mapping[str, str]) -> bool:
    """Whether a row was measured on a GPU: the others' device is named by its cores."""
    return "CPU cores" not in row.get("device", "CPU cores")


def number(row: Mapping[str, str], name: str) -> float | None:
    """A number of a row, None when it is missing or empty."""
    try:
        return float(row[name])
    except (KeyError, TypeError, ValueError):
        return None


def stored_figure(rows: Sequence[Mapping[str, str]]):
    """How many times its floor each form takes, a panel for each device; where no GPU was measured a panel says so.

    rows: of kernels.csv. The floor is the count's, with the ceilings of that device and run. A matplotlib figure.
    """
    from matplotlib import pyplot as plt

    devices = list(dict.fromkeys(row["device"] for row in rows))
    cases = {
        d: list(dict.fromkeys((r["kernel"], r["case"]) for r in rows if r["device"] == d)) for d in devices
    }
    empty = not any(map(is_gpu, rows))
    heights = [max(1, len(cases[d])) for d in devices] + [1.4] * empty
    fig, axes = plt.subplots(len(heights), 1, layout="constrained", figsize=(8.4, 0.3 * sum(heights) + 0.75 * len(heights) + 0.5),
                             height_ratios=heights, squeeze=False)  # fmt: skip
    used = {}
    for ax, device in zip(axes[:, 0], devices, strict=False):
        for y, case in enumerate(cases[device]):
            for row in (r for r in rows if r["device"] == device and (r["kernel"], r["case"]) == case):
                took, floor = number(row, "ms"), number(row, "floor_ms")
                if took and floor:
                    color, marker, label = look(row["form"])
                    used[label] = color, marker
                    ax.plot(took / floor, y, color=color, marker=marker, linestyle="", markersize=6)
        ax.axvline(1, color=style.BLACK, linewidth=1.2, marker="")
        names = [f"{kernel}: {case}" for kernel, case in cases[device]]
        ax.set(xscale="log", yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.4, -0.6))
        ax.tick_params(axis="y", labelsize=7.5)
        ax.grid(axis="y", visible=False)
        ax.set_title(device)
        _plain(ax.xaxis)
    if empty:
        ax = axes[-1, 0]
        ax.axis("off")
        ax.text(0.5, 0.5, "No GPU row has been measured yet.\npython course.py bench   adds yours.", ha="center", va="center",
                fontsize=11, color=style.INK, transform=ax.transAxes)  # fmt: skip
    if devices:
        axes[len(devices) - 1, 0].set_xlabel(
            "times the least possible (large copies and products of that device)"
        )
        handles = [
            plt.Line2D([], [], color=c, marker=m, linestyle="", label=name) for name, (c, m) in used.items()
        ]
        fig.legend(handles=handles, loc="outside upper center", ncols=3, fontsize=8.5)
    return fig


# ----- a widget ------------------------------------------------------------------------------------------------------


def amdahl_words(shares: Mapping[str, float], part: str, factor: float) -> str:
    """What the widget says of one setting."""
    share = shares[part]
    return (f"{part}: {share:.1%} of the time. {factor:g} times as fast makes the whole {speed_up(share, factor):.3f} times as fast; "
            f"infinitely fast would make it {speed_up(share):.3f} times as fast.")  # fmt: skip


def amdahl_explorer(parts: Mapping[str, Timing]):
    """A list of parts and a slider for how fast a part becomes; says what the whole gains. Returns the widget."""
    import ipywidgets as w

    shares = shares_of(parts)
    part = w.Dropdown(options=sorted(shares, key=shares.get, reverse=True), description="part")
    factor = w.FloatLogSlider(
        value=10.0,
        base=10,
        min=0,
        max=3,
        step=0.1,
        description="times as fast",
        readout_format=".0f",
        style={"description_width": "initial"},
    )
    words = w.HTML()

    def redraw(_=None) -> None:
        words.value = amdahl_words(shares, part.value, float(f"{factor.value:.3g}"))

    part.observe(redraw, names="value")
    factor.observe(redraw, names="value")
    redraw()
    return w.VBox([part, factor, words])


# ----- axes ----------------------------------------------------------------------------------------------------------


def _shades() -> tuple[str, ...]:
    return (style.VERMILLION, style.GREEN, style.ORANGE, style.PINK, style.BLACK, style.SKY)


def _plain(axis) -> None:
    """Plain numbers at powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_locator(NullLocator())


def _byte_ticks(axis) -> None:
    """1 KiB, 32 KiB, 1 MiB, ..."""
    from matplotlib.ticker import FixedLocator, NullLocator

    sizes = [2**power for power in range(10, 31, 5)]
    axis.set_major_locator(FixedLocator(sizes))
    axis.set_ticklabels(["1 KiB", "32 KiB", "1 MiB", "32 MiB", "1 GiB"])
    axis.set_minor_locator(NullLocator())
