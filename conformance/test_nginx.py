"""Covey behind nginx, with the files of `deploy/nginx` as they are (marked values replaced)."""

import concurrent.futures
import http.server
import json
import shutil
import subprocess
import threading
import time
import urllib.parse

import pytest

from testbed.answering import Answering
from testbed.api import Api
from testbed.certificate import DAY, Signer
from testbed.front_door import UPSTREAM_NAME, Nginx, Upstream, covey, curl, own_certificate
from testbed.server import Server, kept_ports

pytestmark = pytest.mark.embedded

WHOAMI = "/api/v1/whoami"
HEADER = "X-Covey-Client-Cert"


@pytest.fixture
def new_nginx():
    """Makes and starts an nginx before some servers; it ends with the test."""
    made = []

    def new(covey_servers, **values) -> Nginx:
        made.append(Nginx(covey_servers, **values))
        return made[-1].start()

    yield new
    for nginx in made:
        nginx.stop()


@pytest.fixture
def behind(new_server):
    """A server that may stand behind nginx."""
    return new_server("--name", UPSTREAM_NAME)


@pytest.fixture
def pair(tmp_path, new_server):
    """Two servers of one CA and one first key, on ports that stay theirs. They share nothing else."""
    first = Server(tmp_path / "first", "--name", UPSTREAM_NAME).start()
    assert first.stop() == 0
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    return [new_server("--name", UPSTREAM_NAME, name=name, ports=kept_ports()) for name in ("first", "second")]


@pytest.fixture
def new_upstream(tmp_path):
    """Makes servers in Covey's place; they end with the test."""
    made = []

    def new(of, **more) -> Upstream:
        made.append(Upstream(tmp_path, of, **more))
        return made[-1]

    yield new
    for upstream in made:
        upstream.stop()


@pytest.fixture
def caller(behind, new_api):
    """A caller who goes straight to the server."""
    return new_api(behind)


def register(caller: Api, certificate, name: str, rights=("tasks:read", "devices:read")) -> dict:
    body = {"name": name, "rights": list(rights), "certificate_pem": certificate.read_text()}
    answer = caller.post("/api-keys", json=body)
    assert answer.status_code == 201, answer.text
    assert "key" not in answer.json()
    return answer.json()


def shows(identity) -> list[str]:
    certificate, key = identity
    return ["--cert", str(certificate), "--key", str(key)]


def is_problem(answer, status: int) -> dict:
    assert answer.status == status, f"{answer.status}: {answer.text}"
    assert answer.headers["content-type"] == "application/problem+json", answer.headers
    document = json.loads(answer.text)
    assert document["status"] == status and document["detail"], document
    return document


@pytest.mark.parametrize("version", ["--http2", "--http1.1"])
@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_an_api_key_opens_over_each_version_of_http_and_tls(behind, new_nginx, version, tls):
    nginx = new_nginx([behind])
    options = [version, f"--tlsv{tls}", "--tls-max", tls]
    answer = curl(nginx.ca, nginx.url + WHOAMI, *options, headers={"x-api-key": behind.key})
    assert answer.status == 200 and json.loads(answer.text)["name"] == "admin", answer
    assert answer.http_version == version.removeprefix("--http")
    is_problem(curl(nginx.ca, nginx.url + WHOAMI, *options), 401)


def test_a_key_is_valid_from_the_addresses_that_nginx_has_seen(behind, caller, new_nginx):
    nginx = new_nginx([behind])
    body = {"name": "bound", "rights": ["tasks:read"], "addresses": ["127.0.0.2"]}
    key = caller.post("/api-keys", json=body).json()["key"]
    for url in (nginx.url, behind.https.replace("127.0.0.1", "localhost")):
        for address, forwarded, status in (("127.0.0.2", None, 200), ("127.0.0.1", None, 401), ("127.0.0.1", "127.0.0.2", 401)):
            headers = {"x-api-key": key} | ({"X-Forwarded-For": forwarded} if forwarded else {})
            answer = curl(nginx.ca, url + WHOAMI, "--ipv4", "--interface", address, headers=headers)
            assert answer.status == status, (url, address, forwarded, answer)


def test_plain_http_is_sent_to_https(behind, new_nginx):
    nginx = new_nginx([behind])
    answer = curl(nginx.ca, f"http://localhost:{nginx.http_port}/api/v1/devices?page=2")
    assert answer.status == 308 and answer.headers["location"] == "https://localhost/api/v1/devices?page=2"


