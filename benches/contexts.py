"""Contexts: one of 50 nodes read whole among 10,000, on each store, over HTTP. Run it by itself."""

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
from harness import ROOT, Gateway, build, verdict

CONTEXTS = int(os.environ.get("BENCH_CONTEXTS", "10000"))
NODES = 50
READS = 2_000
WRITERS = 16
PATH = "/api/v1/mcp/contexts"
# Nobody is asked anything: the engine need not be there.
MODELS = "models: { qwen: { backends: [ { url: 'http://127.0.0.1:9/v1', probe: { interval_s: 0 } } ] } }\n"


class Client:
    """One connection that stays open."""

    def __init__(self, gateway):
        self.connection = http.client.HTTPConnection(gateway.url.removeprefix("http://"))
        self.headers = {"x-api-key": gateway.key, "content-type": "application/json"}

    def call(self, method, path, body=None):
        self.connection.request(method, path, body, self.headers)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status not in (200, 201):
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]}")
        return json.loads(text)


def make(gateway, count, into):
    """Makes its share of the contexts; an utterance is some 200 bytes."""
    client = Client(gateway)
    roles = ["user", "assistant"]
    nodes = [{"role": roles[place % 2], "content": "so much is said " * 12} for place in range(NODES)]
    body = json.dumps({"model_id": "qwen", "nodes": nodes, "return_context": False})
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
    client, took = Client(gateway), []
    for place in random.Random(7).choices(ids, k=READS):
        begin = time.perf_counter()
        read = client.call("GET", f"{PATH}/{place}")
        took.append((time.perf_counter() - begin) * 1000)
        if len(read["nodes"]) != NODES:
            raise RuntimeError(f"{place} has {len(read['nodes'])} nodes")
    took.sort()
    return {
        "contexts": len(ids),
        "made_per_s": made_per_s,
        "p50_ms": statistics.median(took),
        "p99_ms": took[len(took) * 99 // 100],
    }


def one_store(binary, folder, url):
    store = f"store: {{ url: '{url}' }}\n" if url else ""
    config = f"{store}mcp: {{ max_contexts: 100000 }}\n{MODELS}"
    gateway = Gateway(binary, folder, config)
    gateway.start()
    try:
        return measured(gateway)
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
    print("| store | contexts | made/s | GET p50 ms | GET p99 ms |\n|---|---|---|---|---|")
    for name, one in seen.items():
        rate = f"{one['made_per_s']:,.0f}"
        print(f"| {name} | {one['contexts']:,} | {rate} | {one['p50_ms']:.2f} | {one['p99_ms']:.2f} |")
    print("\n| figure | measured | target | |\n|---|---|---|---|")
    return [verdict(f"GET of a context on {name}, p99", one["p99_ms"], 5, "ms") for name, one in seen.items()]


def main():
    if len(sys.argv) == 3:
        binary, folder = sys.argv[1], pathlib.Path(sys.argv[2])
        print(json.dumps(one_store(binary, folder, os.environ["FOREBAY_TEST_POSTGRES_URL"])))
        return 0
    folder = pathlib.Path(tempfile.mkdtemp(prefix="forebay-bench-"))
    try:
        return 0 if all(figures(build(), folder)) else 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
