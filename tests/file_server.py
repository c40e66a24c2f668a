"""A web server on loopback that hands out files and misbehaves on request."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """Files by name, how they are handed out, and what was asked for."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    etag: str = '"1"'
    honours_range: bool = True
    cut_after: int | None = None
    """Bytes of an answer after which the connection breaks."""

    cuts_left: int = 1_000_000
    statuses: list[int] = field(default_factory=list)
    """Answered first, one each, instead of the file."""

    requests: list[dict[str, str]] = field(default_factory=list)
    """The headers of every request."""

    def url(self, name: str) -> str:
        return f"{self.address}/{name}"


@contextmanager
def file_server() -> Iterator[FileServer]:
    behaviour = FileServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            behaviour.requests.append(dict(self.headers))
            content = behaviour.files.get(self.path.partition("?")[0].strip("/"))
            if behaviour.statuses or content is None:
                self.send_error(behaviour.statuses.pop(0) if behaviour.statuses else 404)
                return
            start = self._start(len(content))
            if start > len(content):
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if behaviour.etag:
                self.send_header("ETag", behaviour.etag)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            body = content[start:]
            if behaviour.cut_after is not None and behaviour.cuts_left > 0:
                behaviour.cuts_left -= 1
                body = body[: behaviour.cut_after]
                self.close_connection = True
            self.wfile.write(body)

        def _start(self, length: int) -> int:
            """Where the answer begins; past the end where the request cannot be satisfied, which is then answered."""
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if not asked or not behaviour.honours_range:
                return 0
            if self.headers.get("If-Range", behaviour.etag) != behaviour.etag:
                return 0
            if int(asked[1]) < length:
                return int(asked[1])
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{length}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return length + 1

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        behaviour.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield behaviour
        finally:
            server.shutdown()
            thread.join()
