"""Limits and what is spent, over real clients: sessions, events, and what another replica spends."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import anyio
import pytest

import harness
import market
import scripted as script
from harness import Gateway, Key
from market import Vast
from parts import Database
from scripted import Scripted
from test_mcp_upstreams import connect

pytestmark = pytest.mark.anyio
TOOL = {"name": "calculator", "arguments": {"expression": "1 + 1"}}
# Two calls fit, and a third does not.
SESSION = {
    "prices": {"tools": {"calculator": 0.4}},
    "budgets": [{"scope": "session", "window": "60m", "limit_usd": 1}],
    "limits": market.LIMITS,
}
PRICE = {"input": 1_000, "output": 2_000}
MONEY, MACHINES = "spending://current", "gpu://instances"


async def test_each_session_has_its_own_budget(start: Callable[..., Gateway]) -> None:
    gateway = start(SESSION)
    key = gateway.new_key("user")
    async with connect(gateway, key, "legacy") as one, connect(gateway, key, "legacy") as other:
        for _ in range(2):
            assert not (await one.call_tool("calculator", TOOL["arguments"])).is_error
        refused = await one.call_tool("calculator", TOOL["arguments"])
        assert refused.is_error and "session" in refused.content[0].text, refused
        assert "SPENDING_LIMIT_EXCEEDED" in refused.content[0].text
        assert not (await other.call_tool("calculator", TOOL["arguments"])).is_error, "the same key, another session"
    done = gateway.cli("spend", "-o", "json", key=key.key)
    assert done.returncode == 0, done.stderr
    plain = gateway.rpc("tools/call", TOOL, key).json()["result"]
    assert not plain.get("isError"), "who has no session is in none of their limits"


async def test_what_a_request_came_to_stands_on_its_event(start: Callable[..., Gateway], scripted: Scripted) -> None:
    config = {
        "models": {
            "paid": {"backends": [{"url": scripted.url, "model": "by-script"}], "price": PRICE},
            "unknown": {"backends": [{"url": scripted.url, "model": "by-script"}]},
        },
        "prices": {"tools": {"calculator": 0.25}},
        "limits": market.LIMITS,
    }
    gateway = start(config)
    key = gateway.new_key("user")

    def cost(trace: str, action: str) -> Any:
        def found() -> list[dict[str, Any]]:
            query = {"trace": trace}
            events = gateway.http.get("/api/v1/events", params=query, headers=gateway.admin.bearer).json()["events"]
            return [event for event in events if event["action"] == action]

        return harness.wait_for(f"the event {action}", found)[0].get("cost_usd")

    traces = {}
    for model in ("paid", "unknown"):
        scripted.will(script.say())
        body = {"model": model, "max_tokens": 10, "messages": [{"role": "user", "content": "Why?"}]}
        answer = gateway.chat(body, key.bearer)
        assert answer.status_code == 200, answer.text
        traces[model] = answer.headers["x-trace-id"]
    assert cost(traces["paid"], "model:paid") == 0.025
    assert cost(traces["unknown"], "model:unknown") is None
    called = gateway.rpc("tools/call", TOOL, key)
    assert cost(called.headers["x-trace-id"], "tool:calculator") == 0.25
    listed = gateway.http.get("/api/v1/billing/transactions", headers=key.bearer).json()["transactions"]
    assert {one["trace_id"] for one in listed} == {traces["paid"], called.headers["x-trace-id"]}


def pair(folder: pathlib.Path, database: Database, vast: Vast) -> tuple[Gateway, Gateway]:
    """Two replicas over one database."""
    url = database.cluster._replace(path=f"/{database.name}").geturl()
    budgets = [{"scope": "tenant", "window": "24h", "limit_usd": 50}]
    config = vast.config(store={"url": url}, budgets=budgets, prices={"tools": {"calculator": 0.01}})
    return Gateway(folder / "pair", config, VAST_KEY=market.VAST_KEY), Gateway(
        folder / "pair", config, VAST_KEY=market.VAST_KEY
    )


@pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")
async def test_subscribers_hear_of_what_another_replica_does(tmp_path: pathlib.Path, database: Database) -> None:
    with harness.closing(Vast()) as vast:
        one, other = pair(tmp_path, database, vast)
        with harness.closing(one), harness.closing(other):
            key = one.new_key("user")
            await hear_each_other(one, other, key)


async def hear_each_other(one: Gateway, other: Gateway, key: Key) -> None:
    heard = {MONEY: anyio.Event(), MACHINES: anyio.Event()}

    async def note(message: Any) -> None:
        if getattr(message, "method", "") == "notifications/resources/updated":
            heard[str(message.params.uri)].set()

    async with connect(one, key, "legacy", "/servers/gpu/mcp", message_handler=note) as subscriber:
        for uri in heard:
            await subscriber.subscribe_resource(uri)
        await anyio.to_thread.run_sync(lambda: market.told(other, key, "calculator", expression="1"))
        with anyio.fail_after(harness.WAIT_SECONDS_MAX):
            await heard[MONEY].wait()
        assert not heard[MACHINES].is_set(), "a tool is no machine"
        wish = await anyio.to_thread.run_sync(lambda: market.offer(other, key))
        made = await anyio.to_thread.run_sync(lambda: market.told(other, key, "create_gpu_instance", **wish))
        with anyio.fail_after(harness.WAIT_SECONDS_MAX):
            await heard[MACHINES].wait()
        gone = {"provider": "vast.ai", "instance_id": made["instance"]["id"]}
        await anyio.to_thread.run_sync(lambda: market.told(other, key, "destroy_gpu_instance", **gone))
