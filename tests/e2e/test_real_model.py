"""The first real run: a real engine answers the same question through every door."""

from __future__ import annotations

import harness
from harness import MODEL, QUESTION, SYSTEM, Gateway, Key


def test_through_the_openai_api(gateway: Gateway, user: Key) -> None:
    answer = gateway.http.post("/v1/chat/completions", json=harness.chat_body(), headers=user.bearer)
    assert answer.status_code == 200, answer.text
    assert "Paris" in answer.json()["choices"][0]["message"]["content"]


def test_through_the_mcp_tool_chat(gateway: Gateway, user: Key) -> None:
    arguments = {"model": MODEL, "system": SYSTEM, "prompt": QUESTION, "temperature": 0}
    answer = gateway.rpc("tools/call", {"name": "chat", "arguments": arguments}, user).json()
    assert "Paris" in answer["result"]["content"][0]["text"], answer
    assert not answer["result"].get("isError", False)


def test_through_the_command_line(gateway: Gateway, user: Key) -> None:
    done = gateway.cli("chat", "--model", MODEL, "--system", SYSTEM, "--temperature", "0", QUESTION, key=user.key)
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout
