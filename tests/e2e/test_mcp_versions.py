"""Every version of the protocol on the one side, and every version on the other.

Nothing here is an SDK: the clients are written out, and the upstreams speak one version each (`one_version.py`).
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

import harness
from harness import Gateway, Key
from one_version import MODERN, NAMESPACE, VERSIONS

SCRIPT = str(pathlib.Path(__file__).resolve().parent / "one_version.py")
UPSTREAMS = [f"v{version}-{transport}" for version in VERSIONS for transport in ("stdio", "http")]
ACCEPT = {"Accept": "application/json, text/event-stream"}

Ask = Callable[[str, dict[str, Any]], dict[str, Any]]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway before one upstream of each version and transport, once it knows them all."""
    folder = tmp_path_factory.mktemp("versions")
    upstreams: dict[str, Any] = {}
    with contextlib.ExitStack() as running:
        for version in VERSIONS:
            port = harness.free_port()
            command = [sys.executable, SCRIPT, version]
            server = harness.Process(version, [*command, str(port)], folder / f"{version}.log", harness.clean_env())
            running.callback(server.kill)
            path = "/sse" if version == VERSIONS[0] else "/mcp"
            upstreams[f"v{version}-http"] = {"url": f"http://127.0.0.1:{port}{path}"}
            upstreams[f"v{version}-stdio"] = {"command": command[0], "args": command[1:]}
        limits = {"requests_per_minute": 1_000_000, "tool_calls_per_minute": 1_000_000}
        started = Gateway(folder / "gateway", {"upstreams": upstreams, "limits": limits})
        running.callback(started.close)

        def all_there() -> bool:
            told = started.http.get("/api/v1/upstreams", headers=started.admin.bearer).json()["upstreams"]
            return {one["name"] for one in told if one["tools"] == 2} == set(UPSTREAMS)

        harness.wait_for("the tools of all upstreams", all_there)
        yield started


@pytest.fixture(scope="module")
def caller(gateway: Gateway) -> Key:
    return gateway.new_key("user")


def event_data(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    """The name and the data of each event of a stream."""
    name, data = "message", ""
    for line in lines:
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            data += value
        elif not line and data:
            yield name, data
            name, data = "message", ""


def request(method: str, params: dict[str, Any], number: int = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def hello(version: str) -> dict[str, Any]:
    return {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "by-hand", "version": "1"}}


@contextlib.contextmanager
def by_sse(gateway: Gateway, key: Key, version: str) -> Iterator[Ask]:
    """HTTP+SSE, as 2024-11-05 has it."""
    with gateway.http.stream("GET", "/mcp/sse", headers=key.bearer) as stream:
        events = event_data(stream.iter_lines())
        name, endpoint = next(events)
        assert name == "endpoint"

        def post(message: dict[str, Any]) -> None:
            assert gateway.http.post(endpoint, json=message, headers=key.bearer).status_code == 202

        def ask(method: str, params: dict[str, Any]) -> dict[str, Any]:
            post(request(method, params))
            answers = (json.loads(data) for _, data in events)
            return next(answer for answer in answers if answer.get("id") == 1)

        opened = ask("initialize", hello(version))
        assert opened["result"]["protocolVersion"] == version
        post({"jsonrpc": "2.0", "method": "notifications/initialized"})
        yield ask


def posted(gateway: Gateway, message: dict[str, Any], headers: dict[str, str]) -> tuple[httpx.Response, Any]:
    """The response to a POST, and the answer in it: the body, or the last event of a stream."""
    response = gateway.http.post("/mcp", json=message, headers=ACCEPT | headers)
    assert response.is_success, response.text
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        *_, (_, data) = event_data(iter(response.text.split("\n")))
        return response, json.loads(data)
    return response, response.json() if response.content else None


@contextlib.contextmanager
def by_session(gateway: Gateway, key: Key, version: str) -> Iterator[Ask]:
    """Streamable HTTP with a handshake; from 2025-06-18 on, a header says the version each time."""
    response, opened = posted(gateway, request("initialize", hello(version)), key.bearer)
    assert opened["result"]["protocolVersion"] == version
    headers = key.bearer | {"Mcp-Session-Id": response.headers["mcp-session-id"]}
    headers |= {"MCP-Protocol-Version": version} if version >= "2025-06-18" else {}
    posted(gateway, {"jsonrpc": "2.0", "method": "notifications/initialized"}, headers)
    yield lambda method, params: posted(gateway, request(method, params), headers)[1]
    assert gateway.http.delete("/mcp", headers=headers).is_success


@contextlib.contextmanager
def by_itself(gateway: Gateway, key: Key, version: str) -> Iterator[Ask]:
    """2026-07-28: each request says all there is to know."""
    meta = {NAMESPACE + "protocolVersion": version, NAMESPACE + "clientCapabilities": {}}

    def ask(method: str, params: dict[str, Any]) -> dict[str, Any]:
        headers = key.bearer | {"MCP-Protocol-Version": version, "Mcp-Method": method}
        headers |= {"Mcp-Name": params["name"]} if "name" in params else {}
        return posted(gateway, request(method, params | {"_meta": meta}), headers)[1]

    yield ask


def connect(gateway: Gateway, key: Key, version: str) -> contextlib.AbstractContextManager[Ask]:
    by = {VERSIONS[0]: by_sse, MODERN: by_itself}.get(version, by_session)
    return by(gateway, key, version)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_every_version_of_client_uses_every_version_of_upstream(
    gateway: Gateway, caller: Key, version: str, upstream: str
) -> None:
    spoken = upstream[1:].rpartition("-")[0]
    with connect(gateway, caller, version) as ask:
        listed = ask("tools/list", {})["result"]
        assert f"{upstream}__version" in {tool["name"] for tool in listed["tools"]}
        called = ask("tools/call", {"name": f"{upstream}__version", "arguments": {}})["result"]
    assert called["content"] == [{"type": "text", "text": f"spoken: {spoken}"}]
    for result in (listed, called):
        assert ("resultType" in result) == (version == MODERN), "each side hears its own version alone"


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_each_upstream_is_spoken_to_in_its_own_version(gateway: Gateway, upstream: str) -> None:
    shown = gateway.http.get(f"/api/v1/upstreams/{upstream}", headers=gateway.admin.bearer).json()["upstream"]
    assert shown["protocol_version"] == upstream[1:].rpartition("-")[0]
    assert "trouble" not in shown and shown["transport"] == upstream.rpartition("-")[2]
