"""What the measurements share: building, starting the gateway, load, CPU time and memory of a process."""

import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
REQUESTS = int(os.environ.get("BENCH_REQUESTS", "40000"))
RATE, SECONDS = 1000, int(os.environ.get("BENCH_SECONDS", "10"))
# Latencies are measured so many times for a part of those seconds each.
TURNS = 5
# The host of a virtual machine may keep back so much of the time that its cores had work for, or a turn is taken again;
# in a hopeless hour those turns count in which it kept back least.
STOLEN_MAX, TURNS_MAX = 0.015, 40
TICKS = os.sysconf("SC_CLK_TCK")
PORT = int(os.environ.get("BENCH_PORT", "18471"))


def tools(*names):
    """What measures, `load` and `reference` above all: built in one pass."""
    command = ["cargo", "build", "--locked", "--profile", "dist", "--quiet", "-p", "forebay-benches"]
    subprocess.run([*command, *(part for name in names for part in ("--bin", name))], cwd=ROOT, check=True)
    return {name: TARGET / "dist" / name for name in names}


def build():
    """All that measures, and what is handed out (BENCH_PLAIN=1: built in one pass as well)."""
    plain = ["--plain"] if os.environ.get("BENCH_PLAIN") == "1" else []
    handed_out = subprocess.run([ROOT / "scripts" / "dist", *plain], check=True, stdout=subprocess.PIPE, text=True)
    how = "in one pass" if plain else "in two passes, the second for what the first did at work"
    print(f"forebay is built {how}", flush=True)
    # Fake providers answer before anything is measured; built with the rest they would lend it their features.
    fakes = ["cargo", "build", "--locked", "--quiet", "-p", "forebay-testkit", "--bin", "forebay-fakes"]
    subprocess.run(fakes, cwd=ROOT, check=True)
    others = {"forebay-fakes": TARGET / "debug" / "forebay-fakes", "forebay": pathlib.Path(handed_out.stdout.strip())}
    return tools("load", "reference", "ledger", "queue") | others


