"""Machines over MCP as clients in the field call them: against a fake vast.ai, and over `local` for real."""

from __future__ import annotations

import contextlib
import json
import pathlib
import subprocess
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest
import requests
from mcp.client.subscriptions import ResourceUpdated

import harness
from harness import Gateway, Key
from market import IONET_KEY, LIMITS, RUNPOD_KEY, VAST_KEY, IoNet, RunPod, Vast
from test_mcp_upstreams import connect

SCRIPT = harness.ROOT / "scripts" / "test-mcp.sh"
LOOK_SECONDS_MAX = 30.0
BUDGETS = [
    {"scope": "tenant", "window": "60m", "limit_usd": 50},
    {"scope": "tenant", "window": "1440m", "limit_usd": 1000},
]


class PlainClient:
    """The client that the documentation shows, in its own words."""

    def __init__(self, base_url: str, api_key: str) -> None:
        self.base_url = base_url
        self.headers = {"Content-Type": "application/json", "X-API-Key": api_key}
        self.request_id = 0

    def call_tool(self, tool_name: str, arguments: dict[str, Any] | None = None) -> Any:
        self.request_id += 1
        payload = {
            "jsonrpc": "2.0",
            "method": "tools/call",
            "params": {"name": tool_name, "arguments": arguments or {}},
            "id": self.request_id,
        }
        answer = requests.post(f"{self.base_url}/api/v1/mcp", headers=self.headers, json=payload, timeout=60)
        return answer.json()

    def told(self, tool_name: str, arguments: dict[str, Any] | None = None) -> Any:
        result = self.call_tool(tool_name, arguments)["result"]
        assert not result.get("isError"), result
        return json.loads(result["content"][0]["text"])


@pytest.fixture(scope="module")
def vast() -> Iterator[Vast]:
    with harness.closing(Vast()) as started:
        yield started


@pytest.fixture(scope="module")
def ionet() -> Iterator[IoNet]:
    with harness.closing(IoNet()) as started:
        yield started


@pytest.fixture(scope="module")
def runpod() -> Iterator[RunPod]:
    with harness.closing(RunPod()) as started:
        yield started


@pytest.fixture(scope="module")
def machines(folder: pathlib.Path, vast: Vast, ionet: IoNet, runpod: RunPod) -> Iterator[Gateway]:
    markets = {**vast.section(), **ionet.section(), **runpod.section(), "local": {"cpu_slots": 2}}
    config = {"budgets": BUDGETS, "limits": LIMITS, "markets": markets}
    keys = {"VAST_KEY": VAST_KEY, "IONET_KEY": IONET_KEY, "RUNPOD_KEY": RUNPOD_KEY}
    with harness.closing(Gateway(folder / "machines", config, **keys)) as started:
        yield started


@pytest.fixture(scope="module")
def owner(machines: Gateway) -> Key:
    return machines.new_key("user")


@pytest.fixture(scope="module")
def client(machines: Gateway, owner: Key) -> PlainClient:
    return PlainClient(machines.url, owner.key)


PROVIDERS = pytest.mark.parametrize("provider", ["vast.ai", "io.net", "runpod", "local"])


@PROVIDERS
def test_example_1_all_available_instances_under_two_dollars_are_shown(client: PlainClient, provider: str) -> None:
    everywhere = client.told("list_gpu_instances", {"max_price": 2.0})["instances"]
    found = [one for one in everywhere if one["provider"] == provider]
    assert found and all(one["price_per_hour_usd"] <= 2.0 for one in found)
    assert {"provider", "instance_id", "gpu", "vram_gb", "price_per_hour_usd"} <= found[0].keys()
    alone = client.told("list_gpu_instances", {"provider": provider, "max_price": 2.0})["instances"]
    # The cheapest hundred of all of them, and the cheapest hundred there.
    assert [one["id"] for one in alone][: len(found)] == [one["id"] for one in found]


def test_example_2_whether_it_can_be_afforded_is_said_for_each_window(client: PlainClient) -> None:
    checked = client.told("check_spending_limit", {"estimated_cost": 3.0})
    assert checked["allowed"] is True
    assert {window["window_minutes"]: window["limit_usd"] for window in checked["windows"]} == {60: 50.0, 1440: 1000.0}
    assert {window["status"] for window in checked["windows"]} == {"ok"}
    assert client.told("check_spending_limit", {"estimated_cost": 51})["allowed"] is False


