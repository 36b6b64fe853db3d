"""The Python client of contexts and tasks, against a real gateway and a scripted engine."""

from __future__ import annotations

import asyncio
import datetime
import pathlib
import sys
import threading
from collections.abc import Iterator

import pytest

import harness
import scripted as script
from harness import Gateway, Key
from scripted import Scripted
from test_tasks import held

sys.path.insert(0, str(harness.ROOT / "sdk" / "python" / "src"))
from forebay import AsyncClient, Client, ForebayError, Retry

NODES = [{"content": "You are brief.", "role": "system"}]


@pytest.fixture(scope="module")
def talking(folder: pathlib.Path, scripted: Scripted) -> Iterator[Gateway]:
    backend = {"url": scripted.url, "model": "by-script", "probe": {"interval_s": 0}}
    config = {"models": {"scripted": {"backends": [backend]}}, "limits": {"requests_per_minute": 1_000_000}}
    with harness.closing(Gateway(folder / "sdk-contexts", config)) as started:
        yield started


@pytest.fixture
def ann(talking: Gateway) -> Key:
    return talking.new_key("user")


@pytest.fixture
def client(talking: Gateway, ann: Key) -> Iterator[Client]:
    with Client(talking.url, ann.key, timeout=60) as made:
        yield made


def test_a_context_from_its_making_to_its_end(client: Client, scripted: Scripted) -> None:
    scripted.will(script.say("Paris."), script.say("Two million."))
    made = client.contexts.create("scripted", NODES, metadata={"a": "b"}, priority="high")
    assert [node.content for node in made.nodes] == ["You are brief."]
    answer = client.contexts.prompt(made.id, "What is the capital of France?", max_tokens=20)
    assert answer.node.content == "Paris."
    events = list(client.contexts.stream(made.id, "And how many live there?"))
    assert "".join(event.content for event in events if event.event == "delta") == "Two million."
    assert events[-1].node.content == "Two million."
    added = client.contexts.add_node(made.id, "Rome is another.", role="user")
    assert client.contexts.delete_node(made.id, added.node.id).deleted
    contents = [node.content for node in client.contexts.get(made.id).nodes]
    assert contents[1:] == ["What is the capital of France?", "Paris.", "And how many live there?", "Two million."]
    assert made.id in [context.id for context in client.contexts.list().contexts]
    assert client.contexts.delete(made.id).deleted
    with pytest.raises(ForebayError) as gone:
        client.contexts.get(made.id)
    assert (gone.value.code, gone.value.status) == ("unknown_context", 404)


def test_a_repeated_prompt_is_asked_once(client: Client, scripted: Scripted) -> None:
    made = client.contexts.create("scripted", NODES)
    scripted.will(script.say("Once."))
    first, again = (client.contexts.prompt(made.id, "Say it.", idempotency_key=f"{made.id}-1") for _ in range(2))
    assert first.node.content == "Once." and again.node.id == first.node.id


def test_tasks(client: Client, scripted: Scripted) -> None:
    made = client.contexts.create("scripted", NODES)
    scripted.will(script.say("Later."))
    task = client.contexts.prompt(made.id, "Take your time.", respond_async=True)
    done = client.tasks.wait(task.id)
    assert (done.status, done.output.node.content) == ("completed", "Later.")
    tomorrow = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)).isoformat()
    ahead = client.tasks.submit(
        "mcp.add_node", {"context_id": made.id, "content": "x"}, run_at=tomorrow, priority="low"
    )
    assert (ahead.status, ahead.priority) == ("scheduled", "low")
    assert ahead.id in [listed.id for listed in client.tasks.list(task_type="mcp.add_node").tasks]
    assert client.tasks.cancel(ahead.id).status == "cancelled"
    with pytest.raises(ForebayError) as refused:
        client.tasks.requeue(done.id)
    assert refused.value.code == "conflict", "it has not failed"
    assert client.health().status == "ok"
    assert "scripted" in [model.id for model in client.models().models]


