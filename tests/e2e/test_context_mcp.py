"""Providers of the kind `mcp`: a tool and a resource of real MCP servers, and whoever asks may or may not use them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

import harness
import scripted as script
from harness import Gateway, Key
from npm import MODULES
from scripted import Scripted

SERVERS = MODULES / "@modelcontextprotocol"
FACT = "The north gate is opened by the code 7291."
MANUAL = "demo://resource/static/document/architecture.md"


def server(name: str, **more: Any) -> dict[str, Any]:
    return {"command": "node", "args": [str(SERVERS / name / "dist" / "index.js")], **more}


@pytest.fixture(scope="module")
def informed(tmp_path_factory: pytest.TempPathFactory, scripted: Scripted) -> Iterator[Gateway]:
    """A gateway whose providers are a search in a memory, and a document of another server."""
    folder = tmp_path_factory.mktemp("informed")
    config = {
        "models": {"scripted": {"backends": [{"url": scripted.url, "model": "by-script"}]}},
        "mcp": {
            "providers": {
                "memory": {"type": "mcp", "config": {"tool": "memory__search_nodes", "items": "/entities"}},
                "manual": {"type": "mcp", "config": {"uri": MANUAL}},
            }
        },
        "upstreams": {
            "memory": server("server-memory", env={"MEMORY_FILE_PATH": str(folder / "memory.jsonl")}),
            "everything": server("server-everything"),
        },
        "limits": {"requests_per_minute": 1_000_000, "tool_calls_per_minute": 1_000_000},
    }
    with harness.closing(Gateway(folder, config)) as gateway:

        def has_both() -> bool:
            told = gateway.rpc("tools/list", {}).json().get("result", {}).get("tools", [])
            return {"memory", "everything"} <= {tool["name"].partition("__")[0] for tool in told}

        harness.wait_for("the tools of both servers", has_both)
        gate = {"name": "gate", "entityType": "place", "observations": [FACT]}
        made = gateway.rpc("tools/call", {"name": "memory__create_entities", "arguments": {"entities": [gate]}})
        assert "error" not in made.json(), made.text
        yield gateway


def ask(gateway: Gateway, key: Key, scripted: Scripted, provider: str, query: str) -> tuple[dict[str, Any], str]:
    """What the answer says of it, and what the model was told."""
    scripted.will(script.say("Thank you."))
    named = {"providers": [provider], "query": query}
    asked = {"model": "scripted", "messages": [{"role": "user", "content": "Tell me."}], "mcp_context": named}
    answer = gateway.chat(asked, key.bearer)
    assert answer.status_code == 200, answer.text
    return answer.json()["forebay"], json.dumps(scripted.bodies[0]["messages"])


def failure(ours: dict[str, Any]) -> str:
    [report] = ours["providers"]
    return report["failure"]["code"]


def test_what_a_tool_of_a_server_finds_is_what_the_model_is_told(informed: Gateway, scripted: Scripted) -> None:
    ours, told = ask(informed, informed.new_key("user"), scripted, "memory", "gate")
    assert [item["provider"] for item in ours["context"]] == ["memory"], ours
    assert FACT in told and ours["tainted"] is True


def test_a_resource_of_a_server_is_read_and_its_best_passages_are_told(informed: Gateway, scripted: Scripted) -> None:
    read = informed.rpc("resources/read", {"uri": MANUAL}).json()["result"]["contents"][0]["text"]
    ours, told = ask(informed, informed.new_key("user"), scripted, "manual", "architecture of the server")
    assert ours["context"] and {item["provider"] for item in ours["context"]} == {"manual"}, ours
    sentences = [line for line in read.splitlines() if len(line) > 60 and line.isascii() and '"' not in line]
    assert any(sentence in told for sentence in sentences), told


def test_a_provider_finds_nothing_for_whom_its_tool_is_denied(informed: Gateway, scripted: Scripted) -> None:
    stranger = informed.new_key("user", grants=("!tool:memory__search_nodes",))
    ours, told = ask(informed, stranger, scripted, "memory", "gate")
    assert ours["context"] == [] and FACT not in told, ours
    assert failure(ours) == "unknown_tool"


def test_a_tool_that_nobody_has_is_told_and_the_answer_comes(informed: Gateway, scripted: Scripted) -> None:
    made = informed.cli("provider", "create", "gone", "--type", "mcp", "--set", "tool=gone__search")
    assert made.returncode == 0, made.stderr
    ours, _ = ask(informed, informed.new_key("user"), scripted, "gone", "gate")
    assert ours["context"] == [] and failure(ours) == "unknown_tool", ours
