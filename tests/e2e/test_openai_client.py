"""OpenAI's own Python client, and what passes through untouched."""

from __future__ import annotations

import openai
import pytest

import harness
from harness import MODEL, Gateway, Key, NotingBackend


def client(gateway: Gateway, key: Key) -> openai.OpenAI:
    http = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key.key, max_retries=0, http_client=http)


def test_models_are_listed(gateway: Gateway, user: Key) -> None:
    assert {model.id for model in client(gateway, user).models.list()} == {MODEL, "noting"}


def test_a_key_for_one_model_sees_one_model(gateway: Gateway) -> None:
    narrow = gateway.new_key("user", grants=("model:noting",))
    assert [model.id for model in client(gateway, narrow).models.list()] == ["noting"]
    with pytest.raises(openai.PermissionDeniedError) as caught:
        client(gateway, narrow).chat.completions.create(**harness.chat_body())
    assert caught.value.body["forebay_code"] == "insufficient_scope"


def test_a_chat_is_answered_whole_with_usage(gateway: Gateway, user: Key) -> None:
    answer = client(gateway, user).chat.completions.create(**harness.chat_body())
    assert "Paris" in answer.choices[0].message.content
    assert answer.usage.completion_tokens > 0 and answer.model == MODEL


def test_a_chat_is_streamed_chunk_by_chunk(gateway: Gateway, user: Key) -> None:
    asked = harness.chat_body(stream=True, stream_options={"include_usage": True})
    chunks = list(client(gateway, user).chat.completions.create(**asked))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "Paris" in text
    assert len(chunks) > 3, "more than one piece"
    assert chunks[-1].usage.completion_tokens > 0


def test_fields_that_no_schema_knows_survive_both_ways(gateway: Gateway, user: Key, noting: NotingBackend) -> None:
    raw = client(gateway, user).chat.completions.with_raw_response.create(
        **harness.chat_body("noting"), extra_body={"x_hint": {"deep": [1, 2.5, None]}, "top_k": 7}
    )
    heard = noting.heard[-1]
    assert heard.body["x_hint"] == {"deep": [1, 2.5, None]} and heard.body["top_k"] == 7
    assert heard.body["model"] == MODEL, "the backend's own name for it"
    answer = raw.http_response.json()
    assert answer["x_engine_note"] == {"kept": [1, None, "yes"]}
    assert answer["choices"][0]["x_rank"] == 0.5 and answer["usage"]["x_cached"] == 2


def test_an_unknown_model_is_not_found(gateway: Gateway, user: Key) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client(gateway, user).chat.completions.create(**harness.chat_body("no-such-model"))
    assert caught.value.code == "model_not_found"


def test_a_wrong_key_is_an_authentication_error(gateway: Gateway) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        client(gateway, Key("", "sk-not-ours")).models.list()
    assert caught.value.code == "invalid_api_key"


def test_a_limit_is_told_in_headers_and_as_a_rate_limit_error(start) -> None:
    gateway = start({"limits": {"requests_per_minute": 3}})
    key = gateway.new_key("user")
    headers = [gateway.http.get("/v1/models", headers=key.bearer).headers for _ in range(3)]
    assert [int(h["x-ratelimit-remaining-requests"]) for h in headers] == [2, 1, 0]
    assert all("ratelimit" in h and "ratelimit-policy" in h for h in headers)
    with pytest.raises(openai.RateLimitError) as caught:
        client(gateway, key).models.list()
    assert caught.value.code == "rate_limit_exceeded"
    assert int(caught.value.response.headers["retry-after"]) >= 1
