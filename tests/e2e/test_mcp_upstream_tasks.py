"""Tools of upstreams that run as tasks: of either era, for clients that know of tasks and for those that do not."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import mcp_types
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

import harness
from harness import Gateway, Key
from test_mcp_restart import start_again
from test_mcp_tasks import FINAL, LEASE, Modern
from test_mcp_upstreams import EVERYTHING, FIXTURE, Server, node

pytestmark = pytest.mark.anyio

# What `simulate-research-query` of the official server says at its end. It runs as a task only.
REPORT = "Research Report: tides"


@pytest.fixture(scope="module")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The fixture, in the form in which it is configured as an upstream."""
    folder, port = tmp_path_factory.mktemp("fixture-upstream"), harness.free_port()
    command = [str(FIXTURE), str(folder / "data"), f"127.0.0.1:{port}"]
    with harness.closing(Server("fixture", command, folder, port)):
        key = folder / "data" / "admin.key"
        harness.wait_for("the fixture's key", key.exists)
        url = f"http://127.0.0.1:{port}/servers/fixture/mcp"
        yield {"url": url, "auth": {"bearer": {"file": str(key)}}}


@pytest.fixture
def behind(start: Callable[..., Gateway], fixture_server: dict[str, Any]) -> Gateway:
    """A gateway before the fixture, which is reached in both eras, and the official server."""
    upstreams = {
        "modern": fixture_server | {"protocol": "modern"},
        "legacy": fixture_server | {"protocol": "legacy"},
        "everything": node(EVERYTHING, "stdio"),
    }
    gateway = start({"upstreams": upstreams} | LEASE)

    def all_there() -> bool:
        tools = gateway.rpc("tools/list", {}).json().get("result", {}).get("tools", [])
        return {tool["name"].partition("__")[0] for tool in tools} >= upstreams.keys()

    harness.wait_for("the tools of all upstreams", all_there)
    return gateway


def slowly(era: str, seconds: float) -> dict[str, Any]:
    return {"name": f"{era}__slow_compute", "arguments": {"seconds": seconds, "label": "a sum"}}


def stands(gateway: Gateway, fixture_server: dict[str, Any]) -> list[str]:
    """How the tasks stand that the fixture itself has, the newest first."""
    key = pathlib.Path(fixture_server["auth"]["bearer"]["file"]).read_text(encoding="utf-8").strip()
    url = fixture_server["url"].partition("/servers")[0]
    told = gateway.http.get(f"{url}/api/v1/mcp/tasks", headers={"X-API-Key": key}).json()
    return [task["status"] for task in told["tasks"]]


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_a_task_on_an_upstreams_tool_runs_to_its_result(
    behind: Gateway, fixture_server: dict[str, Any], era: str
) -> None:
    client = Modern(behind, behind.new_key("user"))
    before = len(stands(behind, fixture_server))
    task = client.begin(slowly(era, 1))
    assert client.until(task, "completed")["result"]["content"][0]["text"] == "Computed a sum"
    assert len(stands(behind, fixture_server)) == before + 1, "it was a task there too"
    failed = client.until(client.begin({"name": f"{era}__failing_job", "arguments": {}}), *FINAL)
    assert failed["status"] == "completed" and failed["result"]["isError"], failed
    assert "io.modelcontextprotocol/related-task" not in json.dumps(failed)


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_cancelling_a_task_ends_it_at_its_upstream(behind: Gateway, fixture_server: dict[str, Any], era: str) -> None:
    client = Modern(behind, behind.new_key("user"))
    task = client.begin(slowly(era, 60))
    harness.wait_for("the upstream to be at it", lambda: stands(behind, fixture_server)[:1] == ["running"])
    client.ask("tasks/cancel", {"taskId": task})
    assert client.until(task, *FINAL)["status"] == "cancelled"
    harness.wait_for("the upstream to end it", lambda: stands(behind, fixture_server)[0] == "cancelled")


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_what_an_upstreams_task_asks_reaches_the_client_of_the_gateways(behind: Gateway, era: str) -> None:
    client = Modern(behind, behind.new_key("user"))
    task = client.begin({"name": f"{era}__confirm_delete", "arguments": {"filename": "old.txt"}})
    [(key, asked)] = client.until(task, "input_required")["inputRequests"].items()
    assert asked["method"] == "elicitation/create" and "old.txt" in asked["params"]["message"]
    answer = {"action": "accept", "content": {"confirm": True, "name": "ada"}}
    client.ask("tasks/update", {"taskId": task, "inputResponses": {key: answer}})
    assert "ada" in json.dumps(client.until(task, "completed")["result"])


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_a_task_on_an_upstreams_tool_survives_a_kill(behind: Gateway, fixture_server: dict[str, Any], era: str) -> None:
    """The fixture's tools only read, so the call is begun anew; what was lost ends at its upstream by itself."""
    client = Modern(behind, behind.new_key("user"))
    task = client.begin(slowly(era, 4))
    harness.wait_for("the upstream to be at it", lambda: stands(behind, fixture_server)[:1] == ["running"])
    start_again(behind)
    ended = client.until(task, *FINAL)
    assert ended["status"] == "completed" and "a sum" in json.dumps(ended["result"]), ended


def test_a_tool_that_may_not_be_repeated_is_not_after_a_kill(behind: Gateway) -> None:
    client = Modern(behind, behind.new_key("user"))
    task = client.begin({"name": "everything__simulate-research-query", "arguments": {"topic": "tides"}})

    def is_running() -> bool:
        told = behind.http.get(f"/api/v1/mcp/tasks/{task}", headers=client.key.bearer).json()
        return told["status"] == "running"

    harness.wait_for("the call to be under way", is_running)
    start_again(behind)
    ended = client.until(task, *FINAL)
    assert ended["status"] == "failed", ended
    assert "may have run" in ended["error"]["message"] or "call_lost" in json.dumps(ended["error"]), ended


async def clarified(_: Any, params: mcp_types.ElicitRequestParams) -> mcp_types.ElicitResult:
    return mcp_types.ElicitResult(action="accept", content={"interpretation": "historical"})


@pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
async def test_a_client_that_knows_nothing_of_tasks_calls_the_official_servers(behind: Gateway, era: str) -> None:
    """The tool runs as a task only, and asks for a clarification as it does; to its client it is a call."""
    key: Key = behind.new_key("user")
    async with httpx2.AsyncClient(headers=key.bearer, timeout=60, trust_env=False) as http:
        transport = streamable_http_client(f"{behind.url}/mcp", http_client=http)
        async with Client(transport, mode=era, elicitation_callback=clarified) as client:
            name = "everything__simulate-research-query"
            result = await client.call_tool(name, {"topic": "tides", "ambiguous": True})
    told = json.dumps([block.model_dump() for block in result.content])
    assert not result.is_error and REPORT in told and "historical" in told, told


def test_a_plain_call_over_rest_is_answered_with_the_result(behind: Gateway) -> None:
    key = behind.new_key("user")
    for era in ("modern", "legacy"):
        answer = behind.http.post(f"/mcp/tools/{era}__failing_job", json={}, headers=key.bearer)
        assert answer.status_code == 200, answer.text
        assert answer.json()["result"]["isError"] and "always" in answer.text
