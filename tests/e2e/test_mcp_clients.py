"""The official Python client, in both eras and over standard input and output."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator

import httpx2
import mcp_types
import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

import harness
from harness import Gateway, Key

pytestmark = pytest.mark.anyio

ERAS = ["legacy", "2026-07-28", "auto"]


@contextlib.asynccontextmanager
async def connect(gateway: Gateway, key: Key, era: str) -> AsyncIterator[Client]:
    async with httpx2.AsyncClient(headers=key.bearer, timeout=60, trust_env=False) as http:
        transport = streamable_http_client(f"{gateway.url}/mcp", http_client=http)
        async with Client(transport, mode=era) as client:
            yield client


def text_of(result: mcp_types.CallToolResult) -> str:
    return "".join(block.text for block in result.content if isinstance(block, mcp_types.TextContent))


@pytest.mark.parametrize("era", ERAS)
async def test_tools_are_listed_and_called(gateway: Gateway, user: Key, era: str) -> None:
    async with connect(gateway, user, era) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert {"calculator", "chat", "file_reader", "gateway_status"} <= names
        result = await client.call_tool("calculator", {"expression": "6 * 7"})
        assert not result.is_error and "42" in text_of(result)


@pytest.mark.parametrize("era", ERAS)
async def test_resources_are_listed_and_read(gateway: Gateway, user: Key, era: str) -> None:
    async with connect(gateway, user, era) as client:
        resources = (await client.list_resources()).resources
        assert resources
        for resource in resources:
            contents = (await client.read_resource(str(resource.uri))).contents
            assert str(contents[0].uri) == str(resource.uri)


@pytest.mark.parametrize("era", ERAS)
async def test_wrong_arguments_are_told_to_the_model(gateway: Gateway, user: Key, era: str) -> None:
    async with connect(gateway, user, era) as client:
        result = await client.call_tool("calculator", {"expression": 7})
        assert result.is_error
        told = json.loads(text_of(result))
        assert told["code"] == "INVALID_ARGUMENTS" and "expression" in json.dumps(told)


@pytest.mark.parametrize("era", ERAS)
async def test_an_unknown_tool_is_an_error_of_the_protocol(gateway: Gateway, user: Key, era: str) -> None:
    async with connect(gateway, user, era) as client:
        with pytest.raises(MCPError) as caught:
            await client.call_tool("no_such_tool", {})
        assert caught.value.error.code == -32602


async def test_each_era_is_the_one_that_was_asked_for(gateway: Gateway, user: Key) -> None:
    async with connect(gateway, user, "legacy") as client:
        assert client.protocol_version == "2025-11-25"
    async with connect(gateway, user, "auto") as client:
        assert client.protocol_version == "2026-07-28"


@pytest.mark.parametrize("era", ERAS)
async def test_without_a_key_nobody_comes_in(gateway: Gateway, era: str) -> None:
    with pytest.raises(BaseException) as caught:
        async with connect(gateway, Key("", "fb_wrong"), era) as client:
            await client.list_tools()
    harness.expect_plain_words(str(caught.value))


@pytest.mark.parametrize("era", ERAS)
async def test_a_viewer_sees_only_what_a_viewer_may_call(gateway: Gateway, era: str) -> None:
    viewer = gateway.new_key("viewer")
    async with connect(gateway, viewer, era) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == {"gateway_status"}


@contextlib.asynccontextmanager
async def over_stdio(gateway: Gateway, key: Key, era: str) -> AsyncIterator[Client]:
    server = StdioServerParameters(
        command=str(harness.BINARY), args=["stdio"], env={"FOREBAY_URL": gateway.url, "FOREBAY_KEY": key.key}
    )
    with (gateway.folder / "stdio.log").open("a") as errors:
        async with Client(stdio_client(server, errlog=errors), mode=era) as client:
            yield client


@pytest.mark.parametrize("era", ERAS)
async def test_forebay_stdio_is_a_server_for_clients_that_start_commands(gateway: Gateway, user: Key, era: str) -> None:
    async with over_stdio(gateway, user, era) as client:
        assert "calculator" in {tool.name for tool in (await client.list_tools()).tools}
        result = await client.call_tool("calculator", {"expression": "2^10"})
        assert "1024" in text_of(result)
        assert (await client.list_resources()).resources


async def test_a_file_is_read_within_its_folder_and_nowhere_else(gateway: Gateway, user: Key) -> None:
    async with connect(gateway, user, "2026-07-28") as client:
        result = await client.call_tool("file_reader", {"path": "hello.txt"})
        assert not result.is_error and "hello from a file" in text_of(result)
        for path in ("../secret.txt", "/etc/passwd", "link.txt"):
            refused = await client.call_tool("file_reader", {"path": path})
            assert refused.is_error, path
            assert "never shown" not in text_of(refused) and "root:" not in text_of(refused)
