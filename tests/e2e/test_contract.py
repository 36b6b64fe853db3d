"""What scripts may rely on: start, ready, first key, keys as JSON, stop."""

from __future__ import annotations

import json
import pathlib
import re
import stat
import subprocess
from collections.abc import Callable

import pytest

import harness
from harness import Gateway

KEY_FORM = re.compile(r"^fb_[0-9a-f]{16}_[0-9a-f]{64}$")


def test_the_first_start_leaves_an_admin_key_that_only_its_owner_reads(start: Callable[..., Gateway]) -> None:
    gateway = start()
    file = gateway.data / "admin.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = file.read_text(encoding="utf-8")
    assert KEY_FORM.match(text.removesuffix("\n")), "the key alone on one line"
    answer = gateway.http.get("/api/v1/status", headers={"X-API-Key": text.strip()})
    assert answer.status_code == 200, answer.text


def test_a_second_start_keeps_the_admin_key(start: Callable[..., Gateway]) -> None:
    gateway = start()
    before = gateway.admin.key
    assert gateway.terminate() == 0
    again = Gateway(gateway.folder, {})
    with harness.closing(again):
        assert again.admin.key == before
        assert again.http.get("/api/v1/status", headers=again.admin.bearer).status_code == 200


def test_sigterm_drains_and_exits_with_zero(start: Callable[..., Gateway]) -> None:
    gateway = start()
    assert gateway.http.get("/readyz").status_code == 200
    assert gateway.terminate() == 0
    harness.expect_plain_words(gateway.log)


