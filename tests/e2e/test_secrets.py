"""Planted secrets never show up: not in logs, metrics, errors, events or the database, nor at the backend."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable

import pytest

import harness
from conftest import CANARY_BACKEND_KEY, CANARY_PROMPT
from harness import Gateway, NotingBackend
from issuer import Issuer

JWT_SECRET = secrets.token_hex(32)


@pytest.fixture
def used(gateway: Gateway, issuer: Issuer, noting: NotingBackend) -> dict[str, str]:
    """Sends secrets through every door, the right way and the wrong way; gives them by name."""
    key = gateway.new_key("user")
    token = issuer.token()
    wrong = f"fb_{secrets.token_hex(8)}_{secrets.token_hex(32)}"
    said = {
        "the key's secret half": key.key.rpartition("_")[2],
        "the admin key's secret half": gateway.admin.key.rpartition("_")[2],
        "a wrong key's secret half": wrong.rpartition("_")[2],
        "the token's signature": token.rpartition(".")[2],
        "the backend's key": CANARY_BACKEND_KEY,
        "the prompt": CANARY_PROMPT,
        "the arguments": f"canary-arguments-{secrets.token_hex(16)}",
        "the name of a tool or model that is none": f"canary-name-{secrets.token_hex(16)}",
    }
    body = {"model": "noting", "messages": [{"role": "user", "content": CANARY_PROMPT}]}
    bearer = {"Authorization": f"Bearer {token}"}
    assert gateway.chat(body, key.bearer).status_code == 200
    assert gateway.chat(body, bearer).status_code == 200
    assert gateway.chat(body, {"X-API-Key": wrong}).status_code == 401
    cut_off = gateway.http.post(
        "/v1/chat/completions", content=f'{{"{CANARY_PROMPT}', headers=key.bearer | {"Content-Type": "application/json"}
    )
    assert cut_off.status_code == 400
    gateway.rpc("tools/call", {"name": "chat", "arguments": {"model": "noting", "prompt": CANARY_PROMPT}}, key)
    gateway.rpc("tools/call", {"name": "calculator", "arguments": {"expression": said["the arguments"]}}, key)
    misplaced = said["the arguments"]
    gateway.rpc("tools/call", {"name": "calculator", "arguments": {"expression": [misplaced]}}, key)
    gateway.rpc("tools/call", {"name": "calculator", "arguments": {misplaced: 1}}, key)
    # A whole key, and a canary, in the place of a name: also from somebody whose grants allow no such name.
    bounded = gateway.new_key("user", grants=("model:noting",))
    for name in (said["the name of a tool or model that is none"], wrong, f"{key.key} {CANARY_PROMPT}"):
        assert gateway.rpc("tools/call", {"name": name, "arguments": {}}, key).json()["error"]["code"] == -32602
        assert gateway.chat(body | {"model": name}, key.bearer).status_code == 404
        assert gateway.chat(body | {"model": name}, bounded.bearer).status_code == 403
        gateway.rpc("tools/call", {"name": "chat", "arguments": {"model": name, "prompt": "?"}}, key)
    gateway.rpc(misplaced, {}, key)
    gateway.rpc("resources/read", {"uri": f"file:///{misplaced}"}, key)
    gateway.http.get(f"/{misplaced}", headers=key.bearer)
    gateway.http.get("/api/v1/events", params={"trace": misplaced}, headers=gateway.admin.bearer)
    for field in ("name", "role", "tenant", misplaced):
        wrong = {"name": "x", "role": "user"} | {field: f"{misplaced} {misplaced}"}
        gateway.http.post("/api/v1/keys", json=wrong, headers=gateway.admin.bearer)
    gateway.rpc("tools/call", {"name": "file_reader", "arguments": {"path": said["the arguments"]}}, key)
    gateway.rpc("tools/call", {"name": "no_such", "arguments": {"x": said["the arguments"]}}, key)
    gateway.cli("chat", "--model", "noting", CANARY_PROMPT, key=key.key)
    return said


def everything_written(gateway: Gateway) -> dict[str, bytes]:
    """All that the gateway has told anybody: its log, its metrics, its events, and every file of its data."""
    events = gateway.http.get("/api/v1/events", params={"tail": "true", "limit": 1000}, headers=gateway.admin.bearer)
    told = {
        "the log": gateway.log.encode(),
        "/metrics": gateway.http.get("/metrics", headers=gateway.admin.bearer).content,
        "/api/v1/events": events.content,
        "/api/v1/status": gateway.http.get("/api/v1/status", headers=gateway.admin.bearer).content,
    }
    for file in gateway.data.rglob("*"):
        if file.is_file() and file.name != "admin.key":
            told[str(file.name)] = file.read_bytes()
    return told


def test_no_secret_is_ever_written(gateway: Gateway, used: dict[str, str], events_of: Callable) -> None:
    # The last request's event has reached the database, hence so have all before it.
    last = gateway.http.get("/v1/models", headers=gateway.admin.bearer)
    events_of(last.headers["x-trace-id"])
    told = everything_written(gateway)
    assert any(name.endswith((".db", ".sqlite", ".db-wal", ".sqlite-wal")) for name in told), sorted(told)
    for place, content in told.items():
        for name, secret in used.items():
            assert secret.encode() not in content, f"{name} stands in {place}"
    # The calls that carried them are told of all the same.
    actions = {event["action"] for event in json.loads(told["/api/v1/events"])["events"]}
    assert {"model:?", "tool:?", "model:noting", "tool:calculator"} <= actions


def test_the_log_says_something_at_all(gateway: Gateway, used: dict[str, str]) -> None:
    assert len(gateway.log.splitlines()) > 10, "at level debug each refusal leaves a line"


def test_our_keys_never_go_upstream(gateway: Gateway, used: dict[str, str], noting: NotingBackend) -> None:
    assert noting.heard
    for heard in noting.heard:
        assert heard.headers["authorization"] == f"Bearer {CANARY_BACKEND_KEY}"
        assert "x-api-key" not in heard.headers and "cookie" not in heard.headers
        assert "fb_" not in str(heard.headers)


def test_a_jwt_secret_is_shown_by_no_command(start: Callable[..., Gateway]) -> None:
    jwt = {"issuer": "https://issuer.example", "audience": "a", "secret": {"env": "JWT_CANARY"}}
    config = {"auth": {"jwt": jwt}, "telemetry": {"log": {"filter": "debug"}}}
    gateway = start(config, JWT_CANARY=JWT_SECRET)
    shown = gateway.cli("config", "show", "--origin", "--config", str(gateway.config))
    assert shown.returncode == 0, shown.stderr
    assert "JWT_CANARY" in shown.stdout
    assert gateway.http.get("/v1/models", headers={"Authorization": "Bearer a.b.c"}).status_code == 401
    told = everything_written(gateway) | {"config show": (shown.stdout + shown.stderr).encode()}
    for place, content in told.items():
        assert JWT_SECRET.encode() not in content, place


def test_a_weak_jwt_secret_is_refused_without_being_shown(gateway: Gateway) -> None:
    weak = "changeme-changeme-changeme-changeme"
    file = gateway.folder / "weak.yaml"
    file.write_text("auth: {jwt: {issuer: i, audience: a, secret: {env: WEAK}}}\n", encoding="utf-8")
    command = [str(harness.BINARY), "serve", "--config", str(file), "--data", str(gateway.folder / "weak-data")]
    done = harness.run([*command, "--listen", "127.0.0.1:0"], WEAK=weak)
    assert done.returncode == 1, done.stderr
    assert "auth.jwt.secret" in done.stderr and weak not in done.stderr + done.stdout
