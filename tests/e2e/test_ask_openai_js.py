"""OpenAI's own JavaScript client against every endpoint."""

from __future__ import annotations

from typing import Any

import pytest

import harness
import npm
import scripted as script
from harness import EMBEDDINGS, MODEL, QUESTION, SYSTEM, Gateway, Key
from parts import DIMENSIONS
from scripted import Scripted


@pytest.mark.parametrize("path", ["/v1", ""], ids=["v1", "bare"])
def test_every_endpoint(asking: Gateway, asker: Key, path: str) -> None:
    response = {"model": MODEL, "instructions": SYSTEM, "input": QUESTION, "temperature": 0}
    steps: list[tuple[str, Any]] = [
        ("chat.completions.create", harness.chat_body()),
        ("chat.completions.create", harness.chat_body(stream=True)),
        (
            "completions.create",
            {"model": MODEL, "prompt": "The capital of France is", "max_tokens": 8, "temperature": 0},
        ),
        ("embeddings.create", {"model": EMBEDDINGS, "input": "cat"}),
        ("responses.create", response),
        ("responses.create", response | {"stream": True}),
        ("models.retrieve", MODEL),
        ("models.retrieve", "no-such-model"),
    ]
    chat, chunks, text, vectors, whole, events, model, unknown = npm.ask(asking, asker, path, steps)
    assert "Paris" in chat["answer"]["choices"][0]["message"]["content"]
    pieces = [choice["delta"].get("content") or "" for chunk in chunks["answer"] for choice in chunk["choices"]]
    assert len(pieces) > 3 and "Paris" in "".join(pieces)
    assert "Paris" in text["answer"]["choices"][0]["text"]
    assert len(vectors["answer"]["data"][0]["embedding"]) == DIMENSIONS
    assert "Paris" in whole["answer"]["output_text"]
    assert [event["type"] for event in events["answer"]][-1] == "response.completed"
    assert model["answer"]["id"] == MODEL
    assert (unknown["kind"], unknown["status"]) == ("NotFoundError", 404)


def test_responses_are_a_conversation(asking: Gateway, asker: Key, scripted: Scripted) -> None:
    scripted.will(script.say("I will remember."), script.say("heron"))
    [first] = npm.ask(
        asking, asker, "/v1", [("responses.create", {"model": "scripted", "input": "The word is heron."})]
    )
    id_ = first["answer"]["id"]
    further = {"model": "scripted", "input": "Which word?", "previous_response_id": id_}
    steps = [("responses.create", further), ("responses.retrieve", id_), ("responses.delete", id_)]
    second, found, _, gone = npm.ask(asking, asker, "/v1", [*steps, ("responses.retrieve", id_)])
    assert second["answer"]["output_text"] == "heron"
    assert len(scripted.bodies[1]["messages"]) == 3
    assert found["answer"]["output_text"] == "I will remember."
    assert gone["kind"] == "NotFoundError"


def test_a_tool_of_the_gateway_runs_there(asking: Gateway, asker: Key, scripted: Scripted) -> None:
    scripted.will(script.call(("calculator", {"expression": "6 * 7"})), script.echo_results)
    body = harness.chat_body("scripted", tools=[{"type": "function", "function": {"name": "calculator"}}])
    [told] = npm.ask(asking, asker, "/v1", [("chat.completions.create", body)])
    assert "42" in told["answer"]["choices"][0]["message"]["content"]
    assert [tool["name"] for tool in told["answer"]["forebay"]["tools"]] == ["calculator"]


def test_a_broken_stream_is_thrown(asking: Gateway, asker: Key, scripted: Scripted) -> None:
    scripted.will(script.dies(3))
    [told] = npm.ask(asking, asker, "/v1", [("chat.completions.create", harness.chat_body("scripted", stream=True))])
    assert told["kind"] in {"APIError", "InternalServerError"}, told
