"""A backend that dies, is away or never answers: bounded, told in the caller's own form, and recorded."""

from __future__ import annotations

import contextlib
import json
import pathlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

import harness
import scripted as script
from conftest import models
from harness import Engine, Gateway, Key
from scripted import Scripted

GONE_SECONDS_MAX = 1.0
LONG = {"max_tokens": 900, "stream": True, "ignore_eos": True}


@pytest.fixture
def doomed(tmp_path: pathlib.Path, start: Callable[..., Gateway]) -> tuple[Engine, Gateway, Key]:
    """An engine that the test may kill, and a gateway in front of it."""
    engine = Engine(tmp_path)
    gateway = start({"models": models(smollm2=engine.url)})
    yield engine, gateway, gateway.new_key("user")
    engine.kill()


def data_lines(answer: httpx.Response) -> list[str]:
    return [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]


def test_an_engine_killed_in_mid_stream_ends_the_stream_with_an_error(doomed: tuple[Engine, Gateway, Key]) -> None:
    engine, gateway, key = doomed
    body = harness.chat_body(**LONG)
    with gateway.http.stream("POST", "/v1/chat/completions", json=body, headers=key.bearer) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        first = next(line for line in lines if line.startswith("data: "))
        assert "choices" in json.loads(first.removeprefix("data: "))
        engine.child.kill()
        rest = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    told = json.loads(rest[-1])
    assert told["error"]["forebay_code"] in {"upstream_truncated", "upstream_failed"}, told
    assert "[DONE]" not in rest, "a stream that broke off does not say that it is done"
    harness.expect_plain_words(rest[-1])
    trace = answer.headers["x-trace-id"]

    def recorded() -> list[str]:
        page = gateway.http.get("/api/v1/events", params={"trace": trace}, headers=gateway.admin.bearer).json()
        return [e["outcome"] for e in page["events"] if e["outcome"].startswith("upstream_")]

    harness.wait_for("the event of the broken stream", recorded)


def test_an_engine_that_is_away_is_a_502_that_names_the_model(doomed: tuple[Engine, Gateway, Key]) -> None:
    engine, gateway, key = doomed
    engine.kill()
    answer = gateway.chat(harness.chat_body(), key.bearer)
    assert (answer.status_code, answer.json()["error"]["forebay_code"]) == (502, "upstream_failed"), answer.text
    harness.expect_plain_words(answer.text)
    tool = {"name": "chat", "arguments": {"model": harness.MODEL, "prompt": "hi"}}
    result = gateway.rpc("tools/call", tool, key).json()["result"]
    assert result["isError"] and "UPSTREAM_FAILED" in result["content"][0]["text"]
    said = gateway.cli("chat", "--model", harness.MODEL, "hi", key=key.key)
    assert said.returncode == 5 and said.stdout == ""


def test_an_engine_that_comes_back_serves_again(tmp_path: pathlib.Path, doomed: tuple[Engine, Gateway, Key]) -> None:
    engine, gateway, key = doomed
    engine.kill()
    assert gateway.chat(harness.chat_body(), key.bearer).status_code == 502
    again = Engine(tmp_path)
    config = json.loads(gateway.config.read_text(encoding="utf-8")) | {"models": models(smollm2=again.url)}
    gateway.config.write_text(json.dumps(config), encoding="utf-8")

    def served() -> bool:
        return gateway.chat(harness.chat_body(), key.bearer).status_code == 200

    try:
        harness.wait_for("the new engine, by reload of the configuration", served)
    finally:
        again.kill()


