"""Tokens: good ones open the door, and every forgery is refused with a word about what was wrong."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx
import pytest

import harness
from harness import Gateway, Key
from issuer import AUDIENCE, ISSUER, Issuer


def ask(gateway: Gateway, token: str, path: str = "/v1/models") -> httpx.Response:
    return gateway.http.get(path, headers={"Authorization": f"Bearer {token}"})


def test_a_good_token_opens_the_door(gateway: Gateway, issuer: Issuer) -> None:
    answer = ask(gateway, issuer.token())
    assert answer.status_code == 200, answer.text


def test_role_and_scopes_of_a_token_count(gateway: Gateway, issuer: Issuer) -> None:
    assert ask(gateway, issuer.token(roles=["user"]), "/api/v1/keys").status_code == 403
    assert ask(gateway, issuer.token(roles=["admin"]), "/api/v1/keys").status_code == 200
    narrow = issuer.token(scope="openid tool:calculator")
    reading = {"name": "file_reader", "arguments": {"path": "hello.txt"}}
    refused = gateway.rpc("tools/call", reading, Key("", narrow))
    assert refused.json()["error"]["data"]["code"] == "insufficient_scope"


FORGERIES: dict[str, tuple[Callable[[Issuer], str], str, str]] = {
    "unsigned (alg none)": (Issuer.unsigned, "invalid_token", ""),
    "HS256 with the public key as secret": (Issuer.confused, "invalid_token", "HS256"),
    "signed by another key": (Issuer.signed_by_another, "invalid_token", "signature"),
    "changed after signing": (Issuer.tampered, "invalid_token", "signature"),
    "an unknown key id": (lambda i: i.token(kid="key-2"), "invalid_token", "key-2"),
    "for another audience": (lambda i: i.token(aud="https://other.example"), "invalid_token", "aud"),
    "without audience": (lambda i: i.token(aud=None), "invalid_token", "aud"),
    "of another issuer": (lambda i: i.token(iss="https://other.example"), "invalid_token", "iss"),
    "without issuer": (lambda i: i.token(iss=None), "invalid_token", "iss"),
    "expired": (lambda i: i.token(exp=int(time.time()) - 3600), "expired_token", "expired"),
    "without expiry": (lambda i: i.token(exp=None), "invalid_token", "exp"),
    "not valid yet": (lambda i: i.token(nbf=int(time.time()) + 3600), "invalid_token", "not valid yet"),
    "without subject": (lambda i: i.token(sub=None), "invalid_token", "sub"),
    "without tenant": (lambda i: i.token(tenant=None), "invalid_token", "tenant"),
    "a role that is none": (lambda i: i.token(roles=["root"]), "invalid_token", "role"),
    "three words": (lambda _: "a.b.c", "invalid_token", ""),
    "an empty signature": (lambda i: i.token().rpartition(".")[0] + ".", "invalid_token", ""),
}


@pytest.mark.parametrize("case", FORGERIES.values(), ids=FORGERIES.keys())
def test_a_forged_or_stale_token_is_refused(
    gateway: Gateway, issuer: Issuer, case: tuple[Callable[[Issuer], str], str, str]
) -> None:
    make, code, word = case
    token = make(issuer)
    answer = ask(gateway, token)
    assert answer.status_code == 401, answer.text
    error = answer.json()["error"]
    assert error["forebay_code"] == code, error
    assert word in error["message"], error
    assert token not in answer.text, "the token is not echoed"
    harness.expect_plain_words(answer.text)
    challenge = answer.headers["www-authenticate"]
    assert challenge.startswith("Bearer ") and 'error="invalid_token"' in challenge
    assert "/.well-known/oauth-protected-resource" in challenge


def test_without_credentials_the_challenge_names_no_error(gateway: Gateway) -> None:
    answer = gateway.http.get("/v1/models")
    assert (answer.status_code, answer.json()["error"]["forebay_code"]) == (401, "missing_credentials")
    challenge = answer.headers["www-authenticate"]
    assert "resource_metadata=" in challenge and "error=" not in challenge


def test_the_metadata_names_the_issuer(gateway: Gateway) -> None:
    for path in ("/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"):
        document = gateway.http.get(path).json()
        assert document["authorization_servers"] == [ISSUER]
        assert document["resource"].endswith("/mcp")


def test_two_different_credentials_are_refused(gateway: Gateway, issuer: Issuer) -> None:
    headers = {"Authorization": f"Bearer {issuer.token()}", "X-API-Key": gateway.admin.key}
    answer = gateway.http.get("/v1/models", headers=headers)
    assert answer.status_code == 401 and "two different" in answer.text


def test_keys_that_cannot_be_fetched_are_503_and_not_401(start: Callable[..., Gateway], issuer: Issuer) -> None:
    nowhere = f"http://127.0.0.1:{harness.free_port()}/jwks.json"
    gateway = start({"auth": {"jwt": {"issuer": ISSUER, "audience": AUDIENCE, "jwks_url": nowhere}}})
    answer = ask(gateway, issuer.token())
    assert (answer.status_code, answer.json()["error"]["forebay_code"]) == (503, "token_keys_unavailable")
    assert ask(gateway, gateway.admin.key).status_code == 200, "API keys go on working"
