"""How soon a task begins that is submitted over REST while nothing else goes on, on each store.

The task calls a tool whose endpoint is in this process: what is measured goes from the request to the gateway, through
its database, to the request to the endpoint.
"""

import http.client
import http.server
import json
import os
import pathlib
import queue
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import ROOT, Gateway, build, verdict

TASKS = int(os.environ.get("BENCH_STARTS", "500"))
PATH = "/api/v1/mcp/tasks"
# By then the one before has been settled, and nothing else goes on.
IDLE_SECONDS = 0.05


class Endpoint(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    begun = queue.Queue()

    def do_POST(self):
        self.begun.put(time.perf_counter())
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


def measured(gateway):
    client = http.client.HTTPConnection(gateway.url.removeprefix("http://"), timeout=60)
    headers = {"x-api-key": gateway.key, "content-type": "application/json"}
    body, took = json.dumps({"type": "tools/call", "input": {"name": "begin"}}), []
    for _ in range(TASKS):
        time.sleep(IDLE_SECONDS)
        sent = time.perf_counter()
        client.request("POST", PATH, body, headers)
        answer = client.getresponse()
        text = answer.read()
        if answer.status != 202:
            raise SystemExit(f"{answer.status} {text[:300]!r}")
        took.append((Endpoint.begun.get(timeout=60) - sent) * 1000)
    took.sort()
    return {"p50_ms": statistics.median(took), "p99_ms": took[len(took) * 99 // 100]}


def one_store(binary, folder, url):
    endpoint = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=endpoint.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{endpoint.server_address[1]}/"
    tool = {"name": "begin", "description": "Begins.", "endpoint": {"url": address, "method": "POST"}}
    config = {"mcp": {"allow_addresses": ["127.0.0.1"], "tools": [tool]}, **({"store": {"url": url}} if url else {})}
    gateway = Gateway(binary, folder, "".join(f"{key}: {json.dumps(value)}\n" for key, value in config.items()))
    gateway.start()
    try:
        return measured(gateway)
    finally:
        gateway.stop()
        endpoint.shutdown()


def figures(binary, folder):
    command = [str(ROOT / "scripts" / "with-postgres"), sys.executable, __file__, str(binary), str(folder / "postgres")]
    seen = {
        "sqlite": one_store(binary, folder / "sqlite", None),
        "postgres": json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout),
    }
    print(f"\n{TASKS:,} tasks over REST, one after another: from the request until the tool that it calls is reached\n")
    print("| store | p50 ms | p99 ms |\n|---|---|---|")
    for name, one in seen.items():
        print(f"| {name} | {one['p50_ms']:.2f} | {one['p99_ms']:.2f} |")
    print("\n| figure | measured | target | |\n|---|---|---|---|")
    return [verdict(f"submit to start over REST on {name}, p50", one["p50_ms"], 5, "ms") for name, one in seen.items()]


def main():
    if len(sys.argv) == 3:
        url = os.environ["FOREBAY_TEST_POSTGRES_URL"]
        print(json.dumps(one_store(sys.argv[1], pathlib.Path(sys.argv[2]), url)))
        return 0
    binary = pathlib.Path(sys.argv[1]) if len(sys.argv) == 2 else build()["forebay"]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="forebay-bench-"))
    try:
        return 0 if all(figures(binary, folder)) else 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
