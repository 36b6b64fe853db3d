"""Tools that run as tasks: npm's client of 2025-11-25, the extension over plain HTTP, and a gateway that is killed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import harness
import npm
import scripted as script
from harness import Gateway, Key
from scripted import Scripted
from test_mcp_restart import start_again

EXTENSION = "io.modelcontextprotocol/tasks"
FINAL = ("completed", "failed", "cancelled")
CALCULATOR = {"name": "calculator", "arguments": {"expression": "6 * 7"}}
# A worker of which nothing was heard for so long is gone.
LEASE = {
    "tasks": {"lease_s": 3, "poll_ms": 100},
    "limits": {"requests_per_minute": 1_000_000, "tool_calls_per_minute": 1_000_000},
}


class Modern:
    """A client of 2026-07-28 that names the extension, by hand: no SDK of ours has one."""

    def __init__(self, gateway: Gateway, key: Key) -> None:
        self.gateway, self.key = gateway, key

    def send(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        meta = params.get("_meta", {}) | {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}, "extensions": {EXTENSION: {}}},
        }
        headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method}
        headers |= {"Accept": "application/json, text/event-stream"}
        if target := params.get("name") or params.get("taskId"):
            headers["Mcp-Name"] = target
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params | {"_meta": meta}}
        return self.gateway.http.post("/mcp", json=message, headers=self.key.bearer | headers).json()

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        answer = self.send(method, params)
        assert "result" in answer, answer
        return answer["result"]

    def begin(self, call: dict[str, Any]) -> str:
        begun = self.ask("tools/call", call | {"_meta": {"io.forebay/task": True}})
        assert (begun["resultType"], begun["status"]) == ("task", "working")
        return begun["taskId"]

    def task(self, task: str) -> dict[str, Any]:
        return self.ask("tasks/get", {"taskId": task})

    def until(self, task: str, *statuses: str) -> dict[str, Any]:
        def there() -> dict[str, Any] | None:
            seen = self.task(task)
            return seen if seen["status"] in statuses else None

        return harness.wait_for(f"a task that is {' or '.join(statuses)}", there)


def test_the_official_npm_client_calls_a_tool_as_a_task(gateway: Gateway, user: Key) -> None:
    told = npm.run("tasks.mjs", {"url": f"{gateway.url}/mcp", "headers": user.bearer, "call": CALCULATOR})
    assert told["capabilities"]["tasks"] == {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}
    kinds = [message["type"] for message in told["told"]]
    assert (kinds[0], kinds[-1]) == ("taskCreated", "result"), told["told"]
    assert told["told"][-1]["result"]["content"][0]["text"] == "42"
    assert told["task"]["status"] == "completed" and told["task"]["ttl"] >= 60_000
    assert told["result"]["content"] == told["told"][-1]["result"]["content"]
    assert told["task"]["taskId"] in {task["taskId"] for task in told["list"]["tasks"]}
    assert told["refused"] == {"code": -32602}


def test_the_extension_answers_with_a_task_and_tells_its_result(gateway: Gateway, user: Key) -> None:
    client = Modern(gateway, user)
    assert client.ask("server/discover", {})["capabilities"]["extensions"] == {EXTENSION: {}}
    task = client.until(client.begin(CALCULATOR), *FINAL)
    assert task["status"] == "completed" and task["result"]["content"][0]["text"] == "42"
    stranger = Modern(gateway, gateway.new_key("user", tenant="other"))
    for method in ("tasks/get", "tasks/cancel"):
        refused = stranger.send(method, {"taskId": task["taskId"]})
        assert refused["error"]["code"] == -32602, "to somebody else it is not there"


def test_the_same_task_is_seen_over_rest(gateway: Gateway, user: Key) -> None:
    client = Modern(gateway, user)
    task = client.begin(CALCULATOR)
    client.until(task, "completed")
    seen = gateway.http.get(f"/api/v1/mcp/tasks/{task}", headers=user.bearer).json()
    assert (seen["type"], seen["status"]) == ("tools/call", "completed")
    assert seen["output"]["content"][0]["text"] == "42"
    body = {"type": "tools/call", "input": CALCULATOR}
    made = gateway.http.post("/api/v1/mcp/tasks", json=body, headers=user.bearer)
    assert made.status_code == 202, made.text
    assert client.until(made.json()["id"], "completed")["result"]["content"][0]["text"] == "42"


def test_a_call_that_may_be_repeated_is_finished_after_a_kill(
    start: Callable[..., Gateway], scripted: Scripted
) -> None:
    scripted.will(script.silent)
    models = {"scripted": {"backends": [{"url": scripted.url}]}}
    gateway = start({"models": models} | LEASE)
    client = Modern(gateway, gateway.new_key("user"))
    heard = len(scripted.heard)
    task = client.begin({"name": "chat", "arguments": {"prompt": "Hello?", "model": "scripted"}})
    harness.wait_for("the model to be asked", lambda: len(scripted.heard) > heard)
    assert client.task(task)["status"] == "working"
    scripted.will()
    start_again(gateway)
    ended = client.until(task, *FINAL)
    assert ended["status"] == "completed", ended
    assert script.GREETING in json.dumps(ended["result"])
    assert len(scripted.heard) == 1, "once more after the kill"


def test_a_task_is_cancelled_while_it_runs(start: Callable[..., Gateway], scripted: Scripted) -> None:
    scripted.will(script.silent)
    gateway = start({"models": {"scripted": {"backends": [{"url": scripted.url}]}}} | LEASE)
    client = Modern(gateway, gateway.new_key("user"))
    heard = len(scripted.heard)
    task = client.begin({"name": "chat", "arguments": {"prompt": "Hello?", "model": "scripted"}})
    harness.wait_for("the model to be asked", lambda: len(scripted.heard) > heard)
    assert client.ask("tasks/cancel", {"taskId": task})["resultType"] == "complete"
    assert client.until(task, *FINAL)["status"] == "cancelled"


def test_the_configuration_counts_for_tools_that_run_as_tasks(
    start: Callable[..., Gateway], scripted: Scripted
) -> None:
    scripted.will(script.silent)
    tasks = LEASE["tasks"] | {"result_hours": 2, "types": {"tools/call": {"timeout_s": 1, "attempts_max": 1}}}
    models = {"scripted": {"backends": [{"url": scripted.url}]}}
    gateway = start({"models": models} | LEASE | {"tasks": tasks})
    client = Modern(gateway, gateway.new_key("user"))
    task = client.begin({"name": "chat", "arguments": {"prompt": "Hello?", "model": "scripted"}})
    ended = client.until(task, *FINAL)
    assert ended["status"] == "failed" and "within 1 s" in ended["error"]["message"], ended
    done = client.until(client.begin(CALCULATOR), "completed")
    assert abs(done["ttlMs"] - 7_200_000) < 60_000, done
