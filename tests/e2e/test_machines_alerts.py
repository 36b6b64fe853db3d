"""A provider that shows nothing, and a machine that does not go away: whoever runs a webhook hears of both, signed."""

from __future__ import annotations

import base64
import pathlib
import re
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from standardwebhooks import Webhook

import harness
import market
from harness import Gateway, Key
from market import IoNet, Vast
from test_alerts import Receiver

SECRET = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
# A provider that shows nothing is told after a minute and a half.
ALARM_SECONDS_MAX = 180.0


class Trouble:
    """A gateway with one machine at each of two providers: one shows nothing any more, the other does not let go."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.vast, self.ionet, self.hook = Vast(), IoNet(), Receiver()
        config = {
            "budgets": market.BUDGETS,
            "limits": market.LIMITS,
            "markets": self.vast.section() | self.ionet.section(),
            "alerts": {"webhooks": {"ops": {"url": self.hook.url, "secret": {"env": "HOOK_SECRET"}}}},
        }
        keys = {"VAST_KEY": market.VAST_KEY, "IONET_KEY": market.IONET_KEY, "HOOK_SECRET": SECRET}
        self.gateway = Gateway(folder / "trouble", config, **keys)
        self.key: Key = self.gateway.new_key("user")
        self.blind, self.stuck = self.rented("vast.ai"), self.rented("io.net")
        self.vast.steer("faults", route="list", fault="auth-404", times=None)
        self.ionet.steer("faults", route="destroy", fault="empty-500", times=None)
        market.told(self.gateway, self.key, "destroy_gpu_instance", provider="io.net", instance_id=self.stuck)

    def rented(self, provider: str) -> str:
        wish = market.offer(self.gateway, self.key, provider)
        return market.told(self.gateway, self.key, "create_gpu_instance", **wish)["instance"]["id"]

    def alert(self, kind: str) -> dict[str, Any]:
        """What the webhook was told, which the specification's own library takes for ours."""

        def heard() -> list[dict[str, Any]]:
            told = [Webhook(SECRET).verify(body, headers) for headers, body in self.hook.heard]
            return [one for one in told if one["type"] == kind]

        return harness.wait_for(kind, heard, ALARM_SECONDS_MAX)[0]

    def metric(self, name: str, **labels: str) -> float:
        text = self.gateway.http.get("/metrics", headers=self.gateway.admin.bearer).text
        for line in text.splitlines():
            found = re.fullmatch(r"(\w+)\{(.*)\} (\S+)", line)
            if found and found[1] == name and dict(re.findall(r'(\w+)="([^"]*)"', found[2])) == labels:
                return float(found[3])
        return 0.0

    def is_an_event(self, kind: str) -> bool:
        query = {"limit": 1_000, "tail": "true"}
        events = self.gateway.http.get("/api/v1/events", params=query, headers=self.gateway.admin.bearer).json()
        return any(event["action"] == f"alert:{kind}" for event in events["events"])

    def state(self, id_: str) -> dict[str, Any]:
        return market.told(self.gateway, self.key, "get_gpu_instance", instance_id=id_)

    def close(self) -> None:
        for part in (self.gateway, self.vast, self.ionet, self.hook):
            part.close()


@pytest.fixture(scope="module")
def trouble(folder: pathlib.Path) -> Iterator[Trouble]:
    with harness.closing(Trouble(folder)) as started:
        yield started


def test_a_machine_that_does_not_go_away_is_told_until_it_is_gone(trouble: Trouble) -> None:
    told = trouble.alert("rental.destroy_failing")
    assert told["data"]["instance"] == trouble.stuck and told["data"]["tenant"] == "acme", told
    assert "goes on costing" in told["data"]["message"] and trouble.state(trouble.stuck)["state"] == "destroying"
    assert trouble.metric("forebay_gpu_destroys_total", provider="io.net", outcome="failed") >= 3
    assert trouble.metric("forebay_alerts_told_total", kind="rental.destroy_failing") == 1
    harness.wait_for("its event", lambda: trouble.is_an_event("rental.destroy_failing"))
    trouble.ionet.http.delete("/_fake/faults").raise_for_status()
    # It is asked for again within a minute. A deployment there takes a while to end, and lists may lag.
    harness.wait_for("it is asked for again", lambda: asked_in_vain(trouble), 2 * harness.WAIT_SECONDS_MAX)
    trouble.ionet.advance(300)
    harness.wait_for("it is gone", lambda: trouble.state(trouble.stuck)["state"] == "gone", ALARM_SECONDS_MAX)
    assert trouble.metric("forebay_gpu_ended_total", provider="io.net") == 1


def asked_in_vain(trouble: Trouble) -> bool:
    return trouble.metric("forebay_gpu_destroys_total", provider="io.net", outcome="accepted") >= 1


def test_a_provider_that_shows_nothing_is_told_and_its_machines_go_on_costing(trouble: Trouble) -> None:
    told = trouble.alert("market.blind")
    assert told["data"]["provider"] == "vast.ai" and "go on costing" in told["data"]["message"], told
    assert trouble.metric("forebay_gpu_provider_visible", provider="vast.ai") == 0
    assert trouble.metric("forebay_gpu_looks_total", provider="vast.ai", outcome="blind") >= 1
    assert trouble.metric("forebay_gpu_creates_total", provider="vast.ai", outcome="confirmed") == 1
    assert trouble.metric("forebay_alerts_told_total", kind="market.blind") == 1
    harness.wait_for("its event", lambda: trouble.is_an_event("market.blind"))
    machine = trouble.state(trouble.blind)
    assert machine["state"] == "up", "nobody has seen that it is gone"
    [window] = market.told(trouble.gateway, trouble.key, "get_spending_info")["windows"]
    assert window["held_usd"] > 0 and machine["spent_usd"] > 0
    trouble.vast.http.delete("/_fake/faults").raise_for_status()

    def is_seen() -> bool:
        return trouble.metric("forebay_gpu_provider_visible", provider="vast.ai") == 1

    harness.wait_for("the provider is seen again", is_seen)
    market.told(trouble.gateway, trouble.key, "destroy_gpu_instance", provider="vast.ai", instance_id=trouble.blind)
    harness.wait_for("it is gone", lambda: trouble.vast.state()["live"] == 0)