@PROVIDERS
def test_example_3_an_instance_is_created_and_destroyed_by_the_id_of_its_offer(
    machines: Gateway, ionet: IoNet, provider: str
) -> None:
    client = PlainClient(machines.url, machines.new_key("user").key)
    offer = client.told("list_gpu_instances", {"provider": provider})["instances"][0]["instance_id"]
    created = client.told("create_gpu_instance", {"provider": provider, "instance_id": offer})
    assert created["instance"]["offer_id"] == f"{provider}:{offer}"
    costs = provider != "local"
    if costs:
        window = client.told("get_spending_info")["windows"][0]
        assert window["held_usd"] + window["spent_usd"] > 0
    client.told("destroy_gpu_instance", {"provider": provider, "instance_id": offer})
    # A deployment there takes a while to end. Lists of others may lag by a minute: until then no absence counts.
    ionet.advance(300)
    gone_within = 150.0 if costs else LOOK_SECONDS_MAX
    harness.wait_for("the machine is gone", lambda: not client.told("list_my_gpu_instances")["instances"], gone_within)
    spent = client.told("get_billing_transactions")["transactions"]
    assert {one["purpose"] for one in spent} == ({"machine"} if costs else set())


def test_a_local_slot_is_rented_reports_itself_and_ends(machines: Gateway, client: PlainClient) -> None:
    slot = client.told("list_gpu_instances", {"provider": "local"})["instances"][0]
    made = client.told("create_gpu_instance", {"provider": "local", "instance_id": slot["instance_id"]})["instance"]

    def reported() -> bool:
        return client.told("get_gpu_instance", {"instance_id": made["id"]})["agent"] == "reported"

    harness.wait_for("its agent has reported itself", reported)
    listed = machines.cli("gpu", "ps", "-o", "json", key=client.headers["X-API-Key"])
    assert [one["id"] for one in json.loads(listed.stdout)] == [made["id"]], listed.stderr
    client.told("destroy_gpu_instance", {"provider": "local", "instance_id": made["id"]})
    harness.wait_for("the slot is free", lambda: not client.told("list_my_gpu_instances")["instances"])


def test_the_command_line_quotes_tries_rents_and_destroys(machines: Gateway, owner: Key) -> None:
    def cli(*words: str) -> Any:
        done = machines.cli("gpu", *words, "-o", "json", key=owner.key)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    offer = cli("list", "--provider", "vast.ai", "--min-vram", "24")["offers"][0]["id"]
    quote = cli("quote", offer, "--hours", "2")
    assert quote["allowed"] and quote["hours"] == 2
    assert cli("create", offer, "--dry-run")["outcome"] == "dry_run"
    assert cli("ps") == []
    made = cli("create", "--quote", quote["id"])["instance"]
    assert cli("destroy", made["id"], "--dry-run")["state"] not in ("destroying", "gone")
    cli("destroy", made["id"])
    harness.wait_for("it is gone", lambda: cli("ps") == [])
    for minutes in (0, 525_601):
        wish = {"offer_id": offer, "idle_minutes": minutes, "dry_run": True}
        wrong = machines.http.post("/api/v1/gpu/instances", json=wish, headers=owner.bearer)
        assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_arguments"), wrong.text
    poor = machines.new_key("user")
    limit = ("budget", "set", "0.001", "--window", "60m", "--scope", "key", "--id", poor.id)
    assert machines.cli(*limit, key=machines.new_key("operator").key).returncode == 0
    # Of a provider that lets itself be asked as often as anybody likes.
    other = cli("list", "--provider", "io.net")["offers"][0]["id"]
    refused = machines.cli("gpu", "create", other, "--dry-run", key=poor.key)
    assert refused.returncode == 6 and "would be refused" in refused.stdout, refused.stderr
    beyond = machines.cli("spend", "--can", "1001", key=owner.key)
    assert beyond.returncode == 6 and "limit" in beyond.stderr, beyond.stderr


