"""A gateway that is killed in the middle of a call: what its clients find when it is back."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

import harness
from harness import Gateway, Key
from npm import MODULES
from test_database_gone import postgres

EVERYTHING = MODULES / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"
UPSTREAMS = {"everything": {"command": "node", "args": [str(EVERYTHING), "stdio"]}}
# Two minutes in steps of a fifth of a second: it is killed long before it is done.
LONG = {"name": "everything__trigger-long-running-operation", "arguments": {"duration": 120, "steps": 600}}
# What was said a second before the kill has long been written down.
STEPS_IN_A_SECOND = 5
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "e2e", "version": "1"}}
DATABASES = pytest.mark.parametrize("database", ["sqlite", "postgres"])


@dataclasses.dataclass
class Event:
    id: str | None
    message: dict[str, Any] | None

    @property
    def step(self) -> int | None:
        params = (self.message or {}).get("params", {})
        return params.get("progress") if "progressToken" in params else None


def events(answer: httpx.Response) -> Iterator[Event]:
    """The events of a stream; it ends where its connection does, in whatever way, and does so in time."""
    at, data = None, ""
    over = time.monotonic() + harness.WAIT_SECONDS_MAX
    with contextlib.suppress(httpx.HTTPError):
        for line in answer.iter_lines():
            # There is a line every few seconds at least: signs of life, where nothing else.
            assert time.monotonic() < over, "the stream goes on, and nothing comes"
            name, _, value = line.partition(": ")
            match name:
                case "id":
                    at = value
                case "data":
                    data += value
                case "" if not line and (at or data):
                    yield Event(at, json.loads(data) if data else None)
                    at, data = None, ""


def until(stream: Iterator[Event], what: Callable[[Event], bool]) -> list[Event]:
    seen: list[Event] = []
    for event in stream:
        seen.append(event)
        if what(event):
            return seen
    raise AssertionError(f"the stream ended: {seen}")


@dataclasses.dataclass
class Visitor:
    """A client of Streamable HTTP, by hand, so that it can come back to any place of a stream."""

    gateway: Gateway
    key: Key
    session: str = ""

    def headers(self, **more: str) -> dict[str, str]:
        named = {"Mcp-Session-Id": self.session} if self.session else {}
        accepts = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25"}
        return self.key.bearer | accepts | named | more

    def message(self, method: str, params: Any, number: int) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}

    def ask(self, method: str, params: Any, number: int = 1) -> httpx.Response:
        return self.gateway.http.post("/mcp", json=self.message(method, params, number), headers=self.headers())

    def enter(self) -> Visitor:
        answer = self.ask("initialize", HELLO)
        assert answer.status_code == 200, answer.text
        self.session = answer.headers["mcp-session-id"]
        return self

    @contextlib.contextmanager
    def calling(self, number: int, params: dict[str, Any] = LONG) -> Iterator[Iterator[Event]]:
        body = self.message("tools/call", params | {"_meta": {"progressToken": number}}, number)
        with self.gateway.http.stream("POST", "/mcp", json=body, headers=self.headers()) as answer:
            assert answer.headers["content-type"] == "text/event-stream", answer.read()
            yield events(answer)

    @contextlib.contextmanager
    def back(self, last: str) -> Iterator[Iterator[Event]]:
        headers = self.headers(**{"Last-Event-ID": last})
        with self.gateway.http.stream("GET", "/mcp", headers=headers) as answer:
            assert answer.status_code == 200, answer.read()
            yield events(answer)

    def back_is_refused(self, last: str) -> None:
        answer = self.gateway.http.get("/mcp", headers=self.headers(**{"Last-Event-ID": last}))
        assert answer.status_code == 404 and answer.json()["error"]["data"]["code"] == "unknown_session", answer.text


def start_again(gateway: Gateway, **env: str) -> None:
    """The same binary on the same data and the same port, after a SIGKILL."""
    gateway.kill()
    listen = f"127.0.0.1:{gateway.port}"
    options = ["--config", str(gateway.config), "--data", str(gateway.data), "--listen", listen]
    command = [str(harness.BINARY), "serve", *options]
    harness.Process.__init__(gateway, "gateway", command, gateway.log_path, harness.clean_env(**env))
    gateway.wait_until_ready(f"{gateway.url}/readyz")


def knows_the_tool(gateway: Gateway) -> bool:
    tools = gateway.rpc("tools/list", {}).json().get("result", {}).get("tools", [])
    return LONG["name"] in {tool["name"] for tool in tools}


def expect_lost(event: Event, number: int) -> None:
    message = event.message or {}
    assert message.get("id") == number and message["error"]["code"] == -32000, message
    assert message["error"]["data"]["code"] == "call_lost", message


@contextlib.contextmanager
def gateway_on(
    database: str, folder: pathlib.Path, start: Callable[..., Gateway]
) -> Iterator[tuple[Gateway, dict[str, str]]]:
    """A gateway with the upstream, and the environment that it needs."""
    config: dict[str, Any] = {"upstreams": UPSTREAMS}
    env: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        if database == "postgres":
            url = urllib.parse.urlsplit(stack.enter_context(postgres(folder))[0])
            shown = url._replace(netloc=f"{url.username}@{url.hostname}:{url.port}").geturl()
            config["store"] = {"url": shown, "password": {"env": "STORE_PASSWORD"}}
            env["STORE_PASSWORD"] = url.password or ""
        gateway = start(config, **env)
        harness.wait_for("the tool", lambda: knows_the_tool(gateway))
        yield gateway, env


@DATABASES
def test_a_session_and_its_stream_go_on_after_a_kill(
    database: str, tmp_path: pathlib.Path, start: Callable[..., Gateway]
) -> None:
    with gateway_on(database, tmp_path, start) as (gateway, env):
        user, stranger = gateway.new_key("user"), gateway.new_key("user")
        visitor = Visitor(gateway, user).enter()
        with visitor.calling(7) as stream:
            begun = until(stream, lambda event: event.step == 2)
        # Its connection is gone and the call runs on. What is said from here on it has not seen.
        last = begun[-1].id or ""
        with visitor.back(last) as stream:
            witnessed = until(stream, lambda event: event.step == 5 + STEPS_IN_A_SECOND)
            start_again(gateway, **env)

        assert visitor.ask("tools/list", {}, 8).status_code == 200, "the session is known"
        intruder = Visitor(gateway, stranger, visitor.session)
        assert intruder.ask("tools/list", {}).status_code == 404
        intruder.back_is_refused(last)

        durable = witnessed[:-STEPS_IN_A_SECOND]
        with visitor.back(last) as stream:
            missed = [next(stream) for _ in durable]
            assert missed == durable, "what was written down, in its order and under its ids"
            if database == "postgres":
                # Another replica may be running it; that none does is known only after minutes.
                return
            rest = list(stream)
        expect_lost(rest[-1], 7)
        steps = [event.step for event in (*begun, *missed, *rest) if event.step is not None]
        assert steps == list(range(1, len(steps) + 1)), "each once"
        assert [event.id for event in rest].index(None) == len(rest) - 1, "the error alone is no event of that stream"

        latest = [event.id for event in (*missed, *rest) if event.id][-1]
        with visitor.back(latest) as stream:
            (again,) = list(stream)
        expect_lost(again, 7)
        harness.wait_for("the tool", lambda: knows_the_tool(gateway))
        answer = visitor.ask("tools/call", {"name": "calculator", "arguments": {"expression": "6*7"}}, 9)
        assert answer.json()["result"]["content"][0]["text"] == "42", "the session goes on"


def test_a_call_whose_first_word_was_its_gateways_last(start: Callable[..., Gateway]) -> None:
    gateway = start({"upstreams": UPSTREAMS})
    harness.wait_for("the tool", lambda: knows_the_tool(gateway))
    visitor = Visitor(gateway, gateway.new_key("user")).enter()
    for number in range(3):
        with visitor.calling(number) as stream:
            first = next(stream)
            start_again(gateway)
        with visitor.back(first.id or "") as stream:
            told = [event for event in stream if event.message and "id" in event.message]
        assert len(told) == 1, told
        expect_lost(told[0], number)
        harness.wait_for("the tool", lambda: knows_the_tool(gateway))


def test_a_client_on_standard_input_is_told_that_its_call_is_lost(start: Callable[..., Gateway]) -> None:
    gateway = start({"upstreams": UPSTREAMS})
    harness.wait_for("the tool", lambda: knows_the_tool(gateway))
    env = harness.clean_env(FOREBAY_URL=gateway.url, FOREBAY_KEY=gateway.new_key("user").key)
    bridge = subprocess.Popen(
        [str(harness.BINARY), "stdio"], env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert bridge.stdin and bridge.stdout
    limit = threading.Timer(harness.WAIT_SECONDS_MAX, bridge.kill)
    limit.start()
    try:

        def say(message: dict[str, Any]) -> None:
            print(json.dumps({"jsonrpc": "2.0"} | message), file=bridge.stdin, flush=True)

        def hear(what: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
            for line in bridge.stdout or ():
                if what(message := json.loads(line)):
                    return message
            raise AssertionError("the bridge ended, or nothing came in time")

        say({"id": 1, "method": "initialize", "params": HELLO})
        hear(lambda message: message.get("id") == 1)
        say({"method": "notifications/initialized"})
        say({"id": "long", "method": "tools/call", "params": LONG | {"_meta": {"progressToken": 1}}})
        hear(lambda message: message.get("method") == "notifications/progress")
        start_again(gateway)
        answer = hear(lambda message: message.get("id") == "long")
        assert answer["error"]["data"]["code"] == "call_lost", answer
        say({"id": 3, "method": "tools/call", "params": {"name": "calculator", "arguments": {"expression": "6*7"}}})
        answer = hear(lambda message: message.get("id") == 3)
        assert answer["result"]["content"][0]["text"] == "42", "in the same session"
    finally:
        limit.cancel()
        bridge.kill()
        bridge.wait()
        bridge.stdin.close()
        bridge.stdout.close()
