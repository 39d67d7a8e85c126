"""Pusher's own libraries, and a file for `--pusher`."""

import hashlib
import hmac
import json
import os
import queue
import subprocess
import threading
import time
from pathlib import Path
from urllib.parse import urlencode

import httpx

PROGRAMS = Path(__file__).resolve().parents[1] / "clients" / "pusher"
# One that is slow because the machine is busy is waited for.
SECONDS_MAX = 30.0
SECRET = "a-secret-of-an-app"


def app(number: int = 1, api_key: int = 1, **more) -> dict:
    return {"id": str(number), "key": f"key-{number}", "secret": SECRET, "api_key": api_key, **more}


def file_of(folder: Path, *apps: dict, name="pusher.json", **more) -> str:
    """A file of mode 0600."""
    file = folder / name
    file.touch(0o600)
    file.write_text(json.dumps({"apps": list(apps), **more}))
    return str(file)


def place(url: str) -> tuple[str, int]:
    host, port = url.rsplit("/", 1)[1].rsplit(":", 1)
    return host, int(port)


def signed(base: str, method: str, path: str, body: bytes = b"", of: dict | None = None, **params) -> httpx.Response:
    """A request as a library signs it, or with a `change` of it. What is changed of what is signed is signed; what is
    added is not."""
    of = of or app()
    change = params.pop("change", {})
    query = {"auth_key": of["key"], "auth_timestamp": str(int(time.time())), "auth_version": "1.0", **params}
    if body:
        query["body_md5"] = hashlib.md5(body).hexdigest()
    query |= {name: value for name, value in change.items() if name in query}
    text = f"{method}\n{path}\n" + "&".join(f"{name}={value}" for name, value in sorted(query.items()))
    query["auth_signature"] = hmac.new(of["secret"].encode(), text.encode(), hashlib.sha256).hexdigest()
    query |= change
    return httpx.request(method, f"{base}{path}?{urlencode(query)}", content=body, timeout=30)


def published(base: str, of: dict, channel: str, event: str, data: str) -> httpx.Response:
    """An event of an app in one channel."""
    body = json.dumps({"name": event, "channels": [channel], "data": data}).encode()
    return signed(base, "POST", f"/apps/{of['id']}/events", body, of)


class Program:
    """A Node program that is told and that says lines of JSON."""

    def __init__(self, name: str, ca: Path | None = None, **options):
        more = {"NODE_EXTRA_CA_CERTS": str(ca)} if ca else {}
        self.process = subprocess.Popen(
            ["node", str(PROGRAMS / name), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=os.environ | more,
        )
        self.said: queue.Queue = queue.Queue()
        self.passed: list[dict] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.said.put(json.loads(line))

    def tell(self, what: str, **more) -> None:
        self.process.stdin.write(json.dumps({"do": what, **more}) + "\n")
        self.process.stdin.flush()

    def hear(self, seconds: float = SECONDS_MAX, **wanted) -> dict:
        """The next line that says this; those before it are passed over, and kept in `passed`."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                said = self.said.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {wanted} among {self.passed}") from None
            if all(said.get(name) == value for name, value in wanted.items()):
                return said
            self.passed.append(said)

    def ask(self, what: str, **more) -> dict:
        self.tell(what, **more)
        return self.hear()

    def close(self) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Client(Program):
    """pusher-js, connected."""

    def __init__(self, server, key: str, token: str | None = None, tls: bool = False, connected: bool = True):
        host, port = place(server.https if tls else server.http)
        auth = f"{server.https if tls else server.http}/broadcasting/auth"
        ca = server.ca if tls else None
        super().__init__("client.js", ca, key=key, host="localhost" if tls else host, port=port, tls=tls, auth=auth, token=token or server.key)
        if connected:
            self.socket = self.hear(state="connected")["socket"]

    def subscribe(self, channel: str) -> dict:
        self.tell("subscribe", channel=channel)
        return self.hear(channel=channel, event="pusher:subscription_succeeded")


class Library(Program):
    """The server library of npm."""

    def __init__(self, server, of: dict):
        host, port = place(server.http)
        super().__init__("library.js", id=of["id"], key=of["key"], secret=of["secret"], host=host, port=port)
