"""A web server on this machine that serves a file as servers do on bad days: breaking off, lying, ignoring ranges."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """Serves `content` under any path.

    Attributes:
        breaks_after: bytes of a response after which the connection is cut, one entry a response; then none is.
        ranges: whether it understands them.
        etag: whether it says what tells the file from another.
        told_length: added to the length that it promises.
        status: of every answer that is no part.
        asked: (path, range) of every request.
    """

    content: bytes
    breaks_after: list[int] = field(default_factory=list)
    ranges: bool = True
    etag: bool = True
    told_length: int = 0
    status: int = 200
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    address: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """One request."""
        wanted, tag = handler.headers.get("Range"), f'"{hashlib.sha256(self.content).hexdigest()}"'
        self.asked.append((handler.path, wanted))
        start = 0
        if wanted and self.ranges and handler.headers.get("If-Range") in (None, tag):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(self.content) > 0 and start:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(self.content)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        body = self.content[start:]
        handler.send_response(206 if start else self.status)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        if self.etag:
            handler.send_header("ETag", tag)
        handler.send_header("Content-Length", str(len(body) + self.told_length))
        handler.end_headers()
        handler.wfile.write(body[: self.breaks_after.pop(0)] if self.breaks_after else body)


@contextlib.contextmanager
def serving(server: FileServer) -> Iterator[FileServer]:
    """`with serving(FileServer(content)) as server`: it answers at `server.address`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.close_connection = True
            server.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    server.address = f"http://127.0.0.1:{listening.server_port}"
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()
