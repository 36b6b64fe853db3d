"""Who waits how long where more tasks come than can be done: a histogram for each priority. Runs alone.

Four workers call a tool that takes a tenth of a second, and half as much again is submitted as they can do, spread
evenly over the priorities, for BENCH_SECONDS (300 unless said otherwise). So the queue grows all the time: the more
urgent should hardly wait, the others as long as there is nobody more urgent, and nobody longer than ageing allows.
"""

import datetime
import http.client
import http.server
import itertools
import json
import os
import pathlib
import shutil
import statistics
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import Gateway, build

SECONDS = int(os.environ.get("BENCH_SECONDS", "300"))
WORKERS, TOOL_SECONDS, LOAD = 4, 0.1, 1.5
PRIORITIES = ("low", "medium", "high", "critical")
BOUNDS = (0.1, 1, 5, 15, 30, 60, 120, 180, 240)
# How much longer than a new task of the next higher priority anybody waits: what `rank` in the domain says.
AGEING_STEP_SECONDS = 60
TASKS = "/api/v1/mcp/tasks"


class Slow(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        time.sleep(TOOL_SECONDS)
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


class Client:
    def __init__(self, gateway):
        self.headers = {"x-api-key": gateway.key, "content-type": "application/json"}
        self.connection = http.client.HTTPConnection(gateway.url.removeprefix("http://"), timeout=60)

    def ask(self, method, path, body=None):
        self.connection.request(method, path, json.dumps(body) if body else None, self.headers)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status not in (200, 202):
            raise SystemExit(f"{method} {path}: {answer.status} {text[:300]!r}")
        return json.loads(text)


def submit(client):
    """Submits at an even rate, whatever becomes of it; the time of the last one ends it."""
    every = TOOL_SECONDS / WORKERS / LOAD
    begun, count = time.monotonic(), 0
    while time.monotonic() - begun < SECONDS:
        body = {"type": "tools/call", "input": {"name": "slow"}, "priority": PRIORITIES[count % len(PRIORITIES)]}
        client.ask("POST", TASKS, body)
        count += 1
        time.sleep(max(0, begun + count * every - time.monotonic()))
    return count


def listed(client):
    query, found = "?limit=200", []
    while True:
        page = client.ask("GET", TASKS + query)
        found += page["tasks"]
        if "next_cursor" not in page:
            return found
        query = f"?limit=200&cursor={page['next_cursor']}"


def at(text):
    return datetime.datetime.fromisoformat(text).timestamp()


def figures(binary, folder):
    endpoint = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=endpoint.serve_forever, daemon=True).start()
    tool = {
        "name": "slow",
        "description": "Takes a tenth of a second.",
        "endpoint": {"url": f"http://127.0.0.1:{endpoint.server_address[1]}/", "method": "POST"},
    }
    config = {"tasks": {"workers": WORKERS}, "mcp": {"allow_addresses": ["127.0.0.1"], "tools": [tool]}}
    gateway = Gateway(binary, folder, "".join(f"{key}: {json.dumps(value)}\n" for key, value in config.items()))
    gateway.start()
    try:
        client = Client(gateway)
        count = submit(client)
        tasks = listed(client)
    finally:
        gateway.stop()
        endpoint.shutdown()
    end = max(at(task["created_at"]) for task in tasks)
    print(f"\n{count:,} tasks in {SECONDS} s, {LOAD} times what {WORKERS} workers can do; seconds until each began\n")
    heads = [f"≤ {bound:g} s" for bound in BOUNDS] + ["longer", "still waits", "p50 s", "longest s"]
    print("| priority | " + " | ".join(heads) + " |\n|---|" + "---|" * len(heads))
    longest = {}
    for priority in reversed(PRIORITIES):
        mine = [task for task in tasks if task["priority"] == priority]
        waits = [at(task["started_at"]) - at(task["created_at"]) for task in mine if "started_at" in task]
        cells, below = [], 0
        for bound in BOUNDS:
            within = sum(wait <= bound for wait in waits)
            cells.append(within - below)
            below = within
        waiting = [end - at(task["created_at"]) for task in mine if "started_at" not in task]
        longest[priority] = max([*waits, *waiting], default=0)
        median = f"{statistics.median(waits):.2f}" if waits else "–"
        row = [*cells, len(waits) - below, len(waiting), median, f"{longest[priority]:.1f}"]
        print(f"| {priority} | " + " | ".join(str(cell) for cell in row) + " |")
    # Whoever is one step less urgent waits at most one step of ageing longer, give or take what runs.
    ordered = [longest[priority] for priority in reversed(PRIORITIES)]
    return [lower <= higher + AGEING_STEP_SECONDS + 5 for higher, lower in itertools.pairwise(ordered)]


def main():
    binary = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else build()["forebay"]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="forebay-bench-"))
    try:
        return 0 if all(figures(binary, folder)) else 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