def test_key_create_prints_json_and_the_key_works(gateway: Gateway) -> None:
    done = gateway.cli("key", "create", "--role", "user", "--tenant", "acme", "--grant", "tool:calc*", "-o", "json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert KEY_FORM.match(made["key"]) and made["key"].split("_")[1] == made["id"]
    key = harness.Key(made["id"], made["key"])
    assert gateway.rpc("tools/call", {"name": "calculator", "arguments": {"expression": "1+1"}}, key).status_code == 200
    refused = gateway.rpc("tools/call", {"name": "file_reader", "arguments": {"path": "x"}}, key)
    assert refused.json()["error"]["data"]["code"] == "insufficient_scope"


def test_a_revoked_key_opens_nothing(gateway: Gateway) -> None:
    key = gateway.new_key("user")
    assert gateway.http.get("/v1/models", headers=key.bearer).status_code == 200
    done = gateway.cli("key", "revoke", key.id)
    assert done.returncode == 0, done.stderr
    refused = gateway.http.get("/v1/models", headers=key.bearer)
    assert (refused.status_code, refused.json()["error"]["forebay_code"]) == (401, "revoked_key")


def test_data_goes_to_stdout_and_words_to_stderr(gateway: Gateway) -> None:
    done = gateway.cli("tool", "call", "calculator", '{"expression":"6 * 7"}', "-o", "json")
    assert done.returncode == 0, done.stderr
    assert "42" in json.dumps(json.loads(done.stdout))
    failed = gateway.cli("tool", "call", "no_such_tool", "{}")
    assert failed.returncode == 5
    assert failed.stdout == ""
    assert "There is no tool of that name" in failed.stderr and "explain unknown_tool" in failed.stderr
    harness.expect_plain_words(failed.stderr)


def test_exit_codes_tell_the_kind_of_failure(gateway: Gateway) -> None:
    assert gateway.cli("key", "list", key=gateway.new_key("viewer").key).returncode == 3
    nowhere = f"http://127.0.0.1:{harness.free_port()}"
    nobody = harness.run([str(harness.BINARY), "tool", "list", "--url", nowhere, "--key", gateway.admin.key])
    assert nobody.returncode == 4, nobody.stderr
    assert "forebay serve" in nobody.stderr


def test_the_start_up_line_names_every_open_surface(gateway: Gateway) -> None:
    line = next(line for line in gateway.log.splitlines() if "open surfaces" in line)
    for path in ("/mcp", "/api/v1/mcp", "/v1", "/api/v1", "/health"):
        assert f"{gateway.url}{path}" in line, path


def test_a_section_of_a_later_version_is_refused_by_name(gateway: Gateway) -> None:
    for section in ("nodes", "providers"):
        file = gateway.folder / f"with-{section}.yaml"
        file.write_text(f"server:\n  listen: 127.0.0.1:0\n{section}: []\n", encoding="utf-8")
        done = gateway.cli("config", "validate", "--config", str(file))
        assert done.returncode == 1, (section, done.stdout)
        assert section in done.stderr


def test_an_unknown_config_key_gets_its_line_and_a_suggestion(gateway: Gateway) -> None:
    file = gateway.folder / "typo.yaml"
    file.write_text("server:\n  listen: 127.0.0.1:0\nlimits:\n  request_per_minute: 5\n", encoding="utf-8")
    done = gateway.cli("config", "validate", "--config", str(file))
    assert done.returncode == 1
    assert "requests_per_minute" in done.stderr and re.search(r"\b4\b", done.stderr), done.stderr


@pytest.mark.parametrize(
    ("yaml", "named"),
    [
        ("auth: { origins: [ example.com ] }", "auth.origins"),
        ("tools: { file_reader: { allowed_paths: [ /no/such/folder ] } }", "/no/such/folder"),
        ("auth: { jwt: { issuer: i, audience: a, secret: { env: WEAK } } }", "auth.jwt.secret"),
    ],
)
def test_what_serve_would_refuse_is_refused_by_validate(gateway: Gateway, yaml: str, named: str) -> None:
    file = gateway.folder / "refused.yaml"
    file.write_text(yaml, encoding="utf-8")
    done = gateway.cli("config", "validate", "--config", str(file), env={"WEAK": "secret"})
    assert done.returncode == 1, done.stdout
    assert named in done.stderr, done.stderr


def test_doctor_finds_nothing_wrong(gateway: Gateway) -> None:
    done = gateway.cli("doctor")
    assert done.returncode == 0, done.stdout + done.stderr


COMMANDS = {
    "tool list": lambda data: "calculator" in {tool["name"] for tool in data},
    "model list": lambda data: harness.MODEL in json.dumps(data),
    "status": lambda data: data["store"]["healthy"] is True,
    "key list": lambda data: "admin" in json.dumps(data),
    "audit tail": lambda data: "keys:write" in json.dumps(data),
}


@pytest.mark.parametrize("words", COMMANDS)
def test_every_list_is_there_for_people_and_for_scripts(gateway: Gateway, user: harness.Key, words: str) -> None:
    people = gateway.cli(*words.split())
    assert people.returncode == 0 and len(people.stdout.splitlines()) > 1, people.stderr
    scripts = gateway.cli(*words.split(), "-o", "json")
    assert COMMANDS[words](json.loads(scripts.stdout)), scripts.stdout


def test_an_error_code_is_explained_without_a_gateway() -> None:
    done = harness.run([str(harness.BINARY), "explain", "rate_limited"])
    assert done.returncode == 0
    assert done.stdout.strip() == (harness.ROOT / "docs" / "errors" / "rate_limited.md").read_text().strip()


def test_completions_and_man_pages_are_made(tmp_path: pathlib.Path) -> None:
    script = harness.run([str(harness.BINARY), "completions", "bash"])
    assert script.returncode == 0 and "_forebay" in script.stdout
    assert subprocess.run(["bash", "-n"], input=script.stdout, text=True, timeout=60, check=False).returncode == 0
    pages = harness.run([str(harness.BINARY), "man", "--dir", str(tmp_path)])
    assert pages.returncode == 0, pages.stderr
    assert {"forebay.1", "forebay-serve.1", "forebay-key-create.1"} <= {page.name for page in tmp_path.iterdir()}
