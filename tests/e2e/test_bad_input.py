"""Whatever somebody sends, the answer says what was wrong and what to do, in the form of the surface it was sent to."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import itertools
import json
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any

import httpx
import pytest

import harness
from harness import Gateway, Key

DEEP = "[" * 10_000 + "]" * 10_000
LARGE_BYTES = 20 << 20
MODERN_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


def code_of(answer: httpx.Response) -> str:
    """The stable code, wherever the surface's form puts it."""
    body = answer.json()
    match body:
        case {"jsonrpc": "2.0", "error": {"code": int(), "data": {"code": str(code)}}}:
            return code
        case {"error": {"forebay_code": str(code)}}:
            return code
        case {"type": str(page), "title": str(), "status": int(status), "code": str(code)}:
            assert page == f"urn:forebay:error:{code}" and status == answer.status_code
            assert answer.headers["content-type"] == "application/problem+json"
            return code
    raise AssertionError(f"no error of a known form: {answer.text[:500]}")


def advice_of(answer: httpx.Response) -> str:
    """What the answer says to do: a sentence after the first, or the problem's hint."""
    body = answer.json()
    if "hint" in body:
        return body["hint"]
    message = body["error"]["message"]
    first, _, rest = message.partition(". ")
    # What is missing is what to send: that needs no second sentence.
    assert rest or "is required" in first, f"only one sentence: {message}"
    return rest or first


def expect(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, code_of(answer)) == (status, code), answer.text[:500]
    assert len(advice_of(answer)) > 8
    harness.expect_plain_words(answer.text)
    assert answer.headers["x-trace-id"]


@dataclasses.dataclass(frozen=True)
class Surface:
    """One way in that reads bodies, with a good body of its own."""

    path: str
    good: str
    headers: dict[str, str] = dataclasses.field(default_factory=dict)

    def post(self, gateway: Gateway, key: Key, body: str | bytes, **headers: str) -> httpx.Response:
        sent = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        return gateway.http.post(self.path, content=body, headers=sent | self.headers | key.bearer | headers)


def rpc(method: str, params: dict[str, Any], id: Any = 1) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params})


MODERN = Surface(
    "/mcp",
    rpc("tools/list", {"_meta": MODERN_META}),
    {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list"},
)
PLAIN = Surface("/api/v1/mcp", rpc("tools/list", {}))
CHAT = Surface("/v1/chat/completions", json.dumps(harness.chat_body("noting")))
KEYS = Surface("/api/v1/keys", json.dumps({"role": "user", "tenant": "acme", "name": "bad-input"}))
SURFACES = {"mcp": MODERN, "plain": PLAIN, "chat": CHAT, "keys": KEYS}
each_surface = pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES.keys())


@each_surface
def test_the_good_body_is_taken(gateway: Gateway, surface: Surface) -> None:
    answer = surface.post(gateway, gateway.admin, surface.good)
    assert answer.is_success, answer.text
    assert "error" not in answer.json()


def repeated(good: str) -> str:
    """The good body with one more member of a name it has already."""
    name = next(iter(json.loads(good)))
    return good[:-1] + f', "{name}": 1}}'


MALFORMED: dict[str, tuple[Callable[[str], str | bytes], str]] = {
    "empty": (lambda _: "", "malformed_json"),
    "cut off": (lambda good: good[:-1], "malformed_json"),
    "two values": (lambda good: good + good, "malformed_json"),
    "not utf-8": (lambda _: b'{"a": "\xff\xfe"}', "malformed_json"),
    "single quotes": (lambda _: "{'a': 1}", "malformed_json"),
    "a form": (lambda _: "model=a&b=c", "malformed_json"),
    "deep": (lambda _: DEEP, "json_too_deep"),
    "deep inside": (lambda good: good[:-1] + f', "x": {DEEP}}}', "json_too_deep"),
    "duplicate key": (repeated, "duplicate_key"),
    "a number": (lambda _: "7", "invalid_request"),
    "a string": (lambda _: '"hello"', "invalid_request"),
}


