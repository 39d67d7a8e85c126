"""Tokens of issuers that the operator trusts, as PyJWT writes them."""

import base64
import hashlib
import hmac
import json
import time

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from testbed.api import is_problem
from testbed.issuer import AUDIENCE, ISSUER, Documents, SigningKey

pytestmark = pytest.mark.embedded

READ = ["devices:read", "tasks:read", "events:read"]


def bearer(token: str) -> dict:
    return {"authorization": f"Bearer {token}"}


def part(value: dict | bytes) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


@pytest.fixture
def documents():
    made = Documents()
    yield made
    made.close()


@pytest.fixture(scope="session")
def key() -> SigningKey:
    return SigningKey()


@pytest.fixture
def trusting(new_server, tmp_path, key):
    """A server that trusts one ES256 key in a PEM file."""
    (tmp_path / "issuer.pem").write_bytes(key.pem)
    return new_server(
        "--token-issuer", ISSUER, "--token-audience", AUDIENCE, "--token-keys", str(tmp_path / "issuer.pem")
    )


def refusal(answer, text: str) -> bool:
    """Whether it is refused as RFC 6750 §3 has it, with this reason."""
    challenge = answer.headers["www-authenticate"]
    return (
        is_problem(answer, 401)
        and answer.json()["type"] == "urn:covey:problem:invalid-token"
        and 'Bearer realm="covey", error="invalid_token"' in challenge
        and text in answer.json()["detail"]
        and text in challenge
    )


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA"])
@pytest.mark.parametrize("form", ["pem", "jwk", "set"])
def test_a_token_of_a_configured_key_is_a_credential(new_server, tmp_path, algorithm, form):
    key = SigningKey(algorithm)
    keys = tmp_path / "keys"
    keys.write_bytes(
        {"pem": key.pem, "jwk": json.dumps(key.jwk).encode(), "set": json.dumps({"keys": [key.jwk]}).encode()}[form]
    )
    server = new_server("--token-issuer", ISSUER, "--token-audience", AUDIENCE, "--token-keys", str(keys))
    api = httpx.Client(base_url=f"{server.http}/api/v1", headers=bearer(key.token(rights=READ, name="Ann")))
    assert api.get("/devices").status_code == 200
    who = api.get("/whoami").json()
    assert who["kind"] == "token" and who["issuer"] == ISSUER and who["subject"] == "u-7"
    assert who["org_id"] == 1 and who["name"] == "Ann" and set(who["rights"]) == set(READ)
    assert is_problem(api.post("/devices", json={}), 403)


def test_what_is_wrong_with_a_token_is_told_and_refused(trusting, key):
    now = int(time.time())
    other = SigningKey()
    header, claims, signature = key.token().split(".")
    public = key.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )

    def hs256(secret: bytes) -> str:
        signed = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{claims}"
        return f"{signed}.{part(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"

    for token, text in {
        f"{part({'alg': 'none'})}.{claims}.": "must be signed with",
        f"{part({'alg': 'None'})}.{claims}.{signature}": "must be signed with",
        hs256(public): "must be signed with",
        hs256(b""): "must be signed with",
        SigningKey("RS256").token(): "is not among those",
        other.token(): "the signature of the token is wrong",
        f"{header}.{part(b'{}')}.{signature}": "issuer",
        f"{header}.{claims}.{part(b'0' * 64)}": "signature",
        f"{header}.{claims}.": "signature",
        key.token(headers={"crit": ["b64"], "b64": True}): "(crit)",
        key.token(headers={"typ": "logout+jwt"}): "(typ)",
        key.token(iss="https://evil.example"): "(iss)",
        key.token(iss=None): "(iss)",
        key.token(aud="other"): "(aud)",
        key.token(aud=["other", "third"]): "(aud)",
        key.token(aud=None): "(aud)",
        key.token(exp=None): "(exp)",
        key.token(exp=now - 31): "expired",
        key.token(nbf=now + 40): "not valid yet",
        key.token(iat=now + 40): "not valid yet",
        key.token(orgId=None): "names no organisation",
        key.token(orgId=True): "names no organisation",
        key.token(orgId=77): "does not exist here",
        key.token(orgId="nobody"): "does not exist here",
        key.token(pad="x" * 8_192): "longer than 8 KiB",
        "a.b.c": "three parts",
        "..": "three parts",
    }.items():
        answer = httpx.get(f"{trusting.http}/api/v1/devices", headers=bearer(token))
        assert refusal(answer, text), f"{text}: {answer.text} {answer.headers['www-authenticate']}"
    for good in (
        key.token(exp=now - 20),
        key.token(nbf=now + 20),
        key.token(exp=now + 60.5),
        key.token(aud=["other", AUDIENCE]),
        key.token(headers={"typ": "at+jwt"}),
        key.token(orgId="default"),
    ):
        assert httpx.get(f"{trusting.http}/api/v1/whoami", headers=bearer(good)).status_code == 200


