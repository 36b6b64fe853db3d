"""The package for Python and its base class for tests, and the command that tests an endpoint: each as its reader uses
it, against a gateway with a real database behind the provider."""

from __future__ import annotations

import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest

import harness
import scripted as script
from harness import MODEL, Engine, Gateway, Key
from parts import Database
from scripted import Scripted

SDK = harness.ROOT / "sdk" / "python"
FACT = "The access code of the north gate is 7291."
NEWS = "Gates everywhere were opened today."
BARE = ("--query", "What is the capital of France?")
THEIRS = ("--query", "What's in the database?", "--context-providers", "postgres-db", "--tools", "web-search")


class SearchEngine:
    """A search engine with the API of SearXNG, which has the same news for everybody."""

    def __init__(self) -> None:
        self.queries: list[str] = []
        engine = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
                engine.queries.extend(asked["q"])
                found = {"title": "News", "url": "https://news.example.com/1", "content": NEWS}
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps({"query": asked["q"][0], "results": [found]}).encode())

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


def obliging(wire: script.Wire) -> None:
    """A model that calls the first tool that it is offered, and else says what it was told last."""
    *_, last = wire.body["messages"]
    if last["role"] == "tool":
        reply = script.say(f"I read: {last['content']}")
    elif wire.body.get("tools"):
        reply = script.call((wire.body["tools"][0]["function"]["name"], {"query": "AI news"}))
    else:
        reply = script.say(f"You said: {last['content']}")
    reply(wire)


@pytest.fixture(scope="module")
def model() -> Iterator[Scripted]:
    with harness.closing(Scripted()) as backend:
        backend.finally_ = obliging
        yield backend


@pytest.fixture(scope="module")
def search() -> Iterator[SearchEngine]:
    with harness.closing(SearchEngine()) as engine:
        yield engine


@pytest.fixture(scope="module")
def endpoint(
    tmp_path_factory: pytest.TempPathFactory, engine: Engine, model: Scripted, search: SearchEngine, cluster: str
) -> Iterator[Gateway]:
    """A gateway with the model, the provider and the tool that the base class asks for unless it is told others."""
    facts = Database(cluster)
    facts.sql("CREATE TABLE fact (id serial PRIMARY KEY, text text NOT NULL)")
    facts.sql(f"INSERT INTO fact (text) VALUES ('{FACT}'), ('This database has content about gates.')")
    where = {"host": facts.host, "port": facts.port, "database": facts.name, "user": facts.user, "tables": ["fact"]}
    gone = {"host": "127.0.0.1", "port": harness.free_port(), "collection": "documents"}
    config = {
        "models": {
            "qwen-mcp": {"backends": [{"url": model.url, "model": "by-script"}]},
            MODEL: {"backends": [{"url": engine.url}], "timeouts": {"begin_s": 50}},
        },
        "tools": {"web_search": {"backend": "searxng", "base_url": search.url}},
        "mcp": {
            "providers": {
                "postgres-db": {"type": "postgresql", "config": where | {"credentials": {"secret_name": "db"}}},
                "vector-store": {"type": "chroma", "config": gone},
            },
            "allow_addresses": ["127.0.0.1"],
        },
        "limits": {"requests_per_minute": 1_000_000, "tool_calls_per_minute": 1_000_000},
    }
    started = Gateway(tmp_path_factory.mktemp("endpoint"), config, DB=facts.password or "")
    with harness.closing(started):
        yield started


@pytest.fixture(scope="module")
def key(endpoint: Gateway) -> Key:
    return endpoint.new_key("user")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Where the package stands once pip has built and installed it."""
    into = tmp_path_factory.mktemp("site")
    offline = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation"]
    done = harness.run([sys.executable, "-m", "pip", "install", *offline, "--target", str(into), str(SDK)])
    assert done.returncode == 0, done.stderr
    return into


def in_python(site: pathlib.Path, gateway: Gateway, key: Key, *args: str) -> subprocess.CompletedProcess[str]:
    """Runs Python as somebody who has the package, and address and key in the environment."""
    env = {"PYTHONPATH": str(site), "FOREBAY_URL": gateway.url, "FOREBAY_KEY": key.key}
    return harness.run([sys.executable, *args], **env)


def pytest_of(tests: pathlib.Path, site: pathlib.Path, gateway: Gateway, key: Key) -> subprocess.CompletedProcess[str]:
    quiet = ["-q", "-p", "no:cacheprovider", "--rootdir", str(tests.parent), "-c", os.devnull]
    return in_python(site, gateway, key, "-B", "-m", "pytest", *quiet, str(tests))


def test_the_base_class_passes_against_a_gateway_that_does_all_of_it(
    endpoint: Gateway, key: Key, site: pathlib.Path, search: SearchEngine, model: Scripted
) -> None:
    model.will()
    search.queries.clear()
    done = pytest_of(SDK / "tests" / "test_mcp_integration.py", site, endpoint, key)
    assert done.returncode == 0 and "4 passed" in done.stdout, done.stdout
    assert search.queries == ["AI news"], "it ran once: here, and not for the client that wanted the call"
    assert any(FACT in json.dumps(body) or "about gates" in json.dumps(body) for body in model.bodies)


SHORT = """
from forebay.testing import MCPTestSuite

class TestDown(MCPTestSuite):
    providers = ("vector-store",)

class TestUnwilling(MCPTestSuite):
    model = "smollm2-135m"
    tool = "calculator"
    options = {"max_tokens": 8}
    errand_options = {"tool_choice": "none"}
