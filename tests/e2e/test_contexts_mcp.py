"""Contexts from an MCP client: the server `contexts`, its tools, and the resource of each context."""

from __future__ import annotations

import json
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from mcp.client.subscriptions import ResourceUpdated

import harness
import scripted as script
from harness import Engine, Gateway, Key
from parts import Database
from scripted import Scripted
from test_contexts import config, create, held, prompt
from test_mcp_upstreams import connect
from test_worker import address_of, secret, store

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")]
SERVER = "/servers/contexts/mcp"
TOOLS = {
    "create_context",
    "add_prompt",
    "add_node",
    "delete_node",
    "delete_context",
    "list_contexts",
    "get_context",
    "list_tasks",
    "get_task",
    "cancel_task",
}


@pytest.fixture(scope="module")
def talking(folder: pathlib.Path, engine: Engine, scripted: Scripted) -> Iterator[Gateway]:
    with harness.closing(Gateway(folder / "contexts-mcp", config(engine, scripted))) as started:
        yield started


@pytest.fixture
def ann(talking: Gateway) -> Key:
    return talking.new_key("user")


async def told(client: Any, tool: str, **arguments: Any) -> Any:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result
    assert json.loads(result.content[0].text) == result.structured_content
    return result.structured_content


@pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
async def test_a_conversation_is_had_with_tools_alone(talking: Gateway, ann: Key, scripted: Scripted, era: str) -> None:
    scripted.will(script.say("Paris."))
    async with connect(talking, ann, era, SERVER) as client:
        listed = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert listed.keys() == TOOLS
        assert all(tool.output_schema and tool.annotations for tool in listed.values())
        made = await told(
            client, "create_context", model_id="scripted", nodes=[{"content": "Be brief.", "role": "system"}]
        )
        answer = await told(client, "add_prompt", context_id=made["id"], prompt="Capital of France?", priority="high")
        assert answer["node"]["content"] == "Paris."
        added = await told(client, "add_node", context_id=made["id"], content="a note")
        shown = await told(client, "get_context", context_id=made["id"])
        roles = [node["role"] for node in shown["nodes"]]
        assert roles == ["system", "user", "assistant", "user"]
        await told(client, "delete_node", context_id=made["id"], node_id=added["node"]["id"])
        assert made["id"] in {one["id"] for one in (await told(client, "list_contexts"))["contexts"]}
        read = await client.read_resource(f"context://{made['id']}")
        assert [node["content"] for node in json.loads(read.contents[0].text)["nodes"]][2] == "Paris."
        tasks = (await told(client, "list_tasks", type="mcp.add_prompt"))["tasks"]
        assert answer["task_id"] in {task["id"] for task in tasks}
        task = await told(client, "get_task", task_id=answer["task_id"])
        assert task["status"] == "completed" and task["output"]["node"]["content"] == "Paris."
        assert (await told(client, "delete_context", context_id=made["id"]))["deleted"]
        gone = await client.call_tool("get_context", {"context_id": made["id"]})
        assert gone.is_error and "UNKNOWN_CONTEXT" in gone.content[0].text


async def test_the_real_model_answers_in_a_context(talking: Gateway, ann: Key) -> None:
    async with connect(talking, ann, "2026-07-28") as client:
        nodes = [{"content": harness.SYSTEM, "role": "system"}]
        made = await told(client, "create_context", model_id="gpt-3.5-turbo", nodes=nodes)
        wish = {"context_id": made["id"], "prompt": harness.QUESTION, "temperature": 0, "max_tokens": 40}
        answer = await told(client, "add_prompt", **wish)
        assert "Paris" in answer["node"]["content"]


async def test_a_task_is_taken_back(talking: Gateway, ann: Key, scripted: Scripted) -> None:
    scripted.will(script.silent)
    context = create(talking, ann)["id"]
    taken = prompt(talking, ann, context, "?", headers={"Prefer": "respond-async"}).json()
    async with connect(talking, ann, "2026-07-28", SERVER) as client:
        await told(client, "cancel_task", task_id=taken["id"])
        task = await told(client, "get_task", task_id=taken["id"], wait="30s")
        assert task["status"] == "cancelled", task


async def ask(gateway: Gateway, key: Key, context: str) -> None:
    await anyio.to_thread.run_sync(lambda: prompt(gateway, key, context, "hello?").raise_for_status())


