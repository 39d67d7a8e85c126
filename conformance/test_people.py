"""People: the first one, invitations, sessions over REST and on the command line, and a real browser that signs in."""

import json
import re
import subprocess
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from testbed.api import is_problem
from testbed.server import BINARY, kept_ports

PASSWORD = "correct horse battery"
OWN_PAGE = {"sec-fetch-site": "same-origin"}

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


def covey(server, *arguments: str) -> subprocess.CompletedProcess:
    command = [str(BINARY), *arguments, "--data", str(server.data)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=server.environment())


def first_link(server) -> str:
    (link,) = re.findall(r"^  sign in +(\S+)", server.output_text(), re.MULTILINE)
    return link


def take(server, link: str, password: str = PASSWORD) -> httpx.Response:
    body = {"token": link.partition("#")[2], "password": password}
    return httpx.post(f"{server.http}/api/v1/auth/invitation", json=body)


def sign_in(server, name: str, password: str = PASSWORD, **more) -> httpx.Response:
    return httpx.post(f"{server.http}/api/v1/auth/login", json={"name": name, "password": password, **more})


def as_person(server, answer: httpx.Response) -> httpx.Client:
    """A browser, as far as the server sees one."""
    assert answer.status_code == 200, answer.text
    cookies = {"coveySession": answer.cookies["coveySession"]}
    return httpx.Client(base_url=f"{server.http}/api/v1", cookies=cookies, headers=OWN_PAGE)


@pytest.mark.every_shape
def test_the_first_start_gives_a_link_once_and_it_is_in_no_log(new_server, new_api):
    server = new_server(log="trace")
    link = first_link(server)
    page, _, token = link.partition("#")
    assert page == f"{server.http}/invite" and re.fullmatch("[0-9a-f]{64}", token)
    answer = take(server, link)
    with as_person(server, answer) as admin:
        who = admin.get("/whoami").json()
        assert (who["kind"], who["name"], who["org"]) == ("person", "admin", "default")
        assert "orgs:admin" in who["rights"]
        made = admin.post("/orgs", json={"name": "acme"})
        assert made.status_code == 201, made.text
    assert is_problem(take(server, link), 404), "it is good once"
    session = answer.cookies["coveySession"]
    for secret in (token, session, PASSWORD):
        assert secret not in server.log_text()
    log = new_api(server).get("/audit?action=org.add&all=true").json()["items"]
    assert log[0]["by"] == {"kind": "person", "id": 1, "name": "admin"} and log[0]["from"] == "127.0.0.1"
    server.restart()
    assert "sign in" not in server.output_text() and "invite" not in server.output_text()
    with as_person(server, sign_in(server, "Admin")) as admin:
        assert admin.get("/sessions").json()["total"] == 2, "the session is there after a restart"
    for path in server.data.rglob("*"):
        if path.is_file():
            assert token.encode() not in path.read_bytes(), path


@pytest.mark.every_shape
def test_the_command_line_invites_shows_and_removes(new_server):
    server = new_server()
    added = covey(server, "user", "add", "Ada@Example.com", "--role", "operator")
    assert added.returncode == 0, added.stderr
    link = added.stdout.strip()
    assert link.startswith(f"{server.http}/invite#") and "ada@example.com sets a password" in added.stderr
    assert covey(server, "user", "add", "ada@example.com", "--role", "viewer").returncode != 0
    assert covey(server, "user", "add", "bob", "--role", "king").returncode == 2
    ada = as_person(server, take(server, link))
    listed = [json.loads(line) for line in covey(server, "user", "list", "--json").stdout.splitlines()]
    assert [(user["name"], user["role"], user["has_password"]) for user in listed] == [
        ("admin", "admin", False),
        ("ada@example.com", "operator", True),
    ]
    sessions = covey(server, "user", "session", "list", "ada@example.com", "--json").stdout.splitlines()
    (session,) = [json.loads(line) for line in sessions]
    assert session["address"] == "127.0.0.1" and session["agent"].startswith("python-httpx")
    ended = covey(server, "user", "session", "end", str(session["id"]))
    assert ended.returncode == 0, ended.stderr
    assert is_problem(ada.get("/whoami"), 401)
    changed = covey(server, "user", "role", "ada@example.com", "viewer")
    assert changed.returncode == 0 and "viewer" in changed.stdout, changed.stderr
    ada = as_person(server, sign_in(server, "ada@example.com"))
    assert is_problem(ada.post("/devices", json={"sn": "x"}), 403)
    again = covey(server, "user", "link", "ada@example.com").stdout.strip()
    ada_again = as_person(server, take(server, again, "another password"))
    assert is_problem(ada.get("/whoami"), 401), "another password ends the sessions that are there"
    removed = covey(server, "user", "remove", "ada@example.com")
    assert removed.returncode == 0, removed.stderr
    time.sleep(1.0)
    assert is_problem(ada_again.get("/whoami"), 401)
    assert is_problem(sign_in(server, "ada@example.com", "another password"), 401)


