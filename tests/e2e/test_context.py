"""A question that the small real model answers right only with the fact before it, wherever the fact stands.

The facts are invented, so that no model knows them; each stands in one place alone: a row of PostgreSQL, a document in
Chroma, behind a REST endpoint, in a file.
"""

from __future__ import annotations

import dataclasses
import http.server
import json
import pathlib
import re
import secrets
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest

import harness
from harness import EMBEDDINGS, MODEL, SYSTEM, Engine, Gateway, Key
from parts import Chroma, Database, Embeddings


@dataclasses.dataclass
class Fact:
    sentence: str
    question: str
    # Stands in no answer of a model that was not told.
    word: str
    # What the provider calls the place.
    source: str


FACTS = {
    "postgres-db": Fact(
        "The access code of the north gate is 7291.", "What is the access code of the north gate?", "7291", "fact"
    ),
    "vector-store": Fact(
        "The ship Meridian carries 517 crates of tea.",
        "How many crates of tea does the ship Meridian carry?",
        "517",
        "",
    ),
    "api": Fact(
        "The train to Velmora leaves from platform 14.",
        "From which platform does the train to Velmora leave?",
        "14",
        "",
    ),
    "notes": Fact(
        "The project Bluebird is led by Tomas Keller.", "Who leads the project Bluebird?", "Keller", "bluebird.md"
    ),
}
# Beside each fact, so that something has to be found.
OTHERS = ("Bread is baked at six in the morning.", "The roof of the barn was painted red.", "Apples keep until spring.")
TOKEN = f"canary-rest-{secrets.token_hex(16)}"