def test_the_script_of_the_documentation_calls_the_endpoint(machines: Gateway, owner: Key) -> None:
    # Renting is at io.net: vast.ai lets four offers a minute be looked up, and the others here take them.
    def script(*words: str) -> Any:
        env = harness.clean_env(FOREBAY_URL=machines.url, FOREBAY_KEY=owner.key, no_proxy="*")
        done = subprocess.run([str(SCRIPT), *words], env=env, capture_output=True, text=True, timeout=60, check=True)
        return json.loads(done.stdout)["result"]

    assert script("initialize")["protocolVersion"] == "2024-11-05"
    assert {
        "list_gpu_instances",
        "create_gpu_instance",
        "destroy_gpu_instance",
        "get_spending_info",
        "check_spending_limit",
        "get_billing_transactions",
        "proxy_inference_request",
    } <= {tool["name"] for tool in script("tools/list")["tools"]}

    def told(name: str, arguments: dict[str, Any]) -> Any:
        return json.loads(script("tools/call", name, json.dumps(arguments))["content"][0]["text"])

    assert {one["provider"] for one in told("list_gpu_instances", {"provider": "all"})["instances"]} >= {
        "vast.ai",
        "io.net",
        "runpod",
        "local",
    }
    wish = {"provider": "vast.ai", "min_vram": 24, "max_price": 1.5}
    found = told("list_gpu_instances", wish)["instances"]
    assert found and all(one["vram_gb"] >= 24 and one["price_per_hour_usd"] <= 1.5 for one in found)
    found = told("list_gpu_instances", {"provider": "io.net", "min_vram": 24, "max_price": 1.5})["instances"]
    one = {"provider": "io.net", "instance_id": found[0]["instance_id"]}
    made = told("create_gpu_instance", {**one, "image": "nvidia/cuda:12.0.0-base-ubuntu22.04"})["instance"]
    assert made["image"] == "nvidia/cuda:12.0.0-base-ubuntu22.04"
    window = told("get_spending_info", {})["windows"][0]
    assert window["held_usd"] + window["spent_usd"] > 0
    assert told("check_spending_limit", {"estimated_cost": 25.00})["allowed"] is True
    told("destroy_gpu_instance", one)
    assert told("get_billing_transactions", {})["transactions"]
    assert {one["uri"] for one in script("resources/list")["resources"]} >= {"gpu://instances", "spending://current"}
    assert json.loads(script("resources/read", "gpu://instances")["contents"][0]["text"])["instances"]
    assert script("resources/read", "spending://current")["contents"][0]["uri"] == "spending://current"


@contextlib.asynccontextmanager
async def hearing(gateway: Gateway, key: Key, era: str, path: str) -> AsyncIterator[dict[str, anyio.Event]]:
    """Somebody who listens for machines and for money, by whatever way that era has."""
    heard: dict[str, anyio.Event] = {"gpu://instances": anyio.Event(), "spending://current": anyio.Event()}
    if era == "legacy":

        async def note(message: Any) -> None:
            if getattr(message, "method", "") == "notifications/resources/updated":
                heard[str(message.params.uri)].set()

        async with connect(gateway, key, era, path, message_handler=note) as subscriber:
            for uri in heard:
                await subscriber.subscribe_resource(uri)
            yield heard
        return
    async with connect(gateway, key, era, path) as subscriber:
        async with subscriber.listen(resource_subscriptions=list(heard)) as events, anyio.create_task_group() as group:

            async def follow() -> None:
                async for event in events:
                    if isinstance(event, ResourceUpdated):
                        heard[str(event.uri)].set()

            group.start_soon(follow)
            yield heard
            group.cancel_scope.cancel()


