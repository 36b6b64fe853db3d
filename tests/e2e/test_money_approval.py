"""Renting that somebody has to agree to: by the official client, which asks its user, and by one that cannot."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import mcp_types
import pytest

import harness
import market
from harness import Gateway, Key
from market import Vast
from test_mcp_upstreams import connect

pytestmark = pytest.mark.anyio
ERAS = pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
PATH = "/servers/gpu/mcp"


@pytest.fixture(scope="module")
def vast() -> Iterator[Vast]:
    with harness.closing(Vast()) as started:
        yield started


@pytest.fixture
def careful(tmp_path: pathlib.Path, vast: Vast) -> Iterator[Gateway]:
    """A gateway at which nothing is rented before somebody has agreed.

    A new one each time: it keeps the pace of its provider, who allows few searches a minute.
    """
    config = vast.config(rentals={"approval": "always"})
    with harness.closing(Gateway(tmp_path / "careful", config, VAST_KEY=market.VAST_KEY)) as started:
        yield started


@pytest.fixture
def owner(careful: Gateway) -> Key:
    return careful.new_key("user")


class User:
    """Somebody in front of a client, who answers as the test says, and remembers what was asked."""

    def __init__(self, action: str, **content: Any) -> None:
        self.action, self.content, self.asked = action, content, []

    async def __call__(self, _: Any, params: mcp_types.ElicitRequestParams) -> mcp_types.ElicitResult:
        self.asked.append(params)
        content = self.content if self.action == "accept" else None
        return mcp_types.ElicitResult(action=self.action, content=content)


def structured(result: Any) -> dict[str, Any]:
    return json.loads(result.content[0].text)


@ERAS
async def test_who_agrees_rents_what_was_shown(careful: Gateway, owner: Key, vast: Vast, era: str) -> None:
    user, wish = User("accept", approve=True), market.offer(careful, owner)
    before = vast.state()["created"]
    async with connect(careful, owner, era, PATH, elicitation_callback=user) as client:
        result = await client.call_tool("create_gpu_instance", wish | {"hours": 2})
    assert not result.is_error, result
    made = structured(result)
    assert made["outcome"] == "rented" and made["instance"]["offer_id"] == f"vast.ai:{wish['instance_id']}"
    assert vast.state()["created"] == before + 1
    [question] = user.asked
    price = made["instance"]["price_per_hour_usd"]
    assert f"${price}" in question.message and "2 hours" in question.message, question.message
    assert set(question.requested_schema["properties"]) == {"approve"}
    market.told(careful, owner, "destroy_gpu_instance", provider="vast.ai", instance_id=made["instance"]["id"])


@ERAS
@pytest.mark.parametrize(
    "user",
    [User("decline"), User("cancel"), User("accept", approve=False)],
    ids=["declines", "turns away", "unticks"],
)
async def test_who_does_not_agree_rents_nothing(careful: Gateway, owner: Key, vast: Vast, era: str, user: User) -> None:
    wish, before = market.offer(careful, owner), vast.state()["created"]
    async with connect(careful, owner, era, PATH, elicitation_callback=user) as client:
        result = await client.call_tool("create_gpu_instance", wish)
    assert result.is_error and structured(result)["code"] == "TOOL_REFUSED", result
    assert len(user.asked) >= 1 and vast.state()["created"] == before


@ERAS
async def test_a_model_cannot_agree_in_its_users_place(careful: Gateway, owner: Key, vast: Vast, era: str) -> None:
    """It has a quote made, and brings it along at once: its user is asked all the same."""
    user, wish = User("decline"), market.offer(careful, owner)
    before = vast.state()["created"]
    async with connect(careful, owner, era, PATH, elicitation_callback=user) as client:
        quote = structured(await client.call_tool("quote_gpu_instance", wish))
        assert quote["needs_approval"] is True
        result = await client.call_tool("create_gpu_instance", wish | {"quote_id": quote["id"]})
    assert result.is_error and len(user.asked) == 1, result
    assert vast.state()["created"] == before


@ERAS
async def test_a_client_that_cannot_ask_gets_a_quote_and_brings_it_along(
    careful: Gateway, owner: Key, vast: Vast, era: str
) -> None:
    wish, before = market.offer(careful, owner), vast.state()["created"]
    async with connect(careful, owner, era, PATH) as client:
        asked = structured(await client.call_tool("create_gpu_instance", wish))
        assert asked["outcome"] == "needs_approval" and "quote_id" in asked["next"]
        assert vast.state()["created"] == before
        agreed = wish | {"quote_id": asked["quote"]["id"]}
        made = structured(await client.call_tool("create_gpu_instance", agreed))
        assert made["outcome"] == "rented" and vast.state()["created"] == before + 1
        again = structured(await client.call_tool("create_gpu_instance", agreed))
    assert again["instance"]["id"] == made["instance"]["id"], "a quote is rented once"
    assert vast.state()["created"] == before + 1
    market.told(careful, owner, "destroy_gpu_instance", provider="vast.ai", instance_id=made["instance"]["id"])


@ERAS
@pytest.mark.parametrize("stranger", ["user", "tenant"])
async def test_a_quote_is_no_use_to_anybody_else(careful: Gateway, owner: Key, era: str, stranger: str) -> None:
    wish = market.offer(careful, owner)
    quote = market.told(careful, owner, "quote_gpu_instance", **wish)["id"]
    other = careful.new_key("user", tenant="acme" if stranger == "user" else "umbrella")
    async with connect(careful, other, era, PATH) as client:
        result = await client.call_tool("create_gpu_instance", wish | {"quote_id": quote})
    assert result.is_error and structured(result)["code"] == "UNKNOWN_QUOTE", result


def raw_call(gateway: Gateway, key: Key, capabilities: dict[str, Any], **params: Any) -> dict[str, Any]:
    """A call of 2026-07-28 as it goes over the wire."""
    name = "io.modelcontextprotocol/"
    meta = {
        name + "protocolVersion": "2026-07-28",
        name + "clientCapabilities": capabilities,
        name + "clientInfo": {"name": "raw", "version": "1"},
    }
    params = {"name": "create_gpu_instance", "_meta": meta, **params}
    headers = key.bearer | {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": "create_gpu_instance",
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    answer = gateway.http.post(PATH, json=message, headers=headers)
    if answer.headers["content-type"].startswith("text/event-stream"):
        data = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
        return json.loads(data[-1])
    return answer.json()


async def test_rounds_of_the_newest_version_go_over_the_wire_as_it_says(
    careful: Gateway, owner: Key, vast: Vast
) -> None:
    wish, before = market.offer(careful, owner), vast.state()["created"]
    forms = {"elicitation": {"form": {}}}
    asked = raw_call(careful, owner, forms, arguments=wish)["result"]
    assert asked["resultType"] == "input_required", asked
    question = asked["inputRequests"]["approve"]
    assert question["method"] == "elicitation/create" and vast.state()["created"] == before

    answers = {"approve": {"action": "accept", "content": {"approve": True}}}
    forged = raw_call(
        careful, owner, forms, arguments=wish, inputResponses=answers, requestState=asked["requestState"][:-4] + "AAAA"
    )
    assert "error" in forged and vast.state()["created"] == before, "a state that is not ours agrees to nothing"
    stranger = careful.new_key("user")
    stolen = raw_call(
        careful, stranger, forms, arguments=wish, inputResponses=answers, requestState=asked["requestState"]
    )
    assert "error" in stolen and vast.state()["created"] == before
    made = raw_call(careful, owner, forms, arguments=wish, inputResponses=answers, requestState=asked["requestState"])[
        "result"
    ]
    assert structured_raw(made)["outcome"] == "rented" and vast.state()["created"] == before + 1
    market.told(
        careful, owner, "destroy_gpu_instance", provider="vast.ai", instance_id=structured_raw(made)["instance"]["id"]
    )


def structured_raw(result: dict[str, Any]) -> dict[str, Any]:
    return json.loads(result["content"][0]["text"])


async def test_a_client_that_only_opens_addresses_is_asked_no_form(careful: Gateway, owner: Key) -> None:
    wish = market.offer(careful, owner)
    result = raw_call(careful, owner, {"elicitation": {"url": {}}}, arguments=wish)["result"]
    assert structured_raw(result)["outcome"] == "needs_approval"