@pytest.mark.every_shape
def test_whoever_holds_the_store_lets_somebody_in_who_is_locked_out(new_server):
    server = new_server(ports=kept_ports())
    assert take(server, first_link(server)).status_code == 200
    running = covey(server, "user", "link", "admin", "--offline")
    if running.returncode != 0:
        assert running.returncode == 2 and "stop it" in running.stderr and not running.stdout
        assert server.stop() == 0
        running = covey(server, "user", "link", "admin", "--offline")
        assert covey(server, "user", "link", "nobody", "--offline").returncode == 2
        server.start()
    assert running.returncode == 0, running.stderr
    assert is_problem(sign_in(server, "admin", "forgotten"), 401)
    with as_person(server, take(server, running.stdout.strip(), "remembered now")) as admin:
        assert admin.get("/whoami").json()["name"] == "admin"
        entries = admin.get("/audit?action=user.link").json()["items"]
        assert entries[0]["by"]["name"] == "covey user link" and entries[0]["object"] == "user 1"


@pytest.mark.every_shape
def test_a_person_of_two_organisations_signs_in_for_one_and_sees_no_other(new_server, new_api):
    server = new_server()
    api = new_api(server)
    assert api.post("/orgs", json={"name": "acme"}).status_code == 201
    link = api.post("/users", json={"name": "ada", "role": "admin"}).json()["link"]
    assert take(server, link).status_code == 200
    more = api.post("/users", json={"name": "ada", "role": "viewer", "org": "acme"})
    assert more.status_code == 201 and "link" not in more.json()
    there = as_person(server, sign_in(server, "ada", org="acme"))
    who = there.get("/whoami").json()
    assert who["org"] == "acme" and "devices:write" not in who["rights"]
    here = as_person(server, sign_in(server, "ada"))
    assert here.get("/whoami").json()["org"] == "default"
    assert is_problem(sign_in(server, "ada", org="nowhere"), 422)
    theirs = api.post("/users", json={"name": "bob", "role": "admin", "org": "acme"}).json()
    bob = as_person(server, take(server, theirs["link"]))
    number = theirs["user"]["id"]
    assert [user["name"] for user in here.get("/users").json()["items"]] == ["admin", "ada"]
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/link")):
        assert is_problem(here.request(method, f"/users/{number}{path}"), 404)
    assert is_problem(here.patch(f"/users/{number}", json={"role": "viewer"}), 404)
    assert is_problem(here.get("/users?all=true"), 403)
    assert is_problem(here.post("/users", json={"name": "bob", "role": "viewer"}), 409)
    assert is_problem(here.post("/users", json={"name": "eve", "role": "admin", "every_org": True}), 403)
    own = bob.get("/sessions").json()["items"]
    assert {session["user"] for session in own} == {"ada", "bob"} and sum(one["is_this"] for one in own) == 1
    assert is_problem(bob.delete(f"/sessions/{here.get('/whoami').json()['session_id']}"), 404)


def test_wrong_names_and_wrong_passwords_take_as_long(new_server, new_api):
    server = new_server()
    link = new_api(server).post("/users", json={"name": "ada", "role": "viewer"}).json()["link"]
    assert take(server, link).status_code == 200

    def took(name: str) -> float:
        began = time.perf_counter()
        assert is_problem(sign_in(server, name, "wrong wrong wrong"), 401)
        return time.perf_counter() - began

    took("warm")
    known, unknown = [], []
    for number in range(4):
        known.append(took("ada"))
        unknown.append(took(f"nobody-{number}"))
    assert 0.5 < min(known) / min(unknown) < 2, (known, unknown)


@pytest.fixture
def browser(tmp_path):
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for option in [*OPTIONS, f"--user-data-dir={tmp_path / 'profile'}"]:
        options.add_argument(option)
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


