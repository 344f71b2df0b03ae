"""The look of every figure: colours that colour-blind readers can tell apart, quiet axes, markers besides colours.

    from cotlib.lab.style import BLUE, use_house_style
    use_house_style()          # `cotlib.lab.setup` calls it

Colours are the palette of Okabe and Ito (2008), https://jfly.uni-koeln.de/color/; images use cividis.
Lines take a marker together with their colour; pass `marker=""` for a dense curve.
"""

from __future__ import annotations

BLUE = "#0072B2"
VERMILLION = "#D55E00"
GREEN = "#009E73"
ORANGE = "#E69F00"
SKY = "#56B4E9"
PINK = "#CC79A7"
YELLOW = "#F0E442"
BLACK = "#1B1B1B"

CYCLE = (BLUE, VERMILLION, GREEN, ORANGE, PINK, SKY, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

INK = "#2B2B2B"  # text and axes
FAINT = "#C9CDD2"  # frames of pictures, grid lines
HIDDEN = "#DFE2E6"  # a cell that is still masked


def use_house_style() -> None:
    """Set matplotlib's defaults for the whole session."""
    import matplotlib
    from cycler import cycler

    matplotlib.rcParams.update(
        {
            "figure.figsize": (6.4, 3.4),
            "figure.dpi": 100,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every system
            "font.size": 9.5,
            "text.color": INK,
            "axes.titlesize": 10.5,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.titlepad": 9,
            "axes.labelcolor": INK,
            "axes.edgecolor": "#8A9099",
            "axes.linewidth": 0.8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
            "axes.grid": True,
            "grid.color": "#E6E8EB",
            "grid.linewidth": 0.8,
            "axes.prop_cycle": cycler(color=CYCLE) + cycler(marker=MARKERS),
            "lines.linewidth": 1.8,
            "lines.markersize": 5,
            "xtick.color": INK,
            "ytick.color": INK,
            "xtick.major.size": 0,
            "ytick.major.size": 0,
            "legend.frameon": False,
            "image.cmap": "cividis",
            "image.interpolation": "nearest",
        }
    )
