"""Export: the edited model as a plain Hugging Face folder, verified as it is written."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from workbench.models.delta import total
from workbench.models.edit_card import edit_card
from workbench.models.export import ExportResult
from workbench.models.lora import lora_obstacle
from workbench.plans.export import ExportPlan, run_export
from workbench.workspace.workspace import delta_files, deltas_of

from parts import show
from parts.background import finished, start
from parts.state import base, edited, store, workspace

_FORMATS = {
    "checkpoint": "the whole model, for plain transformers",
    "delta": "only what changed",
    "lora": "a PEFT adapter, if the edit is low-rank",
}


def main() -> None:
    """Draw the page."""
    st.title("Export")
    here = workspace()
    if not here.active:
        show.empty("No edit is switched on. Make one first.", "edit_test.py", "Edit & test")
        return
    model = edited()
    delta = total(deltas_of(here.active, store()))
    st.write(f"{len(here.active)} edit(s): " + show.plain(", ".join(e.name for e in here.active)))
    obstacle = lora_obstacle(base(), delta)
    with st.container(border=True):
        for name, words in _FORMATS.items():
            st.checkbox(
                f"{name}: {words}",
                value=name != "lora",
                disabled=name != "lora" or bool(obstacle),
                help=obstacle if name == "lora" else None,
                key=f"format {name}",
            )
        folder = st.text_input(
            "Folder",
            value=str(Path.cwd() / f"{Path(here.model).name}-edited"),
            help="Written whole or not at all.",
            key="export folder",
        )
        overwrite = st.checkbox("Replace an earlier export in this folder", key="overwrite")
        certify = st.checkbox(
            "Certificate: what every attack brings back; attacks not tried yet take minutes",
            key="certify",
        )
        plan = ExportPlan(
            here.model,
            out=folder.strip(),
            deltas=delta_files(here.active, store()),
            lora=bool(st.session_state["format lora"]),
            overwrite=overwrite,
            certify=certify,
            request=here.request if certify else "",
        )
        with st.container(horizontal=True, vertical_alignment="center"):
            if st.button("Export", type="primary", icon=":material/save:", key="export"):
                fork, runs = base().fork(), store()
                start(
                    "export",
                    "Exporting",
                    lambda p: run_export(plan, fork, model, store=runs, progress=p).result,
                )
            show.copy_plan(plan, "copy export")
    made = finished("export")
    if made is not None:
        st.session_state["exported"] = made
    if "exported" in st.session_state:
        _verified(st.session_state["exported"])
    path = delta_files(here.active[-1:], store())[0]
    st.download_button(
        "Download the last edit's delta file",
        lambda: Path(path).read_bytes(),
        "delta.safetensors",
        key="download delta",
        on_click="ignore",
        icon=":material/download:",
    )
    st.subheader("Edit card")
    st.caption("README.md of the exported folder.")
    with st.container(border=True, height=420):
        st.code(edit_card(model, delta, None, plan.formats), language="markdown", wrap_lines=True)


def _verified(made: ExportResult) -> None:
    largest = made.max_logit_difference
    words = f"{largest:.1e}" if largest is not None else "not measured"
    st.success(
        f"Wrote {', '.join(made.formats)}. A clean process reloaded it with plain transformers; "
        f"largest difference of any logit: {words}.",
        icon=":material/verified:",
    )
    st.code(str(made.folder), language=None)
    st.caption("Load it:")
    st.code(
        "from transformers import AutoModelForCausalLM\n"
        f"model = AutoModelForCausalLM.from_pretrained({str(made.folder)!r})",
        language="python",
    )
    with st.expander(f"{len(made.files)} files"):
        st.dataframe(
            [{"file": name, "sha256": digest} for name, digest in made.files.items()],
            hide_index=True,
            width="stretch",
        )


main()
