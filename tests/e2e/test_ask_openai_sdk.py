"""OpenAI's own Python client against every endpoint, with the version in the address and without it."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

import harness
import scripted as script
from harness import EMBEDDINGS, MODEL, QUESTION, SYSTEM, Gateway, Key
from parts import DIMENSIONS, Embeddings, cosine
from scripted import Scripted

PROMPT = "The capital of France is"


def open_client(gateway: Gateway, key: Key, path: str = "/v1") -> openai.OpenAI:
    http = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(base_url=gateway.url + path, api_key=key.key, max_retries=0, http_client=http)


@pytest.fixture(scope="module", params=["/v1", ""], ids=["v1", "bare"])
def client(request: pytest.FixtureRequest, asking: Gateway, asker: Key) -> Iterator[openai.OpenAI]:
    with open_client(asking, asker, request.param) as made:
        yield made


@pytest.fixture(scope="module")
def stranger(asking: Gateway) -> Iterator[openai.OpenAI]:
    """Somebody of another tenant."""
    with open_client(asking, asking.new_key("user", tenant="other")) as made:
        yield made


def test_models(client: openai.OpenAI) -> None:
    assert {MODEL, EMBEDDINGS} <= {model.id for model in client.models.list()}
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(**harness.chat_body())
    assert "Paris" in answer.choices[0].message.content
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    assert "forebay" not in answer.model_extra, "what asks for nothing of ours comes back as the engine said it"


def test_chat_streamed(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(**harness.chat_body(stream=True)))
    assert "Paris" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert len(chunks) > 3


def test_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=8, temperature=0)
    assert answer.object == "text_completion" and "Paris" in answer.choices[0].text
    assert answer.usage.completion_tokens > 0
    asked = {"model": MODEL, "prompt": PROMPT, "max_tokens": 8, "temperature": 0}
    pieces = [chunk.choices[0].text for chunk in client.completions.create(stream=True, **asked) if chunk.choices]
    assert len(pieces) > 1 and "".join(pieces) == answer.choices[0].text


# The client asks for base64 unless told otherwise, and reads it itself.
@pytest.mark.parametrize("form", ["float", None])
def test_embeddings(client: openai.OpenAI, embeddings: Embeddings, form: str | None) -> None:
    more = {"encoding_format": form} if form else {}
    answer = client.embeddings.create(model=EMBEDDINGS, input=["cat", "kitten"], **more)
    cat, kitten = (row.embedding for row in answer.data)
    assert len(cat) == DIMENSIONS
    assert cosine(cat, kitten) == pytest.approx(0.788, abs=0.005)
    assert cosine(cat, embeddings.of("cat")[0]) == pytest.approx(1, abs=1e-4), "what the engine itself says"
    assert answer.usage.prompt_tokens > 0


def test_responses_are_answered_and_found_again(client: openai.OpenAI, stranger: openai.OpenAI) -> None:
    answer = client.responses.create(model=MODEL, instructions=SYSTEM, input=QUESTION, temperature=0)
    assert answer.status == "completed" and "Paris" in answer.output_text
    assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0
    again = client.responses.retrieve(answer.id)
    assert again.output_text == answer.output_text and again.model == MODEL
    items = list(client.responses.input_items.list(answer.id))
    assert QUESTION in items[0].model_dump_json()
    with pytest.raises(openai.NotFoundError):
        stranger.responses.retrieve(answer.id)
    client.responses.delete(answer.id)
    with pytest.raises(openai.NotFoundError) as caught:
        client.responses.retrieve(answer.id)
    assert caught.value.body["forebay_code"] == "unknown_response"


def test_responses_streamed(client: openai.OpenAI) -> None:
    asked = {"model": MODEL, "instructions": SYSTEM, "input": QUESTION, "temperature": 0, "stream": True}
    events = list(client.responses.create(**asked))
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed", kinds
    assert [event.sequence_number for event in events] == sorted(event.sequence_number for event in events)
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert len(deltas) > 1 and "".join(deltas) == events[-1].response.output_text
    assert "Paris" in client.responses.retrieve(events[-1].response.id).output_text


def test_a_response_goes_on_from_the_one_before(client: openai.OpenAI, scripted: Scripted) -> None:
    scripted.will(script.say("I will remember."), script.say("The word was heron."))
    first = client.responses.create(model="scripted", input="Remember the word heron.")
    second = client.responses.create(model="scripted", input="Which word?", previous_response_id=first.id)
    assert second.previous_response_id == first.id and second.output_text == "The word was heron."
    messages = scripted.bodies[1]["messages"]
    said = [(message["role"], text_of(message["content"])) for message in messages]
    conversation = [("user", "Remember the word heron."), ("assistant", "I will remember."), ("user", "Which word?")]
    assert said == conversation


def text_of(content: object) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def test_nobody_goes_on_from_the_response_of_another(
    client: openai.OpenAI, stranger: openai.OpenAI, scripted: Scripted
) -> None:
    scripted.will()
    first = client.responses.create(model="scripted", input="Mine alone.")
    heard = len(scripted.heard)
    with pytest.raises(openai.NotFoundError):
        stranger.responses.create(model="scripted", input="What did they say?", previous_response_id=first.id)
    assert len(scripted.heard) == heard, "no model was asked"


def test_a_response_that_is_not_to_be_kept_is_not(client: openai.OpenAI, scripted: Scripted) -> None:
    scripted.will()
    answer = client.responses.create(model="scripted", input="Forget this.", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)


def test_a_field_that_no_schema_knows_reaches_the_backend(client: openai.OpenAI, scripted: Scripted) -> None:
    scripted.will()
    client.chat.completions.create(**harness.chat_body("scripted"), extra_body={"x_hint": {"deep": [1, 2.5, None]}})
    assert scripted.bodies[0]["x_hint"] == {"deep": [1, 2.5, None]}
    assert scripted.bodies[0]["model"] == "by-script"