def fill(browser, **fields: str) -> None:
    for name, value in fields.items():
        browser.find_element(By.NAME, name).send_keys(value)
    browser.find_element(By.CSS_SELECTOR, "form button").click()


def until(browser, path: str) -> None:
    WebDriverWait(browser, 20).until(lambda browser: path in browser.current_url)


@pytest.fixture
def elsewhere():
    """A page of another origin."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<title>elsewhere</title>")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    Thread(target=server.serve_forever, daemon=True).start()
    # Another site, and not only another port of the same host.
    yield f"http://localhost:{server.server_port}"
    server.shutdown()


@pytest.mark.embedded
def test_a_browser_takes_an_invitation_signs_in_and_out(new_server, browser):
    server = new_server()
    browser.get(first_link(server))
    assert browser.current_url == f"{server.http}/invite", "the code is in no history"
    assert not browser.find_element(By.NAME, "token").is_displayed()
    fill(browser, password=PASSWORD, again="something else")
    WebDriverWait(browser, 20).until(lambda browser: browser.find_elements(By.ID, "problem"))
    # The code is asked for again, and a link that is pasted whole will do.
    fill(browser, token=first_link(server), password=PASSWORD, again=PASSWORD)
    until(browser, "/account")
    assert browser.find_element(By.ID, "name").text == "admin"
    assert browser.execute_script("return document.cookie") == "", "no script reads the session"
    (cookie,) = browser.get_cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("coveySession", True, "Lax")
    # A page of the server calls with it: also what changes something.
    called = browser.execute_async_script(
        "const done = arguments[0];"
        "fetch('/api/v1/devices', {method: 'POST', body: '{\"sn\":\"lamp-1\"}'}).then(r => done(r.status));"
    )
    # The page may connect to its own server alone, and does so.
    assert called == 201
    browser.find_element(By.CSS_SELECTOR, "form button").click()
    until(browser, "/login")
    assert browser.get_cookies() == []
    fill(browser, name="admin", password="wrong wrong wrong")
    WebDriverWait(browser, 20).until(lambda browser: browser.find_elements(By.ID, "problem"))
    assert "wrong" in browser.find_element(By.ID, "problem").text
    fill(browser, name="admin", password=PASSWORD)
    until(browser, "/account")


@pytest.mark.embedded
def test_a_page_of_another_origin_neither_uses_nor_begins_a_session(new_server, browser, elsewhere):
    server = new_server()
    browser.get(first_link(server))
    fill(browser, password=PASSWORD, again=PASSWORD)
    until(browser, "/account")
    browser.get(elsewhere)

    def form(path: str, **fields: str) -> str:
        """Posts a form to the server, as a page that means ill would: the whole page goes there."""
        browser.get(elsewhere)
        browser.execute_script(
            "const form = document.createElement('form'); form.method = 'post'; form.action = arguments[0];"
            "for (const [name, value] of Object.entries(arguments[1])) {"
            "  const field = document.createElement('input'); field.name = name; field.value = value; form.append(field);"
            "} document.body.append(form); form.submit();",
            f"{server.http}{path}",
            fields,
        )
        # A sign-out that was not one leads to where one signs in.
        until(browser, server.http)
        return browser.page_source

    assert "another site" in form("/login", name="admin", password=PASSWORD)
    form("/logout")
    browser.get(f"{server.http}/account")
    assert browser.find_element(By.ID, "name").text == "admin", "nobody was signed out"
    browser.get(elsewhere)
    refused = browser.execute_async_script(
        "const done = arguments[1];"
        "fetch(arguments[0], {method: 'POST', body: '{}', credentials: 'include', mode: 'no-cors'}).then(r => done(r.type));",
        f"{server.http}/api/v1/retention/run",
    )
    assert refused == "opaque"
    stream = browser.execute_async_script(
        "const done = arguments[1]; const source = new EventSource(arguments[0], {withCredentials: true});"
        "source.onopen = () => done('open'); source.onerror = () => done('refused');",
        f"{server.http}/api/v1/stream",
    )
    assert stream == "refused"
    browser.get(f"{server.http}/account")
    said = browser.execute_async_script(
        "const done = arguments[0];"
        "fetch('/api/v1/audit?action=retention.run').then(r => r.json()).then(r => done(r.items.length));"
    )
    assert said == 0, "nothing was done"
