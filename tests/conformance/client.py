"""The suite's client scenarios, with the gateway's upstream side as the client (`through.py`)."""

from __future__ import annotations

import concurrent.futures
import pathlib
import subprocess
import sys

import through
from suite import HERE, RUN_SECONDS_MAX, SUITE, Verdict, read_results, requirements

# At once: each is a suite, a gateway and what drives it.
SCENARIOS_MAX = 2

INTERACTIVE = (
    "OAuth's authorization code flow needs a person at a browser; towards its upstreams the gateway acts for itself, "
    "by client credentials or a refresh token from its configuration"
)
FORMS = "whoever fills a form in also fills in its defaults: the gateway hands forms on to its own client"
EXTENSIONS = "an extension of OAuth that the gateway does not offer towards upstreams"

LEFT_OUT = {
    "elicitation-sep1034-client-defaults": FORMS,
    "auth/dpop": EXTENSIONS,
    "auth/dpop-nonce": EXTENSIONS,
    "auth/enterprise-managed-authorization": EXTENSIONS,
    "auth/wif-jwt-bearer": EXTENSIONS,
    "auth/authorization-server-migration": INTERACTIVE,
    "auth/basic-cimd": INTERACTIVE,
    "auth/iss-normalized": INTERACTIVE,
    "auth/iss-not-advertised": INTERACTIVE,
    "auth/iss-supported": INTERACTIVE,
    "auth/iss-supported-missing": INTERACTIVE,
    "auth/iss-unexpected": INTERACTIVE,
    "auth/iss-wrong-issuer": INTERACTIVE,
    "auth/metadata-default": INTERACTIVE,
    "auth/metadata-issuer-mismatch": INTERACTIVE,
    "auth/metadata-var1": INTERACTIVE,
    "auth/metadata-var2": INTERACTIVE,
    "auth/metadata-var3": INTERACTIVE,
    "auth/offline-access-not-supported": INTERACTIVE,
    "auth/offline-access-scope": INTERACTIVE,
    "auth/pre-registration": INTERACTIVE,
    "auth/resource-mismatch": INTERACTIVE,
    "auth/scope-from-scopes-supported": INTERACTIVE,
    "auth/scope-from-www-authenticate": INTERACTIVE,
    "auth/scope-omitted-when-undefined": INTERACTIVE,
    "auth/scope-retry-limit": INTERACTIVE,
    "auth/scope-step-up": INTERACTIVE,
    "auth/token-endpoint-auth-basic": INTERACTIVE,
    "auth/token-endpoint-auth-none": INTERACTIVE,
    "auth/token-endpoint-auth-post": INTERACTIVE,
}


def why_left_out(scenario: str) -> str | None:
    """Each is named: one that is new in the suite is nobody's to leave out."""
    return None if scenario in through.SCENARIOS else LEFT_OUT.get(scenario)


def run_client(revision: str, folder: pathlib.Path) -> Verdict:
    folder.mkdir(parents=True)
    results = folder / "results"
    scored, unscored = requirements(revision, "client")
    everything = [*scored, *sorted(unscored)]
    left_out = {name: reason for name in everything if (reason := why_left_out(name))}
    unknown = [name for name in everything if name not in left_out and name not in through.SCENARIOS]
    run = [name for name in everything if name in through.SCENARIOS]
    with concurrent.futures.ThreadPoolExecutor(SCENARIOS_MAX) as pool:
        said = list(pool.map(lambda name: run_scenario(name, revision, results), run))
    (folder / "suite.log").write_text("\n".join(text for text, _ in said), encoding="utf-8")
    verdict = Verdict("client", revision, read_results(results), unscored, left_out=left_out)
    broken = [name for name, (_, content) in zip(run, said, strict=True) if not content and name not in unscored]
    verdict.faults += [f"{name}: nobody has said whether the gateway can do it" for name in unknown]
    verdict.faults += [f"{name}: the suite, or what drove the gateway, was not content" for name in broken]
    return verdict


def run_scenario(scenario: str, revision: str, results: pathlib.Path) -> tuple[str, bool]:
    """What was said, and whether the suite was content. It is not where the driver ended with an error."""
    command = [
        *("node", str(SUITE), "client", "--command", f"{sys.executable} {HERE / 'through.py'}"),
        *("--scenario", scenario, "--spec-version", revision, "--force", "-o", str(results)),
    ]
    done = subprocess.run(
        command, cwd=results.parent, text=True, capture_output=True, timeout=RUN_SECONDS_MAX, check=False
    )
    return f"== {scenario}\n{done.stdout}{done.stderr}", done.returncode == 0