def test_a_registered_certificate_opens_with_and_without_nginx(behind, caller, new_nginx, tmp_path):
    nginx = new_nginx([behind])
    app, stranger = own_certificate(tmp_path, "app"), own_certificate(tmp_path, "stranger")
    made = register(caller, app[0], "app")
    for tls in ("1.2", "1.3"):
        for url in (nginx.url, behind.https.replace("127.0.0.1", "localhost")):
            options = [f"--tlsv{tls}", "--tls-max", tls]
            known = curl(nginx.ca, url + WHOAMI, *options, *shows(app))
            assert known.status == 200 and json.loads(known.text)["name"] == "app", known
            assert curl(nginx.ca, url + "/api/v1/devices", *options, *shows(app)).status == 200
            is_problem(curl(nginx.ca, url + "/api/v1/api-keys", *options, *shows(app)), 403)
            is_problem(curl(nginx.ca, url + WHOAMI, *options, *shows(stranger)), 401)
    assert caller.delete(f"/api-keys/{made['id']}").status_code == 200
    is_problem(curl(nginx.ca, nginx.url + WHOAMI, *shows(app)), 401)


def test_who_only_writes_the_header_is_nobody(behind, caller, new_nginx, tmp_path):
    nginx = new_nginx([behind])
    app, own = own_certificate(tmp_path, "app"), own_certificate(tmp_path, "own")
    register(caller, app[0], "app")
    covey("key", "add", "own", "--certificate", str(own[0]), "--data", str(behind.data))
    straight = behind.https.replace("127.0.0.1", "localhost")
    forged = urllib.parse.quote(app[0].read_text(), safe="")
    for spelling in (HEADER, HEADER.lower(), HEADER.replace("-", "_")):
        headers = {spelling: forged}
        for url in (nginx.url, straight, behind.http):
            is_problem(curl(nginx.ca, url + WHOAMI, headers=headers), 401)
        # One's own certificate counts, whatever one writes.
        for url in (nginx.url, straight):
            answer = curl(nginx.ca, url + WHOAMI, *shows(own), headers=headers)
            assert json.loads(answer.text)["name"] == "own", answer
    # The proxy's own certificate opens the header, and nothing by itself.
    proxy = [nginx.folder / "proxy" / "client.pem", nginx.folder / "proxy" / "client.key"]
    answer = curl(nginx.ca, straight + WHOAMI, *shows(proxy), headers={HEADER: forged})
    assert json.loads(answer.text)["name"] == "app", "else this test would prove nothing"
    is_problem(curl(nginx.ca, straight + WHOAMI, *shows(proxy)), 401)
    # Shown to nginx, it is a certificate like any other: the header in it is still nginx's.
    is_problem(curl(nginx.ca, nginx.url + WHOAMI, *shows(proxy), headers={HEADER: forged}), 401)


def test_an_expired_certificate_is_refused(behind, new_nginx, tmp_path):
    nginx = new_nginx([behind])
    over = Signer.forged().issue(tmp_path, "over", begins=-2 * DAY, ends=-DAY)
    # The header of the key does not save it: TLS comes first.
    for headers in ({}, {"x-api-key": behind.key}):
        shown = shows((over.certificate, over.key))
        is_problem(curl(nginx.ca, nginx.url + WHOAMI, *shown, headers=headers), 401)


def test_a_call_with_wait_brings_the_answer_through_nginx(behind, caller, new_nginx, tmp_path, connect):
    nginx = new_nginx([behind])
    identity = caller.register(tmp_path)
    Answering(connect(behind, identity), delay=3.0)
    body = json.dumps({"ext_task_id": "e", "device_id": identity.device_id, "ttl": 5, "payload": {"cl": 5}})
    answer = curl(
        nginx.ca, nginx.url + "/api/v1/device-tasks?wait=60", "-d", body, headers={"x-api-key": behind.key}
    )
    assert answer.status == 200 and json.loads(answer.text)["status_name"] == "DONE", answer