def test_a_task_that_failed_is_queued_again(client: Client, scripted: Scripted) -> None:
    made = client.contexts.create("scripted", NODES)
    scripted.will(script.refuse(400), script.say("Now it will."))
    task = client.contexts.prompt(made.id, "Will it?", respond_async=True)
    assert client.tasks.wait(task.id).status == "failed"
    assert client.tasks.requeue(task.id).attempts == 0
    assert client.tasks.wait(task.id).output.node.content == "Now it will."


def test_whatever_changes_a_context_may_be_answered_later(client: Client, scripted: Scripted) -> None:
    """Nothing of it is done before the prompt in front of it, so that each is seen while it waits."""
    made, go = client.contexts.create("scripted", NODES), threading.Event()
    scripted.will(held(go, "At last."))
    client.contexts.prompt(made.id, "Take your time.", respond_async=True)
    try:
        adding = client.contexts.add_node(made.id, "Rome.", priority="critical", respond_async=True)
        taking = client.contexts.delete_node(made.id, made.nodes[0].id, respond_async=True)
        ending = client.contexts.delete(made.id, respond_async=True)
        assert [(task.type, task.status, task.priority) for task in (adding, taking, ending)] == [
            ("mcp.add_node", "pending", "critical"),
            ("mcp.delete_node", "pending", "medium"),
            ("mcp.delete_context", "pending", "medium"),
        ]
        assert len(client.contexts.get(made.id).nodes) == 1
    finally:
        go.set()
    assert client.tasks.wait(adding.id).output.node.content == "Rome."
    assert client.tasks.wait(taking.id).output.node_id == made.nodes[0].id
    assert client.tasks.wait(ending.id).output.deleted
    with pytest.raises(ForebayError) as gone:
        client.contexts.get(made.id)
    assert gone.value.code == "unknown_context"


def test_whoever_does_not_wait_gets_the_task_also_where_it_is_over(client: Client) -> None:
    made = client.contexts.create("scripted", NODES)
    added = client.contexts.add_node(made.id, "Rome.", idempotency_key=f"{made.id}-1")
    task = client.contexts.add_node(made.id, "Rome.", idempotency_key=f"{made.id}-1", respond_async=True)
    assert (task.id, task.status) == (added.task_id, "completed")
    assert task.output.node.id == added.node.id


def test_a_context_that_is_asked_for_twice_counts_once(talking: Gateway, ann: Key) -> None:
    with Client.from_config({"server_url": talking.url, "max_contexts": 2}, ann.key) as client:
        made = client.contexts.create("scripted", idempotency_key="one")
        task = client.contexts.create("scripted", idempotency_key="one", respond_async=True)
        assert (task.type, task.output.id) == ("mcp.create_context", made.id)
        client.contexts.create("scripted")
        with pytest.raises(ForebayError) as refused:
            client.contexts.create("scripted")
        assert refused.value.code == "context_limit"


def test_what_is_removed_later_counts_until_then(talking: Gateway, ann: Key, scripted: Scripted) -> None:
    go = threading.Event()
    with Client.from_config({"server_url": talking.url, "max_contexts": 1}, ann.key) as client:
        made = client.contexts.create("scripted", NODES)
        scripted.will(held(go, "At last."))
        client.contexts.prompt(made.id, "Take your time.", respond_async=True)
        try:
            ending = client.contexts.delete(made.id, respond_async=True)
            with pytest.raises(ForebayError) as refused:
                client.contexts.create("scripted")
            assert refused.value.code == "context_limit"
        finally:
            go.set()
        assert client.tasks.wait(ending.id).status == "completed"
        client.contexts.delete(client.contexts.create("scripted").id)


def test_a_client_that_waits_for_short_answers_alone_follows_a_long_task(
    talking: Gateway, ann: Key, scripted: Scripted
) -> None:
    go = threading.Event()
    with Client(talking.url, ann.key, timeout=0.5, retry=Retry(attempts=1)) as hasty:
        made = hasty.contexts.create("scripted", NODES)
        scripted.will(held(go, "At last."))
        with pytest.raises(ForebayError) as unfinished:
            hasty.contexts.prompt(made.id, "Take your time.")
        assert unfinished.value.code == "timed_out" and unfinished.value.task_id
        later = threading.Timer(1.0, go.set)
        later.start()
        done = hasty.tasks.wait(unfinished.value.task_id, timeout=harness.WAIT_SECONDS_MAX)
        later.join()
    assert done.output.node.content == "At last."


