"""Finding a circuit, choosing one that was found, and measuring how faithful it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet
from workbench.facts.readers import write_facts
from workbench.figures.theme import LOST_BY
from workbench.localize.circuit import faithfulness
from workbench.localize.circuit_graph import Circuit
from workbench.localize.corruption import corruptions_for
from workbench.localize.metrics import METRICS
from workbench.models.paths import cache_dir
from workbench.plans import CircuitPlan, plan_of, run_circuit
from workbench.progress import SILENT, Progress
from workbench.recent import remember
from workbench.store.run import RunRecord
from workbench.store.timing import typical_seconds

from parts import show
from parts.background import start
from parts.looking import Look
from parts.state import base, facts_to_trace, request, request_named, store, workspace

T = TypeVar("T")
EDGES = 100  # kept unless the user says otherwise
_LIVE = 6e7  # parameters times facts up to which a circuit is measured while a slider moves
_AUTOMATIC = "automatic"


def controls(look: Look) -> CircuitPlan | None:
    """Draw the settings; None while the prompt has no subject to lose."""
    asked = look.question
    if not asked.subject:
        show.empty(
            "A circuit is what carries the answer when the subject is there and not when it is "
            "lost. Name the prompt's subject above to find it."
        )
        return None
    found = FactSet() if asked.own else facts_to_trace()
    alike = found.where(lambda fact: fact.relation == asked.relation)
    scopes = {"one": "this fact only"}
    if len(alike) > 1:
        scopes["relation"] = f"all {len(alike)} facts to forget of the relation {asked.relation}"
    columns = st.columns(3)
    scope = columns[0].selectbox(
        "Facts", list(scopes), format_func=scopes.__getitem__, key=f"circuit facts {look.key}"
    )
    seen = [c for c in corruptions_for(base()) if c.startswith("image")]
    lost = columns[1].selectbox(
        "How the subject is lost",
        ["noise", "replace"] if scope == "one" else ["replace", "noise", *seen],
        format_func=lambda c: LOST_BY.get(c, c),
        disabled=scope == "one",
        key=f"circuit lost {scope}",
        help="Another subject's tokens need facts about several subjects.",
    )
    metric = columns[2].selectbox(
        "Metric",
        [_AUTOMATIC, *METRICS],
        format_func=lambda m: m.replace("_", " "),
        key="circuit metric",
        help="Automatic: the logit difference if there is a wrong answer, else the probability.",
    )
    more = _more()
    subject = asked.subject if scope == "one" and not asked.own else None
    chosen: dict[str, Any] = {"relation": asked.relation or None, "subject": subject}
    if asked.own or not asked.relation:
        chosen = {"facts": _file(asked.fact)} if asked.fact else {}
    else:
        chosen["request"] = workspace().request
    return CircuitPlan(
        workspace().model,
        corruption="noise" if scope == "one" else lost,
        metric=None if metric == _AUTOMATIC else metric,
        **chosen,
        **more,
    )


def _more() -> dict[str, Any]:
    with st.expander("More settings"):
        columns = st.columns(4)
        steps = columns[0].number_input(
            "Gradients along the path",
            1,
            50,
            5,
            key="circuit steps",
            help="More steps score edges more exactly and take longer in proportion.",
        )
        samples = columns[1].number_input("Corrupted samples", 1, 50, 3, key="circuit samples")
        seed = columns[2].number_input("Seed", 0, 10_000, 0, key="circuit seed")
        heads = columns[3].checkbox("Take attentions apart into heads", True, key="circuit heads")
    return {"steps": int(steps), "samples": int(samples), "seed": int(seed), "heads": heads}


def _file(fact: Fact) -> str:
    """Keep a fact of the user's own as a file, by its content, for the plan to name."""
    known = FactSet((fact,))
    path = cache_dir() / "facts" / f"{known.fingerprint[:16]}.jsonl"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_facts(path, known)
    return str(path)


