"""Whom monitoring tells, and how: the webhook and the page."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs

from mlsystem.errors import SpecError
from mlsystem.monitoring import notify
from tests.blueprint.monitored import Monitored, profile, traffic

HOUR = 3600.0

NOW = time.time()

CALM = [traffic(seed) for seed in (21, 22, 23)]


@pytest.fixture
def system(tmp_path: Path) -> Monitored:
    return Monitored(tmp_path / "small")


@dataclass
class Webhook:
    """A receiver of alerts."""

    url: str
    bodies: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    status: int = 200


@contextmanager
def webhook() -> Generator[Webhook]:
    hook = Webhook("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hook.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(hook.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as http.server has it
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    hook.url = f"http://127.0.0.1:{server.server_port}/hook?key=a-secret"
    try:
        yield hook
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_webhook_hears_of_an_alert_once_and_of_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """New alerts and alerts that are over are posted, nothing twice; the URL is told to nobody."""
    system = Monitored(tmp_path / "small", '[monitoring]\nnotify = "env:HOOK"\n')
    with webhook() as hook:
        monkeypatch.setenv("HOOK", hook.url)
        system.play([*CALM, *(traffic(seed, tenure=12.0) for seed in (31, 32))], now=NOW - 3 * HOUR)
        told = [system.monitor()["notified"], system.monitor()["notified"]]
        system.play(CALM, now=NOW)
        told.append(system.monitor()["notified"])
    assert told == [
        {"sent": True, "firing": 2, "over": 0},
        {"sent": False, "why": "nothing is new"},
        {"sent": True, "firing": 0, "over": 2},
    ]
    first, last = hook.bodies
    assert (first["system"], first["version"], [f["feature"] for f in first["firing"]]) == (
        "small",
        1,
        ["tenure", "probability of Yes"],
    )
    assert first["text"].startswith("[small, version 1] tenure is higher")
    assert last["over"] == ["answers:probability of Yes", "drift:tenure"]
    assert "a-secret" not in json.dumps([told, hook.bodies]) + "".join(capsys.readouterr())


def test_a_webhook_that_fails_is_tried_again_the_next_time() -> None:
    """Three attempts, then the reason without the URL; nothing counts as told."""
    with webhook() as hook, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOOK", hook.url)
        hook.status = 503
        waited: list[float] = []
        assert notify.post("env:HOOK", {"a": 1}, wait=waited.append) == "the webhook answered 503"
        assert (hook.bodies, waited) == ([{"a": 1}] * 3, [1.0, 2.0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOOK", hook.url)
        assert notify.post("env:HOOK", {}, wait=waited.append) == "the webhook does not answer (URLError)"
        patch.setenv("HOOK", "file:///etc/passwd")
        with pytest.raises(SpecError, match=r"HOOK holds no http\(s\) URL"):
            notify.post("env:HOOK", {}, wait=waited.append)


class _Page(HTMLParser):
    """What a page refers to and shows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str | None] = []
        self.plots = self.titles = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in {"href", "src", "srcset", "action"}]
        self.plots += tag == "svg" and ("role", "img") in attrs
        self.titles += tag == "title"


def test_the_page_stands_alone_and_says_every_plot_in_words(system: Monitored, tmp_path: Path) -> None:
    """One file: no script, no request to anywhere; a title for each plot, the cause before the details."""
    system.play([*CALM, *(traffic(seed, tenure=12.0) for seed in (31, 32))], now=NOW)
    told = system.monitor(out=tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    page = _Page(text)
    assert (
        page.links,
        page.tags & {"script", "link", "img", "iframe"},
        "url(" in text,
        "http" in text.replace("http-equiv", ""),
    ) == ([], set(), False, False)
    assert page.plots >= 10
    assert page.titles == page.plots + 1
    assert text.index(escape(told["cause"])) < text.index("What was found") < text.index("All features")
    assert "10 → " in text


def test_names_from_the_data_are_text_on_the_page(tmp_path: Path) -> None:
    """A column may be called anything."""
    hostile = "<script>alert(1)</script>"
    system = Monitored(tmp_path / "small")
    known = profile()
    system.profile = structs.replace(
        known, numbers=(structs.replace(known.numbers[0], name=hostile), *known.numbers[1:])
    )
    system.publish({"profile.json": msgspec.json.encode(system.profile)}, version=2)
    system.play([*CALM, *(traffic(seed, tenure=12.0) for seed in (31, 32))], now=NOW, version=2)
    system.monitor(out=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert (hostile in page, "&lt;script&gt;alert(1)&lt;/script&gt;" in page) == (False, True)


def test_under_a_regime_no_value_of_the_data_is_told(tmp_path: Path) -> None:
    """Levels and bounds of bins may be what rows say; shares are not."""
    system = Monitored(tmp_path / "small", '[governance]\nregime = ["gdpr"]\n')
    system.play([*CALM, *(traffic(seed, tenure=12.0, plan="gold") for seed in (31, 32))], now=NOW)
    told = system.monitor(out=tmp_path / "page.html")
    shown = json.dumps(told["findings"]) + (tmp_path / "page.html").read_text()
    bounds = {f"{edge:.4g}" for feature in system.profile.features for edge in feature.edges}
    assert [word for word in ("monthly", "yearly", "gold", *bounds) if word in shown] == []
    assert "tenure is higher than in training." in shown
