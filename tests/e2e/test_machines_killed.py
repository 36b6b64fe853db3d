"""A gateway that is killed while its provider makes a machine: one is tracked, or there is none and nothing held."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

import harness
import market
from harness import Gateway, Key
from market import Vast
from test_mcp_restart import start_again

# So long nobody looks for a machine that may still appear.
AWAY = timedelta(minutes=6)


@pytest.fixture
def vast() -> Iterator[Vast]:
    with harness.closing(Vast()) as started:
        yield started


def killed_in_a_create(start: Callable[..., Gateway], vast: Vast, fault: str) -> tuple[Gateway, Key]:
    """A gateway that is dead since its provider was asked."""
    gateway = start(vast.config(), VAST_KEY=market.VAST_KEY)
    key = gateway.new_key("user")
    wish = market.offer(gateway, key)
    vast.steer("faults", route="create", fault=fault, times=1)

    def create() -> None:
        with pytest.raises(httpx.HTTPError):
            gateway.http.post("/api/v1/gpu/instances", json=wish, headers=key.bearer)

    asking = threading.Thread(target=create)
    asking.start()
    asked = lambda: [one for one in vast.log()["requests"] if one["route"] == "create"]  # noqa: E731
    harness.wait_for("the provider is asked", asked)
    gateway.kill()
    asking.join()
    return gateway, key


def state_of(gateway: Gateway, key: Key) -> tuple[list[dict[str, Any]], float]:
    mine = market.told(gateway, key, "list_my_gpu_instances")["instances"]
    [window] = market.told(gateway, key, "get_spending_info")["windows"]
    return mine, window["held_usd"]


def test_a_machine_that_was_made_is_found_and_is_the_only_one(start: Callable[..., Gateway], vast: Vast) -> None:
    gateway, key = killed_in_a_create(start, vast, "held-after")
    assert (vast.state()["created"], vast.state()["live"]) == (1, 1)
    start_again(gateway, VAST_KEY=market.VAST_KEY)

    def found() -> dict[str, Any] | None:
        mine, held = state_of(gateway, key)
        assert len(mine) == 1 and held > 0, "until it is known, it counts"
        return mine[0] if mine[0]["state"] == "up" else None

    machine = harness.wait_for("the machine is found by its label", found)
    assert machine["instance_id"] and vast.state()["created"] == 1
    market.told(gateway, key, "destroy_gpu_instance", provider="vast.ai", instance_id=machine["id"])
    harness.wait_for("it is gone", lambda: vast.state()["live"] == 0)
    assert vast.state()["created"] == 1


def test_where_none_was_made_nothing_stays_held(start: Callable[..., Gateway], vast: Vast) -> None:
    gateway, key = killed_in_a_create(start, vast, "held")
    assert vast.state()["created"] == 0
    was_away(gateway)
    start_again(gateway, VAST_KEY=market.VAST_KEY)
    mine, held = state_of(gateway, key)
    assert len(mine) == 1 and held > 0, "one that may still appear counts"

    def is_over() -> bool:
        mine, held = state_of(gateway, key)
        return not mine and held == 0

    # Three complete lists without it, ten seconds apart at least.
    harness.wait_for("it is given up, and its hold let go", is_over, 2 * harness.WAIT_SECONDS_MAX)
    done = gateway.cli("gpu", "ps", "--ended", "-o", "json", key=key.key)
    [ended] = json.loads(done.stdout)
    assert (ended["state"], ended["why"], ended["spent_usd"]) == ("refused", "never_made", 0.0), ended
    asked = [one for one in vast.log()["requests"] if one["route"] == "create"]
    assert len(asked) == 1 and vast.state()["created"] == 0, "nobody asked again"


def was_away(gateway: Gateway) -> None:
    """The same as if it had been dead for that long: what it wrote down is so old."""
    with sqlite3.connect(gateway.data / "forebay.db") as database:
        [(id_, created, text)] = database.execute("SELECT id, created_at_ms, body FROM rental").fetchall()
        body = json.loads(text)
        asked = datetime.fromisoformat(body["asked_at"]) - AWAY
        body["asked_at"] = asked.astimezone(UTC).isoformat().replace("+00:00", "Z")
        earlier = created - int(AWAY.total_seconds() * 1_000)
        database.execute("UPDATE rental SET created_at_ms = ?, body = ? WHERE id = ?", (earlier, json.dumps(body), id_))
    database.close()