def test_the_same_for_programs_that_await(talking: Gateway, ann: Key, scripted: Scripted) -> None:
    async def all_of_it() -> None:
        async with AsyncClient(talking.url, ann.key, timeout=60) as client:
            made = await client.contexts.create("scripted", NODES)
            scripted.will(script.say("Awaited."), script.say("In pieces."))
            assert (await client.contexts.prompt(made.id, "Who?")).node.content == "Awaited."
            events = [event async for event in client.contexts.stream(made.id, "How?")]
            assert events[-1].node.content == "In pieces."
            both = await asyncio.gather(*(client.contexts.add_node(made.id, text) for text in ("a", "b")))
            assert len({added.node.id for added in both}) == 2
            assert (await client.contexts.delete(made.id)).deleted

    asyncio.run(all_of_it())


def test_tasks_of_programs_that_await(talking: Gateway, ann: Key, scripted: Scripted) -> None:
    async def all_of_it() -> None:
        async with AsyncClient(talking.url, ann.key, timeout=60) as client:
            assert (await client.health()).status == "ok"
            assert "scripted" in [model.id for model in (await client.models()).models]
            made = await client.contexts.create("scripted", NODES)
            tomorrow = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)).isoformat()
            note = {"context_id": made.id, "content": "x"}
            ahead = await client.tasks.submit("mcp.add_node", note, run_at=tomorrow, priority="high")
            assert (ahead.status, ahead.priority) == ("scheduled", "high")
            assert [task.id for task in (await client.tasks.list(status="scheduled")).tasks] == [ahead.id]
            assert (await client.tasks.cancel(ahead.id)).status == "cancelled"
            assert (await client.tasks.get(ahead.id, with_input=True)).input.content == "x"
            scripted.will(script.refuse(400), script.say("Now it will."))
            task = await client.contexts.prompt(made.id, "Will it?", respond_async=True)
            assert (await client.tasks.wait(task.id)).status == "failed"
            assert (await client.tasks.requeue(task.id)).attempts == 0
            assert (await client.tasks.wait(task.id)).output.node.content == "Now it will."

    asyncio.run(all_of_it())


def test_programs_that_await_need_not_wait(talking: Gateway, ann: Key, scripted: Scripted) -> None:
    async def all_of_it() -> None:
        go = threading.Event()
        async with AsyncClient.from_config({"server_url": talking.url, "max_contexts": 1}, ann.key) as client:
            made = await client.contexts.create("scripted", NODES)
            added = await client.contexts.add_node(made.id, "a", idempotency_key=f"{made.id}-1")
            again = await client.contexts.add_node(made.id, "a", idempotency_key=f"{made.id}-1", respond_async=True)
            assert (again.id, again.status) == (added.task_id, "completed")
            assert (await client.contexts.delete_node(made.id, added.node.id)).deleted
            scripted.will(held(go, "At last."))
            await client.contexts.prompt(made.id, "Take your time.", respond_async=True)
            try:
                adding = await client.contexts.add_node(made.id, "b", priority=3, respond_async=True)
                taking = await client.contexts.delete_node(made.id, made.nodes[0].id, respond_async=True)
                ending = await client.contexts.delete(made.id, respond_async=True)
                waiting = [(task.status, task.priority) for task in (adding, taking, ending)]
                assert waiting == [("pending", "high"), ("pending", "medium"), ("pending", "medium")]
                with pytest.raises(ForebayError) as refused:
                    await client.contexts.create("scripted")
                assert refused.value.code == "context_limit"
            finally:
                go.set()
            over = await asyncio.gather(*(client.tasks.wait(task.id) for task in (adding, taking, ending)))
            assert [task.status for task in over] == ["completed"] * 3
            assert (await client.contexts.delete((await client.contexts.create("scripted")).id)).deleted

    asyncio.run(all_of_it())
