"""What a budget costs a chat: the same request with nothing to pay, posted afterwards, held before. Runs alone too."""

import json
import pathlib
import shutil
import sys
import tempfile
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import Gateway, build, measure_all, start_reference, tell, verdict

# So much that nothing is refused; two windows, since each is judged.
BUDGETS = "\n".join(
    f"  - {{ scope: tenant, tenant: held, window: {window}, limit_usd: 1000000 }}" for window in ("60m", "24h")
)


def key_of(gateway, tenant):
    body = json.dumps({"tenant": tenant, "role": "user", "name": "bench"}).encode()
    headers = {"x-api-key": gateway.key, "content-type": "application/json"}
    request = urllib.request.Request(gateway.url + "/api/v1/keys", body, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["key"]


def figures(binaries, folder):
    engine, address = start_reference(binaries, "engine")
    backends = f"backends: [ {{ url: 'http://{address}/v1' }} ]"
    config = (
        f"models:\n  plain: {{ {backends} }}\n  priced: {{ {backends}, price: {{ input: 0.1, output: 0.3 }} }}\n"
        f"budgets:\n{BUDGETS}\n"
    )
    gateway = Gateway(binaries["forebay"], folder, config)
    try:
        gateway.start()
        ways = {
            "chat, nothing to pay": ("posted", "plain"),
            "chat, posted": ("posted", "priced"),
            "chat, held": ("held", "priced"),
        }
        print("\nspending: the same engine; two windows count for the last line\n")
        requests = {}
        for name, (tenant, model) in ways.items():
            body = {"model": model, "max_tokens": 16, "messages": [{"role": "user", "content": "Where is Paris?"}]}
            headers = [f"x-api-key: {key_of(gateway, tenant)}"]
            url = gateway.url + "/v1/chat/completions"
            request = {"url": url, "body": body, "expect": "Paris", "headers": headers}
            requests[name] = (gateway.process.pid, request)
        seen = measure_all(binaries, requests)
        tell({f"**Forebay, {name}**": figures for name, figures in seen.items()})
        plain, held = seen["chat, nothing to pay"], seen["chat, held"]
        print("\n| figure | measured | target | |\n|---|---|---|---|")
        return [
            verdict("chat under a budget, added p50", held["p50_ms"] - plain["p50_ms"], 3, "ms"),
            verdict("chat under a budget, added CPU", held["cpu_ms"] - plain["cpu_ms"], 0.3, "ms"),
        ]
    finally:
        gateway.stop()
        engine.terminate()


def main():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="forebay-bench-"))
    try:
        return 0 if all(figures(build(), folder / "spending")) else 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