@pytest.mark.timeout(180)
def test_a_full_wait_of_sixty_seconds_is_not_cut(behind, caller, new_nginx, tmp_path):
    nginx = new_nginx([behind])
    identity = caller.register(tmp_path)
    body = json.dumps({"ext_task_id": "e", "device_id": identity.device_id, "ttl": 5})
    began = time.monotonic()
    answer = curl(
        nginx.ca, nginx.url + "/api/v1/device-tasks?wait=60", "-d", body, headers={"x-api-key": behind.key}
    )
    assert answer.status == 202 and 59 <= time.monotonic() - began < 70, answer


def test_one_address_that_asks_too_much_gets_429_as_a_problem(behind, new_nginx):
    nginx = new_nginx(
        [behind],
        rate="$binary_remote_addr zone=covey_rate:10m rate=1r/s",
        burst="zone=covey_rate burst=2 nodelay",
    )
    answers = [curl(nginx.ca, nginx.url + "/healthz", headers={"X-Request-Id": "mine"}) for _ in range(6)]
    assert [answer.status for answer in answers[:3]] == [200, 200, 200]
    refused = [answer for answer in answers if answer.status != 200]
    assert refused
    for answer in refused:
        assert is_problem(answer, 429)["request_id"] == "mine"
        assert answer.headers["retry-after"] == "1"


def test_bodies_are_as_large_as_covey_takes_them(behind, caller, new_nginx, tmp_path):
    nginx = new_nginx([behind])
    identity = caller.register(tmp_path)

    def post(total: int):
        frame = {"ext_task_id": "e", "device_id": identity.device_id, "payload": {"a": ""}}
        frame["payload"]["a"] = "x" * (total - len(json.dumps(frame)))
        (tmp_path / "body").write_text(json.dumps(frame))
        path = nginx.url + "/api/v1/device-tasks"
        return curl(nginx.ca, path, "--data-binary", f"@{tmp_path}/body", headers={"x-api-key": behind.key})

    # What a device can be sent is less; that refusal is Covey's own, so the body has passed.
    assert post(256 * 1024).status != 413
    is_problem(post(256 * 1024 + 1), 413)


def test_what_nginx_answers_itself_is_a_problem_and_metrics_stay_inside(behind, new_nginx):
    nginx = new_nginx([behind])
    assert is_problem(curl(nginx.ca, nginx.url + "/metrics"), 404)["type"] == "urn:covey:problem:not-found"
    assert curl(nginx.ca, nginx.url + "/readyz").status == 200
    # An id that would break out of the JSON is replaced.
    document = is_problem(curl(nginx.ca, nginx.url + "/metrics", headers={"X-Request-Id": 'a","b":"c'}), 404)
    assert "b" not in document and document["request_id"] != 'a","b":"c'


def test_what_reaches_covey_is_what_nginx_says(behind, new_nginx, new_upstream, tmp_path):
    upstream = new_upstream(behind)
    nginx = new_nginx([behind], servers=[f"server {upstream.address};"])
    forged = {HEADER: "forged", "X-Forwarded-For": "8.8.8.8", "X-Real-IP": "8.8.8.8", "X-Forwarded-Proto": "http"}
    got = json.loads(curl(nginx.ca, nginx.url + WHOAMI, headers=forged).text)
    assert HEADER.lower() not in got
    assert (got["x-real-ip"], got["x-forwarded-for"], got["x-forwarded-proto"]) == ("127.0.0.1", "127.0.0.1", "https")
    assert got["host"] == f"localhost:{nginx.https_port}", "foreign pages are told by it"
    app = own_certificate(tmp_path, "app")
    got = json.loads(curl(nginx.ca, nginx.url + WHOAMI, *shows(app), headers=forged).text)
    assert urllib.parse.unquote(got[HEADER.lower()]) == app[0].read_text()
    # WebSocket is upgraded, and nothing else: h2c would open a tunnel past nginx's rules.
    for asked, seen in [("websocket", "websocket"), ("WebSocket", "websocket"), ("h2c", None), ("websocket, h2c", None)]:
        upgrade = {"Connection": "Upgrade", "Upgrade": asked}
        got = json.loads(curl(nginx.ca, nginx.url + "/x", "--http1.1", headers=upgrade).text)
        assert (got.get("upgrade"), got.get("connection")) == (seen, "upgrade" if seen else None), asked


