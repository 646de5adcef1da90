"""Pictures on the pages: which one a prompt shows, what facts show, and scores laid over one."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from workbench.facts.fact import Fact
from workbench.figures.portraits import portrait_panels
from workbench.figures.theme import kind_label
from workbench.localize.localization import Localization
from workbench.localize.patch_grid import has_patches, pictured_fact
from workbench.models.pictured import MARKER, Pictured, pictures_of
from workbench.models.pictures import FORMATS, Picture
from workbench.workspace.pictures import keep_picture

from parts import show
from parts.state import base, request

_WIDTH = 96  # pixels
_MOST = 12  # portraits in a row
_TYPES = [*(name.lower() for name in FORMATS), "jpg"]
_UPLOAD = "a file of mine"


def portraits(facts: Sequence[Fact]) -> None:
    """Show the pictures of some facts, each once."""
    found: dict[Picture, str] = {}
    for fact in facts:
        for picture in pictures_of(fact.prompt):
            found.setdefault(picture, fact.subject)
    if found:
        with st.container(horizontal=True):
            for picture, subject in list(found.items())[:_MOST]:
                st.image(picture.rgb(), caption=subject, width=_WIDTH)


def with_picture(text: str, key: str) -> str | None:
    """Give a prompt the picture that the user chooses for its image marker.

    Returns:
        The prompt; a text without an image marker as it is; None while no picture is chosen.
    """
    if MARKER not in text or base().vision is None:
        return text
    shown, choice = st.columns([1, 4], vertical_alignment="center")
    with choice:
        picture = _chosen(key)
    if picture is None:
        st.caption(f"Choose the picture that stands where the prompt says {MARKER}.")
        return None
    shown.image(picture.rgb(), width=_WIDTH)
    return Pictured(text, [picture] * text.count(MARKER))


def uploaded(key: str, label: str = "Picture (optional)") -> Picture | None:
    """Take a picture from the user; a wrong one raises its sentence."""
    file = st.file_uploader(label, type=_TYPES, key=key)
    return None if file is None else keep_picture(file.getvalue(), file.name)


def scores_on_picture(found: Localization) -> None:
    """Lay the scores of a single fact's picture over it."""
    if not has_patches(found):
        if base().vision is not None:
            st.caption(
                "Localize a single fact with an image (choose a subject and a relation) to see its "
                "scores on the picture."
            )
        return
    kinds = {kind_label(kind): kind for kind in found.kinds}
    name = st.segmented_control(
        "On the picture", list(kinds), default=next(iter(kinds)), key="on picture", required=True
    )
    picture = pictured_fact(found, base().vision)
    if picture is None:
        st.caption("The picture's file is gone or was changed, so the scores stand alone.")
    show.chart(portrait_panels(found, kinds[str(name)], picture), f"picture {name}", found.table)
    st.caption(
        "All patches of a picture may tell who is seen. Putting one back by itself then does "
        "nothing; attribution patching (variant ig) shares the effect out among them."
    )


def _chosen(key: str) -> Picture | None:
    wanted = request()
    known: dict[str, Picture] = {}
    for fact in (*wanted.forget, *wanted.retain, *wanted.evaluate, *wanted.unknown):
        for picture in pictures_of(fact.prompt):
            known.setdefault(fact.subject, picture)
    name = st.selectbox("Picture", [*known, _UPLOAD], key=f"picture {key}")
    return known[name] if name in known else uploaded(f"picture file {key}", "Your picture")
