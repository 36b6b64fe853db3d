"""What passes through: a tool's call and a chat, beside the same without the gateway; and what the process takes."""

import statistics
import time

from harness import RATE, Gateway, mcp_request, measure_all, resident_mb, start_reference, tell, verdict

STARTS = 5
SDK, TOOL = "the SDK's server, tools/call", "**Forebay, tools/call**"
ENGINE, PROXY, CHAT = "the engine, chat", "a proxy that does nothing else, chat", "**Forebay, chat**"
ENGINE_STREAM, STREAM = "the engine, chat streamed (20 chunks)", "**Forebay, chat streamed**"


def config(engine):
    return f"models: {{ stub: {{ backends: [ {{ url: 'http://{engine}/v1' }} ] }} }}\n"


def chat(address, stream=False, headers=()):
    body = {"model": "stub", "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    if stream:
        body["stream"] = True
    url, expect = f"http://{address}/v1/chat/completions", "[DONE]" if stream else "Paris"
    return {"url": url, "body": body, "expect": expect, "headers": headers}


def ways(gateway, references):
    """Each by its name: whose CPU time counts, and what is asked."""
    (route, route_at), (sdk, sdk_at), (engine, engine_at), (proxy, proxy_at) = references
    key, at = [f"x-api-key: {gateway.key}"], gateway.url.removeprefix("http://")
    own = gateway.process
    every = {
        "a plain route": (route, {"url": f"http://{route_at}/", "body": {}, "expect": "4"}),
        SDK: (sdk, {"url": f"http://{sdk_at}/", **mcp_request()}),
        TOOL: (own, {"url": f"{gateway.url}/mcp", **mcp_request(key)}),
        ENGINE: (engine, chat(engine_at)),
        PROXY: (proxy, chat(proxy_at)),
        CHAT: (own, chat(at, headers=key)),
        ENGINE_STREAM: (engine, chat(engine_at, stream=True)),
        STREAM: (own, chat(at, stream=True, headers=key)),
    }
    return {name: (process.pid, request) for name, (process, request) in every.items()}


def starts_ms(gateway):
    """Of a gateway whose database is there; it runs afterwards."""
    gateway.start()
    seen = []
    for _ in range(STARTS):
        gateway.stop()
        seen.append(gateway.start())
    return seen


def figures(binaries, folder):
    references = [start_reference(binaries, kind) for kind in ("route", "mcp", "engine")]
    engine = references[2][1]
    references.append(start_reference(binaries, "proxy", "--to", f"http://{engine}"))
    gateway = Gateway(binaries["forebay"], folder, config(engine))
    try:
        starts = starts_ms(gateway)
        time.sleep(3)
        idle = resident_mb(gateway.process.pid)
        print(
            "on: API key, policy, limits, events (SQLite, synchronous=FULL), metrics; "
            f"16 connections, latencies at {RATE}/s\n"
        )
        seen = measure_all(binaries, ways(gateway, references))
        tell(seen)
        loaded = resident_mb(gateway.process.pid)
        size = binaries["forebay"].stat().st_size / 1e6
        return [*of_requests(seen), *of_the_process(idle, loaded, starts, size)]
    finally:
        for process, _ in references:
            process.terminate()
        gateway.stop()


def of_requests(seen):
    tool, sdk, direct, proxy, through = (seen[name] for name in (TOOL, SDK, ENGINE, PROXY, CHAT))
    first_byte = seen[STREAM]["first_byte_p50_ms"] - seen[ENGINE_STREAM]["first_byte_p50_ms"]
    print(f"\ntools/call costs {tool['cpu_ms'] / sdk['cpu_ms']:.2f} × the SDK's bare server.")
    added = {name: proxy[name] - direct[name] for name in ("p50_ms", "p99_ms")}
    print(
        f"A proxy that does nothing else adds {added['p50_ms']:.2f} ms to a chat's p50 and {added['p99_ms']:.2f} ms "
        f"to its p99, for {proxy['cpu_ms']:.3f} CPU ms."
    )
    print("\n| figure | measured | target | |\n|---|---|---|---|")
    return [
        verdict("tools/call, CPU", tool["cpu_ms"], 0.2, "ms"),
        verdict("tools/call, p50 at 1,000/s", tool["p50_ms"], 1, "ms"),
        verdict("chat pass-through, CPU", through["cpu_ms"], 0.2, "ms"),
        verdict("chat, added p50", through["p50_ms"] - direct["p50_ms"], 0.3, "ms"),
        verdict("chat, added p99", through["p99_ms"] - direct["p99_ms"], 2, "ms"),
        verdict("streamed chat, added to the first byte (p50)", first_byte, 1, "ms"),
    ]


def of_the_process(idle, loaded, starts, size):
    return [
        verdict("resident when idle", idle, 40, "MB"),
        verdict("resident after the load", loaded, 80, "MB"),
        verdict(f"start to ready, median of {STARTS}", statistics.median(starts), 300, "ms"),
        verdict("release binary", size, 60, "MB"),
    ]
