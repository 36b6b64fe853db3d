"""The calls by which contexts were first described, against the gateway that `make up` starts, with the model in it.

What they send is written down here as it was then. They come without a key, which every gateway of ours wants.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

import harness
from harness import Engine, Gateway, Key
from test_contexts import Shell
from test_readme import demo

CREATE = r"""curl -X POST http://localhost:8080/api/v1/mcp/contexts \
  -H "Content-Type: application/json" \
  -d '{
    "model_id": "gpt-3.5-turbo",
    "nodes": [
      {
        "content": "You are a helpful assistant.",
        "content_type": "text",
        "metadata": {"role": "system"}
      }
    ],
    "metadata": {"session": "user123"},
    "return_context": true,
    "user_id": "user123",
    "priority": "medium"
  }'
"""
PROMPT = r"""curl -X POST http://localhost:8080/api/v1/mcp/contexts/{contextID}/prompt \
  -H "Content-Type: application/json" \
  -d '{
    "prompt": "What is the capital of France?",
    "metadata": {"conversation_id": "12345"},
    "stream": false,
    "user_id": "user123",
    "priority": "high"
  }'
"""
DELETE = "curl -X DELETE http://localhost:8080/api/v1/mcp/contexts/{contextID}\n"
CALLS = {"Creating a context": CREATE, "Adding a prompt": PROMPT, "Deleting a context": DELETE}


@pytest.fixture
def gateway(start: Callable[..., Gateway], engine: Engine) -> Gateway:
    return start(demo(engine))


class Seed:
    """Runs a call in a real shell; only where the gateway is and who asks is said differently."""

    def __init__(self, gateway: Gateway, key: Key) -> None:
        self.gateway, self.key = gateway, key

    def run(self, call: str, context: str = "") -> Any:
        command = call.replace("http://localhost:8080", self.gateway.url).replace("{contextID}", context)
        command = command.replace("curl ", 'curl -sS -H "X-API-Key: $KEY" ', 1)
        env = harness.clean_env(KEY=self.key.key, no_proxy="*", NO_PROXY="*")
        done = subprocess.run(
            ["bash", "-eu", "-c", command], env=env, text=True, capture_output=True, timeout=120, check=True
        )
        return json.loads(done.stdout)

    def answered(self, call: str, context: str) -> Any:
        """What comes of it. Nothing bounds what the model says, so that on a slow machine the task may come first."""
        told = self.run(call, context)
        while "node" not in told:
            path = f"/api/v1/mcp/tasks/{told['id']}"
            task = self.gateway.http.get(path, params={"wait": "50s"}, headers=self.key.bearer).json()
            assert task["status"] in ("pending", "running", "completed"), task
            told = (task["output"] | {"task_id": task["id"]}) if task["status"] == "completed" else task
        return told


def body_of(call: str) -> Any:
    """The JSON of a call, and nothing where it sends none."""
    _, _, sent = call.partition("-d '")
    return json.loads(sent.rpartition("'")[0]) if sent else None


def test_the_calls_work_as_they_were_written(gateway: Gateway) -> None:
    seed = Seed(gateway, gateway.new_key("user"))
    made = seed.run(CREATE)
    assert made["model_id"] == "gpt-3.5-turbo" and made["metadata"] == {"session": "user123"}, made
    assert [(node["role"], node["content"]) for node in made["nodes"]] == [("system", "You are a helpful assistant.")]
    answer = seed.answered(PROMPT, made["id"])
    # What a model of this size says without a temperature of zero is anybody's guess.
    assert answer["node"]["role"] == "assistant" and answer["node"]["content"], answer
    assert answer["usage"]["completion_tokens"] > 0
    assert answer["prompt_node"]["metadata"] == {"conversation_id": "12345"} and "context" not in answer
    task = gateway.http.get(f"/api/v1/mcp/tasks/{answer['task_id']}", headers=seed.key.bearer).json()
    assert (task["type"], task["status"], task["priority"]) == ("mcp.add_prompt", "completed", "high")
    assert seed.run(DELETE, made["id"])["deleted"] is True
    assert seed.run(PROMPT, made["id"])["code"] == "unknown_context"


def test_the_guide_shows_the_same_calls(gateway: Gateway) -> None:
    blocks = Shell(gateway, gateway.admin).blocks
    for heading, call in CALLS.items():
        (shown,) = blocks[heading]
        assert body_of(shown) == body_of(call), heading
        assert shown.split()[:4] == call.split()[:4], "the same method and address"


def test_the_gateway_of_make_up_has_the_small_model_under_both_names(gateway: Gateway) -> None:
    key = gateway.new_key("user")
    listed = gateway.http.get("/api/v1/mcp/models", headers=key.bearer).json()["models"]
    assert {one["id"] for one in listed} == {harness.MODEL, "gpt-3.5-turbo"}
    told = [gateway.chat(harness.chat_body(name), key.bearer).json() for name in (harness.MODEL, "gpt-3.5-turbo")]
    first, other = (one["choices"][0]["message"]["content"] for one in told)
    assert first == other and "Paris" in first
