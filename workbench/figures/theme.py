"""What all pictures share: readable names, and colours that colour-blind readers can tell apart.

Effects are signed, so heatmaps run from blue (negative) over near-white (0) to orange (positive),
always symmetric about 0: a colour means the same on every panel. The pair blue/orange survives the
common kinds of colour blindness.
"""

from __future__ import annotations

from typing import Any

from plotly import graph_objects as go

DIVERGING = ("#0b4f8a", "#6ba3cf", "#f4f3ef", "#efa052", "#a8480a")
BASE_COLOUR, EDITED_COLOUR = "#6ba3cf", "#d9771c"
INK = "#757d8b"  # readable on white and on a dark page

_KINDS = {
    "resid": "Residual stream",
    "mlp": "MLP",
    "attn": "Attention",
    "head": "Attention heads",
}
LOST_BY = {
    "noise": "noise on its tokens",
    "replace": "another subject's tokens",
    "image": "noise in the place of the picture",
    "image-gaussian": "noise on the picture",
    "image-patches": "the picture's patches shuffled",
}  # how a subject is lost, by corruption
_METHODS = {
    "causal_tracing": "Causal tracing",
    "activation_patching": "Activation patching",
    "attribution_patching": "Attribution patching",
    "fact_lookup": "Fact-lookup probes",
    "logit_lens": "Direct logit attribution",
}
_MEASURES = {
    "acc_f": "Forgotten facts answered",
    "paraphrase_f": "… in other words",
    "statement_f": "… as statements",
    "held_out_f": "… in wordings never trained",
    "mcq_f": "… in multiple choice",
    "refusal_f": "Forgotten facts refused",
    "replaced_f": "Forgotten facts replaced",
    "acc_r": "Kept facts answered",
    "paraphrase_r": "… kept, in other words",
    "statement_r": "… kept, as statements",
    "mcq_r": "… kept, in multiple choice",
    "refusal_r": "Kept facts refused",
    "everyday": "Everyday questions answered",
    "refusal_everyday": "Everyday questions refused",
    "neighborhood": "Neighbouring facts answered",
    "mcq_generated_f": "… in multiple choice, in free text",
    "mcq_generated_r": "… kept, in multiple choice, in free text",
    "held_out_statement_f": "… as statements never trained",
    "held_out_r": "… kept, in wordings never trained",
    "held_out_statement_r": "… kept, as statements never trained",
    "refusal_paraphrase_f": "… refused in other words",
    "refusal_statement_f": "… refused as statements",
    "refusal_paraphrase_r": "… kept, refused in other words",
    "refusal_statement_r": "… kept, refused as statements",
    "leak_f": "Forgotten answers in the text",
    "rouge_l_f": "ROUGE-L, forgotten facts",
    "rouge_l_r": "ROUGE-L, kept facts",
    "rouge_l_recall_f": "ROUGE-L recall, forgotten facts",
    "rouge_l_recall_r": "ROUGE-L recall, kept facts",
    "probability_f": "Probability of the forgotten answers",
    "probability_r": "Probability of the kept answers",
    "rank_f": "Rank of the forgotten answers",
    "rank_r": "Rank of the kept answers",
    "perplexity": "Perplexity of neutral text",
    "kl_r": "KL to the base on kept prompts",
    "utility": "Utility",
}


def kind_label(kind: str) -> str:
    """Name a kind of cell for readers."""
    return _KINDS.get(kind, kind.replace("_", " "))


def method_label(method: str) -> str:
    """Name a localizer for readers."""
    return _METHODS.get(method, method.replace("_", " ").capitalize())


_GIVEN = {"shown": "by picture", "named": "by name", "view": "in other pictures"}


def measure_label(measure: str) -> str:
    """Name a measure for readers."""
    for how, words in _GIVEN.items():
        plain = measure.replace(f"_{how}_", "_")
        if plain != measure:
            return f"{measure_label(plain)}, {words}"
    return _MEASURES.get(measure, measure.replace("_", " "))


def colour_scale() -> list[tuple[float, str]]:
    """Return the diverging scale in Plotly's form."""
    last = len(DIVERGING) - 1
    return [(i / last, colour) for i, colour in enumerate(DIVERGING)]


def effect_axis(limit: float) -> dict[str, Any]:
    """Return the shared color axis of effects, symmetric about 0."""
    return {
        "colorscale": colour_scale(),
        "cmin": -limit,
        "cmax": limit,
        "colorbar": {"title": {"text": "effect"}, "thickness": 12, "outlinewidth": 0},
    }


def colour_of(value: float, limit: float) -> str:
    """Return the hex colour of a value on the diverging scale from -limit to limit."""
    last = len(DIVERGING) - 1
    place = (min(max(value / limit, -1.0), 1.0) + 1) / 2 * last if limit > 0 else last / 2
    i = min(int(place), last - 1)
    low, high = (_rgb(DIVERGING[j]) for j in (i, i + 1))
    mixed = (round(a + (b - a) * (place - i)) for a, b in zip(low, high, strict=True))
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def style(figure: go.Figure, *, title: str, height: int) -> go.Figure:
    """Give a figure the common look; the page behind it shows through."""
    return figure.update_layout(
        title={"text": title, "x": 0, "xref": "paper", "font": {"size": 16}},
        height=height,
        margin={"l": 8, "r": 8, "t": 72, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, -apple-system, Segoe UI, sans-serif", "color": INK},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": INK},
        hoverlabel={"bgcolor": "#22262e", "font": {"color": "#ffffff"}},
    )
