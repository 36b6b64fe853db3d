"""Real parts that providers of context stand on: an embeddings engine, a Chroma server, a PostgreSQL cluster.

Each is started once for a run, on a free port of the loopback; a test has a collection or a database of its own.
"""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
import subprocess
import sys
import urllib.parse
import uuid
from collections.abc import Iterator
from typing import Any

import httpx

import harness
from harness import Engine, Process

VENV = pathlib.Path(os.environ.get("FOREBAY_VENV", sys.prefix))
DIMENSIONS = 384
# The compiled part of the package alone: the Python around it would ask for many more packages, and start slowly.
CHROMA = "import sys, chromadb_rust_bindings as chroma; chroma.cli(['chroma', *sys.argv[1:]])"


class Embeddings(Engine):
    """The same server as `Engine`, with MiniLM in it: 384 numbers for a text."""

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__(folder, harness.EMBEDDINGS)

    def of(self, *texts: str) -> list[list[float]]:
        body = {"model": harness.EMBEDDINGS, "input": list(texts)}
        answer = httpx.post(f"{self.url}/embeddings", json=body, timeout=harness.WAIT_SECONDS_MAX, trust_env=False)
        assert answer.status_code == 200, answer.text
        return [row["embedding"] for row in sorted(answer.json()["data"], key=lambda row: row["index"])]


def cosine(one: list[float], other: list[float]) -> float:
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return dot / math.sqrt(sum(a * a for a in one) * sum(b * b for b in other))


class Chroma(Process):
    """`chroma run`; what it keeps lies in the folder that it is given."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.port = harness.free_port()
        self.url = f"http://127.0.0.1:{self.port}/api/v2"
        place = ["--path", str(folder / "chroma"), "--host", "127.0.0.1", "--port", str(self.port)]
        env = harness.clean_env(PYTHONPATH=str(VENV / "chroma"), ANONYMIZED_TELEMETRY="False")
        super().__init__("chroma", [sys.executable, "-c", CHROMA, "run", *place], folder / "chroma.log", env)
        self.wait_until_ready(f"{self.url}/heartbeat")
        self.http = httpx.Client(
            base_url=f"{self.url}/tenants/default_tenant/databases/default_database",
            trust_env=False,
            timeout=harness.WAIT_SECONDS_MAX,
        )

    def collection(self, texts: dict[str, str], embeddings: Embeddings) -> str:
        """The name of a new collection that holds these texts by id, each with its vector. Chroma itself makes none."""
        name = f"facts-{uuid.uuid4().hex[:12]}"
        id_ = self.said("/collections", {"name": name, "configuration": {"hnsw": {"space": "cosine"}}})["id"]
        rows = {"ids": list(texts), "documents": list(texts.values()), "embeddings": embeddings.of(*texts.values())}
        self.said(f"/collections/{id_}/add", rows)
        return name

    def nearest(self, collection: str, vector: list[float]) -> str:
        """The id of the nearest text, as Chroma's own clients ask for it."""
        id_ = self.http.get(f"/collections/{collection}").json()["id"]
        return self.said(f"/collections/{id_}/query", {"query_embeddings": [vector], "n_results": 1})["ids"][0][0]

    def said(self, path: str, body: object) -> dict:
        answer = self.http.post(path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def close(self) -> None:
        self.http.close()
        self.terminate()


# A server with pgvector in it, of which Debian 12 has no package.
PGVECTOR = {"FOREBAY_POSTGRES": str(VENV / "pgvector")}


@contextlib.contextmanager
def postgres(folder: pathlib.Path, **server: str) -> Iterator[tuple[str, Process]]:
    """A private PostgreSQL cluster; it goes when its process is asked to."""
    address = folder / "address"
    hold = f'echo "$FOREBAY_TEST_POSTGRES_URL" >"{address}.new"; mv "{address}.new" "{address}"; exec tail -f /dev/null'
    command = [str(harness.ROOT / "scripts" / "with-postgres"), "sh", "-c", hold]
    cluster = Process("postgres", command, folder / "postgres.log", harness.clean_env(**server))
    try:
        harness.wait_for("the cluster", lambda: address.exists() or cluster.child.poll() is not None)
        assert address.exists(), cluster.log
        yield address.read_text(encoding="utf-8").strip(), cluster
    finally:
        cluster.terminate()


class Database:
    """A database of its own in the cluster at this address."""

    def __init__(self, address: str) -> None:
        url = urllib.parse.urlsplit(address)
        self.cluster, self.name = url, f"facts_{uuid.uuid4().hex[:12]}"
        self.host, self.port, self.user, self.password = url.hostname, url.port, url.username, url.password
        self.sql(f"CREATE DATABASE {self.name}", "postgres")

    def provider(self, **settings: Any) -> dict[str, Any]:
        """The `config` of a provider that asks it, with its password as the secret `db-credentials`."""
        place = {"host": self.host, "port": self.port, "database": self.name, "user": self.user}
        return {**place, "credentials": {"secret_name": "db-credentials"}, **settings}

    def sql(self, text: str, database: str | None = None) -> str:
        """What `psql` prints; the password goes by its environment, which no list of processes shows."""
        where = self.cluster._replace(netloc=f"{self.user}@{self.host}:{self.port}", path=f"/{database or self.name}")
        command = ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "-v", "ON_ERROR_STOP=1", "-d"]
        done = subprocess.run(
            [*command, where.geturl()],
            input=text,
            env=harness.clean_env(PGPASSWORD=self.password or ""),
            text=True,
            capture_output=True,
            timeout=harness.WAIT_SECONDS_MAX,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()