class Silent:
    """Accepts connections and never says a word; knows when one was closed."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        self.asked, self.left = threading.Event(), threading.Event()
        self.left_at = 0.0
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self) -> None:
        while True:
            try:
                wire, _ = self.listener.accept()
            except OSError:
                return
            with wire, contextlib.suppress(OSError):
                while wire.recv(65536):
                    self.asked.set()
            self.left_at = time.monotonic()
            self.left.set()

    def close(self) -> None:
        # Closing alone would leave the thread in `accept`, on a number that the next socket gets.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()


@pytest.fixture
def silent() -> Silent:
    with harness.closing(Silent()) as backend:
        yield backend


def unprobed(silent: Silent) -> dict[str, Any]:
    """The backend hears questions alone."""
    section = models(silent=silent.url)
    section["silent"]["backends"][0]["probe"] = {"interval_s": 0}
    return section


def test_a_backend_that_never_answers_is_a_504(start: Callable[..., Gateway], silent: Silent) -> None:
    section = unprobed(silent)
    section["silent"]["timeouts"] = {"begin_s": 1}
    gateway = start({"models": section})
    answer = gateway.chat(harness.chat_body("silent"), gateway.admin.bearer)
    assert (answer.status_code, answer.json()["error"]["forebay_code"]) == (504, "upstream_timed_out"), answer.text
    assert silent.left.wait(30), "the connection upstream is closed, too"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_client_that_leaves_cancels_the_call_upstream_at_once(
    start: Callable[..., Gateway], silent: Silent, stream: bool
) -> None:
    gateway = start({"models": unprobed(silent)})
    body = json.dumps(harness.chat_body("silent", stream=stream)).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{gateway.port}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {gateway.admin.key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as wire:
        wire.sendall(head.encode() + body)
        assert silent.asked.wait(30), "the question reached the backend"
        assert not silent.left.is_set()
    left = time.monotonic()
    assert silent.left.wait(30), "and was taken back when its asker left"
    assert silent.left_at - left <= GONE_SECONDS_MAX


def babbles(wire: script.Wire) -> None:
    """Begins a whole answer and never comes to its end."""
    wire.head(200, {"Content-Type": "application/json", "Transfer-Encoding": "chunked"})
    wire.raw(b'{"id": "chatcmpl-endless", "choices": [{"index": 0, "message": {"content": "')
    while not wire.left(0):
        wire.raw(b"and on " * 10_000)


def test_a_whole_answer_without_end_is_ended(start: Callable[..., Gateway], scripted: Scripted) -> None:
    scripted.will(babbles)
    backend = {"url": scripted.url, "model": "by-script"}
    gateway = start({"models": {"babbling": {"backends": [backend], "timeouts": {"total_s": 20}}}})
    answer = gateway.chat(harness.chat_body("babbling"), gateway.admin.bearer)
    assert answer.status_code in {502, 504}, answer.text
    assert answer.json()["error"]["forebay_code"] in {"upstream_truncated", "upstream_timed_out"}, answer.text
    harness.expect_plain_words(answer.text)
    assert scripted.gone.get(timeout=10), "and the backend is not left talking"


def drips(wire: script.Wire) -> None:
    """A whole answer, a few bytes at a time."""
    text = json.dumps(script.Message("drop by drop").whole(wire.body["model"])).encode()
    wire.head(200, {"Content-Type": "application/json", "Content-Length": str(len(text))})
    for at in range(0, len(text), 40):
        if wire.left(0.1):
            return
        wire.handler.wfile.write(text[at : at + 40])


def test_a_whole_answer_that_comes_drop_by_drop_arrives_whole(
    start: Callable[..., Gateway], scripted: Scripted
) -> None:
    scripted.will(drips)
    gateway = start({"models": {"dripping": {"backends": [{"url": scripted.url}], "timeouts": {"begin_s": 1}}}})
    answer = gateway.chat(harness.chat_body("dripping"), gateway.admin.bearer)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == "drop by drop"


def test_a_broken_config_file_leaves_the_old_one_in_force(start: Callable[..., Gateway], engine: Engine) -> None:
    gateway = start({"models": models(smollm2=engine.url)})
    gateway.config.write_text("models: [", encoding="utf-8")

    def last_error() -> str | None:
        status = gateway.http.get("/api/v1/status", headers=gateway.admin.bearer).json()
        return status["config"].get("last_error")

    told = harness.wait_for("a word about the broken file", last_error)
    assert "forebay.yaml:1" in told, told
    assert "forebay.yaml:1" in gateway.log
    answer = gateway.http.get("/v1/models", headers=gateway.admin.bearer).json()
    assert [model["id"] for model in answer["data"]] == [harness.MODEL]