def rented(client: PlainClient, provider: str) -> Any:
    """The first that is still there: a list may show for a moment what another test has just taken."""
    for offer in client.told("list_gpu_instances", {"provider": provider})["instances"]:
        wish = {"provider": provider, "instance_id": offer["instance_id"]}
        result = client.call_tool("create_gpu_instance", wish)["result"]
        said = json.loads(result["content"][0]["text"])
        if said.get("code") != "UNKNOWN_OFFER":
            assert not result.get("isError"), result
            return said
    raise AssertionError(f"nothing is left at {provider}")


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")
@pytest.mark.parametrize("path", ["/mcp", "/servers/gpu/mcp"])
@pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
async def test_subscribers_hear_of_machines_and_of_money(machines: Gateway, era: str, path: str) -> None:
    # Each has machines of its own, and io.net counts no searches.
    owner = machines.new_key("user")
    client = PlainClient(machines.url, owner.key)
    async with hearing(machines, owner, era, path) as heard:
        made = await anyio.to_thread.run_sync(lambda: rented(client, "io.net"))
        with anyio.fail_after(harness.WAIT_SECONDS_MAX):
            for event in heard.values():
                await event.wait()
        gone = {"provider": "io.net", "instance_id": made["instance"]["id"]}
        await anyio.to_thread.run_sync(lambda: client.told("destroy_gpu_instance", gone))


def test_a_gateway_that_is_killed_after_a_create_still_has_the_machine(folder: pathlib.Path, vast: Vast) -> None:
    config, env = vast.config(budgets=BUDGETS), {"VAST_KEY": VAST_KEY}
    first = Gateway(folder / "killed", config, **env)
    key = first.new_key("user")
    client = PlainClient(first.url, key.key)
    offer = client.told("list_gpu_instances", {"provider": "vast.ai"})["instances"][0]["instance_id"]
    made = client.told("create_gpu_instance", {"provider": "vast.ai", "instance_id": offer})["instance"]
    first.close()
    with harness.closing(Gateway(folder / "killed", config, **env)) as second:
        client = PlainClient(second.url, key.key)
        mine = client.told("list_my_gpu_instances")["instances"]
        assert [one["id"] for one in mine] == [made["id"]]
        client.told("destroy_gpu_instance", {"provider": "vast.ai", "instance_id": made["id"]})
        # That the one before is dead can be seen here: nobody waits for its seat to lapse.
        harness.wait_for("it is gone", lambda: not client.told("list_my_gpu_instances")["instances"])


def test_what_nobody_can_see_or_reach_of_a_local_machine_is_refused(folder: pathlib.Path) -> None:
    config = {"limits": LIMITS, "markets": {"local": {"cpu_slots": 1}}, "rentals": {"idle_minutes": 1}}
    with harness.closing(Gateway(folder / "unseen", config)) as gateway:
        key = gateway.new_key("user").bearer
        offers = gateway.http.get("/api/v1/gpu/offers", params={"provider": "local"}, headers=key).json()["offers"]
        offer = {"provider": "local", "instance_id": offers[0]["instance_id"], "dry_run": True}
        for wish in ({"ports": [8000]}, {"idle_minutes": 5}):
            refused = gateway.http.post("/api/v1/gpu/instances", json=offer | wish, headers=key)
            assert (refused.status_code, refused.json()["code"]) == (422, "invalid_arguments"), refused.text
        made = gateway.http.post("/api/v1/gpu/instances", json=offer | {"dry_run": False}, headers=key)
        assert made.is_success, made.text


def test_a_local_machine_is_gone_with_its_gateway_at_the_first_look(folder: pathlib.Path) -> None:
    config = {"limits": LIMITS, "markets": {"local": {"cpu_slots": 1}}}
    first = Gateway(folder / "killed-local", config)
    key = first.new_key("user")
    client = PlainClient(first.url, key.key)
    slot = client.told("list_gpu_instances", {"provider": "local"})["instances"][0]["instance_id"]
    made = client.told("create_gpu_instance", {"provider": "local", "instance_id": slot})["instance"]
    first.close()
    with harness.closing(Gateway(folder / "killed-local", config)) as second:
        client = PlainClient(second.url, key.key)
        # A seat lapses after two minutes; this is over long before.
        harness.wait_for("it is gone", lambda: not client.told("list_my_gpu_instances")["instances"], LOOK_SECONDS_MAX)
        gone = client.told("get_gpu_instance", {"instance_id": made["id"]})
        assert (gone["state"], gone["why"]) == ("gone", "gateway_ended")
        # And the slot is for rent again.
        assert client.told("list_gpu_instances", {"provider": "local"})["instances"][0]["instance_id"] == slot
