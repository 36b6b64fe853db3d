"""Anthropic's own client: before an engine that speaks its API, and before one that speaks OpenAI's alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import pytest

import harness
import scripted as script
from harness import MODEL, QUESTION, SYSTEM, Gateway, Key
from scripted import Scripted

WEATHER = {
    "name": "get_weather",
    "description": "The weather at a place.",
    "input_schema": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}
# This client knows no `temperature` any more; the API does.
ASKED = {
    "max_tokens": 64,
    "extra_body": {"temperature": 0},
    "system": SYSTEM,
    "messages": [{"role": "user", "content": QUESTION}],
}
USER = {"role": "user", "content": "What is the weather in Oslo?"}


@pytest.fixture(scope="module")
def client(asking: Gateway, asker: Key) -> Iterator[anthropic.Anthropic]:
    with open_client(asking, asker.key) as made:
        yield made


def open_client(gateway: Gateway, key: str) -> anthropic.Anthropic:
    http = httpx2.Client(trust_env=False, timeout=harness.WAIT_SECONDS_MAX)
    return anthropic.Anthropic(base_url=gateway.url, api_key=key, max_retries=0, http_client=http)


# The first is converted to OpenAI's API and back, the second passes through.
@pytest.mark.parametrize("model", [MODEL, "messages"])
def test_a_message_is_answered(client: anthropic.Anthropic, model: str) -> None:
    answer = client.messages.create(model=model, **ASKED)
    assert answer.role == "assistant" and answer.stop_reason == "end_turn"
    assert "Paris" in answer.content[0].text
    assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0


@pytest.mark.parametrize("model", [MODEL, "messages"])
def test_a_message_is_streamed(client: anthropic.Anthropic, model: str) -> None:
    with client.messages.stream(model=model, **ASKED) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(pieces) > 1 and "Paris" in "".join(pieces)
    assert final.content[0].text == "".join(pieces) and final.stop_reason == "end_turn"
    assert final.usage.output_tokens > 0


@pytest.mark.parametrize("model", [MODEL, "messages"])
def test_an_answer_that_was_cut_says_so(client: anthropic.Anthropic, model: str) -> None:
    answer = client.messages.create(model=model, **ASKED | {"max_tokens": 2})
    assert answer.stop_reason == "max_tokens"


def test_a_tool_of_the_client_is_called_and_answered(client: anthropic.Anthropic, scripted: Scripted) -> None:
    scripted.will(script.call(("get_weather", {"place": "Oslo"}), text="I look."), script.echo_results)
    asked = {"model": "scripted", "max_tokens": 64, "tools": [WEATHER]}
    first = client.messages.create(messages=[USER], **asked)
    assert first.stop_reason == "tool_use" and first.content[0].text == "I look."
    use = first.content[-1]
    assert (use.type, use.name, use.input) == ("tool_use", "get_weather", {"place": "Oslo"})
    function = scripted.bodies[0]["tools"][0]["function"]
    assert (function["name"], function["parameters"]) == ("get_weather", WEATHER["input_schema"])

    result = {"type": "tool_result", "tool_use_id": use.id, "content": "Rain, 7 degrees."}
    turns = [USER, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    second = client.messages.create(messages=turns, **asked)
    assert second.content[0].text == "Rain, 7 degrees."
    call = next(m for m in scripted.bodies[1]["messages"] if m.get("tool_calls"))["tool_calls"][0]
    answered = next(m for m in scripted.bodies[1]["messages"] if m["role"] == "tool")
    assert call["id"] == answered["tool_call_id"] == use.id


@pytest.mark.parametrize("woven", [False, True], ids=["one-by-one", "woven"])
def test_parallel_calls_are_streamed(client: anthropic.Anthropic, scripted: Scripted, woven: bool) -> None:
    places = [{"place": "Oslo"}, {"place": 'Rome, "città eterna"'}]
    scripted.will(script.call(*(("get_weather", place) for place in places), woven=woven))
    with client.messages.stream(model="scripted", max_tokens=64, tools=[WEATHER], messages=[USER]) as stream:
        final = stream.get_final_message()
    assert [block.input for block in final.content if block.type == "tool_use"] == places
    assert len({block.id for block in final.content if block.type == "tool_use"}) == 2
    assert final.stop_reason == "tool_use"


def test_what_passes_through_is_not_touched(client: anthropic.Anthropic, scripted: Scripted) -> None:
    message: dict[str, Any] = {
        "id": "msg_scripted",
        "type": "message",
        "role": "assistant",
        "model": "by-script",
        "content": [{"type": "text", "text": "noted", "x_mood": "calm"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 1, "x_cached": 2},
    }
    scripted.will(script.exactly(message))
    asked = ASKED | {"extra_body": {"x_hint": [1, None]}}
    raw = client.messages.with_raw_response.create(model="scripted-messages", **asked)
    [heard] = scripted.heard
    assert heard.path == "/v1/messages" and heard.headers["anthropic-version"]
    assert heard.body["x_hint"] == [1, None] and heard.body["system"] == SYSTEM
    assert client.api_key not in str(heard.headers), "the caller's key stays here"
    assert raw.http_response.json() == message


def test_errors_have_the_shape_that_the_client_raises(asking: Gateway, client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.create(model="no-such-model", **ASKED)
    assert (caught.value.body["type"], caught.value.body["error"]["type"]) == ("error", "not_found_error")
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(model=MODEL, **ASKED | {"messages": [{"role": "user", "content": [{"type": "riddle"}]}]})
    assert refused.value.body["error"]["type"] == "invalid_request_error"
    with open_client(asking, "sk-ant-not-ours") as other, pytest.raises(anthropic.AuthenticationError):
        other.messages.create(model=MODEL, **ASKED)


@pytest.mark.parametrize("fault", [script.dies(3), script.error_inside], ids=["dies", "error-inside"])
def test_a_stream_that_breaks_is_raised(client: anthropic.Anthropic, scripted: Scripted, fault: script.Reply) -> None:
    scripted.will(fault)
    stream = client.messages.create(model="scripted", stream=True, **ASKED)
    kinds = []
    with pytest.raises(anthropic.APIError):
        for event in stream:
            kinds.append(event.type)
    assert "message_stop" not in kinds, "a stream that broke off does not say that it is done"


SIX_BY_SEVEN = ("calculator", {"expression": "6 * 7"})
OURS: Any = {"name": "calculator"}


def ask(client: anthropic.Anthropic, stream: bool, **asked: Any) -> tuple[anthropic.types.Message, dict[str, Any]]:
    """The message, and what the gateway says beside it: in a stream the client has it in one of the last events."""
    asked = {"max_tokens": 64, "messages": [{"role": "user", "content": "What is 6 * 7?"}]} | asked
    if not stream:
        answer = client.messages.create(**asked)
        return answer, answer.model_extra["forebay"]
    with client.messages.stream(**asked) as events:
        [ours] = [event.model_extra["forebay"] for event in events if "forebay" in (event.model_extra or {})]
        return events.get_final_message(), ours


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_tool_of_the_gateway_runs_before_an_engine_of_this_api(
    client: anthropic.Anthropic, scripted: Scripted, stream: bool
) -> None:
    scripted.will(script.claude(SIX_BY_SEVEN, text="I reckon. "), script.claude(text="It is 42."))
    answer, ours = ask(client, stream, model="scripted-messages", tools=[OURS])
    assert [block.type for block in answer.content] == ["text"], "what ran here is no work for the client"
    assert answer.content[0].text == "I reckon. It is 42." and answer.stop_reason == "end_turn"
    assert [heard.path for heard in scripted.heard] == ["/v1/messages"] * 2
    first, second = scripted.bodies
    assert "expression" in first["tools"][0]["input_schema"]["properties"], "the model gets the real definition"
    assert second["messages"][:1] == first["messages"], "what was said before stays as it was"
    use, result = second["messages"][-2]["content"][-1], second["messages"][-1]["content"][0]
    assert (use["type"], use["input"]) == ("tool_use", {"expression": "6 * 7"})
    assert (result["type"], result["tool_use_id"]) == ("tool_result", use["id"]) and "42" in str(result["content"])
    assert answer.usage.output_tokens == 2 * script.USAGE["completion_tokens"], "the usage of both hops"
    [ran] = ours["tools"]
    assert (ran["name"], ran["status"]) == ("calculator", "success")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_tool_of_the_gateway_runs_before_an_engine_of_the_other_api(
    client: anthropic.Anthropic, scripted: Scripted, stream: bool
) -> None:
    scripted.will(script.call(SIX_BY_SEVEN), script.echo_results)
    answer, ours = ask(client, stream, model="scripted", tools=[OURS, WEATHER])
    assert "42" in answer.content[0].text and answer.stop_reason == "end_turn"
    [ran] = ours["tools"]
    assert (ran["name"], ran["status"]) == ("calculator", "success")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_calls_of_the_client_pass_beside_those_of_the_gateway(
    client: anthropic.Anthropic, scripted: Scripted, stream: bool
) -> None:
    scripted.will(script.claude(SIX_BY_SEVEN, ("get_weather", {"place": "Oslo"})))
    answer, ours = ask(client, stream, model="scripted-messages", tools=[OURS, WEATHER])
    [use] = [block for block in answer.content if block.type == "tool_use"]
    assert (use.name, use.input) == ("get_weather", {"place": "Oslo"}) and answer.stop_reason == "tool_use"
    [ran] = ours["tools"]
    assert (ran["name"], ran["status"]) == ("calculator", "success") and len(scripted.heard) == 1


def test_an_engine_of_this_api_that_never_ends_calling_is_told_to_choose_none(
    client: anthropic.Anthropic, scripted: Scripted
) -> None:
    scripted.will(*[script.claude(SIX_BY_SEVEN)] * 20)
    answer, ours = ask(client, False, model="scripted-messages", tools=[OURS])
    assert scripted.bodies[-1]["tool_choice"] == {"type": "none"} and scripted.bodies[-1]["tools"]
    assert ours["ended"] == "rounds" and answer.stop_reason == "end_turn"
