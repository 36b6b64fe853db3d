"""More time for a machine and its log, over MCP, REST and the command line; and limits set from a shell."""

from __future__ import annotations

import http.server
import json
import pathlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import harness
import market
from harness import Gateway, Key
from market import IoNet, RunPod, Vast

HOUR_SECONDS = 3_600
INSTANCES = "/api/v1/gpu/instances"


@pytest.fixture(scope="module")
def ionet() -> Iterator[IoNet]:
    with harness.closing(IoNet()) as started:
        yield started


@pytest.fixture(scope="module")
def vast() -> Iterator[Vast]:
    with harness.closing(Vast()) as started:
        yield started


@pytest.fixture(scope="module")
def runpod() -> Iterator[RunPod]:
    with harness.closing(RunPod()) as started:
        yield started


@pytest.fixture(scope="module")
def machines(folder: pathlib.Path, vast: Vast, ionet: IoNet, runpod: RunPod) -> Iterator[Gateway]:
    markets = {**vast.section(), **ionet.section(), **runpod.section()}
    config = {"budgets": market.BUDGETS, "limits": market.LIMITS, "markets": markets}
    keys = {"VAST_KEY": market.VAST_KEY, "IONET_KEY": market.IONET_KEY, "RUNPOD_KEY": market.RUNPOD_KEY}
    with harness.closing(Gateway(folder / "more", config, **keys)) as started:
        yield started


