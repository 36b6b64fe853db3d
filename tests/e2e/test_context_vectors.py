"""Passages by their meaning out of a real PostgreSQL with a real pgvector, and vectors of a real model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest

import harness
import parts
from harness import EMBEDDINGS, MODEL, SYSTEM, Engine, Gateway, Key
from parts import DIMENSIONS, Database, Embeddings

TEXTS = {
    "cat": "A kitten sleeps on the sofa.",
    "car": "The lorry needs new tyres.",
    "gate": "The access code of the north gate is 7291.",
}
# None of its words stands in a text.
VEHICLES = "vehicle maintenance"


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a cluster whose server has pgvector."""
    with parts.postgres(tmp_path_factory.mktemp("vectors"), **parts.PGVECTOR) as (address, _):
        yield address


def filled(address: str, embeddings: Embeddings, column: str, schema: str = "public") -> Database:
    """A database with the texts in the table `docs`, and the vector of each in a column of this type."""
    database = Database(address)
    database.sql(
        f"CREATE SCHEMA IF NOT EXISTS {schema}; CREATE EXTENSION vector SCHEMA {schema};"
        f"CREATE TABLE docs (id text PRIMARY KEY, body text NOT NULL, meaning {schema}.{column})"
    )
    for (name, text), vector in zip(TEXTS.items(), embeddings.of(*TEXTS.values()), strict=True):
        database.sql(f"INSERT INTO docs VALUES ('{name}', '{text}', '{json.dumps(vector)}')")
    return database


@dataclasses.dataclass
class Informed:
    """A gateway that knows such a database as the provider `docs`."""

    gateway: Gateway
    key: Key

    def found(self, query: str, strategy: str) -> dict[str, Any]:
        asked = {"query": query, "strategy": strategy}
        answer = self.gateway.http.post("/api/v1/providers/docs/test", json=asked, headers=self.gateway.admin.bearer)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def best(self, query: str, strategy: str = "semantic_search") -> str:
        """The row that fits best."""
        found = self.found(query, strategy)
        assert found["items"], found
        return found["items"][0]["source"]


@pytest.fixture
def informed(tmp_path, engine: Engine, embeddings: Embeddings):
    """Makes a gateway that asks this database."""
    made: list[Gateway] = []

    def make(database: Database, **settings: Any) -> Informed:
        provider = database.provider(embedding_model=EMBEDDINGS, **settings)
        config = {
            "models": {
                name: {"backends": [{"url": url, "model": name}], "timeouts": {"begin_s": 50}}
                for name, url in ((MODEL, engine.url), (EMBEDDINGS, embeddings.url))
            },
            "mcp": {
                "providers": {"docs": {"type": "postgresql", "config": provider}},
                "context": {"cache_enabled": False},
                "allow_addresses": ["127.0.0.1"],
            },
        }
        gateway = Gateway(tmp_path / f"gateway-{len(made)}", config, DB_CREDENTIALS=database.password or "")
        made.append(gateway)
        return Informed(gateway, gateway.new_key("user"))

    yield make
    for gateway in made:
        gateway.close()


@pytest.mark.parametrize("column", [f"vector({DIMENSIONS})", f"halfvec({DIMENSIONS})", "vector"])
def test_a_table_is_searched_by_what_is_meant(vectors, embeddings, informed, column) -> None:
    known = informed(filled(vectors, embeddings, column), tables=["docs"])
    assert known.found(VEHICLES, "keyword")["items"] == []
    assert known.best(VEHICLES) == "docs#car"
    assert known.best(VEHICLES, "hybrid") == "docs#car"
    assert known.best("Where does the kitten sleep?", "keyword") == "docs#cat"


def test_a_query_over_vectors_gets_that_of_the_question(vectors, embeddings, informed) -> None:
    sql = "SELECT id, body AS text FROM docs ORDER BY meaning <=> $1::vector LIMIT $2"
    known = informed(filled(vectors, embeddings, f"vector({DIMENSIONS})"), vector_query=sql)
    found = known.found(VEHICLES, "semantic_search")["items"]
    assert found[0]["text"] == TEXTS["car"] and len(found) == len(TEXTS)


def test_the_extension_may_stand_in_a_schema_where_nobody_looks(vectors, embeddings, informed) -> None:
    known = informed(filled(vectors, embeddings, f"vector({DIMENSIONS})", schema="extensions"), tables=["docs"])
    assert known.best(VEHICLES) == "docs#car"


def test_an_index_over_vectors_is_used(vectors, embeddings, informed) -> None:
    database = filled(vectors, embeddings, f"vector({DIMENSIONS})")
    # Few rows are read faster without one.
    noise = f"SELECT i, array_agg(random() - 0.5) FROM generate_series(1, 3000) AS i, generate_series(1, {DIMENSIONS})"
    database.sql(
        f"INSERT INTO docs SELECT 'noise-' || i, 'Nothing.', v::vector FROM ({noise} GROUP BY i) AS noise (i, v);"
        "CREATE INDEX by_meaning ON docs USING hnsw (meaning vector_cosine_ops); ANALYZE docs"
    )
    known = informed(database, tables=["docs"])
    # What such an index finds is near, and need not be the nearest.
    assert known.found(VEHICLES, "semantic_search")["items"]
    # What an open connection did may be counted ten seconds later.
    known.gateway.close()
    scans = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'by_meaning'"
    harness.wait_for("the scan to be counted", lambda: database.sql(scans) not in ("", "0"))


def test_vectors_of_another_length_are_told(vectors, informed) -> None:
    database = Database(vectors)
    database.sql("CREATE EXTENSION vector; CREATE TABLE docs (body text, meaning vector(3))")
    database.sql("INSERT INTO docs VALUES ('Three numbers.', '[1,2,3]')")
    told = informed(database, tables=["docs"]).found(VEHICLES, "semantic_search")
    assert told["items"] == [] and f"vectors of {DIMENSIONS} numbers" in json.dumps(told), told


def test_a_model_answers_with_what_was_found_so(vectors, embeddings, informed) -> None:
    known = informed(filled(vectors, embeddings, f"vector({DIMENSIONS})"), tables=["docs"])
    messages = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": "What is the access code of the north gate?"},
    ]
    named = {"providers": ["docs"], "strategy": "semantic_search", "max_items": 1}
    answer = known.gateway.chat(harness.chat_body(messages=messages, mcp_context=named), known.key.bearer)
    assert answer.status_code == 200, answer.text
    assert "7291" in answer.json()["choices"][0]["message"]["content"], answer.text
    [cited] = answer.json()["forebay"]["context"]
    assert (cited["provider"], cited["source"]) == ("docs", "docs#gate")
