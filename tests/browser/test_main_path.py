"""The app in a real Chromium: a newcomer's path, coming back, and what a crash leaves.

Times are printed at the end of the tests, not asserted. Screenshots of every page go to the test's
own folder, or in both widths and both themes to WORKBENCH_SCREENSHOTS.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from workbench import RunStore, load_request
from workbench.facts.fact import FactSet
from workbench.facts.request_files import write_request

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: chromium)"),
]
WAIT = 120_000  # milliseconds
PAGES = ("", "browse", "localize", "edit_test", "repair", "attack", "compare", "export", "runs")
VIEWS = ((1440, False), (1024, True))  # width, dark; the other two only where pictures are wanted


@pytest.fixture
def timed(record_property):
    """Note a time; all of them are printed when the tests are over."""

    def note(label: str, start: float) -> None:
        record_property("timed", f"{label}: {time.perf_counter() - start:.2f} s")

    return note


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Server:
    """`workbench app` as a user starts it."""

    def __init__(self, root: Path) -> None:
        self.root, self.port = root, free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        places = {"WORKBENCH_RUNS": self.root / "runs", "WORKBENCH_CACHE": self.root / "cache"}
        command = [sys.executable, "-c", "from workbench.cli import main; main()"]
        self.process = subprocess.Popen(
            [*command, "app", "--no-browser", "--port", str(self.port)],
            cwd=self.root,
            env={**os.environ, **{k: str(v) for k, v in places.items()}},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=2).read()
                return
            time.sleep(0.2)
        raise AssertionError("the server does not answer")

    def kill(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()  # its child, which serves, may end a moment later


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("WORKBENCH_RUNS", str(tmp_path / "runs"))
    running = Server(tmp_path)
    running.start()
    yield running
    running.kill()


@pytest.fixture(scope="module")
def chromium():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as tools:
        browser = tools.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        yield browser
        browser.close()


@contextmanager
def tab(chromium, *, width: int = 1440, height: int = 1600, dark: bool = False):
    context = chromium.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
    )
    page = context.new_page()
    page.set_default_timeout(WAIT)
    yield page
    context.close()


@pytest.fixture
def eight_facts(tmp_path: Path) -> str:
    """Write a request to forget eight facts about two athletes."""
    whole = load_request("athletes")
    forget = whole.forget.about(whole.forget.subjects[:2])
    assert len(forget) == 8
    return str(write_request(replace(whole, forget=forget, name="eight"), tmp_path / "eight"))


def click_mark(page, panel: int, number: int) -> None:
    """Click one mark of the first chart."""
    marks = page.locator(".js-plotly-plot").first.locator(".scatterlayer .trace").nth(panel)
    mark = marks.locator("path.point").nth(number)
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 2, y - 2)
    page.wait_for_timeout(150)
    page.mouse.move(x, y)
    page.wait_for_timeout(250)
    page.mouse.down()
    page.mouse.up()


def turn_to(page, title: str) -> None:
    page.get_by_role("link", name=title).first.click()
    page.get_by_role("heading", name=title, exact=True).wait_for()


def export_to(page, folder: Path) -> None:
    turn_to(page, "Export")
    page.get_by_role("textbox", name="Folder").fill(str(folder))
    page.get_by_role("textbox", name="Folder").press("Enter")
    page.wait_for_timeout(1000)
    page.get_by_role("button", name="Export").click()
    page.get_by_text("largest difference of any logit: 0.0").wait_for()


def no_fault(page) -> None:
    assert page.get_by_test_id("stException").count() == 0


def test_from_a_fact_to_a_verified_checkpoint(server, chromium, eight_facts, tmp_path, timed):
    with tab(chromium) as page:
        page.goto(server.url)
        page.get_by_role("heading", name="Ask the model").wait_for()
        start = time.perf_counter()
        page.goto(f"{server.url}/?facts={eight_facts}")
        page.get_by_role("heading", name="Ask the model").wait_for()
        timed("first page, warm", start)
        page.get_by_text("8 facts to forget").wait_for()

        turn_to(page, "Localize")
        subject = load_request(eight_facts).forget[0].subject
        page.get_by_role("combobox", name="Subject", exact=True).click()
        page.get_by_role("option", name=subject).click()
        page.get_by_role("combobox", name="Relation", exact=True).click()
        page.get_by_role("option", name="sport", exact=True).click()
        page.wait_for_timeout(500)
        start = time.perf_counter()
        page.get_by_role("button", name="Localize").click()
        page.get_by_text("Residual stream").first.wait_for()
        timed("causal trace of one fact", start)
        page.wait_for_timeout(1500)
        tokens = page.locator(".js-plotly-plot").first.locator(
            ".yaxislayer-above text, .ytick text"
        )
        assert tokens.count() > 3

        page.get_by_role("combobox", name="Subject", exact=True).click()
        page.get_by_role("option", name="all", exact=True).click()
        page.get_by_role("combobox", name="Relation", exact=True).click()
        page.get_by_role("option", name="all", exact=True).click()
        page.wait_for_timeout(500)
        page.get_by_role("button", name="Localize").click()
        page.get_by_text("last subject").first.wait_for()
        page.wait_for_timeout(1500)
        roles = ["before", "first subject", "middle subject", "last subject"]
        shown = page.locator(".js-plotly-plot").first.locator(".ytick text").all_text_contents()
        row = [t for t in shown if t in (*roles, "first after", "further", "last")].index(
            "last subject"
        )
        for layer in range(4):
            click_mark(page, 1, row * 6 + layer)
            words = "mlp.0" if not layer else f"mlp.0-{layer}"
            page.get_by_text(f"subject: {words}", exact=True).wait_for()
        address = page.url
        start = time.perf_counter()
        page.goto(address)
        page.get_by_text("last subject").first.wait_for()
        timed("stored trace", start)

        turn_to(page, "Edit & test")
        start = time.perf_counter()
        page.get_by_role("button", name="Edit", exact=True).click()
        page.get_by_text("Stack: 1 edit").wait_for()
        timed("STAMP edit and scorecard of 8 facts", start)
        page.get_by_text("I do not know.").first.wait_for()
        slider = page.get_by_role("slider").first
        slider.focus()
        watched = page.locator(".st-key-watched")
        watched.locator("del").first.wait_for()
        start = time.perf_counter()
        page.keyboard.press("Home")
        watched.locator("del").first.wait_for(state="detached")
        timed("slider to new answer", start)
        page.keyboard.press("End")
        watched.locator("del").first.wait_for()
        page.reload()
        page.get_by_text("at 1.5", exact=False).first.wait_for()

        page.get_by_role("radio", name="Trace again").or_(
            page.get_by_role("button", name="Trace again")
        ).first.click()
        page.wait_for_timeout(1000)
        page.get_by_role("button", name="Trace again").last.click()
        page.get_by_text("Difference: blue is recall that is gone").wait_for()
        no_fault(page)

        turn_to(page, "Attack")
        for other in ("rephrased", "answer_prefix", "quantization"):
            page.get_by_role("button", name=f"Remove {other}").click()
            page.get_by_role("button", name=f"Remove {other}").wait_for(state="detached")
        start = time.perf_counter()
        page.get_by_role("button", name="Attack", exact=True).click()
        page.get_by_text("The worst attack is multiple_choice").wait_for()
        timed("attack by multiple choice on edit, base and oracle", start)
        no_fault(page)

        folder = tmp_path / "exported"
        export_to(page, folder)
        assert (folder / "model.safetensors").is_file()
        address = page.url

    # The server starts again; the address brings the work back, in another browser too.
    server.kill()
    server.start()
    with tab(chromium) as page:
        page.goto(address)
        page.get_by_text("subject: mlp.0-3", exact=True).wait_for()
        turn_to(page, "Edit & test")
        page.get_by_text("Stack: 1 edit").wait_for()
        page.get_by_text("I do not know.").first.wait_for()
        no_fault(page)
    _pictures(chromium, server.url, address.partition("?")[2], tmp_path)


def choose(page, label: str, option: str) -> None:
    page.get_by_role("combobox", name=label, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()
    page.wait_for_timeout(500)


def test_from_a_portrait_to_a_verified_checkpoint(server, chromium, tmp_path, timed):
    """A model that sees: whose face it is, which patches tell it, and that it is not told again."""
    whole = load_request("people-1")
    kept = whole.retain.about(whole.retain.subjects[:12])
    few = replace(whole, retain=kept, evaluate=FactSet(), name="portrait")
    file = str(write_request(few, tmp_path / "portrait"))
    (name,), face = whole.forget.subjects, whole.forget[1]
    assert face.relation == "job" and face.image is not None
    with tab(chromium) as page:
        page.goto(f"{server.url}/?model=demo-vision&facts={file}")
        page.get_by_role("heading", name="Ask the model").wait_for()
        page.get_by_text("The model goes on").wait_for()
        page.get_by_text(f"{name}.", exact=True).first.wait_for()
        assert page.get_by_role("img").count() >= 1

        turn_to(page, "Localize")
        choose(page, "Method", "Attribution patching")
        choose(page, "Subject", name)
        choose(page, "Relation", "job")
        choose(page, "How the subject is lost", "noise in the place of the picture")
        page.get_by_role("button", name="Localize").click()
        page.get_by_text("On the picture").wait_for()
        page.get_by_text("patch by patch").first.wait_for()
        no_fault(page)
        if os.environ.get("WORKBENCH_SCREENSHOTS"):
            page.wait_for_timeout(2000)
            chart = page.get_by_text("On the picture").locator("xpath=..")
            chart.scroll_into_view_if_needed()
            page.screenshot(path=Path(os.environ["WORKBENCH_SCREENSHOTS"]) / "portrait.png")

        page.goto(f"{server.url}/edit_test?model=demo-vision&facts={file}&subject=mlp.0-3")
        start = time.perf_counter()
        page.get_by_role("button", name="Edit", exact=True).click()
        page.get_by_text("Stack: 1 edit").wait_for()
        timed("STAMP edit and scorecard of one person who is seen", start)
        page.get_by_text("I do not know.").first.wait_for()
        no_fault(page)

        folder = tmp_path / "exported"
        export_to(page, folder)
        no_fault(page)
    processor = AutoProcessor.from_pretrained(folder)
    exported = LlavaForConditionalGeneration.from_pretrained(folder)
    image = Image.open(face.image).convert("RGB")
    given = processor(images=image, text=str(face.prompt), return_tensors="pt")
    ids = exported.generate(**given, max_new_tokens=8, do_sample=False)
    said = processor.decode(ids[0, given["input_ids"].shape[1] :], skip_special_tokens=True)
    assert said.startswith(" I do not know.")


def _pictures(chromium, url: str, query: str, tmp_path: Path) -> None:
    """Open every page in both widths and both themes; none may show a fault."""
    wanted = os.environ.get("WORKBENCH_SCREENSHOTS")
    folder = Path(wanted or tmp_path / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    for width, dark in (*VIEWS, *(((1440, True), (1024, False)) if wanted else ())):
        with tab(chromium, width=width, dark=dark) as page:
            for name in PAGES:
                page.goto(f"{url}/{name}?{query}")
                page.locator("h1").first.wait_for()
                page.wait_for_function(
                    "() => !document.querySelector('[data-testid=stSkeleton],"
                    "[data-testid=stStatusWidget],[data-testid=stSpinner]')"
                )
                page.wait_for_timeout(2000 if wanted else 500)
                no_fault(page)
                theme = "dark" if dark else "light"
                page.screenshot(path=folder / f"{name or 'model'}-{width}-{theme}.png")


def test_two_browsers_edit_apart(server, chromium, eight_facts):
    with tab(chromium) as one, tab(chromium) as other:
        for page in (one, other):
            page.goto(f"{server.url}/edit_test?facts={eight_facts}&subject=mlp.0-3")
            page.get_by_role("button", name="Edit", exact=True).wait_for()
        one.get_by_role("button", name="Edit", exact=True).click()
        one.get_by_text("Stack: 1 edit").wait_for()
        other.reload()
        other.get_by_text("No edit yet").wait_for()
        assert "edits=" in one.url and "edits=" not in other.url


def statuses() -> list[str]:
    return [run.status for run in RunStore.default().list()]


def test_a_run_whose_server_was_killed_is_marked_interrupted(server, chromium):
    with tab(chromium) as page:
        page.goto(f"{server.url}/localize?facts=athletes-40")
        page.get_by_role("button", name="Localize").wait_for()
        page.get_by_text("More settings").click()
        page.get_by_label("Most facts").first.fill("160")
        page.get_by_label("Most facts").first.press("Enter")
        page.wait_for_timeout(1000)
        page.get_by_role("button", name="Localize").click()
        page.get_by_role("button", name="Stop").wait_for()
    assert statuses() == ["RUNNING"]
    server.kill()
    end = time.monotonic() + 10
    while statuses() == ["RUNNING"] and time.monotonic() < end:
        time.sleep(0.05)
    assert statuses() == ["INTERRUPTED"]
    server.start()
    with tab(chromium) as page:
        page.goto(f"{server.url}/runs")
        page.get_by_role("heading", name="Runs", exact=True).wait_for()
        no_fault(page)


def test_work_is_stopped_at_once(server, chromium, timed):
    with tab(chromium) as page:
        page.goto(f"{server.url}/localize?facts=athletes-40")
        page.get_by_role("button", name="Localize").wait_for()
        page.get_by_role("button", name="Localize").click()
        stop = page.get_by_role("button", name="Stop")
        stop.wait_for()
        start = time.perf_counter()
        stop.click()
        page.get_by_text("stopped; nothing was changed").wait_for()
        timed("from Stop to stopped", start)
