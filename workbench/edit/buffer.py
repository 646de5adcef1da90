"""What an edit must leave alone: the retain buffer, made from the request and the model itself.

No outside corpus is needed. Confusable positions are the very positions the edit acts on, in the
same wordings, about subjects to keep (any names or pictures; no answer needs to be known). Context
is every token of kept facts followed by the model's own answers, and of texts it makes up itself.

What the model makes up may be about anyone. Where it names a subject to forget, or one held back
for measuring, it is left out: the first must not stay, the second would no longer be held back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from workbench.edit.forms import Form, Kind, forms_of, mention, mentions_by_kind, prompts_of
from workbench.edit.rows import Rows
from workbench.edit.self_made import own_answers, sample_chats, sample_names, sample_texts
from workbench.facts.fact import FactSet, Request
from workbench.facts.prompts import subject_tokens
from workbench.localize.sites import SiteName
from workbench.models.model import Model
from workbench.models.pictured import pictures_of
from workbench.models.shuffled import number, shuffled
from workbench.models.text import decode, encode

Site = SiteName
_DOZENS = 48  # names that are asked for together


def site_rows(
    model: Model,
    prompt: str,
    subject: str,
    site: Site,
    answer: str,
    tokens: int = 1,
    shared: int = 0,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the tokens to run and the positions of a site.

    Subject site: the prompt up to the subject's last token, and its last `tokens` tokens, the last
    one first, but none within the first `shared` characters, which other subjects begin with too.
    Of a picture, all tokens: the vision tower reads both ways, so any of them may tell who is seen.
    Answer site: the prompt with an answer, and every position from the prompt's last token on.

    Args:
        model: whose tokens to use.
        prompt: the prompt.
        subject: what stands for the subject in it, a name or a picture (`mention`).
        site: which site.
        answer: what is said behind the prompt, at the answer site.
        tokens: most tokens of a name.
        shared: how many characters of the name others begin with too.
    """
    if site == "subject":
        ends = subject_tokens(model, prompt, subject)
        last = max(ends)
        own = [i for i, reach in ends.items() if reach > shared or i == last][::-1]
        taken = own if pictures_of(subject) else own[:tokens]
        return tuple(encode(model, prompt)[: last + 1]), tuple(taken)
    ids = encode(model, prompt)
    tail = model.tokenizer(answer, add_special_tokens=False)["input_ids"] if answer else []
    return (*ids, *tail), tuple(range(len(ids) - 1, len(ids) + len(tail)))


def confusable_rows(
    model: Model,
    request: Request,
    site: Site,
    *,
    count: int,
    named: int,
    weight: float,
    context_weight: float,
    tokens: int,
    seed: int,
) -> Rows:
    """Return the site's positions in the forget set's wordings about subjects to keep.

    Args:
        model: whose tokens and own answers to use.
        request: its retain facts give the subjects, at the subject site its unknown ones too.
        site: where the edit acts.
        count: number of prompts, drawn evenly over wordings.
        named: subjects wanted over all relations; where the request has fewer, the model is asked
            to name the missing ones, once each.
        weight: weight of a site position.
        context_weight: weight of the prompt's other positions.
        tokens: tokens of the subject that are the site.
        seed: seed of the draw.
    """
    # What a model says about subjects it does not know need not stay, only how it reads them.
    others = request.retain if site == "answer" else request.retain + request.unknown
    pools = mentions_by_kind(others)
    forms = forms_of(request.forget)
    for kind, made in named_by_model(model, forms, pools, named, seed=seed).items():
        free = [name for name in made if not _about(name, left_out(request))]
        pools[kind] = tuple(dict.fromkeys((*pools.get(kind, ()), *free)))
    asked = [(form.about(stands), stands) for form, stands in _drawn(forms, pools, seed)[:count]]
    return _site_positions(model, asked, site, weight, context_weight, tokens)


def _drawn(
    forms: Sequence[Form], pools: Mapping[Kind, Sequence[str]], seed: int
) -> list[tuple[Form, str]]:
    """Put wordings about subjects in a drawn order, each subject once before any twice.

    No place hangs on the others: the next edit of this model leaves other subjects out, and may use
    what was said for this one.
    """
    fitting: dict[str, list[Form]] = {}
    for form in forms:
        for stands in pools.get(form.kind, ()):
            fitting.setdefault(stands, []).append(form)
    turns = []
    for stands, own in fitting.items():
        numbered = ((number([form.text, stands], seed=seed), form) for form in own)
        places = sorted(numbered, key=lambda pair: pair[0])
        turns += [(turn, place, form, stands) for turn, (place, form) in enumerate(places)]
    return [(form, stands) for _, _, form, stands in sorted(turns, key=lambda turn: turn[:2])]


def related_rows(
    model: Model,
    request: Request,
    site: Site,
    *,
    weight: float,
    context_weight: float,
    tokens: int,
) -> Rows:
    """Return the site's positions in what is to be kept about the very subjects to forget.

    Where a person's city goes and the sport stays, nothing else says so: all other subjects differ
    from this one more than its own facts do from each other.

    Args:
        model: whose tokens and own answers to use.
        request: its kept facts, those about a subject to forget.
        site: where the edit acts.
        weight: weight of a site position.
        context_weight: weight of the prompt's other positions.
        tokens: tokens of the subject that are the site.
    """
    own = request.retain.about(request.forget.subjects)
    return _as_heavy(model, request, own, site, (weight, context_weight), tokens)


