"""Real MCP servers behind the gateway, over every transport, for clients of every era."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import pathlib
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import httpx2
import mcp_types
import pytest
from mcp import Client, MCPError
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ResourceUpdated, ToolsListChanged

import harness
from harness import Gateway, Key
from npm import MODULES, VENV, drive

pytestmark = pytest.mark.anyio

OFFICIAL = MODULES / "@modelcontextprotocol"
EVERYTHING = OFFICIAL / "server-everything" / "dist" / "index.js"
FIXTURE = harness.TARGET / "debug" / "forebay-fixture"


@dataclasses.dataclass
class Probe:
    """A tool of an upstream, and a word that its answer holds."""

    tool: str
    arguments: dict[str, Any]
    word: str


HELLO = Probe("echo", {"message": "hello upstream"}, "hello upstream")
SIMPLE = Probe("test_simple_text", {}, "simple text response")
PROBES = {
    "everything-stdio": HELLO,
    "everything-http": HELLO,
    "everything-sse": HELLO,
    "testkit-stdio": HELLO,
    "testkit-http": HELLO,
    "files": Probe("read_text_file", {"path": "hello.txt"}, "hello from a file"),
    "memory": Probe("read_graph", {}, "entities"),
    "fixture-modern": SIMPLE,
    "fixture-legacy": SIMPLE,
    "fixture-auto": SIMPLE,
}


class Server(harness.Process):
    """One server with a port of its own; ready once it answers anything at all."""

    def __init__(self, name: str, command: list[str], folder: pathlib.Path, port: int, **env: str) -> None:
        self.port = port
        super().__init__(name, command, folder / f"{name}.log", harness.clean_env(**env))

        def listening() -> bool:
            assert self.child.poll() is None, self.log
            with contextlib.suppress(OSError):
                harness.socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return True
            return False

        harness.wait_for(f"{name} to listen", listening)

    def close(self) -> None:
        self.kill()


def node(script: pathlib.Path, *args: str) -> dict[str, Any]:
    return {"command": "node", "args": [str(script), *args]}


@pytest.fixture(scope="module")
def upstreams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The section `upstreams` for servers that run, or that the gateway shall run."""
    folder = tmp_path_factory.mktemp("upstreams")
    (folder / "hello.txt").write_text("hello from a file\n", encoding="utf-8")
    servers = str(VENV / "servers")
    testkit = ["-m", "mcp_test_server.server"]
    ports = {name: harness.free_port() for name in ("http", "sse", "testkit", "fixture")}
    with contextlib.ExitStack() as running:

        def run(name: str, port: int, *command: str, **env: str) -> None:
            running.enter_context(harness.closing(Server(name, list(command), folder, port, **env)))

        http, sse, kit, fixture = ports.values()
        run("everything-http", http, "node", str(EVERYTHING), "streamableHttp", PORT=str(http))
        run("everything-sse", sse, "node", str(EVERYTHING), "sse", PORT=str(sse))
        options = ("--transport", "http", "--port", str(kit))
        run("testkit-http", kit, sys.executable, *testkit, *options, PYTHONPATH=servers)
        run("fixture", fixture, str(FIXTURE), str(folder / "fixture"), f"127.0.0.1:{fixture}")
        harness.wait_for("the fixture's key", (folder / "fixture" / "admin.key").exists)
        key = {"auth": {"bearer": {"file": str(folder / "fixture" / "admin.key")}}}
        url = {"url": f"http://127.0.0.1:{fixture}/servers/fixture/mcp"} | key
        yield {
            "everything-stdio": node(EVERYTHING, "stdio"),
            "everything-http": {"url": f"http://127.0.0.1:{http}/mcp"},
            "everything-sse": {"url": f"http://127.0.0.1:{sse}/sse"},
            "testkit-stdio": {"command": sys.executable, "args": testkit, "env": {"PYTHONPATH": servers}},
            "testkit-http": {"url": f"http://127.0.0.1:{kit}/mcp"},
            "files": node(OFFICIAL / "server-filesystem" / "dist" / "index.js", str(folder)) | {"cwd": str(folder)},
            "memory": node(OFFICIAL / "server-memory" / "dist" / "index.js")
            | {"env": {"MEMORY_FILE_PATH": str(folder / "memory.jsonl")}},
            "fixture-modern": url | {"protocol": "modern"},
            "fixture-legacy": url | {"protocol": "legacy"},
            "fixture-auto": url,
        }


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory, upstreams: dict[str, Any]) -> Iterator[Gateway]:
    """A gateway before all of them, once it knows them all."""
    limits = {"requests_per_minute": 1_000_000, "tool_calls_per_minute": 1_000_000}
    config = {"upstreams": upstreams, "limits": limits}
    with harness.closing(Gateway(tmp_path_factory.mktemp("federation"), config)) as gateway:

        def all_there() -> bool:
            told = gateway.rpc("tools/list", {}).json()
            names = {tool["name"].partition("__")[0] for tool in told.get("result", {}).get("tools", [])}
            return names >= PROBES.keys()

        harness.wait_for("the tools of all upstreams", all_there)
        yield gateway