"""


def test_the_base_class_fails_where_a_provider_is_down_or_a_tool_does_not_run(
    endpoint: Gateway, key: Key, site: pathlib.Path, tmp_path: pathlib.Path, model: Scripted
) -> None:
    model.will()
    tests = tmp_path / "test_short.py"
    tests.write_text(SHORT, encoding="utf-8")
    done = pytest_of(tests, site, endpoint, key)
    assert done.returncode == 1 and "2 failed, 4 passed" in done.stdout, done.stdout
    assert "TestDown::test_context_retrieval" in done.stdout
    assert "TestUnwilling::test_tool_execution" in done.stdout


CLIENT = """
import json
from forebay import Client, ForebayError

def failure(ask):
    try:
        ask()
    except ForebayError as error:
        return error.code, error.status
    raise AssertionError("no failure")

words = [{"role": "user", "content": "hello"}]
with Client() as client:
    chat = client.chat.completions.create
    chunks = list(chat(model="qwen-mcp", messages=words, stream=True))
    said = "".join(chunk.choices[0].delta.get("content") or "" for chunk in chunks if chunk.choices)
    broke = failure(lambda: list(chat(model="qwen-mcp", messages=words, stream=True)))
    unknown = failure(lambda: chat(model="no-such", messages=words))
    unknown_stream = failure(lambda: list(chat(model="no-such", messages=words, stream=True)))
    refused = client.post("/api/v1/keys", {"name": "mine", "role": "admin"}).status_code
with Client(key="fb_0000000000000000_" + "0" * 64) as stranger:
    locked_out = failure(lambda: stranger.chat.completions.create(model="qwen-mcp", messages=words))
print(json.dumps([said, broke, unknown, unknown_stream, refused, locked_out]))
"""


def test_the_client_streams_and_names_what_went_wrong(
    endpoint: Gateway, key: Key, site: pathlib.Path, model: Scripted
) -> None:
    model.will(script.say("hello yourself"), script.dies(3))
    done = in_python(site, endpoint, key, "-c", CLIENT)
    assert done.returncode == 0, done.stderr
    said, broke, unknown, unknown_stream, refused, locked_out = json.loads(done.stdout)
    assert said == "hello yourself"
    assert broke[0] in {"upstream_truncated", "upstream_failed"} and broke[1] is None
    assert unknown == unknown_stream == ["unknown_model", 404]
    assert refused == 403
    assert locked_out == ["invalid_key", 401]


def test_an_endpoint_is_tested_as_other_gateways_spell_it(
    endpoint: Gateway, key: Key, search: SearchEngine, model: Scripted
) -> None:
    model.will()
    search.queries.clear()
    told = ("--description", "Search the web for current information", "--parameters", "query:string")
    made = endpoint.cli("create-tool", "web-search", *told)
    assert made.returncode == 0, made.stderr
    done = endpoint.cli("test-endpoint", "qwen-mcp", *THEIRS, "-o", "json", key=key.key)
    assert done.returncode == 0, done.stderr
    tested = json.loads(done.stdout)
    assert NEWS in tested["answer"] and tested["problems"] == [] and tested["ms"] > 0
    assert [(call["name"], call["status"]) for call in tested["tools"]] == [("web-search", "success")]
    assert {item["provider"] for item in tested["context"]} == {"postgres-db"}
    assert search.queries == ["AI news"]
    model.will()
    table = endpoint.cli("test-endpoint", "qwen-mcp", *THEIRS, "--strict", key=key.key)
    assert table.returncode == 0, table.stderr
    for words in (NEWS, "postgres-db: ", "web-search: success", "time"):
        assert words in table.stdout, table.stdout


def test_an_endpoint_with_a_real_model_answers(endpoint: Gateway, key: Key) -> None:
    done = endpoint.cli("model", "test", MODEL, *BARE, "--max-tokens", "30", "-o", "json", key=key.key)
    assert done.returncode == 0, done.stderr
    tested = json.loads(done.stdout)
    assert tested["answer"] and tested["context"] == tested["tools"] == []


def test_an_endpoint_that_falls_short_is_a_failure_for_the_shell(endpoint: Gateway, key: Key, model: Scripted) -> None:
    """By exit code and by words; what can be said is said all the same."""

    def check(*args: str, says: str, code: int = 5) -> str:
        model.will()
        done = endpoint.cli("test-endpoint", *args, key=key.key)
        assert done.returncode == code, (args, done.stdout, done.stderr)
        assert says in done.stderr, done.stderr
        harness.expect_plain_words(done.stderr)
        return done.stdout

    down = ("--context-providers", "vector-store")
    assert "You said" in check("qwen-mcp", *BARE, *down, says="provider `vector-store` failed")
    check("qwen-mcp", *BARE, "--context-providers", "no-such", says="no-such")
    check("qwen-mcp", *BARE, "--tools", "no-such", says="unknown_tool")
    check("no-such", *BARE, says="unknown_model")
    nothing = ("--query", "xyzzy", "--context-providers", "postgres-db")
    check("qwen-mcp", *nothing, says="", code=0)
    assert "You said" in check("qwen-mcp", *nothing, "--strict", says="`postgres-db` found nothing")
    check(MODEL, *BARE, "--tools", "calculator", "--max-tokens", "8", "--strict", says="did not call `calculator`")
    quiet = script.say("")
    model.will(quiet)
    done = endpoint.cli("test-endpoint", "qwen-mcp", *BARE, key=key.key)
    assert done.returncode == 5 and "the model said nothing" in done.stderr