def heavier_rows(
    model: Model,
    request: Request,
    site: Site,
    *,
    weight: float,
    context_weight: float,
    tokens: int,
) -> Rows:
    """Return the site's positions in kept facts about others that count more than the rest.

    Args:
        model: whose tokens and own answers to use.
        request: its kept facts, and how much heavier some are.
        site: where the edit acts.
        weight: weight of a site position of a fact that counts once.
        context_weight: weight of the prompt's other positions.
        tokens: tokens of the subject that are the site.
    """
    subjects = frozenset(request.forget.subjects)
    heavy = request.retain.where(lambda f: f.key in request.heavier and f.subject not in subjects)
    return _as_heavy(model, request, heavy, site, (weight, context_weight), tokens)


def _as_heavy(
    model: Model,
    request: Request,
    facts: FactSet,
    site: Site,
    weights: tuple[float, float],
    tokens: int,
) -> Rows:
    """Return the positions of all wordings of some facts, each with its fact's weight."""
    asked: dict[float, list[tuple[str, str]]] = {}
    for fact in facts:
        prompts = [(prompt, mention(fact, prompt)) for prompt in prompts_of(fact)]
        asked.setdefault(request.heavier.get(fact.key, 1.0), []).extend(prompts)
    rows = Rows((), ())
    for times, prompts in sorted(asked.items()):
        weight, context_weight = (times * own for own in weights)
        rows += _site_positions(model, prompts, site, weight, context_weight, tokens)
    return rows


def _site_positions(
    model: Model,
    asked: Sequence[tuple[str, str]],
    site: Site,
    weight: float,
    context_weight: float,
    tokens: int,
) -> Rows:
    """Return every position of some prompts, with their subjects, the site's weighted by itself."""
    prompts = [prompt for prompt, _ in asked]
    answers = own_answers(model, prompts) if site == "answer" else [""] * len(prompts)
    # Wordings that begin alike are one sequence up to the subject: it is run once, for all.
    weights: dict[tuple[int, ...], Counter[int]] = {}
    for (prompt, stands), answer in zip(asked, answers, strict=True):
        ids, at = site_rows(model, prompt, stands, site, answer, tokens)
        total = weights.setdefault(ids, Counter())
        for i in range(len(ids)):
            total[i] += weight if i in at else context_weight  # type: ignore[assignment]
    return Rows(
        tuple(weights),
        tuple(tuple(range(len(ids))) for ids in weights),
        tuple(tuple(total[i] for i in range(len(ids))) for ids, total in weights.items()),
    )


def left_out(request: Request) -> frozenset[str]:
    """Return the subjects that nothing the model makes up may be about."""
    return frozenset(request.forget.subjects + request.evaluate.subjects)


def _about(text: str, subjects: Collection[str]) -> bool:
    return any(subject in text for subject in subjects)


def named_by_model(
    model: Model,
    forms: Sequence[Form],
    known: Mapping[Kind, Sequence[str]],
    count: int,
    *,
    seed: int,
) -> dict[Kind, tuple[str, ...]]:
    """Let the model name subjects in each relation's wordings, as many as are missing.

    It can name subjects, but not show them. It is asked for dozens at once: the next edit, which
    lacks one more or one less, gets the same.
    """
    kinds = tuple(dict.fromkeys(form.kind for form in forms if not form.shown))
    each = -(-count // max(len(kinds), 1))
    return {
        kind: sample_names(
            model,
            [f.around for f in forms if f.kind == kind],
            -(-(each - len(known.get(kind, ()))) // _DOZENS) * _DOZENS,
            seed=seed + i,
        )
        for i, kind in enumerate(kinds)
    }


def context_rows(
    model: Model, request: Request, *, count: int, generations: int, weight: float, seed: int
) -> Rows:
    """Return every token of kept facts with the model's own answers, and of texts it makes up."""
    kept = shuffled(request.retain, lambda f: [f.subject, f.relation, f.prompt], seed=seed)
    prompts = [shuffled(prompts_of(f), lambda p: p, seed=seed)[0] for f in kept[:count]]
    prompts += [p.prompt for f in kept[:count] for p in f.mcq[:1]][: count // 4]
    answers = own_answers(model, prompts)
    texts = [encode(model, p + a) for p, a in zip(prompts, answers, strict=True)]
    made = sample_texts(model, generations, seed=seed)
    texts += [ids for ids in made if not _about(decode(model, ids), left_out(request))]
    picks = tuple(tuple(range(len(t))) for t in texts)
    weights = tuple((weight,) * len(t) for t in texts)
    return Rows(tuple(tuple(t) for t in texts), picks, weights)


def chat_rows(
    model: Model,
    request: Request,
    site: Site,
    *,
    count: int,
    weight: float,
    context_weight: float,
    seed: int,
) -> Rows:
    """Return every token of conversations that a chat model makes up.

    What answers them stands where the answer site's refusals stand, and weighs as much as there.
    """
    sequences, weights = [], []
    for prompt, answer in sample_chats(model, count, seed=seed):
        if _about(prompt + answer, left_out(request)):
            continue
        ids = encode(model, prompt + answer)
        start = len(encode(model, prompt)) - 1 if site == "answer" else len(ids)
        sequences.append(tuple(ids))
        weights.append((context_weight,) * start + (weight,) * (len(ids) - start))
    return Rows(tuple(sequences), tuple(tuple(range(len(s))) for s in sequences), tuple(weights))