class Owner:
    """Somebody with one machine, who does the same over each surface."""

    def __init__(self, gateway: Gateway, provider: str) -> None:
        self.gateway, self.key, self.provider = gateway, gateway.new_key("user"), provider
        wish = market.offer(gateway, self.key, provider)
        self.id = market.told(gateway, self.key, "create_gpu_instance", **wish)["instance"]["id"]

    def tool(self, name: str, **more: Any) -> dict[str, Any]:
        return market.told(self.gateway, self.key, name, instance_id=self.id, **more)

    def rest(self, hours: int, key: str | None = None, **more: Any) -> dict[str, Any]:
        headers = self.key.bearer | ({"Idempotency-Key": key} if key else {})
        answer = self.gateway.http.post(f"{INSTANCES}/{self.id}/extend", json={"hours": hours, **more}, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def cli(self, *words: str) -> Any:
        done = self.gateway.cli("gpu", words[0], self.id, *words[1:], "-o", "json", key=self.key.key)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def ends_by(self) -> str:
        return self.tool("get_gpu_instance")["ends_by"]

    def spent(self) -> float:
        [window] = market.told(self.gateway, self.key, "get_spending_info")["windows"]
        return window["spent_usd"] + window["held_usd"]

    def destroy(self) -> None:
        market.told(self.gateway, self.key, "destroy_gpu_instance", provider=self.provider, instance_id=self.id)


@pytest.fixture(params=["vast.ai", "io.net", "runpod"])
def owner(request: pytest.FixtureRequest, machines: Gateway) -> Iterator[Owner]:
    made = Owner(machines, request.param)
    yield made
    made.destroy()


def hours_between(one: str, other: str) -> float:
    from datetime import datetime

    return (datetime.fromisoformat(other) - datetime.fromisoformat(one)).total_seconds() / HOUR_SECONDS


def test_more_time_is_given_once_for_each_name_over_every_surface(owner: Owner) -> None:
    """What time that is bought has to its name is what the owner brings along."""
    ways: dict[str, Callable[[str], Any]] = {
        "mcp": lambda key: owner.tool("extend_gpu_instance", hours=1, idempotency_key=key),
        "rest": lambda key: owner.rest(1, key),
        "cli": lambda key: owner.cli("extend", "--hours", "1", "--idempotency-key", key),
    }
    # What was only tried has used up no name.
    tried = owner.cli("extend", "--hours", "1", "--idempotency-key", "by cli", "--dry-run")
    assert tried["outcome"] == "dry_run"
    for way, extend in ways.items():
        before = owner.ends_by()
        answers = [extend(f"by {way}")["ends_by"] for _ in range(2)]
        assert answers[0] == answers[1] == owner.ends_by(), way
        assert hours_between(before, answers[0]) == 1.0, way
    # A name is the machine's, whichever surface brings it.
    before = owner.ends_by()
    assert owner.rest(1, "by mcp")["ends_by"] == before


def test_what_more_time_costs_is_told_first(owner: Owner) -> None:
    before, spent = owner.ends_by(), owner.spent()
    price = owner.tool("get_gpu_instance")["price_per_hour_usd"]
    told = [
        owner.tool("extend_gpu_instance", hours=2, dry_run=True),
        owner.rest(2, dry_run=True),
        owner.cli("extend", "--hours", "2", "--dry-run"),
    ]
    for one in told:
        assert one["outcome"] == "dry_run" and one["allowed"] is True and one["hours"] == 2, one
        assert one["cost_usd"] == pytest.approx(2 * price, abs=0.001)
        assert one["paid_at_once_usd"] == (one["cost_usd"] if owner.provider == "io.net" else 0)
        assert hours_between(before, one["ends_by"]) == 2.0
    # What is paid by the second goes on costing while this looks.
    assert owner.ends_by() == before and owner.spent() == pytest.approx(spent, abs=0.01)


def test_logs_are_read_over_every_surface(owner: Owner, ionet: IoNet) -> None:
    ionet.advance(300)

    def log() -> str:
        return owner.tool("get_gpu_instance_logs", lines=5)["log"] if is_up() else ""

    def is_up() -> bool:
        if owner.provider == "vast.ai":
            return True
        return owner.tool("get_gpu_instance").get("status", "").lower() == "running"

    over_mcp = harness.wait_for("a log", log)
    answer = owner.gateway.http.get(
        f"{INSTANCES}/{owner.id}/logs", params={"lines": 5}, headers=owner.key.bearer
    ).json()
    assert (answer["id"], answer["log"]) == (owner.id, over_mcp)
    done = owner.gateway.cli("gpu", "logs", owner.id, "-n", "5", key=owner.key.key)
    assert done.returncode == 0 and done.stdout.strip() == over_mcp.strip(), done.stderr


class Away:
    """What answers nothing but an error, and keeps what it was sent."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str | None]] = []
        away = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", "0")))
                away.heard.append((self.path, self.headers.get("idempotency-key")))
                self.send_error(502)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def test_the_command_line_names_each_wish_for_more_time(machines: Gateway) -> None:
    with harness.closing(Away()) as away:
        for more in ([], [], ["--idempotency-key", "mine"]):
            command = [str(harness.BINARY), "gpu", "extend", "some-machine", "--hours", "1", *more]
            harness.run(command, FOREBAY_URL=away.url, FOREBAY_KEY=machines.admin.key)
        keys = [key for path, key in away.heard if path == f"{INSTANCES}/some-machine/extend"]
        assert len(keys) == 3 and keys[2] == "mine", away.heard
        assert keys[0] and keys[1] and keys[0] != keys[1], "a new one each time, so that a repetition is none"


def test_limits_are_set_listed_and_removed_from_a_shell(start: Callable[..., Gateway]) -> None:
    gateway = start({"limits": market.LIMITS})
    user, operator = gateway.new_key("user"), gateway.new_key("operator")

    def budget(*words: str, key: Key = operator, code: int = 0) -> Any:
        done = gateway.cli("budget", *words, "-o", "json", key=key.key)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout) if code == 0 else done.stderr

    def can(usd: str) -> int:
        return gateway.cli("spend", "--can", usd, key=user.key).returncode

    assert can("1000") == 0, "no limit counts yet"
    budget("set", "5", "--window", "60m", key=user, code=3)
    made = budget("set", "5", "--window", "60m")
    assert (made["scope"], made["window_minutes"], made["limit_usd"], made["origin"]) == ("tenant", 60, 5.0, "api")
    budget("set", "2.50", "--window", "24h", "--scope", "key", "--id", user.id)
    budget("set", "0.10", "--window", "7d", "--soft")
    listed = {(one["scope"], one["window_minutes"], one["enforcement"]): one["limit_usd"] for one in budget("list")}
    assert listed == {("tenant", 60, "hard"): 5.0, ("key", 1_440, "hard"): 2.5, ("tenant", 10_080, "soft"): 0.1}
    assert [can("2.50"), can("2.51")] == [0, 6]
    told = gateway.cli("spend", "--can", "2.51", key=user.key)
    assert "1440 minutes" in told.stderr and "2.5" in told.stderr, told.stderr
    # One of the same scope, name and window takes the place of the one before.
    budget("set", "9", "--window", "24h", "--scope", "key", "--id", user.id)
    assert [can("5.00"), can("5.01")] == [0, 6]
    budget("remove", "--window", "24h", "--scope", "key", "--id", user.id)
    budget("set", "7", "--window", "24h")
    assert budget("remove", "--window", "24h")["limit_usd"] == 7.0, "beside a shorter one of the same scope"
    budget("remove", "--window", "60m")
    budget("remove", "--window", "60m", code=5)
    assert can("1000") == 0, "a soft limit only tells"
    budget("set", "nothing", "--window", "60m", code=1)