def test_both_servers_get_requests_and_when_one_is_gone_the_other_serves(pair, new_nginx):
    nginx = new_nginx(pair)
    key = {"x-api-key": pair[0].key}

    def ask(count: int = 20) -> set[int]:
        return {curl(nginx.ca, nginx.url + WHOAMI, headers=key).status for _ in range(count)}

    def served() -> list[float]:
        return [server.metric("covey_http_requests_total", route=WHOAMI, status="200") for server in pair]

    # So that the series is there.
    for server in pair:
        assert curl(nginx.ca, server.http + WHOAMI, headers=key).status == 200
    assert ask() == {200} and min(served()) >= 3, served()
    pair[0].kill()
    assert ask() == {200}, "a killed server costs no request"
    pair[0].start()
    time.sleep(5.5)
    assert curl(nginx.ca, pair[0].http + WHOAMI, headers=key).status == 200
    before = served()[0]
    assert ask(40) == {200} and served()[0] > before, "a server that is back gets requests again"
    # One that is told to stop ends what runs, and costs none either.
    pair[1].terminate()
    assert ask(40) == {200}


def test_a_post_goes_elsewhere_when_a_server_is_gone_and_none_is_an_unavailable_problem(pair, new_nginx, tmp_path):
    nginx = new_nginx(pair)
    for server in pair:
        api = Api(server.http, server.key)
        assert api.post("/devices", json={"sn": "d", "device_id": 1}).status_code == 201
        api.close()
    headers = {"x-api-key": pair[0].key}
    body = json.dumps({"ext_task_id": "e", "device_id": 1})
    pair[0].kill()
    for more in ({}, {"Idempotency-Key": "order-1"}):
        for _ in range(4):
            answer = curl(nginx.ca, nginx.url + "/api/v1/device-tasks", "-d", body, headers={**headers, **more})
            assert answer.status == 200, answer
    pair[1].kill()
    answer = curl(nginx.ca, nginx.url + "/api/v1/device-tasks", "-d", body, headers=headers)
    assert is_problem(answer, 503)["type"] == "urn:covey:problem:unavailable"
    assert answer.headers["retry-after"] == "1"


def test_only_what_may_be_repeated_is_sent_to_a_second_server(behind, caller, new_nginx, new_upstream, tmp_path):
    nginx = new_nginx([behind])
    identity = caller.register(tmp_path)
    broken = new_upstream(behind, breaks_off=True)
    good = behind.https.removeprefix("https://")
    servers = [
        # Always asked first, however often it fails.
        f"server {broken.address} max_fails=0;",
        f"server {good} backup;",
    ]
    nginx.configure([behind], servers=servers)
    nginx.reload()
    headers = {"x-api-key": behind.key}
    body = json.dumps({"ext_task_id": "e", "device_id": identity.device_id})
    tasks = nginx.url + "/api/v1/device-tasks"
    assert curl(nginx.ca, nginx.url + WHOAMI, headers=headers).status == 200
    keyed = {**headers, "Idempotency-Key": "order-1"}
    assert curl(nginx.ca, tasks, "-d", body, headers=keyed).status == 200
    assert broken.seen == [f"GET {WHOAMI}", "POST /api/v1/device-tasks"], "the first one did get them"
    is_problem(curl(nginx.ca, tasks, "-d", body, headers=headers), 503)
    # Other resources do not heed the header.
    other = json.dumps({"sn": "once"})
    is_problem(curl(nginx.ca, nginx.url + "/api/v1/devices", "-d", other, headers=keyed), 503)
    is_problem(curl(nginx.ca, nginx.url + "/api/v1/device-events/incremental", headers=headers), 503)
    assert len(broken.seen) == 5
    assert caller.get("/device-tasks", params={"device_id": identity.device_id}).json()["total"] == 1


def test_connections_to_covey_are_kept(behind, new_nginx):
    nginx = new_nginx([behind])
    for _ in range(30):
        assert curl(nginx.ca, nginx.url + "/healthz").status == 200
    port = behind.https.rsplit(":", 1)[1]
    command = ["ss", "-Htn", "state", "established", f"( dport = :{port} )"]
    established = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.splitlines()
    # At most one for each worker, and none was made anew for each request.
    assert 1 <= len(established) <= 8, established


