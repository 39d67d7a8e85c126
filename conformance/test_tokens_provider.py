"""Tokens of a real OpenID provider (oidc-provider of npm), discovered, and found again after it has changed its keys."""

import json
import shutil
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from testbed.api import is_problem
from testbed.issuer import AUDIENCE, SigningKey
from testbed.server import kept_ports

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.skipif(not shutil.which("node"), reason="node is not installed"),
]

PROGRAM = Path(__file__).parent / "clients" / "oidc_provider.mjs"


class Provider:
    """The provider, on a port that stays its own."""

    def __init__(self, folder: Path):
        self.folder, self.port, self.process = folder, kept_ports()[0], None
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self, *keys: SigningKey) -> "Provider":
        """With these keys, of which the first signs."""
        self.stop()
        of = {"ES256": ECAlgorithm, "RS256": RSAAlgorithm}
        jwks = [of[key.algorithm].to_jwk(key.private, as_dict=True) for key in keys]
        for jwk, key in zip(jwks, keys, strict=True):
            jwk.pop("key_ops", None)
            jwk |= {"kid": key.kid, "alg": key.algorithm, "use": "sig"}
        (self.folder / "keys.json").write_text(json.dumps({"keys": jwks}))
        command = ["node", str(PROGRAM), str(self.port), str(self.folder / "keys.json")]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while True:
            try:
                return self if httpx.get(f"{self.url}/jwks").status_code == 200 else self
            except httpx.TransportError:
                assert time.monotonic() < deadline and self.process.poll() is None
                time.sleep(0.1)

    def token(self) -> str:
        answer = httpx.post(
            f"{self.url}/token",
            data={"grant_type": "client_credentials", "scope": "devices:read"},
            auth=("program", "a%20secret%20of%20the%20program"),
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["access_token"]

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(timeout=10)


@pytest.fixture
def provider(tmp_path):
    made = Provider(tmp_path)
    yield made
    made.stop()


def test_tokens_of_a_provider_are_taken_also_after_it_has_changed_its_keys(provider, new_server):
    first, second = SigningKey("RS256"), SigningKey("ES256")
    provider.start(first)
    server = new_server("--token-issuer", provider.url, "--token-audience", AUDIENCE)

    def ask(token: str, path="/devices") -> httpx.Response:
        return httpx.get(f"{server.http}/api/jwt/v1{path}", headers={"authorization": f"Bearer {token}"})

    early = provider.token()
    who = ask(early, "/whoami").json()
    assert who["issuer"] == provider.url and who["subject"] == "program" and who["name"] == "the program"
    assert who["rights"] == ["devices:read"] and ask(early).status_code == 200
    provider.start(second, first)
    time.sleep(5.5)
    assert ask(provider.token()).status_code == 200, "a name that is not known: the keys are read again"
    assert ask(early).status_code == 200, "the old key overlaps"
    provider.start(second)
    time.sleep(5.5)
    assert is_problem(ask(SigningKey("ES256").token(iss=provider.url)), 401)
    assert ask(early).json()["detail"].startswith("the key (kid, alg)")
    provider.stop()
    late = early.rsplit(".", 1)[0] + ".AAAA"
    assert is_problem(ask(late), 401)
