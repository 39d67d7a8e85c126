"""An HTTP/2 client that does what no library does: it takes nothing, answers PINGs for ever, or opens all streams at once."""

import select
import socket
import ssl
import time
from pathlib import Path
from urllib.parse import urlsplit

from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    PingReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings


class Http2:
    """A connection with HTTP/2 over TLS. What comes is kept by stream, until the test looks at it."""

    def __init__(self, url: str, ca: Path, *, window: int = 65_535, takes: bool = True):
        """`window` is how much of each answer the server may send unasked; one that does not take gives no more."""
        self.authority = urlsplit(url).netloc
        host, port = self.authority.rsplit(":", 1)
        context = ssl.create_default_context(cafile=str(ca))
        context.set_alpn_protocols(["h2"])
        self.takes = takes
        self.socket = context.wrap_socket(
            socket.create_connection((host, int(port)), timeout=30), server_hostname=host
        )
        assert self.socket.selected_alpn_protocol() == "h2"
        self.protocol = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        values = {SettingCodes.INITIAL_WINDOW_SIZE: window, SettingCodes.ENABLE_PUSH: 0}
        self.protocol.local_settings = Settings(client=True, initial_values=values)
        self.protocol.initiate_connection()
        self.statuses: dict[int, int] = {}
        self.headers: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.pings = 0
        self.is_settled = False
        self.said_goodbye = False
        self.is_closed = False
        self.flush()

    def __enter__(self) -> "Http2":
        return self

    def __exit__(self, *_) -> None:
        self.socket.close()

    def flush(self) -> None:
        """Sends what the protocol has to say."""
        if data := self.protocol.data_to_send():
            try:
                self.socket.sendall(data)
            except OSError:
                self.is_closed = True

    def ask(
        self, path: str, *, method: str = "GET", key: str | None = None, has_body: bool = False, **headers: str
    ) -> int:
        """Sends a request, without its body if it has one; the number of its stream."""
        stream = self.protocol.get_next_available_stream_id()
        head = [
            (":method", method),
            (":path", path),
            (":scheme", "https"),
            (":authority", self.authority),
            *headers.items(),
        ]
        if key:
            head.append(("x-api-key", key))
        self.protocol.send_headers(stream, head, end_stream=not has_body)
        self.flush()
        return stream

    def send(self, stream: int, body: bytes, *, is_last: bool, seconds: float) -> None:
        """Sends some of a request's body, as the server takes it."""
        deadline = time.monotonic() + seconds
        while body:
            room = min(
                self.protocol.local_flow_control_window(stream), self.protocol.max_outbound_frame_size, len(body)
            )
            if room:
                self.protocol.send_data(stream, body[:room])
                self.flush()
                body = body[room:]
            else:
                assert time.monotonic() < deadline, "the server takes no more"
                self.listen(1.0, lambda: self.protocol.local_flow_control_window(stream) > 0)
        if is_last:
            self.protocol.end_stream(stream)
            self.flush()

    def listen(self, seconds: float, until=lambda: False) -> bool:
        """Takes note of what comes, until that is so or the time is up; whether it is so."""
        deadline = time.monotonic() + seconds
        while not until() and not self.is_closed:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            if not self.socket.pending() and not select.select([self.socket], [], [], left)[0]:
                break
            try:
                data = self.socket.recv(65_536)
            except OSError:
                data = b""
            if not data:
                self.is_closed = True
                break
            try:
                for event in self.protocol.receive_data(data):
                    self.note(event)
            except ProtocolError:
                # Something came behind a goodbye.
                assert self.protocol.state_machine.state is ConnectionState.CLOSED
                self.said_goodbye = True
            self.flush()
        return until()

    def note(self, event: Event) -> None:
        match event:
            case ResponseReceived():
                self.headers[event.stream_id] = dict(event.headers)
                self.statuses[event.stream_id] = int(self.headers[event.stream_id][":status"])
            case DataReceived():
                self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                if self.takes and event.flow_controlled_length:
                    self.protocol.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case StreamEnded():
                self.ended.add(event.stream_id)
            case StreamReset():
                self.resets[event.stream_id] = event.error_code
            case PingReceived():
                # The answer is on its way already.
                self.pings += 1
            case RemoteSettingsChanged():
                self.is_settled = True
            case ConnectionTerminated():
                self.said_goodbye = True
