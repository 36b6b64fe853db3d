"""Upstream servers behind the gateway: what a call through to one costs, what many tools and many listeners cost."""

import json
import resource
import socket
import statistics
import time
import urllib.request

from harness import (
    PORT,
    REQUESTS,
    TURNS,
    Gateway,
    cpu_ms,
    load,
    mcp_request,
    measure_all,
    resident_mb,
    start_reference,
    tell,
    verdict,
)

LISTENERS = 1000
LISTENERS_OF_A_KEY = 100
TOOLS_EACH = 100
PAIRS = 20


def config(upstream, count):
    """So many upstreams, all of them one server with a hundred tools."""
    lines = [f"  up{index}: {{ url: 'http://{upstream}/' }}" for index in range(count)]
    return "upstreams:\n" + "\n".join(lines) + "\n" if lines else ""


def request(gateway, method, params, **headers):
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}).encode()
    headers = {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": method,
        "x-api-key": gateway.key,
        **headers,
    }
    return body, headers


def post(gateway, method, params):
    body, headers = request(gateway, method, params)
    with urllib.request.urlopen(urllib.request.Request(gateway.url + "/mcp", body, headers), timeout=60) as answer:
        return json.load(answer)["result"]


def wait_for_tools(gateway, count):
    deadline = time.monotonic() + 120
    while True:
        tools = post(gateway, "tools/list", {})["tools"]
        if len(tools) >= count:
            return tools
        if time.monotonic() > deadline:
            raise SystemExit(f"{len(tools)} of {count} tools are listed after two minutes")
        time.sleep(0.2)


def list_ms(gateway):
    """A warm list, over one kept connection, as the median of 30."""
    body, headers = request(gateway, "tools/list", {})
    host, port = gateway.url.removeprefix("http://").split(":")
    import http.client

    connection = http.client.HTTPConnection(host, int(port))
    times = []
    for _ in range(40):
        begin = time.perf_counter()
        connection.request("POST", "/mcp", body, headers)
        size = len(connection.getresponse().read())
        times.append((time.perf_counter() - begin) * 1000)
    return statistics.median(times[10:]), size


def new_key(gateway, name):
    body = json.dumps({"name": name, "role": "user"}).encode()
    headers = {"content-type": "application/json", "x-api-key": gateway.key}
    with urllib.request.urlopen(
        urllib.request.Request(gateway.url + "/api/v1/keys", body, headers), timeout=30
    ) as made:
        return json.load(made)["key"]


def listeners_mb(gateway):
    """Opens so many subscriptions, each on a connection of its own, and waits until each was acknowledged.

    One key may listen a hundred times at most, so there are ten.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    body, headers = request(gateway, "subscriptions/listen", {"notifications": {"toolsListChanged": True}})
    host, port = gateway.url.removeprefix("http://").split(":")
    keys = [new_key(gateway, f"listener-{number}") for number in range(LISTENERS // LISTENERS_OF_A_KEY)]
    sockets = []
    for number in range(LISTENERS):
        headers["x-api-key"] = keys[number // LISTENERS_OF_A_KEY]
        lines = ["POST /mcp HTTP/1.1", f"host: {host}:{port}", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        message = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
        one = socket.create_connection((host, int(port)), timeout=30)
        one.sendall(message)
        sockets.append(one)
    for one in sockets:
        seen = b""
        while b"acknowledged" not in seen:
            piece = one.recv(65536)
            if not piece:
                raise SystemExit(f"a listener was refused: {seen[:300]!r}")
            seen += piece
    time.sleep(1)
    resident = resident_mb(gateway.process.pid)
    for one in sockets:
        one.close()
    return resident


def crowded_costs(binaries, alone, crowded):
    """How many times as much CPU a call costs the second gateway: the median of pairs of turns, each gateway first in
    half of them. A noisy host changes the cost of a call within seconds, and so for both of a pair."""
    calls = REQUESTS // TURNS
    both = [alone, crowded]
    wanted = {one: {"url": one.url + "/mcp", **mcp_request([f"x-api-key: {one.key}"])} for one in both}
    for call in wanted.values():
        load(binaries, **call, requests=4000)
    ratios = []
    for _ in range(PAIRS):
        costs = {}
        for one in both:
            before = cpu_ms(one.process.pid)
            load(binaries, **wanted[one], requests=calls, connections=16)
            costs[one] = cpu_ms(one.process.pid) - before
        ratios.append(costs[crowded] / max(1, costs[alone]))
        both.reverse()
    return statistics.median(ratios)


def figures(binaries, folder):
    upstream, address = start_reference(binaries, "mcp", "--tools", str(TOOLS_EACH))
    met = []
    gateways = []

    def start(name, count, port=PORT):
        gateway = Gateway(binaries["forebay"], folder / name, config(address, count), port)
        gateway.start()
        gateways.append(gateway)
        wait_for_tools(gateway, count * TOOLS_EACH)
        return gateway

    def stop(gateway):
        gateways.remove(gateway)
        gateway.stop()

    try:
        print(f"\nupstreams: the SDK's server with {TOOLS_EACH} tools over HTTP, in a process of its own\n")
        gateway = start("one", 1)
        call = mcp_request([f"x-api-key: {gateway.key}"], "up0__calculator")
        ways = {
            "**Forebay, tools/call through to an upstream**": (
                gateway.process.pid,
                {"url": gateway.url + "/mcp", **call},
            )
        }
        seen = measure_all(binaries, ways)
        tell(seen)
        (through,) = seen.values()
        stop(gateway)
        gateway = start("none", 0)
        listening = listeners_mb(gateway)
        stop(gateway)
        gateway = start("fifty", 50)
        took, size = list_ms(gateway)
        stop(gateway)
        both = [start("empty", 0), start("hundred", 100, PORT + 1)]
        times = crowded_costs(binaries, *both)
        for gateway in both:
            stop(gateway)
        print("\n| figure | measured | target | |\n|---|---|---|---|")
        met += [
            verdict("tools/call through to an upstream, CPU of the gateway", through["cpu_ms"], 0.4, "ms"),
            verdict(f"resident with {LISTENERS:,} open listeners", listening, 150, "MB"),
            verdict(
                f"tools/list over 50 upstreams and {50 * TOOLS_EACH:,} tools ({size / 1e6:.1f} MB), warm",
                took,
                20,
                "ms",
            ),
            verdict(
                f"{100 * TOOLS_EACH:,} tools in the catalogue: cost of one call against none",
                times,
                1.10,
                "×",
            ),
        ]
    finally:
        for gateway in gateways:
            gateway.process.terminate()
        upstream.terminate()
    return met
