"""The planner with controls: a card's memory, which models, how many candidates. What it shows comes from `planner_view`.

planner_slider(gb=16)
"""

from __future__ import annotations

from cotlib.lab.figures import compact_png
from cotlib.lab.published_figures import memory_figure
from cotlib.lab.widgets import picture_widget
from cotlib.models.published.memory import Crew, advice, plan
from cotlib.models.published.planner import GENERATORS, VERIFIERS


def planner_view(
    gb: float, generator: str = "Show-o 256", verifier: str = "7b", n: int = 20, in_turn: bool = False, judge: bool = False
) -> tuple[str, bytes]:  # fmt: skip
    """(one sentence, PNG of `memory_figure`) for a card of `gb` 10^9 bytes; names as in `planner.GENERATORS` and `VERIFIERS`."""
    _, size, packed = VERIFIERS[verifier]
    crew = Crew(GENERATORS[generator], size, n=n, four_bit=packed, in_turn=in_turn, judge=judge)
    return advice(plan(crew, gb), gb), compact_png(memory_figure(crew, gb))[0]


def planner_slider(gb: float = 16):
    """Sliders and lists for `planner_view`. Returns the widget."""
    import ipywidgets as w

    wide = {"layout": {"width": "330px"}, "style": {"description_width": "110px"}}
    card = w.FloatSlider(
        value=gb, min=4, max=144, step=1, description="card, GB", continuous_update=False, **wide
    )
    size = w.Dropdown(options=list(GENERATORS), description="generator", **wide)
    who = w.Dropdown(
        options=[(label, key) for key, (label, *_) in VERIFIERS.items()], description="verifier", **wide
    )
    count = w.IntSlider(value=20, min=1, max=40, description="candidates", continuous_update=False, **wide)
    turn = w.Checkbox(description="one by one (best-of-N)", **wide)
    judge = w.Checkbox(description="GenEval's judge too", **wide)
    words, picture = w.HTML(), picture_widget()

    def redraw(_=None) -> None:
        words.value, picture.value = planner_view(
            card.value, size.value, who.value, count.value, turn.value, judge.value
        )

    for control in (card, size, who, count, turn, judge):
        control.observe(redraw, names="value")
    redraw()
    return w.VBox(
        [
            w.HBox(
                [w.VBox([card, size, who]), w.VBox([count, turn, judge])], layout={"flex_flow": "row wrap"}
            ),
            words,
            picture,
        ],
        layout={"max_width": "900px"},
    )
