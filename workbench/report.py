"""The report of a job: one self-contained HTML file, readable without a network for years.

Plotly's script is inside it once. Every text that came from a model or a fact file is escaped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd

from workbench.figures.grids import common_limit, grids_of
from workbench.figures.html import drawn, page, section, tabled
from workbench.figures.scorecards import scorecard_bars
from workbench.figures.theme import measure_label, method_label
from workbench.figures.traces import trace_panels
from workbench.localize.localization import Localization
from workbench.measure.scorecard import Scorecard
from workbench.measure.statistics import Score
from workbench.models.components import ComponentSet, Structure

_SITE_WORDS = {
    "subject": ("where the subject is looked up", "last subject"),
    "answer": ("where the answer is read out", "last"),
}
_KIND_WORDS = {
    "prompt": "as asked",
    "paraphrase": "in other words",
    "statement": "as a statement",
    "held_out": "wording never trained",
    "held_out_statement": "statement never trained",
    "mcq": "multiple choice",
    "neighbor": "neighbour",
}
_OUTCOMES = {"refusal_f": "refused", "replaced_f": "replaced"}
_ROWS = 60  # answers shown of each side


def render_report(
    trace: Localization,
    trace_after: Localization,
    sites: Mapping[Any, ComponentSet],
    structure: Structure,
    before: Scorecard,
    after: Scorecard,
    summary: Mapping[str, Any],
) -> str:
    """Write the whole page.

    Args:
        trace: the facts to forget in the base model.
        trace_after: the same facts in the edited model, on the base's scale.
        sites: the chosen components, by site.
        structure: of the model, for sizes.
        before: the base's scorecard.
        after: the edited model's scorecard.
        summary: the job's summary.
    """
    limit = common_limit([*grids_of(trace), *grids_of(trace_after)])
    traces = [
        drawn(trace_panels(t, limit=limit), script=first)
        for t, first in ((trace, True), (trace_after, False))
    ]
    blocks = [
        _head(summary, before, after),
        section("Where the facts are recalled", _trace_words(trace), traces[0]),
        section("What was changed", _edit_words(summary), _components(trace, sites, structure)),
        section("The same facts in the edited model", _after_words(trace_after), traces[1]),
        section(
            "Before and after", "", drawn(scorecard_bars(before, after)), _scores(before, after)
        ),
        section("What was to be forgotten", "", _answers(after, "forget")),
        section("What was to stay", "", _answers(after, "retain")),
        section("Run it again", "", _settings(summary)),
    ]
    return page(f"Edit of {summary['model']}: {summary.get('request', '')}", blocks)


def _head(summary: Mapping[str, Any], before: Scorecard, after: Scorecard) -> str:
    forget, retain = summary["forget"], summary["retain"]
    subjects = ", ".join(forget["subjects"][:8])
    more = f" and {len(forget['subjects']) - 8} more" if len(forget["subjects"]) > 8 else ""
    failed = summary["edit"].get("failed")
    warning = f'<p class="bad"><strong>{escape(str(failed))}</strong></p>' if failed else ""
    cards = (
        ("acc_f", "of the facts to forget still answered"),
        (after.outcome, "of them " + _OUTCOMES[after.outcome]),
        ("acc_r", "of the kept facts answered"),
        ("perplexity", "perplexity of neutral text"),
    )
    shown = "".join(_card(before, after, name, words) for name, words in cards)
    return (
        f"<h1>{escape(str(summary['model']))}: {forget['facts']} facts about "
        f"{len(forget['subjects'])} subject{'s' if len(forget['subjects']) != 1 else ''} forgotten"
        f'</h1><p class="soft">{escape(subjects + more)}. {retain["facts"]} facts were to stay. '
        f"The whole run took {summary['seconds']:.0f} seconds.</p>{warning}"
        f'<div class="cards">{shown}</div>'
    )


def _card(before: Scorecard, after: Scorecard, name: str, words: str) -> str:
    old, new = before.scores.get(name), after.scores.get(name)
    if new is None:
        return ""
    was = f", {_number(name, old.value)} before" if old else ""
    return f'<div class="card"><b>{_number(name, new.value)}</b><span>{words}{was}</span></div>'


def _number(name: str, value: float) -> str:
    if name in ("perplexity", "kl_r", "rank_f", "rank_r"):
        return f"{value:.3g}"
    return f"{value:.1%}" if 0 < value < 1 else f"{value:.0%}"


def _trace_words(trace: Localization) -> str:
    left = len(trace.left_out)
    unknown = (
        f" {left} fact{'s' if left > 1 else ''} the model does not know left out." if left else ""
    )
    return escape(
        f"{method_label(trace.method)}: the subject is made unreadable, then one place is restored "
        f"at a time. 1 means that the whole answer comes back: the right token's probability is "
        f"{trace.clean:.2f} in clean runs and {trace.corrupted:.2f} without the subject.{unknown}"
    )


def _after_words(trace: Localization) -> str:
    return escape(
        f"In units of the base model's effect, so a blank picture means that nothing is recalled: "
        f"the right token's probability is now {trace.clean:.2f}."
    )


def _edit_words(summary: Mapping[str, Any]) -> str:
    edit = summary["edit"]
    same = "Every other weight is byte for byte the same." if edit["unchanged_outside"] else ""
    return escape(
        f"{edit['method'].upper()} solved for the chosen output matrices in "
        f"{edit['seconds']:.1f} seconds; {edit['parameters_touched']:,} parameters lie in the "
        f"components. {same}"
    )


def _components(
    trace: Localization, sites: Mapping[Any, ComponentSet], structure: Structure
) -> str:
    total = sum(_count(size) for size in structure.sizes.values())
    rows = []
    for site, chosen in sites.items():
        words, role = _SITE_WORDS.get(str(site), ("", ""))
        scores = {str(c): s for c, s in trace.ranking(roles=(role,))} if role else {}  # type: ignore[arg-type]
        for component in chosen:
            size = structure.n_parameters(ComponentSet((component,)))
            score = scores.get(str(component))
            effect = "" if score is None else f"{score:.3f}"
            rows.append(
                f"<tr><td><code>{component}</code></td><td>{escape(str(site))} site: {words}</td>"
                f'<td class="n">{effect}</td><td class="n">{size:,}</td>'
                f'<td class="n">{size / total:.1%}</td></tr>'
            )
    return tabled(("component", "chosen", "#effect", "#parameters", "#share of the model"), rows)


def _count(size: Sequence[int]) -> int:
    out = 1
    for n in size:
        out *= n
    return out


def _scores(before: Scorecard, after: Scorecard) -> str:
    rows = []
    for name, new in after.scores.items():
        if new is None:
            continue
        old = before.scores.get(name)
        rows.append(
            f"<tr><td>{escape(measure_label(name))}</td>"
            f'<td class="n">{_score(old)}</td><td class="n">{_score(new)}</td>'
            f'<td class="n">{new.n}</td></tr>'
        )
    table = tabled(("measure", "#before", "#after", "#n"), rows)
    return f"<details><summary>Every measure, with 95 % intervals</summary>{table}</details>"


def _score(score: Score | None) -> str:
    if score is None:
        return "not measured"
    return f"{score.value:.3f} ({score.low:.3f} to {score.high:.3f})"


def _answers(after: Scorecard, side: str) -> str:
    """Show the answers of one side; neighbours of forgotten facts are to stay."""
    kept = "side == 'retain' or kind == 'neighbor'"
    table = after.answers.query("kind != 'mcq'")
    table = table.query(kept if side == "retain" else f"not ({kept})")
    shown = pd.concat([table.query("kind == 'prompt'"), table.query("kind != 'prompt'")])
    rows = list(_answer_rows(shown.head(_ROWS), side))
    left = len(table) - len(rows)
    more = f'<p class="soft">{left} more are in the scorecard.</p>' if left > 0 else ""
    return tabled(("prompt", "right answer", "before", "after", "asked"), rows) + more


def _answer_rows(table: pd.DataFrame, side: str) -> Iterator[str]:
    for row in table.to_dict("records"):
        right = row["right"] == 1
        tone = "good" if right == (side == "retain") else "bad"
        cells = (row["prompt"], row["target"], row["base_answer"], row["answer"])
        prompt, target, old, new = (escape(str(c or "").strip()) for c in cells)
        asked = escape(_KIND_WORDS.get(str(row["kind"]), str(row["kind"])))
        yield (
            f'<tr><td class="q">{prompt}</td><td>{target}</td><td class="q">{old}</td>'
            f'<td class="q {tone}">{new}</td><td class="soft">{asked}</td></tr>'
        )


def _settings(summary: Mapping[str, Any]) -> str:
    command = summary.get("command")
    line = f"<pre>{escape(str(command))}</pre>" if command else ""
    settings = {"settings": summary.get("settings"), "versions": summary.get("versions")}
    text = escape(json.dumps(settings, indent=1, ensure_ascii=False, default=str))
    return f"{line}<details><summary>All settings</summary><pre>{text}</pre></details>"
