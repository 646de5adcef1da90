"""Model & facts: what is edited, what it is to forget, and what it says."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import streamlit as st

from workbench.errors import WorkbenchError
from workbench.facts.choosing import forgetting, keeping
from workbench.facts.fact import Fact, Request
from workbench.facts.prompts import chat
from workbench.facts.readers import read_facts_leniently
from workbench.facts.request_files import request_names
from workbench.job_inputs import CAPITALS, bundled_world
from workbench.measure.next_tokens import next_tokens
from workbench.models.abilities import abilities, why_no_capitals
from workbench.models.bundled import bundle_of
from workbench.models.paths import cache_dir
from workbench.models.pictured import MARKER
from workbench.models.smollm2 import get_smollm2
from workbench.models.text import generate
from workbench.workspace.requests import keep_request

from parts import show
from parts.background import finished, start
from parts.pictures import portraits, uploaded, with_picture
from parts.state import base, choose_model, edited, keep, request, say, workspace
from parts.tour import tour

_SHOWN = 1000  # rows of facts in the table
_OTHER = "another …"
_NAMED = ("demo", "demo-vision", "smollm2", "demo-oracle", "demo-vision-oracle", _OTHER)
_ABOUT = {
    "demo": "A small bundled model of an invented world; all that it knows is known.",
    "smollm2": "SmolLM2-135M-Instruct, a real pretrained chat model (98 MB to download, once).",
    "demo-vision": "A small bundled model that sees: invented people, known by face and by name.",
    "demo-oracle": "The demo's twin that never saw the facts to forget.",
    "demo-vision-oracle": "The twin of demo-vision that was never told of the people to forget.",
    _OTHER: "A folder in Hugging Face format, or a hub id. Only safetensors are read.",
}
_PARTS = {"forget": "forget", "retain": "keep", "evaluate": "keep, held back for measuring"}


def main() -> None:
    """Draw the page."""
    st.title("Model & facts")
    tour()
    left, right = st.columns([1, 1], gap="large")
    with left:
        _model()
    model = base()
    with right:
        _abilities()
    st.divider()
    _requests()
    wanted = request()
    _facts(wanted)
    st.divider()
    _ask(model.tokenizer.chat_template is not None, wanted)


def _model() -> None:
    here = workspace()
    named = here.model if here.model in _NAMED else _OTHER
    choice = st.radio(
        "Model",
        _NAMED,
        index=_NAMED.index(named),
        captions=[_ABOUT[n] for n in _NAMED],
        key="model choice",
    )
    name = choice
    if choice == _OTHER:
        with st.form("other model", border=False):
            given = st.text_input(
                "Folder or hub id", value=here.model if named == _OTHER else "", key="model name"
            )
            if not st.form_submit_button("Load") or not given.strip():
                st.stop() if named != _OTHER else None
                return
            name = given.strip()
    if name == "smollm2" and not (cache_dir() / "smollm2").is_dir():
        if st.button("Download SmolLM2", icon=":material/download:", key="get smollm2"):
            start("get", "Downloading SmolLM2", get_smollm2)
        if not finished("get"):
            st.stop()
    if name != here.model:
        choose_model(name)
        st.rerun()


def _abilities() -> None:
    model = base()
    st.markdown(f"###### {type(model.hf).__name__}")
    structure = model.structure
    size = sum(p.numel() * p.element_size() for p in model.parameters.values())
    facts = {
        "parameters": f"{model.n_parameters:,}",
        "memory": f"{size / 2**20:,.0f} MiB, {str(model.hf.dtype).removeprefix('torch.')}",
        "layers, heads each": f"{model.n_layers}, {structure.n_heads}",
        "width, neurons a layer": f"{model.d_model}, {structure.d_mlp}",
        "context": f"{model.n_ctx:,} tokens",
    }
    st.dataframe(
        pd.DataFrame({"": facts.keys(), "value": facts.values()}), hide_index=True, width="stretch"
    )
    for ability in abilities(model):
        if ability.available:
            st.markdown(f":material/check: {ability.name}")
        else:
            st.markdown(f":gray[:material/block: {ability.name}. {ability.reason}]")


def _requests() -> None:
    """Offer the requests; those that the model cannot serve are greyed, with the reason."""
    st.subheader("What to forget")
    here = workspace()
    model = base()
    world = bundle_of(model.name)
    names = [*request_names(world.facts if world else None), CAPITALS]
    with st.container(horizontal=True):
        for name in names:
            why = ""
            if name == CAPITALS:
                why = why_no_capitals(model)
            elif not world:
                why = "These facts exist only in the world of a bundled model."
            chosen = here.request == name
            if st.button(
                name,
                key=f"request {name}",
                disabled=bool(why),
                help=why or None,
                type="primary" if chosen else "secondary",
            ):
                keep(replace(here, request=name))
                st.rerun()
        if here.request not in names:
            st.button(Path(here.request).stem, key="request own", type="primary")


def _facts(wanted: Request) -> None:
    every = [(part, f) for part in _PARTS for f in getattr(wanted, part)]
    search, relation, part = st.columns([3, 1, 1])
    text = search.text_input("Search", placeholder="a name, a word of the prompt", key="search")
    relations = sorted({f.relation for _, f in every})
    one = relation.selectbox("Relation", ["all", *relations], key="relation")
    side = part.selectbox("Which", ["all", *_PARTS], key="part", format_func=_part_words)
    needle = text.casefold()
    found = [
        (p, f)
        for p, f in every
        if (one in ("all", f.relation))
        and side in ("all", p)
        and (not needle or needle in f"{f.subject} {f.prompt} {f.target}".casefold())
    ]
    shown = found[:_SHOWN]
    more = f", the first {_SHOWN} are shown" if len(found) > _SHOWN else ""
    st.caption(
        f"{len(wanted.forget)} facts to forget, {len(wanted.retain)} to keep, "
        f"{len(wanted.evaluate)} held back for measuring. {len(found)} match{more}. "
        "Tick rows to choose."
    )
    table = pd.DataFrame(
        [(_PARTS[p], f.subject, f.relation, f.prompt, f.target) for p, f in shown],
        columns=["what", "subject", "relation", "prompt", "answer"],
    )
    event = st.dataframe(
        table, hide_index=True, on_select="rerun", selection_mode="multi-row", key="facts"
    )
    rows = [i for i in event["selection"]["rows"] if i < len(shown)]
    chosen = [shown[i][1] for i in rows]
    portraits(chosen)
    with st.container(horizontal=True):
        if st.button("Forget only these", disabled=not chosen, key="forget these", type="primary"):
            _take(forgetting(wanted, chosen))
        if st.button("Forget these too", disabled=not chosen, key="forget too"):
            _take(forgetting(wanted, (*wanted.forget, *chosen)))
        if st.button("Keep these", disabled=not chosen, key="keep these"):
            _take(keeping(wanted, chosen))
    hand, file = st.columns(2, gap="large")
    with hand, st.expander("Add a fact by hand", icon=":material/add:"):
        _by_hand(wanted)
    with file, st.expander("Add facts from a file", icon=":material/upload_file:"):
        _from_file(wanted)


def _part_words(part: str) -> str:
    return _PARTS.get(part, part)


def _take(new: Request) -> None:
    """Make a request the workspace's; wrong ones raise a sentence and change nothing."""
    keep(replace(workspace(), request=keep_request(new)))
    say(f"{len(new.forget)} facts to forget, {len(new.retain)} to keep.")
    st.rerun()


