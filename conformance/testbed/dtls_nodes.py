"""CoAP nodes over DTLS, with Mbed TLS (the library of Zephyr and ESP-IDF) and the messages of aiocoap. A node is the client
of one session, says what it says in it and is asked in it."""

import contextlib
import itertools
import queue
import socket
import threading
import time

import pytest
from aiocoap import Message
from aiocoap.numbers.codes import Code
from aiocoap.numbers.types import Type

try:
    from mbedtls import tls
except ImportError:
    # There is no wheel of it for Python 3.13, and building it needs the library's headers.
    tls = None

CIPHER = "TLS-PSK-WITH-AES-128-CCM-8"


class DtlsNode:
    """A node whose resources are read and written in its session; those in `observed` tell of changes by themselves."""

    def __init__(
        self,
        url: str,
        uid: str,
        resources: dict[str, str],
        identity: str,
        key: bytes,
        observed=(),
        address="127.0.0.1",
        patience: float = 20.0,
        port: int = 0,
    ):
        if tls is None:
            pytest.skip("NOT TESTED: a node over DTLS; python-mbedtls has no wheel for this Python")
        self.uid, self.resources, self.observed, self.patience = uid, resources, set(observed), patience
        host, at = url.removeprefix("coaps://").rsplit(":", 1)
        self.gateway = (host.strip("[]"), int(at))
        self.written: list[str] = []
        self.watching: dict[str, bytes] = {}
        self.ids, self.changes = itertools.count(1), itertools.count(2)
        self.answers: dict[bytes, queue.Queue] = {}
        self.lock = threading.Lock()
        self.is_open = True
        configuration = tls.DTLSConfiguration(
            pre_shared_key=(identity, key),
            ciphers=[CIPHER],
            validate_certificates=False,
            lowest_supported_version=tls.DTLSVersion.DTLSv1_2,
            handshake_timeout_min=1.0,
            handshake_timeout_max=8.0,
        )
        plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        plain.bind((address, port))
        plain.settimeout(patience)
        self.plain = plain
        self.socket = tls.ClientContext(configuration).wrap_socket(plain, None)
        self.socket.connect(self.gateway)
        deadline = time.monotonic() + patience
        while True:
            try:
                self.socket.do_handshake()
                break
            except (tls.WantReadError, tls.WantWriteError):
                if time.monotonic() > deadline:
                    raise TimeoutError("no handshake") from None
        self.address = plain.getsockname()
        plain.settimeout(0.02)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _send(self, message: Message) -> None:
        with self.lock:
            self.socket.send(message.encode())

    def _run(self) -> None:
        while self.is_open:
            try:
                with self.lock:
                    data = self.socket.recv(4096)
            except (tls.WantReadError, tls.WantWriteError, TimeoutError, BlockingIOError):
                time.sleep(0.002)
                continue
            except OSError:
                time.sleep(0.002)
                continue
            except Exception:  # noqa: BLE001: the session is over, however the library says so
                self.is_open = False
                return
            if data:
                self._heard(Message.decode(data))

    def _heard(self, message: Message) -> None:
        if message.code.is_response():
            if message.mtype == Type.CON:
                self._send(Message(_mtype=Type.ACK, _mid=message.mid, code=Code.EMPTY))
            if message.token in self.answers:
                self.answers[message.token].put(message)
        elif message.code.is_request():
            answer = self._answer(message)
            answer.mtype = Type.ACK if message.mtype == Type.CON else Type.NON
            answer.mid = message.mid if message.mtype == Type.CON else next(self.ids)
            answer.token = message.token
            self._send(answer)

    def _answer(self, message: Message) -> Message:
        path = "/".join(message.opt.uri_path)
        if path == ".well-known/core":
            links = (f"</{name}>{';obs' if name in self.observed else ''}" for name in self.resources)
            return Message(code=Code.CONTENT, payload=",".join(links).encode(), content_format=40)
        if path not in self.resources:
            return Message(code=Code.NOT_FOUND)
        if message.code == Code.PUT:
            value = message.payload.decode()
            self.resources[path] = value
            self.written.append(f"{path}={value}")
            return Message(code=Code.CHANGED)
        answer = Message(code=Code.CONTENT, payload=self.resources[path].encode())
        if path in self.observed and message.opt.observe == 0:
            self.watching[path] = message.token
            answer.opt.observe = 1
        return answer

    def change(self, resource: str, value: str) -> None:
        self.resources[resource] = value
        message = Message(code=Code.CONTENT, payload=value.encode(), _mtype=Type.NON, _mid=next(self.ids))
        message.token, message.opt.observe = self.watching[resource], next(self.changes)
        self._send(message)

    def post(self, path: str, text: str) -> Message:
        """Asks the gateway, again and again as RFC 7252 has it; answers what it answers."""
        number = next(self.ids)
        token = number.to_bytes(2, "big")
        message = Message(code=Code.POST, payload=text.encode(), _mtype=Type.CON, _mid=number)
        message.token, message.opt.uri_path = token, (path,)
        self.answers[token] = queue.Queue()
        deadline, wait = time.monotonic() + self.patience, 2.0
        while self.is_open:
            self._send(message)
            with contextlib.suppress(queue.Empty):
                return self.answers[token].get(timeout=wait)
            wait *= 2
            if time.monotonic() > deadline:
                break
        raise TimeoutError(f"no answer to {text}")

    def alive(self, what: str = "alive") -> str:
        return str(self.post("alive", f"{what}:{self.uid}").code)

    def say(self, resource: str, value: str) -> Message:
        return self.post("server", f"{resource}:{value}")

    def close(self) -> None:
        self.is_open = False
        self.thread.join(5)
        with contextlib.suppress(Exception):
            self.socket.close()


def key_file(path, *lines: str):
    """A key file for its owner alone."""
    path.touch(0o600)
    path.write_text("\n".join(lines) + "\n")
    return path
