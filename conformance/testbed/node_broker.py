"""Web clients and gateways of a node broker, with libraries that others wrote."""

import datetime
import json
import os
import queue
import signal
import subprocess
import threading
import time
from configparser import ConfigParser
from pathlib import Path

import websocket
from cryptography import x509
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from testbed.server import BINARY, READY_SECONDS_MAX, NotStarted


# How long anything may take, on a machine with much else to do.
SECONDS = 30.0


def device_of(api, sn: str, online: bool | None = None) -> dict | None:
    """The device that a node is, if there is one."""
    found = api.get("/devices", params={"sn": sn}).json()
    if not found or online is not None and bool((found[0].get("connection") or {}).get("last_checked_result")) != online:
        return None
    return found[0]


def certificates(folder: Path, name: str) -> tuple[Path, Path]:
    """A CA, and the certificate of a server with its key, in one file."""
    now = datetime.datetime.now(datetime.UTC)

    def made(subject, issuer, key, issuer_key, *extensions):
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=2))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(issuer_key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def subject(text):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca, server = folder / "ca.pem", folder / "server.pem"
    ca.write_bytes(made(subject("ca"), subject("ca"), ca_key, ca_key, x509.BasicConstraints(True, None)))
    names = x509.SubjectAlternativeName([x509.DNSName(name)])
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    server.write_bytes(made(subject(name), subject("ca"), key, ca_key, names) + private)
    return ca, server


class Keys:
    """A key file, read as programs of others read it."""

    def __init__(self, path: Path):
        config = ConfigParser()
        config.read(path)
        self.path, self.secret = path, config["keys"]["secret"]
        self.fernet = Fernet(config["keys"]["private"].encode())

    @staticmethod
    def write(path: Path, secret: str, private: str) -> "Keys":
        """Writes one as programs of others write it."""
        config = ConfigParser()
        config["keys"] = {"secret": secret, "private": private}
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(path, "w") as file:
            config.write(file)
        return Keys(path)

    @staticmethod
    def make(path: Path) -> "Keys":
        """Lets covey make one."""
        subprocess.run([str(BINARY), "key", "fernet", "--out", str(path)], check=True, capture_output=True)
        return Keys(path)

    def token(self, secret: str | None = None, at: int | None = None) -> str:
        content = (secret or self.secret).encode()
        token = self.fernet.encrypt(content) if at is None else self.fernet.encrypt_at_time(content, at)
        return token.decode()


class Socket:
    """A WebSocket that keeps what it hears."""

    def __init__(self, url: str, subprotocols: list[str] | None = None, **more):
        self.heard: queue.Queue = queue.Queue()
        self.closed: tuple[int, str] | None = None
        self.socket = websocket.create_connection(url, timeout=10, subprotocols=subprotocols, **more)
        self.socket.settimeout(None)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            while True:
                kind, data = self.socket.recv_data()
                if kind == websocket.ABNF.OPCODE_CLOSE:
                    code = int.from_bytes(data[:2], "big") if len(data) > 1 else 1005
                    self.closed = (code, data[2:].decode())
                    return
                self.take(json.loads(data))
        except Exception:
            self.closed = self.closed or (1006, "")

    def take(self, message: dict):
        self.heard.put(message)

    def send(self, message: dict):
        self.socket.send(json.dumps(message))

    def next(self, seconds: float = SECONDS) -> dict:
        """The next message."""
        return self.heard.get(timeout=seconds)

    def until(self, wanted, seconds: float = SECONDS) -> list[dict]:
        """All messages up to the first that is wanted."""
        deadline, found = time.monotonic() + seconds, []
        while not found or not wanted(found[-1]):
            left = deadline - time.monotonic()
            try:
                found.append(self.heard.get(timeout=max(left, 0.001)))
            except queue.Empty:
                raise AssertionError(f"not in {seconds} s; heard {len(found)}, last of them: {found[-8:]}") from None
        return found

    def quiet(self, seconds: float = 0.3) -> bool:
        """Whether nothing comes for a while."""
        try:
            self.last = self.heard.get(timeout=seconds)
        except queue.Empty:
            return True
        return False

    def close_code(self, seconds: float = SECONDS) -> int | None:
        """With which code the other side closes."""
        self.thread.join(seconds)
        return self.closed and self.closed[0]

    def close(self):
        self.socket.close()
        self.thread.join(5)

    def cut(self):
        """Ends without a word."""
        # The reader lets go of the socket as soon as it is shut down.
        sock = self.socket.sock
        sock.shutdown(2)
        sock.close()
        self.thread.join(5)


class WebClient(Socket):
    """A page, as in the field: it says that it is new, and sets resources."""

    def __init__(self, broker: str, is_new: bool = True, **more):
        super().__init__(f"{broker}/ws", **more)
        if is_new:
            self.send({"type": "new", "data": "client"})

    def set(self, uid: str, endpoint: str, payload):
        self.send({"type": "update", "data": {"uid": uid, "endpoint": endpoint, "payload": payload}})

    def node(self, of, seconds: float = SECONDS) -> str:
        """The uid of a node that says this value."""
        resource, value = of
        return self.until(
            lambda message: message["type"] == "update"
            and (message["endpoint"], message["data"]) == (resource, value),
            seconds,
        )[-1]["uid"]


class FieldGateway(Socket):
    """A gateway as others wrote them: nodes with their values, told to all at the start, and to one who asks."""

    def __init__(self, broker: str, keys: Keys, nodes: dict[str, dict] | None = None, **more):
        self.nodes = nodes or {}
        self.sets: queue.Queue = queue.Queue()
        self.asked: queue.Queue = queue.Queue()
        self.answers = True
        super().__init__(f"{broker}/gw", subprotocols=["token", keys.token()], **more)
        self.tell("all")

    def tell(self, dst: str):
        for uid, values in list(self.nodes.items()):
            self.send({"type": "new", "uid": uid, "dst": dst})
            for endpoint, data in values.items():
                self.send({"type": "update", "uid": uid, "endpoint": endpoint, "data": data, "dst": dst})

    def say(self, uid: str, endpoint: str, data, dst: str = "all"):
        self.nodes.setdefault(uid, {})[endpoint] = data
        self.send({"type": "update", "uid": uid, "endpoint": endpoint, "data": data, "dst": dst})

    def take(self, message: dict):
        super().take(message)
        if message["type"] == "new":
            self.asked.put(message["src"])
            if self.answers:
                self.tell(message["src"])
        elif message["type"] == "update":
            self.sets.put(message)
            data = message["data"]
            if self.answers and data["uid"] in self.nodes:
                self.say(data["uid"], data["endpoint"], data["payload"])


class OwnGateway:
    """`covey gateway`, as a process of its own."""

    def __init__(self, protocol: str, broker: str, keys: Path, log: Path, *options: str, port: int = 0):
        self.log_path, self.options = log, options
        option = f"--{protocol}" if protocol in ("coap", "mqtt-sn") else f"--{protocol}-nodes"
        # Units are servers, and the gateway listens to nobody.
        listen = [] if protocol == "units" else [option, f"127.0.0.1:{port}"]
        self.command = [str(BINARY), "gateway", protocol, "--broker", broker, "--key-file", str(keys), *listen, *options]
        self.process: subprocess.Popen | None = None
        self.nodes = ""

    def start(self) -> "OwnGateway":
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COVEY_")}
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=environment, text=True
            )
        timer = threading.Timer(READY_SECONDS_MAX, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        if " units, broker " not in line and not line.startswith("nodes at "):
            raise NotStarted(f"no gateway: {line}{self.log()}")
        self.nodes = line.split()[2].rstrip(",")
        return self

    def log(self) -> str:
        return self.log_path.read_text()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