@each_surface
@pytest.mark.parametrize("case", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_body_that_is_no_request(gateway: Gateway, surface: Surface, case: tuple[Callable[[str], str], str]) -> None:
    make, code = case
    expect(surface.post(gateway, gateway.admin, make(surface.good)), 400, code)


def post_until_hung_up(gateway: Gateway, surface: Surface, pieces: Iterable[bytes], **headers: str) -> httpx.Response:
    """Posts on a connection of its own; where the gateway answers and hangs up before it has heard all, so be it."""
    wire = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60)
    with contextlib.closing(wire):
        wire.putrequest("POST", surface.path)
        sent = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        for name, value in (sent | surface.headers | gateway.admin.bearer | headers).items():
            wire.putheader(name, value)
        with contextlib.suppress(OSError):
            wire.endheaders()
            for piece in pieces:
                wire.send(piece)
        answer = wire.getresponse()
        return httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())


@each_surface
def test_a_body_of_20_megabytes(gateway: Gateway, surface: Surface) -> None:
    body = f'{surface.good[:-1]}, "padding": "{"x" * LARGE_BYTES}"}}'.encode()
    answer = post_until_hung_up(gateway, surface, [body], **{"Content-Length": str(len(body))})
    expect(answer, 413, "body_too_large")
    assert "body_bytes_max" in answer.text