@pytest.fixture(scope="module")
def caller(federation: Gateway) -> Key:
    return federation.new_key("user")


@contextlib.asynccontextmanager
async def connect(gateway: Gateway, key: Key, era: str, path: str = "/mcp", **callbacks: Any) -> AsyncIterator[Client]:
    if era == "sse":
        async with Client(sse_client(f"{gateway.url}{path}/sse", headers=key.bearer), mode="legacy") as client:
            yield client
        return
    async with httpx2.AsyncClient(headers=key.bearer, timeout=60, trust_env=False) as http:
        transport = streamable_http_client(f"{gateway.url}{path}", http_client=http)
        async with Client(transport, mode=era, **callbacks) as client:
            yield client


@pytest.mark.parametrize("era", ["legacy", "2026-07-28", "auto", "sse"])
@pytest.mark.parametrize("upstream", PROBES)
async def test_every_era_of_client_uses_every_era_of_upstream(
    federation: Gateway, caller: Key, era: str, upstream: str
) -> None:
    probe = PROBES[upstream]
    async with connect(federation, caller, era) as client:
        assert f"{upstream}__{probe.tool}" in {tool.name for tool in (await client.list_tools()).tools}
        result = await client.call_tool(f"{upstream}__{probe.tool}", probe.arguments)
        assert not result.is_error and probe.word in json.dumps([block.model_dump() for block in result.content])


@pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
@pytest.mark.parametrize("upstream", PROBES)
async def test_under_its_own_path_a_server_has_its_own_names(
    federation: Gateway, caller: Key, era: str, upstream: str
) -> None:
    probe = PROBES[upstream]
    async with connect(federation, caller, era, f"/servers/{upstream}/mcp") as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert probe.tool in names and not any("__" in name for name in names)
        result = await client.call_tool(probe.tool, probe.arguments)
        assert not result.is_error


@pytest.mark.parametrize("plan", [{"client": "sdk"}, {"client": "client", "mode": "2026-07-28"}], ids=["sdk", "modern"])
@pytest.mark.parametrize("upstream", ["everything-stdio", "everything-http", "fixture-modern"])
def test_npm_clients_reach_upstreams_too(federation: Gateway, caller: Key, plan: dict[str, Any], upstream: str) -> None:
    probe = PROBES[upstream]
    call = {"name": f"{upstream}__{probe.tool}", "arguments": probe.arguments}
    [called] = drive(federation, caller, "/mcp", [("callTool", call)], **plan)
    assert probe.word in json.dumps(called["result"]["content"])


@pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
@pytest.mark.parametrize("upstream", ["everything-stdio", "everything-http", "fixture-modern", "fixture-legacy"])
async def test_progress_comes_through(federation: Gateway, caller: Key, era: str, upstream: str) -> None:
    seen: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)

    tool, arguments = "test_tool_with_progress", {}
    if upstream.startswith("everything"):
        tool, arguments = "trigger-long-running-operation", {"duration": 1, "steps": 3}
    async with connect(federation, caller, era) as client:
        result = await client.call_tool(f"{upstream}__{tool}", arguments, progress_callback=note)
        assert not result.is_error
    assert len(seen) >= 3 and seen == sorted(seen)


async def test_a_resource_and_a_prompt_come_through(federation: Gateway, caller: Key) -> None:
    path = "/servers/everything-stdio/mcp"
    async with connect(federation, caller, "2026-07-28", path) as client:
        resources = (await client.list_resources()).resources
        assert resources
        contents = (await client.read_resource(str(resources[0].uri))).contents
        assert contents
        prompts = (await client.list_prompts()).prompts
        assert prompts
        simple = next(prompt for prompt in prompts if not any(arg.required for arg in prompt.arguments or []))
        assert (await client.get_prompt(simple.name)).messages


async def test_nothing_of_a_definition_is_lost(federation: Gateway, caller: Key) -> None:
    """What no SDK knows stays: the definition behind the gateway is the definition, but for its name."""
    modern = federation.rpc("tools/list", {}, caller).json()["result"]["tools"]
    rich = next(tool for tool in modern if tool["name"] == "fixture-modern__json_schema_2020_12_tool")
    assert rich["inputSchema"]["$defs"]["address"]["$anchor"] == "addressDef"
    assert rich["inputSchema"]["allOf"][0]["anyOf"] and rich["inputSchema"]["if"]


async def test_no_server_hears_the_callers_key(federation: Gateway, caller: Key, upstreams: dict[str, Any]) -> None:
    """The environment of a child holds nothing of the gateway's, and no header of the caller's reaches it."""
    async with connect(federation, caller, "2026-07-28") as client:
        result = await client.call_tool("everything-stdio__get-env", {})
    told = json.dumps([block.model_dump() for block in result.content])
    assert "PATH" in told
    assert caller.key not in told and federation.admin.key not in told and "FOREBAY" not in told


