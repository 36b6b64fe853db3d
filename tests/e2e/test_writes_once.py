"""What a tool has changed is not changed again because a client repeats its request, as the SDKs do unasked."""

from __future__ import annotations

import concurrent.futures
import json
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import openai
import pytest

import harness
import scripted as script
from harness import Gateway
from scripted import Scripted

ORDER = {"type": "function", "function": {"name": "order"}}
DECLARED = {"type": "mcp", "server_label": "tools", "allowed_tools": ["order"]}


@pytest.fixture(scope="module")
def shop() -> Iterator[Scripted]:
    """Where the declared tool leads; it notes each order."""
    with harness.closing(Scripted()) as endpoint:
        endpoint.finally_ = script.exactly({"ordered": True})
        yield endpoint


@pytest.fixture
def gateway(start: Callable[..., Gateway], scripted: Scripted, shop: Scripted) -> Gateway:
    def model(kind: str) -> dict[str, Any]:
        # Its failures are to be the model's own, each of them.
        return {"backends": [{"url": scripted.url, "model": "by-script", "engine": kind}], "retry": {"attempts": 1}}

    tool = {
        "name": "order",
        "description": "Orders a heron.",
        "endpoint": {"url": f"{shop.url}/orders", "method": "POST"},
        "effects": {"read_only": False},
    }
    shop.will()
    return start(
        {
            "models": {"scripted": model("openai"), "scripted-messages": model("anthropic")},
            "mcp": {"allow_addresses": ["127.0.0.1"], "tools": [tool]},
        }
    )


@pytest.fixture
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    """With the retries that it comes with."""
    http = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.admin.key, http_client=http) as made:
        assert made.max_retries > 0
        yield made


def asked(client: openai.OpenAI, scripted: Scripted, *then: script.Reply) -> dict[str, Any]:
    """A request that agrees to a call which the model has asked for; the model then answers so."""
    scripted.will(script.call(("order", {})), *then)
    first = client.responses.create(model="scripted", input="Order one.", tools=[DECLARED])
    [request] = [item for item in first.output if item.type == "mcp_approval_request"]
    verdict = {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": True}
    return {"model": "scripted", "input": [verdict], "tools": [DECLARED], "previous_response_id": first.id}


def test_a_call_that_was_agreed_to_is_not_repeated_when_the_model_fails(
    client: openai.OpenAI, scripted: Scripted, shop: Scripted
) -> None:
    body = asked(client, scripted, script.refuse(500), script.say("Ordered."))
    with pytest.raises(openai.APIStatusError, match="`order`"):
        client.responses.create(**body)
    assert len(shop.heard) == 1
    # Whoever insists is answered, and the model knows that it has no result.
    scripted.will(script.echo_results)
    answer = client.responses.create(**body)
    assert len(shop.heard) == 1 and "may have run" in answer.output_text
    [call] = [item for item in answer.output if item.type == "mcp_call"]
    assert call.status == "failed"


@pytest.mark.parametrize("more", [{}, {"store": False}, {"stream": True}], ids=["kept", "unkept", "streamed"])
def test_a_call_that_was_agreed_to_runs_once_however_often_it_is_sent(
    client: openai.OpenAI, scripted: Scripted, shop: Scripted, more: dict[str, Any]
) -> None:
    body = asked(client, scripted) | more

    def send(_: int) -> None:
        answer = client.responses.create(**body)
        if more.get("stream"):
            assert [event.type for event in answer][-1] == "response.completed"

    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        list(pool.map(send, range(5)))
    assert len(shop.heard) == 1


def test_a_conversation_that_its_client_keeps_is_no_way_round(
    client: openai.OpenAI, scripted: Scripted, shop: Scripted
) -> None:
    body = asked(client, scripted)
    first = client.responses.retrieve(body.pop("previous_response_id"))
    everything = [item.model_dump() for item in first.output] + body["input"]
    for _ in range(2):
        client.responses.create(**body | {"input": everything, "store": False})
    assert len(shop.heard) == 1


def test_a_turn_that_has_changed_something_is_not_repeated_when_the_model_fails(
    client: openai.OpenAI, scripted: Scripted, shop: Scripted
) -> None:
    scripted.will(script.call(("order", {})), script.refuse(500), script.call(("order", {})))
    messages = [{"role": "user", "content": "Order one."}]
    with pytest.raises(openai.APIStatusError, match="`order`") as failed:
        client.chat.completions.create(model="scripted", messages=messages, tools=[ORDER])
    assert failed.value.response.headers["x-should-retry"] == "false"
    assert (len(shop.heard), len(scripted.heard)) == (1, 2)


def test_anthropics_client_does_not_repeat_it_either(gateway: Gateway, scripted: Scripted, shop: Scripted) -> None:
    scripted.will(script.claude(("order", {})), script.refuse(500), script.claude(("order", {})))
    tool = {"name": "order", "type": "custom"}
    http = anthropic.DefaultHttpxClient(trust_env=False)
    with anthropic.Anthropic(base_url=gateway.url, api_key=gateway.admin.key, http_client=http) as client:
        assert client.max_retries > 0
        body = {"model": "scripted-messages", "messages": [{"role": "user", "content": "Order."}], "tools": [tool]}
        with pytest.raises(anthropic.APIStatusError, match="`order`"):
            client.messages.create(max_tokens=50, **body)
    assert len(shop.heard) == 1


def test_a_turn_that_only_read_may_be_repeated(client: openai.OpenAI, scripted: Scripted) -> None:
    scripted.will(script.call(("calculator", {"expression": "6*7"})), script.refuse(500), script.say("42"))
    tool = {"type": "function", "function": {"name": "calculator"}}
    messages = [{"role": "user", "content": "What is 6*7?"}]
    answer = client.chat.completions.create(model="scripted", messages=messages, tools=[tool])
    assert answer.choices[0].message.content == "42", json.dumps(scripted.bodies)
