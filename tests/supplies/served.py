"""A server on this machine that answers as it is told to, request by request."""

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from listener import listening


@dataclass
class Answer:
    """One answer; what is None is as an honest server has it."""

    body: bytes
    status: int | None = None
    etag: str | None = '"one"'
    length: int | str | None = None  # announced
    cut: int | None = None  # bytes of this answer after which the connection drops
    ranges: bool = True
    kind: str = "application/zip"
    headers: dict = field(default_factory=dict)


class Server:
    """Answers by path, each request with the next one of its list and then with the last one; keeps what was asked."""

    def __init__(self, address):
        self.address, self.answers, self.asked = address, {}, []
        self.hold = threading.Event()  # set it, and connections stay open after their last byte
        self.end = threading.Event()

    def at(self, path, *answers):
        self.answers[path] = list(answers)
        return f"{self.address}{path}"

    def next(self, path):
        answers = self.answers.get(path, [Answer(b"no such file", status=404, kind="text/plain")])
        return answers.pop(0) if len(answers) > 1 else answers[0]


@contextmanager
def served():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.asked.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
            answer(self, server.next(self.path.partition("?")[0]))
            if server.hold.is_set():
                self.wfile.flush()
                server.end.wait(60)

        def log_message(self, *_):
            pass

    with listening(Handler) as address:
        server = Server(address)
        try:
            yield server
        finally:
            server.end.set()


def answer(handler, told):
    body, status, total = told.body, told.status or 200, len(told.body)
    wanted, condition = handler.headers.get("Range"), handler.headers.get("If-Range")
    headers = dict(told.headers)
    if wanted and told.ranges and status == 200 and condition in (None, told.etag):
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= total:
            status, body, headers = 416, b"", {"Content-Range": f"bytes */{total}"}
        else:
            status, body = 206, body[start:]
            headers.setdefault("Content-Range", f"bytes {start}-{total - 1}/{total}")
    handler.send_response(status)
    if told.etag:
        handler.send_header("ETag", told.etag)
    handler.send_header("Content-Type", told.kind)
    if told.length != "none":
        handler.send_header("Content-Length", str(len(body) if told.length is None else told.length))
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body if told.cut is None else body[: told.cut])
    handler.close_connection = True
