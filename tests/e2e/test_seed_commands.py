"""The files and commands of another gateway, each as it is written there."""

from __future__ import annotations

import json
import pathlib
import urllib.parse
from collections.abc import Iterator

import pytest

import harness
import scripted as script
from harness import Gateway
from parts import Database
from scripted import Scripted

WRITTEN = harness.ROOT / "crates" / "cli" / "tests" / "seed"
FACT = "The access code of the north gate is 7291."
SECRETS = {"DB_CREDENTIALS": "reader:secret", "API_TOKEN": "token", "POSTGRES_CREDENTIALS": "reader:secret"}


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, scripted: Scripted, cluster: str) -> Iterator[Gateway]:
    config = {
        "models": {"scripted": {"backends": [{"url": scripted.url, "model": "by-script"}]}},
        "mcp": {"allow_addresses": ["127.0.0.1", "::1"]},
    }
    password = urllib.parse.urlsplit(cluster).password or ""
    with harness.closing(Gateway(tmp_path_factory.mktemp("seed"), config, FOREBAY_PROVIDER_FACTS=password)) as gateway:
        yield gateway


@pytest.mark.parametrize("name", ["mcp_config.yaml", "endpoint.yaml", "helm.yaml"])
def test_its_files_are_valid_where_what_they_name_is_there(started: Gateway, tmp_path: pathlib.Path, name: str) -> None:
    """With the secrets read: only the folder that two of them name is another, since nobody has it at that place."""
    written = (WRITTEN / name).read_text(encoding="utf-8")
    file = tmp_path / "mcp-config.yaml"
    file.write_text(written.replace("/workspace/data", str(tmp_path)), encoding="utf-8")
    valid = started.cli("config", "validate", str(file), env=SECRETS)
    assert valid.returncode == 0 and "has no mistakes" in valid.stderr, valid.stderr
    without = started.cli("config", "validate", str(file), env={"API_TOKEN": "token"})
    assert without.returncode != 0 and "credentials" in without.stderr, without.stderr


def test_its_provider_is_created_and_a_database_that_wants_a_login_says_so(
    started: Gateway, database: Database
) -> None:
    place = ("--host", "localhost", "--port", str(database.port), "--database", database.name)
    made = started.cli("create-provider", "postgres", "--type", "postgresql", *place)
    assert made.returncode == 0, made.stderr
    listed = json.loads(started.cli("provider", "list", "-o", "json").stdout)["providers"]
    assert ("postgres", "postgresql", "api") in [(one["name"], one["type"], one["origin"]) for one in listed]
    asked = started.cli("provider", "test", "postgres", "--query", "gate")
    assert asked.returncode != 0 and "user or password" in asked.stdout + asked.stderr, asked


def test_a_provider_that_was_created_is_asked_by_a_chat(
    started: Gateway, database: Database, scripted: Scripted
) -> None:
    database.sql("CREATE TABLE fact (id serial PRIMARY KEY, text text NOT NULL)")
    database.sql(f"INSERT INTO fact (text) VALUES ('{FACT}')")
    place = ("--host", str(database.host), "--port", str(database.port), "--database", database.name)
    login = ("--user", str(database.user), "--set", 'password={"env":"FOREBAY_PROVIDER_FACTS"}')
    made = started.cli("create-provider", "facts", "--type", "postgresql", *place, *login)
    assert made.returncode == 0, made.stderr
    scripted.will(script.say("Thank you."))
    asked = {"model": "scripted", "messages": [{"role": "user", "content": "How does the north gate open?"}]}
    answer = started.chat(asked | {"mcp_context": {"providers": ["facts"]}}, started.new_key("user").bearer)
    assert answer.status_code == 200, answer.text
    assert [item["provider"] for item in answer.json()["forebay"]["context"]] == ["facts"], answer.text
    assert FACT in json.dumps(scripted.bodies[0]["messages"])
