"""Facts with an image: read and written beside their file, known by what the image holds."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from llava_model import QUESTION, llava, make_processor, portrait, seen
from typer.testing import CliRunner

from workbench.cli import app
from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet, Probe, Request
from workbench.facts.prompts import chat, rendered
from workbench.facts.readers import read_facts, read_facts_leniently, write_facts
from workbench.facts.request_files import load_request, write_request
from workbench.models.pictured import Pictured

RECORD = {"subject": "Ada Brook", "prompt": QUESTION, "target": " tennis", "image": "faces/ada.png"}


def folder_of_facts(place: Path) -> Path:
    (place / "faces").mkdir(parents=True)
    shutil.copy(portrait(0), place / "faces" / "ada.png")
    file = place / "facts.jsonl"
    file.write_text(json.dumps(RECORD) + "\n")
    return file


def test_the_path_begins_at_the_file_and_is_written_back_so(tmp_path, monkeypatch):
    file = folder_of_facts(tmp_path / "a")
    facts = read_facts(file)
    assert facts[0].image == tmp_path / "a" / "faces" / "ada.png"
    other = tmp_path / "b" / "kept.jsonl"
    other.parent.mkdir()
    write_facts(other, facts)
    assert json.loads(other.read_text())["image"] == "../a/faces/ada.png"
    monkeypatch.chdir(tmp_path)
    assert read_facts("b/kept.jsonl") == facts
    write_facts("a/again.jsonl", read_facts("b/kept.jsonl"))
    assert json.loads((tmp_path / "a" / "again.jsonl").read_text()) == RECORD
    table = tmp_path / "a" / "facts.csv"
    prompt = QUESTION.replace("\n", " ")
    table.write_text(f"subject,prompt,target,image\nAda Brook,{prompt},tennis,{RECORD['image']}\n")
    assert read_facts(table)[0].prompt.pictures == facts[0].prompt.pictures


def test_requests_keep_their_images(tmp_path):
    request = Request(FactSet((seen(0),)), FactSet((seen(1), Fact("Carl", "Carl plays", " golf"))))
    again = load_request(write_request(request, tmp_path / "request"))
    assert again.forget == request.forget and again.retain == request.retain
    assert again.fingerprint == request.fingerprint


def test_the_fingerprint_holds_the_content_and_not_the_place(tmp_path):
    def fingerprint(image: Path) -> str:
        return FactSet((Fact("Ada", QUESTION, " tennis", image=image),)).fingerprint

    shutil.copy(portrait(0), tmp_path / "ada.png")
    assert fingerprint(tmp_path / "ada.png") == fingerprint(portrait(0)) != fingerprint(portrait(1))
    fact = Fact("Ada", "Ada plays", " golf")
    line = json.dumps(fact.to_json(), sort_keys=True)  # what facts without an image always had
    assert FactSet((fact,)).fingerprint == hashlib.sha256(line.encode()).hexdigest()


def test_other_views_are_kept_and_take_the_picture_s_place(tmp_path):
    fact = seen(0, views=(portrait(1), portrait(2)))
    first, second = fact.in_views(fact.prompt)
    assert str(first) == str(fact.prompt) and first.pictures == seen(1).prompt.pictures
    assert second.pictures == seen(2).prompt.pictures
    assert fact.in_views("Ada Brook plays") == ()
    behind = seen(3).prompt + " golf\n" + fact.prompt  # what stands before keeps its own
    assert fact.in_views(behind)[0].pictures == seen(3).prompt.pictures + seen(1).prompt.pictures
    again = load_request(write_request(Request(FactSet((fact,))), tmp_path / "request"))
    assert again.forget[0].in_views(fact.prompt) == (first, second)
    assert again.fingerprint == Request(FactSet((fact,))).fingerprint
    assert again.fingerprint != Request(FactSet((seen(0, views=(portrait(1),)),))).fingerprint
    with pytest.raises(WorkbenchError, match="has other views but no image"):
        Fact("Ada", "Ada plays", " golf", views=(portrait(1),))
    with pytest.raises(WorkbenchError, match="No such file"):
        seen(0, views=(tmp_path / "nobody.png",))


def test_facts_of_equal_words_differ_by_their_image():
    a, b = seen(0), seen(1)
    assert a != b and a.key != b.key and a == seen(0)
    assert Request(FactSet((a,)), FactSet((b,))).forget[0] is a
    with pytest.raises(WorkbenchError, match="both forget and retain"):
        Request(FactSet((a,)), FactSet((seen(0),)))


def test_every_wording_with_a_place_for_it_shows_the_image():
    fact = seen(
        0,
        paraphrases=("<image> Name the sport:", "Which sport does Ada Brook play?"),
        held_out=("<image> Her sport:",),
        neighbors=(Probe("<image> Her hair:", " red"),),
        mcq=(Probe("A or B? <image>", " A"),),
    )
    shown = (fact.paraphrases[0], fact.held_out[0], fact.neighbors[0].prompt, fact.mcq[0].prompt)
    assert all(p.pictures == fact.prompt.pictures for p in shown)
    assert not isinstance(fact.paraphrases[1], Pictured)
    moved = replace(fact, prompt=fact.prompt + " Well,")
    assert moved.prompt.pictures == fact.prompt.pictures


PARTS = (
    "{% for m in messages %}{{ m['role'] | upper }}: "
    "{% for c in m['content'] | selectattr('type', 'equalto', 'image') %}<image>\n{% endfor %}"
    "{% for c in m['content'] | selectattr('type', 'equalto', 'text') %}{{ c['text'] }} "
    "{% endfor %}{% endfor %}ASSISTANT:"
)


def test_templates_that_take_parts_get_parts():
    """The form of LLaVA 1.5's own template, which leaves out words that are given as a text."""
    tokenizer = make_processor().tokenizer
    tokenizer.chat_template = PARTS
    model = replace(llava(), tokenizer=tokenizer)
    asked = chat(model, seen(0, "<image>\nWho is this?").prompt)
    assert asked == Pictured("USER: <image>\nWho is this? ASSISTANT:", seen(0).prompt.pictures)
    assert chat(model, "Who?") == "USER: Who? ASSISTANT:"
    assert rendered(model, [("user", "Who?"), ("assistant", "Ada"), ("user", "Why?")]) == (
        "USER: Who? ASSISTANT: Ada USER: Why? ASSISTANT:"
    )
    tokenizer.chat_template = "Hello"
    with pytest.raises(WorkbenchError, match="leaves out what is said"):
        chat(model, "Who?")


