"""The command line about tools: one that works, one that fails, one that is none, and what an upstream offers."""

from __future__ import annotations

import json
from collections.abc import Callable

import harness
from harness import Gateway, Key
from npm import MODULES

MEMORY = {
    "command": "node",
    "args": [str(MODULES / "@modelcontextprotocol" / "server-memory" / "dist" / "index.js")],
}


def test_a_tool_is_tried_and_told_how_it_went(gateway: Gateway, user: Key) -> None:
    works = gateway.cli("tool", "test", "calculator", "--arguments", '{"expression": "6 * 7"}', key=user.key)
    assert works.returncode == 0, works.stderr
    assert "works" in works.stdout and "42" in works.stdout and "ms" in works.stdout
    arguments = json.dumps({"expression": "2 + 2"})
    told = gateway.cli("tool", "test", "calculator", "--arguments", "-", "-o", "json", key=user.key, stdin=arguments)
    tested = json.loads(told.stdout)
    assert (tested["name"], tested["ok"]) == ("calculator", True) and tested["ms"] >= 0
    failed = gateway.cli("tool", "test", "calculator", "--arguments", '{"expression": "1 / 0"}', key=user.key)
    assert failed.returncode == 5 and "failed" in failed.stdout, failed.stdout + failed.stderr
    none = gateway.cli("tool", "test", "no_such_tool", key=user.key)
    assert none.returncode == 5 and none.stdout == "" and "no tool of that name" in none.stderr


def test_explaining_a_tool_that_is_none_says_so(gateway: Gateway, user: Key) -> None:
    there = gateway.cli("explain", "tool:calculator", key=user.key)
    assert there.returncode == 0 and "no such tool" not in there.stdout
    none = gateway.cli("explain", "tool:no_such_tool", key=user.key)
    assert none.returncode == 0, "whether somebody may call it has an answer all the same"
    assert "no such tool here now" in none.stdout, none.stdout
    told = json.loads(gateway.cli("explain", "tool:no_such_tool", "-o", "json", key=user.key).stdout)
    assert (told["exists"], told["allowed"]) == (False, True)
    action = json.loads(gateway.cli("explain", "keys:write", "-o", "json", key=user.key).stdout)
    assert action.get("exists") is None, "only tools are or are not there"


def test_an_upstream_is_shown_with_its_tools(start: Callable[..., Gateway]) -> None:
    gateway = start({"upstreams": {"memory": MEMORY}})

    def healthy() -> bool:
        servers = gateway.http.get("/mcp/health").json()["mcp"]["servers"]
        return servers["memory"]["status"] == "healthy"

    harness.wait_for("the memory server", healthy)
    shown = gateway.cli("upstream", "show", "memory")
    assert shown.returncode == 0, shown.stderr
    tools = [line.split()[-1] for line in shown.stdout.splitlines() if line.split()[:1] == ["tool"]]
    listed = json.loads(gateway.cli("tool", "list", "-o", "json").stdout)
    theirs = [tool["name"] for tool in listed if tool["name"].startswith("memory__")]
    assert theirs and sorted(tools) == sorted(theirs), shown.stdout
