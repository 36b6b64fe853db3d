"""Money: exact holds a second on each store beside the bare driver, and windows over many postings. Runs alone too."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import ROOT, TARGET, verdict

SECONDS = os.environ.get("BENCH_SECONDS", "5")
ENTRIES = os.environ.get("BENCH_ENTRIES", "1000000")


def measured(binary, engine, folder):
    """One database after the other; PostgreSQL in a private cluster that ends with the command."""
    options = ["--seconds", SECONDS, "--entries", ENTRIES, "--url"]
    if engine == "sqlite":
        command = [str(binary), *options, f"sqlite://{folder}/ledger.db"]
    else:
        inner = " ".join([str(binary), *options]) + ' "$FOREBAY_TEST_POSTGRES_URL"'
        command = [str(ROOT / "scripts" / "with-postgres"), "bash", "-c", inner]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def figures(binary, folder):
    folder.mkdir(parents=True, exist_ok=True)
    seen = [measured(binary, engine, folder) for engine in ("sqlite", "postgres")]
    print("\n16 writers; each hold is judged by two windows and committed before it is answered\n")
    print("| store | bare updates/s | holds/s | p50 ms | hold + settle/s | p50 ms |\n|---|---|---|---|---|---|")
    for one in seen:
        rates = [f"{one[name]:,.0f}" for name in ("bare_updates_per_s", "holds_per_s", "hold_and_settle_per_s")]
        hold, both = (f"{one[name]:.2f}" for name in ("hold_p50_ms", "hold_and_settle_p50_ms"))
        print(f"| {one['engine']} | {rates[0]} | {rates[1]} | {hold} | {rates[2]} | {both} |")
    print("\n| figure | measured | target | |\n|---|---|---|---|")
    met = []
    for one in seen:
        met.append(verdict(f"a hold with 16 writers on {one['engine']}", 1000 / one["holds_per_s"], 0.5, "ms"))
        name = f"two windows over {one['entries']:,} postings on {one['engine']}"
        met.append(verdict(name, one["judge_ms"], 1, "ms"))
    return met


def main():
    command = ["cargo", "build", "--profile", "dist", "--quiet", "-p", "forebay-benches", "--bin", "ledger"]
    subprocess.run(command, cwd=ROOT, check=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="forebay-bench-"))
    try:
        return 0 if all(figures(TARGET / "dist" / "ledger", folder)) else 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
