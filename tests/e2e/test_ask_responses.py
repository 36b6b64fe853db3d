"""Responses with OpenAI's own Python client: what is kept, conversations, and servers of tools by their label."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

import scripted as script
from harness import Gateway, Key
from scripted import Scripted
from test_ask_openai_sdk import open_client

READ = "memory__read_graph"
WRITE = "memory__create_entities"


def entity(name: str) -> dict[str, Any]:
    return {"entities": [{"name": name, "entityType": "test", "observations": ["made by a test"]}]}


def server(**more: Any) -> dict[str, Any]:
    return {"type": "mcp", "server_label": "memory", "require_approval": "never"} | more


@pytest.fixture(scope="module")
def client(asking: Gateway, asker: Key) -> Iterator[openai.OpenAI]:
    with open_client(asking, asker) as made:
        yield made


@pytest.fixture(scope="module")
def ask(client: openai.OpenAI) -> Callable[..., Any]:
    return lambda input_, **more: client.responses.create(model="scripted", input=input_, **more)


def graph(gateway: Gateway) -> str:
    return json.dumps(gateway.rpc("tools/call", {"name": READ, "arguments": {}}).json()["result"])


def test_input_items_come_in_pages(client: openai.OpenAI, ask: Callable[..., Any], scripted: Scripted) -> None:
    scripted.will()
    said = [{"role": "user", "content": f"Word {number}."} for number in range(5)]
    answer = ask(said)
    for order, expected in [("asc", list(range(5))), ("desc", list(range(4, -1, -1)))]:
        first = client.responses.input_items.list(answer.id, limit=2, order=order)
        assert first.has_more and len(first.data) == 2
        words = [item.content[0].text for item in client.responses.input_items.list(answer.id, limit=2, order=order)]
        assert words == [f"Word {number}." for number in expected], "the client follows the pages by itself"


def test_a_conversation_with_a_hole_is_not_gone_on_with(
    client: openai.OpenAI, ask: Callable[..., Any], scripted: Scripted
) -> None:
    scripted.will()
    first = ask("The word is heron.")
    second = ask("Say it.", previous_response_id=first.id)
    client.responses.delete(first.id)
    heard = len(scripted.heard)
    with pytest.raises(openai.NotFoundError, match="is gone"):
        ask("Again.", previous_response_id=second.id)
    assert len(scripted.heard) == heard, "no model was asked"
    assert client.responses.retrieve(second.id).id == second.id


def test_a_gateway_that_keeps_nothing_says_so(start: Callable[..., Gateway], scripted: Scripted) -> None:
    scripted.will()
    models = {"scripted": {"backends": [{"url": scripted.url}]}}
    gateway = start({"models": models, "responses": {"keep": False}})
    with open_client(gateway, gateway.admin) as client:
        answer = client.responses.create(model="scripted", input="Hi.")
        assert answer.store is False
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(answer.id)
        with pytest.raises(openai.BadRequestError, match="keeps no responses"):
            client.responses.create(model="scripted", input="Hi.", store=True)


def test_the_calls_of_a_server_are_streamed_as_they_happen(
    asking: Gateway, ask: Callable[..., Any], scripted: Scripted
) -> None:
    scripted.will(script.call((WRITE, entity("streamed")), text="I note it."), script.say("Noted."))
    events = list(ask("Note it.", tools=[server()], stream=True))
    kinds = [event.type for event in events]
    order = [
        "response.mcp_list_tools.completed",
        "response.mcp_call.in_progress",
        "response.mcp_call_arguments.done",
        "response.mcp_call.completed",
        "response.completed",
    ]
    assert [kind for kind in kinds if kind in order] == order, kinds
    [call] = [item for item in events[-1].response.output if item.type == "mcp_call"]
    assert call.status == "completed" and call.error is None and "streamed" in call.arguments
    assert "streamed" in graph(asking)


def test_the_model_reads_what_was_called_before(ask: Callable[..., Any], scripted: Scripted) -> None:
    scripted.will(script.call((READ, {})), script.say("Read."), script.echo_results)
    first = ask("Read it.", tools=[server(allowed_tools={"read_only": True, "tool_names": ["read_graph"]})])
    second = ask("Say it.", previous_response_id=first.id)
    told = [next(m["content"] for m in body["messages"] if m["role"] == "tool") for body in scripted.bodies[1:]]
    assert told[0] == told[1], "the same bytes, so that an engine need not read them again"
    assert re.search(r"<data [0-9a-f]{16}>", told[0]), "and marked as data"
    assert "entities" in second.output_text
    assert second.model_extra["forebay"]["tainted"] is True


def test_a_conversation_that_has_read_strange_words_writes_nothing(
    asking: Gateway, ask: Callable[..., Any], scripted: Scripted
) -> None:
    scripted.will(script.call((READ, {})), script.say("Read."), script.call((WRITE, entity("afterwards"))))
    first = ask("Read it.", tools=[server()])
    second = ask("Now write.", tools=[server()], previous_response_id=first.id)
    [call] = [item for item in second.output if item.type == "mcp_call"]
    assert call.status == "failed" and "denied" in call.error.message
    assert "afterwards" not in graph(asking)


def test_what_was_agreed_to_runs_once_and_streams(asking: Gateway, ask: Callable[..., Any], scripted: Scripted) -> None:
    scripted.will(script.call((WRITE, entity("agreed"))), script.say("Done."), script.say("Still done."))
    tools = [server(require_approval={"always": {"tool_names": ["create_entities"]}})]
    first = ask("Note it.", tools=tools)
    [request] = [item for item in first.output if item.type == "mcp_approval_request"]
    assert request.server_label == "memory" and "agreed" not in graph(asking)
    verdict = {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": True}
    events = list(ask([verdict], tools=tools, previous_response_id=first.id, stream=True))
    second = events[-1].response
    [call] = [item for item in second.output if item.type == "mcp_call"]
    assert call.approval_request_id == request.id and "agreed" in graph(asking)
    # A client that keeps the conversation itself sends everything again.
    everything = [*first.output, verdict, *second.output, {"role": "user", "content": "And now?"}]
    third = ask([item if isinstance(item, dict) else item.model_dump() for item in everything], tools=tools)
    assert third.output_text == "Still done."
    assert not [item for item in third.output if item.type == "mcp_call"], "it has run already"


def test_the_gateways_own_address_is_welcome(asking: Gateway, ask: Callable[..., Any], scripted: Scripted) -> None:
    scripted.will(script.say("Hi."))
    answer = ask("Hi.", tools=[server(server_url=f"{asking.url}/mcp", authorization="not-for-the-answer")])
    assert answer.output[0].type == "mcp_list_tools" and answer.output_text == "Hi."
    assert "not-for-the-answer" not in answer.model_dump_json()
    assert "not-for-the-answer" not in json.dumps(scripted.bodies)
