"""What the end-to-end tests share: one real engine and one gateway for the whole run, keys, and forged tokens."""

from __future__ import annotations

import pathlib
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import harness
import parts
from harness import Engine, Gateway, Key, NotingBackend
from issuer import AUDIENCE, ISSUER, Issuer
from npm import MODULES
from parts import Chroma, Database, Embeddings
from scripted import Scripted

# Secrets that nothing may ever show; each is drawn anew, so that no old file can hold it by chance.
CANARY_BACKEND_KEY = f"canary-backend-{secrets.token_hex(16)}"
CANARY_PROMPT = f"canary-prompt-{secrets.token_hex(16)}"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def binary() -> pathlib.Path:
    if not harness.BINARY.exists():
        pytest.exit(f"{harness.BINARY} is missing: run 'cargo build' first, or set FOREBAY_BINARY", returncode=2)
    return harness.BINARY


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("e2e")


@pytest.fixture(scope="session")
def engine(folder: pathlib.Path) -> Iterator[Engine]:
    started = Engine(folder)
    yield started
    started.kill()


@pytest.fixture(scope="session")
def embeddings(folder: pathlib.Path) -> Iterator[Embeddings]:
    started = Embeddings(folder)
    yield started
    started.kill()


@pytest.fixture(scope="session")
def chroma(folder: pathlib.Path) -> Iterator[Chroma]:
    with harness.closing(Chroma(folder)) as started:
        yield started


@pytest.fixture(scope="session")
def cluster(folder: pathlib.Path) -> Iterator[str]:
    """The address of a PostgreSQL cluster; tests make databases in it."""
    place = folder / "cluster"
    place.mkdir()
    with parts.postgres(place) as (address, _):
        yield address


@pytest.fixture
def database(cluster: str) -> Database:
    return Database(cluster)


@pytest.fixture(scope="session")
def noting() -> Iterator[NotingBackend]:
    with harness.closing(NotingBackend()) as backend:
        yield backend


@pytest.fixture(scope="session")
def scripted() -> Iterator[Scripted]:
    """A backend that does what the test before it wrote down with `will`."""
    with harness.closing(Scripted()) as backend:
        yield backend


@pytest.fixture(scope="session")
def issuer() -> Iterator[Issuer]:
    with harness.closing(Issuer()) as made:
        yield made


def models(**urls: str) -> dict[str, Any]:
    """The section `models` for backends by name; the noting one asks for a key."""
    section: dict[str, Any] = {}
    for name, url in urls.items():
        backend: dict[str, Any] = {"url": url, "model": harness.MODEL}
        if name == "noting":
            backend["api_key"] = {"env": "NOTING_KEY"}
        section[name.replace("smollm2", harness.MODEL)] = {"backends": [backend], "timeouts": {"begin_s": 30}}
    return section


@pytest.fixture(scope="session")
def readable(folder: pathlib.Path) -> pathlib.Path:
    """The folder that the tool `file_reader` may read, with a secret beside it and a link that leads there."""
    made = folder / "readable"
    made.mkdir()
    (made / "hello.txt").write_text("hello from a file\n", encoding="utf-8")
    (folder / "secret.txt").write_text("never shown\n", encoding="utf-8")
    (made / "link.txt").symlink_to(folder / "secret.txt")
    return made


@pytest.fixture(scope="session")
def gateway(
    folder: pathlib.Path, engine: Engine, noting: NotingBackend, issuer: Issuer, readable: pathlib.Path
) -> Iterator[Gateway]:
    """The gateway that most tests share: real engine, noting backend, tokens; limits wide enough for all of them."""
    config = {
        "models": models(smollm2=engine.url, noting=noting.url),
        "tools": {"file_reader": {"allowed_paths": [str(readable)]}},
        "auth": {"jwt": {"issuer": ISSUER, "audience": AUDIENCE, "jwks_url": issuer.jwks_url}},
        "limits": {"requests_per_minute": 1_000_000, "tool_calls_per_minute": 1_000_000},
        "telemetry": {"log": {"filter": "debug"}},
    }
    started = Gateway(folder / "shared", config, NOTING_KEY=CANARY_BACKEND_KEY)
    with harness.closing(started):
        yield started


@pytest.fixture(scope="session")
def asking(folder: pathlib.Path, engine: Engine, embeddings: Embeddings, scripted: Scripted) -> Iterator[Gateway]:
    """The gateway for whoever asks models: those that answer for themselves, in either dialect, and one by script."""

    def model(url: str, name: str, kind: str = "openai") -> dict[str, Any]:
        return {"backends": [{"url": url, "model": name, "engine": kind}], "timeouts": {"begin_s": 50}}

    config = {
        "models": {
            harness.MODEL: model(engine.url, harness.MODEL),
            harness.EMBEDDINGS: model(embeddings.url, harness.EMBEDDINGS),
            "messages": model(engine.url, harness.MODEL, "anthropic"),
            "scripted": model(scripted.url, "by-script"),
            "scripted-messages": model(scripted.url, "by-script", "anthropic"),
        },
        "upstreams": {
            "memory": {
                "command": "node",
                "args": [str(MODULES / "@modelcontextprotocol" / "server-memory" / "dist" / "index.js")],
                "env": {"MEMORY_FILE_PATH": str(folder / "memory.jsonl")},
            }
        },
        "limits": {"requests_per_minute": 1_000_000, "tool_calls_per_minute": 1_000_000},
    }
    with harness.closing(Gateway(folder / "asking", config)) as started:

        def has_memory() -> bool:
            told = started.rpc("tools/list", {}).json()
            return any(tool["name"].startswith("memory__") for tool in told.get("result", {}).get("tools", []))

        harness.wait_for("the tools of the memory server", has_memory)
        yield started


@pytest.fixture(scope="session")
def asker(asking: Gateway) -> Key:
    return asking.new_key("user")


@pytest.fixture
def start(tmp_path: pathlib.Path) -> Iterator[Callable[..., Gateway]]:
    """Starts gateways of the test's own."""
    started: list[Gateway] = []

    def start_one(config: dict[str, Any] | None = None, **env: str) -> Gateway:
        started.append(Gateway(tmp_path / f"gateway-{len(started)}", config or {}, **env))
        return started[-1]

    yield start_one
    for one in started:
        one.close()


@pytest.fixture(scope="session")
def user(gateway: Gateway) -> Key:
    return gateway.new_key("user")


@pytest.fixture(scope="session")
def events_of(gateway: Gateway) -> Callable[[str], list[dict[str, Any]]]:
    """The events of a trace, as an administrator reads them; waits, since activity is written in batches."""

    def read(trace: str) -> list[dict[str, Any]]:
        def found() -> list[dict[str, Any]]:
            answer = gateway.http.get("/api/v1/events", params={"trace": trace}, headers=gateway.admin.bearer)
            assert answer.status_code == 200, answer.text
            return answer.json()["events"]

        return harness.wait_for(f"an event of trace {trace}", found)

    return read


def pytest_report_header() -> str:
    return f"forebay: {harness.BINARY}"
