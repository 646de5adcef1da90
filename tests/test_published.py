"""The numbers in README are those of the studies' files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import mean, median

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parent.parent
EIGHT = {
    "WGA*": "wga",
    "STAMP*, MLPs 0-1": "stamp at mlp.0-1",
    "STAMP*, traced MLPs 0-3, ridge 0.1": "stamp, ridge 0.1",
    "STAMP*, traced MLPs 0-3": "stamp at mlp.0-3",
    "FLAT*": "flat",
    "SimNPO": "simnpo",
    "STAMP, only up to": "stamp, up to the reference",
    "refusal training (IDK)*": "idk",
    "context distillation": "context-distillation",
    "mechanistic unlearning, log(1-p)*": "mechanistic, log(1-p)",
    "NPO": "npo",
    "DPO": "dpo",
    "mechanistic unlearning, refusals*": "mechanistic, refusal",
    "AlphaEdit": "alphaedit",
    "MEMIT": "memit",
    "GradDiff": "grad-diff",
}
FORTY = {
    "mechanistic unlearning, log(1-p)": "mechanistic, log(1-p)",
    "STAMP, three tokens, 0.3 past": "stamp",
    "STAMP, three tokens, 0.7 past": "stamp, far past the reference",
    "STAMP, three tokens, up to": "stamp, up to the reference",
    "STAMP, the last token": "stamp, the last token",
    "STAMP, the last token, all attentions and MLPs, ridge 1": "stamp, ridge 1 at everything",
    "STAMP, the last token, all attentions and MLPs, ridge 0.3": "stamp, ridge 0.3 at everything",
    "STAMP, the last token, attentions and MLPs 0-3": "stamp, ridge 1 at attn.0-3, mlp.0-3",
    "STAMP, the last two tokens": "stamp, the last two tokens",
    "refusal training": "idk",
    "mechanistic unlearning, refusals": "mechanistic, refusal",
    "context distillation": "context-distillation",
    "MEMIT": "memit",
    "WGA": "wga",
    "FLAT": "flat",
    "DPO": "dpo",
    "NPO": "npo",
    "GradDiff": "grad-diff",
}
TASKS = {
    "hazard": "harm",
    "misinformation": "misinformation",
    "personal data": "personal",
    "one fact": "one-fact",
    "capitals": "capitals",
}
TASK_COLUMNS = ("acc_f", "acc_r", "rouge_l_f", "rouge_l_r", "perplexity")
STUDIES = ROOT / "data/demo/studies"


def table_behind(line: str, file: str = "README.md") -> dict[str, list[str]]:
    text = (ROOT / file).read_text(encoding="utf-8")
    rows = text[text.index(line) :].split("\n\n")[1].splitlines()[2:]
    cells = [[c.strip() for c in row.strip("|").split("|")] for row in rows]
    return {first: rest for first, *rest in cells}


def kept_of_all() -> pd.DataFrame:
    """Return the kept share of every edit of forty, of all kept facts and not of 80."""
    kept = pd.read_csv(STUDIES / "kept-40.csv")
    return kept.groupby(["study", "method", "place"], as_index=False)["asked_507"].mean()


def test_the_kept_share_of_all_facts_is_that_of_the_studies_edits() -> None:
    kept = pd.read_csv(STUDIES / "kept-40.csv")
    for study, rows in kept.groupby("study"):
        cells = pd.read_csv(STUDIES / str(study) / "cells.csv")
        cells = cells[cells["method"].isin(rows["method"])]
        same = rows.merge(cells, on=["method", "place", "seed"], how="outer")
        assert same["asked_80"].round(3).tolist() == same["acc_r"].round(3).tolist()


@pytest.mark.parametrize(
    ("line", "studies", "names"),
    [
        ("Eight athletes, forgotten by", ("contenders-8", "methods-8"), EIGHT),
        ("Forty athletes, a tenth of all", ("contenders-40", "methods-40", "sublayers-40"), FORTY),
    ],
)
def test_the_tables_in_readme_are_those_of_the_studies(
    line: str, studies: tuple[str, ...], names: dict[str, str]
) -> None:
    tables = [pd.read_csv(STUDIES / study / "table.csv").assign(study=study) for study in studies]
    found = pd.concat(tables)
    found = found.drop_duplicates(["method", "place"])  # the study with more seeds stands first
    if names is FORTY:
        found = found.merge(kept_of_all(), on=["study", "method", "place"])
    several = found.duplicated("method", keep=False)
    found["method"] += (" at " + found["place"]).where(several, "")
    found = found.set_index("method")
    shown = table_behind(line)
    assert len(shown) == len(names)
    for label, cells in shown.items():
        row = found.loc[names[max((n for n in names if label.startswith(n)), key=len)]]
        assert line.startswith("Forty") or (row["seeds"] == 5) == ("*" in label), label
        kept = "asked_507" if names is FORTY else "acc_r"
        expected = [f"{row[c]:.2f}" for c in ("acc_f", kept, "mcq_f", "recovered")]
        if "(" in cells[3]:
            expected[3] += f" ({row['recovered_low']:.2f}-{row['recovered_high']:.2f})"
        assert [re.sub(r" by .*", "", c) for c in cells[:4]] == expected, label
        assert cells[4] in (f"{row['cpu_seconds']:.0f}", "-"), label


def test_the_table_in_the_form_of_repairs_is_that_of_the_studies() -> None:
    shown = table_behind("In the form of RePAIR's Table 2", "data/demo/studies/README.md")
    text = (STUDIES / "README.md").read_text(encoding="utf-8")
    tasks = [TASKS[name] for name in re.findall(r"\| ([a-z ]+): Acc_f", text)]
    assert tasks
    for n, task in enumerate(tasks):
        found = pd.read_csv(STUDIES / f"repair-{task}" / "table.csv").set_index("method")
        assert set(found.index) <= {label.lower().removesuffix(" directions") for label in shown}
        for label, cells in shown.items():
            own = cells[6 * n : 6 * n + 6]
            name = label.lower().removesuffix(" directions")
            if name not in found.index:
                assert own == ["-"] * 6
                continue
            row = found.loc[name]
            assert own[:5] == [f"{row[c]:.2f}" for c in TASK_COLUMNS], (task, label)
            cost = row["cpu_seconds"]
            assert own[5] == ("-" if pd.isna(cost) else f"{cost:.0f}"), (task, label)


def test_the_table_of_stamps_parts_is_that_of_the_study() -> None:
    found = pd.read_csv(STUDIES / "repair-ablations" / "table.csv").dropna(subset=["cpu_seconds"])
    shown = table_behind("What STAMP's parts do", "data/demo/studies/README.md")
    columns = [*TASK_COLUMNS, "mcq_f"]
    expected = sorted(
        [*(f"{row[c]:.2f}" for c in columns), f"{row['cpu_seconds']:.0f}"]
        for row in found.to_dict("records")
    )
    assert sorted(shown.values()) == expected
    single = found[found["method"].str.startswith("rank") | found["place"].str.fullmatch(r"mlp.\d")]
    assert len(single) == 7
    for row in single.to_dict("records"):  # whose row it is stands in its name
        number = row["method"].removeprefix("rank ").replace("stamp", row["place"][4:])
        kind = "{} directions" if row["method"] != "stamp" else "MLP {} alone"
        assert shown[kind.format(number)][1] == f"{row['acc_r']:.2f}"


def test_what_readme_says_of_smollm2_is_in_the_study() -> None:
    found = pd.read_csv(STUDIES / "smollm2-8" / "table.csv").set_index("method")
    assert (found["seeds"] == 1).all() and (found["failed"] == 0).all()
    stamp, memit = found.loc["stamp, at the subject"], found.loc["memit"]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    kept = rf"keeps {stamp['acc_r']:.2f} of\s+the others.*MEMIT keeps {memit['acc_r']:.2f}"
    assert stamp["acc_f"] == 0 and re.search(kept, text, re.DOTALL)
    assert (stamp["recovered"], memit["recovered"]) == (1 / 8, 1 / 4)


def test_the_repairs_curve_in_its_readme_is_that_of_its_file() -> None:
    found = pd.read_csv(ROOT / "data/demo/repairs/trial.csv")
    shown = table_behind("How many repairs", "data/demo/repairs/README.md")
    assert [int(n) for n in shown] == found["repairs"].tolist() == list(range(10, 101, 10))
    columns = ("forgotten", "beside", "held_back", "not_named")
    for cells, row in zip(shown.values(), found.to_dict("records"), strict=True):
        assert cells[:4] == [f"{row[c]:.3f}" for c in columns]


def test_the_table_of_tasks_in_sentences_is_that_of_their_files() -> None:
    names = {"eight compounds": "hazard", "eight wrong capitals": "misinformation"}
    names["eight people"] = "personal"
    shown = table_behind("Columns as in RePAIR's Table 2", "data/demo/repairs/README.md")
    assert set(shown) == set(names)
    for label, cells in shown.items():
        files = [ROOT / f"data/demo/repairs/tasks/{names[label]}-{seed}.json" for seed in range(3)]
        found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        assert [one["seed"] for one in found] == [0, 1, 2]
        done = [sum(s["repaired"] for s in one["sentences"]) for one in found]
        assert all(len(one["sentences"]) == 8 for one in found)
        columns = ("acc_f", "acc_r", "rouge_l_f", "rouge_l_r", "perplexity", "mcq_f")
        means = [mean(one["scores"][c]["value"] for one in found) for c in columns]
        each = median(s["cpu_seconds"] for one in found for s in one["sentences"])
        assert cells == [
            f"{', '.join(map(str, done))} of 8",
            *(f"{value:.2f}" for value in means),
            f"{mean(one['cpu_seconds'] for one in found):.0f}",
            f"{each:.1f}",
        ]


SEEN = {
    "STAMP, MLPs 0-3, to strangers": "stamp",
    "STAMP, MLPs 0-3, to destroyed pictures": "stamp, destroyed pictures",
    "STAMP, MLPs 0-3, gentle": "stamp, gentle",
    "VGID": "vgid",
    "NPO": "npo",
    "GradDiff": "grad-diff",
    "KL-min": "kl-min",
    "GA": "ga",
    "a text before each prompt": "in-context",
}
GIVEN = ("shown", "view", "named")


def seen_row(row: pd.Series) -> list[str]:
    """Write a study's row as README does: said, multiple choice, kept."""
    said, kept = (
        ", ".join(f"{row[f'acc_{how}_{side}']:.2f}" for how in GIVEN) for side in ("f", "r")
    )
    return [said, f"{row['mcq_f']:.2f}", kept]