def find_button(plan: CircuitPlan) -> None:
    """Offer to run the plan."""
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(
            "Find the circuit", type="primary", icon=":material/account_tree:", key="find circuit"
        ):
            fork, runs = base().fork(), store()
            wanted = None if plan.facts else request()
            start(
                "circuit",
                "Circuit",
                lambda p: run_circuit(plan, fork, wanted, store=runs, progress=p).run,
            )
        show.copy_plan(plan, "copy circuit")
        usual = typical_seconds(store(), "circuit", plan.model)
        if usual:
            st.caption(f"Circuits of this model took about {max(usual, 1):.0f} s.")


def shown_run() -> RunRecord | None:
    """Let the user choose among the circuits of this model; the one found last is shown first."""
    records = {
        r.id: r
        for r in store().newest()
        if r.kind == "circuit"
        and r.status == "FINISHED"
        and r.config.get("model") == workspace().model
    }
    if not records:
        show.empty("No circuit was found for this model yet. Press Find the circuit.")
        return None
    current = st.session_state.get("circuit run", "")
    ids = list(records) if current in records else ["", *records]
    run = st.selectbox(
        "Shown",
        ids,
        ids.index(current) if current in records else 0,
        format_func=lambda i: _words(records[i]) if i else "none yet: find one, or choose one",
        key=f"shown circuit {current}",
    )
    if run != current and run:
        st.session_state["circuit run"] = run
        st.rerun()
    return records.get(run)


def _words(record: RunRecord) -> str:
    config = record.config
    named = [config.get("subject"), config.get("relation")]
    about = ", ".join(str(n) for n in named if n) or "a prompt of your own"
    lost = LOST_BY.get(str(config.get("corruption")), "")
    return f"{about}; {lost} ({record.started[:10]} {record.started[11:16]}, {record.id[-6:]})"


def circuit_of(record: RunRecord) -> Circuit:
    """Read a run's circuit, once a session."""
    return _once("circuits", record.id, lambda: Circuit.from_json(record.json("circuit")))


def facts_of(record: RunRecord) -> FactSet:
    """Return the facts that a run looked at.

    Raises:
        WorkbenchError: they are gone.
    """

    def read() -> FactSet:
        plan = plan_of("circuit", record.config)
        assert isinstance(plan, CircuitPlan)
        wanted = None if plan.facts else request_named(plan.request)
        return plan.chosen(base(), wanted)

    return _once("circuit sets", record.id, read)


def measured(record: RunRecord, circuit: Circuit, edges: int) -> dict[str, float] | None:
    """Return the faithfulness of so many edges; None if it takes too long to be live."""
    known: dict[Any, dict[str, float]] = st.session_state.setdefault("faithfulness", {})
    if (record.id, edges) not in known:
        for row in _stored(record):
            known[record.id, int(row["edges"])] = row
    if (record.id, edges) not in known:
        if base().n_parameters * circuit.n_facts > _LIVE:
            return None
        known[record.id, edges] = _measure(base(), facts_of(record), circuit, edges)
    return known[record.id, edges]


def measure_later(record: RunRecord, circuit: Circuit, edges: int) -> None:
    """Measure off the script thread; `keep_measured` takes what comes out."""
    fork, looked = base().fork(), facts_of(record)
    start(
        "faithfulness",
        "Faithfulness",
        lambda p: (record.id, edges, _measure(fork, looked, circuit, edges, p)),
    )


def keep_measured(found: tuple[str, int, dict[str, float]]) -> None:
    """Remember what was measured."""
    run, edges, row = found
    st.session_state.setdefault("faithfulness", {})[run, edges] = row


def _measure(
    model: Any, looked: FactSet, circuit: Circuit, edges: int, progress: Progress = SILENT
) -> dict[str, float]:
    table = faithfulness(model, looked, circuit, [edges], progress=progress)
    return table.to_dict("records")[0]


def _stored(record: RunRecord) -> list[dict[str, float]]:
    try:
        return record.table("faithfulness").to_dict("records")
    except (WorkbenchError, ValueError, OSError):
        return []  # measured again


def _once(shelf: str, key: str, make: Callable[[], T]) -> T:
    kept: dict[str, T] = st.session_state.setdefault(shelf, {})
    return remember(kept, key, make, most=4)