def test_a_token_gives_the_rights_that_it_and_its_roles_name_and_no_organisation_of_a_header(new_server, tmp_path, key):
    (tmp_path / "issuer.jwk").write_text(json.dumps(key.jwk))
    (tmp_path / "covey.toml").write_text(
        f"""
        [[token_issuers]]
        issuer = "{ISSUER}"
        audience = "{AUDIENCE}"
        keys = "{tmp_path}/issuer.jwk"
        org_claim = "app.org"
        roles_claim = "realm_access.roles"
        rights_max = ["operator"]
        roles = {{ staff = ["viewer", "tasks:write"] }}
        """
    )
    server = new_server("--config", str(tmp_path / "covey.toml"))

    def rights(**claims) -> set:
        token = key.token(app={"org": "default"}, orgId=99, **claims)
        answer = httpx.get(f"{server.http}/api/v1/whoami", headers=bearer(token) | {"orgId": "99", "org_id": "99"})
        assert answer.json()["org_id"] == 1
        return set(answer.json()["rights"])

    viewer = {"tasks:read", "devices:read", "events:read", "gateways:read"}
    assert rights() == set()
    assert rights(scope="openid devices:read") == {"devices:read"}
    assert rights(rights=["orgs:admin", "keys:write", "tasks:read"]) == {"tasks:read"}
    assert rights(realm_access={"roles": ["staff", "admin"]}) == viewer | {"tasks:write"}


