"""From scores to the components of each site, by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from workbench.errors import WorkbenchError
from workbench.localize.localization import Localization
from workbench.localize.sites import recall_sites

SUBJECT = (0.9, 0.02, 0.30, 0.20, 0.10, 0.01)  # by layer, at the subject's last token
ANSWER = (0.0, 0.0, 0.0, 0.0, 0.50, 0.40)


def localization(subject=SUBJECT, answer=ANSWER) -> Localization:
    rows = [
        {"kind": kind, "layer": layer, "index": -1, "role": role, "score": sign * score}
        for kind, sign in (("mlp", 1.0), ("attn", -1.0))
        for role, scores in (("last subject", subject), ("last", answer))
        for layer, score in enumerate(scores)
    ]
    return Localization("hand", pd.DataFrame(rows), 1.0, 0.0, 1)


def written(**settings) -> dict[str, str]:
    return {site: str(c) for site, c in recall_sites(localization(), **settings).items()}


def test_a_component_belongs_to_the_site_where_it_does_more():
    assert written(share=0.0, most=9) == {"subject": "mlp.0-3", "answer": "mlp.4-5"}


def test_share_and_most_cut():
    assert written(share=0.25) == {"subject": "mlp.0+2", "answer": "mlp.4-5"}
    assert written(share=0.0, most=1) == {"subject": "mlp.0", "answer": "mlp.4"}


def test_the_layers_below_the_first_do_not_count_for_the_share():
    assert written(share=0.5, first=1) == {"subject": "mlp.2-3", "answer": "mlp.4-5"}
    assert written(share=0.25, first=4) == {"answer": "mlp.4-5"}


def test_nothing_positive_is_said():
    zero = (0.0,) * 6
    with pytest.raises(WorkbenchError, match="No component has a positive effect"):
        recall_sites(localization(zero, zero))
    with pytest.raises(WorkbenchError, match="No component has a positive effect"):
        recall_sites(localization(), kinds=("attn",))


def test_a_picture_put_back_whole_counts_as_the_subject():
    of_names = localization().table
    seen = of_names[of_names["role"] == "last subject"].copy()
    seen["role"] = "whole picture"
    seen["score"] = [*(0.05, 0.6, 0.1, 0.1, 0.7, 0.1), *(0.0,) * 6]
    both = Localization("hand", pd.concat([of_names, seen]), 1.0, 0.0, 1)
    found = {site: str(c) for site, c in recall_sites(both, share=0.0, most=9).items()}
    # MLP 1 is looked up in the picture, MLP 0 in the name; MLP 4 does more at it than at the end.
    assert found == {"subject": "mlp.0-4", "answer": "mlp.5"}
    assert str(recall_sites(both, share=0.6)["subject"]) == "mlp.0-1+4"
