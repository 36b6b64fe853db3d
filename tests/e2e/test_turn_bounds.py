"""What ends a turn before its model has done: bounds, a tool that hangs, a client that goes away."""

from __future__ import annotations

import contextlib
import itertools
import json
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest

import harness
import one_version
import scripted as script
from harness import Gateway
from scripted import Scripted

GONE_SECONDS_MAX = 1.0
# Longer than any test waits: what still runs then was never ended.
HANGS_SECONDS = 120
HANG = {"type": "function", "function": {"name": "slow__hang"}}
FETCH = {"type": "function", "function": {"name": "fetch"}}
TWO_AND_TWO = ("calculator", {"expression": "2 + 2"})
CALCULATOR = {"type": "function", "function": {"name": "calculator"}}


class Hanging(one_version.Server):
    """An MCP server whose only tool does not answer until it is told to, and which hears when a call is taken back."""

    def __init__(self) -> None:
        super().__init__("2025-06-18")
        annotations = {"readOnlyHint": True}
        self.tools = [{"name": "hang", "inputSchema": {"type": "object"}, "annotations": annotations}]
        self.called_at: queue.Queue[float] = queue.Queue()
        self.gone: queue.Queue[float] = queue.Queue()
        self.released = threading.Event()
        self.listening = one_version.Listening(self, 0)
        self.url = f"http://127.0.0.1:{self.listening.server_address[1]}/mcp"
        self.thread = threading.Thread(target=self.listening.serve_forever, daemon=True)
        self.thread.start()

    def answer(self, message: dict[str, Any]) -> dict[str, Any] | None:
        if message.get("method") == "notifications/cancelled":
            self.gone.put(time.monotonic())
        return super().answer(message)

    def called(self, params: dict[str, Any]) -> dict[str, Any]:
        self.called_at.put(time.monotonic())
        self.released.wait(HANGS_SECONDS)
        return {"content": [{"type": "text", "text": "at last"}]}

    def anew(self) -> None:
        self.released.clear()
        for notes in (self.called_at, self.gone):
            while not notes.empty():
                notes.get_nowait()

    def close(self) -> None:
        self.released.set()
        self.listening.shutdown()
        self.listening.server_close()
        self.thread.join()


@pytest.fixture(scope="module")
def hanging() -> Iterator[Hanging]:
    with harness.closing(Hanging()) as server:
        yield server


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Scripted]:
    """Where the declared tool leads."""
    with harness.closing(Scripted()) as backend:
        backend.finally_ = script.silent
        yield backend


@pytest.fixture(scope="module")
def bounded(
    tmp_path_factory: pytest.TempPathFactory, scripted: Scripted, hanging: Hanging, endpoint: Scripted
) -> Iterator[Gateway]:
    config = {
        "models": {"scripted": {"backends": [{"url": scripted.url, "model": "by-script"}]}},
        "upstreams": {"slow": {"url": hanging.url}},
        "mcp": {
            "allow_addresses": ["127.0.0.1"],
            "tools": [
                {
                    "name": "fetch",
                    "description": "Fetches.",
                    "endpoint": {"url": f"{endpoint.url}/fetch", "method": "POST"},
                    "effects": {"read_only": True},
                }
            ],
        },
        "turns": {"timeout_s": 60, "keep_alive_s": 1},
        "limits": {"requests_per_minute": 1_000_000, "tool_calls_per_minute": 1_000_000},
    }
    with harness.closing(Gateway(tmp_path_factory.mktemp("bounded"), config)) as gateway:

        def has_tools() -> bool:
            told = gateway.rpc("tools/list", {}).json()["result"]["tools"]
            return {"slow__hang", "fetch"} <= {tool["name"] for tool in told}

        harness.wait_for("the tools", has_tools)
        yield gateway


@contextlib.contextmanager
def turns(gateway: Gateway, **section: Any) -> Iterator[None]:
    """The section `turns:` as it is for a while."""
    before = gateway.config.read_text(encoding="utf-8")

    def put(text: str) -> None:
        loaded = gateway.http.get("/api/v1/status", headers=gateway.admin.bearer).json()["config"]
        gateway.config.write_text(text, encoding="utf-8")

        def is_loaded() -> bool:
            now = gateway.http.get("/api/v1/status", headers=gateway.admin.bearer).json()["config"]
            return now != loaded

        harness.wait_for("the new configuration", is_loaded)

    put(json.dumps(json.loads(before) | {"turns": section}))
    try:
        yield
    finally:
        put(before)


