"""Issuers of tokens as others write them: PyJWT with keys of `cryptography`, and an HTTP server that has their documents."""

import http.server
import json
import threading
import time
import uuid

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER, AUDIENCE = "https://login.example", "covey"


class SigningKey:
    """A key pair for one algorithm."""

    def __init__(self, algorithm: str = "ES256", bits: int = 2048):
        self.algorithm, self.kid = algorithm, uuid.uuid4().hex
        self.private = {
            "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=bits),
            "EdDSA": ed25519.Ed25519PrivateKey.generate,
        }[algorithm]()

    @property
    def pem(self) -> bytes:
        """The public key."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.private.public_key().public_bytes(serialization.Encoding.PEM, form)

    @property
    def jwk(self) -> dict:
        """The public key, as JSON with its name."""
        of = {"ES256": ECAlgorithm, "RS256": RSAAlgorithm, "EdDSA": OKPAlgorithm}[self.algorithm]
        return of.to_jwk(self.private.public_key(), as_dict=True) | {"kid": self.kid, "alg": self.algorithm}

    def token(self, headers: dict | None = None, **claims) -> str:
        """A token that is valid for a minute; a claim that is None is left out."""
        now = int(time.time())
        base = {"iss": ISSUER, "aud": AUDIENCE, "sub": "u-7", "iat": now, "exp": now + 60, "orgId": 1}
        claims = {name: value for name, value in (base | claims).items() if value is not None}
        headers = {"kid": self.kid} if headers is None else headers
        return jwt.encode(claims, self.private, algorithm=self.algorithm, headers=headers)


class Documents:
    """An HTTP server on loopback that has documents at paths, and counts who asks."""

    def __init__(self):
        self.documents: dict[str, object] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.path)
                document = outer.documents.get(self.path)
                self.send_response(200 if document is not None else 503)
                self.end_headers()
                if document is not None:
                    self.wfile.write(document if isinstance(document, bytes) else json.dumps(document).encode())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
