"""nginx as a process of its own, with the files of `deploy/nginx`, and curl as the caller who comes through it."""

import http.server
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from testbed.certificate import openssl
from testbed.server import BINARY, PROJECT, Server

NGINX = "/usr/sbin/nginx"
STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
FILES = ("nginx.conf", "covey.conf", "covey-mqtt.conf", "covey-auth-request.conf", "covey-jwt.conf")
SCRIPT = "covey-jwt.js"
SCRIPT_MODULE = Path("/usr/lib/nginx/modules/ngx_http_js_module.so")
UPSTREAM_NAME = "covey.internal"
READY_SECONDS_MAX = 15.0
MARK = re.compile(r"^(\s*)(?:# )?([^#]+?)\s*# set: (\w+)$")


def covey(*arguments: str) -> None:
    """Runs a command of the binary that is tested."""
    subprocess.run([str(BINARY), *arguments], check=True, capture_output=True, timeout=30)


def rendered(text: str, values: dict[str, str | list[str]]) -> str:
    """A file of `deploy/nginx` with values of our own on its marked lines.

    A list takes the place of all lines of that mark; a line whose mark has no value goes away.
    """
    lines, used = [], set()
    for line in text.splitlines():
        marked = MARK.match(line)
        if not marked:
            assert "# set:" not in line, f"a mark that is not understood: {line}"
            lines.append(line)
            continue
        indent, directive, mark = marked.groups()
        value = values.get(mark)
        if isinstance(value, list):
            lines += [indent + one for one in value if mark not in used]
        elif value is not None:
            # The directive keeps its name; what follows is ours.
            lines.append(f"{indent}{directive.split()[0]} {value};")
        used.add(mark)
    return "\n".join(lines) + "\n"


class Nginx:
    """nginx before some servers. It trusts the CA of the first, and shows it the certificate of covey.proxy."""

    def __init__(self, covey_servers: list[Server], **values: str | list[str]):
        # Not in the folder of the test, which only root may enter: nginx's workers are someone else.
        self.temporary = tempfile.TemporaryDirectory(prefix="covey-nginx-")
        self.folder = Path(self.temporary.name)
        self.folder.chmod(0o755)
        self.https_port, self.http_port, self.app_port, self.mqtt_port, self.jwt_port = free_ports(5)
        self.values = values
        pki = str(covey_servers[0].data / "pki")
        covey("pki", "server", "--pki", pki, "--name", "localhost", "--out", str(self.folder / "site"))
        covey("pki", "client", "--pki", pki, "--name", "covey.proxy", "--out", str(self.folder / "proxy"))
        self.configure(covey_servers)

    def configure(self, covey_servers: list[Server], **values: str | list[str]) -> None:
        """Writes the configuration."""
        self.values.update(values)
        site, proxy = self.folder / "site", self.folder / "proxy"
        https = [server.https.removeprefix("https://") for server in covey_servers]
        mqtts = [f"127.0.0.1:{server.mqtts[1]}" for server in covey_servers]
        settings = {
            "modules": None,
            "access_log": f"{self.folder}/access.log",
            "stream_access_log": f"{self.folder}/access.log covey_no_query",
            "covey": f"{self.folder}/covey.conf",
            "mqtt": f"{self.folder}/covey-mqtt.conf",
            "auth_request": None,
            "jwt": None,
            "js_path": f"{self.folder}/",
            "jwt_listen": f"127.0.0.1:{self.jwt_port} ssl http2",
            "servers": [f"server {address} max_fails=2 fail_timeout=5s;" for address in https],
            "mqtt_servers": [f"server {address} max_fails=1 fail_timeout=5s;" for address in mqtts],
            "rate": "$binary_remote_addr zone=covey_rate:10m rate=10000r/s",
            "burst": "zone=covey_rate burst=10000 nodelay",
            "http_listen": f"127.0.0.1:{self.http_port}",
            "https_listen": f"127.0.0.1:{self.https_port} ssl http2",
            "app_listen": f"127.0.0.1:{self.app_port} ssl http2",
            "mqtt_listen": f"127.0.0.1:{self.mqtt_port} so_keepalive=60s:10s:6",
            "server_name": "localhost",
            "app_name": "localhost",
            "site_certificate": f"{site}/server.pem",
            "site_key": f"{site}/server.key",
            "ca": f"{proxy}/ca.pem",
            "upstream_name": UPSTREAM_NAME,
            "proxy_certificate": f"{proxy}/client.pem",
            "proxy_key": f"{proxy}/client.key",
            "app": "http://127.0.0.1:1",
            **self.values,
        }
        settings = {name: value for name, value in settings.items() if value is not None}
        for name in FILES:
            text = rendered((PROJECT / "deploy" / "nginx" / name).read_text(), settings)
            if name == "nginx.conf":
                kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
                folders = "".join(f"\n    {kind}_temp_path {self.folder}/{kind};" for kind in kinds)
                text = text.replace("http {", f"http {{{folders}", 1)
                scripts = f"load_module {SCRIPT_MODULE};\n" if self.values.get("jwt") else ""
                text = f"load_module {STREAM_MODULE};\n{scripts}{text}"
            (self.folder / name).write_text(text)
        (self.folder / SCRIPT).write_text((PROJECT / "deploy" / "nginx" / SCRIPT).read_text())

    def command(self) -> list[str]:
        directives = f"daemon off; pid {self.folder}/nginx.pid; error_log {self.folder}/error.log info;"
        main = self.folder / "nginx.conf"
        log = str(self.folder / "error.log")
        return [NGINX, "-p", str(self.folder), "-c", str(main), "-e", log, "-g", directives]

    def start(self) -> "Nginx":
        assert Path(NGINX).exists() and STREAM_MODULE.exists(), "install nginx and libnginx-mod-stream"
        self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + READY_SECONDS_MAX
        # It listens before it can be told anything.
        while "start worker processes" not in self.errors():
            assert self.process.poll() is None, f"nginx: {self.process.stderr.read().decode()}{self.errors()}"
            assert time.monotonic() < deadline, self.errors()
            time.sleep(0.02)
        return self

    def reload(self) -> None:
        """Takes up the configuration as it lies there; the workers of before finish what they do."""
        before = self.errors().count("start worker processes")
        os.kill(self.process.pid, signal.SIGHUP)
        deadline = time.monotonic() + READY_SECONDS_MAX
        while self.errors().count("start worker processes") == before:
            assert time.monotonic() < deadline, self.errors()
            time.sleep(0.02)
        # The workers of before hear of it a moment later.
        time.sleep(0.5)

    def stop(self) -> None:
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(timeout=READY_SECONDS_MAX)
        finally:
            self.process.stderr.close()
            self.temporary.cleanup()

    def errors(self) -> str:
        """What nginx wrote to its log of errors."""
        log = self.folder / "error.log"
        return log.read_text(errors="replace") if log.exists() else ""

    @property
    def ca(self) -> Path:
        return self.folder / "proxy" / "ca.pem"

    @property
    def url(self) -> str:
        return f"https://localhost:{self.https_port}"


