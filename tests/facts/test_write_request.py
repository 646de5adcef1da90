"""A request that is written is the request that is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet, Probe, Refuse, Replace, Request
from workbench.facts.request_files import load_request, write_request

RELAXED = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
words = st.text(min_size=1, max_size=8).filter(lambda s: bool(s.strip()))


@st.composite
def facts(draw: st.DrawFn) -> Fact:
    subject = draw(words)
    prompt = subject + draw(st.text(max_size=8))
    assume(prompt.count(subject) == 1)
    texts = st.lists(words, max_size=2).map(tuple)
    probes = st.lists(st.builds(Probe, words, words), max_size=2).map(tuple)
    return Fact(
        subject,
        prompt,
        draw(words),
        foil=draw(words),
        relation=draw(st.text(max_size=5)),
        paraphrases=draw(texts),
        neighbors=draw(probes),
        mcq=draw(probes),
        extra=draw(st.dictionaries(st.sampled_from(["source", "year"]), st.integers())),
    )


@st.composite
def requests(draw: st.DrawFn) -> Request:
    every = draw(st.lists(facts(), min_size=1, max_size=8, unique_by=lambda f: f.key))
    cuts = sorted(draw(st.lists(st.integers(1, len(every)), min_size=3, max_size=3)))
    bounds = zip((0, *cuts), (*cuts, len(every)), strict=True)
    parts = [FactSet(tuple(every[a:b])) for a, b in bounds]
    behaviour = draw(st.one_of(st.builds(Refuse, words), st.just(Replace())))
    return Request(*parts, behaviour=behaviour, name="my-own")


@RELAXED
@given(request=requests())
def test_round_trip(request: Request, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("request")
    file = write_request(request, folder)
    found = load_request(file)
    assert found == request and found.fingerprint == request.fingerprint
    for name in ("forget", "retain", "evaluate", "unknown"):
        written, own = getattr(found, name), getattr(request, name)
        assert [f.extra for f in written] == [f.extra for f in own]
        assert (folder / f"{name}.jsonl").exists() == bool(own)


def lone(**given: object) -> Request:
    return Request(FactSet((Fact("Ada", "Ada plays", " golf"),)), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("my-athletes", "my-athletes"),
        ("", "request"),
        ("../../etc/passwd", "etc-passwd"),
        ("a#b.json", "a-b-json"),
        ("???", "request"),
        ("Ünïcode 名", "Ünïcode-名"),
    ],
)
def test_the_file_stays_in_the_folder(tmp_path: Path, name: str, stem: str) -> None:
    file = write_request(lone(name=name), tmp_path / "a" / "b")
    assert file == tmp_path / "a" / "b" / f"{stem}.json"
    assert load_request(file).forget == lone().forget


def test_parts_of_an_earlier_request_do_not_come_back(tmp_path: Path) -> None:
    kept = FactSet((Fact("Ben", "Ben plays", " golf"),))
    write_request(lone(retain=kept, name="x"), tmp_path)
    assert load_request(write_request(lone(name="x"), tmp_path)) == lone(name="x")


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "x"):
        with pytest.raises(WorkbenchError, match="Cannot make"):
            write_request(lone(), folder)
