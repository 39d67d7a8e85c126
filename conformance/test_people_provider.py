"""People who sign in with a real OpenID provider (oidc-provider of npm): by invitation, and by what it says of them."""

import re
import shutil
import subprocess
import time
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest

from testbed.api import is_problem
from testbed.server import kept_ports

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.skipif(not shutil.which("node"), reason="node is not installed"),
]

PROGRAM = Path(__file__).parent / "clients" / "oidc_login.mjs"
SECRET = "a secret: of the server"


class Site:
    """A provider and a server that know each other."""

    def __init__(self, new_server, folder: Path, more: str = ""):
        # A port that stays, since the provider knows where browsers come back to.
        ports = kept_ports(4)
        self.provider = f"http://127.0.0.1:{ports[3]}"
        home = f"http://127.0.0.1:{ports[0]}"
        command = ["node", str(PROGRAM), str(ports[3]), f"{home}/login/oidc/corp/callback"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{self.provider}/jwks")
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline and self.process.poll() is None
                time.sleep(0.1)
        secret, config = folder / "client.secret", folder / "covey.toml"
        secret.write_text(f"{SECRET}\n")
        secret.chmod(0o600)
        config.write_text(
            f'[[oidc_logins]]\nname = "corp"\ntitle = "Corp & Co"\nissuer = "{self.provider}"\n'
            f'client_id = "covey"\nclient_secret_file = "{secret}"\n{more}'
        )
        self.server = new_server("--config", str(config), ports=ports[:3], log="debug")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=10)


@pytest.fixture
def new_site(new_server, tmp_path):
    made = []

    def new(more: str = "") -> Site:
        made.append(Site(new_server, tmp_path, more))
        return made[-1]

    yield new
    for site in made:
        site.stop()


def onward(answer: httpx.Response) -> str:
    """Where a page sends a browser on to."""
    assert answer.status_code == 200, answer.text
    (url,) = re.findall(r'http-equiv="refresh" content="0;url=([^"]+)"', answer.text)
    return unescape(url)


def at_provider(browser: httpx.Client, url: str, account: str) -> str:
    """Signs in at the provider; the address with which it sends the browser back."""
    answer = browser.get(url)
    for _ in range(12):
        if answer.is_redirect:
            location = str(answer.next_request.url)
            if "/callback" in location and "/login/oidc/" in location:
                return location
            answer = browser.get(location)
            continue
        assert answer.status_code == 200, answer.text
        (action,) = re.findall(r'<form[^>]*action="([^"]+)"', answer.text)
        prompt = re.findall(r'name="prompt" value="([^"]+)"', answer.text)[0]
        form = {"prompt": prompt}
        if prompt == "login":
            form |= {"login": account, "password": "whatever"}
        answer = browser.post(urljoin(str(answer.url), unescape(action)), data=form)
    raise AssertionError("the provider sends nobody back")


def sign_in(site: Site, account: str, link: str | None = None) -> tuple[httpx.Response, httpx.Client]:
    browser = httpx.Client(timeout=30)
    begin = f"{site.server.http}/login/oidc/corp"
    if link is None:
        begun = browser.get(begin)
    else:
        begun = browser.post(begin, data={"token": link.partition("#")[2]}, headers={"sec-fetch-site": "same-origin"})
    url = onward(begun)
    asked = parse_qs(urlsplit(url).query)
    assert asked["code_challenge_method"] == ["S256"] and asked["nonce"] and asked["scope"] == ["openid email profile"]
    back = at_provider(browser, url, account)
    return browser.get(back), browser


def whoami(site: Site, browser: httpx.Client) -> dict:
    return browser.get(f"{site.server.http}/api/v1/whoami").json()


def test_an_account_of_a_provider_takes_an_invitation_and_signs_in_from_then_on(new_site, new_api):
    site = new_site()
    api = new_api(site.server)
    page = httpx.get(f"{site.server.http}/login").text
    assert '<a href="/login/oidc/corp">Sign in with Corp &#38; Co</a>' in page
    stranger, _ = sign_in(site, "ada")
    assert stranger.status_code == 403 and "ask for an invitation" in stranger.text
    link = api.post("/users", json={"name": "ada", "role": "operator"}).json()["link"]
    taken, browser = sign_in(site, "ada", link)
    assert onward(taken) == "/account", taken.text
    who = whoami(site, browser)
    assert (who["kind"], who["name"], who["org"]) == ("person", "ada", "default") and "devices:write" in who["rights"]
    again, browser = sign_in(site, "ada")
    assert onward(again) == "/account" and whoami(site, browser)["name"] == "ada"
    other, _ = sign_in(site, "eve")
    assert other.status_code == 403
    used = httpx.post(
        f"{site.server.http}/login/oidc/corp",
        data={"token": link.partition("#")[2]},
        headers={"sec-fetch-site": "same-origin"},
    )
    assert used.status_code == 404 and "This link is not good" in used.text
    begun = api.get("/audit?action=session.begin").json()["items"][0]
    assert begun["details"]["by"] == "provider" and begun["details"]["issuer"] == site.provider
    assert api.delete(f"/users/{who['user_id']}").status_code == 200
    gone, _ = sign_in(site, "ada")
    assert gone.status_code == 403
    assert SECRET not in site.server.log_text()


def test_what_was_not_begun_in_this_browser_is_refused(new_site, new_api):
    site = new_site()
    link = new_api(site.server).post("/users", json={"name": "ada", "role": "viewer"}).json()["link"]
    assert onward(sign_in(site, "ada", link)[0]) == "/account"
    # A code of somebody else, in a browser that has begun a sign-in of its own, or none.
    attacker = httpx.Client(timeout=30)
    url = onward(attacker.get(f"{site.server.http}/login/oidc/corp"))
    back = at_provider(attacker, url, "ada")
    victim = httpx.Client(timeout=30)
    refused = victim.get(back)
    assert refused.status_code == 422 and "begin again" in refused.text
    onward(victim.get(f"{site.server.http}/login/oidc/corp"))
    refused = victim.get(back)
    assert refused.status_code == 422 and "coveySession" not in victim.cookies
    # A code is good for the sign-in for which it was asked, and once.
    assert onward(attacker.get(back)) == "/account"
    onward(attacker.get(f"{site.server.http}/login/oidc/corp"))
    assert attacker.get(back).status_code == 422
    assert httpx.get(f"{site.server.http}/login/oidc/other").status_code == 404
    site.stop()
    late = httpx.get(f"{site.server.http}/login/oidc/corp")
    assert late.status_code in (200, 503), late.text


def test_a_provider_says_what_people_are_where_the_operator_lets_it(new_site, new_api):
    site = new_site('roles = { boss = "admin", guest = "viewer" }\n')
    made, browser = sign_in(site, "grace+guest")
    assert onward(made) == "/account", made.text
    who = whoami(site, browser)
    assert (who["name"], who["org_id"]) == ("grace@example.com", 1) and "devices:write" not in who["rights"]
    boss, browser = sign_in(site, "ada+guest+boss")
    assert onward(boss) == "/account" and "keys:write" in whoami(site, browser)["rights"]
    nobody, _ = sign_in(site, "eve+king")
    assert nobody.status_code == 403
    # A name that somebody has is not taken over.
    assert new_api(site.server).post("/users", json={"name": "bob@example.com", "role": "viewer"}).status_code == 201
    taken, _ = sign_in(site, "bob+boss")
    assert taken.status_code == 409 and "invitation" in taken.text
    assert is_problem(httpx.get(f"{site.server.http}/api/v1/whoami"), 401)
