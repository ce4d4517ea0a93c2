"""A server of HTTP over TLS, with a certificate that nobody knows yet."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

from tests.support.certificates import make_certificates
from tests.support.gateway import HOST, ok


class TlsServer:
    """Answers 200 to whoever it shakes hands with."""

    def __init__(self, folder: Path) -> None:
        files = make_certificates(folder)
        self.authority = str(files.ca)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(files.cert, files.key)
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self.requests: list[bytes] = []
        self.threads: list[threading.Thread] = []
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            plain.settimeout(10)
            thread = threading.Thread(target=self._answer, args=(plain,))
            self.threads.append(thread)
            thread.start()

    def _answer(self, plain: socket.socket) -> None:
        try:
            with self._context.wrap_socket(plain, server_side=True) as side:
                while data := side.recv(65536):
                    self.requests.append(data)
                    side.sendall(ok(b"over TLS"))
        except OSError:
            plain.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in (self.thread, *self.threads):
            thread.join(10)
