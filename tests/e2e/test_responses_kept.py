"""What is kept of responses, and what becomes of it: room for newer ones, approval that was given in vain, deletion."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import openai
import pytest

import harness
import scripted as script
from harness import Gateway
from npm import MODULES
from scripted import Scripted
from test_ask_background import made
from test_ask_openai_sdk import open_client
from test_mcp_tasks import LEASE

WRITE = "memory__create_entities"
ENTITY = {"entities": [{"name": "heron", "entityType": "test", "observations": ["made by a test"]}]}
MEMORY = {
    "command": "node",
    "args": [str(MODULES / "@modelcontextprotocol" / "server-memory" / "dist" / "index.js")],
}
AGREED = {"type": "mcp", "server_label": "memory", "require_approval": "always"}


def evicted(gateway: Gateway) -> int:
    text = gateway.http.get("/metrics", headers=gateway.admin.bearer).text
    [count] = re.findall(r"^forebay_responses_evicted_total (\d+)", text, re.MULTILINE)
    return int(count)


def test_what_makes_room_for_newer_ones_is_counted(start: Callable[..., Gateway], scripted: Scripted) -> None:
    scripted.will()
    models = {"scripted": {"backends": [{"url": scripted.url}]}}
    gateway = start({"models": models, "responses": {"max_per_owner": 2}})
    with open_client(gateway, gateway.new_key("user")) as client:
        kept = [client.responses.create(model="scripted", input=f"Word {number}.").id for number in range(2)]
        assert evicted(gateway) == 0
        kept.append(client.responses.create(model="scripted", input="One more.").id)
        assert evicted(gateway) == 1
        # All three are of one second, as OpenAI counts time: any of them may be the oldest.
        there = [response for response in kept if is_there(client, response)]
        assert len(there) == 2, (kept, there)


def is_there(client: openai.OpenAI, response: str) -> bool:
    try:
        return client.responses.retrieve(response).id == response
    except openai.NotFoundError:
        return False


def test_a_call_that_was_agreed_to_in_vain_is_agreed_to_again(
    start: Callable[..., Gateway], scripted: Scripted, tmp_path: Any
) -> None:
    memory = MEMORY | {"env": {"MEMORY_FILE_PATH": str(tmp_path / "memory.jsonl")}}
    config = {
        "models": {"scripted": {"backends": [{"url": scripted.url}]}},
        "upstreams": {"memory": memory},
        "limits": {"requests_per_minute": 1_000_000, "tool_calls_per_minute": 1},
    }
    gateway = start(config)
    key = gateway.new_key("user")

    def has_tool() -> bool:
        told = gateway.rpc("tools/list", {}, key).json()
        return any(tool["name"] == WRITE for tool in told.get("result", {}).get("tools", []))

    harness.wait_for("the tools of the memory server", has_tool)
    scripted.will(script.call((WRITE, ENTITY)), script.say("I could not."), script.say("Done."))
    with open_client(gateway, key) as client:

        def ask(words: Any, **more: Any) -> Any:
            return client.responses.create(model="scripted", input=words, tools=[AGREED], **more)

        first = ask("Note it.")
        [request] = [item for item in first.output if item.type == "mcp_approval_request"]
        verdict = {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": True}
        # The one call of the minute goes to something else.
        used = gateway.rpc("tools/call", {"name": WRITE, "arguments": {"entities": []}}, key).json()
        assert "result" in used, used
        refused = ask([verdict], previous_response_id=first.id)
        [call] = [item for item in refused.output if item.type == "mcp_call"]
        assert call.status == "failed", call
        assert "heron" not in graph(gateway)
        config["limits"]["tool_calls_per_minute"] = 1_000_000
        gateway.config.write_text(json.dumps(config), encoding="utf-8")

        def may_call() -> bool:
            told = gateway.rpc("tools/call", {"name": WRITE, "arguments": {"entities": []}}, key).json()
            return "result" in told

        harness.wait_for("the new limit", may_call)
        again = ask([verdict], previous_response_id=first.id)
        [call] = [item for item in again.output if item.type == "mcp_call"]
        assert (call.status, call.error) == ("completed", None), call
        assert "heron" in graph(gateway)


def graph(gateway: Gateway) -> str:
    """What the memory server holds, asked by somebody whose limit is another."""
    path = gateway.folder.parent / "memory.jsonl"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def test_what_was_cancelled_is_deleted_with_its_task(asking: Gateway, scripted: Scripted) -> None:
    scripted.will(script.silent)
    heard, key = len(scripted.heard), asking.new_key("user")
    with open_client(asking, key) as client:
        queued = client.responses.create(model="scripted", input="A secret.", background=True)
        harness.wait_for("the model to be asked", lambda: len(scripted.heard) > heard)
        assert client.responses.cancel(queued.id).status == "cancelled"
        client.responses.delete(queued.id)
        for gone in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
            with pytest.raises(openai.NotFoundError):
                gone(queued.id)
        tasks = asking.http.get("/api/v1/mcp/tasks", params={"type": "responses"}, headers=key.bearer).json()
        assert tasks["tasks"] == []


def test_what_failed_is_deleted(asking: Gateway, scripted: Scripted) -> None:
    scripted.will(script.refuse(400))
    with open_client(asking, asking.new_key("user")) as client:
        queued = client.responses.create(model="scripted", input="Hello?", background=True)
        assert made(client, queued.id).status == "failed"
        client.responses.delete(queued.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(queued.id)


def test_the_configuration_counts_for_responses_in_the_background(
    start: Callable[..., Gateway], scripted: Scripted
) -> None:
    scripted.will(script.silent)
    tasks = LEASE["tasks"] | {"types": {"responses": {"timeout_s": 1, "attempts_max": 1}}}
    gateway = start({"models": {"scripted": {"backends": [{"url": scripted.url}]}}} | LEASE | {"tasks": tasks})
    with open_client(gateway, gateway.new_key("user")) as client:
        queued = client.responses.create(model="scripted", input="Hello?", background=True)
        failed = made(client, queued.id)
        assert failed.status == "failed" and "within 1 s" in failed.error.message, failed
