"""Self-contained HTML pages, readable without a network for years; light and dark.

Plotly's script is inside a page once. Whoever fills in a text that came from a model or a file
escapes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from plotly import graph_objects as go

_CSS = """
:root{color-scheme:light dark;--paper:#fff;--ink:#23272f;--soft:#5f6673;--line:#dfe2e8;
--panel:#f6f7f9;--good:#1c6b48;--bad:#a8480a}
@media(prefers-color-scheme:dark){:root{--paper:#15181d;--ink:#e4e7ec;--soft:#9aa3b2;
--line:#2c323c;--panel:#1c2027;--good:#6fcf9f;--bad:#efa052}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1080px;margin:0 auto;padding:40px 24px 80px}
h1{font-size:28px;line-height:1.25;margin:0 0 8px}h2{font-size:20px;margin:48px 0 8px}
p{max-width:72ch}.soft{color:var(--soft)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:12px;margin:24px 0}
.card{background:var(--panel);border-radius:10px;padding:14px 16px}
.card b{display:block;font-size:24px;font-variant-numeric:tabular-nums}
.card span{color:var(--soft);font-size:14px}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14px}
th{text-align:left;font-weight:600;color:var(--soft);border-bottom:1px solid var(--line)}
td{border-bottom:1px solid var(--line);vertical-align:top}th,td{padding:6px 12px 6px 0}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.q{white-space:pre-wrap}.good{color:var(--good)}.bad{color:var(--bad)}
code,pre{font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,monospace}
pre{background:var(--panel);border-radius:10px;padding:14px 16px;overflow-x:auto}
.js-plotly-plot .main-svg text{fill:var(--soft)!important}
.js-plotly-plot .hoverlayer text{fill:#fff!important}
details summary{cursor:pointer;color:var(--soft)}
"""


def page(title: str, blocks: Iterable[str]) -> str:
    """Write a whole page."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_CSS}</style></head><body><main>"
        f"{''.join(blocks)}</main></body></html>\n"
    )


def section(title: str, words: str, *parts: str) -> str:
    """Write a section: a heading, a paragraph that is HTML already, and further parts."""
    text = f"<p>{words}</p>" if words else ""
    return f"<section><h2>{escape(title)}</h2>{text}{''.join(parts)}</section>"


def drawn(figure: go.Figure, *, script: bool = False) -> str:
    """Write a figure; the first of a page brings Plotly's script along."""
    html = figure.to_html(
        full_html=False, include_plotlyjs=script, config={"displaylogo": False, "responsive": True}
    )
    return f'<div class="wide">{html}</div>'


def tabled(columns: Sequence[str], rows: Sequence[str]) -> str:
    """Make a table; a column whose name begins with # holds numbers."""
    head = "".join(
        f'<th class="n">{c[1:]}</th>' if c.startswith("#") else f"<th>{c}</th>" for c in columns
    )
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
