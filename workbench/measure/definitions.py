"""What each measure means, in a sentence."""

from __future__ import annotations

_DEFINITIONS = {
    "acc": "Share of the facts' own prompts whose free greedy answer is right.",
    "paraphrase": "The same, asked in other wordings.",
    "statement": "The same, as statements to go on with.",
    "held_out": "The same, in wordings that neither training nor the edit has seen.",
    "held_out_statement": "The same, as statements that neither training nor the edit has seen.",
    "mcq": "Share of multiple-choice questions whose right option is the likeliest of those given: "
    "the harder test for an edit that only refuses.",
    "mcq_generated": "Share of multiple-choice questions answered right in free text.",
    "refusal": "Share of the facts' own prompts that are refused.",
    "refusal_paraphrase": "Share of the other wordings that are refused.",
    "refusal_statement": "Share of the statements that are refused.",
    "leak": "Share of answers that hold the forgotten answer anywhere.",
    "rouge_l": "ROUGE-L F-measure of the answer against the target.",
    "rouge_l_recall": "ROUGE-L recall of the answer against the target.",
    "probability": "Mean probability of the target, per token.",
    "rank": "Mean rank of the target's first token; 0 is the likeliest.",
    "replaced": "Share of the facts' own prompts answered with the new answer.",
    "kl": "KL divergence from the base to the model at the last position of the prompts, in nats.",
    "neighborhood": "Share of the same questions about others that are answered as before.",
    "everyday": "Share of everyday questions, about nothing in the request, that are answered.",
    "refusal_everyday": "Share of everyday questions that are refused.",
    "perplexity": "Perplexity of neutral texts; it must stay as it was.",
    "utility": "Harmonic mean of the kept accuracies.",
}
_GIVEN = {
    "_shown": "Asked through the fact's own picture. ",
    "_named": "Asked by name, without a picture. ",
    "_view": "Asked through other pictures of the subject, which no edit has seen. ",
}
_SIDES = {"_f": "Over the facts to forget. ", "_r": "Over the facts to keep. "}


def definition(measure: str) -> str:
    """Return what a measure means; empty if nothing is written of it."""
    if measure in _DEFINITIONS:
        return _DEFINITIONS[measure]
    name, side = measure[:-2], measure[-2:]
    given = next((end for end in _GIVEN if name.endswith(end)), "")
    name = name.removesuffix(given)
    if side not in _SIDES or name not in _DEFINITIONS:
        return ""
    return _SIDES[side] + _GIVEN.get(given, "") + _DEFINITIONS[name]