def test_the_table_of_people_who_are_seen_is_that_of_the_study() -> None:
    found = pd.read_csv(ROOT / "data/demo-vision/studies/vgid-8/table.csv").set_index("method")
    shown = table_behind("Eight of the 150 people forgotten")
    assert set(shown) == set(SEEN)
    for label, cells in shown.items():
        row = found.loc[SEEN[label]]
        assert cells[:3] == seen_row(row), label
        back = "-"
        if not pd.isna(row["recovered"]):
            spread = f"({row['recovered_low']:.2f}-{row['recovered_high']:.2f})"
            back = f"{row['recovered']:.2f} {spread}"
        assert cells[3] == back, label
        assert cells[4] == f"{row['cpu_seconds']:.0f}", label
    oracle = found.loc["oracle"]
    assert (oracle["recovered"], f"{oracle['mcq_f']:.2f}") == (0.25, "0.14")
    assert found.loc["stamp", "acc_r"] >= found.loc["base", "acc_r"] - 0.02


def test_the_table_of_more_people_is_that_of_their_studies() -> None:
    names = {"STAMP, to strangers": "stamp", "VGID": "vgid"}
    names["STAMP, to destroyed pictures"] = "stamp, destroyed pictures"
    shown = table_behind("More people, with larger buffers")
    assert len(shown) % len(names) == 0
    for label, cells in shown.items():
        people, method = label.split(": ")
        folder = ROOT / f"data/demo-vision/studies/vgid-{people}"
        row = pd.read_csv(folder / "table.csv").set_index("method").loc[names[method]]
        assert row["seeds"] == 3 and row["failed"] == 0
        assert cells == [*seen_row(row), f"{row['cpu_seconds']:.0f}"], label


