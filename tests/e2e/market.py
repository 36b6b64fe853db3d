"""A fake provider of machines as a process of its own, and what tests around machines share."""

from __future__ import annotations

import contextlib
import json
import subprocess
from typing import Any

import httpx

import harness
from harness import Gateway, Key

FAKES = harness.TARGET / "debug" / "forebay-fakes"
# The keys that the fakes begin with.
VAST_KEY = "vast-key-0123456789abcdef"
IONET_KEY = "io-v2-fake"
RUNPOD_KEY = "rpa_FAKE"
LIMITS = {"requests_per_minute": 1_000_000, "tool_calls_per_minute": 1_000_000}
BUDGETS = [{"scope": "tenant", "window": "24h", "limit_usd": 50}]


class Fake:
    """One provider."""

    def __init__(self, provider: str, **settings: Any) -> None:
        words = [f"{name}={json.dumps(value)}" for name, value in settings.items()]
        command = [str(FAKES), provider, *(part for word in words for part in ("--set", word))]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.url = json.loads(self.process.stdout.readline())["url"]
        self.http = httpx.Client(base_url=self.url, trust_env=False, timeout=harness.WAIT_SECONDS_MAX)

    def state(self) -> dict[str, Any]:
        return self.http.get("/_fake/state").json()

    def log(self) -> list[dict[str, Any]]:
        return self.http.get("/_fake/log").json()

    def set(self, name: str, value: Any) -> None:
        self.steer("set", name=name, value=value)

    def advance(self, seconds: float) -> None:
        """So much time passes at once, there."""
        self.steer("advance", seconds=seconds)

    def steer(self, what: str, **how: Any) -> None:
        answer = self.http.post(f"/_fake/{what}", json=how)
        assert answer.is_success, answer.text

    def close(self) -> None:
        self.http.close()
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(harness.WAIT_SECONDS_MAX)


class Vast(Fake):
    """The fake vast.ai; its machines are up at once."""

    def __init__(self, **settings: Any) -> None:
        super().__init__("vast", **{"boot_step_ms": 0, **settings})

    def section(self) -> dict[str, Any]:
        """Of `markets:`."""
        return {"vast": {"api_key": {"env": "VAST_KEY"}, "url": self.url}}

    def config(self, **more: Any) -> dict[str, Any]:
        """The configuration of a gateway that rents here."""
        return {"budgets": BUDGETS, "limits": LIMITS, "markets": self.section()} | more


class IoNet(Fake):
    """The fake io.net, where hours are paid before they begin."""

    def __init__(self, **settings: Any) -> None:
        super().__init__("ionet", **settings)

    def section(self) -> dict[str, Any]:
        return {"ionet": {"api_key": {"env": "IONET_KEY"}, "url": self.url}}


class RunPod(Fake):
    """The fake RunPod, where nothing keeps a pod from being made twice."""

    def __init__(self, **settings: Any) -> None:
        super().__init__("runpod", **settings)

    def section(self) -> dict[str, Any]:
        return {"runpod": {"api_key": {"env": "RUNPOD_KEY"}, "url": f"{self.url}/v2"}}


def told(gateway: Gateway, key: Key, tool: str, **arguments: Any) -> dict[str, Any]:
    """What a tool says, which has to work."""
    answer = gateway.rpc("tools/call", {"name": tool, "arguments": arguments}, key).json()
    result = answer["result"]
    assert not result.get("isError"), result
    return result["structuredContent"]


def offer(gateway: Gateway, key: Key, provider: str = "vast.ai") -> dict[str, str]:
    """The cheapest one, as arguments of what rents it."""
    found = told(gateway, key, "list_gpu_instances", provider=provider)["instances"][0]
    return {"provider": provider, "instance_id": found["instance_id"]}
