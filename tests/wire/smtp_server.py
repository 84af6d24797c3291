"""A mail server that takes one mail after the other and keeps them, strict about the order of what it is told (RFC 5321)."""

import email
import queue
import socketserver
import threading
from email.message import Message
from types import TracebackType
from typing import Self


class SmtpServer:
    """Use as a context manager; `url` is the address, `next_mail` what came."""

    def __init__(self) -> None:
        self._mails: queue.Queue[Message] = queue.Queue()
        mails = self._mails

        class Talk(socketserver.StreamRequestHandler):
            def say(self, line: str) -> None:
                self.wfile.write(line.encode() + b"\r\n")

            def handle(self) -> None:
                self.say("220 ready")
                expected = "EHLO"
                while line := self.rfile.readline().decode().rstrip("\r\n"):
                    word = line.split(" ")[0].split(":")[0].upper()
                    if word == "QUIT":
                        return self.say("221 bye")
                    if word != expected:
                        return self.say(f"503 {expected} comes first")
                    if word == "DATA":
                        self.say("354 go on")
                        body = b"".join(iter(self.rfile.readline, b".\r\n"))
                        mails.put(email.message_from_bytes(body))
                    expected = {"EHLO": "MAIL", "MAIL": "RCPT", "RCPT": "DATA", "DATA": "MAIL"}[word]
                    self.say("250 ok")
                return None

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Talk)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.url = f"smtp://127.0.0.1:{self._server.server_address[1]}"

    def next_mail(self, timeout: float = 10) -> Message:
        """The oldest mail that was not taken yet."""
        return self._mails.get(timeout=timeout)

    @property
    def waiting(self) -> int:
        """How many mails were not taken yet."""
        return self._mails.qsize()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