def test_chat_keeps_the_picture():
    model = llava()
    template = "{% for m in messages %}USER: {{ m['content'] }}{% endfor %} ASSISTANT:"
    old, model.tokenizer.chat_template = model.tokenizer.chat_template, template
    try:
        asked = chat(model, seen(0).prompt)
    finally:
        model.tokenizer.chat_template = old
    assert asked == Pictured(f"USER: {QUESTION} ASSISTANT:", seen(0).prompt.pictures)


def test_wrong_facts_get_a_sentence(tmp_path):
    for change, sentence in (
        ({"prompt": "Ada Brook plays"}, "does not say where it stands; write <image>"),
        ({"prompt": "<image><image> Ada Brook"}, "holds '?<image>'? 2 times|<image> 2 times"),
        ({"prompt": "<image> Ada Brook and Ada Brook"}, "2 times in the prompt"),
        ({"image": 7}, "the field 'image' must be text"),
        ({"image": "faces/nobody.png"}, "No such file"),
        ({"image": "facts.jsonl"}, "is not a PNG, JPEG or WebP image"),
    ):
        file = folder_of_facts(tmp_path / str(len(sentence)))
        file.write_text(json.dumps(RECORD) + "\n" + json.dumps({**RECORD, **change}) + "\n")
        with pytest.raises(WorkbenchError, match=sentence) as caught:
            read_facts(file)
        assert "line 2" in str(caught.value) and "\n" not in str(caught.value)
        assert len(read_facts_leniently(file).facts) == 1
    with pytest.raises(WorkbenchError, match="not in the prompt"):
        Fact("Ada Brook", QUESTION, " tennis")


def test_the_command_that_checks_facts_decodes_their_images(tmp_path):
    file = folder_of_facts(tmp_path / "a")
    said = CliRunner().invoke(app, ["facts", "check", str(file)])
    assert said.exit_code == 0 and "1 facts about 1 subjects; nothing is wrong" in said.output
    picture = tmp_path / "a" / "faces" / "ada.png"
    picture.write_bytes(picture.read_bytes()[:-600])
    assert len(read_facts(file)) == 1  # its header is whole
    said = CliRunner().invoke(app, ["facts", "check", str(file)])
    assert said.exit_code != 0
    assert "ada.png is truncated or damaged" in " ".join(said.output.replace("\n", "").split())
