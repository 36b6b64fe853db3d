"""What asking models costs, through the whole gateway: refused before anything is sent, and never repeated."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

import harness
import scripted as script
from harness import MODEL, Engine, Gateway, Key
from scripted import Scripted

# A tenth of a cent a token of input, two tenths a token of output: the script's usage comes to 0.025.
PRICE = {"input": 1_000, "output": 2_000}
ONE_ANSWER_USD = 0.025


def config(url: str, limit_usd: float, **model: Any) -> dict[str, Any]:
    paid = {"backends": [{"url": url, "model": "by-script"}], "price": PRICE} | model
    return {
        "models": {"paid": paid},
        "budgets": [{"scope": "key", "window": "60m", "limit_usd": limit_usd}],
        "limits": {"requests_per_minute": 1_000_000, "tool_calls_per_minute": 1_000_000},
    }


class Client:
    """OpenAI's client, willing to repeat what fails, with a count of what it sent."""

    def __init__(self, gateway: Gateway, key: Key) -> None:
        self.sent = 0

        def count(_: httpx.Request) -> None:
            self.sent += 1

        http = openai.DefaultHttpxClient(trust_env=False, event_hooks={"request": [count]})
        self.api = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key.key, max_retries=4, http_client=http)

    def ask(self, model: str = "paid", **more: Any) -> Any:
        asked = {"model": model, "messages": [{"role": "user", "content": "Why?"}], "max_tokens": 10} | more
        return self.api.chat.completions.create(**asked)


def settled(gateway: Gateway, key: Key) -> None:
    """One answer is paid and nothing is held: soon after it was given."""

    def is_so() -> bool:
        (window,) = gateway.http.get("/api/v1/spending", headers=key.bearer).json()["windows"]
        return (window["held_usd"], window["spent_usd"]) == (0, ONE_ANSWER_USD)

    harness.wait_for("the bill of one answer", is_so)


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_over_budget_is_refused_once(start: Callable[..., Gateway], scripted: Scripted, stream: bool) -> None:
    gateway = start(config(scripted.url, 0.1))
    client = Client(gateway, gateway.new_key("user"))
    before = len(scripted.heard)
    with pytest.raises(openai.RateLimitError) as caught:
        client.ask(stream=stream)
    assert (caught.value.code, caught.value.type) == ("insufficient_quota", "insufficient_quota")
    assert caught.value.body["forebay_code"] == "spending_limit_exceeded"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert client.sent == 1, "a client that repeats what fails does not repeat this"
    assert len(scripted.heard) == before, "nothing reached the engine"


def test_a_key_spends_until_its_window_is_full(start: Callable[..., Gateway], scripted: Scripted) -> None:
    gateway = start(config(scripted.url, 1.0))
    one, other = (Client(gateway, gateway.new_key("user")) for _ in range(2))
    answered = 0
    with pytest.raises(openai.RateLimitError) as caught:
        for _ in range(60):
            scripted.will(script.say())
            one.ask()
            answered += 1
    assert caught.value.code == "insufficient_quota"
    # The hold of one more would be beyond what is left, though what it comes to would not.
    assert 1 < answered < 1.0 / ONE_ANSWER_USD
    assert f"${answered * ONE_ANSWER_USD:.6g}"[:4] in caught.value.message, caught.value.message
    assert other.ask().choices, "the budget is each key's own"


def test_clients_of_anthropics_api_are_told_in_its_form(start: Callable[..., Gateway], scripted: Scripted) -> None:
    gateway = start(config(scripted.url, 0.1))
    body = {"model": "paid", "max_tokens": 10, "messages": [{"role": "user", "content": "Why?"}]}
    answer = gateway.http.post("/v1/messages", json=body, headers=gateway.new_key("user").bearer)
    assert (answer.status_code, answer.headers["x-should-retry"]) == (429, "false")
    assert answer.json()["error"]["type"] == "billing_error"


