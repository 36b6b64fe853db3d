"""Responses that nobody waits for, with OpenAI's own Python client; and a gateway that is killed while it makes one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest

import harness
import scripted as script
from harness import MODEL, Gateway, Key
from scripted import Scripted
from test_ask_openai_sdk import open_client
from test_mcp_restart import start_again
from test_mcp_tasks import LEASE


def made(client: openai.OpenAI, response: str) -> Any:
    def there() -> Any:
        seen = client.responses.retrieve(response)
        return seen if seen.status not in ("queued", "in_progress") else None

    return harness.wait_for("the response", there)


def test_a_response_is_asked_for_and_fetched(asking: Gateway, asker: Key) -> None:
    with open_client(asking, asker) as client:
        queued = client.responses.create(model=MODEL, input="Say hello.", max_output_tokens=16, background=True)
        assert queued.status == "queued" and queued.background and queued.output == []
        there = made(client, queued.id)
        assert (there.status, there.id) in [("completed", queued.id), ("incomplete", queued.id)], there
        assert there.background and there.output_text and there.usage.output_tokens > 0
        items = client.responses.input_items.list(queued.id).data
        assert items[0].content[0].text == "Say hello."
        after = client.responses.create(model=MODEL, input="Again.", max_output_tokens=8, previous_response_id=there.id)
        assert after.previous_response_id == there.id
        client.responses.delete(queued.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(queued.id)


def test_a_response_is_cancelled(asking: Gateway, asker: Key, scripted: Scripted) -> None:
    scripted.will(script.silent)
    heard = len(scripted.heard)
    with open_client(asking, asker) as client:
        queued = client.responses.create(model="scripted", input="Hello?", background=True)
        harness.wait_for("the model to be asked", lambda: len(scripted.heard) > heard)
        assert client.responses.retrieve(queued.id).status == "in_progress"
        with pytest.raises(openai.ConflictError):
            client.responses.delete(queued.id)
        assert client.responses.cancel(queued.id).status == "cancelled"
        assert client.responses.cancel(queued.id).status == "cancelled", "as often as it comes"
        with open_client(asking, asking.new_key("user", tenant="other")) as stranger:
            for refused in (stranger.responses.retrieve, stranger.responses.cancel):
                with pytest.raises(openai.NotFoundError):
                    refused(queued.id)


def test_what_cannot_be_is_refused_at_once(asking: Gateway, asker: Key) -> None:
    with open_client(asking, asker) as client:
        for more, word in [({"stream": True}, "`stream`"), ({"store": False}, "`store`")]:
            with pytest.raises(openai.BadRequestError, match=word):
                client.responses.create(model=MODEL, input="Hello?", background=True, **more)
        plain = client.responses.create(model=MODEL, input="Hello?", max_output_tokens=4)
        with pytest.raises(openai.BadRequestError, match="background"):
            client.responses.cancel(plain.id)


def test_a_response_is_made_once_though_its_gateway_was_killed(
    start: Callable[..., Gateway], scripted: Scripted
) -> None:
    scripted.will(script.silent)
    gateway = start({"models": {"scripted": {"backends": [{"url": scripted.url}]}}} | LEASE)
    heard = len(scripted.heard)
    with open_client(gateway, gateway.new_key("user")) as client:
        queued = client.responses.create(model="scripted", input="Hello?", background=True)
        harness.wait_for("the model to be asked", lambda: len(scripted.heard) > heard)
        scripted.will()
        start_again(gateway)
        there = made(client, queued.id)
        assert (there.status, there.output_text) == ("completed", script.GREETING)
        assert len(scripted.heard) == 1, "once more after the kill"
