"""HTTP/2 by hand, for clients that no library is: many requests on one connection, of which no answer is taken."""

import contextlib
import socket
import ssl
import struct
from urllib.parse import urlsplit

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, SETTINGS = 1, 4
ACK, END_STREAM, END_HEADERS = 1, 1, 4


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    """A frame (RFC 9113 §4.1)."""
    return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body


def length(size: int) -> bytes:
    """The length of a string that is not compressed (RFC 7541 §5.1, §5.2)."""
    if size < 127:
        return bytes([size])
    rest, out = size - 127, [127]
    while rest >= 128:
        out.append(rest % 128 + 128)
        rest //= 128
    return bytes([*out, rest])


def field(name: str, value: str) -> bytes:
    """A field that nobody is to index (RFC 7541 §6.2.2)."""
    return b"\0" + length(len(name)) + name.encode() + length(len(value)) + value.encode()


class Deaf:
    """A connection over TLS that asks, and takes nothing of what is answered."""

    def __init__(self, base: str, ca, receive_bytes: int = 4096):
        address = urlsplit(base)
        self.authority = address.netloc
        context = ssl.create_default_context(cafile=str(ca))
        context.check_hostname = False
        context.set_alpn_protocols(["h2"])
        tcp = socket.socket()
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        tcp.connect((address.hostname, address.port))
        self.tls = context.wrap_socket(tcp, server_hostname=address.hostname)
        assert self.tls.selected_alpn_protocol() == "h2"
        self.next_stream = 1
        self.tls.sendall(PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0))

    def get(self, path: str, key: str) -> int:
        """Asks, and answers the number of the stream."""
        head = [(":method", "GET"), (":scheme", "https"), (":authority", self.authority), (":path", path)]
        block = b"".join(field(name, value) for name, value in [*head, ("x-api-key", key)])
        stream = self.next_stream
        self.next_stream += 2
        self.tls.sendall(frame(HEADERS, END_STREAM | END_HEADERS, stream, block))
        return stream

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.tls.close()
