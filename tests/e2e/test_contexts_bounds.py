"""What there is room for in contexts, how long they live, and what a running gateway learns of it anew."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import httpx

import harness
import scripted as script
from harness import Engine, Gateway, Key
from parts import Database
from scripted import Scripted
from test_contexts import BASE, config, create, held, prompt, said
from test_mcp_restart import start_again
from test_worker import address_of, secret, store


def reload(gateway: Gateway, **sections: Any) -> None:
    """Writes these sections anew, and waits until the gateway goes by them."""

    def loaded_at() -> str:
        status = gateway.http.get("/api/v1/status", headers=gateway.admin.bearer).json()["config"]
        assert "last_error" not in status, status
        return status["loaded_at"]

    before = loaded_at()
    settings = json.loads(gateway.config.read_text(encoding="utf-8")) | sections
    gateway.config.write_text(json.dumps(settings), encoding="utf-8")
    harness.wait_for("the new configuration", lambda: loaded_at() != before)


def metrics(gateway: Gateway) -> dict[str, float]:
    text = gateway.http.get("/metrics", headers=gateway.admin.bearer).text
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(figure) for name, figure in lines}


def metric(gateway: Gateway, name: str) -> float:
    seen = metrics(gateway)
    assert name in seen, f"{name} in {sorted(seen)}"
    return seen[name]


def comes_to(gateway: Gateway, name: str, figure: float) -> None:
    """Waits for what may not have been counted yet."""
    harness.wait_for(f"{name} {figure}", lambda: metrics(gateway).get(name) == figure)


def wanted(gateway: Gateway, key: Key) -> httpx.Response:
    return gateway.http.post(f"{BASE}/contexts", json={"model_id": "scripted"}, headers=key.bearer)


def shown(gateway: Gateway, key: Key, context: str) -> httpx.Response:
    return gateway.http.get(f"{BASE}/contexts/{context}", headers=key.bearer)


def test_what_is_full_makes_room_once_it_is_told_to(
    start: Callable[..., Gateway], engine: Engine, scripted: Scripted
) -> None:
    gateway = start(config(engine, scripted, mcp={"max_contexts": 2}))
    key = gateway.new_key("user")
    used, idle = (create(gateway, key)["id"] for _ in range(2))
    assert wanted(gateway, key).json()["code"] == "context_limit"
    prompt(gateway, key, used, "are you there?").raise_for_status()
    reload(gateway, contexts={"on_full": "evict_oldest"})
    third = wanted(gateway, key)
    assert third.status_code == 201, third.text
    gone = shown(gateway, key, idle)
    assert (gone.status_code, gone.json()["code"]) == (404, "unknown_context")
    assert len(said(gateway, key, used)) == 2, "what was used since stays"
    changes = {
        one: metric(gateway, f'forebay_context_changes_total{{change="{one}"}}') for one in ("evicted", "refused")
    }
    assert changes == {"evicted": 1, "refused": 1}
    reload(gateway, contexts={"on_full": "refuse"})
    assert wanted(gateway, key).json()["code"] == "context_limit"


def test_a_model_reads_what_there_is_room_for(
    start: Callable[..., Gateway], engine: Engine, scripted: Scripted
) -> None:
    gateway = start(config(engine, scripted, contexts={"tokens_max": 300}))
    key = gateway.new_key("user")
    spoken = [(role, f"{role} {turn} " + "x" * 390) for turn in (1, 2, 3) for role in ("user", "assistant")]
    nodes = [{"role": role, "content": text} for role, text in [("system", "Be brief."), *spoken]]

    def read() -> tuple[list[str], dict[str, Any]]:
        """The first two words of each message that the model reads, and what is kept beside its answer."""
        scripted.will(script.say("so"))
        answer = prompt(gateway, key, create(gateway, key, "scripted", *nodes)["id"], "And now?")
        assert answer.status_code == 200, answer.text
        (body,) = scripted.bodies
        return [" ".join(one["content"].split()[:2]) for one in body["messages"]], answer.json()["node"]["metadata"]

    texts, kept = read()
    assert texts == ["Be brief.", "user 3", "assistant 3", "And now?"] and kept["nodes_left_out"] == 4
    reload(gateway, contexts={"tokens_max": 300, "truncation": "middle"})
    texts, kept = read()
    assert texts == ["Be brief.", "user 1", "And now?"] and kept["nodes_left_out"] == 5
    assert metric(gateway, "forebay_context_nodes_left_out_total") == 9
    reload(gateway, contexts={"tokens_max": 300, "truncation": "refuse"})
    scripted.will()
    context = create(gateway, key, "scripted", *nodes)["id"]
    refused = prompt(gateway, key, context, "And now?")
    assert (refused.status_code, refused.json()["code"]) == (400, "prompt_too_long"), refused.text
    assert not scripted.heard and len(said(gateway, key, context)) == len(nodes)
    reload(gateway, contexts={"truncation": "refuse"})
    assert len(read()[0]) == len(nodes) + 1, "there is room for all of it"


def test_what_nobody_uses_expires_and_is_removed(
    start: Callable[..., Gateway], engine: Engine, scripted: Scripted, database: Database
) -> None:
    address = address_of(database)
    gateway = start(config(engine, scripted, store=store(address), contexts={"idle_hours": 2}), **secret(address))
    key = gateway.new_key("user")
    kept, idle = (create(gateway, key, "scripted", {"content": "x"}) for _ in range(2))
    assert kept["expires_at"] > kept["created_at"]
    reload(gateway, contexts={"idle_hours": 0})
    assert shown(gateway, key, kept["id"]).json()["expires_at"] == kept["expires_at"], "nobody has used it since"
    scripted.will(script.say("so"))
    prompt(gateway, key, kept["id"], "?").raise_for_status()
    assert "expires_at" not in shown(gateway, key, kept["id"]).json()

    # Two hours are too long for a test: its time is said to have come.
    database.sql(f"UPDATE conversation SET expires_at_ms = 1 WHERE id = '{idle['id']}'")
    for answer in (shown(gateway, key, idle["id"]), prompt(gateway, key, idle["id"], "?")):
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_context")
    listed = gateway.http.get(f"{BASE}/contexts", headers=key.bearer).json()["contexts"]
    assert [one["id"] for one in listed] == [kept["id"]]
    # It is removed with the next look, of which the first is when a gateway starts.
    start_again(gateway, **secret(address))
    left = "SELECT count(*) FROM conversation_node"
    harness.wait_for("the nodes of the expired one to be removed", lambda: database.sql(left) == "3")
    assert database.sql("SELECT count(*) FROM conversation") == "1"
    expired = 'forebay_context_changes_total{change="expired"}'
    comes_to(gateway, expired, 1)


def test_contexts_are_switched_off_and_on_while_somebody_waits(
    start: Callable[..., Gateway], engine: Engine, scripted: Scripted
) -> None:
    gateway = start(config(engine, scripted, mcp={"max_contexts": 1}))
    key, go = gateway.new_key("user"), threading.Event()
    context = create(gateway, key)["id"]
    scripted.will(held(go, "as was promised"))
    taken = prompt(gateway, key, context, "are you there?", headers={"Prefer": "respond-async"})
    harness.wait_for("the prompt at the engine", lambda: len(scripted.heard) == 1)
    reload(gateway, mcp={"enabled": False, "max_contexts": 1})
    for answer in (prompt(gateway, key, context, "and now?"), shown(gateway, key, context), wanted(gateway, key)):
        assert (answer.status_code, answer.json()["code"]) == (409, "contexts_disabled"), answer.text
    go.set()
    place = taken.headers["location"]
    done = gateway.http.get(place, params={"wait": "30s"}, headers=key.bearer).json()
    assert (done["status"], done["output"]["node"]["content"]) == ("completed", "as was promised")
    reload(gateway, mcp={"enabled": True, "max_contexts": 1})
    assert said(gateway, key, context) == [("user", "are you there?"), ("assistant", "as was promised")]
    assert wanted(gateway, key).json()["code"] == "context_limit", "the limit is what it was"


def test_metrics_tell_of_contexts_and_of_what_waits(
    start: Callable[..., Gateway], engine: Engine, scripted: Scripted
) -> None:
    gateway = start(config(engine, scripted))
    key = gateway.new_key("user")
    scripted.will(script.say("so"))
    context = create(gateway, key, "scripted", {"content": "Be brief.", "role": "system"})["id"]
    prompt(gateway, key, context, "?").raise_for_status()
    runs = 'forebay_task_processing_seconds_{}{{type="mcp.add_prompt"}}'
    # A run ends a moment after its task.
    comes_to(gateway, runs.format("count"), 1)
    assert metric(gateway, runs.format("sum")) > 0
    assert metric(gateway, 'forebay_context_prompts_total{outcome="ok"}') == 1
    assert metric(gateway, "forebay_context_prompt_duration_seconds_count") == 1

    settings = json.loads(gateway.config.read_text(encoding="utf-8"))
    gateway.config.write_text(json.dumps(settings | {"tasks": {"workers": 0}}), encoding="utf-8")
    start_again(gateway)
    # It is counted when a gateway starts, and every quarter of a minute from then on.
    prompt(gateway, key, context, "?", priority="high", headers={"Prefer": "respond-async"}).raise_for_status()
    start_again(gateway)
    depth, age = (f'forebay_task_queue_{one}{{priority="high"}}' for one in ("depth", "oldest_age_seconds"))
    comes_to(gateway, depth, 1)
    assert metric(gateway, age) > 0
    comes_to(gateway, "forebay_contexts", 1)
    assert metric(gateway, "forebay_context_nodes") == 3
    assert metric(gateway, "forebay_context_content_bytes") > len("Be brief.?so")
    health = gateway.http.get(f"{BASE}/health", headers=key.bearer).json()
    assert health["queue_depth"] == 1 and health["oldest_wait_s"] >= 0, health