class Upstream:
    """A server in Covey's place, with a certificate of its CA, that notes what nginx sends it.

    It answers with the headers it got, or breaks off instead of an answer.
    """

    def __init__(self, folder: Path, of: Server, breaks_off: bool = False):
        seen = self.seen = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                seen.append(f"{self.command} {self.path}")
                if breaks_off:
                    self.close_connection = True
                    return
                body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        pki, out = str(of.data / "pki"), folder / "upstream"
        covey("pki", "server", "--pki", pki, "--name", UPSTREAM_NAME, "--out", str(out))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(out / "server.pem", out / "server.key")
        self.listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.listener.socket = context.wrap_socket(self.listener.socket, server_side=True)
        self.address = f"127.0.0.1:{self.listener.server_address[1]}"
        threading.Thread(target=self.listener.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.listener.shutdown()
        self.listener.server_close()


@dataclass
class Answer:
    """What curl got."""

    status: int
    http_version: str
    headers: dict[str, str]
    text: str


def curl(ca: Path, url: str, *options: str, headers: dict[str, str] | None = None) -> Answer:
    """One request, as curl makes it."""
    lines = [option for name, value in (headers or {}).items() for option in ("-H", f"{name}: {value}")]
    command = ["curl", "-sS", "-m", "90", "--noproxy", "*", "--cacert", str(ca)]
    command += ["-D", "/dev/stderr", "-w", "\n%{http_code} %{http_version}"]
    done = subprocess.run([*command, *options, *lines, url], capture_output=True, timeout=100)
    assert done.returncode == 0, f"curl ended with {done.returncode}: {done.stderr.decode()}"
    text, _, outcome = done.stdout.decode().rpartition("\n")
    status, version = outcome.split()
    found = [line.partition(":") for line in done.stderr.decode().splitlines() if ":" in line]
    return Answer(int(status), version, {name.lower(): value.strip() for name, _, value in found}, text)


def own_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate that only its owner has signed, and its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    made = openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(certificate),
    )  # fmt: skip
    assert made.returncode == 0, made.stderr.decode()
    return certificate, key


def free_ports(count: int) -> list[int]:
    """Ports that are free now."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
