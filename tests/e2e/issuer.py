"""A token issuer for the tests: signs good tokens, and every bad one that a forger would try."""

from __future__ import annotations

import base64
import http.server
import json
import threading
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

ISSUER = "https://issuer.example"
AUDIENCE = "https://forebay.example/mcp"
KEY_ID = "key-1"


def claims(**more: Any) -> dict[str, Any]:
    """What a good token says; `None` takes a claim away."""
    now = int(time.time())
    said = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "tenant": "acme", "roles": ["user"],
        "iat": now, "exp": now + 3600,
    }  # fmt: skip
    return {name: value for name, value in (said | more).items() if value is not None}


def segment(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


class Issuer:
    """Publishes one RSA key at a JWKS address."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        document = json.dumps({"keys": [public | {"kid": KEY_ID, "use": "sig", "alg": "RS256"}]}).encode()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(document)))
                self.end_headers()
                self.wfile.write(document)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.jwks_url = f"http://127.0.0.1:{self.server.server_address[1]}/jwks.json"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def token(self, kid: str | None = KEY_ID, **more: Any) -> str:
        headers = {"kid": kid} if kid else None
        return jwt.encode(claims(**more), self.key, algorithm="RS256", headers=headers)

    def signed_by_another(self) -> str:
        return jwt.encode(claims(), self.other, algorithm="RS256", headers={"kid": KEY_ID})

    def unsigned(self) -> str:
        return f"{segment({'alg': 'none', 'typ': 'JWT'})}.{segment(claims())}."

    def confused(self) -> str:
        """HS256, with the public key's own text as the secret: what a server that trusts `alg` would accept."""
        import hashlib
        import hmac

        pem = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        signed = f"{segment({'alg': 'HS256', 'kid': KEY_ID, 'typ': 'JWT'})}.{segment(claims(roles=['admin']))}"
        mac = hmac.new(pem, signed.encode(), hashlib.sha256).digest()
        return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"

    def tampered(self) -> str:
        """A good signature under claims that were changed afterwards."""
        head, _, signature = self.token().split(".")
        return f"{head}.{segment(claims(roles=['admin']))}.{signature}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