def cpu_ms(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / TICKS


def resident_mb(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def on_each_store(binary, folder, *options):
    """What a harness of the store prints of each database, one after the other; PostgreSQL is a private cluster."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [str(binary), *options, "--url"]
    inner = " ".join(command) + ' "$FOREBAY_TEST_POSTGRES_URL"'
    commands = [
        [*command, f"sqlite://{folder}/{binary.name}.db"],
        [str(ROOT / "scripts" / "with-postgres"), "bash", "-c", inner],
    ]
    seen = [subprocess.run(one, check=True, stdout=subprocess.PIPE, text=True).stdout for one in commands]
    return [json.loads(one) for one in seen]


def alone(name, figures):
    """Runs one harness of the store by itself; the exit status says whether all of its targets are met."""
    binary = tools(name)[name]
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder:
        return 0 if all(figures(binary, pathlib.Path(folder))) else 1


def start_reference(binaries, kind, *options):
    process = subprocess.Popen([binaries["reference"], kind, *options], stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip()


class Gateway:
    """The release binary on a data directory of its own."""

    def __init__(self, binary, folder, config, port=PORT):
        self.binary, self.folder, self.port = binary, folder, port
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "forebay.yaml").write_text(
            "limits: { requests_per_minute: 100000000, tool_calls_per_minute: 100000000 }\n" + config
        )

    def start(self):
        """Starts it and returns the milliseconds until it is ready."""
        self.log = (self.folder / "log").open("w+")
        begin = time.perf_counter()
        self.process = subprocess.Popen(
            [
                self.binary,
                "serve",
                "--config",
                self.folder / "forebay.yaml",
                "--data",
                self.folder / "data",
                "--listen",
                f"127.0.0.1:{self.port}",
            ],
            stderr=self.log,
            stdout=self.log,
        )
        self.url = f"http://127.0.0.1:{self.port}"
        while True:
            try:
                urllib.request.urlopen(self.url + "/readyz", timeout=1)
                break
            except OSError:
                if self.process.poll() is not None:
                    sys.exit((self.folder / "log").read_text())
                time.sleep(0.001)
        took = (time.perf_counter() - begin) * 1000
        if self.process.poll() is not None:
            # Somebody else answers at this port.
            sys.exit((self.folder / "log").read_text())
        self.key = (self.folder / "data" / "admin.key").read_text().strip()
        return took

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)


def load(binaries, url, body, expect, headers=(), **options):
    command = [
        binaries["load"],
        "--url",
        url,
        "--body",
        json.dumps(body),
        "--expect",
        expect,
        "--header",
        "content-type: application/json",
        "--header",
        "accept: application/json, text/event-stream",
    ]
    for header in headers:
        command += ["--header", header]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_all(binaries, ways, slower=1):
    """Of each way, a process and a request: closed for CPU, open for latency.

    So many times fewer requests where each takes long by itself. Latencies are measured in turns, one way after the
    other, and what a noisy host spoils is a turn: the median of those in which there were as many cores as it seems."""
    figures = {name: working(binaries, pid, slower, request) for name, (pid, request) in ways.items()}
    turns = {name: [] for name in ways}
    for _ in range(TURNS_MAX):
        for name, (_, request) in ways.items():
            if sum(turn["stolen"] <= STOLEN_MAX for turn in turns[name]) < TURNS:
                turns[name].append(paced(binaries, request, slower))
    for name, seen in turns.items():
        least = sorted(seen, key=lambda one: one["stolen"])[:TURNS]
        medians = {one: statistics.median(turn[one] for turn in least) for one in seen[0] if one.endswith("_ms")}
        figures[name] |= medians | {"turns": seen, "stolen": least[-1]["stolen"]}
    return figures


def paced(binaries, request, slower):
    """Latencies for a while, and which part of the time that the cores had work for the host kept for others.

    Of that time and not of all: what leaves the cores idle most of the time would be let off in a worse hour."""
    seconds = max(1, SECONDS // TURNS)
    stolen, wanted = host_ticks()
    latencies = load(binaries, **request, rate=RATE // slower, seconds=seconds, connections=16)
    stolen_then, wanted_then = host_ticks()
    return latencies | {"stolen": (stolen_then - stolen) / max(1, wanted_then - wanted)}


def host_ticks():
    """What the host kept for others while a core had work (`steal` of proc_stat(5)), and all time that they had."""
    user, nice, system, _idle, _iowait, irq, softirq, stolen = (
        int(one) for one in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    return stolen, user + nice + system + irq + softirq + stolen


def working(binaries, pid, slower, request):
    load(binaries, **request, requests=2000 // slower)
    count = REQUESTS // slower
    before = cpu_ms(pid)
    closed = load(binaries, **request, requests=count, connections=16)
    return {"cpu_ms": (cpu_ms(pid) - before) / count, "per_second": closed["per_second"]}


def mcp_request(headers=(), tool="calculator"):
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": tool, "arguments": {"expression": "2+2"}, "_meta": meta},
    }
    modern = ["mcp-protocol-version: 2026-07-28", "mcp-method: tools/call", f"mcp-name: {tool}"]
    return {"body": body, "expect": "4", "headers": [*modern, *headers]}


def tell(seen):
    """What was measured of each way, and what the turns say that do not count, too."""
    print("| path | requests/s | CPU ms a request | p50 ms | p99 ms | first byte p50 ms |\n|---|---|---|---|---|---|")
    for name, figures in seen.items():
        latencies = " | ".join(f"{figures[one]:.2f}" for one in ("p50_ms", "p99_ms", "first_byte_p50_ms"))
        print(f"| {name} | {figures['per_second']:,.0f} | {figures['cpu_ms']:.3f} | {latencies} |")
    print("\n| path | turns | stolen in those that count | p50, p99 ms of all turns |\n|---|---|---|---|")
    for name, figures in seen.items():
        p50, p99 = (statistics.median(one[which] for one in figures["turns"]) for which in ("p50_ms", "p99_ms"))
        print(f"| {name} | {len(figures['turns'])} | ≤ {figures['stolen']:.1%} | {p50:.2f}, {p99:.2f} |")
    sys.stdout.flush()


def verdict(name, value, target, unit):
    word = "meets" if value <= target else "MISSES"
    print(f"| {name} | {value:.2f} {unit} | ≤ {target} {unit} | {word} |")
    return value <= target