FACES = {
    "STAMP, to strangers": "stamp",
    "STAMP, to destroyed pictures": "stamp, destroyed pictures",
    "STAMP, gentle": "stamp, gentle",
    "VGID": "vgid",
    "VGID, the noise alone": "vgid, noise alone",
    "VGID, the text alone": "vgid, text alone",
}


def test_the_table_of_faces_alone_is_that_of_its_study() -> None:
    folder = ROOT / "data/demo-vision/studies/vgid-halves"
    found = pd.read_csv(folder / "table.csv").set_index("method")
    shown = table_behind("Only the faces, and not the names")
    assert set(shown) == set(FACES)
    for label, cells in shown.items():
        row = found.loc[FACES[label]]
        assert row["seeds"] == 3 and row["failed"] == 0
        said, kept = (
            ", ".join(f"{row[f'acc_{how}_{side}']:.2f}" for how in hows)
            for side, hows in (("f", GIVEN[:2]), ("r", GIVEN))
        )
        assert cells == [said, f"{row['mcq_f']:.2f}", kept, f"{row['cpu_seconds']:.0f}"], label
    oracle = found.loc["oracle"]
    assert (f"{oracle['acc_named_r']:.2f}", f"{oracle['mcq_f']:.2f}") == ("0.74", "0.16")


def test_what_readme_says_of_names_and_relearning_is_in_the_studies() -> None:
    folder = ROOT / "data/demo-vision/studies"
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    names, more = (
        pd.read_csv(folder / study / "table.csv").set_index("method")
        for study in ("vgid-names", "vgid-15")
    )
    assert (names["failed"] == 0).all()
    stamp, vgid = names.loc["stamp"], names.loc["vgid"]
    assert stamp["acc_f"] == vgid["acc_f"] == 0
    assert (
        f"names {stamp['acc_named_r']:.2f} with STAMP, in {stamp['cpu_seconds']:.0f} CPU seconds, "
        f"and {vgid['acc_named_r']:.2f} with VGID, in {vgid['cpu_seconds']:.0f}." in text
    )
    assert f"({names.loc['stamp, gentle', 'acc_view_f']:.2f} said in other views)" in text
    assert list(more.loc[["stamp", "vgid"], "worst_attack"]) == ["relearn"] * 2
    back = [f"{more.loc[name, 'recovered']:.2f}" for name in ("stamp", "vgid")]
    assert f"brings {back[0]} of the others back (VGID {back[1]})" in text
