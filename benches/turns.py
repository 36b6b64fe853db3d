"""Asking a model where more happens than passing through: tools that run here, context from files, slow streams."""

import http.client
import json
import random
import sqlite3
import statistics
import time

from harness import Gateway, measure_all, start_reference, tell, verdict

PASSAGES = 10_000
WORDS_OF_A_PASSAGE = 90
QUESTIONS = 300


def write_folder(folder, passages=PASSAGES):
    """So many sections of plain words, spread as words are: few very frequent ones, most of them rare."""
    folder.mkdir(parents=True)
    chance = random.Random(4)
    words = [f"{chance.choice('bdfgklmnprst')}{chance.choice('aeiou')}n{number}" for number in range(20_000)]
    weights = [1 / (rank + 1) for rank in range(len(words))]
    for number in range(100):
        sections = []
        for section in range(passages // 100):
            text = " ".join(chance.choices(words, weights, k=WORDS_OF_A_PASSAGE))
            sections.append(f"## {words[number * 100 + section]}\n\n{text}.\n")
        (folder / f"{number:03}.md").write_text("\n".join(sections))
    return [" ".join(chance.choices(words, weights, k=8)) for _ in range(QUESTIONS)]


class Api:
    """One kept connection, so that what is measured is the gateway."""

    def __init__(self, gateway):
        self.key = gateway.key
        self.connection = http.client.HTTPConnection(gateway.url.removeprefix("http://"), timeout=120)

    def ask(self, method, path, body=None):
        self.connection.request(
            method, path, json.dumps(body or {}), {"x-api-key": self.key, "content-type": "application/json"}
        )
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{method} {path}: {answer.status} {text[:300]!r}")
        return json.loads(text)


def wait_for_passages(gateway):
    """What the gateway has indexed, as its own database says."""
    database = sqlite3.connect(f"file:{gateway.folder / 'data' / 'forebay.db'}?mode=ro", uri=True)
    deadline = time.monotonic() + 300
    while True:
        indexed = database.execute("SELECT count(*) FROM passage").fetchone()[0]
        if indexed >= PASSAGES:
            return indexed
        if time.monotonic() > deadline:
            raise SystemExit(f"{indexed} of {PASSAGES} passages are indexed after five minutes")
        time.sleep(0.5)


def retrieval_ms(api, questions):
    """The whole way of a search over REST: the door, the store, fusion, budget and the answer's JSON."""
    times = []
    for question in questions:
        begin = time.perf_counter()
        found = api.ask("POST", "/api/v1/providers/docs/test", {"query": question})
        times.append((time.perf_counter() - begin) * 1000)
        if not found["items"]:
            raise SystemExit(f"nothing was found for {question!r}")
    return statistics.median(times), sorted(times)[int(len(times) * 0.99)]


def figures(binaries, folder):
    engine, address = start_reference(binaries, "engine")
    questions = write_folder(folder / "docs")
    config = (
        f"models: {{ stub: {{ backends: [ {{ url: 'http://{address}/v1' }} ] }}, "
        f"paced: {{ backends: [ {{ url: 'http://{address}/v1' }} ] }} }}\n"
        f"mcp: {{ providers: {{ docs: {{ type: files, config: {{ folder: '{folder / 'docs'}' }} }} }} }}\n"
    )
    gateway = Gateway(binaries["forebay"], folder, config)
    try:
        gateway.start()
        passages = wait_for_passages(gateway)
        p50, p99 = retrieval_ms(Api(gateway), questions)
        key = [f"x-api-key: {gateway.key}"]
        question = [{"role": "user", "content": "What is 2+2?"}]
        tool = {"type": "function", "function": {"name": "calculator"}}
        path = "/v1/chat/completions"
        print("\nturns: the same engine; it calls the tool that it is offered, once\n")
        body = {"model": "stub", "messages": question, "tools": [tool]}
        request = {"url": gateway.url + path, "expect": "Paris", "headers": key, "body": body}
        loops = measure_all(binaries, {"**Forebay, tool loop (2 model hops, 1 tool)**": (gateway.process.pid, request)})
        paced = {"body": {"model": "paced", "messages": question, "stream": True}, "expect": "[DONE]"}
        ways = {
            "the engine, a chunk each 5 ms": (engine.pid, {"url": f"http://{address}{path}", **paced}),
            "**Forebay, a chunk each 5 ms**": (
                gateway.process.pid,
                {"url": gateway.url + path, "headers": key, **paced},
            ),
        }
        both = measure_all(binaries, ways, slower=20)
        tell(loops | both)
        (loop,), (direct, through) = loops.values(), both.values()
        print("\n| figure | measured | target | |\n|---|---|---|---|")
        return [
            verdict("tool loop (2 model hops, 1 tool), CPU", loop["cpu_ms"], 1.0, "ms"),
            verdict("added to a chunk (p50)", through["piece_p50_ms"] - direct["piece_p50_ms"], 0.2, "ms"),
            verdict(f"`files` over {passages:,} passages, 8 words, over REST, p50 (p99 {p99:.1f})", p50, 5, "ms"),
        ]
    finally:
        if gateway.process.poll() is None:
            # Waited for: the next gateway wants the same port.
            gateway.stop()
        engine.terminate()
