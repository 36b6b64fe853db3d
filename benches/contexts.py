"""Contexts: one of 50 nodes read whole among 10,000, on each store, over HTTP."""

import http.client
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import ROOT, Gateway, build, cpu_ms, resident_mb, verdict

CONTEXTS = int(os.environ.get("BENCH_CONTEXTS", "10000"))
NODES = 50
READS = int(os.environ.get("BENCH_READS", "2000"))
WRITERS = 16
PATH = "/api/v1/mcp/contexts"
MODEL = "qwen"
# Nobody is asked anything: the engine need not be there.
MODELS = f"models: {{ {MODEL}: {{ backends: [ {{ url: 'http://127.0.0.1:9/v1', probe: {{ interval_s: 0 }} }} ] }} }}\n"


class Client:
    """One connection that stays open."""

    def __init__(self, gateway):
        self.connection = http.client.HTTPConnection(gateway.url.removeprefix("http://"), timeout=60)
        self.headers = {"x-api-key": gateway.key, "content-type": "application/json"}

    def call(self, method, path, body=None, wanted=(200, 201)):
        self.connection.request(method, path, body, self.headers)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status not in wanted:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]}")
        return json.loads(text)


def make(gateway, count, into):
    """Makes its share of the contexts; an utterance is some 200 bytes."""
    client = Client(gateway)
    roles = ["user", "assistant"]
    nodes = [{"role": roles[place % 2], "content": "so much is said " * 12} for place in range(NODES)]
    body = json.dumps({"model_id": MODEL, "nodes": nodes, "return_context": False})
    for _ in range(count):
        into.append(client.call("POST", PATH, body)["id"])


def measured(gateway):
    ids, begin = [], time.perf_counter()
    share = CONTEXTS // WRITERS
    writers = [threading.Thread(target=make, args=(gateway, share, ids)) for _ in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    made_per_s = len(ids) / (time.perf_counter() - begin)
    client, took, used = Client(gateway), [], cpu_ms(gateway.process.pid)
    for place in random.Random(7).choices(ids, k=READS):
        begin = time.perf_counter()
        read = client.call("GET", f"{PATH}/{place}")
        took.append((time.perf_counter() - begin) * 1000)
        if len(read["nodes"]) != NODES:
            raise RuntimeError(f"{place} has {len(read['nodes'])} nodes")
    used = cpu_ms(gateway.process.pid) - used
    took.sort()
    return {
        "contexts": len(ids),
        "made_per_s": made_per_s,
        "p50_ms": statistics.median(took),
        "p99_ms": took[len(took) * 99 // 100],
        "cpu_ms": used / READS,
        "answer_kb": len(json.dumps(read)) / 1000,
        "resident_mb": resident_mb(gateway.process.pid),
    }


def stored_mb(gateway, url):
    """What the database takes on the disk."""
    if not url:
        return sum(file.stat().st_size for file in (gateway.folder / "data").glob("*.db*")) / 1e6
    size = ["psql", "--no-psqlrc", "-tA", "-c", "SELECT pg_database_size(current_database())", "-d", url]
    return int(subprocess.run(size, check=True, stdout=subprocess.PIPE, text=True).stdout) / 1e6


def one_store(binary, folder, url):
    store = f"store: {{ url: '{url}' }}\n" if url else ""
    config = f"{store}mcp: {{ max_contexts: 100000 }}\n{MODELS}"
    gateway = Gateway(binary, folder, config)
    gateway.start()
    try:
        return {**measured(gateway), "stored_mb": stored_mb(gateway, url)}
    finally:
        gateway.stop()


def figures(binaries, folder):
    here = [sys.executable, __file__, str(binaries["forebay"]), str(folder / "postgres")]
    on_postgres = [str(ROOT / "scripts" / "with-postgres"), *here]
    seen = {
        "sqlite": one_store(binaries["forebay"], folder / "sqlite", None),
        "postgres": json.loads(subprocess.run(on_postgres, check=True, stdout=subprocess.PIPE, text=True).stdout),
    }
    print(f"\ncontexts of {NODES} nodes; {WRITERS} clients make them, one reads {READS:,} at random, in turn\n")
    print(
        "| store | contexts | made/s | GET p50 ms | GET p99 ms | CPU ms a GET | answer KB | stored MB | resident MB |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    for name, one in seen.items():
        cells = [f"{one[figure]:,.2f}" for figure in ("p50_ms", "p99_ms", "cpu_ms")]
        cells += [f"{one[figure]:,.0f}" for figure in ("answer_kb", "stored_mb", "resident_mb")]
        print(f"| {name} | {one['contexts']:,} | {one['made_per_s']:,.0f} | {' | '.join(cells)} |")
    print("\n| figure | measured | target | |\n|---|---|---|---|")
    return [verdict(f"GET of a context on {name}, p50", one["p50_ms"], 5, "ms") for name, one in seen.items()]


def main():
    if len(sys.argv) == 3:
        binary, folder = sys.argv[1], pathlib.Path(sys.argv[2])
        print(json.dumps(one_store(binary, folder, os.environ["FOREBAY_TEST_POSTGRES_URL"])))
        return 0
    binaries = {"forebay": pathlib.Path(sys.argv[1])} if len(sys.argv) == 2 else build()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="forebay-bench-"))
    try:
        return 0 if all(figures(binaries, folder)) else 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
