"""What one part of the model does on a prompt: attention, promoted tokens, and how to choose it."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from workbench.figures.readings import attention_heatmap, promoted_bars
from workbench.figures.tokens import shown
from workbench.localize.readings import AttentionPatterns, attention_patterns, promoted_tokens
from workbench.models.components import Component, ComponentSet

from parts import show
from parts.looking import Look
from parts.state import keep, say, workspace

_RANKED = 8  # tokens on each side


def side_by_side(left: int = 440, right: int = 440) -> tuple[DeltaGenerator, DeltaGenerator]:
    """Return two places beside each other; where a screen is narrow the second goes below."""
    row = st.container(horizontal=True, gap="medium")
    return row.container(width=left), row.container(width=right)


def component_of(name: str) -> Component:
    """Read one component's name."""
    (one,) = ComponentSet.parse(name)
    return one


def attention(look: Look, layer: int, head: int, key: str) -> None:
    """Draw a head's attention pattern."""
    patterns = patterns_of(look)
    names = [f"{i} {shown(t)}" for i, t in enumerate(patterns.tokens)]
    table = pd.DataFrame(patterns.pattern[layer, head].numpy(), columns=names)
    table.insert(0, "from", names)
    show.chart(attention_heatmap(patterns, layer, head), f"attention {key}", table)


def patterns_of(look: Look) -> AttentionPatterns:
    """Return every head's attention on the prompt."""
    prompt = look.question.prompt
    return look.read("attention", lambda m: attention_patterns(m, prompt))


def promoted(look: Look, name: str, position: int, key: str) -> None:
    """Draw the tokens that a component promotes and suppresses at a position."""
    prompt = look.question.prompt
    found = look.read(
        ("promoted", name, position),
        lambda m: promoted_tokens(m, prompt, name, position, k=_RANKED),
    )
    table = pd.DataFrame(
        {
            "token": [*found.top, *found.bottom],
            "logits": [*found.raised.tolist(), *found.lowered.tolist()],
        }
    )
    show.chart(promoted_bars(found), f"promoted {key}", table)


def add_button(look: Look, name: str, position: int, key: str) -> None:
    """Offer to choose a component, at the site that the token belongs to."""
    site = look.site(position)
    component = component_of(name)
    there = component in workspace().selection.get(site, ())
    label = f"{name} is chosen at the {site} site" if there else f"Add {name} to the {site} site"
    if st.button(
        label,
        key=f"add {key}",
        disabled=there,
        icon=":material/check:" if there else ":material/add:",
        help="Chosen components are listed at the left and edited on the page Edit & test. The "
        "token says the site: the subject's own tokens, or where the answer is read out.",
    ):
        keep(workspace().adding(site, [component]))
        say(f"{name} is chosen at the {site} site.")
        st.rerun()
