"""A server on this machine that speaks as much of the Hugging Face hub as fetching a file takes."""

from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote

from listener import listening

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Files by ``owner/name/file``; ``refuse`` has a status and the hub's name for it, by ``owner/name``."""

    def __init__(self, address):
        self.address, self.files, self.refuse, self.asked = address, {}, {}, []


@contextmanager
def hub_served():
    """Yield a `Hub` that answers until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.reply(with_body=False)

        def do_GET(self):
            self.reply(with_body=True)

        def reply(self, with_body):
            path = unquote(self.path.partition("?")[0]).strip("/")
            hub.asked.append((self.command, path))
            model, _, name = path.partition(f"/resolve/{'main' if '/main/' in path else COMMIT}/")
            status, code = hub.refuse.get(model, (200, ""))
            content = hub.files.get(f"{model}/{name}")
            if content is None and status == 200:
                status, code = 404, "EntryNotFound"
            body = content if status == 200 else b"refused"
            self.send_response(status)
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hash(body) & 0xFFFF:x}"', "Content-Length": str(len(body))}
            for key, value in (headers | ({"X-Error-Code": code, "X-Error-Message": code} if code else {})).items():
                self.send_header(key, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    with listening(Handler) as address:
        hub = Hub(address)
        yield hub
