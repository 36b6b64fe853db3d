"""Clients that others wrote: fastmcp, both of npm's, and mcp-remote, each through the same few requests."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import fastmcp
import httpx
import pytest
from fastmcp.client.transports import SSETransport, StreamableHttpTransport
from mcp import Client, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client

from harness import Gateway, Key
from npm import MODULES, drive

pytestmark = pytest.mark.anyio

REMOTE = MODULES / "mcp-remote" / "dist" / "proxy.js"
SUM = {"name": "calculator", "arguments": {"expression": "6*7"}}
STEPS: list[tuple[str, Any]] = [
    ("listTools", {}),
    ("callTool", SUM),
    ("callTool", {"name": "no_such_tool", "arguments": {}}),
    ("listResources", {}),
]


def expect_the_usual(results: list[dict[str, Any]]) -> None:
    tools, called, unknown, resources = results
    assert "calculator" in {tool["name"] for tool in tools["result"]["tools"]}
    assert "42" in json.dumps(called["result"]["content"])
    assert unknown["error"]["code"] == -32602
    assert resources["result"]["resources"]


NPM = [
    pytest.param({"client": "sdk"}, "/mcp", id="sdk"),
    pytest.param({"client": "client", "mode": "legacy"}, "/mcp", id="client-legacy"),
    pytest.param({"client": "client", "mode": "auto"}, "/mcp", id="client-auto"),
    pytest.param({"client": "client", "mode": "2026-07-28"}, "/mcp", id="client-modern"),
    pytest.param({"client": "sdk", "transport": "sse"}, "/mcp/sse", id="sdk-sse"),
    pytest.param({"client": "sdk", "transport": "sse"}, "/api/v1/mcp/sse", id="sdk-sse-seed-route"),
]


@pytest.mark.parametrize(("plan", "path"), NPM)
def test_npm_clients_list_call_and_are_refused(gateway: Gateway, user: Key, plan: dict[str, Any], path: str) -> None:
    expect_the_usual(drive(gateway, user, path, STEPS, **plan))


@pytest.mark.parametrize("plan", [{"client": "sdk"}, {"client": "client", "mode": "auto"}], ids=["sdk", "client"])
def test_npm_clients_do_not_come_in_without_a_key(gateway: Gateway, plan: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match=r"401|[Uu]nauthorized"):
        drive(gateway, Key("", "fb_wrong"), "/mcp", STEPS, **plan)


@pytest.mark.parametrize("path", ["/mcp", "/mcp/sse"])
async def test_fastmcp_lists_and_calls(gateway: Gateway, user: Key, path: str) -> None:
    transport = SSETransport if path.endswith("sse") else StreamableHttpTransport
    async with fastmcp.Client(transport(gateway.url + path, headers=user.bearer)) as client:
        assert "calculator" in {tool.name for tool in await client.list_tools()}
        result = await client.call_tool(SUM["name"], SUM["arguments"])
        assert "42" in result.content[0].text
        assert await client.list_resources()


@contextlib.asynccontextmanager
async def over_mcp_remote(gateway: Gateway, key: Key, *options: str) -> AsyncIterator[Client]:
    args = [str(REMOTE), f"{gateway.url}/mcp", "--header", "Authorization:${KEY}", *options]
    # What it keeps goes with the test's own folder; a credential is not among it.
    env = {"KEY": f"Bearer {key.key}", "HOME": str(gateway.folder), "PATH": os.environ["PATH"]}
    server = StdioServerParameters(command="node", args=args, env=env)
    with (gateway.folder / "mcp-remote.log").open("a") as errors:
        async with Client(stdio_client(server, errlog=errors), mode="legacy") as client:
            yield client


@pytest.mark.parametrize("protocol", ["legacy", "auto"])
async def test_mcp_remote_bridges_to_a_local_client(gateway: Gateway, user: Key, protocol: str) -> None:
    async with over_mcp_remote(gateway, user, "--protocol", protocol) as client:
        assert "calculator" in {tool.name for tool in (await client.list_tools()).tools}
        result = await client.call_tool(SUM["name"], SUM["arguments"])
        assert "42" in result.content[0].text


@pytest.mark.parametrize("path", ["/mcp/sse", "/api/v1/mcp/sse"])
async def test_the_python_client_comes_by_http_and_sse(gateway: Gateway, user: Key, path: str) -> None:
    async with Client(sse_client(gateway.url + path, headers=user.bearer), mode="legacy") as client:
        assert "calculator" in {tool.name for tool in (await client.list_tools()).tools}
        result = await client.call_tool(SUM["name"], SUM["arguments"])
        assert "42" in result.content[0].text


async def test_a_stream_of_events_is_not_for_strangers(gateway: Gateway) -> None:
    for path in ("/mcp/sse", "/api/v1/mcp/sse"):
        answer = httpx.get(gateway.url + path, headers={"Accept": "text/event-stream"}, trust_env=False)
        assert answer.status_code == 401, path