def test_a_person_is_one_caller_across_tokens_and_others_are_others(trusting, key, new_api, identity_in):
    identity = identity_in(trusting)
    api = new_api(trusting)
    task = {"ext_task_id": "x", "device_id": identity.device_id, "ttl": 5}
    rights = ["tasks:write", "tasks:read", "devices:read"]

    def create(token: str) -> str:
        answer = httpx.post(
            f"{trusting.http}/api/v1/device-tasks", json=task, headers=bearer(token) | {"idempotency-key": "one"}
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    first = create(key.token(rights=rights, jti="1", name="Ann"))
    assert create(key.token(rights=rights, jti="2")) == first
    assert api.task(first)["created_by"] == "Ann"


@pytest.fixture
def identity_in(tmp_path, new_api):
    return lambda server: new_api(server).register(tmp_path)


def test_a_stream_ends_with_its_token(new_server, tmp_path, key):
    (tmp_path / "issuer.jwk").write_text(json.dumps(key.jwk))
    (tmp_path / "covey.toml").write_text(
        f"[[token_issuers]]\nissuer = '{ISSUER}'\naudience = '{AUDIENCE}'\nkeys = '{tmp_path}/issuer.jwk'\nleeway_seconds = 0\n"
    )
    server = new_server("--config", str(tmp_path / "covey.toml"))
    ends_at = int(time.time()) + 4
    token = key.token(rights=["events:read"], exp=ends_at)
    socket = connect(f"{server.http.replace('http', 'ws')}/api/v1/stream", additional_headers=bearer(token))
    with pytest.raises(ConnectionClosed):
        while True:
            last = json.loads(socket.recv(timeout=10))
    assert last["end"]["reason"] == "unauthorized" and ends_at - 1 < time.time() < ends_at + 2
    assert refusal(httpx.get(f"{server.http}/api/v1/devices", headers=bearer(token)), "expired")


def test_a_browsers_cookie_calls_for_pages_of_its_own_origin_alone(trusting, key):
    cookie = {"cookie": f"theme=dark; accessToken={key.token(rights=['devices:read', 'devices:write', 'events:read'])}"}
    own, foreign = {"origin": trusting.http}, {"origin": "https://evil.example"}
    api = httpx.Client(base_url=f"{trusting.http}/api/v1")
    assert api.get("/devices", headers=cookie).status_code == 200
    assert api.get("/devices", headers=cookie | {"sec-fetch-site": "same-origin"}).status_code == 200
    assert is_problem(api.get("/devices", headers=cookie | {"sec-fetch-site": "cross-site"}), 403)
    assert is_problem(api.get("/devices", headers=cookie | foreign), 403)
    for headers in ({}, foreign, {"origin": "null"}, {"sec-fetch-site": "same-site"}, {"sec-fetch-site": "none"}):
        assert is_problem(api.post("/devices", json={}, headers=cookie | headers), 403), headers
    assert api.post("/devices", json={}, headers=cookie | own).status_code == 201
    assert api.post("/devices", json={}, headers=cookie | {"sec-fetch-site": "same-origin"}).status_code == 201
    url = f"{trusting.http.replace('http', 'ws')}/api/v1/stream"
    connect(url, additional_headers=cookie | own).close()
    for headers in (foreign, {}):
        with pytest.raises(InvalidStatus) as refused:
            connect(url, additional_headers=cookie | headers)
        assert refused.value.response.status_code == 403
    with httpx.stream("GET", url.replace("ws", "http", 1), headers=cookie | {"sec-fetch-site": "same-origin"}) as stream:
        assert stream.status_code == 200
    assert is_problem(httpx.get(f"{trusting.http}/api/v1/stream", headers=cookie | foreign), 403)
    read_on = f"{trusting.http}/api/v1/device-events/incremental"
    assert is_problem(httpx.get(read_on, headers=cookie), 403), "it moves how far the caller has read"
    assert httpx.get(read_on, headers=cookie | {"sec-fetch-site": "same-origin"}).status_code == 200
    assert httpx.get(read_on, params={"last_event_id": 0}, headers=cookie).status_code == 200
    other = {"cookie": "accessToken=opaque-session-of-another-program"}
    assert api.get("/devices", headers=other | {"x-api-key": trusting.key}).status_code == 200


def test_a_cookie_of_an_issuer_that_nobody_trusts_is_no_credential(trusting, key):
    foreign, own = key.token(iss="https://other.example"), key.token()
    who = f"{trusting.http}/api/v1/whoami"
    for both in (f"accessToken={foreign}; accessToken={own}", f"accessToken={own}; accessToken={foreign}"):
        assert httpx.get(who, headers={"cookie": both}).json()["kind"] == "token"
    alone = httpx.get(who, headers={"cookie": f"accessToken={foreign}"})
    assert is_problem(alone, 401) and alone.json()["type"] == "urn:covey:problem:unauthenticated"
    forged = httpx.get(who, headers={"cookie": f"accessToken={own[:-86]}{'A' * 86}"})
    assert refusal(forged, "signature")


def test_a_token_that_was_just_taken_is_none_in_place_of_a_key(trusting, key):
    token = key.token(headers={"typ": None}, sub=None, iat=None)
    assert len(token) <= 256, "as a key may be"
    who = f"{trusting.http}/api/v1/whoami"
    assert httpx.get(who, headers=bearer(token)).status_code == 200
    assert is_problem(httpx.get(who, headers={"x-api-key": token}), 401)
    assert is_problem(httpx.get(f"{trusting.http}/api/key/v1/whoami", headers={"x-api-key": token}), 401)


def test_all_tokens_of_an_issuer_are_for_one_organisation(new_server, tmp_path, key):
    (tmp_path / "issuer.pem").write_bytes(key.pem)
    options = ("--token-issuer", ISSUER, "--token-audience", AUDIENCE, "--token-keys", str(tmp_path / "issuer.pem"))
    server = new_server(*options, "--token-org", "1")
    answer = httpx.get(f"{server.http}/api/v1/whoami", headers=bearer(key.token(orgId=99)))
    assert answer.json()["org_id"] == 1


def test_each_prefix_takes_its_credential_and_says_so_to_the_other(trusting, key):
    token, api_key = bearer(key.token(rights=["devices:read"])), {"x-api-key": trusting.key}
    for slash in ("", "/"):
        for prefix, good, bad in (("key", api_key, token), ("jwt", token, api_key)):
            base = f"{trusting.http}/api/{prefix}/v1"
            assert httpx.get(f"{base}/devices{slash}", headers=good).status_code == 200
            assert httpx.get(f"{base}/accounts{slash}", headers=good).json() == {"org_id": 1}
            refused = httpx.get(f"{base}/devices{slash}", headers=bad)
            assert is_problem(refused, 401) and f"/api/{'jwt' if prefix == 'key' else 'key'}/v1" in refused.json()["detail"]
            assert is_problem(httpx.get(f"{base}/devices{slash}"), 401)
        for good in (api_key, token):
            assert httpx.get(f"{trusting.http}/api/v1/accounts{slash}", headers=good).json() == {"org_id": 1}
    query = httpx.get(f"{trusting.http}/api/jwt/v1/devices?page=1&nonsense=1", headers=token)
    assert "nonsense" in query.headers["covey-warning"]


def test_keys_of_a_url_are_read_again_for_a_new_name_and_go_on_to_be_used_when_it_fails(new_server, documents):
    first, second = SigningKey(), SigningKey("RS256")
    documents.documents["/keys"] = {"keys": [{"kty": "oct", "k": "c2VjcmV0"}, {"kty": "new"}, first.jwk]}
    server = new_server(
        "--token-issuer", ISSUER, "--token-audience", AUDIENCE, "--token-keys", f"{documents.url}/keys"
    )

    def status(key: SigningKey) -> int:
        return httpx.get(f"{server.http}/api/v1/whoami", headers=bearer(key.token(jti=str(time.time())))).status_code

    assert status(first) == 200
    assert status(second) == 401
    time.sleep(5.5)
    documents.documents["/keys"] = {"keys": [second.jwk]}
    assert status(second) == 200, "it is read again for a name that is not known"
    assert status(first) == 401, "a key that was taken away is gone"
    asked, began = len(documents.asked), time.monotonic()
    for _ in range(50):
        assert status(first) == 401
    assert len(documents.asked) <= asked + 1 + (time.monotonic() - began) / 5, "and not for each such token"
    documents.documents.clear()
    time.sleep(5.5)
    assert status(first) == 401
    assert len(documents.asked) > asked and status(second) == 200
    metrics = httpx.get(f"{server.http}/metrics").text
    assert f'covey_token_keys{{issuer="{ISSUER}"}} 1' in metrics
    assert f'covey_token_keys_reads_total{{issuer="{ISSUER}",outcome="failed"}}' in metrics
    assert "keys of a token issuer cannot be read" in server.log_text()


def test_an_issuer_is_discovered_if_it_names_itself(new_server, documents):
    key = SigningKey()
    issuer = documents.url
    documents.documents["/keys"] = {"keys": [key.jwk]}
    about = {"issuer": "https://login.example", "jwks_uri": f"{documents.url}/keys"}
    documents.documents["/.well-known/openid-configuration"] = about
    server = new_server("--token-issuer", issuer, "--token-audience", AUDIENCE)
    url = f"{server.http}/api/v1/whoami"
    assert is_problem(httpx.get(url, headers=bearer(key.token(iss=issuer))), 503), "another issuer's document"
    assert "/keys" not in documents.asked
    documents.documents["/.well-known/openid-configuration"] = about | {"issuer": issuer}
    deadline = time.monotonic() + 20
    while (answer := httpx.get(url, headers=bearer(key.token(iss=issuer)))).status_code != 200:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.5)
    assert answer.json()["issuer"] == issuer


def test_a_flood_of_bad_tokens_costs_others_nothing(trusting, key):
    good, bad = bearer(key.token()), SigningKey()
    before = httpx.get(f"{trusting.http}/metrics").text
    with httpx.Client(base_url=f"{trusting.http}/api/v1") as client:
        for number in range(300):
            assert client.get("/whoami", headers=bearer(bad.token(jti=str(number)))).status_code == 401
            if number % 50 == 0:
                assert client.get("/whoami", headers=good).status_code == 200
    assert 'covey_refusals_total{reason="credential"} 300' in httpx.get(f"{trusting.http}/metrics").text, before
    assert jwt.decode(good["authorization"].split()[1], key.pem, algorithms=["ES256"], audience=AUDIENCE)["sub"] == "u-7"
