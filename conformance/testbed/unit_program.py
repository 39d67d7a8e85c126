"""A TCP unit as a program of its own: it says a number each 0.1 s over one connection at a time, and tells of each."""

import socket
import sys
import time


def main() -> None:
    listener = socket.create_server(("0.0.0.0", int(sys.argv[1])))
    print("ready", flush=True)
    while True:
        connection, peer = listener.accept()
        print(f"connected {peer[0]}", flush=True)
        number = 500
        try:
            while True:
                number += 1
                connection.sendall(f"{number}\n".encode())
                time.sleep(0.1)
        except OSError:
            connection.close()
            print("closed", flush=True)


if __name__ == "__main__":
    main()
