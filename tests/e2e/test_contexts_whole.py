"""Prompts in contexts with all that a chat may have: context that was looked up, tools, and a price under a budget.

The same over REST, from an agent, and by `forebay worker`; the model is a script, and what it reads is looked at.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

import harness
import scripted as script
from harness import Gateway, Key
from scripted import Scripted
from test_worker import Worker, address_of, secret, store

CONTEXTS = "/api/v1/mcp/contexts"
CALCULATOR = {"type": "function", "function": {"name": "calculator"}}
# A tenth of a cent a token of input, two tenths a token of output: the script's usage comes to 0.025.
PRICE = {"input": 1_000, "output": 2_000}
ONE_ANSWER_USD, ONE_CALL_USD = 0.025, 0.25
FACT = "The project Bluebird is led by Tomas Keller."
QUESTION = "Who leads the project Bluebird?"
LIMITS_USD = {"acme": 100, "poor": 0.1}


def config(url: str, notes: pathlib.Path) -> dict[str, Any]:
    backend = {"url": url, "model": "by-script", "probe": {"interval_s": 0}}
    provider = {"type": "files", "config": {"folder": str(notes), "scan_s": 1}}
    return {
        "models": {"scripted": {"backends": [backend], "price": PRICE, "retry": {"attempts": 1}}},
        "mcp": {"providers": {"notes": provider}, "context": {"retrievalStrategy": "keyword", "cacheEnabled": False}},
        "prices": {"tools": {"calculator": ONE_CALL_USD}},
        "budgets": [
            {"scope": "tenant", "tenant": tenant, "window": "60m", "limit_usd": limit}
            for tenant, limit in LIMITS_USD.items()
        ],
        "limits": {"requests_per_minute": 1_000_000, "tool_calls_per_minute": 1_000_000},
        "tasks": {"poll_ms": 50},
    }


class Way:
    """How somebody asks."""

    def __init__(self, gateway: Gateway, is_agent: bool = False) -> None:
        self.gateway, self.is_agent = gateway, is_agent

    def begin(self, key: Key) -> str:
        made = self.gateway.http.post(CONTEXTS, json={"model_id": "scripted"}, headers=key.bearer)
        assert made.status_code == 201, made.text
        return made.json()["id"]

    def ask(self, key: Key, context: str, **body: Any) -> tuple[bool, dict[str, Any]]:
        """Whether it was answered, and the answer or the failure."""
        if not self.is_agent:
            answer = self.gateway.http.post(f"{CONTEXTS}/{context}/prompt", json=body, headers=key.bearer)
            assert answer.status_code in (200, 402), answer.text
            return answer.status_code == 200, answer.json()
        call = {"name": "add_prompt", "arguments": {"context_id": context} | body}
        result = self.gateway.rpc("tools/call", call, key).json()["result"]
        return not result["isError"], json.loads(result["content"][0]["text"])


def looked_up(gateway: Gateway) -> bool:
    tested = gateway.cli("provider", "test", "notes", "--query", QUESTION, "-o", "json")
    return tested.returncode == 0 and bool(json.loads(tested.stdout)["items"])


@pytest.fixture(params=["rest", "mcp", "worker"])
def way(request: pytest.FixtureRequest, tmp_path: pathlib.Path, scripted: Scripted) -> Iterator[Way]:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "bluebird.md").write_text(f"# Bluebird\n\n{FACT}\n", encoding="utf-8")
    settings, env = config(scripted.url, notes), {}
    if request.param == "worker":
        address = address_of(request.getfixturevalue("database"))
        settings["store"], env = store(address), secret(address)
        settings["tasks"] |= {"workers": 0}
    with harness.closing(Gateway(tmp_path / "gateway", settings, **env)) as gateway:
        harness.wait_for("the index of the notes", lambda: looked_up(gateway))
        if request.param != "worker":
            yield Way(gateway, request.param == "mcp")
            return
        worker = Worker(gateway, tmp_path / "worker", **env)
        yield Way(gateway)
        worker.kill()


def window(gateway: Gateway, key: Key) -> dict[str, Any]:
    (one,) = gateway.http.get("/api/v1/spending", headers=key.bearer).json()["windows"]
    return one


def test_a_prompt_has_context_tools_and_a_price(way: Way, scripted: Scripted) -> None:
    key = way.gateway.new_key("user")
    context = way.begin(key)
    body = {
        "prompt": f"{QUESTION} And what is 6 * 7?",
        "mcp_context": {"providers": ["notes"], "query": QUESTION},
        "tools": [CALCULATOR],
        "max_tokens": 10,
    }

    def asked() -> dict[str, Any]:
        scripted.will(script.call(("calculator", {"expression": "6 * 7"})), script.echo_results)
        is_answered, answer = way.ask(key, context, **body)
        assert is_answered, answer
        return answer

    # A worker indexes the notes for itself, and does so a moment after it has begun to work.
    answer = harness.wait_for("an answer with context", lambda: cited(asked()))
    first, second = scripted.bodies
    assert FACT in json.dumps(first["messages"]) and "6 * 7" in first["messages"][-1]["content"]
    assert second["messages"][-1]["role"] == "tool" and "42" in answer["node"]["content"], answer
    ours = answer["node"]["metadata"]["forebay"]
    assert {item["provider"] for item in ours["context"]} == {"notes"}
    assert [(tool["name"], tool["status"]) for tool in ours["tools"]] == [("calculator", "success")]

    # Two rounds with the model, and one call between them, each time.
    nodes = way.gateway.http.get(f"{CONTEXTS}/{context}", headers=key.bearer).json()["nodes"]
    spent = len(nodes) / 2 * (2 * ONE_ANSWER_USD + ONE_CALL_USD)

    def settled() -> bool:
        now = window(way.gateway, key)
        return now["held_usd"] == 0 and now["spent_usd"] == pytest.approx(spent)

    harness.wait_for(f"${spent} to be settled", settled)


def cited(answer: dict[str, Any]) -> dict[str, Any] | None:
    return answer if answer["node"]["metadata"]["forebay"].get("context") else None


def test_a_prompt_past_its_budget_is_refused_and_reaches_nobody(way: Way, scripted: Scripted) -> None:
    key = way.gateway.new_key("user", tenant="poor")
    context = way.begin(key)
    scripted.will()
    is_answered, refusal = way.ask(key, context, prompt="Why?" * 100, max_tokens=10)
    assert not is_answered and refusal["code"].lower() == "spending_limit_exceeded", refusal
    assert not scripted.heard
    shown = way.gateway.http.get(f"{CONTEXTS}/{context}", headers=key.bearer).json()
    assert shown["nodes"] == [], "what was refused is not kept"
    now = window(way.gateway, key)
    assert (now["held_usd"], now["spent_usd"]) == (0, 0)
