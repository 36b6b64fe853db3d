"""What the gateway tells: every request leaves an event, metrics pass their own linter, health asks nobody."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import httpx

import harness
from harness import Gateway, Key

Events = Callable[[str], list[dict[str, Any]]]


def test_every_request_leaves_an_event(gateway: Gateway, user: Key, events_of: Events) -> None:
    ask = gateway.http.request
    made = {
        "a list": ask("GET", "/v1/models", headers=user.bearer),
        "a chat": ask("POST", "/v1/chat/completions", json=harness.chat_body("noting"), headers=user.bearer),
        "an unknown model": ask("POST", "/v1/chat/completions", json=harness.chat_body("nobody"), headers=user.bearer),
        "a call": gateway.rpc("tools/call", {"name": "calculator", "arguments": {"expression": "1"}}, user),
        "a wrong call": gateway.rpc("tools/call", {"name": "nobody", "arguments": {}}, user),
        "a refusal": ask("GET", "/api/v1/keys", headers=user.bearer),
        "an unknown route": ask("GET", "/no/such", headers=user.bearer),
        "a malformed body": ask("POST", "/mcp", content="{", headers=user.bearer),
    }
    for name, answer in made.items():
        events = events_of(answer.headers["x-trace-id"])
        assert events, name
        for event in events:
            assert event["trace_id"] == answer.headers["x-trace-id"]
            assert event["outcome"] and event["at"] and event["action"], name
    assert {e["outcome"] for e in events_of(made["a list"].headers["x-trace-id"])} == {"ok"}
    assert {e["outcome"] for e in events_of(made["a refusal"].headers["x-trace-id"])} == {"forbidden"}
    assert "unknown_model" in {e["outcome"] for e in events_of(made["an unknown model"].headers["x-trace-id"])}


def test_an_event_says_who_and_by_which_rule(gateway: Gateway, user: Key, events_of: Events) -> None:
    answer = gateway.rpc("tools/call", {"name": "calculator", "arguments": {"expression": "1"}}, user)
    events = events_of(answer.headers["x-trace-id"])
    called = next(event for event in events if event["action"] == "tool:calculator")
    assert (called["tenant"], called["key"], called["surface"]) == ("acme", user.id, "mcp")
    assert "role user" in called["reason"]


def test_usage_of_a_chat_is_recorded(gateway: Gateway, user: Key, events_of: Events) -> None:
    answer = gateway.http.post("/v1/chat/completions", json=harness.chat_body("noting"), headers=user.bearer)
    event = next(e for e in events_of(answer.headers["x-trace-id"]) if e["action"] == "model:noting")
    assert (event["input_tokens"], event["output_tokens"], event["usage_estimated"]) == (3, 1, False)


def test_an_administrators_action_is_in_the_audit_chain_before_it_is_done(gateway: Gateway) -> None:
    body = {"role": "viewer", "tenant": "acme", "name": "audited"}
    made = gateway.http.post("/api/v1/keys", json=body, headers=gateway.admin.bearer)
    assert made.is_success, made.text
    query = {"trace": made.headers["x-trace-id"]}
    events = gateway.http.get("/api/v1/audit", params=query, headers=gateway.admin.bearer).json()["events"]
    assert events[0]["outcome"] == "intended" and events[0]["action"] == "keys:write"
    assert events[0]["chain"] and events[0]["chain_hash"]
    verified = gateway.cli("audit", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_events_of_another_tenant_are_not_shown(gateway: Gateway, user: Key, events_of: Events) -> None:
    answer = gateway.http.get("/v1/models", headers=user.bearer)
    events_of(answer.headers["x-trace-id"])
    stranger = gateway.new_key("operator", tenant="umbrella")
    query = {"trace": answer.headers["x-trace-id"]}
    assert gateway.http.get("/api/v1/events", params=query, headers=stranger.bearer).json()["events"] == []
    asked = gateway.http.get("/api/v1/events", params={"tenant": "acme"}, headers=stranger.bearer)
    assert asked.status_code == 403


def test_metrics_pass_promtool_and_ask_for_a_key(gateway: Gateway, user: Key) -> None:
    assert gateway.http.get("/metrics").status_code == 401
    assert gateway.http.get("/metrics", headers=user.bearer).status_code == 403
    operator = gateway.new_key("operator")
    answer = gateway.http.get("/metrics", headers=operator.bearer)
    assert answer.status_code == 200 and "forebay_" in answer.text
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=answer.text, capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_metrics_listener_of_its_own_asks_nobody(start: Callable[..., Gateway]) -> None:
    port = harness.free_port()
    start({"metrics": {"listen": f"127.0.0.1:{port}"}})

    assert "forebay_" in httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    assert httpx.get(f"http://127.0.0.1:{port}/v1/models", trust_env=False).status_code == 404


def test_health_asks_nobody(gateway: Gateway) -> None:
    for path in ("/health", "/livez", "/readyz", "/mcp/health"):
        assert gateway.http.get(path).status_code == 200, path
    assert gateway.http.get("/mcp/health").json()["mcp"]["status"] == "healthy"


def test_the_openapi_document_is_the_one_in_the_repository(gateway: Gateway) -> None:
    served = gateway.http.get("/openapi.json", headers=gateway.admin.bearer).json()
    kept = json.loads((harness.ROOT / "schema" / "openapi.json").read_text(encoding="utf-8"))
    assert served == kept


def test_the_config_schema_is_the_one_in_the_repository(gateway: Gateway) -> None:
    done = gateway.cli("config", "schema")
    kept = json.loads((harness.ROOT / "schema" / "config.schema.json").read_text(encoding="utf-8"))
    assert json.loads(done.stdout) == kept


def test_explain_says_which_rule(gateway: Gateway, user: Key) -> None:
    allowed = gateway.cli("explain", "tool:calculator", key=user.key)
    assert allowed.returncode == 0 and "tool:*" in allowed.stdout, allowed.stdout + allowed.stderr
    denied = gateway.cli("explain", "keys:write", key=user.key)
    assert "admin" in denied.stdout + denied.stderr
