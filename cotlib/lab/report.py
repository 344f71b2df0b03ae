"""The page that `python course.py run` writes: one self-contained HTML file, light or dark as the reader's system."""

from __future__ import annotations

from html import escape

STYLE = """
:root { color-scheme: light dark; --ink: #1c2530; --soft: #5d6b7a; --line: #e2e7ec; --page: #f6f8fa; --card: #fff;
        --good: #00795a; --bad: #b84300; --bar: #0072b2; --barback: #e4eaf0; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6ebf0; --soft: #9aa8b6; --line: #303b47; --page: #12181f; --card: #1a222b;
          --good: #35c79b; --bad: #ff9a52; --bar: #56b4e9; --barback: #2a3541; } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
main { max-width: 64rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem } h2 { font-size: 1.25rem; margin: 0 }
p { margin: .2rem 0 } .soft { color: var(--soft) } a { color: inherit }
section, .overview { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1.25rem 1.5rem;
                     margin-top: 1.25rem; overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th { text-align: left; font-weight: 600; font-size: .8rem; color: var(--soft); padding: .2rem .8rem .4rem 0 }
td { border-top: 1px solid var(--line); padding: .5rem .8rem .5rem 0; vertical-align: top }
td.number { white-space: nowrap }
.good { color: var(--good); font-weight: 600; white-space: nowrap } .bad { color: var(--bad); font-weight: 600 }
.gauge { display: block; width: 8rem; height: 6px; border-radius: 3px; background: var(--barback); margin-top: .3rem }
.gauge i { display: block; height: 100%; border-radius: 3px; background: var(--bar) }
.gauge.over i { background: var(--bad) }
.head { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; align-items: baseline; margin-bottom: .8rem }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; margin-top: 1.2rem } .figures:empty { margin: 0 }
figure { margin: 0; max-width: 30rem } img { max-width: 100%; background: #fff; border-radius: 6px; display: block }
figcaption { font-size: .85rem; color: var(--soft); margin-top: .3rem }
pre { background: var(--page); border-radius: 6px; padding: .8rem 1rem; overflow-x: auto; font-size: .82rem }
"""


def report_html(record: dict) -> str:
    """The page for a record of cotlib.lab.run.run_all."""
    rows, budget, machine = record["notebooks"], record["budget"], record["machine"]
    passed = sum(row["ok"] for row in rows)
    held = [claim["ok"] for row in rows for claim in row["claims"]]
    overview = "".join(overview_row(row, budget) for row in rows)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>The course, executed</title><style>{STYLE}</style></head><body><main>
<h1>The course, executed</h1>
<p>{mark(record["ok"], f"{passed} of {len(rows)} notebooks pass")}
 &nbsp; {sum(held)} of {len(held)} claims hold &nbsp; {record["seconds"]:.0f} s of {budget["total_seconds"]:g} s</p>
<p class="soft">{escape(record["started"])} &nbsp; {escape(machine["system"])}, {machine["cores"]} cores,
 {machine["memory_gb"]} GB &nbsp; Python {machine["python"]}, PyTorch {machine["torch"]}</p>
{"".join(f'<p class="bad">{escape(problem)}</p>' for problem in record["problems"])}
<div class="overview"><table><thead><tr><th>notebook</th><th>time</th><th>peak memory</th><th>claims</th><th></th></tr>
</thead><tbody>{overview}</tbody></table></div>
{"".join(section(row) for row in rows)}
</main></body></html>
"""


def overview_row(row: dict, budget: dict) -> str:
    claims = (
        f"{sum(claim['ok'] for claim in row['claims'])} of {len(row['claims'])}" if row["claims"] else "–"
    )
    return (
        f'<tr><td><a href="#{escape(row["name"])}">{escape(row["title"])}</a></td>'
        f"<td class=number>{row['seconds']:.1f} s{gauge(row['seconds'], budget['seconds'])}</td>"
        f"<td class=number>{row['peak_gb']:.2f} GB{gauge(row['peak_gb'], budget['memory_gb'])}</td>"
        f"<td class=number>{claims}</td>"
        f"<td>{mark(row['ok'], 'passes' if row['ok'] else 'fails')}</td></tr>"
    )


def section(row: dict) -> str:
    """One notebook: what went wrong, its claims, its figures."""
    problems = "".join(f'<p class="bad">{escape(problem)}</p>' for problem in row["problems"])
    trace = row["error"].partition("\n\n")[2]
    error = f"<pre>{escape(trace)}</pre>" if trace else ""
    claims = claim_rows(row["claims"]) if row["claims"] else ""
    text = f"<pre>{escape(row['claims_text'])}</pre>" if row["claims_text"] else ""
    figures = "".join(figure(item) for item in row["figures"])
    return (
        f'<section id="{escape(row["name"])}"><div class="head"><h2>{escape(row["title"])}</h2>'
        f'<span class="soft">{escape(row["name"])}.ipynb, {row["seconds"]:.1f} s, {row["peak_gb"]:.2f} GB</span></div>'
        f'{problems}{error}{claims}{text}<div class="figures">{figures}</div></section>'
    )


def claim_rows(claims: list[dict]) -> str:
    body = "".join(
        f"<tr><td>{escape(claim['claim'])}</td><td class=number>{digits(claim['estimate'])}</td>"
        f"<td class=number>{interval(claim)}</td>"
        f"<td class=number>{bound(claim)}</td><td>{mark(claim['ok'], 'holds' if claim['ok'] else 'no longer true')}</td></tr>"
        for claim in claims
    )
    head = "<th>claim</th><th>measured</th><th>95 % interval</th><th>needed</th><th></th>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def figure(item: dict) -> str:
    width = f' width="{item["width"]}"' if item["width"] else ""
    caption = f"<figcaption>{escape(item['alt'])}</figcaption>" if item["alt"] else ""
    picture = f'<img alt="{escape(item["alt"])}"{width} src="data:image/png;base64,{escape(item["png"])}">'
    return f"<figure>{picture}{caption}</figure>"


def gauge(value: float, limit: float) -> str:
    """A bar: how much of its budget a notebook used."""
    share = value / limit if limit > 0 else 1.0
    return (
        f'<span class="gauge{" over" if share > 1 else ""}"><i style="width:{min(share, 1):.0%}"></i></span>'
    )


def mark(good: bool, words: str) -> str:
    """A verdict that needs no colour to be read."""
    return f'<span class="{"good" if good else "bad"}">{"✓" if good else "✗"} {escape(words)}</span>'


def interval(claim: dict) -> str:
    low, high = claim.get("low"), claim.get("high")
    return "none" if low is None or high is None else f"{digits(low)} to {digits(high)}"


def bound(claim: dict) -> str:
    sign = {"<=": "≤"}.get(claim.get("direction"), "≥")
    return f"{sign} {digits(claim['threshold'])}"


def digits(number) -> str:
    """Three significant digits, no exponent for ordinary sizes."""
    if number is None:
        return "–"
    return f"{number:,.0f}" if 1000 <= abs(number) < 1e7 else f"{number:.3g}"
