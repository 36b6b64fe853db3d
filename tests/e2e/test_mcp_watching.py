"""Resources of an upstream that takes its time to agree to a subscription: no change falls between."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from mcp.client.subscriptions import ResourceUpdated

import harness
from harness import Gateway, Key
from test_mcp_upstreams import FIXTURE, Server, connect

pytestmark = pytest.mark.anyio

WATCHED = "test://watched-resource"
OTHER = "test://static-text"
PATH = "/servers/slow/mcp"
AGREES_AFTER_MS = "700"
# Whoever hears nothing within this time was not told.
PATIENCE_SECONDS = 10


@pytest.fixture
def behind(start: Callable[..., Gateway], tmp_path: Any) -> Any:
    port = harness.free_port()
    command = [str(FIXTURE), str(tmp_path / "data"), f"127.0.0.1:{port}", AGREES_AFTER_MS]
    with harness.closing(Server("slow", command, tmp_path, port)):
        key = tmp_path / "data" / "admin.key"
        harness.wait_for("the fixture's key", key.exists)
        url = f"http://127.0.0.1:{port}/servers/fixture/mcp"
        slow = {"url": url, "auth": {"bearer": {"file": str(key)}}, "protocol": "modern"}
        gateway = start({"upstreams": {"slow": slow}})

        def there() -> bool:
            tools = gateway.rpc("tools/list", {}).json().get("result", {}).get("tools", [])
            return any(tool["name"].startswith("slow__") for tool in tools)

        harness.wait_for("the tools of the upstream", there)
        yield gateway


async def told(events: Any) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        while True:
            event = await anext(events)
            if isinstance(event, ResourceUpdated) and str(event.uri) == WATCHED:
                return


async def test_what_changes_right_after_subscribing_is_heard(behind: Gateway) -> None:
    key = behind.new_key("user")
    async with connect(behind, key, "2026-07-28", PATH) as client:
        async with client.listen(resource_subscriptions=[WATCHED]) as events:
            await client.call_tool("test_trigger_resource_change", {})
            await told(events)


async def test_what_changes_between_two_subscriptions_is_heard(behind: Gateway) -> None:
    """While the upstream has not agreed to the second one, and once it has."""
    key = behind.new_key("user")
    async with connect(behind, key, "2026-07-28", PATH) as first, connect(behind, key, "2026-07-28", PATH) as second:
        async with first.listen(resource_subscriptions=[WATCHED]) as events, anyio.create_task_group() as group:
            agreed = anyio.Event()

            async def another() -> None:
                async with second.listen(resource_subscriptions=[OTHER]):
                    agreed.set()
                    await anyio.sleep_forever()

            group.start_soon(another)
            changes = 0
            while not agreed.is_set() or changes < 2:
                await first.call_tool("test_trigger_resource_change", {})
                await told(events)
                changes += 1
            assert changes > 2, "some of them while nothing was agreed"
            group.cancel_scope.cancel()


async def test_whoever_subscribes_second_waits_for_the_first_ones_agreement(behind: Gateway) -> None:
    key: Key = behind.new_key("user")
    heard = anyio.create_memory_object_stream[str](math.inf)
    async with anyio.create_task_group() as group:

        async def subscribe(name: str) -> None:
            async with connect(behind, key, "2026-07-28", PATH) as client:
                async with client.listen(resource_subscriptions=[WATCHED]) as events:
                    await client.call_tool("test_trigger_resource_change", {})
                    await told(events)
                    await heard[0].send(name)

        group.start_soon(subscribe, "first")
        group.start_soon(subscribe, "second")
    assert {heard[1].receive_nowait(), heard[1].receive_nowait()} == {"first", "second"}
