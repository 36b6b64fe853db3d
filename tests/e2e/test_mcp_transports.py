"""The transports beside Streamable HTTP, by clients that others wrote: HTTP+SSE, WebSocket, and the gateway inside."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import pathlib
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import pytest
import websockets
from mcp import Client, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client

import harness
from harness import Gateway, Key
from npm import PACKAGES

pytestmark = pytest.mark.anyio

SUM = {"name": "calculator", "arguments": {"expression": "6*7"}}
PATHS = ["/mcp/ws", "/servers/forebay/mcp/ws"]
INFO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "e2e", "version": "1"}}
ERAS = ["legacy", "2026-07-28", "auto"]

# npm's own client over its own WebSocket, which like a browser's can name subprotocols and set no header.
BROWSER = """
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { WebSocketClientTransport } from '@modelcontextprotocol/sdk/client/websocket.js';
const { url, bearer } = JSON.parse(process.env.PLAN);
const Plain = globalThis.WebSocket;
globalThis.WebSocket = class extends Plain {
    constructor(at, protocol) { super(at, [protocol, `forebay.bearer.${bearer}`]); }
};
const client = new Client({ name: 'e2e', version: '1' }, { capabilities: {} });
await client.connect(new WebSocketClientTransport(new URL(url)));
const tools = (await client.listTools()).tools.map((tool) => tool.name);
const called = await client.callTool({ name: 'calculator', arguments: { expression: '6*7' } });
await client.close();
process.stdout.write(JSON.stringify({ tools, called }));
"""


def ws(gateway: Gateway, path: str) -> str:
    return gateway.url.replace("http://", "ws://") + path


def subprotocol(key: str) -> str:
    return "forebay.bearer." + base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


async def ask(socket: Any, method: str, params: Any, number: int) -> dict[str, Any]:
    await socket.send(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}))
    while True:
        message = json.loads(await asyncio.wait_for(socket.recv(), harness.WAIT_SECONDS_MAX))
        if message.get("id") == number:
            return message


async def test_one_server_by_itself_over_http_and_sse(gateway: Gateway, user: Key) -> None:
    url = f"{gateway.url}/servers/forebay/mcp/sse"
    async with Client(sse_client(url, headers=user.bearer), mode="legacy") as client:
        assert "calculator" in {tool.name for tool in (await client.list_tools()).tools}
        called = [client.call_tool("calculator", {"expression": f"{n} + 1"}) for n in range(20)]
        for number, result in enumerate(await asyncio.gather(*called)):
            assert result.content[0].text == str(number + 1)


@pytest.mark.parametrize("path", PATHS)
async def test_a_websocket_client_lists_and_calls(gateway: Gateway, user: Key, path: str) -> None:
    async with websockets.connect(
        ws(gateway, path), subprotocols=["mcp"], additional_headers=user.bearer, proxy=None
    ) as socket:
        assert socket.subprotocol == "mcp"
        assert (await ask(socket, "initialize", INFO, 1))["result"]["protocolVersion"] == "2025-11-25"
        await socket.send(json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}))
        tools = (await ask(socket, "tools/list", {}, 2))["result"]["tools"]
        assert "calculator" in {tool["name"] for tool in tools}
        assert "42" in json.dumps((await ask(socket, "tools/call", SUM, 3))["result"]["content"])
        await (await socket.ping())


async def test_a_websocket_is_not_for_strangers_and_takes_no_key_in_its_address(gateway: Gateway, user: Key) -> None:
    url = ws(gateway, "/mcp/ws")
    for at, more in [
        (url, {}),
        (f"{url}?key={user.key}", {}),
        (url, {"subprotocols": ["mcp", subprotocol("fb_wrong")]}),
        (url, {"additional_headers": user.bearer, "origin": "https://evil.example"}),
    ]:
        with pytest.raises(websockets.InvalidStatus) as caught:
            await websockets.connect(at, proxy=None, **more)
        assert caught.value.response.status_code in (401, 403)


async def test_a_revoked_key_closes_its_websocket(gateway: Gateway) -> None:
    key = gateway.new_key("user")
    offered = ["mcp", subprotocol(key.key)]
    async with websockets.connect(ws(gateway, "/mcp/ws"), subprotocols=offered, proxy=None) as socket:
        assert socket.subprotocol == "mcp"
        assert (await ask(socket, "initialize", INFO, 1))["result"]
        assert gateway.cli("key", "revoke", key.id).returncode == 0
        with pytest.raises(websockets.ConnectionClosed) as caught:
            await asyncio.wait_for(socket.recv(), harness.WAIT_SECONDS_MAX)
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 1008


def test_a_browsers_websocket_shows_its_key_as_a_subprotocol(gateway: Gateway, user: Key) -> None:
    bearer = subprotocol(user.key).removeprefix("forebay.bearer.")
    done = subprocess.run(
        ["node", "--input-type=module", "-"],
        input=BROWSER,
        cwd=PACKAGES,
        env=harness.clean_env(PLAN=json.dumps({"url": ws(gateway, "/mcp/ws"), "bearer": bearer})),
        text=True,
        capture_output=True,
        timeout=harness.WAIT_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert "calculator" in told["tools"] and "42" in json.dumps(told["called"])
    assert user.key not in gateway.log and bearer not in gateway.log


@contextlib.asynccontextmanager
async def inside(folder: pathlib.Path, era: str, *options: str) -> AsyncIterator[Client]:
    args = ["stdio", "--serve", "--data", str(folder / "data"), *options]
    server = StdioServerParameters(command=str(harness.BINARY), args=args, env=harness.clean_env())
    with (folder / "inside.log").open("a") as errors:
        async with Client(stdio_client(server, errlog=errors), mode=era) as client:
            yield client


@pytest.mark.parametrize("era", ERAS)
async def test_the_gateway_inside_needs_no_other(tmp_path: pathlib.Path, era: str) -> None:
    async with inside(tmp_path, era) as client:
        assert {"calculator", "gateway_status"} <= {tool.name for tool in (await client.list_tools()).tools}
        result = await client.call_tool("calculator", {"expression": "2^10"})
        assert "1024" in result.content[0].text
        assert (await client.list_resources()).resources
    log = (tmp_path / "inside.log").read_text(encoding="utf-8")
    assert "open surfaces: none" in log, log
    harness.expect_plain_words(log)


async def test_two_gateways_inside_share_one_folder(tmp_path: pathlib.Path) -> None:
    async with inside(tmp_path, "legacy") as one, inside(tmp_path, "2026-07-28") as other:
        for client in (one, other):
            result = await client.call_tool("calculator", {"expression": "6*7"})
            assert "42" in result.content[0].text


async def test_the_bridge_shows_one_server_by_itself(gateway: Gateway, user: Key) -> None:
    env = {"FOREBAY_URL": gateway.url, "FOREBAY_KEY": user.key}
    server = StdioServerParameters(command=str(harness.BINARY), args=["stdio", "--server", "forebay"], env=env)
    with (gateway.folder / "one-server.log").open("a") as errors:
        async with Client(stdio_client(server, errlog=errors), mode="legacy") as client:
            assert "calculator" in {tool.name for tool in (await client.list_tools()).tools}
