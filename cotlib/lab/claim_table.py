"""The last cell of every notebook: what it claims, measured, with an interval and a threshold.

    # NBVAL_CHECK_OUTPUT
    claims([Claim("best of 20 is right more often than one picture", gain, low, high, threshold=0.10)])

Readers see a table with the numbers. The plain text under it holds only what must not change from machine to machine
(claim, threshold, verdict): that is what nbval compares, so a test fails when a claim stops being true and stays
green when the third digit moves. The exact numbers travel as `application/vnd.cotlib.claims+json`, from which the
README's results and the report are made; `notebooks/conftest.py` tells nbval to leave them alone.
"""

from __future__ import annotations

import html
import math
from dataclasses import dataclass

MIME = "application/vnd.cotlib.claims+json"


@dataclass(frozen=True)
class Claim:
    """One measured statement.

    text       what is claimed, in words
    estimate   the measured number, in the same unit as threshold
    low, high  its 95 % interval, both None when it has none (a count, an equality check, a number of a single run)
    threshold  the claim holds when the estimate is at or beyond it ...
    direction  ... ">=" (above) or "<=" (below)
    """

    text: str
    estimate: float
    low: float | None = None
    high: float | None = None
    threshold: float = 0.0
    direction: str = ">="

    def __post_init__(self):
        if self.direction not in (">=", "<="):
            raise ValueError(f"direction {self.direction!r}; expected '>=' or '<='")

    @property
    def ok(self) -> bool:
        """Is the estimate on the right side of the threshold? False for NaN."""
        return self._beyond(self.estimate)

    @property
    def clear(self) -> bool:
        """Is the whole interval on the right side?"""
        edge = self.low if self.direction == ">=" else self.high
        return self._beyond(self.estimate if edge is None else edge)

    def _beyond(self, number: float) -> bool:
        return bool(number >= self.threshold if self.direction == ">=" else number <= self.threshold)


def claims(rows: list[Claim]) -> None:
    """Display the table. Never raises for a claim that does not hold: the verdict says so, and the test fails."""
    from IPython.display import display

    display({"text/plain": as_text(rows), "text/html": as_html(rows), MIME: as_json(rows)}, raw=True)


def as_text(rows: list[Claim]) -> str:
    """The stable part, one line for each claim."""
    bounds = [f"{row.direction} {row.threshold:g}" for row in rows]
    width = max(len(bound) for bound in bounds)
    marks = ["holds" if row.ok else "DOES NOT HOLD" for row in rows]
    return "\n".join(
        f"{mark}  ({bound:<{width}})  {row.text}"
        for row, bound, mark in zip(rows, bounds, marks, strict=True)
    )


def as_html(rows: list[Claim]) -> str:
    """The table for readers, with rounded numbers."""
    head = "".join(
        f"<th style='text-align:left'>{h}</th>"
        for h in ("claim", "measured", "95 % interval", "needed", "verdict")
    )
    styles = ("", *3 * (";white-space:nowrap",), "")  # numbers stay in one line on a narrow page
    body = "".join(
        "<tr>"
        + "".join(
            f"<td style='text-align:left{style}'>{c}</td>"
            for c, style in zip(_cells(row), styles, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def as_json(rows: list[Claim]) -> list[dict]:
    """Exact numbers; what is not finite becomes None, since JSON has no NaN."""
    return [
        {
            "claim": row.text,
            "estimate": _finite(row.estimate),
            "low": _finite(row.low),
            "high": _finite(row.high),
            "threshold": float(row.threshold),
            "direction": row.direction,
            "ok": row.ok,
            "clear": row.clear,
        }
        for row in rows
    ]


def claims_in(notebook: dict) -> list[dict]:
    """All claims stored in an executed notebook (its parsed JSON)."""
    outputs = [o for cell in notebook["cells"] for o in cell.get("outputs", [])]
    return [row for output in outputs for row in output.get("data", {}).get(MIME, [])]


def _cells(row: Claim) -> list[str]:
    interval = "none" if row.low is None or row.high is None else f"{short(row.low)} to {short(row.high)}"
    sign = {">=": "≥", "<=": "≤"}[row.direction]
    verdict = (
        "✗ does not hold"
        if not row.ok
        else "✓ holds"
        if row.clear
        else "✓ holds, but the interval crosses the threshold"
    )
    return [html.escape(row.text), short(row.estimate), interval, f"{sign} {row.threshold:g}", verdict]


def short(number: float) -> str:
    """Two digits after the point for ordinary numbers, three significant ones for large and tiny."""
    number = float(number)
    if number == 0 or 0.01 <= abs(number) < 100:
        return f"{number:.2f}"
    return f"{number:,.0f}" if 100 <= abs(number) < 1e6 else f"{number:.2g}"


def _finite(number):
    return float(number) if number is not None and math.isfinite(number) else None
