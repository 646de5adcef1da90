"""Which questions each measure is the mean of, and of what."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_F, _R = "forget", "retain"
MEASURES: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        f"{name}_{side[0]}": (side, kind, column)
        for side in (_F, _R)
        for name, kind, column in (
            ("acc", "prompt", "right"),
            ("paraphrase", "paraphrase", "right"),
            ("statement", "statement", "right"),
            ("held_out", "held_out", "right"),
            ("held_out_statement", "held_out_statement", "right"),
            ("mcq", "mcq", "choice_right"),
            ("mcq_generated", "mcq", "right"),
            ("refusal", "prompt", "refused"),
            ("refusal_paraphrase", "paraphrase", "refused"),
            ("refusal_statement", "statement", "refused"),
            ("leak", "prompt", "leaked"),
            ("rouge_l", "prompt", "rouge_l"),
            ("rouge_l_recall", "prompt", "rouge_l_recall"),
            ("probability", "prompt", "probability"),
            ("rank", "prompt", "rank"),
            ("replaced", "prompt", "replaced"),
            ("kl", "prompt", "kl"),
        )
        if (name, side) not in {("leak", _R), ("replaced", _R), ("kl", _F)}
    }
    | {
        "neighborhood": (_F, "neighbor", "right"),
        "everyday": ("everyday", "prompt", "right"),
        "refusal_everyday": ("everyday", "prompt", "refused"),
    }
)
# The same, told apart by how the subject is given; only where facts have pictures.
PICTURED: Mapping[str, tuple[str, str, str, bool | None]] = MappingProxyType(
    {
        f"{name}_{how}_{side[0]}": (side, kind if shown is not None else seen, column, shown)
        for side in (_F, _R)
        for how, shown in (("shown", True), ("named", False), ("view", None))
        for name, kind, seen, column in (
            ("acc", "prompt", "view", "right"),
            ("statement", "statement", "view_statement", "right"),
            ("mcq", "mcq", "view_mcq", "choice_right"),
            ("refusal", "prompt", "view", "refused"),
            ("rouge_l", "prompt", "view", "rouge_l"),
        )
    }
)