def test_a_model_without_a_price_is_refused_and_a_free_one_is_not(
    start: Callable[..., Gateway], scripted: Scripted
) -> None:
    made = config(scripted.url, 0)
    made["models"]["unknown"] = {"backends": made["models"]["paid"]["backends"]}
    made["models"]["free"] = made["models"]["paid"] | {"price": {"input": 0, "output": 0}}
    gateway = start(made)
    client = Client(gateway, gateway.new_key("user"))
    with pytest.raises(openai.RateLimitError) as caught:
        client.ask("unknown")
    assert caught.value.body["forebay_code"] == "unpriced_model"
    assert client.ask("free").choices


def test_a_dry_run_says_what_it_would_cost_and_spends_nothing(
    start: Callable[..., Gateway], scripted: Scripted
) -> None:
    made = config(scripted.url, 1.0)
    made["models"]["unknown"] = {"backends": made["models"]["paid"]["backends"]}
    gateway = start(made | {"prices": {"tools": {"calculator": 0.25, "gateway_status": 2}}})
    key = gateway.new_key("user")
    scripted.will()

    def dry(*args: str, code: int = 0) -> dict[str, Any]:
        told = gateway.cli(*args, "--dry-run", "-o", "json", key=key.key)
        assert told.returncode == code, told.stderr
        return json.loads(told.stdout)

    chat = dry("chat", "--model", "paid", "--max-tokens", "10", "Why?")
    assert (chat["kind"], chat["name"], chat["allowed"]) == ("model", "paid", True)
    assert not scripted.heard
    # So much is set aside for the same question when it is asked.
    scripted.will(script.say())
    asked = gateway.cli("chat", "--model", "paid", "--max-tokens", "10", "-o", "json", "Why?", key=key.key)
    assert asked.returncode == 0, asked.stderr
    billed = gateway.http.get("/api/v1/billing/transactions", headers=key.bearer).json()["transactions"]
    assert chat["most_usd"] == max(one["held_usd"] for one in billed)
    much = dry("chat", "--model", "paid", "--max-tokens", "1000000", "Why?", code=6)
    assert not much["allowed"] and much["most_usd"] > 1 and "above $1.00" in much["reason"]
    turn = dry("test-endpoint", "paid", "--query", "Why?", "--tools", "calculator", "--max-tokens", "10", code=6)
    assert turn["most_usd"] > chat["most_usd"], "that a tool is offered counts"
    call = dry("tool", "call", "calculator", '{"expression":"6*7"}')
    assert (call["kind"], call["most_usd"], call["allowed"]) == ("tool", 0.25, True)
    assert dry("tool", "test", "calculator") == call
    assert not dry("tool", "call", "gateway_status", code=6)["allowed"], "it costs more than there is"
    shown = gateway.cli("tool", "call", "calculator", "--dry-run", key=key.key).stdout
    assert "$0.25" in shown and "would be let in" in shown
    unpriced = gateway.cli("chat", "--model", "unknown", "--dry-run", "Why?", key=key.key)
    assert unpriced.returncode == 6 and "has no price" in unpriced.stderr
    assert len(scripted.heard) == 1, "the one that was meant"
    settled(gateway, key)
    no_json = gateway.cli("tool", "call", "calculator", "no json", "--dry-run", key=key.key)
    assert no_json.returncode != 0
    for wrong in ({}, {"tool": "calculator", "request": {"model": "paid"}}, {"request": {"messages": []}}):
        refused = gateway.http.post("/api/v1/spending/check", json=wrong, headers=key.bearer)
        assert refused.status_code == 400, refused.text
        harness.expect_plain_words(refused.text)
    nobodys = gateway.http.post("/api/v1/spending/check", json={"tool": "none"}, headers=key.bearer)
    assert (nobodys.status_code, nobodys.json()["code"]) == (404, "unknown_tool")


