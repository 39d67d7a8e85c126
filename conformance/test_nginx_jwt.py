"""nginx checks tokens with njs before Covey does, by `deploy/nginx/covey-jwt.conf` as it is (marked values replaced)."""

import time
from pathlib import Path

import httpx
import pytest

from testbed.front_door import SCRIPT_MODULE, UPSTREAM_NAME, Nginx
from testbed.issuer import AUDIENCE, ISSUER, SigningKey

pytestmark = pytest.mark.embedded


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_nginx_refuses_strangers_and_covey_checks_the_token_again(new_server, tmp_path, algorithm):
    assert SCRIPT_MODULE.exists(), "install libnginx-mod-http-js"
    key, other = SigningKey(algorithm), SigningKey(algorithm)
    (tmp_path / "issuer.pem").write_bytes(key.pem)
    options = ["--token-issuer", ISSUER, "--token-audience", AUDIENCE, "--token-keys", str(tmp_path / "issuer.pem")]
    server = new_server("--name", UPSTREAM_NAME, *options)
    nginx = Nginx([server])
    (nginx.folder / "issuer.pem").write_bytes(key.pem)
    nginx.configure(
        [server],
        jwt=f"{nginx.folder}/covey-jwt.conf",
        jwt_issuer=f"$covey_jwt_issuer {ISSUER}",
        jwt_audience=f"$covey_jwt_audience {AUDIENCE}",
        jwt_algorithm=f"$covey_jwt_algorithm {algorithm}",
        jwt_key=f"$covey_jwt_key {nginx.folder}/issuer.pem",
    )
    nginx.start()
    try:
        check(f"https://localhost:{nginx.jwt_port}/api/jwt/v1", nginx.folder / "site" / "ca.pem", server, key, other)
    finally:
        nginx.stop()


def check(base: str, ca: Path, server, key: SigningKey, other: SigningKey) -> None:
    now = int(time.time())
    refused = server.refusals("credential")
    with httpx.Client(verify=str(ca), base_url=base) as client:

        def ask(token: str | None, **headers) -> httpx.Response:
            named = {} if token is None else {"authorization": f"Bearer {token}"}
            return client.get("/whoami", headers=named | headers)

        answer = ask(key.token(name="Ann", rights=["devices:read"]))
        assert answer.status_code == 200, answer.text
        assert answer.json()["name"] == "Ann" and answer.json()["issuer"] == ISSUER
        cookie = ask(None, cookie=f"accessToken={key.token()}", origin=base.removesuffix("/api/jwt/v1"))
        assert cookie.status_code == 200, cookie.text
        head, _, signature = key.token().rpartition(".")
        for token in (
            None,
            "nonsense",
            "a.b.c",
            other.token(),
            key.token(iss="https://evil.example"),
            key.token(aud="other"),
            key.token(exp=now - 60),
            key.token(exp=None),
            key.token(nbf=now + 60),
            key.token(headers={"crit": ["x"], "x": 1}),
            f"{head}.{signature[::-1]}",
            f"{head}.",
        ):
            answer = ask(token)
            assert answer.status_code == 401, token
            challenge = answer.headers.get("www-authenticate", "")
            assert 'error="invalid_token"' in challenge, f"{token}: {answer.headers}"
        assert server.refusals("credential") == refused, "none of them reached Covey"
        # nginx does not know organisations: that is for Covey to refuse.
        answer = ask(key.token(orgId="nobody"))
        assert answer.status_code == 401 and "does not exist here" in answer.json()["detail"]
        assert server.refusals("credential") > refused
