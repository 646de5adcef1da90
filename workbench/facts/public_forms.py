"""Records of public fact sets, recognised by their fields, as facts.

| set | recognised by | prompt -> target | foil |
|---|---|---|---|
| CounterFact (ROME) | requested_rewrite | template with the subject -> target_true | target_new |
| CounterFact (EasyEdit) | prompt, subject, ground_truth | prompt -> ground_truth | target_new |
| ROME known facts | subject, attribute, template | template with the subject -> attribute | - |
| sports facts | athlete, sport, prompt | prompt -> sport | - |
| ZsRE (MEND) | subject, src, answers | question -> first answer | alt |
| WMDP, MMLU | question, choices or A-D, answer | question -> right choice | a wrong choice |
| TOFU, PISTOL | question, answer | question -> answer | perturbed answer |

Questions are asked as "Question: ...", then "Answer:" on a line of its own. Sets of questions
without a subject get the longest run of capitalised words in the question (TOFU's author names), or
else the whole question, with the tag "whole question". Fields without a meaning here are kept in
`extra`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, Probe

Record = Mapping[str, Any]
_LETTERS = "ABCD"
_NAME = re.compile(r"[^\W\d_a-z][\w'’.\-]*(?:\s+[^\W\d_a-z][\w'’.\-]*)*")  # noqa: RUF001
_OPENERS = frozenset(
    re.findall(
        r"\w+",
        "a an the what which who whom whose when where why how is are was were does do did can "
        "could has have had in on at of for from to by with as if given according name describe",
    )
)


def public_fact(record: Record) -> Fact | None:
    """Make a fact of a public set's record; None if it has no public form.

    Raises:
        WorkbenchError: it has a public form, but a field is missing or of the wrong type.
    """
    for fields, make in _FORMS:
        if fields <= set(record):
            return make(record)
    return None


def _counterfact(r: Record) -> Fact:
    rewrite = r["requested_rewrite"]
    if not isinstance(rewrite, dict):
        raise WorkbenchError("the field 'requested_rewrite' must be a record.")
    subject = _text(rewrite, "subject")
    target = _spaced(_text(_inner(rewrite, "target_true"), "str"))
    new = rewrite.get("target_new")
    return Fact(
        subject=subject,
        prompt=_filled(_text(rewrite, "prompt"), subject),
        target=target,
        foil=_spaced(_text(new, "str")) if isinstance(new, dict) else None,
        relation=str(rewrite.get("relation_id") or ""),
        paraphrases=tuple(_texts(r, "paraphrase_prompts")),
        neighbors=tuple(Probe(p, target) for p in _texts(r, "neighborhood_prompts")),
        tags=("counterfact",),
        extra=_rest(r, "requested_rewrite", "paraphrase_prompts", "neighborhood_prompts"),
    )


def _easyedit(r: Record) -> Fact:
    near = zip(_texts(r, "locality_prompt"), _texts(r, "locality_ground_truth"), strict=False)
    foil = r.get("target_new")
    return Fact(
        subject=_text(r, "subject"),
        prompt=_text(r, "prompt"),
        target=_spaced(_first(r, "ground_truth")),
        foil=_spaced(foil) if isinstance(foil, str) and foil.strip() else None,
        relation=str(r.get("relation_id") or r.get("relation") or ""),
        paraphrases=tuple(_texts(r, "rephrase_prompt")),
        neighbors=tuple(Probe(p, _spaced(t)) for p, t in near),
        tags=("counterfact",),
        extra=_rest(
            r,
            *("subject", "prompt", "ground_truth", "target_new", "relation_id", "relation"),
            *("rephrase_prompt", "locality_prompt", "locality_ground_truth"),
        ),
    )


def _known(r: Record) -> Fact:
    subject = _text(r, "subject")
    return Fact(
        subject=subject,
        prompt=_filled(_text(r, "template"), subject),
        target=_spaced(_text(r, "attribute")),
        relation=str(r.get("relation_id") or ""),
        tags=("known",),
        extra=_rest(r, "subject", "template", "prompt", "attribute", "relation_id"),
    )


def _sports(r: Record) -> Fact:
    return Fact(
        subject=_text(r, "athlete"),
        prompt=_text(r, "prompt"),
        target=_spaced(_text(r, "sport")),
        relation="sport",
        tags=("sports",),
        extra=_rest(r, "athlete", "prompt", "sport"),
    )


def _zsre(r: Record) -> Fact:
    subject, question = _text(r, "subject"), _text(r, "src")
    if subject not in question:  # the set is not consistent in its capitals
        found = re.search(re.escape(subject), question, re.IGNORECASE)
        subject = found[0] if found else subject
    asked = [q.removeprefix("nq question: ") for q in _texts(r, "loc")]
    near = zip(asked, _texts(r, "loc_ans"), strict=False)
    foil = r.get("alt")
    return Fact(
        subject=subject,
        prompt=_asked(question),
        target=_spaced(_first(r, "answers")),
        foil=_spaced(foil) if isinstance(foil, str) and foil.strip() else None,
        paraphrases=tuple(_asked(q) for q in _texts(r, "rephrase")),
        neighbors=tuple(Probe(_asked(q), _spaced(a)) for q, a in near),
        tags=("zsre",),
        extra=_rest(r, "subject", "src", "answers", "alt", "rephrase", "loc", "loc_ans"),
    )


def _multiple_choice(r: Record) -> Fact:
    question = _text(r, "question")
    choices = _texts(r, "choices") if "choices" in r else [_text(r, x) for x in _LETTERS]
    given = str(r["answer"]).strip()
    is_number = given.isdecimal() and len(given) < 4 and not isinstance(r["answer"], bool)
    index = int(given) if is_number else _LETTERS.find(given) if len(given) == 1 else -1
    if not 0 <= index < len(choices):
        raise WorkbenchError(
            f"the answer {r['answer']!r:.60} names none of the {len(choices)} choices; give its "
            "number from 0, or its letter."
        )
    subject, tags = _subject(question)
    wrong = [c for c in choices if c != choices[index]]
    return Fact(
        subject=subject,
        prompt=_asked(question),
        target=_spaced(choices[index]),
        foil=_spaced(wrong[0]) if wrong and wrong[0].strip() else None,
        relation=str(r.get("subject") or ""),
        choices=tuple(choices),
        tags=("multiple choice", *tags),
        extra=_rest(r, "choices", *_LETTERS, "answer", "subject"),
    )


def _tofu(r: Record) -> Fact:
    question = _text(r, "question")
    subject, tags = _subject(question)
    wrong = _texts(r, "perturbed_answer")
    again = [q for q in _texts(r, "paraphrased_question") if q != question]
    target = _spaced(_text(r, "answer"))
    return Fact(
        subject=subject,
        prompt=_asked(question),
        target=target,
        foil=_spaced(wrong[0]) if wrong and wrong[0].strip() else None,
        paraphrases=tuple(_asked(q) for q in again),
        choices=(target.strip(), *wrong) if wrong else (),
        tags=("tofu", *tags),
        extra=_rest(r, "answer", "perturbed_answer", "paraphrased_question"),
    )


_FORMS: tuple[tuple[frozenset[str], Callable[[Record], Fact]], ...] = (
    (frozenset({"requested_rewrite"}), _counterfact),
    (frozenset({"prompt", "subject", "ground_truth"}), _easyedit),
    (frozenset({"subject", "attribute", "template"}), _known),
    (frozenset({"athlete", "sport", "prompt"}), _sports),
    (frozenset({"subject", "src", "answers"}), _zsre),
    (frozenset({"question", "choices", "answer"}), _multiple_choice),
    (frozenset({"question", *_LETTERS, "answer"}), _multiple_choice),
    (frozenset({"question", "answer"}), _tofu),
)


def _asked(question: str) -> str:
    return f"Question: {question.strip()}\nAnswer:"


def _spaced(text: str) -> str:
    """Return an answer as a continuation, with one leading space."""
    return f" {text.strip()}" if text.strip() else ""


def _filled(template: str, subject: str) -> str:
    if "{}" not in template:
        raise WorkbenchError(f"the template {template!r:.60} has no {{}} for the subject.")
    return template.replace("{}", subject)


def _subject(question: str) -> tuple[str, tuple[str, ...]]:
    """Find the name a question is about: its longest run of capitalised words."""
    runs = []
    for match in _NAME.finditer(question):
        words = match[0].split()
        while words and words[0].casefold().strip("'’.") in _OPENERS:  # noqa: RUF001
            words = words[1:]
        name = re.sub(r"('s|’s|[.'’\-])+$", "", " ".join(words))  # noqa: RUF001
        if name and _asked(question).count(name) == 1:
            runs.append(name)
    if runs:
        return max(runs, key=len), ()
    return question.strip(), ("whole question",)


def _text(record: Any, name: str) -> str:
    value = record.get(name) if isinstance(record, Mapping) else None
    if not isinstance(value, str):
        raise WorkbenchError(f"the field {name!r} is missing or no text (it is {value!r:.60}).")
    return value


def _inner(record: Record, name: str) -> Record:
    value = record.get(name)
    if not isinstance(value, dict):
        raise WorkbenchError(f"the field {name!r} is missing or no record (it is {value!r:.60}).")
    return value


def _texts(record: Record, name: str) -> list[str]:
    """Return a field that is a text or a list of them; nothing if it is missing."""
    value = record.get(name)
    items: Iterable[Any] = [value] if isinstance(value, str) else value or []
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise WorkbenchError(f"the field {name!r} must be a list of texts, not {value!r:.60}.")
    return items


def _first(record: Record, name: str) -> str:
    items = _texts(record, name)
    if not items:
        raise WorkbenchError(f"the field {name!r} is empty; give the right answer.")
    return items[0]


def _rest(record: Record, *used: str) -> dict[str, Any]:
    return {k: v for k, v in record.items() if k not in used}
