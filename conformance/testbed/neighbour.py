"""Neighbours of a hostile one: what a call takes beside it, and what memory the server takes."""

import contextlib
import socket
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from testbed.api import Api


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


class Watch:
    """Makes a call again and again, and looks at the server's resident memory, until it is closed."""

    def __init__(self, server, key: str, call, *, pause: float = 0.05):
        self.server, self.call, self.pause = server, call, pause
        self.api = Api(server.http, key)
        self.took_ms: list[float] = []
        self.refused: list[str] = []
        self.peak_mib = 0.0
        self.is_over = threading.Event()
        self.threads = [threading.Thread(target=work, daemon=True) for work in (self._calls, self._looks)]

    def __enter__(self) -> "Watch":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.is_over.set()
        for thread in self.threads:
            thread.join(90)
        self.api.close()

    def _calls(self) -> None:
        while not self.is_over.is_set():
            began = time.monotonic()
            try:
                answer = self.call(self.api)
                if answer.status_code >= 400:
                    self.refused.append(f"{answer.status_code}: {answer.text[:200]}")
            except Exception as error:  # noqa: BLE001 - whatever a caller sees counts
                self.refused.append(repr(error))
            self.took_ms.append((time.monotonic() - began) * 1000)
            self.is_over.wait(max(0.0, self.pause - (time.monotonic() - began)))

    def _looks(self) -> None:
        while not self.is_over.wait(0.02):
            self.peak_mib = max(self.peak_mib, resident_mib(self.server))

    def told(self) -> dict:
        """What came of it."""
        return {
            "calls": len(self.took_ms),
            "p50_ms": round(percentile(self.took_ms, 0.5), 1),
            "p99_ms": round(percentile(self.took_ms, 0.99), 1),
            "max_ms": round(max(self.took_ms), 1),
            "refused": len(self.refused),
            "peak_mib": round(self.peak_mib, 1),
        }


def resident_mib(server) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


def open_files(server) -> int:
    with contextlib.suppress(OSError):
        return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
    return 0


class Reader:
    """One who reads a stream over HTTP/1.1 as fast as it comes, and counts events."""

    MARK = b"\nevent: event\n"

    def __init__(self, base: str, key: str, wanted: int, query: str = "cursor=0&kind=event", pause: float = 0.0):
        self.count, self.wanted, self.pause = 0, wanted, pause
        self.took_s: float | None = None
        self.end = b""
        address = urlsplit(base)
        self.tcp = socket.create_connection((address.hostname, address.port), timeout=120)
        request = f"GET /api/v1/stream?{query} HTTP/1.1\r\nhost: {address.netloc}\r\nx-api-key: {key}\r\n\r\n"
        self.tcp.sendall(request.encode())
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        began, tail = time.monotonic(), b""
        with contextlib.suppress(OSError):
            while self.count < self.wanted:
                data = self.tcp.recv(1 << 18)
                if not data:
                    break
                text = tail + data
                self.count += text.count(self.MARK)
                if b"event: end" in text:
                    self.end = text[text.index(b"event: end") :][:300]
                tail = text[-(len(self.MARK) - 1) :]
                time.sleep(self.pause)
            else:
                self.took_s = time.monotonic() - began

    def join(self, seconds: float) -> bool:
        self.thread.join(seconds)
        return self.took_s is not None

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.tcp.shutdown(socket.SHUT_RDWR)
        self.thread.join(10)
        self.tcp.close()


def fill(server, device, api: Api, events: int, event_bytes: int) -> None:
    """Has a device report events of this size, until all are stored."""
    pad = "x" * (event_bytes - 40)
    for number in range(1, events + 1):
        body = f'{{"n": {number}, "pad": "{pad}"}}'
        device.send(f"dev/{device.sn}/evt", body, properties={"event_type_code": 13})
    deadline = time.monotonic() + 120
    params = {"device_id": device.device_id, "size": 1}
    while api.get("/device-events", params=params).json()["total"] < events:
        assert time.monotonic() < deadline
        time.sleep(0.1)