@each_surface
def test_a_large_body_that_does_not_say_its_size(gateway: Gateway, surface: Surface) -> None:
    piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    pieces = itertools.repeat(piece, LARGE_BYTES // 0x10000)
    answer = post_until_hung_up(gateway, surface, pieces, **{"Transfer-Encoding": "chunked"})
    expect(answer, 413, "body_too_large")


@pytest.mark.parametrize("surface", [MODERN], ids=["mcp"])
def test_a_batch_where_there_are_none(gateway: Gateway, surface: Surface) -> None:
    answer = surface.post(gateway, gateway.admin, f"[{surface.good}]")
    assert answer.json()["error"]["code"] == -32600
    expect(answer, 400, "batch_not_supported")


CHAT_FAULTS = {
    "no model": ({"messages": []}, 400, "invalid_request"),
    "a model that is no text": ({"model": 7, "messages": []}, 400, "invalid_request"),
    "an unknown model": ({"model": "nobody", "messages": []}, 404, "unknown_model"),
    "an array": ([], 400, "invalid_request"),
}


@pytest.mark.parametrize("case", CHAT_FAULTS.values(), ids=CHAT_FAULTS.keys())
def test_a_chat_request_that_does_not_fit(gateway: Gateway, user: Key, case: tuple[Any, int, str]) -> None:
    body, status, code = case
    expect(CHAT.post(gateway, user, json.dumps(body)), status, code)


def test_a_body_that_does_not_say_json(gateway: Gateway, user: Key) -> None:
    answer = CHAT.post(gateway, user, CHAT.good, **{"Content-Type": "text/plain"})
    expect(answer, 415, "unsupported_media_type")


def calculate(arguments: dict[str, Any]) -> str:
    return rpc("tools/call", {"name": "calculator", "arguments": arguments})


RPC_FAULTS = {
    "an unknown method": (rpc("no/such", {}), -32601, "unknown_method"),
    "an unknown tool": (rpc("tools/call", {"name": "no_such", "arguments": {}}), -32602, "unknown_tool"),
    "no arguments": (calculate({}), -32602, "invalid_arguments"),
    "a wrong type": (calculate({"expression": 1}), -32602, "invalid_arguments"),
    "one argument too many": (calculate({"expression": "1", "x": 1}), -32602, "invalid_arguments"),
    "no name": (rpc("tools/call", {"arguments": {}}), -32602, "invalid_params"),
    "an unknown resource": (rpc("resources/read", {"uri": "no://such"}), -32002, "unknown_resource"),
    "params as a list": ('{"jsonrpc":"2.0","id":1,"method":"tools/list","params":[]}', -32600, "invalid_request"),
    "no version": ('{"id":1,"method":"tools/list"}', -32600, "invalid_request"),
    "a fraction as id": ('{"jsonrpc":"2.0","id":1.5,"method":"tools/list"}', -32600, "invalid_request"),
}


@pytest.mark.parametrize("case", RPC_FAULTS.values(), ids=RPC_FAULTS.keys())
def test_a_json_rpc_request_that_does_not_fit(gateway: Gateway, user: Key, case: tuple[str, int, str]) -> None:
    body, number, code = case
    answer = PLAIN.post(gateway, user, body)
    error = answer.json()["error"]
    assert error["code"] == number, error
    expect(answer, answer.status_code, code)


HEADER_FAULTS = {
    "another method": ({"Mcp-Method": "tools/call"}, "header_mismatch", -32020),
    "another version": ({"MCP-Protocol-Version": "2025-11-25"}, "header_mismatch", -32020),
    "an unknown version": ({"MCP-Protocol-Version": "1999-01-01"}, "header_mismatch", -32020),
}


@pytest.mark.parametrize("case", HEADER_FAULTS.values(), ids=HEADER_FAULTS.keys())
def test_headers_that_disagree_with_the_body(
    gateway: Gateway, user: Key, case: tuple[dict[str, str], str, int]
) -> None:
    headers, code, number = case
    answer = MODERN.post(gateway, user, MODERN.good, **headers)
    assert answer.json()["error"]["code"] == number
    expect(answer, 400, code)


def test_a_version_that_nobody_serves_is_named_with_those_that_are(gateway: Gateway, user: Key) -> None:
    meta = MODERN_META | {"io.modelcontextprotocol/protocolVersion": "1999-01-01"}
    body = rpc("tools/list", {"_meta": meta})
    answer = MODERN.post(gateway, user, body, **{"MCP-Protocol-Version": "1999-01-01"})
    expect(answer, 400, "unsupported_protocol_version")
    assert "2026-07-28" in answer.json()["error"]["data"]["supported"]


def test_the_name_in_the_header_must_be_the_tool_that_is_called(gateway: Gateway, user: Key) -> None:
    body = rpc("tools/call", {"name": "calculator", "arguments": {"expression": "1"}, "_meta": MODERN_META})
    answer = MODERN.post(gateway, user, body, **{"Mcp-Method": "tools/call", "Mcp-Name": "gateway_status"})
    expect(answer, 400, "header_mismatch")


STRANGERS = {
    "a foreign origin": ({"Origin": "https://evil.example"}, "origin_not_allowed"),
    "a null origin": ({"Origin": "null"}, "origin_not_allowed"),
    "a name that merely begins like ours": ({"Origin": "http://localhost.evil.example"}, "origin_not_allowed"),
    "a foreign host": ({"Host": "evil.example"}, "host_not_allowed"),
    "a rebound host": ({"Host": "evil.example:8080"}, "host_not_allowed"),
}
ROUTES = [
    ("GET", "/health"), ("GET", "/v1/models"), ("POST", "/v1/chat/completions"), ("POST", "/mcp"), ("GET", "/mcp"),
    ("DELETE", "/mcp"), ("POST", "/api/v1/mcp"), ("GET", "/api/v1/keys"), ("GET", "/metrics"), ("OPTIONS", "/mcp"),
    ("GET", "/no/such/route"),
]  # fmt: skip


@pytest.mark.parametrize("case", STRANGERS.values(), ids=STRANGERS.keys())
@pytest.mark.parametrize("route", ROUTES, ids=[" ".join(route) for route in ROUTES])
def test_strangers_are_refused_on_every_route(
    gateway: Gateway, case: tuple[dict[str, str], str], route: tuple[str, str]
) -> None:
    headers, code = case
    answer = gateway.http.request(*route, headers=gateway.admin.bearer | headers)
    expect(answer, 403, code)


def test_loopback_pages_are_no_strangers(gateway: Gateway, user: Key) -> None:
    for origin in ("http://localhost:3000", "http://127.0.0.1", "http://[::1]:5173"):
        answer = PLAIN.post(gateway, user, PLAIN.good, Origin=origin)
        assert answer.status_code == 200, origin


def test_an_unknown_route_and_a_wrong_method(gateway: Gateway) -> None:
    expect(gateway.http.get("/no/such/route", headers=gateway.admin.bearer), 404, "route_not_found")
    expect(gateway.http.get("/v1/no/such", headers=gateway.admin.bearer), 404, "route_not_found")
    wrong = gateway.http.put("/v1/models", headers=gateway.admin.bearer)
    expect(wrong, 405, "method_not_allowed")
    assert "GET" in wrong.headers["allow"]


def test_nonsense_on_the_wire_does_not_stop_the_gateway(gateway: Gateway) -> None:
    tls = b"\x16\x03\x01\x02\x00\x01\x00"
    endless = b"POST /mcp HTTP/1.1\r\n" + b"A" * 100_000
    for nonsense in (tls, b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 100, endless):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as wire:
            wire.sendall(nonsense)
            # It may hang up on us while we are still talking.
            with contextlib.suppress(OSError):
                wire.shutdown(socket.SHUT_WR)
                while wire.recv(65536):
                    pass
    assert gateway.http.get("/readyz").status_code == 200
    harness.expect_plain_words(gateway.log)


def test_a_refused_request_s_late_body_does_not_end_the_connection(gateway: Gateway) -> None:
    """Clients that send head and body apart would meet a connection that was closed without a word."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=harness.WAIT_SECONDS_MAX)
    with contextlib.closing(connection):
        for _ in range(20):
            connection.putrequest("POST", "/v1/chat/completions")
            connection.putheader("Authorization", "Bearer fb_0000000000000000_" + "0" * 64)
            connection.putheader("Content-Length", "2")
            connection.endheaders()
            wire = connection.sock
            # It is refused by its head alone.
            threading.Event().wait(harness.POLL_SECONDS)
            connection.send(b"{}")
            answer = connection.getresponse()
            assert (answer.status, answer.getheader("connection")) == (401, None), answer.read()
            answer.read()
            assert connection.sock is wire, "it was kept"


def test_a_refused_request_whose_body_never_comes_is_told_that_the_connection_ends(gateway: Gateway) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=harness.WAIT_SECONDS_MAX)
    with contextlib.closing(connection):
        connection.putrequest("POST", "/v1/chat/completions")
        connection.putheader("Content-Length", "100000")
        connection.endheaders()
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("connection")) == (401, "close"), answer.read()


def test_a_list_is_no_body_and_a_path_is_text(gateway: Gateway, user: Key) -> None:
    listed = gateway.http.post("/api/v1/mcp/contexts", json=["gpt-3.5-turbo", [], {}], headers=user.bearer)
    assert (listed.status_code, listed.json()["code"]) == (400, "invalid_request"), listed.text
    assert "JSON object" in listed.text
    named = gateway.http.post("/api/v1/mcp/tasks", json={"type": "mcp.add_node", "run_at": "soon"}, headers=user.bearer)
    assert named.status_code == 400 and "`run_at`" in named.text, named.text
    for path in ("/api/v1/mcp/tasks/%ff", "/api/v1/mcp/contexts/%ff"):
        odd = gateway.http.get(path, headers=user.bearer)
        assert (odd.status_code, odd.json()["code"]) == (400, "invalid_request"), odd.text
    odd = gateway.http.get("/v1/responses/%ff", headers=user.bearer)
    assert odd.status_code == 400 and odd.json()["error"]["message"], odd.text