async def test_subscribers_hear_of_their_context_and_of_no_other(
    talking: Gateway, ann: Key, scripted: Scripted
) -> None:
    scripted.will()
    mine, quiet = (create(talking, ann)["id"] for _ in range(2))
    heard: list[str] = []
    changed = anyio.Event()

    async def note(message: Any) -> None:
        if getattr(message, "method", "") == "notifications/resources/updated":
            heard.append(str(message.params.uri))
            changed.set()

    async with connect(talking, ann, "legacy", SERVER, message_handler=note) as client:
        for context in (mine, quiet):
            await client.subscribe_resource(f"context://{context}")
        await ask(talking, ann, mine)
        with anyio.fail_after(harness.WAIT_SECONDS_MAX):
            await changed.wait()
    assert set(heard) == {f"context://{mine}"}


async def updates(events: Any, seen: list[str], uri: str) -> None:
    """Waits until this one has changed; every change is noted."""
    with anyio.fail_after(harness.WAIT_SECONDS_MAX):
        while uri not in seen:
            event = await anext(events)
            if isinstance(event, ResourceUpdated):
                seen.append(str(event.uri))


async def test_a_modern_client_listens_to_its_context_and_to_no_other(
    talking: Gateway, ann: Key, scripted: Scripted
) -> None:
    scripted.will()
    mine, quiet, unasked = (create(talking, ann)["id"] for _ in range(3))
    uris = [f"context://{context}" for context in (mine, quiet)]
    seen: list[str] = []
    async with connect(talking, ann, "2026-07-28", SERVER) as client:
        async with client.listen(resource_subscriptions=uris) as events:
            for context in (unasked, mine):
                await ask(talking, ann, context)
            await updates(events, seen, uris[0])
    assert set(seen) == {uris[0]}


@pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
async def test_a_change_at_one_gateway_is_heard_at_the_other(
    tmp_path: pathlib.Path, database: Database, engine: Engine, scripted: Scripted, era: str
) -> None:
    scripted.will()
    address = address_of(database)
    settings = config(engine, scripted, store=store(address))
    seen: list[str] = []
    changed = anyio.Event()

    async def note(message: Any) -> None:
        if getattr(message, "method", "") == "notifications/resources/updated":
            seen.append(str(message.params.uri))
            changed.set()

    with (
        harness.closing(Gateway(tmp_path / "pair", settings, **secret(address))) as one,
        harness.closing(Gateway(tmp_path / "pair", settings, **secret(address))) as other,
    ):
        ann = one.new_key("user")
        about = create(one, ann)["id"]
        uri = f"context://{about}"
        async with connect(other, ann, era, SERVER, message_handler=note) as client:
            if era == "legacy":
                await client.subscribe_resource(uri)
                await ask(one, ann, about)
                with anyio.fail_after(harness.WAIT_SECONDS_MAX):
                    await changed.wait()
            else:
                async with client.listen(resource_subscriptions=[uri]) as events:
                    await ask(one, ann, about)
                    await updates(events, seen, uri)
    assert set(seen) == {uri}


async def test_another_tenants_context_is_no_resource(talking: Gateway, ann: Key) -> None:
    uri = f"context://{create(talking, ann, 'scripted', {'content': 'a secret'})['id']}"
    stranger = talking.new_key("user", tenant="other")
    async with connect(talking, stranger, "legacy", SERVER) as client:
        for attempt in (client.read_resource, client.subscribe_resource):
            with pytest.raises(Exception) as refused:
                await attempt(uri)
            assert "a secret" not in str(refused.value)
        assert (await told(client, "list_contexts"))["contexts"] == []


async def test_pieces_are_told_as_progress(talking: Gateway, ann: Key, scripted: Scripted) -> None:
    scripted.will(script.say("one two three", pieces=3))
    pieces: list[str] = []

    async def progress(_done: float, _total: float | None, message: str | None) -> None:
        pieces.append(message or "")

    context = create(talking, ann)["id"]
    async with connect(talking, ann, "2026-07-28", SERVER) as client:
        wish = {"context_id": context, "prompt": "count"}
        result = await client.call_tool("add_prompt", wish, progress_callback=progress)
    assert "".join(pieces) == result.structured_content["node"]["content"] == "one two three"


async def test_the_same_key_asks_once(talking: Gateway, ann: Key, scripted: Scripted) -> None:
    go = threading.Event()
    scripted.will(held(go, "first"), script.say("second"))
    go.set()
    context = create(talking, ann)["id"]
    async with connect(talking, ann, "2026-07-28", SERVER) as client:
        wish = {"context_id": context, "prompt": "?", "idempotency_key": "mcp-1"}
        answers = [await told(client, "add_prompt", **wish) for _ in range(2)]
    assert answers[0] == answers[1] and len(scripted.heard) == 1