def _by_hand(wanted: Request) -> None:
    with st.form("own fact", border=False):
        subject = st.text_input("Subject", help="Whom or what it is about.", key="own subject")
        prompt = st.text_input(
            "Prompt", help="Holds the subject once; the model continues it.", key="own prompt"
        )
        target = st.text_input("Answer", help="What the model continues with.", key="own target")
        foil = st.text_input("Wrong answer (optional)", key="own foil")
        relation = st.text_input("Relation (optional)", key="own relation")
        picture = None
        if base().vision is not None:
            label = f"Picture, if the prompt says {MARKER}; it may stand for the subject"
            picture = uploaded("own picture", label)
        to_forget = st.form_submit_button("Forget it", type="primary")
        to_keep = st.form_submit_button("Keep it")
    if to_forget or to_keep:
        spaced = [t if not t or t.startswith(" ") else f" {t}" for t in (target, foil)]
        image = picture.path if picture and MARKER in prompt else None
        said = (subject.strip(), prompt, spaced[0], spaced[1] or None, relation.strip())
        fact = Fact(*said, image=image)
        _take(forgetting(wanted, (*wanted.forget, fact)) if to_forget else keeping(wanted, (fact,)))


def _from_file(wanted: Request) -> None:
    uploaded = st.file_uploader(
        "JSON Lines, JSON, CSV or TSV with the columns subject, prompt, target",
        type=["jsonl", "json", "csv", "tsv"],
        key="upload",
    )
    if uploaded is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"upload{Path(uploaded.name).suffix.lower()}"
        path.write_bytes(uploaded.getvalue())
        try:
            read = read_facts_leniently(path)
        except WorkbenchError as error:
            st.error(str(error).replace(str(path), uploaded.name), icon=":material/error:")
            return
    problems = [p.replace(str(path), uploaded.name) for p in read.problems]
    st.text(f"{uploaded.name}: {len(read.facts)} facts, {len(problems)} lines left out.")
    if problems:
        st.text("\n".join(problems[:5]))
    with st.container(horizontal=True):
        if st.button("Forget them", key="upload forget", type="primary"):
            _take(forgetting(wanted, read.facts))
        if st.button("Keep them", key="upload keep"):
            _take(keeping(wanted, read.facts))


def _ask(can_chat: bool, wanted: Request) -> None:
    st.subheader("Ask the model")
    as_chat = st.toggle(
        "as a question in a conversation",
        value=can_chat and not bundled_world(base(), workspace().request),
        disabled=not can_chat,
        help=None if can_chat else "This model has no chat template.",
        key="ask chat",
    )
    first = wanted.forget[0]
    default = first.extra.get("question", "") if as_chat else first.prompt
    text = st.text_area("Prompt", value=str(default), key=f"ask {workspace().model}", height=90)
    if not text.strip():
        show.empty("Write a prompt to see how the model goes on.")
        return
    asked = with_picture(text, f"ask {workspace().model}")
    if asked is None:
        return
    prompt = chat(base(), asked) if as_chat else asked
    now = edited()
    with st.container(border=True):
        st.caption("The model goes on" + (" (with your edits)" if workspace().active else ""))
        st.text(generate(now, [prompt], max_new_tokens=32)[0] or "(nothing)")
    table = next_tokens(base(), now, prompt, k=8)
    columns = {
        "token": st.column_config.TextColumn("next token"),
        "p_after": st.column_config.ProgressColumn(
            "probability", min_value=0.0, max_value=1.0, format="%.3f"
        ),
        "rank_after": "rank",
    }
    st.dataframe(table[list(columns)], column_config=columns, hide_index=True, width="stretch")


main()
