"""Real processes for the end-to-end tests: the gateway's binary, the small engine, and a backend that keeps notes.

Nothing here sleeps for luck: `wait_for` asks again until a condition holds, and fails with what it last saw.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BINARY = pathlib.Path(os.environ.get("FOREBAY_BINARY", TARGET / "debug" / "forebay"))
MODEL = "smollm2-135m"
# What it reads in one request (scripts/engine.py shares its context between two).
MODEL_TOKENS = 1024
EMBEDDINGS = "all-minilm-l6-v2"
QUESTION = "What is the capital of France?"
SYSTEM = "Answer in one short sentence."
WAIT_SECONDS_MAX = 60.0
POLL_SECONDS = 0.02
# Below those that systems choose from for connections.
PORTS = range(16_000, 32_000)
_ports_given: set[int] = set()


def wait_for(what: str, condition: Callable[[], Any], seconds: float = WAIT_SECONDS_MAX) -> Any:
    """The first truthy value of the condition; fails by name once the time is over."""
    until = time.monotonic() + seconds
    seen: Any = None
    while time.monotonic() < until:
        seen = condition()
        if seen:
            return seen
        threading.Event().wait(POLL_SECONDS)
    raise AssertionError(f"waited {seconds:.0f} s in vain for {what}; last seen: {seen!r}")


def free_port() -> int:
    """A port that nobody has and no connection is given, so that a server that was killed finds it free. None twice."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            if port not in _ports_given:
                _ports_given.add(port)
                return port


def clean_env(**extra: str) -> dict[str, str]:
    """This environment without anything that the binary itself would read."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FOREBAY", "OTEL_", "RUST_LOG"))}
    return kept | extra


class Process:
    """A child with a log of its own, ended at the latest when its test ends."""

    def __init__(self, name: str, command: list[str], log: pathlib.Path, env: dict[str, str]) -> None:
        self.name, self.log_path = name, log
        with log.open("ab") as out:
            self.child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, start_new_session=True
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def wait_until_ready(self, url: str) -> None:
        def ready() -> bool:
            if self.child.poll() is not None:
                raise AssertionError(f"{self.name} ended with {self.child.returncode}:\n{self.log[-4000:]}")
            with contextlib.suppress(httpx.HTTPError):
                return httpx.get(url, trust_env=False, timeout=2).status_code == 200
            return False

        wait_for(f"{self.name} at {url}", ready)

    def terminate(self) -> int:
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        return self.child.wait(timeout=WAIT_SECONDS_MAX)

    def kill(self) -> None:
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait(timeout=WAIT_SECONDS_MAX)


class Engine(Process):
    """llama.cpp's server with the small real model of `make up`, or the one that makes embeddings."""

    def __init__(self, folder: pathlib.Path, model: str = MODEL) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        command = [sys.executable, str(ROOT / "scripts" / "engine.py"), str(self.port), model]
        super().__init__("engine", command, folder / f"engine-{self.port}.log", clean_env())
        self.wait_until_ready(f"http://127.0.0.1:{self.port}/health")


@dataclasses.dataclass
class Key:
    id: str
    key: str

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


class Gateway(Process):
    """The real binary with a data directory and a configuration of its own."""

    def __init__(self, folder: pathlib.Path, config: dict[str, Any], **env: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.data, self.port = folder, folder / "data", free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.config = folder / "forebay.yaml"
        # JSON is YAML, and needs no writer of its own.
        self.config.write_text(json.dumps(config, indent=2), encoding="utf-8")
        listen = f"127.0.0.1:{self.port}"
        command = [str(BINARY), "serve", "--config", str(self.config), "--data", str(self.data), "--listen", listen]
        super().__init__("gateway", command, folder / "gateway.log", clean_env(**env))
        self.wait_until_ready(f"{self.url}/readyz")
        self.admin = Key("", (self.data / "admin.key").read_text(encoding="utf-8").strip())
        self.http = httpx.Client(base_url=self.url, trust_env=False, timeout=WAIT_SECONDS_MAX)

    def cli(
        self, *args: str, key: str | None = None, stdin: str | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs the command line against this gateway, by the environment, as a user would."""
        own = clean_env(FOREBAY_URL=self.url, FOREBAY_KEY=key or self.admin.key, **(env or {}))
        return subprocess.run(
            [str(BINARY), *args],
            env=own,
            cwd=self.folder,
            input=stdin,
            text=True,
            capture_output=True,
            timeout=WAIT_SECONDS_MAX,
            check=False,
        )

    def new_key(self, role: str, tenant: str = "acme", grants: tuple[str, ...] = ()) -> Key:
        options = [option for grant in grants for option in ("--grant", grant)]
        done = self.cli("key", "create", "--role", role, "--tenant", tenant, *options, "-o", "json")
        assert done.returncode == 0, done.stderr
        made = json.loads(done.stdout)
        return Key(made["id"], made["key"])

    def rpc(self, method: str, params: Any, key: Key | None = None, path: str = "/api/v1/mcp") -> httpx.Response:
        message = {"jsonrpc": "2.0", "method": method, "params": params, "id": 1}
        return self.http.post(path, json=message, headers=(key or self.admin).bearer)

    def chat(self, body: dict[str, Any], headers: dict[str, str]) -> httpx.Response:
        return self.http.post("/v1/chat/completions", json=body, headers=headers)

    def close(self) -> None:
        self.http.close()
        self.kill()


@dataclasses.dataclass
class Heard:
    """One request as a backend received it."""

    path: str
    headers: dict[str, str]
    body: Any


class NotingBackend:
    """An OpenAI-compatible backend that notes what reaches it and answers with fields that no schema knows."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        backend = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers.get("content-length", "0"))
                body = json.loads(self.rfile.read(length))
                backend.heard.append(Heard(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                answer = json.dumps(backend.answer(body)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @staticmethod
    def answer(body: Any) -> dict[str, Any]:
        message = {"role": "assistant", "content": "noted", "x_mood": "calm"}
        return {
            "id": "chatcmpl-noted",
            "object": "chat.completion",
            "created": 1,
            "model": body.get("model"),
            "choices": [{"index": 0, "finish_reason": "stop", "message": message, "x_rank": 0.5}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4, "x_cached": 2},
            "x_engine_note": {"kept": [1, None, "yes"]},
        }

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@contextlib.contextmanager
def closing(thing: Any) -> Iterator[Any]:
    try:
        yield thing
    finally:
        thing.close()


def chat_body(model: str = MODEL, **more: Any) -> dict[str, Any]:
    """A question that the small model answers well."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
    return {"model": model, "temperature": 0, "max_tokens": 40, "messages": messages} | more


def expect_plain_words(text: str) -> None:
    """No answer shows how the program is built."""
    for trace in ("panicked", "RUST_BACKTRACE", "stack backtrace", ".rs:", "/crates/", "thread '"):
        assert trace not in text, f"{trace!r} in {text}"


def run(command: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end in an environment that says only what is given here."""
    return subprocess.run(
        command, env=clean_env(**env), text=True, capture_output=True, timeout=WAIT_SECONDS_MAX, check=False
    )