def test_bounds_are_those_of_the_configuration_in_force(bounded: Gateway, scripted: Scripted) -> None:
    body = harness.chat_body("scripted", tools=[CALCULATOR])
    with turns(bounded, rounds_max=1):
        scripted.will(*[script.call(TWO_AND_TWO)] * 5)
        ours = bounded.chat(body, bounded.admin.bearer).json()["forebay"]
        assert (ours["ended"], len(ours["tools"]), len(scripted.heard)) == ("rounds", 1, 2)
    scripted.will(*[script.call(TWO_AND_TWO)] * 3, script.say("Four."))
    answer = bounded.chat(body, bounded.admin.bearer).json()
    assert "ended" not in answer["forebay"] and answer["choices"][0]["message"]["content"] == "Four."


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_tool_of_an_upstream_that_hangs_is_given_up(
    bounded: Gateway, scripted: Scripted, hanging: Hanging, stream: bool
) -> None:
    hanging.anew()
    scripted.will(script.call(("slow__hang", {}), TWO_AND_TWO), script.echo_results)
    body = harness.chat_body("scripted", tools=[HANG, CALCULATOR], stream=stream)
    with turns(bounded, timeout_s=1):
        answer = bounded.chat(body, bounded.admin.bearer)
    assert answer.status_code == 200, answer.text
    for word in ('"ended":"time"', "tool_timed_out", '"success"'):
        assert word in answer.text, answer.text
    assert "[DONE]" in answer.text or not stream
    assert not scripted.bodies[-1].get("tools"), "the last time it is asked without tools"
    results = [message["content"] for message in scripted.bodies[-1]["messages"] if message["role"] == "tool"]
    assert "did not" in results[0] and "4" in results[1], "what the other call found out is not lost"
    hanging.gone.get(timeout=30)


def request(gateway: Gateway, path: str, body: Any) -> bytes:
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{gateway.port}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {gateway.admin.key}\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("tool", [HANG, FETCH], ids=["upstream", "declared"])
def test_a_client_that_leaves_while_a_tool_runs_ends_it(
    bounded: Gateway, scripted: Scripted, hanging: Hanging, endpoint: Scripted, tool: dict[str, Any], stream: bool
) -> None:
    hanging.anew()
    endpoint.will()
    gone = hanging.gone if tool is HANG else endpoint.gone
    scripted.will(script.call((tool["function"]["name"], {})), script.say("never said"))
    body = harness.chat_body("scripted", tools=[tool], stream=stream)
    with socket.create_connection(("127.0.0.1", bounded.port), timeout=30) as wire:
        wire.sendall(request(bounded, "/v1/chat/completions", body))
        harness.wait_for("the call", lambda: endpoint.heard or not hanging.called_at.empty())
        left = time.monotonic()
    seconds = gone.get(timeout=30) - left
    assert seconds <= GONE_SECONDS_MAX, seconds
    assert len(scripted.heard) == 1, "and the model is asked no more"


def test_a_client_that_leaves_in_a_later_round_cancels_the_engine(bounded: Gateway, scripted: Scripted) -> None:
    scripted.will(script.call(TWO_AND_TWO), script.endless)
    body = harness.chat_body("scripted", tools=[CALCULATOR], stream=True)
    with socket.create_connection(("127.0.0.1", bounded.port), timeout=30) as wire:
        wire.sendall(request(bounded, "/v1/chat/completions", body))
        seen = b""
        while b"and on" not in seen:
            seen += wire.recv(65536)
        left = time.monotonic()
    seconds = scripted.gone.get(timeout=30) - left
    assert seconds <= GONE_SECONDS_MAX, seconds


def test_a_stream_in_which_a_tool_is_at_work_is_not_silent(
    bounded: Gateway, scripted: Scripted, hanging: Hanging
) -> None:
    """What stands between takes a connection for dead on which nothing comes; most such times are 30 to 60 s."""
    hanging.anew()
    scripted.will(script.call(("slow__hang", {}), text="I look. "), script.echo_results)
    body = harness.chat_body("scripted", tools=[HANG], stream=True)
    with bounded.http.stream("POST", "/v1/chat/completions", json=body, headers=bounded.admin.bearer) as answer:
        assert answer.headers["x-accel-buffering"] == "no", "nginx holds a stream back otherwise"
        lines = answer.iter_lines()
        comments = (line for line in lines if line.startswith(":"))
        began = time.monotonic()
        assert len(list(itertools.islice(comments, 2))) == 2
        assert time.monotonic() - began < 10
        hanging.released.set()
        rest = list(lines)
    assert any("at last" in line for line in rest) and "data: [DONE]" in rest


def test_clients_read_past_what_keeps_a_stream_alive(bounded: Gateway, scripted: Scripted, hanging: Hanging) -> None:
    def released_after(seconds: float) -> Callable[[], None]:
        hanging.anew()
        timer = threading.Timer(seconds, hanging.released.set)
        timer.start()
        return timer.join

    scripted.will(script.call(("slow__hang", {})), script.echo_results)
    ended = released_after(2.5)
    http = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(base_url=f"{bounded.url}/v1", api_key=bounded.admin.key, http_client=http) as client:
        chunks = list(client.chat.completions.create(**harness.chat_body("scripted", tools=[HANG], stream=True)))
    assert "at last" in "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    ended()

    scripted.will(script.call(("slow__hang", {})), script.echo_results)
    ended = released_after(2.5)
    http = httpx2.Client(trust_env=False, timeout=harness.WAIT_SECONDS_MAX)
    asked = {"model": "scripted", "max_tokens": 64, "messages": [{"role": "user", "content": "Look."}]}
    with (
        anthropic.Anthropic(base_url=bounded.url, api_key=bounded.admin.key, http_client=http) as client,
        client.messages.stream(tools=[{"name": "slow__hang"}], **asked) as stream,
    ):
        assert "at last" in stream.get_final_text()
    ended()
