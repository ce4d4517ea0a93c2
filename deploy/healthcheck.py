"""Whether a plane is ready, for a container's health check: `healthcheck.py [PORT]`, of this host's `/status/ready`.

The law: it is run every few seconds, so it imports one module and starts in a few milliseconds; status 0 is ready, 1 is not.
"""

import socket
import sys

# The data plane's status API; the control plane answers on the port of the Admin API.
DEFAULT_PORT = 7085


def main() -> int:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_PORT
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(b"GET /status/ready HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            answer = b""
            while data := connection.recv(4096):
                answer += data
    except OSError as error:
        print(error)  # noqa: T201
        return 1
    print(answer.partition(b"\r\n\r\n")[2].decode("utf-8", "replace").strip())  # noqa: T201
    return 0 if answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.0 200 ")) else 1


if __name__ == "__main__":
    sys.exit(main())