async def sampled(_: Any, params: mcp_types.CreateMessageRequestParams) -> mcp_types.CreateMessageResult:
    content = mcp_types.TextContent(type="text", text="a sampled answer")
    return mcp_types.CreateMessageResult(role="assistant", content=content, model="none")


async def filled_in(_: Any, params: mcp_types.ElicitRequestParams) -> mcp_types.ElicitResult:
    return mcp_types.ElicitResult(action="accept", content={"username": "ada", "email": "ada@example.com"})


async def rooted(_: Any) -> mcp_types.ListRootsResult:
    return mcp_types.ListRootsResult(roots=[mcp_types.Root(uri="file:///a/root", name="a root")])


ANSWERS = {"sampling_callback": sampled, "elicitation_callback": filled_in, "list_roots_callback": rooted}


@pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
@pytest.mark.parametrize("upstream", ["fixture-modern", "fixture-legacy"])
async def test_questions_reach_the_client_and_its_answers_the_upstream(
    federation: Gateway, caller: Key, era: str, upstream: str
) -> None:
    """Asked in the midst of a call, or at the end of a round; whichever of the two sides knows only the other way."""
    async with connect(federation, caller, era, **ANSWERS) as client:
        for tool, arguments, word in (
            ("test_sampling", {"prompt": "Anything"}, "a sampled answer"),
            ("test_elicitation", {"message": "Who are you?"}, "ada@example.com"),
            ("test_input_required_result_sampling", {}, "a sampled answer"),
            ("test_input_required_result_list_roots", {}, "file:///a/root"),
            ("test_input_required_result_multi_round", {}, "Both steps"),
        ):
            result = await client.call_tool(f"{upstream}__{tool}", arguments)
            told = json.dumps([block.model_dump() for block in result.content])
            assert not result.is_error and word in told, f"{tool}: {told}"


@pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
async def test_what_a_client_cannot_answer_it_is_not_asked(federation: Gateway, caller: Key, era: str) -> None:
    async with connect(federation, caller, era) as client:
        with pytest.raises(MCPError) as caught:
            await client.call_tool("fixture-modern__test_sampling", {"prompt": "Anything"})
        assert caught.value.error.code == -32021
        assert caught.value.error.data["requiredCapabilities"] == {"sampling": {}}


@pytest.mark.parametrize("upstream", ["fixture-modern", "fixture-legacy"])
async def test_a_change_of_an_upstreams_list_is_told_to_sessions(
    federation: Gateway, caller: Key, upstream: str
) -> None:
    news, heard = anyio.create_memory_object_stream[str](math.inf)

    async def note(message: Any) -> None:
        await news.send(getattr(message, "method", repr(message)))

    async with connect(federation, caller, "legacy", message_handler=note) as client:
        extra = f"{upstream}__test_dynamic_tool"
        before = extra in {tool.name for tool in (await client.list_tools()).tools}
        await client.call_tool(f"{upstream}__test_trigger_tool_change", {})
        with anyio.fail_after(harness.WAIT_SECONDS_MAX):
            # Three upstreams are the same server, and each tells of its change when the gateway has listed it anew.
            while (extra in {tool.name for tool in (await client.list_tools()).tools}) == before:
                while await heard.receive() != "notifications/tools/list_changed":
                    pass


@pytest.mark.parametrize("upstream", ["fixture-modern", "fixture-legacy"])
async def test_a_listener_of_the_modern_era_hears_an_upstream_of_either(
    federation: Gateway, caller: Key, upstream: str
) -> None:
    watched = "test://watched-resource"
    path = f"/servers/{upstream}/mcp"
    async with connect(federation, caller, "2026-07-28", path) as client:
        async with client.listen(tools_list_changed=True, resource_subscriptions=[watched]) as events:
            for tool, expected in (
                ("test_trigger_tool_change", ToolsListChanged),
                ("test_trigger_resource_change", ResourceUpdated),
            ):
                await client.call_tool(tool, {})
                with anyio.fail_after(harness.WAIT_SECONDS_MAX):
                    # The legacy upstream also tells of its list once more where the gateway has just connected.
                    while not isinstance(await anext(events), expected):
                        pass


@pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")
@pytest.mark.parametrize("upstream", ["fixture-modern", "fixture-legacy"])
async def test_a_subscriber_of_a_legacy_session_hears_an_upstream_of_either(
    federation: Gateway, caller: Key, upstream: str
) -> None:
    watched = "test://watched-resource"
    told = anyio.Event()

    async def note(message: Any) -> None:
        if getattr(message, "method", "") == "notifications/resources/updated" and str(message.params.uri) == watched:
            told.set()

    async with connect(federation, caller, "legacy", f"/servers/{upstream}/mcp", message_handler=note) as client:
        await client.subscribe_resource(watched)
        await client.call_tool("test_trigger_resource_change", {})
        with anyio.fail_after(harness.WAIT_SECONDS_MAX):
            await told.wait()
