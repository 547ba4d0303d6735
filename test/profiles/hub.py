"""A stand-in for the Hugging Face hub (and any file server) on loopback."""

import hashlib
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LAST_MODIFIED = "Tue, 24 Nov 2026 08:00:00 GMT"


class Hub:
    """Serves `folder` under /OWNER/NAME/resolve/main/FILE and /FILE, ranges and If-Range as RFC 9110 has them.

    cut: names whose first answer breaks off in the middle. chunked: names that are sent without their length. validator:
    by which header a file is known to be the same again: "ETag", "Last-Modified", or "" for none. moved: names to the
    address that they are redirected to. asked: (name, Range, If-Range) of every GET.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.cut, self.chunked, self.moved, self.asked = folder, set(), set(), {}, []
        self.validator = "ETag"
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                self.answer(body=False)

            def do_GET(self):
                self.answer(body=True)

            def log_message(self, *args):
                pass

            def refuse(self, status, **headers):
                self.send_response(status)
                for name, value in {"Content-Length": "0", **headers}.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()

            def answer(self, body):
                path = hub.folder / self.path.partition("?")[0].rpartition("/")[2]
                span, condition = self.headers.get("Range"), self.headers.get("If-Range")
                if body:
                    hub.asked.append((path.name, span, condition))
                if path.name in hub.moved:
                    self.refuse(302, Location=hub.moved[path.name])
                    return
                if not path.is_file():
                    self.refuse(404)
                    return
                content = path.read_bytes()
                known = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "Last-Modified": LAST_MODIFIED, "": None}
                if condition is not None and condition != known[hub.validator]:
                    span = None  # another file by now: the whole of it
                start = int(span.removeprefix("bytes=").split("-")[0]) if span else 0
                if span and start >= len(content):
                    self.refuse(416, Content_Range=f"bytes */{len(content)}")
                    return
                self.send_response(206 if span else 200)
                if hub.validator:
                    self.send_header(hub.validator, known[hub.validator])
                self.send_header("X-Repo-Commit", "0" * 40)
                self.send_header("Accept-Ranges", "bytes")
                if span:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                if path.name in hub.chunked:
                    self.send_header("Transfer-Encoding", "chunked")
                else:
                    self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                if not body:
                    return
                cut = path.name in hub.cut
                hub.cut.discard(path.name)
                sent = content[start : len(content) // 2] if cut else content[start:]
                if path.name in hub.chunked:
                    sent = b"%x\r\n%s\r\n" % (len(sent), sent) + (b"" if cut else b"0\r\n\r\n")
                self.wfile.write(sent)
                self.close_connection = cut

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def spans(self, name: str) -> list[str | None]:
        """The ranges that were asked of a file, in order; None for the whole."""
        return [span for asked, span, _ in self.asked if asked == name]


@contextmanager
def serving(folder: Path):
    """The hub, while the block runs."""
    hub = Hub(folder)
    thread = threading.Thread(target=hub.server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        hub.server.shutdown()
        thread.join()
        hub.server.server_close()
