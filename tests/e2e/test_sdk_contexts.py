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
    with pytest.raises(ForebayError):
        client.tasks.requeue(done.id)
    assert client.health().status == "ok"
    assert "scripted" in [model.id for model in client.models().models]


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