def test_a_reload_lets_what_runs_end(behind, caller, new_nginx, tmp_path, connect):
    nginx = new_nginx([behind])
    identity = caller.register(tmp_path)
    Answering(connect(behind, identity), delay=4.0)
    body = json.dumps({"ext_task_id": "e", "device_id": identity.device_id, "ttl": 5})
    with concurrent.futures.ThreadPoolExecutor() as pool:
        url = nginx.url + "/api/v1/device-tasks?wait=30"
        call = pool.submit(curl, nginx.ca, url, "-d", body, headers={"x-api-key": behind.key})
        time.sleep(1.0)
        nginx.reload()
        assert not call.done()
        assert curl(nginx.ca, nginx.url + "/healthz").status == 200
        answer = call.result(timeout=30)
    assert answer.status == 200 and json.loads(answer.text)["status_name"] == "DONE", answer


def test_devices_come_through_with_their_own_tls(pair, new_api, new_nginx, connect, tmp_path):
    nginx = new_nginx(pair)
    identity = new_api(pair[0]).register(tmp_path)
    # Only the first server knows the device, so it must be the one that is left.
    pair[1].kill()
    before = pair[0].metric("covey_devices_connected")
    device = connect(_Through(pair[0], nginx.mqtt_port), identity)
    assert device.is_connected()
    assert pair[0].metric("covey_devices_connected") == before + 1
    task_id = new_api(pair[0]).create(identity)
    assert device.expect("tsk").task_id == task_id


class _Through:
    """A server as devices see it who come through nginx."""

    def __init__(self, server: Server, port: int):
        self.mqtts, self.ca = ("localhost", port), server.ca


class _App(http.server.BaseHTTPRequestHandler):
    """An application that knows nothing of Covey and answers which headers it got."""

    def do_GET(self):
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_another_application_is_protected_by_coveys_credentials(behind, caller, new_nginx, tmp_path):
    app = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _App)
    threading.Thread(target=app.serve_forever, daemon=True).start()
    try:
        nginx = new_nginx([behind], app=f"http://127.0.0.1:{app.server_address[1]}")
        nginx.configure([behind], auth_request=f"{nginx.folder}/covey-auth-request.conf")
        nginx.reload()
        url = f"https://localhost:{nginx.app_port}/page"
        assert curl(nginx.ca, url).status == 401
        assert curl(nginx.ca, url, headers={"x-api-key": "wrong"}).status == 401
        own = own_certificate(tmp_path, "browser")
        assert curl(nginx.ca, url, *shows(own)).status == 401
        register(caller, own[0], "browser", rights=["tasks:read"])
        forged = {"X-Covey-Rights": "keys:write", "X-Covey-Org-Id": "77"}
        by_key = curl(nginx.ca, url, headers={"x-api-key": behind.key, **forged})
        assert by_key.status == 200
        got = json.loads(by_key.text)
        assert got["x-covey-org-id"] == "1" and "keys:write" in got["x-covey-rights"], got
        assert "x-api-key" not in got, "the application has no use for the key"
        for more in ({}, {"Sec-Fetch-Site": "cross-site"}):
            by_certificate = curl(nginx.ca, url, *shows(own), headers={**forged, **more})
            assert by_certificate.status == 200
            got = json.loads(by_certificate.text)
            assert got["x-covey-rights"] == "tasks:read" and "x-covey-client-cert" not in got, got
    finally:
        app.shutdown()
        app.server_close()


def test_the_stream_comes_through_at_once_and_leaves_no_key_in_the_log(
    behind, caller, new_nginx, tmp_path, connect
):
    nginx = new_nginx([behind])
    device = connect(behind, caller.register(tmp_path))
    url = f"https://localhost:{nginx.https_port}/api/v1/stream?kind=event&api_key={behind.key}"
    command = ["curl", "-sN", "--cacert", str(nginx.ca), url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stream:
        lines = iter(stream.stdout.readline, "")
        assert any(line.startswith("id:") for line in lines)
        began = time.monotonic()
        properties = {"event_type_code": 13, "dev_event_id": 1}
        assert device.publish(f"dev/{device.sn}/evt", '{"n":1}', properties=properties) == 0
        assert next(line for line in lines if line.startswith("data:"))
        assert time.monotonic() - began < 2.0
        stream.kill()
    deadline = time.monotonic() + 5
    log = nginx.folder / "access.log"
    while "/api/v1/stream" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "/api/v1/stream" in log.read_text() and behind.key not in log.read_text()
