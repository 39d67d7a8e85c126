"""A receiver of webhooks as an application would write it: the standard library's HTTP server, and the published
`standardwebhooks` to check signatures with."""

import dataclasses
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook

SECONDS_MAX = 15.0


@dataclasses.dataclass(frozen=True)
class Received:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float
    status: int | None

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def device_id(self) -> int:
        return int(self.headers["x-device-id"])

    @property
    def number(self) -> int:
        """The number of the record."""
        return int(self.id.rpartition("_")[2])

    def json(self):
        return json.loads(self.body)

    def is_signed_with(self, secret: str) -> bool:
        """Whether `standardwebhooks` believes it."""
        try:
            Webhook(secret).verify(self.body, self.headers)
        except Exception:  # each kind of doubt has a class of its own
            return False
        return True


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the receiver answers; `hang_seconds` before that, or nothing at all with `reset`."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    hang_seconds: float = 0.0
    reset: bool = False
    body: bytes = b""


OK = Answer()


class Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True

    def __init__(self, *arguments):
        self.connections: set[socket.socket] = set()
        super().__init__(*arguments)

    def process_request(self, request, client_address):
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self.connections.discard(request)
        super().shutdown_request(request)

    def close_all(self) -> None:
        """Ends the connections that clients keep, as a process does that dies."""
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def handle_error(self, request, client_address):
        """A client that goes away is nothing to speak of."""


class Receiver:
    """Listens on a port that it keeps; `answer` decides, for each POST, what it says."""

    def __init__(self, port: int = 0):
        self.answer = lambda _received: OK
        self.probe = OK
        self.changed = threading.Condition()
        self.posts: list[Received] = []
        self.probes: list[Received] = []
        self.most_at_once, self.most_of_a_device = 0, 0
        self.at_once: list[int] = []
        self.port = port
        self.server: Server | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def start(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Headers and body of a small answer go out in one packet.
            wbufsize = -1

            def log_message(self, *_):
                pass

            def do_GET(self):
                receiver._handle(self, receiver.probe)

            def do_POST(self):
                receiver._handle(self, None)

        self.server = Server(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Ends all connections and takes no more."""
        if self.server is not None:
            self.server.shutdown()
            # Its threads are not waited for: one may hang on purpose.
            self.server.socket.close()
            self.server.close_all()
            self.server = None

    def _handle(self, handler: BaseHTTPRequestHandler, answer: Answer | None) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        received = Received(handler.command, handler.path, headers, body, time.time(), None)
        device = int(headers.get("x-device-id", -1))
        with self.changed:
            if answer is None:
                self.at_once.append(device)
                self.most_at_once = max(self.most_at_once, len(self.at_once))
                self.most_of_a_device = max(self.most_of_a_device, self.at_once.count(device))
        answer = answer or self.answer(received)
        if answer.hang_seconds:
            time.sleep(answer.hang_seconds)
        with self.changed:
            if handler.command == "POST":
                self.at_once.remove(device)
                self.posts.append(dataclasses.replace(received, status=None if answer.reset else answer.status))
            else:
                self.probes.append(received)
            self.changed.notify_all()
        if answer.reset:
            handler.close_connection = True
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            handler.connection.close()
            return
        handler.send_response(answer.status)
        for name, value in answer.headers:
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(answer.body)))
        handler.end_headers()
        handler.wfile.write(answer.body)
        handler.wfile.flush()

    def delivered(self) -> list[Received]:
        """What was answered with 2xx, in the order of the answers."""
        with self.changed:
            return [post for post in self.posts if post.status is not None and 200 <= post.status < 300]

    def wait(self, what, seconds: float = SECONDS_MAX) -> list[Received]:
        """Waits until `what(posts)` is true; answers the posts."""
        with self.changed:
            assert self.changed.wait_for(lambda: what(self.posts), seconds), f"after {seconds} s: {self._shown()}"
            return list(self.posts)

    def wait_for(self, count: int, seconds: float = SECONDS_MAX) -> list[Received]:
        """Waits for so many deliveries; answers them."""
        with self.changed:
            def have():
                return sum(1 for post in self.posts if post.status is not None and 200 <= post.status < 300)

            assert self.changed.wait_for(lambda: have() >= count, seconds), f"{have()} of {count}: {self._shown()}"
        return self.delivered()

    def is_quiet(self, seconds: float = 1.0) -> bool:
        """Whether nothing more comes for a while."""
        before = len(self.posts)
        time.sleep(seconds)
        assert len(self.posts) == before, self._shown()
        return True

    def _shown(self) -> str:
        shown = [(post.headers.get("webhook-id"), post.device_id, post.status) for post in self.posts[-20:]]
        return f"{len(self.posts)} posts, the last: {shown}"
