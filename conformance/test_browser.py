"""A real browser: its own EventSource and WebSocket, and what they do when the server is killed; pages of other origins;
the page of the documentation."""

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from testbed.server import kept_ports

pytestmark = pytest.mark.embedded

# A browser speaks to nobody but the page that it is told to open.
OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def browser(tmp_path):
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for option in [*OPTIONS, f"--user-data-dir={tmp_path / 'profile'}"]:
        options.add_argument(option)
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


def send(device, *numbers: int) -> None:
    for number in numbers:
        properties = {"event_type_code": 13, "dev_event_id": number, "dev_timestamp": int(time.time())}
        assert device.publish(f"dev/{device.sn}/evt", json.dumps({"n": number}), properties=properties) == 0


def seen(browser, count: int, seconds: float = 15.0) -> list[int]:
    """The numbers that the page has been told, once there are so many."""
    deadline = time.monotonic() + seconds
    while len(told := browser.execute_script("return window.seen")) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    return told


def test_an_eventsource_goes_on_where_it_was_when_the_server_comes_back(new_server, new_api, connect, tmp_path, browser):
    server = new_server(ports=kept_ports())
    api = new_api(server)
    identity = api.register(tmp_path)
    device = connect(server, identity)
    key = api.key_with(["events:read"])
    browser.get(f"{server.http}/healthz")
    browser.execute_script(
        "window.seen = [];"
        f"window.source = new EventSource('/api/v1/stream?kind=event&api_key={key}');"
        "source.addEventListener('event', e => seen.push(JSON.parse(e.data).event.payload.n));"
    )
    deadline = time.monotonic() + 10
    while browser.execute_script("return source.readyState") != 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    send(device, 1, 2, 3)
    assert seen(browser, 3) == [1, 2, 3]
    server.kill()
    server.start()
    # The device is back before the browser: what it tells meanwhile must not be missed.
    send(connect(server, identity), 4, 5, 6)
    assert seen(browser, 6) == [1, 2, 3, 4, 5, 6]


def test_a_websocket_tells_the_same(new_server, new_api, connect, tmp_path, browser):
    server = new_server()
    api = new_api(server)
    identity = api.register(tmp_path)
    device = connect(server, identity)
    send(device, 1)
    browser.get(f"{server.http}/healthz")
    url = f"{server.http.replace('http', 'ws', 1)}/api/v1/stream?kind=event&cursor=0&api_key={server.key}"
    browser.execute_script(
        f"window.seen = []; window.socket = new WebSocket('{url}');"
        "socket.onmessage = m => seen.push(JSON.parse(m.data).event.payload.n);"
    )
    assert seen(browser, 1) == [1]
    send(device, 2, 3)
    assert seen(browser, 3) == [1, 2, 3]


@pytest.fixture
def site():
    """Empty pages of another origin than any server's; two of them."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()

        def log_message(self, *_):
            pass

    sites = [ThreadingHTTPServer(("127.0.0.1", 0), Page) for _ in range(2)]
    for site in sites:
        Thread(target=site.serve_forever, daemon=True).start()
    yield [f"http://127.0.0.1:{site.server_port}" for site in sites]
    for site in sites:
        site.shutdown()
        site.server_close()


FETCH = """
    const [url, key, done] = arguments;
    const headers = {'x-api-key': key, 'content-type': 'application/json', 'idempotency-key': 'from-a-page'};
    const body = JSON.stringify({name: 'made by a page', rights: []});
    fetch(`${url}/api/v1/api-keys`, {method: 'POST', headers, body})
        .then(async answer => done([answer.status, answer.headers.get('x-request-id'), (await answer.json()).name]))
        .catch(error => done([0, null, error.name]));
"""


def test_a_page_of_an_allowed_origin_calls_and_one_of_another_does_not(new_server, new_api, site, browser):
    allowed, other = site
    server = new_server("--cors-origins", allowed)
    api = new_api(server)
    browser.get(allowed)
    status, request_id, name = browser.execute_async_script(FETCH, server.http, server.key)
    assert (status, name) == (201, "made by a page") and request_id
    browser.get(other)
    assert browser.execute_async_script(FETCH, server.http, server.key) == [0, None, "TypeError"]
    made = [key for key in api.get("/api-keys").json() if key["name"] == "made by a page"]
    assert len(made) == 1, "the browser asked first for the other page, and made nothing"

    browser.get(allowed)
    browser.execute_script(f"window.source = new EventSource('{server.http}/api/v1/stream?api_key={server.key}');")
    deadline = time.monotonic() + 10
    while browser.execute_script("return source.readyState") != 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert browser.execute_script("return source.readyState") == 1


def test_swagger_ui_keeps_the_key_over_a_reload(server, browser):
    def known() -> str:
        """The credentials that the page knows, once it has read the document."""
        return browser.execute_async_script(
            "const [done] = arguments;"
            "const look = () => window.ui?.specSelectors.specJson().size"
            " ? done(JSON.stringify(ui.authSelectors.authorized().toJS())) : setTimeout(look, 50);"
            "look();"
        )

    browser.get(f"{server.http}/docs/")
    assert server.key not in known()
    browser.execute_script(
        "ui.authActions.authorizeWithPersistOption({api_key: {name: 'api_key', schema: {type: 'apiKey', in: 'header',"
        f" name: 'x-api-key'}}, value: '{server.key}'}}}});"
    )
    browser.refresh()
    assert server.key in known()