def test_a_dry_run_warns_of_soft_limits_and_says_where_nobody_knows_the_price(
    start: Callable[..., Gateway], scripted: Scripted
) -> None:
    made = config(scripted.url, 0.01)
    made["budgets"][0]["enforcement"] = "soft"
    soft = start(made)
    told = soft.cli("chat", "--model", "paid", "--max-tokens", "10", "--dry-run", "Why?", key=soft.new_key("user").key)
    assert told.returncode == 0 and "would be let in" in told.stdout
    assert "warning: " in told.stderr and "$0.01" in told.stderr
    unlimited = start({"models": {"unknown": {"backends": made["models"]["paid"]["backends"]}}})
    told = unlimited.cli("chat", "--model", "unknown", "--dry-run", "Why?", key=unlimited.new_key("user").key)
    assert told.returncode == 0 and "nobody can say" in told.stdout, told.stderr


def test_what_is_asked_through_the_proxy_is_paid_and_limited_like_everything(
    start: Callable[..., Gateway], scripted: Scripted
) -> None:
    gateway = start(config(scripted.url, 1.0))
    key = gateway.new_key("user")

    def ask(tokens: int) -> dict[str, Any]:
        body = {"model": "paid", "messages": [{"role": "user", "content": "Why?"}], "max_tokens": tokens}
        wish = {"target_url": "/v1/chat/completions", "body": body}
        answer = gateway.rpc("tools/call", {"name": "proxy_inference_request", "arguments": wish}, key).json()
        return answer["result"]

    before = len(scripted.heard)
    refused = ask(1_000_000)
    assert refused["isError"] and "spending_limit_exceeded" in json.dumps(refused).lower(), refused
    assert len(scripted.heard) == before
    scripted.will(script.say())
    assert not ask(10).get("isError")
    settled(gateway, key)


def test_what_a_tool_costs_is_told_whatever_it_was_called_by(start: Callable[..., Gateway], scripted: Scripted) -> None:
    declared = {"tools": {"gateway-status": {"description": "How the gateway is."}}}
    prices = {"tools": {"gateway_status": 0.25}}
    gateway = start(config(scripted.url, 5.0) | {"mcp": declared, "prices": prices})
    key = gateway.new_key("user")
    scripted.will(script.call(("gateway-status", {})), script.echo_results)
    body = harness.chat_body(
        "paid", tools=[{"type": "function", "function": {"name": "gateway-status"}}], max_tokens=10
    )
    answer = gateway.chat(body, key.bearer)
    assert answer.status_code == 200, answer.text
    (tool,) = answer.json()["forebay"]["tools"]
    assert (tool["name"], tool["status"], tool["cost_usd"]) == ("gateway-status", "success", 0.25), tool
    assert answer.json()["forebay"]["cost"]["usd"] > 0.25


def test_the_bound_is_never_below_what_a_real_engine_counts(
    start: Callable[..., Gateway], gateway: Gateway, engine: Engine, user: Key
) -> None:
    """A dollar a token, so that the refusal names the bound itself."""
    bounding = start(config(engine.url, 0, price={"input": 1_000_000, "output": 0}))
    asking = Client(bounding, bounding.new_key("user"))
    texts = [
        "Why?",
        "漢字とかな " * 20,
        "{}[]()<>;:'\\\n\t" * 30,
        "a" * 500,
        "🦀🚀é" * 40,
        'fn main() { println!("x"); }\n' * 10,
    ]
    for text in texts:
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
        with pytest.raises(openai.RateLimitError) as caught:
            asking.ask(messages=messages, max_tokens=1)
        bound = float(re.search(r"\$([0-9.]+) more would be", caught.value.message).group(1))
        body = harness.chat_body(messages=messages, max_tokens=1) | {"model": MODEL}
        answer = gateway.http.post("/v1/chat/completions", json=body, headers=user.bearer)
        assert answer.status_code == 200, answer.text
        counted = answer.json()["usage"]["prompt_tokens"]
        assert counted <= bound, f"{counted} tokens, and a bound of {bound} for {text[:20]!r}"