class Rest:
    """A service that is searched over HTTP, for whoever brings its token."""

    def __init__(self, texts: list[str]) -> None:
        self.queries: list[str] = []
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urllib.parse.urlsplit(self.path)
                if url.path != "/search" or self.headers.get("authorization") != f"Bearer {TOKEN}":
                    self.send_error(403)
                    return
                [query] = urllib.parse.parse_qs(url.query)["q"]
                service.queries.append(query)
                words = {word.strip("?.").lower() for word in query.split() if len(word) > 3}
                found = [text for text in texts if words & {word.strip("?.").lower() for word in text.split()}]
                answer = json.dumps({"results": [{"id": str(texts.index(text)), "text": text} for text in found]})
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(answer.encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture(scope="module")
def rest() -> Iterator[Rest]:
    with harness.closing(Rest([*OTHERS, FACTS["api"].sentence])) as service:
        yield service


@pytest.fixture(scope="module")
def facts_database(cluster: str) -> Database:
    made = Database(cluster)
    rows = ", ".join(f"('{text}')" for text in (*OTHERS, FACTS["postgres-db"].sentence))
    made.sql("CREATE TABLE fact (id serial PRIMARY KEY, text text NOT NULL)")
    made.sql(f"INSERT INTO fact (text) VALUES {rows}")
    return made


@pytest.fixture(scope="module")
def collection(chroma: Chroma, embeddings: Embeddings) -> str:
    texts = [*OTHERS, FACTS["vector-store"].sentence]
    return chroma.collection({f"doc-{number}": text for number, text in enumerate(texts)}, embeddings)


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("notes")
    (folder / "bluebird.md").write_text(f"# Bluebird\n\n{FACTS['notes'].sentence}\n", encoding="utf-8")
    (folder / "farm.md").write_text("# Farm\n\n" + "\n\n".join(OTHERS) + "\n", encoding="utf-8")
    return folder


def gone() -> dict[str, Any]:
    """A provider that nobody answers for."""
    return {"type": "chroma", "config": {"host": "127.0.0.1", "port": harness.free_port(), "collection": "documents"}}


@pytest.fixture(scope="module")
def providers(
    facts_database: Database, chroma: Chroma, collection: str, rest: Rest, notes: pathlib.Path
) -> dict[str, dict[str, Any]]:
    database = facts_database.provider(tables=["fact"])
    vectors = {"host": "127.0.0.1", "port": chroma.port, "collection": collection, "embedding_model": EMBEDDINGS}
    service = {
        "base_url": rest.url,
        "path": "/search?q={query}",
        "auth": {"type": "bearer", "secret_name": "api-token"},
    }
    return {
        "postgres-db": {"type": "postgresql", "config": database},
        "vector-store": {"type": "chroma", "config": vectors},
        "api": {"type": "rest", "config": service},
        "notes": {"type": "files", "config": {"folder": str(notes), "scan_s": 1}},
        "down": gone(),
    }


@pytest.fixture(scope="module")
def informed(
    tmp_path_factory: pytest.TempPathFactory,
    engine: Engine,
    embeddings: Embeddings,
    facts_database: Database,
    providers: dict[str, Any],
) -> Iterator[Gateway]:
    """A gateway that knows all the providers, as the seed's own section writes them."""
    config = {
        "models": {
            name: {"backends": [{"url": url, "model": name}], "timeouts": {"begin_s": 50}}
            for name, url in ((MODEL, engine.url), (EMBEDDINGS, embeddings.url))
        },
        "mcp": {
            "enabled": True,
            "providers": [{"name": name, **told} for name, told in providers.items()],
            "context": {"maxLength": 512, "retrievalStrategy": "semantic_search", "cacheEnabled": False},
            "allow_addresses": ["127.0.0.1"],
        },
        "limits": {"requests_per_minute": 1_000_000},
    }
    secret = {"DB_CREDENTIALS": facts_database.password or "", "API_TOKEN": TOKEN}
    with harness.closing(Gateway(tmp_path_factory.mktemp("informed"), config, **secret)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def reader(informed: Gateway) -> Key:
    return informed.new_key("user")


def question(fact: Fact, **more: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": fact.question}]
    return harness.chat_body(messages=messages, **more)


def chat(gateway: Gateway, key: Key, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    answer = gateway.chat(body, key.bearer | headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def text(answer: dict[str, Any]) -> str:
    return answer["choices"][0]["message"]["content"]


def expect_cited(answer: dict[str, Any], provider: str) -> None:
    """The answer names the item that held the fact, and says who found it."""
    ours = answer["forebay"]
    assert {item["provider"] for item in ours["context"]} == {provider}
    assert all(FACTS[provider].source in item["source"] for item in ours["context"][:1]), ours
    assert ours["trace_id"]


@pytest.mark.parametrize("provider", FACTS)
def test_only_who_names_the_provider_gets_the_answer(informed: Gateway, reader: Key, provider: str) -> None:
    fact = FACTS[provider]
    bare = chat(informed, reader, question(fact))
    assert fact.word not in text(bare) and "forebay" not in bare
    asked = question(fact, mcp_context={"providers": [provider], "query": fact.question})
    answer = chat(informed, reader, asked)
    assert fact.word in text(answer), answer
    expect_cited(answer, provider)
    other = next(name for name in FACTS if name != provider)
    elsewhere = chat(informed, reader, question(fact, mcp_context={"providers": [other], "query": fact.question}))
    assert fact.word not in text(elsewhere)


def test_what_is_asked_is_the_last_question_unless_said_otherwise(informed: Gateway, reader: Key, rest: Rest) -> None:
    fact = FACTS["api"]
    answer = chat(informed, reader, question(fact, mcp_context={"providers": ["api"]}))
    assert fact.word in text(answer) and rest.queries[-1] == fact.question


@pytest.mark.parametrize("strategy", ["keyword", "semantic_search", "hybrid"])
def test_each_strategy_finds_it(informed: Gateway, reader: Key, strategy: str) -> None:
    fact = FACTS["vector-store"]
    # Words that stand in the document, since Chroma looks for them as they are.
    query = "Meridian" if strategy == "keyword" else "the freight aboard the vessel Meridian"
    named = {"providers": ["vector-store"], "query": query, "strategy": strategy, "max_items": 1}
    answer = chat(informed, reader, question(fact, mcp_context=named))
    assert fact.word in text(answer) and len(answer["forebay"]["context"]) == 1
    assert answer["forebay"]["providers"][0]["strategy"] == strategy


def test_several_providers_are_asked_at_once(informed: Gateway, reader: Key) -> None:
    fact = FACTS["notes"]
    named = {"providers": list(FACTS), "query": fact.question}
    answer = chat(informed, reader, question(fact, mcp_context=named))
    assert fact.word in text(answer)
    assert [report["provider"] for report in answer["forebay"]["providers"]] == list(FACTS)


def test_a_header_names_providers_for_clients_that_cannot(informed: Gateway, reader: Key) -> None:
    fact = FACTS["postgres-db"]
    named = json.dumps({"providers": ["postgres-db"], "query": fact.question})
    answer = chat(informed, reader, question(fact), **{"x-forebay-mcp-context": named})
    assert fact.word in text(answer)


def test_openais_own_client_streams_with_context(informed: Gateway, reader: Key) -> None:
    fact = FACTS["notes"]
    http = openai.DefaultHttpxClient(trust_env=False)
    extra = {"mcp_context": {"providers": ["notes"], "query": fact.question}}
    with openai.OpenAI(base_url=informed.url, api_key=reader.key, max_retries=0, http_client=http) as client:
        chunks = list(client.chat.completions.create(**question(fact, stream=True), extra_body=extra))
    assert fact.word in "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    told = [chunk.model_extra["forebay"] for chunk in chunks if "forebay" in (chunk.model_extra or {})]
    assert len(told) == 1 and told[0]["context"][0]["provider"] == "notes"


def test_completions_and_responses_take_it_too(informed: Gateway, reader: Key) -> None:
    fact = FACTS["postgres-db"]
    named = {"mcp_context": {"providers": ["postgres-db"], "query": fact.question}, "model": MODEL, "temperature": 0}
    response = {"input": fact.question, "instructions": SYSTEM} | named
    answer = informed.http.post("/v1/responses", json=response, headers=reader.bearer).json()
    assert fact.word in json.dumps(answer["output"]) and answer["forebay"]["context"], answer
    completion = {"prompt": fact.question, "max_tokens": 40} | named
    answer = informed.http.post("/v1/completions", json=completion, headers=reader.bearer).json()
    assert fact.word in answer["choices"][0]["text"] and answer["forebay"]["context"], answer


@pytest.mark.parametrize("form", ["request", "configuration"])
def test_a_provider_that_is_down_is_gone_without_or_fails(
    start: Callable[..., Gateway], informed: Gateway, reader: Key, engine: Engine, form: str
) -> None:
    fact = FACTS["notes"]
    body = question(fact, mcp_context={"providers": ["notes", "down"], "query": fact.question})
    answer = chat(informed, reader, body)
    assert fact.word in text(answer), "what the others found is there"
    reports = {report["provider"]: report for report in answer["forebay"]["providers"]}
    assert reports["down"]["failure"] and not reports["notes"].get("failure"), reports
    if form == "request":
        body["mcp_context"]["on_failure"] = "fail"
        expect_context_failed(informed.chat(body, reader.bearer))
        return
    models = {MODEL: {"backends": [{"url": engine.url}]}}
    gateway = start({"models": models, "mcp": {"providers": {"down": gone()}, "context": {"onFailure": "fail"}}})
    body["mcp_context"]["providers"] = ["down"]
    expect_context_failed(gateway.chat(body, gateway.admin.bearer))


def expect_context_failed(answer: httpx.Response) -> None:
    error = answer.json()["error"]
    assert error["forebay_code"] == "context_failed" and "down" in error["message"], answer.text
    assert answer.status_code >= 500
    harness.expect_plain_words(answer.text)


def test_a_provider_that_nobody_knows_is_refused_by_name(informed: Gateway, reader: Key) -> None:
    fact = FACTS["notes"]
    answer = informed.chat(question(fact, mcp_context={"providers": ["nowhere"], "query": "x"}), reader.bearer)
    assert answer.json()["error"]["forebay_code"] == "unknown_provider", answer.text
    assert "nowhere" in answer.text


def test_a_key_that_may_not_use_a_provider_does_not(informed: Gateway) -> None:
    fact = FACTS["notes"]
    narrow = informed.new_key("user", grants=("model:*", "context:api"))
    answer = informed.chat(question(fact, mcp_context={"providers": ["notes"], "query": "x"}), narrow.bearer)
    assert answer.status_code in {403, 404}, answer.text


def test_a_file_that_changes_is_read_again(informed: Gateway, reader: Key, notes: pathlib.Path) -> None:
    fact = Fact(
        "The lighthouse of Sarnholm has 213 steps.", "How many steps has the lighthouse of Sarnholm?", "213", ""
    )
    body = question(fact, mcp_context={"providers": ["notes"], "query": fact.question})
    assert fact.word not in text(chat(informed, reader, body))
    page = notes / "sarnholm.md"
    page.write_text(f"# Sarnholm\n\n{fact.sentence}\n", encoding="utf-8")

    def cited() -> bool:
        return any("sarnholm.md" in item["source"] for item in chat(informed, reader, body)["forebay"]["context"])

    harness.wait_for("the new file", cited)
    assert fact.word in text(chat(informed, reader, body))
    page.unlink()
    harness.wait_for("the file to be gone", lambda: not cited())


def test_the_database_is_only_ever_read(informed: Gateway, reader: Key, facts_database: Database) -> None:
    before = facts_database.sql("SELECT count(*) FROM fact")
    query = "'; DELETE FROM fact; -- north gate"
    answer = chat(
        informed, reader, question(FACTS["postgres-db"], mcp_context={"providers": ["postgres-db"], "query": query})
    )
    assert answer["forebay"]["context"], "the words were looked for all the same"
    assert facts_database.sql("SELECT count(*) FROM fact") == before


def test_the_secrets_of_providers_are_shown_nowhere(informed: Gateway, facts_database: Database) -> None:
    shown = informed.http.get("/api/v1/providers", headers=informed.admin.bearer)
    assert shown.status_code == 200 and "postgres-db" in shown.text
    for secret in (TOKEN, facts_database.password or ""):
        assert secret not in shown.text and secret not in informed.log


def test_the_metrics_of_the_seed_are_there(informed: Gateway, reader: Key) -> None:
    chat(informed, reader, question(FACTS["notes"], mcp_context={"providers": ["notes"], "query": "Bluebird"}))
    told = informed.http.get("/metrics", headers=informed.admin.bearer).text
    assert 'mcp_context_retrieval_duration_seconds_count{provider="notes"}' in told
    kinds = dict(re.findall(r"^# TYPE (mcp_\S+) (\w+)$", told, re.M))
    # Those of tools are there once a tool was called; see crates/mcp/tests/it/calls.rs.
    assert {name: kind for name, kind in kinds.items() if not name.startswith("mcp_tool_")} == {
        # The panels of the seed's dashboard.
        "mcp_context_retrieval_duration_seconds": "histogram",
        "mcp_context_requests_total": "counter",
        "mcp_context_cache_hits_total": "counter",
        # Its lists of metrics: queryLatency, errorRate, connectionPool.
        "mcp_provider_query_duration_seconds": "histogram",
        "mcp_provider_errors_total": "counter",
        "mcp_provider_connections": "gauge",
    }
